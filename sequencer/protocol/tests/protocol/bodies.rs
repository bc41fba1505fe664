//! Is a body that is out of order, over a limit, or touched in any bit refused?

use lockstep_protocol::{
    body::{Body, CheckedBody, Invalid},
    bundle::{Bundle, SignedBundle, SignedCancel},
    header::L1Origin,
    ids::{Height, RollupId},
    limits::{
        MAX_ABORTS_PER_BODY, MAX_BODY_BYTES, MAX_BUNDLES_PER_BODY, MAX_CANCELS_PER_BODY, MAX_HEADS_PER_BODY,
        MAX_LEASES_PER_BODY, MAX_OBSERVATIONS_PER_BODY, MAX_VOIDS_PER_BODY,
    },
    refusal::Refusal,
    transition::{Position, apply},
    wire::{Wire, WireError},
};

use crate::fixture::{Network, ROLLUPS, key, leg};

fn network() -> Network {
    let mut network = Network::new(6, 1_000_000, &ROLLUPS);
    network.advance(vec![], vec![]);
    network
}

/// Cancels of three accounts and bundles of four, both kinds of signature, in order.
fn body(network: &Network) -> Body {
    let tipped = |index, tip| Bundle { tip, ..network.bundle(index, 0, &[10, 901]) }.sign(&key(index));
    let bundles = vec![tipped(0, 5), tipped(1, 5), tipped(2, 80), tipped(3, 9)];
    let cancels = vec![network.cancel(0, 5, 9), network.cancel(1, 1, 1), network.cancel(4, 0, 0)];
    network.build(cancels, bundles).body.to_body()
}

#[test]
fn the_body_that_the_others_are_changed_from_is_valid() {
    let network = network();
    let body = body(&network);
    assert_eq!((body.cancels.len(), body.bundles.len()), (3, 4));
    assert!(network.apply(body).is_ok());
}

#[test]
fn any_other_order_of_bundles_is_refused() {
    let network = network();
    let good = body(&network);
    for a in 0..good.bundles.len() {
        for b in 0..a {
            let mut bad = good.clone();
            bad.bundles.swap(a, b);
            assert!(matches!(network.apply(bad), Err(Invalid::BundleOrder { .. })), "{a} and {b} swapped");
        }
    }
}

#[test]
fn any_other_order_of_cancels_is_refused_and_so_is_a_second_one_of_an_account() {
    let network = network();
    let good = body(&network);
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        let mut bad = good.clone();
        bad.cancels.swap(a, b);
        assert!(matches!(network.apply(bad), Err(Invalid::CancelOrder { .. })));
    }
    let mut bad = good.clone();
    bad.cancels = vec![network.cancel(0, 0, 0), network.cancel(0, 1, 1)];
    assert_eq!(network.apply(bad), Err(Invalid::CancelOrder { index: 1 }));
}

#[test]
fn a_repeated_bundle_is_refused() {
    let network = network();
    let mut bad = body(&network);
    let last = bad.bundles.last().unwrap().clone();
    bad.bundles.push(last);
    assert_eq!(network.apply(bad), Err(Invalid::BundleOrder { index: 4 }));
}

#[test]
fn a_body_with_any_single_bit_flipped_is_refused() {
    let network = network();
    let bytes = body(&network).to_wire();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        if let Ok(body) = Body::from_wire(&flipped) {
            assert!(network.apply(body).is_err(), "bit {bit} can be flipped");
        }
    }
}

#[test]
fn a_truncated_or_lengthened_body_is_not_one() {
    let network = network();
    let mut bytes = body(&network).to_wire();
    assert_eq!(Body::from_wire(&[]), Err(WireError::Empty));
    for length in 1..bytes.len() {
        assert!(matches!(Body::from_wire(&bytes[..length]), Err(WireError::Malformed(_))), "{length} bytes");
    }
    bytes.push(0);
    assert!(matches!(Body::from_wire(&bytes), Err(WireError::Malformed(_))));
}

#[test]
fn a_body_over_its_byte_limit_is_refused_before_it_is_read() {
    let bytes = vec![1; MAX_BODY_BYTES + 1];
    assert_eq!(Body::from_wire(&bytes), Err(WireError::TooLong { max: MAX_BODY_BYTES, found: MAX_BODY_BYTES + 1 }));
}

#[test]
fn a_body_that_announces_more_items_than_allowed_is_refused_before_they_are_read() {
    let announce = |list: usize, items: u32| {
        let mut bytes = vec![1];
        bytes.extend(vec![0; 4 * list]);
        bytes.extend(items.to_le_bytes());
        Body::from_wire(&bytes).unwrap_err().to_string()
    };
    let lists = [
        MAX_HEADS_PER_BODY,
        MAX_OBSERVATIONS_PER_BODY,
        MAX_VOIDS_PER_BODY,
        MAX_LEASES_PER_BODY,
        MAX_ABORTS_PER_BODY,
        MAX_CANCELS_PER_BODY,
        MAX_BUNDLES_PER_BODY,
    ];
    for (list, most) in lists.into_iter().enumerate() {
        let text = announce(list, most as u32 + 1);
        assert!(text.contains(&format!("at most {most}")), "{text}");
    }
    assert!(announce(5, u32::MAX).contains("length 4294967295"));
}

#[test]
fn one_bad_signature_among_good_ones_makes_the_body_invalid() {
    let network = network();
    let good = body(&network);
    for index in 0..good.bundles.len() {
        let mut bad = good.clone();
        bad.bundles[index].signature = key(5).sign(&bad.bundles[index].bundle.id().0);
        assert_eq!(network.apply(bad), Err(Invalid::Signature));
    }
    for index in 0..good.cancels.len() {
        let mut bad = good.clone();
        bad.cancels[index].signature = good.bundles[0].signature;
        assert_eq!(network.apply(bad), Err(Invalid::Signature));
    }
}

#[test]
fn a_body_that_does_not_fit_the_state_is_refused_with_the_place_and_the_reason() {
    let mut network = network();
    let single = |signed: SignedBundle| Body { bundles: vec![signed], ..Body::default() };
    let cancel = |signed: SignedCancel| Body { cancels: vec![signed], ..Body::default() };
    let expired = Bundle { valid_until: Height(1), ..network.bundle(0, 0, &[10]) }.sign(&key(0));
    let poor = Bundle { tip: 1_000_000, ..network.bundle(0, 0, &[10]) }.sign(&key(0));
    let stranger = network.signed(5 + 1, 0, &[10]);
    let far = network.cancel(0, 1_020, 1_024);
    for (body, reason) in [
        (single(expired), "expired"),
        (single(poor), "insufficient_balance"),
        (single(stranger), "unknown_account"),
        (cancel(far), "nonce_too_far_ahead"),
    ] {
        let refusal = match network.apply(body) {
            Err(Invalid::Bundle { index: 0, refusal } | Invalid::Cancel { index: 0, refusal }) => refusal,
            other => panic!("expected {reason}, found {other:?}"),
        };
        assert_eq!(refusal.reason(), reason);
    }
    // A nonce that an earlier block used.
    let signed = network.signed(0, 0, &[10]);
    network.advance(vec![], vec![signed.clone()]);
    assert_eq!(
        network.apply(single(signed)),
        Err(Invalid::Bundle { index: 0, refusal: Refusal::NonceUsed { nonce: 0 } })
    );
}

#[test]
fn a_lane_over_its_bytes_is_refused_though_the_body_is_not_full() {
    let mut network = Network::new(1, u64::MAX / 2, &ROLLUPS);
    network.advance(vec![], vec![]);
    let payload = vec![7; 110 * 1024];
    let mut bundles: Vec<_> = (0..5)
        .map(|nonce| Bundle { legs: vec![leg(901, &[&payload])], ..network.bundle(0, nonce, &[]) }.sign(&key(0)))
        .collect();
    bundles.sort_by_key(|signed| signed.bundle.id());
    let body = Body { bundles, ..Body::default() };
    assert_eq!(
        network.apply(body),
        Err(Invalid::Bundle { index: 4, refusal: Refusal::LaneFull { rollup: RollupId(901) } })
    );
}

#[test]
fn a_position_whose_time_or_l1_origin_goes_back_is_invalid() {
    let mut network = network();
    network.advance(vec![], vec![]);
    let good = network.position();
    let body = CheckedBody::default();
    let records = network.stage_for(&body);
    let verdict = |position: Position| apply(&network.rules, &position, &body, &records).map(|_| ());
    assert_eq!(verdict(good.clone()), Ok(()));
    let parent = good.parent.clone();
    assert!(matches!(
        verdict(Position { timestamp_ms: parent.timestamp_ms, ..good.clone() }),
        Err(Invalid::Timestamp { .. })
    ));
    assert_eq!(verdict(Position { l1: parent.l1, ..good.clone() }), Ok(()), "the origin may stay");
    let origins = [
        L1Origin { number: parent.l1.number - 1, ..good.l1 },
        L1Origin { number: parent.l1.number, ..good.l1 },
        L1Origin { hash: good.l1.hash, ..parent.l1 },
        L1Origin { timestamp: parent.l1.timestamp - 1, ..good.l1 },
    ];
    for l1 in origins {
        assert!(matches!(verdict(Position { l1, ..good.clone() }), Err(Invalid::L1 { .. })), "{l1:?}");
    }
}
