//! The testnet as a person sees it: start, watch, and the summary at the end.
//!
//! Everything that happens is the city's; here it is told.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lockstep_sequencer::config::Pace;

use crate::{
    chaos::Chaos,
    city::{City, Ending},
    cli::{L1Choice, RunArgs},
    folder::Folder,
    levels,
    network::Plan,
    promises::all_kept,
    rollups::{L1Kind, OpStack},
    screen::Screen,
    table,
    visitor::{self, Visitor},
    whole::{self, Choices, Step},
};

/// Validators of the testnet: the fewest of which one may fail.
pub(crate) const VALIDATORS: usize = 4;
/// Nodes at which the followers begin.
const FOLLOWERS: [usize; 2] = [0, 2];
/// How often the table is drawn.
const REDRAW: Duration = Duration::from_millis(250);
/// How often a line is printed where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Runs the testnet. Returns whether every promise was kept.
pub async fn run(args: RunArgs) -> Result<bool> {
    let mut screen = Screen::stdout();
    let mut folder = Folder::new(args.dir.as_deref())?;
    if args.keep {
        folder.keep();
    }
    let kept = play(&args, &mut screen, &folder).await;
    if !matches!(kept, Ok(true)) {
        folder.keep();
        screen.print(&format!("The logs and data of the run are in {}", folder.path().display()));
    }
    kept
}

async fn play(args: &RunArgs, screen: &mut Screen, folder: &Folder) -> Result<bool> {
    screen.print(&format!("Dealing a network of {VALIDATORS} validators into {}", folder.path().display()));
    let visitor = visitor::Visitor::new();
    let started = tokio::select! {
        city = start(args, screen, folder, &visitor) => Some(city?),
        () = interrupted() => None,
    };
    let Some(mut city) = started else {
        screen.print("Interrupted before the network was ready.");
        return Ok(true);
    };
    let client_file = visitor.write_client_file(folder.path(), &city.network, city.venues())?;
    if args.keep {
        screen.print(&visitor.guide(&city.network, city.venues(), &client_file));
    }
    city.begin_trading(Some(args.transfers), args.seed);
    city.begin_traffic(args.rate);
    screen.print(&sending(args));
    let mut chaos = args.chaos.then(|| Chaos::new(args.seed));
    show(&mut city, screen, args.length, &mut chaos).await?;
    if let Some(chaos) = &mut chaos {
        screen.print("\nNothing is killed any more; everything comes back ...");
        chaos.end(&mut city)?;
        city.all_back().await?;
    }
    screen.print("\nNo more bundles are sent; waiting for the outcome of those on the way ...");
    let finished = tokio::select! {
        ending = city.finish() => Some(ending),
        () = interrupted() => None,
    };
    let Some(ending) = finished else {
        screen.print("Interrupted again: the promises were not checked.");
        city.stop_all().await?;
        return Ok(false);
    };
    screen.print(&summary(&ending, chaos.as_ref()));
    let kept = all_kept(&ending.promises);
    if args.keep {
        screen.print("The network goes on, without traffic, until Ctrl-C.");
        interrupted().await;
    }
    city.stop_all().await?;
    screen.print("Everything stopped.");
    Ok(kept)
}

async fn start(args: &RunArgs, screen: &mut Screen, folder: &Folder, visitor: &Visitor) -> Result<City> {
    let op_stack = if args.op_geth { Some(OpStack::find()?) } else { None };
    if let Some(stack) = &op_stack {
        screen.print(&format!("  {}", stack.told()));
    }
    let began = Instant::now();
    let mut last = None;
    let mut tell = |step| {
        if last.replace(step) == Some(step) {
            return;
        }
        let what = match step {
            Step::Validators(ready) => format!("{ready} of {VALIDATORS} validators ready"),
            Step::Rollups => {
                "an OP Stack rollup and a Nitro-style rollup, each with driver, poster and relayer".to_owned()
            }
            Step::Venues => "a venue on each, created by one bundle".to_owned(),
        };
        screen.print(&format!("  {what} ({:.1} s)", began.elapsed().as_secs_f64()));
    };
    let executable = std::env::current_exe().context("finding this executable")?;
    let (folder, balances) = (folder.path().to_owned(), vec![visitor.balance()]);
    if args.bare {
        let pace = Pace::default();
        let plan = Plan { executable, folder, validators: VALIDATORS, balances, pace, l1: None, settlement: None };
        return City::start(plan, &FOLLOWERS, |ready| tell(Step::Validators(ready))).await;
    }
    let l1 = match args.l1 {
        L1Choice::Embedded => L1Kind::Embedded,
        L1Choice::Anvil => L1Kind::find_anvil()?,
    };
    let choices = Choices {
        executable,
        folder,
        validators: VALIDATORS,
        followers: FOLLOWERS.to_vec(),
        l1,
        op_stack,
        balances,
        visitor: visitor.wallet(),
        standby: args.chaos,
    };
    whole::start(choices, tell).await
}

/// Shows the city until `length` is over or somebody has enough.
async fn show(city: &mut City, screen: &mut Screen, length: Option<Duration>, chaos: &mut Option<Chaos>) -> Result<()> {
    let every = if screen.is_terminal() { REDRAW } else { LINE };
    let mut tick = tokio::time::interval(every);
    let mut kill = tokio::time::interval(REDRAW);
    let over = async {
        match length {
            Some(length) => tokio::time::sleep(length).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    let enough = interrupted();
    tokio::pin!(enough);
    loop {
        tokio::select! {
            _ = tick.tick() => draw(city, screen, chaos),
            _ = kill.tick() => {
                if let Some(chaos) = chaos {
                    chaos.step(city)?;
                }
            }
            () = &mut over => break,
            () = &mut enough => break,
        }
    }
    draw(city, screen, chaos);
    Ok(())
}

fn draw(city: &mut City, screen: &mut Screen, chaos: &Option<Chaos>) {
    let snapshot = table::Snapshot { kills: chaos.as_ref().map(|chaos| chaos.kills().clone()), ..city.snapshot() };
    if screen.is_terminal() {
        screen.draw(&snapshot.table());
    } else {
        screen.print(&snapshot.line());
    }
}

fn sending(args: &RunArgs) -> String {
    let mut text = format!("Sending {} two-leg bundles a second", args.rate);
    if !args.bare {
        text.push_str(&format!(
            ", and moving margin between the venues {} times a second (seed {})",
            args.transfers, args.seed
        ));
    }
    format!("{text}. {}\n", ending(args))
}

fn ending(args: &RunArgs) -> String {
    match args.length {
        Some(length) => format!("Ends after {length:?}, or at Ctrl-C."),
        None => "Ends at Ctrl-C.".to_owned(),
    }
}

/// The run in a few lines.
fn summary(ending: &Ending, chaos: Option<&Chaos>) -> String {
    let Ending { elapsed, height, counts, finality, chains, climbs, venues, promises } = ending;
    let list = |counts: &std::collections::BTreeMap<String, u64>| {
        let parts: Vec<_> = counts.iter().map(|(name, count)| format!(", {count} {name}")).collect();
        parts.concat()
    };
    let mut lines = vec![
        format!("\nRan for {:.1} s, up to height {height}.", elapsed.as_secs_f64()),
        format!(
            "Bundles: {} sent, {} accepted, {} ordered{}; refused: {}{}",
            counts.sent,
            counts.accepted,
            counts.ordered,
            list(&counts.not_ordered),
            counts.refused.values().sum::<u64>(),
            list(&counts.refused),
        ),
        format!(
            "Finality, from submitting to the proven outcome: p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, max {:.0} ms",
            finality.p50_ms, finality.p90_ms, finality.p99_ms, finality.max_ms
        ),
    ];
    if let Some(venues) = venues {
        let posted = chains.rollups.iter().filter_map(|rollup| rollup.bytes).sum();
        lines.extend(table::margin::summary(venues, *elapsed, posted));
    }
    lines.extend(levels::summary(climbs));
    lines.extend(chaos.map(|chaos| table::margin::killed(chaos.kills())));
    lines.push("Promises:".to_owned());
    lines.extend(promises.iter().map(|promise| format!("  {promise}")));
    lines.join("\n")
}

/// Waits for Ctrl-C, or to be asked to stop.
pub async fn interrupted() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(signal) => signal,
        Err(error) => {
            tracing::warn!(%error, "cannot listen for SIGTERM");
            return std::future::pending().await;
        }
    };
    tokio::select! {
        result = tokio::signal::ctrl_c() => {
            if let Err(error) = result {
                tracing::warn!(%error, "cannot listen for Ctrl-C");
                std::future::pending::<()>().await;
            }
        }
        _ = terminate.recv() => {}
    }
}
