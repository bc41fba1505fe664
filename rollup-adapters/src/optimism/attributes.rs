//! What does the execution client need to know to make the next block?
//!
//! The derived part: where the block stands, what L1 puts in front of the lane's transactions, and the gas that is left for them.
//! Everything follows from the parent block and L1, so every driver, and derivation, gets the same.

use alloy_primitives::{Address, B256, Bytes, U64, address};
use serde_json::{Value, json};

use super::{
    chain::L2Block,
    deposit::{Deposit, TRANSACTION_DEPOSITED},
    l1_info::L1Info,
    rollup::{Rollup, RollupError},
    system::SystemConfig,
};
use crate::{
    DecodeError,
    poster::{L1Header, Log},
};

/// Where fees of blocks go.
const SEQUENCER_FEES: Address = address!("4200000000000000000000000000000000000011");

/// Attributes of a block without the lane's transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// L1's randomness.
    pub prev_randao: B256,
    /// L1's beacon block.
    pub parent_beacon_block_root: B256,
    /// The L1-info transaction and the users' deposits.
    pub deposits: Vec<Vec<u8>>,
    /// The configuration that the block is made under.
    pub system: SystemConfig,
    /// What the L1-info transaction says.
    pub info: L1Info,
}

/// Why attributes cannot be derived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// Rules that are not known.
    #[error(transparent)]
    Rollup(#[from] RollupError),
    /// Events of the portal that are none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl Attributes {
    /// Attributes of the block after `parent`, at `timestamp`, on `l1`, whose events of portal and system config are `logs`:
    /// used where the block is the first on `l1`, and ignored otherwise.
    pub fn derive(
        rollup: &Rollup,
        parent: &L2Block,
        timestamp: u64,
        l1: &L1Header,
        logs: &[Log],
    ) -> Result<Self, AttributesError> {
        rollup.check_rules(parent.timestamp, timestamp)?;
        let is_first = l1.number != parent.info.origin.number;
        let mut system = parent.system;
        let mut users = Vec::new();
        for log in logs.iter().filter(|_| is_first) {
            if log.address == rollup.l1_system_config_address {
                if system.apply(log) {
                    tracing::info!(l1 = l1.number, ?system, "L1 changed the system configuration");
                }
            } else if log.address == rollup.deposit_contract_address
                && log.topics.first() == Some(&TRANSACTION_DEPOSITED)
            {
                users.push(Deposit::from_log(log)?.encode());
            }
        }
        let sequence_number = if is_first { 0 } else { parent.info.sequence_number.saturating_add(1) };
        let info = L1Info::new(l1, sequence_number);
        let mut deposits = vec![info.deposit(&system, rollup.isthmus(timestamp)).encode()];
        deposits.append(&mut users);
        Ok(Self {
            timestamp,
            prev_randao: l1.mix_hash,
            parent_beacon_block_root: l1.parent_beacon_block_root,
            deposits,
            system,
            info,
        })
    }

    /// As the Engine API takes them, with the lane's transactions behind the deposits.
    pub fn to_json<'a>(&self, transactions: impl Iterator<Item = &'a [u8]>) -> Value {
        let deposits = self.deposits.iter().map(|deposit| Bytes::copy_from_slice(deposit));
        let all: Vec<Bytes> = deposits.chain(transactions.map(Bytes::copy_from_slice)).collect();
        json!({
            "timestamp": U64::from(self.timestamp),
            "prevRandao": self.prev_randao,
            "suggestedFeeRecipient": SEQUENCER_FEES,
            "withdrawals": [],
            "parentBeaconBlockRoot": self.parent_beacon_block_root,
            "transactions": all,
            // Nothing from the client's own pool: the log decides what is in a block.
            "noTxPool": true,
            "gasLimit": U64::from(self.system.gas_limit),
            "eip1559Params": self.system.eip1559_params,
        })
    }
}
