//! What does a client believe? What one key, given to it out of band, proves.
//!
//! Pure: every check is a function of what a node said. Nothing that a node says about the network is taken from it.

use lockstep_protocol::{
    account::AccountRecord,
    bundle::Bundle,
    certificate::{CertificateError, Finality, Verifier},
    evidence::{self, BundleState, Reports},
    genesis::{Genesis, GroupKeyBytes},
    header::Header,
    ids::{Account, Hash32, Height, NetworkId, RollupId, SettlementId},
    lane::{self, LaneItem},
    rpc::{DecisionPage, FinalHeader, StateProof, StateQuery},
    settlement::{
        DecidedLeg, Intent,
        records::{InFlightRecord, RollupRecord, SettlementRecord},
    },
    state::{LaneRecord, Record, Stored},
};
use serde::{Deserialize, Serialize};

use crate::{error::CheckError, proof::proves};

/// The network and its group's key: all that a client trusts.
#[derive(Clone)]
pub struct Trust {
    verifier: Verifier,
    key: GroupKeyBytes,
}

/// A value that the log held at a final height.
#[derive(Clone, Debug)]
pub struct Proven<T> {
    /// What was proven; `None` where the state is proven to have nothing.
    pub value: Option<T>,
    /// The final header whose state holds it.
    pub header: Header,
}

/// All that convinces a third party of what became of a bundle. Keep it: it needs no node to be checked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The account's record, or its absence, in a final state.
    pub account: StateProof,
    /// The account's reports from the one that tells up to the record. Empty where the record alone tells.
    pub reports: Reports,
}

impl Trust {
    /// Trusts the group key `key` for the network called `network`.
    pub fn new(network: &str, key: &GroupKeyBytes) -> Result<Self, CertificateError> {
        Ok(Self { verifier: Verifier::new(NetworkId::from_name(network), key)?, key: *key })
    }

    /// Trusts the network of a genesis that was obtained out of band.
    pub fn from_genesis(genesis: &Genesis) -> Result<Self, CertificateError> {
        Self::new(&genesis.network, &genesis.group_key)
    }

    /// The network's id.
    pub fn network(&self) -> NetworkId {
        self.verifier.network()
    }

    /// The group's key.
    pub fn group_key(&self) -> &GroupKeyBytes {
        &self.key
    }

    /// What checks certificates.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Checks that a header is final.
    pub fn check_final(&self, header: &Header, finality: &Finality) -> Result<(), CheckError> {
        let height = header.height;
        self.verifier.verify(header, finality).map_err(|error| CheckError::Header { height, error })
    }

    /// Checks the answer to a question for a header.
    pub fn check_header(&self, answer: &FinalHeader, asked: Option<Height>) -> Result<(), CheckError> {
        let height = answer.header.height;
        if let Some(asked) = asked.filter(|asked| *asked != height) {
            return Err(CheckError::Height { asked, found: height });
        }
        if answer.digest != answer.header.digest() {
            return Err(CheckError::Digest { height });
        }
        self.check_final(&answer.header, &answer.finality)
    }

    /// Checks the answer to a question for a record, and gives the record.
    pub fn check_state(&self, query: StateQuery, answer: &StateProof) -> Result<Option<Record>, CheckError> {
        let key = query.key();
        if answer.key.0 != key {
            return Err(CheckError::Key { asked: Hash32(key), found: answer.key });
        }
        let record: Option<Record> = match &answer.record {
            None => None,
            Some(bytes) => Some(bytes.0.as_slice().try_into().map_err(|_| CheckError::RecordLength(bytes.0.len()))?),
        };
        self.check_final(&answer.header, &answer.finality)?;
        if !proves(&answer.header.state, &key, record.as_ref(), &answer.proof.0) {
            return Err(CheckError::State { height: answer.header.height });
        }
        Ok(record)
    }

    /// Checks the answer to a question for an account, and gives its record.
    pub fn check_account(&self, account: Account, answer: &StateProof) -> Result<Option<AccountRecord>, CheckError> {
        let Some(record) = self.check_state(StateQuery::Account(account), answer)? else { return Ok(None) };
        let record = AccountRecord::from_record(&record)?;
        if record.account != account {
            return Err(CheckError::Account { asked: account, found: record.account });
        }
        Ok(Some(record))
    }

    /// Checks the answer to a question for a lane, and gives its record.
    pub fn check_lane(&self, rollup: RollupId, answer: &StateProof) -> Result<Option<LaneRecord>, CheckError> {
        let Some(record) = self.check_state(StateQuery::Lane(rollup), answer)? else { return Ok(None) };
        let record = LaneRecord::from_record(&record)?;
        if record.leaf.rollup != rollup {
            return Err(CheckError::Rollup { asked: rollup, found: record.leaf.rollup });
        }
        Ok(Some(record))
    }

    /// Checks the answer to a question for a settlement, and gives its record.
    pub fn check_settlement(
        &self,
        settlement: SettlementId,
        answer: &StateProof,
    ) -> Result<Option<SettlementRecord>, CheckError> {
        self.check_record(StateQuery::Settlement(settlement), answer)
    }

    /// Checks the answer to a question for what the log knows of a rollup.
    pub fn check_rollup(&self, rollup: RollupId, answer: &StateProof) -> Result<Option<RollupRecord>, CheckError> {
        self.check_record(StateQuery::Rollup(rollup), answer)
    }

    /// Checks the answer to a question for what an account has under way.
    pub fn check_in_flight(&self, account: Account, answer: &StateProof) -> Result<Option<InFlightRecord>, CheckError> {
        self.check_record(StateQuery::InFlight(account), answer)
    }

    /// Checks that a lane stood so at a final height: its certificate, and the path to its leaf. What the item contains
    /// beside its leaf is not checked.
    pub fn check_leaf(&self, rollup: RollupId, item: &LaneItem) -> Result<(), CheckError> {
        let found = item.leaf.rollup;
        if found != rollup {
            return Err(CheckError::Rollup { asked: rollup, found });
        }
        lane::LaneFollower::from_item(self.verifier.clone(), item)?;
        Ok(())
    }

    /// Checks the answer to a question for decisions of a lane from number `from`: that they lead to a final leaf, and that
    /// each is of the settlement that is given for it. Decisions that are left out at the end do not show.
    pub fn check_decisions(&self, rollup: RollupId, from: u64, page: &DecisionPage) -> Result<(), CheckError> {
        let decisions = &page.range.decisions;
        if decisions.len() != page.intents.len() {
            return Err(CheckError::Intents { decisions: decisions.len(), intents: page.intents.len() });
        }
        if decisions.is_empty() {
            return Ok(());
        }
        let asked = from.max(1) - 1;
        if page.range.sequence != asked {
            return Err(CheckError::Sequence { asked, found: page.range.sequence });
        }
        let item = page.item.as_ref().ok_or(CheckError::NoItem)?;
        self.check_leaf(rollup, item)?;
        page.range.verify(&item.leaf)?;
        for (decision, intent) in decisions.iter().zip(&page.intents) {
            self.check_intent(decision.settlement, intent)?;
            if !legs_on(rollup, intent).eq(decision.legs.iter().copied()) {
                return Err(CheckError::DecidedLegs(decision.settlement));
            }
        }
        Ok(())
    }

    /// Checks that a settlement moves what it is said to: its id vouches for it.
    pub fn check_intent(&self, settlement: SettlementId, intent: &Intent) -> Result<(), CheckError> {
        let found = intent.sid(self.network());
        if found == settlement { Ok(()) } else { Err(CheckError::Intent { asked: settlement, found }) }
    }

    pub(crate) fn check_record<T: Stored>(
        &self,
        query: StateQuery,
        answer: &StateProof,
    ) -> Result<Option<T>, CheckError> {
        let record = self.check_state(query, answer)?;
        Ok(record.map(|record| T::from_record(&record)).transpose()?)
    }
}

/// What a decision on a settlement applies to on one rollup.
fn legs_on(rollup: RollupId, intent: &Intent) -> impl Iterator<Item = DecidedLeg> + '_ {
    let legs = (0_u8..).zip(&intent.transfer.legs).filter(move |(_, leg)| leg.rollup == rollup);
    legs.map(|(index, leg)| DecidedLeg { index, escrow: leg.escrow })
}

impl Evidence {
    /// What became of `bundle` by the height of the evidence. `Pending` is the only answer that may change.
    pub fn conclude(&self, trust: &Trust, bundle: &Bundle) -> Result<BundleState, CheckError> {
        let record = trust.check_account(bundle.account, &self.account)?;
        let height = self.account.header.height;
        Ok(evidence::conclude(trust.network(), bundle, height, record.as_ref(), &self.reports)?)
    }
}
