//! What is configured about an OP Stack rollup, and how do its driver and poster start?

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use lockstep_protocol::ids::RollupId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{L1Settings, LeaseSettings, Log, SettingsError, StatusSettings, jwt, lease, load, read, trust};
use crate::{
    feed::NetworkLane,
    optimism::{
        BatchFormat, Compression, Optimism, OptimismConfig,
        chain::Chain,
        derive::{Derivation, Derived},
        driver::{self, Driver, DriverConfig},
        engine::Engine,
        post::{self, PostConfig, Poster},
        rollup::Rollup,
    },
    poster::{L1, Lease, Rpc, Sender, SenderConfig, Signer, SignerConfig},
    retry::Backoff,
    serve::{DriverStatus, PosterStatus, Service, Status},
};

/// Printed by `drive optimism --print-config`.
pub const DRIVE_EXAMPLE: &str = include_str!("drive-optimism.toml");
/// Printed by `post optimism --print-config`.
pub const POST_EXAMPLE: &str = include_str!("post-optimism.toml");

/// A driver's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriveSettings {
    /// op-node's rollup.json.
    pub rollup: PathBuf,
    /// The log's genesis.json.
    pub genesis: PathBuf,
    /// Lockstep nodes.
    pub nodes: Vec<String>,
    /// A folder for what makes a restart quicker.
    #[serde(default)]
    pub data: Option<PathBuf>,
    /// The execution client.
    pub execution: DrivenExecution,
    /// L1.
    pub l1: L1Settings,
    /// What the driver may choose.
    #[serde(default)]
    pub driver: DriverChoices,
    /// Where to tell how it goes.
    pub status: StatusSettings,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// An execution client that is driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrivenExecution {
    /// Its JSON-RPC.
    pub rpc: String,
    /// Its Engine API.
    pub engine: String,
    /// The file with the secret that it shares.
    pub jwt: PathBuf,
    /// Time for one answer, milliseconds.
    #[serde(default = "super::ten_seconds")]
    pub timeout_ms: u64,
}

/// What a driver may choose. All drivers of a rollup must choose alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DriverChoices {
    /// The rollup's last block from before it joined.
    pub joined_after: Option<u64>,
    /// Gas that the deposits of one L1 block may take together.
    pub deposits_gas_max: u64,
    /// L1 blocks that must be on top of a batch before what it holds is told to the client as safe. In this alone drivers of a
    /// rollup may differ.
    pub safe_confirmations: u64,
}

impl Default for DriverChoices {
    fn default() -> Self {
        Self { joined_after: None, deposits_gas_max: DriverConfig::default().deposits_gas_max, safe_confirmations: 0 }
    }
}

/// A poster's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostSettings {
    /// op-node's rollup.json.
    pub rollup: PathBuf,
    /// The execution client.
    pub execution: ReadExecution,
    /// L1.
    pub l1: L1Settings,
    /// Who pays.
    pub signer: SignerConfig,
    /// When and where to post.
    #[serde(default)]
    pub post: PostConfig,
    /// How to send.
    #[serde(default)]
    pub sender: SenderConfig,
    /// The lease, where several posters stand by; absent to post without one.
    #[serde(default)]
    pub lease: Option<LeaseSettings>,
    /// Quality of brotli, 0 to 11.
    #[serde(default = "brotli_quality")]
    pub brotli_quality: u32,
    /// Where to tell how it goes.
    pub status: StatusSettings,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// An execution client that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadExecution {
    /// Its JSON-RPC.
    pub rpc: String,
    /// Time for one answer, milliseconds.
    #[serde(default = "super::ten_seconds")]
    pub timeout_ms: u64,
}

/// Within a few percent of the best, at thirty times its speed.
fn brotli_quality() -> u32 {
    9
}

impl DriveSettings {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let (mut settings, folder): (Self, _) = load(path)?;
        for path in [&mut settings.rollup, &mut settings.genesis, &mut settings.execution.jwt] {
            *path = folder.join(&*path);
        }
        settings.data = settings.data.map(|data| folder.join(data));
        settings.l1.relative_to(&folder);
        Ok(settings)
    }
}

impl PostSettings {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let (mut settings, folder): (Self, _) = load(path)?;
        settings.rollup = folder.join(&settings.rollup);
        settings.l1.relative_to(&folder);
        settings.signer.key_file = settings.signer.key_file.map(|path| folder.join(path));
        if let Some(lease) = &mut settings.lease {
            lease.relative_to(&folder);
        }
        Ok(settings)
    }
}

/// The adapter of a chain.
pub fn adapter(rollup: &Rollup, brotli_quality: u32) -> Result<Optimism, SettingsError> {
    let config = OptimismConfig {
        chain_id: rollup.l2_chain_id,
        block_time: rollup.block_time,
        genesis_timestamp: rollup.genesis.l2_time,
        format: BatchFormat::Span,
        compression: Compression::Brotli { quality: brotli_quality },
    };
    Optimism::new(config).map_err(|error| SettingsError::Value(error.to_string()))
}

fn read_rollup(path: &Path) -> Result<Rollup, SettingsError> {
    Rollup::parse(&read(path)?)
        .map_err(|error| SettingsError::File { path: path.to_owned(), detail: error.to_string() })
}

/// Drives until `stop` is true.
pub async fn drive(settings: DriveSettings, stop: watch::Receiver<bool>) -> Result<(), SettingsError> {
    let rollup = read_rollup(&settings.rollup)?;
    let adapter = adapter(&rollup, brotli_quality())?;
    let id = RollupId(rollup.l2_chain_id);
    let lane = NetworkLane::new(trust(&settings.genesis)?, settings.nodes, id)?;
    let timeout = Duration::from_millis(settings.execution.timeout_ms);
    let jwt = jwt(&settings.execution.jwt)?;
    let engine = Engine::new(Rpc::new(&settings.execution.engine, timeout, Some(jwt))?);
    let service = Service::new(DriverStatus { stack: "optimism", rollup: id.0, ..DriverStatus::default() });
    serve(&service, settings.status.listen, &stop).await?;
    let l1 = Arc::new(settings.l1.open()?);
    let reading = Rpc::new(&settings.execution.rpc, timeout, None)?;
    let Some(chain) = begin(&rollup, &l1, reading, &stop).await? else { return Ok(()) };
    let derivation = Derivation::new(rollup.clone(), Arc::clone(&l1), settings.l1.open_beacon(), Arc::clone(&chain))
        .confirmed(settings.driver.safe_confirmations);
    let derived = derive(derivation, settings.l1.poll(), &stop);
    let config = DriverConfig {
        l1_poll: settings.l1.poll(),
        joined_after: settings.driver.joined_after,
        deposits_gas_max: settings.driver.deposits_gas_max,
        places: settings.data.map(|data| data.join("places.json")),
        ..DriverConfig::default()
    };
    let links = driver::Links { chain, engine, l1, lane: Box::new(lane), derived };
    Driver::new(config, rollup, adapter, links, service).run(stop).await;
    Ok(())
}

/// Posts until `stop` is true, with the configured lease.
pub async fn post(settings: PostSettings, stop: watch::Receiver<bool>) -> Result<(), SettingsError> {
    let rollup = RollupId(read_rollup(&settings.rollup)?.l2_chain_id);
    let lease = lease(settings.lease.as_ref(), rollup)?;
    post_with(settings, lease, stop).await
}

/// Posts until `stop` is true, whenever `lease` allows it.
pub async fn post_with(
    settings: PostSettings,
    lease: Box<dyn Lease>,
    stop: watch::Receiver<bool>,
) -> Result<(), SettingsError> {
    let rollup = read_rollup(&settings.rollup)?;
    let adapter = adapter(&rollup, settings.brotli_quality)?;
    let signer = Signer::open(&settings.signer, Path::new(""))?;
    let address = signer.address();
    let status = PosterStatus {
        stack: "optimism",
        rollup: rollup.l2_chain_id,
        address: address.to_string(),
        ..PosterStatus::default()
    };
    let service = Service::new(status);
    serve(&service, settings.status.listen, &stop).await?;
    let l1 = Arc::new(settings.l1.open()?);
    let timeout = Duration::from_millis(settings.execution.timeout_ms);
    let reading = Rpc::new(&settings.execution.rpc, timeout, None)?;
    let Some(chain) = begin(&rollup, &l1, reading, &stop).await? else { return Ok(()) };
    let beacon = settings.l1.open_beacon();
    let reads_blobs = beacon.is_some();
    if settings.post.target == post::Target::Blobs && !reads_blobs {
        return Err(SettingsError::Value("post.target = \"blobs\" needs l1.beacon, to see what arrived".into()));
    }
    let derivation = Derivation::new(rollup.clone(), Arc::clone(&l1), beacon, Arc::clone(&chain));
    let derived = derive(derivation, settings.l1.poll(), &stop);
    let sender = Sender::new(Arc::clone(&l1), signer, settings.sender).await?;
    let links = post::Links { chain, sender, lease, derived, reads_blobs };
    Poster::new(settings.post, rollup, adapter, links, service).run(stop).await;
    Ok(())
}

async fn serve<S: Status>(
    service: &Arc<Service<S>>,
    listen: std::net::SocketAddr,
    stop: &watch::Receiver<bool>,
) -> Result<(), SettingsError> {
    let (listener, address) = Service::<S>::bind(listen).await.map_err(SettingsError::Listen)?;
    tracing::info!(%address, "serving /status, /metrics and /healthz");
    tokio::spawn(Arc::clone(service).serve(listener, stop.clone()));
    Ok(())
}

/// Waits for L1 and the execution client, and makes sure that they are the ones of rollup.json. `None` if it is to stop.
async fn begin(
    rollup: &Rollup,
    l1: &L1,
    reading: Rpc,
    stop: &watch::Receiver<bool>,
) -> Result<Option<Arc<Chain>>, SettingsError> {
    let mut backoff = Backoff::endless();
    let mut stop = stop.clone();
    let genesis = rollup.genesis.l1.number;
    let wait = async {
        let header = loop {
            let found = async { Ok::<_, crate::poster::RpcError>((l1.chain_id().await?, l1.header(genesis).await?)) };
            match found.await {
                Ok((id, _)) if id != rollup.l1_chain_id => {
                    let expected = rollup.l1_chain_id;
                    return Err(SettingsError::Value(format!("L1 is chain {id}, rollup.json says {expected}")));
                }
                Ok((_, Some(header))) => break header,
                Ok((_, None)) => drop(backoff.failed(format!("L1 has no block {genesis} yet")).await),
                Err(error) => drop(backoff.failed(error).await),
            }
        };
        if header.hash != rollup.genesis.l1.hash {
            let (expected, found) = (rollup.genesis.l1.hash, header.hash);
            return Err(SettingsError::Value(format!("L1 block {genesis} is {found}, rollup.json says {expected}")));
        }
        let chain = Chain::new(reading, rollup.clone(), header.timestamp);
        loop {
            match chain.check_genesis().await {
                Ok(()) => break,
                Err(crate::optimism::chain::ChainError::Rpc(error)) => drop(backoff.failed(error).await),
                Err(error) => return Err(error.into()),
            }
        }
        backoff.succeeded();
        Ok(Arc::new(chain))
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Ok(None),
        chain = wait => chain.map(Some),
    }
}

/// Starts reading L1 in the background.
fn derive(derivation: Derivation, poll: Duration, stop: &watch::Receiver<bool>) -> watch::Receiver<Derived> {
    let (tell, told) = watch::channel(Derived { agreed: true, ..Derived::default() });
    let mut stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = derivation.run(tell, poll) => {}
        }
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_what_they_say_and_unknown_keys_are_refused() {
        let drive: DriveSettings = toml::from_str(DRIVE_EXAMPLE).expect("the example is valid");
        assert_eq!(drive.driver, DriverChoices::default());
        assert_eq!(drive.log, Log::default());
        let post: PostSettings = toml::from_str(POST_EXAMPLE).expect("the example is valid");
        assert_eq!((&post.post, &post.sender), (&PostConfig::default(), &SenderConfig::default()));
        assert_eq!(post.brotli_quality, brotli_quality());
        for section in ["", "[l1]\n", "[execution]\n", "[status]\n"] {
            let extended = DRIVE_EXAMPLE.replacen(section, &format!("{section}surprise = 1\n"), 1);
            let error = toml::from_str::<DriveSettings>(&extended).expect_err("an unknown key").to_string();
            assert!(error.contains("surprise"), "{error}");
        }
    }
}
