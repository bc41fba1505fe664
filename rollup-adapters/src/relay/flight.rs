//! One transaction of the relayer on its way into the rollup, through the log.
//!
//! Its nonce is the rollup's own count, so at most one version of it ever counts. Ordering is not execution: a transaction whose fee
//! is below the base fee of its block, or that comes out of turn, is left out by the rollup without a trace. So what is not
//! executed within some time is sent again, as a new bundle, at a higher price.

use std::time::Duration;

use alloy_primitives::B256;
use lockstep_protocol::ids::BundleId;
use tokio::time::Instant;

use crate::poster::Price;

/// The longest wait before something counts as lost: a rollup that halted is not flooded.
const LOST_AFTER_MAX: Duration = Duration::from_secs(60);
/// Versions of a transaction that are remembered; any of them may be the one that counts.
const VERSIONS_MAX: usize = 16;

/// A transaction on its way.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) nonce: u64,
    pub(super) what: Cargo,
    pub(super) price: Price,
    /// Hashes of the versions that were sent, latest last.
    pub(super) hashes: Vec<B256>,
    pub(super) begin: Instant,
    /// The bundle that carries the latest version, until that is seen ordered.
    pub(super) waiting: Option<BundleId>,
    sent: Instant,
}

/// What it is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cargo {
    /// Bring the hub from `from` decisions to `to`.
    Decisions { from: u64, to: u64 },
    /// Apply a decision to a leg that was left out.
    Leg,
}

impl Flight {
    pub(super) fn new(nonce: u64, what: Cargo, price: Price, hash: B256) -> Self {
        let now = Instant::now();
        Self { nonce, what, price, hashes: vec![hash], begin: now, waiting: None, sent: now }
    }

    /// Another version of what `before` was to do: its nonce, as a rule, another price, perhaps more cargo.
    pub(super) fn instead_of(before: &Self, nonce: u64, what: Cargo, price: Price, hash: B256) -> Self {
        let mut hashes = before.hashes.clone();
        if hashes.len() == VERSIONS_MAX {
            hashes.remove(0);
        }
        hashes.push(hash);
        Self { nonce, what, price, hashes, begin: before.begin, waiting: None, sent: Instant::now() }
    }

    /// Whether it should have been executed by now, where the first version may take `first`.
    pub(super) fn is_lost(&self, first: Duration) -> bool {
        self.sent.elapsed() > lost_after(first, self.hashes.len())
    }
}

/// How long the last of so many versions is waited for.
fn lost_after(first: Duration, versions: usize) -> Duration {
    let doublings = u32::try_from(versions.saturating_sub(1)).unwrap_or(u32::MAX).min(8);
    first.saturating_mul(1 << doublings).min(LOST_AFTER_MAX.max(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_again_and_again_is_sent_ever_more_rarely() {
        let first = Duration::from_secs(4);
        let waits: Vec<_> = (1..=VERSIONS_MAX).map(|versions| lost_after(first, versions)).collect();
        assert_eq!((waits[0], waits[VERSIONS_MAX - 1]), (first, LOST_AFTER_MAX));
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
    }

    #[test]
    fn versions_of_one_transaction_are_remembered_up_to_a_bound() {
        let cargo = Cargo::Decisions { from: 1, to: 2 };
        let mut flight = Flight::new(7, cargo, Price::default(), B256::ZERO);
        assert!(!flight.is_lost(Duration::from_secs(60)));
        for version in 1..=20 {
            flight = Flight::instead_of(&flight, 7, cargo, Price::default(), B256::repeat_byte(version));
        }
        assert_eq!((flight.nonce, flight.hashes.len()), (7, VERSIONS_MAX));
        assert_eq!(flight.hashes.last(), Some(&B256::repeat_byte(20)));
    }
}
