//! Which rate to try next, when looking for the knee?
//!
//! Doubles until the network does not keep up, then halves the distance between the best rate that it kept and the lowest that
//! it did not. Judges figures, measures nothing.

use serde::Serialize;

use crate::latency::Percentiles;

/// Rates tried in all: a bound on how long a ramp takes.
pub(crate) const STEPS_MAX: usize = 12;

/// The knee is known well enough when the gap around it is this part of it.
const RESOLUTION: f64 = 0.1;

/// A network keeps up with a rate if it finalizes this part of it, within the time in which it is offered ...
const ACHIEVED_MIN: f64 = 0.97;
/// ... and the slowest percent takes no longer than this.
const P99_MAX_MS: f64 = 1_000.0;

/// What was measured at one rate.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Bundles offered, a second.
    pub offered: f64,
    /// Bundles finalized while they were offered, a second.
    pub achieved: f64,
    /// Bundles refused.
    pub refused: u64,
    /// From intended send to finalized.
    pub latency: Percentiles,
}

/// A search for the knee.
#[derive(Debug)]
pub struct Ramp {
    next: f64,
    kept: Option<f64>,
    lost: Option<f64>,
    steps: usize,
}

impl Step {
    /// Whether the network kept up, or the reason why not.
    pub fn judge(&self) -> Result<(), String> {
        if self.refused > 0 {
            return Err(format!("{} refused", self.refused));
        }
        if self.achieved < self.offered * ACHIEVED_MIN {
            return Err(format!("finalized {:.0} of {:.0} a second", self.achieved, self.offered));
        }
        if self.latency.p99_ms > P99_MAX_MS {
            return Err(format!("p99 of {:.0} ms", self.latency.p99_ms));
        }
        Ok(())
    }
}

impl Ramp {
    /// Starts at `rate`.
    pub fn new(rate: f64) -> Self {
        Self { next: rate, kept: None, lost: None, steps: 0 }
    }

    /// The rate to try, until the knee is found.
    pub fn rate(&self) -> Option<f64> {
        let found = match (self.kept, self.lost) {
            (Some(kept), Some(lost)) => lost - kept <= lost * RESOLUTION,
            (None, Some(lost)) => lost < 1.0,
            _ => false,
        };
        (!found && self.steps < STEPS_MAX).then_some(self.next)
    }

    /// Takes what was found at the rate that was tried.
    pub fn tried(&mut self, kept_up: bool) {
        self.steps += 1;
        let bound = if kept_up { &mut self.kept } else { &mut self.lost };
        *bound = Some(self.next);
        self.next = match (self.kept, self.lost) {
            (Some(kept), Some(lost)) => (kept + lost) / 2.0,
            (None, Some(lost)) => lost / 2.0,
            (_, None) => self.next * 2.0,
        };
    }

    /// The highest rate that was kept.
    pub fn knee(&self) -> Option<f64> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(start: f64, capacity: f64) -> (Option<f64>, usize) {
        let mut ramp = Ramp::new(start);
        while let Some(rate) = ramp.rate() {
            ramp.tried(rate <= capacity);
        }
        (ramp.knee(), ramp.steps)
    }

    #[test]
    fn the_knee_is_found_within_a_tenth_from_below_and_from_above() {
        for (start, capacity) in [(500.0, 3_210.0), (4_000.0, 3_210.0), (100.0, 3_210.0), (500.0, 500.0)] {
            let (knee, steps) = search(start, capacity);
            let knee = knee.expect("some rate is kept");
            assert!(knee <= capacity && knee >= capacity * 0.89, "from {start}: {knee}");
            assert!(steps <= STEPS_MAX, "from {start}: {steps}");
        }
    }

    #[test]
    fn a_network_that_keeps_nothing_has_no_knee_and_ends_the_search() {
        let (knee, steps) = search(1_000.0, 0.0);
        assert_eq!(knee, None);
        assert!(steps <= STEPS_MAX);
    }

    #[test]
    fn a_network_without_a_knee_ends_the_search() {
        assert_eq!(search(500.0, f64::INFINITY).1, STEPS_MAX);
    }

    #[test]
    fn each_way_of_not_keeping_up_is_told() {
        let good = Step {
            offered: 100.0,
            achieved: 99.0,
            refused: 0,
            latency: Percentiles { p99_ms: 200.0, ..Percentiles::default() },
        };
        assert_eq!(good.judge(), Ok(()));
        assert_eq!(Step { refused: 3, ..good }.judge(), Err("3 refused".to_owned()));
        assert_eq!(Step { achieved: 90.0, ..good }.judge(), Err("finalized 90 of 100 a second".to_owned()));
        let slow = Percentiles { p99_ms: 1_500.0, ..Percentiles::default() };
        assert_eq!(Step { latency: slow, ..good }.judge(), Err("p99 of 1500 ms".to_owned()));
    }
}
