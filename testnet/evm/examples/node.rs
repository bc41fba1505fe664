//! Starts an embedded EVM node that people can point their tools at.

use alloy_primitives::{B256, U256, hex};
use anyhow::Context;
use clap::{Parser, ValueEnum};
use lockstep_evm::{Config, L1, Node, OpFork, Optimism, Role, Rollup, accounts};
use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

/// An Ethereum node in one process: an L1 that makes its own blocks, or a rollup that follows a driver.
#[derive(Parser)]
struct Arguments {
    /// What the node is.
    #[arg(long, value_enum, default_value = "l1")]
    role: Kind,
    /// Where JSON-RPC is served, HTTP and WebSocket.
    #[arg(long, default_value = "127.0.0.1:8545")]
    rpc: SocketAddr,
    /// Where the Engine API is served, for --role optimism.
    #[arg(long, default_value = "127.0.0.1:8551")]
    engine: SocketAddr,
    /// A file with the Engine API's secret in hexadecimal; without one the secret is all zeros.
    #[arg(long)]
    jwt_secret: Option<PathBuf>,
    /// Makes Holocene blocks instead of Isthmus ones.
    #[arg(long)]
    holocene: bool,
    /// The chain id.
    #[arg(long, default_value_t = 31_337)]
    chain_id: u64,
    /// Milliseconds between an L1's blocks; 0 makes a block for each transaction.
    #[arg(long, default_value_t = 1_000)]
    interval_ms: u64,
    /// Makes blocks on `evm_mine` only.
    #[arg(long)]
    manual: bool,
    /// A genesis.json in geth's format; without one, hardhat's ten well-known accounts hold 10,000 ether each.
    #[arg(long)]
    genesis: Option<PathBuf>,
    /// Where blocks are kept; in memory without.
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    L1,
    Optimism,
    Rollup,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt().with_env_filter("info").with_writer(std::io::stderr).init();
    let rich = U256::from(10_000) * U256::from(10).pow(U256::from(18));
    let genesis = match &arguments.genesis {
        Some(path) => serde_json::from_slice(&std::fs::read(path).with_context(|| path.display().to_string())?)?,
        None if arguments.role == Kind::Optimism => {
            lockstep_evm::op_genesis(arguments.chain_id, 0, &accounts::dev_accounts(), rich)
        }
        None => lockstep_evm::genesis(arguments.chain_id, 0, &accounts::dev_accounts(), rich),
    };
    let interval = Duration::from_millis(arguments.interval_ms);
    let role = match arguments.role {
        Kind::L1 => Role::L1(L1 {
            interval: (!arguments.manual && !interval.is_zero()).then_some(interval),
            instant: !arguments.manual && interval.is_zero(),
            ..L1::default()
        }),
        Kind::Optimism => Role::Optimism(Optimism {
            fork: if arguments.holocene { OpFork::Holocene } else { OpFork::Isthmus },
            engine: arguments.engine,
            jwt_secret: match &arguments.jwt_secret {
                Some(path) => B256::from_slice(&hex::decode(std::fs::read_to_string(path)?.trim())?),
                None => B256::ZERO,
            },
        }),
        Kind::Rollup => Role::Rollup(Rollup::default()),
    };
    let config = Config { rpc: arguments.rpc, folder: arguments.folder, ..Config::new(genesis, role) };
    let node = Node::start(config).await?;
    let mut out = std::io::stdout();
    writeln!(out, "rpc {}", node.rpc_url())?;
    if let Some(engine) = node.engine_url() {
        writeln!(out, "engine {engine}")?;
    }
    out.flush()?;
    tokio::signal::ctrl_c().await?;
    node.stop().await;
    Ok(())
}
