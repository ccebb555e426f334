//! What sections of plain values have in common: a key that is read in the place of a default, and values as a file shows them.

use std::time::Duration;

use super::reader::Node;
use super::units::{NEVER, format_duration, format_size};

/// Puts what was read, if it could be read, in the place of the default.
pub(crate) fn put<T>(slot: &mut T, read: Option<T>) {
    if let Some(value) = read {
        *slot = value;
    }
}

/// A number of bytes within these bounds.
pub(crate) fn size(node: Node<'_>, low: u64, high: u64) -> Option<usize> {
    node.size(low..=high).and_then(|b| usize::try_from(b).ok())
}

/// A number from 1 to `high`.
pub(crate) fn count(node: Node<'_>, high: u64) -> Option<usize> {
    node.integer(1..=high).and_then(|n| usize::try_from(n).ok())
}

/// How long TCP is silent before it asks whether the other side is there: what systems take, or never.
pub(crate) fn keepalive(node: Node<'_>) -> Option<Option<Duration>> {
    let silence = node.duration_or_never()?;
    let shortest = Duration::from_secs(1);
    let longest = Duration::from_secs(9 * 3600);
    if silence < NEVER && !(shortest..=longest).contains(&silence) {
        node.error("it is between 1s and 9h, or \"off\"");
        return None;
    }
    Some((silence < NEVER).then_some(silence))
}

/// A duration as a file shows it, or "off" for [`NEVER`](super::units::NEVER).
pub(crate) fn shown_duration<T: From<String>>(d: Duration) -> Option<T> {
    Some(format_duration(d).into())
}

/// A number of bytes as a file shows it.
pub(crate) fn shown_size<T: From<String>>(bytes: usize) -> Option<T> {
    Some(format_size(bytes as u64).into())
}

/// A number as a file shows it, or "off".
pub(crate) fn shown_count<T: From<u64> + From<String>>(n: Option<u32>) -> Option<T> {
    Some(n.map_or_else(|| "off".to_owned().into(), |n| u64::from(n).into()))
}
