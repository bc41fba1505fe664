//! What does the log say of settlements, rollups and corridors?
//!
//! Records and decisions are proven. What a node only says is called a word, and is good for being quick; a settlement's legs
//! are checked against its id even then. Making a transfer and following it is in `transfer`.

use std::{sync::Arc, time::Duration};

use lockstep_protocol::{
    ids::{Account, Height, RollupId, SettlementId},
    lane::LaneItem,
    rpc::{CorridorStatus, DecisionPage, Fact, FactSent, RollupStatus, SettlementStatus, StateQuery, UnsettledPage},
    settlement::{
        Abort, DecisionRange, Intent, decision,
        records::{InFlightRecord, LeaseRecord, RollupRecord, SettlementRecord},
    },
    signature::AccountKey,
    state::Stored,
};

use crate::{
    client::Client,
    decision::DecisionProof,
    error::{CheckError, Error, Fault},
    node::Node,
    rpc,
    trust::Proven,
};

/// Decisions asked for at once when one is looked for; doubled until it is found.
const DECISIONS_BACK: u64 = 64;
/// Most decisions of one block that are looked through: above what a block's claims and deadlines can decide.
const MAX_DECISIONS_BACK: u64 = 1_024;

impl Client {
    /// A settlement's record, proven. `None` for one that was neither ordered nor aborted.
    pub async fn settlement_record(&self, settlement: SettlementId) -> Result<Proven<SettlementRecord>, Error> {
        self.proven(StateQuery::Settlement(settlement)).await
    }

    /// What the log knows of a rollup, proven. `None` before its first head.
    pub async fn rollup_record(&self, rollup: RollupId) -> Result<Proven<RollupRecord>, Error> {
        self.proven(StateQuery::Rollup(rollup)).await
    }

    /// Who posts for a rollup, proven. `None` where nobody ever took the lease.
    pub async fn lease(&self, rollup: RollupId) -> Result<Proven<LeaseRecord>, Error> {
        self.proven(StateQuery::Lease(rollup)).await
    }

    /// What an account has under way, proven. `None` for one that never had a settlement.
    pub async fn in_flight(&self, account: Account) -> Result<Proven<InFlightRecord>, Error> {
        self.proven(StateQuery::InFlight(account)).await
    }

    /// Where a node says a settlement stands: quick, and not proven, but for what it moves.
    pub async fn settlement(&self, settlement: SettlementId) -> Result<SettlementStatus, Error> {
        self.ask(|node, timeout| async move {
            let status = rpc::get_settlement(&node, settlement, timeout).await?;
            self.check_status(settlement, &status)?;
            Ok(status)
        })
        .await
    }

    /// As [`Self::settlement`], once a block above `after` has changed it, or when a node has held the question for
    /// `hold`; with the error `UnknownSettlement` if the log has none by then.
    pub async fn wait_settlement(
        &self,
        settlement: SettlementId,
        after: Height,
        hold: Duration,
    ) -> Result<SettlementStatus, Error> {
        let deadline = self.deadline() + hold;
        let ask = |node: Arc<Node>, timeout| async move {
            let status = rpc::wait_settlement(&node, settlement, after, hold, timeout).await?;
            self.check_status(settlement, &status)?;
            Ok(status)
        };
        self.inner.nodes.ask_around(deadline, self.inner.nodes.preferred(), 1, ask).await
    }

    /// Settlements with a leg on a rollup that a node says were not seen applied on every leg: at most `max`, 1 to 128, by id,
    /// from after `after`. What each moves is checked. After an empty page another node is asked the next time.
    pub async fn unsettled(
        &self,
        rollup: RollupId,
        after: Option<SettlementId>,
        max: u64,
    ) -> Result<UnsettledPage, Error> {
        let ask = |node: Arc<Node>, timeout| async move {
            let page = rpc::get_unsettled(&node, rollup, after, max, timeout).await?;
            for status in &page.settlements {
                self.trust().check_intent(status.settlement, &status.intent).map_err(Fault::Lie)?;
            }
            Ok(page)
        };
        let page = self.ask(ask).await?;
        if page.settlements.is_empty() {
            self.inner.nodes.rotate();
        }
        Ok(page)
    }

    /// Decisions of a lane from number `from` (the first is 1), proven: about `max`, 1 to 1,024, up to the end of a block.
    ///
    /// An empty page says that the node has none, which nobody can prove; another node is asked the next time.
    /// [`Self::lane`] proves how many there are.
    pub async fn decisions(&self, rollup: RollupId, from: u64, max: u64) -> Result<DecisionPage, Error> {
        let page =
            self.ask(|node, timeout| async move { self.decisions_at(&node, rollup, from, max, timeout).await }).await?;
        if page.range.decisions.is_empty() {
            self.inner.nodes.rotate();
        }
        Ok(page)
    }

    /// The proof of what was decided of a settlement, from the lane of its first leg that is of this network. `None` if it is
    /// proven to be open or unknown.
    pub async fn prove_decision(&self, settlement: SettlementId) -> Result<Option<DecisionProof>, Error> {
        self.ask(|node, timeout| async move { self.prove_decision_at(&node, settlement, timeout).await }).await
    }

    /// Whether a node says that a rollup takes new settlements, and why not.
    pub async fn rollup_status(&self, rollup: RollupId) -> Result<RollupStatus, Error> {
        self.ask(|node, timeout| async move {
            let status = rpc::get_rollup_status(&node, rollup, timeout).await?;
            if status.rollup != rollup {
                return Err(CheckError::Rollup { asked: rollup, found: status.rollup }.into());
            }
            Ok(status)
        })
        .await
    }

    /// What a node says is under way between rollups, and what may be.
    pub async fn corridors(&self) -> Result<Vec<CorridorStatus>, Error> {
        self.ask(|node, timeout| async move { rpc::get_corridors(&node, timeout).await }).await
    }

    /// Offers a fact to the log through the first node that takes it. Sending it again is always safe.
    pub async fn send_fact(&self, fact: &Fact) -> Result<FactSent, Error> {
        self.ask(|node, timeout| async move { rpc::send_fact(&node, fact, timeout).await }).await
    }

    /// Takes an undecided settlement back, as its owner. That it was taken is no decision: the settlement may still commit in
    /// the same moment.
    pub async fn abort_settlement(&self, settlement: SettlementId, key: &AccountKey) -> Result<FactSent, Error> {
        let abort = Abort { network: self.trust().network(), account: key.account(), settlement };
        self.send_fact(&Fact::Abort(abort.sign(key))).await
    }

    async fn proven<T: Stored>(&self, query: StateQuery) -> Result<Proven<T>, Error> {
        self.ask(|node, timeout| async move { self.proven_at(&node, query, timeout).await }).await
    }

    async fn proven_at<T: Stored>(
        &self,
        node: &Node,
        query: StateQuery,
        timeout: Duration,
    ) -> Result<Proven<T>, Fault> {
        let answer = rpc::get_state(node, query, timeout).await?;
        let value = self.trust().check_record(query, &answer).map_err(Fault::Lie)?;
        self.note_height(&answer.header)?;
        Ok(Proven { value, header: answer.header })
    }

    fn check_status(&self, asked: SettlementId, status: &SettlementStatus) -> Result<(), Fault> {
        let found = status.settlement;
        if found != asked {
            return Err(CheckError::Settlement { asked, found }.into());
        }
        self.trust().check_intent(asked, &status.intent).map_err(Fault::Lie)
    }

    async fn decisions_at(
        &self,
        node: &Node,
        rollup: RollupId,
        from: u64,
        max: u64,
        timeout: Duration,
    ) -> Result<DecisionPage, Fault> {
        let mut page = rpc::get_decisions(node, rollup, from, max, timeout).await?;
        self.trust().check_decisions(rollup, from, &page).map_err(Fault::Lie)?;
        if page.range.decisions.is_empty() {
            page.item = None;
        }
        page.item = page.item.map(bare);
        Ok(page)
    }

    async fn prove_decision_at(
        &self,
        node: &Node,
        settlement: SettlementId,
        timeout: Duration,
    ) -> Result<Option<DecisionProof>, Fault> {
        let record: Proven<SettlementRecord> =
            self.proven_at(node, StateQuery::Settlement(settlement), timeout).await?;
        let Some(decided) = record.value.and_then(|record| record.decided) else { return Ok(None) };
        let status = rpc::get_settlement(node, settlement, timeout).await?;
        self.check_status(settlement, &status)?;
        // The order of rollups is not the client's to know: a lane that there is not says so.
        let mut unknown = Fault::Lie(CheckError::Undecided(settlement));
        for rollup in status.intent.transfer.legs.iter().map(|leg| leg.rollup) {
            let found = self.find_decision(node, &status.intent, settlement, rollup, decided.height, timeout).await;
            match found {
                Err(Fault::Query(query)) => unknown = Fault::Query(query),
                found => return found.map(Some),
            }
        }
        Err(unknown)
    }

    /// Looks back from the end of the block that decided.
    async fn find_decision(
        &self,
        node: &Node,
        intent: &Intent,
        settlement: SettlementId,
        rollup: RollupId,
        height: Height,
        timeout: Duration,
    ) -> Result<DecisionProof, Fault> {
        let lane = rpc::get_lane(node, rollup, height, timeout).await?;
        let undecided = || Fault::Lie(CheckError::Undecided(settlement));
        // A block that decides has an item, perhaps without entries; or the lane stands so since.
        let item = lane.items.into_iter().next().or(lane.tip).ok_or_else(undecided)?;
        self.trust().check_leaf(rollup, &item).map_err(Fault::Lie)?;
        let end = item.leaf.decision_sequence;
        let mut back = DECISIONS_BACK;
        loop {
            let from = end.saturating_sub(back - 1).max(1);
            // To the end of the block and not further: what follows belongs to no proof of this decision.
            let count = end.saturating_sub(from).saturating_add(1);
            let page = self.decisions_at(node, rollup, from, count, timeout).await?;
            let DecisionRange { sequence, chain, decisions, .. } = page.range;
            if let Some(place) = decisions.iter().position(|decision| decision.settlement == settlement)
                && let Some(item) = page.item
            {
                let before = decisions[..place].iter();
                let chain = before.fold(chain, |head, found| decision::chain(head, found.settlement, found.outcome));
                let decisions = decisions[place..].to_vec();
                let range = DecisionRange { rollup, sequence: sequence + place as u64, chain, decisions };
                return Ok(DecisionProof { intent: intent.clone(), range, item });
            }
            if back >= MAX_DECISIONS_BACK || from == 1 {
                return Err(undecided());
            }
            back *= 2;
        }
    }
}

/// A lane's leaf with its proof alone.
fn bare(item: LaneItem) -> LaneItem {
    LaneItem { entries: Vec::new(), transactions: Vec::new(), ..item }
}
