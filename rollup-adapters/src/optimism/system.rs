//! What does L1 say about how the rollup runs: who posts, how large blocks are, what fees are?
//!
//! The configuration at a block is its parent's, changed by the `ConfigUpdate` events of an L1 block that it adopts (specs,
//! System config). A chain carries it along, in its L1-info transactions and headers, so nothing has to be stored.

use alloy_primitives::{Address, B64, B256, b256};

use crate::poster::Log;

/// The configuration, as far as blocks depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemConfig {
    /// Who posts batches.
    pub batcher: Address,
    /// Gas of an L2 block.
    pub gas_limit: u64,
    /// Weight of L1's base fee.
    pub base_fee_scalar: u32,
    /// Weight of L1's blob base fee.
    pub blob_base_fee_scalar: u32,
    /// Denominator and elasticity of the base fee; zeros are the chain's defaults.
    pub eip1559_params: B64,
    /// Operator fee: scalar.
    pub operator_fee_scalar: u32,
    /// Operator fee: constant.
    pub operator_fee_constant: u64,
}

/// `ConfigUpdate(uint256,uint8,bytes)`.
pub(super) const CONFIG_UPDATE: B256 = b256!("1d2b0bda21d56b8bd12d4f94ebacffdfb35f5e226f84b461103bb8beab6353be");

impl SystemConfig {
    /// Applies an event of the system config contract. Returns whether it was one that is understood; derivation ignores what is
    /// malformed, and so must this.
    pub fn apply(&mut self, log: &Log) -> bool {
        let [event, version, kind] = log.topics.as_slice() else { return false };
        if *event != CONFIG_UPDATE || !version.is_zero() || kind.0[..31].iter().any(|byte| *byte != 0) {
            return false;
        }
        let Some(value) = content(&log.data) else { return false };
        match (kind.0[31], value.as_slice()) {
            (0, [word]) => self.batcher = Address::from_word(*word),
            (1, [_overhead, scalar]) => {
                if scalar.0[0] == 1 {
                    self.blob_base_fee_scalar = u32_at(scalar, 24);
                }
                self.base_fee_scalar = u32_at(scalar, 28);
            }
            (2, [word]) => self.gas_limit = u64_at(word, 24),
            (4, [word]) => self.eip1559_params = B64::from_slice(&word.0[24..]),
            (5, [word]) => {
                self.operator_fee_scalar = u32_at(word, 20);
                self.operator_fee_constant = u64_at(word, 24);
            }
            _ => return false,
        }
        true
    }
}

/// The words of an ABI-encoded `bytes` that is a whole number of them: offset 32, length, content.
fn content(data: &[u8]) -> Option<Vec<B256>> {
    let (words, []) = data.as_chunks::<32>() else { return None };
    let [offset, length, content @ ..] = words else { return None };
    let number = |number: u64| B256::left_padding_from(&number.to_be_bytes()).0;
    let canonical = *offset == number(32) && *length == number(content.len() as u64 * 32);
    canonical.then(|| content.iter().map(|word| B256::from(*word)).collect())
}

fn u32_at(word: &B256, at: usize) -> u32 {
    u32::from_be_bytes(word.0[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(word: &B256, at: usize) -> u64 {
    u64::from_be_bytes(word.0[at..at + 8].try_into().expect("eight bytes"))
}
