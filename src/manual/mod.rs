//! The manual: one Markdown page a topic, as `weir help TOPIC` prints it and as this documentation shows it. Tests load the
//! configs of every page, read its commands and measure its tables. Absent: printing, which is `cli`'s, and the part of
//! [`config`] that is generated, which is `config`'s.

/// One page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The word that `weir help` knows it by.
    pub topic: &'static str,
    /// What it is about, in a line.
    pub about: &'static str,
    /// The page, as Markdown.
    pub text: &'static str,
}

/// The page of a topic.
pub fn page(topic: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| page.topic == topic)
}

macro_rules! pages {
    ($($topic:ident, $file:literal, $about:literal;)*) => {
        /// Every page, in the order in which one may read them.
        pub const PAGES: &[Page] = &[$(Page {
            topic: stringify!($topic),
            about: $about,
            text: include_str!($file),
        }),*];

        $(
            #[doc = include_str!($file)]
            pub mod $topic {}
        )*
    };
}

pages! {
    config, "config.md", "the config file, and every key of it";
    http, "http.md", "routes, rewriting, upgrades, HTTP/2 and HTTPS to backends";
    balancing, "balancing.md", "capacity, queueing, fairness, affinity, retries";
    health, "health.md", "health checks, ejection of backends that fail, slow start";
    retries, "retries.md", "when another backend is tried, and how often";
    caching, "caching.md", "what is cached, where, and by which rules";
    tls, "tls.md", "HTTPS and HTTP/2 for clients, and certificates by ACME";
    l4, "l4.md", "TCP, TLS that passes through, UDP, the PROXY protocol";
    rehearsing, "rehearsing.md", "a real config against modelled load and faults";
    operating, "operating.md", "signals, health, metrics, logs, exit codes, the commands";
    defaults, "defaults.md", "every default in one table";
    architecture, "architecture.md", "the life of a request, and the rooms of the source";
    contributing, "contributing.md", "how to build, test and extend it";
}
