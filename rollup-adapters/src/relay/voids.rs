//! Which legs stand prepared although their settlement was never ordered?
//!
//! A prepare transaction can be executed without its bundle. No deadline releases its leg then, but the log aborts it once somebody
//! shows it, after the intent's deadline. The legs are found by the escrows' events, the intents in the calldata of the transactions that
//! made them. An intent names its owner by a hash there; whose it is, is found among the accounts that are known here and the
//! addresses that the transaction names. What was prepared by a contract on behalf of an account is not found.

use std::collections::BTreeMap;

use alloy_primitives::{Address, B256};
use lockstep_contracts::{
    SolCall, SolEvent,
    abi::{Leg, MarginEscrow},
};
use lockstep_protocol::{
    ids::{Account, Address20, AssetId, Height, NetworkId, RollupId, SettlementId},
    limits::MAX_SETTLEMENT_LEGS,
    rpc::RollupStatus,
    settlement::{Intent, LegStatus, Level, MarginTransfer, SettlementLeg, Side, Subject, Void},
};

use super::{RelayError, chain::Chain, log::Log};

/// Blocks before the latest that are read after a start: what is older was for an earlier relayer to find.
const BACK_MAX: u64 = 5_000;
/// Blocks in one question for events.
const BLOCKS_MAX: u64 = 1_000;
/// Legs that wait for their deadline.
const WAITING_MAX: usize = 1_024;
/// Heights after which something is shown again that the log has not taken.
const AGAIN_HEIGHTS: u64 = 16;

/// Legs of settlements that the log does not know.
pub(super) struct Voids {
    network: NetworkId,
    rollup: RollupId,
    escrows: Vec<Address20>,
    accounts: Vec<Account>,
    next: Option<u64>,
    waiting: BTreeMap<SettlementId, Waiting>,
}

struct Waiting {
    intent: Intent,
    leg: u8,
    shown: Option<Height>,
}

impl Voids {
    pub(super) fn new(network: NetworkId, rollup: RollupId, escrows: Vec<Address20>, accounts: Vec<Account>) -> Self {
        Self { network, rollup, escrows, accounts, next: None, waiting: BTreeMap::new() }
    }

    /// How many legs wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Reads the events of blocks up to the latest certified one. `is_open` tells settlements that the log is known to have.
    pub(super) async fn read(
        &mut self,
        chain: &Chain,
        log: &dyn Log,
        certified: u64,
        is_open: impl Fn(&SettlementId) -> bool,
    ) -> Result<(), RelayError> {
        let next = self.next.unwrap_or(certified.saturating_sub(BACK_MAX));
        // The rollup left its history: what is new in the other one is read again.
        let next = next.min(certified + 1);
        let last = certified.min(next + BLOCKS_MAX - 1);
        if last < next {
            return Ok(());
        }
        let topics = [MarginEscrow::LegPrepared::SIGNATURE_HASH];
        for event in chain.events(&self.escrows, &topics, next, last).await? {
            let Some(sid) = event.topics.get(1).map(|sid| SettlementId(sid.0)) else { continue };
            if is_open(&sid) || self.waiting.contains_key(&sid) || log.knows(sid).await? {
                continue;
            }
            let Some((sender, input)) = chain.transaction(event.transaction_hash).await? else { continue };
            let Some((intent, leg)) = self.intent(sid, sender, &input) else {
                tracing::warn!(%sid, transaction = %event.transaction_hash, "a leg of an unknown settlement stands prepared, and its intent cannot be read");
                continue;
            };
            if self.waiting.len() < WAITING_MAX {
                tracing::info!(%sid, leg, deadline = intent.transfer.deadline.0, "a leg stands prepared whose settlement is not ordered");
                self.waiting.insert(sid, Waiting { intent, leg, shown: None });
            }
        }
        self.next = Some(last + 1);
        Ok(())
    }

    /// Voids that the log can take now.
    pub(super) async fn due(
        &mut self,
        chain: &Chain,
        log: &dyn Log,
        status: &RollupStatus,
    ) -> Result<Vec<Void>, RelayError> {
        let tip = status.tip;
        let due = |waiting: &Waiting| {
            waiting.intent.transfer.deadline < tip
                && waiting.shown.is_none_or(|at| at.0.saturating_add(AGAIN_HEIGHTS) <= tip.0)
        };
        let sids: Vec<_> = self.waiting.iter().filter(|(_, waiting)| due(waiting)).map(|(sid, _)| *sid).collect();
        let mut voids = Vec::new();
        for sid in sids {
            if log.knows(sid).await? {
                self.waiting.remove(&sid);
                continue;
            }
            let Some(waiting) = self.waiting.get_mut(&sid) else { continue };
            let shown = waiting.intent.transfer.legs[usize::from(waiting.leg)];
            let Some(number) = status.record.latest[shown.level as usize] else { continue };
            let slot = Subject::Leg { settlement: sid, leg: waiting.leg }.slot();
            let Some(mut proof) = chain.proof(shown.escrow, &[slot], number).await? else { continue };
            let Some((word, nodes)) = proof.slots.pop() else { continue };
            if LegStatus::of(word) != Ok(LegStatus::Prepared) {
                // Released, or prepared in a history that the rollup left.
                self.waiting.remove(&sid);
                continue;
            }
            waiting.shown = Some(tip);
            let (leg, level, intent) = (waiting.leg, shown.level, waiting.intent.clone());
            voids.push(Void { intent, leg, level, number, account_proof: proof.account, proof: nodes });
        }
        Ok(voids)
    }

    /// The intent in the calldata of a `prepare`, if it is the one with this id.
    fn intent(&self, sid: SettlementId, sender: Address, input: &[u8]) -> Option<(Intent, u8)> {
        let call = MarginEscrow::prepareCall::abi_decode(input).ok()?;
        if call.legs.len() > MAX_SETTLEMENT_LEGS {
            return None;
        }
        let legs = call.legs.iter().map(leg).collect::<Option<Vec<_>>>()?;
        let shown = legs.get(usize::from(call.legIndex)).filter(|leg| leg.rollup == self.rollup)?;
        let named =
            [sender, Address::from(shown.account.0)].map(|address| Account::Secp256k1(Address20(address.into_array())));
        let mut accounts = named.iter().chain(&self.accounts);
        let account = *accounts.find(|account| B256::from(account.word().0) == call.account)?;
        let transfer = MarginTransfer { legs, deadline: Height(call.deadline) };
        let intent = Intent { account, nonce: call.nonce, transfer };
        (intent.sid(self.network) == sid).then_some((intent, call.legIndex))
    }
}

fn leg(leg: &Leg) -> Option<SettlementLeg> {
    Some(SettlementLeg {
        rollup: RollupId(leg.rollup),
        escrow: Address20(leg.escrow.into_array()),
        account: Address20(leg.account.into_array()),
        asset: AssetId(leg.asset.0),
        side: match leg.side {
            0 => Side::Debit,
            1 => Side::Credit,
            _ => return None,
        },
        amount: leg.amount,
        level: *Level::ALL.get(usize::from(leg.level))?,
    })
}
