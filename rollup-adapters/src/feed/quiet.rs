//! When has a lane told nothing for so long that somebody should know?
//!
//! An idle log still makes blocks, and its nodes tell how far there was nothing. Where that stops too, nothing fails and nothing goes
//! on. Says so; changes nothing.

use std::time::{Duration, Instant};

/// A lane that brings nothing for so long is told of: many heartbeats of an idle log, and longer than it takes to ask all of a few
/// nodes that hang.
pub const LANE_PATIENCE: Duration = Duration::from_secs(30);

/// How long a lane has told nothing.
#[derive(Debug)]
pub(crate) struct Quiet {
    patience: Duration,
    since: Option<Instant>,
    is_told: bool,
}

impl Quiet {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, since: None, is_told: false }
    }

    /// `what` has not come yet. Gives what to say of it, if that is so for long; the log has a line when that begins.
    pub(crate) fn waits(&mut self, what: &str) -> Option<String> {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        if waited < self.patience {
            return None;
        }
        let trouble = format!("{what} for {} s: the log stands still, or its nodes tell nothing new", waited.as_secs());
        if !self.is_told {
            self.is_told = true;
            tracing::warn!("{trouble}");
        }
        Some(trouble)
    }

    /// An attempt failed. Time in which something else than the lane was waited for is not the lane's.
    pub(crate) fn failed(&mut self, is_lanes: bool) {
        if !is_lanes {
            (self.since, self.is_told) = (None, false);
        }
    }

    /// Whether it was told.
    pub(crate) fn is_told(&self) -> bool {
        self.is_told
    }

    /// It has come. Returns whether it was told that it does not.
    pub(crate) fn ends(&mut self) -> bool {
        if self.is_told {
            let after_ms = self.since.map_or(0, |since| since.elapsed().as_millis() as u64);
            tracing::info!(after_ms, "the lane goes on");
        }
        self.since = None;
        std::mem::take(&mut self.is_told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_quiet_after_a_while_and_until_it_goes_on() {
        let mut quiet = Quiet::new(Duration::ZERO);
        let trouble = quiet.waits("no block").expect("at once");
        assert!(trouble.starts_with("no block for 0 s"), "{trouble}");
        assert!(quiet.is_told());
        assert!(quiet.ends() && !quiet.ends() && !quiet.is_told(), "it is over once");
        assert!(quiet.waits("no block").is_some(), "and begins again");
        quiet.failed(true);
        assert!(quiet.is_told());
        quiet.failed(false);
        assert!(!quiet.is_told(), "somebody else is to blame");
        let mut patient = Quiet::new(Duration::from_secs(3_600));
        assert_eq!((patient.waits("no block"), patient.waits("no block")), (None, None));
        assert!(!patient.ends(), "nothing was told");
    }
}
