//! How do op-geth and op-node, as they come, run beside a test?
//!
//! Their paths are in `LOCKSTEP_OP_GETH` and `LOCKSTEP_OP_NODE`, or `op-geth` and `op-node` are in the search path. Without them what
//! they judge is skipped, and says so. `rollup-adapters/judges/optimism/run.sh` builds both. The flags here are those that
//! docs/adapters.md gives to operators.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use alloy_primitives::{B256, U64};
use lockstep_adapters::poster::Rpc;
use lockstep_evm::Genesis;
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::world::{CHAIN, JWT, World};

/// For answers of programs that share two processors with everything else.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines of a log that are shown where a test fails.
const LINES: usize = 40;

/// The program, if it can be started at all.
fn find(variable: &str, name: &str) -> Option<PathBuf> {
    let program = PathBuf::from(std::env::var(variable).unwrap_or_else(|_| name.into()));
    let asked = Command::new(&program).arg("--version").stdin(Stdio::null()).output();
    if asked.is_ok_and(|answer| answer.status.success()) {
        return Some(program);
    }
    eprintln!("skipped: {name} ({} cannot be started)", program.display());
    None
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port()
}

fn patient(url: &str) -> Rpc {
    Rpc::new(url, PATIENCE, None).expect("a URL")
}

/// A program that ends with its test, and shows the end of its log if that fails.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("a log");
        let out = file.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(out).stderr(file).spawn().expect("it was started before");
        Self { child, log }
    }

    fn assert_runs(&mut self) {
        let ended = self.child.try_wait().expect("it can be asked");
        assert!(ended.is_none(), "it ended by itself: {ended:?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}:\n{}", self.log.display(), lines[lines.len().saturating_sub(LINES)..].join("\n"));
        }
    }
}

/// A block as a client tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    pub(crate) number: U64,
    pub(crate) hash: B256,
    pub(crate) state_root: B256,
    pub(crate) receipts_root: B256,
    pub(crate) gas_used: U64,
    pub(crate) transactions: Vec<B256>,
}

/// How op-geth keeps states.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum States {
    /// On disk with each block, as docs/adapters.md has it: a kill loses the newest block or two at most.
    OnDisk,
    /// As it does where nothing is said: the latest in memory until it ends.
    InMemory,
}

/// op-geth with a folder of its own.
pub(crate) struct OpGeth {
    // Before its folder, which has the log that it shows.
    running: Option<Program>,
    states: States,
    program: PathBuf,
    folder: TempDir,
    http: u16,
    auth: u16,
    pub(crate) rpc: String,
    pub(crate) engine: String,
}

impl OpGeth {
    /// At genesis, running; `None` where there is none.
    pub(crate) async fn start(genesis: &Genesis) -> Option<Self> {
        Self::start_with(genesis, States::OnDisk).await
    }

    /// The same, with states kept in this way.
    pub(crate) async fn start_with(genesis: &Genesis, states: States) -> Option<Self> {
        let program = find("LOCKSTEP_OP_GETH", "op-geth")?;
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("genesis.json"), json!(genesis).to_string()).expect("written");
        std::fs::write(folder.path().join("jwt.hex"), JWT.to_string()).expect("written");
        let begun = Command::new(&program)
            .args(["init", scheme(states)])
            .arg(format!("--datadir={}", folder.path().join("data").display()))
            .arg(folder.path().join("genesis.json"))
            .output()
            .expect("it was started before");
        assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
        let (http, auth) = (free_port(), free_port());
        let (rpc, engine) = (format!("http://127.0.0.1:{http}"), format!("http://127.0.0.1:{auth}"));
        let mut geth = Self { states, program, folder, http, auth, running: None, rpc, engine };
        geth.revive().await;
        Some(geth)
    }

    /// Starts it again on the same folder and ports.
    pub(crate) async fn revive(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--datadir={}", folder.join("data").display()))
            .arg(format!("--networkid={CHAIN}"))
            .args(["--syncmode=full", scheme(self.states), "--rollup.disabletxpoolgossip=true"])
            .arg(if self.states == States::OnDisk { "--gcmode=archive" } else { "--gcmode=full" })
            .args(["--maxpeers=0", "--nodiscover", "--nat=none", "--port=0", "--ipcdisable"])
            .args(["--http", "--http.addr=127.0.0.1", "--http.api=eth,net,web3"])
            .arg(format!("--http.port={}", self.http))
            .arg("--authrpc.addr=127.0.0.1")
            .arg(format!("--authrpc.port={}", self.auth))
            .arg(format!("--authrpc.jwtsecret={}", folder.join("jwt.hex").display()));
        self.running = Some(Program::start(&mut command, folder.join("op-geth.log")));
        let rpc = patient(&self.rpc);
        for _ in 0..3_000 {
            self.running.as_mut().expect("just started").assert_runs();
            if rpc.call::<U64>("eth_chainId", &[]).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("op-geth was started and does not answer");
    }

    /// The number of its latest block.
    pub(crate) async fn head(&self) -> u64 {
        patient(&self.rpc).call::<U64>("eth_blockNumber", &[]).await.expect("op-geth answers").to()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Ends it as SIGTERM does.
    pub(crate) fn terminate(&mut self) {
        let mut running = self.running.take().expect("it runs");
        let told = Command::new("kill").arg(running.child.id().to_string()).status().expect("kill runs");
        assert!(told.success() && running.child.wait().expect("it ends").success());
    }

    pub(crate) fn jwt(&self) -> PathBuf {
        self.folder.path().join("jwt.hex")
    }
}

fn scheme(states: States) -> &'static str {
    match states {
        States::OnDisk => "--state.scheme=hash",
        States::InMemory => "--state.scheme=path",
    }
}

/// All blocks up to `last`, as the client at this URL tells of them.
pub(crate) async fn blocks(url: &str, last: u64) -> Vec<Told> {
    let rpc = patient(url);
    let mut blocks = Vec::new();
    for number in 0..=last {
        let block: Option<Told> =
            rpc.call("eth_getBlockByNumber", &[json!(U64::from(number)), json!(false)]).await.expect("it answers");
        blocks.push(block.expect("it is there"));
    }
    blocks
}

/// op-node as a verifier: it knows nothing but L1.
pub(crate) struct OpNode {
    running: Program,
    rpc: String,
}

/// How far op-node is.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct SyncStatus {
    pub(crate) safe_l2: At,
}

/// A block as op-node names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct At {
    pub(crate) number: u64,
    pub(crate) hash: B256,
}

impl OpNode {
    /// On `geth`, which only it drives; L1 and its beacon API are at these URLs, and L1 makes a block each twelve seconds. `extra`
    /// flags are for an L1 that is not quite one. `None` where there is no op-node.
    pub(crate) async fn start(world: &World, geth: &OpGeth, l1: &str, beacon: &str, extra: &[&str]) -> Option<Self> {
        let program = find("LOCKSTEP_OP_NODE", "op-node")?;
        let folder = geth.folder.path();
        std::fs::write(folder.join("rollup.json"), &world.json).expect("written");
        write_l1_config(world, &folder.join("l1.json"));
        let port = free_port();
        let mut command = Command::new(&program);
        command
            .arg(format!("--l1={l1}"))
            .args(["--l1.rpckind=standard", "--l1.http-poll-interval=200ms", "--l1.epoch-poll-interval=1s"])
            .arg(format!("--l1.beacon={beacon}"))
            // For what stands in for a beacon node here, and does not tell of itself.
            .args(["--l1.beacon.ignore=true", "--l1.beacon.slot-duration-override=12"])
            .args(extra)
            .arg(format!("--l2={}", geth.engine))
            .arg(format!("--l2.jwt-secret={}", geth.jwt().display()))
            .arg("--l2.enginekind=geth")
            .arg(format!("--rollup.config={}", folder.join("rollup.json").display()))
            .arg(format!("--rollup.l1-chain-config={}", folder.join("l1.json").display()))
            .args(["--syncmode=consensus-layer", "--p2p.disable=true", "--rpc.addr=127.0.0.1"])
            .arg(format!("--rpc.port={port}"));
        let running = Program::start(&mut command, folder.join("op-node.log"));
        let mut node = Self { running, rpc: format!("http://127.0.0.1:{port}") };
        for _ in 0..3_000 {
            node.running.assert_runs();
            if node.status().await.is_some() {
                return Some(node);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("op-node was started and does not answer");
    }

    /// `None` while it starts.
    pub(crate) async fn status(&self) -> Option<SyncStatus> {
        patient(&self.rpc).call("optimism_syncStatus", &[]).await.ok()
    }

    /// Waits until L1 alone has led it to this block.
    pub(crate) async fn wait_for(&mut self, number: u64, hash: B256) {
        let begin = tokio::time::Instant::now();
        loop {
            self.running.assert_runs();
            let status = self.status().await;
            if status.is_some_and(|status| status.safe_l2 == At { number, hash }) {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(180), "not {number} {hash} within three minutes: {status:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What op-node has to know of an L1 that it does not know by its number: when its forks are, and what blobs cost.
fn write_l1_config(world: &World, path: &Path) {
    let mut config = json!(world.l1_genesis.config);
    // Clients have dropped this key, and op-node refuses what it does not know.
    config.as_object_mut().expect("a map").remove("terminalTotalDifficultyPassed");
    std::fs::write(path, config.to_string()).expect("written");
}
