//! The relay against scripted streams: what is passed on, when, and how it ends.

use std::collections::VecDeque;
use std::task::Waker;

use super::*;

/// A stream that does as it is told.
#[derive(Default)]
struct Scripted {
    /// What reads bring; `None` is the end. When they are used up, nothing comes.
    reads: VecDeque<Option<io::Result<&'static [u8]>>>,
    /// What is taken by each write; when they are used up, nothing is.
    takes: VecDeque<io::Result<usize>>,
    written: Vec<u8>,
    shut: bool,
}

impl Scripted {
    /// Says these and takes everything.
    fn says(reads: impl IntoIterator<Item = Option<io::Result<&'static [u8]>>>) -> Self {
        Scripted {
            reads: reads.into_iter().collect(),
            takes: (0..100).map(|_| Ok(usize::MAX)).collect(),
            ..Scripted::default()
        }
    }

    fn takes(mut self, takes: impl IntoIterator<Item = io::Result<usize>>) -> Self {
        self.takes = takes.into_iter().collect();
        self
    }
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.reads.pop_front() {
            None => return Poll::Pending,
            Some(None) => self.reads.push_front(None),
            Some(Some(bytes)) => buf.put_slice(bytes?),
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(take) = self.takes.pop_front() else {
            return Poll::Pending;
        };
        let taken = take?.min(buf.len());
        self.written.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}

fn poll(relay: &mut Relay, near: &mut Scripted, far: &mut Scripted) -> Poll<End> {
    let mut cx = Context::from_waker(Waker::noop());
    relay.poll(&mut cx, near, far)
}

fn bytes(text: &'static str) -> Option<io::Result<&'static [u8]>> {
    Some(Ok(text.as_bytes()))
}

fn fails(kind: io::ErrorKind) -> Option<io::Result<&'static [u8]>> {
    Some(Err(kind.into()))
}

const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;

#[test]
fn each_end_is_passed_on_by_itself() {
    let mut near = Scripted::says([bytes("ask"), None]);
    let mut far = Scripted::says([]);
    let mut relay = Relay::default();
    assert!(poll(&mut relay, &mut near, &mut far).is_pending());
    assert!(far.written == b"ask" && far.shut && !near.shut);
    far.reads.extend([bytes("answer"), bytes("ed"), None]);
    assert_eq!(
        poll(&mut relay, &mut near, &mut far),
        Poll::Ready(End::Whole)
    );
    assert!(near.written == b"answered" && near.shut);
    assert_eq!(relay.moved(), (3, 8));
}

#[test]
fn what_is_not_taken_goes_first_later_and_before_the_end() {
    let mut near = Scripted::says([bytes("one"), bytes("two"), None]);
    let mut far = Scripted::says([]).takes([Ok(1), Ok(1)]);
    let mut relay = Relay::default();
    assert!(poll(&mut relay, &mut near, &mut far).is_pending());
    assert!(far.written == b"on" && !far.shut);
    assert_eq!(near.reads.len(), 2, "nothing is read beside what is kept");
    far.takes.extend([Ok(9), Ok(9)]);
    assert!(poll(&mut relay, &mut near, &mut far).is_pending());
    assert!(far.written == b"onetwo" && far.shut);
    assert!(relay.forth.left.is_empty());
}

#[test]
fn it_begins_with_what_was_read_before() {
    let mut near = Scripted::says([]);
    let mut far = Scripted::says([bytes(" there")]);
    let mut relay = Relay::new("hello".into(), true, "hi".into());
    assert!(poll(&mut relay, &mut near, &mut far).is_pending());
    assert!(far.written == b"hello" && far.shut);
    assert_eq!(near.written, b"hi there");
}

#[test]
fn a_side_that_breaks_off_ends_it_without_an_end_for_the_other() {
    for near_breaks in [true, false] {
        let mut broken = Scripted::says([bytes("begun"), fails(RESET)]);
        let mut other = Scripted::says([]);
        let mut relay = Relay::default();
        let end = if near_breaks {
            poll(&mut relay, &mut broken, &mut other)
        } else {
            poll(&mut relay, &mut other, &mut broken)
        };
        let side = if near_breaks { Side::Near } else { Side::Far };
        assert_eq!(end, Poll::Ready(End::Broken(side)));
        assert!(other.written == b"begun" && !other.shut);
    }
}

#[test]
fn a_write_that_is_reset_still_brings_what_the_side_said() {
    let mut near = Scripted::says([bytes("more")]);
    let mut far = Scripted::says([bytes("no"), None]).takes([Err(RESET.into())]);
    let mut relay = Relay::default();
    assert_eq!(
        poll(&mut relay, &mut near, &mut far),
        Poll::Ready(End::Broken(Side::Far))
    );
    // The end was read behind a reset, and is none.
    assert!(near.written == b"no" && !near.shut);
}

#[test]
fn a_side_that_ended_and_takes_nothing_more_is_heard_out() {
    let closed = || Err(io::ErrorKind::BrokenPipe.into());
    let mut near = Scripted::says([bytes("more"), bytes("and more")]);
    let mut far = Scripted::says([bytes("enough")]).takes([closed()]);
    let mut relay = Relay::default();
    assert!(poll(&mut relay, &mut near, &mut far).is_pending());
    assert_eq!(near.written, b"enough");
    assert!(
        near.reads.is_empty(),
        "what nobody takes is read all the same"
    );
    far.reads.push_back(None);
    assert_eq!(
        poll(&mut relay, &mut near, &mut far),
        Poll::Ready(End::Refused(Side::Far))
    );
    assert!(near.shut);

    let mut near = Scripted::says([None]).takes([closed()]);
    let mut far = Scripted::says([bytes("too late")]);
    let mut relay = Relay::default();
    assert_eq!(
        poll(&mut relay, &mut near, &mut far),
        Poll::Ready(End::Refused(Side::Near))
    );
    assert!(far.shut);
}

#[test]
fn a_busy_direction_gives_way() {
    const PIECE: &[u8] = &[7; SCRATCH];
    let reads = std::iter::repeat_with(|| Some(Ok(PIECE))).take(20);
    let mut near = Scripted::says(reads);
    let mut far = Scripted::says([bytes("x")]);
    let mut relay = Relay::default();
    assert!(poll(&mut relay, &mut near, &mut far).is_pending());
    assert_eq!(relay.moved(), (TURN as u64, 1));
}

#[tokio::test]
async fn bytes_arrive_whole_and_in_order_through_narrow_pipes() {
    use tokio::io::{AsyncWriteExt, duplex};
    let (mut client, mut near) = duplex(7);
    let (mut far, mut backend) = duplex(11);
    let sent: Vec<u8> = (0..50_000_u32).map(|i| (i % 251) as u8).collect();
    let mut relay = Relay::default();
    let relaying = std::future::poll_fn(|cx| relay.poll(cx, &mut near, &mut far));
    let asking = async {
        let (mut read, mut write) = tokio::io::split(&mut client);
        let mut got = Vec::new();
        let writing = async {
            write.write_all(&sent).await.expect("the relay reads");
            write.shutdown().await.expect("the relay reads");
        };
        let reading = read.read_to_end(&mut got);
        let ((), read) = tokio::join!(writing, reading);
        read.expect("the relay writes");
        got
    };
    let echoing = async {
        let (mut read, mut write) = tokio::io::split(&mut backend);
        tokio::io::copy(&mut read, &mut write)
            .await
            .expect("the relay reads and writes");
        write.shutdown().await.expect("the relay reads");
    };
    let (end, got, ()) = tokio::join!(relaying, asking, echoing);
    assert_eq!(end, End::Whole);
    assert_eq!(relay.moved(), (50_000, 50_000));
    assert!(got == sent);
}
