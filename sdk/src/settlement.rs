//! The client's questions about settlements, and how facts are sent.
//!
//! Decisions and leases are proven. How a settlement, a rollup or a corridor stands is a node's word: the record behind it can be proven with
//! [`StateQuery`](lockstep_protocol::rpc::StateQuery).

use std::time::Duration;

use lockstep_protocol::{
    ids::{Height, RollupId, SettlementId},
    lane::LaneFollower,
    rpc::{CorridorStatus, DecisionPage, Fact, FactSent, RollupStatus, SettlementStatus, StateQuery, UnsettledPage},
    settlement::records::LeaseRecord,
    state::Stored,
};

use crate::{
    client::Client,
    error::{CheckError, Error, Fault},
    rpc,
    trust::Proven,
};

impl Client {
    /// Where a node says a settlement stands.
    pub async fn settlement(&self, settlement: SettlementId) -> Result<SettlementStatus, Error> {
        self.ask(|node, timeout| async move {
            let status = rpc::get_settlement(&node, settlement, timeout).await?;
            same(settlement, &status)?;
            Ok(status)
        })
        .await
    }

    /// As [`Self::settlement`], once its record has changed after height `after`, or when `hold` is over.
    pub async fn wait_settlement(
        &self,
        settlement: SettlementId,
        after: Height,
        hold: Duration,
    ) -> Result<SettlementStatus, Error> {
        self.ask(|node, timeout| async move {
            let status = rpc::wait_settlement(&node, settlement, after, hold, timeout).await?;
            same(settlement, &status)?;
            Ok(status)
        })
        .await
    }

    /// Settlements with a leg on `rollup` that were not seen applied everywhere, by id, after this one; a page of `max` at most.
    pub async fn unsettled(
        &self,
        rollup: RollupId,
        after: Option<SettlementId>,
        max: u64,
    ) -> Result<UnsettledPage, Error> {
        self.ask(|node, timeout| async move { rpc::get_unsettled(&node, rollup, after, max, timeout).await }).await
    }

    /// Decisions of a rollup's lane from number `from` (the first is 1), `max` at most, proven: the page ends where a block
    /// ends, and its item proves the lane there.
    pub async fn decisions(&self, rollup: RollupId, from: u64, max: u64) -> Result<DecisionPage, Error> {
        self.ask(|node, timeout| async move {
            let page = rpc::get_decisions(&node, rollup, from, max, timeout).await?;
            self.check_decisions(rollup, from, &page)?;
            Ok(page)
        })
        .await
    }

    /// What a node says that the log knows of a rollup.
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

    /// Who posts for a rollup, proven. `None` where nobody ever took the lease.
    pub async fn lease(&self, rollup: RollupId) -> Result<Proven<LeaseRecord>, Error> {
        self.ask(|node, timeout| async move {
            let query = StateQuery::Lease(rollup);
            let answer = rpc::get_state(&node, query, timeout).await?;
            let record = self.trust().check_state(query, &answer).map_err(Fault::Lie)?;
            let value = record.map(|record| LeaseRecord::from_record(&record)).transpose().map_err(CheckError::from)?;
            self.note_height(&answer.header)?;
            Ok(Proven { value, header: answer.header })
        })
        .await
    }

    /// The corridors of the network and what is under way in each, as a node tells them.
    pub async fn corridors(&self) -> Result<Vec<CorridorStatus>, Error> {
        self.ask(|node, timeout| async move { rpc::get_corridors(&node, timeout).await }).await
    }

    /// Shows the log something: the first node that takes it passes it on. Any number of times.
    pub async fn send_fact(&self, fact: &Fact) -> Result<FactSent, Error> {
        self.ask(|node, timeout| async move { rpc::send_fact(&node, fact, timeout).await }).await
    }

    fn check_decisions(&self, rollup: RollupId, from: u64, page: &DecisionPage) -> Result<(), Fault> {
        let malformed = |detail: String| Fault::Malformed { detail };
        let decisions = page.range.decisions.len();
        if decisions != page.intents.len() {
            return Err(malformed(format!("{} intents for {decisions} decisions", page.intents.len())));
        }
        let Some(item) = &page.item else {
            return if decisions == 0 { Ok(()) } else { Err(malformed("decisions without a proof".into())) };
        };
        if page.range.rollup != rollup || page.range.sequence.saturating_add(1) != from {
            return Err(malformed(format!("decisions after {} of {}", page.range.sequence, page.range.rollup)));
        }
        LaneFollower::from_item(self.trust().verifier().clone(), item).map_err(CheckError::from)?;
        page.range.verify(&item.leaf).map_err(CheckError::from)?;
        let network = self.trust().network();
        let differs =
            page.range.decisions.iter().zip(&page.intents).find(|(d, intent)| intent.sid(network) != d.settlement);
        if let Some((decided, _)) = differs {
            return Err(malformed(format!("another intent than that of settlement {}", decided.settlement)));
        }
        self.note_height(&item.header)
    }
}

fn same(asked: SettlementId, status: &SettlementStatus) -> Result<(), Fault> {
    if status.settlement == asked {
        return Ok(());
    }
    Err(Fault::Malformed { detail: format!("the status of settlement {}", status.settlement) })
}
