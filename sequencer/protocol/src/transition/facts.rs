//! What do facts do to the state: heads, observations, deadlines, voids, leases, aborts?
//!
//! Each function checks everything before it changes anything, so that a proposer can leave out what fails. What becomes of one
//! settlement is decided in `settlement::machine`; the books around it are kept in `books.rs`.

use alloy_primitives::U256;

use crate::{
    account::AccountRecord,
    ids::{Account, Hash32, Height, RollupId, SettlementId},
    limits::{MAX_LEASE, REORG_QUARANTINE},
    report::Event,
    settlement::{
        AbortReason, Claim, Decision, FactError, Head, HeadCertificate, LegStatus, Level, Observation, SignedAbort,
        SignedLease, Subject, Void,
        machine::{Effect, Fact},
        observation::storage_root,
        proof,
        records::{
            DepositRecord, HeadRecord, LeaseRecord, LegRecord, RollupRecord, Seen, SettlementRecord, deposit_key,
            head_key, lease_key, rollup_key, settlement_key,
        },
    },
    transition::{Execution, keys::due},
};

impl Execution<'_> {
    /// Takes a certified head. One that contradicts an earlier head of the rollup's history starts a new incarnation.
    pub(crate) fn head(&mut self, certificate: &HeadCertificate) -> Result<(), FactError> {
        let head = certificate.head;
        let Head { rollup, level, number, incarnation: found, .. } = head;
        let mut record: RollupRecord = self.store.get(&rollup_key(rollup)).unwrap_or_default();
        let current = record.incarnation;
        let next = current.saturating_add(1);
        let conflict = Level::ALL
            .iter()
            .filter_map(|level| self.store.get::<HeadRecord>(&head_key(rollup, *level, number)))
            .map(|known| known.head)
            .filter(|known| known.number == number && known.incarnation == current)
            .any(|known| (known.block_hash, known.state_root) != (head.block_hash, head.state_root));
        if conflict && (found == current || found == next) {
            record = RollupRecord {
                incarnation: next,
                latest: [None; 3],
                quarantined_until: Height(self.height.0.saturating_add(REORG_QUARANTINE)),
                ..record
            };
            // Two roots of one incarnation: more than a third signed both, and neither is to be believed.
            if found == next {
                self.remember(&mut record, head);
            }
            self.store.put(rollup_key(rollup), &record);
            return Ok(());
        }
        if found == next {
            return Err(FactError::NoConflict { rollup, number });
        }
        if found != current {
            return Err(FactError::Incarnation { rollup, current, found });
        }
        if let Some(latest) = record.latest[level as usize].filter(|latest| *latest >= number) {
            return Err(FactError::StaleHead { rollup, number, latest });
        }
        self.remember(&mut record, head);
        self.store.put(rollup_key(rollup), &record);
        Ok(())
    }

    fn remember(&mut self, record: &mut RollupRecord, head: Head) {
        record.latest[head.level as usize] = Some(head.number);
        record.seen_at = self.height;
        let known = HeadRecord { head, height: self.height };
        self.store.put(head_key(head.rollup, head.level, head.number), &known);
    }

    /// The state root of a head that the log remembers, of the rollup's current incarnation.
    fn state_root(&self, rollup: RollupId, level: Level, number: u64) -> Result<Hash32, FactError> {
        let current = self.store.get::<RollupRecord>(&rollup_key(rollup)).unwrap_or_default().incarnation;
        let known = self.store.get::<HeadRecord>(&head_key(rollup, level, number)).map(|known| known.head);
        let known = known.filter(|known| known.number == number && known.incarnation == current);
        known.map(|known| known.state_root).ok_or(FactError::UnknownHead { rollup, level, number })
    }

    /// The storage root that an observation's claims are about.
    pub(crate) fn observed(&self, observation: &Observation) -> Result<Hash32, FactError> {
        let root = self.state_root(observation.rollup, observation.level, observation.number)?;
        observation.storage_root(root)
    }

    /// Takes one claim of an observation, whose storage root was found by `observed`.
    pub(crate) fn claim(&mut self, observation: &Observation, claim: &Claim, root: Hash32) -> Result<(), FactError> {
        match claim.subject {
            Subject::Leg { settlement, leg } => self.claim_leg(observation, claim, root, settlement, leg),
            Subject::Deposit { account } => self.claim_deposit(observation, claim, root, account),
        }
    }

    fn claim_leg(
        &mut self,
        observation: &Observation,
        claim: &Claim,
        root: Hash32,
        settlement: SettlementId,
        leg: u8,
    ) -> Result<(), FactError> {
        let record: Option<SettlementRecord> = self.store.get(&settlement_key(&settlement));
        let mut record = record.ok_or(FactError::UnknownSettlement { settlement })?;
        let place = record.legs.get(usize::from(leg)).ok_or(FactError::UnknownLeg { settlement, leg })?;
        let rollup = self.rules.at_place(place.rollup).filter(|rollup| rollup.id == observation.rollup);
        let escrows = rollup.and_then(|rollup| rollup.settlement.as_ref()).map(|participant| &participant.escrows);
        if escrows.and_then(|escrows| escrows.get(usize::from(place.escrow))) != Some(&observation.contract) {
            return Err(FactError::WrongContract { leg });
        }
        let status = LegStatus::of(claim.word(root)?)?;
        let mut grounds = self.grounds(&record);
        let fact = Fact { leg: usize::from(leg), status, level: observation.level };
        let effect = record.observe(fact, &mut grounds)?;
        self.put_grounds(&grounds);
        match effect {
            Effect::Noted => self.store.put(settlement_key(&settlement), &record),
            Effect::Decide(decision) => self.decide(settlement, record, decision),
            Effect::Settled => {
                // An abort has freed at once what it held.
                if record.decided.is_some_and(|decided| decided.decision == Decision::Commit) {
                    self.release(&record);
                }
                self.store.put(settlement_key(&settlement), &record);
            }
        }
        Ok(())
    }

    fn claim_deposit(
        &mut self,
        observation: &Observation,
        claim: &Claim,
        root: Hash32,
        account: Account,
    ) -> Result<(), FactError> {
        let participant = self.rules.participant(observation.rollup)?;
        if observation.contract != participant.hub {
            return Err(FactError::WrongContract { leg: 0 });
        }
        let (needed, found) = (participant.settled_level, observation.level);
        if found < needed {
            return Err(FactError::LevelTooLow { needed, found });
        }
        let key = deposit_key(observation.rollup, &account);
        let before: DepositRecord = self.store.get(&key).unwrap_or_default();
        let word: U256 = claim.word(root)?;
        let counter = u64::try_from(word).map_err(|_| FactError::Supply)?;
        let credits = counter.checked_sub(before.credited).filter(|credits| *credits > 0);
        let credits = credits.ok_or(FactError::NothingNew)?;
        // All credits stay below 2^64 - 1, the fee that nobody can pay.
        let deposited = self.treasury.deposited.checked_add(credits).ok_or(FactError::Supply)?;
        if self.rules.supply.checked_add(deposited).is_none_or(|supply| supply == u64::MAX) {
            return Err(FactError::Supply);
        }
        self.treasury.deposited = deposited;
        self.store.put(key, &DepositRecord { credited: counter });
        let known = self.account(account).ok().cloned();
        let mut record = known.unwrap_or_else(|| AccountRecord::new(self.rules.network, account));
        record.balance = record.balance.checked_add(credits).expect("all credits fit in 64 bits");
        self.report(&mut record, Event::Funded { credits });
        self.accounts.insert(account, Some(record));
        Ok(())
    }

    /// Decides what is due and not decided, and asks who has not applied what was decided a window ago.
    pub(crate) fn deadlines(&mut self) {
        if self.rules.participants().next().is_none() {
            return;
        }
        let [now, late] = due(self.rules, self.height, |key| self.store.get(key));
        for due in now {
            let record = self.ordered(&due.settlement);
            if let Some(Effect::Decide(decision)) = record.expire() {
                self.decide(due.settlement, record, decision);
            }
        }
        for due in late {
            let mut record = self.ordered(&due.settlement);
            let mut grounds = self.grounds(&record);
            if record.mark_late(&mut grounds) {
                self.put_grounds(&grounds);
                self.store.put(settlement_key(&due.settlement), &record);
            }
        }
    }

    fn ordered(&self, settlement: &SettlementId) -> SettlementRecord {
        self.store.get(&settlement_key(settlement)).expect("what is due was ordered, and records stay")
    }

    /// Aborts a settlement that was never ordered and cannot be any more, of which a leg stands prepared.
    pub(crate) fn void(&mut self, void: &Void) -> Result<(), FactError> {
        let settlement = void.sid(self.rules.network);
        let deadline = void.intent.transfer.deadline;
        // It is ordered some heights before its deadline or not at all.
        if self.height <= deadline {
            return Err(FactError::TooEarly { deadline, height: self.height });
        }
        if self.store.get::<SettlementRecord>(&settlement_key(&settlement)).is_some() {
            return Err(FactError::Known { settlement });
        }
        let leg = *void.shown().ok_or(FactError::UnknownLeg { settlement, leg: void.leg })?;
        if void.level < leg.level {
            return Err(FactError::LevelTooLow { needed: leg.level, found: void.level });
        }
        let root = self.state_root(leg.rollup, void.level, void.number)?;
        let root = storage_root(root, leg.escrow, &void.account_proof)?;
        let word = proof::contract_word(root, &void.subject(self.rules.network).slot(), &void.proof)?;
        match LegStatus::of(word)? {
            LegStatus::Prepared => {}
            LegStatus::None => return Err(FactError::NothingNew),
            // A refusal locks nothing.
            LegStatus::Refused => return Err(FactError::NothingNew),
            status => return Err(FactError::Contradiction { leg: void.leg, status: status as u8 }),
        }
        let legs: Vec<LegRecord> = void.intent.transfer.legs.iter().map(|leg| self.leg_record(leg)).collect();
        let mut record = SettlementRecord {
            account: void.intent.account,
            nonce: void.intent.nonce,
            deadline,
            decided: None,
            settled: false,
            late: 0,
            legs,
            flows: Vec::new(),
        };
        let incarnation = self.store.get::<RollupRecord>(&rollup_key(leg.rollup)).unwrap_or_default().incarnation;
        let shown = &mut record.legs[usize::from(void.leg)];
        (shown.seen, shown.incarnation) = (Seen::Prepared, incarnation);
        self.decide(settlement, record, Decision::Abort(AbortReason::Unknown));
        Ok(())
    }

    /// Takes or renews a lease.
    pub(crate) fn lease(&mut self, signed: &SignedLease) -> Result<(), FactError> {
        let lease = &signed.lease;
        let (min, max) = (self.height.next(), Height(self.height.0.saturating_add(MAX_LEASE)));
        if lease.until < min || lease.until > max {
            return Err(FactError::LeaseTerm { until: lease.until, min, max });
        }
        let key = lease_key(lease.rollup);
        let before: Option<LeaseRecord> = self.store.get(&key);
        let term = match before {
            None => 1,
            Some(held) if held.holder == lease.holder => {
                if lease.until <= held.until {
                    return Err(FactError::NothingNew);
                }
                held.term
            }
            Some(held) if held.until >= self.height => {
                return Err(FactError::LeaseHeld { holder: held.holder, until: held.until });
            }
            Some(held) => held.term.saturating_add(1),
        };
        self.store.put(key, &LeaseRecord { holder: lease.holder, until: lease.until, term });
        Ok(())
    }

    /// Aborts an undecided settlement for its owner.
    pub(crate) fn abort(&mut self, signed: &SignedAbort) -> Result<(), FactError> {
        let settlement = signed.abort.settlement;
        let record: Option<SettlementRecord> = self.store.get(&settlement_key(&settlement));
        let record = record.ok_or(FactError::UnknownSettlement { settlement })?;
        if record.account != signed.abort.account {
            return Err(FactError::NotOwner);
        }
        if record.decided.is_some() {
            return Err(FactError::Known { settlement });
        }
        self.decide(settlement, record, Decision::Abort(AbortReason::Cancelled));
        Ok(())
    }
}
