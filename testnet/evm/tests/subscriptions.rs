//! Does a subscriber hear every block and log, and hear of those that are taken back?

mod client;

use alloy_consensus::TxLegacy;
use alloy_primitives::{B256, Bytes, TxKind, U256};
use client::{Rpc, contract::create_counter, ether};
use jsonrpsee_core::{
    client::{Subscription, SubscriptionClientT},
    params::ArrayParams,
};
use jsonrpsee_ws_client::{WsClient, WsClientBuilder};
use lockstep_evm::{
    Config, L1, Node, Reorg, Role,
    accounts::{DEV_KEYS, dev_accounts, sign},
};
use serde_json::{Value, json};

const CHAIN: u64 = 1_338;

fn call(nonce: u64, to: TxKind, input: Bytes) -> Bytes {
    let tx = TxLegacy {
        chain_id: Some(CHAIN),
        nonce,
        gas_price: 100_000_000_000,
        gas_limit: 200_000,
        to,
        value: U256::ZERO,
        input,
    };
    sign(tx, DEV_KEYS[0])
}

async fn subscribe(client: &WsClient, params: Value) -> Subscription<Value> {
    let mut array = ArrayParams::new();
    for value in params.as_array().expect("parameters are an array") {
        array.insert(value).expect("JSON is JSON");
    }
    client.subscribe("eth_subscribe", array, "eth_unsubscribe").await.expect("a subscription")
}

async fn next(subscription: &mut Subscription<Value>) -> Value {
    subscription.next().await.expect("it is open").expect("JSON")
}

#[tokio::test]
async fn heads_and_logs_are_told_in_order_also_when_they_are_taken_back() {
    let genesis = lockstep_evm::genesis(CHAIN, 1_700_000_000, &dev_accounts(), ether(100));
    let node =
        Node::start(Config::new(genesis, Role::L1(L1 { interval: None, ..L1::default() }))).await.expect("it starts");
    let rpc = Rpc::new(&node);
    let client = WsClientBuilder::default().build(node.ws_url()).await.expect("a connection");
    let contract = dev_accounts()[0].create(0);
    let mut heads = subscribe(&client, json!(["newHeads"])).await;
    let mut logs = subscribe(&client, json!(["logs", { "address": contract }])).await;
    let mut others = subscribe(&client, json!(["logs", { "topics": [B256::with_last_byte(8)] }])).await;
    assert!(client.request_unknown().await, "an unknown subscription is refused");
    let blocks = rpc.call("eth_newBlockFilter", json!([])).await;
    let counted = rpc.call("eth_newFilter", json!([{ "address": contract }])).await;

    rpc.call("eth_sendRawTransaction", json!([call(0, TxKind::Create, create_counter())])).await;
    let first = node.mine().await.expect("a block");
    rpc.call("eth_sendRawTransaction", json!([call(1, contract.into(), Bytes::new())])).await;
    let second = node.mine().await.expect("a block");
    for block in [&first, &second] {
        let head = next(&mut heads).await;
        assert_eq!((&head["hash"], &head["parentHash"]), (&json!(block.hash), &json!(block.header.parent_hash)));
    }
    let log = next(&mut logs).await;
    assert_eq!((&log["blockHash"], &log["removed"]), (&json!(second.hash), &json!(false)));

    let reorg = Reorg { depth: 1, keep_transactions: true, transactions: vec![] };
    let third = node.reorg(reorg).await.expect("a reorganisation");
    assert_eq!(next(&mut heads).await["hash"], json!(third.hash));
    let taken = next(&mut logs).await;
    assert_eq!((&taken["blockHash"], &taken["removed"]), (&json!(second.hash), &json!(true)));
    let again = next(&mut logs).await;
    assert_eq!((&again["blockHash"], &again["removed"]), (&json!(third.hash), &json!(false)));
    drop(logs);
    // Who polls hears the same.
    let hashes = json!([first.hash, second.hash, third.hash]);
    assert_eq!(rpc.call("eth_getFilterChanges", json!([blocks])).await, hashes);
    assert_eq!(rpc.call("eth_getFilterChanges", json!([blocks])).await, json!([]));
    let changes = rpc.call("eth_getFilterChanges", json!([counted])).await;
    let removed: Vec<_> = changes.as_array().expect("a list").iter().map(|log| log["removed"].clone()).collect();
    assert_eq!(removed, [false, true, false]);
    assert_eq!(rpc.call("eth_getFilterLogs", json!([counted])).await.as_array().map(Vec::len), Some(1));
    assert_eq!(rpc.call("eth_uninstallFilter", json!([counted])).await, json!(true));
    assert_eq!(rpc.refuse("eth_getFilterChanges", json!([counted])).await.1, "filter not found");
    let quiet = tokio::time::timeout(std::time::Duration::from_millis(50), others.next()).await;
    assert!(quiet.is_err(), "another topic is not told");
    node.stop().await;
}

trait Unknown {
    async fn request_unknown(&self) -> bool;
}

impl Unknown for WsClient {
    async fn request_unknown(&self) -> bool {
        let mut params = ArrayParams::new();
        params.insert("weather").expect("JSON");
        self.subscribe::<Value, _>("eth_subscribe", params, "eth_unsubscribe").await.is_err()
    }
}
