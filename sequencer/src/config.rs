//! What can an operator choose about a node, and what is chosen if they say nothing?
//!
//! One TOML file that refuses unknown keys, read into checked values. Keys are named by path, never inline; paths are relative
//! to the file. Reading the key files is `keys.rs`, starting a node with them `node.rs`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use jsonrpsee_http_client::HttpClientBuilder;
use lockstep_consensus::config::Timing;
use lockstep_protocol::ids::{Hash32, RollupId};
use serde::{Deserialize, Serialize};

use crate::public::PublicConfig;

/// The example that `lockstep node --print-config` prints: every key, with its default where it has one.
pub const EXAMPLE: &str = include_str!("config/example.toml");

/// Longest configuration file: what a person may have written, and far from what memory could mind.
const MAX_CONFIG_BYTES: u64 = 1024 * 1024;

/// A node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network's `genesis.json`.
    pub genesis: PathBuf,
    /// Folder for everything the node stores. Made if it is missing.
    pub data: PathBuf,
    /// Threads for the log, and as many for everything else; 0 is as many as there are cores, at most 8.
    #[serde(default)]
    pub threads: usize,
    /// Who this node is.
    pub keys: KeyPaths,
    /// Validators among themselves.
    pub p2p: P2p,
    /// The public JSON-RPC.
    #[serde(default)]
    pub rpc: Rpc,
    /// Everybody who is no validator, over libp2p; without it the node takes no part there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<PublicConfig>,
    /// The L1 that rollups post to; without it the node moves no L1 origin, and votes for none that others move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l1: Option<L1Config>,
    /// This validator's own node of each rollup that takes part in settlements. Of a rollup without one it attests nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollups: Vec<RollupConfig>,
    /// When blocks are made.
    #[serde(default)]
    pub pace: Pace,
    /// What waits to be ordered.
    #[serde(default)]
    pub pool: Pool,
    /// What is kept of the past.
    #[serde(default)]
    pub retention: Retention,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// Files that hold the validator's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPaths {
    /// The ed25519 key that names the validator.
    pub validator: PathBuf,
    /// Its share of the group key.
    pub share: PathBuf,
}

/// How validators reach each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct P2p {
    /// Where this validator listens for the others.
    pub listen: SocketAddr,
    /// Whether validators may share an address, or have private ones: on one machine, or in one private network.
    #[serde(default)]
    pub local: bool,
    /// Where the others are, by their ed25519 key. Naming this validator itself is allowed and changes nothing.
    #[serde(default)]
    pub peers: BTreeMap<Hash32, SocketAddr>,
}

/// The public JSON-RPC, `/healthz`, `/readyz` and `/metrics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rpc {
    /// Where to listen, for HTTP and WebSocket alike.
    pub listen: SocketAddr,
    /// HTTP requests in flight and WebSocket connections together; further ones are refused.
    pub max_connections: u32,
    /// Subscriptions of one WebSocket connection.
    pub max_subscriptions_per_connection: u32,
    /// A subscriber that takes no message for this long is cut off.
    pub slow_subscriber_ms: u64,
}

/// An L1 node, of this validator's own choice: what it says is what the validator vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct L1Config {
    /// Its JSON-RPC over HTTP.
    pub url: String,
    /// Blocks that an origin stays behind the newest: reorganisations of up to so many leave the log's origins alone.
    #[serde(default = "L1Config::confirmations")]
    pub confirmations: u64,
    /// How often it is asked.
    #[serde(default = "L1Config::poll_ms")]
    pub poll_ms: u64,
}

/// A rollup's node, of this validator's own choice: what it says is what the validator signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollupConfig {
    /// The rollup.
    pub id: RollupId,
    /// Its JSON-RPC over HTTP.
    pub rpc: String,
    /// How often it is asked, milliseconds.
    #[serde(default = "RollupConfig::poll_ms")]
    pub poll_ms: u64,
    /// Status addresses of the rollup's posters, `http://`: they tell what is on L1 before the node has derived it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub posters: Vec<String>,
}

/// Posters of a rollup that are asked: one that posts, and some that stand by.
const POSTERS_MAX: usize = 4;

impl RollupConfig {
    /// A node at `rpc`, asked in the usual way or every `poll_ms`; refused where no configuration would be read with it.
    pub fn new(id: RollupId, rpc: String, poll_ms: Option<u64>) -> Result<Self, String> {
        let config = Self { id, rpc, poll_ms: poll_ms.unwrap_or_else(Self::poll_ms), posters: Vec::new() };
        config.check()?;
        Ok(config)
    }

    /// Where a poster tells how it goes.
    pub fn status_page(poster: &str) -> Result<http::Uri, String> {
        if !poster.starts_with("http://") {
            return Err("it must be an http:// URL, the status.listen of a poster".into());
        }
        format!("{}/status", poster.trim_end_matches('/')).parse().map_err(|error| format!("{error}"))
    }

    fn poll_ms() -> u64 {
        // What a head costs in latency is half of it on average; a look costs a call on loopback.
        100
    }

    fn check(&self) -> Result<(), String> {
        let Self { id, rpc, poll_ms, posters } = self;
        if !rpc.starts_with("http://") {
            return Err(format!(
                "rollups, {id}: rpc must be an http:// URL: put a proxy in front of a node that has only https"
            ));
        }
        if !(50..=60_000).contains(poll_ms) {
            return Err(format!("rollups, {id}: poll_ms must be 50 to 60000"));
        }
        if posters.len() > POSTERS_MAX {
            return Err(format!("rollups, {id}: at most {POSTERS_MAX} posters are asked"));
        }
        for poster in posters {
            Self::status_page(poster).map_err(|rule| format!("rollups, {id}: posters, {poster}: {rule}"))?;
        }
        HttpClientBuilder::new().build(rpc).map(drop).map_err(|error| format!("rollups, {id}: rpc: {error}"))
    }
}

/// When blocks are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pace {
    /// An idle network makes a block this often. The same on all validators.
    pub heartbeat_ms: u64,
    /// A busy network makes none more often than this.
    pub min_interval_ms: u64,
}

/// What waits to be ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    /// Bytes of all waiting bundles.
    pub max_bytes: usize,
    /// Waiting bundles of one account.
    pub max_open_per_account: usize,
}

/// What is kept of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// About this many final blocks; 0 keeps every one.
    pub blocks: u32,
}

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Levels, as `tracing-subscriber` reads them: `info`, or `lockstep=debug,info`.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
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

impl Default for Rpc {
    fn default() -> Self {
        Self {
            // Loopback: what is open to the world is said so, not assumed.
            listen: SocketAddr::from(([127, 0, 0, 1], 8645)),
            max_connections: 1024,
            max_subscriptions_per_connection: 64,
            slow_subscriber_ms: 10_000,
        }
    }
}

impl L1Config {
    /// A node at `url`, looked at in the usual way.
    pub fn new(url: String) -> Self {
        Self { url, confirmations: Self::confirmations(), poll_ms: Self::poll_ms() }
    }

    fn confirmations() -> u64 {
        // What OP Stack sequencers use.
        4
    }

    fn poll_ms() -> u64 {
        1_000
    }

    fn check(&self) -> Result<(), String> {
        let rules = [
            (
                self.url.starts_with("http://"),
                "l1.url must be an http:// URL: put a proxy in front of a node that has only https",
            ),
            (self.confirmations <= 64, "l1.confirmations must be 0 to 64"),
            ((50..=60_000).contains(&self.poll_ms), "l1.poll_ms must be 50 to 60000"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, rule)) => Err(rule.into()),
            None => HttpClientBuilder::new().build(&self.url).map(drop).map_err(|error| format!("l1.url: {error}")),
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        // 20 ms: below it a loopback network spends its time on votes, above it a bundle waits for nothing.
        Self { heartbeat_ms: 1_000, min_interval_ms: 20 }
    }
}

impl Default for Pool {
    fn default() -> Self {
        // Eight seconds of two-leg transfers at 5,000 a second; an account cannot use more nonces than its window at once.
        Self { max_bytes: 48 * 1024 * 1024, max_open_per_account: 1024 }
    }
}

impl Default for Log {
    fn default() -> Self {
        // The engine's own `info` is for its makers.
        Self { filter: "info,commonware=warn".into(), format: LogFormat::Text }
    }
}

/// Why there is no configuration to start from.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}. `lockstep node --print-config` prints an example to start from")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error(
        "{path} is not a node's configuration:\n{source}\n`lockstep node --print-config` prints every key that there is"
    )]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value is out of its range, or contradicts another.
    #[error("{path}: {rule}")]
    Rule {
        /// Which file.
        path: PathBuf,
        /// Which rule.
        rule: String,
    },
}

impl Config {
    /// Reads and checks a file. Paths in the result are relative to where the process runs, or absolute.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read_error = |source| ConfigError::Read { path: path.to_owned(), source };
        let length = std::fs::metadata(path).map_err(read_error)?.len();
        if length > MAX_CONFIG_BYTES {
            let rule = format!("{length} bytes, at most {MAX_CONFIG_BYTES} are a configuration");
            return Err(ConfigError::Rule { path: path.to_owned(), rule });
        }
        let text = std::fs::read_to_string(path).map_err(read_error)?;
        let mut config: Self = toml::from_str(&text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })?;
        config.check().map_err(|rule| ConfigError::Rule { path: path.to_owned(), rule })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let keys = [&mut config.keys.validator, &mut config.keys.share].into_iter();
        let public = config.public.as_mut().map(|public| &mut public.key);
        for path in keys.chain(public).chain([&mut config.genesis, &mut config.data]) {
            *path = folder.join(&*path);
        }
        Ok(config)
    }

    /// The text of this configuration. Paths are written as they stand.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration has a TOML form")
    }

    /// How the log keeps time.
    pub fn timing(&self) -> Timing {
        Timing {
            min_interval: Duration::from_millis(self.pace.min_interval_ms),
            ..Timing::with_heartbeat(Duration::from_millis(self.pace.heartbeat_ms))
        }
    }

    /// Where the log keeps its files.
    pub fn log_folder(&self) -> PathBuf {
        self.data.join("log")
    }

    /// Where the serving index is.
    pub fn index_file(&self) -> PathBuf {
        self.data.join("index.redb")
    }

    /// Where it is written down which heads of rollups this validator has signed.
    pub fn heads_file(&self) -> PathBuf {
        self.data.join("heads.redb")
    }

    fn check(&self) -> Result<(), String> {
        let rules = [
            ((10..=60_000).contains(&self.pace.heartbeat_ms), "pace.heartbeat_ms must be 10 to 60000"),
            (self.pace.min_interval_ms <= self.pace.heartbeat_ms, "pace.min_interval_ms must not exceed heartbeat_ms"),
            (self.threads <= 64, "threads must be 0 to 64"),
            (self.rpc.max_connections > 0, "rpc.max_connections must be at least 1"),
            (self.rpc.slow_subscriber_ms > 0, "rpc.slow_subscriber_ms must be at least 1"),
            (self.pool.max_bytes >= 1024 * 1024, "pool.max_bytes must be at least 1048576, one full body"),
            (self.pool.max_open_per_account > 0, "pool.max_open_per_account must be at least 1"),
        ];
        if let Some((_, rule)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(rule.into());
        }
        self.public.as_ref().map_or(Ok(()), PublicConfig::check)?;
        self.l1.as_ref().map_or(Ok(()), L1Config::check)?;
        for (index, rollup) in self.rollups.iter().enumerate() {
            rollup.check()?;
            if self.rollups[..index].iter().any(|other| other.id == rollup.id) {
                return Err(format!("rollups, {}: one node of a rollup is watched, two are listed", rollup.id));
            }
            if !rollup.posters.is_empty() && self.l1.is_none() {
                return Err(format!(
                    "rollups, {}: posters need a section [l1]: what they say is checked against it",
                    rollup.id
                ));
            }
        }
        self.timing().check().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
