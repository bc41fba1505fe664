//! From a signed bundle to its one certain outcome, whatever single nodes say or fail to say.
//!
//! A node's word is used to be quick; what is returned is proven: certificate, state proof, report chain.

use std::{sync::Arc, time::Duration};

use lockstep_protocol::{
    bundle::{Bundle, SignedBundle},
    evidence::{self, BundleState, EvidenceError, Reports},
    header::Header,
    ids::{BundleId, Height},
    refusal::Refusal,
    rpc::{Sent, StateQuery},
};
use tokio::time::Instant;

use crate::{
    client::Client,
    error::{CheckError, Error, Fault, Faults},
    node::Node,
    nodes::{passes_by_itself, pause},
    reports::{MAX_REPORTS, REPORTS_PER_PAGE, fetch, fetch_range},
    rpc,
    trust::Evidence,
};

/// What became of a bundle, and why that is certain.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which bundle.
    pub bundle: BundleId,
    /// What became of it; never `Pending` in what [`Client::submit_and_wait`] returns.
    pub state: BundleState,
    /// Convinces anybody who trusts the group key, without this client or any node.
    pub evidence: Evidence,
    /// What went wrong on the way, at which node.
    pub faults: Faults,
}

/// There is no certain outcome yet.
///
/// Whatever the variant: as long as `proven_open` is below the bundle's `valid_until`, the bundle may still be ordered if any
/// node has seen it. Wait for it, or cancel its nonce. Sending it again is always safe.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum SubmitError {
    /// It was not sent.
    #[error("refused before sending: {0}")]
    Invalid(Refusal),
    /// No node took it, and its nonce was proven free after they refused.
    #[error("refused: {refusal} (proven not ordered up to height {proven_open}) [{faults}]")]
    Refused { refusal: Refusal, proven_open: Height, faults: Faults },
    /// Time ran out.
    #[error("no outcome in time; last proven open at {}: {faults}", height_text(proven_open))]
    Deadline { proven_open: Option<Height>, taken: bool, faults: Faults },
}

impl SubmitError {
    /// What happened at which node.
    pub fn faults(&self) -> Option<&Faults> {
        match self {
            Self::Invalid(_) => None,
            Self::Refused { faults, .. } | Self::Deadline { faults, .. } => Some(faults),
        }
    }
}

impl Outcome {
    /// The final header whose state proves the outcome.
    pub fn proven_at(&self) -> &Header {
        &self.evidence.account.header
    }
}

impl Client {
    /// Sends a bundle, and waits until its outcome is proven, at most for `within`.
    ///
    /// While the bundle is open it is sent again, to one node after the other: a node may lose what it has not yet ordered.
    /// A node that answers falsely is passed over, and named in the faults.
    pub async fn submit_and_wait(&self, signed: &SignedBundle, within: Duration) -> Result<Outcome, SubmitError> {
        self.resolve(&signed.bundle, Some(signed), within).await
    }

    /// Waits for the outcome of a bundle that was sent before, perhaps by somebody else.
    pub async fn wait(&self, bundle: &Bundle, within: Duration) -> Result<Outcome, SubmitError> {
        self.resolve(bundle, None, within).await
    }

    /// What became of a bundle so far, proven now. `Pending` is an answer too: its nonce is free at the evidence's height.
    pub async fn prove(&self, bundle: &Bundle) -> Result<Outcome, Error> {
        bundle.check_shape(self.trust().network()).map_err(Error::Invalid)?;
        let ask = |node: Arc<Node>, timeout| async move { self.prove_at(&node, bundle, timeout).await };
        let (state, evidence) = self.inner.nodes.ask(self.deadline(), ask).await?;
        Ok(Outcome { bundle: bundle.id(), state, evidence, faults: Faults::default() })
    }

    async fn resolve(
        &self,
        bundle: &Bundle,
        signed: Option<&SignedBundle>,
        within: Duration,
    ) -> Result<Outcome, SubmitError> {
        bundle.check_shape(self.trust().network()).map_err(SubmitError::Invalid)?;
        if let Some(signed) = signed {
            signed.check_signature().map_err(SubmitError::Invalid)?;
        }
        let id = bundle.id();
        let deadline = Instant::now() + within;
        let mut faults = Faults::default();
        let first = self.inner.nodes.preferred();
        let (mut taken, mut proven_open) = (false, None);
        for round in 0_u32.. {
            if Instant::now() >= deadline {
                break;
            }
            // One further each round: no single node can hold the outcome back.
            let start = first.wrapping_add(usize::try_from(round).unwrap_or(0));
            let mut refusal = None;
            if let Some(signed) = signed {
                // Once it was taken, a refusal of the repetition says nothing new.
                match self.send_around(signed, deadline, start, 1).await {
                    Ok(_) => taken = true,
                    Err(Error::Refused { refusal: why, faults: more }) => {
                        refusal = Some(why);
                        faults.extend(more);
                    }
                    Err(Error::Invalid(refusal)) => return Err(SubmitError::Invalid(refusal)),
                    Err(
                        Error::Query { faults: more, .. }
                        | Error::FactRefused { faults: more, .. }
                        | Error::NoAnswer { faults: more },
                    ) => faults.extend(more),
                }
            }
            let asked_at = Instant::now();
            if refusal.is_none() {
                self.hold(id, start, deadline, &mut faults).await;
            }
            match self.prove_once(bundle, start, deadline, &mut faults).await {
                Some((BundleState::Pending, evidence)) => {
                    let height = evidence.account.header.height;
                    proven_open = proven_open.max(Some(height));
                    if let Some(refusal) = refusal
                        && !taken
                        && !passes_by_itself(&refusal)
                        && !settles_by_proof(&refusal)
                    {
                        return Err(SubmitError::Refused { refusal, proven_open: height, faults });
                    }
                }
                Some((state, evidence)) => return Ok(Outcome { bundle: id, state, evidence, faults }),
                None => {}
            }
            // A node that held the question has paced the loop already.
            if asked_at.elapsed() < self.inner.config.wait_slice {
                pause(round.min(4), deadline).await;
            }
        }
        Err(SubmitError::Deadline { proven_open, taken, faults })
    }

    /// Sends to the first node that takes it.
    pub(crate) async fn send_around(
        &self,
        signed: &SignedBundle,
        deadline: Instant,
        start: usize,
        rounds: u32,
    ) -> Result<Sent, Error> {
        signed.bundle.check_shape(self.trust().network()).map_err(Error::Invalid)?;
        signed.check_signature().map_err(Error::Invalid)?;
        let id = signed.bundle.id();
        let ask = |node: Arc<Node>, timeout| async move {
            match rpc::send_bundle(&node, signed, timeout).await {
                Ok(sent) if sent.bundle_id != id => {
                    Err(Fault::Malformed { detail: format!("took bundle {}, sent was {id}", sent.bundle_id) })
                }
                Err(Fault::Refused(refusal)) if was_checked_here(&refusal) => Err(CheckError::Refusal(refusal).into()),
                result => result,
            }
        };
        self.inner.nodes.ask_around(deadline, start, rounds, ask).await
    }

    /// Lets a node say when there is something to prove. Its answer only ends the wait.
    async fn hold(&self, id: BundleId, start: usize, deadline: Instant, faults: &mut Faults) {
        let nodes = &self.inner.nodes;
        let timeout = nodes.call_timeout(deadline);
        let slice = self.inner.config.wait_slice.min(deadline.saturating_duration_since(Instant::now()));
        let Some(index) = nodes.order(start).first().copied() else { return };
        let node = nodes.node(index);
        match rpc::wait_bundle(node, id, slice, timeout).await {
            Ok(_) => {}
            // It was not sent to this node, or it has forgotten it: the proof will tell.
            Err(Fault::Query(_)) => {}
            Err(fault) => {
                node.failed(&fault);
                faults.push(node.name(), fault);
            }
        }
    }

    /// Proves the bundle's state at the first node that can.
    async fn prove_once(
        &self,
        bundle: &Bundle,
        start: usize,
        deadline: Instant,
        faults: &mut Faults,
    ) -> Option<(BundleState, Evidence)> {
        let nodes = &self.inner.nodes;
        for index in nodes.order(start) {
            let timeout = nodes.call_timeout(deadline);
            if timeout.is_zero() {
                return None;
            }
            let node = nodes.node(index);
            let result = self.prove_at(node, bundle, timeout).await;
            nodes.note(index, &result);
            match result {
                Ok(proof) => return Some(proof),
                Err(fault) => faults.push(node.name(), fault),
            }
        }
        None
    }

    /// The bundle's state by one node's evidence, all of it checked.
    async fn prove_at(
        &self,
        node: &Node,
        bundle: &Bundle,
        timeout: Duration,
    ) -> Result<(BundleState, Evidence), Fault> {
        let account = rpc::get_state(node, StateQuery::Account(bundle.account), timeout).await?;
        let record = self.trust().check_account(bundle.account, &account).map_err(Fault::Lie)?;
        self.note_height(&account.header)?;
        let height = account.header.height;
        // No reports yet: mostly the record alone tells.
        let before = record.as_ref().map(|record| record.reports).unwrap_or_default();
        let mut reports = Reports { before, reports: Vec::new() };
        loop {
            match evidence::conclude(self.trust().network(), bundle, height, record.as_ref(), &reports) {
                Ok(state) => return Ok((state, Evidence { account, reports })),
                Err(EvidenceError::NotCovered { first }) if first > 1 => {
                    let record = record.as_ref().ok_or(CheckError::Evidence(EvidenceError::BrokenChain))?;
                    let held = u64::try_from(reports.reports.len()).unwrap_or(u64::MAX);
                    if held >= MAX_REPORTS {
                        return Err(CheckError::Evidence(EvidenceError::NotCovered { first }).into());
                    }
                    let from = first.saturating_sub(REPORTS_PER_PAGE).max(1);
                    reports = if reports.reports.is_empty() {
                        fetch(node, record, from, timeout).await?
                    } else {
                        let mut earlier = fetch_range(node, bundle.account, from, first - 1, timeout).await?;
                        earlier.reports.append(&mut reports.reports);
                        earlier.verify(record).map_err(CheckError::Evidence)?;
                        earlier
                    };
                }
                Err(error) => return Err(CheckError::Evidence(error).into()),
            }
        }
    }
}

/// The refusal may mean that the bundle has its outcome: the proof tells, as soon as its height is reached.
fn settles_by_proof(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::NonceUsed { .. } | Refusal::NonceBelowWindow { .. } | Refusal::Expired { .. })
}

/// The refusal is about what was checked here with the same code before sending: no honest node of this network says it.
fn was_checked_here(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::Malformed { .. }
            | Refusal::BadSignature
            | Refusal::WrongNetwork { .. }
            | Refusal::NoLegs
            | Refusal::TooManyLegs { .. }
            | Refusal::UnsortedLegs { .. }
            | Refusal::RepeatedLeg { .. }
            | Refusal::EmptyLeg { .. }
            | Refusal::TooManyTransactions { .. }
            | Refusal::OversizedTransaction { .. }
            | Refusal::OversizedLeg { .. }
            | Refusal::OversizedBundle { .. }
    )
}

fn height_text(height: &Option<Height>) -> String {
    height.map_or_else(|| "no height".to_owned(), |height| format!("height {height}"))
}
