//! An account's reports come numbered, complete, and in order.

use std::time::Duration;

use lockstep_sdk::{
    error::{CheckError, Error, Fault},
    protocol::{evidence::EvidenceError, ids::Height, report::Event},
    reports::ReportError,
};

use crate::{
    fork::story,
    node::{Script, ScriptedNode, client, tip},
    world::{alice, bob, stranger},
};

#[tokio::test]
async fn reports_are_given_in_order_and_waited_for() {
    let (world, tip) = (story(), tip(4));
    let node = ScriptedNode::honest(&world, &tip).await;
    let mut stream = client(&world, &[&node]).reports(alice().account(), 0);
    let first = stream.next().await.expect("funded");
    assert_eq!((first.sequence, first.height), (1, Height(1)));
    assert!(matches!(first.event, Event::Funded { .. }));
    assert_eq!(stream.try_next().await.expect("asked"), None);
    let moves = tip.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        moves.send_replace(9);
    });
    let mut heights = Vec::new();
    for _ in 0..3 {
        let report = stream.next().await.expect("a report");
        heights.push((report.sequence, report.height.0));
    }
    assert_eq!(heights, [(2, 5), (3, 7), (4, 9)]);
    assert_eq!(stream.height(), Height(9));
}

#[tokio::test]
async fn a_stream_resumes_after_a_number_from_another_node() {
    let (world, tip) = (story(), tip(14));
    let (first, second) = (ScriptedNode::honest(&world, &tip).await, ScriptedNode::honest(&world, &tip).await);
    let mut stream = client(&world, &[&first]).reports(bob().account(), 0);
    let (one, two) = (stream.next().await.expect("one"), stream.next().await.expect("two"));
    assert_eq!((one.sequence, two.sequence), (1, 2));
    let mut resumed = client(&world, &[&second]).reports(bob().account(), two.sequence);
    assert_eq!(resumed.next().await.expect("three"), stream.next().await.expect("three"));
    let mut none = client(&world, &[&second]).reports(stranger().account(), 0);
    assert_eq!(none.try_next().await.expect("an account without a record has none"), None);
}

#[tokio::test]
async fn a_hidden_or_changed_report_is_found_out_and_had_from_another_node() {
    let (world, tip) = (story(), tip(14));
    let hides = |change: fn(&mut lockstep_sdk::protocol::evidence::Reports)| Script {
        reports: Box::new(move |mut truth| {
            change(&mut truth);
            truth
        }),
        ..Script::default()
    };
    type Change = fn(&mut lockstep_sdk::protocol::evidence::Reports);
    let cases: [(Change, CheckError); 4] = [
        (|reports| reports.reports.clear(), CheckError::Withheld { first: 1, last: 4, missing: 1 }),
        (
            |reports| drop(reports.reports.remove(1)),
            CheckError::Evidence(EvidenceError::NotConsecutive { first: 1, last: 4, found: 3 }),
        ),
        (|reports| reports.reports[1].height = Height(6), CheckError::Evidence(EvidenceError::BrokenChain)),
        (|reports| reports.before.0[0] ^= 1, CheckError::Evidence(EvidenceError::BrokenChain)),
    ];
    for (change, expected) in cases {
        let liar = ScriptedNode::start(&world, &tip, hides(change)).await;
        let mut stream = client(&world, &[&liar]).reports(alice().account(), 0);
        match stream.next().await {
            Err(ReportError::Ask(Error::NoAnswer { faults })) => {
                assert!(faults.iter().all(|fault| fault.fault == Fault::Lie(expected.clone())), "{faults}");
            }
            other => panic!("{other:?}"),
        }
        let honest = ScriptedNode::honest(&world, &tip).await;
        let client = client(&world, &[&liar, &honest]);
        let mut stream = client.reports(alice().account(), 0);
        for sequence in 1..=4 {
            assert_eq!(stream.next().await.expect("from the honest node").sequence, sequence);
        }
        assert_eq!(client.nodes().iter().map(|node| node.lies).collect::<Vec<_>>(), [1, 0]);
    }
}
