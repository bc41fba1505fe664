//! Shows the log what it wants to see of a rollup: legs of open settlements, and what was paid in for fee accounts.
//!
//! A leg at level `executed` is shown at the node's own latest block at once, certified or not: nodes of the log hold what comes
//! before its head. And it is shown again at the block that the log has certified, because the log may certify another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy_primitives::{B256, U256};
use lockstep_protocol::{
    ids::{Account, Address20, Height, NetworkId, RollupId, SettlementId},
    rpc::{Fact, RollupStatus},
    settlement::{Claim, Level, Observation, Subject},
};

use super::{
    RelayError,
    chain::Chain,
    evidence::{Wanted, Word, wanted},
    log::{Log, LogError},
    voids::Voids,
};
use crate::serve::{RelayStatus, Service};

/// Heights after which something is shown again that the log has not noted: it was lost with a node, or its head never came.
const AGAIN_HEIGHTS: u64 = 16;
/// Claims of one observation: a storage proof of a large contract has some 4 KB, and nodes take facts up to 256 KiB.
const CLAIMS_MAX: usize = 32;
/// Looks at one leg that are remembered: those at the latest few blocks.
const LOOKS_MAX: usize = 16;

/// What an observer may choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObserverConfig {
    /// Fee accounts whose payments at the hub are shown to the log. The hub knows accounts by their hash alone, so they
    /// must be told.
    pub fee_accounts: Vec<Account>,
    /// Where to look for legs whose settlement was never ordered; nowhere if absent.
    pub strays: Option<Strays>,
}

/// What is needed to find legs that stand prepared although their settlement was never ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strays {
    /// The log's network.
    pub network: NetworkId,
    /// The rollup's escrows.
    pub escrows: Vec<Address20>,
    /// Accounts of the log that may own such settlements, besides those of the addresses that prepare.
    pub accounts: Vec<Account>,
}

/// Shows the log what it wants to see.
pub struct Observer {
    rollup: RollupId,
    settled_level: Level,
    log: Arc<dyn Log>,
    chain: Arc<Chain>,
    service: Arc<Service<RelayStatus>>,
    voids: Option<Voids>,
    fee_accounts: Vec<Account>,
    /// What was shown of the accounts' counters, and in which of the rollup's histories.
    paid: BTreeMap<Account, (u32, U256)>,
    /// The block at which the counters were looked at.
    counted: Option<(u32, u64)>,
    /// The log and the rollup at the latest look.
    looked: Option<(Height, u64, B256)>,
    looks: BTreeMap<Subject, BTreeMap<Look, Saw>>,
    refused: Option<String>,
}

/// Where a leg was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Look {
    incarnation: u32,
    number: u64,
    level: Level,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
enum Saw {
    /// The log has no use for it, then or later: a block does not change.
    Nothing,
    /// It was sent at this height.
    Sent(Height),
}

impl Observer {
    /// An observer of `rollup`, whose applied decisions count at `settled_level`.
    pub fn new(
        config: ObserverConfig,
        rollup: RollupId,
        settled_level: Level,
        log: Arc<dyn Log>,
        chain: Arc<Chain>,
        service: Arc<Service<RelayStatus>>,
    ) -> Self {
        Self {
            rollup,
            settled_level,
            log,
            chain,
            service,
            voids: config
                .strays
                .map(|Strays { network, escrows, accounts }| Voids::new(network, rollup, escrows, accounts)),
            fee_accounts: config.fee_accounts,
            paid: BTreeMap::new(),
            counted: None,
            looked: None,
            looks: BTreeMap::new(),
            refused: None,
        }
    }

    /// Looks once, and shows what is new.
    pub async fn step(&mut self) -> Result<(), RelayError> {
        let (status, tip) = tokio::try_join!(async { self.log.status().await.map_err(RelayError::from) }, async {
            self.chain.tip().await.map_err(RelayError::from)
        },)?;
        self.service.update(|page| {
            page.height = status.tip.0;
            page.block = tip.number;
            page.certified = status.record.latest[Level::Executed as usize];
            page.incarnation = status.record.incarnation;
            page.healthy = status.healthy;
        });
        if self.looked == Some((status.tip, tip.number, tip.hash)) {
            return Ok(());
        }
        if self.looked.is_some_and(|(_, number, hash)| tip.number <= number && tip.hash != hash) {
            // The rollup left its history: what was seen at a number says nothing of the block that has it now.
            self.looks.clear();
        }
        let settlements = self.log.unsettled().await?;
        let wanted = wanted(&settlements, self.rollup, &status.record, self.settled_level);
        self.service.update(|page| page.wanted = wanted.len() as u64);
        let subjects: BTreeSet<_> = wanted.iter().map(|wanted| wanted.subject).collect();
        self.looks.retain(|subject, _| subjects.contains(subject));
        for ((level, number, contract), legs) in self.places(&wanted, &status, tip.number) {
            for legs in legs.chunks(CLAIMS_MAX) {
                self.show(&status, level, number, contract, legs).await?;
            }
        }
        self.show_deposits(&status).await?;
        let open: BTreeSet<_> = settlements.iter().map(|status| status.settlement).collect();
        self.show_voids(&status, &open).await?;
        self.looked = Some((status.tip, tip.number, tip.hash));
        Ok(())
    }

    /// Which legs to look at, where.
    fn places(
        &self,
        wanted: &[Wanted],
        status: &RollupStatus,
        tip: u64,
    ) -> BTreeMap<(Level, u64, Address20), Vec<Wanted>> {
        let mut places: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for leg in wanted {
            let certified = status.record.latest[leg.level as usize];
            let early = (leg.level == Level::Executed && certified.is_none_or(|number| number < tip)).then_some(tip);
            for number in certified.filter(|number| *number <= tip).into_iter().chain(early) {
                let look = Look { incarnation: status.record.incarnation, number, level: leg.level };
                let due = match self.looks.get(&leg.subject).and_then(|looks| looks.get(&look)) {
                    None => true,
                    Some(Saw::Nothing) => false,
                    Some(Saw::Sent(at)) => status.tip.0 >= at.0.saturating_add(AGAIN_HEIGHTS),
                };
                if due {
                    places.entry((leg.level, number, leg.contract)).or_default().push(*leg);
                }
            }
        }
        places
    }

    async fn show(
        &mut self,
        status: &RollupStatus,
        level: Level,
        number: u64,
        contract: Address20,
        legs: &[Wanted],
    ) -> Result<(), RelayError> {
        let slots: Vec<_> = legs.iter().map(|leg| leg.subject.slot()).collect();
        let Some(proof) = self.chain.proof(contract, &slots, number).await? else { return Ok(()) };
        let look = Look { incarnation: status.record.incarnation, number, level };
        let mut claims = Vec::new();
        for (leg, (word, nodes)) in legs.iter().zip(proof.slots) {
            match leg.judge(word) {
                Word::News => claims.push(Claim { subject: leg.subject, proof: nodes }),
                Word::Nothing => self.note(leg.subject, look, Saw::Nothing),
                Word::Contradiction(found) => {
                    tracing::error!(subject = ?leg.subject, ?found, decided = ?leg.decided, number, "a leg contradicts the decision");
                    self.service.update(|page| page.contradictions += 1);
                    self.note(leg.subject, look, Saw::Nothing);
                }
            }
        }
        if claims.is_empty() {
            return Ok(());
        }
        claims.sort_by_key(|claim| claim.subject);
        let shown: Vec<_> = claims.iter().map(|claim| claim.subject).collect();
        self.send(Observation { rollup: self.rollup, level, number, contract, account_proof: proof.account, claims })
            .await?;
        for subject in shown {
            self.note(subject, look, Saw::Sent(status.tip));
        }
        Ok(())
    }

    async fn show_deposits(&mut self, status: &RollupStatus) -> Result<(), RelayError> {
        let Some(number) = status.record.latest[self.settled_level as usize] else { return Ok(()) };
        let incarnation = status.record.incarnation;
        if self.fee_accounts.is_empty() || self.counted == Some((incarnation, number)) {
            return Ok(());
        }
        let hub = Address20(self.chain.hub().into_array());
        for accounts in self.fee_accounts.clone().chunks(CLAIMS_MAX) {
            let subjects: Vec<_> = accounts.iter().map(|account| Subject::Deposit { account: *account }).collect();
            let slots: Vec<_> = subjects.iter().map(Subject::slot).collect();
            let Some(proof) = self.chain.proof(hub, &slots, number).await? else { return Ok(()) };
            let (mut claims, mut news) = (Vec::new(), Vec::new());
            for ((account, subject), (word, nodes)) in accounts.iter().zip(subjects).zip(proof.slots) {
                // After a start every counter is shown once: what of it is credited already, the log knows.
                if !word.is_zero() && self.paid.get(account) != Some(&(incarnation, word)) {
                    claims.push(Claim { subject, proof: nodes });
                    news.push((*account, (incarnation, word)));
                }
            }
            if claims.is_empty() {
                continue;
            }
            claims.sort_by_key(|claim| claim.subject);
            let (rollup, level, account_proof) = (self.rollup, self.settled_level, proof.account);
            self.send(Observation { rollup, level, number, contract: hub, account_proof, claims }).await?;
            self.paid.extend(news);
        }
        self.counted = Some((incarnation, number));
        Ok(())
    }

    async fn show_voids(&mut self, status: &RollupStatus, open: &BTreeSet<SettlementId>) -> Result<(), RelayError> {
        let Some(certified) = status.record.latest[Level::Executed as usize] else { return Ok(()) };
        let Some(voids) = &mut self.voids else { return Ok(()) };
        voids.read(&self.chain, self.log.as_ref(), certified, |sid| open.contains(sid)).await?;
        let waiting = voids.len() as u64;
        self.service.update(|page| page.strays = waiting);
        for void in voids.due(&self.chain, self.log.as_ref(), status).await? {
            match self.log.send_fact(Fact::Void(void)).await {
                Ok(()) => self.service.update(|page| page.voids += 1),
                // Another observer was faster, mostly.
                Err(LogError::Fact(refused)) => tracing::debug!(%refused, "a void is not taken"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn send(&mut self, observation: Observation) -> Result<(), RelayError> {
        let (claims, number, level) = (observation.claims.len() as u64, observation.number, observation.level);
        match self.log.send_fact(Fact::Observation(observation)).await {
            Ok(()) => {
                self.refused = None;
                self.service.update(|page| {
                    page.observations += 1;
                    page.claims += claims;
                });
                tracing::debug!(claims, number, ?level, "shown");
                Ok(())
            }
            // Another observer was faster, or the log has moved on. Said once for each reason, since it comes in floods.
            Err(LogError::Fact(refused)) => {
                self.service.update(|page| page.refused += 1);
                let reason = Some(refused.reason.clone());
                if expected(&refused.reason) || self.refused == reason {
                    tracing::debug!(%refused, number, "not taken");
                } else {
                    tracing::warn!(%refused, number, ?level, "the log does not take what this node shows");
                    self.refused = reason;
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn note(&mut self, subject: Subject, look: Look, saw: Saw) {
        let looks = self.looks.entry(subject).or_default();
        looks.insert(look, saw);
        while looks.len() > LOOKS_MAX {
            looks.pop_first();
        }
    }
}

/// Refusals that are part of a day's work where several observe, where the rollup is ahead of its certified heads, or where one node
/// of the log is behind another.
fn expected(reason: &str) -> bool {
    matches!(reason, "nothing_new" | "unknown_head" | "unknown_settlement" | "level_too_low" | "busy" | "not_ready")
}
