//! Who shows the log what rollups did, and applies on rollups what the log decided?
//!
//! `lockstep-rollup relay`, one process for each rollup, and a second that stands by where relayers are killed. Anybody may run one:
//! each has a key of its own on the rollup and an account of its own in the log.

use std::{net::SocketAddr, path::Path};

use alloy_primitives::{Address, hex, keccak256};
use anyhow::{Context, Result};
use lockstep_adapters::{
    poster::SignerConfig,
    relay::ApplyConfig,
    settings::{
        Log, StatusSettings,
        relay::{ApplySettings, RelaySettings},
    },
};
use lockstep_protocol::{genesis::Balance, signature::AccountKey};

use super::{files, posters};
use crate::{child::Child, network::ROLLUPS, ports, transfers::Wallet};

/// Relayers of each rollup at most: one that works, one that stands by.
pub(super) const PER_ROLLUP: usize = 2;
/// Credits of each: worth nothing, and enough for days.
const CREDITS: u64 = 1_000_000_000_000_000;
/// How often a relayer looks: as often as the faster rollup has a block.
const POLL_MS: u64 = 50;
/// Patience with a rollup's node.
const TIMEOUT_MS: u64 = 5_000;
/// How long the one that stands by lets the other go first.
const PATIENCE_MS: u64 = 3_000;

/// A running relayer.
pub(super) struct RelayProcess {
    pub(super) child: Child,
}

/// The wallets that relayers pay with on the rollups.
pub fn wallets() -> Vec<Address> {
    everybody().map(|(place, number)| wallet(place, number).address()).collect()
}

/// What a genesis gives to relayers' accounts.
pub fn balances() -> Vec<Balance> {
    everybody().map(|(place, number)| Balance { account: key(place, number).account(), credits: CREDITS }).collect()
}

fn everybody() -> impl Iterator<Item = (usize, usize)> {
    (0..ROLLUPS.len()).flat_map(|place| (0..PER_ROLLUP).map(move |number| (place, number)))
}

fn wallet(place: usize, number: usize) -> Wallet {
    Wallet::of_seed("testnet relayer", (place * PER_ROLLUP + number) as u64)
}

fn seed(place: usize, number: usize) -> [u8; 32] {
    keccak256(format!("testnet relayer account {place} {number}")).0
}

fn key(place: usize, number: usize) -> AccountKey {
    AccountKey::ed25519(seed(place, number))
}

impl RelayProcess {
    /// Starts relayer `number` of the rollup at `place`, whose node is at `rpc`.
    pub(super) fn start(
        executable: &Path,
        folder: &Path,
        (place, number): (usize, usize),
        rpc: String,
        genesis: &Path,
        nodes: &[String],
    ) -> Result<Self> {
        let folder = files::folder(folder)?;
        let status: SocketAddr = ports::free(1)?[0];
        files::secret(&folder.join("relayer.key"), &hex::encode(wallet(place, number).secret()))?;
        let account = format!("ed25519:{}", hex::encode_prefixed(seed(place, number)));
        files::secret(&folder.join("relayer-account.key"), &account)?;
        let settings = RelaySettings {
            rollup: ROLLUPS[place].0.0,
            genesis: std::fs::canonicalize(genesis).context("finding the log's genesis")?,
            nodes: nodes.to_vec(),
            rpc,
            timeout_ms: TIMEOUT_MS,
            poll_ms: POLL_MS,
            fee_accounts: Vec::new(),
            apply: Some(ApplySettings {
                account_key_file: "relayer-account.key".into(),
                signer: SignerConfig { key_file: Some("relayer.key".into()), ..SignerConfig::default() },
                calls: ApplyConfig { patience_ms: if number == 0 { 0 } else { PATIENCE_MS }, ..ApplyConfig::default() },
            }),
            status: StatusSettings { listen: status },
            log: Log::default(),
        };
        files::toml(&folder.join("relay.toml"), &settings)?;
        let stack = ["op", "nitro"][place];
        let name = posters::numbered(&format!("{stack}-relayer"), number);
        let arguments = vec!["rollup".into(), "relay".into(), "--config".into(), folder.join("relay.toml").into()];
        let mut child = Child::new(name, executable, arguments, folder.join("relay.log"));
        child.start()?;
        Ok(Self { child })
    }
}
