//! What does the log order, and what does that do?
//!
//! The state machine that consensus drives: it offers what waits in the pool, executes bodies with the transition of
//! `lockstep-protocol`, and hands final blocks to the indexer. It keeps no state of its own but memories that may be lost.

mod metrics;
mod recent;

pub use metrics::ApplicationMetrics;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use lockstep_consensus::{
    block::{Block, hash_body},
    machine::{
        Candidate, Genesis as LogGenesis, Invalid, Key, Machine, Outcome, Position as LogPosition, Records, Standing,
    },
};
use lockstep_protocol::{
    body::{self, Body, CheckedBody},
    genesis::{Genesis, GenesisError, Rules},
    header::{Header, L1Origin},
    ids::{Hash32, Height},
    limits::{MAX_BUNDLES_PER_BODY, MAX_EVIDENCE_BYTES},
    transition::{self, Position, genesis_lanes},
    wire::Wire,
};
use tokio::sync::mpsc::{self, error::TrySendError};
use tracing::debug;

use crate::pool::{Pool, Request, Selection};
use crate::{
    facts::{Facts, ids},
    l1::L1View,
};
use recent::{ANCESTORS_MAX, Known, Recent};

/// Final blocks that may wait for the indexer, up to a megabyte each. One that is behind by more fetches the rest from the
/// archive, at its own pace.
pub const FINALIZED_QUEUE: usize = 16;

/// The application. Shared by the log and whoever reads its numbers.
pub struct Application {
    genesis: LogGenesis,
    rules: Arc<Rules>,
    pool: Arc<Pool>,
    recent: Mutex<Recent>,
    blocks: mpsc::Sender<Block>,
    l1: Arc<L1View>,
    facts: Arc<Facts>,
    metrics: ApplicationMetrics,
}

impl Application {
    /// An application that proposes from `pool` and sends final blocks to `blocks`, a channel of [`FINALIZED_QUEUE`].
    ///
    /// A block that finds the channel full is not sent: whoever receives sees a gap in the heights and reads the missing
    /// blocks from the archive.
    pub fn new(genesis: &Genesis, pool: Arc<Pool>, blocks: mpsc::Sender<Block>) -> Result<Arc<Self>, GenesisError> {
        let rules = Arc::new(genesis.rules()?);
        let genesis = LogGenesis {
            network: rules.network,
            timestamp_ms: genesis.timestamp_ms,
            config: genesis.hash(),
            lanes: genesis_lanes(&rules),
            l1: L1Origin::default(),
        };
        let metrics = ApplicationMetrics::default();
        let facts = Facts::new(rules.clone());
        let (recent, l1) = (Mutex::default(), Arc::default());
        Ok(Arc::new(Self { genesis, rules, pool, recent, blocks, l1, facts, metrics }))
    }

    /// The application's numbers.
    pub fn metrics(&self) -> &ApplicationMetrics {
        &self.metrics
    }

    /// What it has seen of L1: blind, until somebody follows one.
    pub fn l1(&self) -> &Arc<L1View> {
        &self.l1
    }

    /// The facts that it offers: whoever brings one gives it to them.
    pub fn facts(&self) -> &Arc<Facts> {
        &self.facts
    }

    /// Reads a body, or finds it among those that were read. Its signatures may be unchecked.
    fn read(&self, parent: &Header, bytes: &[u8]) -> Result<(Hash32, Known), body::Invalid> {
        let hash = hash_body(bytes);
        if let Some(known) = self.recent().get(parent, &hash) {
            return Ok((hash, known));
        }
        let body = CheckedBody::new(Body::from_wire(bytes)?, &self.rules, |_, _| true)?;
        let known = Known { body: Arc::new(body), verified: false };
        self.remember(parent, hash, known.clone());
        Ok((hash, known))
    }

    fn remember(&self, parent: &Header, hash: Hash32, known: Known) {
        let settled = self.pool.height();
        self.recent().insert(parent, hash, known, settled);
    }

    fn execute(
        &self,
        position: &LogPosition,
        bytes: &Bytes,
        records: &Records,
        standing: Standing,
    ) -> Result<Outcome, body::Invalid> {
        let (hash, known) = self.read(&position.parent, bytes)?;
        if standing == Standing::Candidate && !known.verified {
            self.pool.verify(&known.body, &self.rules).map_err(|_| body::Invalid::Signature)?;
            self.remember(&position.parent, hash, Known { verified: true, ..known.clone() });
        }
        transition::apply(&self.rules, &place(position), &known.body, records).map(outcome)
    }

    /// What the unfinalized ancestors of a child of `parent` hold. Nothing while the index stands still: then nothing leaves
    /// the pools, and proposing from them would fill blocks with nothing.
    fn taken(&self, parent: &Header) -> Option<Arc<HashSet<[u8; 32]>>> {
        let settled = self.pool.height();
        let follows = parent.height.0 <= settled.0.saturating_add(ANCESTORS_MAX);
        follows.then(|| self.recent().taken(parent, settled, &self.rules))
    }

    /// Tells the facts what a final block holds.
    fn note_facts(&self, block: &Block) {
        let header = block.header();
        let known = self.recent().find(&header.parent, &header.body);
        let read = || CheckedBody::new(Body::from_wire(block.body())?, &self.rules, |_, _| true).map(Arc::new);
        match known.map(|known| known.body).map_or_else(read, Ok) {
            Ok(body) => self.facts.finalized(header.height, &body),
            Err(error) => debug!(%error, "a final block that does not read"),
        }
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().expect("no holder of the recent bodies panics")
    }
}

impl Machine for Application {
    fn genesis(&self) -> LogGenesis {
        self.genesis.clone()
    }

    fn waiting(&self, parent: &Header) -> bool {
        let Some(taken) = self.taken(parent) else { return false };
        let request = Request { height: parent.height.next(), taken: &taken, bytes: usize::MAX, count: 1 };
        !self.pool.select(&request).is_empty() || self.facts.is_waiting(&taken)
    }

    fn candidate(&self, parent: &Header, limit: usize) -> Candidate {
        let (facts, Selection { cancels, bundles }) = match self.taken(parent) {
            Some(taken) => {
                let (facts, used) = self.facts.offer(&taken, MAX_EVIDENCE_BYTES.min(limit / 2));
                let bytes = limit.saturating_sub(used);
                let (height, count) = (parent.height.next(), MAX_BUNDLES_PER_BODY);
                (facts, self.pool.select(&Request { height, taken: &taken, bytes, count }))
            }
            None => Default::default(),
        };
        let bundles = bundles.into_iter().map(Arc::unwrap_or_clone).collect();
        let body = CheckedBody::arrange(cancels, bundles).with_facts(facts, &self.rules);
        let bytes = Bytes::from(body.to_body().to_wire());
        self.remember(parent, hash_body(&bytes), Known { body: Arc::new(body), verified: true });
        Candidate { body: bytes, l1: self.l1.offer() }
    }

    fn keys(&self, position: &LogPosition, body: &Bytes) -> Result<Vec<Key>, Invalid> {
        let (_, known) = self.read(&position.parent, body).inspect_err(|_| {
            self.metrics.invalid.inc();
        })?;
        Ok(known.body.keys(&self.rules, position.height).into_iter().collect())
    }

    fn leads(&self, position: &LogPosition, body: &Bytes) -> Vec<Key> {
        let Ok((_, known)) = self.read(&position.parent, body) else { return Vec::new() };
        known.body.leads(&self.rules, position.height).into_iter().collect()
    }

    fn more_keys(&self, position: &LogPosition, body: &Bytes, records: &Records) -> Vec<Key> {
        let Ok((_, known)) = self.read(&position.parent, body) else { return Vec::new() };
        known.body.more_keys(&self.rules, position.height, records).into_iter().collect()
    }

    fn build(&self, position: &LogPosition, candidate: Bytes, records: &Records) -> (Bytes, Outcome) {
        let (_, known) = self.read(&position.parent, &candidate).expect("a candidate is a body that this node encoded");
        let chosen = CheckedBody::clone(&known.body);
        let built = transition::build(&self.rules, &place(position), chosen, records);
        let left_out = known.body.bundles().len() - built.body.bundles().len();
        if let Some((id, refusal)) = built.left_out.first() {
            debug!(left_out, %id, %refusal, "left bundles out of a body");
        }
        self.pool.left_out(position.height, &built.left_out);
        let whole = left_out == 0
            && built.body.cancels().len() == known.body.cancels().len()
            && built.body.facts() == known.body.facts();
        let bytes = if whole { candidate } else { Bytes::from(built.body.to_body().to_wire()) };
        self.metrics.built.inc();
        self.metrics.built_bundles.inc_by(built.body.bundles().len() as u64);
        self.metrics.left_out.inc_by(left_out as u64);
        self.metrics.built_facts.inc_by(ids::all(built.body.facts(), &self.rules).len() as u64);
        if !whole {
            let known = Known { body: Arc::new(built.body), verified: true };
            self.remember(&position.parent, hash_body(&bytes), known);
        }
        (bytes, outcome(built.outcome))
    }

    fn apply(
        &self,
        position: &LogPosition,
        body: &Bytes,
        records: &Records,
        standing: Standing,
    ) -> Result<Outcome, Invalid> {
        self.metrics.applied.inc();
        let outcome = self.execute(position, body, records, standing).inspect_err(|_| {
            self.metrics.invalid.inc();
        })?;
        Ok(outcome)
    }

    fn seen(&self, origin: &L1Origin) -> bool {
        self.l1.has_seen(origin)
    }

    fn finalized(&self, block: &Block) {
        self.metrics.finalized.inc();
        self.l1.agree(block.header().l1);
        self.note_facts(block);
        match self.blocks.try_send(block.clone()) {
            Ok(()) => {}
            Err(TrySendError::Full(block)) => {
                self.metrics.skipped.inc();
                debug!(height = %block.height(), "the indexer is behind and has to fetch this block");
            }
            // The node is stopping.
            Err(TrySendError::Closed(_)) => {}
        }
    }
}

fn place(position: &LogPosition) -> Position {
    debug_assert_eq!(position.height, Height(position.parent.height.0 + 1));
    Position { parent: position.parent.clone(), timestamp_ms: position.timestamp_ms, l1: position.l1 }
}

fn outcome(outcome: transition::Outcome) -> Outcome {
    let writes = outcome.writes.into_iter().map(|(key, record)| (key, Some(record))).collect();
    Outcome { writes, lanes: outcome.lanes }
}

#[cfg(test)]
mod tests;
