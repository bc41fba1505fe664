//! Does op-node, which nobody here wrote, arrive at the driver's blocks from L1 alone?

use lockstep_adapters::poster::FeeConfig;
use lockstep_evm::Reorg;

use crate::{
    driver::Traffic,
    op_geth::{driven, eventful, wait_for},
    stock::{OpGeth, OpNode, blocks},
    world::{Miner, World, until},
};

/// No beacon node: everything is in calldata.
const NO_BEACON: &str = "http://127.0.0.1:1";

async fn op_node(world: &World) -> Option<(OpGeth, OpNode)> {
    let geth = OpGeth::start(&world.genesis).await?;
    let node = OpNode::start(world, &geth, &world.l1.rpc_url(), NO_BEACON).await?;
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
