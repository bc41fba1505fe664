//! How long does a killed network take to come back?
//!
//! `kill -9` of one validator and of all, again and again, under traffic, on one and the same set of folders. At the end every
//! promise is checked, as after any run.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jsonrpsee_core::{client::ClientT, rpc_params};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_protocol::{ids::Height, rpc::FinalHeader};
use lockstep_sequencer::config::Pace;
use serde::Serialize;

use crate::{
    city::City,
    cli::RestartsArgs,
    folder::Folder,
    latency::{Latency, Percentiles},
    load::report::{Tell, Told, progress, tell},
    network::Plan,
    promises::{Promise, all_kept},
    run::{VALIDATORS, interrupted},
};

/// Bundles a second meanwhile: enough that blocks are made at once, little enough that they do not compete with a start.
const RATE: f64 = 20.0;
/// How long a network may take to come back before the measurement gives it up.
const BACK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the network works between two kills.
const BETWEEN: Duration = Duration::from_secs(2);
/// How often it is looked whether a block was made: the resolution of what is measured.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A node that does not answer within this is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

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
    city.begin_traffic(RATE)?;
    let nodes = Nodes::new(&city)?;
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
        let proposes = async {
            let mut height = before.header.height.next();
            while nodes.wait_header(other, height).await?.header.leader != name {
                height = height.next();
            }
            Ok::<_, anyhow::Error>(start.elapsed())
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
        let first = nodes.wait_new_block(before).await?;
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

/// The nodes, each asked on its own: who is down is no reason to ask another.
struct Nodes {
    nodes: Vec<HttpClient>,
    trust: lockstep_sdk::trust::Trust,
}

impl Nodes {
    fn new(city: &City) -> Result<Self> {
        let node = |url: &String| HttpClientBuilder::new().request_timeout(ANSWER_TIMEOUT).build(url);
        let nodes = city.network.urls().iter().map(node).collect::<Result<_, _>>()?;
        Ok(Self { nodes, trust: city.clients()[0].trust().clone() })
    }

    /// What a node says, proven; `None` if it does not answer, or has no such header.
    async fn header(&self, node: usize, height: Option<Height>) -> Result<Option<FinalHeader>> {
        let answer: Result<FinalHeader, _> = self.nodes[node].request("lockstep_getHeader", rpc_params![height]).await;
        let Ok(answer) = answer else { return Ok(None) };
        self.trust.check_header(&answer, height)?;
        Ok(Some(answer))
    }

    /// The tip of a node once it is above `height`.
    async fn wait_tip(&self, node: usize, above: Height) -> Result<FinalHeader> {
        let deadline = Instant::now() + BACK_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(tip) = self.header(node, None).await?.filter(|tip| tip.header.height > above) {
                return Ok(tip);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("validator {node} has no final block above {above} after {BACK_TIMEOUT:?}")
    }

    /// A node's header at `height`, once there is one.
    async fn wait_header(&self, node: usize, height: Height) -> Result<FinalHeader> {
        let deadline = Instant::now() + BACK_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(header) = self.header(node, Some(height)).await? {
                return Ok(header);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("validator {node} has no block at height {height} after {BACK_TIMEOUT:?}")
    }

    /// Waits for a block above `before` that was proposed after now: what a restarted network serves first is the past.
    async fn wait_new_block(&self, before: Height) -> Result<Height> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let deadline = Instant::now() + BACK_TIMEOUT;
        while Instant::now() < deadline {
            for node in 0..self.nodes.len() {
                if let Some(tip) = self.header(node, None).await?
                    && tip.header.height > before
                    && u128::from(tip.header.timestamp_ms) > now.as_millis()
                {
                    return Ok(tip.header.height);
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("no new block above {before} after {BACK_TIMEOUT:?}")
    }
}
