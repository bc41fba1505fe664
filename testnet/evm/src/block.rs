//! What is a block here, with what its execution left, and how is it kept on disk?
//!
//! The header and its hash are alloy's; nothing here executes.

use crate::transaction::Transaction;
use alloy_consensus::Header;
use alloy_eips::{Decodable2718, Encodable2718, eip4895::Withdrawal};
use alloy_primitives::{Address, B256, Bytes};
use alloy_rlp::{Decodable, Encodable};
use op_alloy_consensus::OpReceiptEnvelope;
use std::sync::Arc;

/// An executed block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The header's hash.
    pub hash: B256,
    /// The transactions in order.
    pub transactions: Vec<Arc<Transaction>>,
    /// One for each transaction.
    pub receipts: Vec<Receipt>,
    /// Credits outside of transactions (EIP-4895).
    pub withdrawals: Vec<Withdrawal>,
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The receipt that the block's receipts root commits to.
    pub envelope: OpReceiptEnvelope,
    /// Gas of this transaction alone.
    pub gas_used: u64,
    /// The contract that it created.
    pub contract: Option<Address>,
    /// What an OP Stack rollup charged for its bytes on L1, in wei.
    pub l1_fee: Option<u128>,
}

/// Why stored bytes are not a block.
#[derive(Debug, thiserror::Error)]
#[error("not a stored block: {0}")]
pub(crate) struct NotABlock(String);

impl Block {
    /// The number of its first log within the block, for each transaction.
    pub fn first_logs(&self) -> impl Iterator<Item = u64> {
        self.receipts.iter().scan(0, |next, receipt| {
            let first = *next;
            *next += receipt.envelope.logs().len() as u64;
            Some(first)
        })
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.header.encode(out);
        self.transactions.iter().map(|tx| tx.raw().clone()).collect::<Vec<Bytes>>().encode(out);
        self.transactions.iter().map(|tx| tx.sender()).collect::<Vec<Address>>().encode(out);
        self.receipts.iter().map(|r| r.envelope.encoded_2718().into()).collect::<Vec<Bytes>>().encode(out);
        self.receipts.iter().map(|r| r.gas_used).collect::<Vec<u64>>().encode(out);
        // Nought is "none", so that a fee of nought stays one.
        self.receipts
            .iter()
            .map(|r| r.l1_fee.map_or(0, |fee| fee.saturating_add(1)))
            .collect::<Vec<u128>>()
            .encode(out);
        self.withdrawals.encode(out);
    }

    pub(crate) fn decode(mut from: &[u8]) -> Result<Self, NotABlock> {
        let from = &mut from;
        let header = Header::decode(from)?;
        let raw = Vec::<Bytes>::decode(from)?;
        let senders = Vec::<Address>::decode(from)?;
        let receipts = Vec::<Bytes>::decode(from)?;
        let gas = Vec::<u64>::decode(from)?;
        let fees = Vec::<u128>::decode(from)?;
        let withdrawals = Vec::<Withdrawal>::decode(from)?;
        if [senders.len(), receipts.len(), gas.len(), fees.len()] != [raw.len(); 4] || !from.is_empty() {
            return Err(NotABlock("its lists do not have one length".into()));
        }
        let transactions = raw
            .iter()
            .zip(senders)
            .map(|(raw, sender)| Transaction::decode_known(raw, sender).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| NotABlock(error.to_string()))?;
        let receipts = receipts
            .iter()
            .zip(gas.into_iter().zip(fees))
            .zip(&transactions)
            .map(|((bytes, (gas_used, fee)), tx)| {
                let envelope =
                    OpReceiptEnvelope::decode_2718(&mut &bytes[..]).map_err(|error| NotABlock(error.to_string()))?;
                Ok(Receipt::new(envelope, gas_used, fee.checked_sub(1), tx))
            })
            .collect::<Result<Vec<_>, NotABlock>>()?;
        Ok(Self { hash: header.hash_slow(), header, transactions, receipts, withdrawals })
    }
}

impl Receipt {
    pub(crate) fn new(envelope: OpReceiptEnvelope, gas_used: u64, l1_fee: Option<u128>, tx: &Transaction) -> Self {
        let nonce = envelope.deposit_nonce().unwrap_or_else(|| alloy_consensus::Transaction::nonce(tx.envelope()));
        Self { contract: tx.creates(nonce), envelope, gas_used, l1_fee }
    }
}

impl From<alloy_rlp::Error> for NotABlock {
    fn from(error: alloy_rlp::Error) -> Self {
        Self(error.to_string())
    }
}
