//! The bytes of a singular batch: one L2 block, self-contained.
//!
//! `0x00 || rlp([parent_hash, epoch_number, epoch_hash, timestamp, [transaction, ...]])` (specs, Derivation, "Batch
//! format").

use alloy_rlp::{Encodable, Header};

use crate::{DecodeError, rlp::Items};
use lockstep_protocol::ids::Hash32;

/// First byte of a singular batch.
pub(super) const SINGULAR: u8 = 0;

/// One L2 block, as posted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SingularBatch {
    /// Hash of the parent L2 block.
    pub parent: Hash32,
    /// Number of the L1 origin.
    pub epoch_number: u64,
    /// Hash of the L1 origin.
    pub epoch_hash: Hash32,
    /// Timestamp of the L2 block, seconds.
    pub timestamp: u64,
    /// Its transactions without the derived ones.
    pub transactions: Vec<Vec<u8>>,
}

impl SingularBatch {
    /// The batch with its type byte.
    pub fn encode(&self) -> Vec<u8> {
        let list =
            Header { list: true, payload_length: self.transactions.iter().map(|tx| tx.as_slice().length()).sum() };
        let numbers = self.epoch_number.length() + self.timestamp.length();
        let outer = Header {
            list: true,
            payload_length: self.parent.0.length()
                + self.epoch_hash.0.length()
                + numbers
                + list.length()
                + list.payload_length,
        };
        let mut out = Vec::with_capacity(1 + outer.length() + outer.payload_length);
        out.push(SINGULAR);
        outer.encode(&mut out);
        self.parent.0.encode(&mut out);
        self.epoch_number.encode(&mut out);
        self.epoch_hash.0.encode(&mut out);
        self.timestamp.encode(&mut out);
        list.encode(&mut out);
        for transaction in &self.transactions {
            transaction.as_slice().encode(&mut out);
        }
        out
    }

    /// Reads what follows the type byte.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Self::read(bytes).map_err(DecodeError::rlp("singular batch"))
    }

    fn read(bytes: &[u8]) -> Result<Self, alloy_rlp::Error> {
        let mut outer = Items(bytes);
        let mut fields = Items(outer.list()?.payload);
        outer.end()?;
        let parent = Hash32(fields.fixed()?);
        let epoch_number = fields.number()?;
        let epoch_hash = Hash32(fields.fixed()?);
        let timestamp = fields.number()?;
        let mut list = Items(fields.list()?.payload);
        fields.end()?;
        let mut transactions = Vec::new();
        while !list.is_empty() {
            transactions.push(list.string()?.payload.to_vec());
        }
        Ok(Self { parent, epoch_number, epoch_hash, timestamp, transactions })
    }
}
