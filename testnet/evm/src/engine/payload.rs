//! How do a block and the Engine API's payload become each other?

use crate::{
    block::Block,
    config::{OP_BASE_FEE, OpFork},
    execute::Proposal,
    transaction::Transaction,
};
use alloy_consensus::Header;
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{B256, Bytes, U256};
use alloy_rpc_types_engine::{BlobsBundleV1, ExecutionPayloadV1, ExecutionPayloadV2, ExecutionPayloadV3};
use op_alloy_consensus::decode_holocene_extra_data;
use op_alloy_rpc_types_engine::{
    OpExecutionPayloadEnvelopeV3, OpExecutionPayloadEnvelopeV4, OpExecutionPayloadV4, OpPayloadAttributes,
};
use std::sync::Arc;

/// A payload taken apart: the header that it claims, its hash, and its transactions.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) transactions: Vec<Bytes>,
}

impl Claim {
    /// Takes a payload apart; the sentence that the caller gets when it contradicts itself.
    pub(crate) fn new(
        fork: OpFork,
        payload: ExecutionPayloadV3,
        withdrawals_root: Option<B256>,
        beacon_root: B256,
    ) -> Result<Self, String> {
        let claimed = payload.payload_inner.payload_inner.block_hash;
        if !payload.payload_inner.withdrawals.is_empty() {
            return Err("an OP Stack block has no withdrawals".into());
        }
        let block = payload.into_block_raw().map_err(|error| error.to_string())?;
        let mut header = block.header;
        header.parent_beacon_block_root = Some(beacon_root);
        if fork == OpFork::Isthmus {
            header.withdrawals_root = withdrawals_root;
            header.requests_hash = Some(EMPTY_REQUESTS_HASH);
        }
        let hash = header.hash_slow();
        if hash != claimed {
            return Err(format!("blockhash mismatch: the payload says {claimed}, its fields say {hash}"));
        }
        if !matches!(decode_holocene_extra_data(&header.extra_data), Ok((elasticity, denominator)) if elasticity > 0 && denominator > 0)
            || header.extra_data.len() != 9
        {
            return Err("extraData does not hold the base-fee parameters of Holocene".into());
        }
        Ok(Self { header, hash, transactions: block.body.transactions })
    }

    pub(crate) fn proposal(&self, transactions: Vec<Arc<Transaction>>) -> Proposal {
        Proposal {
            timestamp: self.header.timestamp,
            beneficiary: self.header.beneficiary,
            prev_randao: self.header.mix_hash,
            gas_limit: self.header.gas_limit,
            extra_data: self.header.extra_data.clone(),
            parent_beacon_block_root: self.header.parent_beacon_block_root.unwrap_or_default(),
            withdrawals: Vec::new(),
            transactions,
        }
    }
}

/// The block that attributes ask for, with the transactions that they force.
pub(crate) fn proposal(
    attributes: &OpPayloadAttributes,
    transactions: Vec<Arc<Transaction>>,
) -> Result<Proposal, String> {
    let outer = &attributes.payload_attributes;
    match &outer.withdrawals {
        Some(withdrawals) if withdrawals.is_empty() => {}
        Some(_) => return Err("an OP Stack block has no withdrawals".into()),
        None => return Err("missing withdrawals list".into()),
    }
    let (denominator, elasticity) = attributes
        .eip_1559_params
        .map(|params| {
            let (denominator, elasticity) = params.split_at(4);
            (denominator.iter().any(|byte| *byte > 0), elasticity.iter().any(|byte| *byte > 0))
        })
        .ok_or("eip1559Params are required since Holocene")?;
    if denominator != elasticity {
        return Err("eip1559Params have to be both zero or neither".into());
    }
    Ok(Proposal {
        timestamp: outer.timestamp,
        beneficiary: outer.suggested_fee_recipient,
        prev_randao: outer.prev_randao,
        gas_limit: attributes.gas_limit.ok_or("gasLimit is required")?,
        extra_data: attributes.get_holocene_extra_data(OP_BASE_FEE).map_err(|error| error.to_string())?,
        parent_beacon_block_root: outer.parent_beacon_block_root.ok_or("missing beacon root")?,
        withdrawals: Vec::new(),
        transactions,
    })
}

/// A block as `engine_getPayloadV3` gives it.
pub(crate) fn envelope_v3(block: &Block) -> OpExecutionPayloadEnvelopeV3 {
    OpExecutionPayloadEnvelopeV3 {
        execution_payload: payload(block),
        block_value: U256::ZERO,
        blobs_bundle: no_blobs(),
        should_override_builder: false,
        parent_beacon_block_root: block.header.parent_beacon_block_root.unwrap_or_default(),
    }
}

/// A block as `engine_getPayloadV4` gives it.
pub(crate) fn envelope_v4(block: &Block) -> OpExecutionPayloadEnvelopeV4 {
    OpExecutionPayloadEnvelopeV4 {
        execution_payload: OpExecutionPayloadV4 {
            payload_inner: payload(block),
            withdrawals_root: block.header.withdrawals_root.unwrap_or_default(),
        },
        block_value: U256::ZERO,
        blobs_bundle: no_blobs(),
        should_override_builder: false,
        parent_beacon_block_root: block.header.parent_beacon_block_root.unwrap_or_default(),
        execution_requests: Vec::new(),
    }
}

fn payload(block: &Block) -> ExecutionPayloadV3 {
    let header = &block.header;
    ExecutionPayloadV3 {
        payload_inner: ExecutionPayloadV2 {
            payload_inner: ExecutionPayloadV1 {
                parent_hash: header.parent_hash,
                fee_recipient: header.beneficiary,
                state_root: header.state_root,
                receipts_root: header.receipts_root,
                logs_bloom: header.logs_bloom,
                prev_randao: header.mix_hash,
                block_number: header.number,
                gas_limit: header.gas_limit,
                gas_used: header.gas_used,
                timestamp: header.timestamp,
                extra_data: header.extra_data.clone(),
                base_fee_per_gas: U256::from(header.base_fee_per_gas.unwrap_or_default()),
                block_hash: block.hash,
                transactions: block.transactions.iter().map(|tx| tx.raw().clone()).collect(),
            },
            withdrawals: Vec::new(),
        },
        blob_gas_used: 0,
        excess_blob_gas: 0,
    }
}

fn no_blobs() -> BlobsBundleV1 {
    BlobsBundleV1 { commitments: Vec::new(), proofs: Vec::new(), blobs: Vec::new() }
}
