//! The JSON form, for people with `redis-cli`: what is text is written as text, everything else in base64.

use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::super::bans::Seen;
use super::super::stored::{Body, Entry, Head, Stored};
use super::binary::LifeForm;
use super::{Corrupt, Kept, checked, checked_names};
use crate::time::Tick;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Record {
    key: Text,
    seen: Seen,
    content: Content,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Content {
    Response {
        status: u16,
        head: Vec<(String, Text)>,
        life: LifeForm,
        soft: bool,
        body: BodyForm,
    },
    Varies {
        names: Vec<String>,
        generation: u64,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum BodyForm {
    Whole(Text),
    Parts {
        total: u64,
        ranges: Vec<(u64, Text)>,
    },
}

/// Bytes, readable if they can be.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Text {
    Text(String),
    Base64(String),
}

impl Text {
    fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Text::Text(text.to_owned()),
            Err(_) => Text::Base64(STANDARD.encode(bytes)),
        }
    }

    fn bytes(self) -> Result<Bytes, Corrupt> {
        match self {
            Text::Text(text) => Ok(text.into()),
            Text::Base64(text) => STANDARD
                .decode(text)
                .map(Bytes::from)
                .map_err(|_| Corrupt::Malformed),
        }
    }
}

/// `None` is for what serde_json cannot write, which none of these is.
pub(super) fn write(entry: &Entry, key: &[u8], seen: Seen, now: Tick) -> Option<Vec<u8>> {
    let content = match entry {
        Entry::Response(stored) => {
            let fields = stored.head.lines();
            let fields =
                fields.map(|(n, v)| (String::from_utf8_lossy(n).into_owned(), Text::of(v)));
            Content::Response {
                status: stored.status,
                head: fields.collect(),
                life: LifeForm::of(&stored.life, now),
                soft: stored.is_soft(),
                body: match &stored.body {
                    Body::Whole(bytes) => BodyForm::Whole(Text::of(bytes)),
                    Body::Parts { total, ranges } => BodyForm::Parts {
                        total: *total,
                        ranges: ranges.iter().map(|(f, b)| (*f, Text::of(b))).collect(),
                    },
                },
            }
        }
        Entry::Varies(varies) => Content::Varies {
            names: varies.names.iter().map(|n| n.as_str().to_owned()).collect(),
            generation: varies.generation,
        },
    };
    let record = Record {
        key: Text::of(key),
        seen,
        content,
    };
    serde_json::to_vec(&record).ok()
}

pub(super) fn read(content: &[u8], key: &[u8], kept: Kept) -> Result<(Entry, Seen), Corrupt> {
    let record: Record = serde_json::from_slice(content).map_err(|_| Corrupt::Malformed)?;
    if record.key.bytes()? != key {
        return Err(Corrupt::WrongKey);
    }
    let entry = match record.content {
        Content::Response {
            status,
            head,
            life,
            soft,
            body,
        } => {
            let body = match body {
                BodyForm::Whole(text) => Body::Whole(text.bytes()?),
                BodyForm::Parts { total, ranges } => {
                    let ranges = ranges.into_iter().map(|(f, text)| Ok((f, text.bytes()?)));
                    let ranges = ranges.collect::<Result<Vec<_>, Corrupt>>()?;
                    Body::Parts {
                        total,
                        ranges: ranges.into(),
                    }
                }
            };
            let stored = Stored::new(status, head_of(head)?, body, life.read(kept)?);
            stored.soft.store(soft, Ordering::Relaxed);
            checked(stored)?
        }
        Content::Varies { names, generation } => {
            checked_names(names.iter().map(String::as_str), generation)?
        }
    };
    Ok((entry, record.seen))
}

fn head_of(fields: Vec<(String, Text)>) -> Result<Head, Corrupt> {
    let mut out = BytesMut::new();
    for (name, value) in fields {
        out.put_slice(name.as_bytes());
        out.put_slice(b": ");
        out.put_slice(&value.bytes()?);
        out.put_slice(b"\r\n");
    }
    Head::parse(&out).ok_or(Corrupt::Malformed)
}
