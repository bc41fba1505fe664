//! `lockstep`: a validator of the shared sequencer, and the tools around it.

use clap::Parser;
use lockstep_sequencer::cli::{Command, run};

/// Orders bundles that span several rollups, atomically and with one certain outcome.
#[derive(Parser)]
#[command(name = "lockstep", version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

fn main() -> anyhow::Result<()> {
    let program = Program::parse();
    run(program.command, &mut std::io::stdout().lock())?;
    Ok(())
}
