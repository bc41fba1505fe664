//! Sends a bundle of two signed transfers, one on each of two rollups, and prints what became of it once that is proven.
//!
//! Start a testnet that stays, and give this program the file that it names:
//!
//! ```sh
//! cargo run --release -- --keep
//! cargo run --release -p lockstep-sdk --example send -- .run/<run>/client.json
//! ```
//!
//! The file holds what a client needs: whom to ask (`nodes`), what to trust (`network`, `groupKey`), who pays
//! (`accountKey`), and which rollups to use (`rollups`).

#![allow(clippy::print_stdout, reason = "it is a program for people")]

use std::{path::PathBuf, time::Duration};

use alloy_consensus::{SignableTransaction, TxEip1559};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Signature, TxKind, U256};
use anyhow::{Context, Result, bail, ensure};
use lockstep_sdk::{
    BundleBuilder, Client, Trust,
    client::Config,
    follow::{Start, Update},
    protocol::{
        evidence::BundleState,
        genesis::GroupKeyBytes,
        hex,
        ids::{BundleId, Height, RollupId},
        lane::LaneEntry,
        signature::AccountKey,
    },
};
use secp256k1::{Message, SECP256K1, SecretKey};
use serde::Deserialize;

/// Longer than the bundle is valid: by then it has its outcome.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a testnet writes for its visitors.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientFile {
    network: String,
    group_key: GroupKeyBytes,
    nodes: Vec<String>,
    rollups: Vec<RollupId>,
    account_key: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let path: PathBuf =
        std::env::args_os().nth(1).context("usage: send <client.json>, as a testnet with --keep writes it")?.into();
    let text = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    let file: ClientFile = serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?;
    let [first, second, ..] = file.rollups[..] else { bail!("a two-leg bundle needs two rollups") };
    let key = account_key(&file.account_key)?;

    // The one thing to trust. Everything that a node says is checked against it.
    let trust = Trust::new(&file.network, &file.group_key)?;
    let client = Client::new(trust, Config { nodes: file.nodes, ..Config::default() })?;

    let record = client.account(key.account()).await?;
    let balance = record.value.with_context(|| format!("{} has no record: fund it first", key.account()))?.balance;
    println!("account   {} has {balance} credits at height {}", key.account(), record.header.height);

    // Each leg is a transaction as the rollup's own wallet signs it. To the log it is bytes.
    let wallet = SecretKey::from_byte_array([0x77; 32])?;
    let bundle = BundleBuilder::new()
        .tag(*b"sdk example send")
        .leg(first, [transfer(&wallet, first, 1_000)])
        .leg(second, [transfer(&wallet, second, 2_000)])
        .valid_for(256);
    let signed = client.prepare(bundle, &key).await?;
    let id = signed.bundle.id();
    println!("bundle    {id}, nonce {}, valid until height {}", signed.bundle.nonce, signed.bundle.valid_until);

    let outcome = client.submit_and_wait(&signed, PATIENCE).await?;
    for fault in outcome.faults.iter() {
        println!("on the way: {}: {}", fault.node, fault.fault);
    }
    let BundleState::Ordered { height, fee } = outcome.state else {
        println!("outcome   not ordered, proven at height {}: {:?}", outcome.proven_at().height, outcome.state);
        return Ok(());
    };
    println!("outcome   ordered at height {height} for {fee} credits, proven at height {}", outcome.proven_at().height);

    // The evidence needs no node: whoever holds the group key may check it, now or in ten years.
    let state = outcome.evidence.conclude(client.trust(), &signed.bundle)?;
    ensure!(state == outcome.state, "evidence that does not prove its outcome");

    for rollup in [first, second] {
        let place = find(&client, rollup, height, id).await?;
        println!("lane {rollup:<5} has the leg at height {height}, place {place} in its block, verified");
    }
    Ok(())
}

/// Where in its block of the lane the bundle's leg stands.
async fn find(client: &Client, rollup: RollupId, height: Height, id: BundleId) -> Result<usize> {
    let mut follower = client.follow(rollup, Start::Height(height)).await?;
    loop {
        match follower.next().await? {
            Update::Item(item) if item.header.height == height => {
                let mut entries = item.entries.iter();
                let place = entries.position(|LaneEntry::Leg { bundle, .. }| *bundle == id);
                return place.with_context(|| format!("lane {rollup} lacks its leg: all legs or none is broken"));
            }
            Update::Nothing { up_to } if up_to < height => {}
            other => bail!("lane {rollup} has nothing at height {height}: {other:?}"),
        }
    }
}

/// A signed EIP-1559 transfer on the chain of `rollup`.
fn transfer(wallet: &SecretKey, rollup: RollupId, wei: u64) -> Vec<u8> {
    let transaction = TxEip1559 {
        chain_id: rollup.0,
        nonce: 0,
        gas_limit: 21_000,
        max_fee_per_gas: 2_000_000_000,
        max_priority_fee_per_gas: 1_000_000,
        to: TxKind::Call(Address::repeat_byte(0x11)),
        value: U256::from(wei),
        ..TxEip1559::default()
    };
    let message = Message::from_digest(transaction.signature_hash().0);
    let (recovery, bytes) = SECP256K1.sign_ecdsa_recoverable(message, wallet).serialize_compact();
    let signature = Signature::from_bytes_and_parity(&bytes, i32::from(recovery) == 1);
    transaction.into_signed(signature).encoded_2718()
}

/// `ed25519:0x...` or `secp256k1:0x...`.
fn account_key(text: &str) -> Result<AccountKey> {
    let (kind, secret) = text.split_once(':').context("an account key is ed25519:0x... or secp256k1:0x...")?;
    let secret = hex::decode_fixed::<32>(secret)?;
    match kind {
        "ed25519" => Ok(AccountKey::ed25519(secret)),
        "secp256k1" => AccountKey::secp256k1(secret).context("not a secp256k1 scalar"),
        other => bail!("unknown kind of key: {other}"),
    }
}
