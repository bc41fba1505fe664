//! Where are signatures checked, so that the network never waits for it?
//!
//! On one thread of its own: a certificate costs most of a millisecond. Messages come in over a bounded queue and are
//! judged by `lanes.rs`; verdicts go out at once, verified items are kept in batches.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use libp2p::PeerId;
use lockstep_protocol::{
    ids::{Height, RollupId},
    lane::LaneItem,
    rpc::QueryError,
    wire::Wire,
};
use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    lanes::{Lanes, Outcome, Page, Ticket, Verdict},
    wire::{self, Fault, RangeAnswer},
};

/// Messages that wait to be judged.
const MAX_QUEUED_MESSAGES: usize = 1_024;
/// Bytes of gossip that wait to be judged; more is ignored, and comes by range.
const MAX_QUEUED_BYTES: usize = 32 * 1024 * 1024;
/// Reports that wait to be taken; the network takes them before anything else.
const MAX_QUEUED_REPORTS: usize = 256;
/// Messages judged before what they brought is kept: one commit for many items, where many come.
const MAX_BATCH: usize = 64;

/// Keeps verified items, in order. An error stops the service.
pub(super) type Keep = Box<dyn FnMut(&[Arc<LaneItem>]) -> Result<(), String> + Send>;

/// What is to be judged.
pub(super) enum Input {
    /// A message of a lane's topic.
    Gossip { topic: RollupId, bytes: Vec<u8>, ticket: Ticket },
    /// An answer to a request for a range.
    Page { rollup: RollupId, from: Height, max_items: u16, peer: PeerId, bytes: Vec<u8> },
    /// An item of our own source.
    Own(Arc<LaneItem>),
}

/// What came of it.
pub(super) enum Report {
    /// Verdicts on gossip.
    Verdicts(Vec<(Ticket, Verdict)>),
    /// What a peer's page was worth.
    Page { rollup: RollupId, peer: PeerId, worth: Worth },
    /// A lane moved, or has items waiting for others before them.
    Lane { rollup: RollupId, height: Height, waiting: bool },
    /// Items were verified.
    Verified(u64),
    /// Items could not be kept.
    Failed(String),
}

/// What a peer's page was worth.
pub(super) enum Worth {
    /// Items; there may be more.
    Items,
    /// Everything up to the peer's tip.
    Tip,
    /// The peer could not answer.
    Refused(QueryError),
    /// It does not prove itself.
    Faulty(Fault),
}

/// The queue to the thread that judges.
#[derive(Clone)]
pub(super) struct Queue {
    inputs: mpsc::Sender<Input>,
    gossip_bytes: Arc<AtomicUsize>,
}

impl Queue {
    /// Hands in a message; false if there are too many already.
    pub(super) fn push(&self, input: Input) -> bool {
        let bytes = gossip_bytes(&input);
        if self.gossip_bytes.load(Ordering::Relaxed) + bytes > MAX_QUEUED_BYTES {
            return false;
        }
        self.gossip_bytes.fetch_add(bytes, Ordering::Relaxed);
        let taken = self.inputs.try_send(input).is_ok();
        if !taken {
            self.gossip_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        taken
    }
}

/// Starts the thread. It ends when every queue to it is dropped, or the reports are.
pub(super) fn start(lanes: Lanes, keep: Option<Keep>) -> (Queue, mpsc::Receiver<Report>, JoinHandle<()>) {
    let (inputs, input) = mpsc::channel(MAX_QUEUED_MESSAGES);
    let (reports, report) = mpsc::channel(MAX_QUEUED_REPORTS);
    let gossip_bytes = Arc::new(AtomicUsize::new(0));
    let queue = Queue { inputs, gossip_bytes: gossip_bytes.clone() };
    let thread = tokio::task::spawn_blocking(move || {
        let mut judge = Judge { lanes, keep, reports, gossip_bytes };
        judge.run(input);
    });
    (queue, report, thread)
}

struct Judge {
    lanes: Lanes,
    keep: Option<Keep>,
    reports: mpsc::Sender<Report>,
    gossip_bytes: Arc<AtomicUsize>,
}

/// Nobody listens any more, or items cannot be kept.
struct Over;

impl Judge {
    fn run(&mut self, mut inputs: mpsc::Receiver<Input>) {
        let rollups: Vec<_> = self.lanes.rollups().collect();
        for rollup in rollups {
            if self.report_place(rollup).is_err() {
                return;
            }
        }
        while let Some(first) = inputs.blocking_recv() {
            if self.batch(first, &mut inputs).is_err() {
                return;
            }
        }
    }

    fn batch(&mut self, first: Input, inputs: &mut mpsc::Receiver<Input>) -> Result<(), Over> {
        let mut verified = Vec::new();
        let mut next = Some(first);
        for judged in 1..=MAX_BATCH {
            let Some(input) = next.take() else { break };
            // A page is a batch by itself: several would be many bytes.
            let full = judged == MAX_BATCH || matches!(input, Input::Page { .. });
            self.judge(input, &mut verified)?;
            if full {
                break;
            }
            next = inputs.try_recv().ok();
        }
        self.keep(&verified)
    }

    fn keep(&mut self, verified: &[Arc<LaneItem>]) -> Result<(), Over> {
        let Some(keep) = self.keep.as_mut().filter(|_| !verified.is_empty()) else { return Ok(()) };
        keep(verified).map_err(|error| {
            let _ = self.reports.blocking_send(Report::Failed(error));
            Over
        })
    }

    fn judge(&mut self, input: Input, verified: &mut Vec<Arc<LaneItem>>) -> Result<(), Over> {
        self.gossip_bytes.fetch_sub(gossip_bytes(&input), Ordering::Relaxed);
        let mut outcome = Outcome::default();
        let mut page = None;
        let rollup = match input {
            Input::Gossip { topic, bytes, ticket } => {
                self.lanes.gossip(topic, &bytes, ticket, &mut outcome);
                topic
            }
            Input::Own(item) => {
                let rollup = item.leaf.rollup;
                self.lanes.own(item, &mut outcome);
                rollup
            }
            Input::Page { rollup, from, max_items, peer, bytes } => {
                let worth = self.page(rollup, from, max_items, &bytes, &mut outcome);
                page = Some(Report::Page { rollup, peer, worth });
                rollup
            }
        };
        if !outcome.verdicts.is_empty() {
            self.send(Report::Verdicts(outcome.verdicts))?;
        }
        if !outcome.verified.is_empty() {
            self.send(Report::Verified(outcome.verified.len() as u64))?;
        }
        // The place before the page: what is asked for next depends on it.
        self.report_place(rollup)?;
        verified.append(&mut outcome.verified);
        page.map_or(Ok(()), |page| self.send(page))
    }

    fn page(&mut self, rollup: RollupId, from: Height, max_items: u16, bytes: &[u8], out: &mut Outcome) -> Worth {
        let (items, tip) = match RangeAnswer::from_wire(bytes) {
            Ok(RangeAnswer::Page { items, tip, .. }) => (items, tip.map(|tip| *tip)),
            Ok(RangeAnswer::Refused(text)) => {
                return match wire::refusal(&text) {
                    Ok(error) => Worth::Refused(error),
                    Err(error) => Worth::Faulty(error.into()),
                };
            }
            Err(error) => return Worth::Faulty(error.into()),
        };
        let worth = match (items.is_empty(), tip.is_some()) {
            (_, true) => Worth::Tip,
            (false, false) => Worth::Items,
            (true, false) => {
                let detail = format!("neither items from height {from} nor the proof that there are none");
                Worth::Refused(QueryError::NotReady { detail })
            }
        };
        match self.lanes.page(rollup, Page { from, max_items, items, tip }, out) {
            Ok(()) => worth,
            Err(fault) => Worth::Faulty(fault),
        }
    }

    fn report_place(&self, rollup: RollupId) -> Result<(), Over> {
        match self.lanes.place(rollup) {
            Some((height, waiting)) => self.send(Report::Lane { rollup, height, waiting }),
            None => Ok(()),
        }
    }

    fn send(&self, report: Report) -> Result<(), Over> {
        self.reports.blocking_send(report).map_err(|_| Over)
    }
}

fn gossip_bytes(input: &Input) -> usize {
    match input {
        Input::Gossip { bytes, .. } => bytes.len(),
        Input::Page { .. } | Input::Own(_) => 0,
    }
}
