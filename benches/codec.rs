//! What the codec costs: one response of ten fields and 128 bytes, a browser's GET read with its target, one request head
//! written, 16 KiB in chunks, and a target that is normal already beside one that is not.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use weirkeeper::h1::{
    self, BodyFraming, HeadLimits, Piece, RequestDecoder, RequestLimits, ResponseDecoder,
};
use weirkeeper::message::path::PathRules;
use weirkeeper::message::{fields, target};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 32 * 1024,
    fields: 100,
};

fn response() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\n\
        Server: nginx/1.22.1\r\n\
        Date: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
        Content-Type: application/json; charset=utf-8\r\n\
        Content-Length: 128\r\n\
        Last-Modified: Mon, 23 Nov 2026 09:00:00 GMT\r\n\
        Connection: keep-alive\r\n\
        ETag: \"65f0a1b2-80\"\r\n\
        Cache-Control: max-age=60, public\r\n\
        X-Request-Id: 0123456789abcdef0123456789abcdef\r\n\
        Accept-Ranges: bytes\r\n\r\n";
    [head.as_bytes(), &[b'x'; 128]].concat()
}

fn browser_get() -> BytesMut {
    BytesMut::from(
        "GET /articles/2026/11/a-page.html?from=home&page=2 HTTP/1.1\r\n\
        Host: www.example.com\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
        Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
        Accept-Encoding: gzip, deflate, br, zstd\r\n\
        Referer: https://www.example.com/\r\n\
        Connection: keep-alive\r\n\
        Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n\
        Upgrade-Insecure-Requests: 1\r\n\
        Sec-Fetch-Mode: navigate\r\n\r\n",
    )
}

/// Decodes one request without a body, and reads its target.
fn decode_request(mut buf: BytesMut) -> usize {
    let limits = RequestLimits {
        head: LIMITS,
        uri_bytes: 16 * 1024,
    };
    let mut decoder = RequestDecoder::new(limits);
    let head = decoder.head(&mut buf).expect("the head is well-formed");
    let head = head.expect("the head is whole");
    let target = target::read(
        &head.method,
        &head.target,
        &head.headers,
        head.version,
        &PathRules::KEEP,
    )
    .expect("the target is valid");
    assert!(decoder.is_body_done() && head.keep_alive);
    black_box((&head, target.path().len())).1
}

fn chunked() -> BytesMut {
    let mut wire = BytesMut::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in [b'x'; 16 * 1024].chunks(4096) {
        h1::chunk_head(&mut wire, chunk.len());
        wire.extend_from_slice(chunk);
        wire.extend_from_slice(h1::CHUNK_TAIL);
    }
    h1::last_chunk(&mut wire, None);
    wire
}

/// Decodes one whole response and returns the length of its body.
fn decode(mut buf: BytesMut) -> usize {
    let mut decoder = ResponseDecoder::new(&Method::GET, LIMITS);
    let head = decoder.head(&mut buf).expect("the head is well-formed");
    black_box(&head.expect("the head is whole").headers);
    let mut length = 0;
    loop {
        match decoder.body(&mut buf).expect("the body is well-formed") {
            Piece::Data(data) => length += black_box(data).len(),
            Piece::NeedMore => panic!("the body is whole"),
            Piece::End(_) => break,
        }
    }
    assert!(decoder.reusable(&buf));
    length
}

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for (name, wire) in [
        ("10 fields and 128 B", BytesMut::from(&response()[..])),
        ("chunked 16 KiB", chunked()),
    ] {
        group.throughput(Throughput::Bytes(wire.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched(|| wire.clone(), decode, BatchSize::SmallInput);
        });
    }
    let wire = browser_get();
    group.throughput(Throughput::Bytes(wire.len() as u64));
    group.bench_function("a browser's GET", |b| {
        b.iter_batched(|| wire.clone(), decode_request, BatchSize::SmallInput);
    });
    group.finish();
}

fn encoding(c: &mut Criterion) {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::HOST, "www.example.com"),
        (header::USER_AGENT, "Mozilla/5.0 (X11; Linux x86_64)"),
        (header::ACCEPT, "text/html,application/xhtml+xml"),
        (header::ACCEPT_ENCODING, "gzip, br"),
        (header::ACCEPT_LANGUAGE, "en"),
        (header::COOKIE, "session=0123456789abcdef"),
        (header::VIA, "1.1 weir"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut out = BytesMut::with_capacity(4096);
    let peer = [192, 0, 2, 1].into();
    let mut group = c.benchmark_group("encode");
    group.bench_function("request head", |b| {
        b.iter(|| {
            out.clear();
            h1::request_line(&mut out, &Method::GET, &["/api", "/items/1", "?", "a=b"]);
            for (name, value) in black_box(&headers) {
                if !fields::is_hop_by_hop(name) {
                    h1::field(&mut out, name.as_str().as_bytes(), value.as_bytes());
                }
            }
            out.extend_from_slice(b"x-forwarded-for: ");
            fields::forwarded_for(&mut out, [], peer, false);
            out.extend_from_slice(b"\r\n");
            h1::framing(&mut out, BodyFraming::Length(4096));
            h1::end_of_head(&mut out);
            black_box(out.len())
        });
    });
    let data = [b'x'; 16 * 1024];
    let mut out = BytesMut::with_capacity(32 * 1024);
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("chunked 16 KiB", |b| {
        b.iter(|| {
            out.clear();
            h1::chunk_head(&mut out, data.len());
            out.extend_from_slice(black_box(&data));
            out.extend_from_slice(h1::CHUNK_TAIL);
            h1::last_chunk(&mut out, None);
            black_box(out.len())
        });
    });
    group.finish();
}

fn targets(c: &mut Criterion) {
    let mut headers = HeaderMap::new();
    headers.insert(
        header::HOST,
        HeaderValue::from_static("www.example.com:8080"),
    );
    let headers = headers.into();
    let mut group = c.benchmark_group("target");
    for (name, uri) in [
        ("normal", "/api/v1/items/12345.json?a=b&c=d"),
        (
            "to be normalised",
            "/api/./v1/%69tems/x/../12345%2fjson?a=b&c=d",
        ),
    ] {
        let uri = Uri::from_static(uri);
        group.bench_function(name, |b| {
            b.iter(|| {
                let target = target::parse(
                    &Method::GET,
                    black_box(&uri),
                    &headers,
                    Version::HTTP_11,
                    &PathRules::KEEP,
                )
                .expect("the target is valid");
                black_box((target.host().len(), target.path().len()))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decoding, encoding, targets);
criterion_main!(benches);
