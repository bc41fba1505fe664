//! Moves margin from a venue on one rollup to a venue on another, both legs or neither, and prints each step once it is proven.
//!
//! Start a testnet that stays, and give this program the file that it names:
//!
//! ```sh
//! cargo run --release -- --keep
//! cargo run --release -p lockstep-sdk --example margin_transfer -- .run/<run>/client.json
//! ```
//!
//! An amount in the asset's smallest unit may follow, and `back` to go the other way. What was signed is written to
//! `transfer-<settlement>.json` beside the file, before it is sent: give that as the last argument, and the same transfer is
//! followed again, whatever happened to the program before. `abort` after it takes the transfer back.

#![allow(clippy::print_stdout, reason = "it is a program for people")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy_primitives::keccak256;
use anyhow::{Context, Result, bail, ensure};
use lockstep_sdk::{
    Client, MarginTransfer, Trust,
    client::Config,
    protocol::{
        bundle::SignedBundle,
        genesis::Genesis,
        hex,
        ids::{Address20, AssetId, RollupId},
        signature::AccountKey,
    },
    transfer::{Step, Venue, Wallet},
};
use serde::Deserialize;

/// For each step: the longest is the deadline, some seconds of a busy network and two minutes of an idle one.
const PATIENCE: Duration = Duration::from_secs(180);
/// A little of an asset with six decimal places.
const AMOUNT: u128 = 1_000_000;

/// What a testnet writes for its visitors.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientFile {
    nodes: Vec<String>,
    account_key: String,
    /// Beside this file.
    #[serde(default = "genesis_file")]
    genesis: PathBuf,
    #[serde(default)]
    asset: String,
    #[serde(default)]
    wallet_key: String,
    #[serde(default)]
    venues: Vec<VenueFile>,
}

#[derive(Deserialize)]
struct VenueFile {
    rollup: RollupId,
    escrow: Address20,
    rpc: String,
}

fn genesis_file() -> PathBuf {
    "genesis.json".into()
}

/// What is asked for.
struct Arguments {
    file: PathBuf,
    amount: u128,
    back: bool,
    again: Option<PathBuf>,
    abort: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let folder = arguments.file.parent().unwrap_or(Path::new("."));
    let file: ClientFile = read(&arguments.file)?;
    // The one thing to trust, from a place that is no node.
    let genesis: Genesis = read(&folder.join(&file.genesis))?;
    let client = Client::new(Trust::from_genesis(&genesis)?, Config { nodes: file.nodes, ..Config::default() })?;
    let key = account_key(&file.account_key)?;
    ensure!(file.venues.len() >= 2, "a transfer needs two venues: is this a testnet with venues?");
    let wallet = Wallet::new(hex::decode_fixed(&file.wallet_key)?).context("not a secp256k1 scalar")?;
    // An asset is the same on every rollup: the hash of its name.
    let asset = AssetId(keccak256(&file.asset).0);
    let venues = file.venues.iter().map(|venue| Venue::new(venue.rollup, venue.escrow, &venue.rpc));
    let mut venues = venues.collect::<Result<Vec<_>, _>>()?;
    if arguments.back {
        venues.reverse();
    }
    let [from, to, ..] = &venues[..] else { bail!("a transfer needs two venues") };

    let signed = match &arguments.again {
        Some(path) => read(path)?,
        None => {
            for venue in [from, to] {
                let margin = venue.margin(wallet.address(), asset).await?;
                let inventory = venue.inventory(asset).await?;
                let (free, pool) = (margin.free, inventory.available);
                println!("rollup {:<6} {free} of free margin, {pool} in the escrow's inventory", venue.rollup());
            }
            let amount = arguments.amount;
            let transfer = MarginTransfer::new(asset)
                .debit(from, &wallet, amount)
                .credit(to, &wallet, amount)
                .tag(*b"margin example  ");
            let found = client.dry_run(&transfer, &key, &genesis.rules()?).await?;
            for reason in &found.reasons {
                println!("against it    {reason}");
            }
            ensure!(found.is_good(), "nothing was sent");
            println!("dry run       good, for at most {} credits", found.max_fee);
            client.prepare_transfer(&transfer, &key).await?
        }
    };
    let mut run = client.run_transfer(signed.clone(), venues.clone())?;
    let settlement = run.settlement();
    println!("settlement    {settlement}");
    if arguments.again.is_none() {
        // Before it is sent: whatever happens now, the same transfer can be taken up again.
        let path = folder.join(format!("transfer-{settlement}.json"));
        std::fs::write(&path, serde_json::to_vec(&signed)?).with_context(|| format!("writing {}", path.display()))?;
        println!("written to    {}", path.display());
    }
    if arguments.abort {
        let sent = client.abort_settlement(settlement, &key).await?;
        println!("abort         taken at height {}, which is no decision yet", sent.height);
    }
    follow(&client, &mut run, &signed).await
}

async fn follow(client: &Client, run: &mut lockstep_sdk::transfer::TransferRun, signed: &SignedBundle) -> Result<()> {
    let begun = Instant::now();
    while let Some(step) = run.next(PATIENCE).await? {
        println!("{:>8.3} s    {step}", begun.elapsed().as_secs_f64());
        if let Step::Decided { proof, .. } = &step {
            // Needs no node: whoever holds the group key may check it, and so does the contract.
            let (settlement, verdict, height) = proof.verify(client.trust())?;
            ensure!(Some(settlement) == signed.bundle.settlement(), "a proof of another settlement");
            println!("              {verdict:?}, proven by the lane of rollup {} at {height}", proof.range.rollup);
        }
    }
    for fault in client.nodes().iter().filter_map(|node| node.last_fault.as_ref().map(|fault| (&node.node, fault))) {
        println!("on the way    {}: {}", fault.0, fault.1);
    }
    Ok(())
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut given = std::env::args().skip(1);
        let file = given.next().filter(|file| !file.starts_with('-'));
        let file = file.context("usage: margin_transfer <client.json> [amount] [back] [transfer.json [abort]]")?;
        let mut read = Self { file: file.into(), amount: AMOUNT, back: false, again: None, abort: false };
        for argument in given {
            match argument.as_str() {
                "back" => read.back = true,
                "abort" => read.abort = true,
                path if path.ends_with(".json") => read.again = Some(path.into()),
                amount => read.amount = amount.parse().with_context(|| format!("{amount} is not an amount"))?,
            }
        }
        Ok(read)
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))
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
