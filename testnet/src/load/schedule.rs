//! When is each bundle of an open-loop load due?
//!
//! Offsets from the start of a run, decided before it: a slow network does not slow its load. Sends nothing.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};

/// The pattern of arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// Evenly spaced.
    Fixed,
    /// Independent of each other, as from many clients: exponential gaps.
    Poisson,
}

/// Offsets at which bundles are due, ascending, without end.
#[derive(Debug)]
pub struct Schedule {
    arrivals: Arrivals,
    rate: f64,
    sent: u64,
    at: f64,
    random: StdRng,
}

impl Schedule {
    /// `rate` bundles a second, which must be above zero. The same seed gives the same offsets.
    pub fn new(arrivals: Arrivals, rate: f64, seed: u64) -> Self {
        assert!(rate > 0.0, "a load has a rate");
        Self { arrivals, rate, sent: 0, at: 0.0, random: StdRng::seed_from_u64(seed) }
    }

    /// Offsets within `length`, all at once.
    pub fn within(self, length: Duration) -> Vec<Duration> {
        self.take_while(|offset| *offset < length).collect()
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = match self.arrivals {
            // From the count, so that rounding does not add up.
            Arrivals::Fixed => self.sent as f64 / self.rate,
            Arrivals::Poisson => {
                // Of (0, 1]: the logarithm of zero is no gap.
                let uniform = 1.0 - self.random.random::<f64>();
                self.at -= uniform.ln() / self.rate;
                self.at
            }
        };
        self.sent += 1;
        Some(Duration::from_secs_f64(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_rate_is_evenly_spaced_and_does_not_drift() {
        let offsets = Schedule::new(Arrivals::Fixed, 3_000.0, 0).within(Duration::from_secs(60));
        assert_eq!(offsets.len(), 180_000);
        assert_eq!(offsets[0], Duration::ZERO);
        let gaps = offsets.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.into_iter().all(|gap| gap.as_nanos().abs_diff(333_333) <= 1));
        assert!(offsets[179_999] > Duration::from_millis(59_999));
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_have_the_spread_of_an_exponential() {
        let seed = 7;
        let offsets = Schedule::new(Arrivals::Poisson, 1_000.0, seed).within(Duration::from_secs(100));
        let count = offsets.len() as f64;
        // The deviation of the count is its square root, about 316; six of them.
        assert!((count - 100_000.0).abs() < 1_900.0, "seed {seed}: {count}");
        assert!(offsets.is_sorted());
        let gaps: Vec<f64> = offsets.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let spread = variance.sqrt() / mean;
        assert!((0.97..1.03).contains(&spread), "seed {seed}: {spread}, an exponential has 1");
    }

    #[test]
    fn a_seed_repeats_and_another_does_not() {
        let offsets = |seed| Schedule::new(Arrivals::Poisson, 50.0, seed).within(Duration::from_secs(2));
        assert_eq!(offsets(1), offsets(1));
        assert_ne!(offsets(1), offsets(2));
    }

    #[test]
    #[should_panic(expected = "a load has a rate")]
    fn no_rate_is_no_load() {
        Schedule::new(Arrivals::Fixed, 0.0, 0);
    }
}
