//! Which records a purge rules out, and what the bounds make of many purges.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::super::life::Life;
use super::super::stored::{Body, Head, Stored};
use super::*;

fn at(millis: u64) -> Seen {
    Seen {
        millis,
        sequence: 0,
    }
}

fn purge(what: Selection, soft: bool) -> Purge {
    Purge { what, soft }
}

fn url(path: &str) -> Selection {
    Selection::Url(format!("http://a.example{path}"))
}

fn key(path: &str) -> Vec<u8> {
    format!("http://a.example{path}\n").into_bytes()
}

fn tagged(tag: &'static str) -> Entry {
    let mut headers = HeaderMap::new();
    headers.insert("surrogate-key", HeaderValue::from_static(tag));
    let body = Body::Whole(Bytes::new());
    Entry::Response(Arc::new(Stored::new(
        200,
        Head::of(&headers),
        body,
        Life::default(),
    )))
}

fn judge(bans: &Bans, path: &str, seen: u64) -> Verdict {
    bans.judge(&key(path), &tagged("red blue"), at(seen))
}

#[test]
fn ids_are_read_written_and_ordered_as_redis_does() {
    let id: Seen = "1700000000123-7".parse().expect("an id");
    assert_eq!(id.to_string(), "1700000000123-7");
    assert!("9-0".parse::<Seen>() < "10-0".parse::<Seen>());
    assert!("9-9".parse::<Seen>() < "9-10".parse::<Seen>());
    for junk in ["", "1", "1-", "-1", "1-x", "1-2-3"] {
        assert!(junk.parse::<Seen>().is_err(), "{junk:?}");
    }
}

#[test]
fn a_record_is_dropped_by_later_purges_alone() {
    let cases = [
        url("/a"),
        Selection::Prefix("http://a.example/".into()),
        Selection::Tag("blue".into()),
        Selection::All,
    ];
    for what in cases {
        let mut bans = Bans::default();
        bans.saw(at(100));
        bans.add(at(10), &purge(what.clone(), false));
        assert_eq!(judge(&bans, "/a", 9), Verdict::Drop, "{what:?}");
        assert_eq!(judge(&bans, "/a", 10), Verdict::Keep, "{what:?}");
        let mut soft = Bans::default();
        soft.saw(at(100));
        soft.add(at(10), &purge(what.clone(), true));
        assert_eq!(judge(&soft, "/a", 9), Verdict::Soft, "{what:?}");
        assert_eq!(judge(&soft, "/a", 10), Verdict::Keep, "{what:?}");
    }
}

#[test]
fn only_what_is_selected_is_dropped() {
    let mut bans = Bans::default();
    bans.saw(at(100));
    bans.add(at(10), &purge(url("/a"), false));
    bans.add(
        at(11),
        &purge(Selection::Prefix("http://b.example/".into()), false),
    );
    bans.add(at(12), &purge(Selection::Tag("green".into()), false));
    assert_eq!(judge(&bans, "/b", 0), Verdict::Keep);
    // A variant's key begins as its URL's does.
    let variant = b"http://a.example/a\n\n1f\ngzip";
    assert_eq!(bans.judge(variant, &tagged(""), at(9)), Verdict::Drop);
}

#[test]
fn a_soft_purge_hides_no_hard_one() {
    for order in [[(10, false), (20, true)], [(10, true), (20, false)]] {
        let mut bans = Bans::default();
        bans.saw(at(100));
        for (id, soft) in order {
            bans.add(at(id), &purge(url("/a"), soft));
        }
        assert_eq!(judge(&bans, "/a", 5), Verdict::Drop);
        let between = if order[1].1 {
            Verdict::Soft
        } else {
            Verdict::Drop
        };
        assert_eq!(judge(&bans, "/a", 15), between);
        assert_eq!(judge(&bans, "/a", 20), Verdict::Keep);
    }
}

#[test]
fn one_that_knows_more_than_we_do_is_not_for_us() {
    let mut bans = Bans::default();
    bans.saw(at(10));
    assert_eq!(judge(&bans, "/a", 11), Verdict::Drop);
    bans.saw(at(11));
    assert_eq!(judge(&bans, "/a", 11), Verdict::Keep);
}

#[test]
fn a_purge_without_a_place_stands_behind_everything() {
    let mut bans = Bans::default();
    bans.saw(at(50));
    let pending = bans.begin(&purge(url("/a"), false));
    assert_eq!(judge(&bans, "/a", 50), Verdict::Drop);
    assert_eq!(judge(&bans, "/b", 50), Verdict::Keep);
    assert_eq!(bans.pending(9).len(), 1);
    bans.placed(pending, at(60));
    bans.saw(at(60));
    assert!(bans.pending(9).is_empty());
    assert_eq!(judge(&bans, "/a", 59), Verdict::Drop);
    assert_eq!(judge(&bans, "/a", 60), Verdict::Keep);
}

#[test]
fn too_many_without_a_place_become_one_of_everything() {
    let mut bans = Bans::new(Bounds {
        urls: 9,
        others: 9,
        pending: 3,
    });
    let first = bans.begin(&purge(url("/0"), true));
    for n in 1..3 {
        bans.begin(&purge(url(&format!("/{n}")), true));
    }
    assert_eq!(judge(&bans, "/other", 0), Verdict::Keep);
    bans.begin(&purge(url("/3"), true));
    let pending = bans.pending(9);
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].1, purge(Selection::All, false));
    assert_eq!(judge(&bans, "/other", 0), Verdict::Drop);
    // One that was under way meanwhile has become part of it.
    bans.placed(first, at(5));
    assert_eq!(bans.pending(9).len(), 1);
}

#[test]
fn a_new_order_makes_older_records_useless() {
    let mut bans = Bans::default();
    bans.saw(at(100));
    bans.restart(at(7));
    assert_eq!(judge(&bans, "/a", 100), Verdict::Drop);
    assert_eq!(judge(&bans, "/a", 6), Verdict::Drop);
    assert_eq!(judge(&bans, "/a", 7), Verdict::Keep);
}

proptest! {
    /// Against a list that forgets nothing: what the bounded one keeps, that one keeps as well.
    #[test]
    fn what_is_forgotten_is_never_served(
        ops in proptest::collection::vec((0_u8..4, 0_u8..6, any::<bool>()), 1..60),
        path in 0_u8..6,
        seen in 0_u64..60,
    ) {
        let bounds = Bounds { urls: 3, others: 2, pending: 9 };
        let (mut small, mut large) = (Bans::new(bounds), Bans::default());
        for (id, (kind, n, soft)) in (1..).zip(&ops) {
            let what = match kind {
                0 | 1 => url(&format!("/{n}")),
                2 => Selection::Prefix(format!("http://a.example/{n}")),
                _ => Selection::Tag(if *n == 0 { "blue" } else { "green" }.into()),
            };
            for bans in [&mut small, &mut large] {
                bans.add(at(id), &purge(what.clone(), *soft));
                bans.saw(at(id));
            }
            prop_assert!(small.len() <= 5);
            prop_assert_eq!(small.urls.len(), small.order.len());
        }
        let path = format!("/{path}");
        let (small, large) = (judge(&small, &path, seen), judge(&large, &path, seen));
        prop_assert!(small == large || small == Verdict::Drop, "{:?} {:?}", small, large);
    }
}
