//! How is a network of validators dealt, started, killed and stopped on this machine?
//!
//! Every validator is a process of its own with its own folder, so that `kill -9` is real. Sends no bundle.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lockstep_protocol::genesis::{Balance, Format, Genesis, Rollup};
use lockstep_protocol::ids::{Account, RollupId};
use lockstep_protocol::settlement::config::{Participant, SettlementConfig};
use lockstep_sequencer::{
    config::{L1Config, Pace, RollupConfig},
    keys::{DealOptions, Dealt, DealtValidator, Place, deal},
};

use crate::{
    child::{self, Child},
    ports, probe, process,
    rollups::posters,
};

/// How often a waiting loop looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How often validators ask their rollups' nodes: as often as the faster rollup has a block.
const ROLLUP_POLL_MS: u64 = 50;

/// The rollups of the testnet: the chain ids that their transactions are signed for.
pub const ROLLUPS: [(RollupId, &str); 2] = [(RollupId(901), "alpha"), (RollupId(902), "beta")];

/// What a network shall be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The executable whose `node` command runs a validator.
    pub executable: PathBuf,
    /// Where its files go.
    pub folder: PathBuf,
    /// How many validators.
    pub validators: usize,
    /// Who has credits.
    pub balances: Vec<Balance>,
    /// When its blocks are made.
    pub pace: Pace,
    /// The L1 that its validators look at.
    pub l1: Option<L1Config>,
    /// What may move between its rollups.
    pub settlement: Option<Settlement>,
}

/// What a network is told so that margin can move between its rollups.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// What may move, and how much of it.
    pub config: SettlementConfig,
    /// Each rollup's part.
    pub participants: [Participant; ROLLUPS.len()],
    /// Where each rollup's node serves JSON-RPC, now or soon.
    pub nodes: [String; ROLLUPS.len()],
    /// Where each rollup's posters tell how it goes.
    pub posters: [Vec<String>; ROLLUPS.len()],
    /// Whose bundles go before all others, sorted,
    pub liquidators: Vec<Account>,
    /// and how many bytes of a lane's block they may use.
    pub liquidation_bytes: u64,
}

/// A network on this machine. Dropping it kills what still runs.
pub struct Network {
    dealt: Dealt,
    children: Vec<Child>,
}

impl Network {
    /// Deals keys, genesis and configurations. Starts nothing.
    pub fn deal(plan: Plan) -> Result<Self> {
        let Plan { executable, folder, validators, balances, pace, l1, settlement } = plan;
        let addresses = ports::free(2 * validators)?;
        let places = addresses.chunks_exact(2).map(|pair| Place { p2p: pair[0], rpc: pair[1] }).collect();
        let mut rollups = ROLLUPS.map(|(id, name)| Rollup::new(id, name.to_owned(), Format::Eip2718, 1));
        for (place, rollup) in rollups.iter_mut().enumerate() {
            rollup.posters = posters::accounts(place);
        }
        let mut rollup_nodes = Vec::new();
        if let Some(settlement) = &settlement {
            for (place, rollup) in rollups.iter_mut().enumerate() {
                rollup.settlement = Some(settlement.participants[place].clone());
                rollup.liquidators = settlement.liquidators.clone();
                rollup.liquidation_bytes = settlement.liquidation_bytes;
                let rpc = settlement.nodes[place].clone();
                let posters = settlement.posters[place].clone();
                rollup_nodes.push(RollupConfig { id: rollup.id, rpc, poll_ms: ROLLUP_POLL_MS, posters });
            }
        }
        let dealt = deal(DealOptions {
            network: "lockstep-testnet-1".to_owned(),
            rollups: rollups.to_vec(),
            balances,
            places,
            pace,
            l1,
            settlement: settlement.map(|settlement| settlement.config),
            rollup_nodes,
            out: folder,
        })
        .context("dealing the network")?;
        let child = |(index, validator): (usize, &DealtValidator)| {
            let arguments = vec!["node".into(), "--config".into(), validator.config.clone().into()];
            Child::new(format!("validator {index}"), &executable, arguments, validator.folder.join("node.log"))
        };
        let children = dealt.validators.iter().enumerate().map(child).collect();
        Ok(Self { dealt, children })
    }

    /// What all members agree on.
    pub fn genesis(&self) -> &Genesis {
        &self.dealt.genesis
    }

    /// The file that holds it.
    pub fn genesis_file(&self) -> &Path {
        &self.dealt.genesis_file
    }

    /// The validators' files and addresses.
    pub fn validators(&self) -> &[DealtValidator] {
        &self.dealt.validators
    }

    /// Where validator `index` serves JSON-RPC, over HTTP and WebSocket.
    pub fn rpc(&self, index: usize) -> SocketAddr {
        self.dealt.validators[index].place.rpc
    }

    /// The HTTP URLs of all validators.
    pub fn urls(&self) -> Vec<String> {
        self.dealt.validators.iter().map(|validator| format!("http://{}", validator.place.rpc)).collect()
    }

    /// The process of validator `index`, if it runs.
    pub fn process(&self, index: usize) -> Option<u32> {
        self.children[index].id()
    }

    /// Where validator `index` logs.
    pub fn log(&self, index: usize) -> PathBuf {
        self.children[index].log().to_owned()
    }

    /// What every validator's process has used so far.
    pub fn usage(&self) -> Vec<Option<process::Usage>> {
        self.children.iter().map(|child| child.id().and_then(process::usage)).collect()
    }

    /// Starts all validators.
    pub fn start_all(&mut self) -> Result<()> {
        (0..self.children.len()).try_for_each(|index| self.start(index))
    }

    /// Starts validator `index` on what its folder holds.
    pub fn start(&mut self, index: usize) -> Result<()> {
        self.children[index].start()
    }

    /// Waits until all validators are ready, calling `progress` with how many are.
    pub async fn all_ready(&mut self, within: Duration, mut progress: impl FnMut(usize)) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut ready = vec![false; self.children.len()];
        loop {
            for (index, ready) in ready.iter_mut().enumerate() {
                if !*ready {
                    *ready = self.is_ready(index).await?;
                }
            }
            let count = ready.iter().filter(|ready| **ready).count();
            progress(count);
            if count == ready.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let slow = ready.iter().position(|ready| !ready).unwrap_or(0);
                bail!("validator {slow} is not ready after {within:?}; its log ends:\n{}", self.log_tail(slow));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until validator `index` is ready.
    pub async fn ready(&mut self, index: usize, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while !self.is_ready(index).await? {
            if Instant::now() > deadline {
                bail!("validator {index} is not ready after {within:?}; its log ends:\n{}", self.log_tail(index));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// How many validators' processes run. Told from the processes alone.
    pub fn running(&mut self) -> usize {
        self.children
            .iter_mut()
            .filter(|child| child.id().is_some())
            .filter_map(|child| child.exited().ok())
            .filter(Option::is_none)
            .count()
    }

    /// `kill -9`: validator `index` gets no chance to write anything more.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        self.children[index].kill()
    }

    /// `kill -9` of all at once: no one is waited for before the last is killed.
    pub fn kill_all(&mut self) -> Result<()> {
        self.children.iter_mut().try_for_each(Child::send_kill)?;
        self.children.iter_mut().try_for_each(Child::reap)
    }

    /// Asks all validators to stop, and waits. A validator that does not is killed, and that is an error.
    pub async fn stop_all(&mut self) -> Result<Vec<ExitStatus>> {
        child::stop_all(&mut self.children).await
    }

    /// The end of validator `index`'s log.
    pub fn log_tail(&self, index: usize) -> String {
        self.children[index].log_tail()
    }

    async fn is_ready(&mut self, index: usize) -> Result<bool> {
        match self.children[index].exited()? {
            Some(status) => bail!("validator {index} stopped ({status}); its log ends:\n{}", self.log_tail(index)),
            None => Ok(probe::is_ready(self.rpc(index)).await),
        }
    }
}
