//! What is configured about a Nitro chain, and how do its driver and poster start?

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use alloy_primitives::Address;
use lockstep_protocol::ids::RollupId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{L1Settings, LeaseSettings, Log, SettingsError, StatusSettings, lease, load, read, trust};
use crate::{
    arbitrum::{
        Arbitrum, ArbitrumConfig, BLOCK_GAS,
        delayed_source::{DelayedSource, DelayedSourceError},
        drive::{Driver, FeedStatus},
        feed::{FeedConfig, FeedSigner},
        forced_source::ForcedSource,
        inbox_reader::{InboxError, InboxReader},
        journal::Journal,
        post::{PostConfig, PostStatus, Poster},
        stream::{Stream, StreamError},
    },
    feed::NetworkLane,
    poster::{L1, Lease, Sender, SenderConfig, Signer, SignerConfig},
    retry::Backoff,
    serve::{Service, Status},
};

/// Printed by `drive arbitrum --print-config`.
pub const DRIVE_EXAMPLE: &str = include_str!("drive-arbitrum.toml");
/// Printed by `post arbitrum --print-config`.
pub const POST_EXAMPLE: &str = include_str!("post-arbitrum.toml");

/// A Nitro chain. Driver and poster of a chain must be told the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chain {
    /// EIP-155 chain id, which is also the rollup's id in the log.
    pub chain_id: u64,
    /// Chain id of its L1.
    pub l1_chain_id: u64,
    /// The SequencerInbox.
    pub sequencer_inbox: Address,
    /// L1 block that its contracts were deployed in, or an earlier one.
    pub deployed_at: u64,
    /// L1 blocks that must be on top of a delayed message before it is sequenced.
    #[serde(default = "delayed_depth")]
    pub delayed_depth: u64,
    /// Gas of one block of the chain, or less.
    #[serde(default = "block_gas")]
    pub block_gas: u64,
}

/// Two epochs and more: beyond that L1 takes nothing back. A delayed message can be forced in after a day, 7,200 blocks.
fn delayed_depth() -> u64 {
    80
}

fn block_gas() -> u64 {
    BLOCK_GAS
}

/// What a driver and a poster both need to read the lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneSettings {
    /// The log's genesis.json.
    pub genesis: PathBuf,
    /// Lockstep nodes.
    pub nodes: Vec<String>,
    /// A folder for the chain's messages. It can be deleted: they are then made again from the lane's beginning.
    pub data: PathBuf,
}

/// A driver's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriveSettings {
    /// The chain.
    pub chain: Chain,
    /// The lane.
    pub lane: LaneSettings,
    /// L1.
    pub l1: L1Settings,
    /// The feed.
    pub feed: FeedSettings,
    /// Where to tell how it goes.
    pub status: StatusSettings,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

/// A feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedSettings {
    /// Where it is served.
    pub listen: SocketAddr,
    /// Clients at one time.
    #[serde(default = "clients_max")]
    pub clients_max: u64,
    /// A file with the key that signs messages: 64 hex digits, mode 0600. None: they are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
}

fn clients_max() -> u64 {
    FeedConfig::new(0).clients_max
}

/// A poster's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostSettings {
    /// The chain.
    pub chain: Chain,
    /// The lane.
    pub lane: LaneSettings,
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
    /// Where to tell how it goes.
    pub status: StatusSettings,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
}

impl LaneSettings {
    fn relative_to(&mut self, folder: &Path) {
        self.genesis = folder.join(&self.genesis);
        self.data = folder.join(&self.data);
    }
}

impl DriveSettings {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let (mut settings, folder): (Self, _) = load(path)?;
        settings.lane.relative_to(&folder);
        settings.l1.relative_to(&folder);
        settings.feed.key_file = settings.feed.key_file.map(|path| folder.join(path));
        Ok(settings)
    }
}

impl PostSettings {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let (mut settings, folder): (Self, _) = load(path)?;
        settings.lane.relative_to(&folder);
        settings.l1.relative_to(&folder);
        settings.signer.key_file = settings.signer.key_file.map(|path| folder.join(path));
        if let Some(lease) = &mut settings.lease {
            lease.relative_to(&folder);
        }
        Ok(settings)
    }
}

/// Drives until `stop` is true.
pub async fn drive(settings: DriveSettings, stop: watch::Receiver<bool>) -> Result<(), SettingsError> {
    let DriveSettings { chain, lane, l1, feed, status, .. } = settings;
    let mut config = FeedConfig { clients_max: feed.clients_max, ..FeedConfig::new(chain.chain_id) };
    if let Some(path) = &feed.key_file {
        config.signer = Some(feed_key(path, chain.chain_id)?);
    }
    let service = Service::new(FeedStatus { stack: "arbitrum", rollup: chain.chain_id, ..FeedStatus::default() });
    serve(&service, status.listen, &stop).await?;
    let poll = l1.poll();
    let l1 = Arc::new(l1.open()?);
    let Some((inbox, stream)) = begin(&chain, &lane, &l1, &stop).await? else { return Ok(()) };
    let driver = Driver::bind(stream, feed.listen, config, inbox, poll, service).await;
    let ended = match driver {
        Ok(driver) => driver.run(stop).await,
        Err(error) => Err(error),
    };
    ended.map_err(|error| SettingsError::Value(error.to_string()))
}

/// Posts until `stop` is true, with the configured lease.
pub async fn post(settings: PostSettings, stop: watch::Receiver<bool>) -> Result<(), SettingsError> {
    let rollup = RollupId(settings.chain.chain_id);
    let lease = lease(settings.lease.as_ref(), rollup)?;
    post_with(settings, lease, stop).await
}

/// Posts until `stop` is true, whenever `lease` allows it.
pub async fn post_with(
    settings: PostSettings,
    lease: Box<dyn Lease>,
    stop: watch::Receiver<bool>,
) -> Result<(), SettingsError> {
    let PostSettings { chain, lane, l1, signer, post, sender, status, .. } = settings;
    let signer = Signer::open(&signer, Path::new(""))?;
    let service = Service::new(PostStatus {
        stack: "arbitrum",
        rollup: chain.chain_id,
        address: signer.address().to_string(),
        ..PostStatus::default()
    });
    serve(&service, status.listen, &stop).await?;
    let l1 = Arc::new(l1.open()?);
    let Some((inbox, stream)) = begin(&chain, &lane, &l1, &stop).await? else { return Ok(()) };
    let journal = stream.journal().reader();
    let sender = Sender::new(l1, signer, sender).await?;
    let poster = Poster::new(post, inbox, journal, sender, lease, service);
    tokio::select! {
        ended = follow(stream, stop.clone()) => ended,
        () = poster.run(stop) => Ok(()),
    }
}

/// Fills the journal that a poster reads.
async fn follow(mut stream: Stream, mut stop: watch::Receiver<bool>) -> Result<(), SettingsError> {
    let mut backoff = Backoff::endless();
    loop {
        let step = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            step = stream.next() => step,
        };
        match step {
            Ok(_) => backoff.succeeded(),
            Err(StreamError::Journal(error)) => return Err(SettingsError::Value(error.to_string())),
            Err(error) => drop(backoff.failed(error).await),
        }
    }
}

/// Waits for L1, makes sure that it is the chain's, and opens the journal. `None` if it is to stop.
async fn begin(
    chain: &Chain,
    lane: &LaneSettings,
    l1: &Arc<L1>,
    stop: &watch::Receiver<bool>,
) -> Result<Option<(InboxReader, Stream)>, SettingsError> {
    let value = |error: &dyn std::fmt::Display| SettingsError::Value(error.to_string());
    let mut stop = stop.clone();
    let journal = Journal::open(&lane.data.join("messages")).map_err(|error| value(&error))?;
    let source = NetworkLane::new(trust(&lane.genesis)?, lane.nodes.clone(), RollupId(chain.chain_id))?;
    let ready = async {
        let mut backoff = Backoff::endless();
        loop {
            let found = async {
                let inbox = match l1.chain_id().await {
                    Ok(id) if id == chain.l1_chain_id => InboxReader::new(Arc::clone(l1), chain.sequencer_inbox).await,
                    Ok(id) => return Ok(Err(id)),
                    Err(error) => Err(InboxError::Rpc(error)),
                };
                let inbox = inbox.map_err(|error| error.to_string())?;
                let initial = match journal.last() {
                    Some(position) => position.clone(),
                    None => DelayedSource::initial(l1, inbox.bridge(), chain.deployed_at)
                        .await
                        .map_err(|error: DelayedSourceError| error.to_string())?,
                };
                Ok::<_, String>(Ok((inbox, initial)))
            };
            match found.await {
                Ok(Ok(found)) => break Ok(found),
                Ok(Err(id)) => {
                    let expected = chain.l1_chain_id;
                    break Err(SettingsError::Value(format!("L1 is chain {id}, the chain's is {expected}")));
                }
                Err(error) => drop(backoff.failed(error).await),
            }
        }
    };
    let (inbox, initial) = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => return Ok(None),
        found = ready => found?,
    };
    let adapter = Arbitrum::new(ArbitrumConfig {
        chain_id: chain.chain_id,
        // Batches are compressed by the poster's own choice.
        quality: PostConfig::default().brotli_quality,
        delayed_depth: Some(chain.delayed_depth),
        block_gas: chain.block_gas,
    });
    let (l1, bridge, contract, deployed_at) = (Arc::clone(l1), inbox.bridge(), inbox.inbox(), chain.deployed_at);
    let sources = move |position: &_| {
        let delayed = DelayedSource::new(Arc::clone(&l1), bridge, position);
        (delayed, ForcedSource::new(l1, contract, deployed_at, position))
    };
    let stream = Stream::new(adapter, Box::new(source), sources, journal, initial).await;
    Ok(Some((inbox, stream.map_err(|error| value(&error))?)))
}

fn feed_key(path: &Path, chain_id: u64) -> Result<FeedSigner, SettingsError> {
    let fail = |detail: &str| SettingsError::File { path: path.to_owned(), detail: detail.to_owned() };
    #[cfg(unix)]
    {
        let metadata = std::fs::metadata(path).map_err(|error| fail(&error.to_string()))?;
        if std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0 {
            return Err(fail("can be read by others: run `chmod 600` on it"));
        }
    }
    let text = read(path)?;
    let digits = text.trim().trim_start_matches("secp256k1:").trim_start_matches("0x");
    let key = alloy_primitives::hex::decode_to_array(digits).map_err(|_| fail("not a key of 64 hex digits"))?;
    FeedSigner::new(key, chain_id).ok_or_else(|| fail("not a key: zero, or not below the group order"))
}

async fn serve<S: Status>(
    service: &Arc<Service<S>>,
    listen: SocketAddr,
    stop: &watch::Receiver<bool>,
) -> Result<(), SettingsError> {
    let (listener, address) = Service::<S>::bind(listen).await.map_err(SettingsError::Listen)?;
    tracing::info!(%address, "serving /status, /metrics and /healthz");
    tokio::spawn(Arc::clone(service).serve(listener, stop.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_are_what_they_say_and_unknown_keys_are_refused() {
        let drive: DriveSettings = toml::from_str(DRIVE_EXAMPLE).expect("the example is valid");
        assert_eq!((drive.chain.delayed_depth, drive.feed.clients_max), (delayed_depth(), clients_max()));
        assert_eq!(drive.log, Log::default());
        let post: PostSettings = toml::from_str(POST_EXAMPLE).expect("the example is valid");
        assert_eq!((&post.post, &post.sender), (&PostConfig::default(), &SenderConfig::default()));
        assert_eq!(post.chain, drive.chain);
        for section in ["", "[chain]\n", "[lane]\n", "[l1]\n", "[feed]\n", "[status]\n"] {
            let extended = DRIVE_EXAMPLE.replacen(section, &format!("{section}surprise = 1\n"), 1);
            let error = toml::from_str::<DriveSettings>(&extended).expect_err("an unknown key").to_string();
            assert!(error.contains("surprise"), "{error}");
        }
    }
}
