//! Can those who settle between rollups rely on a node: its tags, its proofs of recent blocks, and its gas?

mod client;

use alloy_genesis::GenesisAccount;
use alloy_primitives::{Address, B256, Bytes, U256, address, hex, keccak256};
use alloy_trie::{Nibbles, proof::verify_proof};
use client::{Rpc, contract::COUNTER, ether};
use lockstep_evm::{
    BlockInput, Config, Node, NodeError, Optimism, Role, Rollup, STATES_MAX,
    accounts::{DEV_KEYS, dev_accounts, transfer},
};
use serde_json::{Value, json};
use std::path::Path;

const CHAIN: u64 = 902;
const START: u64 = 1_700_000_000;
const COUNTER_AT: Address = address!("00000000000000000000000000000000000c0de1");
const METER_AT: Address = address!("00000000000000000000000000000000000c0de2");
/// Calls the address in its input's first word with the rest of it: whether that went well, and the gas between.
///
/// ```text
/// size = CALLDATASIZE - 32; CALLDATACOPY(0, 32, size)
/// before = GAS; ok = STATICCALL(GAS, CALLDATALOAD(0), 0, size, 0, 0); RETURN(ok, before - GAS)
/// ```
const METER: [u8; 38] = hex!("602036038060206000375a600060008360006000355afa5a90600052900360205260406000f3");

async fn rollup(folder: Option<&Path>) -> Node {
    let mut genesis = lockstep_evm::genesis(CHAIN, START, &dev_accounts(), ether(100));
    for (address, code) in [(COUNTER_AT, COUNTER), (METER_AT, METER.into())] {
        genesis.alloc.insert(address, GenesisAccount::default().with_code(Some(code)));
    }
    let role = Role::Rollup(Rollup { base_fee: Some(1), l1_decides: true, ..Rollup::default() });
    Node::start(Config { folder: folder.map(Path::to_owned), ..Config::new(genesis, role) }).await.expect("it starts")
}

/// Makes blocks up to `head`, ten a second, each with one transfer.
async fn grow(node: &Node, head: u64) {
    let to = dev_accounts()[1];
    for number in node.head().header.number..head {
        let transactions = vec![transfer(DEV_KEYS[0], CHAIN, number, to, 1)];
        let input = BlockInput { timestamp: START + number / 10, transactions, ..BlockInput::default() };
        assert_eq!(node.execute_block(input).await.expect("a block").skipped, []);
    }
}

/// Asserts that the proof at `at` leads from the block's state root to the receiver's balance, which is the block's number
/// more than at genesis.
async fn assert_proven(rpc: &Rpc, at: Value, number: u64) {
    let block = rpc.call("eth_getBlockByNumber", json!([at, false])).await;
    assert_eq!(block["number"], json!(format!("{number:#x}")), "{at}");
    let root: B256 = serde_json::from_value(block["stateRoot"].clone()).expect("a hash");
    let proof = rpc.call("eth_getProof", json!([dev_accounts()[1], [], at])).await;
    assert_eq!(proof["balance"], json!(ether(100) + U256::from(number)), "{at}");
    let nodes: Vec<Bytes> = serde_json::from_value(proof["accountProof"].clone()).expect("nodes");
    let account = alloy_trie::TrieAccount { balance: ether(100) + U256::from(number), ..Default::default() };
    let key = Nibbles::unpack(keccak256(dev_accounts()[1]));
    verify_proof(root, key, Some(alloy_rlp::encode(account)), &nodes).expect("the account is proven");
    let other = alloy_trie::TrieAccount { balance: ether(100) + U256::from(number + 1), ..Default::default() };
    verify_proof(root, key, Some(alloy_rlp::encode(other)), &nodes).expect_err("another balance is not");
}

#[tokio::test]
async fn minutes_of_blocks_are_proven_by_number_and_by_tag_and_a_thousand_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = rollup(Some(folder.path())).await;
    let rpc = Rpc::new(&node);
    grow(&node, 100).await;
    node.mark(90, 50).await.expect("its L1 decides");
    let head = 5 * STATES_MAX + 200;
    grow(&node, 4 * STATES_MAX).await;
    // Finality stands still, and everything since can be proven.
    for number in [50, 51, 1_000, 4 * STATES_MAX] {
        assert_proven(&rpc, json!(format!("{number:#x}")), number).await;
    }
    grow(&node, head).await;
    // It stood still for too long: what has a name can be proven, and what is recent.
    assert_proven(&rpc, json!("finalized"), 50).await;
    assert_proven(&rpc, json!("safe"), 90).await;
    let gone = rpc.refuse("eth_getProof", json!([dev_accounts()[1], [], "0x64"])).await;
    assert!(gone.1.contains("no longer kept"), "{}", gone.1);
    node.mark(head - 2, head - 20).await.expect("its L1 decides");
    grow(&node, head + STATES_MAX / 2).await;
    let head = head + STATES_MAX / 2;
    for number in [head, head - 10, head - 1_024, head - STATES_MAX] {
        assert_proven(&rpc, json!(format!("{number:#x}")), number).await;
    }
    node.stop().await;

    let node = rollup(Some(folder.path())).await;
    let rpc = Rpc::new(&node);
    assert_eq!(node.head().header.number, head);
    for number in [head, head - 10, head - 1_024] {
        assert_proven(&rpc, json!(format!("{number:#x}")), number).await;
    }
    assert_proven(&rpc, json!("finalized"), head - STATES_MAX / 2 - 20).await;
    node.stop().await;
}

#[tokio::test]
async fn safe_and_finalized_are_what_l1_says_and_final_is_for_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let node = rollup(Some(folder.path())).await;
    let rpc = Rpc::new(&node);
    let tags = async |rpc: &Rpc| {
        let mut numbers = Vec::new();
        for tag in ["latest", "safe", "finalized"] {
            let block = rpc.call("eth_getBlockByNumber", json!([tag, false])).await;
            let number: U256 = serde_json::from_value(block["number"].clone()).expect("a number");
            numbers.push(number.to::<u64>());
        }
        numbers
    };
    grow(&node, 10).await;
    assert_eq!(tags(&rpc).await, [10, 0, 0], "L1 has nothing yet");
    node.mark(7, 3).await.expect("marked");
    assert_eq!(tags(&rpc).await, [10, 7, 3]);
    node.mark(5, 2).await.expect("marked");
    assert_eq!(tags(&rpc).await, [10, 5, 3], "L1 may take back what is safe, not what is final");
    node.mark(1, 6).await.expect("marked");
    assert_eq!(tags(&rpc).await, [10, 6, 6], "what is final is safe");
    node.mark(99, 6).await.expect("marked");
    assert_eq!(tags(&rpc).await, [10, 10, 6], "this node is behind L1");

    // Everything that is asked at a number can be asked at a tag.
    let counter = json!({ "to": COUNTER_AT, "from": dev_accounts()[3] });
    for tag in ["latest", "pending", "safe", "finalized", "0x5"] {
        assert_eq!(rpc.call("eth_call", json!([counter, tag])).await, json!(B256::with_last_byte(1)), "{tag}");
        let gas: U256 =
            serde_json::from_value(rpc.call("eth_estimateGas", json!([counter, tag])).await).expect("a number");
        assert!(gas > U256::from(21_000 + 20_000) && gas < U256::from(60_000), "{tag}: {gas}");
    }
    let block = node.block(&node.head().hash).expect("the head");
    let receipt = rpc.call("eth_getTransactionReceipt", json!([block.transactions[0].hash()])).await;
    assert_eq!((&receipt["blockHash"], &receipt["status"]), (&json!(block.hash), &json!("0x1")));
    assert!(rpc.call("eth_getTransactionReceipt", json!([B256::ZERO])).await.is_null());

    // Blocks that are taken back are neither.
    let eighth = rpc.call("eth_getBlockByNumber", json!(["0x8", false])).await["hash"].clone();
    let parent = serde_json::from_value(eighth).expect("a hash");
    let input = BlockInput { timestamp: START + 50, parent: Some(parent), ..BlockInput::default() };
    node.execute_block(input).await.expect("a block");
    assert_eq!(tags(&rpc).await, [9, 8, 6]);
    node.stop().await;
    let node = rollup(Some(folder.path())).await;
    assert_eq!(tags(&Rpc::new(&node)).await, [9, 8, 6], "a restart forgets nothing");
    node.stop().await;

    let free = Role::Rollup(Rollup::default());
    let genesis = lockstep_evm::genesis(CHAIN, START, &dev_accounts(), ether(100));
    let node = Node::start(Config::new(genesis, free)).await.expect("it starts");
    assert!(matches!(node.mark(0, 0).await, Err(NodeError::Role)), "there the driver alone decides");
    grow(&node, 2).await;
    assert_eq!(tags(&Rpc::new(&node)).await, [2, 2, 2]);
    node.stop().await;
}

#[tokio::test]
async fn the_curve_operations_of_eip_2537_cost_exactly_what_the_eip_says() {
    let mut genesis = lockstep_evm::op_genesis(CHAIN, START, &dev_accounts(), ether(100));
    genesis.alloc.insert(METER_AT, GenesisAccount::default().with_code(Some(METER.into())));
    let role = Role::Optimism(Optimism::new(B256::repeat_byte(1)));
    let optimism = Node::start(Config::new(genesis, role)).await.expect("it starts");
    for node in [rollup(None).await, optimism] {
        let rpc = Rpc::new(&node);
        let measure = async |precompile: u64, bytes: usize| {
            let input = [B256::from(U256::from(precompile)).as_slice(), &vec![0; bytes]].concat();
            let call = json!({ "to": METER_AT, "input": Bytes::from(input) });
            let answer: Bytes =
                serde_json::from_value(rpc.call("eth_call", json!([call, "latest"])).await).expect("bytes");
            let word = |index: usize| U256::from_be_slice(&answer[32 * index..32 * (index + 1)]).to::<u64>();
            (word(0) == 1, word(1))
        };
        // What the meter itself takes: the identity costs 15 and 3 a word (yellow paper).
        let (ok, identity) = measure(4, 64).await;
        assert!(ok);
        let own = identity - 15 - 2 * 3;
        // Points at infinity and field elements of nought, which are valid. Discounts are those of the EIP's tables.
        let expected: [(u64, usize, u64); 14] = [
            (0x0b, 256, 375),
            (0x0c, 160, 12_000),
            (0x0c, 2 * 160, 2 * 12_000 * 949 / 1_000),
            (0x0c, 128 * 160, 128 * 12_000 * 519 / 1_000),
            (0x0c, 129 * 160, 129 * 12_000 * 519 / 1_000),
            (0x0d, 512, 600),
            (0x0e, 288, 22_500),
            (0x0e, 3 * 288, 3 * 22_500 * 923 / 1_000),
            (0x0e, 128 * 288, 128 * 22_500 * 524 / 1_000),
            (0x0f, 384, 37_700 + 32_600),
            (0x0f, 2 * 384, 37_700 + 2 * 32_600),
            (0x0f, 5 * 384, 37_700 + 5 * 32_600),
            (0x10, 64, 5_500),
            (0x11, 128, 23_800),
        ];
        for (precompile, bytes, gas) in expected {
            let (ok, measured) = measure(precompile, bytes).await;
            assert!(ok, "{precompile:#x} with {bytes} bytes");
            assert_eq!(measured - own, gas, "{precompile:#x} with {bytes} bytes");
            let (ok, _) = measure(precompile, bytes - 1).await;
            assert!(!ok, "{precompile:#x} takes no {} bytes", bytes - 1);
        }
        node.stop().await;
    }
}
