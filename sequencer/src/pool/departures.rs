//! Which bundles left the pool without having been ordered, and why?
//!
//! Whoever waits for a bundle is told at once; whoever asks later finds the reason here for a while. Not the outcome of a
//! bundle: one that was evicted here may still be ordered by a validator that kept it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use lockstep_protocol::{ids::BundleId, refusal::Refusal};
use tokio::sync::broadcast;

use super::Dropped;

/// Departures that are remembered: some seconds of an overloaded pool, about 4 MiB.
const REMEMBERED: usize = 16_384;
/// Departures that a slow listener may be behind before it has to ask instead.
const BEHIND_MAX: usize = 1_024;

pub(crate) struct Departures {
    sender: broadcast::Sender<Dropped>,
    recent: Mutex<Recent>,
}

#[derive(Default)]
struct Recent {
    reasons: HashMap<BundleId, Refusal>,
    order: VecDeque<BundleId>,
}

impl Departures {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BEHIND_MAX), recent: Mutex::default() }
    }

    pub(crate) fn publish(&self, dropped: Vec<Dropped>) {
        if dropped.is_empty() {
            return;
        }
        let mut recent = self.recent.lock().expect("no holder of the departures panics");
        for Dropped { id, refusal } in &dropped {
            if recent.reasons.insert(*id, refusal.clone()).is_none() {
                recent.order.push_back(*id);
            }
            if recent.order.len() > REMEMBERED {
                let oldest = recent.order.pop_front().expect("there are many");
                recent.reasons.remove(&oldest);
            }
        }
        drop(recent);
        for departure in dropped {
            // Nobody listening is fine.
            let _ = self.sender.send(departure);
        }
    }

    pub(crate) fn reason(&self, id: &BundleId) -> Option<Refusal> {
        self.recent.lock().expect("no holder of the departures panics").reasons.get(id).cloned()
    }

    pub(crate) fn listen(&self) -> broadcast::Receiver<Dropped> {
        self.sender.subscribe()
    }
}
