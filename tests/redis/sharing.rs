//! What one proxy fetches, another serves; what one purges, no other serves any more.

use super::fake::{Answer, Fake, bytes};
use super::server::{Redis, Said};
use super::{FRESH, counting, joined, joined_of, record, status, stored, weir, works};
use crate::support::backend::{Backend, reply};
use crate::support::client::{get, post};
use crate::support::eventually;

#[test]
fn a_second_proxy_serves_what_the_first_has_fetched() {
    let Some(redis) = Redis::start("a_second_proxy_serves_what_the_first_has_fetched") else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let first = stored(&one, &redis, "/a");
    assert!(status(&first).contains("fwd=uri-miss"), "{first:?}");
    let second = other.once(get("/a"));
    assert!(status(&second).contains("; hit"), "{second:?}");
    assert!(status(&second).contains("detail=redis"), "{second:?}");
    assert_eq!(second.text(), first.text());
    assert!(second.get("age").is_some(), "{second:?}");
    // From there on it lies in memory.
    let third = other.once(get("/a"));
    assert!(status(&third).contains("; hit"), "{third:?}");
    assert!(!status(&third).contains("redis"), "{third:?}");
    assert_eq!(backend.log().count("GET /a "), 1);
}

#[test]
fn everything_in_redis_has_a_bounded_life() {
    let Some(redis) = Redis::start("everything_in_redis_has_a_bounded_life") else {
        return;
    };
    let backend = Backend::answering(|request| {
        let fields = match request.start.contains("/vary") {
            true => "Cache-Control: max-age=60, stale-if-error=30\r\nVary: Accept\r\n",
            false => "Cache-Control: max-age=60, stale-if-error=30\r\n",
        };
        reply(200, fields, "x")
    });
    let one = joined(&backend, &redis);
    stored(&one, &redis, "/a");
    stored(&one, &redis, "/vary");
    eventually("the variant and what leads to it are there", || {
        redis.records().len() >= 4
    });
    for key in redis.records() {
        assert!(key.starts_with("weir:{"), "{key}");
        let left = redis.ask(&["PTTL", &key]).number();
        assert!((1..=90_000).contains(&left), "{key}: {left}");
    }
    eventually("leases are given back", || {
        redis.ask(&["KEYS", "*:l"]) == Said::List(Vec::new())
    });
}

/// Machines may disagree about the date: how old a record is is told by the time that Redis still keeps it for, and of what is
/// kept for too long nobody knows that.
#[test]
fn an_age_goes_by_the_clock_of_redis() {
    let Some(redis) = Redis::start("an_age_goes_by_the_clock_of_redis") else {
        return;
    };
    let backend = counting("Cache-Control: max-age=3600\r\n");
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let first = stored(&one, &redis, "/old");
    redis.ask(&["PEXPIRE", &record("/old"), "1000000"]);
    let second = other.once(get("/old"));
    assert!(status(&second).contains("; hit"), "{second:?}");
    assert_eq!(second.text(), first.text());
    let age: u32 = second
        .get("age")
        .and_then(|age| age.parse().ok())
        .expect("it has an age");
    assert!((2600..2800).contains(&age), "{age}");
    for (target, command) in [
        ("/endless", &["PERSIST"][..]),
        ("/longer", &["PEXPIRE", "4000000"]),
    ] {
        let first = stored(&one, &redis, target);
        let key = record(target);
        let mut words = vec![command[0], &key];
        words.extend_from_slice(&command[1..]);
        redis.ask(&words);
        let second = other.once(get(target));
        assert!(!status(&second).contains("; hit"), "{target}: {second:?}");
        assert_ne!(second.text(), first.text(), "{target}");
    }
}

#[test]
fn variants_are_told_apart_across_proxies() {
    let Some(redis) = Redis::start("variants_are_told_apart_across_proxies") else {
        return;
    };
    let backend = Backend::answering(|request| {
        let fields = "Cache-Control: max-age=60\r\nVary: X-A\r\n";
        reply(200, fields, request.get("x-a").unwrap_or("none"))
    });
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let asking = |a: &str| format!("GET /v HTTP/1.1\r\nHost: test.example\r\nX-A: {a}\r\n\r\n");
    let before = redis.records().len();
    for a in ["1", "2"] {
        assert_eq!(one.once(asking(a)).text(), a);
    }
    eventually("both variants are there", || {
        redis.records().len() == before + 3
    });
    for a in ["2", "1"] {
        let response = other.once(asking(a));
        assert_eq!(response.text(), a);
        assert!(status(&response).contains("; hit"), "{response:?}");
    }
    assert_eq!(other.once(asking("3")).text(), "3");
    assert_eq!(backend.log().count("GET /v "), 3);
}

#[test]
fn every_form_is_read_by_all_whatever_they_write() {
    let Some(redis) = Redis::start("every_form_is_read_by_all_whatever_they_write") else {
        return;
    };
    let backend = Backend::answering(|_| reply(200, FRESH, &"text ".repeat(200)));
    let url = format!(r#""url": "redis://127.0.0.1:{}""#, redis.port);
    let reader = joined(&backend, &redis);
    for (form, mark) in [("none", 0), ("json", 1), ("lz4", 2)] {
        let writer = weir(&backend, &format!(r#"{url}, "serializer": "{form}""#));
        works(&writer, &redis);
        let target = format!("/{form}");
        stored(&writer, &redis, &target);
        let Said::Text(bytes) = redis.ask(&["GET", &super::record(&target)]) else {
            panic!("a record is a string");
        };
        assert_eq!(bytes[..3], [b'W', 2, mark], "{form}");
        eventually("the other proxy reads it", || {
            let response = reader.once(get(&target));
            assert_eq!(response.text(), "text ".repeat(200));
            status(&response).contains("; hit")
        });
        assert_eq!(backend.log().count(&format!("GET {target} ")), 1, "{form}");
    }
}

#[test]
fn an_unsafe_request_invalidates_on_every_proxy() {
    let Some(redis) = Redis::start("an_unsafe_request_invalidates_on_every_proxy") else {
        return;
    };
    let backend = counting(FRESH);
    // One core publishes and hears for both.
    let (one, other) = (
        joined_of(2, &backend, &redis),
        joined_of(2, &backend, &redis),
    );
    let old = stored(&one, &redis, "/a").text();
    assert_eq!(other.once(get("/a")).text(), old);
    let kept = stored(&one, &redis, "/b").text();
    assert_eq!(one.once(post("/a", "x")).status, 200);
    // Its own answer is never the old one again, wherever that may lie still.
    assert_ne!(one.once(get("/a")).text(), old);
    eventually("the other proxy has heard of it", || {
        other.once(get("/a")).text() != old
    });
    for _ in 0..20 {
        assert_ne!(one.once(get("/a")).text(), old);
        assert_ne!(other.once(get("/a")).text(), old);
    }
    assert_eq!(other.once(get("/b")).text(), kept);
    assert_eq!(backend.log().count("GET /b "), 1);
}

#[test]
fn a_proxy_that_starts_later_does_not_serve_what_was_purged_before() {
    let Some(redis) = Redis::start("a_proxy_that_starts_later_does_not_serve_what_was_purged")
    else {
        return;
    };
    let backend = counting(FRESH);
    let one = joined(&backend, &redis);
    let old = stored(&one, &redis, "/a").text();
    let key = redis.records();
    one.once(post("/a", "x"));
    eventually("the purge stands in the log", || {
        redis.ask(&["XLEN", "weir:purges"]).number() == 1
    });
    assert_eq!(redis.records(), key, "what was purged lies there still");
    let later = joined(&backend, &redis);
    assert_ne!(later.once(get("/a")).text(), old);
}

#[test]
fn a_proxy_that_was_cut_off_hears_what_it_missed() {
    let Some(redis) = Redis::start("a_proxy_that_was_cut_off_hears_what_it_missed") else {
        return;
    };
    let backend = counting(FRESH);
    let other = joined(&backend, &redis);
    let one = joined(&backend, &redis);
    let old = stored(&one, &redis, "/a").text();
    let kept = stored(&one, &redis, "/b").text();
    for target in ["/a", "/b"] {
        other.once(get(target));
    }
    // A frozen proxy hears nothing. Its connections are cut, so it has to ask for what it has missed.
    other.signal("STOP");
    one.once(post("/a", "x"));
    eventually("the purge stands in the log", || {
        redis.ask(&["XLEN", "weir:purges"]).number() == 1
    });
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    other.signal("CONT");
    eventually("it has heard", || other.once(get("/a")).text() != old);
    assert_eq!(other.once(get("/b")).text(), kept);
}

#[test]
fn memory_is_emptied_when_purges_may_have_been_missed() {
    let flushed: &[&[&str]] = &[&["FLUSHALL"]];
    let cut: &[&[&str]] = &[
        &["XADD", "weir:purges", "*", "p", "0 hard url http://x/"],
        &["XTRIM", "weir:purges", "MAXLEN", "1"],
    ];
    for (name, commands) in [("flushed", flushed), ("cut", cut)] {
        let test = "memory_is_emptied_when_purges_may_have_been_missed";
        let Some(redis) = Redis::start(test) else {
            return;
        };
        let backend = counting(FRESH);
        let one = joined(&backend, &redis);
        one.once(post("/other", "x"));
        eventually("the purge was published", || {
            redis.ask(&["XLEN", "weir:purges"]).number() == 1
        });
        let old = stored(&one, &redis, "/a").text();
        assert_eq!(one.once(get("/a")).text(), old);
        // Whoever does not follow at the moment cannot know what has become of the log.
        one.signal("STOP");
        redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        for command in commands {
            redis.ask(command);
        }
        one.signal("CONT");
        eventually("memory is empty", || one.once(get("/a")).text() != old);
        assert_eq!(backend.log().count("GET /a "), 2, "{name}");
    }
}

#[test]
fn what_was_fetched_before_the_log_was_read_is_fetched_again() {
    let backend = counting(FRESH);
    let here = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_here = std::sync::Arc::clone(&here);
    let fake = Fake::start(move |command| {
        let entry = "*2\r\n$3\r\n7-0\r\n*2\r\n$1\r\np\r\n$27\r\n0000000000000000 hard url x\r\n";
        match command[0].as_str() {
            _ if !is_here.load(std::sync::atomic::Ordering::SeqCst) => Some(Answer::Close),
            "XRANGE" | "XREVRANGE" => Some(bytes(&format!("*1\r\n{entry}"))),
            "XREAD" if command.iter().any(|w| w == "0-0") => {
                let stream = format!("*1\r\n*2\r\n$11\r\nweir:purges\r\n*1\r\n{entry}");
                Some(bytes(&stream))
            }
            _ => None,
        }
    });
    let members = format!(r#""url": "redis://127.0.0.1:{}""#, fake.port);
    let one = weir(&backend, &members);
    let old = one.once(get("/a")).text();
    assert_eq!(one.once(get("/a")).text(), old);
    here.store(true, std::sync::atomic::Ordering::SeqCst);
    eventually("memory is empty", || one.once(get("/a")).text() != old);
    assert_eq!(backend.log().count("GET /a "), 2);
}

#[test]
fn purges_made_while_redis_is_away_are_published_when_it_is_back() {
    let test = "purges_made_while_redis_is_away_are_published_when_it_is_back";
    let Some(redis) = Redis::start(test) else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let old = stored(&one, &redis, "/a").text();
    assert_eq!(other.once(get("/a")).text(), old);
    redis.signal("STOP");
    one.once(post("/a", "x"));
    assert_ne!(one.once(get("/a")).text(), old);
    redis.signal("CONT");
    eventually("the other proxy has heard", || {
        other.once(get("/a")).text() != old
    });
}

#[test]
fn a_purge_that_redis_does_not_take_holds_here_and_is_tried_again() {
    let test = "a_purge_that_redis_does_not_take_holds_here_and_is_tried_again";
    let Some(redis) = Redis::start(test) else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let old = stored(&one, &redis, "/a").text();
    assert_eq!(other.once(get("/a")).text(), old);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    one.once(post("/a", "x"));
    // The old record lies there and is found, and no stream has told of the purge.
    assert!(redis.holds("/a"));
    assert_ne!(one.once(get("/a")).text(), old);
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    eventually("the other proxy has heard", || {
        other.once(get("/a")).text() != old
    });
}

#[test]
fn variants_and_partitions_of_a_url_are_purged_on_every_proxy() {
    let test = "variants_and_partitions_of_a_url_are_purged_on_every_proxy";
    let Some(redis) = Redis::start(test) else {
        return;
    };
    let count = std::sync::atomic::AtomicU64::new(0);
    let backend = Backend::answering(move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let fields = "Cache-Control: max-age=60\r\nVary: X-A\r\n";
        reply(200, fields, &n.to_string())
    });
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let asking = |a: &str| format!("GET /v HTTP/1.1\r\nHost: test.example\r\nX-A: {a}\r\n\r\n");
    let old: Vec<String> = ["1", "2"].map(|a| other.once(asking(a)).text()).into();
    one.once(post("/v", "x"));
    eventually("the other proxy has heard", || {
        other.once(asking("1")).text() != old[0]
    });
    assert_ne!(other.once(asking("2")).text(), old[1]);
}

#[test]
fn a_purge_is_published_before_the_process_ends() {
    let Some(redis) = Redis::start("a_purge_is_published_before_the_process_ends") else {
        return;
    };
    let backend = counting(FRESH);
    let mut one = joined(&backend, &redis);
    for n in 0..200 {
        one.once(post(&format!("/{n}"), "x"));
    }
    one.signal("TERM");
    one.wait();
    assert_eq!(redis.ask(&["XLEN", "weir:purges"]), Said::Number(200));
}

#[test]
fn a_flushed_database_is_a_miss() {
    let Some(redis) = Redis::start("a_flushed_database_is_a_miss") else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    stored(&one, &redis, "/a");
    redis.ask(&["FLUSHALL"]);
    let response = other.once(get("/a"));
    assert!(status(&response).contains("fwd=uri-miss"), "{response:?}");
    eventually("it lies there again", || !redis.records().is_empty());
}

#[test]
fn a_server_without_memory_is_read_and_no_request_fails() {
    let Some(redis) = Redis::start("a_server_without_memory_is_read_and_no_request_fails") else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    stored(&other, &redis, "/a");
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    for n in 0..50 {
        assert_eq!(one.once(get(&format!("/full-{n}"))).status, 200);
    }
    let response = one.once(get("/a"));
    assert!(status(&response).contains("detail=redis"), "{response:?}");
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    works(&one, &redis);
}
