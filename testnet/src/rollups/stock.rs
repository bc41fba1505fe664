//! How do op-geth and op-node, as they come, run in the city?
//!
//! Where they are found, and what they are started with: the flags that docs/adapters.md gives to operators. What they are compared
//! with is told elsewhere.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::{files, l1::INTERVAL_SECONDS, l1::L1};
use crate::{child::Child, network::ROLLUPS};

/// Name programs that are not where the script puts them.
const GETH: &str = "LOCKSTEP_OP_GETH";
const NODE: &str = "LOCKSTEP_OP_NODE";
/// Builds both.
const SCRIPT: &str = "rollup-adapters/judges/optimism/run.sh";
/// Where that puts them, below the folder for build products or below the cache.
const INSTALLED: &str = "op-stack";
/// States are on disk with each block, so that a kill loses the newest block or two at most.
const SCHEME: &str = "--state.scheme=hash";
/// Where nobody listens: an L1 without blobs has no beacon node.
const NO_BEACON: &str = "http://127.0.0.1:1";

/// Stock software for the OP Stack rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpStack {
    /// op-geth, which executes the rollup.
    pub geth: PathBuf,
    /// op-node, which derives the rollup from L1 alone, on an op-geth of its own.
    pub node: Option<PathBuf>,
}

/// An op-geth that can be started.
pub(super) struct Geth<'a> {
    pub(super) program: &'a Path,
    pub(super) name: &'a str,
    /// A folder of its own.
    pub(super) folder: PathBuf,
    pub(super) genesis: &'a Path,
    pub(super) jwt: &'a Path,
    pub(super) rpc: SocketAddr,
    pub(super) engine: SocketAddr,
}

/// An op-node that can be started.
pub(super) struct Node<'a> {
    pub(super) program: &'a Path,
    pub(super) folder: &'a Path,
    pub(super) l1: &'a L1,
    pub(super) rollup: &'a Path,
    pub(super) jwt: &'a Path,
    /// The Engine API of its op-geth, which only it drives.
    pub(super) engine: SocketAddr,
    pub(super) rpc: SocketAddr,
}

impl OpStack {
    /// The programs of this machine: named in `LOCKSTEP_OP_GETH` and `LOCKSTEP_OP_NODE`, built by our script, or in the search path.
    pub fn find() -> Result<Self> {
        let geth = find(GETH, "op-geth")?.with_context(|| {
            format!("op-geth is not installed: run {SCRIPT}, which needs Go, or name one with {GETH}=/path/to/op-geth")
        })?;
        Ok(Self { geth, node: find(NODE, "op-node")? })
    }

    /// What runs, and what does not, for a person.
    pub fn told(&self) -> String {
        let geth = format!("rollup {} runs on {}", ROLLUPS[0].0, self.geth.display());
        match &self.node {
            Some(node) => format!("{geth}; {} derives it from L1 alone", node.display()),
            None => format!("{geth}\n  skipped: op-node (not installed: run {SCRIPT}, or name one with {NODE})"),
        }
    }
}

fn find(variable: &str, name: &str) -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os(variable) {
        let program = PathBuf::from(named);
        let asked = Command::new(&program).arg("--version").stdin(Stdio::null()).output();
        let starts = asked.is_ok_and(|answer| answer.status.success());
        ensure!(starts, "{variable} names {}, which cannot be started", program.display());
        return Ok(Some(program));
    }
    let kept = std::env::var_os("LOCKSTEP_BUILD_DIR").map(PathBuf::from).filter(|folder| folder.is_dir());
    let cache = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/lockstep"));
    let ours = kept.or_else(cache).map(|folder| folder.join(INSTALLED));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = ours.into_iter().chain(std::env::split_paths(&path));
    Ok(folders.map(|folder| folder.join(name)).find(|program| program.is_file()))
}

/// `--name=value`.
fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value.into());
    flag
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

impl Geth<'_> {
    /// Begins its chain with the rollup's genesis. Does not start it.
    pub(super) fn begun(&self) -> Result<Child> {
        let folder = files::folder(&self.folder)?;
        let data = flag("datadir", folder.join("data"));
        let mut init = Command::new(self.program);
        init.args(["init", SCHEME]).arg(&data).arg(self.genesis).stdin(Stdio::null());
        let begun = init.output().with_context(|| format!("starting {}", self.program.display()))?;
        let said = String::from_utf8_lossy(&begun.stderr);
        ensure!(begun.status.success(), "{} does not take the rollup's genesis: {said}", self.program.display());
        let mut arguments = vec![data, flag("networkid", ROLLUPS[0].0.0.to_string())];
        let same = "--syncmode=full --gcmode=archive --rollup.disabletxpoolgossip=true --maxpeers=0 --nodiscover --nat=none \
                    --port=0 --ipcdisable --http --http.api=eth,net,web3";
        arguments.extend([SCHEME].into_iter().chain(same.split_whitespace()).map(OsString::from));
        for (name, address) in [("http", self.rpc), ("authrpc", self.engine)] {
            arguments.push(flag(&format!("{name}.addr"), address.ip().to_string()));
            arguments.push(flag(&format!("{name}.port"), address.port().to_string()));
        }
        arguments.push(flag("authrpc.jwtsecret", self.jwt));
        Ok(Child::tethered(self.name, self.program, arguments, folder.join("op-geth.log")))
    }
}

impl Node<'_> {
    /// Does not start it.
    pub(super) fn child(&self) -> Child {
        // Anvil's headers have a root of transactions that is not that of its transactions where some carry blobs.
        let (beacon, trusts) = match self.l1.takes_blobs() {
            true => (self.l1.rpc_url(), "true"),
            false => (NO_BEACON.to_owned(), "false"),
        };
        let mut arguments = vec![
            flag("l1", self.l1.rpc_url()),
            flag("l1.trustrpc", trusts),
            flag("l1.beacon", beacon),
            flag("l1.beacon.slot-duration-override", INTERVAL_SECONDS.to_string()),
            flag("l2", url(self.engine)),
            flag("l2.jwt-secret", self.jwt),
            flag("rollup.config", self.rollup),
            flag("rollup.l1-chain-config", &self.l1.chain_config),
            flag("rpc.addr", self.rpc.ip().to_string()),
            flag("rpc.port", self.rpc.port().to_string()),
        ];
        // What stands in for a beacon node here does not tell of itself.
        let same = "--l1.rpckind=standard --l1.http-poll-interval=200ms --l1.epoch-poll-interval=1s --l1.beacon.ignore=true \
                    --l2.enginekind=geth --syncmode=consensus-layer --p2p.disable=true";
        arguments.extend(same.split_whitespace().map(OsString::from));
        Child::tethered("op-node", self.program, arguments, self.folder.join("op-node.log"))
    }
}
