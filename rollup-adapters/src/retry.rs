//! How long is waited between two attempts, and when is one given up?
//!
//! Pauses double up to a bound. The first failure and the recovery are logged, not every attempt between them.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

/// First pause: most failures are a connection that was just reset.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause: recovery is noticed within it.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Pauses that grow while something fails.
#[derive(Debug)]
pub struct Backoff {
    failures: u32,
    failures_max: u32,
    since: Option<Instant>,
}

impl Backoff {
    /// Gives up after so many failures in a row.
    pub fn new(failures_max: u32) -> Self {
        Self { failures: 0, failures_max, since: None }
    }

    /// Never gives up.
    pub fn endless() -> Self {
        Self::new(u32::MAX)
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Waits before the next attempt, or gives the error back if it was one too many.
    pub async fn failed<E: Display>(&mut self, error: E) -> Result<(), E> {
        tokio::time::sleep(self.count(error)?).await;
        Ok(())
    }

    /// Counts a failure: how long to wait after it, or the error if it was one too many.
    fn count<E: Display>(&mut self, error: E) -> Result<Duration, E> {
        if self.failures == 0 {
            tracing::warn!(%error, "failed, trying again");
            self.since = Some(Instant::now());
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.failures_max {
            return Err(error);
        }
        Ok(self.pause())
    }

    /// How long the next pause is.
    pub fn pause(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX)
    }

    /// Something worked again.
    pub fn succeeded(&mut self) {
        if let Some(since) = self.since.take() {
            tracing::info!(failures = self.failures, after_ms = since.elapsed().as_millis() as u64, "works again");
        }
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_attempts_end() {
        let mut backoff = Backoff::new(20);
        let pauses: Vec<_> = (0..20).map(|_| backoff.count("no").expect("not yet")).collect();
        assert_eq!(pauses[0], PAUSE_MIN);
        assert!(pauses.is_sorted() && pauses[1] == PAUSE_MIN * 2, "{pauses:?}");
        assert_eq!(pauses[19], PAUSE_MAX);
        assert_eq!(backoff.count("no"), Err("no"));
        backoff.succeeded();
        assert_eq!((backoff.failures(), backoff.pause()), (0, PAUSE_MIN));
    }
}
