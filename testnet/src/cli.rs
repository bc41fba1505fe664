//! What can be asked of `lockstep-testnet` on the command line?
//!
//! Arguments and their help. Doing it is `run.rs`, `load.rs` and `restarts.rs`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::load::schedule::Arrivals;

const RUN_HELP: &str = "\
Examples:
  cargo run --release                        a network with traffic, until Ctrl-C
  cargo run --release -- --for 30s           the same for 30 seconds; exits with 1 if a promise was broken
  cargo run --release -- --chaos --for 2m    the same while validators, relayers, rollup nodes and L1 are killed
  cargo run --release -- --op-geth           the same with rollup 901 on stock op-geth, derived by stock op-node
  cargo run --release -- --keep --for 10s    and then leave it running, to try the RPC with curl and the SDK's example
  cargo run --release -- load --rate 2000    an open-loop load and its latencies
  cargo run --release -- load --ramp         the highest rate that the network keeps up with
  cargo run --release -- restarts            kill -9, start again, measure

Every validator is a process of its own, with its own folder, keys and ports on 127.0.0.1. Nothing is left behind, unless
you ask for it with --keep or --dir, or something failed.";

const LOAD_HELP: &str = "\
Bundles are signed before the run. Each is due at a time of its own, whether or not the network keeps up, and its latency
counts from then: a network that stalls shows it in the percentiles (no coordinated omission). Finalized means that a
subscriber of one validator received the bundle's leg in a lane item and verified it.

Examples:
  lockstep-testnet load --rate 2000 --for 20s --poisson
  lockstep-testnet load --ramp --json > knee.json";

/// A whole Lockstep network on this machine: four validators, real traffic, and every promise checked.
#[derive(Debug, Parser)]
#[command(name = "lockstep-testnet", version, after_help = RUN_HELP, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Something else than to run the testnet.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run the testnet.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Something else than to run the testnet.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put an open-loop load on a fresh network and measure its latencies.
    #[command(after_help = LOAD_HELP)]
    Load(LoadArgs),
    /// Kill validators with `kill -9`, start them again, and measure how long it takes until they vote.
    Restarts(RestartsArgs),
    /// Run L1 or a rollup's execution client. The testnet starts these itself.
    #[command(hide = true)]
    Chain(ChainArgs),
    /// Drive a rollup or post its batches. The testnet starts these itself.
    #[command(hide = true)]
    Rollup {
        /// Which.
        #[command(subcommand)]
        command: lockstep_adapters::cli::Command,
    },
    /// Run one validator. The testnet starts these itself.
    #[command(hide = true)]
    Node(lockstep_sequencer::cli::NodeArgs),
}

/// Which chain to run.
#[derive(Clone, Debug, Args)]
pub struct ChainArgs {
    /// Its TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// How to run the testnet.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// End after this long, e.g. 30s or 5m; without it, at Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub length: Option<Duration>,
    /// Two-leg bundles a second.
    #[arg(long, value_name = "N", default_value_t = 50.0, value_parser = parse_rate)]
    pub rate: f64,
    /// Margin transfers a second between the venues.
    #[arg(long, value_name = "N", default_value_t = 2.0, value_parser = parse_rate)]
    pub transfers: f64,
    /// Kill validators, relayers, all parts of the rollups and L1 (not anvil) while it runs, and start them again.
    #[arg(long, conflicts_with = "bare")]
    pub chaos: bool,
    /// What the price and the chaos follow from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Validators and lanes only: no L1, no rollups.
    #[arg(long, conflicts_with = "l1")]
    pub bare: bool,
    /// What the rollups are posted to.
    #[arg(long, value_enum, default_value_t)]
    pub l1: L1Choice,
    /// Run rollup 901 on op-geth, and derive it with op-node from L1 alone; rollup-adapters/judges/optimism/run.sh builds both.
    #[arg(long, conflicts_with = "bare")]
    pub op_geth: bool,
    /// When the traffic has ended, leave the network running until Ctrl-C, and keep its folder.
    #[arg(long)]
    pub keep: bool,
    /// Put all files there, and keep them. The folder must be empty, or not exist yet.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// What the rollups are posted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum L1Choice {
    /// The embedded EVM node; batches travel as calldata.
    #[default]
    Embedded,
    /// anvil, which testnet/evm/judges/install.sh installs from npm; batches travel in blobs.
    Anvil,
}

/// What load to put on the network.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// Two-leg bundles a second; with --ramp, the rate to begin with.
    #[arg(long, value_name = "N", default_value_t = 1_000.0, value_parser = parse_rate)]
    pub rate: f64,
    /// How long each rate is held.
    #[arg(long = "for", value_name = "TIME", default_value = "20s", value_parser = parse_time)]
    pub length: Duration,
    /// How much of the beginning is not measured.
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = parse_time)]
    pub warm_up: Duration,
    /// Independent arrivals, as from many clients, instead of evenly spaced ones.
    #[arg(long)]
    pub poisson: bool,
    /// Look for the knee: the highest rate that the network keeps up with. Ends with a run at half of it.
    #[arg(long)]
    pub ramp: bool,
    /// Accounts that send, each with a nonce window of its own.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_096))]
    pub accounts: u16,
    /// HTTP connections to each validator.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub connections: u16,
    /// Most bundles in one JSON-RPC batch.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub batch: u16,
    /// Least time between blocks.
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = parse_time)]
    pub min_interval: Duration,
    /// What the arrivals follow from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// One JSON document on standard output; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Put all files there, and keep them. The folder must be empty, or not exist yet.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl LoadArgs {
    /// The pattern of arrivals that was asked for.
    pub fn arrivals(&self) -> Arrivals {
        if self.poisson { Arrivals::Poisson } else { Arrivals::Fixed }
    }
}

/// What to kill, and how often.
#[derive(Clone, Debug, Args)]
pub struct RestartsArgs {
    /// How often one validator is killed, and how often all are.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub times: u16,
    /// One JSON document on standard output; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Put all files there, and keep them. The folder must be empty, or not exist yet.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Reads `500ms`, `30s`, `5m` or `1h`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text} is not a time: write 500ms, 30s, 5m or 1h");
    let unit = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    let total = number.checked_mul(milliseconds).filter(|total| *total > 0).ok_or_else(expected)?;
    Ok(Duration::from_millis(total))
}

/// Reads a rate that a machine can send.
fn parse_rate(text: &str) -> Result<f64, String> {
    const RATE_MAX: f64 = 1_000_000.0;
    let rate: f64 = text.parse().map_err(|_| format!("{text} is not a number"))?;
    if (0.1..=RATE_MAX).contains(&rate) { Ok(rate) } else { Err(format!("a rate is 0.1 to {RATE_MAX} a second")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read_with_their_unit_and_nothing_else() {
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_time("1h"), Ok(Duration::from_secs(3_600)));
        for bad in ["", "30", "s", "-1s", "1.5s", "0s", "30 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_that_cannot_be_are_refused() {
        assert_eq!(parse_rate("2500"), Ok(2_500.0));
        for bad in ["", "0", "-5", "NaN", "inf", "1e9", "fast"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_bare_command_runs_until_it_is_interrupted() {
        let cli = Cli::try_parse_from(["lockstep-testnet"]).expect("no arguments are needed");
        assert!(cli.command.is_none() && cli.run.length.is_none() && !cli.run.keep);
        let cli = Cli::try_parse_from(["lockstep-testnet", "--for", "30s"]).expect("a length");
        assert_eq!(cli.run.length, Some(Duration::from_secs(30)));
        let cli = Cli::try_parse_from(["lockstep-testnet", "--l1", "anvil"]).expect("an L1");
        assert_eq!(cli.run.l1, L1Choice::Anvil);
        assert!(Cli::try_parse_from(["lockstep-testnet", "--l1", "geth"]).is_err());
        assert!(Cli::try_parse_from(["lockstep-testnet", "--l1", "anvil", "--bare"]).is_err());
        let cli = Cli::try_parse_from(["lockstep-testnet", "--op-geth", "--l1", "anvil"]).expect("stock software");
        assert!(cli.run.op_geth && cli.run.l1 == L1Choice::Anvil);
        assert!(Cli::try_parse_from(["lockstep-testnet", "--op-geth", "--bare"]).is_err());
        let cli = Cli::try_parse_from(["lockstep-testnet", "--chaos", "--transfers", "5"]).expect("chaos");
        assert!(cli.run.chaos && cli.run.transfers == 5.0);
        assert!(Cli::try_parse_from(["lockstep-testnet", "--chaos", "--bare"]).is_err());
        assert!(Cli::try_parse_from(["lockstep-testnet", "--rate", "0"]).is_err());
        assert!(Cli::try_parse_from(["lockstep-testnet", "--keep", "load"]).is_err());
    }
}
