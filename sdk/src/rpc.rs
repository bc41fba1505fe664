//! The node's methods as calls: names and positions of parameters, nothing else.

use std::time::Duration;

use jsonrpsee_core::{
    client::{Subscription, SubscriptionClientT},
    params::ArrayParams,
};
use jsonrpsee_ws_client::WsClient;
use lockstep_protocol::{
    bundle::{SignedBundle, SignedCancel},
    evidence::Reports,
    genesis::Rollup,
    ids::{Account, BundleId, Height, RollupId, SettlementId},
    lane::LaneItem,
    limits::Limits,
    rpc::{
        BundleStatus, CancelSent, CorridorStatus, DecisionPage, Fact, FactRefused, FactSent, FinalHeader, HexBytes,
        LaneFee, LanePage, Message, Network, RollupStatus, Sent, SettlementStatus, StateProof, StateQuery,
        UnsettledPage,
    },
    wire::Wire,
};
use serde::Serialize;

use crate::{
    error::Fault,
    node::{Node, fault_of},
};

macro_rules! params {
    ($($value:expr),* $(,)?) => {{
        #[allow(unused_mut, reason = "some methods take none")]
        let mut params = ArrayParams::new();
        $(insert(&mut params, $value);)*
        params
    }};
}

pub(crate) async fn get_network(node: &Node, timeout: Duration) -> Result<Network, Fault> {
    node.call("getNetwork", params![], timeout).await
}

pub(crate) async fn send_bundle(node: &Node, signed: &SignedBundle, timeout: Duration) -> Result<Sent, Fault> {
    node.call("sendBundle", params![HexBytes(signed.to_wire())], timeout).await
}

pub(crate) async fn cancel_bundle(node: &Node, signed: &SignedCancel, timeout: Duration) -> Result<CancelSent, Fault> {
    node.call("cancelBundle", params![HexBytes(signed.to_wire())], timeout).await
}

pub(crate) async fn get_bundle(node: &Node, bundle: BundleId, timeout: Duration) -> Result<BundleStatus, Fault> {
    node.call("getBundle", params![bundle], timeout).await
}

/// Asks the node to answer when the bundle has an outcome, or after `hold`.
pub(crate) async fn wait_bundle(
    node: &Node,
    bundle: BundleId,
    hold: Duration,
    timeout: Duration,
) -> Result<BundleStatus, Fault> {
    let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
    node.call("waitBundle", params![bundle, hold_ms], timeout.saturating_add(hold)).await
}

pub(crate) async fn get_header(node: &Node, height: Option<Height>, timeout: Duration) -> Result<FinalHeader, Fault> {
    node.call("getHeader", params![height], timeout).await
}

pub(crate) async fn get_lane(
    node: &Node,
    rollup: RollupId,
    from: Height,
    timeout: Duration,
) -> Result<LanePage, Fault> {
    node.call("getLane", params![rollup, from], timeout).await
}

pub(crate) async fn get_state(node: &Node, query: StateQuery, timeout: Duration) -> Result<StateProof, Fault> {
    node.call("getState", params![query], timeout).await
}

/// At most `count` reports from number `first`.
pub(crate) async fn get_reports(
    node: &Node,
    account: Account,
    first: u64,
    count: u64,
    timeout: Duration,
) -> Result<Reports, Fault> {
    node.call("getReports", params![account, first, count], timeout).await
}

pub(crate) async fn get_limits(node: &Node, timeout: Duration) -> Result<Limits, Fault> {
    node.call("getLimits", params![], timeout).await
}

pub(crate) async fn get_fees(node: &Node, timeout: Duration) -> Result<Vec<LaneFee>, Fault> {
    node.call("getFees", params![], timeout).await
}

pub(crate) async fn get_rollups(node: &Node, timeout: Duration) -> Result<Vec<Rollup>, Fault> {
    node.call("getRollups", params![], timeout).await
}

pub(crate) async fn get_settlement(
    node: &Node,
    settlement: SettlementId,
    timeout: Duration,
) -> Result<SettlementStatus, Fault> {
    node.call("getSettlement", params![settlement], timeout).await
}

/// Asks the node to answer when a block above `after` has changed the settlement, or after `hold`.
pub(crate) async fn wait_settlement(
    node: &Node,
    settlement: SettlementId,
    after: Height,
    hold: Duration,
    timeout: Duration,
) -> Result<SettlementStatus, Fault> {
    let hold_ms = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
    node.call("waitSettlement", params![settlement, after, hold_ms], timeout.saturating_add(hold)).await
}

pub(crate) async fn get_unsettled(
    node: &Node,
    rollup: RollupId,
    after: Option<SettlementId>,
    max: u64,
    timeout: Duration,
) -> Result<UnsettledPage, Fault> {
    node.call("getUnsettled", params![rollup, after, max], timeout).await
}

/// At most `max` decisions from number `from`, up to the end of a block.
pub(crate) async fn get_decisions(
    node: &Node,
    rollup: RollupId,
    from: u64,
    max: u64,
    timeout: Duration,
) -> Result<DecisionPage, Fault> {
    node.call("getDecisions", params![rollup, from, max], timeout).await
}

pub(crate) async fn get_rollup_status(node: &Node, rollup: RollupId, timeout: Duration) -> Result<RollupStatus, Fault> {
    node.call("getRollupStatus", params![rollup], timeout).await
}

pub(crate) async fn get_corridors(node: &Node, timeout: Duration) -> Result<Vec<CorridorStatus>, Fault> {
    node.call("getCorridors", params![], timeout).await
}

pub(crate) async fn send_fact(node: &Node, fact: &Fact, timeout: Duration) -> Result<FactSent, Fault> {
    match node.call("sendFact", params![fact], timeout).await {
        // Reasons of facts and of bundles partly have the same names.
        Err(Fault::Refused(refusal)) => {
            let (reason, detail) = (refusal.reason().to_owned(), refusal.to_string());
            Err(Fault::Fact(FactRefused { reason, detail }))
        }
        result => result,
    }
}

/// Items of a lane from a height, pushed.
pub(crate) async fn subscribe_lane(
    client: &WsClient,
    rollup: RollupId,
    from: Height,
    timeout: Duration,
) -> Result<Subscription<Message<LaneItem>>, Fault> {
    let subscribe = client.subscribe("lockstep_subscribeLane", params![rollup, from], "lockstep_unsubscribeLane");
    match tokio::time::timeout(timeout, subscribe).await {
        Err(_) => Err(Fault::Timeout { after: timeout }),
        Ok(Err(error)) => Err(fault_of(error, timeout)),
        Ok(Ok(subscription)) => Ok(subscription),
    }
}

fn insert(params: &mut ArrayParams, value: impl Serialize) {
    params.insert(value).expect("parameters are plain values, which JSON can write");
}
