//! How does what the log serves become calldata?

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolCall;

use lockstep_protocol::{
    ids::{Account, Address20},
    lane::LaneItem,
    settlement::{DecisionRange, Intent, LaneDecision, SettlementLeg},
};

use crate::{
    abi::{Certificate, Decision, LaneLeaf, Leg, MarginEscrow, SettlementHub},
    curve::{self, PointError},
};

/// Why there is no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum CallError {
    #[error("the certificate's signature is {0}")]
    Signature(#[from] PointError),
    #[error("{intents} settlements were given for {decisions} decisions")]
    Intents { decisions: usize, intents: usize },
}

impl From<&SettlementLeg> for Leg {
    fn from(leg: &SettlementLeg) -> Self {
        Self {
            rollup: leg.rollup.0,
            escrow: address(leg.escrow),
            account: address(leg.account),
            asset: B256::from(leg.asset.0),
            side: leg.side as u8,
            amount: leg.amount,
            level: leg.level as u8,
        }
    }
}

fn address(address: Address20) -> Address {
    Address::from(address.0)
}

fn account(account: &Account) -> B256 {
    B256::from(account.word().0)
}

fn legs(intent: &Intent) -> Vec<Leg> {
    intent.transfer.legs.iter().map(Leg::from).collect()
}

/// Calldata of `MarginEscrow.prepare` for one leg. The leg's account must send it, with a gas limit of
/// [`crate::deploy::PREPARE_GAS`].
pub fn prepare(intent: &Intent, leg: u8) -> Vec<u8> {
    MarginEscrow::prepareCall {
        account: account(&intent.account),
        nonce: intent.nonce,
        deadline: intent.transfer.deadline.0,
        legs: legs(intent),
        legIndex: leg,
    }
    .abi_encode()
}

/// Calldata of `SettlementHub.applyRecorded` for one leg of a decision that the hub has recorded.
pub fn apply_recorded(intent: &Intent, leg: u8) -> Vec<u8> {
    SettlementHub::applyRecordedCall {
        account: account(&intent.account),
        nonce: intent.nonce,
        deadline: intent.transfer.deadline.0,
        legs: legs(intent),
        legIndex: leg,
    }
    .abi_encode()
}

/// Calldata of `SettlementHub.applyDecisions` that takes the first `take` decisions of `range` and proves them by `item`, where
/// the range ends. `intents` are the settlements of the range's decisions, in order.
///
/// An intent that has not the decision's id is left out of the call, and so the decision is only recorded: the hub would
/// refuse the whole call.
pub fn apply(item: &LaneItem, range: &DecisionRange, intents: &[Intent], take: usize) -> Result<Vec<u8>, CallError> {
    if intents.len() != range.decisions.len() {
        return Err(CallError::Intents { decisions: range.decisions.len(), intents: intents.len() });
    }
    let take = take.min(range.decisions.len());
    let network = item.header.network;
    let decision = |(decided, intent): (&LaneDecision, &Intent)| {
        let sid = B256::from(decided.settlement.0);
        if intent.sid(network) != decided.settlement {
            return Decision { sid, outcome: decided.outcome, ..Decision::default() };
        }
        Decision {
            sid,
            outcome: decided.outcome,
            account: account(&intent.account),
            nonce: intent.nonce,
            deadline: intent.transfer.deadline.0,
            legs: legs(intent),
        }
    };
    let (taken, rest) = range.decisions.split_at(take);
    let certificate = &item.finality.certificate;
    let leaf = &item.leaf;
    let call = SettlementHub::applyDecisionsCall {
        header: item.header.encode().to_vec().into(),
        descendants: item.finality.descendants.iter().map(|header| header.encode().to_vec().into()).collect(),
        certificate: Certificate {
            epoch: certificate.epoch,
            view_: certificate.view,
            parentView: certificate.parent_view,
            signature: curve::signature(&certificate.signature)?.into(),
        },
        leaf: LaneLeaf {
            rollup: leaf.rollup.0,
            sequence: leaf.sequence,
            feed: B256::from(leaf.feed.0),
            decisionSequence: leaf.decision_sequence,
            decisions: B256::from(leaf.decisions.0),
        },
        path: item.path.iter().map(|hash| B256::from(hash.0)).collect(),
        taken: taken.iter().zip(intents).map(decision).collect(),
        // A sid and an outcome each.
        rest: rest
            .iter()
            .flat_map(|decided| [&decided.settlement.0[..], &[decided.outcome]].concat())
            .collect::<Vec<_>>()
            .into(),
    };
    Ok(call.abi_encode())
}
