//! TLS that fails after its handshake: the peer is told by an alert why (RFC 8446 section 6.2), and the connection ends in order,
//! so that the alert is not lost to a reset.

use std::io::{Read, Write};

use rustls::{AlertDescription, Error};

use super::tls::{files, serving};
use crate::support::backend::{Backend, reply};
use crate::support::secure::{Authority, Folder};
use crate::support::tls::{Meeting, Tls};

/// A record of application data that no key has made.
fn broken_record() -> Vec<u8> {
    [&[23, 3, 3, 0, 64][..], &[7; 64]].concat()
}

/// Reads to the end; what the peer said by an alert. The end must be one in order.
fn told(client: &mut Tls) -> AlertDescription {
    let mut room = [0; 4096];
    let alert = loop {
        match client.0.read(&mut room) {
            Ok(0) => panic!("it closed without an alert"),
            Ok(_) => {}
            Err(error) => {
                let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
                match inner {
                    Some(Error::AlertReceived(alert)) => break *alert,
                    _ => panic!("no alert came: {error}"),
                }
            }
        }
    };
    let mut rest = Vec::new();
    client
        .0
        .sock
        .read_to_end(&mut rest)
        .expect("it ends in order");
    alert
}

#[test]
fn a_broken_record_is_answered_by_an_alert_wherever_it_stands() {
    let backend = Backend::start(|conn| {
        while let Some(head) = conn.head() {
            if head.start.contains("/held") {
                conn.wait_for_close();
                return;
            }
            conn.reply(reply(200, "", "ok"));
        }
    });
    let (authority, folder) = (Authority::new(), Folder::new());
    let issued = authority.issue(&["a.example"]);
    let weir = serving(&backend, &files(&folder, "a", &issued), "");
    let upload = "POST /held HTTP/1.1\r\nHost: a.example\r\nContent-Length: 900000\r\n\r\nbegun";
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (first, behind) in [
            ("", 0),
            ("GET / HT", 0),
            ("GET / HT", 100_000),
            (upload, 0),
            (upload, 100_000),
            ("GET /held HTTP/1.1\r\nHost: a.example\r\n\r\n", 0),
        ] {
            let meeting = Meeting {
                version,
                ..Meeting::of(&authority, "a.example")
            };
            let mut client = meeting.connect(weir.port).expect("hands are shaken");
            client.0.write_all(first.as_bytes()).expect("it is sent");
            client.0.flush().expect("it is sent");
            // It is taken for what it is where the proxy has come to by then.
            std::thread::sleep(std::time::Duration::from_millis(50));
            let record = [broken_record(), vec![9; behind]].concat();
            client.0.sock.write_all(&record).expect("it is sent");
            let alert = told(&mut client);
            assert_eq!(alert, AlertDescription::BadRecordMac, "{first:?} {behind}");
        }
    }
}
