//! The rules that need one file alone: banned tokens, biased selects, nothing left undone, and the shape of the file.

use super::source::Source;

/// What makes two runs of one seed differ, or bypasses the seam. `src/env` is where they belong.
const BANNED: [(&str, &str); 11] = [
    ("Instant::now", "time is an argument, or env.clock()"),
    ("SystemTime::now", "ask env.clock().wall()"),
    ("tokio::spawn", "ask env.spawn"),
    ("task::spawn", "ask env.spawn"),
    ("spawn_local", "ask env.spawn"),
    ("HashMap", "its order is random: BTreeMap"),
    ("HashSet", "its order is random: BTreeSet"),
    ("thread_local!", "simulated hosts share one thread"),
    ("rand::", "draw from env.rng"),
    ("TokioExecutor", "it spawns past the seam"),
    ("TokioTimer", "it reads the clock past the seam"),
];

/// The same outside the product: the simulator owns a clock and spawns its hosts, but its order must be fixed as well.
const BANNED_IN_SIM: [&str; 5] = [
    "HashMap",
    "HashSet",
    "rand::",
    "TokioExecutor",
    "TokioTimer",
];

/// What the pure rooms never name: they decide, and leave waiting, sockets and talking to the shell.
const IMPURE: [&str; 7] = [
    "tokio",
    "hyper",
    "tracing",
    "async",
    "std::fs",
    "println!",
    "eprintln!",
];

/// The rooms without async, I/O, clock or entropy.
const PURE: [&str; 4] = ["src/message/", "src/engine/", "src/cache/", "src/h1/"];

/// What says that something is not done.
const UNDONE: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// What another test starts in a process of its own has to look like a test, and is none.
const HELPER: &str = "#[ignore = \"run by another test, in a new process\"]";

const MAX_LINES: usize = 500;
const MAX_COLUMNS: usize = 130;

/// Every complaint about one file.
pub(super) fn check(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    banned(source, &mut found);
    pure(source, &mut found);
    biased(source, &mut found);
    undone(source, &mut found);
    shape(source, &mut found);
    found
}

fn banned(source: &Source, found: &mut Vec<String>) {
    let product = source.name.starts_with("src/") && !source.name.starts_with("src/env/");
    let simulator = source.name.starts_with("sim/");
    for (token, instead) in BANNED {
        if product || (simulator && BANNED_IN_SIM.contains(&token)) {
            for at in source.find_word(token) {
                found.push(source.complain(at, &format!("`{token}` is banned here: {instead}")));
            }
        }
    }
}

fn pure(source: &Source, found: &mut Vec<String>) {
    if PURE.iter().any(|room| source.name.starts_with(room)) {
        for token in IMPURE {
            for at in source.find_word(token) {
                found.push(source.complain(at, &format!("`{token}` in a pure room")));
            }
        }
    }
}

fn biased(source: &Source, found: &mut Vec<String>) {
    for at in source.find_word("select!") {
        let body = source.code[at + "select!".len()..].trim_start();
        let first = body.get(1..).unwrap_or_default().trim_start();
        let rest = first.strip_prefix("biased").unwrap_or(" ");
        if !rest.trim_start().starts_with(';') {
            found.push(source.complain(
                at,
                "`select!` must begin with `biased;`: its order is random",
            ));
        }
    }
}

fn undone(source: &Source, found: &mut Vec<String>) {
    for token in UNDONE {
        for at in source.find_word(token) {
            if !source.text[at..].starts_with(HELPER) {
                found.push(source.complain(at, &format!("`{token}`: nothing is left undone")));
            }
        }
    }
}

fn shape(source: &Source, found: &mut Vec<String>) {
    let name = &source.name;
    if !source.text.trim_start().starts_with("//!") {
        found.push(format!(
            "{name}:1: begin with `//!`: what the file owns and what is absent"
        ));
    }
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        found.push(format!(
            "{name}: {lines} lines, more than {MAX_LINES}: look for the second room"
        ));
    }
    for (index, line) in source.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > MAX_COLUMNS {
            let number = index + 1;
            found.push(format!(
                "{name}:{number}: {columns} columns, more than {MAX_COLUMNS}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many complaints a file of this name and text draws, given that it begins well.
    fn complaints(name: &str, code: &str) -> usize {
        check(&Source::new(name, &format!("//! A file.\n{code}"))).len()
    }

    #[test]
    fn every_banned_token_is_found_and_only_outside_the_seam() {
        for (token, _) in BANNED {
            let code = format!("let x = {token} ();");
            let (room, seam) = ("src/proxy/server.rs", "src/env/tokio.rs");
            assert_eq!(complaints(room, &code), 1, "{token}");
            assert_eq!(complaints(seam, &code), 0, "{token}");
            assert_eq!(complaints(room, &format!("// {code}")), 0, "{token}");
        }
        assert_eq!(complaints("src/rng.rs", "fastrand::Rng"), 0);
        assert_eq!(complaints("sim/src/world.rs", "HashMap"), 1);
        assert_eq!(complaints("sim/src/world.rs", "tokio::spawn"), 0);
    }

    #[test]
    fn pure_rooms_neither_wait_nor_talk() {
        for token in IMPURE {
            assert_eq!(complaints("src/engine/queue.rs", token), 1, "{token}");
            assert_eq!(complaints("src/proxy/gate.rs", token), 0, "{token}");
        }
    }

    #[test]
    fn a_select_is_biased() {
        for name in ["src/env/mod.rs", "sim/src/lib.rs", "tests/loopback.rs"] {
            assert_eq!(complaints(name, "tokio::select! { a = b => {} }"), 1);
            assert_eq!(
                complaints(name, "tokio::select! {\n  biased;\n  a = b => {} }"),
                0
            );
            assert_eq!(complaints(name, "select! { biased_call() => {} }"), 1);
        }
    }

    #[test]
    fn nothing_is_left_undone() {
        for token in UNDONE {
            assert_eq!(complaints("tests/engine.rs", token), 1, "{token}");
            assert_eq!(
                complaints("tests/engine.rs", &format!("\"{token}\"")),
                0,
                "{token}"
            );
        }
    }

    #[test]
    fn a_test_is_ignored_only_if_another_one_runs_it() {
        assert_eq!(complaints("sim/tests/meta.rs", HELPER), 0);
        assert_eq!(complaints("sim/tests/meta.rs", "#[ignore]"), 1);
        assert_eq!(complaints("sim/tests/meta.rs", "#[ignore = \"slow\"]"), 1);
    }

    #[test]
    fn files_have_a_head_and_bounds() {
        let count = |text: &str| check(&Source::new("src/time.rs", text)).len();
        assert_eq!(count("//! A file.\n"), 0);
        assert_eq!(count("use x;\n//! A file.\n"), 1);
        assert_eq!(count(&format!("//! {}\n", "ä".repeat(126))), 0);
        assert_eq!(count(&format!("//! {}\n", "ä".repeat(127))), 1);
        assert_eq!(count(&"//!\n".repeat(500)), 0);
        assert_eq!(count(&"//!\n".repeat(501)), 1);
    }
}
