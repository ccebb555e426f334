//! The frames of HTTP/2 as they come (RFC 9113 section 4), looked at for what the library lets pass: trailers that begin with a
//! pseudo-field (section 8.1). They lose their mark of the stream's end, and trailers without it are malformed to the library
//! as well, which resets the stream. Absent: what frames mean otherwise.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::hpack::{Kind, Table};

/// Who sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Requests, behind the preface.
    Client,
    /// Responses.
    Server,
}

/// The frames that one side of a connection sends.
#[derive(Debug)]
pub struct Frames {
    sender: Sender,
    table: Table,
    /// A header block that is larger is nothing to wait for.
    bound: usize,
    /// Bytes of the frame under way, or of the preface, that are not looked at.
    left: usize,
    /// The newest stream that a client has begun.
    newest: u32,
    /// The streams whose final response head has come, and not their end.
    answered: BTreeSet<u32>,
    /// The peer broke the protocol, as the library finds as well.
    broken: bool,
}

/// What precedes a frame's payload.
const HEAD: usize = 9;

/// What no peer may exceed, since nothing larger is offered (section 6.5.2).
const FRAME: usize = 16 << 10;

/// What a client begins with (section 3.4).
const PREFACE: usize = 24;

/// Responses under way that are remembered. More are none that anybody waits for.
const ANSWERED: usize = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// A frame's head.
#[derive(Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    /// The one that begins here, if its head is whole.
    fn at(bytes: &[u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD>()?;
        let [a, b, c, kind, flags, s, t, u, v] = *head;
        Some(Frame {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff,
        })
    }

    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What a HEADERS frame has of the block, without padding and priority (section 6.2).
    fn fragment(self, mut payload: &[u8]) -> Option<&[u8]> {
        if self.has(PADDED) {
            let (padding, rest) = payload.split_first()?;
            let kept = rest.len().checked_sub(usize::from(*padding))?;
            payload = &rest[..kept];
        }
        if self.has(PRIORITY) {
            payload = payload.get(5..)?;
        }
        Some(payload)
    }
}

/// A header block is larger than any that could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

/// A header block: all of it is there, so many bytes of frames; or not yet; or never.
enum Block<'a> {
    Whole(usize, Cow<'a, [u8]>),
    Cut,
    Broken,
}

impl Frames {
    /// None has come. `bound` is in bytes of one header block's frames.
    pub fn new(sender: Sender, bound: usize) -> Self {
        Frames {
            sender,
            table: Table::default(),
            bound,
            left: match sender {
                Sender::Client => PREFACE,
                Sender::Server => 0,
            },
            newest: 0,
            answered: BTreeSet::new(),
            broken: false,
        }
    }

    /// Looks at what has come, and takes the mark of the end from trailers that are malformed. So many bytes of it may go on;
    /// the rest is to be shown again, with more behind it.
    ///
    /// # Errors
    /// What is to be shown again is a block beyond the bound. The connection is of no use any more.
    pub fn vet(&mut self, bytes: &mut [u8]) -> Result<usize, TooLarge> {
        let mut at = 0;
        while !self.broken {
            let pass = self.left.min(bytes.len() - at);
            self.left -= pass;
            at += pass;
            let Some(frame) = Frame::at(&bytes[at..]) else {
                return Ok(at);
            };
            match frame.kind {
                HEADERS => match block(&bytes[at..]) {
                    Block::Whole(length, block) => {
                        let malformed = self.is_malformed(frame, &block);
                        drop(block);
                        if malformed {
                            bytes[at + 4] &= !END_STREAM;
                        }
                        at += length;
                    }
                    Block::Cut if bytes.len() - at > self.bound => return Err(TooLarge),
                    Block::Cut => return Ok(at),
                    Block::Broken => self.broken = true,
                },
                // A block that stands behind no head, and one of a kind that nobody has asked for.
                CONTINUATION | PUSH_PROMISE => self.broken = true,
                kind => {
                    if kind == RST_STREAM || kind == DATA && frame.has(END_STREAM) {
                        self.answered.remove(&frame.stream);
                    }
                    self.left = frame.length;
                    at += HEAD;
                }
            }
        }
        Ok(bytes.len())
    }

    /// Takes a block in. Is it that of trailers which begin with a pseudo-field?
    fn is_malformed(&mut self, frame: Frame, block: &[u8]) -> bool {
        let Ok(first) = self.table.read(block) else {
            self.broken = true;
            return false;
        };
        let ends = frame.has(END_STREAM);
        let trailers = match self.sender {
            Sender::Client if frame.stream <= self.newest => true,
            Sender::Client => {
                self.newest = frame.stream;
                false
            }
            Sender::Server if ends => self.answered.remove(&frame.stream),
            Sender::Server => {
                if first != Some(Kind::Interim) {
                    self.answered.insert(frame.stream);
                }
                if self.answered.len() > ANSWERED {
                    self.answered.pop_first();
                }
                false
            }
        };
        trailers && first.is_some_and(|kind| kind != Kind::Field)
    }
}

/// The block that begins here, as its frames give it (section 4.3).
fn block(bytes: &[u8]) -> Block<'_> {
    let (mut at, mut gathered) = (0, Cow::Borrowed(&[][..]));
    while let Some(frame) = Frame::at(&bytes[at..]) {
        let is_next = at == 0 || frame.kind == CONTINUATION;
        if !is_next || frame.length > FRAME {
            return Block::Broken;
        }
        let Some(payload) = bytes.get(at + HEAD..at + HEAD + frame.length) else {
            return Block::Cut;
        };
        let fragment = match at {
            0 => frame.fragment(payload),
            _ => Some(payload),
        };
        let Some(fragment) = fragment else {
            return Block::Broken;
        };
        match at {
            0 => gathered = Cow::Borrowed(fragment),
            _ => gathered.to_mut().extend_from_slice(fragment),
        }
        at += HEAD + frame.length;
        if frame.has(END_HEADERS) {
            return Block::Whole(at, gathered);
        }
    }
    Block::Cut
}

#[cfg(test)]
mod tests;
