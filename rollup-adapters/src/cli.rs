//! What can be asked of `lockstep-rollup` on the command line?
//!
//! Parses and dispatches. A program that embeds drivers, posters and relayers (the testnet does) runs the same [`Command`]s with [`run`].

use std::{io::Write, net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use tokio::sync::watch;

use crate::settings::{self, Log, LogFormat, SettingsError};

/// What `lockstep-rollup` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make a rollup's execution client follow its lane, until it is told to stop (Ctrl-C or SIGTERM).
    #[command(subcommand)]
    Drive(Drive),
    /// Post a rollup's executed blocks to L1, until it is told to stop.
    #[command(subcommand)]
    Post(Post),
    /// Show the log what a rollup's escrows say, and take the log's decisions to the rollup, until it is told to stop.
    #[command(after_help = RELAY)]
    Relay(StartArgs),
}

/// Drivers, one per stack.
#[derive(Clone, Debug, Subcommand)]
pub enum Drive {
    /// An OP Stack rollup, by the Engine API of op-geth, op-reth or any client that serves it.
    #[command(after_help = DRIVE_OPTIMISM)]
    Optimism(StartArgs),
    /// An Arbitrum Nitro chain, by a sequencer feed that its nodes follow.
    #[command(after_help = DRIVE_ARBITRUM)]
    Arbitrum(StartArgs),
}

/// Posters, one per stack.
#[derive(Clone, Debug, Subcommand)]
pub enum Post {
    /// An OP Stack rollup: span batches to its batch inbox, in calldata or blobs.
    #[command(after_help = POST_OPTIMISM)]
    Optimism(StartArgs),
    /// An Arbitrum Nitro chain: batches to its SequencerInbox, in calldata or blobs.
    #[command(after_help = POST_ARBITRUM)]
    Arbitrum(StartArgs),
}

/// Arguments of everything that is started.
#[derive(Clone, Debug, Args)]
pub struct StartArgs {
    /// The TOML file. Paths in it are relative to it.
    #[arg(long, value_name = "FILE", required_unless_present = "print_config")]
    pub config: Option<PathBuf>,
    /// Where to serve /status, /metrics and /healthz, instead of what the file says.
    #[arg(long, value_name = "ADDRESS")]
    pub status_listen: Option<SocketAddr>,
    /// What to log, instead of what the file says: `info`, or `lockstep_adapters=debug,info`.
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
    /// Print an example with every key and its default, and do nothing else.
    #[arg(long)]
    pub print_config: bool,
}

/// Why a command ended.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration, or what it names.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The arguments contradict each other.
    #[error("{0}")]
    Arguments(&'static str),
    /// The runtime, the status page or the answer.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

const DRIVE_OPTIMISM: &str = "\
What it needs: an execution client with its Engine API and JWT secret, the rollup.json that op-node is started with, an L1
node, one or more Lockstep nodes, and the log's genesis.json (the one thing that is trusted).

  lockstep-rollup drive optimism --print-config > drive.toml
  lockstep-rollup drive optimism --config drive.toml
  curl -s localhost:7300/status

It keeps nothing that it could not find again: stop or kill it at any time, and start it with the same command. Run one
driver per execution client. op-node must not drive the same client.";

const POST_OPTIMISM: &str = "\
What it needs: the rollup's execution client (standard eth_ calls), rollup.json, an L1 node, and the batcher's key, in a file of
mode 0600 or with an external command (see [signer] in the example).

  lockstep-rollup post optimism --print-config > post.toml
  lockstep-rollup post optimism --config post.toml
  curl -s localhost:7301/status

It keeps nothing: what to post next is what L1 does not have yet. Killing it, or running two, loses nothing and posts nothing
twice with effect; two only pay more.";

const DRIVE_ARBITRUM: &str = "\
What it needs: the chain's SequencerInbox on L1, one or more Lockstep nodes, and the log's genesis.json (the one thing that is
trusted). Nitro nodes follow with --node.feed.input.url=ws://HOST:9642; no node of the chain may sequence.

  lockstep-rollup drive arbitrum --print-config > drive.toml
  lockstep-rollup drive arbitrum --config drive.toml
  curl -s localhost:7310/status

Messages and their numbers follow from the lane and from L1 alone: several drivers serve the same feed. Stop or kill it at any
time, and start it with the same command.";

const POST_ARBITRUM: &str = "\
What it needs: the chain's SequencerInbox, which knows the key as a batch poster, an L1 node, one or more Lockstep nodes and the
log's genesis.json, and the key, in a file of mode 0600 or with an external command (see [signer] in the example).

  lockstep-rollup post arbitrum --print-config > post.toml
  lockstep-rollup post arbitrum --config post.toml
  curl -s localhost:7311/status

What to post next is what L1 does not have yet. Killing it, or running two, loses nothing and posts nothing twice; two only pay
more. Each needs a data folder of its own.";

const RELAY: &str = "\
What it needs: a node of the rollup that answers eth_getProof and eth_call, one or more Lockstep nodes, and the log's
genesis.json, which names the rollup's hub and escrows. To apply decisions too: an account of the log with credits, and a key
with ether on the rollup (the calls are ordinary transactions, sent as bundles through the rollup's lane).

  lockstep-rollup relay --print-config > relay.toml
  lockstep-rollup relay --config relay.toml
  curl -s localhost:7320/status

One rollup each. It keeps nothing: what to show follows from the log's open settlements, what to apply from the hub's own place.
Kill it at any time, run as many as you like; give each its own account and key. Without [apply] it only observes, needs neither
key nor credits, and costs nothing.";

/// Does what was asked. Returns when it is done, or was told to stop.
pub fn run(command: Command, out: &mut dyn Write) -> Result<(), CliError> {
    match command {
        Command::Drive(Drive::Optimism(args)) => {
            if args.print_config {
                return Ok(out.write_all(settings::optimism::DRIVE_EXAMPLE.as_bytes())?);
            }
            let mut settings = settings::optimism::DriveSettings::load(&args.path()?)?;
            args.apply(&mut settings.status.listen, &mut settings.log);
            start(&settings.log.clone(), |stop| settings::optimism::drive(settings, stop))
        }
        Command::Drive(Drive::Arbitrum(args)) => {
            if args.print_config {
                return Ok(out.write_all(settings::arbitrum::DRIVE_EXAMPLE.as_bytes())?);
            }
            let mut settings = settings::arbitrum::DriveSettings::load(&args.path()?)?;
            args.apply(&mut settings.status.listen, &mut settings.log);
            start(&settings.log.clone(), |stop| settings::arbitrum::drive(settings, stop))
        }
        Command::Relay(args) => {
            if args.print_config {
                return Ok(out.write_all(settings::relay::EXAMPLE.as_bytes())?);
            }
            let mut settings = settings::relay::RelaySettings::load(&args.path()?)?;
            args.apply(&mut settings.status.listen, &mut settings.log);
            start(&settings.log.clone(), |stop| settings::relay::relay(settings, stop))
        }
        Command::Post(Post::Arbitrum(args)) => {
            if args.print_config {
                return Ok(out.write_all(settings::arbitrum::POST_EXAMPLE.as_bytes())?);
            }
            let mut settings = settings::arbitrum::PostSettings::load(&args.path()?)?;
            args.apply(&mut settings.status.listen, &mut settings.log);
            start(&settings.log.clone(), |stop| settings::arbitrum::post(settings, stop))
        }
        Command::Post(Post::Optimism(args)) => {
            if args.print_config {
                return Ok(out.write_all(settings::optimism::POST_EXAMPLE.as_bytes())?);
            }
            let mut settings = settings::optimism::PostSettings::load(&args.path()?)?;
            args.apply(&mut settings.status.listen, &mut settings.log);
            start(&settings.log.clone(), |stop| settings::optimism::post(settings, stop))
        }
    }
}

impl StartArgs {
    /// The file.
    pub fn path(&self) -> Result<PathBuf, CliError> {
        self.config.clone().ok_or(CliError::Arguments("--config FILE is needed"))
    }

    /// Puts flags over what the file says.
    pub fn apply(&self, listen: &mut SocketAddr, log: &mut Log) {
        if let Some(address) = self.status_listen {
            *listen = address;
        }
        if let Some(filter) = &self.log {
            log.filter.clone_from(filter);
        }
    }
}

/// Runs something on a runtime of its own until it ends or the process is told to stop.
pub fn start<F>(log: &Log, run: impl FnOnce(watch::Receiver<bool>) -> F) -> Result<(), CliError>
where
    F: Future<Output = Result<(), SettingsError>>,
{
    init_log(log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (tell, stop) = watch::channel(false);
        tokio::spawn(async move {
            terminated().await;
            tracing::info!("told to stop");
            tell.send_replace(true);
        });
        run(stop).await
    })?;
    // What still runs in the background has nothing to lose.
    runtime.shutdown_background();
    Ok(())
}

fn init_log(log: &Log) {
    let filter = tracing_subscriber::EnvFilter::try_new(&log.filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    // A program that embeds this may have its own already.
    let _ = match log.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// Returns at Ctrl-C or SIGTERM.
async fn terminated() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupted.await;
}
