//! What each of an upstream's backends was entitled to, by its weight, and what it was given: at each pick every backend that
//! could have been picked earns its weight's part of it. A pick among one is no choice and settles at once.
//!
//! Who could have been picked is rebuilt from the engine's events and believed only when it agrees with the number that the
//! engine gave. Absent: how far off is too far (checkers).

use weirkeeper::engine::Strategy;
use weirkeeper::engine::trace::Event;
use weirkeeper::time::Tick;

use crate::ledger::Book;
use crate::plan::Plan;

/// What one upstream's backends earned and were given, in config order, over picks with two or more to choose from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shares {
    /// Picks.
    pub given: Vec<u64>,
    /// Entitlement, in picks.
    pub earned: Vec<f64>,
    /// Picks among two or more.
    pub choices: u64,
    /// Picks whose field of candidates could not be told.
    pub unknown: u64,
    /// The strategy goes by turns, so that there are shares to be entitled to.
    pub by_turns: bool,
    /// The furthest that anybody was behind or ahead.
    pub worst: f64,
}

/// The shares of upstream `u`.
pub fn shares(plan: &Plan, book: &Book, u: usize) -> Shares {
    let spec = &plan.config.upstreams[u].spec;
    let even = spec.strategy == Strategy::RoundRobin;
    let weights: Vec<f64> = spec
        .backends
        .iter()
        .map(|b| if even { 1.0 } else { f64::from(b.weight) })
        .collect();
    let n = weights.len();
    let mut shares = Shares {
        given: vec![0; n],
        earned: vec![0.0; n],
        by_turns: matches!(
            spec.strategy,
            Strategy::RoundRobin
                | Strategy::WeightedRoundRobin
                | Strategy::SmoothWeightedRoundRobin
        ),
        ..Shares::default()
    };
    let mut lag = vec![0.0_f64; n];
    let mut running = vec![0_u32; n];
    let mut passed_over = vec![Tick::ZERO; n];
    let mut down = vec![false; n];
    let mut ejected = vec![false; n];
    let slow_start = spec.outlier.map(|o| o.slow_start).unwrap_or_default();
    let mut ramps_until = Tick::ZERO;
    let place = |id| spec.backends.iter().position(|b| b.id == id);
    for (_, at, event) in book.engine.iter().filter(|(i, _, _)| *i == u) {
        match event {
            Event::BackedOff(id, until) => {
                if let Some(i) = place(*id) {
                    passed_over[i] = *until;
                }
            }
            Event::Down(id) | Event::Up(id) => {
                if let Some(i) = place(*id) {
                    down[i] = matches!(event, Event::Down(_));
                }
                ramps_until = ramps_until.max(*at + slow_start);
            }
            Event::Ejected(id, ..) | Event::Returned(id) => {
                if let Some(i) = place(*id) {
                    ejected[i] = matches!(event, Event::Ejected(..));
                }
                ramps_until = ramps_until.max(*at + slow_start);
            }
            Event::Finished(id, _) => {
                if let Some(i) = place(*id) {
                    running[i] = running[i].saturating_sub(1);
                }
            }
            Event::Picked { backend, free, .. } => {
                let Some(picked) = place(*backend) else {
                    continue;
                };
                let has_room = |i: &usize| {
                    spec.backends[*i]
                        .max_in_flight
                        .is_none_or(|m| running[*i] < m)
                };
                let roomy: Vec<usize> = (0..n).filter(has_room).collect();
                let up: Vec<usize> = roomy.iter().copied().filter(|i| !down[*i]).collect();
                let kept: Vec<usize> = up.iter().copied().filter(|i| !ejected[*i]).collect();
                let sound = kept.iter().copied().filter(|i| passed_over[*i] <= *at);
                let sound: Vec<usize> = sound.collect();
                running[picked] += 1;
                // All that are sound; or all that are neither down nor ejected, when none is sound; and so on. Who has come
                // back a while ago is not given all that it earns.
                let field = [sound, kept, up, roomy]
                    .into_iter()
                    .filter(|_| *at >= ramps_until)
                    .find(|field| field.len() == *free as usize && field.contains(&picked));
                let Some(field) = field else {
                    shares.unknown += 1;
                    continue;
                };
                if field.len() < 2 {
                    continue;
                }
                shares.choices += 1;
                shares.given[picked] += 1;
                lag[picked] -= 1.0;
                let total: f64 = field.iter().map(|i| weights[*i]).sum();
                for i in field {
                    let part = weights[i] / total;
                    shares.earned[i] += part;
                    lag[i] += part;
                    shares.worst = shares.worst.max(lag[i].abs());
                }
            }
            _ => {}
        }
    }
    shares
}
