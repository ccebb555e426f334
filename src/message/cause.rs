//! Why a request was not answered by a backend: the one error taxonomy. It knows sides, not status codes.

use std::fmt;

/// Whose doing it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client sent something that cannot be served, or went away.
    Client,
    /// The backend refused, died, stalled or broke the protocol.
    Backend,
    /// The proxy itself: its bounds, its config, a defect.
    Internal,
}

/// Why a request ended without a backend's whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The request breaks RFC 9110 or 9112 (its head, its Host, its target).
    BadRequest,
    /// The request's body breaks its framing, or ended early.
    BadRequestBody,
    /// The target is longer than the limit.
    UriTooLong,
    /// The head is larger than the limit, or has too many fields.
    HeadTooLarge,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The client was too slow with its head or its body.
    ClientTimeout,
    /// The client moved less than the minimum rate, of its request or of its answer.
    ClientSlow,
    /// The client's address has as many connections as it may have.
    AddressFull,
    /// The client's TLS handshake failed.
    ClientTls,
    /// The client spoke in the clear where TLS is spoken.
    NotTls,
    /// The client spoke TLS where plain HTTP is spoken.
    TlsInClear,
    /// The request came over a connection that was made for another name.
    Misdirected,
    /// The client went away.
    ClientGone,
    /// The method is not served here (CONNECT without a tunnel of WebSocket).
    MethodNotAllowed,
    /// The request names a method or a transfer coding that no server here can know.
    NotImplemented,
    /// The request is written in a version of HTTP that is not spoken on this connection.
    VersionUnsupported,
    /// No route matches.
    NoRoute,
    /// The request has been on its way to the same upstream before, and would go round for ever.
    Loop,
    /// The queue was full.
    QueueFull,
    /// It waited too long for a backend.
    QueueTimeout,
    /// The upstream has no backend that could take it.
    NoBackend,
    /// The request's own deadline passed.
    Deadline,
    /// The upstream has as many tunnels open as it may have.
    TunnelsFull,
    /// The name of the backend did not resolve.
    Dns,
    /// The backend refused the connection.
    ConnectRefused,
    /// The connection to the backend was not made in time.
    ConnectTimeout,
    /// The connection to the backend failed otherwise (unreachable, reset).
    ConnectFailed,
    /// The proxy has as many files open as it may have, so that no backend could be reached in time.
    NoDescriptor,
    /// The machine has no local port left for the backend.
    NoPort,
    /// The backend's certificate does not verify.
    TlsCertificate,
    /// The backend refused the handshake by an alert, as it does where it wants a certificate of ours.
    TlsAlert,
    /// The backend speaks no TLS that we speak.
    TlsProtocol,
    /// The backend closed the connection before its response began.
    BackendClosed,
    /// The backend sent no response in time.
    FirstByteTimeout,
    /// The backend answered with a status that another one was to be tried for, and there was no other.
    BackendStatus,
    /// The backend's response is not HTTP, or not framed in one certain way.
    BadResponse,
    /// The backend's head is larger than the limit.
    ResponseHeadTooLarge,
    /// The backend broke off within its response body.
    ResponseIncomplete,
    /// The backend stalled within its response body.
    BodyTimeout,
    /// Nothing passed through a tunnel, either way, for too long.
    TunnelIdle,
    /// A UDP session gave way to a newer one, since the table was full.
    SessionEvicted,
    /// A panic, caught: a defect of the proxy.
    Panic,
    /// The proxy is stopping.
    ShuttingDown,
}

impl Cause {
    /// Whose doing it was.
    pub fn side(self) -> Side {
        use Cause::*;
        match self {
            BadRequest | BadRequestBody | UriTooLong | HeadTooLarge | BodyTooLarge
            | ClientTimeout | ClientSlow | AddressFull | ClientTls | NotTls | TlsInClear
            | Misdirected | ClientGone | MethodNotAllowed | NotImplemented | VersionUnsupported => {
                Side::Client
            }
            Dns | ConnectRefused | ConnectTimeout | ConnectFailed | TlsCertificate | TlsAlert
            | TlsProtocol | BackendClosed | FirstByteTimeout | BackendStatus | BadResponse
            | ResponseHeadTooLarge | ResponseIncomplete | BodyTimeout => Side::Backend,
            NoDescriptor | NoPort | NoRoute | Loop | QueueFull | QueueTimeout | NoBackend
            | Deadline | TunnelsFull | TunnelIdle | SessionEvicted | Panic | ShuttingDown => {
                Side::Internal
            }
        }
    }

    /// Its name in logs and metrics: `connect_refused`.
    pub fn name(self) -> &'static str {
        use Cause::*;
        match self {
            BadRequest => "bad_request",
            BadRequestBody => "bad_request_body",
            UriTooLong => "uri_too_long",
            HeadTooLarge => "head_too_large",
            BodyTooLarge => "body_too_large",
            ClientTimeout => "client_timeout",
            ClientSlow => "client_slow",
            AddressFull => "address_full",
            ClientTls => "client_tls",
            NotTls => "not_tls",
            TlsInClear => "tls_in_clear",
            Misdirected => "misdirected",
            ClientGone => "client_gone",
            MethodNotAllowed => "method_not_allowed",
            NotImplemented => "not_implemented",
            VersionUnsupported => "version_unsupported",
            NoRoute => "no_route",
            Loop => "loop",
            QueueFull => "queue_full",
            QueueTimeout => "queue_timeout",
            NoBackend => "no_backend",
            Deadline => "deadline",
            TunnelsFull => "tunnels_full",
            Dns => "dns",
            ConnectRefused => "connect_refused",
            ConnectTimeout => "connect_timeout",
            ConnectFailed => "connect_failed",
            NoDescriptor => "no_descriptor",
            NoPort => "no_port",
            TlsCertificate => "tls_certificate",
            TlsAlert => "tls_alert",
            TlsProtocol => "tls_protocol",
            BackendClosed => "backend_closed",
            FirstByteTimeout => "first_byte_timeout",
            BackendStatus => "backend_status",
            BadResponse => "bad_response",
            ResponseHeadTooLarge => "response_head_too_large",
            ResponseIncomplete => "response_incomplete",
            BodyTimeout => "body_timeout",
            TunnelIdle => "tunnel_idle",
            SessionEvicted => "session_evicted",
            Panic => "panic",
            ShuttingDown => "shutting_down",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Cause {}
