//! Single backends and their sums. How ejections go together the model of the whole upstream says.

use proptest::prelude::*;

use super::*;

const SPEC: OutlierSpec = OutlierSpec {
    consecutive: 5,
    failure_percent: 50,
    latency_percent: 300,
    min_requests: 20,
    window: Duration::from_secs(10),
    base: Duration::from_secs(10),
    max: Duration::from_secs(60),
    max_ejected_percent: 50,
    slow_start: Duration::from_secs(10),
};

fn sums(requests: u64, failures: u64, mean_millis: u64) -> Sums {
    Sums {
        requests,
        failures,
        timed: requests,
        nanos: requests * mean_millis * 1_000_000,
    }
}

#[test]
fn a_share_of_failures_counts_beside_that_of_the_peers() {
    let verdict = |own, peers| stands_out(&SPEC, own, peers);
    let well = sums(1000, 10, 10);
    assert_eq!(verdict(sums(20, 10, 10), well), Some(Reason::FailureRate));
    assert_eq!(verdict(sums(20, 9, 10), well), None);
    assert_eq!(verdict(sums(19, 19, 10), well), None, "too few requests");
    // What they share fails.
    assert_eq!(verdict(sums(20, 18, 10), sums(1000, 600, 10)), None);
    assert_eq!(verdict(sums(20, 18, 10), sums(10, 0, 10)), None, "no peers");
}

#[test]
fn late_answers_count_beside_those_of_the_peers() {
    let verdict = |own, peers| stands_out(&SPEC, sums(20, 0, own), sums(60, 0, peers));
    assert_eq!(verdict(60, 20), Some(Reason::Latency));
    assert_eq!(verdict(59, 20), None);
    // Below a millisecond a multiple says nothing.
    assert_eq!(verdict(2, 0), None);
}

#[test]
fn ejections_double_until_it_has_served_well() {
    let mut outlier = Outlier::default();
    let mut now = Tick::from_millis(5);
    let mut lengths = Vec::new();
    for served in [1_u64, 1, 1, 1, 61, 1] {
        let length = outlier.eject(now, &SPEC);
        lengths.push(length.as_secs());
        outlier.come_back(now + length);
        now = now + length + Duration::from_secs(served);
    }
    assert_eq!(lengths, [10, 20, 40, 60, 60, 10]);
}

#[test]
fn results_from_before_the_return_say_nothing() {
    let mut outlier = Outlier::default();
    let now = Tick::from_millis(1000);
    outlier.come_back(now);
    let before = Tick::from_millis(999);
    assert!(!outlier.handle(now, &SPEC, before, true, None));
    assert!(outlier.handle(now, &SPEC, now, true, None));
}

#[test]
fn a_ramp_takes_its_first_turn_and_then_more_and_more() {
    let mut ramp = Ramp::new(Tick::ZERO, Duration::from_secs(10));
    assert!(ramp.takes_turn(Tick::ZERO));
    let mut taken = |from: u64| {
        let turns = (0..1000).map(|i| Tick::from_millis(from + i));
        turns.filter(|at| ramp.takes_turn(*at)).count()
    };
    assert_eq!(taken(0), 100, "the floor");
    assert!((540..=560).contains(&taken(5000)));
    assert!((940..=960).contains(&taken(9000)));
    assert_eq!(taken(10_000), 1000);
}

proptest! {
    /// The window agrees with a list of all results.
    #[test]
    fn a_window_sums_up_what_is_recent(
        results in prop::collection::vec((0_u64..4000, any::<bool>()), 1..60),
    ) {
        let mut outlier = Outlier::default();
        let (mut now, mut list) = (Tick::ZERO, Vec::new());
        for (wait, failed) in results {
            now = now + Duration::from_millis(wait);
            outlier.handle(now, &SPEC, now, failed, None);
            list.push((now, failed));
            let recent = |at: Tick| at.as_nanos() / 1_000_000_000 + 10 > now.as_nanos() / 1_000_000_000;
            let recent: Vec<_> = list.iter().filter(|(at, _)| recent(*at)).collect();
            let failures = recent.iter().filter(|(_, failed)| *failed).count();
            let sums = outlier.sums(now, &SPEC);
            prop_assert_eq!((sums.requests, sums.failures), (recent.len() as u64, failures as u64));
        }
    }
}
