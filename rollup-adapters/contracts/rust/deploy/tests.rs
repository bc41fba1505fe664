//! Are the interfaces in `abi.rs` those of the artifacts?

use std::collections::BTreeMap;

use alloy_primitives::keccak256;
use alloy_sol_types::{SolCall, SolConstructor, SolInterface};
use serde_json::Value;

use super::*;

/// `name(types)` of every entry of this kind.
fn signatures(artifact: &str, kind: &str) -> BTreeMap<[u8; 4], String> {
    let artifact: Value = serde_json::from_str(artifact).expect("the artifact is JSON");
    let entries = artifact["abi"].as_array().expect("an artifact has an ABI").iter();
    let entries = entries.filter(|entry| entry["type"] == kind).map(|entry| {
        let text = format!("{}{}", entry["name"].as_str().expect("a name"), tuple(&entry["inputs"]));
        (keccak256(&text)[..4].try_into().expect("four bytes"), text)
    });
    entries.collect()
}

fn tuple(inputs: &Value) -> String {
    let types = inputs.as_array().expect("a list").iter().map(|input| {
        let kind = input["type"].as_str().expect("a type");
        match kind.strip_prefix("tuple") {
            Some(array) => format!("{}{array}", tuple(&input["components"])),
            None => kind.to_owned(),
        }
    });
    format!("({})", types.collect::<Vec<_>>().join(","))
}

fn assert_known<C: SolInterface, E: SolInterface>(name: &str, artifact: &str) {
    let functions = signatures(artifact, "function");
    for selector in C::selectors() {
        assert!(functions.contains_key(&selector), "{name} has no function {selector:02x?}");
    }
    let errors = signatures(artifact, "error");
    for selector in E::selectors() {
        assert!(errors.contains_key(&selector), "{name} has no error {selector:02x?}");
    }
    assert!(C::COUNT > 5, "{name} lists {} functions", C::COUNT);
}

fn events(artifact: &str) -> Vec<B256> {
    signatures(artifact, "event").into_values().map(keccak256).collect()
}

fn assert_constructor<C: SolConstructor>(name: &str, artifact: &str, arguments: &C, bytes: usize) {
    assert_eq!(code(artifact, arguments).len(), creation(artifact).len() + bytes, "{name}");
}

#[test]
fn every_function_event_and_error_is_one_of_the_artifact() {
    let hub = include_str!("../../artifacts/SettlementHub.json");
    let escrow = include_str!("../../artifacts/MarginEscrow.json");
    let venue = include_str!("../../artifacts/ReferenceVenue.json");
    let token = include_str!("../../artifacts/TestToken.json");
    assert_known::<SettlementHub::SettlementHubCalls, SettlementHub::SettlementHubErrors>("hub", hub);
    assert_known::<MarginEscrow::MarginEscrowCalls, MarginEscrow::MarginEscrowErrors>("escrow", escrow);
    assert_known::<ReferenceVenue::ReferenceVenueCalls, ReferenceVenue::ReferenceVenueErrors>("venue", venue);
    let functions = signatures(token, "function");
    assert!(TestToken::TestTokenCalls::selectors().all(|selector| functions.contains_key(&selector)));
    for (topics, artifact) in [
        (SettlementHub::SettlementHubEvents::SELECTORS.to_vec(), hub),
        (MarginEscrow::MarginEscrowEvents::SELECTORS.to_vec(), escrow),
        (ReferenceVenue::ReferenceVenueEvents::SELECTORS.to_vec(), venue),
        (TestToken::TestTokenEvents::SELECTORS.to_vec(), token),
    ] {
        let known = events(artifact);
        assert!(!topics.is_empty() && topics.iter().all(|topic| known.contains(&B256::from(*topic))));
    }
    assert_constructor(
        "escrow",
        escrow,
        &MarginEscrow::constructorCall { hub_: Address::ZERO, owner_: Address::ZERO },
        64,
    );
}

#[test]
fn a_selector_that_is_no_function_would_be_noticed() {
    let token = signatures(include_str!("../../artifacts/TestToken.json"), "function");
    assert!(!token.contains_key(&MarginEscrow::prepareCall::SELECTOR));
    assert!(token.contains_key(&TestToken::mintCall::SELECTOR));
}
