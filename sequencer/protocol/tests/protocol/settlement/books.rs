//! Are the books around settlements kept: caps, deadlines, quarantines, deposits, leases, classes, outcomes?

use lockstep_protocol::{
    body::{Body, Facts, Invalid},
    bundle::{Bundle, Kind, SignedBundle},
    evidence,
    ids::{Account, Address20, AssetId, Hash32, Height, RollupId, SettlementId},
    limits::{MAX_DEADLINE, MAX_DUE, MAX_HEAD_AGE, MAX_LEASE, MAX_OPEN_SETTLEMENTS, REORG_QUARANTINE},
    refusal::Refusal,
    report::Event,
    settlement::{
        Abort, AbortReason, Decision, FactError, Flow, Lease, Level, MarginTransfer, SignedLease, Subject,
        records::{LeaseRecord, Seen, lease_key},
    },
};

use super::world::{World, asset, credit, debit, hub_of, settlement_genesis};
use crate::fixture::{Network, key, leg};

fn id(signed: &SignedBundle) -> SettlementId {
    signed.bundle.settlement().expect("it is one")
}

fn refused(world: &mut World, signed: SignedBundle) -> Refusal {
    let body = Body { bundles: vec![signed.clone()], ..Body::default() };
    let verdict = world.network.apply(body);
    let left_out = world.network.build(vec![], vec![signed]).left_out;
    let (_, refusal) = left_out.into_iter().next().expect("it is refused");
    assert_eq!(verdict, Err(Invalid::Bundle { index: 0, refusal: refusal.clone() }));
    refusal
}

fn ordered(world: &mut World, signed: SignedBundle) -> SettlementId {
    let settlement = id(&signed);
    let block = world.advance(Facts::default(), vec![signed]);
    assert!(block.left_out.is_empty(), "{:?}", block.left_out);
    settlement
}

/// Orders and prepares a transfer everywhere, and shows it.
fn committed(world: &mut World, who: u8, from: u64, to: u64, amount: u128) -> SettlementId {
    let signed = world.transfer(who, from, to, amount, 30);
    let settlement = ordered(world, signed);
    for rollup in [from, to] {
        world.prepare(&settlement, rollup);
        world.show(rollup);
    }
    assert_eq!(world.settlement(&settlement).unwrap().decided.unwrap().decision, Decision::Commit);
    settlement
}

#[test]
fn a_corridor_takes_no_more_than_its_cap_and_is_free_again_once_settled() {
    let mut world = World::new(&[10, 901]);
    let first = committed(&mut world, 0, 10, 901, 600);
    let (from, to, asset) = (RollupId(10), RollupId(901), asset());
    let large = world.transfer(1, 10, 901, 401, 30);
    assert_eq!(refused(&mut world, large), Refusal::CorridorFull { from, to, asset, available: 400 });
    let fits = world.transfer(1, 10, 901, 400, 30);
    let second = ordered(&mut world, fits);
    let back = world.transfer(2, 901, 10, 300, 30);
    ordered(&mut world, back);
    let account = key(1).account();
    let abort = Abort { network: world.rules().network, account, settlement: second }.sign(&key(1));
    world.advance(Facts { aborts: vec![abort], ..Facts::default() }, vec![]);
    assert_eq!(world.under_way(0), 600, "an abort frees at once");
    for rollup in [10, 901] {
        world.relay(rollup, 9);
        world.show(rollup);
    }
    assert!(world.settlement(&first).unwrap().settled);
    assert_eq!(world.under_way(0), 0, "a commit frees once it is applied everywhere");
    assert_eq!(world.in_flight(&key(0).account()).open, 0);
}

#[test]
fn an_account_is_held_to_its_own_caps() {
    let mut world = World::new(&[10, 901]);
    let asset = asset();
    let large = world.transfer(0, 10, 901, 701, 30);
    assert_eq!(refused(&mut world, large), Refusal::AccountCapReached { asset, available: 700 });
    for _ in 0..MAX_OPEN_SETTLEMENTS {
        let small = world.transfer(0, 10, 901, 1, 4_000);
        ordered(&mut world, small);
    }
    let (max, open) = (MAX_OPEN_SETTLEMENTS, MAX_OPEN_SETTLEMENTS);
    let another = world.transfer(0, 10, 901, 1, 30);
    assert_eq!(refused(&mut world, another), Refusal::TooManySettlements { max, open });
    let others = world.transfer(1, 10, 901, 1, 30);
    ordered(&mut world, others);
}

#[test]
fn a_deadline_takes_a_bounded_number_and_decides_all_of_them() {
    let mut world = World::new(&[10, 901]);
    let deadline = Height(world.network.next().0 + 10);
    let mut bundles = Vec::new();
    for number in 0..=MAX_DUE {
        let who = (number % 2) as u8;
        let nonce = world.next_nonce(who);
        let transfer = MarginTransfer { legs: vec![debit(who, 10, 1), credit(who, 901, 1)], deadline };
        bundles.push(world.settle(who, nonce, transfer));
    }
    let last = bundles.pop().unwrap();
    let (first, second) = bundles.split_at(50);
    for part in [first, second] {
        assert!(world.advance(Facts::default(), part.to_vec()).left_out.is_empty());
    }
    assert_eq!(refused(&mut world, last), Refusal::DeadlineFull { deadline });
    while world.network.next() < deadline {
        let block = world.advance(Facts::default(), vec![]);
        assert!(block.outcome.decisions.is_empty());
    }
    let block = world.advance(Facts::default(), vec![]);
    assert_eq!(block.header.height, deadline);
    for rollup in [10, 901] {
        let decided = &block.outcome.decisions[&RollupId(rollup)];
        assert_eq!(decided.len(), MAX_DUE);
        assert!(decided.windows(2).all(|pair| pair[0].settlement < pair[1].settlement), "in the order of ids");
    }
    // A ring's length later the pages are used anew: see `DUE_RING`. Here: they hold nothing for other deadlines.
    world.pass(1);
    assert_eq!(world.under_way(0), 0);
}

#[test]
fn deadlines_are_within_bounds() {
    let mut world = World::new(&[10, 901]);
    let height = world.network.next().0;
    let (min, max) = (Height(height + 4), Height(height + MAX_DEADLINE));
    for (heights, fits) in [(0, false), (3, false), (4, true), (MAX_DEADLINE, true), (MAX_DEADLINE + 1, false)] {
        let signed = world.transfer(0, 10, 901, 1, heights);
        let deadline = signed.bundle.transfer().unwrap().deadline;
        if fits {
            assert!(world.network.build(vec![], vec![signed]).left_out.is_empty());
        } else {
            assert_eq!(refused(&mut world, signed), Refusal::BadDeadline { deadline, min, max });
        }
    }
}

#[test]
fn a_rollup_that_reorganized_or_fell_silent_takes_no_new_settlement() {
    let mut world = World::new(&[10, 901]);
    world.chains.get_mut(&10).unwrap().reorg(1);
    world.chains.get_mut(&10).unwrap().mine(|_| {});
    let block = world.show(10);
    assert_eq!((block.body.heads.len(), world.incarnation(10)), (1, 1));
    let until = Height(block.header.height.0 + REORG_QUARANTINE);
    let signed = world.transfer(0, 10, 901, 1, 30);
    let rollup = RollupId(10);
    assert_eq!(refused(&mut world, signed), Refusal::RollupQuarantined { rollup, late: 0, shortfalls: 0, until });
    world.pass(REORG_QUARANTINE);
    let signed = world.transfer(0, 10, 901, 1, 30);
    assert!(world.network.build(vec![], vec![signed]).left_out.is_empty());
    world.pass(MAX_HEAD_AGE - REORG_QUARANTINE);
    let signed = world.transfer(0, 10, 901, 1, 30);
    assert!(matches!(refused(&mut world, signed), Refusal::RollupSilent { .. }));
    world.chains.get_mut(&10).unwrap().mine(|_| {});
    world.chains.get_mut(&901).unwrap().mine(|_| {});
    world.show(10);
    world.show(901);
    let signed = world.transfer(0, 10, 901, 1, 30);
    ordered(&mut world, signed);
}

#[test]
fn what_was_seen_before_a_reorganization_does_not_count_after_it() {
    let mut world = World::new(&[10, 901]);
    let signed = world.transfer(0, 10, 901, 50, 60);
    let settlement = ordered(&mut world, signed);
    world.prepare(&settlement, 10);
    world.show(10);
    assert_eq!(world.settlement(&settlement).unwrap().legs[0].seen, Seen::Prepared);
    world.chains.get_mut(&10).unwrap().reorg(1);
    world.chains.get_mut(&10).unwrap().mine(|_| {});
    world.show(10);
    world.prepare(&settlement, 901);
    world.show(901);
    assert_eq!(world.settlement(&settlement).unwrap().decided, None, "half of it is gone");
    world.prepare(&settlement, 10);
    world.show(10);
    assert_eq!(world.settlement(&settlement).unwrap().decided.unwrap().decision, Decision::Commit);
}

#[test]
fn a_commit_that_is_redone_short_quarantines_until_it_is_covered() {
    let mut world = World::new(&[10, 901]);
    let settlement = committed(&mut world, 0, 10, 901, 50);
    let waiting = {
        let signed = world.transfer(1, 10, 901, 20, 200);
        // Ordered before the trouble.
        ordered(&mut world, signed)
    };
    // The history in which the debit stood is left, and in the new one the trader is gone.
    let chain = world.chains.get_mut(&10).unwrap();
    chain.reorg(1);
    chain.mine(|state| state.escrow.free.clear());
    chain.mine(|state| {
        for who in 1..3 {
            state.escrow.free.insert((super::world::trader(who), asset()), 2_000);
        }
    });
    world.show(10);
    world.relay(10, 9);
    world.show(10);
    assert_eq!(world.rollup(10).shortfalls, 1);
    let signed = world.transfer(1, 10, 901, 1, 30);
    assert_eq!(refused(&mut world, signed).reason(), "rollup_quarantined");
    // Evidence of another one aborts that one.
    world.prepare(&waiting, 901);
    world.show(901);
    let decided = world.settlement(&waiting).unwrap().decided.unwrap();
    assert_eq!(decided.decision, Decision::Abort(AbortReason::Quarantined));
    world.chains.get_mut(&10).unwrap().mine(|state| state.escrow.cover(settlement, 0));
    world.show(10);
    assert_eq!(world.rollup(10).shortfalls, 0);
}

#[test]
fn a_refused_leg_aborts_and_the_account_is_told_with_proof() {
    let mut world = World::new(&[10, 901]);
    let signed = world.transfer(0, 10, 901, 50, 30);
    let settlement = ordered(&mut world, signed.clone());
    world.chains.get_mut(&901).unwrap().mine(|state| _ = state.escrow.pool.insert(asset(), 49));
    world.prepare(&settlement, 901);
    let block = world.show(901);
    let decision = Decision::Abort(AbortReason::Refused);
    let account = key(0).account();
    assert!(
        block
            .outcome
            .reports
            .iter()
            .any(|(who, report)| *who == account && report.event == Event::Decided { settlement, nonce: 0, decision })
    );
    let record = world.network.account(account).unwrap();
    let reports = world.network.all_reports(account);
    assert_eq!(evidence::decision(&settlement, &record, &reports), Ok(Some(decision)));
    assert_eq!(evidence::decision(&SettlementId([1; 32]), &record, &reports), Ok(None));
    let mut shortened = reports;
    shortened.reports.pop();
    assert!(evidence::decision(&settlement, &record, &shortened).is_err());
}

#[test]
fn a_leg_of_a_settlement_that_was_never_ordered_comes_free() {
    let mut world = World::new(&[10, 901]);
    let signed = world.transfer(0, 10, 901, 50, 6);
    let settlement = id(&signed);
    world.prepare(&settlement, 10);
    world.show(10);
    world.pass(6);
    let number = world.rollup(10).latest[0].unwrap();
    let void = world.void(&settlement, 0, number);
    let block = world.advance(Facts { voids: vec![void], ..Facts::default() }, vec![]);
    assert_eq!(block.outcome.decisions.len(), 2);
    let record = world.settlement(&settlement).unwrap();
    assert_eq!(record.decided.unwrap().decision, Decision::Abort(AbortReason::Unknown));
    assert_eq!(refused(&mut world, signed).reason(), "bad_deadline", "it is too late to order it");
    world.relay(10, 9);
    assert_eq!(world.chains[&10].tip().escrow.free[&(super::world::trader(0), asset())], 2_000);
}

#[test]
fn deposits_are_credited_once_and_open_accounts() {
    let mut world = World::new(&[10, 901]);
    let newcomer = key(9).account();
    let pay = |world: &mut World, account: Account, sum: u64| {
        let chain = world.chains.get_mut(&10).unwrap();
        chain.mine(|state| *state.deposits.entry(account).or_default() += sum);
    };
    let show = |world: &mut World| {
        let head = world.certify(10, Level::Executed);
        let subjects = [newcomer, key(0).account()].map(|account| Subject::Deposit { account });
        let observation = world.chains[&10].observe(Level::Executed, head.head.number, hub_of(10), subjects);
        world.advance(Facts { heads: vec![head], observations: vec![observation], ..Facts::default() }, vec![])
    };
    let before = world.network.account(key(0).account()).unwrap().balance;
    pay(&mut world, newcomer, 500);
    pay(&mut world, key(0).account(), 30);
    show(&mut world);
    assert_eq!(world.network.account(newcomer).unwrap().balance, 500);
    assert_eq!(world.network.account(key(0).account()).unwrap().balance, before + 30);
    pay(&mut world, newcomer, 7);
    let block = show(&mut world);
    assert_eq!(block.body.observations[0].claims.len(), 1, "what is credited already is left out");
    assert_eq!(world.network.account(newcomer).unwrap().balance, 507);
    // All credits: first balances and deposits are what accounts and treasury hold.
    let accounts = [0, 1, 2, 9].map(|who| world.network.account(key(who).account()).unwrap().balance);
    let total = accounts.iter().sum::<u64>() + world.network.treasury();
    assert_eq!(total, world.rules().supply + 537);
    // More than all credits may come to.
    pay(&mut world, newcomer, u64::MAX - 600);
    let block = show(&mut world);
    assert!(block.body.observations.is_empty());
}

#[test]
fn a_lease_is_taken_renewed_and_taken_over_only_after_its_end() {
    let mut genesis = settlement_genesis(&[10, 901]);
    let mut posters = vec![key(0).account(), key(1).account()];
    posters.sort();
    genesis.rollups[0].posters = posters;
    let mut world = World::from_genesis(genesis);
    let lease = |world: &World, who: u8, heights: u64| -> SignedLease {
        let until = Height(world.network.next().0 + heights);
        let (network, rollup) = (world.rules().network, RollupId(10));
        Lease { network, rollup, holder: key(who).account(), until }.sign(&key(who))
    };
    let held = |world: &World| world.network.record::<LeaseRecord>(&lease_key(RollupId(10)));
    let refused = |world: &World, signed: SignedLease| {
        let body = Body { leases: vec![signed], ..Body::default() };
        match world.network.apply(body) {
            Err(Invalid::Fact { error, .. }) => error,
            other => panic!("expected a refusal, found {other:?}"),
        }
    };
    for heights in [0, MAX_LEASE + 1] {
        assert!(matches!(refused(&world, lease(&world, 0, heights)), FactError::LeaseTerm { .. }));
    }
    let stranger = lease(&world, 2, 5);
    let account = key(2).account();
    assert_eq!(refused(&world, stranger), FactError::NoPoster { rollup: RollupId(10), account });
    let first = lease(&world, 0, 5);
    world.advance(Facts { leases: vec![first], ..Facts::default() }, vec![]);
    let holder = key(0).account();
    assert_eq!(held(&world), Some(LeaseRecord { holder, until: first.lease.until, term: 1 }));
    let until = first.lease.until;
    assert_eq!(refused(&world, lease(&world, 1, 9)), FactError::LeaseHeld { holder, until });
    assert_eq!(refused(&world, first), FactError::NothingNew);
    let renewed = lease(&world, 0, 6);
    world.advance(Facts { leases: vec![renewed], ..Facts::default() }, vec![]);
    while world.network.next() <= renewed.lease.until {
        assert!(matches!(refused(&world, lease(&world, 1, 9)), FactError::LeaseHeld { .. }));
        world.pass(1);
    }
    let second = lease(&world, 1, 9);
    let mut forged = second;
    forged.lease.until = Height(forged.lease.until.0 + 1);
    assert_eq!(forged.check_signature(), Err(FactError::Signature));
    world.advance(Facts { leases: vec![second], ..Facts::default() }, vec![]);
    assert_eq!(held(&world).unwrap().term, 2);
    assert_eq!(held(&world).unwrap().holder, key(1).account());
}

#[test]
fn liquidators_go_first_within_their_share_then_settlements_then_all_others() {
    let mut genesis = settlement_genesis(&[10, 901]);
    genesis.rollups[0].liquidators = vec![key(2).account()];
    genesis.rollups[0].liquidation_bytes = 100;
    let mut world = World::from_genesis(genesis);
    let plain = |world: &World, who: u8, nonce, tip, rollups: &[u64]| {
        Bundle { tip, ..world.network.bundle(who, nonce, rollups) }.sign(&key(who))
    };
    let settlement = world.transfer(0, 10, 901, 5, 30);
    let rich = plain(&world, 1, 0, 900_000, &[10]);
    let liquidation = plain(&world, 2, 0, 0, &[10]);
    // Not a liquidator there.
    let elsewhere = plain(&world, 2, 1, 1, &[10, 901]);
    let too_large = Bundle { legs: vec![leg(10, &[&[7; 90]])], ..world.network.bundle(2, 2, &[]) }.sign(&key(2));
    let bundles = vec![rich.clone(), too_large.clone(), settlement.clone(), elsewhere.clone(), liquidation.clone()];
    let block = world.advance(Facts::default(), bundles);
    let ids: Vec<_> = block.body.bundles.iter().map(|signed| signed.bundle.id()).collect();
    let expected = [liquidation, settlement, rich, elsewhere].map(|signed| signed.bundle.id());
    assert_eq!(ids, expected);
    let refusal = Refusal::LiquidationFull { rollup: RollupId(10) };
    assert_eq!(block.left_out, [(too_large.bundle.id(), refusal)]);
    let mut body = block.body;
    body.bundles.swap(0, 1);
    assert!(matches!(world.network.apply(body), Err(Invalid::BundleOrder { index: 1 })));
}

#[test]
fn a_settlement_of_bad_shape_is_refused_with_a_reason() {
    let mut world = World::new(&[10, 901, 42_161]);
    let deadline = Height(world.network.next().0 + 20);
    let mut shape = |legs: Vec<_>| {
        let nonce = world.next_nonce(0);
        let signed = world.settle(0, nonce, MarginTransfer { legs, deadline });
        lockstep_protocol::body::CheckedBundle::new(signed, world.rules()).map(|_| ()).unwrap_err()
    };
    let (d, c) = (debit(0, 10, 5), credit(0, 901, 5));
    assert_eq!(shape(vec![d]), Refusal::SettlementLegCount { min: 2, max: 8, found: 1 });
    assert_eq!(shape([d, c].repeat(5)), Refusal::SettlementLegCount { min: 2, max: 8, found: 10 });
    assert_eq!(shape(vec![d, credit(0, 901, 4)]), Refusal::UnbalancedAsset { asset: asset() });
    assert_eq!(shape(vec![d, d]), Refusal::UnbalancedAsset { asset: asset() });
    assert_eq!(
        shape(vec![debit(0, 10, u128::MAX), debit(0, 10, 1), credit(0, 901, 1), credit(0, 901, u128::MAX)]),
        Refusal::UnbalancedAsset { asset: asset() }
    );
    assert_eq!(shape(vec![d, c, debit(0, 10, 0)]), Refusal::ZeroAmount { leg: 2 });
    let mut elsewhere = c;
    elsewhere.escrow = Address20([1; 20]);
    assert_eq!(shape(vec![d, elsewhere]), Refusal::UnknownEscrow { rollup: RollupId(901), escrow: Address20([1; 20]) });
    // A transfer within one rollup has no corridor here; nor has an asset that is not listed.
    let other = AssetId::from_symbol("WETH");
    let [mut d2, mut c2] = [d, c];
    (d2.asset, c2.asset) = (other, other);
    let nonce = world.next_nonce(0);
    let signed = world.settle(0, nonce, MarginTransfer { legs: vec![d2, c2], deadline });
    let (from, to) = (RollupId(10), RollupId(901));
    assert_eq!(refused(&mut world, signed), Refusal::NoCorridor { from, to, asset: other });
    // Legs of the bundle and of the settlement must match.
    let transfer = MarginTransfer { legs: vec![d, c], deadline };
    for rollups in [vec![10], vec![10, 901, 42_161]] {
        let bundle = Bundle { kind: Kind::Settlement(transfer.clone()), ..world.network.bundle(0, 9, &rollups) };
        assert!(matches!(bundle.check_shape(world.rules().network), Err(Refusal::UnmatchedLeg { .. })));
    }
    // Where nothing is configured, nothing settles.
    let plain = Network::new(1, 1, &[10, 901]);
    let bundle = Bundle { kind: Kind::Settlement(transfer), ..plain.bundle(0, 0, &[10, 901]) };
    let refusal = lockstep_protocol::body::CheckedBundle::new(bundle.sign(&key(0)), &plain.rules).unwrap_err();
    assert_eq!(refusal, Refusal::NoSettlements { rollup: RollupId(10) });
}

#[test]
fn debits_fill_credits_in_the_order_of_the_legs() {
    let legs = vec![debit(0, 10, 5), debit(0, 901, 4), credit(0, 42_161, 3), credit(0, 10, 6)];
    let flows = MarginTransfer { legs, deadline: Height(1) }.flows().unwrap();
    let asset = asset();
    let flow = |from, to, amount| Flow { from: RollupId(from), to: RollupId(to), asset, amount };
    assert_eq!(flows, [flow(10, 10, 2), flow(10, 42_161, 3), flow(901, 10, 4)]);
}

#[test]
fn a_genesis_that_cannot_settle_is_refused() {
    use lockstep_protocol::{genesis::GenesisError, settlement::config::ConfigError};
    let good = settlement_genesis(&[10, 901]);
    let reason = |change: &dyn Fn(&mut lockstep_protocol::genesis::Genesis)| {
        let mut genesis = good.clone();
        change(&mut genesis);
        genesis.rules().expect_err("it is refused")
    };
    let section = |error| GenesisError::Settlement(error);
    assert_eq!(reason(&|g| g.settlement = None), section(ConfigError::NoSection { rollup: RollupId(10) }));
    assert_eq!(reason(&|g| g.settlement.as_mut().unwrap().apply_window = 0), section(ConfigError::ApplyWindow(0)));
    assert_eq!(reason(&|g| g.settlement.as_mut().unwrap().corridors.reverse()), section(ConfigError::Corridors));
    let (from, to) = (RollupId(10), RollupId(901));
    assert_eq!(reason(&|g| g.settlement.as_mut().unwrap().assets.clear()), section(ConfigError::Corridor { from, to }));
    assert_eq!(reason(&|g| g.rollups[1].settlement = None), section(ConfigError::Corridor { from, to }));
    let escrows = |change: &dyn Fn(&mut Vec<Address20>)| {
        reason(&|g| change(&mut g.rollups[0].settlement.as_mut().unwrap().escrows))
    };
    let rollup = RollupId(10);
    assert_eq!(escrows(&|e| e.clear()), section(ConfigError::Escrows { rollup }));
    assert_eq!(escrows(&|e| e.push(e[0])), section(ConfigError::Escrows { rollup }));
    assert_eq!(escrows(&|e| e[0] = hub_of(10)), section(ConfigError::Escrows { rollup }));
    assert_eq!(reason(&|g| g.rollups[0].posters = vec![key(0).account(); 2]), GenesisError::Roles(rollup));
    assert_eq!(reason(&|g| g.rollups[0].liquidation_bytes = 1 << 20), GenesisError::LiquidationBytes(rollup));
    let json = serde_json::to_value(&good).unwrap();
    assert_eq!(serde_json::from_value::<lockstep_protocol::genesis::Genesis>(json).unwrap(), good);
    assert_ne!(good.hash(), Hash32::default());
}
