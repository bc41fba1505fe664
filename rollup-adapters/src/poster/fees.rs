//! What is offered for a place in an L1 block, and what if it is not taken?
//!
//! Pure. Fees follow the market, never beyond a cap. A replacement offers what pools ask of one: a tenth more in every
//! fee, or twice as much for a transaction with blobs. Above the cap nothing is lost: what waits, waits.

use serde::{Deserialize, Serialize};

/// What an operator is willing to pay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeeConfig {
    /// Most to pay for a unit of gas, gwei. Above it, posting waits.
    pub max_fee_gwei: f64,
    /// Most to pay for a unit of blob gas, gwei.
    pub max_blob_fee_gwei: f64,
    /// Least tip, gwei: below it many nodes do not even pass a transaction on.
    pub min_tip_gwei: f64,
}

impl Default for FeeConfig {
    fn default() -> Self {
        // Base fees above a few hundred gwei last for hours at most, and a channel may wait that long.
        Self { max_fee_gwei: 300.0, max_blob_fee_gwei: 300.0, min_tip_gwei: 0.01 }
    }
}

/// A cap in wei, from a configured amount in gwei.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// For a unit of gas.
    pub fee: u128,
    /// For a unit of blob gas.
    pub blob_fee: u128,
    /// Least tip.
    pub min_tip: u128,
}

impl FeeConfig {
    /// The same in wei.
    pub fn caps(&self) -> Caps {
        let wei = |gwei: f64| (gwei.max(0.0) * 1e9) as u128;
        Caps { fee: wei(self.max_fee_gwei), blob_fee: wei(self.max_blob_fee_gwei), min_tip: wei(self.min_tip_gwei) }
    }
}

/// What L1 asks at the moment, wei.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Market {
    /// Base fee of the latest block.
    pub base_fee: u128,
    /// A tip that is usually enough.
    pub tip: u128,
    /// Base fee of blob gas.
    pub blob_base_fee: u128,
}

/// What a transaction offers, wei.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// `maxFeePerGas`.
    pub fee: u128,
    /// `maxPriorityFeePerGas`.
    pub tip: u128,
    /// `maxFeePerBlobGas`; meant for transactions with blobs alone.
    pub blob_fee: u128,
}

/// Fees of this many full blocks in a row are survived without a replacement: each may raise the base fee by an eighth,
/// and 1.125^6 is 2.03.
const HEADROOM: u128 = 2;

/// What to offer first. `None` if the market is above the caps.
pub fn first_offer(market: &Market, caps: &Caps, blobs: bool) -> Option<Price> {
    let tip = market.tip.max(caps.min_tip);
    let least = market.base_fee.saturating_add(tip);
    if least > caps.fee || blobs && market.blob_base_fee > caps.blob_fee {
        return None;
    }
    Some(Price {
        fee: market.base_fee.saturating_mul(HEADROOM).saturating_add(tip).min(caps.fee),
        tip,
        blob_fee: market.blob_base_fee.saturating_mul(HEADROOM).max(1).min(caps.blob_fee.max(1)),
    })
}

/// What to offer instead of `old`, which was not taken: at least what pools ask of a replacement, and what the market asks now.
/// `None` if that is above the caps.
pub fn replacement(old: &Price, market: &Market, caps: &Caps, blobs: bool) -> Option<Price> {
    let raised = |fee: u128| {
        // One more than asked for: pools differ in how they round.
        let more = if blobs { fee } else { fee.div_ceil(10) };
        fee.saturating_add(more).saturating_add(1)
    };
    let fresh = first_offer(market, caps, blobs)?;
    let price = Price {
        fee: raised(old.fee).max(fresh.fee),
        tip: raised(old.tip).max(fresh.tip),
        blob_fee: raised(old.blob_fee).max(fresh.blob_fee),
    };
    (price.fee <= caps.fee && (!blobs || price.blob_fee <= caps.blob_fee)).then_some(price)
}

/// Gas of one blob (EIP-4844).
const BLOB_GAS: u128 = 131_072;
/// Gas of a transaction without data.
const TRANSACTION_GAS: u64 = 21_000;
/// Floor price of a token of calldata (EIP-7623); a byte is four tokens, a zero byte one.
const FLOOR_GAS_PER_TOKEN: u64 = 10;
/// Usual price of a token.
const GAS_PER_TOKEN: u64 = 4;

/// Gas that a transaction to an address without code takes: the greater of the usual price and the floor. Exact, so nothing
/// needs to be estimated.
pub fn calldata_gas(data: &[u8]) -> u64 {
    let zeros = data.iter().filter(|byte| **byte == 0).count() as u64;
    let tokens = (data.len() as u64 - zeros) * 4 + zeros;
    TRANSACTION_GAS + tokens * FLOOR_GAS_PER_TOKEN.max(GAS_PER_TOKEN)
}

/// Whether `bytes` are cheaper in blobs than in calldata at these prices. `blobs` is how many it takes.
pub fn blobs_are_cheaper(market: &Market, bytes: usize, blobs: usize) -> bool {
    let gas_price = market.base_fee.saturating_add(market.tip);
    // Compressed batches have next to no zero bytes.
    let calldata = gas_price.saturating_mul(bytes as u128 * 4 * u128::from(FLOOR_GAS_PER_TOKEN));
    market.blob_base_fee.saturating_mul(BLOB_GAS * blobs as u128) < calldata
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u128 = 1_000_000_000;

    fn market(base_fee: u128) -> Market {
        Market { base_fee: base_fee * GWEI, tip: GWEI, blob_base_fee: GWEI }
    }

    #[test]
    fn an_offer_survives_a_doubling_and_never_exceeds_the_cap() {
        let caps = FeeConfig { max_fee_gwei: 100.0, max_blob_fee_gwei: 10.0, min_tip_gwei: 2.0 }.caps();
        let price = first_offer(&market(20), &caps, false).expect("below the cap");
        assert_eq!((price.fee, price.tip), (42 * GWEI, 2 * GWEI));
        assert_eq!(first_offer(&market(60), &caps, false).expect("below the cap").fee, 100 * GWEI);
        assert_eq!(first_offer(&market(99), &caps, false), None, "a base-fee spike is waited out");
        let dear_blobs = Market { blob_base_fee: 11 * GWEI, ..market(1) };
        assert!(first_offer(&dear_blobs, &caps, false).is_some());
        assert_eq!(first_offer(&dear_blobs, &caps, true), None);
    }

    #[test]
    fn a_replacement_offers_what_pools_ask_of_one_until_the_cap() {
        let caps = FeeConfig { max_fee_gwei: 100.0, max_blob_fee_gwei: 100.0, min_tip_gwei: 0.0 }.caps();
        for blobs in [false, true] {
            let mut price = first_offer(&market(1), &caps, blobs).expect("below the cap");
            let mut steps = 0;
            while let Some(next) = replacement(&price, &market(1), &caps, blobs) {
                let (more, of) = if blobs { (2, 1) } else { (11, 10) };
                for (old, new) in [(price.fee, next.fee), (price.tip, next.tip), (price.blob_fee, next.blob_fee)] {
                    assert!(new * of >= old * more, "{old} -> {new}");
                }
                assert!(next.fee <= caps.fee);
                price = next;
                steps += 1;
            }
            assert!(steps > if blobs { 3 } else { 30 }, "{steps} steps to the cap");
        }
        // And it follows a market that ran away.
        let price = first_offer(&market(1), &caps, false).expect("below the cap");
        assert_eq!(replacement(&price, &market(40), &caps, false).expect("below the cap").fee, 81 * GWEI);
    }

    #[test]
    fn gas_of_calldata_is_the_floor_of_eip_7623() {
        assert_eq!(calldata_gas(&[]), 21_000);
        assert_eq!(calldata_gas(&[0, 1, 1]), 21_000 + 10 + 40 + 40);
    }

    #[test]
    fn the_cheaper_target_is_found() {
        let even = Market { base_fee: GWEI, tip: 0, blob_base_fee: GWEI };
        // A full blob of 127 KiB costs 131,072 blob gas; as calldata, 40 gas a byte.
        assert!(blobs_are_cheaper(&even, 130_000, 1));
        assert!(!blobs_are_cheaper(&even, 3_000, 1), "an almost empty blob costs as much as a full one");
        assert!(!blobs_are_cheaper(&Market { blob_base_fee: 100 * GWEI, ..even }, 130_000, 1));
    }
}
