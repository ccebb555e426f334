//! An authority that speaks ACME (RFC 8555), with rules of its own: every signature, nonce and URL is verified, challenges are
//! really met, and certificates come from an authority made for the test. What it is asked is kept, and it can be told to fail.

mod jws;
mod resources;
mod validate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::secure::{self, Authority, Secure, read_head};

/// The authority, until it is dropped.
pub(crate) struct AcmeServer {
    server: Secure,
    state: Arc<Mutex<State>>,
    /// Who signs what it issues.
    pub(crate) issuer: Arc<Authority>,
    /// Who signed its own certificate.
    pub(crate) own: Authority,
}

/// How it behaves, to be changed at any time.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// The next so many requests are told that their nonce is bad.
    pub(crate) bad_nonces: u32,
    /// Where challenges are met, in the place of ports 80 and 443; they wait until both are known.
    pub(crate) ports: Option<(u16, u16)>,
    /// Seconds that a certificate began ago, and seconds that it lasts from now on.
    pub(crate) validity: (u64, u64),
    /// New orders are refused with 429 and this Retry-After.
    pub(crate) rate_limited: Option<&'static str>,
    /// The key, by its name, that new accounts must be bound with.
    pub(crate) binding: Option<(&'static str, Vec<u8>)>,
    /// Authorizations have this challenge alone, if any.
    pub(crate) only: Option<&'static str>,
    /// What it issues is for this name, whatever is asked for.
    pub(crate) issues_for: Option<&'static str>,
}

struct State {
    behaviour: Behaviour,
    base: String,
    count: u64,
    nonces: BTreeSet<String>,
    /// Public keys by their accounts' URLs.
    accounts: BTreeMap<String, jws::Key>,
    orders: Vec<Order>,
    /// Each request: its method and path, or what was wrong with it.
    log: Vec<String>,
}

struct Order {
    domain: String,
    status: &'static str,
    thumbprint: String,
    error: Option<String>,
    chain: Option<String>,
}

/// A status, the fields of its own, a type and a body.
struct Answer {
    status: &'static str,
    fields: String,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn json(status: &'static str, body: &Value) -> Self {
        Answer {
            status,
            fields: String::new(),
            kind: "application/json",
            body: body.to_string(),
        }
    }

    fn problem(status: &'static str, kind: &str, detail: &str) -> Self {
        let body = json!({"type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail});
        Answer {
            kind: "application/problem+json",
            ..Answer::json(status, &body)
        }
    }

    fn with(mut self, field: &str, value: &str) -> Self {
        self.fields.push_str(&format!("{field}: {value}\r\n"));
        self
    }
}

impl AcmeServer {
    pub(crate) fn start() -> Self {
        let (own, issuer) = (Authority::new(), Arc::new(Authority::new()));
        let state = Arc::new(Mutex::new(State {
            behaviour: Behaviour {
                bad_nonces: 0,
                ports: None,
                validity: (60, 90 * 24 * 3600),
                rate_limited: None,
                binding: None,
                only: None,
                issues_for: None,
            },
            base: String::new(),
            count: 0,
            nonces: BTreeSet::new(),
            accounts: BTreeMap::new(),
            orders: Vec::new(),
            log: Vec::new(),
        }));
        let config = secure::server(&own.issue(&["127.0.0.1"]), &[], None);
        let (shared, signer) = (Arc::clone(&state), Arc::clone(&issuer));
        let server = Secure::start(config, move |stream| {
            serve(stream, Arc::clone(&shared), Arc::clone(&signer))
        });
        lock(&state).base = format!("https://127.0.0.1:{}", server.port());
        AcmeServer {
            server,
            state,
            issuer,
            own,
        }
    }

    /// The URL of its directory.
    pub(crate) fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/directory", self.server.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// Whoever had an account has none.
    pub(crate) fn forget_accounts(&self) {
        lock(&self.state).accounts.clear();
    }

    /// Changes how it behaves.
    pub(crate) fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.state).behaviour);
    }

    /// The domains that were ordered, one order after the other.
    pub(crate) fn orders(&self) -> Vec<String> {
        let state = lock(&self.state);
        state.orders.iter().map(|o| o.domain.clone()).collect()
    }

    /// Orders whose certificate was fetched.
    pub(crate) fn issued(&self) -> usize {
        self.requests("POST /certificate/").len()
    }

    /// The lines of its log that begin so.
    pub(crate) fn requests(&self, begin: &str) -> Vec<String> {
        let state = lock(&self.state);
        let lines = state.log.iter().filter(|l| l.starts_with(begin));
        lines.cloned().collect()
    }

    /// Nothing that it was sent was wrong but what it was told to refuse.
    #[track_caller]
    pub(crate) fn found_no_fault(&self) {
        assert_eq!(self.requests("fault"), Vec::<String>::new());
    }

    pub(crate) fn accounts(&self) -> usize {
        lock(&self.state).accounts.len()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state
        .lock()
        .expect("nothing panics while it holds the state")
}

/// One request and its answer; then the connection is closed.
async fn serve(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    state: Arc<Mutex<State>>,
    issuer: Arc<Authority>,
) {
    let Some(head) = read_head(&mut stream).await else {
        return;
    };
    let field = |name: &str| {
        let mut lines = head.lines().skip(1).filter_map(|l| l.split_once(": "));
        lines
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.to_owned())
    };
    let length = field("content-length").and_then(|v| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    if stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let start = head.lines().next().unwrap_or_default().to_owned();
    let kind = field("content-type").unwrap_or_default();
    let agent = field("user-agent").unwrap_or_default();
    let answer = {
        let mut locked = lock(&state);
        if !agent.starts_with("weirkeeper/") {
            locked.log.push(format!("fault: the user agent {agent:?}"));
        }
        locked.answer(&start, &kind, &body, &state, &issuer)
    };
    let nonce = lock(&state).nonce();
    let body = if start.starts_with("HEAD ") {
        ""
    } else {
        &answer.body
    };
    let text = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nReplay-Nonce: {nonce}\r\n{}\r\n{body}",
        answer.status,
        answer.kind,
        answer.body.len(),
        answer.fields,
    );
    // Whoever has gone wants no answer.
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.shutdown().await;
}

impl State {
    fn nonce(&mut self) -> String {
        self.count += 1;
        let nonce = BASE64.encode(format!("nonce {}", self.count));
        self.nonces.insert(nonce.clone());
        nonce
    }

    fn answer(
        &mut self,
        start: &str,
        kind: &str,
        body: &[u8],
        shared: &Arc<Mutex<State>>,
        issuer: &Authority,
    ) -> Answer {
        let line = start.trim_end_matches(" HTTP/1.1").to_owned();
        self.log.push(line.clone());
        let base = &self.base;
        match line.split_once(' ') {
            Some(("GET", "/directory")) => Answer::json(
                "200 OK",
                &json!({
                    "newNonce": format!("{base}/nonce"), "newAccount": format!("{base}/account"),
                    "newOrder": format!("{base}/order"), "revokeCert": format!("{base}/revoke"),
                    "keyChange": format!("{base}/key"),
                    "meta": {"termsOfService": format!("{base}/terms")}
                }),
            ),
            Some(("HEAD", "/nonce")) => Answer::json("200 OK", &Value::Null),
            Some(("POST", path)) => {
                let path = path.to_owned();
                match self.posted(&path, kind, body) {
                    Ok((signer, payload)) => self.act(&path, &signer, &payload, shared, issuer),
                    Err(answer) => answer,
                }
            }
            _ => Answer::problem("404 Not Found", "malformed", "there is no such resource"),
        }
    }

    /// The signature, the nonce and the URL of a request (RFC 8555 sections 6.2 to 6.5).
    fn posted(
        &mut self,
        path: &str,
        kind: &str,
        body: &[u8],
    ) -> Result<(jws::Signer, Value), Answer> {
        let malformed = |state: &mut State, what: String| {
            state.log.push(format!("fault at {path}: {what}"));
            Answer::problem("400 Bad Request", "malformed", &what)
        };
        if kind != "application/jose+json" {
            return Err(malformed(self, format!("the type {kind:?}")));
        }
        let signed = match jws::read(body, &self.accounts) {
            Ok(signed) => signed,
            Err(what) if what == jws::NO_ACCOUNT => {
                let kind = "accountDoesNotExist";
                return Err(Answer::problem("400 Bad Request", kind, &what));
            }
            Err(what) => return Err(malformed(self, what)),
        };
        if signed.url != format!("{}{path}", self.base) {
            return Err(malformed(self, format!("the url {:?}", signed.url)));
        }
        if signed.by.is_account() == (path == "/account") {
            return Err(malformed(self, "a wrong kind of key".into()));
        }
        let fresh = self.nonces.remove(&signed.nonce);
        if self.behaviour.bad_nonces > 0 || !fresh {
            self.behaviour.bad_nonces = self.behaviour.bad_nonces.saturating_sub(1);
            self.log.push(format!("bad nonce at {path}"));
            return Err(Answer::problem(
                "400 Bad Request",
                "badNonce",
                "use another",
            ));
        }
        Ok((signed.by, signed.payload))
    }

    fn act(
        &mut self,
        path: &str,
        signer: &jws::Signer,
        payload: &Value,
        shared: &Arc<Mutex<State>>,
        issuer: &Authority,
    ) -> Answer {
        let mut parts = path.trim_start_matches('/').split('/');
        let resource = parts.next().unwrap_or_default();
        let index = parts.next().and_then(|n| n.parse::<usize>().ok());
        let read = payload.is_null();
        match (resource, index) {
            ("account", None) => self.account(signer, payload),
            ("order", None) => self.order(signer, payload),
            (_, Some(i)) if i < self.orders.len() => match resource {
                "order" if read => self.shown("200 OK", i),
                "authorization" if read => self.authorization(i),
                "challenge" if *payload == json!({}) => self.challenge(i, path, shared),
                "finalize" => self.finalize(i, payload, issuer),
                "certificate" if read => self.certificate(i),
                _ => Answer::problem("404 Not Found", "malformed", "no such resource"),
            },
            _ => Answer::problem("404 Not Found", "malformed", "no such resource"),
        }
    }
}
