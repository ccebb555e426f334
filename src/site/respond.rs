//! The one table from causes to status codes, Proxy-Status (RFC 9209) and words; nothing else here knows a status code.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::message::cause::Cause;
use crate::upstream::inbound::PSEUDONYM;

static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Seconds that a shed client is asked to wait.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

struct Row {
    status: StatusCode,
    /// RFC 9209 section 2.3, or a name of our own where it has none.
    error: &'static str,
    /// For a person.
    says: &'static str,
}

const fn row(status: StatusCode, error: &'static str, says: &'static str) -> Row {
    Row {
        status,
        error,
        says,
    }
}

#[expect(clippy::too_many_lines, reason = "a table, a row for each cause")]
fn table(cause: Cause) -> Row {
    use Cause::*;
    use StatusCode as S;
    match cause {
        BadRequest => row(
            S::BAD_REQUEST,
            "http_request_error",
            "the request is malformed",
        ),
        BadRequestBody => row(
            S::BAD_REQUEST,
            "http_request_error",
            "the request's body is malformed",
        ),
        UriTooLong => row(
            S::URI_TOO_LONG,
            "http_request_error",
            "the request's target is too long",
        ),
        HeadTooLarge => row(
            S::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "http_request_error",
            "the request's head is too large",
        ),
        BodyTooLarge => row(
            S::PAYLOAD_TOO_LARGE,
            "http_request_error",
            "the request's body is too large",
        ),
        ClientTimeout => row(
            S::REQUEST_TIMEOUT,
            "http_request_error",
            "the request did not come in time",
        ),
        ClientSlow => row(
            S::REQUEST_TIMEOUT,
            "http_request_error",
            "the request comes too slowly",
        ),
        AddressFull => row(
            S::TOO_MANY_REQUESTS,
            "connection_limit_reached",
            "the client's address has too many connections",
        ),
        ClientTls => row(
            S::BAD_REQUEST,
            "tls_protocol_error",
            "the TLS handshake failed",
        ),
        NotTls => row(
            S::BAD_REQUEST,
            "http_request_error",
            "plain HTTP was sent where HTTPS is served",
        ),
        TlsInClear => row(
            S::BAD_REQUEST,
            "http_request_error",
            "TLS was sent where plain HTTP is served",
        ),
        Misdirected => row(
            S::MISDIRECTED_REQUEST,
            "http_request_denied",
            "the connection was made for another host",
        ),
        // nginx's code for the log; nobody is there to read it.
        ClientGone => row(
            CLIENT_CLOSED_REQUEST,
            "http_request_error",
            "the client went away",
        ),
        MethodNotAllowed => row(
            S::METHOD_NOT_ALLOWED,
            "http_request_denied",
            "the method is not served here",
        ),
        NotImplemented => row(
            S::NOT_IMPLEMENTED,
            "http_request_denied",
            "the method or the transfer coding is not known here",
        ),
        VersionUnsupported => row(
            S::HTTP_VERSION_NOT_SUPPORTED,
            "http_request_error",
            "this version of HTTP is not spoken here",
        ),
        NoRoute => row(
            S::NOT_FOUND,
            "destination_not_found",
            "no route matches the request",
        ),
        Loop => row(
            S::LOOP_DETECTED,
            "proxy_loop_detected",
            "the request has come back to where it was sent from",
        ),
        QueueFull => row(
            S::SERVICE_UNAVAILABLE,
            "connection_limit_reached",
            "the queue is full",
        ),
        QueueTimeout => row(
            S::SERVICE_UNAVAILABLE,
            "connection_limit_reached",
            "no backend was free in time",
        ),
        NoBackend => row(
            S::SERVICE_UNAVAILABLE,
            "destination_unavailable",
            "there is no backend to take the request",
        ),
        Deadline => row(
            S::GATEWAY_TIMEOUT,
            "http_response_timeout",
            "the request's time is over",
        ),
        TunnelsFull => row(
            S::SERVICE_UNAVAILABLE,
            "connection_limit_reached",
            "too many upgraded connections are open",
        ),
        Dns => row(
            S::BAD_GATEWAY,
            "dns_error",
            "the backend's name does not resolve",
        ),
        ConnectRefused => row(
            S::BAD_GATEWAY,
            "connection_refused",
            "the backend refused the connection",
        ),
        ConnectTimeout => row(
            S::GATEWAY_TIMEOUT,
            "connection_timeout",
            "the backend did not accept in time",
        ),
        NoDescriptor => row(
            S::SERVICE_UNAVAILABLE,
            "connection_limit_reached",
            "the proxy has too many files open to reach a backend",
        ),
        NoPort => row(
            S::SERVICE_UNAVAILABLE,
            "connection_limit_reached",
            "the proxy has no local port left to reach a backend",
        ),
        ConnectFailed => row(
            S::BAD_GATEWAY,
            "destination_ip_unroutable",
            "the backend cannot be reached",
        ),
        TlsCertificate => row(
            S::BAD_GATEWAY,
            "tls_certificate_error",
            "the backend's certificate is not to be trusted",
        ),
        TlsAlert => row(
            S::BAD_GATEWAY,
            "tls_alert_received",
            "the backend refused the TLS handshake",
        ),
        TlsProtocol => row(
            S::BAD_GATEWAY,
            "tls_protocol_error",
            "the TLS handshake with the backend failed",
        ),
        BackendClosed => row(
            S::BAD_GATEWAY,
            "connection_terminated",
            "the backend closed before it answered",
        ),
        FirstByteTimeout => row(
            S::GATEWAY_TIMEOUT,
            "http_response_timeout",
            "the backend did not answer in time",
        ),
        BackendStatus => row(
            S::BAD_GATEWAY,
            "destination_unavailable",
            "the backend answered that it cannot, and no other one could be tried",
        ),
        BadResponse => row(
            S::BAD_GATEWAY,
            "http_protocol_error",
            "the backend's answer is malformed",
        ),
        ResponseHeadTooLarge => row(
            S::BAD_GATEWAY,
            "http_response_header_section_size",
            "the backend's head is too large",
        ),
        ResponseIncomplete => row(
            S::BAD_GATEWAY,
            "http_response_incomplete",
            "the backend broke off",
        ),
        BodyTimeout => row(
            S::GATEWAY_TIMEOUT,
            "http_response_timeout",
            "the backend stalled",
        ),
        TunnelIdle => row(
            S::GATEWAY_TIMEOUT,
            "connection_read_timeout",
            "nothing passed for too long",
        ),
        SessionEvicted => row(
            S::SERVICE_UNAVAILABLE,
            "connection_limit_reached",
            "a newer session took its place",
        ),
        Panic => row(
            S::INTERNAL_SERVER_ERROR,
            "proxy_internal_error",
            "the proxy failed on this request",
        ),
        ShuttingDown => row(
            S::SERVICE_UNAVAILABLE,
            "destination_unavailable",
            "the proxy is stopping",
        ),
    }
}

/// 499, which has no name in the registry.
const CLIENT_CLOSED_REQUEST: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::BAD_REQUEST,
};

/// The answer for a request that failed for `cause`. Date and body framing are the caller's.
pub fn refusal(cause: Cause) -> Response<Bytes> {
    let row = table(cause);
    let mut response = Response::new(Bytes::from(body(&row)));
    *response.status_mut() = row.status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if let Ok(value) = HeaderValue::try_from(proxy_status(cause, &row)) {
        headers.insert(&PROXY_STATUS, value);
    }
    if row.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    if cause == Cause::MethodNotAllowed {
        // RFC 9110 section 15.5.6 asks for the list; CONNECT is the one method that is never served.
        headers.insert(
            header::ALLOW,
            HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS, TRACE"),
        );
    }
    if closes(cause) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The status that a request is answered with that failed for `cause`.
pub fn status(cause: Cause) -> StatusCode {
    table(cause).status
}

/// A refusal as bytes, in answer to what is no request. The connection closes behind it.
pub fn raw(cause: Cause, date: &HeaderValue) -> Vec<u8> {
    let mut response = refusal(cause);
    let headers: &mut HeaderMap = response.headers_mut();
    headers.insert(header::DATE, date.clone());
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let status = response.status();
    let mut out = format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or("")
    )
    .into_bytes();
    for (name, value) in response.headers() {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("content-length: {}\r\n\r\n", response.body().len()).as_bytes());
    out.extend_from_slice(response.body());
    out
}

/// After these, what follows on the connection cannot be trusted or is not wanted.
fn closes(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::BadRequest
            | Cause::BadRequestBody
            | Cause::BodyTooLarge
            | Cause::ClientTimeout
            | Cause::UriTooLong
            | Cause::TlsInClear
            | Cause::NotImplemented
            | Cause::VersionUnsupported
    )
}

fn body(row: &Row) -> String {
    format!(
        "{} {}: {}\n",
        row.status.as_str(),
        row.status.canonical_reason().unwrap_or(""),
        row.says
    )
}

fn proxy_status(cause: Cause, row: &Row) -> String {
    format!(
        "{PSEUDONYM}; error={}; details=\"{}\"",
        row.error,
        cause.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shed_request_is_told_when_to_come_again() {
        let response = refusal(Cause::QueueFull);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(
            response.headers()["proxy-status"],
            "weir; error=connection_limit_reached; details=\"queue_full\""
        );
    }

    #[test]
    fn a_raw_answer_is_framed_and_closes() {
        let raw =
            String::from_utf8(raw(Cause::UriTooLong, &HeaderValue::from_static("now"))).unwrap();
        let (head, body) = raw.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 414 URI Too Long\r\n"));
        assert!(head.contains("\r\nconnection: close\r\n"));
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
    }
}
