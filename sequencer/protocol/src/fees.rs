//! Fees: what a bundle pays, and how each lane's base fee moves.
//!
//! Every lane has its own base fee per byte, moved by that lane's use alone as EIP-1559 moves Ethereum's: unchanged at the
//! target, at most an eighth up or down a block. So one busy rollup does not price out the others.

use crate::limits::{LANE_BYTES_TARGET, MAX_LANE_BYTES};

/// A base fee changes by at most 1/8 a block (EIP-1559, `BASE_FEE_MAX_CHANGE_DENOMINATOR`).
const MAX_CHANGE_DENOMINATOR: u128 = 8;

/// Base fees of all legs, given as (base fee, bytes), and the tip. Saturates: what does not fit 64 bits nobody can pay.
pub fn total(legs: impl IntoIterator<Item = (u64, u64)>, tip: u64) -> u64 {
    legs.into_iter().fold(tip, |sum, (base_fee, bytes)| sum.saturating_add(base_fee.saturating_mul(bytes)))
}

/// A lane's base fee after a block that used `used` bytes of it.
///
/// ```
/// use lockstep_protocol::{fees::next_base_fee, limits::{LANE_BYTES_TARGET, MAX_LANE_BYTES}};
///
/// assert_eq!(next_base_fee(800, LANE_BYTES_TARGET, 1), 800);
/// assert_eq!(next_base_fee(800, MAX_LANE_BYTES, 1), 900);
/// assert_eq!(next_base_fee(800, 0, 1), 700);
/// assert_eq!(next_base_fee(800, 0, 750), 750);
/// ```
pub fn next_base_fee(base_fee: u64, used: u64, min: u64) -> u64 {
    let used = used.min(MAX_LANE_BYTES);
    let change = |distance: u64| {
        let change =
            u128::from(base_fee) * u128::from(distance) / u128::from(LANE_BYTES_TARGET) / MAX_CHANGE_DENOMINATOR;
        u64::try_from(change).unwrap_or(u64::MAX)
    };
    let next = if used > LANE_BYTES_TARGET {
        base_fee.saturating_add(change(used - LANE_BYTES_TARGET).max(1))
    } else {
        base_fee - change(LANE_BYTES_TARGET - used)
    };
    next.max(min)
}
