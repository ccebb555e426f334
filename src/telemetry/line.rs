//! One line of the access log, in either form. Whatever comes from outside is escaped: a client cannot begin a line of its
//! own, end a quoted field, or send control characters to a terminal.

use std::fmt;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::Version;

use super::{Exchange, Layout, Session};

/// Apache's combined log format: `client - - [date] "request" status bytes "referer" "user agent"`.
pub(super) fn combined(x: &Exchange<'_>, out: &mut Vec<u8>) {
    client_and_date(x.client, x.wall, out);
    quoted_bytes(x.method.as_str().as_bytes(), out);
    out.push(b' ');
    quoted_bytes(x.target.as_bytes(), out);
    put(
        out,
        format_args!(" {}\" {:03} ", version(x.version), x.status),
    );
    bytes_or_dash(x.bytes_sent, out);
    for field in [x.referer, x.user_agent] {
        out.extend_from_slice(b" \"");
        quoted_bytes(field.unwrap_or(b"-"), out);
        out.push(b'"');
    }
    out.push(b'\n');
}

/// The same form for what has no request: `"TCP backend" 000 bytes "-" "-"`.
pub(super) fn combined_session(layout: &Layout, x: &Session, out: &mut Vec<u8>) {
    client_and_date(x.client, x.wall, out);
    let (_, backend) = names(layout, x.upstream, x.backend);
    let protocol = x.protocol.to_ascii_uppercase();
    put(out, format_args!("{protocol} "));
    quoted_bytes(backend.unwrap_or("-").as_bytes(), out);
    out.extend_from_slice(b"\" 000 ");
    bytes_or_dash(x.bytes_sent, out);
    out.extend_from_slice(b" \"-\" \"-\"\n");
}

/// One JSON object for a TCP connection or a UDP session.
pub(super) fn json_session(layout: &Layout, x: &Session, out: &mut Vec<u8>) {
    json_start(x.client, x.wall, out);
    let (upstream, backend) = names(layout, x.upstream, x.backend);
    let listener = layout.listeners.get(x.listener).map(String::as_str);
    let session = [
        ("listener", listener),
        ("upstream", upstream),
        ("backend", backend),
        ("protocol", Some(x.protocol)),
    ];
    for (name, value) in session {
        member(name, value.map(str::as_bytes), out);
    }
    let spent = Spent {
        sent: x.bytes_sent,
        received: x.bytes_received,
        duration: x.ended.since(x.started),
        queue_wait: x.queue_wait,
        attempts: x.attempts,
    };
    json_spent(spent, out);
    member("cause", x.cause.map(|c| c.name().as_bytes()), out);
    out.extend_from_slice(b"}\n");
}

/// `client - - [date] "`.
fn client_and_date(client: IpAddr, wall: SystemTime, out: &mut Vec<u8>) {
    let d = Date::of(wall);
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = MONTHS[d.month as usize - 1];
    put(
        out,
        format_args!("{client} - - [{:02}/{month}/{:04}:", d.day, d.year),
    );
    put(
        out,
        format_args!("{:02}:{:02}:{:02} +0000] \"", d.hour, d.minute, d.second),
    );
}

fn bytes_or_dash(bytes: u64, out: &mut Vec<u8>) {
    match bytes {
        0 => out.push(b'-'),
        n => put(out, format_args!("{n}")),
    }
}

/// The object's brace, the time and the client.
fn json_start(client: IpAddr, wall: SystemTime, out: &mut Vec<u8>) {
    let d = Date::of(wall);
    put(
        out,
        format_args!("{{\"time\":\"{:04}-{:02}-{:02}T", d.year, d.month, d.day),
    );
    put(
        out,
        format_args!(
            "{:02}:{:02}:{:02}.{:03}Z\"",
            d.hour, d.minute, d.second, d.milli
        ),
    );
    put(out, format_args!(",\"client\":\"{client}\""));
}

/// The names of an upstream and its backend.
fn names(
    layout: &Layout,
    upstream: Option<usize>,
    backend: Option<usize>,
) -> (Option<&str>, Option<&str>) {
    let upstream = upstream.and_then(|u| layout.upstreams.get(u));
    let backend = upstream.and_then(|(_, backends)| backends.get(backend?));
    (
        upstream.map(|(name, _)| name.as_str()),
        backend.map(String::as_str),
    )
}

/// What a request or a session took.
struct Spent {
    sent: u64,
    received: u64,
    duration: Duration,
    queue_wait: Duration,
    attempts: u8,
}

fn json_spent(spent: Spent, out: &mut Vec<u8>) {
    put(out, format_args!(",\"bytes_sent\":{}", spent.sent));
    put(out, format_args!(",\"bytes_received\":{}", spent.received));
    put(
        out,
        format_args!(",\"duration\":{:.6}", spent.duration.as_secs_f64()),
    );
    put(
        out,
        format_args!(",\"queue_wait\":{:.6}", spent.queue_wait.as_secs_f64()),
    );
    put(out, format_args!(",\"attempts\":{}", spent.attempts));
}

/// One JSON object. Times are in seconds; what is unknown is left out.
pub(super) fn json(layout: &Layout, x: &Exchange<'_>, out: &mut Vec<u8>) {
    json_start(x.client, x.wall, out);
    let (upstream, backend) = names(layout, x.upstream, x.backend);
    let request = [
        (
            "listener",
            layout.listeners.get(x.listener).map(String::as_str),
        ),
        ("route", x.route),
        ("upstream", upstream),
        ("backend", backend),
        ("method", Some(x.method.as_str())),
        ("host", Some(x.host)),
        ("target", Some(x.target)),
        ("version", Some(version(x.version))),
    ];
    for (name, value) in request {
        member(name, value.map(str::as_bytes), out);
    }
    put(out, format_args!(",\"status\":{}", x.status));
    let spent = Spent {
        sent: x.bytes_sent,
        received: x.bytes_received,
        duration: x.ended.since(x.started),
        queue_wait: x.queue_wait,
        attempts: x.attempts,
    };
    json_spent(spent, out);
    member("cause", x.cause.map(|c| c.name().as_bytes()), out);
    member("cache", x.cache.map(|c| c.name().as_bytes()), out);
    member("request_id", Some(x.request_id.as_bytes()), out);
    member("referer", x.referer, out);
    member("user_agent", x.user_agent, out);
    out.extend_from_slice(b"}\n");
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

fn put(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a Vec does not fail");
}

/// Nothing in it needs an escape in either form. Nearly every field is so, and goes out as one copy.
fn is_plain(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|b| matches!(b, b' '..=b'~') && !matches!(b, b'"' | b'\\'))
}

/// As Apache does: a backslash before quotes and backslashes, `\xhh` for every byte that is not printable ASCII.
fn quoted_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => put(out, format_args!("\\x{byte:02x}")),
        }
    }
}

/// `,"name":"value"`. Bytes that are not UTF-8 become U+FFFD.
fn member(name: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(value) = value else {
        return;
    };
    for piece in [b",\"", name.as_bytes(), b"\":\""] {
        out.extend_from_slice(piece);
    }
    if is_plain(value) {
        out.extend_from_slice(value);
    } else {
        for c in String::from_utf8_lossy(value).chars() {
            match c {
                '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
                // C0, DEL and C1 (terminals obey those too) are all within one UTF-16 unit.
                c if c.is_control() => put(out, format_args!("\\u{:04x}", c as u32)),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    out.push(b'"');
}

/// A date and time in UTC.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: u64,
    pub(super) month: u64,
    pub(super) day: u64,
    pub(super) hour: u64,
    pub(super) minute: u64,
    pub(super) second: u64,
    pub(super) milli: u32,
}

impl Date {
    /// The proleptic Gregorian date; a clock before 1970 counts as 1970.
    pub(super) fn of(wall: SystemTime) -> Self {
        let since: Duration = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = since.as_secs();
        // Years begin in March here, so that the leap day is the last of its year.
        let days = seconds / 86_400 + 719_468;
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = (shifted_month + 2) % 12 + 1;
        Date {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
            milli: since.subsec_millis(),
        }
    }
}
