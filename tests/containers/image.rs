//! Images for the tests' containers. A registry that answers has a Redis; for the rest, and where none answers, images are made
//! FROM scratch out of programs of this machine with the libraries that they load.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use testcontainers::runners::SyncBuilder;
use testcontainers::{GenericBuildableImage, GenericImage};

/// The Redis that a registry gives.
const PUBLISHED: (&str, &str) = ("redis", "7");

/// Is there a Docker engine? If not, says so for `test`, or fails it where one is required.
pub(super) fn has_engine(test: &str) -> bool {
    let answer = Command::new("docker")
        .arg("info")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output();
    let why = match answer {
        Ok(answer) if answer.status.success() => return true,
        Ok(answer) => String::from_utf8_lossy(&answer.stderr).trim().to_owned(),
        Err(error) => format!("docker: {error}"),
    };
    let required = std::env::var("WEIR_REQUIRE_DOCKER").is_ok_and(|v| v == "1");
    assert!(!required, "{test} needs a Docker engine: {why}");
    crate::support::skip(test, &format!("no Docker engine ({why})"));
    false
}

/// An image, removed when dropped if it was made here.
pub(super) struct Image {
    name: String,
    tag: String,
    own: bool,
}

impl Image {
    /// The built `weir`.
    pub(super) fn weir() -> Self {
        Image::of("weir", Path::new(env!("CARGO_BIN_EXE_weir")))
    }

    /// Redis, from a registry or from this machine.
    pub(super) fn redis() -> Self {
        let (name, tag) = PUBLISHED;
        if docker(&["pull", "--quiet", &format!("{name}:{tag}")]).is_ok() {
            return Image {
                name: name.into(),
                tag: tag.into(),
                own: false,
            };
        }
        let found = std::env::var_os("PATH").and_then(|paths| {
            let mut folders = std::env::split_paths(&paths);
            folders.find_map(|folder| folder.join("redis-server").canonicalize().ok())
        });
        let program = found.expect("no registry answers, so redis-server must be on this machine");
        Image::of("redis-server", &program)
    }

    pub(super) fn generic(&self) -> GenericImage {
        GenericImage::new(&self.name, &self.tag)
    }

    /// An image with `program` as /usr/bin/`name`, and nothing else that it does not load.
    fn of(name: &str, program: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        // Dropped on failure as well, so that half an image is removed too.
        let image = Image {
            name: format!("weir-test-{name}"),
            tag: format!("{}-{count}", std::process::id()),
            own: true,
        };
        let mut files = libraries(program);
        files.push((program.to_owned(), format!("/usr/bin/{name}")));
        let mut build = GenericBuildableImage::new(&image.name, &image.tag)
            .with_dockerfile_string("FROM scratch\nCOPY root/ /\n");
        for (from, to) in &files {
            build = build.with_file(from, format!("root{to}"));
        }
        if let Err(error) = build.build_image() {
            eprintln!("BuildKit does not build here ({error}): importing the image instead");
            image.import(&files);
        }
        image
    }

    /// What `docker import` makes of the same files.
    fn import(&self, files: &[(PathBuf, String)]) {
        let folder = std::env::temp_dir().join(format!("{}-{}", self.name, self.tag));
        for (from, to) in files {
            let to = folder.join(to.trim_start_matches('/'));
            let parent = to.parent().expect("a file lies in a folder");
            std::fs::create_dir_all(parent).expect("the temporary folder is writable");
            std::fs::copy(from, &to).expect("the temporary folder has room");
        }
        let mut tar = Command::new("tar")
            .arg("-C")
            .arg(&folder)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar is a command of every system");
        let imported = Command::new("docker")
            .args(["import", "-", &self.descriptor()])
            .stdin(tar.stdout.take().expect("stdout is piped"))
            .output()
            .expect("docker has answered before");
        let packed = tar.wait().expect("it is our child");
        let removed = std::fs::remove_dir_all(&folder);
        let said = String::from_utf8_lossy(&imported.stderr);
        assert!(packed.success(), "tar ended with {packed}");
        assert!(imported.status.success(), "docker import: {said}");
        removed.expect("the folder is ours");
    }

    fn descriptor(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = docker(&["rmi", "--force", &self.descriptor()])
        {
            eprintln!("{} is left behind: {error}", self.descriptor());
        }
    }
}

/// Runs a docker command.
pub(super) fn docker(args: &[&str]) -> Result<String, String> {
    let output = Command::new("docker")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// The libraries that `program` loads, each with where it is to lie.
fn libraries(program: &Path) -> Vec<(PathBuf, String)> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .expect("ldd is a part of the C library's tools");
    let text = String::from_utf8_lossy(&output.stdout);
    // A line is `name => path (address)` or `path (address)`.
    let paths: BTreeSet<&str> = text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .collect();
    assert!(
        !paths.is_empty(),
        "ldd finds nothing for {program:?}: {text}"
    );
    let place = |path: &str| {
        let real = std::fs::canonicalize(path).expect("ldd has found it");
        (real, path.to_owned())
    };
    paths.into_iter().map(place).collect()
}
