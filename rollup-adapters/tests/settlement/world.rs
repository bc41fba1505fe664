//! A log that decides what a test says: headers, lanes and certificates are real, only nobody asks why.

use blst::min_sig::SecretKey;
use lockstep_contracts as contracts;
use lockstep_protocol::{
    certificate::Finality,
    genesis::GroupKeyBytes,
    header::Header,
    ids::{Address20, AssetId, Hash32, Height, NetworkId, RollupId},
    lane::{LaneItem, LaneLeaf},
    settlement::{DecidedLeg, DecisionRange, Intent, LaneDecision, Level, MarginTransfer, SettlementLeg, Side},
    signature::AccountKey,
    tree::Tree,
};

use crate::{
    fixture,
    venue::{addresses, asset, trader},
};

/// The rollup that contracts are tested on, and the other end of its transfers.
pub(crate) const HERE: u64 = 10;
pub(crate) const THERE: u64 = 901;

pub(crate) const COMMIT: u8 = 1;
pub(crate) const ABORT: u8 = 2;

/// A leg at these tests' escrow.
pub(crate) fn leg(rollup: u64, who: usize, side: Side, amount: u128) -> SettlementLeg {
    leg_of(rollup, who, side, amount, asset())
}

pub(crate) fn leg_of(rollup: u64, who: usize, side: Side, amount: u128, asset: AssetId) -> SettlementLeg {
    SettlementLeg {
        rollup: RollupId(rollup),
        escrow: Address20(addresses().escrow.into_array()),
        account: trader(who),
        asset,
        side,
        amount,
        level: Level::Executed,
    }
}

/// The log.
pub(crate) struct Decider {
    pub(crate) network: NetworkId,
    pub(crate) group: SecretKey,
    leaves: Vec<LaneLeaf>,
    header: Header,
    /// What was decided in each of the lanes.
    decisions: Vec<(RollupId, LaneDecision, Intent)>,
    nonce: u64,
}

impl Decider {
    pub(crate) fn new(name: &str) -> Self {
        let network = NetworkId::from_name(name);
        let leaves = [HERE, THERE, 42_161].map(|rollup| LaneLeaf::genesis(network, RollupId(rollup)));
        let header = Header { network, timestamp_ms: 1_700_000_000_000, ..Header::default() };
        Self { network, group: fixture::group_key(7), leaves: leaves.to_vec(), header, decisions: Vec::new(), nonce: 0 }
    }

    pub(crate) fn group_key(&self) -> GroupKeyBytes {
        GroupKeyBytes(self.group.sk_to_pk().to_bytes())
    }

    /// A settlement of these legs that was never seen before.
    pub(crate) fn intent(&mut self, legs: Vec<SettlementLeg>) -> Intent {
        self.nonce += 1;
        let transfer = MarginTransfer { legs, deadline: Height(1_000) };
        Intent { account: AccountKey::ed25519([9; 32]).account(), nonce: self.nonce, transfer }
    }

    /// Margin of a trader from there to here, or from here to there.
    pub(crate) fn transfer(&mut self, who: usize, side: Side, amount: u128) -> Intent {
        let other = if side == Side::Debit { Side::Credit } else { Side::Debit };
        self.intent(vec![leg(HERE, who, side, amount), leg(THERE, who, other, amount)])
    }

    /// Decides in this lane, in the block that comes next.
    pub(crate) fn decide_in(&mut self, rollup: u64, intent: &Intent, outcome: u8) {
        let settlement = intent.sid(self.network);
        let legs = (0..).zip(&intent.transfer.legs).filter(|(_, leg)| leg.rollup.0 == rollup);
        let legs = legs.map(|(index, leg)| DecidedLeg { index, escrow: leg.escrow }).collect();
        let leaf = self.leaves.iter_mut().find(|leaf| leaf.rollup.0 == rollup).expect("it has a lane");
        *leaf = leaf.decide(settlement, outcome);
        let decision = LaneDecision { settlement, outcome, legs };
        self.decisions.push((RollupId(rollup), decision, intent.clone()));
    }

    pub(crate) fn decide(&mut self, intent: &Intent, outcome: u8) {
        self.decide_in(HERE, intent, outcome);
    }

    /// Makes a block with what was decided so far, and gives a lane's place after it.
    pub(crate) fn item_of(&mut self, rollup: u64) -> LaneItem {
        let tree = Tree::new(self.leaves.iter().map(LaneLeaf::hash).collect()).expect("there are lanes");
        self.header = Header {
            view: self.header.view + 1,
            parent_view: self.header.view,
            height: self.header.height.next(),
            parent: self.header.digest(),
            timestamp_ms: self.header.timestamp_ms + 250,
            lanes: tree.root(),
            ..self.header.clone()
        };
        let leaf = *self.leaves.iter().find(|leaf| leaf.rollup.0 == rollup).expect("it has a lane");
        let certificate = fixture::certify(&self.group, &self.header);
        LaneItem {
            header: self.header.clone(),
            finality: Finality { descendants: Vec::new(), certificate },
            leaf,
            path: tree.path(leaf.hash()).expect("the leaf is in the tree"),
            entries: Vec::new(),
            transactions: Vec::new(),
        }
    }

    pub(crate) fn item(&mut self) -> LaneItem {
        self.item_of(HERE)
    }

    /// All decisions of this lane after the first `skip`.
    pub(crate) fn range(&self, skip: usize) -> (DecisionRange, Vec<Intent>) {
        let all: Vec<_> = self.decisions.iter().filter(|(rollup, ..)| rollup.0 == HERE).collect();
        let before = all[..skip].iter().fold(Hash32::default(), |chain, (_, decision, _)| {
            lockstep_protocol::settlement::decision::chain(chain, decision.settlement, decision.outcome)
        });
        let (decisions, intents) =
            all[skip..].iter().map(|(_, decision, intent)| (decision.clone(), intent.clone())).unzip();
        (DecisionRange { rollup: RollupId(HERE), sequence: skip as u64, chain: before, decisions }, intents)
    }

    /// The call that brings the hub from `skip` decisions to `take` more.
    pub(crate) fn call(&mut self, skip: usize, take: usize) -> Vec<u8> {
        let item = self.item();
        let (range, intents) = self.range(skip);
        range.verify(&item.leaf).expect("decisions lead to the leaf");
        contracts::apply(&item, &range, &intents, take).expect("a certificate")
    }
}
