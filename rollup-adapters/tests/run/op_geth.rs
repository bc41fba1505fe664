//! Does op-geth, which nobody here wrote, build the embedded node's blocks from the same lane, and survive with its driver?

use std::time::Duration;

use alloy_primitives::{Address, B256, U256, keccak256};
use lockstep_adapters::serve::DriverStatus;

use crate::{
    driver::{Traffic, deposit},
    stock::{OpGeth, States, Told, blocks},
    world::{Client, L1_CHAIN, Running, SYSTEM_CONFIG, Wallet, World, until},
};

/// Only ends a test that hangs, and says how it stands.
const LONG: Duration = Duration::from_secs(60);

/// An event that changes the rollup's configuration.
fn configure(sender: &Wallet, nonce: u64, kind: u64, words: &[B256]) -> Vec<u8> {
    let word = |number: u64| B256::from(U256::from(number));
    let event = keccak256("ConfigUpdate(uint256,uint8,bytes)");
    let mut call = vec![event, B256::ZERO, word(kind), word(32), word(words.len() as u64 * 32)];
    call.extend(words);
    sender.sign(L1_CHAIN, nonce, SYSTEM_CONFIG, 0, call.concat(), 300_000)
}

/// Everything that a lane holds, deposits, and each kind of change of the configuration, over some minutes of the log.
pub(crate) async fn eventful(traffic: &mut Traffic) -> World {
    let mut world = World::new(&traffic.wallets).await;
    let sender = Wallet::new(1);
    let wide = |number: u128| B256::from(U256::from(number));
    let mut scalars = wide(9 << 32 | 6);
    scalars.0[0] = 1;
    let events = [
        deposit(&sender, 0, Address::repeat_byte(0x40), 1_000_000),
        // Scalars of what L1 costs; gas limit; denominator and elasticity; operator fee.
        configure(&sender, 1, 1, &[B256::ZERO, scalars]),
        configure(&sender, 2, 2, &[wide(50_000_000)]),
        deposit(&sender, 3, Address::repeat_byte(0x41), 1_000_000),
        configure(&sender, 4, 4, &[wide(50 << 32 | 4)]),
        configure(&sender, 5, 5, &[wide(11 << 64 | 13)]),
    ];
    for event in events {
        world.send_l1(&event).await;
        world.pass(30, |height| traffic.at(height)).await;
    }
    world
}

pub(crate) async fn driven(world: &World, geth: &OpGeth, name: Option<&str>) -> Running<DriverStatus> {
    world.drive(&geth.rpc, &geth.engine, &world.l1.rpc_url(), name)
}

pub(crate) async fn wait_for(driver: &Running<DriverStatus>, target: u64) {
    let begin = tokio::time::Instant::now();
    while driver.service.status().executed.number < target {
        let status = driver.service.status();
        assert!(
            begin.elapsed() < LONG,
            "block {} of {target} after three minutes: {:?}",
            status.executed.number,
            status.trouble
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the embedded node has of the same lane, in the same words.
async fn embedded(world: &World) -> (Client, Vec<Told>, DriverStatus) {
    let client = world.client().await;
    let driver = world.drive_directly(&client);
    world.wait_for_head(&client).await;
    until("it is told", || driver.service.status().executed.number == world.target()).await;
    let status = driver.service.status();
    driver.stop().await;
    let blocks = blocks(&client.rpc, world.target()).await;
    (client, blocks, status)
}

/// Without help it comes to where the world is, with the embedded node's blocks.
async fn assert_recovers(world: &World, geth: &OpGeth, driver: Running<DriverStatus>) {
    let target = world.target();
    wait_for(&driver, target).await;
    until("its trouble is over", || driver.service.status().trouble.is_none()).await;
    driver.stop().await;
    let (_, expected, _) = embedded(world).await;
    assert_eq!(blocks(&geth.rpc, target).await, expected);
}

#[tokio::test]
async fn it_builds_the_embedded_nodes_blocks_from_the_same_lane() {
    let mut traffic = Traffic::new();
    let world = eventful(&mut traffic).await;
    let Some(geth) = OpGeth::start(&world.genesis).await else { return };
    let driver = driven(&world, &geth, None).await;
    wait_for(&driver, world.target()).await;
    let status = driver.service.status();
    driver.stop().await;
    let (client, expected, told) = embedded(&world).await;
    let found = blocks(&geth.rpc, world.target()).await;
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), expected.len());
    // The lane was one with something in it, and the judge left out the same.
    assert_eq!((status.failures, status.trouble), (0, None));
    assert_eq!((status.transactions, status.skipped), (told.transactions, told.skipped));
    assert!(status.skipped > 100 && status.transactions > 100, "{} and {}", status.skipped, status.transactions);
    let wallets = &traffic.wallets;
    assert_eq!(status.transactions, wallets.iter().map(|wallet| wallet.nonce).sum::<u64>());
    assert!(wallets.iter().all(|wallet| client.node.state().nonce(wallet.address) == wallet.nonce));
    // What L1 costs and the operator's fee were taken, so both agree on more than transfers.
    for vault in ["420000000000000000000000000000000000001a", "420000000000000000000000000000000000001b"] {
        let vault: Address = vault.parse().expect("an address");
        assert!(client.node.state().balance(vault) > U256::ZERO, "{vault}");
    }
}

#[tokio::test]
async fn killed_and_started_again_it_is_driven_on_without_help() {
    let mut traffic = Traffic::new();
    let mut world = eventful(&mut traffic).await;
    let Some(mut geth) = OpGeth::start(&world.genesis).await else { return };
    let driver = driven(&world, &geth, Some("places.json")).await;
    // At the beginning, in the middle, and after its head has been told everything.
    for kill in 0..3 {
        wait_for(&driver, kill * world.target() / 2).await;
        geth.kill();
        world.pass(20, |height| traffic.at(height)).await;
        until("its absence is told", || driver.service.status().trouble.is_some()).await;
        geth.revive().await;
    }
    assert_recovers(&world, &geth, driver).await;
}

#[tokio::test]
async fn states_that_a_kill_loses_are_executed_again() {
    let mut traffic = Traffic::new();
    let mut world = eventful(&mut traffic).await;
    let Some(mut geth) = OpGeth::start_with(&world.genesis, States::InMemory).await else { return };
    let driver = driven(&world, &geth, None).await;
    wait_for(&driver, world.target()).await;
    let kept = world.target();
    // What it writes when it ends well is what it has after it does not.
    geth.terminate();
    geth.revive().await;
    world.pass(60, |height| traffic.at(height)).await;
    wait_for(&driver, world.target()).await;
    geth.kill();
    world.pass(20, |height| traffic.at(height)).await;
    geth.revive().await;
    let head = geth.head().await;
    assert!(head < kept + 30, "{head}: nothing was lost, so nothing is shown");
    assert_recovers(&world, &geth, driver).await;
}
