//! May a response be stored? RFC 9111 section 3 and the directives that forbid it.

use super::*;

/// RFC 9111 section 3: only a final status; 206 and 304 are no responses of their own.
#[test]
fn interim_partial_and_not_modified_are_not_stored() {
    for status in [100, 101, 103, 199, 304, 600, 999] {
        let said = cc("max-age=60").status(status);
        assert_eq!(said.refused(), Uncacheable::Status, "{status}");
    }
    assert_eq!(cc("max-age=60").status(206).refused(), Uncacheable::Partial);
}

/// RFC 9111 section 3: any final status may be stored when its freshness is explicit.
#[test]
fn any_final_status_with_explicit_freshness_is_stored() {
    for status in [
        200, 201, 202, 203, 204, 205, 226, 299, 300, 301, 302, 303, 307, 308, 399, 400, 401, 403,
        404, 405, 410, 414, 418, 451, 499, 500, 501, 503, 599,
    ] {
        assert_eq!(cc("max-age=60").status(status).fresh_for(), 60, "{status}");
    }
}

/// RFC 9110 sections 13 and 14: 412, 416 and 417 answer fields of one request that no key holds; others would get them as well.
#[test]
fn an_answer_to_one_requests_conditions_is_not_stored() {
    for status in [412, 416, 417] {
        let said = cc("public, max-age=60").status(status);
        assert_eq!(said.refused(), Uncacheable::Status, "{status}");
    }
}

/// RFC 9111 section 3: without explicit freshness, public or a status that may be guessed for, nothing allows to store.
#[test]
fn nothing_said_is_not_stored() {
    assert_eq!(got(&[]).refused(), Uncacheable::NoFreshness);
    assert_eq!(
        got(&[("etag", "\"a\"")]).refused(),
        Uncacheable::NoFreshness
    );
    assert_eq!(cc("must-revalidate").refused(), Uncacheable::NoFreshness);
    assert_eq!(cc("").refused(), Uncacheable::NoFreshness);
    assert_eq!(cc("public").refused(), Uncacheable::NoFreshness);
}

/// RFC 9111 section 3: no-cache alone is no permission; with a status that may be guessed for it is stored, to be validated.
#[test]
fn no_cache_alone_is_stored_only_for_a_heuristic_status() {
    assert!(cc("no-cache").life().no_cache);
    for status in [302, 307, 403, 500, 503] {
        let said = cc("no-cache").status(status);
        assert_eq!(said.refused(), Uncacheable::NoFreshness, "{status}");
        assert!(cc("no-cache, max-age=5").status(status).life().no_cache);
        assert!(cc("no-cache, public").status(status).life().no_cache);
    }
}

/// RFC 9111 section 5.2.2.5: no-store.
#[test]
fn no_store_is_not_stored() {
    for value in [
        "no-store",
        "max-age=60, no-store",
        "NO-STORE",
        "no-store=1",
        "no-store=\"x\"",
        "public, no-store, max-age=60",
    ] {
        assert_eq!(cc(value).refused(), Uncacheable::NoStore, "{value}");
    }
    let lines = got(&[
        ("cache-control", "max-age=60"),
        ("cache-control", "no-store"),
    ]);
    assert_eq!(lines.refused(), Uncacheable::NoStore);
}

/// RFC 9111 section 5.2.1.5: a request's no-store.
#[test]
fn a_requests_no_store_is_heeded() {
    let asked = cc("max-age=60").request(&[("cache-control", "no-store")]);
    assert_eq!(asked.refused(), Uncacheable::RequestNoStore);
}

/// RFC 9111 section 5.2.2.7: private without fields, and in every form that cannot be read.
#[test]
fn private_is_not_stored() {
    for value in [
        "private",
        "Private, max-age=60",
        "private=\"\", max-age=60",
        "private=\" , \", max-age=60",
        "private=\"a b\", max-age=60",
        "private=\"*\", max-age=60",
        "private=, max-age=60",
        "private=true, max-age=60",
        "private=1, max-age=60",
        "private=x-token, max-age=60",
        "private=\"x-a\", private, max-age=60",
        "private, private=\"x-a\", max-age=60",
        "public, private, max-age=60",
        "private=\"x-a, max-age=60",
    ] {
        assert_eq!(cc(value).refused(), Uncacheable::Private, "{value}");
    }
}

/// RFC 9111 section 5.2.2.7: private with fields: the rest may be stored without them.
#[test]
fn private_fields_are_left_out() {
    let said = got(&[
        (
            "cache-control",
            "max-age=60, private=\"X-User, set-cookie\"",
        ),
        ("x-user", "ada"),
        ("x-user", "bob"),
        ("set-cookie", "a=b"),
        ("x-kept", "1"),
    ]);
    let stored = said.stored("");
    assert_eq!(stored.head.get("x-user"), None);
    assert_eq!(stored.head.get("set-cookie"), None);
    assert_eq!(stored.head.get("x-kept"), Some(&b"1"[..]));
    assert!(said.is_fresh(59));
}

/// RFC 9111 section 5.2.2.4: no-cache with fields: these are never used unvalidated, and so not kept.
#[test]
fn no_cache_fields_are_left_out() {
    let said = got(&[
        (
            "cache-control",
            "max-age=60, no-cache=\"x-user\", no-cache=\"x-more\"",
        ),
        ("x-user", "ada"),
        ("x-more", "1"),
    ]);
    let stored = said.stored("");
    assert_eq!(stored.head.get("x-user"), None);
    assert_eq!(stored.head.get("x-more"), None);
    assert!(said.is_fresh(59));
}

/// RFC 9111 section 5.2.2.4: no-cache in every form that cannot be read holds for the whole.
#[test]
fn unreadable_no_cache_is_validated_each_time() {
    for value in [
        "no-cache, max-age=60",
        "no-cache=\"\", max-age=60",
        "no-cache=x-a, max-age=60",
        "no-cache=\"*\", max-age=60",
        "no-cache=\"a b\", max-age=60",
        "no-cache=\"x-a, max-age=60",
    ] {
        let said = cc(value);
        assert_eq!(said.reuse("", 0), Reuse::Validate, "{value}");
        assert_eq!(said.reuse("max-stale", 0), Reuse::Validate, "{value}");
    }
}

/// RFC 9111 section 3.2: a stored response is judged again when it is validated. Without the fields that the judgement depends on
/// it would be another one, so that a qualified directive that names them holds for the whole.
#[test]
fn fields_that_a_cache_depends_on_cannot_be_left_out() {
    for name in [
        "vary",
        "cache-control",
        "cdn-cache-control",
        "weirkeeper-cache-control",
        "expires",
        "date",
        "etag",
        "last-modified",
        "content-encoding",
        "content-type",
    ] {
        let private = cc(&format!("max-age=60, private=\"x-a, {name}\""));
        assert_eq!(private.refused(), Uncacheable::Private, "{name}");
        let no_cache = cc(&format!("max-age=60, no-cache=\"{name}\""));
        assert!(no_cache.life().no_cache, "{name}");
    }
}

/// RFC 9111 section 5.2.2.3: must-understand lifts no-store where the status is understood, and forbids where it is not.
#[test]
fn must_understand_lifts_no_store_for_known_statuses() {
    let said = cc("must-understand, no-store, max-age=60");
    assert_eq!(said.fresh_for(), 60);
    assert_eq!(said.clone().status(404).fresh_for(), 60);
    for status in [218, 299, 418, 499, 599] {
        let unknown = said.clone().status(status);
        assert_eq!(unknown.refused(), Uncacheable::MustUnderstand, "{status}");
    }
    let alone = cc("must-understand, max-age=60").status(599);
    assert_eq!(alone.refused(), Uncacheable::MustUnderstand);
    let private = cc("must-understand, no-store, private, max-age=60");
    assert_eq!(private.refused(), Uncacheable::Private);
}

/// RFC 9111 section 5.2.2.3: it has no argument; one that has does not lift no-store.
#[test]
fn must_understand_with_an_argument_lifts_nothing() {
    for value in ["must-understand=0", "must-understand=\"x\""] {
        let said = cc(&format!("{value}, no-store, max-age=60"));
        assert_eq!(said.refused(), Uncacheable::NoStore, "{value}");
    }
}

/// RFC 9111 section 3.5: Authorization, lifted by public, must-revalidate and s-maxage alone.
#[test]
fn an_authorized_response_needs_a_word_to_be_shared() {
    let asked = |value: &str| cc(value).request(&[("authorization", "Basic YTpi")]);
    for value in [
        "max-age=60",
        "max-age=60, proxy-revalidate",
        "max-age=60, no-cache",
        "max-age=60, immutable",
        "max-age=60, stale-if-error=5",
    ] {
        let refused = asked(value).refused();
        assert_eq!(refused, Uncacheable::Authorization, "{value}");
    }
    for value in [
        "max-age=60, public",
        "max-age=60, must-revalidate",
        "s-maxage=60",
        "max-age=60, s-maxage=0",
    ] {
        assert!(asked(value).store().is_ok(), "{value}");
    }
}

/// RFC 9111 section 3.5: what lifts it must be readable; junk would share what is one user's.
#[test]
fn junk_does_not_lift_authorization() {
    for value in [
        "max-age=60, s-maxage",
        "max-age=60, s-maxage=junk",
        "max-age=60, s-maxage=-1",
        "max-age=60, public=x",
        "max-age=60, must-revalidate=no",
        "max-age=60, \"public\"",
    ] {
        let asked = cc(value).request(&[("authorization", "Basic YTpi")]);
        assert_eq!(asked.refused(), Uncacheable::Authorization, "{value}");
    }
}

/// RFC 9111 section 7.3 leaves cookies to caches: what sets one is somebody's, unless that field is not shared.
#[test]
fn what_sets_a_cookie_is_not_stored() {
    for value in [
        "max-age=60",
        "public, max-age=60",
        "s-maxage=60",
        "public, immutable",
    ] {
        let said = got(&[("cache-control", value), ("set-cookie", "a=b")]);
        assert_eq!(said.refused(), Uncacheable::SetCookie, "{value}");
    }
    for value in ["no-cache=\"Set-Cookie\"", "private=\"set-cookie\""] {
        let value = format!("max-age=60, {value}");
        let said = got(&[("cache-control", &value), ("set-cookie", "a=b")]);
        assert_eq!(said.stored("").head.get("set-cookie"), None);
    }
}

/// RFC 9111 section 4.2.2 allows a guess; not about what was made for a request that names its user.
#[test]
fn no_guess_for_a_request_with_cookies() {
    let guess = |r: &mut Rules| r.default_ttl = Some(Duration::from_secs(1800));
    assert_eq!(got(&[]).rules(guess).fresh_for(), 1800);
    let with_cookie = got(&[]).rules(guess).request(&[("cookie", "id=1")]);
    assert_eq!(with_cookie.refused(), Uncacheable::Cookie);
    let explicit = cc("max-age=60").rules(guess).request(&[("cookie", "id=1")]);
    assert_eq!(explicit.fresh_for(), 60);
}

/// RFC 9111 section 3.1: what belongs to one connection or is said anew each time is not stored.
#[test]
fn some_fields_are_never_stored() {
    let said = got(&[
        ("cache-control", "max-age=60"),
        ("connection", "keep-alive"),
        ("keep-alive", "timeout=5"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authentication-info", "a=b"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("trailer", "x-sum"),
        ("age", "5"),
        ("content-length", "0"),
        ("content-range", "bytes 0-1/2"),
        ("cache-status", "Origin; hit"),
        ("content-type", "text/plain"),
    ]);
    let names = |head: &Head| {
        let names = head.lines().map(|(name, _)| String::from_utf8_lossy(name));
        names.map(|name| name.into_owned()).collect::<Vec<_>>()
    };
    // What caches before this one have said stays (RFC 9211 section 2), and so does a range that a whole has (RFC 9110 section
    // 14.4: it means nothing there).
    let whole = [
        "cache-control",
        "content-range",
        "cache-status",
        "content-type",
        "date",
    ];
    assert_eq!(names(&said.stored("").head), whole);
    let keep = said.keep();
    let part = policy::head_of_part(&said.response, &keep, then(0).wall);
    let part_of_whole: Vec<_> = whole
        .into_iter()
        .filter(|n| *n != "content-range")
        .collect();
    assert_eq!(names(&part), part_of_whole);
}

/// RFC 9110 section 6.6.1: a response without a date that can be read gets that of its arrival.
#[test]
fn a_missing_or_unreadable_date_is_the_time_of_arrival() {
    for fields in [
        &[("cache-control", "max-age=60")][..],
        &[("cache-control", "max-age=60"), ("date", "junk")],
    ] {
        let stored = got(fields).stored("");
        let dates: Vec<_> = stored.head.lines().filter(|(n, _)| *n == b"date").collect();
        assert_eq!(dates, [(&b"date"[..], date(0).as_bytes())]);
    }
    let yesterday = date(-86_400);
    let said = got(&[("cache-control", "max-age=90000"), ("date", &yesterday)]);
    assert_eq!(said.stored("").head.get("date"), Some(yesterday.as_bytes()));
}

/// RFC 9111 section 3: only GET and HEAD meet the cache, and what the config says does not.
#[test]
fn other_methods_and_what_the_config_names_go_past() {
    use weirkeeper::cache::status::Forward;
    let rules = Rules {
        bypass_methods: vec![Method::HEAD],
        bypass_paths: vec!["/live".to_owned()],
        bypass_headers: vec!["x-debug".parse().unwrap()],
        bypass_cookies: vec!["session".to_owned()],
        ..Rules::default()
    };
    let ask = |method: Method, path: &str, fields: Fields<'_>| match policy::ask(
        &rules,
        &method,
        path,
        &map(fields),
    ) {
        Ask::Bypass(why) => Some(why),
        Ask::Use(_) => None,
    };
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ] {
        assert_eq!(ask(method, "/", &[]), Some(Forward::Method));
    }
    assert_eq!(ask(Method::GET, "/", &[]), None);
    assert_eq!(ask(Method::HEAD, "/", &[]), Some(Forward::Bypass));
    assert_eq!(ask(Method::GET, "/live/x", &[]), Some(Forward::Bypass));
    assert_eq!(
        ask(Method::GET, "/x", &[("x-debug", "")]),
        Some(Forward::Bypass)
    );
    let cookies = |value| ask(Method::GET, "/", &[("cookie", value)]);
    assert_eq!(cookies("a=b; session=1"), Some(Forward::Bypass));
    assert_eq!(cookies("a=b;session"), Some(Forward::Bypass));
    assert_eq!(cookies("sessions=1; a=session"), None);
}
