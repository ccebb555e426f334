//! The same raw bytes to a proxy that has the answer and to one that does not cache: whatever is refused or served by the one is
//! by the other. So the quick way out of the cache reads requests exactly as the walk does.

use super::cached;
use crate::support::backend::{Backend, reply};
use crate::support::client::{Client, get};
use crate::support::weir::{Extra, Weir, config};
use crate::support::wire::Broken;

/// Two proxies before two backends.
struct Pair {
    warm: Weir,
    plain: Weir,
    behind_warm: Backend,
    behind_plain: Backend,
}

const PATIENT: &str = r#""timeouts": {"header": "700ms", "body": "700ms", "backend_idle": "1s"}"#;

fn origin() -> Backend {
    Backend::answering(|_| reply(200, "Cache-Control: max-age=3600\r\n", "ok"))
}

impl Pair {
    fn new() -> Self {
        let (behind_warm, behind_plain) = (origin(), origin());
        let warm = cached(&behind_warm, "", PATIENT);
        let extra = Extra {
            top: PATIENT,
            ..Extra::default()
        };
        let plain = Weir::start(&config(&[behind_plain.port], extra));
        super::warm(&warm, "/probe");
        Pair {
            warm,
            plain,
            behind_warm,
            behind_plain,
        }
    }

    /// Sends `raw` to both, behind it a last request, and compares all that comes.
    fn probe(&mut self, name: &str, raw: &[u8]) {
        self.behind_warm.forget();
        self.behind_plain.forget();
        let (warm, plain) = (transcript(&self.warm, raw), transcript(&self.plain, raw));
        let text: String = String::from_utf8_lossy(raw).chars().take(2000).collect();
        assert_eq!(warm, plain, "{name}: {text:?}");
        for behind in [&self.behind_warm, &self.behind_plain] {
            let log = behind.log();
            assert!(
                log.broken.is_empty(),
                "{name}: {:?} of {text:?}",
                log.broken
            );
        }
        // What the backend of the plain one saw is what was asked; the other saw a part of it.
        let (few, all) = (self.behind_warm.log(), self.behind_plain.log());
        for line in few.lines() {
            assert!(all.lines().contains(&line), "{name}: {line} of {text:?}");
        }
        assert!(self.warm.lives() && self.plain.lives(), "{name}: {text:?}");
    }
}

/// The statuses that come, and how it ends.
fn transcript(weir: &Weir, raw: &[u8]) -> (Vec<u16>, Broken) {
    let mut client = Client::connect(weir.port);
    let mut all = raw.to_vec();
    all.extend_from_slice(b"GET /end HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n");
    client.send(all);
    let method = if raw.starts_with(b"HEAD ") {
        "HEAD"
    } else {
        "GET"
    };
    let mut statuses = Vec::new();
    loop {
        match client.response(if statuses.is_empty() { method } else { "GET" }) {
            // Which of the two limits a head has passed is a matter of where its pieces end.
            Ok(response) if response.status == 414 => statuses.push(431),
            Ok(response) => statuses.push(response.status),
            Err(end) => return (statuses, end),
        }
    }
}

/// A head for the stored URL with this line and these fields.
fn head(line: &str, fields: &str) -> Vec<u8> {
    format!("{line}\r\n{fields}\r\n").into_bytes()
}

fn field(fields: &str) -> Vec<u8> {
    head(
        "GET /probe HTTP/1.1",
        &format!("Host: test.example\r\n{fields}"),
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn every_odd_request_is_read_as_without_a_cache() {
    let mut pair = Pair::new();
    let smuggled = get("/smuggled");
    let long = "a".repeat(17 << 10);
    let many = "X-Many: 1\r\n".repeat(100);
    let fields: Vec<String> = [
        "",
        "Content-Length: 0\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\tchunked\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: +5\r\n",
        "Content-Length : 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length:\r\n",
        "X-Fold: a\r\n b\r\n",
        "X-Fold: a\r\n\tb\r\n",
        " X-First: folded\r\n",
        "X-Bare: a\nX-Next: b\r\n",
        "X-Cr: a\rb\r\n",
        "X-Nul: a\0b\r\n",
        "X-Ctl: a\x01b\r\n",
        "X-Del: a\x7fb\r\n",
        "X Space: a\r\n",
        ": nameless\r\n",
        "nocolon\r\n",
        "Host: test.example\r\n",
        "Host: evil.example\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Connection: Keep-Alive\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: host\r\n",
        "Connection: close\r\nConnection: keep-alive\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Upgrade: foo\r\n",
        "Expect: 100-continue\r\n",
        "Expect: something\r\n",
        "TE: trailers\r\n",
        "Trailer: x\r\n",
        "Keep-Alive: timeout=1\r\n",
        "Proxy-Connection: close\r\n",
        "HTTP2-Settings: x\r\n",
        &many,
        "X-High: \u{e9}\r\n",
    ]
    .iter()
    .map(|s| (*s).to_owned())
    .chain([format!("X-Long: {long}{long}\r\n")])
    .collect();
    for fields in &fields {
        pair.probe("fields", &field(fields));
        // Behind a hit, and with something hidden behind.
        let mut second = get("/probe").into_bytes();
        second.extend(field(fields));
        pair.probe("behind a hit", &second);
        let mut hidden = field(fields);
        hidden.extend_from_slice(format!("0\r\n\r\n{smuggled}").as_bytes());
        pair.probe("before something hidden", &hidden);
    }
    let host = "Host: test.example\r\n";
    let lines = [
        "GET  /probe HTTP/1.1",
        "GET /probe  HTTP/1.1",
        "GET\t/probe\tHTTP/1.1",
        " GET /probe HTTP/1.1",
        "\r\nGET /probe HTTP/1.1",
        "\nGET /probe HTTP/1.1",
        "\r\n\r\n\r\nGET /probe HTTP/1.1",
        "get /probe HTTP/1.1",
        "GET /probe HTTP/1.0",
        "GET /probe HTTP/1.2",
        "GET /probe HTTP/2.0",
        "GET /probe HTTP/0.9",
        "GET /probe http/1.1",
        "GET /probe",
        "GET probe HTTP/1.1",
        "GET * HTTP/1.1",
        "GET http://test.example/probe HTTP/1.1",
        "GET HTTP://TEST.EXAMPLE/probe HTTP/1.1",
        "GET http://evil.example/probe HTTP/1.1",
        "GET https://test.example/probe HTTP/1.1",
        "GET ftp://test.example/probe HTTP/1.1",
        "GET http://user@test.example/probe HTTP/1.1",
        "GET test.example:80 HTTP/1.1",
        "GET //probe HTTP/1.1",
        "GET /./probe HTTP/1.1",
        "GET /x/../probe HTTP/1.1",
        "GET /../probe HTTP/1.1",
        "GET /%70robe HTTP/1.1",
        "GET /probe%00 HTTP/1.1",
        "GET /probe#fragment HTTP/1.1",
        "GET /probe?a#b HTTP/1.1",
        "GET /probe?\"<>`{} HTTP/1.1",
        "GET /probe?%zz HTTP/1.1",
        "GET /pro\u{f6}be HTTP/1.1",
        "GET /probe\\x HTTP/1.1",
        "GET /probe|x HTTP/1.1",
        "GET /probe\0 HTTP/1.1",
        "GET /pro\x7fbe HTTP/1.1",
        "HEAD /probe HTTP/1.1",
        "OPTIONS /probe HTTP/1.1",
        "TRACE /probe HTTP/1.1",
        "CONNECT test.example:80 HTTP/1.1",
        "PRI * HTTP/2.0",
        "G\u{e9}T /probe HTTP/1.1",
    ];
    for line in lines {
        pair.probe("lines", &head(line, host));
    }
    let target = format!("GET /probe?{long} HTTP/1.1");
    pair.probe("a long target", &head(&target, host));
    pair.probe(
        "a bare line feed",
        b"GET /probe HTTP/1.1\nHost: test.example\n\n",
    );
    pair.probe(
        "a mixed end",
        b"GET /probe HTTP/1.1\r\nHost: test.example\n\r\n",
    );
    pair.probe(
        "a carriage return",
        b"GET /probe HTTP/1.1\rHost: test.example\r\r",
    );
    for name in [
        "",
        " ",
        "a b",
        "a/b",
        "test.example:",
        "test.example:80",
        "test.example:99999",
        "test.example:x",
        "TEST.example",
        "test.example.",
        "test.example..",
        "user@test.example",
        "[::1]",
        "[::1",
        "::1",
        "a,b",
        "test.example, evil.example",
        "test.example#x",
        "test.example?x",
        "\u{e9}.example",
        "%41.example",
    ] {
        let fields = format!("Host: {name}\r\n");
        pair.probe("hosts", &head("GET /probe HTTP/1.1", &fields));
        pair.probe("hosts of old", &head("GET /probe HTTP/1.0", &fields));
    }
    pair.probe("no host", &head("GET /probe HTTP/1.1", ""));
    pair.probe("no host of old", &head("GET /probe HTTP/1.0", ""));
    let log = pair.behind_warm.log();
    assert!(!log.saw("evil") || log.count("GET") > 0);
}

/// A small generator of its own, so that a seed names a case for ever.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Heads with bytes changed, dropped, doubled and spliced: never a panic, and never another reading than without a cache.
#[test]
fn mangled_requests_are_read_as_without_a_cache() {
    const SPLICES: [&[u8]; 18] = [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"Content-Length: 4\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Host: x\r\n",
        b"GET /probe HTTP/1.1\r\n",
        b"0\r\n\r\n",
        b"?",
        b"%",
        b"..",
        b"\xff",
        b"Connection: close\r\n",
        b"Range: bytes=0-0\r\n",
    ];
    let mut pair = Pair::new();
    for case in 0..400 {
        let mut seed = Seed(case);
        let mut raw = field("Accept: */*\r\nUser-Agent: x\r\n");
        if seed.below(2) == 0 {
            raw.extend(get("/probe").into_bytes());
        }
        for _ in 0..=seed.below(3) {
            let at = seed.below(raw.len());
            match seed.below(4) {
                0 => raw[at] = u8::try_from(seed.below(256)).expect("a byte"),
                1 => drop(raw.remove(at)),
                2 => raw.insert(at, raw[at]),
                _ => {
                    let splice = SPLICES[seed.below(SPLICES.len())];
                    raw.splice(at..at, splice.iter().copied());
                }
            }
        }
        pair.probe(&format!("case {case}"), &raw);
    }
}
