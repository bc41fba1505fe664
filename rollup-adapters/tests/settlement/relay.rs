//! Does the relayer bring every settlement to its end, whatever happens to it?

use std::sync::{Arc, atomic::Ordering};

use alloy_primitives::{B256, U256};
use lockstep_adapters::{poster::FeeConfig, relay::ApplyConfig};
use lockstep_contracts::{
    self as contracts, SolCall,
    abi::{MarginEscrow, SettlementHub, TestToken},
};
use lockstep_protocol::{
    ids::SettlementId,
    settlement::{AbortReason, Decision, LegStatus},
};

use crate::{
    city::{City, Fragile, Living, MARGIN, ROLLUPS, Relaying, Wire, payer, until},
    venue::{DEPLOYER, PLENTY, asset, deployer, trader, word},
    world::COMMIT,
};

/// A city that lives, and a relayer for each of its rollups.
async fn relayed() -> (Arc<City>, Living, [Relaying; 2]) {
    let city = City::new().await;
    let living = city.live();
    let [a, b] = ROLLUPS;
    let relayers = [city.relay(a, 0).await, city.relay(b, 1).await];
    (city, living, relayers)
}

/// Nothing moves any more, and the relayers end when they are told to.
async fn stop(living: Living, relayers: impl IntoIterator<Item = Relaying>) {
    drop(living);
    for relaying in relayers {
        relaying.stop().await;
    }
}

/// It ends, and this is what was decided.
async fn decided(city: &Arc<City>, sid: SettlementId) -> Decision {
    city.settled(sid).await.record.decided.expect("decided").decision
}

async fn assert_everywhere(city: &Arc<City>, sid: SettlementId, status: LegStatus) {
    for (index, rollup) in (0..).zip(ROLLUPS) {
        city.with_venue(rollup, async |venue| {
            // Legs are debit, credit; transfers of these tests go from the first rollup to the second, unless said.
            let found = [venue.leg(sid, index).await, venue.leg(sid, 1 - index).await];
            assert!(found.contains(&status), "rollup {rollup}: {found:?}");
            venue.assert_balanced(venue.at.token, asset()).await;
        })
        .await;
    }
}

async fn free(city: &Arc<City>, rollup: u64, who: usize) -> u128 {
    city.with_venue(rollup, async |venue| venue.account(trader(who), asset()).await.free.to::<u128>()).await
}

#[tokio::test]
async fn margin_moves_both_ways_and_both_legs_or_neither() {
    let (city, living, relayers) = relayed().await;
    let [a, b] = ROLLUPS;
    let mut heights = Vec::new();
    for (round, (from, to)) in [(a, b), (b, a), (a, b), (a, b)].into_iter().enumerate() {
        let sid = city.transfer(round % 3, from, to, 100, 2_000).await;
        let end = city.settled(sid).await;
        let decided = end.record.decided.expect("it is settled");
        assert_eq!(decided.decision, Decision::Commit);
        heights.push((decided.height.0 - end.ordered.0, end.settled.0 - end.ordered.0));
        assert_everywhere(&city, sid, LegStatus::Committed).await;
    }
    eprintln!("heights from order to decision, and until every leg was seen applied: {heights:?}");
    assert_eq!((free(&city, a, 0).await, free(&city, b, 0).await), (MARGIN - 200, MARGIN + 200));
    // More than the account has: its venue says no, and the other leg is let go.
    let sid = city.transfer(2, a, b, 2 * MARGIN, 2_000).await;
    assert_eq!(decided(&city, sid).await, Decision::Abort(AbortReason::Refused));
    assert_everywhere(&city, sid, LegStatus::Released).await;
    for relaying in &relayers {
        let status = relaying.service.status();
        eprintln!("rollup {}: {} calls, {} gas", status.rollup, status.calls, status.gas_used);
        assert_eq!((status.contradictions, status.stubborn, status.calls_reverted), (0, 0, 0));
        assert_eq!((status.decisions_applied, status.applied), (5, 5));
        assert_eq!(status.failures, 0);
    }
    stop(living, relayers).await;
}

#[tokio::test]
async fn many_settlements_at_once_take_few_calls() {
    let city = City::new().await;
    let [a, b] = ROLLUPS;
    let (first, second) = (city.relay(a, 0).await, city.relay(b, 1).await);
    let mut sids = Vec::new();
    for round in 0..24 {
        sids.push(city.transfer(round % 3, a, b, 10, 2_000).await);
        // One account's transactions are in the order of its nonces only across blocks.
        city.tick().await;
    }
    let living = city.live();
    for sid in &sids {
        assert_eq!(decided(&city, *sid).await, Decision::Commit);
    }
    let (here, there) = (first.service.status(), second.service.status());
    eprintln!(
        "{} and {} calls for 24 decisions, {} and {} gas",
        here.calls, there.calls, here.gas_used, there.gas_used
    );
    assert!(here.calls < 24 && there.calls < 24);
    stop(living, [first, second]).await;
}

#[tokio::test]
async fn killed_after_everything_that_it_says_it_goes_on_from_the_chains_alone() {
    let city = City::new().await;
    let living = city.live();
    let [a, b] = ROLLUPS;
    let other = city.relay(b, 1).await;
    let (mut kills, mut sids) = (0, Vec::new());
    for said in 1..=8 {
        let sid = city.transfer(said as usize % 3, a, b, 10, 8_000).await;
        sids.push(sid);
        let fragile = Arc::new(Fragile::new(Wire::new(&city, a, 0), said));
        let mut broken = fragile.broken.subscribe();
        let relaying = city.relay_through(fragile.clone(), a, 0, Some(ApplyConfig::default())).await;
        tokio::select! {
            _ = broken.wait_for(|broken| *broken) => {}
            _ = city.settled(sid) => {}
        }
        kills += u32::from(*fragile.broken.borrow());
        relaying.kill().await;
    }
    let last = city.relay(a, 0).await;
    for sid in sids {
        assert_eq!(decided(&city, sid).await, Decision::Commit);
        assert_everywhere(&city, sid, LegStatus::Committed).await;
    }
    assert!(kills >= 5, "it was killed {kills} times only");
    assert_eq!(free(&city, b, 0).await + free(&city, b, 1).await + free(&city, b, 2).await, 3 * MARGIN + 80);
    stop(living, [last, other]).await;
}

#[tokio::test]
async fn two_relayers_at_once_do_no_harm_and_a_patient_one_pays_nothing() {
    let city = City::new().await;
    let living = city.live();
    let [a, b] = ROLLUPS;
    let relayers = [city.relay(a, 0).await, city.relay(a, 1).await, city.relay(b, 2).await];
    let patience = ApplyConfig { patience_ms: 60_000, ..ApplyConfig::default() };
    let patient = city.relay_through(Arc::new(Wire::new(&city, b, 3)), b, 3, Some(patience)).await;
    for round in 0..6 {
        let sid = city.transfer(round % 3, a, b, 10, 2_000).await;
        assert_eq!(decided(&city, sid).await, Decision::Commit);
        assert_everywhere(&city, sid, LegStatus::Committed).await;
    }
    for relaying in &relayers {
        let status = relaying.service.status();
        assert_eq!((status.failures, status.contradictions, status.applied), (0, 0, 6), "{status:?}");
    }
    let twice: u64 = relayers[..2].iter().map(|relaying| relaying.service.status().decisions_applied).sum();
    assert!(twice <= 6, "a decision is applied once: {twice}");
    assert_eq!(patient.service.status().calls, 0);
    stop(living, relayers.into_iter().chain([patient])).await;
}

#[tokio::test]
async fn calls_that_the_network_loses_are_sent_again() {
    let city = City::new().await;
    let living = city.live();
    let [a, b] = ROLLUPS;
    city.lose.store(3, Ordering::SeqCst);
    let (first, second) = (city.relay(a, 0).await, city.relay(b, 1).await);
    let sid = city.transfer(0, a, b, 10, 8_000).await;
    assert_eq!(decided(&city, sid).await, Decision::Commit);
    let calls = first.service.status().calls + second.service.status().calls;
    assert_eq!(calls, 2 + 3, "each loss costs one more");
    stop(living, [first, second]).await;
}

#[tokio::test]
async fn a_leg_that_another_relayer_left_out_is_applied() {
    let city = City::new().await;
    let [a, b] = ROLLUPS;
    let sid = city.transfer(0, a, b, 10, 4_000).await;
    let living = city.live();
    // Only observers: the log decides, nobody applies.
    let wire = |rollup, number| Arc::new(Wire::new(&city, rollup, number));
    let (eyes, other) = (city.relay_through(wire(a, 0), a, 0, None).await, city.relay(b, 1).await);
    until("it is decided", async || city.record(sid).await.is_some_and(|record| record.decided.is_some())).await;
    // A relayer that gives the decision alone.
    let page = lockstep_adapters::relay::Log::decisions(&*wire(a, 0), 1, 10).await.expect("a page");
    let item = page.item.expect("it is decided");
    let mut strange = page.intents.clone();
    strange[0].nonce += 77;
    let recording = contracts::apply(&item, &page.range, &strange, 1).expect("a call");
    city.with_venue(a, async |venue| {
        assert!(venue.send(DEPLOYER, venue.at.hub, recording).await.succeeded);
        assert_eq!(venue.leg(sid, 0).await, LegStatus::Prepared);
    })
    .await;
    let relaying = city.relay(a, 0).await;
    city.settled(sid).await;
    assert_everywhere(&city, sid, LegStatus::Committed).await;
    stop(living, [eyes, other, relaying]).await;
}

#[tokio::test]
async fn an_escrow_that_does_not_take_its_decision_is_named_and_served_once_it_does() {
    let city = City::new().await;
    let living = city.live();
    let [a, b] = ROLLUPS;
    let wire = Arc::new(Wire::new(&city, a, 1));
    let (eyes, other) = (city.relay_through(wire, a, 1, None).await, city.relay(b, 2).await);
    let before = city.with_venue(a, async |venue| venue.node.head().header.number).await;
    let sid = city.transfer(0, a, b, 10, 8_000).await;
    until("it is decided", async || city.record(sid).await.is_some_and(|record| record.decided.is_some())).await;
    let limit = async |city: &Arc<City>, redo: u128| {
        city.with_venue(a, async |venue| {
            let limits = MarginEscrow::setLimitsCall {
                asset: word(asset()),
                maxLeg: PLENTY.try_into().expect("it fits"),
                redoBudget: redo.try_into().expect("it fits"),
            };
            assert!(venue.send(DEPLOYER, venue.at.escrow, limits.abi_encode()).await.succeeded);
        })
        .await;
    };
    // The prepare is gone with its history, and nothing may be done again here.
    city.with_venue(a, async |venue| {
        let depth = venue.node.head().header.number - before;
        venue.leave(depth, vec![]).await;
    })
    .await;
    limit(&city, 0).await;
    let relaying = city.relay(a, 0).await;
    until("the escrow is named", async || relaying.service.status().stubborn > 0).await;
    city.with_venue(a, async |venue| {
        assert_eq!((venue.outcome(sid).await, venue.leg(sid, 0).await), (COMMIT, LegStatus::None));
    })
    .await;
    limit(&city, PLENTY).await;
    relaying.kill().await;
    let relaying = city.relay(a, 0).await;
    city.settled(sid).await;
    assert_everywhere(&city, sid, LegStatus::Committed).await;
    stop(living, [eyes, other, relaying]).await;
}

#[tokio::test]
async fn above_its_cap_it_waits_and_says_so() {
    let city = City::new().await;
    let living = city.live();
    let [a, b] = ROLLUPS;
    let stingy = ApplyConfig {
        fees: FeeConfig { max_fee_gwei: 0.000_000_001, min_tip_gwei: 0.0, ..FeeConfig::default() },
        ..ApplyConfig::default()
    };
    let waiting = city.relay_through(Arc::new(Wire::new(&city, a, 0)), a, 0, Some(stingy)).await;
    let other = city.relay(b, 1).await;
    let sid = city.transfer(0, a, b, 10, 8_000).await;
    let says_so = || waiting.service.status().applying_trouble.is_some_and(|trouble| trouble.contains("cap"));
    until("it says so", async || says_so()).await;
    assert_eq!(waiting.service.status().calls, 0);
    waiting.stop().await;
    let paying = city.relay(a, 0).await;
    city.settled(sid).await;
    stop(living, [paying, other]).await;
}

#[tokio::test]
async fn a_decision_is_done_again_after_the_rollup_left_the_history_in_which_it_was_applied() {
    let (city, living, relayers) = relayed().await;
    let [a, b] = ROLLUPS;
    let before = city.with_venue(a, async |venue| venue.node.head().header.number).await;
    let sid = city.transfer(0, a, b, 10, 2_000).await;
    let committed = async || city.with_venue(a, async |venue| venue.leg(sid, 0).await == LegStatus::Committed).await;
    until("it is applied", committed).await;
    // The rollup leaves everything since before the prepare; the user's prepare does not come again.
    city.with_venue(a, async |venue| {
        let depth = venue.node.head().header.number - before;
        venue.leave(depth, vec![]).await;
        assert_eq!(venue.leg(sid, 0).await, LegStatus::None);
        assert_eq!(venue.hub_sequence().await, 0, "the hub is where it was");
    })
    .await;
    let committed = async || city.with_venue(a, async |venue| venue.leg(sid, 0).await == LegStatus::Committed).await;
    until("it is applied", committed).await;
    assert_eq!((free(&city, a, 0).await, free(&city, b, 0).await), (MARGIN - 10, MARGIN + 10));
    stop(living, relayers).await;
}

#[tokio::test]
async fn a_leg_whose_settlement_is_never_ordered_comes_free_after_its_deadline() {
    let (city, living, relayers) = relayed().await;
    let [a, b] = ROLLUPS;
    let sid = city.leak(0, a, b, 10, 60).await;
    assert_eq!(city.with_venue(a, async |venue| venue.leg(sid, 0).await).await, LegStatus::Prepared);
    let end = city.settled(sid).await;
    let decided = end.record.decided.expect("decided");
    assert_eq!(decided.decision, Decision::Abort(AbortReason::Unknown));
    assert!(decided.height > end.record.deadline);
    assert_eq!(city.with_venue(a, async |venue| venue.leg(sid, 0).await).await, LegStatus::Released);
    assert_eq!(free(&city, a, 0).await, MARGIN);
    stop(living, relayers).await;
}

#[tokio::test]
async fn what_is_paid_in_at_a_hub_is_credited_in_the_log() {
    let city = City::new().await;
    let living = city.live();
    let [a, b] = ROLLUPS;
    // Payments need no key of the relayer's.
    let eyes = city.relay_through(Arc::new(Wire::new(&city, a, 0)), a, 0, None).await;
    let also = city.relay_through(Arc::new(Wire::new(&city, b, 1)), b, 1, None).await;
    let amount = U256::from(700);
    for times in 1..=2 {
        city.with_venue(a, async |venue| {
            let (token, hub) = (venue.at.token, venue.at.hub);
            let account = B256::from(payer().word().0);
            for (to, input) in [
                (token, TestToken::mintCall { to: deployer(), amount }.abi_encode()),
                (token, TestToken::approveCall { spender: hub, value: amount }.abi_encode()),
                (hub, SettlementHub::depositFeesCall { account, amount }.abi_encode()),
            ] {
                assert!(venue.send(DEPLOYER, to, input).await.succeeded);
            }
        })
        .await;
        until("the payment is seen", async || city.balance(payer()).await >= 700 * times).await;
        assert_eq!(city.balance(payer()).await, 700 * times);
    }
    stop(living, [eyes, also]).await;
}
