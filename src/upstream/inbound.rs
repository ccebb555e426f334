//! A request as a backend is to see it: what was read of its head, and the same head with those fields changed that a proxy
//! changes.

use bytes::BytesMut;
use http::{HeaderName, HeaderValue, Method, Version};

use crate::config::model::{HeaderRules, Rewrite};
use crate::h1::{self, BodyFraming};
use crate::message::fields::{self, ConnectionTokens};
use crate::message::head::Fields;
use crate::message::known::Known;
use crate::message::prefix;
use crate::message::pseudonym::Pseudonym;
use crate::message::target::Target;
use crate::message::upgrade::{self, Ask};
use crate::upstream::origin::Origin;

/// This proxy's name in Proxy-Status, and in the Via of responses.
pub const PSEUDONYM: &str = "weir";

/// A request whose head has been read and found good.
pub struct Inbound {
    pub method: Method,
    pub target: Target,
    pub version: Version,
    /// Without the claims of a client who may make none.
    pub headers: Fields,
    pub framing: BodyFraming,
    /// The change of protocol that it asks for and may have.
    pub upgrade: Option<Ask>,
}

/// What changes on a request's way to one backend.
#[derive(Clone, Copy)]
pub struct Hop<'a> {
    /// The backend's, before every path.
    pub prefix: &'a str,
    /// The route's change of the path.
    pub rewrite: &'a Rewrite,
    /// The route's changes of the fields.
    pub rules: &'a HeaderRules,
    /// The connection serves no other request.
    pub close: bool,
    /// By which a request that comes back is known.
    pub pseudonym: &'a Pseudonym,
    /// It goes into Via; otherwise into CDN-Loop, by which no server decides whether it compresses.
    pub via: bool,
    /// Names of fields are written with capitals in HTTP/1.1.
    pub title_case: bool,
}

/// Where the fields of a request go, in the form of a codec.
pub trait FieldSink {
    /// Those received fields that `keep` says yes to.
    fn pass(&mut self, fields: &Fields, keep: impl FnMut(Known, &[u8]) -> bool);
    /// A field that the config or the client's certificate says.
    fn say(&mut self, name: &HeaderName, value: &HeaderValue);
    /// A field of ours.
    fn put(&mut self, known: Known, value: &[u8]);
    /// What is for the connection: whether the client takes trailers, whether no other request follows, and whether another
    /// protocol is asked for.
    fn connection(&mut self, trailers: bool, close: bool, upgrade: bool);
}

/// HTTP/1.1.
struct Lines<'a>(&'a mut BytesMut);

impl FieldSink for Lines<'_> {
    fn pass(&mut self, fields: &Fields, keep: impl FnMut(Known, &[u8]) -> bool) {
        fields.copy(self.0, keep);
    }

    fn say(&mut self, name: &HeaderName, value: &HeaderValue) {
        h1::field(self.0, name.as_str().as_bytes(), value.as_bytes());
    }

    fn put(&mut self, known: Known, value: &[u8]) {
        h1::known_field(self.0, known, value);
    }

    fn connection(&mut self, trailers: bool, close: bool, upgrade: bool) {
        if trailers {
            h1::field(self.0, b"te", b"trailers");
        }
        // A connection that changes its protocol closes with that; to ask for both would contradict itself.
        let options: &[u8] = match (trailers, close, upgrade) {
            (false, false, false) => return,
            (true, false, false) => b"te",
            (false, true, false) => b"close",
            (true, true, false) => b"te, close",
            (false, _, true) => b"upgrade",
            (true, _, true) => b"te, upgrade",
        };
        h1::field(self.0, b"connection", options);
    }
}

impl Inbound {
    /// Appends the head as the backend behind `hop` is to see it in HTTP/1.1.
    pub fn encode(&self, out: &mut BytesMut, origin: &Origin, hop: &Hop<'_>, id: (u64, u64)) {
        let from = out.len();
        h1::request_line(out, &self.method, &self.target_parts(hop));
        // HTTP/1.1 asks for a Host even where an HTTP/1.0 client had none to give (RFC 9112 section 3.2).
        if !hop.rules.rule(b"host") {
            h1::known_field(
                out,
                Known::Host,
                self.target.authority().map_or(b"", |v| v.as_bytes()),
            );
        }
        self.fields(&mut Lines(out), origin, hop, id);
        h1::framing(out, self.framing);
        h1::end_of_head(out);
        if hop.title_case {
            h1::set_title_case(&mut out[from..]);
        }
    }

    /// The target as the backend behind `hop` is to see it, in parts to put together.
    pub fn target_parts<'a>(&'a self, hop: &Hop<'a>) -> [&'a str; 6] {
        let [path, mark, query] = self.target.parts();
        // The server as a whole lies below no prefix.
        let prefix = if path == "*" { "" } else { hop.prefix };
        match rewritten(hop.rewrite, path) {
            Some([head, slash, tail]) => [prefix, head, slash, tail, mark, query],
            None => [prefix, path, "", "", mark, query],
        }
    }

    /// Every field but Host, unless the rules say one, and those of the body's framing: hop-by-hop fields gone, forwarding
    /// fields true, rules applied.
    pub fn fields(
        &self,
        sink: &mut impl FieldSink,
        origin: &Origin,
        hop: &Hop<'_>,
        id: (u64, u64),
    ) {
        let rules = hop.rules;
        let tokens = ConnectionTokens::of(self.headers.get_all(Known::Connection));
        let own_key = self.upgrade.as_ref().and_then(|ask| ask.key.as_deref());
        let changes = own_key.is_some() || !tokens.nominates_none() || !rules.is_empty();
        sink.pass(&self.headers, |known, name| {
            let is_changed = || {
                let said_anew = own_key.is_some() && upgrade::is_key(name);
                said_anew || tokens.nominates(name) || rules.rule(name)
            };
            passes(known) && !(changes && is_changed())
        });
        if let Some(ask) = &self.upgrade {
            sink.put(Known::Upgrade, ask.token.as_bytes());
            if let Some(key) = own_key.and_then(|key| HeaderValue::from_str(key).ok()) {
                sink.say(&upgrade::KEY, &key);
            }
        }
        let trailers = fields::te_trailers(self.headers.get_all(Known::Te));
        sink.connection(trailers, hop.close, self.upgrade.is_some());
        self.forwarding(sink, origin, rules);
        if !self.headers.has(Known::XRequestId) && !rules.rule(Known::XRequestId.text().as_bytes())
        {
            sink.put(Known::XRequestId, &hex_id(id));
        }
        if hop.via {
            let put = |via: &[u8]| sink.put(Known::Via, via);
            hop.pseudonym.via(self.version, put);
        } else if !rules.rule(Known::CdnLoop.text().as_bytes()) {
            sink.put(Known::CdnLoop, hop.pseudonym.name());
        }
        for (name, value) in rules.set.iter().chain(&rules.add) {
            sink.say(name, value);
        }
    }

    /// X-Forwarded-For, -Proto and -Host: what a trusted peer has said of them stays. What others had to say is gone by now.
    fn forwarding(&self, sink: &mut impl FieldSink, origin: &Origin, rules: &HeaderRules) {
        let said = |known: Known| rules.rule(known.text().as_bytes());
        let told = self.headers.has(Known::ClientCert);
        if let Some(cert) = origin.certificate().filter(|_| !told) {
            let subject = cert.subject.as_ref();
            let subject = subject.map(|subject| (Known::ClientCertSubject, subject));
            let fields = [(Known::ClientCert, &cert.field)]
                .into_iter()
                .chain(subject);
            for (known, value) in fields.filter(|(known, _)| !said(*known)) {
                sink.put(known, value.as_bytes());
            }
        }
        if !said(Known::XForwardedFor) {
            if origin.trusted {
                let mut chain = BytesMut::new();
                let said = self.headers.get_all(Known::XForwardedFor);
                fields::forwarded_for(&mut chain, said, origin.peer, true);
                sink.put(Known::XForwardedFor, &chain);
            } else {
                sink.put(Known::XForwardedFor, origin.peer_text.as_bytes());
            }
        }
        let kept = |known: Known| said(known) || self.headers.has(known);
        if !kept(Known::XForwardedProto) {
            sink.put(Known::XForwardedProto, origin.scheme().as_bytes());
        }
        if !kept(Known::XForwardedHost)
            && let Some(host) = self.target.authority()
        {
            sink.put(Known::XForwardedHost, host.as_bytes());
        }
    }
}

/// Does a field go on as it is? What is framed or said anew does not.
fn passes(known: Known) -> bool {
    match known {
        Known::Other => true,
        Known::Host | Known::ContentLength | Known::Expect => false,
        Known::XForwardedFor | Known::ImitatedForwardedFor => false,
        known => !known.is_hop_by_hop(),
    }
}

/// The path as parts put together, where the route changes it.
fn rewritten<'a>(rewrite: &'a Rewrite, path: &'a str) -> Option<[&'a str; 3]> {
    match rewrite {
        Rewrite::Keep => None,
        Rewrite::StripPrefix(from) => prefix::replaced(path, from, ""),
        Rewrite::ReplacePrefix(from, to) => prefix::replaced(path, from, to),
    }
}

/// 128 bits in hexadecimal.
pub fn hex_id((high, low): (u64, u64)) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let value = u128::from(high) << 64 | u128::from(low);
    std::array::from_fn(|i| DIGITS[(value >> (124 - 4 * i)) as usize & 15])
}
