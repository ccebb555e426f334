//! HTTP dates in their three forms, as caches read them (RFC 9110 section 5.6.7, RFC 9111 section 4.2): without regard to case,
//! with a two-digit year that is told by the time at which it is read, and as old servers mix the forms, where the moment is
//! certain all the same: dashes or blanks, either length of a year, one digit of a day.

use std::time::{Duration, UNIX_EPOCH};

use crate::time::Wall;

const DAY: i64 = 86_400;

/// The last second that a date with four digits of year can name.
const LAST: u64 = 253_402_300_799;

/// Seconds since the epoch, negative before it. The day of the week follows from the date and is not compared with it. `now`
/// tells the century of a two-digit year: the latest that is no more than 50 years ahead.
pub fn parse(text: &[u8], now: Wall) -> Option<i64> {
    let text = text.trim_ascii();
    let letters = text.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let (name, rest) = text.split_at(letters);
    if name.len() < 3 {
        return None;
    }
    match rest {
        [b',', b' ', rest @ ..] => comma_form(rest, now),
        [b' ', rest @ ..] => asctime_form(rest),
        _ => None,
    }
}

/// `15 Jan 2027 08:00:00 GMT` or `15-Jan-27 08:00:00 GMT`, behind the day of the week, and mixtures of the two.
fn comma_form(text: &[u8], now: Wall) -> Option<i64> {
    let (date, clock) = split(text, text.len().checked_sub(13)?)?;
    let clock = clock.strip_prefix(b" ")?;
    let (time, zone) = split(clock, 8)?;
    if !zone.eq_ignore_ascii_case(b" GMT") {
        return None;
    }
    // A day below the tenth has one digit where a server follows RFC 1123.
    let (day, rest) = split(date, date.iter().position(|b| !b.is_ascii_digit())?)?;
    let [dash, m1, m2, m3, dash2, year @ ..] = rest else {
        return None;
    };
    if dash != dash2 || !matches!(dash, b' ' | b'-') || !matches!(day.len(), 1 | 2) {
        return None;
    }
    let (day, month) = (digits(day)?, month(&[*m1, *m2, *m3])?);
    let time = time_of_day(time)?;
    match year.len() {
        4 => at(digits(year)?, month, day, time),
        2 => within_fifty_years(digits(year)?, month, day, time, now),
        _ => None,
    }
}

/// `Jan 15 08:00:00 2027`, behind the day of the week; a day of one digit has a blank before it.
fn asctime_form(text: &[u8]) -> Option<i64> {
    let [m1, m2, m3, b' ', d1, d2, b' ', rest @ ..] = text else {
        return None;
    };
    let (time, year) = split(rest, 8)?;
    let day = if *d1 == b' ' {
        &[b'0', *d2]
    } else {
        &[*d1, *d2]
    };
    let year = year.strip_prefix(b" ").filter(|y| y.len() == 4)?;
    at(
        digits(year)?,
        month(&[*m1, *m2, *m3])?,
        digits(day)?,
        time_of_day(time)?,
    )
}

fn split(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    text.split_at_checked(at)
}

fn digits(text: &[u8]) -> Option<i64> {
    let number = |n: i64, b: &u8| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'));
    text.iter().try_fold(0, number)
}

/// 1 to 12.
fn month(name: &[u8]) -> Option<i64> {
    const NAMES: &[u8; 36] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let at = NAMES
        .chunks(3)
        .position(|known| known.eq_ignore_ascii_case(name))?;
    Some(at as i64 + 1)
}

/// Seconds since midnight; a leap second is the one before it (RFC 9110 allows 60).
fn time_of_day(text: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = text else {
        return None;
    };
    let (hour, minute, second) = (
        digits(&[*h1, *h2])?,
        digits(&[*m1, *m2])?,
        digits(&[*s1, *s2])?,
    );
    (hour < 24 && minute < 60 && second <= 60).then(|| hour * 3600 + minute * 60 + second.min(59))
}

fn at(year: i64, month: i64, day: i64, time: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    (1..=last)
        .contains(&day)
        .then(|| days(year, month, day) * DAY + time)
}

/// Days since the epoch. Years are counted from March, so that the leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // Days before each month, counted from March, in whole numbers: 0, 31, 61, 92 and so on.
    year * 365 + leaps + (153 * month + 2) / 5 + day - 719_469
}

fn within_fifty_years(year: i64, month: i64, day: i64, time: i64, now: Wall) -> Option<i64> {
    let now = i64::try_from(now.as_millis() / 1000)
        .unwrap_or(i64::MAX)
        .min(LAST as i64);
    // No year is shorter than 365 days, so this is at least the one that `now` lies in.
    let mut this = 1970 + now / (365 * DAY);
    while days(this, 1, 1) * DAY > now {
        this -= 1;
    }
    let into = now - days(this, 1, 1) * DAY;
    let latest = this + 50;
    let year = latest - (latest - year).rem_euclid(100);
    let limit = days(latest, 1, 1) * DAY + into;
    match at(year, month, day, time) {
        Some(found) if found > limit => at(year - 100, month, day, time),
        found => found,
    }
}

/// The date in its preferred form; beyond the year 9999 its last second.
pub fn format(at: Wall) -> String {
    let secs = (at.as_millis() / 1000).min(LAST);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs))
}

/// Whole seconds since the epoch.
pub fn seconds(at: Wall) -> i64 {
    i64::try_from(at.as_millis() / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every day of four centuries, by a reader that is not ours.
    #[test]
    fn dates_are_read_as_another_reader_reads_them() {
        for day in (0..146_097_i64).step_by(13).chain(0..1500) {
            let secs = day * DAY + day % DAY;
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(secs as u64));
            assert_eq!(
                parse(text.as_bytes(), Wall::default()),
                Some(secs),
                "{text}"
            );
        }
        let known: [(&str, i64); 5] = [
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Wed, 31 Dec 1969 23:59:59 GMT", -1),
            ("Sat, 01 Jan 0000 00:00:00 GMT", -62_167_219_200),
            ("Fri, 31 Dec 9999 23:59:59 GMT", LAST as i64),
            ("Sat, 31 Dec 2016 23:59:60 GMT", 1_483_228_799),
        ];
        for (text, secs) in known {
            assert_eq!(
                parse(text.as_bytes(), Wall::default()),
                Some(secs),
                "{text}"
            );
        }
        assert_eq!(
            format(Wall::from_millis(u64::MAX)),
            "Fri, 31 Dec 9999 23:59:59 GMT"
        );
    }

    #[test]
    fn the_century_is_told_by_the_time_of_reading() {
        // At the end of a century the next is near.
        let now = Wall::from_secs(days(2099, 6, 1).unsigned_abs() * 86_400);
        let read = |text: &str| {
            let text = format!("Monday, 01-Jan-{text} 00:00:00 GMT");
            parse(text.as_bytes(), now)
        };
        for (text, year) in [("99", 2099), ("01", 2101), ("49", 2149), ("50", 2050)] {
            assert_eq!(read(text), Some(days(year, 1, 1) * DAY), "{text}");
        }
        // 50 years ahead to the day, and a day more.
        let read = |day: &str| parse(format!("Monday, {day}-Jun-49 00:00:00 GMT").as_bytes(), now);
        assert_eq!(read("01"), Some(days(2149, 6, 1) * DAY));
        assert_eq!(read("02"), Some(days(2049, 6, 2) * DAY));
    }
}
