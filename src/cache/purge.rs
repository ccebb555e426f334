//! Orders to forget.

/// What to forget, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Which entries.
    pub what: Selection,
    /// Softly: keep them for revalidation and for times of need, but serve none of them as fresh.
    pub soft: bool,
}

/// Which entries. A key begins with its URL and a line feed (see [`key`](super::key)), and so do its variants' keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All that lies under this URL: `scheme://host[:port]/path[?query]` in the key's normal form.
    Url(String),
    /// All whose URL begins with this.
    Prefix(String),
    /// All whose Surrogate-Key (by spaces) or Cache-Tag (by commas) field names this tag.
    Tag(String),
    /// Everything.
    All,
}
