//! How long is a response fresh? RFC 9111 sections 4.2.1, 4.2.2 and 5.3.

use super::*;

const GUESSING: fn(&mut Rules) = |r| r.heuristic = true;

/// RFC 9111 section 4.2.1: s-maxage before max-age before Expires before a guess.
#[test]
fn the_sources_of_freshness_have_an_order() {
    let (expires, modified) = (date(30), date(-1000));
    let all = [
        ("cache-control", "s-maxage=10"),
        ("cache-control", "max-age=20"),
        ("expires", expires.as_str()),
        ("last-modified", modified.as_str()),
    ];
    for (from, lifetime) in [(0, 10), (1, 20), (2, 30), (3, 100)] {
        let said = got(&all[from..]).rules(GUESSING);
        assert_eq!(said.fresh_for(), lifetime);
        assert_eq!(said.life().explicit, from < 3);
    }
}

/// RFC 9111 section 4.2: fresh while the lifetime is greater than the age, and no longer.
#[test]
fn freshness_ends_when_age_reaches_it() {
    let said = cc("max-age=60");
    assert_eq!(said.reuse("", 0), Reuse::Fresh { age: 0 });
    assert_eq!(said.reuse("", 59), Reuse::Fresh { age: 59 });
    assert_eq!(said.reuse("", 60), Reuse::Validate);
    assert!(!cc("max-age=0").is_fresh(0));
}

/// RFC 9111 section 5.3: Expires counts from Date, not from the arrival.
#[test]
fn expires_counts_from_date() {
    let life = |date_at, expires_at| {
        let (date, expires) = (date(date_at), date(expires_at));
        got(&[("date", &date), ("expires", &expires)]).life()
    };
    assert_eq!(life(0, 60).lifetime, 60);
    assert_eq!(life(-20, 60).lifetime, 80);
    assert_eq!(life(-20, 60).ttl(after(0)), 60);
    assert_eq!(life(500, 560).lifetime, 60);
    assert_eq!(life(0, 0).lifetime, 0);
    assert_eq!(life(0, -60).lifetime, 0);
}

/// RFC 9111 section 5.3: what is no date, "0" before all, is in the past.
#[test]
fn junk_in_expires_is_the_past() {
    for value in [
        "0",
        "-1",
        "",
        "never",
        "60",
        "Fri, 15 Jan 2027 09:00:00",
        "Fri, 32 Jan 2027 09:00:00 GMT",
        "Fri, 30 Feb 2027 09:00:00 GMT",
        "Fri, 15 Jan 2027 24:00:00 GMT",
        "Fri, 15 Jan 2027 09:60:00 GMT",
        "15 Jan 2027 09:00:00 GMT",
    ] {
        let said =
            got(&[("expires", value)]).rules(|r| r.default_ttl = Some(Duration::from_secs(99)));
        assert_eq!(said.fresh_for(), 0, "{value:?}");
        assert!(said.life().explicit);
    }
}

/// RFC 9111 section 4.2: a zone other than GMT makes a date invalid, rather than shift it.
#[test]
fn dates_in_other_zones_are_invalid() {
    for zone in ["PST", "CET", "+0100", "+0000", "UTC", "Z"] {
        let expires = date(3600).replace("GMT", zone);
        assert_eq!(got(&[("expires", &expires)]).fresh_for(), 0, "{zone}");
    }
}

/// RFC 9110 section 5.6.7: all three forms of a date.
#[test]
fn expires_in_all_three_forms() {
    for value in [
        "Fri, 15 Jan 2027 08:01:00 GMT",
        "Friday, 15-Jan-27 08:01:00 GMT",
        "Fri Jan 15 08:01:00 2027",
    ] {
        assert_eq!(got(&[("expires", value)]).fresh_for(), 60, "{value}");
    }
    // One digit of day has a blank before it.
    let said = got(&[
        ("expires", "Sat Jan 16 08:00:00 2027"),
        ("date", "Sat Jan  9 08:00:00 2027"),
    ]);
    assert_eq!(said.life().lifetime, 7 * 86_400);
}

/// RFC 9110 section 5.6.7: recipients are encouraged to be robust. Old servers mix the forms, and write a day of one digit as
/// RFC 822 and RFC 1123 have let them; the moment is certain all the same.
#[test]
fn expires_as_old_servers_write_it() {
    for value in [
        "Fri, 15-Jan-2027 08:01:00 GMT",
        "Friday, 15-Jan-2027 08:01:00 GMT",
        "Fri, 15-Jan-27 08:01:00 GMT",
        "Fri, 15 Jan 27 08:01:00 GMT",
    ] {
        assert_eq!(got(&[("expires", value)]).fresh_for(), 60, "{value}");
    }
    for day in ["9 Jan 2027", "9-Jan-2027", "9-Jan-27", "9 Jan 27"] {
        let (date, expires) = (
            format!("Sat, {day} 08:00:00 GMT"),
            "Sat, 16 Jan 2027 08:00:00 GMT",
        );
        let said = got(&[("expires", expires), ("date", &date)]);
        assert_eq!(said.life().lifetime, 7 * 86_400, "{day}");
    }
    for value in [
        "Fri, 015 Jan 2027 08:01:00 GMT",
        "Fri,  Jan 2027 08:01:00 GMT",
        "Fri, 15-Jan 2027 08:01:00 GMT",
        "Fri, 15 Jan 027 08:01:00 GMT",
    ] {
        assert_eq!(got(&[("expires", value)]).fresh_for(), 0, "{value}");
    }
}

/// RFC 9111 section 4.2: caches match dates without regard to case.
#[test]
fn dates_are_matched_without_regard_to_case() {
    for value in [
        "fri, 15 jan 2027 08:01:00 gmt",
        "FRIDAY, 15-JAN-27 08:01:00 GMT",
        "fri jan 15 08:01:00 2027",
    ] {
        assert_eq!(got(&[("expires", value)]).fresh_for(), 60, "{value}");
    }
}

/// RFC 9110 section 5.6.7: a two-digit year that seems more than 50 years ahead is the latest past one with these digits.
#[test]
fn two_digits_of_a_year_lie_within_fifty_years() {
    let lifetime = |year: &str| {
        // Without regard to the day of the week, which follows from the date.
        let expires = format!("Friday, 15-Jan-{year} 08:00:00 GMT");
        got(&[("expires", &expires)]).life().lifetime
    };
    let years = |n: u32| n * 365 * 86_400;
    assert!(lifetime("28") >= years(1));
    assert!(lifetime("70") >= years(43), "2070 is 43 years ahead");
    assert!(lifetime("76") >= years(49), "2076 is 49 years ahead");
    assert!(
        lifetime("77") >= years(50),
        "2077 is 50 years ahead and not more"
    );
    assert_eq!(lifetime("78"), 0, "1978");
    assert_eq!(lifetime("94"), 0, "1994");
    assert_eq!(lifetime("26"), 0, "2026");
}

/// RFC 9111 section 4.2.1: of several Expires the response may be taken for stale.
#[test]
fn two_lines_of_expires_are_stale() {
    let (a, b) = (date(60), date(60));
    assert_eq!(got(&[("expires", &a), ("expires", &b)]).fresh_for(), 0);
}

/// RFC 9111 section 4.2.1: of several max-age no later one may prolong the first; the least is taken.
#[test]
fn of_several_lifetimes_the_least_holds() {
    for (value, lifetime) in [
        ("max-age=60, max-age=10", 10),
        ("max-age=10, max-age=60", 10),
        ("max-age=60, max-age=junk", 0),
        ("max-age=junk, max-age=60", 0),
        ("s-maxage=60, s-maxage=10, max-age=5", 10),
        ("max-age=60, max-age=60", 60),
    ] {
        assert_eq!(cc(value).fresh_for(), lifetime, "{value}");
    }
}

/// RFC 9111 section 4.2.1: a lifetime that is no number is encouraged to be taken for stale, whatever else is said.
#[test]
fn an_unreadable_lifetime_is_none() {
    let expires = date(600);
    for value in [
        "max-age",
        "max-age=",
        "max-age=\"\"",
        "max-age=-1",
        "max-age=+60",
        "max-age=6e1",
        "max-age=60.0",
        "max-age=0x3c",
        "max-age='60'",
        "max-age=60s",
        "max-age=1 000",
        "max-age=sixty",
    ] {
        let said = got(&[("cache-control", value), ("expires", &expires)]);
        assert_eq!(said.fresh_for(), 0, "{value}");
    }
}

/// RFC 9111 section 1.2.2: what is too large is the greatest; nothing wraps around.
#[test]
fn huge_lifetimes_are_capped() {
    for digits in [
        "2147483648",
        "4294967296",
        "4294967297",
        "99999999999999999999999999",
    ] {
        let said = cc(&format!("max-age={digits}"));
        assert_eq!(said.life().lifetime, 1 << 31, "{digits}");
    }
    assert_eq!(cc("max-age=2147483647").life().lifetime, (1 << 31) - 1);
    assert_eq!(cc("max-age=0000000000000000000060").life().lifetime, 60);
}

/// RFC 9111 section 5.2.2.1: max-age overrides Expires, also one in the past.
#[test]
fn max_age_overrides_expires() {
    assert_eq!(
        got(&[("cache-control", "max-age=60"), ("expires", "0")]).fresh_for(),
        60
    );
    let expires = date(60);
    assert_eq!(
        got(&[("cache-control", "max-age=0"), ("expires", &expires)]).fresh_for(),
        0
    );
}

/// RFC 9111 section 5.4: Pragma in a response has no meaning.
#[test]
fn pragma_in_a_response_says_nothing() {
    assert_eq!(
        got(&[("cache-control", "max-age=60"), ("pragma", "no-cache")]).fresh_for(),
        60
    );
    let expires = date(60);
    assert_eq!(
        got(&[("expires", &expires), ("pragma", "no-cache")]).fresh_for(),
        60
    );
}

/// RFC 9111 section 4.2.2: a tenth of the time since the last change, a day at most, and only where that is configured.
#[test]
fn a_guess_is_a_tenth_and_a_day_at_most() {
    let fresh_for = |secs: i64| {
        let modified = date(-secs);
        got(&[("last-modified", &modified)])
            .rules(GUESSING)
            .fresh_for()
    };
    assert_eq!(fresh_for(1000), 100);
    assert_eq!(fresh_for(9), 0);
    assert_eq!(fresh_for(864_000), 86_400);
    assert_eq!(fresh_for(8_640_000), 86_400);
    let modified = date(-1000);
    assert_eq!(
        got(&[("last-modified", &modified)]).refused(),
        Uncacheable::NoFreshness
    );
    // A change yet to come tells nothing.
    let modified = date(1000);
    let said = got(&[("last-modified", &modified)]).rules(GUESSING);
    assert_eq!(said.refused(), Uncacheable::NoFreshness);
}

/// RFC 9110 section 15.1: only some statuses may be guessed for; RFC 9111 section 4.2.2 adds what says public. Of them 405,
/// 414 and 501 are left out: one odd request would be answered to everybody.
#[test]
fn a_guess_is_only_made_for_some_statuses() {
    let modified = date(-1000);
    for status in 200..600_u16 {
        if matches!(status, 206 | 304 | 412 | 416 | 417) {
            continue;
        }
        let heuristic = [200, 203, 204, 300, 301, 308, 404, 410].contains(&status);
        let said = got(&[("last-modified", &modified)])
            .status(status)
            .rules(GUESSING);
        assert_eq!(said.store().is_ok(), heuristic, "{status}");
        let public = got(&[("last-modified", &modified), ("cache-control", "public")]);
        assert_eq!(
            public.status(status).rules(GUESSING).fresh_for(),
            100,
            "{status}"
        );
    }
}

/// RFC 9111 section 4.2.2: no guess where something explicit is said, not even what cannot be read.
#[test]
fn no_guess_beside_something_explicit() {
    let modified = date(-1000);
    for (name, value) in [
        ("cache-control", "max-age=0"),
        ("cache-control", "max-age=x"),
        ("expires", "0"),
    ] {
        let said = got(&[("last-modified", &modified), (name, value)]).rules(GUESSING);
        assert_eq!(said.fresh_for(), 0, "{name}: {value}");
    }
}

/// RFC 9111 section 4.2.2: a configured default is a guess as well: for the same statuses, and where nothing is said.
#[test]
fn the_configured_default_is_a_guess() {
    let default = |r: &mut Rules| r.default_ttl = Some(Duration::from_secs(1800));
    let said = got(&[]).rules(default);
    assert_eq!(said.fresh_for(), 1800);
    assert!(!said.life().explicit);
    assert_eq!(got(&[]).status(404).rules(default).fresh_for(), 1800);
    for status in [302, 403, 500, 502, 503] {
        let said = got(&[]).status(status).rules(default);
        assert_eq!(said.refused(), Uncacheable::NoFreshness, "{status}");
    }
    assert_eq!(cc("max-age=5").rules(default).fresh_for(), 5);
    assert_eq!(cc("private").rules(default).refused(), Uncacheable::Private);
    assert!(cc("no-cache").rules(default).life().no_cache);
}

/// A configured ttl replaces what a storable response says, and makes none storable: no error page, and nothing private.
#[test]
fn the_configured_ttl_replaces_lifetimes_alone() {
    let ttl = |r: &mut Rules| r.ttl = Some(Duration::from_secs(300));
    for said in [
        cc("max-age=5"),
        cc("s-maxage=9999"),
        got(&[]),
        got(&[("expires", "0")]),
    ] {
        assert_eq!(said.rules(ttl).fresh_for(), 300);
    }
    assert_eq!(cc("max-age=5").status(503).rules(ttl).fresh_for(), 300);
    for status in [302, 403, 500, 502, 503] {
        let said = got(&[]).status(status).rules(ttl);
        assert_eq!(said.refused(), Uncacheable::NoFreshness, "{status}");
    }
    assert_eq!(
        cc("private, max-age=5").rules(ttl).refused(),
        Uncacheable::Private
    );
    assert_eq!(cc("no-store").rules(ttl).refused(), Uncacheable::NoStore);
    assert!(cc("no-cache").rules(ttl).life().no_cache);
    let authorized = cc("max-age=5").request(&[("authorization", "x")]);
    assert_eq!(authorized.rules(ttl).refused(), Uncacheable::Authorization);
}

/// RFC 8246: immutable speaks of reloads by clients; it prolongs nothing here.
#[test]
fn immutable_prolongs_nothing() {
    assert_eq!(cc("immutable").refused(), Uncacheable::NoFreshness);
    assert_eq!(cc("max-age=60, immutable").fresh_for(), 60);
    assert_eq!(
        cc("max-age=60, immutable").reuse("no-cache", 0),
        Reuse::Validate
    );
}
