//! The table of sessions against a plain list of them.

use std::time::Duration;

use proptest::prelude::*;
use weirkeeper::engine::sessions::{Passage, SessionId, Sessions, SessionsSpec, share};
use weirkeeper::time::Tick;

const IDLE: u64 = 100;
const SPEC: SessionsSpec = SessionsSpec {
    capacity: 3,
    idle: Duration::from_millis(IDLE),
    unanswered: 2,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Datagram(u8),
    /// Of the session that was opened as the n-th.
    Reply(usize),
    Close(usize),
    Expire,
    MakeWay,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..60_u64).prop_map(Step::Wait),
        6 => (0..6_u8).prop_map(Step::Datagram),
        3 => (0..12_usize).prop_map(Step::Reply),
        1 => (0..12_usize).prop_map(Step::Close),
        1 => Just(Step::Expire),
        1 => Just(Step::MakeWay),
    ]
}

/// A session as the model has it: who, the how manieth, when used, datagrams without a reply.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Modelled {
    client: u8,
    number: usize,
    used: u64,
    unanswered: Option<u32>,
    owed: u32,
    /// The how manieth step answered it in full.
    answered: usize,
}

fn idlest(model: &[Modelled]) -> Option<usize> {
    (0..model.len()).min_by_key(|&i| (model[i].used, model[i].number))
}

proptest! {
    #[test]
    fn it_does_what_a_list_would_do(steps in prop::collection::vec(step(), 1..120)) {
        let mut table: Sessions<u8, usize> = Sessions::new(SPEC);
        let mut model: Vec<Modelled> = Vec::new();
        let mut opened: Vec<(u8, SessionId)> = Vec::new();
        let mut now = 0;
        for (count, step) in steps.into_iter().enumerate() {
            let tick = Tick::from_millis(now);
            match step {
                Step::Wait(ms) => now += ms,
                Step::Datagram(client) => {
                    let known = model.iter_mut().find(|m| m.client == client);
                    let expected = match known {
                        Some(Modelled { unanswered: Some(2), .. }) => Passage::Dropped,
                        Some(m) => {
                            m.unanswered = m.unanswered.map(|n| n + 1);
                            m.used = now;
                            m.owed += 1;
                            Passage::Passes(&m.number)
                        }
                        None => Passage::Unknown,
                    };
                    let passage = table.arrives(tick, &client);
                    prop_assert_eq!(&passage, &expected);
                    if passage == Passage::Unknown {
                        let evicts = if model.len() == 3 { idlest(&model) } else { None };
                        let evicted = evicts.map(|i| model.remove(i).number);
                        let number = opened.len();
                        let (unanswered, owed, answered) = (Some(1), 1, 0);
                        model.push(Modelled { client, number, used: now, unanswered, owed, answered });
                        let (id, gone) = table.open(tick, client, number);
                        prop_assert_eq!(gone, evicted);
                        opened.push((client, id));
                    }
                }
                Step::Reply(number) => {
                    let Some((client, id)) = opened.get(number) else { continue };
                    let lives = model.iter_mut().find(|m| m.number == number);
                    prop_assert_eq!(table.replies(tick, client, *id), lives.is_some());
                    if let Some(m) = lives {
                        (m.used, m.unanswered) = (now, None);
                        (m.owed, m.answered) = (m.owed.saturating_sub(1), count);
                    }
                }
                Step::Close(number) => {
                    let Some((client, id)) = opened.get(number) else { continue };
                    let lives = model.iter().position(|m| m.number == number);
                    let closed = lives.map(|i| model.remove(i).number);
                    prop_assert_eq!(table.close(client, *id), closed);
                }
                Step::MakeWay => {
                    let done = (0..model.len()).filter(|&i| model[i].owed == 0);
                    let first = done.min_by_key(|&i| model[i].answered);
                    let gone = first.map(|i| model.remove(i).number);
                    prop_assert_eq!(table.pop_answered(), gone);
                }
                Step::Expire => {
                    let late = idlest(&model).filter(|&i| model[i].used + IDLE <= now);
                    let expired = late.map(|i| model.remove(i).number);
                    prop_assert_eq!(table.expire(tick), expired);
                }
            }
            prop_assert_eq!(table.len(), model.len());
            let next = model.iter().map(|m| m.used + IDLE).min();
            prop_assert_eq!(table.next_deadline(), next.map(Tick::from_millis));
        }
    }
}

#[test]
fn a_shorter_silence_holds_for_those_that_are_there() {
    let mut table = Sessions::new(SPEC);
    table.open(Tick::from_millis(0), 1_u8, "a");
    assert_eq!(table.expire(Tick::from_millis(50)), None);
    table.shorten(Duration::from_millis(50));
    assert_eq!(table.expire(Tick::from_millis(50)), Some("a"));
    assert!(table.is_empty());
}

/// Rounded up, the shares of three cores in seven sessions were nine.
#[test]
fn the_shares_of_all_cores_are_no_more_than_the_limit() {
    for cores in 1..10 {
        for all in 1..40 {
            let shares: Vec<usize> = (0..cores).map(|core| share(all, cores, core)).collect();
            assert_eq!(shares.iter().sum::<usize>(), all.max(cores));
            assert!(shares.iter().all(|s| s.abs_diff(shares[0]) <= 1));
        }
    }
}
