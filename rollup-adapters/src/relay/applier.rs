//! Takes the log's decisions to the rollup's hub, many in one call, and applies legs that others left out.
//!
//! The rollup's blocks come from its lane alone. So a call is a transaction of the relayer's key in a bundle of the relayer's account.
//! While one is ordered and not yet executed, the next may follow it with what was decided meanwhile, so that a slow block takes
//! all. Each call begins where the hub stands now, not where the one before it would bring it: the hub passes over what it has, and
//! so no call depends on another.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use lockstep_contracts as contracts;
use lockstep_protocol::{
    ids::RollupId,
    rpc::{DecisionPage, RollupStatus, SettlementStatus},
    settlement::{LegStatus, Subject, records::Seen},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    RelayError,
    chain::{Chain, Place},
    flight::{Cargo, Flight},
    log::Log,
};
use crate::{
    poster::{
        FeeConfig, L1Header, Market, Price, Signer,
        envelope::{Draft, Sidecar},
        fees,
    },
    serve::{RelayStatus, Service},
};

/// Decisions asked for at once: they are taken over several calls if they do not fit one, and prove each other.
const PAGE_MAX: u64 = 512;
/// Heights within which a call may be ordered: seconds under load. What is not ordered by then is made anew.
const VALID_FOR: u64 = 32;
/// Calls on their way at once: what is decided between two blocks of a rollup with slow ones, in a few portions.
const FLIGHTS_MAX: usize = 4;
/// Heights that a decision may wait at the hub before its legs are looked at one by one: whoever applied it applies them at once.
const LEFT_OUT_HEIGHTS: u64 = 16;
/// How often they are looked at.
const LEFT_OUT_EVERY: Duration = Duration::from_secs(1);
/// Pause before a leg is tried again whose escrow does not take its decision.
const STUBBORN_PAUSE: Duration = Duration::from_secs(60);
/// Legs looked at in one turn.
const LEFT_OUT_MAX: usize = 32;

/// How decisions are applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApplyConfig {
    /// Decisions of one call.
    pub decisions_max: usize,
    /// Gas of one call.
    pub gas_max: u64,
    /// How long others may go first, milliseconds. Zero applies at once.
    pub patience_ms: u64,
    /// How long a call may take from the log into the rollup's state before it is sent again, milliseconds: two blocks of the rollup.
    pub lost_after_ms: u64,
    /// What may be paid on the rollup.
    pub fees: FeeConfig,
}

impl Default for ApplyConfig {
    fn default() -> Self {
        Self {
            // 2.7 million gas and 72 KB of calldata, which a transaction of the log holds.
            decisions_max: 100,
            gas_max: 10_000_000,
            patience_ms: 0,
            // Two blocks of the OP Stack.
            lost_after_ms: 4_000,
            fees: FeeConfig { min_tip_gwei: 0.001, ..FeeConfig::default() },
        }
    }
}

/// Takes decisions to a hub.
pub struct Applier {
    config: ApplyConfig,
    signer: Signer,
    rollup: RollupId,
    log: Arc<dyn Log>,
    chain: Arc<Chain>,
    service: Arc<Service<RelayStatus>>,
    /// By nonce.
    flights: VecDeque<Flight>,
    /// Since when the hub lacks the decision after this many.
    behind: Option<(u64, Instant)>,
    left_out_at: Option<Instant>,
    stubborn: BTreeMap<Subject, Instant>,
}

/// A call that fits.
struct Call {
    data: Vec<u8>,
    gas: u64,
    what: Cargo,
}

impl Applier {
    /// An applier for the hub of `rollup`, whose calls `signer` signs.
    pub fn new(
        config: ApplyConfig,
        signer: Signer,
        rollup: RollupId,
        log: Arc<dyn Log>,
        chain: Arc<Chain>,
        service: Arc<Service<RelayStatus>>,
    ) -> Self {
        Self {
            config,
            signer,
            rollup,
            log,
            chain,
            service,
            flights: VecDeque::new(),
            behind: None,
            left_out_at: None,
            stubborn: BTreeMap::new(),
        }
    }

    /// Looks once, and sends what is to be sent.
    pub async fn step(&mut self) -> Result<(), RelayError> {
        let (status, (tip, place)) =
            tokio::try_join!(async { self.log.status().await.map_err(RelayError::from) }, async {
                let tip = self.chain.tip().await?;
                let place = self.chain.place(tip.number).await?;
                Ok::<_, RelayError>((tip, place))
            },)?;
        // A hub that is not deployed yet has nothing to take.
        let Some(place) = place else { return Ok(()) };
        self.service.update(|page| {
            page.decided = status.decision_sequence;
            page.applied = place.sequence;
        });
        if !self.landed(place).await? {
            return Ok(());
        }
        if status.decision_sequence > place.sequence {
            // What is on its way brings the hub so far; what is lost does not.
            let flying = self.flights.iter().filter(|flight| !flight.is_lost(self.lost_after()));
            let coming = flying.filter_map(|flight| flight.what.end()).max().unwrap_or(0).max(place.sequence);
            if status.decision_sequence > coming && self.may_go(place) {
                self.take(&tip, place, coming).await?;
            }
            return Ok(());
        }
        self.behind = None;
        if self.is_lost() {
            // Another has done what it was to do.
            self.flights.clear();
        }
        if self.flights.is_empty() { self.left_out(&tip, &status).await } else { Ok(()) }
    }

    /// Notes what was executed and what is ordered. Whether another call may be sent.
    async fn landed(&mut self, place: Place) -> Result<bool, RelayError> {
        if self.flights.is_empty() {
            return Ok(true);
        }
        let nonce = self.chain.nonce(self.signer.address()).await?;
        if self.flights.front().is_some_and(|flight| flight.nonce > nonce) {
            // The rollup left the history that they were made for.
            self.flights.clear();
        }
        while self.flights.front().is_some_and(|flight| flight.nonce < nonce) {
            if let Some(flight) = self.flights.pop_front() {
                self.executed(&flight, place).await?;
            }
        }
        if self.is_lost() {
            // What came after it could not be executed either. The lost one is kept: what replaces it offers more.
            self.flights.truncate(1);
            return Ok(true);
        }
        if self.flights.len() == FLIGHTS_MAX {
            return Ok(false);
        }
        // In one block of the log, the order of two bundles would be left to chance.
        if let Some(flight) = self.flights.back_mut()
            && let Some(bundle) = flight.waiting
        {
            if !self.log.is_ordered(bundle).await? {
                return Ok(false);
            }
            flight.waiting = None;
        }
        Ok(true)
    }

    /// Tells what became of an executed call.
    async fn executed(&self, flight: &Flight, place: Place) -> Result<(), RelayError> {
        let ms = flight.begin.elapsed().as_millis() as u64;
        for hash in flight.hashes.iter().rev() {
            let Some(receipt) = self.chain.receipt(*hash).await? else { continue };
            let gas = receipt.gas_used.to::<u64>();
            let succeeded = receipt.succeeded();
            self.service.update(|page| page.note_call(flight.what.decisions(), succeeded, gas, ms));
            let block = receipt.block_number.to::<u64>();
            match (flight.what, succeeded) {
                (Cargo::Decisions { from, to }, true) => {
                    tracing::info!(from = from + 1, to, gas, ms, block, "decisions applied");
                }
                (Cargo::Leg, true) => tracing::info!(gas, ms, block, "a leg that was left out is applied"),
                // Somebody else was faster.
                (Cargo::Decisions { to, .. }, false) if place.sequence >= to => {
                    tracing::debug!(to, gas, "applied by another");
                }
                (what, false) => {
                    tracing::warn!(?what, gas, hash = %receipt.transaction_hash, "a call reverted, looking again");
                }
            }
            break;
        }
        Ok(())
    }

    /// Whether others had their chance.
    fn may_go(&mut self, place: Place) -> bool {
        let since = match self.behind {
            Some((sequence, since)) if sequence == place.sequence => since,
            _ => {
                let now = Instant::now();
                self.behind = Some((place.sequence, now));
                now
            }
        };
        since.elapsed() >= Duration::from_millis(self.config.patience_ms)
    }

    async fn take(&mut self, tip: &L1Header, place: Place, coming: u64) -> Result<(), RelayError> {
        let page = self.log.decisions(place.sequence + 1, PAGE_MAX).await?;
        // The node that was asked may be a block behind the one before.
        if page.item.is_none() || page.range.decisions.is_empty() {
            return Ok(());
        }
        if page.range.sequence != place.sequence || page.range.chain != place.chain {
            return Err(RelayError::Diverged { have: place.sequence });
        }
        match self.fit(&page, tip, place, coming).await? {
            // As many as one call holds are on their way already: the rest waits for them.
            Some(call) if call.what.end().is_some_and(|end| end <= coming) => Ok(()),
            Some(call) => self.send(call, tip).await,
            None => Ok(()),
        }
    }

    /// The call with as many of the decisions as fit. `None` if the hub moved on meanwhile.
    async fn fit(
        &self,
        page: &DecisionPage,
        tip: &L1Header,
        place: Place,
        coming: u64,
    ) -> Result<Option<Call>, RelayError> {
        let Some(item) = &page.item else { return Ok(None) };
        let mut take = page.range.decisions.len().min(self.config.decisions_max.max(1));
        loop {
            let data = contracts::apply(item, &page.range, &page.intents, take)?;
            let (from, to) = (place.sequence, place.sequence + take as u64);
            match self.chain.estimate(self.signer.address(), &data).await? {
                Ok(gas) if gas <= self.config.gas_max => {
                    let what = Cargo::Decisions { from: coming, to };
                    return Ok(Some(Call { data, gas: with_room(gas), what }));
                }
                Ok(gas) if take == 1 => return Err(RelayError::Gas { gas, max: self.config.gas_max }),
                Ok(_) => take /= 2,
                Err(detail) => {
                    let now = self.chain.tip().await?;
                    let moved = now.hash != tip.hash && self.chain.place(now.number).await? != Some(place);
                    return if moved { Ok(None) } else { Err(RelayError::Refused { from: from + 1, to, detail }) };
                }
            }
        }
    }

    async fn send(&mut self, call: Call, tip: &L1Header) -> Result<(), RelayError> {
        let address = self.signer.address();
        let before = if self.is_lost() { self.flights.pop_front() } else { None };
        let nonce = match self.flights.back() {
            Some(last) => last.nonce + 1,
            None => self.chain.nonce(address).await?,
        };
        let caps = self.config.fees.caps();
        // The order of a lane is the log's: a tip buys nothing on the rollup.
        let market = Market { base_fee: tip.base_fee, tip: 0, blob_base_fee: 0 };
        let dear = || RelayError::TooDear { base_fee: tip.base_fee };
        let offer: Option<Price> = match &before {
            // What was lost may have offered too little; at the cap the same again.
            Some(flight) => fees::replacement(&flight.price, &market, &caps, false).or(Some(flight.price)),
            None => fees::first_offer(&market, &caps, false),
        };
        let Some(price) = offer.filter(|price| price.fee >= market.base_fee) else {
            self.flights.extend(before);
            return Err(dear());
        };
        let unsigned = |error: &dyn std::fmt::Display| RelayError::Unsigned(error.to_string());
        let draft = Draft::new(self.chain.hub(), call.data, &[], call.gas, Sidecar::default())
            .map_err(|error| unsigned(&error))?;
        let signed = draft.sign(&self.signer, self.rollup.0, nonce, &price).await.map_err(|error| unsigned(&error))?;
        let flight = match &before {
            Some(before) => Flight::instead_of(before, nonce, call.what, price, signed.hash),
            None => Flight::new(nonce, call.what, price, signed.hash),
        };
        if before.is_some() {
            tracing::info!(nonce, versions = flight.hashes.len(), fee = %price.fee, "not executed, sent again");
        }
        // Noted before it is sent: an answer that is lost is no transaction that is lost.
        let replaces = before.is_some();
        self.flights.push_back(flight);
        self.service.update(|page| page.calls += 1);
        match self.log.submit(signed.raw, VALID_FOR).await {
            Ok(bundle) => {
                if let Some(flight) = self.flights.back_mut() {
                    flight.waiting = Some(bundle);
                }
                tracing::debug!(?call.what, nonce, gas = call.gas, "sent");
                Ok(())
            }
            Err(error) => {
                if !replaces && error.is_refusal() {
                    self.flights.pop_back();
                }
                Err(error.into())
            }
        }
    }

    /// Whether the next call replaces one.
    fn is_lost(&self) -> bool {
        self.flights.front().is_some_and(|flight| flight.is_lost(self.lost_after()))
    }

    fn lost_after(&self) -> Duration {
        Duration::from_millis(self.config.lost_after_ms.max(1))
    }

    /// Applies one decision that the hub only recorded to one leg, if there is such a leg.
    async fn left_out(&mut self, tip: &L1Header, status: &RollupStatus) -> Result<(), RelayError> {
        if self.left_out_at.is_some_and(|at| at.elapsed() < LEFT_OUT_EVERY) {
            return Ok(());
        }
        self.left_out_at = Some(Instant::now());
        self.stubborn.retain(|_, since| since.elapsed() < STUBBORN_PAUSE);
        let settlements = self.log.unsettled().await?;
        let mut looked = 0;
        for (settlement, leg) in legs_behind(&settlements, self.rollup, status) {
            let subject = Subject::Leg { settlement: settlement.settlement, leg };
            if self.stubborn.contains_key(&subject) || looked == LEFT_OUT_MAX {
                continue;
            }
            looked += 1;
            if self.chain.outcome(settlement.settlement, tip.number).await? == 0 {
                continue;
            }
            let contract = settlement.intent.transfer.legs[usize::from(leg)].escrow;
            let Some(proof) = self.chain.proof(contract, &[subject.slot()], tip.number).await? else { continue };
            let word = proof.slots.first().map(|(word, _)| LegStatus::of(*word));
            if !matches!(word, Some(Ok(LegStatus::None | LegStatus::Prepared | LegStatus::Refused))) {
                continue;
            }
            let data = contracts::apply_recorded(&settlement.intent, leg);
            match self.chain.estimate(self.signer.address(), &data).await? {
                Ok(gas) => {
                    let call = Call { data, gas: with_room(gas), what: Cargo::Leg };
                    return self.send(call, tip).await;
                }
                Err(detail) => {
                    tracing::warn!(sid = %settlement.settlement, leg, detail, "an escrow does not take its decision");
                    self.service.update(|page| page.stubborn += 1);
                    self.stubborn.insert(subject, Instant::now());
                }
            }
        }
        Ok(())
    }
}

/// State moves until the call is executed: a fifth more than it takes now.
fn with_room(gas: u64) -> u64 {
    gas.saturating_add(gas / 5)
}

/// Legs here whose decision is old, and was not seen applied.
fn legs_behind<'a>(
    settlements: &'a [SettlementStatus],
    rollup: RollupId,
    status: &RollupStatus,
) -> impl Iterator<Item = (&'a SettlementStatus, u8)> {
    let (tip, incarnation) = (status.tip.0, status.record.incarnation);
    let old = settlements.iter().filter(move |settlement| {
        settlement.record.decided.is_some_and(|decided| decided.height.0.saturating_add(LEFT_OUT_HEIGHTS) <= tip)
    });
    old.flat_map(move |settlement| {
        let legs = (0..).zip(settlement.intent.transfer.legs.iter().zip(&settlement.record.legs));
        legs.filter(move |(_, (leg, kept))| {
            leg.rollup == rollup && !(kept.seen == Seen::Applied && kept.incarnation == incarnation)
        })
        .map(move |(index, _)| (settlement, index))
    })
}

impl Cargo {
    fn end(self) -> Option<u64> {
        match self {
            Self::Decisions { to, .. } => Some(to),
            Self::Leg => None,
        }
    }

    fn decisions(self) -> u64 {
        match self {
            Self::Decisions { from, to } => to.saturating_sub(from),
            Self::Leg => 0,
        }
    }
}
