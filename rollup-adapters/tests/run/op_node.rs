//! Does op-node, which nobody here wrote, arrive at the driver's blocks from L1 alone?

use std::time::Duration;

use lockstep_adapters::{
    optimism::rollup::Rollup,
    poster::{FeeConfig, L1},
};
use lockstep_evm::Reorg;
use serde_json::{Value, json};

use crate::{
    anvil::Anvil,
    driver::Traffic,
    op_geth::{driven, eventful, wait_for},
    process::{configure, start},
    stock::{OpGeth, OpNode, blocks, free_port},
    world::{BEGIN, L1_CHAIN, L1_SECONDS, Miner, World, rpc, until},
};

/// No beacon node: everything is in calldata.
const NO_BEACON: &str = "http://127.0.0.1:1";

/// Anvil's headers have a root of transactions that is not that of its transactions where some carry blobs.
const TRUSTED: [&str; 1] = ["--l1.trustrpc=true"];

async fn op_node(world: &World) -> Option<(OpGeth, OpNode)> {
    let geth = OpGeth::start(&world.genesis).await?;
    let node = OpNode::start(world, &geth, &world.l1.rpc_url(), NO_BEACON, &[]).await?;
    Some((geth, node))
}

#[tokio::test]
async fn it_derives_from_l1_what_was_driven_also_after_reorganisations() {
    let mut traffic = Traffic::new();
    let mut world = eventful(&mut traffic).await;
    let Some((verifier, mut node)) = op_node(&world).await else { return };
    let Some(geth) = OpGeth::start(&world.genesis).await else { return };
    let driver = driven(&world, &geth, None).await;
    wait_for(&driver, world.target()).await;
    let mut miner = Miner::start(&world.l1);
    let url = world.l1.rpc_url();
    let poster = world.post_of(&geth.rpc, &url, FeeConfig::default()).await;
    for depth in [0, 1, 8] {
        until("all is posted", || poster.service.status().derivation.safe.number == world.target()).await;
        if depth > 0 {
            miner.stop().await;
            let reorg = Reorg { depth, keep_transactions: false, transactions: vec![] };
            world.l1.reorg(reorg).await.expect("a reorganisation");
            miner = Miner::start(&world.l1);
            world.pass(20, |height| traffic.at(height)).await;
            wait_for(&driver, world.target()).await;
        }
        let target = world.target();
        until("all is safe", || {
            let status = poster.service.status();
            status.derivation.safe.number == target
                && status.derivation.safe.hash == driver.service.status().executed.hash
        })
        .await;
        node.wait_for(target, driver.service.status().executed.hash).await;
        assert_eq!(blocks(&verifier.rpc, target).await, blocks(&geth.rpc, target).await);
    }
    assert_eq!(driver.service.status().derivation.disagreement, None);
    miner.stop().await;
    poster.stop().await;
    driver.stop().await;
}

/// Makes anvil's block with this number, at its time.
async fn mine(anvil: &Anvil, number: u64) {
    let timestamp = json!(BEGIN + number * L1_SECONDS);
    let set: Result<Value, _> = rpc(&anvil.url).call("evm_setNextBlockTimestamp", &[timestamp]).await;
    set.expect("the next timestamp");
    let mined: Result<Value, _> = rpc(&anvil.url).call("evm_mine", &[]).await;
    mined.expect("anvil mines");
}

#[tokio::test]
async fn it_derives_from_blobs_on_anvil_what_was_driven() {
    let mut traffic = Traffic::new();
    let mut world = World::new(&traffic.wallets).await;
    world.pass(120, |height| traffic.at(height)).await;
    // Anvil in the place of the embedded L1, with the same accounts and as many blocks at the same times.
    let path = world.folder.path().join("l1-genesis.json");
    std::fs::write(&path, json!(world.l1_genesis).to_string()).expect("written");
    let (chain, begin) = (L1_CHAIN.to_string(), BEGIN.to_string());
    let arguments = ["--no-mining", "--hardfork", "prague", "--chain-id", &chain, "--timestamp", &begin, "--init"];
    let Some(anvil) = Anvil::start(&[&arguments[..], &[path.to_str().expect("text")]].concat()).await else { return };
    let l1 = L1::new(rpc(&anvil.url));
    let genesis = l1.header(0).await.expect("anvil answers").expect("it has a genesis");
    assert_eq!(genesis.timestamp, BEGIN);
    world.json = world.json.replace(&format!("{:?}", world.l1.genesis().hash), &format!("{:?}", genesis.hash));
    world.rollup = Rollup::parse(&world.json).expect("a rollup.json");
    let mut mined = world.l1.head().header.number;
    for number in 1..=mined {
        mine(&anvil, number).await;
    }
    let Some(verifier) = OpGeth::start(&world.genesis).await else { return };
    let started = OpNode::start(&world, &verifier, &anvil.url, &anvil.url, &TRUSTED).await;
    let Some(mut node) = started else { return };
    let Some(geth) = OpGeth::start(&world.genesis).await else { return };
    let target = world.target();
    let driver = world.drive(&geth.rpc, &geth.engine, &anvil.url, None);
    wait_for(&driver, target).await;
    let hash = driver.service.status().executed.hash;
    driver.stop().await;

    let config = configure(&world, &geth.rpc, &anvil.url, free_port());
    let text = std::fs::read_to_string(&config).expect("just written");
    let text = text
        .replace("# beacon = \"http://127.0.0.1:5052\"", &format!("beacon = \"{}\"", anvil.url))
        .replace("slots = \"time\"", "slots = \"number\"")
        .replace("target = \"auto\"", "target = \"blobs\"")
        .replace("sidecar = \"eip7594\"", "sidecar = \"eip4844\"");
    std::fs::write(&config, text).expect("written");
    let poster = start(&config);
    let url = anvil.url.clone();
    let arrived = node.wait_for(target, hash);
    tokio::pin!(arrived);
    let blobs = loop {
        mined += 1;
        mine(&anvil, mined).await;
        tokio::select! {
            () = &mut arrived => break blobs_up_to(&url, mined).await,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    };
    drop(poster);
    assert!(blobs > 0, "nothing was posted in blobs");
    assert_eq!(blocks(&verifier.rpc, target).await, blocks(&geth.rpc, target).await);
}

/// How many blobs are in anvil's blocks.
async fn blobs_up_to(url: &str, last: u64) -> usize {
    let l1 = L1::new(rpc(url));
    let mut blobs = 0;
    for number in 0..=last {
        let header = l1.header(number).await.expect("anvil answers").expect("it is there");
        let block = l1.block(header.hash).await.expect("anvil answers").expect("it is there");
        blobs += block.transactions.iter().map(|transaction| transaction.blob_versioned_hashes.len()).sum::<usize>();
    }
    blobs
}
