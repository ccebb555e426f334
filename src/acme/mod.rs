//! Certificates by ACME (RFC 8555): orders them, keeps them in files, renews them. It runs on a thread and a runtime of its own,
//! so that nothing here is on the way of a request. What serves sees two things of it: answers to challenges, which
//! [`Challenges`] holds, and the files, which the proxy reads like any other certificate.
//!
//! [`schedule`] is pure and says when; `order` talks; `storage` writes. Absent: the challenge dns-01 and hence wildcards,
//! revocation, renewal information (RFC 9773), and the simulator, in which nothing of this runs.

mod https;
mod order;
pub mod plan;
pub mod schedule;
pub mod storage;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::https::Https;
use self::plan::Wanted;
use self::schedule::{Book, Validity};
use self::storage::Unkept;
use crate::config::{Config, format_duration};
use crate::env::tokio::TokioEnv;
use crate::env::{Clock, Env};
use crate::proxy::Proxy;
use crate::rng::Rng;
use crate::telemetry::AcmeStatus;
use crate::tls::{Challenges, Client, Identity};

/// One order with all that belongs to it; the rest of the names wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How news are told to whoever runs the proxy.
pub type Tell = Box<dyn Fn(&str) + Send>;

/// The thread that has certificates issued. It ends when this is dropped.
#[derive(Debug)]
pub struct Acme {
    plans: UnboundedSender<Plan>,
    counts: Arc<Counts>,
}

/// What is wanted, and whom to believe at each authority.
type Plan = BTreeMap<PathBuf, (Wanted, Client)>;

/// What came of it so far, by the files of certificates.
#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<PathBuf, AcmeStatus>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, AcmeStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to have issued and renewed what `config` wants, for `proxy`; `None` when it wants nothing. It serves meanwhile.
///
/// # Errors
/// A storage that cannot be written to, or no authorities to believe.
pub fn start(
    config: &Config,
    proxy: &Arc<Proxy<TokioEnv>>,
    tell: Tell,
) -> io::Result<Option<Acme>> {
    let Some(challenges) = proxy.challenges() else {
        return Ok(None);
    };
    let first = prepare(config)?;
    let counts = Arc::new(Counts::default());
    let (plans, receiver) = unbounded_channel();
    let desk = Desk {
        env: TokioEnv::new()?,
        proxy: Arc::clone(proxy),
        challenges,
        tell,
        counts: Arc::clone(&counts),
        plan: Plan::new(),
        book: Book::default(),
        unkept: BTreeMap::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("acme".into())
        .spawn(move || runtime.block_on(desk.run(first, receiver)))?;
    Ok(Some(Acme { plans, counts }))
}

/// Makes the folders and gathers what is to be done.
fn prepare(config: &Config) -> io::Result<Plan> {
    let mut plan = Plan::new();
    for (file, wanted) in plan::wanted(config) {
        storage::prepare(&wanted.authority)?;
        let client = https::client(&wanted.authority).map_err(|what| {
            io::Error::other(format!(
                "the authority {} cannot be believed: {what}; \"ca\" in \"acme\" names a file with those to trust",
                wanted.authority.name()
            ))
        })?;
        plan.insert(file, (wanted, client));
    }
    Ok(plan)
}

impl Acme {
    /// From now on what `config` wants is wanted and nothing else. What is under way is finished first.
    ///
    /// # Errors
    /// As for [`start`]; then what was wanted before is wanted still.
    pub fn apply(&self, config: &Config) -> io::Result<()> {
        let plan = prepare(config)?;
        self.plans
            .send(plan)
            .map_err(|_| io::Error::other("the thread for certificates by ACME has ended"))
    }

    /// What came of it so far, name by name.
    pub fn status(&self) -> Vec<AcmeStatus> {
        self.counts.lock().values().cloned().collect()
    }
}

/// Where one name after the other is seen to.
struct Desk {
    env: TokioEnv,
    proxy: Arc<Proxy<TokioEnv>>,
    challenges: Arc<Challenges>,
    tell: Tell,
    counts: Arc<Counts>,
    plan: Plan,
    book: Book<PathBuf>,
    /// Certificates that were issued and could not be stored: they are not ordered a second time.
    unkept: BTreeMap<PathBuf, String>,
}

impl Desk {
    async fn run(mut self, first: Plan, mut plans: UnboundedReceiver<Plan>) {
        let mut rng = self.env.rng("acme", 0);
        self.adopt(first, &mut rng);
        loop {
            let clock = *self.env.clock();
            let due = self.book.due(clock.now(), clock.wall().into()).cloned();
            if let Some(file) = due {
                self.attend(&file, &mut rng).await;
                while let Ok(plan) = plans.try_recv() {
                    self.adopt(plan, &mut rng);
                }
                continue;
            }
            let sleep = self.book.sleep(clock.now(), clock.wall().into());
            tokio::select! {
                biased;
                plan = plans.recv() => match plan {
                    Some(plan) => self.adopt(plan, &mut rng),
                    None => return,
                },
                () = clock.sleep_until(clock.now() + sleep) => {}
            }
        }
    }

    /// Takes a plan over, with what is stored of it.
    fn adopt(&mut self, plan: Plan, rng: &mut Rng) {
        let now: crate::time::Wall = self.env.clock().wall().into();
        let mut wanted = Vec::new();
        for (file, (want, _)) in &plan {
            let stored = want.authority.load(&want.domain).unwrap_or_else(|fault| {
                tracing::warn!(
                    "{fault}; another certificate for {} is ordered",
                    want.domain
                );
                None
            });
            let validity = stored.as_ref().map(validity);
            if validity.is_none_or(|v| v.expires <= now) && !self.plan.contains_key(file) {
                let what = if validity.is_some() {
                    "an expired"
                } else {
                    "no"
                };
                (self.tell)(&format!(
                    "{} has {what} certificate so far: one is ordered from {}",
                    want.domain,
                    want.authority.name()
                ));
            }
            wanted.push((file.clone(), validity));
        }
        self.unkept.retain(|file, _| plan.contains_key(file));
        self.count(&plan);
        self.plan = plan;
        let now = self.env.clock().now();
        self.book.want(wanted.into_iter(), now, rng);
    }

    /// Counts what is wanted from now on, and forgets the rest.
    fn count(&self, plan: &Plan) {
        let mut counts = self.counts.lock();
        counts.retain(|file, _| plan.contains_key(file));
        for (file, (want, _)) in plan {
            counts.entry(file.clone()).or_insert_with(|| AcmeStatus {
                name: want.domain.clone(),
                authority: want.authority.name().to_owned(),
                ..AcmeStatus::default()
            });
        }
    }

    /// Sees to one name that is due.
    async fn attend(&mut self, file: &PathBuf, rng: &mut Rng) {
        let Some((want, client)) = self.plan.get(file).cloned() else {
            return;
        };
        let outcome = self.issue(file, &want, client).await;
        let clock = *self.env.clock();
        let (now, date) = (clock.now(), clock.wall().into());
        let domain = &want.domain;
        match outcome {
            Ok(identity) => {
                let validity = validity(&identity);
                self.book.issued(file, validity, now, date, rng);
                self.note(file, |status| status.issued += 1);
                (self.tell)(&format!(
                    "{domain}: a certificate from {}, valid until {}",
                    want.authority.name(),
                    httpdate::fmt_http_date(identity.expires)
                ));
                // Whoever reads it first tells of a fault; one there would show again at the next look.
                for fault in self
                    .proxy
                    .reload_certificates()
                    .into_iter()
                    .flat_map(Result::err)
                {
                    tracing::warn!("{fault}");
                }
            }
            Err(failure) => {
                let rest = self.book.failed(file, failure.asked, now, rng);
                self.note(file, |status| status.failures += 1);
                tracing::warn!(
                    "{domain}: no certificate from {}: {}; tried again in {}",
                    want.authority.name(),
                    failure.what,
                    format_duration(Duration::from_secs(rest.as_secs()))
                );
            }
        }
    }

    fn note(&self, file: &Path, change: impl FnOnce(&mut AcmeStatus)) {
        if let Some(status) = self.counts.lock().get_mut(file) {
            change(status);
        }
    }

    /// Has a certificate issued and stores it.
    async fn issue(
        &mut self,
        file: &Path,
        want: &Wanted,
        client: Client,
    ) -> Result<Identity, order::Failure> {
        let fail = |what: String| order::Failure { what, asked: None };
        let pem = match self.unkept.remove(file) {
            Some(pem) => pem,
            None => {
                let https = Https::new(self.env.clone(), client);
                let (authority, domain) = (&want.authority, &want.domain);
                let order =
                    order::obtain(&https, authority, want.challenge, domain, &self.challenges);
                let done = self.env.clock().timeout(PATIENCE, Box::pin(order)).await;
                done.unwrap_or_else(|| {
                    let minutes = PATIENCE.as_secs() / 60;
                    Err(fail(format!("it is not done within {minutes} minutes")))
                })?
            }
        };
        let now = self.env.clock().wall();
        storage::keep(&want.authority, &want.domain, &pem, now).map_err(|unkept| {
            let what = unkept.to_string();
            if let Unkept::Unwritten(_) = unkept {
                self.unkept.insert(file.to_owned(), pem);
            }
            fail(what)
        })
    }
}

fn validity(identity: &Identity) -> Validity {
    Validity {
        begins: identity.begins.into(),
        expires: identity.expires.into(),
    }
}
