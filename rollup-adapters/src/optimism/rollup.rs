//! Which OP Stack chain is it? What `rollup.json` says, the file that op-node is started with.
//!
//! Read as it is, so that driver, poster and op-node cannot disagree. Keys that only op-node needs are passed over.

use alloy_primitives::{Address, B64, B256};
use lockstep_protocol::{header::L1Origin, ids::Hash32};
use serde::Deserialize;

use super::system::SystemConfig;

/// A chain's parameters.
#[derive(Clone, Debug, Deserialize)]
pub struct Rollup {
    /// Where it begins.
    pub genesis: Genesis,
    /// Seconds between two blocks.
    pub block_time: u64,
    /// L1 blocks within which a batch must be posted, or the chain goes on without our transactions.
    pub seq_window_size: u64,
    /// Chain id of L1.
    pub l1_chain_id: u64,
    /// Chain id of the rollup.
    pub l2_chain_id: u64,
    /// Where batches go.
    pub batch_inbox_address: Address,
    /// The portal, whose `TransactionDeposited` events become deposits.
    pub deposit_contract_address: Address,
    /// The contract that announces changes of the system configuration.
    pub l1_system_config_address: Address,
    /// When Holocene is active. Required: the driver knows no older rules.
    #[serde(default)]
    pub holocene_time: Option<u64>,
    /// When Isthmus is active.
    #[serde(default)]
    pub isthmus_time: Option<u64>,
    /// When Jovian is active. Not known to the driver.
    #[serde(default)]
    pub jovian_time: Option<u64>,
    /// When Karst is active. Not known to the driver.
    #[serde(default)]
    pub karst_time: Option<u64>,
    /// When Lagoon is active. Not known to the driver.
    #[serde(default)]
    pub lagoon_time: Option<u64>,
    /// When interop is active. Not known to the driver.
    #[serde(default)]
    pub interop_time: Option<u64>,
}

/// Where a chain begins.
#[derive(Clone, Debug, Deserialize)]
pub struct Genesis {
    /// The L1 block that the first L2 block is built on.
    pub l1: BlockId,
    /// The first L2 block.
    pub l2: BlockId,
    /// Its timestamp, seconds.
    pub l2_time: u64,
    /// The system configuration at that place.
    pub system_config: GenesisSystemConfig,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct BlockId {
    /// Its hash.
    pub hash: B256,
    /// Its number.
    pub number: u64,
}

/// The first system configuration, as the file spells it.
#[derive(Clone, Debug, Deserialize)]
pub struct GenesisSystemConfig {
    /// Who posts batches.
    #[serde(rename = "batcherAddr")]
    pub batcher: Address,
    /// Fee scalars, Ecotone's encoding.
    pub scalar: B256,
    /// Gas of an L2 block.
    #[serde(rename = "gasLimit")]
    pub gas_limit: u64,
    /// Denominator and elasticity.
    #[serde(rename = "eip1559Params", default)]
    pub eip1559_params: B64,
    /// Operator fee.
    #[serde(rename = "operatorFeeParams", default)]
    pub operator_fee: B256,
}

/// Why a chain cannot be driven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollupError {
    /// Not the file that op-node reads.
    #[error("not a rollup.json: {0}")]
    Json(String),
    /// A value that no chain has.
    #[error("rollup.json: {0}")]
    Value(&'static str),
    /// Rules that are not known here.
    #[error("{fork} is {state} at second {at}: blocks under other rules than Holocene's and Isthmus' are not built")]
    Fork {
        /// The fork.
        fork: &'static str,
        /// What it is.
        state: &'static str,
        /// When.
        at: u64,
    },
}

impl Rollup {
    /// Reads the file's content.
    pub fn parse(json: &str) -> Result<Self, RollupError> {
        let rollup: Self = serde_json::from_str(json).map_err(|error| RollupError::Json(error.to_string()))?;
        if rollup.block_time == 0 {
            return Err(RollupError::Value("block_time is 0"));
        }
        Ok(rollup)
    }

    /// The system configuration at genesis.
    pub fn system(&self) -> SystemConfig {
        let config = &self.genesis.system_config;
        let word = |at: usize| u32::from_be_bytes(config.scalar.0[at..at + 4].try_into().expect("four bytes"));
        let fee = &config.operator_fee.0;
        SystemConfig {
            batcher: config.batcher,
            gas_limit: config.gas_limit,
            // Version 1 is Ecotone's; before, the whole word was one number and nothing was paid for blobs.
            blob_base_fee_scalar: if config.scalar.0[0] == 1 { word(24) } else { 0 },
            base_fee_scalar: word(28),
            eip1559_params: config.eip1559_params,
            operator_fee_scalar: u32::from_be_bytes(fee[20..24].try_into().expect("four bytes")),
            operator_fee_constant: u64::from_be_bytes(fee[24..32].try_into().expect("eight bytes")),
        }
    }

    /// The L1 block of the first L2 block. Its timestamp is not in the file.
    pub fn genesis_l1(&self, timestamp: u64) -> L1Origin {
        L1Origin { number: self.genesis.l1.number, hash: Hash32(self.genesis.l1.hash.0), timestamp }
    }

    /// Whether Isthmus is active at this time.
    pub fn isthmus(&self, timestamp: u64) -> bool {
        self.isthmus_time.is_some_and(|time| time <= timestamp)
    }

    /// An error if a block at `timestamp`, after one at `parent`, follows rules that are not known here.
    ///
    /// A block that activates a fork holds upgrade transactions, which are part of that fork's code and not built here.
    pub fn check_rules(&self, parent: u64, timestamp: u64) -> Result<(), RollupError> {
        if self.holocene_time.is_none_or(|time| time > parent) {
            return Err(RollupError::Fork { fork: "Holocene", state: "not active", at: parent });
        }
        if self.isthmus(timestamp) && !self.isthmus(parent) {
            return Err(RollupError::Fork { fork: "Isthmus", state: "activated", at: timestamp });
        }
        let later = [
            ("Jovian", self.jovian_time),
            ("Karst", self.karst_time),
            ("Lagoon", self.lagoon_time),
            ("Interop", self.interop_time),
        ];
        for (fork, time) in later {
            if time.is_some_and(|time| time <= timestamp) {
                return Err(RollupError::Fork { fork, state: "active", at: timestamp });
            }
        }
        Ok(())
    }
}
