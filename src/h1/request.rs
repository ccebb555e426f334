//! Requests out of bytes: a state machine over the caller's buffer, of fixed size itself, for all requests of a connection.
//! Drive it with `head` until a head comes, then with `body` until `End` (or with `drop_body`), then with `head` again.
//! Nothing that belongs to a body is ever read as a head.

use bytes::{Buf, BytesMut};

use super::RequestError;
use super::chunked::Chunked;
use super::framing::RequestFraming;
use super::piece::Piece;
use super::request_head::{self, RequestHead, RequestLimits};
use super::section::Scan;

/// Empty lines before one request. Old clients send one behind a body (RFC 9112, section 2.2); an endless row of them would
/// keep a connection that asks for nothing.
const MAX_EMPTY_LINES: u8 = 16;

/// Decodes the requests of one connection.
#[derive(Debug)]
pub struct RequestDecoder {
    state: State,
    limits: RequestLimits,
    empty_lines: u8,
}

#[derive(Debug)]
enum State {
    /// Before a head or within one.
    Head(Scan),
    Fixed(u64),
    Chunked(Chunked),
    /// Behind a body. The next call for a head begins with the next request.
    Done,
    Failed(RequestError),
}

/// How far the rest of a body was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// To its end: the next request may follow.
    All,
    /// As far as the buffer goes: read more.
    NeedMore,
    /// It has more bytes than may be dropped. The connection is spent.
    TooMuch,
}

impl RequestDecoder {
    /// A decoder for a connection on which nothing has been read.
    pub fn new(limits: RequestLimits) -> Self {
        RequestDecoder {
            state: State::Head(Scan::default()),
            limits,
            empty_lines: 0,
        }
    }

    /// Takes one head off the buffer, `None` if it is not whole yet. Empty lines before it are taken off as well. Any error
    /// is final.
    pub fn head(&mut self, buf: &mut BytesMut) -> Result<Option<RequestHead>, RequestError> {
        match self.try_head(buf) {
            Ok(head) => Ok(head),
            Err(error) => self.fail(error),
        }
    }

    fn try_head(&mut self, buf: &mut BytesMut) -> Result<Option<RequestHead>, RequestError> {
        if let State::Done = self.state {
            self.state = State::Head(Scan::default());
        }
        let scan = match &mut self.state {
            State::Head(scan) => scan,
            State::Failed(error) => return Err(*error),
            _ => return Err(RequestError::OutOfOrder),
        };
        while let Some(length) = empty_line(buf) {
            if self.empty_lines == MAX_EMPTY_LINES {
                return Err(RequestError::EmptyLines);
            }
            self.empty_lines += 1;
            buf.advance(length);
        }
        if buf.is_empty() || buf[..] == *b"\r" {
            return Ok(None);
        }
        let Some(head) = request_head::parse(buf, scan, self.limits)? else {
            return Ok(None);
        };
        self.empty_lines = 0;
        self.state = match head.framing {
            RequestFraming::None | RequestFraming::Length(0) => State::Done,
            RequestFraming::Length(length) => State::Fixed(length),
            RequestFraming::Chunked => State::Chunked(Chunked::default()),
        };
        Ok(Some(head))
    }

    /// Is a request under way, so that a client that stops here breaks off? Otherwise the connection is idle: the buffer
    /// holds nothing, or nothing but empty lines.
    pub fn has_begun(&self, buf: &[u8]) -> bool {
        match self.state {
            State::Head(_) | State::Done => {
                let mut rest = buf;
                while let Some(length) = empty_line(rest) {
                    rest = &rest[length..];
                }
                !matches!(rest, [] | [b'\r'])
            }
            State::Fixed(_) | State::Chunked(_) | State::Failed(_) => true,
        }
    }

    /// Takes the next piece of the body off the buffer. Any error is final; after the end it stays at `End(None)` until the
    /// next head is asked for.
    pub fn body(&mut self, buf: &mut BytesMut) -> Result<Piece, RequestError> {
        let piece = match &mut self.state {
            State::Fixed(left) => {
                let piece = Piece::of(buf, left);
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(piece)
            }
            State::Chunked(chunked) => chunked
                .step(buf, self.limits.head)
                .map_err(RequestError::from),
            State::Done => Ok(Piece::End(None)),
            State::Failed(error) => Err(*error),
            State::Head(_) => Err(RequestError::OutOfOrder),
        };
        match piece {
            Ok(Piece::End(trailers)) => {
                self.state = State::Done;
                Ok(Piece::End(trailers))
            }
            Ok(piece) => Ok(piece),
            Err(error) => self.fail(error),
        }
    }

    /// Takes the rest of a body that nobody reads off the buffer, as long as it has no more than `budget` bytes, framing
    /// counted; what is taken is taken off the budget. A length beyond the budget is not read in vain.
    pub fn drop_body(
        &mut self,
        buf: &mut BytesMut,
        budget: &mut u64,
    ) -> Result<Dropped, RequestError> {
        loop {
            let before = buf.len();
            let in_vain = self.remaining().is_some_and(|left| left > *budget);
            let piece = if in_vain { None } else { Some(self.body(buf)?) };
            let left = budget.checked_sub((before - buf.len()) as u64);
            let (Some(piece), Some(left)) = (piece, left) else {
                self.state = State::Failed(RequestError::BodyTooLarge);
                return Ok(Dropped::TooMuch);
            };
            *budget = left;
            match piece {
                Piece::Data(_) => {}
                Piece::NeedMore => return Ok(Dropped::NeedMore),
                Piece::End(_) => return Ok(Dropped::All),
            }
        }
    }

    /// Has the whole of the latest request been taken off the buffer, so that the next head may be asked for?
    pub fn is_body_done(&self) -> bool {
        matches!(self.state, State::Head(_) | State::Done)
    }

    /// The bytes of the body that are still to come, where the head has told.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Fixed(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Remembers an error, so that a spent decoder never speaks of success again.
    fn fail<T>(&mut self, error: RequestError) -> Result<T, RequestError> {
        self.state = State::Failed(error);
        Err(error)
    }
}

/// The length of the empty line that `buf` begins with.
fn empty_line(buf: &[u8]) -> Option<usize> {
    match buf {
        [b'\r', b'\n', ..] => Some(2),
        [b'\n', ..] => Some(1),
        _ => None,
    }
}
