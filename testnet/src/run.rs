//! The testnet as a person sees it: start, watch, and the summary at the end.
//!
//! Everything that happens is the city's; here it is told.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lockstep_sequencer::config::{L1Config, Pace};

use crate::{
    city::{City, Ending},
    cli::{L1Choice, RunArgs},
    folder::Folder,
    network::Plan,
    promises::all_kept,
    rollups::{L1Kind, Rollups},
    screen::Screen,
    visitor,
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
    let began = Instant::now();
    screen.print(&format!("Dealing a network of {VALIDATORS} validators into {}", folder.path().display()));
    let visitor = visitor::Visitor::new();
    let executable = std::env::current_exe().context("finding this executable")?;
    let l1 = match args.bare {
        true => None,
        false => {
            let kind = match args.l1 {
                L1Choice::Embedded => L1Kind::Embedded,
                L1Choice::Anvil => L1Kind::find_anvil()?,
            };
            Some(Rollups::start_l1(&executable, folder.path(), City::wallets(), kind).await?)
        }
    };
    let plan = Plan {
        executable: executable.clone(),
        folder: folder.path().to_owned(),
        validators: VALIDATORS,
        balances: vec![visitor.balance()],
        pace: Pace::default(),
        l1: l1.as_ref().map(|l1| L1Config { confirmations: 1, poll_ms: 200, ..L1Config::new(l1.url()) }),
    };
    let mut shown = None;
    let starting = City::start(plan, &FOLLOWERS, |ready| {
        if shown != Some(ready) {
            shown = Some(ready);
            screen
                .print(&format!("  {ready} of {VALIDATORS} validators ready ({:.1} s)", began.elapsed().as_secs_f64()));
        }
    });
    let started = tokio::select! {
        city = starting => Some(city?),
        () = interrupted() => None,
    };
    let Some(mut city) = started else {
        screen.print("Interrupted before the network was ready.");
        return Ok(true);
    };
    if let Some(l1) = l1 {
        screen.print("  an OP Stack rollup and a Nitro-style rollup, with their drivers and posters");
        city.join_rollups(l1).await?;
    }
    let client_file = visitor.write_client_file(folder.path(), &city.network)?;
    if args.keep {
        screen.print(&visitor.guide(&city.network, &client_file));
    }
    city.begin_traffic(args.rate);
    screen.print(&format!("Sending {} two-leg bundles a second. {}\n", args.rate, ending(args)));
    show(&mut city, screen, args.length).await;
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
    screen.print(&summary(&ending));
    let kept = all_kept(&ending.promises);
    if args.keep {
        screen.print("The network goes on, without traffic, until Ctrl-C.");
        interrupted().await;
    }
    city.stop_all().await?;
    screen.print("Everything stopped.");
    Ok(kept)
}

/// Shows the city until `length` is over or somebody has enough.
async fn show(city: &mut City, screen: &mut Screen, length: Option<Duration>) {
    let every = if screen.is_terminal() { REDRAW } else { LINE };
    let mut tick = tokio::time::interval(every);
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
            _ = tick.tick() => {}
            () = &mut over => break,
            () = &mut enough => break,
        }
        draw(city, screen);
    }
    draw(city, screen);
}

fn draw(city: &mut City, screen: &mut Screen) {
    let snapshot = city.snapshot();
    if screen.is_terminal() {
        screen.draw(&snapshot.table());
    } else {
        screen.print(&snapshot.line());
    }
}

fn ending(args: &RunArgs) -> String {
    match args.length {
        Some(length) => format!("Ends after {length:?}, or at Ctrl-C."),
        None => "Ends at Ctrl-C.".to_owned(),
    }
}

/// The run in a few lines.
fn summary(ending: &Ending) -> String {
    let Ending { elapsed, height, counts, finality, promises } = ending;
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
        "Promises:".to_owned(),
    ];
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
