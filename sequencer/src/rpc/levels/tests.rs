//! Is a leg told as far as its rollup's node has it, and is nobody held up by a node that does not answer?

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use jsonrpsee::{
    RpcModule,
    server::{Server, ServerHandle},
};
use serde_json::{Value, json};

use super::*;
use crate::fixture::{ROLLUP_A, transaction};

/// When the legs of these tests were ordered. Seconds.
const ORDERED_AT: u64 = 1_000;

/// A rollup's node, as far as it is asked here.
#[derive(Clone, Default)]
pub(crate) struct Chain {
    /// Block of each transaction that was executed.
    pub(crate) executed: HashMap<Hash32, u64>,
    /// The sender's next nonce.
    pub(crate) next: u64,
    pub(crate) latest: u64,
    pub(crate) latest_timestamp: u64,
    pub(crate) safe: Option<u64>,
    pub(crate) finalized: Option<u64>,
    pub(crate) delay: Duration,
    /// How long it takes to show a block by its number.
    pub(crate) stuck: Duration,
    /// The first block that was replaced by a reorganisation.
    pub(crate) replaced_from: Option<u64>,
    pub(crate) asked: usize,
    /// Receipts that are being asked for, and the most there were at once.
    pub(crate) running: (usize, usize),
}

pub(crate) type Shared = Arc<Mutex<Chain>>;

pub(crate) async fn serve(chain: &Shared) -> (String, ServerHandle) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Server::builder().build(any).await.expect("a free port");
    let url = format!("http://{}", server.local_addr().expect("bound"));
    let mut module = RpcModule::new(chain.clone());
    let receipt = |hash: Hash32, chain: &Chain| match chain.executed.get(&hash) {
        Some(block) => json!({ "blockNumber": format!("{block:#x}"), "status": "0x1" }),
        None => Value::Null,
    };
    module
        .register_async_method("eth_getTransactionReceipt", move |params, chain, _| async move {
            let delay = {
                let mut chain = chain.lock().expect("whole");
                chain.asked += 1;
                chain.running.0 += 1;
                chain.running.1 = chain.running.1.max(chain.running.0);
                chain.delay
            };
            tokio::time::sleep(delay).await;
            let mut chain = chain.lock().expect("whole");
            chain.running.0 -= 1;
            receipt(params.one().expect("a hash"), &chain)
        })
        .expect("a fresh name");
    module
        .register_method("eth_getTransactionCount", |_, chain, _| format!("{:#x}", chain.lock().expect("whole").next))
        .expect("a fresh name");
    module
        .register_async_method("eth_getBlockByNumber", |params, chain, _| async move {
            let (tag, _): (String, bool) = params.parse().expect("a tag");
            if tag.starts_with("0x") {
                let stuck = chain.lock().expect("whole").stuck;
                tokio::time::sleep(stuck).await;
            }
            let chain = chain.lock().expect("whole");
            let number = match tag.as_str() {
                "latest" => Some(chain.latest),
                "safe" => chain.safe,
                "finalized" => chain.finalized,
                number => Some(quantity(number).expect("a number")).filter(|number| *number <= chain.latest),
            };
            let timestamp = format!("{:#x}", chain.latest_timestamp);
            let replaced = |number| chain.replaced_from.is_some_and(|from| from <= number);
            number.map(|number| {
                let hash = if replaced(number) { Hash32([0; 32]) } else { block_hash(number) };
                json!({ "number": format!("{number:#x}"), "timestamp": timestamp, "hash": hash })
            })
        })
        .expect("a fresh name");
    (url, server.start(module))
}

/// The hash of a block that was not replaced.
pub(crate) fn block_hash(number: u64) -> Hash32 {
    Hash32(keccak256(number.to_be_bytes()).0)
}

pub(crate) fn hash_of(transaction: &Transaction) -> Hash32 {
    hash(transaction)
}

fn levels(url: &str, poll_ms: u64) -> Levels {
    let config = RollupConfig { id: ROLLUP_A, rpc: url.to_owned(), poll_ms, posters: Vec::new() };
    Levels::new(&[config], None, &LevelsMetrics::default())
}

async fn told_of(levels: &Levels, bundle: u8, transactions: &[Transaction]) -> LegStatus {
    let mut leg = LegStatus { rollup: ROLLUP_A, level: Level::Ordered, sequence: 1, block: None, skipped: Vec::new() };
    let ordered = Ordered { bundle: BundleId([bundle; 32]), transactions, timestamp_ms: ORDERED_AT * 1_000 };
    levels.fill(&mut leg, &ordered).await;
    leg
}

fn chain(executed: &[(&Transaction, u64)]) -> Shared {
    let executed = executed.iter().map(|(transaction, block)| (hash_of(transaction), *block)).collect();
    Arc::new(Mutex::new(Chain { executed, latest_timestamp: ORDERED_AT, ..Chain::default() }))
}

#[tokio::test]
async fn a_leg_climbs_as_the_tags_reach_its_last_block() {
    let transactions = [transaction(ROLLUP_A.0, 0), transaction(ROLLUP_A.0, 1)];
    let chain = chain(&[(&transactions[0], 7), (&transactions[1], 8)]);
    let (url, _server) = serve(&chain).await;
    let levels = levels(&url, 0);
    for (safe, finalized, level) in [
        (None, None, Level::Executed),
        (Some(7), None, Level::Executed),
        (Some(8), Some(7), Level::Safe),
        (Some(9), Some(8), Level::Final),
    ] {
        (chain.lock().unwrap().safe, chain.lock().unwrap().finalized) = (safe, finalized);
        let leg = told_of(&levels, 1, &transactions).await;
        assert_eq!((leg.level, leg.block, leg.skipped), (level, Some(8), vec![]));
    }
    // What is final is not asked for again; what another rollup does, nobody here knows.
    chain.lock().unwrap().executed.clear();
    assert_eq!(told_of(&levels, 1, &transactions).await.level, Level::Final);
    assert!(!levels.knows(crate::fixture::ROLLUP_B));
}

#[tokio::test]
async fn what_the_rollup_left_out_is_named_with_its_reason() {
    let transactions = [0, 1, 2].map(|nonce| transaction(ROLLUP_A.0, nonce));
    let chain = chain(&[(&transactions[1], 8)]);
    let (url, _server) = serve(&chain).await;
    let levels = levels(&url, 0);
    chain.lock().unwrap().next = 2;
    // The last one may still come: the leg is not executed as a whole.
    let leg = told_of(&levels, 1, &transactions).await;
    assert_eq!((leg.level, leg.block), (Level::Ordered, None));
    let first = SkippedTransaction { index: 0, reason: "nonce too low: 0 is used, the next is 2".into() };
    assert_eq!(leg.skipped, std::slice::from_ref(&first));
    // A minute later it will not come any more.
    chain.lock().unwrap().latest_timestamp = ORDERED_AT + PASSED_SECONDS + 1;
    let leg = told_of(&levels, 1, &transactions).await;
    assert_eq!((leg.level, leg.block), (Level::Executed, Some(8)));
    assert_eq!(leg.skipped[0], first);
    assert!(leg.skipped[1].index == 2 && leg.skipped[1].reason.starts_with("left out"), "{:?}", leg.skipped);
    chain.lock().unwrap().next = 1;
    let leg = told_of(&levels, 2, &transactions[2..]).await;
    assert_eq!((leg.level, leg.block), (Level::Ordered, None), "nothing of it was executed");
    assert_eq!(leg.skipped, [SkippedTransaction { index: 0, reason: "nonce too high: 2, the next is 1".into() }]);
}

#[tokio::test]
async fn what_was_told_a_moment_ago_is_not_asked_for_again() {
    let transactions = [transaction(ROLLUP_A.0, 0)];
    let chain = chain(&[(&transactions[0], 7)]);
    let (url, _server) = serve(&chain).await;
    let levels = levels(&url, 60_000);
    for _ in 0..5 {
        assert_eq!(told_of(&levels, 1, &transactions).await.level, Level::Executed);
    }
    assert_eq!(chain.lock().unwrap().asked, 1);
}

#[tokio::test]
async fn a_node_that_is_slow_or_gone_holds_nobody_up_for_long_and_is_not_flooded() {
    let transactions = [transaction(ROLLUP_A.0, 0)];
    let chain = chain(&[(&transactions[0], 7)]);
    let (url, server) = serve(&chain).await;
    let levels = levels(&url, 0);
    chain.lock().unwrap().delay = Duration::from_secs(600);
    let begun = Instant::now();
    let legs = futures::future::join_all((0..100).map(|bundle| told_of(&levels, bundle, &transactions))).await;
    assert!(legs.iter().all(|leg| leg.level == Level::Ordered && leg.block.is_none()));
    assert!(begun.elapsed() < 2 * LEG_TIMEOUT);
    assert!(chain.lock().unwrap().running.1 <= LEGS_AT_ONCE, "the rest is told the order alone, at once");
    chain.lock().unwrap().delay = Duration::ZERO;
    assert_eq!(told_of(&levels, 1, &transactions).await.level, Level::Executed);
    server.stop().expect("running");
    server.stopped().await;
    assert_eq!(told_of(&levels, 1, &transactions).await.level, Level::Executed, "what was known stays known");
    assert_eq!(told_of(&levels, 2, &transactions).await.level, Level::Ordered);
}

#[tokio::test]
async fn memory_is_bounded() {
    let levels = levels("http://127.0.0.1:1", 0);
    let rollup = &levels.rollups[&ROLLUP_A];
    for number in 0..2 * REMEMBERED {
        let mut id = BundleId([0; 32]);
        id.0[..8].copy_from_slice(&(number as u64).to_be_bytes());
        rollup.remember(id, Told { level: Level::Executed, block: Some(1), skipped: Vec::new() });
    }
    let known = rollup.known();
    assert_eq!((known.legs.len(), known.order.len()), (REMEMBERED, REMEMBERED));
}
