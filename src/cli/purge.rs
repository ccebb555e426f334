//! `weir purge`: tells a running proxy to forget stored responses, through its admin port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use http::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::args::{PurgeArgs, Url};
use super::{FAILURE, FINE, runtime};
use crate::env::tokio::TokioEnv;
use crate::env::{Clock, Env, Net};
use crate::h1::{self, BodyFraming, HeadLimits, Piece, ResponseDecoder};

/// How long the proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

const LIMITS: HeadLimits = HeadLimits {
    bytes: 16 * 1024,
    fields: 64,
};

/// Exit code 1 when the proxy cannot be reached or refuses.
pub(super) fn run(args: &PurgeArgs) -> io::Result<u8> {
    let target = target(args);
    let admin = &args.admin;
    let (status, body) = runtime()?.block_on(async {
        let env = TokioEnv::new()?;
        let clock = *env.clock();
        let asked = clock.timeout(PATIENCE, ask(&env, admin, &target)).await;
        let answer = asked.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
        answer.map_err(|error| {
            let text = format!(
                "no answer from the admin port at {}: {error}; is weir running, and is --admin what it printed?",
                admin.authority
            );
            io::Error::new(error.kind(), text)
        })
    })?;
    if status != 200 {
        let said = String::from_utf8_lossy(&body);
        eprintln!("error: the proxy answered {status}: {}", said.trim_end());
        return Ok(FAILURE);
    }
    let answer: Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
    report(&answer);
    Ok(FINE)
}

/// The request's target.
fn target(args: &PurgeArgs) -> String {
    let what = match (&args.url, &args.prefix, &args.tag) {
        (Some(url), _, _) => format!("url={}", encoded(url)),
        (None, Some(prefix), _) => format!("prefix={}", encoded(prefix)),
        (None, None, Some(tag)) => format!("tag={}", encoded(tag)),
        // The definition of the arguments asks for one of the four.
        (None, None, None) => "all".into(),
    };
    let soft = if args.soft { "&soft" } else { "" };
    format!("/cache/purge?{what}{soft}")
}

/// Percent-encoded, all but what no query gives a meaning.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte) {
            out.push(byte.into());
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Sends the order to the first address that takes it; returns the status and the body of the answer.
async fn ask(env: &TokioEnv, admin: &Url, target: &str) -> io::Result<(u16, Vec<u8>)> {
    let mut failure = io::Error::other("the name has no address");
    for addr in env.net().resolve(&admin.host, admin.port).await? {
        match env.net().connect(addr).await {
            Ok(stream) => return exchange(stream, addr, target).await,
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn exchange(
    mut stream: tokio::net::TcpStream,
    addr: SocketAddr,
    target: &str,
) -> io::Result<(u16, Vec<u8>)> {
    let mut head = BytesMut::new();
    h1::request_line(&mut head, &Method::POST, &[target]);
    // The address, and not its name: the admin port takes orders under no other name than localhost.
    h1::field(&mut head, b"host", addr.to_string().as_bytes());
    h1::field(&mut head, b"user-agent", b"weir-purge");
    h1::field(&mut head, b"connection", b"close");
    h1::framing(&mut head, BodyFraming::Length(0));
    h1::end_of_head(&mut head);
    stream.write_all(&head).await?;
    let malformed = |error: h1::DecodeError| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut decoder = ResponseDecoder::new(&Method::POST, LIMITS);
    let mut buf = BytesMut::with_capacity(4096);
    let status = loop {
        match decoder.head(&mut buf).map_err(malformed)? {
            Some(head) if !head.interim => break head.status.as_u16(),
            Some(_) => {}
            None if stream.read_buf(&mut buf).await? == 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            None => {}
        }
    };
    let mut body = Vec::new();
    loop {
        match decoder.body(&mut buf).map_err(malformed)? {
            Piece::Data(data) => body.extend_from_slice(&data),
            Piece::End(_) => return Ok((status, body)),
            Piece::NeedMore if stream.read_buf(&mut buf).await? == 0 => {
                decoder.eof().map_err(malformed)?;
            }
            Piece::NeedMore => {}
        }
    }
}

/// What came of it, for a person.
fn report(answer: &Value) {
    let count = answer["purged"].as_u64().unwrap_or(0);
    let responses = if count == 1 { "response" } else { "responses" };
    let done = if answer["soft"] == true {
        "kept for validation"
    } else {
        "purged"
    };
    let told = if answer["replicas"] == "queued" {
        "; Redis and the other replicas are told"
    } else {
        ""
    };
    println!("{count} {responses} {done}{told}");
    if count == 0
        && let Some(url) = answer["url"].as_str().or(answer["prefix"].as_str())
    {
        println!("nothing is in memory under {url}");
    }
    if answer["replicas"] == "unreachable" {
        eprintln!(
            "warning: Redis is not reachable, so it and the other replicas were not told yet"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_query_could_misread_is_encoded() {
        assert_eq!(
            encoded("http://a:81/b?c=d&e=%20+ü"),
            "http://a:81/b%3Fc%3Dd%26e%3D%2520%2B%C3%BC"
        );
    }
}
