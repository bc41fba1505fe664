//! What can be asked of `lockstep` on the command line?
//!
//! Parses and dispatches. A program that embeds the node (the testnet does) runs the same [`Command`]s with [`run`].

use std::{io::Write, net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use lockstep_protocol::{
    genesis::{Balance, Format, Rollup},
    ids::RollupId,
};

use crate::{
    config::{self, Config, ConfigError, L1Config, Pace},
    keys::{self, AccountKind, DealOptions, KeysError, Place, Secret},
    node::{self, NodeError},
    public::mirror::{self, MirrorArgs, MirrorError},
};

/// What `lockstep` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a validator until it is told to stop (Ctrl-C or SIGTERM).
    #[command(after_help = NODE_HELP)]
    Node(NodeArgs),
    /// Follow, check and serve the lanes without being a validator, until it is told to stop.
    #[command(after_help = MIRROR_HELP)]
    Mirror(MirrorArgs),
    /// Make and show keys, and deal a new network.
    #[command(subcommand, after_help = KEYS_HELP)]
    Keys(KeysCommand),
    /// Look after the serving index, which answers RPC and can always be made again from the log.
    #[command(subcommand)]
    Index(IndexCommand),
}

/// Arguments of `lockstep node`.
#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The node's TOML file.
    #[arg(long, value_name = "FILE", required_unless_present = "print_config")]
    pub config: Option<PathBuf>,
    /// Print an example with every key and its default, and do nothing else.
    #[arg(long)]
    pub print_config: bool,
}

/// `lockstep keys`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeysCommand {
    /// Make a key for an account, which signs bundles and pays for them.
    #[command(
        after_help = "Example:\n  lockstep keys new --out maker.key\n  lockstep keys new --kind secp256k1 --out wallet.key"
    )]
    New {
        /// Which kind.
        #[arg(long, value_enum, default_value_t = AccountKind::Ed25519)]
        kind: AccountKind,
        /// The file to write; it must not be there yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Show what may be told of a key file: the account, never the secret.
    Show {
        /// The key file.
        file: PathBuf,
    },
    /// Print an example of the file that `keys deal --settlement` reads, with every key.
    Settlement,
    /// Make all files of a new network: its genesis, and a folder for each validator.
    #[command(after_help = DEAL_HELP)]
    Deal(DealArgs),
}

/// Arguments of `lockstep keys deal`.
#[derive(Clone, Debug, Args)]
pub struct DealArgs {
    /// How many validators. 4 withstand one that fails, 7 two, 3f+1 f.
    #[arg(long, value_name = "N")]
    pub validators: u16,
    /// The network's name, mixed into every signature: choose one that nobody used before.
    #[arg(long, value_name = "NAME")]
    pub network: String,
    /// The rollups, as `id:name` or `id:name:min-base-fee`. The id is the EIP-155 chain id.
    #[arg(long, value_name = "ID:NAME", value_delimiter = ',', required = true, value_parser = parse_rollup)]
    pub rollups: Vec<Rollup>,
    /// What may move between rollups: a TOML file. `lockstep keys settlement` prints an example. Without it nothing does.
    #[arg(long, value_name = "FILE")]
    pub settlement: Option<PathBuf>,
    /// First balances, as `account=credits`. `lockstep keys show` prints a key's account.
    #[arg(long, value_name = "ACCOUNT=CREDITS", value_delimiter = ',', value_parser = parse_balance)]
    pub fund: Vec<Balance>,
    /// An L1 node that all validators look at: its JSON-RPC. Every operator should put one of their own into their file.
    #[arg(long, value_name = "URL")]
    pub l1: Option<String>,
    /// The folder to write to.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The address that all validators listen on. Edit the files if they are on machines of their own.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// First port between validators; each takes the next.
    #[arg(long, default_value_t = 26_600)]
    pub p2p_port: u16,
    /// First port of the public RPC; each takes the next.
    #[arg(long, default_value_t = 8_645)]
    pub rpc_port: u16,
}

/// `lockstep index`.
#[derive(Clone, Debug, Subcommand)]
pub enum IndexCommand {
    /// Delete the index and make it again from the node's own blocks. The node must not be running.
    Rebuild {
        /// The node's TOML file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Keys and genesis.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The mirror.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The arguments contradict each other.
    #[error("{0}")]
    Arguments(String),
    /// The answer could not be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

const NODE_HELP: &str = "\
A network on one machine, in two commands:
  lockstep keys deal --validators 1 --network my-devnet --rollups 900:alpha,901:beta \\
      --fund \"$(lockstep keys show maker.key)=1000000000\" --out devnet
  lockstep node --config devnet/validator-0/node.toml

Then ask it something:
  curl -s localhost:8645/readyz
  curl -s localhost:8645 -H 'content-type: application/json' \\
      -d '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"lockstep_getNetwork\"}'

A node that is stopped, or killed, is started again with the same command and finds its place by itself.";

const KEYS_HELP: &str = "\
A key file is one line, mode 0600. Nothing prints a secret.
  lockstep keys new --out maker.key
  lockstep keys show maker.key";

const MIRROR_HELP: &str = "\
It trusts the group key in genesis.json and nothing else: every item is checked, and serves as its own proof to others.
  lockstep mirror --genesis genesis.json --data mirror \\
      --bootstrap /ip4/192.0.2.1/tcp/9645/p2p/12D3KooW... --listen /ip4/0.0.0.0/tcp/9645";

const DEAL_HELP: &str = "\
Example: four validators on this machine, two rollups, one funded account
  lockstep keys new --out maker.key
  lockstep keys deal --validators 4 --network my-devnet --rollups 900:alpha,901:beta \\
      --fund \"$(lockstep keys show maker.key)=1000000000\" --out devnet

With --settlement FILE margin may move between the rollups. Deploy the contracts first: the file names them.
  lockstep keys settlement > settlement.toml

Whoever deals has seen every secret. Move each validator-N folder to its machine, correct the addresses under [p2p], and
keep no copy.";

/// Does what was asked, and writes the answer to `out`. Returns when it is done; a node, when it was told to stop.
pub fn run(command: Command, out: &mut dyn Write) -> Result<(), CliError> {
    match command {
        Command::Node(NodeArgs { print_config: true, .. }) => out.write_all(config::EXAMPLE.as_bytes())?,
        Command::Node(NodeArgs { config, .. }) => {
            let path = config.ok_or_else(|| CliError::Arguments("lockstep node needs --config FILE".into()))?;
            let config = Config::load(&path)?;
            node::init_log(&config.log);
            node::raise_file_limit();
            node::block_on(config.threads, node::run(config, node::terminated()))??;
        }
        Command::Mirror(args) => {
            node::init_log(&config::Log::default());
            node::block_on(0, mirror::run(args.into_config()?))??;
        }
        Command::Keys(command) => keys_command(command, out)?,
        Command::Index(IndexCommand::Rebuild { config }) => {
            let config = Config::load(&config)?;
            node::init_log(&config.log);
            node::raise_file_limit();
            let height = node::block_on(config.threads, node::rebuild_index(config))??;
            writeln!(out, "the index is made again up to height {height}")?;
        }
    }
    out.flush()?;
    Ok(())
}

fn keys_command(command: KeysCommand, out: &mut dyn Write) -> Result<(), CliError> {
    match command {
        KeysCommand::New { kind, out: path } => {
            let secret = Secret::generate(kind)?;
            secret.save(&path)?;
            writeln!(out, "{}", secret.public())?;
        }
        KeysCommand::Settlement => out.write_all(keys::SETTLEMENT_EXAMPLE.as_bytes())?,
        KeysCommand::Show { file } => writeln!(out, "{}", Secret::load(&file)?.public())?,
        KeysCommand::Deal(args) => {
            let dealt = keys::deal(args.into_options()?)?;
            writeln!(out, "network {} with {} validators", dealt.genesis.network, dealt.validators.len())?;
            writeln!(out, "group key {}", lockstep_protocol::hex::encode(&dealt.genesis.group_key.0))?;
            for validator in &dealt.validators {
                writeln!(out, "lockstep node --config {}", validator.config.display())?;
            }
        }
    }
    Ok(())
}

impl DealArgs {
    fn into_options(self) -> Result<DealOptions, CliError> {
        let place = |index: u16| {
            let port = |first: u16| first.checked_add(index);
            Some(Place { p2p: (self.host, port(self.p2p_port)?).into(), rpc: (self.host, port(self.rpc_port)?).into() })
        };
        let places = (0..self.validators).map(place).collect::<Option<Vec<_>>>();
        let too_high = || CliError::Arguments("ports end at 65535: choose a lower --p2p-port or --rpc-port".into());
        let mut rollups = self.rollups.clone();
        let settlements = self.settlement.map(|file| keys::load_settlements(&file, &mut rollups)).transpose()?;
        let (settlement, rollup_nodes) = settlements.map(|found| (found.config, found.nodes)).unzip();
        Ok(DealOptions {
            network: self.network.clone(),
            rollups,
            balances: self.fund.clone(),
            places: places.ok_or_else(too_high)?,
            pace: Pace::default(),
            l1: self.l1.clone().map(L1Config::new),
            settlement,
            rollup_nodes: rollup_nodes.unwrap_or_default(),
            out: self.out.clone(),
        })
    }
}

/// Reads `id:name` or `id:name:min-base-fee`.
fn parse_rollup(text: &str) -> Result<Rollup, String> {
    let mut parts = text.split(':');
    let (Some(id), Some(name), fee, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err("expected id:name, for example 900:alpha".into());
    };
    let id = id.parse().map(RollupId).map_err(|_| format!("{id} is not a rollup id, which is a number"))?;
    let min_base_fee = match fee {
        Some(fee) => {
            fee.parse().map_err(|_| format!("{fee} is not a base fee, which is a number of credits a byte"))?
        }
        None => 1,
    };
    Ok(Rollup::new(id, name, Format::Eip2718, min_base_fee))
}

/// Reads `account=credits`.
fn parse_balance(text: &str) -> Result<Balance, String> {
    let (account, credits) = text.split_once('=').ok_or("expected account=credits")?;
    let credits = credits.parse().map_err(|_| format!("{credits} is not a number of credits"))?;
    Ok(Balance { account: keys::parse_account(account)?, credits })
}

#[cfg(test)]
mod tests;
