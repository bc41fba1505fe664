//! How long did things take, counted from when they were meant to happen?
//!
//! A histogram with the percentiles that are reported. What is measured, and from when, is the caller's.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest that is told apart, 10 minutes; what took longer counts as that.
const LONGEST_US: u64 = 600_000_000;

/// Durations, to three digits.
#[derive(Clone)]
pub struct Latency(Histogram<u64>);

/// What is reported of a [`Latency`]. Milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are the field's own")]
pub struct Percentiles {
    pub count: u64,
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

impl Latency {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(us.clamp(1, LONGEST_US));
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The percentiles of all counted so far; zeros if there are none.
    pub fn percentiles(&self) -> Percentiles {
        if self.0.is_empty() {
            return Percentiles::default();
        }
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles {
            count: self.0.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            max_ms: self.0.max() as f64 / 1_000.0,
        }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constants that fit"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut latency = Latency::default();
        for ms in 1..=1_000 {
            latency.record(Duration::from_millis(ms));
        }
        let found = latency.percentiles();
        assert_eq!(found.count, 1_000);
        for (found, expected) in
            [(found.p50_ms, 500.0), (found.p90_ms, 900.0), (found.p99_ms, 990.0), (found.max_ms, 1_000.0)]
        {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} is not {expected}");
        }
    }

    #[test]
    fn what_takes_too_long_counts_as_the_longest_instead_of_being_lost() {
        let mut latency = Latency::default();
        latency.record(Duration::from_secs(86_400));
        latency.record(Duration::ZERO);
        let found = latency.percentiles();
        assert_eq!(found.count, 2);
        assert!(found.max_ms >= 600_000.0);
    }

    #[test]
    fn nothing_recorded_is_zeros() {
        assert_eq!(Latency::default().percentiles(), Percentiles::default());
    }
}
