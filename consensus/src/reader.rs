//! How are records read and proven at the applied tip?
//!
//! Erases the runtime from the authenticated state, so that a [`Handle`](crate::handle::Handle) has no type parameter.

use bytes::Bytes;
use commonware_codec::Encode;
use commonware_runtime::Spawner;
use commonware_storage::Context as StorageContext;
use commonware_utils::sequence::FixedBytes;
use futures::{FutureExt, future::BoxFuture};
use lockstep_protocol::{header::Header, ids::Hash32};

use crate::{
    proof::{ABSENT, PRESENT},
    record::{Key, Record, Records},
    tip::Tip,
    types::State,
};

/// A record, or its absence, proven against the state root of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The header whose `state` the proof leads to: the applied tip when the proof was made.
    pub header: Header,
    /// The record; `None` if the key is absent.
    pub record: Option<Record>,
    /// For [`crate::proof::verify`].
    pub proof: Bytes,
}

/// The log has stopped and answers no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log has stopped")]
pub struct Stopped;

/// The state at the applied tip.
pub(crate) trait Reader: Send + Sync {
    fn read(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<(Header, Records), Stopped>>;

    fn prove(&self, key: Key) -> BoxFuture<'static, Result<Proven, Stopped>>;
}

pub(crate) struct StateReader<E: StorageContext> {
    pub(crate) context: E,
    pub(crate) state: State<E>,
    pub(crate) tip: Tip,
}

const UNREADABLE: &str = "the state can be read: a disk fault ends the node";
const KNOWN: &str = "a header that was known stays known";

/// Returns when it is known which header commits to the state. A start may find that out with the next final block only.
async fn known<E: StorageContext + Spawner>(state: &State<E>, tip: &Tip) {
    let mut moves = tip.watch();
    while tip.with_root(&Hash32(state.read().await.root().0)).is_none() {
        if moves.changed().await.is_err() {
            return;
        }
    }
}

// Reads run as tasks of the log's own runtime: the caller may be on another one, or on none.
impl<E: StorageContext + Spawner> Reader for StateReader<E> {
    fn read(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<(Header, Records), Stopped>> {
        let (state, tip) = (self.state.clone(), self.tip.clone());
        let task = self.context.child("read").spawn(move |_| async move {
            let keys: Vec<_> = keys.into_iter().map(FixedBytes::new).collect();
            let references: Vec<_> = keys.iter().collect();
            known(&state, &tip).await;
            let state = state.read().await;
            let header = tip.with_root(&Hash32(state.root().0)).expect(KNOWN);
            let values = state.get_many(&references).await.expect(UNREADABLE);
            let records = keys.iter().zip(values).map(|(key, value)| (key.clone().into(), value.map(Into::into)));
            (header, records.collect())
        });
        async move { task.await.map_err(|_| Stopped) }.boxed()
    }

    fn prove(&self, key: Key) -> BoxFuture<'static, Result<Proven, Stopped>> {
        let (state, tip) = (self.state.clone(), self.tip.clone());
        let task = self.context.child("prove").spawn(move |_| async move {
            let key = FixedBytes::new(key);
            known(&state, &tip).await;
            let state = state.read().await;
            let header = tip.with_root(&Hash32(state.root().0)).expect(KNOWN);
            let record = state.get(&key).await.expect(UNREADABLE);
            let mut proof = Vec::new();
            if record.is_some() {
                proof.push(PRESENT);
                proof.extend_from_slice(&state.key_value_proof(key).await.expect(UNREADABLE).encode());
            } else {
                proof.push(ABSENT);
                proof.extend_from_slice(&state.exclusion_proof(&key).await.expect(UNREADABLE).encode());
            }
            Proven { header, record: record.map(Into::into), proof: proof.into() }
        });
        async move { task.await.map_err(|_| Stopped) }.boxed()
    }
}
