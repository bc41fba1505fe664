//! What is to be passed on to the other validators?
//!
//! A queue between the pool, which never waits, and the gossip that empties it. When it is full the oldest go: their bundles
//! stay in this node's pool, are remembered for a later reminder, and are proposed when this node leads.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use lockstep_protocol::{body::CheckedBundle, bundle::SignedCancel};
use tokio::sync::Notify;

/// Encoded bytes that may be queued: some seconds of a validator's share of 5,000 bundles a second.
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Something to pass on.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Bundle(Arc<CheckedBundle>),
    Cancel(SignedCancel),
}

/// Some items that fit one message.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) cancels: Vec<SignedCancel>,
    pub(crate) bundles: Vec<Arc<CheckedBundle>>,
}

/// The queue.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<(usize, Item)>,
    bytes: usize,
}

impl Item {
    /// Bytes in a message.
    fn bytes(&self) -> usize {
        match self {
            Self::Bundle(bundle) => borsh::object_length(bundle.signed()),
            Self::Cancel(signed) => borsh::object_length(signed),
        }
        .expect("measuring does not fail")
    }
}

impl Outbox {
    /// Queues items; returns how many older ones had to go.
    pub(crate) fn push(&self, items: impl IntoIterator<Item = Item>) -> usize {
        let mut queue = self.queue.lock().expect("no holder of the outbox panics");
        let mut dropped = 0;
        for item in items {
            let bytes = item.bytes();
            queue.bytes += bytes;
            queue.items.push_back((bytes, item));
            while queue.bytes > QUEUE_BYTES_MAX {
                let (bytes, _) = queue.items.pop_front().expect("what has bytes has items");
                queue.bytes -= bytes;
                dropped += 1;
            }
        }
        drop(queue);
        self.filled.notify_one();
        dropped
    }

    /// Takes the oldest items, up to `most` encoded bytes. `None` if there are none. An item that is larger on its own is
    /// taken alone, for the caller to judge.
    pub(crate) fn take(&self, most: usize) -> Option<Load> {
        let mut queue = self.queue.lock().expect("no holder of the outbox panics");
        let mut load = Load::default();
        let mut room = most;
        while let Some((bytes, _)) = queue.items.front() {
            if *bytes > room && room < most {
                break;
            }
            let (bytes, item) = queue.items.pop_front().expect("it was just seen");
            queue.bytes -= bytes;
            room = room.saturating_sub(bytes);
            match item {
                Item::Bundle(bundle) => load.bundles.push(bundle),
                Item::Cancel(cancel) => load.cancels.push(cancel),
            }
        }
        (room < most).then_some(load)
    }

    /// Puts a load back in front, because it could not be sent now.
    pub(crate) fn put_back(&self, load: Load) {
        let mut queue = self.queue.lock().expect("no holder of the outbox panics");
        let bundles = load.bundles.into_iter().rev().map(Item::Bundle);
        for item in bundles.chain(load.cancels.into_iter().rev().map(Item::Cancel)) {
            let bytes = item.bytes();
            queue.bytes += bytes;
            queue.items.push_front((bytes, item));
        }
    }

    /// Returns when something was queued since the last call.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}
