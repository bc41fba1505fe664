//! How does the rest of a node talk to the log?
//!
//! A [`Handle`] answers questions and passes messages. It decides nothing and holds no state of its own, apart from the
//! header of the applied tip.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use commonware_consensus::types::Height as LogHeight;
use commonware_utils::{
    channel::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    sync::Mutex,
};
use lockstep_protocol::{
    certificate::Finality,
    header::Header,
    ids::{Hash32, Height},
    limits::MAX_DESCENDANTS,
};

pub use crate::reader::{Proven, Stopped};
use crate::{
    block::{Archive, Block},
    config::GOSSIP_BYTES_MAX,
    finality::certificate,
    machine::{Key, Records},
    pacing::Waker,
    reader::Reader,
    tip::Tip,
};

/// A message was not sent to the other validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GossipError {
    /// Too long.
    #[error("{0} bytes, at most {GOSSIP_BYTES_MAX} are sent at once")]
    Length(usize),
    /// The queue of outgoing messages is full: drop it, or try again later.
    #[error("too many messages are waiting to be sent")]
    Full,
    /// The log has stopped.
    #[error("the log has stopped")]
    Stopped,
}

/// The way to a running log. Cheap to clone, usable from any thread and any async runtime.
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) tip: Tip,
    pub(crate) archive: Archive,
    pub(crate) waker: Waker,
    pub(crate) outbox: mpsc::Sender<Bytes>,
    pub(crate) inbox: Mutex<Option<mpsc::Receiver<(Hash32, Bytes)>>>,
    // Owned by the running parts: a handle that is kept must not keep the state's files or the runtime.
    pub(crate) live: Weak<Live>,
}

/// What answers only while the log runs.
pub(crate) struct Live {
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) metrics: Box<dyn Fn() -> String + Send + Sync>,
    pub(crate) peers: Arc<dyn Fn() -> usize + Send + Sync>,
}

impl Handle {
    /// Header of the applied tip: the last final block whose state is readable. Genesis before the first.
    pub fn tip(&self) -> Header {
        self.shared.tip.get()
    }

    /// The applied tip as it moves. A slow watcher skips heights.
    pub fn watch(&self) -> watch::Receiver<Header> {
        self.shared.tip.watch()
    }

    /// A final block from the archive. `None` above the tip, below what is retained, or when the log has stopped.
    pub async fn block(&self, height: Height) -> Option<Block> {
        let block = self.shared.archive.get_block(LogHeight::new(height.0)).await?;
        Some(block.inner().clone())
    }

    /// Proof that the block at `height` is final. `None` for genesis, above the tip, or below what is retained.
    pub async fn finality(&self, height: Height) -> Option<Finality> {
        let mut descendants = Vec::new();
        let mut height = height;
        loop {
            if let Some(finalization) = self.shared.archive.get_finalization(LogHeight::new(height.0)).await {
                return Some(Finality { descendants, certificate: certificate(&finalization) });
            }
            if descendants.len() == MAX_DESCENDANTS || height.0 == 0 {
                return None;
            }
            height = height.next();
            descendants.push(self.block(height).await?.header().clone());
        }
    }

    /// Records at the applied tip, and its header. One batch; order and repetition of keys do not matter.
    pub async fn read(&self, keys: Vec<Key>) -> Result<(Header, Records), Stopped> {
        let answer = self.shared.live.upgrade().ok_or(Stopped)?.reader.read(keys);
        answer.await
    }

    /// A record at the applied tip with a proof against that header's state root.
    pub async fn prove(&self, key: Key) -> Result<Proven, Stopped> {
        let answer = self.shared.live.upgrade().ok_or(Stopped)?.reader.prove(key);
        answer.await
    }

    /// Says that work has arrived: an idle leader proposes at once.
    pub fn wake(&self) {
        self.shared.waker.wake();
    }

    /// Sends an application message to all other validators, best effort. Never waits.
    pub fn gossip(&self, message: Bytes) -> Result<(), GossipError> {
        if message.len() > GOSSIP_BYTES_MAX {
            return Err(GossipError::Length(message.len()));
        }
        self.shared.outbox.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => GossipError::Full,
            TrySendError::Closed(_) => GossipError::Stopped,
        })
    }

    /// The receiving end of [`gossip`](Self::gossip): `(sender's key, message)`. Bounded; messages that find it full are
    /// dropped. There is one, for whoever asks first.
    pub fn inbox(&self) -> Option<mpsc::Receiver<(Hash32, Bytes)>> {
        self.shared.inbox.lock().take()
    }

    /// Metrics of the runtime and everything on it, in the Prometheus text format. Empty when the log has stopped.
    pub fn metrics(&self) -> String {
        self.shared.live.upgrade().map(|live| (live.metrics)()).unwrap_or_default()
    }

    /// Validators connected to this one, itself not counted.
    pub fn peers(&self) -> usize {
        self.shared.live.upgrade().map(|live| (live.peers)()).unwrap_or_default()
    }
}
