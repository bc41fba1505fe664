//! Can a body from a bad leader harm a validator? Signatures are vouched for, so that the transition is reached.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use lockstep_protocol::{
    body::{Body, CheckedBody},
    genesis::{Balance, Format, Genesis, GroupKeyBytes, Rollup, Rules},
    header::Header,
    ids::{Address20, Hash32, RollupId},
    settlement::{
        Level,
        config::{Participant, SettlementConfig},
    },
    state::Records,
    transition::{Position, apply, build},
    wire::Wire,
};

static RULES: LazyLock<Rules> = LazyLock::new(|| rules(&[]));

/// Rules of the network that the first item is for, in which everybody who appears is rich.
fn rules(balances: &[Balance]) -> Rules {
    let genesis = Genesis {
        network: "lockstep-test-1".into(),
        timestamp_ms: 1,
        group_key: GroupKeyBytes([0; 96]),
        sharing: Vec::new(),
        validators: vec![Hash32([1; 32])],
        rollups: [10, 901, 42_161]
            .map(|id| {
                let mut rollup = Rollup::new(RollupId(id), String::new(), Format::Eip2718, 1);
                let escrows = vec![Address20([0xe0; 20]), Address20([0xe1; 20])];
                let settled_level = Level::Executed;
                rollup.settlement = Some(Participant { hub: Address20([0x40; 20]), escrows, settled_level });
                rollup
            })
            .to_vec(),
        balances: balances.to_vec(),
        settlement: Some(SettlementConfig { apply_window: 40, assets: vec![], corridors: vec![] }),
    };
    genesis.rules().expect("the genesis is good")
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(body) = Body::from_wire(bytes) else { return };
    assert_eq!(body.to_wire(), bytes);
    let accounts = body.cancels.iter().map(|signed| signed.cancel.account);
    let mut accounts: Vec<_> = accounts.chain(body.bundles.iter().map(|signed| signed.bundle.account)).collect();
    accounts.sort();
    accounts.dedup();
    let balances: Vec<_> = accounts.into_iter().map(|account| Balance { account, credits: 1 << 40 }).collect();
    let mut rules = rules(&balances);
    rules.network = RULES.network;
    let Ok(checked) = CheckedBody::new(body, &rules, |_, _| true) else { return };
    let parent = Header { network: rules.network, sync_end: 1, ..Header::default() };
    let position = Position { timestamp_ms: 1, l1: parent.l1, parent };
    let mut records: Records = checked.keys(&rules, position.height()).into_iter().map(|key| (key, None)).collect();
    let more = checked.more_keys(&rules, position.height(), &records);
    records.extend(more.into_iter().map(|key| (key, None)));
    let applied = apply(&rules, &position, &checked, &records);
    let built = build(&rules, &position, checked, &records);
    match applied {
        Ok(outcome) => assert!(built.left_out.is_empty() && built.outcome == outcome),
        Err(_) => assert!(apply(&rules, &position, &built.body, &records).is_ok_and(|again| again == built.outcome)),
    }
});
