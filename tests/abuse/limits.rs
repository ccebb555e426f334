//! Heads that are larger than what a listener takes: 414 for the target, 431 for the rest, counted by the defaults.

use super::{Probe, Scene, Want, probe};

/// A GET whose target has this many bytes.
fn target(name: &'static str, length: usize, want: Want) -> Probe {
    let rest = "a".repeat(length - "/probe".len());
    probe(
        name,
        format!("GET /probe{rest} HTTP/1.1\r\nHost: test.example\r\n\r\n"),
        want,
    )
}

/// A GET with this many fields, Host among them.
fn fields(name: &'static str, count: usize, want: Want) -> Probe {
    let more: String = (1..count).map(|i| format!("X-{i}: a\r\n")).collect();
    probe(
        name,
        format!("GET /probe HTTP/1.1\r\nHost: test.example\r\n{more}\r\n"),
        want,
    )
}

/// A GET with one value of this many bytes.
fn value(name: &'static str, length: usize, want: Want) -> Probe {
    let long = "a".repeat(length);
    probe(
        name,
        format!("GET /probe HTTP/1.1\r\nHost: test.example\r\nX-A: {long}\r\n\r\n"),
        want,
    )
}

#[test]
fn long_targets_are_414() {
    let long = Want::Refused(&[414]);
    Scene::new().run(vec![
        target("16 KiB, the limit", 16 << 10, Want::One),
        target("a byte more", (16 << 10) + 1, long),
        target("30 KB", 30_000, long),
        target("70 KB", 70_000, long),
        target("1 MB", 1_000_000, long),
    ]);
}

#[test]
fn large_heads_are_431() {
    let large = Want::Refused(&[431]);
    Scene::new().run(vec![
        fields("100 fields, the limit", 100, Want::One),
        fields("101", 101, large),
        fields("500", 500, large),
        fields("5,000", 5_000, large),
        value("30 KB", 30_000, Want::One),
        value("33 KB", 33_000, large),
        value("128 KB", 128 << 10, large),
        value("500 KB", 500_000, large),
    ]);
}

#[test]
fn a_head_that_never_ends_is_not_waited_for() {
    let scene = Scene::new();
    let endless = "a".repeat(1 << 20);
    for start in ["GET /", "GET / HTTP/1.1\r\nHost: test.example\r\nX-A: ", ""] {
        let mut client = crate::support::client::Client::connect(scene.weir.port);
        let answer = client.ask(format!("{start}{endless}")).map(|r| r.status);
        let fits = matches!(answer, Ok(400 | 414 | 431 | 501));
        assert!(fits, "{start:?}: {answer:?}");
    }
    scene.end();
}
