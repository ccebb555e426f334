//! Requests whose body and answer are a conversation: neither side says all that it has to say before it hears the other.

use http::Version;

use super::inbound::Inbound;
use crate::config::model::BackendProtocol;
use crate::message::known::Known;

/// Is this a call of gRPC that can reach a backend which speaks it? Its client may be silent for long without being slow.
pub fn is_conversation(inbound: &Inbound, spoken: BackendProtocol) -> bool {
    inbound.version == Version::HTTP_2
        && spoken != BackendProtocol::Http1
        && inbound
            .headers
            .get(Known::ContentType)
            .is_some_and(|kind| kind.starts_with(b"application/grpc"))
}
