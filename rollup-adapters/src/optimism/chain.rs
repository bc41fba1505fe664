//! What has the rollup executed so far?
//!
//! Read from the execution client by standard `eth_*` calls. Transactions come back as JSON; they are encoded again and must
//! give the hash that the client names, so what is posted is what was executed.

use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{B64, B256, Bytes, U64};
use lockstep_protocol::ids::Hash32;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{l1_info::L1Info, rollup::Rollup, system::SystemConfig};
use crate::{
    ExecutedBlock, NativeBlock,
    poster::{Rpc, RpcError, l1::quantity},
};

/// An executed block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Block {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Hash of the block before it.
    pub parent_hash: B256,
    /// Seconds since the Unix epoch.
    pub timestamp: u64,
    /// Root of the state after it.
    pub state_root: B256,
    /// Where it stands on L1.
    pub info: L1Info,
    /// The system configuration that it was made under.
    pub system: SystemConfig,
    /// Gas that it used.
    pub gas_used: u64,
    /// Its transactions without the derived ones.
    pub transactions: Vec<Vec<u8>>,
}

impl L2Block {
    /// As adapters take it. Its place in the lane is not known here.
    pub fn executed(&self) -> ExecutedBlock {
        ExecutedBlock {
            hash: Hash32(self.hash.0),
            block: NativeBlock {
                timestamp: self.timestamp,
                l1: self.info.origin,
                transactions: self.transactions.clone(),
                delayed: None,
            },
            lane: Default::default(),
        }
    }
}

/// Why a block cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// No answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// Not there.
    #[error("the execution client has no block {0}")]
    Missing(String),
    /// Not what an OP Stack client gives.
    #[error("block {block} of the execution client: {detail}")]
    Malformed {
        /// Which.
        block: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Another chain than the one configured.
    #[error("the execution client's genesis is {found}, rollup.json says {expected}")]
    Genesis {
        /// In rollup.json.
        expected: B256,
        /// At the client.
        found: B256,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBlock {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
    state_root: B256,
    gas_limit: U64,
    gas_used: U64,
    extra_data: Bytes,
    transactions: Vec<Value>,
}

/// The rollup's execution client, for reading.
#[derive(Debug)]
pub struct Chain {
    rpc: Rpc,
    rollup: Rollup,
    /// Timestamp of the L1 block that the first L2 block is built on: the only thing that no L2 block says.
    genesis_l1_timestamp: u64,
}

impl Chain {
    /// The chain of `rollup` behind this endpoint.
    pub fn new(rpc: Rpc, rollup: Rollup, genesis_l1_timestamp: u64) -> Self {
        Self { rpc, rollup, genesis_l1_timestamp }
    }

    /// An error if the client runs another chain.
    pub async fn check_genesis(&self) -> Result<(), ChainError> {
        let expected = self.rollup.genesis.l2;
        let block: Option<RawBlock> = self.raw(&quantity(expected.number)).await?;
        let found = block.ok_or_else(|| ChainError::Missing(expected.number.to_string()))?.hash;
        if found == expected.hash { Ok(()) } else { Err(ChainError::Genesis { expected: expected.hash, found }) }
    }

    /// The latest block.
    pub async fn head(&self) -> Result<L2Block, ChainError> {
        self.block(&json!("latest")).await
    }

    /// The block that the client calls final, or the first one.
    pub async fn finalized(&self) -> Result<L2Block, ChainError> {
        match self.block(&json!("finalized")).await {
            Err(ChainError::Missing(_) | ChainError::Rpc(RpcError::Call { .. })) => {
                self.number(self.rollup.genesis.l2.number).await
            }
            result => result,
        }
    }

    /// The block with this number.
    pub async fn number(&self, number: u64) -> Result<L2Block, ChainError> {
        let block = self.block(&quantity(number)).await?;
        if block.number == number { Ok(block) } else { Err(malformed(&quantity(number), "another number".into())) }
    }

    async fn raw(&self, tag: &Value) -> Result<Option<RawBlock>, RpcError> {
        self.rpc.call("eth_getBlockByNumber", &[tag.clone(), json!(true)]).await
    }

    async fn block(&self, tag: &Value) -> Result<L2Block, ChainError> {
        let raw = self.raw(tag).await?.ok_or_else(|| ChainError::Missing(tag.to_string()))?;
        let number = raw.number.to();
        let mut block = L2Block {
            number,
            hash: raw.hash,
            parent_hash: raw.parent_hash,
            timestamp: raw.timestamp.to(),
            state_root: raw.state_root,
            info: L1Info::default(),
            system: self.rollup.system(),
            gas_used: raw.gas_used.to(),
            transactions: Vec::new(),
        };
        if number == self.rollup.genesis.l2.number {
            // Genesis has no transactions.
            block.info.origin = self.rollup.genesis_l1(self.genesis_l1_timestamp);
            return Ok(block);
        }
        let bad = |detail: String| malformed(tag, detail);
        let first = raw.transactions.first().ok_or_else(|| bad("no L1-info transaction".into()))?;
        let input: Bytes = serde_json::from_value(first["input"].clone()).map_err(|error| bad(error.to_string()))?;
        (block.info, block.system) = L1Info::decode(&input).map_err(|error| bad(error.to_string()))?;
        block.system.gas_limit = raw.gas_limit.to();
        // Version 0, denominator, elasticity (specs, Holocene, "Dynamic EIP-1559 parameters").
        if let [0, params @ ..] = raw.extra_data.as_ref()
            && let Ok(params) = <[u8; 8]>::try_from(params)
        {
            block.system.eip1559_params = B64::from(params);
        }
        for transaction in raw.transactions {
            if transaction["type"] == "0x7e" {
                continue;
            }
            let hash = transaction["hash"].clone();
            let envelope: TxEnvelope = serde_json::from_value(transaction).map_err(|error| bad(error.to_string()))?;
            if json!(envelope.tx_hash()) != hash {
                return Err(bad(format!("transaction {hash} encodes to another hash")));
            }
            block.transactions.push(envelope.encoded_2718());
        }
        Ok(block)
    }
}

fn malformed(tag: &Value, detail: String) -> ChainError {
    ChainError::Malformed { block: tag.to_string(), detail }
}
