//! Does a trader move margin with one call, see each step as it is proven, and learn why something is refused?
//!
//! The rollups run the real contracts; the log is a prepared chain that orders what the client signed.

use std::{sync::Arc, time::Duration};

use lockstep_sdk::{
    MarginTransfer, Verdict,
    protocol::{
        body::Facts,
        bundle::SignedBundle,
        evidence::BundleState,
        ids::{AssetId, Height},
        refusal::Refusal,
        settlement::{AbortReason, Decision, LegStatus},
    },
    transfer::{
        Reason, Step, TransferRun, Venue, Wallet,
        reason::VenueReason,
        steps::RunError,
        venue::{EscrowCorridor, Inventory, Margin},
    },
};

use crate::{
    node::{Script, ScriptedNode, Tip, client, tip},
    rollup::{CORRIDOR, INVENTORY, MARGIN, MAX_LEG, Rollup, addresses, pauper, trader},
    settling::{ASSET, first_heads, id_of, legs, settling_genesis},
    world::{ROLLUPS, Told, World, alice},
};

/// The height at which transfers of these tests are prepared.
const PREPARED_AT: u64 = 2;
const WITHIN: Duration = Duration::from_secs(8);

fn nothing() -> Told {
    (Facts::default(), vec![], vec![])
}

/// Two blocks, after which both rollups are known.
fn beginning() -> Vec<Told> {
    vec![(first_heads(), vec![], vec![]), nothing()]
}

fn transfer(rollups: &[Rollup; 2], wallet: &Wallet, amount: u128) -> MarginTransfer {
    let [from, to] = rollups;
    MarginTransfer::new(ASSET).debit(&from.venue(), wallet, amount).credit(&to.venue(), wallet, amount).deadline_in(10)
}

/// What a client signs that sees the beginning alone.
async fn prepared(transfer: &MarginTransfer) -> SignedBundle {
    let world = World::grown(settling_genesis(), 7, beginning());
    let node = ScriptedNode::honest(&world, &tip(PREPARED_AT)).await;
    client(&world, &[&node]).prepare_transfer(transfer, &alice()).await.expect("prepared")
}

/// A chain that orders the bundle at height 3, and goes on as told.
fn ordered(signed: &SignedBundle, then: Vec<Told>) -> Arc<World> {
    let blocks = beginning().into_iter().chain([(Facts::default(), vec![], vec![signed.clone()])]).chain(then);
    World::grown(settling_genesis(), 7, blocks.collect())
}

/// Both legs prepared at 4 and 5, applied at 6 and 7.
fn committing(signed: &SignedBundle) -> Vec<Told> {
    let sid = id_of(signed);
    let steps = [(2, 0, LegStatus::Prepared), (2, 1, LegStatus::Prepared), (3, 0, LegStatus::Committed)];
    let last = (legs(sid, 3, &[1], LegStatus::Committed), vec![], vec![]);
    let told = steps.map(|(number, leg, word)| (legs(sid, number, &[leg], word), vec![], vec![]));
    told.into_iter().chain([last]).collect()
}

/// All steps of a run, as the chain grows by a block whenever there is nothing new in it.
async fn steps(run: &mut TransferRun, tip: &Tip, last: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    loop {
        match run.next(Duration::from_millis(100)).await {
            Ok(Some(step)) => steps.push(step),
            Ok(None) => return steps,
            Err(RunError::Submit(_)) => drop(tip.send_replace(PREPARED_AT + 1)),
            Err(RunError::Patience) => tip.send_modify(|tip| *tip = (*tip + 1).min(last)),
            Err(error) => panic!("{error} after {steps:?}"),
        }
    }
}

fn told(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn what_is_signed_the_contracts_prepare() {
    let rollups = Rollup::pair().await;
    let signed = prepared(&transfer(&rollups, &trader(), 100)).await;
    let rules = settling_genesis().rules().expect("good");
    lockstep_sdk::protocol::body::CheckedBundle::new(signed.clone(), &rules).expect("what the log takes");
    assert_eq!(signed.bundle.valid_until, Height(PREPARED_AT + 10 - 4), "later its deadline would be too near");
    for (place, rollup) in rollups.iter().enumerate() {
        let index = u8::try_from(place).expect("two");
        assert_eq!(rollup.venue().leg(id_of(&signed), index).await, Ok((LegStatus::None, None)));
        rollup.send(&signed.bundle.legs[place].transactions[0].0).await;
        assert_eq!(rollup.venue().leg(id_of(&signed), index).await, Ok((LegStatus::Prepared, None)));
    }
    let (from, to) = (rollups[0].venue(), rollups[1].venue());
    let margin = Margin { free: MARGIN - 100, in_flight: 100, open_credits: 0, debt: 0 };
    assert_eq!(from.margin(trader().address(), ASSET).await, Ok(margin));
    let margin = Margin { free: MARGIN, in_flight: 0, open_credits: 1, debt: 0 };
    assert_eq!(to.margin(trader().address(), ASSET).await, Ok(margin));
    let token = lockstep_sdk::protocol::ids::Address20(addresses().token.0.0);
    let inventory = Inventory { token, max_leg: MAX_LEG, available: INVENTORY - 100, reserved: 100 };
    assert_eq!(to.inventory(ASSET).await, Ok(inventory));
    assert_eq!(to.corridor(ROLLUPS[0], ASSET).await, Ok(EscrowCorridor { cap: CORRIDOR, net: 100 }));
    assert_eq!(from.corridor(ROLLUPS[1], ASSET).await, Ok(EscrowCorridor { cap: CORRIDOR, net: 0 }));
}

#[tokio::test]
async fn a_transfer_is_told_step_by_step_and_again_after_a_crash() {
    let rollups = Rollup::pair().await;
    let transfer = transfer(&rollups, &trader(), 100);
    let signed = prepared(&transfer).await;
    let world = ordered(&signed, committing(&signed));
    let tip = tip(PREPARED_AT);
    let node = ScriptedNode::honest(&world, &tip).await;
    let first = client(&world, &[&node]);
    let mut run = first.run_transfer(signed.clone(), transfer.venues()).expect("a settlement");
    let seen = steps(&mut run, &tip, 7).await;
    let fee = match &seen[0] {
        Step::Ordered { height: Height(3), fee, .. } => *fee,
        other => panic!("{other:?}"),
    };
    let expected = [
        format!("ordered at height 3 for {fee} credits"),
        "leg 0 prepared on rollup 901, known at height 4".into(),
        "leg 1 prepared on rollup 902, known at height 5".into(),
        "committed at height 5".into(),
        "leg 0 applied on rollup 901, known at height 6".into(),
        "leg 1 applied on rollup 902, known at height 7".into(),
        "settled, known at height 7".into(),
    ];
    assert_eq!(told(&seen), expected);
    let Step::Decided { proof, decision: Decision::Commit, reason: None, .. } = &seen[3] else { panic!("{seen:?}") };
    assert_eq!(proof.verify(&world.trust()), Ok((id_of(&signed), Verdict::Commit, Height(5))));
    assert!(matches!(run.next(WITHIN).await, Ok(None)), "there is nothing after the end");

    // What was written down before it was run is enough, and the log's refusal of a repetition is no failure.
    let text = serde_json::to_string(&signed).expect("JSON");
    let kept: SignedBundle = serde_json::from_str(&text).expect("the same");
    let script = Script { send: Box::new(|_, _| Err(Refusal::NonceUsed { nonce: 0 })), ..Script::default() };
    let node = ScriptedNode::start(&world, &tip, script).await;
    let second = client(&world, &[&node]);
    let mut run = second.run_transfer(kept, vec![]).expect("a settlement");
    assert_eq!(run.settlement(), id_of(&signed));
    let again = told(&steps(&mut run, &tip, 7).await);
    assert_eq!(again.len(), expected.len(), "all of it is told again: {again:?}");
    assert_eq!((&again[0], &again[3]), (&expected[0], &expected[3]));
    let mut run = second.run_transfer(signed.clone(), vec![]).expect("a settlement");
    let (decision, proof) = run.decided(WITHIN).await.expect("proven").expect("decided");
    assert_eq!((decision, proof.intent.sid(world.genesis.network_id())), (Decision::Commit, id_of(&signed)));
}

#[tokio::test]
async fn a_lying_node_changes_no_step() {
    let rollups = Rollup::pair().await;
    let signed = prepared(&transfer(&rollups, &trader(), 100)).await;
    let world = ordered(&signed, committing(&signed));
    let tip = tip(7);
    // Says that all is aborted, and shows neither records nor decisions as they are.
    let liar = Script {
        settlement: Box::new(|mut status| {
            let height = status.tip;
            let decision = Decision::Abort(AbortReason::Refused);
            status.record.decided = Some(lockstep_sdk::protocol::settlement::records::Decided { decision, height });
            status
        }),
        decisions: Box::new(|mut page| {
            page.range.decisions.iter_mut().for_each(|decision| decision.outcome = 2);
            page
        }),
        state: Box::new(|mut proof| {
            if let Some(record) = &mut proof.record {
                record.0[100] ^= 1;
            }
            proof
        }),
        ..Script::default()
    };
    let liar = ScriptedNode::start(&world, &tip, liar).await;
    let honest = ScriptedNode::honest(&world, &tip).await;
    let both = client(&world, &[&liar, &honest]);
    let mut run = both.run_transfer(signed.clone(), vec![]).expect("a settlement");
    let (decision, proof) = run.decided(WITHIN).await.expect("proven").expect("decided");
    assert_eq!(decision, Decision::Commit);
    assert!(proof.verify(&world.trust()).is_ok());
    assert!(both.nodes()[0].lies > 0);
    let alone = client(&world, &[&liar]);
    let mut run = alone.run_transfer(signed, vec![]).expect("a settlement");
    assert!(run.next(Duration::from_millis(500)).await.is_err(), "from the liar alone nothing is had");
}

#[tokio::test]
async fn a_refusal_is_told_with_the_venues_reason_also_after_the_release() {
    let rollups = Rollup::pair().await;
    // More than the account's margin.
    let transfer = transfer(&rollups, &trader(), MARGIN + 1);
    let signed = prepared(&transfer).await;
    let sid = id_of(&signed);
    rollups[0].send(&signed.bundle.legs[0].transactions[0].0).await;
    let world = ordered(&signed, vec![(legs(sid, 2, &[0], LegStatus::Refused), vec![], vec![])]);
    let tip = tip(PREPARED_AT);
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&node]);
    let until_decided = async |venues: Vec<Venue>| -> Vec<Step> {
        let mut run = client.run_transfer(signed.clone(), venues).expect("a settlement");
        let mut seen = Vec::new();
        while !matches!(seen.last(), Some(Step::Decided { .. })) {
            match run.next(Duration::from_millis(100)).await {
                Ok(step) => seen.extend(step),
                Err(_) => tip.send_modify(|tip| *tip = (*tip + 1).min(4)),
            }
        }
        seen
    };
    let why = |seen: &[Step]| match seen {
        [Step::Ordered { .. }, Step::Refused(reason), Step::Decided { reason: Some(aborted), .. }] => {
            (reason.clone(), aborted.clone())
        }
        other => panic!("{other:?}"),
    };
    let insufficient = |why| Reason::Venue { rollup: ROLLUPS[0], leg: 0, why, available: None };
    let (reason, aborted) = why(&until_decided(transfer.venues()).await);
    assert_eq!(reason, insufficient(Some(VenueReason::InsufficientMargin)));
    assert_eq!((reason.name(), aborted.name()), ("insufficient_margin", "refused"));
    assert_eq!(reason.to_string(), "leg 0 is refused on rollup 901: insufficient free margin");
    // The abort is applied: the leg's word is overwritten, the event stays.
    let page = client.decisions(ROLLUPS[0], 1, 8).await.expect("proven");
    let item = page.item.as_ref().expect("an item");
    let call = lockstep_contracts::apply(item, &page.range, &page.intents, 1).expect("a good certificate");
    rollups[0].call_hub(call).await;
    let venue = rollups[0].venue();
    assert_eq!(venue.leg(sid, 0).await, Ok((LegStatus::Released, Some(VenueReason::InsufficientMargin))));
    let (reason, _) = why(&until_decided(transfer.venues()).await);
    assert_eq!(reason, insufficient(Some(VenueReason::InsufficientMargin)));
    let (reason, _) = why(&until_decided(vec![]).await);
    assert_eq!(reason, insufficient(None), "without anybody to ask");
}

#[tokio::test]
async fn what_expires_or_is_refused_by_the_log_says_so() {
    let rollups = Rollup::pair().await;
    let transfer = transfer(&rollups, &trader(), 10);
    let signed = prepared(&transfer).await;
    // Ordered, and nothing was ever shown: its deadline, height 12, decides.
    let world = ordered(&signed, (0..10).map(|_| nothing()).collect());
    let high = tip(13);
    let node = ScriptedNode::honest(&world, &high).await;
    let mut run = client(&world, &[&node]).run_transfer(signed.clone(), vec![]).expect("a settlement");
    assert!(matches!(run.next(WITHIN).await, Ok(Some(Step::Ordered { .. }))));
    match run.next(WITHIN).await {
        Ok(Some(Step::Decided { decision: Decision::Abort(AbortReason::Expired), reason: Some(reason), .. })) => {
            assert_eq!((reason.name(), reason.to_string().contains("height 12, passed")), ("expired", true));
        }
        other => panic!("{other:?}"),
    }
    // Never ordered.
    let world = World::grown(settling_genesis(), 7, (0..9).map(|_| nothing()).collect());
    let low = tip(9);
    let node = ScriptedNode::honest(&world, &low).await;
    let mut run = client(&world, &[&node]).run_transfer(signed.clone(), vec![]).expect("a settlement");
    let expired = Reason::NotOrdered(BundleState::Expired);
    assert!(matches!(run.next(WITHIN).await, Ok(Some(Step::NotOrdered(reason))) if reason == expired));
    assert!(matches!(run.next(WITHIN).await, Ok(None)));
    // Refused by the pool.
    let refusal = Refusal::CorridorFull { from: ROLLUPS[0], to: ROLLUPS[1], asset: ASSET, available: 3 };
    let why = refusal.clone();
    let script = Script { send: Box::new(move |_, _| Err(why.clone())), ..Script::default() };
    let node = ScriptedNode::start(&world, &tip(3), script).await;
    let mut run = client(&world, &[&node]).run_transfer(signed, vec![]).expect("a settlement");
    match run.next(WITHIN).await {
        Err(RunError::Refused(reason)) => assert_eq!((reason.name(), reason), ("corridor_full", Reason::Log(refusal))),
        other => panic!("{other:?}"),
    }
    let plain = crate::fork::bundle(&alice(), 0);
    assert!(client(&world, &[&node]).run_transfer(plain, vec![]).is_err(), "no settlement");
}

#[tokio::test]
async fn a_dry_run_names_everything_that_stands_against_a_transfer() {
    let rollups = Rollup::pair().await;
    rollups[0].trade().await;
    let rules = settling_genesis().rules().expect("good");
    let world = World::grown(settling_genesis(), 7, beginning());
    let node = ScriptedNode::honest(&world, &tip(PREPARED_AT)).await;
    let client = client(&world, &[&node]);
    let against = async |transfer: &MarginTransfer| -> Vec<(&'static str, Reason)> {
        let found = client.dry_run(transfer, &alice(), &rules).await.expect("answered");
        assert_eq!(found.is_good(), found.reasons.is_empty());
        found.reasons.into_iter().map(|reason| (reason.name(), reason)).collect()
    };
    let names = |found: Vec<(&'static str, Reason)>| found.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let amount = |amount: u128| transfer(&rollups, &trader(), amount);
    assert!(against(&amount(80)).await.is_empty());
    assert_eq!(names(against(&amount(81)).await), ["venue_refused"], "the position needs the rest");
    let found = against(&amount(301)).await;
    let (rollup, why) = (ROLLUPS[0], Some(VenueReason::InsufficientMargin));
    assert_eq!(found, [("insufficient_margin", Reason::Venue { rollup, leg: 0, why, available: Some(300) })]);
    let found = against(&amount(330)).await;
    let (rollup, why) = (ROLLUPS[1], Some(VenueReason::CorridorCap));
    assert_eq!(found[1], ("corridor_cap", Reason::Venue { rollup, leg: 1, why, available: Some(320) }));
    let found = against(&amount(360)).await;
    let why = Some(VenueReason::InventoryEmpty);
    assert_eq!(found[1], ("inventory_empty", Reason::Venue { rollup, leg: 1, why, available: Some(350) }));
    let found = names(against(&amount(501)).await);
    assert_eq!(found, ["corridor_full", "insufficient_margin", "inventory_empty"]);
    let found = names(against(&amount(1_001)).await);
    assert_eq!(found[..2], ["corridor_full", "account_cap_reached"]);
    assert_eq!(names(against(&amount(MAX_LEG + 1)).await)[2..], ["amount", "amount"]);
    // An account with neither margin nor gas.
    let found = names(against(&transfer(&rollups, &pauper(), 10)).await);
    assert_eq!(found, ["no_gas", "insufficient_margin", "no_gas"]);
    // An asset that nobody has heard of, and an escrow that nobody registered.
    let [from, to] = &rollups;
    let strange = AssetId([1; 32]);
    let other = MarginTransfer::new(strange).debit(&from.venue(), &trader(), 1).credit(&to.venue(), &trader(), 1);
    assert_eq!(names(against(&other).await), ["no_corridor", "unknown_asset", "unknown_asset"]);
    let other = MarginTransfer::new(ASSET).debit(&from.no_venue(), &trader(), 1).credit(&to.venue(), &trader(), 1);
    assert_eq!(names(against(&other).await)[0], "unknown_escrow");
    assert!(client.dry_run(&amount(5).deadline_in(4), &alice(), &rules).await.is_err(), "too near a deadline");
    // A log that has seen neither rollup.
    let silent = World::grown(settling_genesis(), 7, vec![nothing(), nothing()]);
    let node = ScriptedNode::honest(&silent, &tip(PREPARED_AT)).await;
    let found = crate::node::client(&silent, &[&node]).dry_run(&amount(5), &alice(), &rules).await.expect("answered");
    assert_eq!(found.reasons.iter().map(Reason::name).collect::<Vec<_>>(), ["rollup_silent"; 2]);
}
