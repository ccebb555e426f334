//! The form in which a stored response lies in Redis.

/// How a record's content is written down. Any of them is read, whichever is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Serializer {
    /// Binary, the body as it is.
    #[default]
    Binary,
    /// JSON, for people; the body in base64 unless it is text.
    Json,
    /// Binary, compressed with LZ4 where that makes it smaller.
    Lz4,
}
