//! How is a node started, driven from this process, and stopped?

use crate::{
    block::Block,
    config::{Config, Role},
    core::{Core, CoreError},
    engine,
    l1::{Miner, Reorg, ReorgError, Settings},
    rollup::{self, BlockInput, BlockResult},
    rpc::{self, Service},
    state::State,
    store::StoreError,
};
use alloy_primitives::{Address, B256};
use jsonrpsee::server::{RegisterMethodError, ServerHandle};
use std::{io, net::SocketAddr, sync::Arc};
use tokio::task::{AbortHandle, JoinError};
use tracing::info;

/// A running node. Dropping it stops it; [`Node::stop`] also waits until its ports and its folder are free.
#[derive(Debug)]
pub struct Node {
    core: Arc<Core>,
    miner: Option<Arc<Miner>>,
    rpc: SocketAddr,
    engine: Option<SocketAddr>,
    servers: Vec<ServerHandle>,
    mining: Option<AbortHandle>,
}

/// Why a node did not start, or did not do what its driver wanted.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A method has two meanings.
    #[error(transparent)]
    Methods(#[from] RegisterMethodError),
    /// The block was not made.
    #[error(transparent)]
    Block(#[from] CoreError),
    /// The blocks were not taken back.
    #[error(transparent)]
    Reorg(#[from] ReorgError),
    /// Asked of a node of another role.
    #[error("this node's blocks are not made that way")]
    Role,
    /// The work was cut off.
    #[error("stopped: {0}")]
    Stopped(#[from] JoinError),
}

impl Node {
    /// Opens the folder, listens, and makes blocks if that is its role.
    pub async fn start(config: Config) -> Result<Self, NodeError> {
        let address = config.rpc;
        let core = Arc::new(tokio::task::spawn_blocking(move || Core::open(config)).await??);
        let miner = match &core.role {
            Role::L1(l1) => {
                let settings = Settings { interval: l1.interval, instant: l1.instant };
                Some(Arc::new(Miner::new(core.clone(), l1.beneficiary, settings)))
            }
            Role::Optimism(_) | Role::Rollup(_) => None,
        };
        let takes_transactions = !matches!(core.role, Role::Rollup(_));
        let service = Service { core: core.clone(), miner: miner.clone(), filters: Arc::default(), takes_transactions };
        let listen = |address| move |source| NodeError::Listen { address, source };
        let (rpc, server) = rpc::serve(address, rpc::module(service.clone())?).await.map_err(listen(address))?;
        let mut servers = vec![server];
        let mut engine = None;
        if let Role::Optimism(optimism) = &core.role {
            let mut methods = rpc::module(service)?;
            methods.merge(engine::module(core.clone(), optimism.fork)?)?;
            let served = rpc::serve_with_token(optimism.engine, methods, optimism.jwt_secret).await;
            let (address, server) = served.map_err(listen(optimism.engine))?;
            servers.push(server);
            engine = Some(address);
        }
        let mining = miner.clone().map(|miner| tokio::spawn(miner.run()).abort_handle());
        let head = core.head();
        info!(%rpc, chain = core.rules.chain_id, number = head.header.number, hash = %head.hash, "node started");
        Ok(Self { core, miner, rpc, engine, servers, mining })
    }

    /// Where JSON-RPC is served over HTTP.
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.rpc)
    }

    /// Where JSON-RPC is served over WebSocket.
    pub fn ws_url(&self) -> String {
        format!("ws://{}", self.rpc)
    }

    /// Where the Engine API is served, in the OP Stack's role.
    pub fn engine_url(&self) -> Option<String> {
        self.engine.map(|address| format!("http://{address}"))
    }

    /// The newest block.
    pub fn head(&self) -> Arc<Block> {
        self.core.head()
    }

    /// The genesis block.
    pub fn genesis(&self) -> Arc<Block> {
        self.core.chain().genesis().clone()
    }

    /// A block that is kept, by hash.
    pub fn block(&self, hash: &B256) -> Option<Arc<Block>> {
        self.core.chain().block(hash).cloned()
    }

    /// The state after the newest block.
    pub fn state(&self) -> State {
        self.core.head_state().1
    }

    /// Makes an L1's next block now.
    pub async fn mine(&self) -> Result<Arc<Block>, NodeError> {
        let miner = self.miner.clone().ok_or(NodeError::Role)?;
        Ok(tokio::task::spawn_blocking(move || miner.mine()).await??)
    }

    /// Replaces an L1's last blocks by as many others; the new head.
    pub async fn reorg(&self, reorg: Reorg) -> Result<Arc<Block>, NodeError> {
        let miner = self.miner.clone().ok_or(NodeError::Role)?;
        Ok(tokio::task::spawn_blocking(move || miner.reorg(reorg)).await??)
    }

    /// Executes, keeps and adopts a rollup's next block; what may not be in it is left out and reported.
    pub async fn execute_block(&self, input: BlockInput) -> Result<BlockResult, NodeError> {
        let Role::Rollup(role) = &self.core.role else { return Err(NodeError::Role) };
        let (core, beneficiary) = (self.core.clone(), role.beneficiary);
        Ok(tokio::task::spawn_blocking(move || rollup::execute_block(&core, input, beneficiary)).await??)
    }

    /// Says up to which block L1 has the rollup's blocks, and up to which for good: `safe` and `finalized` of the RPC. For a
    /// rollup where [`crate::Rollup::l1_decides`]. Numbers above the head mean the head; `finalized` never goes back.
    pub async fn mark(&self, safe: u64, finalized: u64) -> Result<(), NodeError> {
        if !matches!(&self.core.role, Role::Rollup(role) if role.l1_decides) {
            return Err(NodeError::Role);
        }
        let core = self.core.clone();
        tokio::task::spawn_blocking(move || core.mark(safe, finalized)).await?.map_err(CoreError::Store)?;
        Ok(())
    }

    /// What [`Self::execute_block`] would make, in any role; nothing is kept. Drivers of the Engine API ask this which
    /// transactions to leave out of their attributes.
    pub async fn simulate(&self, input: BlockInput) -> Result<BlockResult, NodeError> {
        let beneficiary = match &self.core.role {
            Role::Rollup(role) => role.beneficiary,
            Role::L1(role) => role.beneficiary,
            Role::Optimism(_) => Address::ZERO,
        };
        let core = self.core.clone();
        Ok(tokio::task::spawn_blocking(move || rollup::simulate(&core, input, beneficiary)).await??)
    }

    /// Stops and waits until ports and folder are free.
    pub async fn stop(mut self) {
        if let Some(mining) = self.mining.take() {
            mining.abort();
        }
        for server in std::mem::take(&mut self.servers) {
            // It may have stopped already.
            let _ = server.stop();
            server.stopped().await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mining) = &self.mining {
            mining.abort();
        }
        for server in &self.servers {
            let _ = server.stop();
        }
    }
}
