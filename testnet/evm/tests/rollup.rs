//! Does a rollup execute exactly the order that it is given, leave out what may not run, and come back after a crash?

mod client;

use alloy_consensus::TxEip1559;
use alloy_eips::eip4895::Withdrawal;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_trie::{Nibbles, TrieAccount, proof::verify_proof};
use client::{
    Rpc,
    contract::{COUNTER, create_counter},
    ether,
};
use lockstep_evm::{
    BlockInput, BlockResult, Config, Node, NodeError, Role, Rollup,
    accounts::{DEV_KEYS, dev_accounts, sign, transfer},
};
use serde_json::json;
use std::path::Path;

const CHAIN: u64 = 42_170;
const START: u64 = 1_700_000_000;

async fn rollup(folder: Option<&Path>) -> Node {
    start(folder).await.expect("it starts")
}

async fn start(folder: Option<&Path>) -> Result<Node, NodeError> {
    let genesis = lockstep_evm::genesis(CHAIN, START, &dev_accounts(), ether(100));
    let role = Role::Rollup(Rollup { beneficiary: Address::repeat_byte(0xfe), ..Rollup::default() });
    Node::start(Config { folder: folder.map(Path::to_owned), ..Config::new(genesis, role) }).await
}

async fn execute(node: &Node, transactions: Vec<Bytes>) -> BlockResult {
    let timestamp = node.head().header.timestamp + 1;
    node.execute_block(BlockInput { timestamp, transactions, ..BlockInput::default() }).await.expect("a block")
}

fn call(nonce: u64, to: TxKind, input: Bytes) -> Bytes {
    let tx = TxEip1559 {
        chain_id: CHAIN,
        nonce,
        gas_limit: 200_000,
        max_fee_per_gas: 100_000_000_000,
        max_priority_fee_per_gas: 1,
        to,
        value: U256::ZERO,
        input,
        ..TxEip1559::default()
    };
    sign(tx, DEV_KEYS[0])
}

#[tokio::test]
async fn what_may_not_run_is_left_out_with_its_reason_and_leaves_no_trace() {
    let (with, without) = (rollup(None).await, rollup(None).await);
    let [a, b, ..] = dev_accounts();
    let poor = B256::repeat_byte(9);
    let good = [
        transfer(DEV_KEYS[0], CHAIN, 0, b, 1),
        transfer(DEV_KEYS[1], CHAIN, 0, a, 2),
        transfer(DEV_KEYS[0], CHAIN, 1, b, 3),
    ];
    let mut raised = good[1].to_vec();
    raised.push(0);
    let bad = [
        (1, transfer(DEV_KEYS[0], CHAIN, 0, b, 1), "nonce"),
        (2, transfer(DEV_KEYS[0], CHAIN, 7, b, 1), "nonce"),
        (3, Bytes::from_static(b"\xffgarbage"), "not a transaction"),
        (4, Bytes::new(), "not a transaction"),
        (5, transfer(poor, CHAIN, 0, b, 1), "fund"),
        (6, transfer(DEV_KEYS[0], CHAIN + 1, 1, b, 1), "chain"),
        (7, raised.into(), "follow"),
    ];
    let mut all = vec![good[0].clone()];
    all.extend(bad.iter().map(|(_, raw, _)| raw.clone()));
    all.extend(good[1..].iter().cloned());

    let input = BlockInput { timestamp: START + 1, transactions: all.clone(), ..BlockInput::default() };
    let simulated = with.simulate(input).await.expect("a simulation");
    assert_eq!(with.head().header.number, 0, "a simulation keeps nothing");
    let made = execute(&with, all).await;
    assert_eq!(simulated.block.hash, made.block.hash);
    assert_eq!(simulated.skipped, made.skipped);
    assert_eq!(made.skipped.len(), bad.len());
    for ((place, raw, word), skipped) in bad.iter().zip(&made.skipped) {
        assert_eq!((skipped.index, skipped.hash), (*place, keccak256(raw)));
        assert!(skipped.reason.to_lowercase().contains(word), "{}: {}", place, skipped.reason);
    }
    assert_eq!(made.block.hash, execute(&without, good.to_vec()).await.block.hash);
    with.stop().await;
    without.stop().await;
}

#[tokio::test]
async fn a_contract_counts_logs_and_reverts_and_its_proofs_hold() {
    let node = rollup(None).await;
    let rpc = Rpc::new(&node);
    let contract = dev_accounts()[0].create(0);
    let made = execute(&node, vec![call(0, TxKind::Create, create_counter())]).await;
    assert_eq!(made.block.receipts[0].contract, Some(contract));
    assert_eq!(node.state().code(contract), COUNTER);
    let made = execute(
        &node,
        vec![
            call(1, contract.into(), Bytes::new()),
            call(2, contract.into(), Bytes::from_static(b"no")),
            call(3, contract.into(), Bytes::new()),
        ],
    )
    .await;
    let status: Vec<bool> = made.block.receipts.iter().map(|receipt| receipt.envelope.status()).collect();
    assert_eq!(status, [true, false, true]);
    assert_eq!(made.skipped, [], "what reverts was run");
    assert_eq!(node.state().storage(contract, U256::ZERO), U256::from(2));

    let logs = rpc.call("eth_getLogs", json!([{ "address": contract, "fromBlock": "0x0" }])).await;
    let numbers: Vec<_> = logs.as_array().expect("a list").iter().map(|log| log["logIndex"].clone()).collect();
    assert_eq!(numbers, ["0x0", "0x1"]);
    assert_eq!(logs[1]["transactionIndex"], json!("0x2"));
    let topic = B256::with_last_byte(7);
    let none = rpc.call("eth_getLogs", json!([{ "topics": [B256::with_last_byte(8)], "fromBlock": "0x0" }])).await;
    assert_eq!(none, json!([]));
    let some = rpc.call("eth_getLogs", json!([{ "topics": [topic], "blockHash": made.block.hash }])).await;
    assert_eq!(some.as_array().expect("a list").len(), 2);
    let wide = rpc.refuse("eth_getLogs", json!([{ "fromBlock": "0x5", "toBlock": "0x1" }])).await;
    assert_eq!(wide.0, -32602);

    let request = json!({ "to": contract, "from": dev_accounts()[3] });
    assert_eq!(rpc.call("eth_call", json!([request])).await, json!(B256::with_last_byte(3)));
    assert_eq!(rpc.call("eth_call", json!([request, "0x1"])).await, json!(B256::with_last_byte(1)));
    let refused = rpc.refuse("eth_call", json!([{ "to": contract, "input": "0x00" }])).await;
    assert_eq!((refused.0, refused.1.as_str(), refused.2.as_deref()), (3, "execution reverted", Some("\"0x\"")));
    let gas: U256 = serde_json::from_value(rpc.call("eth_estimateGas", json!([request])).await).expect("a number");
    assert!(U256::from(made.block.receipts[2].gas_used) <= gas, "{gas}");
    assert_eq!(rpc.refuse("eth_estimateGas", json!([{ "to": contract, "input": "0x00" }])).await.0, 3);

    // An answer that leaves overrides out would be a wrong one.
    let slots = json!({ contract.to_string(): { "state": {} } });
    for method in ["eth_call", "eth_estimateGas"] {
        for (overrides, what) in [
            (vec![slots.clone()], "state"),
            (vec![json!({}), json!({ "time": "0x1" })], "block"),
            (vec![json!(null), json!("0x1")], "block"),
        ] {
            let params: Vec<_> = [request.clone(), json!("latest")].into_iter().chain(overrides).collect();
            let refused = rpc.refuse(method, json!(params)).await;
            assert_eq!((refused.0, refused.1), (-32602, format!("{what} overrides are not supported by this node")));
        }
        let plain = rpc.call(method, json!([request, "latest"])).await;
        for none in [json!([request, "latest", null, null]), json!([request, "latest", {}, {}])] {
            assert_eq!(rpc.call(method, none).await, plain);
        }
    }
    // As geth does, whatever else is asked for.
    let none = json!({ "oldestBlock": "0x0", "gasUsedRatio": null });
    for count in [json!(0), json!("0x0")] {
        assert_eq!(rpc.call("eth_feeHistory", json!([count, "latest", [5.0]])).await, none);
    }
    let one = rpc.call("eth_feeHistory", json!(["0x1", "latest", []])).await;
    assert_eq!((&one["oldestBlock"], one["gasUsedRatio"].as_array().map(Vec::len)), (&json!("0x2"), Some(1)));

    // Of this block and of the one before, of what is there and of what is not.
    for (number, count) in [(2, 2_u64), (1, 0)] {
        let at = format!("{number:#x}");
        let root = rpc.call("eth_getBlockByNumber", json!([at, false])).await["stateRoot"].clone();
        let root: B256 = serde_json::from_value(root).expect("a hash");
        for address in [contract, dev_accounts()[1], Address::repeat_byte(0x77)] {
            let proof = rpc.call("eth_getProof", json!([address, ["0x0", "0x5"], at])).await;
            let field = |name: &str| proof[name].clone();
            let nodes: Vec<Bytes> = serde_json::from_value(field("accountProof")).expect("nodes");
            let balance: U256 = serde_json::from_value(field("balance")).expect("a number");
            let nonce: U256 = serde_json::from_value(field("nonce")).expect("a number");
            let account = TrieAccount {
                nonce: nonce.to(),
                balance,
                storage_root: serde_json::from_value(field("storageHash")).expect("a hash"),
                code_hash: serde_json::from_value(field("codeHash")).expect("a hash"),
            };
            let there = address != Address::repeat_byte(0x77);
            let expected = there.then(|| alloy_rlp::encode(account));
            verify_proof(root, Nibbles::unpack(keccak256(address)), expected, &nodes).expect("the account is proven");
            verify_proof(root, Nibbles::unpack(keccak256(address)), Some(vec![1]), &nodes)
                .expect_err("nothing else is");
            for (index, slot) in [0_u64, 5].into_iter().enumerate() {
                let held = &proof["storageProof"][index];
                let nodes: Vec<Bytes> = serde_json::from_value(held["proof"].clone()).expect("nodes");
                let value = if address == contract && slot == 0 { count } else { 0 };
                assert_eq!(held["value"], json!(U256::from(value)), "{address} {slot} at {at}");
                let expected = (value > 0).then(|| alloy_rlp::encode(U256::from(value)));
                let key = Nibbles::unpack(keccak256(B256::from(U256::from(slot))));
                verify_proof(account.storage_root, key, expected, &nodes).expect("the slot is proven");
            }
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_block_on_an_older_one_takes_back_what_came_after() {
    let node = rollup(None).await;
    let to = dev_accounts()[1];
    let first = execute(&node, vec![transfer(DEV_KEYS[0], CHAIN, 0, to, 1)]).await.block;
    let old = execute(&node, vec![transfer(DEV_KEYS[0], CHAIN, 1, to, 1)]).await.block;
    execute(&node, vec![transfer(DEV_KEYS[0], CHAIN, 2, to, 1)]).await;
    let input = BlockInput {
        timestamp: first.header.timestamp + 1,
        transactions: vec![transfer(DEV_KEYS[0], CHAIN, 1, to, 9)],
        parent: Some(first.hash),
        ..BlockInput::default()
    };
    let new = node.execute_block(input).await.expect("a block").block;
    assert_eq!(node.head().hash, new.hash);
    assert_eq!(new.header.number, old.header.number);
    assert_eq!(node.state().balance(to), ether(100) + U256::from(10));
    let rpc = Rpc::new(&node);
    assert!(rpc.call("eth_getTransactionByHash", json!([old.transactions[0].hash()])).await.is_null());
    let unknown = BlockInput { parent: Some(B256::ZERO), timestamp: START + 9, ..BlockInput::default() };
    node.execute_block(unknown).await.expect_err("nobody knows that parent");
    let early = BlockInput { timestamp: START, ..BlockInput::default() };
    node.execute_block(early).await.expect_err("time goes on");
    node.stop().await;
}

#[tokio::test]
async fn a_deposit_arrives_as_a_withdrawal_of_the_beacon_chain_does() {
    let node = rollup(None).await;
    let to = Address::repeat_byte(0x55);
    let withdrawal = Withdrawal { index: 0, validator_index: 0, address: to, amount: 3 };
    let input = BlockInput { timestamp: START + 1, withdrawals: vec![withdrawal], ..BlockInput::default() };
    let block = node.execute_block(input).await.expect("a block").block;
    assert_eq!(node.state().balance(to), U256::from(3_000_000_000_u64));
    assert_ne!(block.header.withdrawals_root, node.genesis().header.withdrawals_root);
    node.stop().await;
}

#[tokio::test]
async fn a_killed_node_comes_back_at_its_last_whole_block_with_the_same_hashes() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = rollup(Some(folder.path())).await;
    let contract = dev_accounts()[0].create(0);
    let mut blocks = vec![node.genesis()];
    blocks.push(execute(&node, vec![call(0, TxKind::Create, create_counter())]).await.block);
    for nonce in 1..400 {
        blocks.push(execute(&node, vec![call(nonce, contract.into(), Bytes::new())]).await.block);
    }
    assert!(matches!(start(Some(folder.path())).await, Err(NodeError::Store(_))), "one node for one folder");
    // As a kill would leave it: what is on disk, without a goodbye.
    let log = std::fs::read(folder.path().join("blocks.log")).expect("a log");
    let dump = folder.path().join("state");
    while !dump.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let dump = std::fs::read(dump).expect("a dump");
    drop(node);

    let revive = async |log: &[u8], dump: &[u8]| {
        let copy = tempfile::tempdir().expect("a folder");
        std::fs::write(copy.path().join("blocks.log"), log).expect("writable");
        std::fs::write(copy.path().join("state"), dump).expect("writable");
        let node = rollup(Some(copy.path())).await;
        (node, copy)
    };
    let (node, _copy) = revive(&log, &dump).await;
    assert_eq!(node.head().hash, blocks.last().expect("blocks").hash);
    assert_eq!(node.state().storage(contract, U256::ZERO), U256::from(399));
    let rpc = Rpc::new(&node);
    let receipt = rpc.call("eth_getTransactionReceipt", json!([blocks[7].transactions[0].hash()])).await;
    assert_eq!(receipt["blockHash"], json!(blocks[7].hash), "old receipts are there as well");
    let next = execute(&node, vec![call(400, contract.into(), Bytes::new())]).await;
    assert_eq!((next.block.header.number, next.skipped.len()), (401, 0));
    node.stop().await;

    // A dump that lies is not believed; then everything is executed again.
    let mut lie = dump.clone();
    let last = lie.len() - 1;
    lie[last] ^= 1;
    let (node, _copy) = revive(&log, &lie).await;
    assert_eq!(node.head().hash, blocks.last().expect("blocks").hash);
    node.stop().await;

    // Torn anywhere near its end, the log ends with the last whole head.
    for cut in (0..12).map(|step| 1 + step * 331) {
        let (node, copy) = revive(&log[..log.len() - cut], &dump).await;
        let head = node.head();
        assert_eq!(head.hash, blocks[usize::try_from(head.header.number).expect("small")].hash, "cut {cut}");
        assert!(head.header.number > 380, "cut {cut} lost more than it had to: {}", head.header.number);
        execute(&node, vec![]).await;
        let after = node.head().hash;
        node.stop().await;
        let node = rollup(Some(copy.path())).await;
        assert_eq!(node.head().hash, after, "cut {cut}: what follows a torn end is read again");
        node.stop().await;
    }
}

#[tokio::test]
async fn a_folder_of_another_chain_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    rollup(Some(folder.path())).await.stop().await;
    let genesis = lockstep_evm::genesis(CHAIN, START + 1, &dev_accounts(), ether(100));
    let role = Role::Rollup(Rollup::default());
    let config = Config { folder: Some(folder.path().to_owned()), ..Config::new(genesis, role) };
    let error = Node::start(config).await.expect_err("another genesis");
    assert!(error.to_string().contains("holds the chain of genesis"), "{error}");
}

#[tokio::test]
async fn transactions_of_a_rollup_enter_through_its_sequencer() {
    let node = rollup(None).await;
    let raw = transfer(DEV_KEYS[0], CHAIN, 0, dev_accounts()[1], 1);
    let refused = Rpc::new(&node).refuse("eth_sendRawTransaction", json!([raw])).await;
    assert!(refused.1.contains("sequencer"), "{}", refused.1);
    node.stop().await;

    let (sender, mut received) = tokio::sync::mpsc::channel(1);
    let genesis = lockstep_evm::genesis(CHAIN, START, &dev_accounts(), ether(100));
    let role = Role::Rollup(Rollup::default());
    let node = Node::start(Config { forward: Some(sender), ..Config::new(genesis, role) }).await.expect("it starts");
    let rpc = Rpc::new(&node);
    assert_eq!(rpc.call("eth_sendRawTransaction", json!([raw])).await, json!(keccak256(&raw)));
    let full = rpc.refuse("eth_sendRawTransaction", json!([raw])).await;
    assert_eq!(full.1, "txpool is full");
    assert_eq!(received.recv().await, Some(raw));
    node.stop().await;
}
