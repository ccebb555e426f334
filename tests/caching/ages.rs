//! How old is a response? RFC 9111 sections 4.2.3 and 5.1.

use super::*;

/// Its age on arrival, in seconds.
fn initial(fields: Fields<'_>, took: u64) -> u32 {
    let mut all = vec![("cache-control", "max-age=1000")];
    all.extend_from_slice(fields);
    got(&all).took(took).life().initial_age
}

/// RFC 9111 section 4.2.3: the greater of what Date shows and of Age with the time that the fetch took.
#[test]
fn age_is_the_greater_of_two_reckonings() {
    let ten_ago = date(-10);
    assert_eq!(initial(&[], 0), 0);
    assert_eq!(initial(&[("age", "7")], 0), 7);
    assert_eq!(initial(&[("date", &ten_ago)], 0), 10);
    assert_eq!(initial(&[("date", &ten_ago), ("age", "7")], 0), 10);
    assert_eq!(initial(&[("date", &ten_ago), ("age", "12")], 0), 12);
    assert_eq!(initial(&[("date", &ten_ago), ("age", "7")], 5), 12);
}

/// RFC 9111 section 4.2.3: response_delay: a slow fetch adds to what Age says.
#[test]
fn a_slow_fetch_ages_a_response() {
    assert_eq!(initial(&[], 30), 30);
    assert_eq!(initial(&[("age", "5")], 30), 35);
    assert_eq!(cc("max-age=10").took(30).fresh_for(), 0);
}

/// RFC 9111 section 4.2.3: a Date in the future makes nothing younger than nothing.
#[test]
fn a_date_in_the_future_counts_as_now() {
    let ahead = date(3600);
    assert_eq!(initial(&[("date", &ahead)], 0), 0);
    assert_eq!(initial(&[("date", &ahead), ("age", "3")], 1), 4);
}

/// RFC 9110 section 6.6.1: without a Date that can be read, the time of arrival.
#[test]
fn no_date_is_the_time_of_arrival() {
    for junk in ["", "0", "junk", "Fri, 15 Jan 2027"] {
        assert_eq!(initial(&[("date", junk), ("age", "3")], 0), 3, "{junk:?}");
    }
}

/// RFC 9111 section 5.1: what is no non-negative whole number says nothing.
#[test]
fn junk_in_age_says_nothing() {
    for junk in ["", "-5", "+5", "5.5", "5s", "x", "0x5", "5 5", "ten"] {
        assert_eq!(initial(&[("age", junk)], 0), 0, "{junk:?}");
    }
}

/// RFC 9111 section 5.1: of a list, and of several lines, the first counts.
#[test]
fn the_first_age_counts() {
    assert_eq!(initial(&[("age", "5, 100")], 0), 5);
    assert_eq!(initial(&[("age", "5"), ("age", "100")], 0), 5);
    assert_eq!(initial(&[("age", "x, 100")], 0), 0);
}

/// RFC 9111 section 1.2.2: what overflows is the greatest, and so stale.
#[test]
fn an_age_that_overflows_is_the_greatest() {
    for huge in [
        "2147483648",
        "4294967296",
        "18446744073709551616",
        "9999999999999999999999",
    ] {
        let said = got(&[("cache-control", "max-age=9999999999"), ("age", huge)]);
        assert_eq!(said.life().age(after(5)), 1 << 31, "{huge}");
        assert!(!said.is_fresh(0), "{huge}");
    }
}

/// RFC 9111 section 4.2.3: resident_time is added.
#[test]
fn age_grows_while_it_lies_here() {
    let life = got(&[("cache-control", "max-age=60"), ("age", "7")]).life();
    assert_eq!(life.age(after(0)), 7);
    assert_eq!(life.age(after(10)), 17);
    assert_eq!(life.age(Tick::ZERO), 7, "a moment before it came");
    let never = Life {
        initial_age: u32::MAX,
        ..life
    };
    assert_eq!(never.age(after(10)), 1 << 31);
    assert_eq!(life.ttl(after(53)), 0);
    assert_eq!(life.ttl(after(63)), -10);
}

/// RFC 9111 section 4.2.3: what came stale is stale at once.
#[test]
fn what_comes_too_old_is_stale_at_once() {
    let hour_ago = date(-3600);
    assert!(!got(&[("cache-control", "max-age=60"), ("age", "60")]).is_fresh(0));
    assert!(!got(&[("cache-control", "max-age=60"), ("date", &hour_ago)]).is_fresh(0));
    assert!(got(&[("cache-control", "max-age=60"), ("age", "59")]).is_fresh(0));
}

/// RFC 9111 section 4.2.3: only apparent_age is reckoned from dates. The machine's clock may be set an hour back or forward while
/// a response is fetched or lies here, and no age but that one steps with it.
#[test]
fn no_age_steps_with_the_date() {
    let stored = got(&[("cache-control", "max-age=60"), ("date", &date(0))]);
    for step in [0, 3600, -3600] {
        let wall = Wall::from_secs(NOW.checked_add_signed(step).expect("after the epoch"));
        let times = Times {
            requested: after(0),
            received: Moment {
                tick: after(2),
                wall,
            },
        };
        let (rules, wants) = (&stored.rules, stored.wants());
        let keep = policy::store(rules, &wants, 200, &stored.response, times);
        let life = keep.expect("it may be stored").life;
        assert_eq!(life.fetch_millis, 2000, "{step}");
        let apparent = u32::try_from(step.max(2)).expect("it is not negative");
        assert_eq!(life.age(after(2)), apparent, "{step}");
        assert_eq!(life.age(after(12)), apparent + 10, "{step}");
    }
}
