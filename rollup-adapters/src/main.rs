//! `lockstep-rollup`: makes rollups follow their lanes, posts what they executed to L1, and relays settlements.

use clap::Parser;
use lockstep_adapters::cli::{Command, run};

/// Makes a rollup's stock software follow its Lockstep lane, posts what was executed to L1, and relays settlements.
#[derive(Parser)]
#[command(name = "lockstep-rollup", version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

fn main() -> anyhow::Result<()> {
    let program = Program::parse();
    run(program.command, &mut std::io::stdout())?;
    Ok(())
}
