//! What can go wrong with a node, and with a question that was put to all of them.
//!
//! Each node's fault is kept with the node's name. Whether a fault is worth another try is in `nodes.rs`.

use std::{collections::VecDeque, fmt, time::Duration};

use lockstep_protocol::{
    certificate::CertificateError,
    evidence::EvidenceError,
    ids::{Account, Hash32, Height, NetworkId, RollupId, SettlementId},
    lane::LaneError,
    refusal::Refusal,
    rpc::{FactRefused, QueryError},
    settlement::decision::DecisionError,
    state::BadRecord,
};

/// Faults that are kept for a report; older ones are only counted. Enough for several rounds over a dozen nodes.
pub const MAX_FAULTS: usize = 64;

/// Why an answer of a node was not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum CheckError {
    #[error("the header at height {height} is not proven final: {error}")]
    Header { height: Height, error: CertificateError },
    #[error("the digest given for height {height} is not the header's")]
    Digest { height: Height },
    #[error("asked for height {asked}, answered with {found}")]
    Height { asked: Height, found: Height },
    #[error("asked for the record under {asked}, answered with the one under {found}")]
    Key { asked: Hash32, found: Hash32 },
    #[error("the proof does not lead to the state of height {height}")]
    State { height: Height },
    #[error("a record of {0} bytes")]
    RecordLength(usize),
    #[error(transparent)]
    Record(#[from] BadRecord),
    #[error("asked for the record of {asked}, answered with that of {found}")]
    Account { asked: Account, found: Account },
    #[error("asked for the record of lane {asked}, answered with that of {found}")]
    Rollup { asked: RollupId, found: RollupId },
    #[error("the account's reports: {0}")]
    Evidence(#[from] EvidenceError),
    #[error("reports {first}..={last} were asked for, the node withholds them from {missing} on")]
    Withheld { first: u64, last: u64, missing: u64 },
    #[error(transparent)]
    Lane(#[from] LaneError),
    #[error(transparent)]
    Decisions(#[from] DecisionError),
    #[error("asked for decisions after number {asked}, answered with those after {found}")]
    Sequence { asked: u64, found: u64 },
    #[error("decisions without the lane that they lead to")]
    NoItem,
    #[error("{decisions} decisions with {intents} settlements")]
    Intents { decisions: usize, intents: usize },
    #[error("what settlement {asked} is said to move has id {found}")]
    Intent { asked: SettlementId, found: SettlementId },
    #[error("the legs given for the decision of settlement {0} are not its legs on this rollup")]
    DecidedLegs(SettlementId),
    #[error("asked for settlement {asked}, answered with {found}")]
    Settlement { asked: SettlementId, found: SettlementId },
    #[error("settlement {0} is not among the decisions of the block that decided it")]
    Undecided(SettlementId),
    #[error("the node says that it is of network {found}, the client is of {expected}")]
    Network { expected: NetworkId, found: NetworkId },
    #[error("the node names another group key than the one that this client was given")]
    GroupKey,
    #[error("the node refuses as {0:?} what this client checked before it was sent")]
    Refusal(Refusal),
}

/// What one node did wrong, or what it said no to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum Fault {
    #[error("unreachable: {detail}")]
    Unreachable { detail: String },
    #[error("no answer within {} ms", after.as_millis())]
    Timeout { after: Duration },
    #[error("answered with error {code}: {message}")]
    Rpc { code: i32, message: String },
    #[error("the answer is not one: {detail}")]
    Malformed { detail: String },
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    #[error("fact refused: {0}")]
    Fact(#[from] FactRefused),
    #[error("not believed: {0}")]
    Lie(#[from] CheckError),
    #[error("its state is that of height {height}, {known} is known to be final")]
    Behind { height: Height, known: Height },
    #[error("it has nothing after height {height}, although there is more")]
    Nothing { height: Height },
}

impl Fault {
    /// Whether the node answered with something that is proven false, or with something that honest software never says.
    pub fn is_lie(&self) -> bool {
        matches!(self, Self::Lie(_))
    }
}

/// A node's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeFault {
    /// The node, without credentials and path.
    pub node: String,
    /// What it did.
    pub fault: Fault,
}

/// What happened at which node, oldest first; at most [`MAX_FAULTS`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    kept: VecDeque<NodeFault>,
    dropped: u64,
}

impl Faults {
    /// The faults, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &NodeFault> {
        self.kept.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether any node was caught with a false answer.
    pub fn any_lie(&self) -> bool {
        self.kept.iter().any(|fault| fault.fault.is_lie())
    }

    pub(crate) fn push(&mut self, node: &str, fault: Fault) {
        if self.kept.len() == MAX_FAULTS {
            self.kept.pop_front();
            self.dropped += 1;
        }
        self.kept.push_back(NodeFault { node: node.to_owned(), fault });
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.dropped += other.dropped;
        for NodeFault { node, fault } in other.kept {
            self.push(&node, fault);
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            write!(f, "({} earlier faults); ", self.dropped)?;
        }
        for (index, NodeFault { node, fault }) in self.kept.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}{node}: {fault}")?;
        }
        if self.kept.is_empty() { f.write_str("no node was asked") } else { Ok(()) }
    }
}

/// Why a client cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum ConfigError {
    #[error("a client needs at least one node")]
    NoNodes,
    #[error("{found} nodes, at most {max} are allowed")]
    TooManyNodes { max: usize, found: usize },
    #[error("node {0} is not an http://, https://, ws:// or wss:// URL")]
    Url(String),
    #[error("node {0} needs TLS: build lockstep-sdk with the feature `tls`")]
    NoTls(String),
    #[error("node {node}: {detail}")]
    Client { node: String, detail: String },
}

/// A question that was put to the nodes has no answer that can be believed.
#[derive(Clone, Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum Error {
    /// Every node that answered refused. None of them has promised anything; see [`crate::Client::submit_and_wait`] for
    /// what that does not say.
    #[error("refused: {refusal} [{faults}]")]
    Refused { refusal: Refusal, faults: Faults },
    /// Every node that answered refused the fact.
    #[error("fact refused: {refused} [{faults}]")]
    FactRefused { refused: FactRefused, faults: Faults },
    /// The bundle or cancel was refused here, before it was sent anywhere.
    #[error("refused before sending: {0}")]
    Invalid(Refusal),
    #[error("{query} [{faults}]")]
    Query { query: QueryError, faults: Faults },
    #[error("no node gave an answer that can be believed: {faults}")]
    NoAnswer { faults: Faults },
}

impl Error {
    /// What happened at which node.
    pub fn faults(&self) -> Option<&Faults> {
        match self {
            Self::Refused { faults, .. }
            | Self::FactRefused { faults, .. }
            | Self::Query { faults, .. }
            | Self::NoAnswer { faults } => Some(faults),
            Self::Invalid(_) => None,
        }
    }

    /// The most telling of the faults of a round.
    pub(crate) fn from_faults(faults: Faults) -> Self {
        let refusal = faults.iter().rev().find_map(|fault| match &fault.fault {
            Fault::Refused(refusal) => Some(refusal.clone()),
            _ => None,
        });
        if let Some(refusal) = refusal {
            return Self::Refused { refusal, faults };
        }
        let fact = faults.iter().rev().find_map(|fault| match &fault.fault {
            Fault::Fact(refused) => Some(refused.clone()),
            _ => None,
        });
        if let Some(refused) = fact {
            return Self::FactRefused { refused, faults };
        }
        let query = faults.iter().rev().find_map(|fault| match &fault.fault {
            Fault::Query(query) => Some(query.clone()),
            _ => None,
        });
        match query {
            Some(query) => Self::Query { query, faults },
            None => Self::NoAnswer { faults },
        }
    }
}
