//! Where does the price of the city's one market go?
//!
//! A walk with jumps that is drawn back to where it began, the same for the same seed. Pure: the oracle pushes it.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::UNIT;

/// Where the price begins, and is drawn back to: two thousand for one.
pub(super) const ANCHOR: u128 = 2_000 * UNIT;
/// A step is at most this far, in basis points.
const STEP_BPS: i64 = 60;
/// One step in so many is a jump,
const JUMP_ONE_IN: u32 = 12;
/// so far, in basis points: beyond the maintenance margin of whoever trades with the most that the venue allows.
const JUMP_BPS: std::ops::RangeInclusive<i64> = 250..=450;
/// The part of the way to the anchor that a step goes back.
const PULL: i128 = 24;
const BPS: i128 = 10_000;

/// A price that moves.
pub(super) struct Market {
    random: StdRng,
    price: u128,
}

impl Market {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), price: ANCHOR }
    }

    /// The next price.
    pub(super) fn step(&mut self) -> u128 {
        let mut bps = self.random.random_range(-STEP_BPS..=STEP_BPS);
        if self.random.random_ratio(1, JUMP_ONE_IN) {
            let jump = self.random.random_range(JUMP_BPS);
            bps += if self.random.random() { jump } else { -jump };
        }
        let (price, anchor) = (self.price.cast_signed(), ANCHOR.cast_signed());
        let moved = price + price * i128::from(bps) / BPS + (anchor - price) / PULL;
        // Never far from what the house can pay.
        self.price = moved.clamp(anchor / 2, anchor * 2).cast_unsigned();
        self.price
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_walk_and_it_stays_near_its_anchor() {
        let (mut one, mut same, mut other) = (Market::new(1), Market::new(1), Market::new(2));
        let walk: Vec<_> = (0..5_000).map(|_| one.step()).collect();
        assert!(walk.iter().all(|price| *price == same.step()));
        assert!(walk.iter().any(|price| *price != other.step()));
        assert!(walk.iter().all(|price| (ANCHOR / 2..=ANCHOR * 2).contains(price)));
        let above = walk.iter().filter(|price| **price > ANCHOR).count();
        assert!((500..4_500).contains(&above), "it moves both ways: {above} of 5000 above");
        let jumps = walk.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) * 50 > pair[0]).count();
        assert!(jumps > 100, "some steps liquidate: {jumps}");
    }
}
