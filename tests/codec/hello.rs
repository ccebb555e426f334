//! The first message of TLS clients: those that rustls makes, whole and in pieces, and what is none.

use std::sync::Arc;

use proptest::prelude::*;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, crypto,
};
use weirkeeper::message::client_hello::{ClientHello, Malformed, Progress, read};

/// How a client is made.
#[derive(Clone)]
struct Made {
    version: &'static SupportedProtocolVersion,
    name: &'static str,
    sni: bool,
    protocols: Vec<Vec<u8>>,
    record: Option<usize>,
}

fn made(version: &'static SupportedProtocolVersion) -> Made {
    Made {
        version,
        name: "Shop.Example.com",
        sni: true,
        protocols: Vec::new(),
        record: None,
    }
}

/// The bytes that such a client sends first.
fn first_bytes(made: &Made) -> Vec<u8> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[made.version])
        .expect("the provider knows it")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = made.sni;
    config.alpn_protocols.clone_from(&made.protocols);
    config.max_fragment_size = made.record;
    let name = ServerName::try_from(made.name).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("memory takes it");
    }
    bytes
}

fn done(name: Option<&str>, protocols: &[Vec<u8>]) -> Result<Progress, Malformed> {
    Ok(Progress::Done(ClientHello {
        server_name: name.map(str::to_owned),
        protocols: protocols.to_vec(),
    }))
}

const NAME: Option<&str> = Some("shop.example.com");

#[test]
fn the_name_is_read_of_both_versions() {
    for version in [&TLS12, &TLS13] {
        let mut made = made(version);
        assert_eq!(read(&first_bytes(&made)), done(NAME, &[]));
        made.protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        assert_eq!(read(&first_bytes(&made)), done(NAME, &made.protocols));
        made.sni = false;
        assert_eq!(read(&first_bytes(&made)), done(None, &made.protocols));
        // rustls sends no name for an address.
        made.sni = true;
        made.name = "192.0.2.1";
        assert_eq!(read(&first_bytes(&made)), done(None, &made.protocols));
    }
}

/// RFC 6066 section 3 has no final dot in it, and some clients send one. It is the same name, as it is in Host.
#[test]
fn a_final_dot_is_no_part_of_the_name() {
    let replaced = |name: &[u8; 16]| {
        let mut bytes = first_bytes(&made(&TLS13));
        let at = bytes
            .windows(16)
            .position(|part| part.eq_ignore_ascii_case(b"shop.example.com"));
        let at = at.expect("it is in the clear");
        bytes[at..at + 16].copy_from_slice(name);
        read(&bytes)
    };
    assert_eq!(
        replaced(b"Shop.Example.ru."),
        done(Some("shop.example.ru"), &[])
    );
    // An address is none with a dot either.
    assert_eq!(replaced(b"192.168.100.200."), done(None, &[]));
    // One dot is dropped, and what is left of these is not a name that anybody has.
    assert_eq!(
        replaced(b"shop.example.c.."),
        done(Some("shop.example.c."), &[])
    );
}

#[test]
fn a_large_message_in_many_records_is_put_together() {
    let mut made = made(&TLS13);
    made.protocols = (0..300)
        .map(|i| format!("protocol-number-{i}").into_bytes())
        .collect();
    for record in [None, Some(32), Some(100), Some(4096)] {
        made.record = record;
        let bytes = first_bytes(&made);
        assert!(bytes.len() > 5000);
        assert_eq!(read(&bytes), done(NAME, &made.protocols), "{record:?}");
        let mut more = bytes.clone();
        more.extend_from_slice(b"what comes behind");
        assert_eq!(read(&more), done(NAME, &made.protocols));
        for cut in (0..bytes.len()).step_by(97) {
            assert_eq!(read(&bytes[..cut]), Ok(Progress::More), "{cut}");
        }
    }
    made.protocols = (0..900)
        .map(|i| format!("protocol-number-{i}").into_bytes())
        .collect();
    assert_eq!(read(&first_bytes(&made)), Err(Malformed), "above 16 KiB");
}

/// A message with these extensions, in one record.
fn hello(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend_from_slice(&kind.to_be_bytes());
        list.extend_from_slice(&(content.len() as u16).to_be_bytes());
        list.extend_from_slice(content);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&(list.len() as u16).to_be_bytes());
    body.extend(list);
    let mut bytes = vec![22, 3, 1];
    bytes.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn what_has_two_readings_or_none_is_refused() {
    let a: &[u8] = &[0, 4, 0, 0, 1, b'a'];
    assert_eq!(read(&hello(&[(0, a)])), done(Some("a"), &[]));
    assert_eq!(read(&hello(&[])), done(None, &[]));
    let address: &[u8] = &[0, 10, 0, 0, 7, b'1', b'.', b'1', b'.', b'1', b'.', b'1'];
    assert_eq!(read(&hello(&[(0, address)])), done(None, &[]));
    for bad in [
        hello(&[(0, a), (0, a)]),
        hello(&[(9999, &[]), (9999, &[])]),
        hello(&[(0, &[])]),
        hello(&[(0, &[0, 3, 0, 0, 0])]),
        hello(&[(0, &[0, 4, 1, 0, 1, b'a'])]),
        hello(&[(0, &[0, 4, 0, 0, 1, b'/'])]),
        hello(&[(0, &[0, 4, 0, 0, 1, 0])]),
        hello(&[(0, &[0, 8, 0, 0, 1, b'a', 0, 0, 1, b'b'])]),
        hello(&[(0, &[0, 4, 0, 0, 1, b'a', 9])]),
        hello(&[(16, &[0, 0])]),
        hello(&[(16, &[0, 1, 0])]),
        hello(&[(16, &[0, 3, 5, b'h', b'2'])]),
        b"GET / HTTP/1.1\r\n".to_vec(),
        vec![22, 2, 0],
        vec![22, 3, 1, 0, 0],
        vec![22, 3, 1, 0x40, 1],
        vec![22, 3, 1, 0, 4, 2],
        vec![22, 3, 1, 0, 4, 1, 1, 0, 0],
    ] {
        assert_eq!(read(&bad), Err(Malformed), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn a_cut_message_asks_for_more_and_a_bent_one_never_panics(
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let bytes = hello(&[(0, &[0, 4, 0, 0, 1, b'a']), (16, &[0, 3, 2, b'h', b'2'])]);
        let at = at.index(bytes.len());
        prop_assert_eq!(read(&bytes[..at]), Ok(Progress::More));
        let mut bent = bytes.clone();
        bent[at] ^= flip;
        let _ = read(&bent);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..60) {
        let _ = read(&bytes);
        let mut begun = hello(&[(0, &[0, 4, 0, 0, 1, b'a'])]);
        begun.truncate(cut);
        begun.extend_from_slice(&bytes);
        let _ = read(&begun);
    }
}
