//! Do all honest validators see the same log?
//!
//! Stands between the log and every machine, and remembers every final block of every validator across crashes.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use commonware_utils::sync::Mutex;
use lockstep_protocol::header::{Header, L1Origin};

use super::OnFinal;
use crate::{
    block::Block,
    machine::{Candidate, Genesis, Invalid, Key, Machine, Outcome, Position, Records, Standing},
};

/// What has become final, and where.
#[derive(Clone)]
pub(super) struct Witness {
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    log: BTreeMap<u64, Header>,
    heights: Vec<u64>,
    violation: Option<String>,
}

impl Witness {
    pub(super) fn new(count: usize) -> Self {
        let seen = Seen { log: BTreeMap::new(), heights: vec![0; count], violation: None };
        Self { seen: Arc::new(Mutex::new(seen)) }
    }

    /// The highest final height that a validator has seen.
    pub(super) fn height(&self, index: usize) -> u64 {
        self.seen.lock().heights[index]
    }

    /// The header that became final at a height, if any has.
    pub(super) fn header(&self, height: u64) -> Option<Header> {
        self.seen.lock().log.get(&height).cloned()
    }

    /// The first disagreement.
    pub(super) fn violation(&self) -> Option<String> {
        self.seen.lock().violation.clone()
    }

    fn observe(&self, index: usize, header: &Header) {
        let mut seen = self.seen.lock();
        let height = header.height.0;
        let known = seen.log.entry(height).or_insert_with(|| header.clone()).clone();
        if known != *header && seen.violation.is_none() {
            seen.violation = Some(format!("validator {index} finalized {header:?}, another {known:?}"));
        }
        if let Some(parent) = seen.log.get(&(height.wrapping_sub(1))).cloned()
            && parent.digest() != header.parent
            && seen.violation.is_none()
        {
            seen.violation = Some(format!("validator {index} finalized {header:?} on another parent than {parent:?}"));
        }
        seen.heights[index] = seen.heights[index].max(height);
    }
}

/// A machine whose final blocks are witnessed.
pub(super) struct Witnessed {
    pub(super) machine: Arc<dyn Machine>,
    pub(super) witness: Witness,
    pub(super) index: usize,
    pub(super) on_final: OnFinal,
}

impl Machine for Witnessed {
    fn genesis(&self) -> Genesis {
        self.machine.genesis()
    }

    fn waiting(&self, parent: &Header) -> bool {
        self.machine.waiting(parent)
    }

    fn candidate(&self, parent: &Header, limit: usize) -> Candidate {
        self.machine.candidate(parent, limit)
    }

    fn keys(&self, position: &Position, body: &Bytes) -> Result<Vec<Key>, Invalid> {
        self.machine.keys(position, body)
    }

    fn leads(&self, position: &Position, body: &Bytes) -> Vec<Key> {
        self.machine.leads(position, body)
    }

    fn more_keys(&self, position: &Position, body: &Bytes, records: &Records) -> Vec<Key> {
        self.machine.more_keys(position, body, records)
    }

    fn build(&self, position: &Position, candidate: Bytes, records: &Records) -> (Bytes, Outcome) {
        self.machine.build(position, candidate, records)
    }

    fn apply(
        &self,
        position: &Position,
        body: &Bytes,
        records: &Records,
        standing: Standing,
    ) -> Result<Outcome, Invalid> {
        self.machine.apply(position, body, records, standing)
    }

    fn seen(&self, origin: &L1Origin) -> bool {
        self.machine.seen(origin)
    }

    fn finalized(&self, block: &Block) {
        self.witness.observe(self.index, block.header());
        self.machine.finalized(block);
        (self.on_final)(self.index, block);
    }
}
