//! The frozen list of differences between our policy and http-cache-semantics 3.0: what makes them differ, which sentence
//! decides it for ours, and an example. The crate follows RFC 7234, which RFC 9111 replaced.

use super::predicates::*;
use super::*;

/// One kind of difference.
pub(super) struct Class {
    pub(super) name: &'static str,
    pub(super) aspect: Aspect,
    /// What decides it.
    pub(super) because: &'static str,
    /// Does the input have what makes them differ?
    pub(super) applies: fn(&Case) -> bool,
    pub(super) example: fn() -> Case,
}

const EN: Fields<'_> = &[("accept-language", "de, en")];

pub(super) const CLASSES: &[Class] = &[
    Class {
        name: "a status that they do not know",
        aspect: Aspect::Store,
        because: "RFC 9111 section 3: the response status code is final, and explicit freshness is enough",
        applies: |c| !THEIR_STATUSES.contains(&c.status),
        example: || Case::got(&[("cache-control", "max-age=60")]).status(403),
    },
    Class {
        name: "nothing to guess from",
        aspect: Aspect::Store,
        because: "RFC 9111 section 3: a cache need not store; without freshness or a change to guess from it is never fresh",
        applies: nothing_to_guess_from,
        example: || Case::got(&[("etag", "\"a\"")]),
    },
    Class {
        name: "Set-Cookie",
        aspect: Aspect::Store,
        because: "RFC 9111 section 7.3: Set-Cookie does not inhibit caching; to be strict with it is left to caches",
        applies: |c| has(&c.response, "set-cookie"),
        example: || Case::got(&[("cache-control", "max-age=60"), ("set-cookie", "a=b")]),
    },
    Class {
        name: "Vary: *",
        aspect: Aspect::Store,
        because: "RFC 9111 section 4.1: a stored response with a Vary of * always fails to match, so that storing it is in vain",
        applies: |c| text(&c.response, "vary").contains('*'),
        example: || Case::got(&[("cache-control", "max-age=60"), ("vary", "*")]),
    },
    Class {
        name: "private with fields",
        aspect: Aspect::Store,
        because: "RFC 9111 section 5.2.2.7: the qualified form forbids to store the listed fields, not the rest",
        applies: |c| says_any(c, "private=\""),
        example: || Case::got(&[("cache-control", "max-age=60, private=\"x-a\"")]),
    },
    Class {
        name: "upper case",
        aspect: Aspect::Store,
        because: "RFC 9111 section 5.2: cache directives are identified by a token, to be compared case-insensitively",
        applies: |c| has_upper_case(&c.response),
        example: || Case::got(&[("cache-control", "max-age=60, NO-STORE")]),
    },
    Class {
        name: "a comma inside quotes",
        aspect: Aspect::Store,
        because: "RFC 9110 section 5.6.4: a quoted string is one value, whatever it holds",
        applies: |c| says_any(c, "ext=\"a") && says(c, "no-store"),
        example: || Case::got(&[("cache-control", "max-age=60, ext=\"a, no-store, b\"")]),
    },
    Class {
        name: "no-store in quotes",
        aspect: Aspect::Store,
        because: "RFC 9111 section 4.2.1: of junk the most restrictive reading is honoured",
        applies: |c| says(c, "\"no-store\""),
        example: || Case::got(&[("cache-control", "max-age=60, \"no-store\"")]),
    },
    Class {
        name: "must-understand beside no-store",
        aspect: Aspect::Store,
        because: "RFC 9111 section 5.2.2.3: a cache that understands the status ignores the no-store beside must-understand",
        applies: |c| says(c, "must-understand") && says(c, "no-store"),
        example: || Case::got(&[("cache-control", "max-age=60, must-understand, no-store")]),
    },
    Class {
        name: "a guess for a request with a user",
        aspect: Aspect::Store,
        because: "RFC 9111 section 4.2.2: a cache may guess, and need not where the request names its user",
        applies: |c| is_guess(c) && (has(&c.request, "cookie") || has(&c.request, "authorization")),
        example: || {
            let modified = date(-1000);
            Case::got(&[("last-modified", &modified)]).request(&[("cookie", "a=b")])
        },
    },
    Class {
        name: "junk lifts Authorization",
        aspect: Aspect::Store,
        because: "RFC 9111 section 3.5: s-maxage lifts it; what is no s-maxage that can be read is none",
        applies: |c| has(&c.request, "authorization") && says(c, "s-maxage=junk"),
        example: || {
            Case::got(&[("cache-control", "s-maxage=junk")]).request(&[("authorization", "x")])
        },
    },
    Class {
        name: "a conflict lifts Authorization",
        aspect: Aspect::Store,
        because: "RFC 9111 section 3.5: must-revalidate lifts it where it is said; the crate adds it by itself to what conflicts",
        applies: |c| {
            has(&c.request, "authorization")
                && is_conflicting(&c.response)
                && !says(c, "s-maxage=junk")
        },
        example: || {
            Case::got(&[("cache-control", "max-age=60, max-age=10")])
                .request(&[("authorization", "x")])
        },
    },
    Class {
        name: "a targeted field",
        aspect: Aspect::Store,
        because: "RFC 9213 section 2.2: a cache uses the first targeted field that it finds and ignores Cache-Control",
        applies: |c| {
            has(&c.response, "cdn-cache-control") && text(&c.response, "cdn-cache-control") != "&&&"
        },
        example: || {
            Case::got(&[
                ("cdn-cache-control", "no-store"),
                ("cache-control", "max-age=60"),
            ])
        },
    },
    Class {
        name: "Date or a slow fetch",
        aspect: Aspect::Age,
        because: "RFC 9111 section 4.2.3: the age is at least apparent_age, and age_value and response_delay are added",
        applies: |c| {
            let made = offset(&c.response, "date");
            c.took > 0 || made.map_or(has(&c.response, "date"), |at| at < 0)
        },
        example: || Case::got(&[("cache-control", "max-age=60")]).took(5),
    },
    Class {
        name: "an Age that is a list",
        aspect: Aspect::Age,
        because: "RFC 9111 section 5.1: of a list-based value a cache should use the first member",
        applies: |c| text(&c.response, "age").contains(','),
        example: || Case::got(&[("cache-control", "max-age=60"), ("age", "5, 100")]),
    },
    Class {
        name: "an Age with a sign",
        aspect: Aspect::Age,
        because: "RFC 9111 section 1.2.2: delta-seconds are digits",
        applies: |c| text(&c.response, "age").starts_with('+'),
        example: || Case::got(&[("cache-control", "max-age=60"), ("age", "+5")]),
    },
    Class {
        name: "an Age that overflows",
        aspect: Aspect::Age,
        because: "RFC 9111 section 1.2.2: what is greater than can be represented is 2^31",
        applies: |c| text(&c.response, "age").starts_with("9999"),
        example: || {
            Case::got(&[
                ("cache-control", "max-age=60"),
                ("age", "99999999999999999999"),
            ])
        },
    },
    Class {
        name: "fields of the same meaning",
        aspect: Aspect::Variant,
        because: "RFC 9111 section 4.1: values match that can be normalised to each other by the field's own rules",
        applies: |c| {
            let differ = |name| {
                has(&c.request, name)
                    && has(&c.later, name)
                    && c.request.get(name) != c.later.get(name)
            };
            differ("accept-language") || differ("accept-encoding")
        },
        example: || {
            let fields = [("cache-control", "max-age=60"), ("vary", "accept-language")];
            Case::got(&fields)
                .request(EN)
                .later(10, &[("accept-language", "de,en")])
        },
    },
    Class {
        name: "no-cache with fields",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 5.2.2.4: the qualified form forbids the listed fields, not the rest, without validation",
        applies: |c| says_any(c, "no-cache=\""),
        example: || Case::got(&[("cache-control", "max-age=60, no-cache=\"x-a\"")]),
    },
    Class {
        name: "proxy-revalidate",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 5.2.2.8: it speaks of stale responses, and ends no freshness",
        applies: |c| says(c, "proxy-revalidate") && !asks(c, "max-stale"),
        example: || Case::got(&[("cache-control", "max-age=60, proxy-revalidate")]),
    },
    Class {
        name: "conflicting lifetimes",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 4.2.1: of several values the first or none is used; the least is never more than the first",
        applies: |c| is_conflicting(&c.response),
        example: || Case::got(&[("cache-control", "max-age=60, max-age=10")]),
    },
    Class {
        name: "upper case",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 5.2: cache directives are identified by a token, to be compared case-insensitively",
        applies: |c| has_upper_case(&c.response) || has_upper_case(&c.later),
        example: || {
            Case::got(&[("cache-control", "max-age=60")])
                .later(10, &[("cache-control", "No-Cache")])
        },
    },
    Class {
        name: "another form of date",
        aspect: Aspect::Reuse,
        because: "RFC 9110 section 5.6.7: a recipient accepts all three forms; RFC 9111 section 4.2: GMT alone, in any case",
        applies: has_other_date,
        example: || Case::got(&[("expires", "Friday, 15-Jan-27 08:01:00 GMT")]),
    },
    Class {
        name: "two lines of Expires",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 4.2.1: of several values the first is used, or the response is considered stale",
        applies: |c| c.response.get_all("expires").iter().count() > 1,
        example: || {
            let expires = date(60);
            Case::got(&[("expires", &expires), ("expires", &expires)])
        },
    },
    Class {
        name: "immutable",
        aspect: Aspect::Reuse,
        because: "RFC 8246 section 2: it speaks of the freshness lifetime, and does not prolong it",
        applies: |c| says(c, "immutable") && !says_any(c, "max-age") && !says_any(c, "s-maxage"),
        example: || {
            let expires = date(5);
            Case::got(&[("cache-control", "immutable"), ("expires", &expires)])
        },
    },
    Class {
        name: "a guess of more than a day",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 4.2.2: a cache that guesses is to be careful; a day is our bound",
        applies: |c| {
            is_guess(c) && offset(&c.response, "last-modified").is_some_and(|at| at < -864_000)
        },
        example: || {
            let modified = date(-100_000_000);
            Case::got(&[("last-modified", &modified)]).later(100_000, &[])
        },
    },
    Class {
        name: "a lifetime with a sign",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 1.2.2: delta-seconds are digits; section 4.2.1: what is none is stale",
        applies: |c| says(c, "max-age=+60"),
        example: || Case::got(&[("cache-control", "max-age=+60")]),
    },
    Class {
        name: "a lifetime that overflows",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 1.2.2: what is greater than can be represented is 2^31",
        applies: |c| says_any(c, "max-age=9999"),
        example: || Case::got(&[("cache-control", "max-age=99999999999999999999999")]),
    },
    Class {
        name: "a lifetime without a value",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 4.2.1: invalid freshness information is considered stale, and nothing else is asked",
        applies: |c| {
            let guess = has(&c.response, "last-modified") || says(c, "immutable");
            says(c, "max-age") && (has(&c.response, "expires") || guess)
        },
        example: || {
            let expires = date(60);
            Case::got(&[("cache-control", "max-age"), ("expires", &expires)])
        },
    },
    Class {
        name: "a semicolon",
        aspect: Aspect::Reuse,
        because: "RFC 9110 section 5.6.2: no token holds one; to part directives by it is a leniency",
        applies: |c| says_any(c, "max-age=60;"),
        example: || Case::got(&[("cache-control", "max-age=60; x")]),
    },
    Class {
        name: "a comma inside quotes",
        aspect: Aspect::Reuse,
        because: "RFC 9110 section 5.6.4: a quoted string is one value, whatever it holds",
        applies: |c| says_any(c, "ext=\"a") && says(c, "no-cache"),
        example: || Case::got(&[("cache-control", "max-age=60, ext=\"a, no-cache, b\"")]),
    },
    Class {
        name: "a targeted field",
        aspect: Aspect::Reuse,
        because: "RFC 9213 section 2.2: a cache uses the first targeted field that it finds and ignores Cache-Control",
        applies: |c| {
            has(&c.response, "cdn-cache-control") && text(&c.response, "cdn-cache-control") != "&&&"
        },
        example: || {
            Case::got(&[
                ("cdn-cache-control", "max-age=5"),
                ("cache-control", "max-age=60"),
            ])
        },
    },
    Class {
        name: "stale-while-revalidate",
        aspect: Aspect::Reuse,
        because: "RFC 5861 section 3: a cache may serve the response for so many seconds after it becomes stale",
        applies: |c| says_any(c, "stale-while-revalidate"),
        example: || Case::got(&[("cache-control", "max-age=5, stale-while-revalidate=30")]),
    },
    Class {
        name: "max-stale against s-maxage",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 5.2.2.10: s-maxage has the semantics of proxy-revalidate, which max-stale does not overrule",
        applies: |c| asks(c, "max-stale") && says_any(c, "s-maxage"),
        example: || {
            Case::got(&[("cache-control", "s-maxage=5")])
                .later(10, &[("cache-control", "max-stale")])
        },
    },
    Class {
        name: "max-stale against proxy-revalidate",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 4.2.4: no stale response where proxy-revalidate forbids it",
        applies: |c| asks(c, "max-stale") && says(c, "proxy-revalidate"),
        example: || {
            let later = [("cache-control", "max-stale")];
            Case::got(&[("cache-control", "max-age=5, proxy-revalidate")]).later(10, &later)
        },
    },
    Class {
        name: "max-stale against no-cache",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 4.2.4: no stale response where no-cache forbids it",
        applies: |c| asks(c, "max-stale") && says(c, "no-cache"),
        example: || {
            let later = [("cache-control", "max-stale")];
            Case::got(&[("cache-control", "max-age=60, no-cache")]).later(10, &later)
        },
    },
    Class {
        name: "max-stale to the second",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 5.2.1.2: no more than the specified number of seconds past freshness, which includes it",
        applies: |c| asks(c, "max-stale=10") || asks(c, "max-stale=0"),
        example: || {
            Case::got(&[("cache-control", "max-age=5")])
                .later(15, &[("cache-control", "max-stale=10")])
        },
    },
    Class {
        name: "a request's junk",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 4.2.1: what cannot be read is taken for the more restrictive",
        applies: |c| directives(&c.later).iter().any(|d| d.ends_with("=junk")),
        example: || {
            Case::got(&[("cache-control", "max-age=60")])
                .later(10, &[("cache-control", "max-age=junk")])
        },
    },
    Class {
        name: "a request's conflicts",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 4.2.1: of conflicting directives the most restrictive is honoured",
        applies: |c| is_conflicting(&c.later),
        example: || {
            let later = [("cache-control", "max-age=60, max-age=5")];
            Case::got(&[("cache-control", "max-age=60")]).later(10, &later)
        },
    },
    Class {
        name: "Pragma beside Cache-Control",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 5.4: Pragma counts where there is no Cache-Control",
        applies: |c| has(&c.later, "pragma") && has(&c.later, "cache-control"),
        example: || {
            let later = [("pragma", "no-cache"), ("cache-control", "max-age=60")];
            Case::got(&[("cache-control", "max-age=60")]).later(10, &later)
        },
    },
    Class {
        name: "Pragma in a response",
        aspect: Aspect::Reuse,
        because: "RFC 9111 section 5.4: its meaning in responses was never specified",
        applies: |c| has(&c.response, "pragma") && !has(&c.response, "cache-control"),
        example: || {
            let expires = date(60);
            Case::got(&[("expires", &expires), ("pragma", "no-cache")])
        },
    },
    Class {
        name: "a 304 with nothing to compare",
        aspect: Aspect::Match,
        because: "RFC 9110 section 15.4.5: a 304 repeats the validator; left out, it answers the one that was sent",
        applies: is_incomparable,
        example: || Case::validated(&[("etag", "\"a\"")], &[]),
    },
    Class {
        name: "a strong tag for a weak one",
        aspect: Aspect::Match,
        because: "RFC 9111 section 4.3.4: a strong validator selects stored responses with the same strong validator only",
        applies: |c| {
            let new = text(&c.not_modified, "etag");
            !new.starts_with("W/") && text(&c.response, "etag") == format!("W/{new}")
        },
        example: || Case::validated(&[("etag", "W/\"a\"")], &[("etag", "\"a\"")]),
    },
];
