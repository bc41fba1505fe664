//! Does an OP Stack driver find what it expects behind the Engine API?

mod client;

use alloy_eips::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, U256, hex};
use client::{Rpc, contract::COUNTER, ether};
use jsonrpsee_core::{client::ClientT, params::ArrayParams};
use jsonrpsee_http_client::{HeaderMap, HeaderValue, HttpClient, HttpClientBuilder};
use lockstep_evm::{
    BlockInput, Config, Node, OpFork, Optimism, Role,
    accounts::{DEV_KEYS, dev_accounts, transfer},
};
use op_alloy_consensus::{L2_TO_L1_MESSAGE_PASSER_ADDRESS, TxDeposit};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const CHAIN: u64 = 901;
const START: u64 = 1_700_000_000;
const SECRET: B256 = B256::repeat_byte(0x42);
const GAS_LIMIT: u64 = 30_000_000;

struct Driver {
    node: Node,
    engine: HttpClient,
    rpc: Rpc,
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn engine(node: &Node, token: Option<&str>) -> HttpClient {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).expect("ASCII"));
    }
    HttpClientBuilder::default().set_headers(headers).build(node.engine_url().expect("an engine")).expect("a client")
}

impl Driver {
    async fn start(fork: OpFork) -> Self {
        let mut genesis = lockstep_evm::op_genesis(CHAIN, START, &dev_accounts(), ether(100));
        // Something that changes its storage when it is called.
        let passer = genesis.alloc.get_mut(&L2_TO_L1_MESSAGE_PASSER_ADDRESS).expect("the genesis has it");
        passer.code = Some(COUNTER);
        let role = Role::Optimism(Optimism { fork, ..Optimism::new(SECRET) });
        let node = Node::start(Config::new(genesis, role)).await.expect("it starts");
        let engine = engine(&node, Some(&lockstep_evm::token(&SECRET, now())));
        let rpc = Rpc::new(&node);
        Self { node, engine, rpc }
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value, (i32, String)> {
        let mut array = ArrayParams::new();
        for value in params.as_array().expect("parameters are an array") {
            array.insert(value).expect("JSON is JSON");
        }
        self.engine.request(method, array).await.map_err(|error| match error {
            jsonrpsee_core::ClientError::Call(error) => (error.code(), error.message().to_owned()),
            other => panic!("{method}: {other}"),
        })
    }

    fn attributes(&self, timestamp: u64, transactions: &[Bytes]) -> Value {
        json!({
            "timestamp": format!("{timestamp:#x}"),
            "prevRandao": B256::repeat_byte(1),
            "suggestedFeeRecipient": Address::repeat_byte(0x11),
            "withdrawals": [],
            "parentBeaconBlockRoot": B256::repeat_byte(2),
            "transactions": transactions,
            "noTxPool": true,
            "gasLimit": format!("{GAS_LIMIT:#x}"),
            "eip1559Params": "0x0000000000000000",
        })
    }

    async fn choose(&self, head: &Value, attributes: Option<Value>) -> Result<Value, (i32, String)> {
        let zero = B256::ZERO;
        let state = json!({ "headBlockHash": head, "safeBlockHash": zero, "finalizedBlockHash": zero });
        self.call("engine_forkchoiceUpdatedV3", json!([state, attributes])).await
    }

    /// One block by the book; its payload.
    async fn block(&self, parent: &Value, timestamp: u64, transactions: &[Bytes]) -> Value {
        let chosen = self.choose(parent, Some(self.attributes(timestamp, transactions))).await.expect("attributes");
        assert_eq!(chosen["payloadStatus"]["status"], "VALID");
        let envelope = self.call("engine_getPayloadV4", json!([chosen["payloadId"]])).await.expect("a payload");
        let payload = envelope["executionPayload"].clone();
        let status = self.submit(&payload).await;
        assert_eq!(status["status"], "VALID", "{status}");
        let chosen = self.choose(&payload["blockHash"], None).await.expect("a head");
        assert_eq!(chosen["payloadStatus"]["latestValidHash"], payload["blockHash"]);
        payload
    }

    async fn submit(&self, payload: &Value) -> Value {
        let params = json!([payload, [], B256::repeat_byte(2), []]);
        self.call("engine_newPayloadV4", params).await.expect("a status")
    }

    fn genesis(&self) -> Value {
        json!(self.node.genesis().hash)
    }
}

fn deposit(seed: u8, to: Address, mint: u128, value: u128, input: Bytes) -> Bytes {
    let deposit = TxDeposit {
        source_hash: B256::repeat_byte(seed),
        from: Address::repeat_byte(0xde),
        to: to.into(),
        mint,
        value: U256::from(value),
        gas_limit: 1_000_000,
        is_system_transaction: false,
        input,
    };
    deposit.encoded_2718().into()
}

#[tokio::test]
async fn blocks_are_built_handed_out_executed_and_chosen() {
    let driver = Driver::start(OpFork::Isthmus).await;
    let to = dev_accounts()[1];
    let mut parent = driver.genesis();
    for number in 0..3_u8 {
        let transactions = [
            deposit(number + 1, Address::repeat_byte(0xaa), 10, 7, Bytes::new()),
            deposit(number + 0x81, L2_TO_L1_MESSAGE_PASSER_ADDRESS, 0, 0, Bytes::new()),
            transfer(DEV_KEYS[0], CHAIN, number.into(), to, 1),
        ];
        let payload = driver.block(&parent, START + 2 * u64::from(number) + 2, &transactions).await;
        let header = driver.node.head().header.clone();
        assert_eq!(header.extra_data.to_vec(), hex!("00000000fa00000006"), "Canyon's 250 and 6 where nothing is given");
        let proof = driver.rpc.call("eth_getProof", json!([L2_TO_L1_MESSAGE_PASSER_ADDRESS, [], "latest"])).await;
        assert_eq!(payload["withdrawalsRoot"], proof["storageHash"]);
        assert_eq!(json!(header.withdrawals_root), proof["storageHash"]);
        parent = payload["blockHash"].clone();
    }
    assert_eq!(driver.node.state().balance(Address::repeat_byte(0xaa)), U256::from(21));
    assert_eq!(driver.node.state().balance(Address::repeat_byte(0xde)), U256::from(9));
    assert_eq!(driver.node.state().nonce(Address::repeat_byte(0xde)), 6);
    assert_eq!(driver.node.state().storage(L2_TO_L1_MESSAGE_PASSER_ADDRESS, U256::ZERO), U256::from(3));

    let block = driver.rpc.call("eth_getBlockByNumber", json!(["latest", true])).await;
    let tx = &block["transactions"][0];
    assert_eq!((&tx["type"], &tx["nonce"], &tx["mint"]), (&json!("0x7e"), &json!("0x4"), &json!("0xa")));
    let receipts = driver.rpc.call("eth_getBlockReceipts", json!(["latest"])).await;
    assert_eq!(receipts[0]["depositNonce"], json!("0x4"));
    assert_eq!(receipts[0]["depositReceiptVersion"], json!("0x1"));
    assert_eq!(receipts[2]["l1Fee"], json!("0x0"), "the L1 block contract says that L1 is free");
    driver.node.stop().await;
}

#[tokio::test]
async fn another_node_executes_the_payloads_to_the_same_hashes_and_refuses_changed_ones() {
    let driver = Driver::start(OpFork::Isthmus).await;
    let other = Driver::start(OpFork::Isthmus).await;
    assert_eq!(driver.genesis(), other.genesis());
    let first = driver.block(&driver.genesis(), START + 2, &[transfer(DEV_KEYS[0], CHAIN, 0, Address::ZERO, 1)]).await;
    let second = driver.block(&first["blockHash"], START + 4, &[deposit(1, Address::ZERO, 1, 0, Bytes::new())]).await;

    assert_eq!(other.submit(&second).await["status"], "SYNCING", "its parent is not there");
    let unknown = other.choose(&second["blockHash"], None).await.expect("a status");
    assert_eq!(unknown["payloadStatus"]["status"], "SYNCING");
    let mut lie = first.clone();
    lie["gasUsed"] = json!("0x1");
    let status = other.submit(&lie).await;
    assert_eq!(status["status"], "INVALID");
    assert!(status["validationError"].as_str().expect("a text").contains("blockhash mismatch"));
    assert_eq!(other.submit(&first).await["status"], "VALID");
    assert_eq!(other.submit(&second).await["status"], "VALID");
    assert_eq!(other.node.head().header.number, 0, "executed is not chosen");
    other.choose(&second["blockHash"], None).await.expect("a head");
    assert_eq!(json!(other.node.head().hash), second["blockHash"]);
    driver.node.stop().await;
    other.node.stop().await;
}

#[tokio::test]
async fn an_invalid_transaction_makes_attributes_and_payloads_invalid_and_simulation_names_it() {
    let driver = Driver::start(OpFork::Isthmus).await;
    let to = dev_accounts()[1];
    let good = transfer(DEV_KEYS[0], CHAIN, 0, to, 1);
    let bad = transfer(DEV_KEYS[0], CHAIN, 5, to, 1);
    let attributes = driver.attributes(START + 2, &[good.clone(), bad.clone()]);
    let refused = driver.choose(&driver.genesis(), Some(attributes)).await.expect_err("a bad nonce");
    assert_eq!(refused.0, -38003);
    assert!(refused.1.contains("transaction 1"), "{}", refused.1);
    let garbage = driver.attributes(START + 2, &[Bytes::from_static(b"\x02nothing")]);
    assert_eq!(driver.choose(&driver.genesis(), Some(garbage)).await.expect_err("garbage").0, -38003);

    let input = BlockInput {
        timestamp: START + 2,
        transactions: vec![good.clone(), bad],
        extra_data: hex!("00000000fa00000006").into(),
        ..BlockInput::default()
    };
    let simulated = driver.node.simulate(input).await.expect("a simulation");
    assert_eq!(simulated.skipped.len(), 1);
    assert_eq!(simulated.skipped[0].index, 1);
    driver.block(&driver.genesis(), START + 2, &[good]).await;
    driver.node.stop().await;
}

#[tokio::test]
async fn what_attributes_must_have_is_demanded() {
    let driver = Driver::start(OpFork::Isthmus).await;
    let whole = driver.attributes(START + 2, &[]);
    for (field, value) in [
        ("gasLimit", Value::Null),
        ("eip1559Params", Value::Null),
        ("eip1559Params", json!("0x0000000000000006")),
        ("withdrawals", Value::Null),
        ("parentBeaconBlockRoot", Value::Null),
        ("timestamp", json!(format!("{START:#x}"))),
    ] {
        let mut attributes = whole.clone();
        attributes[field] = value.clone();
        let refused = driver.choose(&driver.genesis(), Some(attributes)).await.expect_err(field);
        assert_eq!(refused.0, -38003, "{field} {value}: {}", refused.1);
    }
    let unknown = driver.call("engine_getPayloadV4", json!(["0x0400000000000000"])).await.expect_err("no such payload");
    assert_eq!(unknown.0, -38001);
    let older = driver.call("engine_getPayloadV3", json!(["0x0400000000000000"])).await.expect_err("Holocene's");
    assert_eq!(older.0, -38005);
    let state = json!({ "headBlockHash": driver.genesis(), "safeBlockHash": B256::repeat_byte(3), "finalizedBlockHash": B256::ZERO });
    let stray =
        driver.call("engine_forkchoiceUpdatedV3", json!([state, null])).await.expect_err("an unknown safe block");
    assert_eq!(stray.0, -38002);
    driver.node.stop().await;
}

#[tokio::test]
async fn the_head_goes_back_to_an_earlier_block_and_on_from_there() {
    let driver = Driver::start(OpFork::Isthmus).await;
    let to = dev_accounts()[1];
    let first = driver.block(&driver.genesis(), START + 2, &[transfer(DEV_KEYS[0], CHAIN, 0, to, 1)]).await;
    let second = driver.block(&first["blockHash"], START + 4, &[transfer(DEV_KEYS[0], CHAIN, 1, to, 1)]).await;
    driver.block(&second["blockHash"], START + 6, &[]).await;
    driver.choose(&first["blockHash"], None).await.expect("back");
    assert_eq!(driver.node.head().header.number, 1);
    assert_eq!(driver.node.state().nonce(dev_accounts()[0]), 1);
    let other = driver.block(&first["blockHash"], START + 4, &[transfer(DEV_KEYS[0], CHAIN, 1, to, 50)]).await;
    assert_ne!(other["blockHash"], second["blockHash"]);
    driver.choose(&second["blockHash"], None).await.expect("the other branch is still known");
    assert_eq!(json!(driver.node.head().hash), second["blockHash"]);

    let state = json!({ "headBlockHash": second["blockHash"], "safeBlockHash": first["blockHash"], "finalizedBlockHash": driver.genesis() });
    driver.call("engine_forkchoiceUpdatedV3", json!([state, null])).await.expect("tags");
    for (tag, hash) in
        [("safe", &first["blockHash"]), ("finalized", &driver.genesis()), ("latest", &second["blockHash"])]
    {
        assert_eq!(&driver.rpc.call("eth_getBlockByNumber", json!([tag, false])).await["hash"], hash, "{tag}");
    }
    let state = json!({ "headBlockHash": second["blockHash"], "safeBlockHash": other["blockHash"], "finalizedBlockHash": B256::ZERO });
    let stray =
        driver.call("engine_forkchoiceUpdatedV3", json!([state, null])).await.expect_err("safe on another branch");
    assert_eq!(stray.0, -38002);
    driver.node.stop().await;
}

#[tokio::test]
async fn the_parameters_of_a_block_set_the_base_fee_of_the_next() {
    let driver = Driver::start(OpFork::Isthmus).await;
    let mut attributes = driver.attributes(START + 2, &[]);
    // Denominator 50, elasticity 2: an empty block lowers the fee by a fiftieth.
    attributes["eip1559Params"] = json!("0x0000003200000002");
    let chosen = driver.choose(&driver.genesis(), Some(attributes)).await.expect("attributes");
    let envelope = driver.call("engine_getPayloadV4", json!([chosen["payloadId"]])).await.expect("a payload");
    let first = &envelope["executionPayload"];
    assert_eq!(first["extraData"], json!("0x000000003200000002"));
    assert_eq!(driver.submit(first).await["status"], "VALID");
    let fee = |payload: &Value| -> u64 {
        serde_json::from_value::<U256>(payload["baseFeePerGas"].clone()).expect("a number").to()
    };
    let second = driver.block(&first["blockHash"], START + 4, &[]).await;
    assert_eq!(fee(&second), fee(first) - fee(first) / 50);
    driver.node.stop().await;
}

#[tokio::test]
async fn holocene_speaks_version_three() {
    let driver = Driver::start(OpFork::Holocene).await;
    let transactions = [deposit(1, L2_TO_L1_MESSAGE_PASSER_ADDRESS, 0, 0, Bytes::new())];
    let attributes = driver.attributes(START + 2, &transactions);
    let chosen = driver.choose(&driver.genesis(), Some(attributes)).await.expect("attributes");
    let envelope = driver.call("engine_getPayloadV3", json!([chosen["payloadId"]])).await.expect("a payload");
    let payload = &envelope["executionPayload"];
    let status =
        driver.call("engine_newPayloadV3", json!([payload, [], B256::repeat_byte(2)])).await.expect("a status");
    assert_eq!(status["status"], "VALID", "{status}");
    driver.choose(&payload["blockHash"], None).await.expect("a head");
    let header = driver.node.head().header.clone();
    assert_eq!(header.requests_hash, None);
    assert_eq!(header.withdrawals_root, Some(alloy_trie::EMPTY_ROOT_HASH));
    driver.node.stop().await;
}

#[tokio::test]
async fn without_a_token_of_the_secret_nobody_is_heard() {
    let driver = Driver::start(OpFork::Isthmus).await;
    let stale = lockstep_evm::token(&SECRET, now() - 120);
    let other = lockstep_evm::token(&B256::ZERO, now());
    for token in [None, Some(stale.as_str()), Some(other.as_str()), Some("a.b.c")] {
        let refused = engine(&driver.node, token).request::<Value, _>("eth_chainId", ArrayParams::new()).await;
        let text = format!("{:?}", refused.expect_err("no token, no answer"));
        assert!(text.contains("401"), "{token:?}: {text}");
    }
    assert_eq!(driver.call("eth_chainId", json!([])).await, Ok(json!("0x385")), "the engine's port speaks eth as well");
    let public = driver.rpc.refuse("engine_exchangeCapabilities", json!([[]])).await;
    assert_eq!(public.0, -32601, "the public port does not speak engine");
    driver.node.stop().await;
}
