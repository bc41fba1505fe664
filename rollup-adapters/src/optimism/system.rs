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
            (1, [_overhead, scalar]) => match scalar.0 {
                // Ecotone's form, with a weight for blobs, and the one before.
                [1, ref padding @ .., _, _, _, _, _, _, _, _] if padding.iter().all(|byte| *byte == 0) => {
                    self.blob_base_fee_scalar = u32_at(scalar, 24);
                    self.base_fee_scalar = u32_at(scalar, 28);
                }
                [0, ref padding @ .., _, _, _, _] if padding.iter().all(|byte| *byte == 0) => {
                    self.blob_base_fee_scalar = 0;
                    self.base_fee_scalar = u32_at(scalar, 28);
                }
                _ => return false,
            },
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

#[cfg(test)]
mod tests {
    use alloy_primitives::{U256, keccak256};

    use super::*;

    fn log(kind: u64, words: &[B256]) -> Log {
        let word = |number: u64| B256::from(U256::from(number));
        let mut data = [word(32), word(words.len() as u64 * 32)].concat();
        data.extend(words.concat());
        let json = serde_json::json!({
            "address": Address::ZERO, "topics": [CONFIG_UPDATE, B256::ZERO, word(kind)],
            "data": alloy_primitives::Bytes::from(data), "logIndex": "0x0", "blockHash": B256::ZERO, "blockNumber": "0x1",
        });
        serde_json::from_value(json).expect("a log")
    }

    #[test]
    fn events_change_what_they_name_and_malformed_ones_nothing() {
        assert_eq!(CONFIG_UPDATE, keccak256("ConfigUpdate(uint256,uint8,bytes)"));
        let mut system = SystemConfig { blob_base_fee_scalar: 9, ..SystemConfig::default() };
        let word = |number: u128| B256::from(U256::from(number));
        let mut scalar = word(7 << 32 | 5);
        scalar.0[0] = 1;
        assert!(system.apply(&log(0, &[Address::repeat_byte(3).into_word()])));
        assert!(system.apply(&log(1, &[B256::ZERO, scalar])));
        assert!(system.apply(&log(2, &[word(40_000_000)])));
        assert!(system.apply(&log(4, &[word(250 << 32 | 6)])));
        assert!(system.apply(&log(5, &[word(11 << 64 | 13)])));
        let expected = SystemConfig {
            batcher: Address::repeat_byte(3),
            gas_limit: 40_000_000,
            base_fee_scalar: 5,
            blob_base_fee_scalar: 7,
            eip1559_params: B64::from((250_u64 << 32 | 6).to_be_bytes()),
            operator_fee_scalar: 11,
            operator_fee_constant: 13,
        };
        assert_eq!(system, expected);
        let mut padded = scalar;
        padded.0[5] = 1;
        let mut unknown = scalar;
        unknown.0[0] = 2;
        let mut cut = log(2, &[word(1)]);
        cut.data = cut.data.slice(..95);
        let mut other = log(2, &[word(1)]);
        other.topics[1] = word(1);
        let bad = [
            log(1, &[B256::ZERO, padded]),
            log(1, &[B256::ZERO, unknown]),
            log(3, &[word(1)]),
            log(2, &[]),
            cut,
            other,
        ];
        for log in bad {
            assert!(!system.apply(&log), "{log:?}");
            assert_eq!(system, expected);
        }
        assert!(system.apply(&log(1, &[B256::ZERO, word(4)])));
        assert_eq!((system.base_fee_scalar, system.blob_base_fee_scalar), (4, 0), "the form before Ecotone");
    }
}
