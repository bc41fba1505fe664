//! Does a client that follows the lane always end up with the same chain?

use std::time::Duration;

use alloy_primitives::{Address, B256, U256, keccak256};
use lockstep_adapters::{conformance::Seed, optimism::deposit::DEPOSIT};
use lockstep_evm::Reorg;
use serde_json::json;

use crate::{
    proxy::{Fault, Proxy},
    world::{CHAIN, L1_CHAIN, PORTAL, SYSTEM_CONFIG, Wallet, World, hashes, until},
};

/// A lane with everything that a lane may hold: transfers, and what must be skipped.
pub(crate) struct Traffic {
    pub(crate) wallets: Vec<Wallet>,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        Self { wallets: (1..5).map(Wallet::new).collect() }
    }

    /// Most heights have nothing; some have transfers, some garbage, some both.
    pub(crate) fn at(&mut self, height: u64) -> Vec<Vec<u8>> {
        let index = (height % 4) as usize;
        let to = Address::repeat_byte(0x66);
        let poor = Wallet::new(200);
        let wallet = &mut self.wallets[index];
        let past = wallet.nonce.checked_sub(1).unwrap_or(7);
        match height % 11 {
            0 | 5 => vec![wallet.transfer()],
            2 => vec![wallet.transfer(), wallet.transfer(), wallet.transfer()],
            3 => vec![
                // A nonce of the past, one of the future, no balance, too much value, another chain, no transaction, a deposit.
                wallet.sign(CHAIN, past, to, 1, vec![], 21_000),
                wallet.sign(CHAIN, wallet.nonce + 5, to, 1, vec![], 21_000),
                poor.sign(CHAIN, 0, to, 1, vec![], 21_000),
                wallet.sign(CHAIN, wallet.nonce, to, u128::MAX, vec![], 21_000),
                wallet.sign(L1_CHAIN, wallet.nonce, to, 1, vec![], 21_000),
                vec![0xff, 0x00],
                vec![DEPOSIT, 0xc0],
                wallet.transfer(),
            ],
            7 => vec![wallet.sign(CHAIN, wallet.nonce, to, 1, vec![], 20_999), wallet.transfer()],
            _ => vec![],
        }
    }
}

/// An event of the portal that mints and sends.
pub(crate) fn deposit(sender: &Wallet, nonce: u64, to: Address, mint: u64) -> Vec<u8> {
    let event = keccak256("TransactionDeposited(address,address,uint256,bytes)");
    let mut opaque = [U256::from(mint).to_be_bytes::<32>(), U256::from(mint / 2).to_be_bytes::<32>()].concat();
    opaque.extend(100_000_u64.to_be_bytes());
    opaque.push(0);
    opaque.extend([1, 2, 3]);
    let topics = [event, Address::repeat_byte(0x99).into_word(), to.into_word(), B256::ZERO];
    let mut call = topics.concat();
    call.extend(U256::from(32).to_be_bytes::<32>());
    call.extend(U256::from(opaque.len()).to_be_bytes::<32>());
    call.extend(&opaque);
    call.resize(call.len().next_multiple_of(32), 0);
    sender.sign(L1_CHAIN, nonce, PORTAL, 0, call, 300_000)
}

/// An event that sets the rollup's gas limit.
fn gas_limit(sender: &Wallet, nonce: u64, gas: u64) -> Vec<u8> {
    let event = keccak256("ConfigUpdate(uint256,uint8,bytes)");
    let word = |number: u64| B256::from(U256::from(number));
    let call = [event, B256::ZERO, word(2), word(32), word(32), word(gas)].concat();
    sender.sign(L1_CHAIN, nonce, SYSTEM_CONFIG, 0, call, 300_000)
}

pub(crate) async fn world(traffic: &mut Traffic, seconds: u64) -> World {
    let mut world = World::new(&traffic.wallets).await;
    let depositor = Wallet::new(1);
    for (nonce, part) in (0..).zip([0, 1, 2, 3]) {
        let raw = match part {
            3 => gas_limit(&depositor, nonce, 50_000_000),
            part => deposit(&depositor, nonce, Address::repeat_byte(0x40 + part), 1_000_000),
        };
        world.send_l1(&raw).await;
        world.pass(seconds / 4, |height| traffic.at(height)).await;
    }
    world
}

#[tokio::test]
async fn the_lane_is_executed_and_garbage_is_skipped_and_told() {
    let mut traffic = Traffic::new();
    let world = world(&mut traffic, 120).await;
    let client = world.client().await;
    let driver = world.drive_directly(&client);
    world.wait_for_head(&client).await;
    let head = client.node.head();
    assert_eq!(head.header.number, world.target());
    for wallet in &traffic.wallets {
        assert_eq!(
            client.node.state().nonce(wallet.address),
            wallet.nonce,
            "every valid transaction was executed, and nothing else"
        );
    }
    until("it tells of its head", || driver.service.status().executed.number == head.header.number).await;
    let status = driver.service.status();
    assert_eq!((status.executed.hash, status.executed.state_root), (head.hash, head.header.state_root));
    assert_eq!((status.failures, status.trouble), (0, None));
    let garbage = world.lane.all().iter().flat_map(|block| &block.transactions).count() as u64
        - traffic.wallets.iter().map(|wallet| wallet.nonce).sum::<u64>();
    assert_eq!(status.skipped, garbage);
    let reasons: Vec<_> = status.latest_skipped.iter().map(|skipped| skipped.reason.as_str()).collect();
    for reason in ["invalid at its place", "signed for chain 900", "0x7e"] {
        assert!(reasons.iter().any(|told| told.contains(reason)), "{reason}: {reasons:?}");
    }
    // Deposits of L1 arrived, and so did the change of the gas limit.
    for part in 0..3 {
        assert_eq!(client.node.state().balance(Address::repeat_byte(0x40 + part)), U256::from(500_000));
    }
    assert_eq!(head.header.gas_limit, 50_000_000);
    driver.stop().await;
}

#[tokio::test]
async fn a_driver_that_starts_late_or_reads_in_other_pieces_builds_the_same_chain() {
    let mut traffic = Traffic::new();
    let mut world = world(&mut traffic, 60).await;
    let early = world.client().await;
    let driver = world.drive_directly(&early);
    for _ in 0..20 {
        world.pass(3, |height| traffic.at(height)).await;
        tokio::task::yield_now().await;
    }
    world.wait_for_head(&early).await;
    let late = world.client().await;
    let second = world.drive_directly(&late);
    world.wait_for_head(&late).await;
    assert_eq!(hashes(&early), hashes(&late));
    driver.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn killed_after_every_request_it_goes_on_where_it_was() {
    let mut traffic = Traffic::new();
    let world = world(&mut traffic, 60).await;
    let reference = world.client().await;
    let driver = world.drive_directly(&reference);
    world.wait_for_head(&reference).await;
    driver.stop().await;

    for named in [None, Some("places")] {
        let client = world.client().await;
        let rpc = Proxy::start(&client.rpc, |_, _| Fault::None).await;
        let engine = Proxy::start(&client.engine, |_, _| Fault::None).await;
        let mut kills = 0;
        let mut allowed = 1;
        while client.node.head().header.number < world.target() {
            // The engine answers so many requests, and the last of them is done and not answered.
            engine.judge(move |number, _| match number.cmp(&allowed) {
                std::cmp::Ordering::Less => Fault::None,
                std::cmp::Ordering::Equal => Fault::Unanswered,
                std::cmp::Ordering::Greater => Fault::Lost,
            });
            let driver = world.drive(&rpc.url, &engine.url, &world.l1.rpc_url(), named);
            let done = async { world.wait_for_head(&client).await };
            tokio::select! {
                () = engine.wait_for(allowed) => {}
                () = done => {}
            }
            driver.kill().await;
            kills += 1;
            // A block with much to skip takes many requests.
            allowed = 1 + kills % 40;
        }
        assert!(kills > 8, "killed {kills} times");
        assert_eq!(hashes(&client), hashes(&reference), "{named:?}");
    }
}

#[tokio::test]
async fn a_client_in_trouble_is_waited_for_and_no_transaction_is_blamed() {
    let mut traffic = Traffic::new();
    let world = world(&mut traffic, 40).await;
    let reference = world.client().await;
    let driver = world.drive_directly(&reference);
    world.wait_for_head(&reference).await;
    until("it tells of its head", || driver.service.status().executed.number == world.target()).await;
    let skipped = driver.service.status().skipped;
    driver.stop().await;

    let syncing = json!({ "payloadStatus": { "status": "SYNCING" }, "payloadId": null, "status": "SYNCING" });
    let invalid = json!({
        "payloadStatus": { "status": "INVALID", "validationError": "made up" }, "payloadId": null,
        "status": "INVALID", "validationError": "made up",
    });
    for fault in [
        Fault::Result(syncing),
        Fault::Result(invalid),
        Fault::Error(-32_603, "internal error"),
        Fault::Error(-38_001, "unknown payload"),
        Fault::Lost,
        Fault::Unanswered,
        Fault::Nonsense,
        Fault::Late(Duration::from_millis(30)),
    ] {
        let client = world.client().await;
        let kind = fault.clone();
        // About every sixteenth request, in no order that the requests of a block could fall in step with.
        let judge = move |number: u64, method: &str| match method.starts_with("engine_") && Seed(number).below(16) == 0
        {
            true => kind.clone(),
            false => Fault::None,
        };
        let engine = Proxy::start(&client.engine, judge).await;
        let driver = world.drive(&client.rpc, &engine.url, &world.l1.rpc_url(), None);
        world.wait_for_head(&client).await;
        assert_eq!(hashes(&client), hashes(&reference), "{fault:?}");
        until("it tells of its head", || driver.service.status().executed.number == world.target()).await;
        let status = driver.service.status();
        assert!(status.failures > 0 || matches!(fault, Fault::Late(_)), "{fault:?}: {status:?}");
        // What was built again was told again; what was told is what the reference skipped.
        assert!(status.skipped <= skipped * 2, "{fault:?}: {} of {skipped}", status.skipped);
        driver.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_is_gone_is_told_of_and_waited_for() {
    let mut traffic = Traffic::new();
    let world = world(&mut traffic, 24).await;
    let reference = world.client().await;
    let driver = world.drive_directly(&reference);
    world.wait_for_head(&reference).await;
    driver.stop().await;
    // It refuses, or says nothing at all.
    for fault in [Fault::Lost, Fault::Late(Duration::from_secs(3_600))] {
        let client = world.client().await;
        let kind = fault.clone();
        let dead = Proxy::start(&client.engine, move |_, _| kind.clone()).await;
        let stuck = world.drive(&client.rpc, &dead.url, &world.l1.rpc_url(), None);
        until("it tells of its trouble", || stuck.service.status().trouble.is_some()).await;
        assert_eq!(client.node.head().header.number, 0, "{fault:?}");
        dead.judge(|_, _| Fault::None);
        world.wait_for_head(&client).await;
        until("its trouble is over", || stuck.service.status().trouble.is_none()).await;
        assert_eq!(hashes(&client), hashes(&reference), "{fault:?}");
        stuck.stop().await;
    }
}

#[tokio::test]
async fn without_l1_it_goes_on_until_it_needs_it_and_then_when_it_is_back() {
    for gone in [false, true] {
        let mut traffic = Traffic::new();
        let mut world = world(&mut traffic, 40).await;
        let client = world.client().await;
        let mut l1 = Proxy::start(&world.l1.rpc_url(), |_, _| Fault::None).await;
        let driver = world.drive(&client.rpc, &client.engine, &l1.url, None);
        world.wait_for_head(&client).await;
        match gone {
            false => l1.judge(|_, _| Fault::Lost),
            true => l1.die().await,
        }
        world.pass(60, |height| traffic.at(height)).await;
        until("it misses L1", || driver.service.status().l1.trouble.is_some()).await;
        assert!(client.node.head().header.number < world.target(), "blocks on new L1 blocks wait");
        assert!(driver.is_running());
        match gone {
            false => l1.judge(|_, _| Fault::None),
            true => l1.revive().await,
        }
        world.wait_for_head(&client).await;
        driver.stop().await;
        let second = world.client().await;
        let fresh = world.drive_directly(&second);
        world.wait_for_head(&second).await;
        assert_eq!(hashes(&client), hashes(&second));
        fresh.stop().await;
    }
}

#[tokio::test]
async fn a_lane_that_stands_still_is_told_until_it_closes_a_block() {
    let mut traffic = Traffic::new();
    let mut world = world(&mut traffic, 24).await;
    world.lane_patience = Duration::from_millis(1);
    let client = world.client().await;
    let driver = world.drive_directly(&client);
    world.wait_for_head(&client).await;
    let is_told = |trouble: &Option<String>| trouble.as_ref().is_some_and(|text| text.contains("closed no block"));
    until("it tells that nothing comes", || is_told(&driver.service.status().trouble)).await;
    assert_eq!(driver.service.status().failures, 0, "nothing failed");
    let seen = driver.service.status().executed.number;
    world.pass(20, |height| traffic.at(height)).await;
    // It may stand still again before anybody looks, so its return is seen by the blocks.
    until("it goes on", || driver.service.status().executed.number == seen + 10).await;
    driver.stop().await;
    world.lane_patience = Duration::from_secs(3_600);
    let patient = world.drive_directly(&client);
    world.pass(2, |height| traffic.at(height)).await;
    world.wait_for_head(&client).await;
    assert_eq!(patient.service.status().trouble, None);
    patient.stop().await;
}

#[tokio::test]
async fn l1_that_has_headers_and_not_their_blocks_is_told_of_and_waited_for() {
    let mut traffic = Traffic::new();
    let world = world(&mut traffic, 48).await;
    let client = world.client().await;
    let halved = Proxy::start(&world.l1.rpc_url(), |_, method| match method {
        "eth_getBlockByHash" => Fault::Result(json!(null)),
        _ => Fault::None,
    })
    .await;
    let driver = world.drive(&client.rpc, &client.engine, &halved.url, None);
    world.wait_for_head(&client).await;
    until("it tells that L1 gives no block", || {
        let trouble = driver.service.status().derivation.trouble;
        trouble.is_some_and(|text| text.contains("L1 does not give block 1"))
    })
    .await;
    // It pauses longer and longer in between: some seconds of an L1 that is asked without pause are thousands of requests.
    let asked = halved.seen();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = halved.seen() - asked;
    assert!(asked < 300, "asked {asked} times in a second");
    halved.judge(|_, _| Fault::None);
    until("its trouble is over", || {
        let derivation = driver.service.status().derivation;
        derivation.trouble.is_none() && derivation.ready
    })
    .await;
    driver.stop().await;
}

#[tokio::test]
async fn reorganisations_of_l1_of_one_to_ten_blocks_are_followed() {
    for depth in [1, 2, 5, 10] {
        let mut traffic = Traffic::new();
        let mut world = world(&mut traffic, 160).await;
        let client = world.client().await;
        let driver = world.drive_directly(&client);
        world.wait_for_head(&client).await;
        let before = hashes(&client);
        let reorg = Reorg { depth, keep_transactions: true, transactions: vec![] };
        world.l1.reorg(reorg).await.expect("a reorganisation");
        world.pass(16, |height| traffic.at(height)).await;
        until("it notices", || driver.service.status().reorganised > 0).await;
        world.wait_for_head(&client).await;
        let second = world.client().await;
        let fresh = world.drive_directly(&second);
        world.wait_for_head(&second).await;
        until("they agree", || hashes(&client) == hashes(&second)).await;
        let kept = before.iter().zip(hashes(&client)).take_while(|(before, after)| **before == *after).count();
        assert!(kept < before.len(), "{depth}: something was built anew");
        assert!(kept as u64 + (depth + 2) * 6 >= before.len() as u64, "{depth}: and not more than had to be: {kept}");
        for wallet in &traffic.wallets {
            assert_eq!(
                client.node.state().nonce(wallet.address),
                wallet.nonce,
                "{depth}: nothing of the lane was lost"
            );
        }
        driver.stop().await;
        fresh.stop().await;
    }
}

#[tokio::test]
async fn what_cannot_be_executed_takes_no_gas_from_others() {
    let wallet = Wallet::new(1);
    let mut world = World::new(std::slice::from_ref(&wallet)).await;
    let (poor, to) = (Wallet::new(200), Address::repeat_byte(0x77));
    // Each asks for nearly all gas of a block, and nobody pays.
    let mut burst: Vec<Vec<u8>> = (0..100).map(|nonce| poor.sign(CHAIN, nonce, to, 1, vec![], 52_000_000)).collect();
    burst.insert(50, burst[49].clone());
    // These are paid for, and use little of what they ask for. The third comes twice.
    let paid: Vec<Vec<u8>> = (0..3).map(|nonce| wallet.sign(CHAIN, nonce, to, 1, vec![], 8_000_000)).collect();
    burst.insert(10, paid[0].clone());
    burst.extend([paid[1].clone(), paid[2].clone(), paid[2].clone()]);
    world.pass(4, |height| if height == 3 { burst.clone() } else { vec![] }).await;
    let client = world.client().await;
    let driver = world.drive(&client.rpc, &client.engine, &world.l1.rpc_url(), Some("invalid"));
    world.wait_for_head(&client).await;
    until("it tells what it left out", || driver.service.status().skipped == 10 + 32).await;
    driver.kill().await;
    // From the middle of the burst on: by the lane and the blocks alone, and by executing everything anew.
    let driver = world.drive_directly(&client);
    world.pass(16, |_| vec![]).await;
    until("the lane's end is executed", || client.node.state().nonce(wallet.address) == 3).await;
    until("it tells what it left out", || driver.service.status().skipped == 102 - 42).await;
    let status = driver.service.status();
    let latest = status.latest_skipped.last().expect("there are some");
    assert_eq!((latest.height, latest.index, latest.hash), (3, 104, keccak256(&paid[2])));
    assert_eq!(latest.reason, "repeated in one block");
    let other = world.client().await;
    let fresh = world.drive_directly(&other);
    let late = wallet.sign(CHAIN, 3, to, 1, vec![], 21_000);
    world.pass(4, |height| if height % 8 == 1 { vec![late.clone()] } else { vec![] }).await;
    world.wait_for_head(&client).await;
    world.wait_for_head(&other).await;
    assert_eq!(hashes(&client), hashes(&other));
    assert_eq!(client.node.state().nonce(wallet.address), 4);
    driver.stop().await;
    fresh.stop().await;
    let mut block = client.node.head();
    let mut counts = vec![];
    while block.header.number > 0 {
        counts.push(block.transactions.len() - 1);
        block = client.node.block(&block.header.parent_hash).expect("it is kept");
    }
    counts.reverse();
    assert_eq!(counts[..6], [1, 0, 0, 2, 0, 0], "59 million gas, and 32 invalid ones, in each block");
}

#[tokio::test]
async fn full_blocks_leave_over_and_ten_thousand_empty_heights_are_nothing_special() {
    let wallet = Wallet::new(1);
    let mut world = World::new(std::slice::from_ref(&wallet)).await;
    // 70 transactions that ask for two million gas each: more than two blocks.
    let burst: Vec<Vec<u8>> =
        (0..70).map(|nonce| wallet.sign(CHAIN, nonce, Address::repeat_byte(0x77), 1, vec![], 2_000_000)).collect();
    world.pass(4, |height| if height == 3 { burst.clone() } else { vec![] }).await;
    world.pass(5_000, |_| vec![]).await;
    assert!(world.lane.len() > 10_000);
    let client = world.client().await;
    let driver = world.drive(&client.rpc, &client.engine, &world.l1.rpc_url(), Some("full"));
    until("the full blocks are executed", || client.node.head().header.number >= 4).await;
    driver.kill().await;
    // Without the file of places, the lane is counted again: in the middle of what is left over ...
    let driver = world.drive_directly(&client);
    world.wait_for_head(&client).await;
    driver.kill().await;
    // ... and through thousands of blocks, of which only those are looked at that can hold something.
    let rpc = Proxy::start(&client.rpc, |_, _| Fault::None).await;
    let driver = world.drive(&rpc.url, &client.engine, &world.l1.rpc_url(), None);
    until("the driver has its place", || driver.service.status().resumed == 1).await;
    assert!(client.node.head().header.number > 2_000);
    assert!(rpc.seen() < 50, "{} requests to count the lane", rpc.seen());
    let late = (70..90).map(|nonce| wallet.sign(CHAIN, nonce, Address::repeat_byte(0x77), 1, vec![], 2_000_000));
    let mut late = Some(late.collect::<Vec<_>>());
    world.pass(6, |_| late.take().unwrap_or_default()).await;
    world.wait_for_head(&client).await;
    driver.stop().await;
    let mut block = client.node.head();
    let mut counts = vec![];
    while block.header.number > 0 {
        counts.push(block.transactions.len() - 1);
        block = client.node.block(&block.header.parent_hash).expect("it is kept");
    }
    counts.reverse();
    assert_eq!(counts[..5], [29, 29, 12, 0, 0], "in blocks of 60 million gas, less one for L1's");
    assert_eq!(counts.iter().sum::<usize>(), 90, "all of them, once");
}
