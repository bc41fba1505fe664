//! A rollup in memory: blocks that hold an escrow and a hub, and a history that can be left.
//!
//! State roots and proofs are real, of two contracts and nothing else; there is no virtual machine. Whole-network simulations of
//! the sequencer use it too, so it knows of no log.

use alloy_primitives::U256;
use std::collections::BTreeMap;

use lockstep_protocol::{
    ids::{Account, Address20, AssetId, Hash32, RollupId},
    settlement::{Claim, Head, LegStatus, Level, Observation, Subject},
};

use super::{
    escrow_model::Escrow,
    trie::{Storage, account_proof, storage_proof},
};

pub(crate) fn asset() -> AssetId {
    AssetId::from_symbol("USDC")
}

pub(crate) fn escrow_of(rollup: u64) -> Address20 {
    address(0xe0, rollup)
}

pub(crate) fn hub_of(rollup: u64) -> Address20 {
    address(0x40, rollup)
}

fn address(kind: u8, rollup: u64) -> Address20 {
    let mut bytes = [kind; 20];
    bytes[12..].copy_from_slice(&rollup.to_be_bytes());
    Address20(bytes)
}

/// What a rollup's contracts hold after a block.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) escrow: Escrow,
    /// Decisions that the hub has applied, and the chain over them.
    pub(crate) applied: usize,
    pub(crate) chain: Hash32,
    pub(crate) deposits: BTreeMap<Account, u64>,
}

/// A rollup as its nodes see it.
pub(crate) struct Chain {
    pub(crate) id: RollupId,
    /// Block `n` is at place `n`.
    pub(crate) blocks: Vec<(Hash32, State)>,
    /// Makes blocks of another history other blocks.
    pub(crate) salt: u64,
}

impl Chain {
    /// A chain whose first block holds `state`.
    pub(crate) fn new(id: RollupId, state: State) -> Self {
        Self { id, blocks: vec![(Hash32([9; 32]), state)], salt: 0 }
    }

    pub(crate) fn number(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    pub(crate) fn tip(&self) -> &State {
        &self.blocks.last().expect("a chain has a first block").1
    }

    pub(crate) fn mine(&mut self, change: impl FnOnce(&mut State)) {
        let mut state = self.tip().clone();
        change(&mut state);
        let parent = self.blocks.last().expect("a chain has a first block").0;
        let number = self.blocks.len() as u64;
        let hash = blake3::hash(&[parent.0.as_slice(), &number.to_be_bytes(), &self.salt.to_be_bytes()].concat());
        self.blocks.push((Hash32(hash.into()), state));
    }

    /// Leaves the last `depth` blocks, but never the first.
    pub(crate) fn reorg(&mut self, depth: usize) {
        let keep = self.blocks.len().saturating_sub(depth).max(1);
        self.blocks.truncate(keep);
        self.salt += 1;
    }

    fn storage(&self, number: u64) -> Storage {
        let state = &self.blocks[number as usize].1;
        let word = |status: LegStatus| U256::from(status as u8) + (U256::from(0xabcd) << 8);
        let legs = state.escrow.legs.iter().map(|((settlement, leg), status)| {
            (Subject::Leg { settlement: *settlement, leg: *leg }.slot(), word(*status))
        });
        // The hub's own chain makes the root of every block of its own.
        let own = [(Hash32([1; 32]), U256::from_be_bytes(state.chain.0)), (Hash32([2; 32]), U256::from(number + 1))];
        let deposits = state.deposits.iter();
        let deposits = deposits.map(|(account, sum)| (Subject::Deposit { account: *account }.slot(), U256::from(*sum)));
        BTreeMap::from([
            (escrow_of(self.id.0), legs.collect()),
            (hub_of(self.id.0), deposits.chain(own).collect()),
            (Address20([3; 20]), BTreeMap::new()),
            (Address20([4; 20]), BTreeMap::new()),
        ])
    }

    pub(crate) fn head(&self, level: Level, number: u64, incarnation: u32) -> Head {
        let (block_hash, _) = self.blocks[number as usize];
        let (state_root, _) = account_proof(&self.storage(number), hub_of(self.id.0));
        Head { rollup: self.id, level, number, block_hash, state_root, incarnation }
    }

    /// What `eth_getProof` answers.
    pub(crate) fn observe(
        &self,
        level: Level,
        number: u64,
        contract: Address20,
        subjects: impl IntoIterator<Item = Subject>,
    ) -> Observation {
        let storage = self.storage(number);
        let (_, account_proof) = account_proof(&storage, contract);
        let claims = subjects
            .into_iter()
            .map(|subject| Claim { subject, proof: storage_proof(&storage[&contract], &subject.slot()) });
        let mut claims: Vec<_> = claims.collect();
        claims.sort_by_key(|claim| claim.subject);
        Observation { rollup: self.id, level, number, contract, account_proof, claims }
    }
}
