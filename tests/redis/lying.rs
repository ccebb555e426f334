//! Records that are none, and servers that are none: every one of them is a miss.

use super::fake::{Answer, Fake, bulk, bytes};
use super::server::{Connection, Redis, Said};
use super::{FRESH, counting, joined, status, stored, weir};
use crate::support::backend::{Backend, reply};
use crate::support::client::get;
use crate::support::eventually;

/// The key of the record that is written for `target`.
#[track_caller]
fn key_of(one: &crate::support::weir::Weir, redis: &Redis, target: &str) -> String {
    stored(one, redis, target);
    super::record(target)
}

#[test]
fn no_record_is_used_that_is_not_whole_unchanged_and_ours() {
    let Some(redis) = Redis::start("no_record_is_used_that_is_not_whole_unchanged_and_ours") else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let mut client = Connection::open(redis.port).expect("the server accepts");
    let stranger = key_of(&one, &redis, "/stranger");
    let Some(Said::Text(stranger)) = client.ask(&["GET", &stranger]) else {
        panic!("it was just written");
    };
    type Lie = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;
    let lies: Vec<(&str, Lie)> = vec![
        ("empty", Box::new(|_| Vec::new())),
        ("cut", Box::new(|r| r[..r.len() - 1].to_vec())),
        ("head", Box::new(|r| r[..7].to_vec())),
        (
            "flipped",
            Box::new(|mut r| {
                let at = r.len() - 3;
                r[at] ^= 1;
                r
            }),
        ),
        (
            "longer",
            Box::new(|mut r| {
                r.push(0);
                r
            }),
        ),
        (
            "newer",
            Box::new(|mut r| {
                r[1] += 1;
                r
            }),
        ),
        ("moved", Box::new(move |_| stranger.clone())),
        ("large", Box::new(|_| vec![b'W'; (1 << 20) + 1])),
        ("huge", Box::new(|_| vec![b'W'; 4 << 20])),
        ("text", Box::new(|_| b"hello".to_vec())),
    ];
    for (name, lie) in lies {
        let target = format!("/{name}");
        let key = key_of(&one, &redis, &target);
        let Some(Said::Text(record)) = client.ask(&["GET", &key]) else {
            panic!("it was just written");
        };
        let old = one.once(get(&target)).text();
        let lie = lie(record);
        client
            .ask(&[b"SET", key.as_bytes(), &lie])
            .expect("the server answers");
        let response = other.once(get(&target));
        assert_eq!(response.status, 200, "{name}");
        assert!(!status(&response).contains("; hit"), "{name}: {response:?}");
        assert_ne!(response.text(), old, "{name}");
        eventually(&format!("the lie {name} is gone"), || {
            client.ask(&["GET", &key]) != Some(Said::Text(lie.clone()))
        });
        super::works(&other, &redis);
    }
}

#[test]
fn another_type_under_a_key_is_a_miss() {
    let Some(redis) = Redis::start("another_type_under_a_key_is_a_miss") else {
        return;
    };
    let backend = counting(FRESH);
    let (one, other) = (joined(&backend, &redis), joined(&backend, &redis));
    let key = key_of(&one, &redis, "/list");
    redis.ask(&["DEL", &key]);
    redis.ask(&["RPUSH", &key, "x"]);
    let response = other.once(get("/list"));
    assert!(status(&response).contains("fwd=uri-miss"), "{response:?}");
    eventually("a record is there again", || {
        redis.ask(&["TYPE", &key]).text() == "string"
    });
}

#[test]
fn answers_that_make_no_sense_are_not_noticed() {
    let nonsense: [(&str, &str); 11] = [
        ("GET", "hello?\r\n"),
        ("GET", ":5\r\n"),
        ("GET", "*1\r\n$1\r\na\r\n"),
        ("GET", "$999999999999\r\n"),
        ("GET", "$10\r\nabc"),
        ("GET", "$-7\r\n"),
        ("GET", "*99999999\r\n"),
        ("SET", "$3\r\nabc\r\n"),
        // Everybody else has every lease, and none is ever there.
        ("SET", "$-1\r\n"),
        ("XREAD", "*1\r\n*2\r\n$1\r\na\r\n:5\r\n"),
        ("PING", "$99999999\r\nx"),
    ];
    for (word, answer) in nonsense {
        let backend = counting(FRESH);
        let fake = Fake::start(move |command| (command[0] == word).then(|| bytes(answer)));
        let weir = weir(
            &backend,
            &format!(r#""url": "redis://127.0.0.1:{}""#, fake.port),
        );
        let mut n = 0;
        eventually("it has lied three times", || {
            n += 1;
            let response = weir.once(get(&format!("/{n}")));
            assert_eq!(response.status, 200, "{word} {answer:?}");
            assert!(status(&response).contains("fwd=uri-miss"), "{response:?}");
            fake.count(word) >= 3
        });
    }
}

#[test]
fn one_that_says_yes_to_every_lease_and_to_none_does_not_stop_anybody() {
    // Everybody else has the lease, always, and nothing ever comes of it.
    let backend = Backend::answering(|_| reply(200, FRESH, "x"));
    let fake = Fake::start(|command| match command[0].as_str() {
        "SET" if command.iter().any(|w| w == "NX") => Some(bytes("$-1\r\n")),
        "MGET" => Some(bytes("*2\r\n$-1\r\n$4\r\npass\r\n")),
        _ => None,
    });
    let one = weir(
        &backend,
        &format!(r#""url": "redis://127.0.0.1:{}""#, fake.port),
    );
    // A URL that was fetched before Redis was there lies in memory, and is never asked for again.
    let mut n = 0;
    eventually("it waited and went on", || {
        n += 1;
        assert_eq!(one.once(get(&format!("/{n}"))).status, 200);
        fake.count("MGET") > 0
    });
    // The lease vanishes whenever it is looked at, and is somebody's whenever it is asked for; then the connection goes.
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let fake = Fake::start(move |command| match command[0].as_str() {
        "SET" if command.iter().any(|w| w == "NX") => Some(bytes("$-1\r\n")),
        "MGET" => {
            let n = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Some(if n < 5 {
                bytes("*2\r\n$-1\r\n$-1\r\n")
            } else {
                Answer::Close
            })
        }
        "GET" => Some(bulk(b"not a record")),
        _ => None,
    });
    let one = weir(
        &backend,
        &format!(r#""url": "redis://127.0.0.1:{}""#, fake.port),
    );
    eventually("it asked again and went on", || {
        n += 1;
        assert_eq!(one.once(get(&format!("/{n}"))).status, 200);
        fake.count("MGET") > 5
    });
}
