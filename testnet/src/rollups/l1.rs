//! What L1 does the city stand on?
//!
//! The embedded EVM node, or anvil where somebody has it: code that no one here wrote, and that takes blobs. A block every two
//! seconds either way.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use lockstep_adapters::{
    poster::{SenderConfig, Sidecar, beacon::Slots},
    settings::L1Settings,
};

use super::{Funded, batch_posters, batcher, files, optimism, pocket_money, status, wait_for};
use crate::{
    chain::{ChainRole, ChainSettings},
    child::Child,
    ports,
};

/// The chain id of L1.
pub const L1_CHAIN: u64 = 900;
/// Time between its blocks: that of the OP Stack rollup, a sixth of Ethereum's, so that there is something to watch.
pub(super) const INTERVAL_SECONDS: u64 = 2;
/// Blocks of an epoch.
const EPOCH_SLOTS: u64 = 4;
/// Names an anvil that is not where the script puts it.
const ANVIL: &str = "LOCKSTEP_ANVIL";
/// Where `testnet/evm/judges/install.sh` puts anvil: a folder for each platform.
const INSTALLED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/evm/judges/node_modules/@foundry-rs");

/// Which software it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L1Kind {
    /// The embedded EVM node.
    Embedded,
    /// This anvil.
    Anvil(PathBuf),
}

/// A running L1.
pub(super) struct L1 {
    pub(super) child: Child,
    rpc: SocketAddr,
    kind: L1Kind,
    /// What tells op-node, drivers and posters of its forks and of what blobs cost.
    pub(super) chain_config: PathBuf,
}

impl L1Kind {
    /// The anvil of this machine: named in `LOCKSTEP_ANVIL`, or installed by our script.
    pub fn find_anvil() -> Result<Self> {
        if let Some(named) = std::env::var_os(ANVIL) {
            return Ok(Self::Anvil(named.into()));
        }
        let platforms = std::fs::read_dir(INSTALLED).into_iter().flatten().filter_map(Result::ok);
        // The package without a platform is a launcher, which stays behind when it is killed.
        let mut found = platforms.map(|platform| platform.path().join("bin/anvil")).filter(|path| is_binary(path));
        found.next().map(Self::Anvil).with_context(|| {
            format!(
                "anvil is not installed: run testnet/evm/judges/install.sh, or name one with {ANVIL}=/path/to/anvil"
            )
        })
    }
}

/// Whether there is a program, and not a script that starts another.
fn is_binary(path: &Path) -> bool {
    let mut start = [0; 2];
    let read = std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    read.is_ok() && start != *b"#!"
}

impl L1 {
    pub(super) async fn start(executable: &Path, folder: &Path, funded: &Funded, kind: L1Kind) -> Result<Self> {
        let folder = files::folder(folder)?;
        let rpc = ports::free(1)?[0];
        let wallets = [batcher()].into_iter().chain(batch_posters());
        let accounts: Vec<_> = wallets.map(|wallet| wallet.address()).collect();
        let mut genesis = lockstep_evm::genesis(L1_CHAIN, funded.begin, &accounts, pocket_money());
        optimism::stand_on_l1(&mut genesis);
        let genesis_file = folder.join("genesis.json");
        files::json(&genesis_file, &genesis)?;
        let mut config = serde_json::json!(genesis.config);
        // Clients have dropped this key, and op-node refuses what it does not know.
        config.as_object_mut().context("a configuration is a map")?.remove("terminalTotalDifficultyPassed");
        let chain_config = folder.join("l1.json");
        files::json(&chain_config, &config)?;
        let mut child = match &kind {
            L1Kind::Embedded => {
                let role = ChainRole::L1 { interval_ms: INTERVAL_SECONDS * 1_000 };
                let settings = ChainSettings { genesis: genesis_file, data: folder.join("data"), rpc, role };
                files::toml(&folder.join("chain.toml"), &settings)?;
                let arguments = vec!["chain".into(), "--config".into(), folder.join("chain.toml").into()];
                Child::new("l1", executable, arguments, folder.join("chain.log"))
            }
            L1Kind::Anvil(anvil) => {
                let mut arguments: Vec<OsString> = vec!["--init".into(), genesis_file.into()];
                let numbers = [
                    ("--port", u64::from(rpc.port())),
                    ("--chain-id", L1_CHAIN),
                    ("--timestamp", funded.begin),
                    ("--block-time", INTERVAL_SECONDS),
                    ("--accounts", 1),
                    // Finality is two of its epochs behind: as far as the embedded L1's, for whoever waits for it.
                    ("--slots-in-an-epoch", EPOCH_SLOTS),
                ];
                arguments.extend(numbers.iter().flat_map(|(name, number)| [name.into(), number.to_string().into()]));
                arguments.extend(["--hardfork", "prague", "--order", "fifo", "--silent"].map(OsString::from));
                Child::tethered("l1", anvil, arguments, folder.join("anvil.log"))
            }
        };
        child.start()?;
        let url = format!("http://{rpc}");
        wait_for(&mut child, async || status::block_hash(&url, 0).await).await?;
        if kind != L1Kind::Embedded {
            // Whoever reads blobs finds a block by its time: the number of its slot is the block's own.
            status::space_blocks(&url, INTERVAL_SECONDS).await.context("anvil's blocks cannot be spaced evenly")?;
        }
        Ok(Self { child, rpc, kind, chain_config })
    }

    pub(super) fn rpc_url(&self) -> String {
        format!("http://{}", self.rpc)
    }

    /// How drivers and posters reach it.
    pub(super) fn settings(&self, poll_ms: u64) -> L1Settings {
        let (beacon, slots) = match self.takes_blobs() {
            true => (Some(self.rpc_url()), Slots::Number),
            false => (None, Slots::default()),
        };
        let chain_config = Some(self.chain_config.clone());
        L1Settings { rpc: self.rpc_url(), chain_config, beacon, slots, timeout_ms: 5_000, poll_ms }
    }

    /// How posters send to it.
    pub(super) fn sender(&self, poll_ms: u64) -> SenderConfig {
        // Of the hard fork that anvil is started with.
        let sidecar = if self.takes_blobs() { Sidecar::Eip4844 } else { Sidecar::default() };
        SenderConfig { poll_ms, sidecar, ..SenderConfig::default() }
    }

    /// Whether it comes back to its last block when it was killed. Anvil has its chain in memory alone.
    pub(super) fn keeps_its_chain(&self) -> bool {
        self.kind == L1Kind::Embedded
    }

    /// Whether it takes blobs, and gives them back.
    pub(super) fn takes_blobs(&self) -> bool {
        self.kind != L1Kind::Embedded
    }
}
