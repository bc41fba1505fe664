//! Every outcome is proven, however the nodes behave on the way to it.

use std::{sync::Arc, time::Duration};

use lockstep_sdk::{
    Client, SubmitError,
    error::{Error, Fault},
    protocol::{
        bundle::SignedBundle,
        evidence::BundleState,
        ids::{BundleId, Height},
        refusal::Refusal,
    },
};

use crate::{
    fork::{bundle, bundle_with, one_leg, story},
    node::{Script, ScriptedNode, client, client_with, tip},
    world::{World, alice, bob, stranger},
};

const WITHIN: Duration = Duration::from_secs(8);

/// A node that moves the tip to `height` when it is sent a bundle.
fn orders_at(tip: &crate::node::Tip, height: u64) -> Script {
    let tip = tip.clone();
    let send = move |_: &SignedBundle, _| {
        tip.send_if_modified(|tip| std::mem::replace(tip, (*tip).max(height)) < height);
        Ok(())
    };
    Script { send: Box::new(send), ..Script::default() }
}

#[tokio::test]
async fn an_ordered_bundle_has_a_proven_height_and_fee() {
    let (world, tip) = (story(), tip(3));
    let node = ScriptedNode::start(&world, &tip, orders_at(&tip, 6)).await;
    let signed = bundle(&alice(), 0);
    let outcome = client(&world, &[&node]).submit_and_wait(&signed, WITHIN).await.expect("an outcome");
    // 12 bytes a leg and 4 + 2 a transaction, at one credit a byte.
    assert_eq!(outcome.state, BundleState::Ordered { height: Height(5), fee: 12 + 6 + 12 + 6 + 6 });
    assert_eq!(outcome.bundle, signed.bundle.id());
    assert!(outcome.proven_at().height >= Height(5));
    assert!(outcome.faults.is_empty());
    // The evidence convinces somebody who never met the node, after a trip through JSON.
    let text = serde_json::to_string(&outcome.evidence).expect("JSON");
    let evidence: lockstep_sdk::trust::Evidence = serde_json::from_str(&text).expect("the same");
    assert_eq!(evidence.conclude(&world.trust(), &signed.bundle), Ok(outcome.state));
    let foreign = World::of("test", 8, vec![]);
    assert!(evidence.conclude(&foreign.trust(), &signed.bundle).is_err());
}

#[tokio::test]
async fn cancelled_replaced_and_expired_are_proven_too() {
    let (world, tip) = (story(), tip(14));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&node]);
    let of = async |signed: SignedBundle| client.submit_and_wait(&signed, WITHIN).await.expect("an outcome").state;
    assert_eq!(of(bundle(&alice(), 1)).await, BundleState::Cancelled { height: Height(7) });
    let by = bundle_with(&alice(), 3, b'y').bundle.id();
    assert_eq!(of(bundle(&alice(), 3)).await, BundleState::Replaced { height: Height(9), by });
    assert_eq!(of(bundle(&alice(), 4)).await, BundleState::Expired);
    assert_eq!(of(bundle(&stranger(), 0)).await, BundleState::Expired, "an absent account proves it as well");
}

#[tokio::test]
async fn a_bundle_stays_pending_until_the_height_at_which_it_expires() {
    let (world, tip) = (story(), tip(11));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&node]);
    let signed = bundle(&alice(), 4);
    assert_eq!(client.prove(&signed.bundle).await.expect("proven").state, BundleState::Pending);
    let error = client.wait(&signed.bundle, Duration::from_millis(700)).await.expect_err("no outcome yet");
    assert!(matches!(error, SubmitError::Deadline { proven_open: Some(Height(11)), taken: false, .. }), "{error}");
    tip.send_replace(12);
    assert_eq!(client.wait(&signed.bundle, WITHIN).await.expect("an outcome").state, BundleState::Expired);
}

#[tokio::test]
async fn nonce_used_after_a_retry_is_the_outcome_and_not_a_failure() {
    let (world, tip) = (story(), tip(6));
    let script = Script { send: Box::new(|_, _| Err(Refusal::NonceUsed { nonce: 0 })), ..Script::default() };
    let node = ScriptedNode::start(&world, &tip, script).await;
    let client = client(&world, &[&node]);
    let signed = bundle(&alice(), 0);
    let outcome = client.submit_and_wait(&signed, WITHIN).await.expect("an outcome");
    assert!(matches!(outcome.state, BundleState::Ordered { height: Height(5), .. }));
    // The same refusal for another bundle under the nonce: it was replaced, which is no failure of the call either.
    let other = bundle_with(&alice(), 0, b'z');
    let outcome = client.submit_and_wait(&other, WITHIN).await.expect("an outcome");
    assert_eq!(outcome.state, BundleState::Replaced { height: Height(5), by: signed.bundle.id() });
}

#[tokio::test]
async fn the_same_bundle_may_be_sent_to_all_nodes_any_number_of_times() {
    let (world, tip) = (story(), tip(3));
    let nodes = [ScriptedNode::honest(&world, &tip).await, ScriptedNode::honest(&world, &tip).await];
    let client = client(&world, &[&nodes[0], &nodes[1]]);
    let signed = bundle(&alice(), 0);
    let waiting = tokio::spawn({
        let (client, signed) = (client.clone(), signed.clone());
        async move { client.submit_and_wait(&signed, WITHIN).await }
    });
    // Both nodes are told again while the bundle is pending: either might have lost it.
    while nodes.iter().any(|node| node.calls("sendBundle") < 2) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.send(&signed).await.expect("taken again").bundle_id, signed.bundle.id());
    tip.send_replace(5);
    let outcome = waiting.await.expect("no panic").expect("an outcome");
    assert!(matches!(outcome.state, BundleState::Ordered { height: Height(5), .. }));
}

#[tokio::test]
async fn a_refusal_of_all_nodes_comes_with_its_facts_and_the_height_proven_open() {
    let (world, tip) = (story(), tip(3));
    let refusal = Refusal::InsufficientBalance { needed: 42, available: 7 };
    let script = |refusal: Refusal| Script { send: Box::new(move |_, _| Err(refusal.clone())), ..Script::default() };
    let first = ScriptedNode::start(&world, &tip, script(refusal.clone())).await;
    let second = ScriptedNode::start(&world, &tip, script(refusal.clone())).await;
    let client = client(&world, &[&first, &second]);
    match client.submit_and_wait(&bundle(&alice(), 0), WITHIN).await {
        Err(SubmitError::Refused { refusal: found, proven_open, faults }) => {
            assert_eq!((found, proven_open), (refusal.clone(), Height(3)));
            let nodes: Vec<_> = faults.iter().map(|fault| fault.node.clone()).collect();
            assert_eq!(nodes, [first.url.clone(), second.url.clone()]);
        }
        other => panic!("{other:?}"),
    }
    match client.send(&bundle(&alice(), 0)).await {
        Err(Error::Refused { refusal: found, .. }) => assert_eq!(found, refusal),
        other => panic!("{other:?}"),
    }
    // Saying no is no fault of a node.
    assert!(client.nodes().iter().all(|node| node.failures == 0 && node.lies == 0 && !node.benched));
}

#[tokio::test]
async fn a_refusal_of_one_node_does_not_outweigh_another_that_takes_the_bundle() {
    let (world, tip) = (story(), tip(3));
    let refuses = Script { send: Box::new(|_, _| Err(Refusal::UnknownAccount)), ..Script::default() };
    let refuses = ScriptedNode::start(&world, &tip, refuses).await;
    let takes = ScriptedNode::start(&world, &tip, orders_at(&tip, 5)).await;
    let client = client(&world, &[&refuses, &takes]);
    let outcome = client.submit_and_wait(&bundle(&alice(), 0), WITHIN).await.expect("an outcome");
    assert!(matches!(outcome.state, BundleState::Ordered { .. }));
}

#[tokio::test]
async fn a_full_pool_is_waited_for() {
    let (world, tip) = (story(), tip(3));
    let moves = tip.clone();
    let send = move |_: &SignedBundle, attempt| {
        if attempt < 3 {
            return Err(Refusal::PoolFull { bytes: 1, tip_per_kilobyte: 2 });
        }
        moves.send_replace(5);
        Ok(())
    };
    let node = ScriptedNode::start(&world, &tip, Script { send: Box::new(send), ..Script::default() }).await;
    let outcome = client(&world, &[&node]).submit_and_wait(&bundle(&alice(), 0), WITHIN).await.expect("an outcome");
    assert!(matches!(outcome.state, BundleState::Ordered { .. }));
    assert!(node.calls("sendBundle") >= 3);
}

#[tokio::test]
async fn what_is_wrong_with_a_bundle_is_told_without_asking_anybody() {
    let (world, tip) = (story(), tip(3));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&node]);
    let mut forged = bundle(&alice(), 0);
    forged.bundle.tip += 1;
    assert!(matches!(client.send(&forged).await, Err(Error::Invalid(Refusal::BadSignature))));
    let error = client.submit_and_wait(&forged, WITHIN).await.expect_err("not sent");
    assert!(matches!(error, SubmitError::Invalid(Refusal::BadSignature)));
    let mut foreign = bundle(&alice(), 0).bundle;
    foreign.network.0[0] ^= 1;
    let foreign = foreign.sign(&alice());
    assert!(matches!(client.send(&foreign).await, Err(Error::Invalid(Refusal::WrongNetwork { .. }))));
    assert_eq!(node.calls("sendBundle"), 0);
}

#[tokio::test]
async fn a_node_that_dies_while_it_holds_the_question_is_replaced() {
    let (world, tip) = (story(), tip(3));
    let dies = ScriptedNode::honest(&world, &tip).await;
    let lives = ScriptedNode::honest(&world, &tip).await;
    let client = client_with(&world, &[&dies, &lives], |config| config.wait_slice = Duration::from_secs(2));
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.submit_and_wait(&bundle(&alice(), 0), WITHIN).await }
    });
    while dies.calls("waitBundle") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    dies.kill();
    tip.send_replace(6);
    let outcome = waiting.await.expect("no panic").expect("an outcome");
    assert!(matches!(outcome.state, BundleState::Ordered { height: Height(5), .. }));
    // From now on only the living node answers, and the dead one is named.
    let signed = bundle_with(&alice(), 3, b'y');
    tip.send_replace(9);
    assert!(client.submit_and_wait(&signed, WITHIN).await.is_ok());
}

#[tokio::test]
async fn dead_and_slow_nodes_are_passed_over_and_named() {
    let (world, tip) = (story(), tip(6));
    let dead = ScriptedNode::honest(&world, &tip).await;
    dead.kill();
    let slow = Script { delay: Duration::from_secs(5), ..Script::default() };
    let slow = ScriptedNode::start(&world, &tip, slow).await;
    let good = ScriptedNode::honest(&world, &tip).await;
    let client = client_with(&world, &[&dead, &slow, &good], |config| config.call_timeout = Duration::from_millis(300));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(client.tip().await.expect("answered").header.height, Height(6));
    let stats = client.nodes();
    assert_eq!(stats.iter().map(|node| node.failures).collect::<Vec<_>>(), [1, 1, 0]);
    assert!(stats[0].last_fault.as_ref().is_some_and(|fault| fault.starts_with("unreachable")), "{stats:?}");
    assert!(stats[1].last_fault.as_ref().is_some_and(|fault| fault.contains("300 ms")), "{stats:?}");
    // The good one is asked first from now on.
    assert_eq!(client.tip().await.expect("answered").header.height, Height(6));
    assert_eq!(client.nodes().iter().map(|node| node.calls).collect::<Vec<_>>(), [1, 1, 2]);
    good.kill();
    tokio::time::sleep(Duration::from_millis(50)).await;
    match client.tip().await {
        Err(Error::NoAnswer { faults }) => {
            for node in [&dead, &slow, &good] {
                assert!(faults.iter().any(|fault| fault.node == node.url), "{faults}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_old_outcome_is_found_however_many_reports_came_since() {
    // 1 + 600 reports: the outcome of the first bundle is three pages back.
    let contents = (0..60).map(|block| (Vec::new(), (0..10).map(|n| one_leg(&bob(), block * 10 + n)).collect()));
    let (world, tip) = (World::new(contents.collect()), tip(60));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&node]);
    let outcome = client.wait(&one_leg(&bob(), 0).bundle, WITHIN).await.expect("an outcome");
    assert!(matches!(outcome.state, BundleState::Ordered { height: Height(1), .. }));
    assert!(outcome.evidence.reports.reports.len() > 512);
    assert!(outcome.evidence.conclude(&world.trust(), &one_leg(&bob(), 0).bundle).is_ok());
}

#[tokio::test]
async fn a_prepared_bundle_has_nonce_validity_and_fee_from_the_network() {
    let (world, tip) = (story(), tip(9));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client: Client = client(&world, &[&node]);
    let builder = lockstep_sdk::BundleBuilder::new().leg(crate::world::ROLLUPS[0], [vec![1, 2]]).tip(5).valid_for(20);
    let signed = client.prepare(builder, &alice()).await.expect("prepared");
    assert_eq!(signed.bundle.nonce, 4, "after the nonces 0 to 3 of the story");
    assert_eq!(signed.bundle.valid_until, Height(29));
    // 18 bytes at one credit, half as much again rounded up to two a byte, and the tip.
    assert_eq!(signed.bundle.max_fee, 18 * 2 + 5);
    let record = client.account(alice().account()).await.expect("proven").value.expect("funded");
    assert_eq!(record.nonces.next(), 4);
    assert_eq!(client.account(stranger().account()).await.expect("proven").value, None);
    let lane = client.lane(crate::world::ROLLUPS[0]).await.expect("proven").value.expect("a lane");
    assert_eq!(lane.leaf.sequence, 5);
}

#[tokio::test]
async fn a_status_is_the_nodes_word_for_the_bundle_that_was_asked_for() {
    let (world, tip) = (story(), tip(5));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&node]);
    let id = bundle(&alice(), 0).bundle.id();
    let status = client.status(id).await.expect("a word");
    assert!(matches!(status.state, BundleState::Ordered { height: Height(5), .. }));
    assert_eq!(client.status(BundleId([1; 32])).await.expect("a word").state, BundleState::Pending);
    let sent = client.cancel(&crate::fork::cancel(&alice(), 4, 9)).await.expect("taken");
    assert_eq!(sent.digest, crate::fork::cancel(&alice(), 4, 9).cancel.digest());
    let backwards = crate::fork::cancel(&alice(), 9, 4);
    assert!(matches!(client.cancel(&backwards).await, Err(Error::Invalid(Refusal::BadNonceRange { .. }))));
}

#[tokio::test]
async fn a_node_far_behind_what_is_known_to_be_final_is_passed_over() {
    let (world, tip) = (story(), tip(14));
    let fresh = ScriptedNode::honest(&world, &tip).await;
    let stuck = ScriptedNode::start(&world, &tip, Script { stuck_at: 2, ..Script::default() }).await;
    let client = client_with(&world, &[&fresh, &stuck], |config| config.max_lag = 5);
    assert_eq!(client.tip().await.expect("answered").header.height, Height(14));
    fresh.kill();
    tokio::time::sleep(Duration::from_millis(50)).await;
    match client.account(alice().account()).await {
        Err(Error::NoAnswer { faults }) => {
            let behind = Fault::Behind { height: Height(2), known: Height(14) };
            assert!(faults.iter().any(|fault| fault.fault == behind), "{faults}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_needs_a_node_that_it_can_reach_in_principle() {
    let world: Arc<World> = World::new(vec![]);
    let make = |nodes: &[&str]| {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        Client::new(world.trust(), lockstep_sdk::client::Config { nodes, ..Default::default() }).map(|_| ())
    };
    use lockstep_sdk::error::ConfigError;
    assert_eq!(make(&[]), Err(ConfigError::NoNodes));
    assert_eq!(make(&["nonsense"]), Err(ConfigError::Url("nonsense".into())));
    assert!(matches!(make(&["http://n"; 65]), Err(ConfigError::TooManyNodes { max: 64, found: 65 })));
    assert_eq!(make(&["ws://127.0.0.1:1"]), Ok(()));
}
