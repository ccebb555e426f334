//! The pace of requests on a clock that stands still, and what the report counts.

use super::report::*;
use super::*;

fn pace(rate: Option<f64>, requests: u64, end: Option<u64>) -> Pace {
    Pace {
        begin: Tick::from_millis(1000),
        end: end.map(Tick::from_millis),
        requests,
        rate,
        taken: AtomicU64::new(0),
        over: AtomicBool::new(false),
    }
}

/// A clock that stands still; sleeping until a time takes no time.
struct Still(Tick);

impl Clock for Still {
    type Sleep = std::future::Ready<()>;

    fn now(&self) -> Tick {
        self.0
    }

    fn wall(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH
    }

    fn sleep_until(&self, _: Tick) -> Self::Sleep {
        std::future::ready(())
    }
}

#[tokio::test]
async fn with_a_rate_latency_counts_from_the_intended_start() {
    // The fifth of 10 a second was due at 1.4 s and is begun at 3 s: its 1.6 s of waiting belong to its latency.
    let pace = pace(Some(10.0), 100, None);
    let late = Still(Tick::from_millis(3000));
    for k in 0..5 {
        assert_eq!(
            pace.next(&late).await,
            Some(Tick::from_millis(1000 + 100 * k))
        );
    }
}

#[tokio::test]
async fn without_a_rate_latency_counts_from_now_and_the_count_ends_it() {
    let pace = pace(None, 2, None);
    let clock = Still(Tick::from_millis(3000));
    assert_eq!(pace.next(&clock).await, Some(clock.0));
    assert_eq!(pace.next(&clock).await, Some(clock.0));
    assert_eq!(pace.next(&clock).await, None);
}

#[tokio::test]
async fn nothing_begins_after_the_duration() {
    let open = pace(Some(10.0), u64::MAX, Some(1250));
    let clock = Still(Tick::from_millis(9000));
    let mut begun = 0;
    while open.next(&clock).await.is_some() {
        begun += 1;
    }
    assert_eq!(begun, 3, "due at 1.0, 1.1 and 1.2 s");
    let closed = pace(None, u64::MAX, Some(1250));
    assert_eq!(closed.next(&clock).await, None);
}

#[test]
fn the_report_counts_statuses_backends_and_failures() {
    let mut tally = Tally::default();
    for (status, port) in [(200, 8081), (200, 8082), (200, 8081), (503, 8081)] {
        let answer = client::Answer {
            status,
            backend: Some(port),
            peak: 3,
            body_bytes: 10,
        };
        tally.count(Duration::from_millis(20), Ok(answer));
    }
    tally.count(Duration::ZERO, Err(client::Failure::Refused));
    assert_eq!(tally.totals(), (4, 1));
    let report = Report {
        url: "http://x/".into(),
        concurrency: 2,
        rate: None,
        elapsed: Duration::from_secs(2),
        tally,
    };
    assert!(report.failed());
    let json = report.json(false);
    assert_eq!(json["statuses"]["200"], 3);
    assert_eq!(json["backends"]["8081"]["answers"], 3);
    assert_eq!(json["failures"]["connection refused"], 1);
    assert_eq!(json["per_second"], 2.0);
    let p50 = json["latency_ms"]["p50"].as_f64().expect("a number");
    assert!((20.0..20.1).contains(&p50), "{p50}");
    let text = report.to_string();
    assert!(text.contains("4 answered, 1 failed"), "{text}");
    assert!(text.contains("8081             3   75.0%"), "{text}");
}
