//! Paths that servers read in different ways: what a listener's rules make of them, and that no rule of the router is walked
//! around, whatever a backend makes of what it gets.

use bytes::Bytes;
use http::{Method, Version};
use proptest::prelude::*;
use weirkeeper::engine::router::{PathMatch, RouteMatch};
use weirkeeper::message::head::Fields;
use weirkeeper::message::path::{PathRules, Treatment};
use weirkeeper::message::target::{self, Target};

fn read(raw: &str, rules: &PathRules) -> Option<Target> {
    let raw = Bytes::copy_from_slice(raw.as_bytes());
    let none = Fields::default();
    target::read(&Method::GET, &raw, &none, Version::HTTP_10, rules).ok()
}

/// What is forwarded, and how the most lenient server reads it.
fn both(raw: &str, rules: &PathRules) -> Option<(String, String)> {
    let target = read(raw, rules)?;
    let lenient = target.lenient_path().unwrap_or(target.path());
    Some((target.path().to_owned(), lenient.to_owned()))
}

#[test]
fn every_form_passes_by_default_and_is_read_in_both_ways() {
    assert_eq!(PathRules::default(), PathRules::KEEP);
    for (raw, forwarded, lenient) in [
        ("/a/b", "/a/b", "/a/b"),
        ("//admin", "//admin", "/admin"),
        ("/a//b//", "/a//b//", "/a/b/"),
        ("//", "//", "/"),
        ("/admin%2fx", "/admin%2Fx", "/admin/x"),
        ("/admin\\x", "/admin%5Cx", "/admin/x"),
        ("/admin%5cx", "/admin%5Cx", "/admin/x"),
        ("/admin;x", "/admin;x", "/admin"),
        ("/admin;x=1/y;z", "/admin;x=1/y;z", "/admin/y"),
        ("/admin%3Bx", "/admin%3Bx", "/admin"),
        ("/admin/;x", "/admin/;x", "/admin/"),
        ("/;/admin", "/;/admin", "/admin"),
        ("/.;/admin", "/.;/admin", "/admin"),
        ("/%2fadmin%2F", "/%2Fadmin%2F", "/admin/"),
        ("/x/../admin", "/admin", "/admin"),
        ("/%61dmin", "/admin", "/admin"),
        ("/a%252fb", "/a%252fb", "/a%252fb"),
        ("/a?//b;c%2f", "/a", "/a"),
    ] {
        let found = both(raw, &PathRules::KEEP);
        assert_eq!(
            found,
            Some((forwarded.to_owned(), lenient.to_owned())),
            "{raw}"
        );
    }
}

#[test]
fn each_rule_does_what_it_says() {
    let merge = PathRules {
        merge_slashes: true,
        ..PathRules::KEEP
    };
    let slashes = |treatment| PathRules {
        encoded_slashes: treatment,
        ..PathRules::KEEP
    };
    let back = |treatment| PathRules {
        backslashes: treatment,
        ..PathRules::KEEP
    };
    let parameters = |treatment| PathRules {
        parameters: treatment,
        ..PathRules::KEEP
    };
    let (reject, resolve) = (Treatment::Reject, Treatment::Resolve);
    for (rules, raw, forwarded) in [
        (merge, "//admin//x//", Some("/admin/x/")),
        (merge, "/a//../b", Some("/b")),
        (merge, "/a%2f/b", Some("/a%2F/b")),
        (slashes(reject), "/a%2fb", None),
        (slashes(reject), "/a%252fb", Some("/a%252fb")),
        (slashes(reject), "/a\\b", Some("/a%5Cb")),
        (slashes(resolve), "/a%2Fb", Some("/a/b")),
        (slashes(resolve), "/x/..%2fadmin", Some("/admin")),
        (slashes(resolve), "/..%2fadmin", None),
        (back(reject), "/a\\b", None),
        (back(reject), "/a%5cb", None),
        (back(resolve), "/a\\b%5Cc", Some("/a/b/c")),
        (back(resolve), "/x\\..\\admin", Some("/admin")),
        (parameters(reject), "/a;b", None),
        (parameters(reject), "/a%3bb", None),
        (parameters(reject), "/a?b;c", Some("/a")),
        (parameters(resolve), "/a;b=1/c;d", Some("/a/c")),
        (parameters(resolve), "/x/..;/admin", Some("/admin")),
        (parameters(resolve), "/a%3bb", Some("/a%3Bb")),
    ] {
        let found = read(raw, &rules).map(|target| target.path().to_owned());
        assert_eq!(found.as_deref(), forwarded, "{raw} {rules:?}");
    }
}

#[test]
fn overlong_forms_of_ascii_are_refused() {
    for bad in [
        "/%c0%af",
        "/a%C1%9Cb",
        "/%c0%ae%c0%ae/",
        "/%e0%80%af",
        "/%f0%80%80%af",
    ] {
        assert!(read(bad, &PathRules::KEEP).is_none(), "{bad}");
    }
    for good in ["/%c3%bc", "/%e0%a4%85", "/%f0%9f%98%80", "/%c0", "/%fc%dfe"] {
        assert!(read(good, &PathRules::KEEP).is_some(), "{good}");
    }
}

/// What a server does with a path that it gets.
#[derive(Clone, Copy, Debug)]
struct Server {
    decodes_slashes: bool,
    takes_backslashes: bool,
    cuts_parameters: bool,
    cuts_before_decoding: bool,
    merges: bool,
    resolves: bool,
}

/// The names that such a server sees, one after the other; written without a look at how the proxy does it.
fn seen_by(server: Server, path: &str) -> Vec<String> {
    let cut = |path: String| match server.cuts_parameters {
        true => path
            .split('/')
            .map(|part| part.split(';').next().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join("/"),
        false => path,
    };
    let decode = |mut path: String| {
        if server.decodes_slashes {
            path = path.replace("%2F", "/").replace("%3B", ";");
        }
        if server.takes_backslashes {
            path = path.replace("%5C", "/");
        }
        path
    };
    let path = match server.cuts_before_decoding {
        true => decode(cut(path.to_owned())),
        false => cut(decode(path.to_owned())),
    };
    let mut names: Vec<String> = Vec::new();
    for name in path.split('/').skip(1) {
        match name {
            "" if server.merges => {}
            "." if server.resolves => {}
            ".." if server.resolves => {
                names.pop();
            }
            name => names.push(name.to_owned()),
        }
    }
    names
}

fn server() -> impl Strategy<Value = Server> {
    any::<[bool; 6]>().prop_map(|[decodes, back, cuts, before, merges, resolves]| Server {
        decodes_slashes: decodes,
        takes_backslashes: back,
        cuts_parameters: cuts,
        cuts_before_decoding: before,
        merges,
        resolves,
    })
}

fn rules() -> impl Strategy<Value = PathRules> {
    let treatment =
        || prop::sample::select(vec![Treatment::Keep, Treatment::Reject, Treatment::Resolve]);
    (any::<bool>(), treatment(), treatment(), treatment()).prop_map(
        |(merge_slashes, encoded, back, parameters)| PathRules {
            merge_slashes,
            encoded_slashes: encoded,
            backslashes: back,
            parameters,
        },
    )
}

/// Paths of few names, with all that may stand between them.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "admin", "a", "/", "/", "//", "/./", "/../", "%2f", "%2F", "\\", "%5c", ";", ";x=1", "%3b",
        ".", "..", "%2e", "%61", "/admin",
    ]);
    prop::collection::vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #[test]
    fn what_is_forwarded_is_its_own_normal_form(raw in paths(), rules in rules()) {
        let Some((forwarded, lenient)) = both(&raw, &rules) else { return Ok(()) };
        let again = both(&forwarded, &rules);
        prop_assert_eq!(again, Some((forwarded.clone(), lenient.clone())));
        // The lenient reading has nothing left that could be read otherwise.
        prop_assert_eq!(both(&lenient, &PathRules::KEEP), Some((lenient.clone(), lenient.clone())));
        let resolved = [
            (rules.merge_slashes, "//"),
            (rules.encoded_slashes != Treatment::Keep, "%2F"),
            (rules.backslashes != Treatment::Keep, "%5C"),
            (rules.parameters != Treatment::Keep, ";"),
        ];
        for (is_gone, form) in resolved {
            prop_assert!(!(is_gone && forwarded.contains(form)), "{} in {}", form, forwarded);
        }
    }

    /// Whoever sees the path below `/admin`, whatever leniency it has, is asked only for what a rule for `/admin` takes.
    #[test]
    fn no_backend_is_led_below_a_prefix_beside_its_rule(raw in paths(), rules in rules(), server in server()) {
        let Some(target) = read(&raw, &rules) else { return Ok(()) };
        let seen = seen_by(server, target.path());
        let rule = |path| RouteMatch { path, ..RouteMatch::default() };
        let takes = |path| rule(path).matches(&target, &Method::GET, &Fields::default());
        if seen.first().is_some_and(|name| name == "admin") {
            prop_assert!(takes(PathMatch::Prefix("/admin".into())), "{} seen as {:?}", target.path(), seen);
            if seen.len() == 1 {
                prop_assert!(takes(PathMatch::Prefix("/admin".into())));
            }
        }
        // And the other way about: the most lenient one sees all that the rule takes below it.
        let most = Server {
            decodes_slashes: true, takes_backslashes: true, cuts_parameters: true, cuts_before_decoding: false, merges: true,
            resolves: true,
        };
        let most = seen_by(most, target.path());
        let below = most.first().is_some_and(|name| name == "admin");
        prop_assert_eq!(takes(PathMatch::Prefix("/admin".into())), below, "{} seen as {:?}", target.path(), most);
    }
}
