//! What a Redis holds and what its commands do: those that the proxy uses, and no others. Time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use weirkeeper::proxy::redis_scripts::{COMPARE_AND_DELETE, COMPARE_AND_SET};
use weirkeeper::time::Tick;

use super::resp::{Command, Reply};
use crate::env::EPOCH;

/// Values and streams.
#[derive(Debug, Default)]
pub struct Data {
    values: BTreeMap<Vec<u8>, Value>,
    streams: BTreeMap<Vec<u8>, Stream>,
}

#[derive(Debug)]
struct Value {
    bytes: Vec<u8>,
    until: Option<Tick>,
}

#[derive(Debug, Default)]
struct Stream {
    entries: BTreeMap<Id, Vec<Vec<u8>>>,
    last: Id,
}

/// A place in a stream: milliseconds, and a number within one.
type Id = (u64, u64);

/// What a command comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This.
    Now(Reply),
    /// Nothing yet: the same command again when something was added, for so long.
    Wait(Duration),
}

impl Data {
    /// Runs a command. Values are given as they are; lies are told elsewhere.
    pub fn run(&mut self, now: Tick, command: &Command) -> Outcome {
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let Some((name, words)) = words.split_first() else {
            return Outcome::Now(Reply::Error("ERR no command".into()));
        };
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        let reply = match (name.as_str(), words) {
            ("PING", _) => Reply::Simple("PONG"),
            ("AUTH" | "SELECT" | "CLIENT", _) => Reply::Simple("OK"),
            ("GET", [key]) => self.get(now, key).map_or(Reply::Nil, Reply::bulk),
            ("MGET", keys) => {
                let get = |key: &&[u8]| self.get(now, key).map_or(Reply::Nil, Reply::bulk);
                Reply::Array(keys.iter().map(get).collect())
            }
            ("PTTL", [key]) => Reply::Int(self.time_left(now, key)),
            ("SET", [key, value, options @ ..]) => self.set(now, key, value, options),
            ("DEL", keys) => {
                let gone = keys.iter().filter(|k| self.values.remove(**k).is_some());
                Reply::Int(i64::try_from(gone.count()).unwrap_or(0))
            }
            ("EVAL", [script, b"1", key, rest @ ..]) => self.eval(now, script, key, rest),
            ("XADD", [key, _, _, max, _, fields @ ..]) => self.add(now, key, max, fields),
            ("XRANGE", [key, from, to, b"COUNT", count]) => self.range(key, from, to, count, false),
            ("XREVRANGE", [key, to, from, b"COUNT", count]) => {
                self.range(key, from, to, count, true)
            }
            ("XREAD", words) => return self.read(words),
            _ => Reply::Error(format!("ERR unknown command '{name}'")),
        };
        Outcome::Now(reply)
    }

    /// Some value that lies under another key of the same kind, for those who lie.
    pub fn another(&self, key: &[u8], which: usize) -> Option<&[u8]> {
        let kind = &key[key.len().saturating_sub(2)..];
        let others = self.values.iter();
        let others = others.filter(|(k, _)| k.as_slice() != key && k.ends_with(kind));
        let values = others.map(|(_, value)| value.bytes.as_slice());
        let mut some: Vec<&[u8]> = values.take(which + 1).collect();
        some.pop()
    }

    /// Milliseconds, rounded down; -2 of what is not there, -1 of what has no end.
    fn time_left(&self, now: Tick, key: &[u8]) -> i64 {
        match self.values.get(key).map(|value| value.until) {
            Some(None) => -1,
            Some(Some(until)) if now < until => {
                i64::try_from(until.since(now).as_millis()).unwrap_or(i64::MAX)
            }
            _ => -2,
        }
    }

    fn get(&self, now: Tick, key: &[u8]) -> Option<Vec<u8>> {
        let value = self.values.get(key)?;
        let alive = value.until.is_none_or(|until| now < until);
        alive.then(|| value.bytes.clone())
    }

    fn set(&mut self, now: Tick, key: &[u8], bytes: &[u8], options: &[&[u8]]) -> Reply {
        let mut options = options.iter();
        let mut until = None;
        while let Some(option) = options.next() {
            match *option {
                b"NX" if self.get(now, key).is_some() => return Reply::Nil,
                b"NX" => {}
                b"PX" => match options.next().and_then(|n| number(n)) {
                    Some(millis) => until = Some(now + Duration::from_millis(millis)),
                    None => return Reply::Error("ERR value is not an integer".into()),
                },
                _ => return Reply::Error("ERR syntax error".into()),
            }
        }
        let bytes = bytes.to_vec();
        self.values.insert(key.to_vec(), Value { bytes, until });
        Reply::Simple("OK")
    }

    fn eval(&mut self, now: Tick, script: &[u8], key: &[u8], rest: &[&[u8]]) -> Reply {
        let held = self.get(now, key);
        let same = |token: &&[u8]| held.as_deref() == Some(*token);
        match rest {
            [token] if script == COMPARE_AND_DELETE.as_bytes() => {
                if same(token) {
                    self.values.remove(key);
                    return Reply::Int(1);
                }
                Reply::Int(0)
            }
            [token, value, millis] if script == COMPARE_AND_SET.as_bytes() => {
                if same(token) {
                    self.set(now, key, value, &[b"PX", millis]);
                    return Reply::Int(1);
                }
                Reply::Int(0)
            }
            _ => Reply::Error("ERR no such script in the simulated world".into()),
        }
    }

    fn add(&mut self, now: Tick, key: &[u8], max: &[u8], fields: &[&[u8]]) -> Reply {
        let stream = self.streams.entry(key.to_vec()).or_default();
        let wall = EPOCH + Duration::from_nanos(now.as_nanos());
        let millis = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        let id = match stream.last {
            (last, number) if last >= millis => (last, number + 1),
            _ => (millis, 0),
        };
        stream.last = id;
        let fields = fields.iter().map(|f| f.to_vec()).collect();
        stream.entries.insert(id, fields);
        let max = number(max).and_then(|n| usize::try_from(n).ok());
        while stream.entries.len() > max.unwrap_or(usize::MAX) {
            stream.entries.pop_first();
        }
        Reply::bulk(format!("{}-{}", id.0, id.1))
    }

    fn range(&self, key: &[u8], from: &[u8], to: &[u8], count: &[u8], back: bool) -> Reply {
        let from = if from == b"-" { Some((0, 0)) } else { id(from) };
        let to = if to == b"+" {
            Some((u64::MAX, u64::MAX))
        } else {
            id(to)
        };
        let (Some(from), Some(to), Some(count)) = (from, to, number(count)) else {
            return Reply::Error("ERR Invalid stream ID".into());
        };
        let Some(stream) = self.streams.get(key).filter(|_| from <= to) else {
            return Reply::Array(Vec::new());
        };
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let found = stream.entries.range(from..=to).map(entry);
        Reply::Array(match back {
            false => found.take(count).collect(),
            true => found.rev().take(count).collect(),
        })
    }

    fn read(&self, words: &[&[u8]]) -> Outcome {
        let (mut count, mut block) = (usize::MAX, None);
        let mut rest = words;
        loop {
            match rest {
                [b"COUNT", n, tail @ ..] => {
                    count = number(n).and_then(|n| n.try_into().ok()).unwrap_or(count);
                    rest = tail;
                }
                [b"BLOCK", n, tail @ ..] => {
                    block = number(n).map(Duration::from_millis);
                    rest = tail;
                }
                [b"STREAMS", key, after] => {
                    let Some(after) = id(after) else {
                        return Outcome::Now(Reply::Error("ERR Invalid stream ID".into()));
                    };
                    let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
                    let stream = self.streams.get(*key);
                    let found: Vec<Reply> = stream
                        .into_iter()
                        .flat_map(|s| s.entries.range(behind).map(entry))
                        .take(count)
                        .collect();
                    return match (found.is_empty(), block) {
                        (true, Some(block)) => Outcome::Wait(block),
                        (true, None) => Outcome::Now(Reply::NoArray),
                        (false, _) => {
                            let named = vec![Reply::bulk(*key), Reply::Array(found)];
                            Outcome::Now(Reply::Array(vec![Reply::Array(named)]))
                        }
                    };
                }
                _ => return Outcome::Now(Reply::Error("ERR syntax error".into())),
            }
        }
    }
}

fn entry((id, fields): (&Id, &Vec<Vec<u8>>)) -> Reply {
    let fields = fields.iter().map(|f| Reply::bulk(f.clone())).collect();
    let id = Reply::bulk(format!("{}-{}", id.0, id.1));
    Reply::Array(vec![id, Reply::Array(fields)])
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn id(text: &[u8]) -> Option<Id> {
    let text = std::str::from_utf8(text).ok()?;
    let (millis, number) = text.split_once('-').unwrap_or((text, "0"));
    Some((millis.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(data: &mut Data, millis: u64, command: &str) -> Outcome {
        let words = command.split(' ').map(|w| w.as_bytes().to_vec()).collect();
        data.run(Tick::from_millis(millis), &words)
    }

    #[test]
    fn values_end_and_leases_are_given_once() {
        let mut data = Data::default();
        let ok = Outcome::Now(Reply::Simple("OK"));
        assert_eq!(run(&mut data, 0, "SET l me NX PX 100"), ok);
        assert_eq!(
            run(&mut data, 50, "SET l you NX PX 100"),
            Outcome::Now(Reply::Nil)
        );
        let found = Reply::Array(vec![Reply::bulk("me"), Reply::Nil]);
        assert_eq!(run(&mut data, 99, "MGET l e"), Outcome::Now(found));
        let left = |millis| Outcome::Now(Reply::Int(millis));
        assert_eq!(run(&mut data, 99, "PTTL l"), left(1));
        assert_eq!(run(&mut data, 100, "PTTL l"), left(-2));
        assert_eq!(run(&mut data, 100, "GET l"), Outcome::Now(Reply::Nil));
        assert_eq!(run(&mut data, 100, "SET l you NX PX 100"), ok);
        let eval = |script: &str, rest: &[&str]| {
            let mut words = vec!["EVAL", script, "1", "l"];
            words.extend_from_slice(rest);
            words
                .iter()
                .map(|w| w.as_bytes().to_vec())
                .collect::<Command>()
        };
        let at = Tick::from_millis(150);
        let no = Outcome::Now(Reply::Int(0));
        let yes = Outcome::Now(Reply::Int(1));
        assert_eq!(
            data.run(at, &eval(COMPARE_AND_SET, &["me", "me", "500"])),
            no
        );
        assert_eq!(
            data.run(at, &eval(COMPARE_AND_SET, &["you", "pass", "500"])),
            yes
        );
        assert_eq!(
            run(&mut data, 600, "GET l"),
            Outcome::Now(Reply::bulk("pass"))
        );
        assert_eq!(data.run(at, &eval(COMPARE_AND_DELETE, &["you"])), no);
        assert_eq!(data.run(at, &eval(COMPARE_AND_DELETE, &["pass"])), yes);
        assert_eq!(run(&mut data, 600, "DEL l"), no);
    }

    #[test]
    fn streams_keep_their_order_and_their_bound() {
        let mut data = Data::default();
        let read = "XREAD COUNT 10 BLOCK 1000 STREAMS s";
        let waits = Outcome::Wait(Duration::from_secs(1));
        assert_eq!(run(&mut data, 0, &format!("{read} 0-0")), waits);
        let millis = EPOCH.as_millis();
        let id = |n: u128, i: u32| format!("{}-{i}", millis + n);
        for i in 0..2 {
            let added = Outcome::Now(Reply::bulk(id(5, i)));
            assert_eq!(run(&mut data, 5, "XADD s MAXLEN ~ 2 * p x"), added);
        }
        let fields = Reply::Array(vec![Reply::bulk("p"), Reply::bulk("x")]);
        let entry = |id: String| Reply::Array(vec![Reply::bulk(id), fields.clone()]);
        let one = |id: String| Outcome::Now(Reply::Array(vec![entry(id)]));
        assert_eq!(run(&mut data, 6, "XRANGE s - + COUNT 1"), one(id(5, 0)));
        assert_eq!(run(&mut data, 6, "XREVRANGE s + - COUNT 1"), one(id(5, 1)));
        let behind = Reply::Array(vec![Reply::bulk("s"), Reply::Array(vec![entry(id(5, 1))])]);
        let behind = Outcome::Now(Reply::Array(vec![behind]));
        assert_eq!(run(&mut data, 6, &format!("{read} {}", id(5, 0))), behind);
        run(&mut data, 7, "XADD s MAXLEN ~ 2 * p x");
        assert_eq!(run(&mut data, 8, "XRANGE s - + COUNT 1"), one(id(5, 1)));
    }
}
