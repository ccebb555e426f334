//! Requests as bytes (RFC 9112, sections 3, 5, 6 and 7.1).

use bytes::BytesMut;
use http::{HeaderMap, Method};
use weirkeeper::h1::{self, BodyFraming};

use super::written;

#[test]
fn rfc9112_3_a_request_line_is_put_together_from_parts() {
    let line = |method, parts: &[&str]| written(|out| h1::request_line(out, &method, parts));
    assert_eq!(line(Method::GET, &["/"]), "GET / HTTP/1.1\r\n");
    assert_eq!(
        line(Method::POST, &["/api", "/a%2Fb", "?", "c=d"]),
        "POST /api/a%2Fb?c=d HTTP/1.1\r\n"
    );
    let brew = Method::from_bytes(b"BREW").unwrap();
    assert_eq!(line(brew, &["*", ""]), "BREW * HTTP/1.1\r\n");
}

#[test]
fn rfc9112_5_a_field_is_one_line() {
    let field = |name: &str, value: &[u8]| {
        let mut out = BytesMut::new();
        h1::field(&mut out, name.as_bytes(), value);
        out.to_vec()
    };
    assert_eq!(field("host", b"a.example:80"), b"host: a.example:80\r\n");
    assert_eq!(field("x", b""), b"x: \r\n");
    assert_eq!(field("x", b"\xfc\t\""), b"x: \xfc\t\"\r\n");
}

#[test]
fn rfc9112_6_framing_is_said_once_or_not_at_all() {
    let framing = |framing| written(|out| h1::framing(out, framing));
    assert_eq!(framing(BodyFraming::None), "");
    assert_eq!(framing(BodyFraming::Length(0)), "content-length: 0\r\n");
    assert_eq!(
        framing(BodyFraming::Length(1_234_567)),
        "content-length: 1234567\r\n"
    );
    assert_eq!(
        framing(BodyFraming::Length(u64::MAX)),
        "content-length: 18446744073709551615\r\n"
    );
    assert_eq!(
        framing(BodyFraming::Chunked),
        "transfer-encoding: chunked\r\n"
    );
}

#[test]
fn rfc9112_7_1_chunks_and_the_last_one() {
    let chunk = |len| written(|out| h1::chunk_head(out, len));
    assert_eq!(chunk(1), "1\r\n");
    assert_eq!(chunk(255), "ff\r\n");
    assert_eq!(chunk(16 * 1024), "4000\r\n");
    assert_eq!(chunk(usize::MAX), format!("{:x}\r\n", usize::MAX));
    assert_eq!(h1::CHUNK_TAIL, b"\r\n");
    assert_eq!(written(|out| h1::last_chunk(out, None)), "0\r\n\r\n");
}

#[test]
fn rfc9110_6_5_1_trailers_leave_out_what_may_not_be_there() {
    let mut trailers = HeaderMap::new();
    for (name, value) in [
        ("x-sum", "1"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("host", "evil"),
        ("authorization", "Basic x"),
        ("x-forwarded-for", "1.2.3.4"),
        ("connection", "close"),
        ("grpc-status", "0"),
    ] {
        trailers.insert(name, value.parse().unwrap());
    }
    assert_eq!(
        written(|out| h1::last_chunk(out, Some(&trailers))),
        "0\r\nx-sum: 1\r\ngrpc-status: 0\r\n\r\n"
    );
}

#[test]
fn a_whole_head_reads_back() {
    let head = written(|out| {
        h1::request_line(out, &Method::PUT, &["/a", "?", "b"]);
        h1::field(out, b"host", b"h");
        h1::framing(out, BodyFraming::Length(3));
        h1::end_of_head(out);
    });
    let mut fields = [httparse::EMPTY_HEADER; 4];
    let mut request = httparse::Request::new(&mut fields);
    let length = request.parse(head.as_bytes()).unwrap();
    assert_eq!(length, httparse::Status::Complete(head.len()));
    assert_eq!(
        (request.method, request.path, request.version),
        (Some("PUT"), Some("/a?b"), Some(1))
    );
    let fields: Vec<_> = request.headers.iter().map(|f| (f.name, f.value)).collect();
    assert_eq!(fields, [("host", &b"h"[..]), ("content-length", b"3")]);
}

#[test]
fn names_can_be_written_with_capitals() {
    let mut head = *b"GET /x-y: HTTP/1.1\r\nhost: a-b\r\nx-a-BC: x-y: z\r\n1-2a_b: c\r\n\r\n";
    h1::set_title_case(&mut head);
    let wanted = b"GET /x-y: HTTP/1.1\r\nHost: a-b\r\nX-A-Bc: x-y: z\r\n1-2a_b: c\r\n\r\n";
    assert_eq!(head, *wanted);
}
