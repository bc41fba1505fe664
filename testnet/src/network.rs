//! How is a network of validators dealt, started, killed and stopped on this machine?
//!
//! Every validator is a process of its own with its own folder, so that `kill -9` is real. Sends no bundle.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use lockstep_protocol::genesis::{Balance, Format, Genesis, Rollup};
use lockstep_protocol::ids::RollupId;
use lockstep_sequencer::{
    config::Pace,
    keys::{DealOptions, Dealt, DealtValidator, Place, deal},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{ports, probe, process};

/// How long a validator may take to stop when asked to, before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a waiting loop looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How much of a log is shown when its validator dies.
const LOG_TAIL_BYTES: u64 = 2_048;

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
}

/// A network on this machine. Dropping it kills what still runs.
pub struct Network {
    executable: PathBuf,
    dealt: Dealt,
    children: Vec<Option<Child>>,
}

impl Network {
    /// Deals keys, genesis and configurations. Starts nothing.
    pub fn deal(plan: Plan) -> Result<Self> {
        let Plan { executable, folder, validators, balances, pace } = plan;
        let addresses = ports::free(2 * validators)?;
        let places = addresses.chunks_exact(2).map(|pair| Place { p2p: pair[0], rpc: pair[1] }).collect();
        let rollups =
            ROLLUPS.map(|(id, name)| Rollup::new(id, name.to_owned(), Format::Eip2718, 1));
        let dealt = deal(DealOptions {
            network: "lockstep-testnet-1".to_owned(),
            rollups: rollups.to_vec(),
            balances,
            places,
            pace,
            out: folder,
        })
        .context("dealing the network")?;
        let children = dealt.validators.iter().map(|_| None).collect();
        Ok(Self { executable, dealt, children })
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
        self.children[index].as_ref().map(Child::id)
    }

    /// Where validator `index` logs.
    pub fn log(&self, index: usize) -> PathBuf {
        self.dealt.validators[index].folder.join("node.log")
    }

    /// What every validator's process has used so far.
    pub fn usage(&self) -> Vec<Option<process::Usage>> {
        self.children.iter().map(|child| child.as_ref().and_then(|child| process::usage(child.id()))).collect()
    }

    /// Starts all validators.
    pub fn start_all(&mut self) -> Result<()> {
        (0..self.children.len()).try_for_each(|index| self.start(index))
    }

    /// Starts validator `index` on what its folder holds.
    pub fn start(&mut self, index: usize) -> Result<()> {
        ensure!(self.children[index].is_none(), "validator {index} runs already");
        let path = self.log(index);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let child = Command::new(&self.executable)
            .arg("node")
            .arg("--config")
            .arg(&self.dealt.validators[index].config)
            // The other end is ours: it closes when we are gone, however we went, and then the validator stops.
            .stdin(Stdio::piped())
            // A Ctrl-C in the terminal is for us alone: validators are stopped when their work is judged.
            .process_group(0)
            .stdout(log.try_clone().context("a second handle on the log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", self.executable.display()))?;
        self.children[index] = Some(child);
        Ok(())
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
        (0..self.children.len()).filter(|index| matches!(self.exited(*index), Ok(None))).count()
    }

    /// `kill -9`: validator `index` gets no chance to write anything more.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        let Some(mut child) = self.children[index].take() else { bail!("validator {index} does not run") };
        child.kill().context("killing a validator")?;
        child.wait().context("waiting for a killed validator")?;
        Ok(())
    }

    /// `kill -9` of all at once: no one is waited for before the last is killed.
    pub fn kill_all(&mut self) -> Result<()> {
        for child in self.children.iter_mut().flatten() {
            child.kill().context("killing a validator")?;
        }
        for child in &mut self.children {
            if let Some(mut child) = child.take() {
                child.wait().context("waiting for a killed validator")?;
            }
        }
        Ok(())
    }

    /// Asks all validators to stop, and waits. A validator that does not is killed, and that is an error.
    pub async fn stop_all(&mut self) -> Result<Vec<ExitStatus>> {
        for child in self.children.iter().flatten() {
            terminate(child)?;
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        let mut statuses = Vec::new();
        let mut stubborn = Vec::new();
        for (index, slot) in self.children.iter_mut().enumerate() {
            let Some(mut child) = slot.take() else { continue };
            loop {
                if let Some(status) = child.try_wait().context("waiting for a validator")? {
                    statuses.push(status);
                    break;
                }
                if Instant::now() > deadline {
                    child.kill().context("killing a validator")?;
                    statuses.push(child.wait().context("waiting for a killed validator")?);
                    stubborn.push(index);
                    break;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        ensure!(stubborn.is_empty(), "validators {stubborn:?} did not stop within {STOP_TIMEOUT:?} and were killed");
        Ok(statuses)
    }

    /// The end of validator `index`'s log.
    pub fn log_tail(&self, index: usize) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.log(index))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        read().unwrap_or_else(|error| format!("(no log: {error})"))
    }

    async fn is_ready(&mut self, index: usize) -> Result<bool> {
        match self.exited(index)? {
            Some(status) => bail!("validator {index} stopped ({status}); its log ends:\n{}", self.log_tail(index)),
            None => Ok(probe::is_ready(self.rpc(index)).await),
        }
    }

    fn exited(&mut self, index: usize) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.children[index] else { bail!("validator {index} does not run") };
        child.try_wait().context("looking after a validator")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Whoever wants to know how they ended has stopped them before.
        let _ = self.kill_all();
    }
}

fn terminate(child: &Child) -> Result<()> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process has a number")?;
    match kill_process(id, Signal::TERM) {
        // It stopped by itself a moment ago.
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context("asking a validator to stop"),
    }
}
