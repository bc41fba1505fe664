//! Does L1 always lead to what was executed, whatever happens to posters and to L1?

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use alloy_primitives::B256;
use lockstep_adapters::{poster::FeeConfig, serve::Status};
use lockstep_evm::Reorg;

use crate::{
    book::Book,
    proxy::{Fault, Proxy},
    world::{Client, Miner, Wallet, World, hashes, until},
};

/// A world whose lane is executed.
async fn executed(seconds: u64) -> (World, Client, Wallet) {
    let mut wallet = Wallet::new(1);
    let mut world = World::new(std::slice::from_ref(&wallet)).await;
    world
        .pass(seconds, |height| if height % 3 == 0 { vec![wallet.transfer(), wallet.transfer()] } else { vec![] })
        .await;
    let client = world.client().await;
    let driver = world.drive_directly(&client);
    world.wait_for_head(&client).await;
    driver.stop().await;
    (world, client, wallet)
}

/// Asserts that a reader of L1 who knows nothing else arrives at the head.
async fn assert_derived(world: &World, client: &Client) {
    let derived = world.derive(client).await;
    assert!(derived.agreed, "{:?}", derived.disagreement);
    assert_eq!(derived.safe.number, client.node.head().header.number);
    assert_eq!(derived.safe.hash, client.node.head().hash);
}

#[tokio::test]
async fn what_is_executed_is_posted_and_l1_leads_to_it() {
    let (mut world, client, mut wallet) = executed(120).await;
    let miner = Miner::start(&world.l1);
    let poster = world.post(&client, &world.l1.rpc_url(), FeeConfig::default()).await;
    until("all is posted", || poster.service.status().posted == world.target()).await;
    until("all is safe", || poster.service.status().derivation.safe.number == world.target()).await;
    let status = poster.service.status();
    assert!(status.batches_posted >= 1 && status.bytes_per_transaction > 50.0, "{status:?}");
    assert_eq!((status.failures, status.without_effect), (0, 0));
    let on_l1 = status.on_l1.expect("L1 was read to its end");
    assert_eq!((on_l1.block, on_l1.block_hash), (world.target(), Some(client.node.head().hash)));
    assert_eq!(status.transactions_posted, wallet.nonce);
    // And when there is more, more.
    let driver = world.drive_directly(&client);
    world.pass(60, |_| vec![wallet.transfer()]).await;
    world.wait_for_head(&client).await;
    until("the rest is safe", || poster.service.status().derivation.safe.number == world.target()).await;
    until("the client is told", || driver.service.status().derivation.safe.number == world.target()).await;
    poster.stop().await;
    driver.stop().await;
    miner.stop().await;
    assert_derived(&world, &client).await;
}

#[tokio::test]
async fn killed_after_every_request_it_posts_what_is_missing() {
    let (world, client, _) = executed(60).await;
    let l1 = Proxy::start(&world.l1.rpc_url(), |_, _| Fault::None).await;
    let miner = Miner::start(&world.l1);
    let (mut kills, mut allowed) = (0, 1);
    while world.derive(&client).await.safe.number < world.target() {
        // So many requests of the sender are answered; the next is done and its answer is lost, and then it is killed.
        let sent = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&sent);
        l1.judge(move |_, method| match method {
            "eth_getTransactionCount"
            | "eth_maxPriorityFeePerGas"
            | "eth_sendRawTransaction"
            | "eth_getTransactionReceipt" => match count.fetch_add(1, Ordering::SeqCst).cmp(&allowed) {
                std::cmp::Ordering::Less => Fault::None,
                std::cmp::Ordering::Equal => Fault::Unanswered,
                std::cmp::Ordering::Greater => Fault::Lost,
            },
            _ => Fault::None,
        });
        let poster = world.post(&client, &l1.url, FeeConfig::default()).await;
        until("it is where it is killed", || sent.load(Ordering::SeqCst) > allowed + 1).await;
        poster.kill().await;
        kills += 1;
        allowed += 1;
        assert!(kills < 40, "it never gets there");
    }
    miner.stop().await;
    assert!(kills > 3, "killed {kills} times");
    assert_derived(&world, &client).await;
}

#[tokio::test]
async fn two_posters_at_once_are_harmless() {
    let (mut world, client, mut wallet) = executed(60).await;
    let miner = Miner::start(&world.l1);
    let first = world.post(&client, &world.l1.rpc_url(), FeeConfig::default()).await;
    let second = world.post(&client, &world.l1.rpc_url(), FeeConfig::default()).await;
    let driver = world.drive_directly(&client);
    for _ in 0..8 {
        world.pass(10, |_| vec![wallet.transfer()]).await;
        world.wait_for_head(&client).await;
        let target = world.target();
        until("all is safe", || first.service.status().derivation.safe.number == target).await;
    }
    first.kill().await;
    second.stop().await;
    driver.stop().await;
    miner.stop().await;
    assert_derived(&world, &client).await;
}

#[tokio::test]
async fn of_two_posters_with_a_lease_one_pays_and_the_other_takes_over_when_it_stops() {
    const HEIGHTS: u64 = 1_000;
    let (mut world, client, mut wallet) = executed(60).await;
    let miner = Miner::start(&world.l1);
    let driver = world.drive_directly(&client);
    let book = Book::new();
    let log = {
        let book = book.clone();
        tokio::spawn(async move {
            loop {
                book.block();
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
    };
    let lease = |number| Box::new(book.lease_for(number, HEIGHTS));
    let url = world.l1.rpc_url();
    let first = world.post_leased(&client.rpc, &url, FeeConfig::default(), lease(0)).await;
    until("the first posts", || first.service.status().batches_posted > 0).await;
    let second = world.post_leased(&client.rpc, &url, FeeConfig::default(), lease(1)).await;
    for _ in 0..3 {
        world.pass(10, |_| vec![wallet.transfer()]).await;
        world.wait_for_head(&client).await;
        let target = world.target();
        until("all is safe", || first.service.status().derivation.safe.number == target).await;
    }
    assert_eq!(second.service.status().batches_posted, 0, "one pays");
    assert_eq!(first.service.status().without_effect, 0);
    first.kill().await;
    world.pass(10, |_| vec![wallet.transfer()]).await;
    world.wait_for_head(&client).await;
    // Nobody waits for a thousand heights here.
    for _ in 0..HEIGHTS {
        book.block();
    }
    let target = world.target();
    until("the second posts", || second.service.status().derivation.safe.number == target).await;
    // L1 may be read to there before the poster has heard that its own transaction is in it.
    until("it counts what it paid", || second.service.status().batches_posted > 0).await;
    assert!(second.service.status().leads);
    assert_eq!(book.record().map(|record| record.term), Some(2));
    log.abort();
    second.stop().await;
    driver.stop().await;
    miner.stop().await;
    assert_derived(&world, &client).await;
}

#[tokio::test]
async fn reorganisations_of_l1_that_take_batches_back_are_followed() {
    for (depth, keep_transactions) in [(1, true), (3, false), (10, true), (10, false)] {
        let (mut world, client, mut wallet) = executed(160).await;
        let driver = world.drive_directly(&client);
        let miner = Miner::start(&world.l1);
        let poster = world.post(&client, &world.l1.rpc_url(), FeeConfig::default()).await;
        until("all is safe", || poster.service.status().derivation.safe.number == world.target()).await;
        miner.stop().await;
        let reorg = Reorg { depth, keep_transactions, transactions: vec![] };
        world.l1.reorg(reorg).await.expect("a reorganisation");
        let read = || poster.service.status().on_l1.expect("it was read before").l1_hash;
        until("what is told to be posted is told of this L1", || read() == world.l1.head().hash).await;
        let miner = Miner::start(&world.l1);
        world.pass(20, |_| vec![wallet.transfer()]).await;
        world.wait_for_head(&client).await;
        until("all is safe again", || {
            let head = client.node.head();
            let safe = poster.service.status().derivation.safe;
            safe.number == world.target() && safe.hash == head.hash
        })
        .await;
        poster.stop().await;
        driver.stop().await;
        miner.stop().await;
        assert_derived(&world, &client).await;
    }
}

#[tokio::test]
async fn l1_that_is_down_or_gone_for_a_while_is_waited_for() {
    for gone in [false, true] {
        let (world, client, _) = executed(60).await;
        let mut l1 = Proxy::start(&world.l1.rpc_url(), |_, _| Fault::None).await;
        let miner = Miner::start(&world.l1);
        let poster = world.post(&client, &l1.url, FeeConfig::default()).await;
        match gone {
            false => l1.judge(|_, _| Fault::Lost),
            true => l1.die().await,
        }
        until("it tells of its trouble", || poster.service.status().trouble().is_some()).await;
        assert!(poster.is_running());
        match gone {
            false => l1.judge(|_, _| Fault::None),
            true => l1.revive().await,
        }
        until("all is safe", || poster.service.status().derivation.safe.number == world.target()).await;
        until("its trouble is over", || poster.service.status().trouble().is_none()).await;
        poster.stop().await;
        miner.stop().await;
        assert_derived(&world, &client).await;
    }
}

#[tokio::test]
async fn what_contradicts_l1_is_told_and_nothing_more_is_posted() {
    let (mut world, client, mut wallet) = executed(30).await;
    let miner = Miner::start(&world.l1);
    let poster = world.post(&client, &world.l1.rpc_url(), FeeConfig::default()).await;
    until("all is safe", || poster.service.status().derivation.safe.number == world.target()).await;
    poster.stop().await;
    let honest = hashes(&client);
    // A client that executed another lane from its first block on: L1 contradicts it.
    let lane = std::mem::take(&mut world.lane);
    for block in lane.all() {
        world.lane.push(lockstep_adapters::LaneBlock { transactions: vec![wallet.transfer()], ..block });
    }
    let other = world.client().await;
    let driver = world.drive_directly(&other);
    world.wait_for_head(&other).await;
    assert_ne!(hashes(&other)[1..], honest[1..]);
    let poster = world.post(&other, &world.l1.rpc_url(), FeeConfig::default()).await;
    until("it is told", || {
        let status = poster.service.status();
        status.derivation.disagreement.is_some_and(|told| told.contains("its transactions"))
    })
    .await;
    assert_eq!(poster.service.status().batches_posted, 0);
    assert_eq!(poster.service.status().derivation.safe.number, 0);
    poster.stop().await;
    driver.stop().await;
    miner.stop().await;
    assert_eq!(world.derive(&client).await.safe.hash, *honest.last().unwrap_or(&B256::ZERO));
}
