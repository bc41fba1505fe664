//! How far is a transfer? Steps as the log proves them, in order, and from the beginning after a restart.
//!
//! Proven: that it was ordered, what was seen of each leg, what was decided. A word: how far the rollups have brought a leg's
//! transaction, and why a venue refused. Sends the bundle, and repeats it until it has an outcome.

use std::{collections::VecDeque, fmt, time::Duration};

use lockstep_protocol::{
    bundle::SignedBundle,
    evidence::BundleState,
    ids::{Height, RollupId, SettlementId},
    rpc::Level,
    settlement::{
        AbortReason, Decision, Intent,
        records::{LegRecord, Seen, SettlementRecord},
    },
};
use tokio::time::Instant;

use super::{Reason, TransferError, Venue};
use crate::{
    client::Client,
    decision::DecisionProof,
    error::Error,
    nodes::pause,
    submit::SubmitError,
    trust::{Evidence, Proven},
};

/// Longest hold of a question while the rollups' progress is of interest too: only the settlement's own changes end it.
const HOLD_MAX: Duration = Duration::from_millis(500);

/// Something that a transfer has reached.
#[derive(Clone, Debug)]
pub enum Step {
    /// Its bundle is in a final block. Proven.
    Ordered {
        /// Which.
        height: Height,
        /// What it paid. Credits.
        fee: u64,
        /// Why that is certain.
        evidence: Box<Evidence>,
    },
    /// Its bundle was not ordered, and never will be: nothing moves. Proven, and the last step.
    NotOrdered(Reason),
    /// The rollup has brought a leg's transactions so far. A node's word.
    Reached {
        /// Where.
        rollup: RollupId,
        /// How far.
        level: Level,
        /// In which of its blocks.
        block: Option<u64>,
    },
    /// The rollup left a transaction out, so the leg cannot be prepared: it will be aborted at its deadline, or take it back.
    /// A node's word.
    Skipped(Reason),
    /// A leg was seen prepared. Proven.
    Prepared {
        /// The leg's place.
        leg: usize,
        /// Where.
        rollup: RollupId,
        /// A height at which the log knows it.
        height: Height,
    },
    /// A leg was seen refused. Proven; why, is the rollup's word.
    Refused(Reason),
    /// It was decided. Proven, with what convinces anybody.
    Decided {
        /// What.
        decision: Decision,
        /// In which block.
        height: Height,
        /// Why that is certain.
        proof: Box<DecisionProof>,
        /// Why it was aborted.
        reason: Option<Reason>,
    },
    /// A leg was seen with the decision applied. Proven.
    Applied {
        /// The leg's place.
        leg: usize,
        /// Where.
        rollup: RollupId,
        /// A height at which the log knows it.
        height: Height,
    },
    /// A leg is to take effect, and there is too little to take. Proven.
    Short {
        /// The leg's place.
        leg: usize,
        /// Where.
        rollup: RollupId,
    },
    /// A leg's rollup has not applied the decision in time. Proven.
    Late {
        /// The leg's place.
        leg: usize,
        /// Where.
        rollup: RollupId,
    },
    /// Every leg was seen with the decision applied. Proven, and the last step.
    Settled {
        /// A height at which the log knows it.
        height: Height,
    },
}

/// A transfer under way.
pub struct TransferRun {
    client: Client,
    signed: SignedBundle,
    intent: Intent,
    settlement: SettlementId,
    venues: Vec<Venue>,
    phase: Phase,
    ready: VecDeque<Step>,
    /// As it was proven last.
    record: Option<SettlementRecord>,
    /// The height of that proof.
    height: Height,
    /// What was last told of each rollup.
    reached: Vec<(RollupId, Level)>,
    skipped: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Ordering,
    Settling,
    Done,
}

/// The next step is not known yet, or there is none.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum RunError {
    /// No node takes the bundle; its nonce was proven free after they refused.
    #[error("refused: {0}")]
    Refused(Reason),
    /// Nothing new within the time given. Ask again; nothing was lost.
    #[error("no step within the time given")]
    Patience,
    #[error(transparent)]
    Ask(#[from] Error),
    #[error(transparent)]
    Submit(Box<SubmitError>),
}

impl Client {
    /// Sends a prepared transfer and follows it. Also for one that was sent before, by anybody: nothing happens twice.
    ///
    /// `venues` are asked why a leg was refused; those of other escrows are not asked, and there may be none.
    pub fn run_transfer(&self, signed: SignedBundle, venues: Vec<Venue>) -> Result<TransferRun, TransferError> {
        let bundle = &signed.bundle;
        let (settlement, transfer) = bundle.settlement().zip(bundle.transfer()).ok_or(TransferError::NoSettlement)?;
        let intent = Intent { account: bundle.account, nonce: bundle.nonce, transfer: transfer.clone() };
        Ok(TransferRun {
            client: self.clone(),
            intent,
            settlement,
            venues,
            phase: Phase::Ordering,
            ready: VecDeque::new(),
            record: None,
            height: Height(0),
            reached: Vec::new(),
            skipped: false,
            signed,
        })
    }
}

impl TransferRun {
    /// The settlement's id.
    pub fn settlement(&self) -> SettlementId {
        self.settlement
    }

    /// What the state had of it last, as proven; none before it was ordered.
    pub fn record(&self) -> Option<&SettlementRecord> {
        self.record.as_ref()
    }

    /// The next step, waiting at most `within` for it; `None` after the last. Safe to call again after an error.
    pub async fn next(&mut self, within: Duration) -> Result<Option<Step>, RunError> {
        let deadline = Instant::now() + within;
        let mut round = 0_u32;
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(Some(step));
            }
            match self.phase {
                Phase::Done => return Ok(None),
                Phase::Ordering => self.order(deadline).await?,
                Phase::Settling => {
                    let asked_at = Instant::now();
                    self.look(deadline).await?;
                    if !self.ready.is_empty() {
                        continue;
                    }
                    if Instant::now() >= deadline {
                        return Err(RunError::Patience);
                    }
                    // A node that held the question has paced the loop already.
                    if asked_at.elapsed() < HOLD_MAX / 2 {
                        pause(round.min(4), deadline).await;
                        round = round.saturating_add(1);
                    }
                }
            }
        }
    }

    /// Follows it until it is decided: the decision with its proof. `None` if it was not ordered, or was decided before.
    pub async fn decided(&mut self, within: Duration) -> Result<Option<(Decision, DecisionProof)>, RunError> {
        let deadline = Instant::now() + within;
        loop {
            match self.next(deadline.saturating_duration_since(Instant::now())).await? {
                Some(Step::Decided { decision, proof, .. }) => return Ok(Some((decision, *proof))),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    async fn order(&mut self, deadline: Instant) -> Result<(), RunError> {
        let within = deadline.saturating_duration_since(Instant::now());
        let outcome = match self.client.submit_and_wait(&self.signed, within).await {
            Ok(outcome) => outcome,
            Err(SubmitError::Invalid(refusal) | SubmitError::Refused { refusal, .. }) => {
                return Err(RunError::Refused(Reason::Log(refusal)));
            }
            Err(SubmitError::Deadline { .. }) if within.is_zero() => return Err(RunError::Patience),
            Err(error) => return Err(RunError::Submit(Box::new(error))),
        };
        match outcome.state {
            BundleState::Ordered { height, fee } => {
                self.phase = Phase::Settling;
                self.ready.push_back(Step::Ordered { height, fee, evidence: Box::new(outcome.evidence) });
            }
            state => {
                self.phase = Phase::Done;
                self.ready.push_back(Step::NotOrdered(Reason::NotOrdered(state)));
            }
        }
        Ok(())
    }

    /// Waits for news, and makes steps of what is proven new.
    async fn look(&mut self, deadline: Instant) -> Result<(), RunError> {
        let hold = HOLD_MAX.min(deadline.saturating_duration_since(Instant::now()));
        if self.record.is_some() {
            // Its answer only ends the wait.
            let _ = self.client.wait_settlement(self.settlement, self.height, hold).await;
        }
        let Proven { value, header } = self.client.settlement_record(self.settlement).await?;
        // A node behind the one that proved the order: it will come.
        let Some(record) = value.filter(|_| header.height >= self.height) else { return Ok(()) };
        self.height = header.height;
        if self.record.as_ref() != Some(&record) {
            let steps = self.compare(&record).await?;
            self.ready.extend(steps);
            if record.settled {
                self.phase = Phase::Done;
            }
            self.record = Some(record);
        }
        self.look_at_rollups().await;
        Ok(())
    }

    /// Steps of what is new. Nothing is told before all of it is known, so that nothing is told twice.
    async fn compare(&self, record: &SettlementRecord) -> Result<Vec<Step>, RunError> {
        let before = self.record.as_ref();
        let commit = record.decided.is_some_and(|decided| decided.decision == Decision::Commit);
        let (mut steps, mut applied, height) = (Vec::new(), Vec::new(), self.height);
        for (leg, now) in record.legs.iter().enumerate() {
            let was = before.and_then(|before| before.legs.get(leg)).copied();
            let rollup = self.intent.transfer.legs[leg].rollup;
            for seen in passed(was, *now, commit) {
                match seen {
                    Seen::Nothing => {}
                    Seen::Prepared => steps.push(Step::Prepared { leg, rollup, height }),
                    Seen::Refused => steps.push(Step::Refused(self.refusal(leg).await)),
                    Seen::Applied => applied.push(Step::Applied { leg, rollup, height }),
                    Seen::Shortfall => applied.push(Step::Short { leg, rollup }),
                }
            }
            let late = |record: &SettlementRecord| record.late & (1 << leg) != 0;
            if late(record) && !before.is_some_and(late) {
                applied.push(Step::Late { leg, rollup });
            }
        }
        if let Some(decided) = record.decided
            && before.is_none_or(|before| before.decided.is_none())
        {
            if decided.decision == Decision::Abort(AbortReason::Refused)
                && !steps.iter().any(|step| matches!(step, Step::Refused(_)))
            {
                steps.extend(self.missed_refusal().await.map(Step::Refused));
            }
            // Proven decided by the record, so whoever says that it is open answers from an older state.
            let proof = self.client.prove_decision(self.settlement).await?.ok_or(RunError::Patience)?;
            let reason = match decided.decision {
                Decision::Commit => None,
                Decision::Abort(why) => Some(Reason::Aborted { why, deadline: record.deadline }),
            };
            let (decision, height) = (decided.decision, decided.height);
            steps.push(Step::Decided { decision, height, proof: Box::new(proof), reason });
        }
        steps.extend(applied);
        if record.settled {
            steps.push(Step::Settled { height });
        }
        Ok(steps)
    }

    /// How far the rollups are, as a node says. Without an answer there is nothing to tell.
    async fn look_at_rollups(&mut self) {
        let Ok(status) = self.client.status(self.signed.bundle.id()).await else { return };
        for leg in status.legs {
            let before = self.reached.iter().position(|(rollup, _)| *rollup == leg.rollup);
            let known = before.map_or(Level::Ordered, |place| self.reached[place].1);
            if leg.level > known {
                let (rollup, level, block) = (leg.rollup, leg.level, leg.block);
                match before {
                    Some(place) => self.reached[place].1 = level,
                    None => self.reached.push((rollup, level)),
                }
                self.ready.push_front(Step::Reached { rollup, level, block });
            }
            if let Some(skipped) = leg.skipped.into_iter().next()
                && !self.skipped
            {
                self.skipped = true;
                let reason = Reason::Skipped { rollup: leg.rollup, detail: skipped.reason };
                self.ready.push_front(Step::Skipped(reason));
            }
        }
    }

    /// Why a leg was refused that was released before it was seen refused.
    async fn missed_refusal(&self) -> Option<Reason> {
        for leg in 0..self.intent.transfer.legs.len() {
            let reason = self.refusal(leg).await;
            if matches!(reason, Reason::Venue { why: Some(_), .. }) {
                return Some(reason);
            }
        }
        None
    }

    async fn refusal(&self, leg: usize) -> Reason {
        let of = &self.intent.transfer.legs[leg];
        let (rollup, place) = (of.rollup, u8::try_from(leg).unwrap_or(u8::MAX));
        let venue = self.venues.iter().find(|venue| (venue.rollup(), venue.escrow()) == (rollup, of.escrow));
        let why = match venue {
            Some(venue) => venue.leg(self.settlement, place).await.ok().and_then(|(_, why)| why),
            None => None,
        };
        Reason::Venue { rollup, leg, why, available: None }
    }
}

/// What a leg must have passed between two looks. A commit needs every leg prepared first, so that is told even where it was
/// not seen in between.
fn passed(was: Option<LegRecord>, now: LegRecord, commit: bool) -> Vec<Seen> {
    let known = was.map(|was| (was.seen, was.incarnation));
    if known == Some((now.seen, now.incarnation)) {
        return Vec::new();
    }
    let unseen = known.is_none_or(|(seen, _)| seen == Seen::Nothing);
    let implied = commit && unseen && matches!(now.seen, Seen::Applied | Seen::Shortfall);
    implied.then_some(Seen::Prepared).into_iter().chain([now.seen]).collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordered { height, fee, .. } => write!(f, "ordered at height {height} for {fee} credits"),
            Self::NotOrdered(reason) => write!(f, "not ordered, and never will be: {reason}"),
            Self::Reached { rollup, level, block } => {
                write!(f, "rollup {rollup}: {level:?}")?;
                block.map_or(Ok(()), |block| write!(f, " in block {block}"))
            }
            Self::Skipped(reason) => write!(f, "cannot be prepared: {reason}"),
            Self::Prepared { leg, rollup, height } => {
                write!(f, "leg {leg} prepared on rollup {rollup}, known at height {height}")
            }
            Self::Refused(reason) => write!(f, "{reason}"),
            Self::Decided { decision: Decision::Commit, height, .. } => write!(f, "committed at height {height}"),
            Self::Decided { height, reason, .. } => {
                write!(f, "aborted at height {height}")?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Applied { leg, rollup, height } => {
                write!(f, "leg {leg} applied on rollup {rollup}, known at height {height}")
            }
            Self::Short { leg, rollup } => write!(f, "leg {leg} is short on rollup {rollup}"),
            Self::Late { leg, rollup } => write!(f, "rollup {rollup} is late with leg {leg}"),
            Self::Settled { height } => write!(f, "settled, known at height {height}"),
        }
    }
}
