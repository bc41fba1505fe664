//! What can an operator choose about a driver or a poster, and what is chosen if they say nothing?
//!
//! One TOML file each that refuses unknown keys. Secrets are named by path, never inline; paths are relative to the file. What is
//! the same for every stack is here, each stack's own below.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use lockstep_protocol::{genesis::Genesis, ids::RollupId, signature::AccountKey};
use lockstep_sdk::{Client, Trust, client::Config as ClientConfig};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    feed::FeedError,
    poster::{
        Beacon, BlobSchedule, Jwt, L1, Lease, LogLease, NetworkBook, Rpc, RpcError, SignerError, Unleased,
        beacon::Slots,
    },
};

pub mod arbitrum;
pub mod optimism;
pub mod relay;

/// Longest file that is read: what a person may have written, and a genesis with many accounts.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum SettingsError {
    #[error("{path}: {detail}")]
    File { path: PathBuf, detail: String },
    #[error("{0}")]
    Value(String),
    #[error(transparent)]
    Rpc(#[from] RpcError),
    #[error(transparent)]
    Signer(#[from] SignerError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error("cannot serve the status: {0}")]
    Listen(std::io::Error),
    #[error("{0}")]
    Chain(#[from] crate::optimism::chain::ChainError),
}

/// An L1 node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L1Settings {
    /// Its JSON-RPC.
    pub rpc: String,
    /// Its chain configuration, as op-node's `--rollup.l1-chain-config`; public chains need none.
    #[serde(default)]
    pub chain_config: Option<PathBuf>,
    /// A beacon node's HTTP API, `http://`; needed to read blobs back.
    #[serde(default)]
    pub beacon: Option<String>,
    /// How that names blocks.
    #[serde(default)]
    pub slots: Slots,
    /// Time for one answer, milliseconds.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
    /// Pause between two looks at it, milliseconds.
    #[serde(default = "one_second")]
    pub poll_ms: u64,
}

/// The lease that one of several posters holds, in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseSettings {
    /// The log's genesis.json, which names the account among the rollup's posters.
    pub genesis: PathBuf,
    /// Lockstep nodes.
    pub nodes: Vec<String>,
    /// The account's key.
    pub account_key_file: PathBuf,
    /// Heights for which it is taken at a time.
    #[serde(default = "lease_heights")]
    pub heights: u64,
}

fn lease_heights() -> u64 {
    crate::poster::lease::HEIGHTS_MAX
}

impl LeaseSettings {
    fn relative_to(&mut self, folder: &Path) {
        self.genesis = folder.join(&self.genesis);
        self.account_key_file = folder.join(&self.account_key_file);
    }
}

/// The lease of a rollup's posters; none where none is configured.
pub fn lease(settings: Option<&LeaseSettings>, rollup: RollupId) -> Result<Box<dyn Lease>, SettingsError> {
    let Some(settings) = settings else { return Ok(Box::new(Unleased)) };
    let fail = |detail: String| SettingsError::File { path: settings.genesis.clone(), detail };
    let genesis = genesis(&settings.genesis)?;
    let key = account_key(&settings.account_key_file)?;
    let listed = genesis.rollups.iter().find(|listed| listed.id == rollup);
    let listed = listed.ok_or_else(|| fail(format!("rollup {rollup} is not of this network")))?;
    if !listed.posters.contains(&key.account()) {
        return Err(fail(format!("{} is not one of the posters of rollup {rollup}", key.account())));
    }
    let trust = Trust::from_genesis(&genesis).map_err(|error| fail(error.to_string()))?;
    let network = trust.network();
    let config = ClientConfig { nodes: settings.nodes.clone(), ..ClientConfig::default() };
    let client = Client::new(trust, config).map_err(FeedError::from)?;
    let book = NetworkBook::new(client, rollup);
    Ok(Box::new(LogLease::new(book, key, network, rollup, settings.heights)))
}

/// Where to tell how it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusSettings {
    /// Address of /status, /metrics and /healthz.
    pub listen: SocketAddr,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Levels, as `tracing-subscriber` reads them.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

fn ten_seconds() -> u64 {
    10_000
}

fn one_second() -> u64 {
    1_000
}

impl L1Settings {
    /// The node.
    pub fn open(&self) -> Result<L1, SettingsError> {
        let l1 = L1::new(Rpc::new(&self.rpc, Duration::from_millis(self.timeout_ms), None)?);
        let Some(path) = &self.chain_config else { return Ok(l1) };
        let blobs = BlobSchedule::parse(&read(path)?)
            .map_err(|error| SettingsError::File { path: path.clone(), detail: error.to_string() })?;
        Ok(l1.with_blobs(blobs))
    }

    fn relative_to(&mut self, folder: &Path) {
        self.chain_config = self.chain_config.as_ref().map(|path| folder.join(path));
    }

    /// The beacon node, if there is one.
    pub fn open_beacon(&self) -> Option<Beacon> {
        self.beacon.as_ref().map(|url| Beacon::new(url, self.slots))
    }

    /// Pause between two looks.
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(10))
    }
}

/// Reads a TOML file, and gives the folder that its paths are relative to.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<(T, PathBuf), SettingsError> {
    let text = read(path)?;
    let value = toml::from_str(&text)
        .map_err(|error| SettingsError::File { path: path.to_owned(), detail: error.to_string() })?;
    Ok((value, path.parent().unwrap_or(Path::new("")).to_owned()))
}

/// Reads a text file of a bounded length.
pub fn read(path: &Path) -> Result<String, SettingsError> {
    let fail = |detail: String| SettingsError::File { path: path.to_owned(), detail };
    let length = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if length > FILE_BYTES_MAX {
        return Err(fail(format!("{length} bytes, at most {FILE_BYTES_MAX} are read")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))
}

/// What is trusted of the log: its genesis, from a place that is not a node.
pub fn trust(path: &Path) -> Result<Trust, SettingsError> {
    let fail = |detail: String| SettingsError::File { path: path.to_owned(), detail };
    Trust::from_genesis(&genesis(path)?).map_err(|error| fail(error.to_string()))
}

/// The log's genesis.
pub fn genesis(path: &Path) -> Result<Genesis, SettingsError> {
    serde_json::from_str(&read(path)?)
        .map_err(|error| SettingsError::File { path: path.to_owned(), detail: error.to_string() })
}

/// The key of an account of the log, from a file of mode 0600 as `lockstep keys new` writes it.
pub fn account_key(path: &Path) -> Result<AccountKey, SettingsError> {
    let fail = || SettingsError::File {
        path: path.to_owned(),
        detail: "not a key file: expected one line `ed25519:0x..` or `secp256k1:0x..`".into(),
    };
    let text = crate::poster::signer::read(path)?;
    let (kind, digits) = text.trim().split_once(':').ok_or_else(fail)?;
    let secret: [u8; 32] = alloy_primitives::hex::decode_to_array(digits).map_err(|_| fail())?;
    match kind {
        "ed25519" => Ok(AccountKey::ed25519(secret)),
        "secp256k1" => AccountKey::secp256k1(secret).ok_or_else(fail),
        _ => Err(fail()),
    }
}

/// The secret of an Engine API, from the file that the execution client has too.
pub fn jwt(path: &Path) -> Result<Jwt, SettingsError> {
    Jwt::parse(&read(path)?)
        .ok_or_else(|| SettingsError::File { path: path.to_owned(), detail: "not 64 hex digits".into() })
}
