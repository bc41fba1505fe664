//! Is every fact that is none refused, with its reason, by a verifier, and left out by a proposer?

use proptest::prelude::*;

use lockstep_protocol::{
    body::{Body, CheckedBody, Facts, Invalid, Section},
    ids::{Address20, Hash32, Height, NetworkId, RollupId, SettlementId},
    settlement::{
        Abort, FactError, HeadAttestation, HeadCertificate, LegStatus, Level, Observation, SignedAbort, Subject, Void,
        proof::ProofNode,
    },
    state::Stored,
    transition::apply,
    wire::Wire,
};

use super::world::{World, escrow_of, hub_of, settlement_genesis};
use crate::fixture::key;

/// A log with a third rollup that takes no part, a settlement that is ordered and prepared on its first rollup, and its head.
struct Ready {
    world: World,
    settlement: SettlementId,
    number: u64,
}

fn ready() -> Ready {
    let mut genesis = settlement_genesis(&[10, 901]);
    genesis.rollups.push(lockstep_protocol::genesis::Rollup::new(
        RollupId(42_161),
        "alone",
        lockstep_protocol::genesis::Format::Eip2718,
        1,
    ));
    let mut world = World::from_genesis_of(genesis, &[10, 901]);
    let signed = world.transfer(0, 10, 901, 50, 20);
    let settlement = signed.bundle.settlement().unwrap();
    assert!(world.advance(Facts::default(), vec![signed]).left_out.is_empty());
    world.prepare(&settlement, 10);
    let head = world.certify(10, Level::Executed);
    world.advance(Facts { heads: vec![head], ..Facts::default() }, vec![]);
    let number = world.chains[&10].number();
    Ready { world, settlement, number }
}

impl Ready {
    fn subject(&self, leg: u8) -> Subject {
        Subject::Leg { settlement: self.settlement, leg }
    }

    fn observation(&self) -> Observation {
        self.world.chains[&10].observe(Level::Executed, self.number, escrow_of(10), [self.subject(0)])
    }

    fn refused(&self, facts: Facts) -> FactError {
        let Facts { heads, observations, voids, leases, aborts } = facts.clone();
        let body = Body { heads, observations, voids, leases, aborts, ..Body::default() };
        let error = match self.world.network.apply(body) {
            Err(Invalid::Fact { index: 0, error, .. }) => error,
            other => panic!("expected a fact to be refused, found {other:?}"),
        };
        let built = self.world.network.build_with(facts, vec![], vec![]);
        assert!(built.body.facts().is_empty(), "a proposer leaves it out: {error}");
        error
    }

    fn observed(&self, observation: Observation) -> FactError {
        self.refused(Facts { observations: vec![observation], ..Facts::default() })
    }
}

#[test]
fn heads_are_refused_with_a_reason() {
    let ready = ready();
    let world = &ready.world;
    let chain = &world.chains[&10];
    let good = chain.head(Level::Executed, ready.number, 0);
    let next = lockstep_protocol::settlement::Head { number: ready.number + 1, ..good };
    let refused = |certificate| ready.refused(Facts { heads: vec![certificate], ..Facts::default() });
    let alone = lockstep_protocol::settlement::Head { rollup: RollupId(42_161), ..next };
    assert_eq!(refused(world.sign(alone, &[0, 1, 2])), FactError::NoParticipant { rollup: RollupId(42_161) });
    assert_eq!(refused(world.sign(next, &[0, 1])), FactError::Quorum { found: 2, needed: 3 });
    assert_eq!(refused(world.sign(next, &[0, 1, 1])), FactError::Signers);
    let mut stranger = world.sign(next, &[0, 1, 2]);
    stranger.signatures[2].validator = 4;
    assert_eq!(refused(stranger), FactError::UnknownValidator { validator: 4 });
    let latest = ready.number;
    let rollup = RollupId(10);
    assert_eq!(refused(world.sign(good, &[0, 1, 2])), FactError::StaleHead { rollup, number: latest, latest });
    let later = |incarnation| lockstep_protocol::settlement::Head { incarnation, ..next };
    assert_eq!(refused(world.sign(later(1), &[0, 1, 2])), FactError::NoConflict { rollup, number: latest + 1 });
    assert_eq!(refused(world.sign(later(2), &[0, 1, 2])), FactError::Incarnation { rollup, current: 0, found: 2 });
    // A signature over another head, and one validator's in the name of another.
    for place in 0..3 {
        let mut forged = world.sign(next, &[0, 1, 2]);
        forged.signatures[place].signature = world.attest(next, 3).signature;
        let body = Body { heads: vec![forged], ..Body::default() };
        assert_eq!(world.network.apply(body), Err(Invalid::Signature));
    }
    assert!(world.attest(next, 1).check(world.rules()).is_ok());
    let mut lie = world.attest(next, 1);
    lie.head.number += 1;
    assert_eq!(lie.check(world.rules()), Err(FactError::Signature));
}

#[test]
fn observations_are_refused_with_a_reason() {
    let ready = ready();
    let world = &ready.world;
    let good = ready.observation();
    let (rollup, settlement, number) = (RollupId(10), ready.settlement, ready.number);
    let level = Level::Executed;
    let with = |change: &dyn Fn(&mut Observation)| {
        let mut observation = good.clone();
        change(&mut observation);
        ready.observed(observation)
    };
    assert_eq!(with(&|o| o.rollup = RollupId(42_161)), FactError::NoParticipant { rollup: RollupId(42_161) });
    assert_eq!(with(&|o| o.number += 1), FactError::UnknownHead { rollup, level, number: number + 1 });
    assert_eq!(with(&|o| o.number += 256), FactError::UnknownHead { rollup, level, number: number + 256 });
    assert_eq!(with(&|o| o.level = Level::Final), FactError::UnknownHead { rollup, level: Level::Final, number });
    assert_eq!(with(&|o| o.claims.clear()), FactError::NoClaims);
    assert_eq!(with(&|o| o.claims.push(o.claims[0].clone())), FactError::Claims);
    assert!(matches!(with(&|o| o.contract = Address20([9; 20])), FactError::AccountProof(_) | FactError::NoContract));
    assert!(matches!(with(&|o| o.account_proof[0].0[5] ^= 1), FactError::AccountProof(_)));
    assert!(matches!(with(&|o| o.account_proof.clear()), FactError::AccountProof(_)));
    assert!(matches!(with(&|o| o.claims[0].proof[0].0[5] ^= 1), FactError::StorageProof(_)));
    assert!(matches!(with(&|o| o.claims[0].proof.push(ProofNode(vec![0x80]))), FactError::StorageProof(_)));
    // The slot of another leg, under this leg's name.
    assert_eq!(with(&|o| o.claims[0].subject = ready.subject(1)), FactError::WrongContract { leg: 1 });
    assert_eq!(with(&|o| o.claims[0].subject = ready.subject(2)), FactError::UnknownLeg { settlement, leg: 2 });
    let unknown = SettlementId([1; 32]);
    let other = Subject::Leg { settlement: unknown, leg: 0 };
    assert_eq!(with(&|o| o.claims[0].subject = other), FactError::UnknownSettlement { settlement: unknown });
    let at_hub = world.chains[&10].observe(level, number, hub_of(10), [ready.subject(0)]);
    assert_eq!(ready.observed(at_hub), FactError::WrongContract { leg: 0 });
    let deposit = Subject::Deposit { account: key(0).account() };
    let at_escrow = world.chains[&10].observe(level, number, escrow_of(10), [deposit]);
    assert_eq!(ready.observed(at_escrow), FactError::WrongContract { leg: 0 });
    let nothing = world.chains[&10].observe(level, number, hub_of(10), [deposit]);
    assert_eq!(ready.observed(nothing), FactError::NothingNew);
}

#[test]
fn a_leg_that_says_what_cannot_be_is_refused() {
    for status in [LegStatus::Committed, LegStatus::Released, LegStatus::Shortfall] {
        let Ready { mut world, settlement, .. } = ready();
        world.chains.get_mut(&10).unwrap().mine(|state| _ = state.escrow.legs.insert((settlement, 0), status));
        let head = world.certify(10, Level::Executed);
        world.advance(Facts { heads: vec![head], ..Facts::default() }, vec![]);
        let number = world.chains[&10].number();
        let ready = Ready { world, settlement, number };
        assert_eq!(ready.observed(ready.observation()), FactError::Contradiction { leg: 0, status: status as u8 });
    }
}

#[test]
fn a_leg_that_wants_a_safe_head_is_not_shown_by_an_executed_one() {
    let mut world = World::new(&[10, 901]);
    let mut signed = world.transfer(0, 10, 901, 50, 20);
    let mut transfer = signed.bundle.transfer().unwrap().clone();
    transfer.legs[0].level = Level::Safe;
    let nonce = world.next_nonce(0);
    signed = world.settle(0, nonce, transfer);
    let settlement = signed.bundle.settlement().unwrap();
    world.advance(Facts::default(), vec![signed]);
    world.prepare(&settlement, 10);
    assert!(world.show(10).body.observations.is_empty(), "executed is too little");
    assert_eq!(world.show_at(10, Level::Safe).body.observations.len(), 1);
}

#[test]
fn voids_are_refused_with_a_reason() {
    let ready = ready();
    let refused = |world: &Ready, void| world.refused(Facts { voids: vec![void], ..Facts::default() });
    let deadline = ready.world.intents[&ready.settlement].transfer.deadline;
    let void = ready.world.void(&ready.settlement, 0, ready.number);
    assert_eq!(refused(&ready, void.clone()), FactError::TooEarly { deadline, height: ready.world.network.next() });
    let settlement = ready.settlement;
    let with_leg = |leg| Void { leg, ..void.clone() };
    assert_eq!(refused(&ready, with_leg(2)), FactError::UnknownLeg { settlement, leg: 2 });
    let mut foreign = void.clone();
    foreign.intent.transfer.legs[0].escrow = Address20([1; 20]);
    assert_eq!(refused(&ready, foreign), FactError::WrongContract { leg: 0 });
    let mut ready = ready;
    ready.world.pass(30);
    let void = ready.world.void(&settlement, 0, ready.number);
    assert_eq!(refused(&ready, void), FactError::Known { settlement });
    // Never ordered, and nothing stands prepared.
    let signed = ready.world.transfer(0, 10, 901, 50, 5);
    let settlement = signed.bundle.settlement().unwrap();
    ready.world.pass(10);
    let void = ready.world.void(&settlement, 0, ready.number);
    assert_eq!(refused(&ready, void), FactError::NothingNew);
}

#[test]
fn aborts_are_refused_with_a_reason() {
    let mut ready = ready();
    let network = ready.world.rules().network;
    let abort =
        |who: u8, settlement, network| Abort { network, account: key(who).account(), settlement }.sign(&key(who));
    let refused = |ready: &Ready, signed| ready.refused(Facts { aborts: vec![signed], ..Facts::default() });
    let settlement = ready.settlement;
    assert_eq!(refused(&ready, abort(1, settlement, network)), FactError::NotOwner);
    assert_eq!(refused(&ready, abort(0, settlement, NetworkId([1; 32]))), FactError::WrongNetwork);
    let unknown = SettlementId([1; 32]);
    assert_eq!(refused(&ready, abort(0, unknown, network)), FactError::UnknownSettlement { settlement: unknown });
    let mut forged = abort(0, settlement, network);
    forged.signature = abort(1, settlement, network).signature;
    assert_eq!(forged.check_signature(), Err(FactError::Signature));
    let body = Body { aborts: vec![forged], ..Body::default() };
    assert_eq!(ready.world.network.apply(body), Err(Invalid::Signature));
    let good = abort(0, settlement, network);
    ready.world.advance(Facts { aborts: vec![good], ..Facts::default() }, vec![]);
    assert_eq!(refused(&ready, good), FactError::Known { settlement });
}

#[test]
fn facts_out_of_order_make_a_body_invalid_and_a_proposer_sorts_them() {
    let ready = ready();
    let mut world = ready.world;
    for rollup in [10, 901] {
        world.chains.get_mut(&rollup).unwrap().mine(|_| {});
    }
    let heads = vec![world.certify(901, Level::Executed), world.certify(10, Level::Executed)];
    let body = Body { heads: heads.clone(), ..Body::default() };
    assert_eq!(world.network.apply(body), Err(Invalid::FactOrder { section: Section::Head, index: 1 }));
    let twice = vec![heads[1].clone(), heads[1].clone(), heads[0].clone()];
    let body = Body { heads: twice.clone(), ..Body::default() };
    assert_eq!(world.network.apply(body), Err(Invalid::FactOrder { section: Section::Head, index: 1 }));
    let block = world.advance(Facts { heads: twice, ..Facts::default() }, vec![]);
    assert_eq!(block.body.heads.iter().map(|head| head.head.rollup.0).collect::<Vec<_>>(), [10, 901]);
}

#[test]
fn evidence_over_half_a_body_is_invalid_and_a_proposer_keeps_within() {
    let ready = ready();
    let mut world = ready.world;
    let mut large = ready_observation(&world, ready.settlement, ready.number);
    // Nodes that prove nothing, as large as they may be.
    large.claims[0].proof = vec![ProofNode(vec![1; 640]); 32];
    let observations: Vec<_> =
        (0..30).map(|index| Observation { number: ready.number + index, ..large.clone() }).collect();
    let body = Body { observations: observations.clone(), ..Body::default() };
    assert!(matches!(world.network.apply(body), Err(Invalid::EvidenceBytes { found }) if found > 512 * 1024));
    assert!(world.advance(Facts { observations, ..Facts::default() }, vec![]).body.observations.is_empty());
}

fn ready_observation(world: &World, settlement: SettlementId, number: u64) -> Observation {
    world.chains[&10].observe(Level::Executed, number, escrow_of(10), [Subject::Leg { settlement, leg: 0 }])
}

#[test]
fn two_roots_of_one_incarnation_leave_a_rollup_without_a_head() {
    let mut world = ready().world;
    let chain = &world.chains[&10];
    let number = chain.number();
    let mut other = chain.head(Level::Safe, number, 0);
    other.state_root = Hash32([7; 32]);
    let certificate = world.sign(other, &[0, 1, 2]);
    world.advance(Facts { heads: vec![certificate], ..Facts::default() }, vec![]);
    let record = world.rollup(10);
    assert_eq!((record.incarnation, record.latest), (1, [None; 3]));
    assert!(record.quarantined_until > Height(200));
    let ready = Ready { settlement: SettlementId([0; 32]), number, world };
    let observation = ready_observation(&ready.world, ready.settlement, number);
    let (rollup, level) = (RollupId(10), Level::Executed);
    assert_eq!(ready.observed(observation), FactError::UnknownHead { rollup, level, number });
}

#[test]
fn the_largest_record_of_each_kind_fits() {
    use lockstep_protocol::settlement::{AbortReason, Decision, Head, records::*};
    let account = key(0).account();
    let record = SettlementRecord {
        account,
        nonce: u64::MAX,
        deadline: Height(u64::MAX),
        decided: Some(Decided { decision: Decision::Abort(AbortReason::Unknown), height: Height(u64::MAX) }),
        settled: true,
        late: u8::MAX,
        legs: vec![
            LegRecord { rollup: 1, escrow: 2, level: Level::Final, seen: Seen::Shortfall, incarnation: u32::MAX };
            8
        ],
        flows: vec![FlowRecord { corridor: u8::MAX, amount: u128::MAX }; 7],
    };
    assert_eq!(SettlementRecord::from_record(&record.to_record()), Ok(record));
    let head = Head {
        rollup: RollupId(u64::MAX),
        level: Level::Final,
        number: u64::MAX,
        block_hash: Hash32([255; 32]),
        state_root: Hash32([255; 32]),
        incarnation: u32::MAX,
    };
    let record = HeadRecord { head, height: Height(u64::MAX) };
    assert_eq!(HeadRecord::from_record(&record.to_record()), Ok(record));
    let due = Due { settlement: SettlementId([255; 32]), account };
    let page = DuePage { deadline: Height(u64::MAX), count: u32::MAX, entries: vec![due; 3] };
    assert_eq!(DuePage::from_record(&page.to_record()), Ok(page));
    let page = ExposurePage { under_way: [u128::MAX; 15] };
    assert_eq!(ExposurePage::from_record(&page.to_record()), Ok(page));
    let record = InFlightRecord { open: u32::MAX, amounts: [u128::MAX; 8] };
    assert_eq!(InFlightRecord::from_record(&record.to_record()), Ok(record));
}

fn canonical<T: lockstep_protocol::wire::Wire>(bytes: &[u8]) {
    if let Ok(message) = T::from_wire(bytes) {
        assert_eq!(message.to_wire(), bytes);
    }
}

proptest! {
    #![proptest_config(crate::config(128))]

    #[test]
    fn facts_that_were_touched_never_panic_a_decoder_or_the_transition(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let Ready { mut world, settlement, number } = ready();
        let observation = ready_observation(&world, settlement, number);
        world.chains.get_mut(&10).unwrap().mine(|_| {});
        let head = world.certify(10, Level::Executed);
        let void = world.void(&settlement, 0, number);
        let account = key(0).account();
        let abort = Abort { network: world.rules().network, account, settlement }.sign(&key(0));
        let body = Body { heads: vec![head.clone()], observations: vec![observation.clone()], aborts: vec![abort], ..Body::default() };
        let mut messages = [
            head.to_wire(), observation.to_wire(), void.to_wire(), abort.to_wire(), body.to_wire(),
            world.attest(head.head, 2).to_wire(),
        ];
        for bytes in &mut messages {
            for (at, value) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            canonical::<HeadCertificate>(bytes);
            canonical::<HeadAttestation>(bytes);
            canonical::<Observation>(bytes);
            canonical::<Void>(bytes);
            canonical::<SignedAbort>(bytes);
            canonical::<Body>(bytes);
        }
        if let Ok(touched) = Body::from_wire(&messages[4]) {
            // With signatures vouched for, so that the transition is reached.
            if let Ok(checked) = CheckedBody::new(touched, world.rules(), |_, _| true) {
                let records = world.network.stage_for(&checked);
                let _ = apply(world.rules(), &world.network.position(), &checked, &records);
            }
        }
    }
}
