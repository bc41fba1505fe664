//! What does the first transaction of every block tell the rollup about L1?
//!
//! The L1-info deposit: `setL1BlockValuesIsthmus` (or Ecotone's form before) with packed arguments, as a deposit from a system
//! address (specs, Ecotone and Isthmus, "L1 attributes"). Reading one gives back where a block stands, so that a driver
//! that restarts needs nothing but the block.
//!
//! | offset | bytes | argument |
//! | --- | --- | --- |
//! | 0 | 4 | selector |
//! | 4 | 4 | base fee scalar |
//! | 8 | 4 | blob base fee scalar |
//! | 12 | 8 | sequence number: blocks since the origin was adopted |
//! | 20 | 8 | L1 timestamp |
//! | 28 | 8 | L1 number |
//! | 36 | 32 | L1 base fee |
//! | 68 | 32 | L1 blob base fee |
//! | 100 | 32 | L1 hash |
//! | 132 | 32 | batcher, left-padded |
//! | 164 | 4 | operator fee scalar (Isthmus) |
//! | 168 | 8 | operator fee constant (Isthmus) |

use alloy_primitives::{Address, B256, U256, address};
use lockstep_protocol::{header::L1Origin, ids::Hash32};

use super::{deposit::Deposit, system::SystemConfig};
use crate::{DecodeError, poster::L1Header};

const ISTHMUS: [u8; 4] = [0x09, 0x89, 0x99, 0xbe];
const ECOTONE: [u8; 4] = [0x44, 0x0a, 0x5e, 0x20];
const ECOTONE_BYTES: usize = 164;
const ISTHMUS_BYTES: usize = 176;

/// Who sends it.
const DEPOSITOR: Address = address!("deaddeaddeaddeaddeaddeaddeaddeaddead0001");
/// The contract that keeps it.
const L1_BLOCK: Address = address!("4200000000000000000000000000000000000015");

/// Gas of the L1-info transaction (specs, Regolith).
pub const L1_INFO_GAS: u64 = 1_000_000;

/// What a block says about its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct L1Info {
    /// The L1 block that it is built on.
    pub origin: L1Origin,
    /// How many blocks before it are built on the same one.
    pub sequence_number: u64,
    /// Base fee of that block.
    pub base_fee: u128,
    /// Blob base fee of that block.
    pub blob_base_fee: u128,
}

impl L1Info {
    /// What a block on `l1` says.
    pub fn new(l1: &L1Header, sequence_number: u64) -> Self {
        Self { origin: l1.origin(), sequence_number, base_fee: l1.base_fee, blob_base_fee: l1.blob_base_fee }
    }

    /// The call's data.
    pub fn calldata(&self, system: &SystemConfig, isthmus: bool) -> Vec<u8> {
        let word = |number: u128| B256::from(U256::from(number));
        let mut out = Vec::with_capacity(ISTHMUS_BYTES);
        out.extend_from_slice(if isthmus { &ISTHMUS } else { &ECOTONE });
        out.extend_from_slice(&system.base_fee_scalar.to_be_bytes());
        out.extend_from_slice(&system.blob_base_fee_scalar.to_be_bytes());
        for number in [self.sequence_number, self.origin.timestamp, self.origin.number] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(word(self.base_fee).as_slice());
        out.extend_from_slice(word(self.blob_base_fee).as_slice());
        out.extend_from_slice(&self.origin.hash.0);
        out.extend_from_slice(system.batcher.into_word().as_slice());
        if isthmus {
            out.extend_from_slice(&system.operator_fee_scalar.to_be_bytes());
            out.extend_from_slice(&system.operator_fee_constant.to_be_bytes());
        }
        out
    }

    /// The transaction.
    pub fn deposit(&self, system: &SystemConfig, isthmus: bool) -> Deposit {
        Deposit {
            source: super::deposit::source_of_l1_info(B256::from(self.origin.hash.0), self.sequence_number),
            from: DEPOSITOR,
            to: Some(L1_BLOCK),
            mint: U256::ZERO,
            value: U256::ZERO,
            gas: L1_INFO_GAS,
            data: self.calldata(system, isthmus),
        }
    }

    /// Reads a call's data. Gas limit and base fee parameters of the configuration are not in it, but in the header.
    pub fn decode(data: &[u8]) -> Result<(Self, SystemConfig), DecodeError> {
        let invalid = |reason| DecodeError::Invalid { what: "L1-info transaction", reason };
        let isthmus = match data.first_chunk() {
            Some(&ISTHMUS) if data.len() == ISTHMUS_BYTES => true,
            Some(&ECOTONE) if data.len() == ECOTONE_BYTES => false,
            Some(&(ISTHMUS | ECOTONE)) => return Err(DecodeError::Truncated("L1-info transaction")),
            _ => return Err(invalid("neither Ecotone's nor Isthmus' form")),
        };
        let number = |at: usize, bytes: usize| {
            data[at..at + bytes].iter().fold(0u128, |value, byte| value << 8 | u128::from(*byte))
        };
        let wide = |at: usize| match data[at..at + 16].iter().any(|byte| *byte != 0) {
            true => Err(invalid("a fee beyond 128 bits")),
            false => Ok(number(at + 16, 16)),
        };
        let short = |at: usize, bytes: usize| u64::try_from(number(at, bytes)).expect("eight bytes at most");
        let scalar = |at: usize| u32::try_from(number(at, 4)).expect("four bytes");
        let hash = Hash32(data[100..132].try_into().expect("32 bytes"));
        let info = Self {
            origin: L1Origin { number: short(28, 8), hash, timestamp: short(20, 8) },
            sequence_number: short(12, 8),
            base_fee: wide(36)?,
            blob_base_fee: wide(68)?,
        };
        let mut system = SystemConfig {
            base_fee_scalar: scalar(4),
            blob_base_fee_scalar: scalar(8),
            batcher: Address::from_slice(&data[144..164]),
            ..Default::default()
        };
        if isthmus {
            system.operator_fee_scalar = scalar(164);
            system.operator_fee_constant = short(168, 8);
        }
        Ok((info, system))
    }
}
