//! Responses out of bytes: a state machine over the caller's buffer, of fixed size itself. Drive it with `head` until
//! a final head comes, then with `body` until `End`; tell it of the connection's end with `eof`.

use bytes::BytesMut;
use http::{Method, StatusCode};

use super::DecodeError;
use super::chunked::Chunked;
use super::framing::ResponseFraming;
use super::head::{self, ResponseHead};
use super::piece::Piece;
use super::section::{HeadLimits, Scan};

/// Bytes of interim heads before one response. RFC 9110 sets no bound, and progress may be told often; an endless row of them
/// would hold a request for ever.
pub const MAX_INTERIM: usize = 64 * 1024;

/// Decodes the response to one request.
#[derive(Debug)]
pub struct ResponseDecoder {
    state: State,
    is_head: bool,
    is_connect: bool,
    may_switch: bool,
    limits: HeadLimits,
    /// Bytes of interim heads so far.
    interim: usize,
    keep_alive: bool,
    /// An interim head claimed a body, so what follows on this connection is not to be trusted.
    suspect: bool,
}

#[derive(Debug)]
enum State {
    Head(Scan),
    Fixed(u64),
    Chunked(Chunked),
    UntilClose,
    /// The connection ended, the buffer may still hold bytes of the body.
    Closed,
    Done,
    Failed(DecodeError),
}

impl ResponseDecoder {
    /// A decoder for the response to a request with this method: HEAD and CONNECT change what follows the head.
    pub fn new(method: &Method, limits: HeadLimits) -> Self {
        ResponseDecoder {
            state: State::Head(Scan::default()),
            is_head: method == Method::HEAD,
            is_connect: method == Method::CONNECT,
            may_switch: false,
            limits,
            interim: 0,
            keep_alive: false,
            suspect: false,
        }
    }

    /// The request asks for another protocol: a 101 is a final head, and what follows it in the buffer is that protocol's.
    pub fn expecting_switch(mut self) -> Self {
        self.may_switch = true;
        self
    }

    /// Takes one head off the buffer, `None` if it is not whole yet. After an interim (1xx) head the next call
    /// reads the next one. Any error is final.
    pub fn head(&mut self, buf: &mut BytesMut) -> Result<Option<ResponseHead>, DecodeError> {
        let before = buf.len();
        let head = match &mut self.state {
            State::Head(scan) => head::parse(buf, scan, self.limits, self.is_head, self.is_connect),
            State::Failed(error) => Err(*error),
            _ => Err(DecodeError::OutOfOrder),
        };
        match head.and_then(|head| self.accept(head, before - buf.len())) {
            Ok(head) => Ok(head),
            Err(error) => self.fail(error),
        }
    }

    /// Takes the next piece of the body off the buffer. Any error is final; after the end it stays at `End(None)`.
    pub fn body(&mut self, buf: &mut BytesMut) -> Result<Piece, DecodeError> {
        match &mut self.state {
            State::Fixed(left) => {
                let piece = Piece::of(buf, left);
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(piece)
            }
            State::Chunked(chunked) => match chunked.step(buf, self.limits) {
                Ok(Piece::End(trailers)) => {
                    self.state = State::Done;
                    Ok(Piece::End(trailers))
                }
                Ok(piece) => Ok(piece),
                Err(error) => self.fail(error.into()),
            },
            State::UntilClose if buf.is_empty() => Ok(Piece::NeedMore),
            State::Closed if buf.is_empty() => {
                self.state = State::Done;
                Ok(Piece::End(None))
            }
            State::UntilClose | State::Closed => Ok(Piece::Data(buf.split().freeze())),
            State::Done => Ok(Piece::End(None)),
            State::Failed(error) => Err(*error),
            State::Head(_) => self.fail(DecodeError::OutOfOrder),
        }
    }

    /// The backend closed its side. That ends a close-delimited body and is harmless after the end; anywhere else the
    /// message is incomplete. Call it once the buffer is used up, that is, after `None` or `NeedMore`.
    pub fn eof(&mut self) -> Result<(), DecodeError> {
        match self.state {
            State::Done | State::Closed => Ok(()),
            State::UntilClose => {
                self.state = State::Closed;
                Ok(())
            }
            State::Failed(error) => Err(error),
            State::Head(_) | State::Fixed(_) | State::Chunked(_) => {
                self.fail(DecodeError::Incomplete)
            }
        }
    }

    /// Has the whole message been taken off the buffer?
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The bytes of the body that are still to come, where the head has told.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Fixed(left) => Some(left),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Is the body's end the connection's, so that nobody can tell a whole one from one that broke off?
    pub fn ends_by_close(&self) -> bool {
        matches!(self.state, State::UntilClose | State::Closed)
    }

    /// May the connection carry another request? Only after the end, if the backend keeps it alive and has sent
    /// nothing beyond the message: stray bytes would be taken for the answer to the next request.
    pub fn reusable(&self, buf: &BytesMut) -> bool {
        self.is_done() && self.keep_alive && !self.suspect && buf.is_empty()
    }

    /// Moves on from a head of so many bytes.
    fn accept(
        &mut self,
        head: Option<ResponseHead>,
        bytes: usize,
    ) -> Result<Option<ResponseHead>, DecodeError> {
        let Some(head) = head else { return Ok(None) };
        if head.interim {
            self.interim += bytes;
            if self.interim > MAX_INTERIM {
                return Err(DecodeError::TooManyInterim);
            }
            self.suspect |= !head.keep_alive;
            self.state = State::Head(Scan::default());
            return Ok(Some(head));
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.may_switch {
                return Err(DecodeError::Unasked);
            }
            self.suspect = true;
        }
        self.keep_alive = head.keep_alive;
        self.state = match head.framing {
            ResponseFraming::None | ResponseFraming::Length(0) => State::Done,
            ResponseFraming::Length(length) => State::Fixed(length),
            ResponseFraming::Chunked => State::Chunked(Chunked::default()),
            ResponseFraming::Close => State::UntilClose,
        };
        Ok(Some(head))
    }

    /// Remembers an error, so that a spent decoder never speaks of success again.
    fn fail<T>(&mut self, error: DecodeError) -> Result<T, DecodeError> {
        self.state = State::Failed(error);
        Err(error)
    }
}
