//! The binary form: a head in postcard, then the body as it is, so that reading it copies no body.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::super::bans::Seen;
use super::super::life::Life;
use super::super::stored::{Body, Entry, Head, Stored};
use super::{Corrupt, Kept, checked, checked_names};
use crate::time::Tick;

/// All of a record but the body.
#[derive(Deserialize, Serialize)]
struct Record<'a> {
    key: &'a [u8],
    seen: (u64, u64),
    #[serde(borrow)]
    content: Content<'a>,
}

#[derive(Deserialize, Serialize)]
enum Content<'a> {
    Response {
        status: u16,
        head: &'a [u8],
        life: LifeForm,
        soft: bool,
        body: BodyForm,
    },
    Varies {
        #[serde(borrow)]
        names: Vec<&'a str>,
        generation: u64,
    },
}

/// Lengths of what follows.
#[derive(Deserialize, Serialize)]
enum BodyForm {
    Whole(u64),
    Parts { total: u64, ranges: Vec<(u64, u64)> },
}

#[derive(Deserialize, Serialize)]
pub(super) struct LifeForm {
    /// How long it had been here when it was written down.
    resident_millis: u64,
    initial_age: u32,
    lifetime: u32,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    fetch_millis: u32,
    explicit: bool,
    must_revalidate: bool,
    no_cache: bool,
}

impl LifeForm {
    /// As it is written down at `now`.
    pub(super) fn of(life: &Life, now: Tick) -> Self {
        let resident = now.since(life.received).as_millis();
        LifeForm {
            resident_millis: u64::try_from(resident).unwrap_or(u64::MAX),
            initial_age: life.initial_age,
            lifetime: life.lifetime,
            stale_while_revalidate: life.stale_while_revalidate,
            stale_if_error: life.stale_if_error,
            fetch_millis: life.fetch_millis,
            explicit: life.explicit,
            must_revalidate: life.must_revalidate,
            no_cache: life.no_cache,
        }
    }

    /// As it is read from a server that keeps it.
    pub(super) fn read(self, kept: Kept) -> Result<Life, Corrupt> {
        let form = self;
        let resident = Duration::from_millis(form.resident_millis);
        let life = Life {
            received: Tick::ZERO,
            initial_age: form.initial_age,
            lifetime: form.lifetime,
            stale_while_revalidate: form.stale_while_revalidate,
            stale_if_error: form.stale_if_error,
            fetch_millis: form.fetch_millis,
            explicit: form.explicit,
            must_revalidate: form.must_revalidate,
            no_cache: form.no_cache,
        };
        let life = life.kept_elsewhere(resident, kept.left, kept.asked);
        life.ok_or(Corrupt::Undated)
    }
}

/// `None` is for what postcard cannot write, which none of these is.
pub(super) fn write(entry: &Entry, key: &[u8], seen: Seen, now: Tick) -> Option<Vec<u8>> {
    let content = match entry {
        Entry::Response(stored) => Content::Response {
            status: stored.status,
            head: stored.head.as_bytes(),
            life: LifeForm::of(&stored.life, now),
            soft: stored.is_soft(),
            body: match &stored.body {
                Body::Whole(bytes) => BodyForm::Whole(bytes.len() as u64),
                Body::Parts { total, ranges } => BodyForm::Parts {
                    total: *total,
                    ranges: ranges.iter().map(|(f, b)| (*f, b.len() as u64)).collect(),
                },
            },
        },
        Entry::Varies(varies) => Content::Varies {
            names: varies.names.iter().map(|n| n.as_str()).collect(),
            generation: varies.generation,
        },
    };
    let record = Record {
        key,
        seen: (seen.millis, seen.sequence),
        content,
    };
    let size = super::body_size(entry) as usize + key.len() + 256;
    let mut out = postcard::to_extend(&record, Vec::with_capacity(size)).ok()?;
    if let Entry::Response(stored) = entry {
        match &stored.body {
            Body::Whole(bytes) => out.extend_from_slice(bytes),
            Body::Parts { ranges, .. } => {
                ranges.iter().for_each(|(_, b)| out.extend_from_slice(b));
            }
        }
    }
    Some(out)
}

pub(super) fn read(content: &Bytes, key: &[u8], kept: Kept) -> Result<(Entry, Seen), Corrupt> {
    let (record, body) =
        postcard::take_from_bytes::<Record<'_>>(content).map_err(|_| Corrupt::Malformed)?;
    if record.key != key {
        return Err(Corrupt::WrongKey);
    }
    let seen = Seen {
        millis: record.seen.0,
        sequence: record.seen.1,
    };
    let entry = match record.content {
        Content::Response {
            status,
            head,
            life,
            soft,
            body: form,
        } => {
            let head = Head::parse(head).ok_or(Corrupt::Malformed)?;
            let body = body_of(form, content.slice_ref(body))?;
            let stored = Stored::new(status, head, body, life.read(kept)?);
            stored
                .soft
                .store(soft, std::sync::atomic::Ordering::Relaxed);
            checked(stored)?
        }
        Content::Varies { names, generation } if body.is_empty() => {
            checked_names(names.into_iter(), generation)?
        }
        Content::Varies { .. } => return Err(Corrupt::Malformed),
    };
    Ok((entry, seen))
}

/// Divides what follows the head; every byte of it must have its place.
fn body_of(form: BodyForm, mut bytes: Bytes) -> Result<Body, Corrupt> {
    let mut take = |length: u64| {
        let length = usize::try_from(length).ok().filter(|l| *l <= bytes.len());
        length.map(|l| bytes.split_to(l)).ok_or(Corrupt::Malformed)
    };
    let body = match form {
        BodyForm::Whole(length) => Body::Whole(take(length)?),
        BodyForm::Parts { total, ranges } => {
            let taken = ranges.into_iter().map(|(first, l)| Ok((first, take(l)?)));
            let ranges = taken.collect::<Result<Vec<_>, Corrupt>>()?;
            Body::Parts {
                total,
                ranges: ranges.into(),
            }
        }
    };
    if bytes.is_empty() {
        Ok(body)
    } else {
        Err(Corrupt::Malformed)
    }
}
