//! Which rollups and which L1 does the city have, and how are they started, killed and looked at?
//!
//! Every part is a process of its own: L1, each rollup's execution client, its driver, its poster. They find each other through
//! files and ports, as an operator's would. What they did is read from their own JSON-RPC and status pages.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use alloy_primitives::{Address, U256};
use anyhow::{Context, Result, bail};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    child::{self, Child},
    network::ROLLUPS,
    ports,
    promises::Execution,
    transfers::Wallet,
};

mod files;
mod l1;
pub(crate) mod nitro;
mod optimism;
pub(crate) mod posters;
pub mod relays;
mod status;
mod stock;

pub use l1::{L1_CHAIN, L1Kind};
pub use status::{RollupView, StockView};
pub use stock::OpStack;

use l1::L1;
use nitro::Nitro;
use optimism::Optimism;
use relays::RelayProcess;

/// How long a part may take until it serves.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the rollups are looked at for whoever watches.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often a waiting loop looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The L1 and its rollups. Dropping it kills what still runs.
pub struct Rollups {
    l1: L1,
    optimism: Optimism,
    nitro: Nitro,
    relays: Vec<RelayProcess>,
    view: watch::Receiver<View>,
    looking: JoinHandle<()>,
    executable: PathBuf,
    folder: PathBuf,
}

/// What there is to see of L1 and the rollups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The newest L1 block.
    pub l1_height: Option<u64>,
    /// The rollups.
    pub rollups: Vec<RollupView>,
}

/// Who has ether where.
struct Funded {
    /// When the chains begin, seconds.
    begin: u64,
    /// Users of the rollups.
    wallets: Vec<Address>,
}

/// What a rollup starts from.
struct Place<'a> {
    executable: &'a Path,
    l1: &'a L1,
    /// What the OP Stack rollup runs on, if not on the embedded node.
    op_stack: Option<&'a OpStack>,
    funded: &'a Funded,
    /// Where its JSON-RPC shall be.
    rpc: SocketAddr,
    /// Where its posters shall tell how it goes.
    posts: [SocketAddr; posters::PER_ROLLUP],
}

/// Posts the OP Stack rollup's batches.
fn batcher() -> Wallet {
    Wallet::of_seed("testnet batcher", 0)
}

/// Post the Nitro-style rollup's batches: its inbox knows several. The OP Stack knows one batcher, whose key its posters share.
fn batch_posters() -> [Wallet; posters::PER_ROLLUP] {
    std::array::from_fn(|number| Wallet::of_seed("testnet batch poster", number as u64))
}

/// A thousand ether.
fn pocket_money() -> U256 {
    U256::from(1_000_u64) * U256::from(10_u64).pow(U256::from(18_u64))
}

impl Rollups {
    /// Starts an L1, before there is a log: validators want to look at it.
    pub async fn start_l1(executable: &Path, folder: &Path, wallets: Vec<Address>, kind: L1Kind) -> Result<L1Started> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        let funded = Funded { begin: now.as_secs(), wallets };
        let l1 = L1::start(executable, &folder.join("l1"), &funded, kind).await?;
        let mut free = ports::free(2 * (1 + posters::PER_ROLLUP))?.into_iter();
        let mut next = || free.next().expect("as many ports as were asked for");
        let rpcs = std::array::from_fn(|_| next());
        let posts = std::array::from_fn(|_| std::array::from_fn(|_| next()));
        let (executable, folder) = (executable.to_owned(), folder.to_owned());
        Ok(L1Started { l1, op_stack: None, funded, rpcs, posts, executable, folder })
    }

    /// All parts.
    fn children(&mut self) -> Vec<&mut Child> {
        let mut children = vec![&mut self.l1.child];
        children.extend(&mut self.optimism.children);
        children.extend(&mut self.nitro.children);
        children.extend(self.relays.iter_mut().map(|relay| &mut relay.child));
        children
    }

    /// A part that ended by itself, which none does: its name and the end of its log.
    pub fn failed(&mut self) -> Result<Option<String>> {
        for child in self.children() {
            if child.id().is_some()
                && let Some(status) = child.exited()?
            {
                return Ok(Some(format!("{} stopped ({status}); its log ends:\n{}", child.name(), child.log_tail())));
            }
        }
        Ok(None)
    }

    /// The names of all parts that can be killed and started again: all, but for an L1 that would begin anew.
    pub fn parts(&mut self) -> Vec<String> {
        let immortal = usize::from(!self.l1.keeps_its_chain());
        self.children().into_iter().skip(immortal).map(|child| child.name().to_owned()).collect()
    }

    /// `kill -9` of the part with this name.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        self.part(name)?.kill()
    }

    /// Starts a part that was killed on what its folder holds.
    pub fn start(&mut self, name: &str) -> Result<()> {
        self.part(name)?.start()
    }

    fn part(&mut self, name: &str) -> Result<&mut Child> {
        let part = self.children().into_iter().find(|child| child.name() == name);
        part.with_context(|| format!("the city has no part called {name}"))
    }

    /// What there was to see lately.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// How far each rollup came, told from the nonces of `expected`: wallets, and how many transactions of theirs were ordered
    /// on each rollup. What cannot be asked lacks everything.
    pub async fn executions(&self, expected: &[(Address, [u64; ROLLUPS.len()])]) -> Vec<Execution> {
        let mut executions = Vec::new();
        for (index, url) in [self.optimism.pages.rpc_url(), self.nitro.pages.rpc_url()].iter().enumerate() {
            let height = status::last_filled(url).await.unwrap_or(u64::MAX);
            let mut execution = Execution { rollup: ROLLUPS[index].0, height, ..Execution::default() };
            for (wallet, ordered) in expected {
                let ordered = ordered[index];
                let nonce = status::nonce(url, *wallet).await.unwrap_or(0);
                execution.ordered += ordered;
                execution.missing += ordered.saturating_sub(nonce);
            }
            executions.push(execution);
        }
        executions
    }

    /// Starts relayers between the log and each rollup; with `standby`, a second one that lets the first go before it.
    pub fn start_relays(&mut self, genesis: &Path, nodes: &[String], standby: bool) -> Result<()> {
        for (place, rpc) in self.urls().into_iter().enumerate() {
            for number in 0..if standby { relays::PER_ROLLUP } else { 1 } {
                let folder = self.folder.join(format!("relay-{}-{number}", ROLLUPS[place].0));
                let who = (place, number);
                let relay = RelayProcess::start(&self.executable, &folder, who, rpc.clone(), genesis, nodes)?;
                self.relays.push(relay);
            }
        }
        Ok(())
    }

    /// Waits until `enough` holds of what there is to see; `false` if it does not within the time.
    pub async fn reach(&mut self, within: Duration, enough: impl FnMut(&View) -> bool) -> bool {
        matches!(tokio::time::timeout(within, self.view.wait_for(enough)).await, Ok(Ok(_)))
    }

    /// Where each rollup's JSON-RPC is.
    pub fn urls(&self) -> [String; 2] {
        [self.optimism.pages.rpc_url(), self.nitro.pages.rpc_url()]
    }

    /// Lines for a person who wants to talk to them.
    pub fn guide(&self) -> Vec<String> {
        let mut lines = vec![
            format!("L1 {L1_CHAIN}            {}", self.l1.rpc_url()),
            format!("rollup 901 (OP Stack) {}", self.optimism.pages.rpc_url()),
            format!("rollup 902 (Nitro)    {}", self.nitro.pages.rpc_url()),
        ];
        lines.extend(self.optimism.pages.node_url().map(|url| format!("op-node of 901        {url}")));
        lines
    }

    /// Stops all parts.
    pub async fn stop_all(&mut self) -> Result<()> {
        self.nitro.stop_deriving();
        child::stop_all(self.children()).await.map(drop)
    }
}

/// An L1 that waits for its rollups.
pub struct L1Started {
    l1: L1,
    op_stack: Option<OpStack>,
    funded: Funded,
    rpcs: [SocketAddr; 2],
    posts: [[SocketAddr; posters::PER_ROLLUP]; 2],
    executable: PathBuf,
    folder: PathBuf,
}

impl L1Started {
    /// Where its JSON-RPC is.
    pub fn url(&self) -> String {
        self.l1.rpc_url()
    }

    /// Where the rollups' JSON-RPC will be: validators are told before anybody listens there.
    pub fn rollup_urls(&self) -> [String; 2] {
        self.rpcs.map(|rpc| format!("http://{rpc}"))
    }

    /// Where the rollups' posters will tell how it goes.
    pub fn poster_urls(&self) -> [Vec<String>; 2] {
        self.posts.map(|posts| posts.iter().map(|post| format!("http://{post}")).collect())
    }

    /// Has the OP Stack rollup run on stock software, or on the embedded node.
    pub fn with_op_stack(self, op_stack: Option<OpStack>) -> Self {
        Self { op_stack, ..self }
    }

    /// Starts the rollups of a log whose validators serve.
    pub async fn start_rollups(self, genesis: &Path, nodes: &[String]) -> Result<Rollups> {
        let Self { l1, op_stack, funded, rpcs, posts, executable, folder } = self;
        let started = |place: usize| {
            let (rpc, posts) = (rpcs[place], posts[place]);
            Place { executable: &executable, l1: &l1, op_stack: op_stack.as_ref(), funded: &funded, rpc, posts }
        };
        let optimism = Optimism::start(&started(0), &folder.join("op"), genesis, nodes).await?;
        let nitro = Nitro::start(&started(1), &folder.join("nitro"), genesis, nodes).await?;
        let (tell, view) = watch::channel(View::default());
        let looking = tokio::spawn(look(l1.rpc_url(), optimism.pages.clone(), nitro.pages.clone(), tell));
        Ok(Rollups { l1, optimism, nitro, relays: Vec::new(), view, looking, executable, folder })
    }
}

impl Drop for Rollups {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

/// Looks at everything, again and again, beside whoever draws: a part that was killed answers nobody.
async fn look(l1: String, optimism: optimism::Pages, nitro: nitro::Pages, tell: watch::Sender<View>) {
    while !tell.is_closed() {
        let (l1_height, optimism, nitro) = tokio::join!(status::height(&l1), optimism.view(), nitro.view());
        tell.send_replace(View { l1_height, rollups: vec![optimism, nitro] });
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Waits until `ready` has an answer, or the part has ended, or time is up.
async fn wait_for<T>(child: &mut Child, mut ready: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        if let Some(status) = child.exited()? {
            bail!("{} stopped ({status}); its log ends:\n{}", child.name(), child.log_tail());
        }
        if let Some(answer) = ready().await {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("{} does not serve after {READY_TIMEOUT:?}; its log ends:\n{}", child.name(), child.log_tail());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
