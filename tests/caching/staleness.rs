//! Stale on purpose: RFC 5861, soft purges, and refreshing early.

use super::*;

const WHILE: fn(u32) -> Reuse = |age| Reuse::WhileRevalidate { age };

/// RFC 5861 section 3: stale-while-revalidate, for so many seconds past freshness and no more.
#[test]
fn stale_while_revalidate_is_bounded() {
    let said = cc("max-age=60, stale-while-revalidate=30");
    assert_eq!(said.reuse("", 59), Reuse::Fresh { age: 59 });
    assert_eq!(said.reuse("", 60), WHILE(60));
    assert_eq!(said.reuse("", 89), WHILE(89));
    assert_eq!(said.reuse("", 90), Reuse::Validate);
    assert_eq!(
        cc("max-age=60, stale-while-revalidate=x").reuse("", 60),
        Reuse::Validate
    );
    assert_eq!(
        cc("max-age=60, stale-while-revalidate").reuse("", 60),
        Reuse::Validate
    );
}

/// RFC 9111 section 4.2.4: what forbids stale use forbids this as well, though both are said.
#[test]
fn stale_while_revalidate_yields_to_what_forbids_it() {
    for value in [
        "max-age=60, stale-while-revalidate=30, must-revalidate",
        "max-age=60, stale-while-revalidate=30, proxy-revalidate",
        "s-maxage=60, stale-while-revalidate=30",
        "max-age=60, stale-while-revalidate=30, no-cache",
    ] {
        assert_eq!(cc(value).reuse("", 60), Reuse::Validate, "{value}");
        let life = cc(value).life();
        assert_eq!(
            policy::on_error(&life, &Wants::default(), after(60)),
            None,
            "{value}"
        );
    }
}

/// RFC 9111 section 5.2.1.1: who names an age, or a freshness, is not given a stale one.
#[test]
fn a_choosy_client_is_not_given_a_stale_one() {
    let said = cc("max-age=60, stale-while-revalidate=30");
    for asked in ["max-age=100", "min-fresh=1", "no-cache", "max-age=0"] {
        assert_eq!(said.reuse(asked, 70), Reuse::Validate, "{asked}");
    }
    assert_eq!(said.reuse("max-stale=20", 70), Reuse::Stale { age: 70 });
}

/// RFC 5861 sections 3 and 4: the config's defaults count where a response says nothing of its own.
#[test]
fn configured_staleness_is_a_default() {
    let rules = |r: &mut Rules| {
        r.stale_while_revalidate = Duration::from_secs(10);
        r.stale_if_error = Duration::from_secs(20);
    };
    let none = Wants::default();
    let plain = cc("max-age=60").rules(rules);
    assert_eq!(plain.reuse("", 69), WHILE(69));
    assert_eq!(plain.reuse("", 70), Reuse::Validate);
    assert_eq!(policy::on_error(&plain.life(), &none, after(79)), Some(79));
    assert_eq!(policy::on_error(&plain.life(), &none, after(80)), None);
    let own = cc("max-age=60, stale-while-revalidate=0, stale-if-error=0").rules(rules);
    assert_eq!(own.reuse("", 60), Reuse::Validate);
    assert_eq!(policy::on_error(&own.life(), &none, after(60)), None);
    let strict = cc("max-age=60, must-revalidate").rules(rules);
    assert_eq!(strict.reuse("", 60), Reuse::Validate);
    assert_eq!(policy::on_error(&strict.life(), &none, after(60)), None);
}

/// RFC 5861 section 4: stale-if-error, said by the response or by the request.
#[test]
fn stale_if_error_is_said_by_either_side() {
    let on_error = |said: &str, asked: &str, secs| {
        let wants = wants(&[("cache-control", asked)]);
        policy::on_error(&cc(said).life(), &wants, after(secs))
    };
    assert_eq!(on_error("max-age=60, stale-if-error=30", "", 89), Some(89));
    assert_eq!(on_error("max-age=60, stale-if-error=30", "", 90), None);
    assert_eq!(on_error("max-age=60", "stale-if-error=30", 89), Some(89));
    assert_eq!(on_error("max-age=60", "stale-if-error=30", 90), None);
    assert_eq!(on_error("max-age=60", "stale-if-error=x", 60), None);
    assert_eq!(on_error("max-age=60", "", 60), None);
    // The client's other bounds hold.
    assert_eq!(
        on_error("max-age=60, stale-if-error=30", "no-cache", 70),
        None
    );
    assert_eq!(
        on_error("max-age=60, stale-if-error=30", "max-age=65", 70),
        None
    );
    assert_eq!(
        on_error("max-age=60, stale-if-error=30", "max-age=70", 70),
        Some(70)
    );
    // Neither overrules what forbids it.
    assert_eq!(
        on_error("max-age=60, must-revalidate", "stale-if-error=30", 70),
        None
    );
    assert_eq!(on_error("s-maxage=60, stale-if-error=30", "", 70), None);
}

/// RFC 5861 section 4: an error is 500, 502, 503 or 504.
#[test]
fn four_statuses_are_errors() {
    let errors: Vec<u16> = (0..1000).filter(|s| policy::is_error(*s)).collect();
    assert_eq!(errors, [500, 502, 503, 504]);
}

/// A soft purge ends freshness, and leaves what is allowed of stale use.
#[test]
fn what_was_purged_softly_is_stale() {
    let reuse = |said: &str, asked: &str| {
        let wants = wants(&[("cache-control", asked)]);
        policy::reuse(&cc(said).life(), true, &wants, after(5))
    };
    assert_eq!(reuse("max-age=60", ""), Reuse::Validate);
    assert_eq!(reuse("max-age=60, stale-while-revalidate=30", ""), WHILE(5));
    assert_eq!(
        reuse("max-age=60, stale-while-revalidate=30, must-revalidate", ""),
        Reuse::Validate
    );
    assert_eq!(
        reuse("max-age=60, stale-while-revalidate=30", "no-cache"),
        Reuse::Validate
    );
    // Nobody knows for how long it has been stale.
    assert_eq!(reuse("max-age=60", "max-stale"), Reuse::Validate);
}

/// XFetch (Vattani and others, 2015): the closer the end and the longer a fetch takes, the likelier.
#[test]
fn an_early_refresh_comes_before_the_end() {
    let life = Life {
        received: after(0),
        lifetime: 60,
        fetch_millis: 1000,
        ..Life::default()
    };
    // A draw of 1 never goes ahead; 1/e goes ahead by one fetch.
    assert!(!policy::early(&life, after(59), 1.0, 1.0));
    assert!(policy::early(&life, after(60), 1.0, 1.0));
    let e = (-1.0_f64).exp();
    assert!(policy::early(&life, after(59), e, 1.0));
    assert!(!policy::early(&life, after(58), e, 1.0));
    assert!(policy::early(&life, after(58), e, 2.0));
    // A draw that cannot be goes ahead by no more than is finite, and does not panic.
    for unit in [0.0, -1.0, f64::NAN] {
        assert!(policy::early(&life, after(59), unit, 1.0));
    }
    let quick = Life {
        fetch_millis: 0,
        ..life
    };
    assert!(!policy::early(&quick, after(59), f64::MIN_POSITIVE, 1.0));
}
