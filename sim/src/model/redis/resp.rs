//! RESP2, as much as a server needs: commands are arrays of strings, replies are written out.

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+text`.
    Simple(&'static str),
    /// `-text`.
    Error(String),
    /// `:n`.
    Int(i64),
    /// A string.
    Bulk(Vec<u8>),
    /// No string.
    Nil,
    /// No array.
    NoArray,
    /// Some replies.
    Array(Vec<Reply>),
}

impl Reply {
    /// A string.
    pub fn bulk(text: impl Into<Vec<u8>>) -> Self {
        Reply::Bulk(text.into())
    }

    /// Appends it as it goes on the wire.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Reply::Simple(text) => out.extend_from_slice(format!("+{text}\r\n").as_bytes()),
            Reply::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Reply::Int(n) => out.extend_from_slice(format!(":{n}\r\n").as_bytes()),
            Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
            Reply::NoArray => out.extend_from_slice(b"*-1\r\n"),
            Reply::Bulk(bytes) => {
                out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Reply::Array(items) => {
                out.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|item| item.write(out));
            }
        }
    }
}

/// A command: its name and its arguments.
pub type Command = Vec<Vec<u8>>;

/// The first command in `buf` and its length; `None` while there is more to come.
///
/// # Errors
/// It is no command.
pub fn parse(buf: &[u8]) -> Result<Option<(usize, Command)>, ()> {
    let mut at = 0;
    let Some(count) = number(buf, &mut at, b'*')? else {
        return Ok(None);
    };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(len) = number(buf, &mut at, b'$')? else {
            return Ok(None);
        };
        let Some(word) = buf.get(at..at + len) else {
            return Ok(None);
        };
        match buf.get(at + len..at + len + 2) {
            None => return Ok(None),
            Some(b"\r\n") => {}
            Some(_) => return Err(()),
        }
        words.push(word.to_vec());
        at += len + 2;
    }
    Ok(Some((at, words)))
}

/// The number behind `mark`, on a line of its own.
fn number(buf: &[u8], at: &mut usize, mark: u8) -> Result<Option<usize>, ()> {
    let rest = &buf[*at..];
    if rest.first().is_some_and(|b| *b != mark) {
        return Err(());
    }
    let Some(end) = rest.windows(2).position(|w| w == b"\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&rest[1..end]).map_err(|_| ())?;
    *at += end + 2;
    text.parse().map(Some).map_err(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_wherever_they_are_cut() {
        let text = b"*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n*1\r\n$4\r\nPING\r\n";
        let whole = parse(text).expect("a command").expect("all of it");
        assert_eq!(whole, (23, vec![b"GET".to_vec(), b"a\r\nb".to_vec()]));
        for cut in 0..23 {
            assert_eq!(parse(&text[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(parse(b"PING\r\n"), Err(()));
        assert_eq!(parse(b"*1\r\n$1\r\nxyz"), Err(()));
    }
}
