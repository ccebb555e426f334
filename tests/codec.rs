//! The HTTP/1.1 codec towards backends and the rules on messages: RFC 9110 and 9112 by name, and properties.
