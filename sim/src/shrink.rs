//! Shrinking: which of a failing world's faults does it take? Delta debugging (Zeller and Hildebrandt 2002) over the list of
//! faults; each draws from a substream of its own, so that leaving one out disturbs no other.

use crate::plan::Plan;
use crate::single;

/// Runs at most: a world that needs all of its faults is found out before.
const RUNS: usize = 60;

/// The numbers of a small set of faults with which `checker` still finds something. All of them, if it takes all.
pub fn faults(plan: &Plan, checker: &str) -> Vec<usize> {
    let mut runs = 0;
    let fails = |kept: &[usize]| {
        let mut plan = plan.clone();
        plan.faults = single::pick(&plan.faults, kept);
        let (_, violations) = single::run_one(&plan);
        violations.iter().any(|v| v.checker == checker)
    };
    minimise((0..plan.faults.len()).collect(), &mut |kept| {
        runs += 1;
        runs <= RUNS && fails(kept)
    })
}

/// A subset for which `fails` holds, from which no part of the last grain can be left out.
fn minimise(mut kept: Vec<usize>, fails: &mut dyn FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut parts = 1;
    while !kept.is_empty() {
        let size = kept.len().div_ceil(parts);
        let without = |at: usize| -> Vec<usize> {
            let numbered = kept.iter().enumerate();
            numbered
                .filter(|(i, _)| i / size != at)
                .map(|(_, x)| *x)
                .collect()
        };
        let smaller = (0..kept.len().div_ceil(size))
            .map(without)
            .find(|less| fails(less));
        match smaller {
            Some(less) => {
                kept = less;
                parts = parts.saturating_sub(1).max(1);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(kept.len()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_takes_is_found() {
        for needed in [
            vec![],
            vec![3],
            vec![0, 9],
            vec![2, 3, 7],
            (0..10).collect(),
        ] {
            let mut runs = 0;
            let kept = minimise((0..10).collect(), &mut |kept| {
                runs += 1;
                needed.iter().all(|n| kept.contains(n))
            });
            assert_eq!(kept, needed);
            assert!(runs < 60, "{runs}");
        }
    }
}
