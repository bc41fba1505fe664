//! Which transactions wait for a block, and which of them go into the next?
//!
//! By sender and nonce, bounded, the better-paying first, as wallets know it from geth. Executes nothing.

use crate::{state::State, transaction::Transaction};
use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, B256, U256};
use std::{
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
};

/// Transactions that wait at most: some minutes of full blocks, some tens of MB.
pub const POOL_MAX: usize = 16_384;
/// Of one sender, so that none fills the pool alone.
pub const SENDER_MAX: usize = 4_096;
/// Bytes of one transaction (geth's limit), which bounds the pool's memory.
pub const TRANSACTION_BYTES_MAX: usize = 131_072;
/// By how many hundredths a replacement has to pay more (geth's default).
const PRICE_BUMP: u128 = 10;

/// Waiting transactions.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    senders: HashMap<Address, BTreeMap<u64, Arc<Transaction>>>,
    hashes: HashMap<B256, Arc<Transaction>>,
}

/// Why a transaction was not taken; the texts that libraries know from geth.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It waits already.
    #[error("already known")]
    Known,
    /// Its nonce was used.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The sender's next nonce.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// The sender cannot pay for it.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    Funds {
        /// What the sender has, in wei.
        balance: U256,
        /// What it may cost, in wei.
        cost: U256,
    },
    /// No block is that large.
    #[error("exceeds block gas limit")]
    GasLimit,
    /// It does not pay for its own bytes.
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas {
        /// The transaction's gas limit.
        gas: u64,
        /// What any transaction costs.
        needed: u64,
    },
    /// The tip is more than the fee.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFee,
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// The transaction's.
        have: u64,
        /// This chain's.
        want: u64,
    },
    /// Another one of this nonce waits and pays as much.
    #[error("replacement transaction underpriced")]
    Underpriced,
    /// Too many bytes.
    #[error("oversized data: transaction size {0}, limit {TRANSACTION_BYTES_MAX}")]
    Oversized(usize),
    /// There is no room.
    #[error("txpool is full")]
    Full,
    /// Only a rollup's derivation makes these.
    #[error("transaction type not supported")]
    Type,
}

impl Pool {
    pub(crate) fn get(&self, hash: &B256) -> Option<&Arc<Transaction>> {
        self.hashes.get(hash)
    }

    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The nonce after the sender's unbroken run of waiting transactions.
    pub(crate) fn next_nonce(&self, sender: Address, state: &State) -> u64 {
        let mut next = state.nonce(sender);
        if let Some(waiting) = self.senders.get(&sender) {
            while waiting.contains_key(&next) {
                next += 1;
            }
        }
        next
    }

    pub(crate) fn add(
        &mut self,
        tx: Arc<Transaction>,
        state: &State,
        chain_id: u64,
        block_gas_limit: u64,
    ) -> Result<(), PoolError> {
        let envelope = tx.envelope();
        if tx.is_deposit() {
            return Err(PoolError::Type);
        }
        if self.hashes.contains_key(&tx.hash()) {
            return Err(PoolError::Known);
        }
        if tx.raw().len() > TRANSACTION_BYTES_MAX {
            return Err(PoolError::Oversized(tx.raw().len()));
        }
        if let Some(have) = envelope.chain_id().filter(|id| *id != chain_id) {
            return Err(PoolError::ChainId { have, want: chain_id });
        }
        if envelope.gas_limit() > block_gas_limit {
            return Err(PoolError::GasLimit);
        }
        let needed = 21_000;
        if envelope.gas_limit() < needed {
            return Err(PoolError::IntrinsicGas { gas: envelope.gas_limit(), needed });
        }
        if envelope.max_priority_fee_per_gas().is_some_and(|tip| tip > envelope.max_fee_per_gas()) {
            return Err(PoolError::TipAboveFee);
        }
        let next = state.nonce(tx.sender());
        if envelope.nonce() < next {
            return Err(PoolError::NonceTooLow { next, nonce: envelope.nonce() });
        }
        let fee = U256::from(envelope.gas_limit()).saturating_mul(U256::from(envelope.max_fee_per_gas()));
        let cost = fee.saturating_add(envelope.value());
        let balance = state.balance(tx.sender());
        if cost > balance {
            return Err(PoolError::Funds { balance, cost });
        }
        let waiting = self.senders.entry(tx.sender()).or_default();
        if let Some(held) = waiting.get(&envelope.nonce()) {
            let bumped = |old: u128, new: u128| new.saturating_mul(100) >= old.saturating_mul(100 + PRICE_BUMP);
            let tip =
                |tx: &Transaction| tx.envelope().max_priority_fee_per_gas().unwrap_or(tx.envelope().max_fee_per_gas());
            if !bumped(held.envelope().max_fee_per_gas(), envelope.max_fee_per_gas()) || !bumped(tip(held), tip(&tx)) {
                return Err(PoolError::Underpriced);
            }
        } else if waiting.len() >= SENDER_MAX || self.hashes.len() >= POOL_MAX {
            if waiting.is_empty() {
                self.senders.remove(&tx.sender());
            }
            return Err(PoolError::Full);
        }
        if let Some(replaced) = waiting.insert(envelope.nonce(), tx.clone()) {
            self.hashes.remove(&replaced.hash());
        }
        self.hashes.insert(tx.hash(), tx);
        Ok(())
    }

    /// Those that can go into a block of this base fee and gas limit, in the order in which they should.
    pub(crate) fn best(&self, state: &State, base_fee: u64, gas_limit: u64) -> Vec<Arc<Transaction>> {
        let tip = |tx: &Transaction| tx.effective_gas_price(base_fee).saturating_sub(base_fee.into());
        let ready = |sender: &Address, nonce: u64| {
            let tx = self.senders.get(sender)?.get(&nonce)?;
            (tx.envelope().max_fee_per_gas() >= u128::from(base_fee)).then_some(tx)
        };
        let mut heads = BinaryHeap::new();
        for sender in self.senders.keys() {
            if let Some(tx) = ready(sender, state.nonce(*sender)) {
                // Equal tips go by hash, so that the order does not hang on the map's.
                heads.push((tip(tx), tx.hash(), *sender, tx.envelope().nonce()));
            }
        }
        let (mut chosen, mut left) = (Vec::new(), gas_limit);
        while let Some((_, _, sender, nonce)) = heads.pop() {
            let Some(tx) = ready(&sender, nonce) else { continue };
            let Some(rest) = left.checked_sub(tx.envelope().gas_limit()) else { continue };
            left = rest;
            chosen.push(tx.clone());
            if let Some(next) = nonce.checked_add(1).and_then(|nonce| ready(&sender, nonce)) {
                heads.push((tip(next), next.hash(), sender, next.envelope().nonce()));
            }
        }
        chosen
    }

    pub(crate) fn remove(&mut self, hash: &B256) {
        if let Some(tx) = self.hashes.remove(hash)
            && let Some(waiting) = self.senders.get_mut(&tx.sender())
        {
            waiting.remove(&tx.envelope().nonce());
            if waiting.is_empty() {
                self.senders.remove(&tx.sender());
            }
        }
    }

    /// Forgets those whose nonce a block has used.
    pub(crate) fn forget_used(&mut self, senders: impl IntoIterator<Item = Address>, state: &State) {
        for sender in senders {
            let Some(waiting) = self.senders.get_mut(&sender) else { continue };
            let kept = waiting.split_off(&state.nonce(sender));
            for used in std::mem::replace(waiting, kept).into_values() {
                self.hashes.remove(&used.hash());
            }
            if self.senders.get(&sender).is_some_and(BTreeMap::is_empty) {
                self.senders.remove(&sender);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}
