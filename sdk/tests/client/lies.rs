//! Each kind of lie is refused with an error of its own, counted, and the honest node is asked instead.

use std::{sync::Arc, time::Duration};

use lockstep_sdk::{
    SubmitError,
    error::{CheckError, Error, Fault},
    protocol::{
        certificate::{CertificateError, CertificateSignature},
        evidence::{BundleState, EvidenceError, Reports},
        header::Header,
        ids::{Hash32, Height, NetworkId},
        refusal::Refusal,
        rpc::{FinalHeader, HexBytes, Network, StateProof, StateQuery},
    },
};

use crate::{
    fork::{bundle, story},
    node::{Script, ScriptedNode, Tip, client, tip},
    world::{World, alice, bob, certify, group, stranger},
};

const WITHIN: Duration = Duration::from_secs(8);

/// Asserts that the outcome of `bundle(alice, 0)` is had in spite of a node with `script`, which is asked first and found
/// to do `expected`; and that it is not had from that node alone.
async fn outcome_in_spite_of(world: &Arc<World>, tip: &Tip, script: impl Fn() -> Script, expected: CheckError) {
    let signed = bundle(&alice(), 0);
    let liar = ScriptedNode::start(world, tip, script()).await;
    let alone = client(world, &[&liar]);
    match alone.submit_and_wait(&signed, Duration::from_millis(600)).await {
        Err(SubmitError::Deadline { proven_open: None, faults, .. }) => {
            let lie = Fault::Lie(expected.clone());
            assert!(faults.iter().any(|fault| fault.node == liar.url && fault.fault == lie), "{expected}: {faults}");
        }
        other => panic!("{expected}: {other:?}"),
    }
    let honest = ScriptedNode::honest(world, tip).await;
    let client = client(world, &[&liar, &honest]);
    let outcome = client.submit_and_wait(&signed, WITHIN).await.expect("the honest node's");
    assert!(matches!(outcome.state, BundleState::Ordered { height: Height(5), .. }));
    let lies: Vec<_> = client.nodes().iter().map(|node| node.lies).collect();
    assert_eq!(lies, [1, 0], "{expected}: {:?}", outcome.faults);
    assert!(client.nodes()[0].benched);
}

fn state(change: impl Fn(&mut StateProof) + Send + Sync + 'static) -> Script {
    let change = move |mut truth: StateProof| {
        change(&mut truth);
        truth
    };
    Script { state: Box::new(change), ..Script::default() }
}

fn forged(height: u64) -> CheckError {
    CheckError::Header { height: Height(height), error: CertificateError::Forged(Height(height)) }
}

#[tokio::test]
async fn a_forged_certificate() {
    let (world, tip) = (story(), tip(7));
    // By another group, of another block, and by nobody.
    let by_another = || state(|proof| proof.finality.certificate = certify(&group(8), &proof.header));
    outcome_in_spite_of(&world, &tip, by_another, forged(7)).await;
    let other = world.block(Height(4)).finality.certificate;
    outcome_in_spite_of(&world, &tip, || state(move |proof| proof.finality.certificate = other), forged(7)).await;
    let none = || state(|proof| proof.finality.certificate.signature = CertificateSignature([0; 48]));
    outcome_in_spite_of(&world, &tip, none, forged(7)).await;
}

#[tokio::test]
async fn a_header_that_was_changed_after_it_was_signed() {
    let (world, tip) = (story(), tip(7));
    outcome_in_spite_of(&world, &tip, || state(|proof| proof.header.state = Hash32([1; 32])), forged(7)).await;
}

#[tokio::test]
async fn a_descendant_that_is_no_child() {
    let (world, tip) = (story(), tip(7));
    let stray =
        || state(|proof| proof.finality.descendants = vec![Header { height: Height(8), ..proof.header.clone() }]);
    let error = CertificateError::BrokenChain(Height(8));
    // Its network is right, its parent is not.
    outcome_in_spite_of(&world, &tip, stray, CheckError::Header { height: Height(7), error }).await;
}

#[tokio::test]
async fn a_foreign_networks_block() {
    let (world, tip) = (story(), tip(7));
    let foreign = World::of("elsewhere", 7, vec![Default::default(); 7]);
    let answer = foreign.state(StateQuery::Account(alice().account()), Height(7));
    let error = CertificateError::WrongNetwork {
        expected: NetworkId::from_name("test"),
        found: NetworkId::from_name("elsewhere"),
    };
    let lie = move || {
        let answer = answer.clone();
        state(move |proof| *proof = answer.clone())
    };
    outcome_in_spite_of(&world, &tip, lie, CheckError::Header { height: Height(7), error }).await;
}

#[tokio::test]
async fn a_state_proof_that_does_not_lead_to_the_state() {
    let (world, tip) = (story(), tip(7));
    let wrong = CheckError::State { height: Height(7) };
    // The record before the bundle was ordered; the proof bent; another block's proof; present called absent; garbage.
    let old = world.state(StateQuery::Account(alice().account()), Height(4));
    let old_record = old.record.clone();
    let lie = move || {
        let record = old_record.clone();
        state(move |proof| proof.record = record.clone())
    };
    outcome_in_spite_of(&world, &tip, lie, wrong.clone()).await;
    outcome_in_spite_of(&world, &tip, || state(|proof| proof.proof.0[40] ^= 1), wrong.clone()).await;
    let old_proof = old.proof.clone();
    let lie = move || {
        let old = old_proof.clone();
        state(move |proof| proof.proof = old.clone())
    };
    outcome_in_spite_of(&world, &tip, lie, wrong.clone()).await;
    let absent = world.state(StateQuery::Account(stranger().account()), Height(7)).proof;
    let lie = move || {
        let absent = absent.clone();
        state(move |proof| {
            proof.record = None;
            proof.proof = absent.clone();
        })
    };
    outcome_in_spite_of(&world, &tip, lie, wrong.clone()).await;
    for garbage in [vec![], vec![1], vec![0], vec![2; 700], vec![1; 700], vec![0xff; 70_000]] {
        let lie = move || {
            let garbage = garbage.clone();
            state(move |proof| proof.proof = HexBytes(garbage.clone()))
        };
        outcome_in_spite_of(&world, &tip, lie, wrong.clone()).await;
    }
}

#[tokio::test]
async fn another_accounts_record() {
    let (world, tip) = (story(), tip(7));
    let answer = world.state(StateQuery::Account(bob().account()), Height(7));
    let asked = world.state(StateQuery::Account(alice().account()), Height(7)).key;
    let error = CheckError::Key { asked, found: answer.key };
    let honest_key = answer.clone();
    let lie = move || {
        let answer = honest_key.clone();
        state(move |proof| *proof = answer.clone())
    };
    outcome_in_spite_of(&world, &tip, lie, error).await;
    let renamed = StateProof { key: asked, ..answer };
    let lie = move || {
        let renamed = renamed.clone();
        state(move |proof| *proof = renamed.clone())
    };
    outcome_in_spite_of(&world, &tip, lie, CheckError::State { height: Height(7) }).await;
    let short = || state(|proof| proof.record = Some(HexBytes(vec![1; 255])));
    outcome_in_spite_of(&world, &tip, short, CheckError::RecordLength(255)).await;
}

#[tokio::test]
async fn a_withheld_changed_or_invented_report() {
    let (world, tip) = (story(), tip(7));
    let reports = |change: fn(&mut Reports)| {
        move || {
            let change = move |mut truth: Reports| {
                change(&mut truth);
                truth
            };
            Script { reports: Box::new(change), ..Script::default() }
        }
    };
    let withheld = |missing| CheckError::Withheld { first: 1, last: 3, missing };
    outcome_in_spite_of(&world, &tip, reports(|reports| reports.reports.clear()), withheld(1)).await;
    let broken = CheckError::Evidence(EvidenceError::BrokenChain);
    let changed = reports(|reports| {
        use lockstep_sdk::protocol::report::Event;
        if let Some(Event::Ordered { bundle, .. }) = reports.reports.get_mut(1).map(|report| &mut report.event) {
            bundle.0[0] ^= 1;
        }
    });
    outcome_in_spite_of(&world, &tip, changed, broken).await;
    let moved = reports(|reports| drop(reports.reports.remove(1)));
    let gap = EvidenceError::NotConsecutive { first: 1, last: 3, found: 3 };
    outcome_in_spite_of(&world, &tip, moved, CheckError::Evidence(gap)).await;
}

#[tokio::test]
async fn a_node_that_calls_a_checked_bundle_malformed() {
    let (world, tip) = (story(), tip(4));
    let script = Script { send: Box::new(|_, _| Err(Refusal::BadSignature)), ..Script::default() };
    let liar = ScriptedNode::start(&world, &tip, script).await;
    let honest = ScriptedNode::honest(&world, &tip).await;
    let client = client(&world, &[&liar, &honest]);
    assert!(client.send(&bundle(&alice(), 0)).await.is_ok());
    assert_eq!(client.nodes()[0].lies, 1);
    assert!(client.nodes()[0].last_fault.as_ref().is_some_and(|fault| fault.contains("BadSignature")));
}

#[tokio::test]
async fn a_node_that_says_that_everything_is_ordered_only_ends_the_wait() {
    // Its word for the outcome comes from a chain in which the bundle is ordered; its proofs are of the height before.
    let (world, tip) = (story(), tip(7));
    let before = world.state(StateQuery::Account(alice().account()), Height(4));
    let script = state(move |proof| *proof = before.clone());
    let node = ScriptedNode::start(&world, &tip, script).await;
    let client = client(&world, &[&node]);
    let signed = bundle(&alice(), 0);
    assert!(matches!(client.status(signed.bundle.id()).await.expect("its word").state, BundleState::Ordered { .. }));
    let error = client.submit_and_wait(&signed, Duration::from_millis(600)).await.expect_err("not proven");
    assert!(matches!(error, SubmitError::Deadline { proven_open: Some(Height(4)), taken: true, .. }), "{error}");
    // An honest node beside it: an old truth is no lie, and does not hide the new one.
    let honest = ScriptedNode::honest(&world, &tip).await;
    let client = crate::node::client(&world, &[&node, &honest]);
    let outcome = client.submit_and_wait(&signed, WITHIN).await.expect("proven");
    assert!(matches!(outcome.state, BundleState::Ordered { height: Height(5), .. }));
    assert!(outcome.faults.is_empty());
}

#[tokio::test]
async fn headers_that_are_not_what_was_asked_for() {
    let (world, tip) = (story(), tip(7));
    let header = |change: fn(&mut FinalHeader)| Script {
        header: Box::new(move |mut truth| {
            change(&mut truth);
            truth
        }),
        ..Script::default()
    };
    type Change = fn(&mut FinalHeader);
    let cases: [(Change, CheckError); 3] = [
        (|answer| answer.digest.0[0] ^= 1, CheckError::Digest { height: Height(4) }),
        (|answer| answer.finality.certificate = certify(&group(8), &answer.header), forged(4)),
        (|answer| answer.header.height = Height(3), CheckError::Height { asked: Height(4), found: Height(3) }),
    ];
    for (change, expected) in cases {
        let liar = ScriptedNode::start(&world, &tip, header(change)).await;
        let honest = ScriptedNode::honest(&world, &tip).await;
        match client(&world, &[&liar]).header(Height(4)).await {
            Err(Error::NoAnswer { faults }) => {
                assert_eq!(faults.iter().next().expect("a fault").fault, Fault::Lie(expected));
                assert!(faults.any_lie());
            }
            other => panic!("{other:?}"),
        }
        let client = client(&world, &[&liar, &honest]);
        assert_eq!(client.header(Height(4)).await.expect("honest").header, world.block(Height(4)).header);
    }
}

#[tokio::test]
async fn a_node_that_names_another_key_or_network() {
    let (world, tip) = (story(), tip(7));
    let network = |change: fn(&mut Network)| Script {
        network: Box::new(move |mut truth| {
            change(&mut truth);
            truth
        }),
        ..Script::default()
    };
    type Change = fn(&mut Network);
    let cases: [(Change, CheckError); 2] = [
        (|network| network.group_key.0 = group(8).sk_to_pk().compress(), CheckError::GroupKey),
        (
            |network| network.id = NetworkId::from_name("elsewhere"),
            CheckError::Network { expected: NetworkId::from_name("test"), found: NetworkId::from_name("elsewhere") },
        ),
    ];
    for (change, expected) in cases {
        let liar = ScriptedNode::start(&world, &tip, network(change)).await;
        match client(&world, &[&liar]).network().await {
            Err(Error::NoAnswer { faults }) => {
                assert!(faults.iter().all(|fault| fault.fault == Fault::Lie(expected.clone())), "{faults}");
            }
            other => panic!("{other:?}"),
        }
        let honest = ScriptedNode::honest(&world, &tip).await;
        assert_eq!(client(&world, &[&liar, &honest]).network().await.expect("honest").name, "test");
    }
}
