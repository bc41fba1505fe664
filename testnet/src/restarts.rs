//! How long does a killed network take to come back?
//!
//! `kill -9` of one validator and of all, again and again, under traffic, on one and the same set of folders. At the end every
//! promise is checked, as after any run.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use lockstep_protocol::ids::Height;
use lockstep_sequencer::config::Pace;
use serde::Serialize;

use crate::{
    city::City,
    cli::RestartsArgs,
    folder::Folder,
    latency::{Latency, Percentiles},
    load::report::{Tell, Told, progress, tell},
    network::Plan,
    nodes::{BACK_TIMEOUT, LOOK_AGAIN, Nodes},
    promises::{Promise, all_kept},
    run::{VALIDATORS, interrupted},
};

/// Bundles a second meanwhile: enough that blocks are made at once, little enough that they do not compete with a start.
const RATE: f64 = 20.0;
/// How long the network works between two kills.
const BETWEEN: Duration = Duration::from_secs(2);

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Kills of one validator, and of all.
    pub times: u16,
    /// From starting one killed validator until it serves at the network's height.
    pub one_ready: Percentiles,
    /// From starting one killed validator until a block that it proposed is final: by then it votes.
    pub one_proposes: Percentiles,
    /// From starting all killed validators until a new block is final.
    pub all_first_block: Percentiles,
    /// From starting all killed validators until all serve that block.
    pub all_ready: Percentiles,
    /// What was promised, and whether it was kept through all of it.
    pub promises: Vec<Promise>,
}

/// Measures restarts. Returns whether every promise was kept.
pub async fn restarts(args: RestartsArgs) -> Result<bool> {
    let mut folder = Folder::new(args.dir.as_deref())?;
    let executable = std::env::current_exe().context("finding this executable")?;
    let plan = Plan {
        executable,
        folder: folder.path().to_owned(),
        validators: VALIDATORS,
        balances: Vec::new(),
        pace: Pace::default(),
        l1: None,
        settlement: None,
    };
    let result = tokio::select! {
        result = measure(plan, args.times) => result,
        () = interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    let kept = result.as_ref().is_ok_and(|figures| all_kept(&figures.promises));
    if !kept {
        folder.keep();
        progress(&format!("The logs and data of the run are in {}", folder.path().display()));
    }
    tell(&result?, if args.json { Told::Json } else { Told::Text });
    Ok(kept)
}

/// Kills one validator after the other `times` times, and all of them `times` times.
pub async fn measure(plan: Plan, times: u16) -> Result<Figures> {
    let mut city = City::start(plan, &[0, 2], |_| {}).await?;
    city.begin_traffic(RATE);
    let nodes = Nodes::new(&city.network)?;
    let (mut one_ready, mut one_proposes) = (Latency::default(), Latency::default());
    let (mut all_ready, mut all_first_block) = (Latency::default(), Latency::default());
    for turn in 0..usize::from(times) {
        tokio::time::sleep(BETWEEN).await;
        let index = turn % VALIDATORS;
        city.network.kill(index)?;
        let other = (index + 1) % VALIDATORS;
        let before = nodes.wait_tip(other, Height(0)).await?;
        let start = Instant::now();
        city.network.start(index)?;
        let name = city.network.validators()[index].name;
        let started_ms = now_ms();
        let proposes = async {
            let mut height = before.header.height.next();
            loop {
                // What it proposed before it was killed may become final afterwards.
                let header = nodes.wait_header(other, height).await?.header;
                if header.leader == name && header.timestamp_ms > started_ms {
                    return Ok::<_, anyhow::Error>(start.elapsed());
                }
                height = height.next();
            }
        };
        let serves = async {
            nodes.wait_tip(index, before.header.height).await?;
            Ok(start.elapsed())
        };
        let (proposes, ready) = tokio::try_join!(proposes, serves)?;
        one_ready.record(ready);
        one_proposes.record(proposes);
        progress(&format!(
            "{} of {times}: validator {index} serves after {ready:.2?}, proposes after {proposes:.2?}",
            turn + 1
        ));
    }
    for turn in 0..times {
        tokio::time::sleep(BETWEEN).await;
        let before = nodes.wait_tip(0, Height(0)).await?.header.height;
        city.network.kill_all()?;
        let start = Instant::now();
        city.network.start_all()?;
        let first = wait_new_block(&nodes, before).await?;
        let first_after = start.elapsed();
        for node in 0..VALIDATORS {
            nodes.wait_tip(node, Height(first.0.saturating_sub(1))).await?;
        }
        let (first, ready) = (first_after, start.elapsed());
        all_first_block.record(first);
        all_ready.record(ready);
        progress(&format!(
            "{} of {times}: all killed; first new block after {first:.2?}, all have it after {ready:.2?}",
            turn + 1
        ));
    }
    let ending = city.finish().await;
    city.network.stop_all().await?;
    Ok(Figures {
        times,
        one_ready: one_ready.percentiles(),
        one_proposes: one_proposes.percentiles(),
        all_first_block: all_first_block.percentiles(),
        all_ready: all_ready.percentiles(),
        promises: ending.promises,
    })
}

impl Tell for Figures {
    fn text(&self) -> String {
        let times = self.times;
        let row = |what: &str, found: &Percentiles| {
            format!(
                "  {what:<52} {:>3} of {times}  p50 {:>6.0} ms  max {:>6.0} ms",
                found.count, found.p50_ms, found.max_ms
            )
        };
        let mut lines = vec![
            "\nkill -9, and start again; times from starting the process".to_owned(),
            row("one killed: serves at the network's height", &self.one_ready),
            row("one killed: a block that it proposed is final", &self.one_proposes),
            row("all killed: a new block is final", &self.all_first_block),
            row("all killed: all serve that block", &self.all_ready),
            "Promises:".to_owned(),
        ];
        lines.extend(self.promises.iter().map(|promise| format!("  {promise}")));
        lines.join("\n") + "\n"
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("figures have a JSON form")
    }
}

/// Waits for a block above `before` that was proposed after now: what a restarted network serves first is the past.
async fn wait_new_block(nodes: &Nodes, before: Height) -> Result<Height> {
    let started_ms = now_ms();
    let deadline = Instant::now() + BACK_TIMEOUT;
    while Instant::now() < deadline {
        for node in 0..VALIDATORS {
            if let Some(tip) = nodes.header(node, None).await?
                && tip.header.height > before
                && tip.header.timestamp_ms > started_ms
            {
                return Ok(tip.header.height);
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    bail!("no new block above {before} after {BACK_TIMEOUT:?}")
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
