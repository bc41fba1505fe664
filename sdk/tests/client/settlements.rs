//! Is nothing believed of a decision that does not lead to a leaf under the group's key?

use std::{sync::Arc, time::Duration};

use lockstep_sdk::{
    Client, DecisionProof, Verdict,
    error::{CheckError, Error, Fault},
    protocol::{
        certificate::{CertificateError, CertificateSignature},
        ids::{Height, SettlementId},
        lane::LaneError,
        rpc::{DecisionPage, Fact, FactRefused, QueryError},
        settlement::{AbortReason, Decision, decision::DecisionError, records::Seen},
    },
};

use crate::{
    node::{Script, ScriptedNode, Tip, client, tip},
    settling::{committed, expired, id_of, refused, story},
    world::{ROLLUPS, World, alice},
};

const TIP: u64 = 10;

async fn honest() -> (Arc<World>, ScriptedNode, Client) {
    let (world, tip) = (story(), tip(TIP));
    let node = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&node]);
    (world, node, client)
}

#[tokio::test]
async fn the_decisions_of_a_lane_are_proven_in_order() {
    let (world, _node, client) = honest().await;
    // Committed at 4, refused at 8, expired at 9.
    let expected = [(id_of(&committed()), 1), (id_of(&refused()), 2), (id_of(&expired()), 2)];
    for rollup in ROLLUPS {
        for from in 1..=3_usize {
            let page = client.decisions(rollup, from as u64, 8).await.expect("proven");
            let found: Vec<_> = page.range.decisions.iter().map(|found| (found.settlement, found.outcome)).collect();
            assert_eq!(found, expected[from - 1..]);
            assert!(world.trust().check_decisions(rollup, from as u64, &page).is_ok());
        }
        assert!(client.decisions(rollup, 4, 8).await.expect("none yet").item.is_none());
    }
}

#[tokio::test]
async fn every_lie_about_decisions_is_found_and_the_next_node_asked() {
    let (world, tip) = (story(), tip(TIP));
    let forged = LaneError::Certificate(CertificateError::Forged(Height(10)));
    let (asked, other) = (id_of(&committed()), SettlementId([9; 32]));
    let changed = {
        let mut intent = world.settlement(asked, Height(TIP)).expect("ordered").intent;
        intent.transfer.legs[1].amount += 1;
        intent
    };
    let found = changed.sid(world.genesis.network_id());
    type Lie = Box<dyn Fn(&mut DecisionPage) + Send + Sync>;
    let lies: Vec<(CheckError, Lie)> = vec![
        (DecisionError::BrokenChain.into(), Box::new(|page| page.range.decisions[0].outcome = 2)),
        (DecisionError::BrokenChain.into(), Box::new(move |page| page.range.decisions[2].settlement = other)),
        (DecisionError::BrokenChain.into(), Box::new(|page| page.range.chain.0[0] ^= 1)),
        (DecisionError::BrokenChain.into(), Box::new(|page| page.range.decisions.swap(0, 1))),
        (
            DecisionError::WrongEnd { expected: 3, found: 2 }.into(),
            Box::new(|page| {
                page.range.decisions.remove(0);
                page.intents.remove(0);
            }),
        ),
        (CheckError::Sequence { asked: 0, found: 1 }, Box::new(|page| page.range.sequence = 1)),
        (CheckError::NoItem, Box::new(|page| page.item = None)),
        (CheckError::Intents { decisions: 3, intents: 2 }, Box::new(|page| drop(page.intents.pop()))),
        (CheckError::Intent { asked, found }, Box::new(move |page| page.intents[0] = changed.clone())),
        (CheckError::DecidedLegs(asked), Box::new(|page| page.range.decisions[0].legs[0].index = 1)),
        (CheckError::DecidedLegs(asked), Box::new(|page| page.range.decisions[0].legs.clear())),
        (
            CheckError::Rollup { asked: ROLLUPS[0], found: ROLLUPS[1] },
            Box::new(|page| page.item.as_mut().expect("an item").leaf.rollup = ROLLUPS[1]),
        ),
        (
            CheckError::Lane(LaneError::Path { height: Height(9), length: 1 }),
            Box::new(|page| page.item.as_mut().expect("an item").leaf.decisions.0[0] ^= 1),
        ),
        (
            CheckError::Lane(forged),
            Box::new(|page| {
                let item = page.item.as_mut().expect("an item");
                item.finality.certificate.signature = CertificateSignature([0x80; 48]);
            }),
        ),
    ];
    let honest = ScriptedNode::honest(&world, &tip).await;
    for (expected, lie) in lies {
        let change = move |mut page| {
            lie(&mut page);
            page
        };
        let liar = ScriptedNode::start(&world, &tip, Script { decisions: Box::new(change), ..Script::default() }).await;
        match client(&world, &[&liar]).decisions(ROLLUPS[0], 1, 8).await {
            Err(Error::NoAnswer { faults }) => {
                let lie = Fault::Lie(expected.clone());
                assert!(faults.iter().any(|fault| fault.fault == lie), "{expected}: {faults}");
            }
            other => panic!("{expected}: {other:?}"),
        }
        let both = client(&world, &[&liar, &honest]);
        assert_eq!(both.decisions(ROLLUPS[0], 1, 8).await.expect("the honest node's").range.decisions.len(), 3);
        assert_eq!(both.nodes().iter().map(|node| node.lies).collect::<Vec<_>>(), [1, 0], "{expected}");
    }
}

#[tokio::test]
async fn a_node_that_withholds_decisions_delays_them_by_one_question() {
    let (world, tip) = (story(), tip(TIP));
    let empty = |mut page: DecisionPage| {
        page.range.decisions.clear();
        page.intents.clear();
        page
    };
    let withholds = Script {
        decisions: Box::new(empty),
        unsettled: Box::new(|page| lockstep_sdk::protocol::rpc::UnsettledPage { settlements: vec![], ..page }),
        ..Script::default()
    };
    let withholds = ScriptedNode::start(&world, &tip, withholds).await;
    let honest = ScriptedNode::honest(&world, &tip).await;
    let decided = client(&world, &[&withholds, &honest]);
    let page = decided.decisions(ROLLUPS[0], 1, 8).await.expect("nothing can be said against it");
    assert!(page.range.decisions.is_empty() && page.item.is_none());
    assert_eq!(decided.decisions(ROLLUPS[0], 1, 8).await.expect("proven").range.decisions.len(), 3);
    let open = client(&world, &[&withholds, &honest]);
    assert!(open.unsettled(ROLLUPS[1], None, 8).await.expect("its word").settlements.is_empty());
    let open = open.unsettled(ROLLUPS[1], None, 8).await.expect("the other's word").settlements;
    assert_eq!(open.len(), 2, "aborted, and not seen released");
}

#[tokio::test]
async fn a_record_is_proven_and_a_changed_one_is_not_believed() {
    let (world, tip) = (story(), tip(TIP));
    let change = |mut proof: lockstep_sdk::protocol::rpc::StateProof| {
        if let Some(record) = &mut proof.record {
            record.0[70] ^= 1;
        }
        proof
    };
    let liar = ScriptedNode::start(&world, &tip, Script { state: Box::new(change), ..Script::default() }).await;
    let honest = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&liar, &honest]);
    let record = client.settlement_record(id_of(&committed())).await.expect("proven").value.expect("ordered");
    assert!(record.settled && record.legs.iter().all(|leg| leg.seen == Seen::Applied));
    assert_eq!(record.decided.expect("decided").decision, Decision::Commit);
    assert_eq!(client.nodes().iter().map(|node| node.lies).collect::<Vec<_>>(), [1, 0]);
    let record = client.settlement_record(id_of(&refused())).await.expect("proven").value.expect("ordered");
    assert_eq!(record.decided.expect("decided").decision, Decision::Abort(AbortReason::Refused));
    let rollup = client.rollup_record(ROLLUPS[1]).await.expect("proven").value.expect("seen");
    assert_eq!(rollup.latest[0], Some(4));
    let under_way = client.in_flight(alice().account()).await.expect("proven").value.expect("some");
    assert_eq!((under_way.open, under_way.amounts[0]), (0, 0), "all of them were aborted or settled");
}

#[tokio::test]
async fn a_decision_convinces_whoever_has_the_key_and_nobody_else() {
    let (world, _node, client) = honest().await;
    for (signed, verdict, height) in
        [(committed(), Verdict::Commit, 4), (refused(), Verdict::Abort, 8), (expired(), Verdict::Abort, 9)]
    {
        let sid = id_of(&signed);
        let proof = client.prove_decision(sid).await.expect("proven").expect("decided");
        let text = serde_json::to_string(&proof).expect("JSON");
        let proof: DecisionProof = serde_json::from_str(&text).expect("the same");
        assert_eq!(proof.verify(&world.trust()), Ok((sid, verdict, Height(height))));
        let foreign = World::of("test", 8, vec![]);
        assert!(matches!(proof.verify(&foreign.trust()), Err(CheckError::Lane(_))));
        let mut turned = proof.clone();
        turned.range.decisions[0].outcome = 3 - turned.range.decisions[0].outcome;
        assert_eq!(turned.verify(&world.trust()), Err(DecisionError::BrokenChain.into()));
        let mut another = proof;
        another.intent.nonce += 7;
        assert!(matches!(another.verify(&world.trust()), Err(CheckError::Undecided(_))));
    }
    assert_eq!(client.prove_decision(SettlementId([5; 32])).await.expect("proven to be unknown"), None);
}

#[tokio::test]
async fn whoever_waits_is_told_of_the_next_change_and_shown_what_moves() {
    let (world, tip): (_, Tip) = (story(), tip(2));
    let forged = |mut status: lockstep_sdk::protocol::rpc::SettlementStatus| {
        status.intent.transfer.legs[0].amount = 1;
        status
    };
    let liar = ScriptedNode::start(&world, &tip, Script { settlement: Box::new(forged), ..Script::default() }).await;
    let node = ScriptedNode::honest(&world, &tip).await;
    let both = client(&world, &[&liar, &node]);
    let sid = id_of(&committed());
    let status = both.settlement(sid).await.expect("the honest node's word");
    assert_eq!((status.changed, status.record.decided), (Height(2), None));
    assert_eq!(both.nodes()[0].lies, 1);
    let waiting = tokio::spawn(async move { both.wait_settlement(sid, Height(3), Duration::from_secs(5)).await });
    while node.calls("waitSettlement") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tip.send_replace(3);
    tip.send_replace(4);
    let status = waiting.await.expect("no panic").expect("told");
    assert_eq!((status.changed, status.record.decided.is_some()), (Height(4), true));
    let alone = client(&world, &[&node]);
    match alone.wait_settlement(SettlementId([5; 32]), Height(0), Duration::from_millis(50)).await {
        Err(Error::Query { query: QueryError::UnknownSettlement { .. }, .. }) => {}
        other => panic!("{other:?}"),
    }
    let corridors = alone.corridors().await.expect("a word");
    assert_eq!((corridors[0].under_way, corridors[1].under_way), (150, 0));
    assert!(alone.rollup_status(ROLLUPS[0]).await.expect("a word").healthy);
}

#[tokio::test]
async fn a_refused_fact_comes_with_its_reason_and_another_node_may_take_it() {
    let (world, tip) = (story(), tip(3));
    // Also a reason that bundles have.
    for reason in ["not_owner", "bad_signature", "malformed"] {
        let refused = FactRefused { reason: reason.into(), detail: "because".into() };
        let script =
            |refused: FactRefused| Script { fact: Box::new(move |_| Err(refused.clone())), ..Script::default() };
        let refuses = ScriptedNode::start(&world, &tip, script(refused.clone())).await;
        let sid = id_of(&committed());
        match client(&world, &[&refuses]).abort_settlement(sid, &alice()).await {
            Err(Error::FactRefused { refused, .. }) => assert_eq!(refused.reason, reason),
            other => panic!("{other:?}"),
        }
        let takes = Script {
            fact: Box::new(move |fact| {
                let Fact::Abort(signed) = fact else { panic!("{fact:?}") };
                assert_eq!((signed.abort.settlement, signed.check_signature()), (sid, Ok(())));
                Ok(())
            }),
            ..Script::default()
        };
        let takes = ScriptedNode::start(&world, &tip, takes).await;
        let both = client(&world, &[&refuses, &takes]);
        assert_eq!(both.abort_settlement(sid, &alice()).await.expect("taken").height, Height(3));
        assert!(both.nodes().iter().all(|node| node.failures == 0), "saying no is no failure");
    }
}
