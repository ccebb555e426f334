//! Durations and sizes as people write them, both ways. What is written out reads back as the same value.

use std::time::Duration;

/// A timeout that is switched off: a hundred years, so that adding a few of them to anything cannot overflow.
pub const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// Longer than this is a slip of the unit; no limit at all is written "off".
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// `2s`, `500ms`, `1m30s`, `1h`, `1.5s`: numbers with units (ns, us, ms, s, m, h, d), added up. The error says what is wrong.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("\"{text}\" is not a duration such as \"2s\", \"500ms\" or \"1m30s\"");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    if rest.bytes().all(|b| b.is_ascii_digit()) && rest != "0" {
        return Err(format!("the duration \"{text}\" has no unit (ms, s, m, h)"));
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail
            .find(|c: char| !c.is_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return Err(bad()),
        };
        let part = decimal(number, unit).ok_or_else(bad)?;
        nanos = nanos.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    match u64::try_from(nanos).map(Duration::from_nanos) {
        Ok(d) if d <= LONGEST => Ok(d),
        _ => Err(format!("the duration \"{text}\" is longer than a year")),
    }
}

/// `number` times `unit`, exactly, rounded down: "1.5" and 1000 give 1500.
fn decimal(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.len() > 18 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let digits = |s: &str| s.parse::<u64>().ok().map(u128::from);
    Some(digits(whole)? * unit + digits(fraction)? * unit / scale)
}

/// The shortest whole units that add up to `d`: `1m30s`; `off` for [`NEVER`].
pub fn format_duration(d: Duration) -> String {
    if d >= NEVER {
        return "off".into();
    }
    let mut rest = d.as_nanos();
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, nanos) in [
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ] {
        if rest >= nanos {
            text.push_str(&format!("{}{unit}", rest / nanos));
            rest %= nanos;
        }
    }
    text
}

/// `64MiB`, `10kB`, `512`: bytes. The error says what is wrong.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || format!("\"{text}\" is not a size such as \"64MiB\", \"10kB\" or 512");
    let trimmed = text.trim();
    let end = trimmed
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(end);
    let unit: u128 = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" | "k" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return Err(bad()),
    };
    decimal(number, unit)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(bad)
}

/// The largest binary unit that divides `bytes`: `32KiB`.
pub fn format_size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("2s", 2000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("1.5s", 1500),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "5 parsecs",
            "1..5s",
            "1s1",
            "400d",
            "99999999999999999999s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("64MiB", 64 << 20),
            ("10kB", 10_000),
            ("512", 512),
            ("1.5KiB", 1536),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "10 potatoes", "-1", "1e3", "99999999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_number_of_bytes_that_no_float_holds_reads_back() {
        let bytes = 8_000_000_000_000_000_008 >> 3;
        assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
    }

    proptest! {
        #[test]
        fn what_is_written_out_reads_back(nanos in 0..=LONGEST.as_nanos() as u64, bytes: u64, shift in 0..40_u32) {
            let d = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(d)), Ok(d));
            let bytes = bytes >> shift >> 3 << (shift / 2);
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }
}
