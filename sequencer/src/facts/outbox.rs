//! Which facts are to be passed on to the other validators?
//!
//! A bounded queue between whoever makes or brings a fact, and never waits, and the gossip that empties it. When it is full the
//! oldest go: heads are signed again, and facts stay in this node's pool.

use std::{collections::VecDeque, sync::Mutex};

use lockstep_protocol::{rpc::Fact, settlement::HeadAttestation};
use tokio::sync::Notify;

use super::ids;

/// Encoded bytes that may be queued: twenty of the largest facts, or a minute of attestations.
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Encoded bytes of an attestation, and some more.
const ATTESTATION_BYTES: usize = 160;

/// Something to pass on.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Attestation(HeadAttestation),
    Fact(Fact),
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
    fn bytes(&self) -> usize {
        match self {
            Self::Attestation(_) => ATTESTATION_BYTES,
            Self::Fact(fact) => ids::bytes(fact),
        }
    }
}

impl Outbox {
    /// Queues items; the oldest go when there are too many.
    pub(crate) fn push(&self, items: impl IntoIterator<Item = Item>) {
        let mut queue = self.queue.lock().expect("no holder of the outbox panics");
        for item in items {
            let bytes = item.bytes();
            queue.bytes += bytes;
            queue.items.push_back((bytes, item));
            while queue.bytes > QUEUE_BYTES_MAX {
                let (bytes, _) = queue.items.pop_front().expect("what has bytes has items");
                queue.bytes -= bytes;
            }
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// Takes the oldest items, up to `most` encoded bytes; nothing if the queue is empty.
    pub(crate) fn take(&self, most: usize) -> Vec<Item> {
        let mut queue = self.queue.lock().expect("no holder of the outbox panics");
        let mut room = most;
        let mut items = Vec::new();
        while let Some((bytes, _)) = queue.items.front() {
            if *bytes > room {
                break;
            }
            let (bytes, item) = queue.items.pop_front().expect("it was just seen");
            queue.bytes -= bytes;
            room -= bytes;
            items.push(item);
        }
        items
    }

    /// Returns when something was queued since the last call.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}
