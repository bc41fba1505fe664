//! A relay hands in bundles over the public network, and gets an id or the refusal itself.

use lockstep_protocol::{
    bundle::{Bundle, Kind, Leg, SignedBundle, Tag, Transaction},
    ids::Height,
    refusal::Refusal,
    signature::AccountKey,
};

use crate::public::SubmitError;

use super::{
    chain::{A, Chain},
    world::{Node, eventually, mirror},
};

fn bundle(chain: &Chain, nonce: u64) -> SignedBundle {
    let key = AccountKey::ed25519([5; 32]);
    let legs = vec![Leg { rollup: A, transactions: vec![Transaction(vec![1, 2, 3])] }];
    let (network, account) = (chain.genesis().network_id(), key.account());
    let (tag, valid_until, kind) = (Tag::default(), Height(100), Kind::Plain);
    Bundle { network, account, nonce, tag, valid_until, tip: 0, max_fee: 1_000, legs, kind }.sign(&key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_is_taken_or_refused_with_its_reason_and_counted() {
    let chain = Chain::new("relay", 9);
    let node = Node::start(chain.genesis(), |_| {}).await;
    let folder = tempfile::tempdir().unwrap();
    let relay = mirror(chain.genesis(), &folder, vec![], |_| {}).await;
    assert_eq!(relay.handle().submit(bundle(&chain, 2)).await, Err(SubmitError::NoPeer));
    relay.handle().dial(node.handle().addresses()[0].clone()).await;
    let mut taken = Err(SubmitError::NoPeer);
    for _ in 0..100 {
        taken = relay.handle().submit(bundle(&chain, 2)).await;
        if taken != Err(SubmitError::NoPeer) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(taken, Ok(bundle(&chain, 2).bundle.id()));
    let refused = relay.handle().submit(bundle(&chain, 3)).await;
    assert_eq!(refused, Err(SubmitError::Refused(Refusal::NonceUsed { nonce: 3 })));
    let metrics = node.handle().metrics().clone();
    eventually("both are counted", || metrics.bundles("taken") == 1 && metrics.bundles("nonce_used") == 1).await;
    // A mirror takes no bundles, and says so by not offering to.
    assert_eq!(node.handle().submit(bundle(&chain, 4)).await, Err(SubmitError::NoPeer));
    relay.shutdown().await.unwrap();
    node.stop().await;
}
