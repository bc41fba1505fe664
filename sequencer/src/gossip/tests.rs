use lockstep_protocol::{
    bundle::SignedBundle,
    ids::SettlementId,
    settlement::{Abort, Head, HeadAttestation, Level, head::Ed25519Bytes},
    signature::Signature,
    wire::WIRE_VERSION,
};
use proptest::prelude::*;

use super::*;
use crate::{
    fixture::*,
    labels::ValidatorLabel,
    pool::{Standing, Usage},
};

const PEER: Hash32 = Hash32([7; 32]);
const OTHER: Hash32 = Hash32([8; 32]);

struct Node {
    view: Arc<View>,
    pool: Arc<Pool>,
    gossip: Arc<Gossip>,
}

impl Node {
    fn new() -> Self {
        let view = View::funded();
        let pool = pool(&view);
        Self { view, gossip: Gossip::new(pool.clone(), Facts::new(Arc::new(rules()))), pool }
    }

    /// What it would send now.
    fn messages(&self) -> Vec<Bytes> {
        std::iter::from_fn(|| Load::take(self.pool.outbox(), GOSSIP_BYTES_MAX - FRAME_BYTES))
            .map(|load| encode(&load))
            .collect()
    }

    fn hear(&self, sender: Hash32, messages: Vec<Bytes>) -> usize {
        self.gossip.take(messages.into_iter().map(|message| (sender, message)))
    }

    fn dishonest(&self, sender: Hash32) -> u64 {
        self.gossip.metrics.dishonest.get_or_create(&ValidatorLabel { validator: sender.to_string() }).get()
    }
}

fn announcement(bundles: Vec<SignedBundle>) -> Bytes {
    Announcement { bundles, ..Announcement::default() }.to_wire().into()
}

#[test]
fn what_one_node_admits_waits_at_all_others() {
    let (a, b) = (Node::new(), Node::new());
    for number in 0..4 {
        a.pool.submit(signed(number, 0, 5)).unwrap();
    }
    a.pool.cancel(cancel(5, 0, 1)).unwrap();
    let messages = a.messages();
    assert_eq!(messages.len(), 1, "all in one message");
    assert_eq!(b.hear(PEER, messages.clone()), 5);
    assert_eq!(b.pool.usage().bundles, 4);
    assert_eq!(b.pool.usage().cancels, 1);
    assert!(b.messages().is_empty(), "what others passed on is not passed on again");
    b.hear(PEER, messages);
    assert_eq!(b.pool.metrics().received.get(), 4, "the same again changes nothing");
    assert_eq!(b.dishonest(PEER), 0);
}

#[test]
fn messages_are_filled_up_to_their_limit() {
    let a = Node::new();
    let b = Node::new();
    let large = |number, nonce| {
        let mut bundle = bundle(number, nonce, 0);
        bundle.legs[0].transactions = (0..64).map(|nonce| transaction(ROLLUP_A.0, nonce)).collect();
        bundle.max_fee = 20_000;
        bundle.sign(&key(number))
    };
    for number in 0..ACCOUNTS {
        for nonce in 0..7 {
            a.pool.submit(large(number, nonce)).unwrap();
        }
    }
    let messages = a.messages();
    assert_eq!(messages.len(), 2);
    assert!(messages.iter().all(|message| message.len() <= GOSSIP_BYTES_MAX));
    assert!(messages[0].len() > GOSSIP_BYTES_MAX - 10_000);
    assert_eq!(b.hear(PEER, messages), 56);
    assert_eq!(b.pool.usage().bytes, a.pool.usage().bytes);
}

#[test]
fn a_validator_that_passes_on_bad_signatures_is_not_listened_to_for_some_heights() {
    let node = Node::new();
    let mut forged = signed(0, 0, 5);
    forged.signature = Signature::Ed25519([1; 64]);
    assert_eq!(node.hear(PEER, vec![announcement(vec![forged, signed(1, 0, 5)])]), 1, "its good ones count");
    assert_eq!(node.dishonest(PEER), 1);
    assert_eq!(node.hear(PEER, vec![announcement(vec![signed(2, 0, 5)])]), 0);
    assert_eq!(node.hear(OTHER, vec![announcement(vec![signed(2, 0, 5)])]), 1, "others are listened to");
    let later = 1 + MUTED_HEIGHTS;
    node.view.set_height(later);
    node.pool.finalized(Height(later), &[]);
    assert_eq!(node.hear(PEER, vec![announcement(vec![signed(3, 0, 5)])]), 1, "and it too, after a while");
}

#[test]
fn bundles_that_the_state_refuses_are_no_misbehaviour() {
    let node = Node::new();
    node.view.use_nonce(0, 0);
    let mut expired = bundle(1, 0, 5);
    expired.valid_until = Height(1);
    let refused = vec![signed(0, 0, 5), expired.sign(&key(1))];
    assert_eq!(node.hear(PEER, vec![announcement(refused)]), 0);
    assert_eq!(node.dishonest(PEER), 0);
    assert_eq!(node.hear(PEER, vec![announcement(vec![signed(2, 0, 5)])]), 1);
}

#[test]
fn garbage_is_counted_and_its_sender_not_listened_to_but_a_newer_version_is_forgiven() {
    let node = Node::new();
    let malformed = |sender: Hash32| {
        node.gossip.metrics.malformed.get_or_create(&ValidatorLabel { validator: sender.to_string() }).get()
    };
    let good = announcement(vec![signed(0, 0, 5)]);
    node.hear(OTHER, vec![Bytes::from_static(&[WIRE_VERSION + 1, 1, 2, 3])]);
    assert_eq!((malformed(OTHER), node.hear(OTHER, vec![good.clone()])), (1, 1));
    node.hear(PEER, vec![Bytes::from(vec![WIRE_VERSION; GOSSIP_BYTES_MAX + 1])]);
    assert_eq!((malformed(PEER), node.hear(PEER, vec![good])), (1, 0));
}

#[test]
fn the_largest_bundle_that_a_pool_takes_reaches_the_others() {
    let (a, b) = (Node::new(), Node::new());
    let large = largest(0, 0).sign(&key(0));
    let bytes = borsh::object_length(&large).unwrap();
    assert!((MAX_BUNDLE_BYTES - 1_500..=MAX_BUNDLE_BYTES).contains(&bytes), "{bytes} bytes");
    a.pool.submit(signed(1, 0, 5)).unwrap();
    a.pool.submit(large).unwrap();
    a.pool.submit(signed(2, 0, 5)).unwrap();
    assert_eq!(b.hear(PEER, a.messages()), 3);
    assert_eq!(b.pool.usage().bundles, 3);
}

#[test]
fn an_announcement_is_laid_out_as_documented() {
    let (cancel, bundle) = (cancel(0, 1, 2), signed(1, 3, 4));
    let (rollup, level) = (ROLLUP_A, Level::Safe);
    let (block_hash, state_root) = (Hash32([2; 32]), Hash32([3; 32]));
    let head = Head { rollup, level, number: 7, block_hash, state_root, incarnation: 1 };
    let attestation = HeadAttestation { head, validator: 2, signature: Ed25519Bytes([4; 64]) };
    let settlement = SettlementId([5; 32]);
    let abort = Abort { network: network(), account: account(0), settlement }.sign(&key(0));
    let mut expected = vec![WIRE_VERSION, 1, 0, 0, 0];
    expected.extend(borsh::to_vec(&cancel).unwrap());
    expected.extend([1, 0, 0, 0]);
    expected.extend(borsh::to_vec(&bundle).unwrap());
    expected.extend([1, 0, 0, 0]);
    expected.extend(borsh::to_vec(&attestation).unwrap());
    expected.extend([0; 3 * 4]);
    expected.extend([1, 0, 0, 0]);
    expected.extend(borsh::to_vec(&abort).unwrap());
    let (cancels, bundles, attestations, aborts) = (vec![cancel], vec![bundle], vec![attestation], vec![abort]);
    let wire = Announcement { cancels, bundles, attestations, aborts, ..Announcement::default() }.to_wire();
    assert_eq!(wire, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn truncated_messages_bring_nothing(kept in 0_usize..10_000) {
        let node = Node::new();
        let message = announcement(vec![signed(0, 0, 5), signed(1, 0, 5)]);
        prop_assert_eq!(node.hear(PEER, vec![message.slice(..kept % message.len())]), 0);
        prop_assert_eq!(node.pool.usage(), Usage::default());
    }

    #[test]
    fn a_flipped_bit_costs_its_bundle_and_nothing_else(bit in 0_usize..100_000) {
        let node = Node::new();
        let mut message = announcement(vec![signed(0, 0, 5), signed(1, 0, 5)]).to_vec();
        let bit = bit % (8 * message.len());
        message[bit / 8] ^= 1 << (bit % 8);
        let taken = node.hear(PEER, vec![message.into()]);
        prop_assert!(taken <= 1, "{taken} of two bundles survived");
        let waiting = (0..2).filter(|number| {
            node.pool.standing(&signed(*number, 0, 5).bundle.id()) == Some(Standing::Waiting)
        });
        prop_assert_eq!(waiting.count(), taken, "what survived is what was sent");
    }

    #[test]
    fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..2_000), versioned: bool) {
        if versioned {
            bytes.insert(0, WIRE_VERSION);
        }
        prop_assert_eq!(Node::new().hear(PEER, vec![bytes.into()]), 0);
    }
}
