//! How does a block change the state?
//!
//! Executes blocks through the [`Machine`] on QMDB batches, seals headers, and compares what a header claims with what
//! execution gives. It never waits for time or work: see `pacing.rs`.

use std::sync::Arc;

use bytes::Bytes;
use commonware_consensus::{Epochable, Handoff, Viewable, marshal::ancestry::Ancestry};
use commonware_cryptography::blake3;
use commonware_glue::stateful::{
    Application, Finality, Input, Proposed,
    db::{DatabaseSet, Merkleized as _, Reader},
};
use commonware_runtime::Spawner;
use commonware_storage::{
    Context as StorageContext,
    mmr::Location,
    qmdb::{current::batch::Slot, sync::Target},
};
use commonware_utils::{non_empty_range, sequence::FixedBytes};
use futures::StreamExt;
use lockstep_protocol::{
    header::{Header, L1Origin},
    ids::Hash32,
};
use tracing::{error, info, warn};

use crate::{
    block::{Block, StateRoots, hash_body},
    config,
    machine::{Candidate, Invalid, Key, Machine, Outcome, Position, Records, Standing},
    tip::Tip,
    types::{Context, Database, Scheme, State},
};

/// Most keys that one block may touch. A body of a megabyte holds some 7,000 of the shortest bundles.
pub const KEYS_MAX: usize = 1 << 16;

type Batch<E> = <State<E> as DatabaseSet<E>>::Unmerkleized;
type Sealed<E> = <State<E> as DatabaseSet<E>>::Merkleized;

/// A leader's raw material, gathered before the state actor is asked to build.
pub(crate) struct Draft {
    pub(crate) candidate: Candidate,
    pub(crate) now_ms: u64,
    pub(crate) handoff: config::Handoff,
}

/// Changes a header just before it is sealed, in simulations of a lying leader.
pub(crate) type Tamper = Arc<dyn Fn(&mut Header) + Send + Sync>;

/// The state transition that `Stateful` drives.
#[derive(Clone)]
pub(crate) struct Execution {
    pub(crate) machine: Arc<dyn Machine>,
    pub(crate) genesis: Block,
    pub(crate) tip: Tip,
    pub(crate) body_bytes_max: usize,
    pub(crate) tamper: Option<Tamper>,
}

/// Why no honest validator can accept a block, whatever else it learns.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("timestamp is not after the parent's")]
    Timestamp,
    #[error("l1 origin went backwards, or changed its block at the same number")]
    L1,
    #[error("header names another network")]
    Network,
    #[error("{0}")]
    Machine(Invalid),
    #[error("touches {0} keys, at most {KEYS_MAX} are allowed")]
    Keys(usize),
    #[error("execution wrote a key that it had not named")]
    StrayWrite,
    #[error("lanes or state differ from what execution gives")]
    Commitments,
}

impl Execution {
    async fn build<E: StorageContext + Spawner>(
        &self,
        context: &Context,
        parent: &Block,
        batch: Batch<E>,
        draft: Draft,
    ) -> Result<(Block, Sealed<E>), Refusal> {
        let parent_header = parent.header();
        let position = Position {
            parent: parent_header.clone(),
            epoch: context.epoch().get(),
            view: context.view().get(),
            leader: Hash32(context.leader.as_ref().try_into().expect("an ed25519 key has 32 bytes")),
            height: parent_header.height.next(),
            timestamp_ms: draft.now_ms.max(parent_header.timestamp_ms.saturating_add(1)),
            l1: later(&parent_header.l1, draft.candidate.l1),
        };
        let keys = self.named_keys::<E>(&position, &draft.candidate.body, &batch).await?;
        let run = |records: &Records| Ok(self.machine.build(&position, draft.candidate.body, records));
        let (body, lanes, sealed) = transition::<E, _>(batch, keys, run).await?;
        assert!(body.len() <= self.body_bytes_max, "the machine built a body above the limit it was given");
        let roots = roots::<E>(&sealed);
        let mut header = Header {
            network: parent_header.network,
            epoch: position.epoch,
            view: position.view,
            parent_view: context.parent.0.get(),
            leader: position.leader,
            height: position.height,
            parent: parent.id(),
            timestamp_ms: position.timestamp_ms,
            l1: position.l1,
            body: hash_body(&body),
            lanes,
            state: roots.canonical,
            state_ops: roots.operations,
            sync_start: roots.sync_start,
            sync_end: roots.sync_end,
        };
        if let Some(tamper) = &self.tamper {
            tamper(&mut header);
        }
        let block = Block::new(header, body).expect("a header that was just made names its body");
        Ok((block, sealed))
    }

    async fn apply<E: StorageContext + Spawner>(
        &self,
        block: &Block,
        parent: &Block,
        batch: Batch<E>,
        standing: Standing,
    ) -> Result<Sealed<E>, Refusal> {
        let (header, parent) = (block.header(), parent.header());
        if header.network != parent.network {
            return Err(Refusal::Network);
        }
        if header.timestamp_ms <= parent.timestamp_ms {
            return Err(Refusal::Timestamp);
        }
        if later(&parent.l1, header.l1) != header.l1 {
            return Err(Refusal::L1);
        }
        let position = Position {
            parent: parent.clone(),
            epoch: header.epoch,
            view: header.view,
            leader: header.leader,
            height: header.height,
            timestamp_ms: header.timestamp_ms,
            l1: header.l1,
        };
        let keys = self.named_keys::<E>(&position, block.body(), &batch).await?;
        let run = |records: &Records| {
            let outcome = self.machine.apply(&position, block.body(), records, standing);
            outcome.map(|outcome| ((), outcome)).map_err(Refusal::Machine)
        };
        let ((), lanes, sealed) = transition::<E, _>(batch, keys, run).await?;
        // The state actor compares the operations root and range only; the canonical root is ours to compare.
        if header.lanes != lanes || StateRoots::from(header) != roots::<E>(&sealed) {
            return Err(Refusal::Commitments);
        }
        Ok(sealed)
    }

    async fn named_keys<E: StorageContext + Spawner>(
        &self,
        position: &Position,
        body: &Bytes,
        batch: &Batch<E>,
    ) -> Result<Vec<FixedBytes<32>>, Refusal> {
        let mut keys = self.machine.keys(position, body).map_err(Refusal::Machine)?;
        let leads: Vec<_> = self.machine.leads(position, body).into_iter().map(FixedBytes::new).collect();
        if !leads.is_empty() {
            let references: Vec<_> = leads.iter().collect();
            let values = batch.get_many(&references).await.expect("the state can be read: a disk fault ends the node");
            let values = values.into_iter().map(|value| value.map(|value| value.into()));
            let records: Records = leads.iter().map(key_of).zip(values).collect();
            keys.extend(self.machine.more_keys(position, body, &records));
        }
        // Proposer and verifiers must write in the same order to reach the same operations root.
        keys.sort_unstable();
        keys.dedup();
        if keys.len() > KEYS_MAX {
            return Err(Refusal::Keys(keys.len()));
        }
        Ok(keys.into_iter().map(FixedBytes::new).collect())
    }
}

/// Reads `keys` in one batch, runs the machine over them, and seals what it wrote.
async fn transition<E: StorageContext + Spawner, T>(
    batch: Batch<E>,
    keys: Vec<FixedBytes<32>>,
    run: impl FnOnce(&Records) -> Result<(T, Outcome), Refusal>,
) -> Result<(T, Hash32, Sealed<E>), Refusal> {
    let references: Vec<_> = keys.iter().collect();
    let (values, staged) = batch.stage(&references).await.expect("the state can be read: a disk fault ends the node");
    let mut records = Records::new();
    for (key, value) in keys.iter().zip(values) {
        records.insert(key_of(key), value.map(|value| value.into()));
    }
    let (result, Outcome { mut writes, lanes }) = run(&records)?;
    let mut slots = Vec::with_capacity(records.len());
    for (key, before) in &records {
        slots.push(match writes.remove(key) {
            Some(after) if after == *before => Slot::Keep,
            Some(Some(record)) => Slot::Put(FixedBytes::new(record)),
            Some(None) => Slot::Delete,
            None => Slot::Keep,
        });
    }
    if !writes.is_empty() {
        return Err(Refusal::StrayWrite);
    }
    let sealed = staged.merkleize(slots, Vec::new()).await.expect("the state can be read: a disk fault ends the node");
    Ok((result, lanes, sealed))
}

fn key_of(key: &FixedBytes<32>) -> Key {
    key.as_ref().try_into().expect("a key has 32 bytes")
}

fn roots<E: StorageContext + Spawner>(sealed: &Sealed<E>) -> StateRoots {
    StateRoots {
        canonical: Hash32(sealed.root().0),
        operations: Hash32(sealed.ops_root().0),
        sync_start: *sealed.sync_boundary(),
        sync_end: *sealed.bounds().tip.size,
    }
}

impl<E: StorageContext + Spawner> Application<E> for Execution {
    type SigningScheme = Scheme;
    type Context = Context;
    type Block = Block;
    type Databases = State<E>;
    type Captured = ();
    type Provider = ();
    type Input = Draft;

    fn sync_targets(block: &Block) -> <State<E> as DatabaseSet<E>>::SyncTargets {
        let header = block.header();
        // `Block::new` refused an empty or oversized range.
        let range = non_empty_range!(Location::new(header.sync_start), Location::new(header.sync_end));
        Target::new(blake3::Digest(header.state_ops.0), range)
    }

    async fn genesis(&mut self) -> Block {
        self.genesis.clone()
    }

    async fn prepare(
        &mut self,
        context: (E, Context),
        ancestry: impl Ancestry<Block>,
        batches: Batch<E>,
        input: Input<Draft, ()>,
    ) -> Handoff<Proposed<Self, E>> {
        let handoff = input.upstream.handoff;
        match Application::<E>::propose(self, context, ancestry, batches, input).await {
            Some(proposed) if handoff == config::Handoff::Vote => Handoff::Vote(proposed),
            Some(proposed) => Handoff::Stage(proposed),
            None => Handoff::Wait,
        }
    }

    async fn propose(
        &mut self,
        (_, context): (E, Context),
        ancestry: impl Ancestry<Block>,
        batches: Batch<E>,
        input: Input<Draft, ()>,
    ) -> Option<Proposed<Self, E>> {
        let parent = ancestry.peek()?.clone();
        match self.build::<E>(&context, parent.inner(), batches, input.upstream).await {
            Ok((block, merkleized)) => Some(Proposed { block, merkleized }),
            Err(refusal) => {
                error!(%refusal, view = context.view().get(), "the machine's own candidate is refused: no proposal");
                None
            }
        }
    }

    async fn process(
        &mut self,
        _: (E, Context),
        mut ancestry: impl Ancestry<Block>,
        batches: Batch<E>,
        finality: Finality,
    ) -> Option<Sealed<E>> {
        let block = ancestry.next().await?;
        let parent = ancestry.next().await?;
        let standing = match finality {
            Finality::Candidate => Standing::Candidate,
            Finality::Finalized => Standing::Finalized,
        };
        match self.apply::<E>(block.inner(), parent.inner(), batches, standing).await {
            Ok(sealed) => Some(sealed),
            Err(refusal) => {
                let header = block.inner().header();
                warn!(%refusal, height = %header.height, view = header.view, leader = %header.leader, "refused a block");
                None
            }
        }
    }

    async fn capture(&mut self, _: (E, Context), block: &Block, _: &Sealed<E>, _: Reader<Database<E>>) {
        self.tip.applying(block.header());
    }

    async fn finalized(&mut self, _: (E, Context), block: &Block, _: (), _: Reader<Database<E>>) {
        self.tip.applied(block.header());
        self.machine.finalized(block);
        let header = block.header();
        info!(height = %header.height, view = header.view, bytes = block.body().len(), state = %header.state, "final");
    }
}

/// The L1 origin of a child: never behind the parent's, and the same block at the same number.
fn later(parent: &L1Origin, child: L1Origin) -> L1Origin {
    if child.number > parent.number { child } else { *parent }
}
