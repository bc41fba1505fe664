//! `lockstep-testnet`: the whole city on one machine.

use std::{io, process::ExitCode, thread};

use clap::Parser;
use lockstep_testnet::{
    chain,
    cli::{Cli, Command},
    load, restarts, run,
};

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(Command::Node(args)) = cli.command {
        die_with_parent();
        lockstep_sequencer::cli::run(lockstep_sequencer::cli::Command::Node(args), &mut io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Rollup { command }) = cli.command {
        die_with_parent();
        lockstep_adapters::cli::run(command, &mut io::stdout())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Chain(args)) = &cli.command {
        die_with_parent();
        tracing_subscriber::fmt().with_writer(io::stderr).with_env_filter("info").init();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(chain::run(chain::ChainSettings::load(&args.config)?, run::interrupted()))?;
        return Ok(ExitCode::SUCCESS);
    }
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let kept = runtime.block_on(async {
        match cli.command {
            None => run::run(cli.run).await,
            Some(Command::Load(args)) => load::load(args).await,
            Some(Command::Restarts(args)) => restarts::restarts(args).await,
            Some(Command::Node(_) | Command::Chain(_) | Command::Rollup { .. }) => {
                unreachable!("the parts have runtimes of their own")
            }
        }
    })?;
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ends this process when the testnet that started it is gone, in whatever way: it holds the other end of standard input.
fn die_with_parent() {
    thread::spawn(|| {
        // Nothing is ever written there, so reading ends when the other end is closed.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // A validator survives being killed, so there is nothing to clean up.
        std::process::exit(0);
    });
}
