//! Do honest signatures make certificates, and can a liar keep them from it?

use lockstep_protocol::{
    ids::{Account, Hash32, Height},
    settlement::{head::Ed25519Bytes, records::RollupRecord},
    signature::{AccountKey, Signature},
};

use super::*;
use crate::{fixture, rollups::participant};

const ROLLUP: RollupId = fixture::ROLLUP_A;

fn keys() -> Vec<AccountKey> {
    let mut keys: Vec<_> = (0..4).map(|seed| AccountKey::ed25519([0x51 + seed; 32])).collect();
    keys.sort_by_key(AccountKey::account);
    keys
}

fn name(key: &AccountKey) -> Hash32 {
    let Account::Ed25519(name) = key.account() else { panic!("validators have ed25519 keys") };
    name
}

fn rules() -> Rules {
    let mut genesis = fixture::genesis();
    genesis.validators = keys().iter().map(name).collect();
    genesis.rollups[0].settlement = Some(participant(ROLLUP));
    genesis.settlement = Some(crate::rollups::settlement_config(&[ROLLUP]));
    genesis.rules().expect("good")
}

fn head(level: Level, number: u64, block: u8, incarnation: u32) -> Head {
    let (block_hash, state_root) = (Hash32([block; 32]), Hash32([block; 32]));
    Head { rollup: ROLLUP, level, number, block_hash, state_root, incarnation }
}

fn executed(number: u64) -> Head {
    head(Level::Executed, number, 1, 0)
}

fn attest(rules: &Rules, validator: u8, head: Head) -> HeadAttestation {
    let key = &keys()[usize::from(validator)];
    let Signature::Ed25519(signature) = key.sign(&head.digest(rules.network, &name(key)).0) else { panic!("ed25519") };
    HeadAttestation { head, validator, signature: Ed25519Bytes(signature) }
}

fn latest(number: Option<u64>, incarnation: u32) -> RollupView {
    let record = RollupRecord { incarnation, latest: [number, None, None], seen_at: Height(1), ..Default::default() };
    RollupView::of(record, [])
}

fn offered(attestations: &Attestations, view: &RollupView, also: u64) -> Vec<u64> {
    attestations.best(view, ROLLUP, |head| head.number == also).map(|certificate| certificate.head.number).collect()
}

#[test]
fn three_of_four_make_a_certificate_that_the_log_takes_for_one() {
    let rules = rules();
    let mut attestations = Attestations::default();
    for (validator, taken) in [(3, Taken::New), (0, Taken::New), (0, Taken::Known), (2, Taken::Certified)] {
        assert_eq!(attestations.insert(&rules, attest(&rules, validator, executed(5))), taken);
    }
    assert_eq!(attestations.insert(&rules, attest(&rules, 1, executed(5))), Taken::New, "one certificate is enough");
    let certificate = attestations.certificate(&latest(None, 0), ROLLUP, Level::Executed, 5).expect("made");
    certificate.check_shape(&rules).expect("well formed");
    for signed in certificate.signed(&rules) {
        let (account, digest, signature) = signed.expect("known validators");
        lockstep_protocol::signature::verify(&account, &digest.0, &signature).expect("signed");
    }
    assert_eq!(offered(&attestations, &latest(Some(4), 0), 0), [5]);
    assert_eq!(offered(&attestations, &latest(Some(5), 0), 0), [0; 0], "the log has it");
}

#[test]
fn of_many_certified_heads_the_highest_is_offered_and_those_that_are_asked_for() {
    let rules = rules();
    let mut attestations = Attestations::default();
    for number in 5..=9 {
        for validator in 0..3 {
            attestations.insert(&rules, attest(&rules, validator, executed(number)));
        }
    }
    let view = latest(Some(4), 0);
    assert_eq!(offered(&attestations, &view, 0), [9]);
    assert_eq!(offered(&attestations, &view, 7), [7, 9]);
    attestations.prune(ROLLUP, &latest(Some(7), 0));
    assert!(attestations.certificate(&view, ROLLUP, Level::Executed, 7).is_none(), "forgotten");
    assert_eq!(offered(&attestations, &view, 7), [9]);
    attestations.prune(ROLLUP, &latest(None, 1));
    assert_eq!(offered(&attestations, &view, 7), [0; 0], "a history that was left");
}

#[test]
fn a_reorganization_is_offered_alone() {
    let rules = rules();
    let mut attestations = Attestations::default();
    let replaced = head(Level::Executed, 6, 2, 1);
    for validator in 0..3 {
        attestations.insert(&rules, attest(&rules, validator, executed(8)));
        attestations.insert(&rules, attest(&rules, validator, replaced));
    }
    let record = RollupRecord { latest: [Some(7), None, None], ..RollupRecord::default() };
    let view = RollupView::of(record, [executed(6), executed(7)]);
    assert_eq!(offered(&attestations, &view, 8), [6]);
    assert_eq!(offered(&attestations, &RollupView::of(record, [executed(7)]), 0), [8], "it contradicts nothing there");
}

#[test]
fn a_second_block_of_a_number_is_a_lie_at_whatever_level() {
    let rules = rules();
    let mut attestations = Attestations::default();
    let first = attest(&rules, 1, executed(5));
    attestations.insert(&rules, first);
    for lie in [head(Level::Executed, 5, 2, 0), head(Level::Final, 5, 2, 0)] {
        assert_eq!(attestations.insert(&rules, attest(&rules, 1, lie)), Taken::Equivocation(first));
    }
    let root = Head { state_root: Hash32([9; 32]), ..executed(5) };
    assert_eq!(attestations.insert(&rules, attest(&rules, 1, root)), Taken::Equivocation(first));
    for honest in [head(Level::Final, 5, 1, 0), head(Level::Executed, 5, 2, 1), executed(6)] {
        assert_eq!(attestations.insert(&rules, attest(&rules, 1, honest)), Taken::New);
    }
    // The lie counts for nothing: with two others there is no quorum for it.
    let lie = head(Level::Executed, 5, 2, 0);
    for validator in [2, 3] {
        assert_eq!(attestations.insert(&rules, attest(&rules, validator, lie)), Taken::New);
    }
    assert!(attestations.certificate(&latest(None, 0), ROLLUP, Level::Executed, 5).is_none());
}

#[test]
fn a_flood_of_one_validator_displaces_only_its_own() {
    let rules = rules();
    let mut attestations = Attestations::default();
    for validator in 0..2 {
        attestations.insert(&rules, attest(&rules, validator, executed(5)));
    }
    for number in 0..2 * KEPT_MAX as u64 {
        let mut far = attest(&rules, 3, executed(5));
        far.head.number = u64::MAX - number;
        attestations.insert(&rules, far);
    }
    assert_eq!(attestations.by_validator[&(ROLLUP, Level::Executed, 3)].len(), KEPT_MAX);
    assert_eq!(attestations.insert(&rules, attest(&rules, 2, executed(5))), Taken::Certified);
}
