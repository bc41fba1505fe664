//! Does an L1 make blocks as Ethereum does, and take them back when told?

mod client;

use alloy_primitives::{B256, U256};
use client::{Rpc, ether};
use lockstep_evm::{
    Config, L1, Node, Reorg, Role,
    accounts::{DEV_KEYS, dev_accounts, transfer},
};
use serde_json::json;

const CHAIN: u64 = 1_337;

async fn quiet_l1() -> Node {
    let genesis = lockstep_evm::genesis(CHAIN, 1_700_000_000, &dev_accounts(), ether(100));
    let role = Role::L1(L1 { interval: None, safe_depth: 2, finalized_depth: 3, ..L1::default() });
    Node::start(Config::new(genesis, role)).await.expect("it starts")
}

#[tokio::test]
async fn a_transaction_waits_is_mined_and_is_found_again() {
    let node = quiet_l1().await;
    let rpc = Rpc::new(&node);
    let [from, to, ..] = dev_accounts();
    let raw = transfer(DEV_KEYS[0], CHAIN, 0, to, 5);
    let hash = rpc.call("eth_sendRawTransaction", json!([raw])).await;
    assert_eq!(rpc.call("eth_getTransactionCount", json!([from, "latest"])).await, json!("0x0"));
    assert_eq!(rpc.call("eth_getTransactionCount", json!([from, "pending"])).await, json!("0x1"));
    assert!(rpc.call("eth_getTransactionByHash", json!([hash])).await["blockHash"].is_null());
    assert!(rpc.call("eth_getTransactionReceipt", json!([hash])).await.is_null());
    let again = rpc.refuse("eth_sendRawTransaction", json!([raw])).await;
    assert_eq!((again.0, again.1.as_str()), (-32000, "already known"));

    let block = node.mine().await.expect("a block");
    assert_eq!(block.transactions.len(), 1);
    let receipt = rpc.call("eth_getTransactionReceipt", json!([hash])).await;
    assert_eq!(receipt["status"], json!("0x1"));
    assert_eq!(receipt["gasUsed"], json!("0x5208"));
    assert_eq!(receipt["blockHash"], json!(block.hash));
    assert_eq!(node.state().balance(to), ether(100) + U256::from(5));
    let used = rpc.refuse("eth_sendRawTransaction", json!([transfer(DEV_KEYS[0], CHAIN, 0, to, 6)])).await;
    assert!(used.1.starts_with("nonce too low"), "{}", used.1);
    let elsewhere = rpc.refuse("eth_sendRawTransaction", json!([transfer(DEV_KEYS[0], 1, 1, to, 6)])).await;
    assert!(elsewhere.1.starts_with("invalid chain id"), "{}", elsewhere.1);
    node.stop().await;
}

#[tokio::test]
async fn a_reorganisation_changes_hashes_and_keeps_or_loses_transactions() {
    let node = quiet_l1().await;
    let rpc = Rpc::new(&node);
    let to = dev_accounts()[1];
    for nonce in 0..10 {
        rpc.call("eth_sendRawTransaction", json!([transfer(DEV_KEYS[0], CHAIN, nonce, to, 1)])).await;
        node.mine().await.expect("a block");
    }
    for depth in [1, 3, 10] {
        let before = node.head();
        let after = node.reorg(Reorg { depth, keep_transactions: true, transactions: vec![] }).await.expect("a reorg");
        assert_eq!(after.header.number, before.header.number);
        assert_ne!(after.hash, before.hash);
        assert_eq!(node.state().nonce(dev_accounts()[0]), 10, "after {depth}");
        assert_eq!(rpc.call("eth_getBlockByNumber", json!(["latest", false])).await["hash"], json!(after.hash));
    }
    node.reorg(Reorg { depth: 4, ..Reorg::default() }).await.expect("a reorg");
    // The last reorganisation put all ten into its first block, which four blocks do not reach.
    assert_eq!(node.state().nonce(dev_accounts()[0]), 10);
    node.reorg(Reorg { depth: 10, ..Reorg::default() }).await.expect("a reorg");
    assert_eq!(node.state().nonce(dev_accounts()[0]), 0, "their transactions are lost");
    let too_deep = rpc.refuse("anvil_reorg", json!([11])).await;
    assert_eq!(too_deep.0, -32602, "{}", too_deep.1);
    node.stop().await;
}

#[tokio::test]
async fn a_snapshot_brings_everything_back() {
    let node = quiet_l1().await;
    let rpc = Rpc::new(&node);
    let before = node.mine().await.expect("a block");
    let id = rpc.call("evm_snapshot", json!([])).await;
    let to = dev_accounts()[1];
    rpc.call("eth_sendRawTransaction", json!([transfer(DEV_KEYS[0], CHAIN, 0, to, 1)])).await;
    rpc.call("evm_mine", json!([])).await;
    assert_eq!(node.state().nonce(dev_accounts()[0]), 1);
    assert_eq!(rpc.call("evm_revert", json!([id])).await, json!(true));
    assert_eq!(node.head().hash, before.hash);
    assert_eq!(node.state().nonce(dev_accounts()[0]), 0);
    assert_eq!(rpc.call("evm_revert", json!([id])).await, json!(false), "a snapshot is used up");
    node.stop().await;
}

#[tokio::test]
async fn safe_and_finalized_follow_the_head_at_their_distance() {
    let node = quiet_l1().await;
    let rpc = Rpc::new(&node);
    for _ in 0..5 {
        node.mine().await.expect("a block");
    }
    for (tag, number) in
        [("latest", "0x5"), ("safe", "0x3"), ("finalized", "0x2"), ("earliest", "0x0"), ("pending", "0x6")]
    {
        assert_eq!(rpc.call("eth_getBlockByNumber", json!([tag, false])).await["number"], json!(number), "{tag}");
    }
    assert!(rpc.call("eth_getBlockByNumber", json!(["0x7", false])).await.is_null());
    assert!(rpc.call("eth_getBlockByHash", json!([B256::ZERO, false])).await.is_null());
    node.stop().await;
}

#[tokio::test]
async fn an_instant_l1_mines_what_arrives() {
    let genesis = lockstep_evm::genesis(CHAIN, 1_700_000_000, &dev_accounts(), ether(100));
    let role = Role::L1(L1 { interval: None, instant: true, ..L1::default() });
    let node = Node::start(Config::new(genesis, role)).await.expect("it starts");
    let rpc = Rpc::new(&node);
    let hash = rpc.call("eth_sendRawTransaction", json!([transfer(DEV_KEYS[0], CHAIN, 0, dev_accounts()[1], 1)])).await;
    while rpc.call("eth_getTransactionReceipt", json!([hash])).await.is_null() {
        tokio::task::yield_now().await;
    }
    assert_eq!(node.head().header.number, 1);
    node.stop().await;
}
