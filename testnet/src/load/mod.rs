//! How much does the network carry, and how fast?
//!
//! An open-loop load against validator processes on this machine. `schedule` says when bundles are due, `window` which may be
//! sent, `send` sends them, `arrive` sees them finalized, `step` measures one rate, `ramp` chooses the next, `report` tells.

mod arrive;
pub mod ramp;
pub mod report;
pub mod schedule;
mod send;
pub mod step;
mod window;

use anyhow::{Context, Result};
use lockstep_protocol::ids::Height;
use lockstep_sdk::{Client, client::Config, trust::Trust};
use lockstep_sequencer::config::Pace;
use std::{sync::Arc, time::Duration};

use crate::{
    accounts::{self, Sender},
    cli::LoadArgs,
    folder::Folder,
    network::{Network, Plan},
    run::{VALIDATORS, interrupted},
};
use ramp::Ramp;
use report::{Report, Told};
use step::StepReport;

/// How long the network may take until all of its validators serve.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two rates, in which the network comes to rest.
const REST: Duration = Duration::from_secs(2);

/// A network under load, and everything that loads it.
pub(crate) struct Stand {
    pub(crate) network: Network,
    pub(crate) client: Client,
    pub(crate) senders: Vec<Sender>,
    pub(crate) args: LoadArgs,
}

/// Puts the load on a fresh network and tells what was measured. Returns whether the network did what it promises.
pub async fn load(args: LoadArgs) -> Result<bool> {
    let mut folder = Folder::new(args.dir.as_deref())?;
    let result = tokio::select! {
        result = measure(args, &folder) => result,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    if !matches!(result, Ok(true)) {
        folder.keep();
        report::progress(&format!("The logs and data of the run are in {}", folder.path().display()));
    }
    result
}

async fn measure(args: LoadArgs, folder: &Folder) -> Result<bool> {
    let json = args.json;
    let mut stand = Stand::start(args, folder).await?;
    let mut report = Report::new(&stand.args);
    let arrivals = arrive::Arrived::watch(stand.client.clone()).await?;
    if stand.args.ramp {
        let mut ramp = Ramp::new(stand.args.rate);
        while let Some(rate) = ramp.rate() {
            let step = stand.step(rate, &arrivals).await?;
            ramp.tried(step.judge().is_ok());
            report.add(step);
        }
        report.knee = ramp.knee();
        if let Some(knee) = report.knee {
            report::progress(&format!("The knee is at {knee:.0} bundles a second; at half of it:"));
            report.half_knee = Some(stand.step(knee / 2.0, &arrivals).await?);
        }
    } else {
        let step = stand.step(stand.args.rate, &arrivals).await?;
        report.add(step);
    }
    drop(arrivals);
    let stopped = stand.network.stop_all().await;
    report::tell(&report, if json { Told::Json } else { Told::Text });
    stopped?;
    Ok(report.is_sound())
}

impl Stand {
    async fn start(args: LoadArgs, folder: &Folder) -> Result<Self> {
        let senders = accounts::fast(usize::from(args.accounts));
        let heartbeat_ms = Pace::default().heartbeat_ms;
        let min_interval_ms = u64::try_from(args.min_interval.as_millis()).unwrap_or(u64::MAX);
        let mut network = Network::deal(Plan {
            executable: std::env::current_exe().context("finding this executable")?,
            folder: folder.path().to_owned(),
            validators: VALIDATORS,
            balances: accounts::balances(&senders),
            pace: Pace { min_interval_ms, heartbeat_ms },
            l1: None,
            settlement: None,
        })?;
        network.start_all()?;
        network.all_ready(READY_TIMEOUT, |_| {}).await?;
        let trust = Trust::from_genesis(network.genesis())?;
        let client = Client::new(trust, Config { nodes: network.urls(), ..Config::default() })?;
        // The genesis allocations are there from block 1 on.
        while client.tip().await?.header.height < Height(1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Self { network, client, senders, args })
    }

    /// Measures one rate, tells of it, and lets the network rest.
    async fn step(&mut self, rate: f64, arrivals: &Arc<arrive::Arrived>) -> Result<StepReport> {
        let step = step::run(self, rate, arrivals).await?;
        report::progress(&step.line());
        tokio::time::sleep(REST).await;
        // Bundles that were refused left nonces behind that nobody will use: begin after the last that was.
        for sender in &self.senders {
            if let Some(record) = self.client.account(sender.account()).await?.value {
                sender.resume(record.nonces.next());
            }
        }
        Ok(step)
    }
}
