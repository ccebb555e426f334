//! May a response that a fetch brought be stored? What RFC 9111 says of it (`policy`), and what the store itself needs: a certain
//! end, room, and some use. Absent: storing it.

use http::StatusCode;
use http::header::{self, HeaderMap};

use super::policy::{self, Keep, Times, Uncacheable, Wants};
use super::rules::Rules;
use super::stored::Head;

/// A response's head, and what is known of the fetch that brought it.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, without what belongs to its connection.
    pub headers: &'a HeaderMap,
    /// When it was asked for, and when it came.
    pub times: Times,
    /// Bytes of its body, where the backend has told.
    pub length: Option<u64>,
    /// Its body ends with the connection, so that a whole one and a broken one look the same.
    pub ends_by_close: bool,
    /// A part was asked for.
    pub ranged: bool,
    /// Something is stored that an error would replace.
    pub replaces: bool,
}

/// Why a response is not stored. Each has a token for Cache-Status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// RFC 9111 or the route's rules forbid it.
    Uncacheable(Uncacheable),
    /// Nobody could tell whether its body is whole.
    Unframed,
    /// It is a stream of events, which each reader begins where it stands.
    Stream,
    /// Its body is larger than what is stored.
    TooLarge,
    /// It is an error, and what lies there is better.
    Error,
    /// It answers the range and not the whole.
    Range,
    /// It would never be served.
    Stale,
    /// There is no room for more bodies on their way in.
    Busy,
}

impl Refused {
    /// A token for Cache-Status.
    pub fn name(self) -> &'static str {
        match self {
            Refused::Uncacheable(why) => why.name(),
            Refused::Unframed => "unframed",
            Refused::Stream => "stream",
            Refused::TooLarge => "too-large",
            Refused::Error => "error",
            Refused::Range => "range",
            Refused::Stale => "stale",
            Refused::Busy => "busy",
        }
    }

    /// Is it only because of who asked with credentials, so that others may share what they ask for?
    pub fn is_of_the_asker(self) -> bool {
        matches!(
            self,
            Refused::Uncacheable(Uncacheable::Authorization | Uncacheable::Cookie)
        )
    }

    /// Is what lies there no worse than before? Then the refusal says nothing of it.
    pub fn spares_what_is_stored(self) -> bool {
        self.is_of_the_asker() || self == Refused::Uncacheable(Uncacheable::RequestNoStore)
    }
}

impl Arrived<'_> {
    /// It is the part that was asked for.
    pub fn is_partial(&self) -> bool {
        self.ranged && self.status == StatusCode::PARTIAL_CONTENT
    }

    /// It is an error where something is stored.
    pub fn is_failure(&self) -> bool {
        self.replaces && policy::is_error(self.status_as_whole())
    }

    /// A part that was asked for is judged as the whole that it belongs to.
    fn status_as_whole(&self) -> u16 {
        match self.is_partial() {
            true => 200,
            false => self.status.as_u16(),
        }
    }

    /// Its fields as they are stored: those of a part are the whole's.
    pub fn head(&self, keep: &Keep) -> Head {
        let received = self.times.received.wall;
        match self.is_partial() {
            true => policy::head_of_part(self.headers, keep, received),
            false => policy::head_of(self.headers, keep, received),
        }
    }

    /// How it is to be kept. `has_room` tells whether a body of so many bytes may come in.
    ///
    /// # Errors
    /// The first reason against it.
    pub fn judge(
        &self,
        rules: &Rules,
        wants: &Wants,
        has_room: impl FnOnce(u64) -> bool,
    ) -> Result<Keep, Refused> {
        let kept = policy::store(
            rules,
            wants,
            self.status_as_whole(),
            self.headers,
            self.times,
        );
        let is_stream = |kept: &Keep| !kept.life.explicit && is_endless(self.headers);
        if self.ends_by_close {
            return Err(Refused::Unframed);
        }
        if kept.as_ref().is_ok_and(is_stream) {
            return Err(Refused::Stream);
        }
        if self.length.is_some_and(|length| length > rules.max_object) {
            return Err(Refused::TooLarge);
        }
        if self.is_failure() {
            return Err(Refused::Error);
        }
        if self.ranged && !self.is_partial() && self.status != StatusCode::OK {
            // It may be the range that is refused, and those who ask for the whole ask for something else.
            return Err(Refused::Range);
        }
        let kept = kept.map_err(Refused::Uncacheable)?;
        if is_useless(&kept, self.headers) {
            return Err(Refused::Stale);
        }
        match has_room(self.length.unwrap_or(0)) {
            true => Ok(kept),
            false => Err(Refused::Busy),
        }
    }
}

/// Never fresh, nothing to validate it with, and not wanted stale: to store it would help nobody.
fn is_useless(keep: &Keep, headers: &HeaderMap) -> bool {
    let life = &keep.life;
    let fresh = life.lifetime > life.initial_age && !life.no_cache;
    let stale = life.stale_while_revalidate > 0 || life.stale_if_error > 0;
    let validated =
        headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
    !(fresh || validated || (stale && !life.must_revalidate && !life.no_cache))
}

/// Is it a stream of events, which each reader begins where it stands?
fn is_endless(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|v| v.as_bytes());
    let essence = kind.and_then(|kind| kind.split(|b| *b == b';').next());
    essence.is_some_and(|e| e.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers() -> impl Strategy<Value = HeaderMap> {
        let cache_control = prop_oneof![
            Just(None),
            Just(Some("max-age=60")),
            Just(Some("max-age=0")),
            Just(Some("no-store")),
            Just(Some("private")),
            Just(Some("no-cache")),
        ];
        let kind = prop_oneof![
            Just(None),
            Just(Some("text/event-stream")),
            Just(Some("a/b"))
        ];
        let tag = prop_oneof![Just(None), Just(Some("\"v1\""))];
        (cache_control, kind, tag).prop_map(|(control, kind, tag)| {
            let mut map = HeaderMap::new();
            let fields = [
                (header::CACHE_CONTROL, control),
                (header::CONTENT_TYPE, kind),
                (header::ETAG, tag),
            ];
            for (name, value) in fields {
                if let Some(value) = value {
                    map.insert(name, header::HeaderValue::from_static(value));
                }
            }
            map
        })
    }

    proptest! {
        /// What is kept is certain, fits, has room, is what was asked for, and RFC 9111 allows it; what is refused is so for a
        /// reason that holds.
        #[test]
        fn what_is_kept_is_certain_and_what_is_refused_has_its_reason(
            headers in headers(),
            status in prop_oneof![Just(200_u16), Just(206), Just(404), Just(416), Just(500), Just(503)],
            length in prop_oneof![Just(None), Just(Some(10_u64)), Just(Some(5_000))],
            (ends_by_close, ranged, replaces, room) in any::<(bool, bool, bool, bool)>(),
        ) {
            let rules = Rules { max_object: 1_000, ..Rules::default() };
            let wants = Wants::default();
            let arrived = Arrived {
                status: StatusCode::from_u16(status).expect("a status"),
                headers: &headers,
                times: Times::default(),
                length,
                ends_by_close,
                ranged,
                replaces,
            };
            let alone = policy::store(&rules, &wants, arrived.status_as_whole(), &headers, arrived.times);
            match arrived.judge(&rules, &wants, |_| room) {
                Ok(_) => {
                    prop_assert!(alone.is_ok() && room && !ends_by_close);
                    prop_assert!(length.is_none_or(|length| length <= rules.max_object));
                    prop_assert!(!arrived.is_failure());
                    prop_assert!(!ranged || matches!(status, 200 | 206));
                }
                Err(Refused::Uncacheable(why)) => prop_assert_eq!(alone.err(), Some(why)),
                Err(Refused::Unframed) => prop_assert!(ends_by_close),
                Err(Refused::TooLarge) => prop_assert_eq!(length, Some(5_000)),
                Err(Refused::Error) => prop_assert!(replaces && status >= 500),
                Err(Refused::Range) => prop_assert!(ranged && !matches!(status, 200 | 206)),
                Err(Refused::Busy) => prop_assert!(!room),
                Err(Refused::Stream) => prop_assert!(is_endless(&headers)),
                Err(Refused::Stale) => prop_assert!(!headers.contains_key(header::ETAG)),
            }
        }
    }
}
