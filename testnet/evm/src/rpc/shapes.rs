//! Which JSON do blocks, transactions, receipts and logs have?
//!
//! alloy's RPC types give it; an OP Stack rollup's extra fields are added here.

use crate::{
    block::Block,
    execute::{Rules, Stack},
    transaction::Transaction,
};
use alloy_consensus::{Sealed, Transaction as _, transaction::Recovered};
use alloy_primitives::U256;
use alloy_rlp::Encodable;
use alloy_rpc_types_eth::{BlockTransactions, Header, Log, TransactionReceipt};
use op_alloy_consensus::OpTxEnvelope;
use serde_json::{Value, json};

/// A transaction; of a block, if it is in one.
pub(crate) fn transaction(tx: &Transaction, place: Option<(&Block, usize)>) -> Value {
    let shape = alloy_rpc_types_eth::Transaction::<OpTxEnvelope> {
        inner: Recovered::new_unchecked(tx.envelope().clone(), tx.sender()),
        block_hash: place.map(|(block, _)| block.hash),
        block_number: place.map(|(block, _)| block.header.number),
        transaction_index: place.map(|(_, index)| index as u64),
        effective_gas_price: Some(match place {
            Some((block, _)) => tx.effective_gas_price(block.header.base_fee_per_gas.unwrap_or_default()),
            None => tx.envelope().max_fee_per_gas(),
        }),
        block_timestamp: None,
    };
    let mut value = to_value(&shape);
    if let Some((block, index)) = place
        && let Some(nonce) = block.receipts[index].envelope.deposit_nonce()
    {
        value["nonce"] = json!(format!("{nonce:#x}"));
        value["depositReceiptVersion"] = json!("0x1");
    }
    value
}

/// A receipt.
pub(crate) fn receipt(rules: &Rules, block: &Block, index: usize, first_log: u64) -> Value {
    let (tx, held) = (&block.transactions[index], &block.receipts[index]);
    let mut next = first_log;
    let envelope = held.envelope.clone().map_logs(|inner| {
        let log = log(block, index, next, inner, false);
        next += 1;
        log
    });
    let shape = TransactionReceipt {
        inner: envelope,
        transaction_hash: tx.hash(),
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        gas_used: held.gas_used,
        effective_gas_price: tx.effective_gas_price(block.header.base_fee_per_gas.unwrap_or_default()),
        blob_gas_used: None,
        blob_gas_price: None,
        from: tx.sender(),
        to: tx.envelope().to(),
        contract_address: held.contract,
    };
    let mut value = to_value(&shape);
    if let (Stack::Optimism(_), Some(fee)) = (rules.stack, held.l1_fee) {
        value["l1Fee"] = json!(format!("{fee:#x}"));
    }
    value
}

/// All receipts of a block.
pub(crate) fn receipts(rules: &Rules, block: &Block) -> Vec<Value> {
    block.first_logs().enumerate().map(|(index, first)| receipt(rules, block, index, first)).collect()
}

/// A log; `removed` when its block is no longer of the chain.
pub(crate) fn log(block: &Block, index: usize, number: u64, inner: alloy_primitives::Log, removed: bool) -> Log {
    Log {
        inner,
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        block_timestamp: Some(block.header.timestamp),
        transaction_hash: Some(block.transactions[index].hash()),
        transaction_index: Some(index as u64),
        log_index: Some(number),
        removed,
    }
}

/// A block with its transactions or their hashes.
pub(crate) fn block(block: &Block, full: bool) -> Value {
    let transactions = if full {
        let all = block.transactions.iter().enumerate();
        BlockTransactions::Full(all.map(|(index, tx)| transaction(tx, Some((block, index)))).collect())
    } else {
        BlockTransactions::Hashes(block.transactions.iter().map(|tx| tx.hash()).collect())
    };
    to_value(&alloy_rpc_types_eth::Block::<Value> {
        header: header(block),
        uncles: Vec::new(),
        transactions,
        withdrawals: Some(block.withdrawals.clone().into()),
    })
}

/// A header.
pub(crate) fn header(block: &Block) -> Header {
    let transactions: usize = block.transactions.iter().map(|tx| tx.raw().len() + 4).sum();
    let size = block.header.length() + transactions + block.withdrawals.length() + 4;
    Header::from_consensus(Sealed::new_unchecked(block.header.clone(), block.hash), None, Some(U256::from(size)))
}

/// The JSON of a shape of ours.
pub(crate) fn to_value(shape: &impl serde::Serialize) -> Value {
    serde_json::to_value(shape).expect("maps of these shapes have strings for keys")
}
