//! What waits to be passed on to the other validators?
//!
//! A bounded queue between those who fill it, and never wait, and the gossip that empties it. When it is full the oldest go. What
//! the items are is said in `pool/outbox.rs` and `facts/outbox.rs`.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use tokio::sync::Notify;

/// Encoded bytes that may be queued: some seconds of a validator's share of 5,000 bundles a second, twenty of the largest facts,
/// or a minute of attestations.
const QUEUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Something that has a size in a message.
pub(crate) trait Item {
    /// Its encoded bytes.
    fn bytes(&self) -> usize;
}

/// The queue.
pub(crate) struct Outbox<T> {
    queue: Mutex<Queue<T>>,
    filled: Notify,
}

struct Queue<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> Default for Outbox<T> {
    fn default() -> Self {
        Self { queue: Mutex::new(Queue { items: VecDeque::new(), bytes: 0 }), filled: Notify::new() }
    }
}

impl<T: Item> Outbox<T> {
    /// Queues items; returns how many older ones had to go.
    pub(crate) fn push(&self, items: impl IntoIterator<Item = T>) -> usize {
        let mut queue = self.queue();
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

    /// Takes the oldest items, up to `most` encoded bytes; nothing if there are none. An item that is larger on its own is taken
    /// alone, for the caller to judge.
    pub(crate) fn take(&self, most: usize) -> Vec<T> {
        let mut queue = self.queue();
        let mut items = Vec::new();
        let mut room = most;
        while let Some((bytes, _)) = queue.items.front() {
            if *bytes > room && !items.is_empty() {
                break;
            }
            let (bytes, item) = queue.items.pop_front().expect("it was just seen");
            queue.bytes -= bytes;
            room = room.saturating_sub(bytes);
            items.push(item);
        }
        items
    }

    /// Puts items back in front, in their order, because they could not be sent now.
    pub(crate) fn put_back(&self, items: impl DoubleEndedIterator<Item = T>) {
        let mut queue = self.queue();
        for item in items.rev() {
            let bytes = item.bytes();
            queue.bytes += bytes;
            queue.items.push_front((bytes, item));
        }
    }

    /// Returns when something was queued since the last call.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().expect("no holder of the outbox panics")
    }
}
