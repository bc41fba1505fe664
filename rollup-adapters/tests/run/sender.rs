//! Do transactions get into L1 blocks: in order, once, at a bearable price?

use std::sync::Arc;

use alloy_consensus::Transaction as _;
use alloy_primitives::Address;
use lockstep_adapters::poster::{FeeConfig, L1, Request, SendError, Sender, SenderConfig, Signer};
use lockstep_evm::{Config, L1 as L1Role, Node, Role, genesis};

use crate::{
    proxy::{Fault, Proxy},
    world::{BEGIN, L1_CHAIN, Miner, Wallet, ether, mine, rpc},
};

const KEY: [u8; 32] = [3; 32];
const TO: Address = Address::repeat_byte(0x55);

async fn l1() -> Arc<Node> {
    let wallet = Wallet::from_secret(KEY);
    let first = genesis(L1_CHAIN, BEGIN, &[wallet.address], ether(1_000));
    let role = L1Role { interval: None, instant: false, ..L1Role::default() };
    Arc::new(Node::start(Config::new(first, Role::L1(role))).await.expect("an L1"))
}

async fn sender(url: &str, fees: FeeConfig) -> Sender {
    let config = SenderConfig { fees, poll_ms: 5, ..SenderConfig::default() };
    let signer = Signer::from_secret(KEY).expect("a key");
    Sender::new(Arc::new(L1::new(rpc(url))), signer, config).await.expect("L1 answers")
}

fn requests(count: u8) -> Vec<Request> {
    (0..count).map(|data| Request { to: TO, data: vec![data; 100], ..Request::default() }).collect()
}

/// First bytes of the data of our transactions, in the order of L1.
fn on_l1(l1: &Node) -> Vec<u8> {
    let mut block = l1.head();
    let mut data = vec![];
    while block.header.number > 0 {
        data.extend(
            block.transactions.iter().rev().filter_map(|transaction| transaction.envelope().input().first().copied()),
        );
        block = l1.block(&block.header.parent_hash).expect("it is kept");
    }
    data.reverse();
    data
}

#[tokio::test]
async fn a_round_is_in_blocks_in_its_order() {
    let l1 = l1().await;
    let miner = Miner::start(&l1);
    let mut sender = sender(&l1.rpc_url(), FeeConfig::default()).await;
    let included = sender.send(requests(7)).await.expect("all are included");
    assert!(included.len() == 7 && included.iter().all(|included| included.succeeded && included.cost > 0));
    sender.send(requests(2)).await.expect("and more");
    miner.stop().await;
    assert_eq!(on_l1(&l1), [0, 1, 2, 3, 4, 5, 6, 0, 1]);
    assert!(sender.settle().await.expect("L1 answers"), "nothing is left in the pool");
}

#[tokio::test]
async fn a_transaction_that_is_not_included_is_replaced_and_counts_once() {
    let l1 = l1().await;
    // The node takes the first versions, and nobody ever sees them.
    let swallow = |number: u64, method: &str| match method {
        "eth_sendRawTransaction" if number < 12 => Fault::Result(serde_json::json!(alloy_primitives::B256::ZERO)),
        _ => Fault::None,
    };
    let proxy = Proxy::start(&l1.rpc_url(), swallow).await;
    let mut sender = sender(&proxy.url, FeeConfig::default()).await;
    let miner = Miner::start(&l1);
    let included = sender.send(requests(2)).await.expect("all are included");
    miner.stop().await;
    assert_eq!((included.len(), on_l1(&l1)), (2, vec![0, 1]));
    assert!(sender.metrics().replaced.get() >= 1);
}

#[tokio::test]
async fn what_an_earlier_run_left_in_the_pool_is_outbid() {
    let l1 = l1().await;
    let old = Wallet::from_secret(KEY).sign(L1_CHAIN, 0, TO, 0, vec![99], 50_000);
    L1::new(rpc(&l1.rpc_url())).send(&old).await.expect("L1 takes it");
    let mut sender = sender(&l1.rpc_url(), FeeConfig::default()).await;
    let (metrics, node) = (sender.metrics().clone(), Arc::clone(&l1));
    let sending = tokio::spawn(async move { sender.send(requests(1)).await });
    let hash = alloy_primitives::keccak256(&old);
    let asked = [serde_json::json!(hash)];
    loop {
        let found: serde_json::Value =
            rpc(&node.rpc_url()).call("eth_getTransactionByHash", &asked).await.expect("L1 answers");
        if found.is_null() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(metrics.replaced.get() > 3);
    let miner = Miner::start(&node);
    sending.await.expect("it does not panic").expect("it is included");
    miner.stop().await;
    assert_eq!(on_l1(&l1), [0], "of the two with one nonce, ours");
}

#[tokio::test]
async fn a_spike_of_the_base_fee_is_waited_out() {
    let l1 = l1().await;
    // The base fee falls by an eighth with every empty block: four of them bring it below the cap.
    let market = sender(&l1.rpc_url(), FeeConfig::default()).await.market().await.expect("L1 answers");
    let cap = market.tip.max(10_000_000) + market.base_fee * 6 / 10;
    let fees = FeeConfig { max_fee_gwei: cap as f64 / 1e9, ..FeeConfig::default() };
    let mut sender = sender(&l1.rpc_url(), fees).await;
    let mut refused = 0;
    let included = loop {
        let miner = Miner::start(&l1);
        match sender.send(requests(1)).await {
            Ok(included) => {
                miner.stop().await;
                break included;
            }
            Err(SendError::TooDear { base_fee, .. }) => {
                assert!(base_fee > market.base_fee / 2, "{base_fee} wei is below the cap");
                assert_eq!(sender.metrics().too_dear.get(), 1);
                refused += 1;
                miner.stop().await;
                mine(&l1).await;
            }
            Err(other) => panic!("{other}"),
        }
    };
    assert!(refused > 2, "it was too dear at first");
    assert!(included[0].cost <= (cap + 1) * 50_000, "never more than the cap");
    assert_eq!(sender.metrics().too_dear.get(), 0);
}

#[tokio::test]
async fn two_senders_of_one_key_use_every_nonce_once() {
    let l1 = l1().await;
    let miner = Miner::start(&l1);
    let mut tasks = vec![];
    for _ in 0..2 {
        let mut sender = sender(&l1.rpc_url(), FeeConfig::default()).await;
        tasks.push(tokio::spawn(async move {
            let (mut included, mut displaced) = (0, 0);
            while included < 3 {
                match sender.send(requests(1)).await {
                    Ok(_) => included += 1,
                    Err(SendError::Displaced { .. }) => displaced += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            displaced
        }));
    }
    let mut displaced = 0;
    for task in tasks {
        displaced += task.await.expect("it does not panic");
    }
    miner.stop().await;
    // Both may take the same transaction for theirs: it is the same to the bit.
    let count = on_l1(&l1).len();
    assert!((3..=6).contains(&count), "{count} on L1, {displaced} displaced");
}

#[tokio::test]
async fn an_l1_that_fails_or_whose_answers_are_lost_is_waited_for() {
    let l1 = l1().await;
    for faulty in [Fault::Lost, Fault::Unanswered, Fault::Nonsense, Fault::Error(-32_603, "internal: pool is full")] {
        let proxy = Proxy::start(&l1.rpc_url(), |_, _| Fault::None).await;
        let mut sender = sender(&proxy.url, FeeConfig::default()).await;
        let before = on_l1(&l1).len();
        let kind = faulty.clone();
        // Some requests in a row, time and again.
        proxy.judge(move |number, _| if number % 24 >= 4 { Fault::None } else { kind.clone() });
        let miner = Miner::start(&l1);
        let result = sender.send(vec![Request { gas: Some(60_000), ..requests(1).remove(0) }]).await;
        miner.stop().await;
        // A transaction whose answer was lost may count as somebody else's, never twice.
        assert!(result.is_ok(), "{faulty:?}: {result:?}");
        assert_eq!(on_l1(&l1).len(), before + 1, "{faulty:?}");
    }
}
