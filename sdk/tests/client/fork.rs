//! Bundles and chains that the tests share.

use std::sync::Arc;

use lockstep_sdk::{
    BundleBuilder,
    protocol::{
        bundle::{Cancel, NonceRange, SignedBundle, SignedCancel},
        ids::{Height, NetworkId},
        signature::AccountKey,
    },
};

use crate::world::{ROLLUPS, World, alice, bob};

/// Heights after which a bundle of these tests expires.
pub(crate) const VALID_UNTIL: u64 = 12;

/// A two-leg bundle of `key` under `nonce`.
pub(crate) fn bundle(key: &AccountKey, nonce: u64) -> SignedBundle {
    bundle_with(key, nonce, b'x')
}

/// Another bundle under the same nonce, told apart by `mark`.
pub(crate) fn bundle_with(key: &AccountKey, nonce: u64, mark: u8) -> SignedBundle {
    BundleBuilder::new()
        .nonce(nonce)
        .tag([mark; 16])
        .leg(ROLLUPS[1], [vec![mark, 2]])
        .leg(ROLLUPS[0], [vec![mark, 0], vec![mark, 1]])
        .valid_for(VALID_UNTIL)
        .max_fee(10_000)
        .sign(NetworkId::from_name("test"), key, Height(0))
        .expect("a good bundle")
}

/// A bundle for the first rollup alone.
pub(crate) fn one_leg(key: &AccountKey, nonce: u64) -> SignedBundle {
    BundleBuilder::new()
        .nonce(nonce)
        .leg(ROLLUPS[0], [nonce.to_be_bytes().to_vec()])
        .valid_for(1_000)
        .max_fee(10_000)
        .sign(NetworkId::from_name("test"), key, Height(0))
        .expect("a good bundle")
}

pub(crate) fn cancel(key: &AccountKey, first: u64, last: u64) -> SignedCancel {
    Cancel { network: NetworkId::from_name("test"), account: key.account(), nonces: NonceRange { first, last } }
        .sign(key)
}

/// Fourteen blocks: the bundle of alice's nonce 0 is ordered at height 5, her nonces 1 and 2 are cancelled at 7, another
/// bundle than `bundle(alice, 3)` takes nonce 3 at 9. Nonce 4 is never used. Bob orders at 2, 3, 6 and 13.
pub(crate) fn story() -> Arc<World> {
    let mut contents: Vec<(Vec<SignedCancel>, Vec<SignedBundle>)> = vec![Default::default(); 14];
    for (nonce, height) in [2, 3, 6, 13].into_iter().enumerate() {
        contents[height - 1].1.push(one_leg(&bob(), nonce as u64));
    }
    contents[4].1.push(bundle(&alice(), 0));
    contents[6].0.push(cancel(&alice(), 1, 2));
    contents[8].1.push(bundle_with(&alice(), 3, b'y'));
    World::new(contents)
}

/// `height` blocks, each of which has something for the first rollup.
pub(crate) fn busy(height: u64) -> Arc<World> {
    World::new((0..height).map(|nonce| (Vec::new(), vec![one_leg(&bob(), nonce)])).collect())
}
