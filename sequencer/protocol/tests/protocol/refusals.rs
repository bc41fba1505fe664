//! Is every reason for a refusal produced by what it names, and told apart from the others?

use lockstep_protocol::{
    body::{CheckedBundle, Invalid},
    bundle::{Bundle, Cancel, NonceRange, SignedBundle, SignedCancel, Transaction},
    ids::{Address20, AssetId, Height, NetworkId, RollupId, SettlementId},
    limits::{
        LIMITS, MAX_BUNDLE_BYTES, MAX_LEG_BYTES, MAX_LEGS, MAX_TRANSACTION_BYTES, MAX_TRANSACTIONS_PER_LEG,
        MAX_VALIDITY, NONCE_WINDOW,
    },
    refusal::Refusal,
    transition::check_validity,
};

use crate::fixture::{Network, ROLLUPS, key, leg};

/// What a node says to a bundle by itself.
fn refused(network: &Network, change: impl FnOnce(&mut Bundle)) -> Refusal {
    let mut bundle = network.bundle(0, 0, &[10, 901]);
    change(&mut bundle);
    CheckedBundle::new(bundle.sign(&key(0)), &network.rules).expect_err("the bundle is bad")
}

/// What the log says to a bundle.
fn left_out(network: &Network, signed: SignedBundle) -> Refusal {
    let mut left_out = network.build(vec![], vec![signed]).left_out;
    left_out.pop().expect("the bundle does not fit").1
}

fn cancel_refused(network: &Network, signed: SignedCancel) -> Refusal {
    let body = lockstep_protocol::body::Body { cancels: vec![signed], ..Default::default() };
    match network.apply(body) {
        Err(Invalid::Cancel { index: 0, refusal }) => refusal,
        other => panic!("{other:?}"),
    }
}

fn network() -> Network {
    let mut network = Network::new(4, 10_000, &ROLLUPS);
    network.advance(vec![], vec![]);
    network
}

#[test]
fn a_bundle_within_every_limit_is_not_refused() {
    let network = network();
    assert!(CheckedBundle::new(network.signed(0, 0, &[10, 901]), &network.rules).is_ok());
    assert!(network.build(vec![], vec![network.signed(0, 0, &[10, 901])]).left_out.is_empty());
}

#[test]
fn a_bundle_of_bad_shape_is_refused_with_the_first_thing_that_is_wrong() {
    let network = network();
    let foreign = NetworkId::from_name("another");
    assert_eq!(
        refused(&network, |b| b.network = foreign),
        Refusal::WrongNetwork { expected: network.rules.network, found: foreign }
    );
    assert_eq!(refused(&network, |b| b.legs.clear()), Refusal::NoLegs);
    let many = |b: &mut Bundle| b.legs = (0..9).map(|rollup| leg(rollup, &[b"x"])).collect();
    assert_eq!(refused(&network, many), Refusal::TooManyLegs { max: MAX_LEGS, found: 9 });
    assert_eq!(refused(&network, |b| b.legs.swap(0, 1)), Refusal::UnsortedLegs { rollup: RollupId(10) });
    let repeat = |b: &mut Bundle| b.legs[1].rollup = b.legs[0].rollup;
    assert_eq!(refused(&network, repeat), Refusal::RepeatedLeg { rollup: RollupId(10) });
    let empty = |b: &mut Bundle| b.legs[1].transactions.clear();
    assert_eq!(refused(&network, empty), Refusal::EmptyLeg { rollup: RollupId(901) });
    let many = |b: &mut Bundle| b.legs[0].transactions = vec![Transaction(vec![1]); MAX_TRANSACTIONS_PER_LEG + 1];
    assert_eq!(
        refused(&network, many),
        Refusal::TooManyTransactions { rollup: RollupId(10), max: 64, found: MAX_TRANSACTIONS_PER_LEG + 1 }
    );
    let large = |b: &mut Bundle| b.legs[0].transactions = vec![Transaction(vec![1; MAX_TRANSACTION_BYTES + 1])];
    assert_eq!(
        refused(&network, large),
        Refusal::OversizedTransaction {
            rollup: RollupId(10),
            max: MAX_TRANSACTION_BYTES,
            found: MAX_TRANSACTION_BYTES + 1
        }
    );
    let large = |b: &mut Bundle| b.legs[0].transactions = vec![Transaction(vec![1; MAX_TRANSACTION_BYTES / 2]); 3];
    assert_eq!(
        refused(&network, large),
        Refusal::OversizedLeg { rollup: RollupId(10), max: MAX_LEG_BYTES, found: 12 + 3 * (4 + 65_536) }
    );
    let unknown = |b: &mut Bundle| b.legs[1].rollup = RollupId(902);
    assert_eq!(refused(&network, unknown), Refusal::UnknownRollup { rollup: RollupId(902) });
}

#[test]
fn a_bundle_of_the_largest_size_is_accepted_and_one_byte_more_is_refused() {
    let network = network();
    let with = |last: usize| {
        let full = vec![1; MAX_TRANSACTION_BYTES];
        let mut bundle = network.bundle(1, 0, &[]);
        bundle.legs = vec![leg(10, &[&full]), leg(901, &[&full]), leg(42_161, &[&vec![1; last]])];
        bundle
    };
    // The signature of a secp256k1 account is the longest: it fills the envelope to the last byte.
    let rest = MAX_BUNDLE_BYTES - 67 - borsh::object_length(&with(0)).unwrap();
    let largest = with(rest).sign(&key(1));
    assert_eq!(lockstep_protocol::wire::Wire::to_wire(&largest).len(), MAX_BUNDLE_BYTES);
    assert!(CheckedBundle::new(largest, &network.rules).is_ok());
    assert_eq!(
        CheckedBundle::new(with(rest + 1).sign(&key(1)), &network.rules).unwrap_err(),
        Refusal::OversizedBundle { max: MAX_BUNDLE_BYTES, found: MAX_BUNDLE_BYTES + 1 }
    );
}

#[test]
fn a_signature_of_another_account_or_kind_is_bad() {
    let network = network();
    for other in [1, 2] {
        let signed = network.bundle(0, 0, &[10]).sign(&key(other));
        assert_eq!(CheckedBundle::new(signed, &network.rules).unwrap_err(), Refusal::BadSignature);
    }
    let mut many = vec![network.signed(0, 0, &[10]), network.signed(1, 0, &[10]), network.signed(2, 0, &[10])];
    many[1].signature = many[0].signature;
    let verdicts = CheckedBundle::new_batch(many, &network.rules);
    let verdicts: Vec<_> = verdicts.into_iter().map(|verdict| verdict.map(|_| ()).map_err(|r| r.reason())).collect();
    assert_eq!(verdicts, [Ok(()), Err("bad_signature"), Ok(())]);
}

#[test]
fn a_bundle_may_be_valid_for_the_next_height_up_to_the_furthest_and_no_other() {
    let height = Height(100);
    let expired = Refusal::Expired { valid_until: Height(99), height };
    assert_eq!(check_validity(Height(99), height), Err(expired));
    assert_eq!(check_validity(Height(100), height), Ok(()));
    let max = Height(100 + MAX_VALIDITY);
    assert_eq!(check_validity(max, height), Ok(()));
    let far = Height(max.0 + 1);
    assert_eq!(check_validity(far, height), Err(Refusal::ValidityTooFar { valid_until: far, max }));
    assert_eq!(check_validity(Height(u64::MAX), Height(u64::MAX)), Ok(()));
}

#[test]
fn the_log_refuses_what_the_state_does_not_allow() {
    let mut network = network();
    let height = network.next();
    let bundle = network.bundle(0, 0, &[10]);
    let with = |change: fn(&mut Bundle)| {
        let mut bundle = bundle.clone();
        change(&mut bundle);
        bundle.sign(&key(0))
    };
    assert_eq!(
        left_out(&network, with(|b| b.valid_until = Height(1))),
        Refusal::Expired { valid_until: Height(1), height }
    );
    assert_eq!(left_out(&network, with(|b| b.valid_until = Height(u64::MAX))).reason(), "validity_too_far");
    let needed = bundle.bytes();
    assert_eq!(
        left_out(&network, with(|b| b.max_fee = b.bytes() - 1)),
        Refusal::FeeTooLow { needed, max_fee: needed - 1 }
    );
    assert_eq!(
        left_out(&network, with(|b| b.tip = 10_001 - b.bytes())),
        Refusal::InsufficientBalance { needed: 10_001, available: 10_000 }
    );
    assert!(network.build(vec![], vec![with(|b| b.tip = 10_000 - b.bytes())]).left_out.is_empty(), "the last credit");
    assert_eq!(left_out(&network, network.signed(9, 0, &[10])), Refusal::UnknownAccount);
    assert_eq!(
        left_out(&network, network.signed(0, NONCE_WINDOW, &[10])),
        Refusal::NonceTooFarAhead { nonce: NONCE_WINDOW, highest: NONCE_WINDOW - 1 }
    );
    network.advance(vec![], vec![network.signed(0, 1_023, &[10])]);
    network.advance(vec![], vec![network.signed(0, 2_000, &[10])]);
    assert_eq!(left_out(&network, network.signed(0, 2_000, &[901])), Refusal::NonceUsed { nonce: 2_000 });
    assert_eq!(
        left_out(&network, network.signed(0, 976, &[10])),
        Refusal::NonceBelowWindow { nonce: 976, lowest: 977 }
    );
    assert!(network.build(vec![], vec![network.signed(0, 977, &[10])]).left_out.is_empty());
}

#[test]
fn what_can_never_change_is_named_before_what_may_pass() {
    let mut network = network();
    network.advance(vec![], vec![network.signed(0, 0, &[10])]);
    let hopeless = Bundle { max_fee: 0, ..network.bundle(0, 0, &[10]) }.sign(&key(0));
    assert_eq!(left_out(&network, hopeless), Refusal::NonceUsed { nonce: 0 });
}

#[test]
fn a_full_lane_refuses_by_name_and_leaves_the_others_open() {
    let mut network = Network::new(2, u64::MAX / 4, &ROLLUPS);
    network.advance(vec![], vec![]);
    let payload = vec![7; 128 * 1024];
    let mut bundles: Vec<_> = (0..4)
        .map(|nonce| {
            Bundle { tip: 1, legs: vec![leg(901, &[&payload])], ..network.bundle(0, nonce, &[]) }.sign(&key(0))
        })
        .collect();
    bundles.push(network.signed(0, 4, &[10]));
    let built = network.build(vec![], bundles);
    let reasons: Vec<_> = built.left_out.into_iter().map(|(_, refusal)| refusal).collect();
    assert_eq!(reasons, [Refusal::LaneFull { rollup: RollupId(901) }]);
    assert_eq!(built.body.bundles().len(), 4);
}

#[test]
fn a_cancel_is_refused_for_its_network_its_range_its_signature_or_because_it_is_too_late() {
    let mut network = network();
    let account = key(0).account();
    let cancel = |first, last| Cancel { network: network.rules.network, account, nonces: NonceRange { first, last } };
    let foreign = Cancel { network: NetworkId::from_name("another"), ..cancel(0, 0) };
    assert_eq!(cancel_refused(&network, foreign.sign(&key(0))).reason(), "wrong_network");
    for (first, last) in [(1, 0), (0, NONCE_WINDOW), (0, u64::MAX), (u64::MAX, 0)] {
        assert_eq!(
            cancel_refused(&network, cancel(first, last).sign(&key(0))),
            Refusal::BadNonceRange { first, last, max: NONCE_WINDOW }
        );
    }
    assert_eq!(
        cancel_refused(&network, cancel(u64::MAX - 5, u64::MAX).sign(&key(0))),
        Refusal::NonceTooFarAhead { nonce: u64::MAX, highest: NONCE_WINDOW - 1 }
    );
    assert_eq!(cancel(0, 0).sign(&key(2)).check_signature(), Err(Refusal::BadSignature));
    assert_eq!(cancel_refused(&network, network.cancel(9, 0, 0)), Refusal::UnknownAccount);
    let whole = cancel(0, NONCE_WINDOW - 1).sign(&key(0));
    network.advance(vec![whole], vec![]);
    assert_eq!(cancel_refused(&network, whole), Refusal::NothingToCancel { first: 0, last: NONCE_WINDOW - 1 });
}

/// One of each; the compiler does not say when one is missing, the count below does.
fn all() -> Vec<Refusal> {
    let (rollup, max, found, height) = (RollupId(1), 2, 3, Height(4));
    let (network, detail) = (NetworkId([0; 32]), String::from("why"));
    let (first, last, nonce) = (1, 2, 3);
    let asset = AssetId([4; 32]);
    vec![
        Refusal::Malformed { detail: detail.clone() },
        Refusal::BadSignature,
        Refusal::WrongNetwork { expected: network, found: network },
        Refusal::NoLegs,
        Refusal::TooManyLegs { max, found },
        Refusal::UnsortedLegs { rollup },
        Refusal::RepeatedLeg { rollup },
        Refusal::EmptyLeg { rollup },
        Refusal::TooManyTransactions { rollup, max, found },
        Refusal::OversizedTransaction { rollup, max, found },
        Refusal::OversizedLeg { rollup, max, found: 9 },
        Refusal::OversizedBundle { max, found },
        Refusal::UnknownRollup { rollup },
        Refusal::MalformedTransaction { rollup, index: 0, detail: detail.clone() },
        Refusal::WrongChainId { rollup, index: 0, found: None },
        Refusal::Expired { valid_until: height, height },
        Refusal::ValidityTooFar { valid_until: height, max: height },
        Refusal::UnknownAccount,
        Refusal::InsufficientBalance { needed: 1, available: 0 },
        Refusal::FeeTooLow { needed: 1, max_fee: 0 },
        Refusal::NonceUsed { nonce },
        Refusal::NonceBelowWindow { nonce, lowest: 4 },
        Refusal::NonceTooFarAhead { nonce, highest: 2 },
        Refusal::BadNonceRange { first, last, max: 1 },
        Refusal::NothingToCancel { first, last },
        Refusal::CancelPending,
        Refusal::LaneFull { rollup },
        Refusal::BodyFull,
        Refusal::TooManyOpen { max, open: 2 },
        Refusal::PoolFull { bytes: 1, tip_per_kilobyte: 2 },
        Refusal::ReplacementUnderpriced { nonce, tip: 1 },
        Refusal::SettlementLegCount { min: 2, max: 8, found },
        Refusal::ZeroAmount { leg: 1 },
        Refusal::UnbalancedAsset { asset },
        Refusal::UnmatchedLeg { rollup },
        Refusal::NoSettlements { rollup },
        Refusal::UnknownEscrow { rollup, escrow: Address20([5; 20]) },
        Refusal::NoCorridor { from: rollup, to: rollup, asset },
        Refusal::BadDeadline { deadline: height, min: height, max: height },
        Refusal::DeadlineFull { deadline: height },
        Refusal::RollupQuarantined { rollup, late: 1, shortfalls: 2, until: height },
        Refusal::RollupSilent { rollup, seen_at: height },
        Refusal::CorridorFull { from: rollup, to: rollup, asset, available: u128::MAX },
        Refusal::AccountCapReached { asset, available: 7 },
        Refusal::TooManySettlements { max: 64, open: 64 },
        Refusal::SettlementKnown { settlement: SettlementId([6; 32]) },
        Refusal::LiquidationFull { rollup },
        Refusal::NotReady { detail },
    ]
}

#[test]
fn every_reason_is_the_tag_of_its_json_and_is_read_back() {
    let all = all();
    let reasons: std::collections::BTreeSet<_> = all.iter().map(Refusal::reason).collect();
    assert_eq!(reasons.len(), 48);
    for refusal in all {
        let json = serde_json::to_value(&refusal).unwrap();
        assert_eq!(json["reason"], refusal.reason());
        assert!(!refusal.to_string().is_empty());
        assert_eq!(serde_json::from_value::<Refusal>(json).unwrap(), refusal);
    }
    let json = serde_json::to_string(&Refusal::Expired { valid_until: Height(120), height: Height(121) }).unwrap();
    assert_eq!(json, r#"{"reason":"expired","validUntil":120,"height":121}"#);
}

#[test]
fn the_published_limits_are_the_ones_in_force() {
    let json = serde_json::to_value(LIMITS).unwrap();
    assert_eq!(json["maxBundleBytes"], MAX_BUNDLE_BYTES);
    assert_eq!(json["nonceWindow"], NONCE_WINDOW);
    assert_eq!(serde_json::from_value::<lockstep_protocol::limits::Limits>(json).unwrap(), LIMITS);
}
