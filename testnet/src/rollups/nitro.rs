//! How does the Nitro-style rollup of the city run?
//!
//! Its inbox on L1, its driver (a sequencer feed), an execution client that follows the feed, its poster, and a second chain that is
//! built from nothing but what is on L1.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use alloy_primitives::hex;
use anyhow::{Context, Result};
use lockstep_adapters::{
    arbitrum::{
        BLOCK_GAS,
        post::{PostConfig, Target},
    },
    poster::{Beacon, L1 as L1Client, Rpc, SignerConfig, beacon::Slots},
    settings::{
        Log, StatusSettings,
        arbitrum::{Chain, DriveSettings, FeedSettings, LaneSettings, PostSettings},
    },
};
use tokio::{sync::watch, task::JoinHandle};

use super::{L1_CHAIN, Place, RollupView, batch_posters, files, pocket_money, posters, status, wait_for};
use crate::{
    chain::{ChainRole, ChainSettings},
    child::Child,
    network::ROLLUPS,
    ports,
};

mod derive;
pub(crate) mod finality;
mod inbox;

use derive::Derived;

/// Whatever there is is posted after a few seconds: a person watches.
const MAX_DELAY_SECONDS: u64 = 6;
/// How often driver and poster look at L1 and at what there is.
const POLL_MS: u64 = 200;
/// L1 blocks on top of a delayed message before it is sequenced. This L1 takes none back.
const DELAYED_DEPTH: u64 = 2;
/// Patience with a chain that is asked something.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The running rollup.
pub(super) struct Nitro {
    /// Execution client, driver, posters.
    pub(super) children: Vec<Child>,
    pub(super) pages: Pages,
    deriving: JoinHandle<()>,
}

/// Where the parts can be asked.
#[derive(Clone, Debug)]
pub(super) struct Pages {
    rpc: SocketAddr,
    drive: SocketAddr,
    posts: [SocketAddr; posters::PER_ROLLUP],
    derived: watch::Receiver<Derived>,
}

impl Nitro {
    pub(super) async fn start(place: &Place<'_>, folder: &Path, log_genesis: &Path, nodes: &[String]) -> Result<Self> {
        let Place { executable, l1, funded, rpc, posts, .. } = *place;
        let folder = files::folder(folder)?;
        let (rollup, _) = ROLLUPS[1];
        let [feed, drive_status] =
            <[SocketAddr; 2]>::try_from(ports::free(2)?).expect("as many ports as were asked for");
        let l1_client = Arc::new(L1Client::new(Rpc::new(&l1.rpc_url(), ANSWER_TIMEOUT, None)?));
        let (sequencer_inbox, deployed_at) = inbox::deploy(&l1_client, rollup, &batch_posters()).await?;

        let genesis = lockstep_evm::genesis(rollup.0, funded.begin, &funded.wallets, pocket_money());
        files::json(&folder.join("genesis.json"), &genesis)?;
        let chain = ChainSettings {
            genesis: folder.join("genesis.json"),
            data: folder.join("data"),
            rpc,
            role: ChainRole::Nitro { feed: format!("ws://{feed}"), l1: l1.rpc_url(), inbox: sequencer_inbox },
        };
        files::toml(&folder.join("chain.toml"), &chain)?;
        let contracts = Chain {
            chain_id: rollup.0,
            l1_chain_id: L1_CHAIN,
            sequencer_inbox,
            deployed_at,
            delayed_depth: DELAYED_DEPTH,
            block_gas: BLOCK_GAS,
        };
        let lane = |data: &str| -> Result<_> {
            files::folder(&folder.join(data))?;
            let genesis = std::fs::canonicalize(log_genesis).context("finding the log's genesis")?;
            Ok(LaneSettings { genesis, nodes: nodes.to_vec(), data: data.into() })
        };
        let l1_settings = l1.settings(POLL_MS);
        let drive = DriveSettings {
            chain: contracts.clone(),
            lane: lane("drive")?,
            l1: l1_settings.clone(),
            feed: FeedSettings { listen: feed, clients_max: 64, key_file: Some("poster.key".into()) },
            status: StatusSettings { listen: drive_status },
            log: Log::default(),
        };
        files::toml(&folder.join("drive.toml"), &drive)?;
        let post = |number: usize| -> Result<PostSettings> {
            let key_file = format!("{}.key", posters::numbered("poster", number));
            files::secret(&folder.join(&key_file), &hex::encode(batch_posters()[number].secret()))?;
            Ok(PostSettings {
                chain: contracts.clone(),
                lane: lane(&posters::numbered("post", number))?,
                l1: l1_settings.clone(),
                signer: SignerConfig { key_file: Some(key_file.into()), ..SignerConfig::default() },
                post: PostConfig {
                    target: if l1.takes_blobs() { Target::Blobs } else { Target::Calldata },
                    max_delay_seconds: MAX_DELAY_SECONDS,
                    poll_ms: POLL_MS,
                    ..PostConfig::default()
                },
                sender: l1.sender(POLL_MS),
                lease: Some(posters::lease(&folder, (1, number), log_genesis, nodes)?),
                status: StatusSettings { listen: posts[number] },
                log: Log::default(),
            })
        };
        for number in 0..posters::PER_ROLLUP {
            files::toml(&folder.join(format!("{}.toml", posters::numbered("post", number))), &post(number)?)?;
        }

        let start = |name: &str, words: &[&str], file: &str, log: &str| -> Result<Child> {
            let words = words.iter().copied().chain(["--config"]).map(Into::into);
            let arguments = words.chain([folder.join(file).into()]).collect();
            let mut child = Child::new(name, executable, arguments, folder.join(log));
            child.start()?;
            Ok(child)
        };
        let mut client = start("nitro-execution", &["chain"], "chain.toml", "chain.log")?;
        let url = format!("http://{rpc}");
        wait_for(&mut client, async || status::block_hash(&url, 0).await).await?;
        let driver = start("nitro-driver", &["rollup", "drive", "arbitrum"], "drive.toml", "drive.log")?;
        let mut children = vec![client, driver];
        for number in 0..posters::PER_ROLLUP {
            let (name, file) = (posters::numbered("nitro-poster", number), posters::numbered("post", number));
            let words = ["rollup", "post", "arbitrum"];
            children.push(start(&name, &words, &format!("{file}.toml"), &format!("{file}.log"))?);
        }
        let (tell, derived) = watch::channel(Derived::default());
        let beacon = l1.takes_blobs().then(|| Beacon::new(&l1.rpc_url(), Slots::Number));
        let source = derive::Source { l1: l1_client, beacon, inbox: sequencer_inbox, deployed_at };
        let deriving = tokio::spawn(derive::run(source, genesis, url, tell));
        let pages = Pages { rpc, drive: drive_status, posts, derived };
        Ok(Self { children, pages, deriving })
    }

    /// Derives no more: L1 is about to stop.
    pub(super) fn stop_deriving(&self) {
        self.deriving.abort();
    }
}

impl Pages {
    pub(super) fn rpc_url(&self) -> String {
        format!("http://{}", self.rpc)
    }

    pub(super) async fn view(&self) -> RollupView {
        let url = self.rpc_url();
        let (drive, posts, executed, state_root) = tokio::join!(
            status::page(self.drive),
            status::pages(&self.posts),
            status::height(&url),
            status::state_root(&url)
        );
        let derived = self.derived.borrow().clone();
        RollupView {
            rollup: ROLLUPS[1].0.0,
            stack: "Nitro",
            executed,
            state_root,
            batches: posts.iter().filter_map(|post| status::number(post, "/batches")).max(),
            leader: posters::leader(&posts),
            bytes: Some(derived.bytes),
            bytes_per_transaction: derived.bytes_per_transaction(),
            derived: Some(derived.number),
            agreed: derived.disagreement.is_none(),
            stock: None,
            skipped: status::number(&drive, "/skipped").unwrap_or(0),
            trouble: derived
                .disagreement
                .or_else(|| status::text(&drive, "/trouble"))
                .or_else(|| posters::trouble(&posts))
                .or(derived.trouble),
        }
    }
}

impl Drop for Nitro {
    fn drop(&mut self) {
        self.stop_deriving();
    }
}
