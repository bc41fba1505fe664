//! When is each bundle of a load final, as a subscriber sees it?
//!
//! One verifying follower of one lane, on which every bundle of the load has a leg. It tells bundles by their ids, so nothing is
//! asked about any single one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use lockstep_protocol::{
    ids::{BundleId, Height},
    lane::LaneEntry,
};
use lockstep_sdk::{
    Client,
    follow::{FollowError, LaneFollower, Start, Update},
};
use tokio::task::JoinHandle;

use super::window::Windows;
use crate::{latency::Latency, network::ROLLUPS};

/// Pause before the follower asks again where no node answered.
const PAUSE: Duration = Duration::from_millis(100);

/// What has arrived.
pub(crate) struct Arrived {
    state: Mutex<Expected>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What is expected, and what of it has come.
pub(crate) struct Expected {
    indices: HashMap<BundleId, usize>,
    due: Vec<Duration>,
    start: Instant,
    /// Bundles due before this are not measured.
    from: Duration,
    /// Which may be sent.
    pub(crate) windows: Windows,
    /// From the intended send to the verified lane item.
    pub(crate) latency: Latency,
    /// Final at all.
    pub(crate) finalized: usize,
    /// Final within the time in which the load was offered, and after its warm-up.
    pub(crate) in_time: u64,
    until: Duration,
    /// Seen in more than one place of the lane.
    pub(crate) repeated: u64,
    seen: Vec<bool>,
    /// The lane's height so far.
    pub(crate) height: Height,
    /// Why the follower stands still, if it does.
    pub(crate) error: Option<String>,
}

impl Expected {
    /// Expects bundles `ids`, each due at its offset from `start`.
    pub(crate) fn new(
        ids: impl IntoIterator<Item = BundleId>,
        due: Vec<Duration>,
        start: Instant,
        measured: std::ops::Range<Duration>,
        accounts: usize,
    ) -> Self {
        let indices: HashMap<_, _> = ids.into_iter().enumerate().map(|(index, id)| (id, index)).collect();
        let windows = Windows::new(accounts, due.len());
        let seen = vec![false; due.len()];
        Self {
            indices,
            due,
            start,
            from: measured.start,
            until: measured.end,
            windows,
            latency: Latency::default(),
            finalized: 0,
            in_time: 0,
            repeated: 0,
            seen,
            height: Height(0),
            error: None,
        }
    }

    /// Takes what the follower gave. Returns whether it failed.
    fn take(&mut self, update: Result<Update, FollowError>, height: Height, now: Instant) -> bool {
        self.height = height;
        self.error = update.as_ref().err().map(FollowError::to_string);
        if let Ok(Update::Item(item)) = &update {
            for LaneEntry::Leg { bundle, .. } in &item.entries {
                self.see(*bundle, now);
            }
        }
        update.is_err()
    }

    /// The lane shows bundle `id`, now.
    fn see(&mut self, id: BundleId, now: Instant) {
        let Some(index) = self.indices.get(&id).copied() else { return };
        if std::mem::replace(&mut self.seen[index], true) {
            self.repeated += 1;
            return;
        }
        self.finalized += 1;
        self.windows.conclude(index);
        let due = self.due[index];
        let passed = now.saturating_duration_since(self.start);
        if due >= self.from {
            self.latency.record(passed.saturating_sub(due));
        }
        if (self.from..self.until).contains(&passed) {
            self.in_time += 1;
        }
    }
}

impl Arrived {
    /// Watches the first lane from now on.
    pub(crate) async fn watch(client: Client) -> Result<Arc<Self>> {
        let tip = client.tip().await?.header.height;
        let follower = client.follow(ROLLUPS[0].0, Start::Height(tip.next())).await?;
        let nothing = Expected::new([], Vec::new(), Instant::now(), Duration::ZERO..Duration::ZERO, 1);
        let arrived = Arc::new(Self { state: Mutex::new(nothing), task: Mutex::new(None) });
        let task = tokio::spawn(watch(follower, Arc::downgrade(&arrived)));
        *arrived.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(arrived)
    }

    /// From now on expects something else.
    pub(crate) fn expect(&self, expected: Expected) {
        *self.state() = expected;
    }

    /// What is expected, and what of it has come.
    pub(crate) fn state(&self) -> MutexGuard<'_, Expected> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

async fn watch(mut follower: LaneFollower, arrived: std::sync::Weak<Arrived>) {
    loop {
        let update = follower.next().await;
        let now = Instant::now();
        let Some(arrived) = arrived.upgrade() else { return };
        let failed = arrived.state().take(update, follower.height(), now);
        drop(arrived);
        if failed {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> BundleId {
        BundleId([u8::try_from(number).expect("a small number"); 32])
    }

    /// Ten bundles, one every 100 ms; the first 300 ms are warm-up, the load ends after a second.
    fn expected(start: Instant) -> Expected {
        let due = (0..10).map(|index| Duration::from_millis(100 * index)).collect();
        let measured = Duration::from_millis(300)..Duration::from_secs(1);
        Expected::new((0..10).map(id), due, start, measured, 2)
    }

    #[test]
    fn latency_counts_from_when_a_bundle_was_due_not_from_when_it_was_sent() {
        let start = Instant::now();
        let mut expected = expected(start);
        // The network stood still until 2 s, and then finalized everything at once.
        for index in 0..10 {
            expected.see(id(index), start + Duration::from_secs(2));
        }
        let found = expected.latency.percentiles();
        assert_eq!(found.count, 7, "the warm-up is not measured");
        assert!((found.max_ms - 1_700.0).abs() < 2.0, "{found:?}");
        assert!((found.p50_ms - 1_400.0).abs() < 2.0, "{found:?}");
        assert_eq!((expected.finalized, expected.in_time), (10, 0));
    }

    #[test]
    fn only_what_is_final_while_the_load_is_offered_counts_for_its_rate() {
        let start = Instant::now();
        let mut expected = expected(start);
        for (index, at_ms) in [(0, 100), (1, 299), (2, 300), (3, 999), (4, 1_000)] {
            expected.see(id(index), start + Duration::from_millis(at_ms));
        }
        assert_eq!((expected.finalized, expected.in_time), (5, 2));
    }

    #[test]
    fn a_bundle_seen_twice_is_told_and_counted_once_and_a_strangers_is_nothing() {
        let start = Instant::now();
        let mut expected = expected(start);
        for _ in 0..2 {
            expected.see(id(5), start + Duration::from_millis(600));
        }
        expected.see(id(99), start + Duration::from_millis(600));
        assert_eq!((expected.finalized, expected.repeated, expected.latency.count()), (1, 1, 1));
    }
}
