//! Where a Redis may be: behind a password, another database, TLS, sentinels, in a cluster.

use std::net::{IpAddr, Ipv4Addr};

use super::server::{Redis, Said};
use super::{FRESH, counting, status, stored, weir, works};
use crate::support::client::get;
use crate::support::{eventually, free_port};

#[test]
fn a_password_a_user_and_a_database() {
    let test = "a_password_a_user_and_a_database";
    let args = [
        "--requirepass",
        "s3cret",
        "--user",
        "cache",
        "on",
        ">hush",
        "~*",
        "&*",
        "+@all",
    ];
    for (login, auth) in [
        ("AUTH s3cret", ":s3cret"),
        ("AUTH cache hush", "cache:hush"),
    ] {
        let Some(redis) = Redis::with(test, &args, &[login, "SELECT 3"]) else {
            return;
        };
        let backend = counting(FRESH);
        let members = |auth: &str| format!(r#""url": "redis://{auth}@127.0.0.1:{}/3""#, redis.port);
        let (one, other) = (
            weir(&backend, &members(auth)),
            weir(&backend, &members(auth)),
        );
        works(&one, &redis);
        works(&other, &redis);
        stored(&one, &redis, "/a");
        let response = other.once(get("/a"));
        assert!(status(&response).contains("detail=redis"), "{response:?}");
        let wrong = weir(&backend, &members(":wr0ng"));
        eventually("it is said", || {
            wrong
                .stderr()
                .iter()
                .any(|l| l.contains("authentication failed"))
        });
        assert_eq!(wrong.once(get("/a")).status, 200);
        for weir in [&one, &other, &wrong] {
            let said = weir.stderr().join("\n");
            for secret in ["s3cret", "hush", "wr0ng"] {
                assert!(!said.contains(secret), "{said}");
            }
        }
    }
}

#[test]
fn tls_with_an_authority_of_its_own() {
    let test = "tls_with_an_authority_of_its_own";
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("a name");
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    params
        .subject_alt_names
        .push(rcgen::SanType::IpAddress(loopback));
    let key = rcgen::KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("a certificate");
    let folder = std::env::temp_dir().join(format!("weir-redis-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let path = |name: &str| folder.join(name).to_str().expect("ASCII").to_owned();
    std::fs::write(path("cert.pem"), cert.pem()).expect("it is writable");
    std::fs::write(path("key.pem"), key.serialize_pem()).expect("it is writable");
    let port = free_port();
    let (tls_port, cert, key) = (port.to_string(), path("cert.pem"), path("key.pem"));
    let args = [
        "--tls-port",
        &tls_port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
    ];
    let Some(redis) = Redis::with(test, &args, &[]) else {
        return;
    };
    let backend = counting(FRESH);
    let url = format!(r#""url": "rediss://127.0.0.1:{port}""#);
    let trusting = format!(r#"{url}, "tls": {{"ca": "{cert}"}}"#);
    let (one, other) = (weir(&backend, &trusting), weir(&backend, &trusting));
    works(&one, &redis);
    works(&other, &redis);
    stored(&one, &redis, "/a");
    let response = other.once(get("/a"));
    assert!(status(&response).contains("detail=redis"), "{response:?}");
    // The system's authorities do not know it, and a file that is none is named.
    let missing = format!(r#"{url}, "tls": {{"ca": "{}"}}"#, path("missing.pem"));
    for (members, said) in [(&url, "TLS"), (&missing, "missing.pem")] {
        let distrusting = weir(&backend, members);
        eventually("it is said", || {
            distrusting.stderr().iter().any(|l| l.contains(said))
        });
        assert_eq!(distrusting.once(get("/b")).status, 200);
    }
    std::fs::remove_dir_all(&folder).expect("it is ours");
}

#[test]
fn sentinels_are_asked_again_after_a_failover() {
    let test = "sentinels_are_asked_again_after_a_failover";
    let Some(master) = Redis::start(test) else {
        return;
    };
    let port = master.port.to_string();
    let Some(replica) = Redis::with(test, &["--replicaof", &format!("127.0.0.1 {port}")], &[])
    else {
        return;
    };
    let path = master.folder().join("sentinel.conf");
    let text = format!(
        "sentinel monitor mine 127.0.0.1 {port} 1\nsentinel failover-timeout mine 1000\n\
         sentinel down-after-milliseconds mine 60000\n"
    );
    std::fs::write(&path, text).expect("the folder is writable");
    let path = path.to_str().expect("ASCII");
    let Some(sentinel) = Redis::with(test, &[path, "--sentinel"], &[]) else {
        return;
    };
    let backend = counting(FRESH);
    let nobody = free_port();
    let one = weir(
        &backend,
        &format!(
            r#""servers": ["127.0.0.1:{nobody}", "127.0.0.1:{}"], "sentinel": "mine""#,
            sentinel.port
        ),
    );
    works(&one, &master);
    eventually(
        "the sentinel knows the replica, and the replica is in step",
        || {
            let known = sentinel.ask(&["SENTINEL", "REPLICAS", "mine"]);
            known.list().len() == 1 && replica.records() == master.records()
        },
    );
    eventually("the sentinel begins", || {
        sentinel.ask(&["SENTINEL", "FAILOVER", "mine"]) == Said::Text(b"OK".to_vec())
    });
    eventually("the replica has become the master", || {
        let role = replica.try_ask(&["ROLE"]);
        role.is_some_and(|role| role.list()[0].text() == "master")
    });
    works(&one, &replica);
}

#[test]
fn a_cluster_of_three() {
    let test = "a_cluster_of_three";
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let bus = free_port().to_string();
        let args = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        let Some(node) = Redis::with(test, &args, &[]) else {
            return;
        };
        nodes.push((node, bus));
    }
    let slots = [("0", "5460"), ("5461", "10922"), ("10923", "16383")];
    for ((node, _), (from, to)) in nodes.iter().zip(slots) {
        node.ask(&["CLUSTER", "ADDSLOTSRANGE", from, to]);
    }
    let (first, _) = &nodes[0];
    for (node, bus) in &nodes[1..] {
        let port = node.port.to_string();
        first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
    }
    eventually("the cluster stands", || {
        nodes.iter().all(|(node, _)| {
            let info = node.ask(&["CLUSTER", "INFO"]).text();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
    });
    let records = || nodes.iter().map(|(n, _)| n.records().len()).sum::<usize>();
    let backend = counting(FRESH);
    let members = format!(
        r#""servers": ["127.0.0.1:{}"], "cluster": true"#,
        first.port
    );
    let (one, other) = (weir(&backend, &members), weir(&backend, &members));
    for weir in [&one, &other] {
        let mut n = 0;
        let before = records();
        eventually("records are spread over all nodes", || {
            n += 1;
            weir.once(get(&format!("/{}-{n}", weir.port)));
            records() > before + 10 && nodes.iter().all(|(n, _)| !n.records().is_empty())
        });
    }
    let before = records();
    let old = one.once(get("/a")).text();
    eventually("it lies there", || records() > before);
    let response = other.once(get("/a"));
    assert!(status(&response).contains("detail=redis"), "{response:?}");
    one.once(crate::support::client::post("/a", "x"));
    eventually("the other proxy has heard", || {
        other.once(get("/a")).text() != old
    });
}
