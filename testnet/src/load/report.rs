//! How is a measurement told, to people and to programs?

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use serde::Serialize;

use super::step::StepReport;
use crate::cli::LoadArgs;

/// In which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A table.
    Text,
    /// One JSON document.
    Json,
}

/// All that was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What this machine offers to validators and load together.
    pub cores: usize,
    /// How the load was made.
    pub load: Load,
    /// Each rate that was tried.
    pub steps: Vec<StepReport>,
    /// The highest rate that the network kept up with, if it was looked for.
    pub knee: Option<f64>,
    /// A run at half of it.
    pub half_knee: Option<StepReport>,
}

/// How the load was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the fields are the arguments of the same names")]
pub struct Load {
    pub seconds: f64,
    pub warm_up_seconds: f64,
    pub poisson: bool,
    pub accounts: u16,
    pub connections: u16,
    pub batch: u16,
    pub min_interval_ms: f64,
    pub seed: u64,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(args: &LoadArgs) -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            load: Load {
                seconds: args.length.as_secs_f64(),
                warm_up_seconds: args.warm_up.as_secs_f64(),
                poisson: args.poisson,
                accounts: args.accounts,
                connections: args.connections,
                batch: args.batch,
                min_interval_ms: args.min_interval.as_secs_f64() * 1_000.0,
                seed: args.seed,
            },
            steps: Vec::new(),
            knee: None,
            half_knee: None,
        }
    }

    /// Adds a rate that was tried.
    pub fn add(&mut self, step: StepReport) {
        self.steps.push(step);
    }

    /// Whether nothing was lost and nothing was ordered twice. Being slow is no fault.
    pub fn is_sound(&self) -> bool {
        self.steps.iter().chain(&self.half_knee).all(|step| step.missing == 0 && step.repeated == 0)
    }
}

const HEAD: &str = "\
 offered  achieved    p50 ms    p90 ms    p99 ms    max ms  refused  blocks/s  late p99  judgement\n";

impl StepReport {
    /// One row of the table.
    pub fn line(&self) -> String {
        let latency = self.step.latency;
        let judgement = match self.judge() {
            Ok(()) => "kept up".to_owned(),
            Err(reason) => reason,
        };
        let mut line = format!(
            "{:>8.0} {:>9.0} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>8} {:>9.1} {:>9.1}  {judgement}",
            self.step.offered,
            self.step.achieved,
            latency.p50_ms,
            latency.p90_ms,
            latency.p99_ms,
            latency.max_ms,
            self.step.refused,
            self.block_rate,
            self.late.p99_ms,
        );
        for (reason, count) in self.refusals.iter().chain(&self.unanswered) {
            let _ = write!(line, "; {count} {reason}");
        }
        if self.held_back > 0 {
            let _ = write!(line, "; {} waited for a nonce window", self.held_back);
        }
        line
    }
}

fn costs(step: &StepReport) -> String {
    let mut text = "\n process       cores   cpu ms/bundle   memory MiB   peak MiB   written MiB\n".to_owned();
    let measured = step.step.latency.count.max(1) as f64;
    let names = (0..step.nodes.len()).map(|index| format!("validator {index}"));
    let rows = names.zip(step.nodes.iter().copied()).chain([("load".to_owned(), step.generator)]);
    for (name, cost) in rows {
        let _ = match cost {
            Some(cost) => writeln!(
                text,
                " {name:<12} {:>6.2} {:>15.3} {:>12.1} {:>10.1} {:>13.1}",
                cost.cores,
                cost.cpu_seconds * 1_000.0 / measured,
                cost.memory_mib,
                cost.memory_peak_mib,
                cost.written_mib
            ),
            None => writeln!(text, " {name:<12} (not known on this system)"),
        };
    }
    text
}

/// Tells the whole report on standard output.
pub fn tell(report: &impl Tell, told: Told) {
    let text = match told {
        Told::Text => report.text(),
        Told::Json => report.json() + "\n",
    };
    // A reader that went away has seen enough.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

/// What can be told in both forms.
pub trait Tell {
    /// For people.
    fn text(&self) -> String;
    /// For programs.
    fn json(&self) -> String;
}

impl Tell for Report {
    fn text(&self) -> String {
        let mut text = format!(
            "\nOpen-loop load on 4 validators and this process, {} cores for all of them together.\n\
             Latency from the intended send to the verified lane item, of {} s after {} s of warm-up.\n\n",
            self.cores, self.load.seconds, self.load.warm_up_seconds
        );
        text.push_str(HEAD);
        for step in &self.steps {
            let _ = writeln!(text, "{}", step.line());
        }
        if let Some(knee) = self.knee {
            let _ = writeln!(text, "\nKnee: {knee:.0} two-leg bundles a second.");
        }
        if let Some(step) = &self.half_knee {
            let _ = write!(text, "At half of it:\n{HEAD}{}\n", step.line());
        }
        if let Some(step) = self.half_knee.as_ref().or(self.steps.last()) {
            text.push_str(&costs(step));
        }
        text
    }

    fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("figures have a JSON form")
    }
}

/// Tells how far a measurement has come, on standard error.
pub fn progress(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
