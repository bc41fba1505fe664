//! What L1 does the city stand on?
//!
//! The embedded EVM node with a block every two seconds.

use std::{net::SocketAddr, path::Path};

use anyhow::Result;

use super::{Funded, batch_poster, batcher, files, pocket_money, status, wait_for};
use crate::{
    chain::{ChainRole, ChainSettings},
    child::Child,
    ports,
};

/// The chain id of L1.
pub const L1_CHAIN: u64 = 900;
/// Time between its blocks: that of the OP Stack rollup, a sixth of Ethereum's, so that there is something to watch.
const INTERVAL_MS: u64 = 2_000;

/// A running L1.
pub(super) struct L1 {
    pub(super) child: Child,
    rpc: SocketAddr,
}

impl L1 {
    pub(super) async fn start(executable: &Path, folder: &Path, funded: &Funded) -> Result<Self> {
        let folder = files::folder(folder)?;
        let rpc = ports::free(1)?[0];
        let accounts = [batcher().address(), batch_poster().address()];
        let genesis = lockstep_evm::genesis(L1_CHAIN, funded.begin, &accounts, pocket_money());
        files::json(&folder.join("genesis.json"), &genesis)?;
        let settings = ChainSettings {
            genesis: folder.join("genesis.json"),
            data: folder.join("data"),
            rpc,
            role: ChainRole::L1 { interval_ms: INTERVAL_MS },
        };
        files::toml(&folder.join("chain.toml"), &settings)?;
        let arguments = vec!["chain".into(), "--config".into(), folder.join("chain.toml").into()];
        let mut child = Child::new("l1", executable, arguments, folder.join("chain.log"));
        child.start()?;
        let url = format!("http://{rpc}");
        wait_for(&mut child, async || status::block_hash(&url, 0).await).await?;
        Ok(Self { child, rpc })
    }

    pub(super) fn rpc_url(&self) -> String {
        format!("http://{}", self.rpc)
    }
}
