//! Which signatures were found valid lately?
//!
//! A bundle is verified once: at admission or when a validator passes it on, and then not again in a block. Remembers
//! pairs of message and signature, never failures, in two generations of bounded size.

use std::collections::HashSet;

use lockstep_protocol::{ids::Hash32, signature::Signature};

/// Pairs of one generation: seven eighths of a power of two, so that the table is not doubled for a few. Two generations
/// take about 5 MiB and outlast ten seconds at 5,000 bundles a second.
const GENERATION: usize = 57_344;

/// A bounded memory of valid signatures.
#[derive(Default)]
pub(crate) struct Verified {
    current: HashSet<[u8; 32]>,
    previous: HashSet<[u8; 32]>,
}

impl Verified {
    /// Whether this signature over this message was found valid.
    pub(crate) fn contains(&self, message: &Hash32, signature: &Signature) -> bool {
        let pair = pair(message, signature);
        self.current.contains(&pair) || self.previous.contains(&pair)
    }

    /// Notes a valid signature. The account is part of what the message hashes.
    pub(crate) fn insert(&mut self, message: &Hash32, signature: &Signature) {
        if self.current.len() == GENERATION {
            self.previous = std::mem::take(&mut self.current);
        }
        self.current.insert(pair(message, signature));
    }
}

fn pair(message: &Hash32, signature: &Signature) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&message.0);
    match signature {
        Signature::Ed25519(bytes) => hasher.update(bytes),
        Signature::Secp256k1(bytes) => hasher.update(bytes),
    };
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: usize) -> Hash32 {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Hash32(bytes)
    }

    #[test]
    fn only_the_very_signature_that_was_checked_is_known() {
        let mut verified = Verified::default();
        let good = Signature::Ed25519([1; 64]);
        verified.insert(&message(1), &good);
        assert!(verified.contains(&message(1), &good));
        assert!(!verified.contains(&message(2), &good));
        assert!(!verified.contains(&message(1), &Signature::Ed25519([2; 64])));
        let mut longer = [1; 65];
        longer[64] = 27;
        assert!(!verified.contains(&message(1), &Signature::Secp256k1(longer)));
    }

    #[test]
    fn the_oldest_are_forgotten_and_memory_stays_bounded() {
        let mut verified = Verified::default();
        let signature = Signature::Ed25519([7; 64]);
        for number in 0..=2 * GENERATION {
            verified.insert(&message(number), &signature);
        }
        assert!(!verified.contains(&message(0), &signature));
        assert!(verified.contains(&message(GENERATION), &signature));
        assert!(verified.contains(&message(2 * GENERATION), &signature));
        assert!(verified.current.len() + verified.previous.len() <= 2 * GENERATION);
    }
}
