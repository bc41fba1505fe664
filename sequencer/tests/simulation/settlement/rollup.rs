//! What does a rollup make of its lane?
//!
//! It executes the transactions of its lane, in their order, into blocks with real state roots: an escrow, a hub that checks
//! certificates with the group's one key, and a venue from which margin can be taken out and liquidated. It may halt, leave its
//! history, and leave transactions out. There is no virtual machine and no gas.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, Signature, TxKind, U256};
use borsh::{BorshDeserialize, BorshSerialize};
use std::collections::BTreeMap;

use lockstep_protocol::{
    bundle::Transaction,
    certificate::Verifier,
    ids::{Address20, Hash32, RollupId, SettlementId},
    lane::{LaneFollower, LaneItem},
    settlement::{DecisionRange, Head, Intent, LegStatus, Level, Side, decision},
};
use lockstep_sequencer::formats::eip2718;
use secp256k1::{Message, SECP256K1, SecretKey};

use super::chain::{Chain, State, asset, escrow_of, hub_of};
use crate::ledger::{Ledger, Page};

/// Log heights after which a rollup makes a block although its lane had nothing.
const IDLE_HEIGHTS: u64 = 3;

/// What a transaction asks of a rollup's contracts.
#[derive(Clone, Debug, BorshSerialize, BorshDeserialize)]
pub(crate) enum Call {
    /// The owner's own call of the escrow.
    Prepare { intent: Intent, leg: u8 },
    /// Takes the caller's margin out of the venue.
    Withdraw { amount: u128 },
    /// Takes an account's free margin over, as far as there is any.
    Liquidate { account: Address20, amount: u128 },
    /// Pays in what a leg found too little.
    Cover { settlement: SettlementId, leg: u8, side: Side },
    /// Hands the hub decisions, with the settlements that they are of.
    Apply { item: Box<LaneItem>, range: DecisionRange, intents: Vec<Intent> },
}

/// What became of a rollup's transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) executed: usize,
    pub(crate) reverted: usize,
    /// Applications that the hub refused.
    pub(crate) unproven: usize,
}

/// What the contracts do not keep themselves.
#[derive(Clone, Copy, Debug, Default)]
struct Paid {
    withdrawn: u128,
    /// Paid in for debits that found too little.
    covered: u128,
}

pub(crate) struct Rollup {
    pub(crate) chain: Chain,
    verifier: Verifier,
    /// The log height whose items the tip has executed, after each block.
    derived: Vec<u64>,
    /// It makes no blocks.
    pub(crate) halted: bool,
    /// Its nodes answer nobody.
    pub(crate) dark: bool,
    /// Prepares that come with log blocks up to this one are left out: a poster that leaves the order.
    pub(crate) deaf_until: u64,
    /// What has gone into the venue and out of it, after each block.
    paid: Vec<Paid>,
    /// Every settlement that a transaction named.
    pub(crate) intents: BTreeMap<SettlementId, Intent>,
    pub(crate) counts: Counts,
    /// Every block that there ever was.
    pub(crate) history: BTreeMap<Hash32, BTreeMap<(SettlementId, u8), LegStatus>>,
    roots: BTreeMap<Hash32, Hash32>,
    pub(crate) reorgs: u32,
}

impl Call {
    /// The call as `key`'s signed transaction.
    pub(crate) fn sign(&self, rollup: RollupId, key: &SecretKey) -> Transaction {
        let to = if matches!(self, Self::Apply { .. }) { hub_of(rollup.0) } else { escrow_of(rollup.0) };
        let unsigned = TxEip1559 {
            chain_id: rollup.0,
            gas_limit: 500_000,
            max_fee_per_gas: 1_000_000_000,
            to: TxKind::Call(Address::from(to.0)),
            input: borsh::to_vec(self).expect("a call can be encoded").into(),
            ..TxEip1559::default()
        };
        let signature = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(unsigned.signature_hash().0), key);
        let (recovery, compact) = signature.serialize_compact();
        let word = |from: usize| U256::from_be_slice(&compact[from..from + 32]);
        let signature = Signature::new(word(0), word(32), i32::from(recovery) == 1);
        Transaction(TxEnvelope::from(unsigned.into_signed(signature)).encoded_2718())
    }

    fn read(transaction: &Transaction) -> Option<Self> {
        let TxEnvelope::Eip1559(signed) = TxEnvelope::decode_2718_exact(&transaction.0).ok()? else { return None };
        borsh::from_slice(&signed.tx().input).ok()
    }
}

impl Rollup {
    pub(crate) fn new(id: RollupId, verifier: Verifier, state: State) -> Self {
        let mut rollup = Self {
            chain: Chain::new(id, state),
            verifier,
            derived: vec![0],
            halted: false,
            dark: false,
            deaf_until: 0,
            paid: vec![Paid::default()],
            intents: BTreeMap::new(),
            counts: Counts::default(),
            history: BTreeMap::new(),
            roots: BTreeMap::new(),
            reorgs: 0,
        };
        rollup.remember();
        rollup
    }

    pub(crate) fn id(&self) -> RollupId {
        self.chain.id
    }

    /// Executes what the log has for it since its last block.
    pub(crate) fn follow(&mut self, ledger: &Ledger) {
        while !self.halted && self.executed_up_to() < ledger.height() {
            let from = self.executed_up_to() + 1;
            let busy = (from..=ledger.height()).find(|height| !ledger.lane(*height, self.id()).is_empty());
            let idle = from + IDLE_HEIGHTS - 1;
            match busy.filter(|height| *height <= idle) {
                Some(height) => self.execute(ledger.page_at(height)),
                None if idle <= ledger.height() => self.execute(ledger.page_at(idle)),
                None => return,
            }
        }
    }

    fn executed_up_to(&self) -> u64 {
        *self.derived.last().expect("a chain has a first block")
    }

    /// Makes a block of what a block of the log has for it.
    fn execute(&mut self, page: &Page) {
        let height = page.header.height.0;
        let transactions: Vec<_> = page.lanes.get(&self.id()).into_iter().flatten().flatten().cloned().collect();
        let (id, verifier, deaf) = (self.id(), self.verifier.clone(), height <= self.deaf_until);
        let mut counts = self.counts;
        let mut paid = *self.paid.last().expect("a chain has a first block");
        let intents = &mut self.intents;
        self.chain.mine(|state| {
            for transaction in &transactions {
                let sender = eip2718::check(&transaction.0, id).expect("what was ordered was admitted");
                let Some(call) = Call::read(transaction) else { continue };
                if deaf && matches!(call, Call::Prepare { .. }) {
                    continue;
                }
                let named = call.intents().iter().map(|intent| (intent.sid(verifier.network()), intent.clone()));
                intents.extend(named);
                let unproven = matches!(call, Call::Apply { .. });
                match call.run(id, &verifier, sender, state, &mut paid) {
                    Some(()) => counts.executed += 1,
                    None => {
                        counts.reverted += 1;
                        counts.unproven += usize::from(unproven);
                    }
                }
            }
        });
        self.counts = counts;
        self.derived.push(height);
        self.paid.push(paid);
        self.remember();
    }

    fn remember(&mut self) {
        let (hash, state) = self.chain.blocks.last().expect("a chain has a first block");
        self.history.insert(*hash, state.escrow.legs.clone());
    }

    /// Leaves the last `depth` blocks. What their log blocks had is executed again, in other blocks.
    pub(crate) fn reorg(&mut self, depth: usize) {
        self.chain.reorg(depth);
        self.derived.truncate(self.chain.blocks.len());
        self.paid.truncate(self.chain.blocks.len());
        self.reorgs += 1;
    }

    pub(crate) fn withdrawn(&self) -> u128 {
        self.paid.last().expect("a chain has a first block").withdrawn
    }

    /// What accounts kept although it was debited: owed to the venue, or paid in by somebody else.
    pub(crate) fn kept_by_shortfalls(&self) -> u128 {
        let owed = self.chain.tip().escrow.owed.iter();
        let debits = owed.filter(|((settlement, leg), _)| {
            self.intents[settlement].transfer.legs[usize::from(*leg)].side == Side::Debit
        });
        let covered = self.paid.last().expect("a chain has a first block").covered;
        debits.map(|(_, (_, amount))| amount).sum::<u128>() + covered
    }

    /// A head as the rollup's nodes show it.
    pub(crate) fn head(&mut self, level: Level, number: u64, incarnation: u32) -> Head {
        let (hash, _) = self.chain.blocks[number as usize];
        if let Some(root) = self.roots.get(&hash) {
            return Head { rollup: self.id(), level, number, block_hash: hash, state_root: *root, incarnation };
        }
        let head = self.chain.head(level, number, incarnation);
        self.roots.insert(hash, head.state_root);
        head
    }

    pub(crate) fn status(&self, settlement: SettlementId, leg: u8) -> LegStatus {
        self.chain.tip().escrow.status(settlement, leg)
    }

    pub(crate) fn free(&self, account: Address20) -> u128 {
        self.chain.tip().escrow.free.get(&(account, asset())).copied().unwrap_or_default()
    }
}

impl Call {
    /// How many decisions the hub of a new rollup takes from this, if it does not revert.
    pub(crate) fn try_alone(self, rollup: RollupId, verifier: &Verifier) -> Option<usize> {
        let mut state = State::default();
        self.run(rollup, verifier, Address20([1; 20]), &mut state, &mut Paid::default())?;
        Some(state.applied)
    }

    fn intents(&self) -> &[Intent] {
        match self {
            Self::Prepare { intent, .. } => std::slice::from_ref(intent),
            Self::Apply { intents, .. } => intents,
            _ => &[],
        }
    }

    /// Nothing happens where it reverts.
    fn run(
        self,
        rollup: RollupId,
        verifier: &Verifier,
        sender: Address20,
        state: &mut State,
        paid: &mut Paid,
    ) -> Option<()> {
        match self {
            Self::Prepare { intent, leg } => {
                let place = *intent.transfer.legs.get(usize::from(leg))?;
                let here = place.rollup == rollup && place.escrow == escrow_of(rollup.0) && place.account == sender;
                let settlement = intent.sid(verifier.network());
                here.then(|| state.escrow.prepare(settlement, leg, &place).ok()).flatten().map(|_| ())
            }
            Self::Withdraw { amount } => {
                let free = state.escrow.free.get_mut(&(sender, asset()))?;
                *free = free.checked_sub(amount)?;
                *state.escrow.tokens.get_mut(&asset()).expect("the venue was funded") -= amount;
                paid.withdrawn += amount;
                Some(())
            }
            Self::Liquidate { account, amount } => {
                // What is in flight belongs to the settlement: only what is free can be seized.
                let free = state.escrow.free.get_mut(&(account, asset()))?;
                let seized = amount.min(*free);
                *free -= seized;
                *state.escrow.free.entry((sender, asset())).or_default() += seized;
                (seized > 0).then_some(())
            }
            Self::Cover { settlement, leg, side } => {
                let (_, amount) = *state.escrow.owed.get(&(settlement, leg))?;
                // A credit that found too little was credited in full; only a debit leaves its account with more.
                paid.covered += if side == Side::Debit { amount } else { 0 };
                state.escrow.cover(settlement, leg);
                Some(())
            }
            Self::Apply { item, range, intents } => {
                let leaf = LaneFollower::from_item(verifier.clone(), &item).ok()?.leaf();
                let continues = range.sequence == state.applied as u64 && range.chain == state.chain;
                if leaf.rollup != rollup || !continues || range.verify(&leaf).is_err() || range.decisions.is_empty() {
                    return None;
                }
                let intents: BTreeMap<_, _> =
                    intents.into_iter().map(|intent| (intent.sid(verifier.network()), intent)).collect();
                for decided in &range.decisions {
                    let legs = intents.get(&decided.settlement).into_iter().flat_map(|intent| &intent.transfer.legs);
                    for (index, leg) in (0_u8..).zip(legs).filter(|(_, leg)| leg.rollup == rollup) {
                        let applied = match decided.outcome {
                            1 => state.escrow.commit(decided.settlement, index, leg),
                            _ => state.escrow.release(decided.settlement, index, leg),
                        };
                        applied.expect("S3: a decision never contradicts what a leg came to");
                    }
                    state.applied += 1;
                    state.chain = decision::chain(state.chain, decided.settlement, decided.outcome);
                }
                Some(())
            }
        }
    }
}

/// Whether a leg's debit or credit counts: what is gone from its account, or has come to it.
pub(crate) fn moved(status: LegStatus, side: Side) -> bool {
    match side {
        Side::Debit => matches!(status, LegStatus::Prepared | LegStatus::Committed | LegStatus::Shortfall),
        Side::Credit => matches!(status, LegStatus::Committed | LegStatus::Shortfall),
    }
}
