//! Who is taken out for what its requests or its checks tell, how much may be out together, and how a backend comes back. Absent:
//! what makes a backend stand out among its peers (outlier).

use super::Pool;
use crate::engine::outlier::{OutlierSpec, Ramp, Reason, Sums, stands_out};
use crate::engine::{BackendId, Outcome, Slot, Standing};
use crate::time::Tick;

/// What the requests of a backend have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is out until then.
    Ejected(Tick, Reason),
    /// It would be, if that did not take too much of the upstream out.
    Spared(Reason),
}

impl Pool {
    /// A backend's checks fail, or no longer do. True when that is new. Who is up again gets its share by and by.
    pub(crate) fn set_down(&mut self, now: Tick, id: BackendId, is_down: bool) -> bool {
        let place = self.place(id);
        let changes = place.filter(|i| self.backends[*i].is_down != is_down);
        if let Some(i) = changes {
            self.change(i, |backend| backend.is_down = is_down);
            if !is_down {
                self.begin_ramp(now, i);
            }
        }
        changes.is_some()
    }

    /// What follows for the backend at `i` from how a request on it ended.
    pub(super) fn judge(
        &mut self,
        now: Tick,
        spec: &OutlierSpec,
        i: usize,
        slot: &Slot,
        outcome: Outcome,
    ) -> Option<Verdict> {
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failed | Outcome::Refused | Outcome::Died | Outcome::Broken => true,
            Outcome::ReuseRace | Outcome::Cancelled => return None,
        };
        let backend = &mut self.backends[i];
        if backend.ejected_until.is_some() {
            return None;
        }
        let outlier = &mut backend.outlier;
        if !outlier.handle(now, spec, slot.granted, failed, slot.first_byte) {
            return None;
        }
        let in_a_row = failed && outlier.has_failed_in_a_row(spec);
        let is_due = outlier.is_due(spec);
        let reason = if in_a_row && !self.do_others_fail(i) {
            Reason::Consecutive
        } else if is_due {
            let peers = self
                .peers(i)
                .map(|i| self.backends[i].outlier.sums(now, spec));
            let peers: Sums = peers.sum();
            stands_out(spec, self.backends[i].outlier.sums(now, spec), peers)?
        } else {
            return None;
        };
        if !self.may_eject(spec, i) {
            return Some(Verdict::Spared(reason));
        }
        let until = now + self.backends[i].outlier.eject(now, spec);
        self.ejections.insert((until, i as u32));
        self.end_ramp(i);
        self.change(i, |backend| backend.ejected_until = Some(until));
        Some(Verdict::Ejected(until, reason))
    }

    /// Ends the ejections that are over, and says whose.
    pub(crate) fn end_ejection(&mut self, now: Tick) -> Option<BackendId> {
        let &(until, i) = self.ejections.first()?;
        if until > now {
            return None;
        }
        self.ejections.pop_first();
        let i = i as usize;
        self.change(i, |backend| {
            backend.ejected_until = None;
            backend.outlier.come_back(now);
        });
        self.begin_ramp(now, i);
        Some(self.backends[i].spec.id)
    }

    /// The places of the others that are neither ejected nor down.
    fn peers(&self, i: usize) -> impl Iterator<Item = usize> + '_ {
        let is_in = |j: &usize| self.backends[*j].standing() < Standing::Ejected;
        (0..self.backends.len())
            .filter(move |j| *j != i)
            .filter(is_in)
    }

    /// Do most of the others fail as well, so that it is no fault of this one?
    fn do_others_fail(&self, i: usize) -> bool {
        let failing = self
            .peers(i)
            .filter(|j| self.backends[*j].outlier.is_failing());
        2 * failing.count() > self.peers(i).count()
    }

    /// May the backend at `i` be out as well?
    fn may_eject(&self, spec: &OutlierSpec, i: usize) -> bool {
        let weight = |j: usize| u64::from(self.backends[j].spec.weight);
        let all: u64 = (0..self.backends.len()).map(weight).sum();
        let left: u64 = self.peers(i).map(weight).sum();
        (all - left) * 100 <= all * u64::from(spec.max_ejected_percent)
    }

    fn begin_ramp(&mut self, now: Tick, i: usize) {
        self.end_ramp(i);
        let length = self.outlier.map(|spec| spec.slow_start).unwrap_or_default();
        if !length.is_zero() {
            self.backends[i].ramp = Some(Ramp::new(now, length));
            self.ramps += 1;
        }
    }

    fn end_ramp(&mut self, i: usize) {
        if self.backends[i].ramp.take().is_some() {
            self.ramps -= 1;
        }
    }

    /// Picks among the eligible. Who has come back a while ago leaves some of its turns to others, if there are others.
    #[inline]
    pub(super) fn pick(&mut self, now: Tick, client: u64) -> Option<usize> {
        let picked = self.scheduler.pick(client)?;
        match self.ramps {
            0 => Some(picked),
            _ => self.pick_ramping(now, client, picked),
        }
    }

    fn pick_ramping(&mut self, now: Tick, client: u64, first: usize) -> Option<usize> {
        let mut passed = Vec::new();
        let mut picked = Some(first);
        while let Some(i) = picked
            && !self.takes_turn(now, i)
        {
            // It counts as picked, and is not.
            let in_flight = self.backends[i].in_flight;
            self.scheduler.load(i, in_flight);
            self.flip(i);
            passed.push(i);
            picked = self.scheduler.pick(client);
        }
        passed.iter().for_each(|&i| self.flip(i));
        match picked {
            Some(i) => Some(i),
            // There is nobody else.
            None => self.scheduler.pick(client),
        }
    }

    fn takes_turn(&mut self, now: Tick, i: usize) -> bool {
        let Some(ramp) = &mut self.backends[i].ramp else {
            return true;
        };
        let takes = ramp.takes_turn(now);
        if ramp.part(now).is_none() {
            self.end_ramp(i);
        }
        takes
    }

    /// Panics if what is kept of ejections and returns contradicts the backends.
    pub(super) fn check_ejections(&self) {
        let ends = (0_u32..).zip(&self.backends);
        let ends = ends.filter_map(|(i, b)| b.ejected_until.map(|until| (until, i)));
        assert!(ends.collect::<std::collections::BTreeSet<_>>() == self.ejections);
        let ramps = self.backends.iter().filter(|b| b.ramp.is_some());
        assert_eq!(ramps.count(), self.ramps);
    }
}
