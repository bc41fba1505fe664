//! Does a verified lane item keep its place and its transactions on the way into an adapter?

use lockstep_adapters::LaneBlock;
use lockstep_protocol::{
    bundle::Transaction,
    certificate::{Certificate, CertificateSignature, Finality},
    header::{Header, L1Origin},
    ids::{BundleId, Hash32, Height, RollupId},
    lane::{LaneEntry, LaneItem, LaneLeaf},
};

#[test]
fn the_legs_of_an_item_come_in_their_order() {
    let l1 = L1Origin { number: 3, hash: Hash32([3; 32]), timestamp: 36 };
    let header = Header { height: Height(9), timestamp_ms: 40_500, l1, ..Default::default() };
    let leaf = LaneLeaf {
        rollup: RollupId(10),
        sequence: 1,
        feed: Hash32::default(),
        decision_sequence: 0,
        decisions: Hash32::default(),
    };
    let entry = LaneEntry::Leg { bundle: BundleId::default(), content: Hash32::default() };
    let transaction = |byte| Transaction(vec![byte]);
    let item = LaneItem {
        header: header.clone(),
        finality: finality(),
        leaf,
        path: vec![],
        entries: vec![entry.clone(), entry],
        transactions: vec![vec![transaction(1), transaction(2)], vec![transaction(3)]],
    };
    let block = LaneBlock::from(&item);
    assert_eq!(block.transactions, [[1], [2], [3]]);
    assert_eq!(LaneBlock { transactions: vec![], ..block }, LaneBlock::empty(RollupId(10), &header));
}

fn finality() -> Finality {
    let signature = CertificateSignature([0; 48]);
    Finality { descendants: vec![], certificate: Certificate { epoch: 0, view: 0, parent_view: 0, signature } }
}
