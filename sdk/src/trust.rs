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
    ids::{Account, Hash32, Height, NetworkId, RollupId},
    rpc::{FinalHeader, StateProof, StateQuery},
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
}

impl Evidence {
    /// What became of `bundle` by the height of the evidence. `Pending` is the only answer that may change.
    pub fn conclude(&self, trust: &Trust, bundle: &Bundle) -> Result<BundleState, CheckError> {
        let record = trust.check_account(bundle.account, &self.account)?;
        let height = self.account.header.height;
        Ok(evidence::conclude(trust.network(), bundle, height, record.as_ref(), &self.reports)?)
    }
}
