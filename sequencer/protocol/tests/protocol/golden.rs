//! The golden vectors: what the bytes of this protocol are, computed from fixed inputs.
//!
//! Shared by the test that holds the files and the example that writes them.

use serde_json::{Value, json};

use lockstep_protocol::{
    account::AccountRecord,
    bundle::{Bundle, SignedBundle, SignedCancel, Tag},
    certificate::Certificate,
    header::{Header, L1Origin},
    hex::encode,
    ids::{Hash32, Height, NetworkId, RollupId},
    lane::{LaneContext, LaneEntry, LaneLeaf, content},
    report::chain,
    signature::{AccountKey, Signature},
    state::{LaneRecord, Stored, TreasuryRecord, account_key, lane_key, treasury_key},
    tree::Tree,
    wire::Wire,
};

use crate::fixture::{Block, Network, ROLLUPS, group_key, key, leg};

/// Each file's name and content.
pub(crate) fn files() -> Vec<(&'static str, Value)> {
    let mut network = Network::new(2, 1_000_000, &ROLLUPS);
    let first = network.advance(vec![], vec![]);
    let bundles = bundles(&network);
    let cancels = vec![network.cancel(0, 5, 9), network.cancel(1, 1, 1)];
    let second = network.advance(cancels.clone(), bundles.clone());
    vec![
        ("header", header()),
        ("bundle", json!([bundle(&bundles[0], 0), bundle(&bundles[1], 1)])),
        ("cancel", json!([cancel(&cancels[0], 0), cancel(&cancels[1], 1)])),
        ("body", body(&second)),
        ("lane", lane(&network, &first, &second)),
        ("tree", json!([1, 2, 3, 5, 64].map(tree))),
        ("state", state(&network)),
        ("reports", reports(&network)),
        ("certificate", certificate(&network, &second)),
        ("settlement", crate::golden_settlement::file()),
    ]
}

fn bundles(network: &Network) -> Vec<SignedBundle> {
    let with = |index: u8| {
        let bundle = Bundle {
            tag: Tag(*b"golden vector 01"),
            tip: 1_000 + u64::from(index),
            max_fee: 5_000,
            legs: vec![leg(10, &[b"\x02first", b"\x02second"]), leg(42_161, &[&[index; 5]])],
            ..network.bundle(index, 3, &[])
        };
        bundle.sign(&key(index))
    };
    vec![with(0), with(1)]
}

/// A blake3 hash with its domain and the borsh bytes that follow it.
pub(crate) fn hashed(domain: &str, value: &impl borsh::BorshSerialize, hash: Hash32) -> Value {
    json!({ "domain": domain, "borsh": encode(&borsh::to_vec(value).expect("memory")), "hash": hash })
}

fn header() -> Value {
    let bytes = |seed: u8| Hash32([seed; 32]);
    let header = Header {
        network: NetworkId::from_name("lockstep-test-1"),
        epoch: 1,
        view: 0x0203,
        parent_view: 0x0202,
        leader: bytes(4),
        height: Height(5),
        parent: bytes(6),
        timestamp_ms: 1_700_000_000_007,
        l1: L1Origin { number: 8, hash: bytes(9), timestamp: 1_700_000_010 },
        body: bytes(11),
        lanes: bytes(12),
        state: bytes(13),
        state_ops: bytes(14),
        sync_start: 15,
        sync_end: 16,
    };
    json!({ "json": header, "bytes": encode(&header.encode()), "digest": header.digest() })
}

fn secret(index: u8) -> String {
    match key(index) {
        AccountKey::Ed25519(key) => encode(key.as_bytes()),
        AccountKey::Secp256k1(key) => encode(&key.secret_bytes()),
    }
}

fn signature(signature: &Signature) -> String {
    match signature {
        Signature::Ed25519(bytes) => encode(bytes),
        Signature::Secp256k1(bytes) => encode(bytes),
    }
}

fn bundle(signed: &SignedBundle, index: u8) -> Value {
    json!({
        "secret": secret(index),
        "json": signed,
        "id": hashed("lockstep/bundle/v1", &signed.bundle, Hash32(signed.bundle.id().0)),
        "signature": signature(&signed.signature),
        "legBytes": signed.bundle.bytes(),
        "wire": encode(&signed.to_wire()),
    })
}

fn cancel(signed: &SignedCancel, index: u8) -> Value {
    json!({
        "secret": secret(index),
        "json": signed,
        "digest": hashed("lockstep/cancel/v1", &signed.cancel, signed.cancel.digest()),
        "signature": signature(&signed.signature),
        "wire": encode(&signed.to_wire()),
    })
}

fn body(block: &Block) -> Value {
    json!({ "wire": encode(&block.body.to_wire()), "hash": block.header.body })
}

fn leaf(leaf: &LaneLeaf) -> Value {
    json!({ "json": leaf, "hash": leaf.hash() })
}

fn lane(network: &Network, first: &Block, second: &Block) -> Value {
    let rollup = RollupId(ROLLUPS[0]);
    let before = first.outcome.leaves[0];
    let after = second.outcome.leaves[0];
    let entries = &second.outcome.entries[&rollup];
    let context = LaneContext::from(&second.header);
    assert_eq!(before.extend(context, entries), after);
    let legs: Vec<_> = second.body.bundles.iter().map(|signed| &signed.bundle.legs[0].transactions).collect();
    let contents: Vec<_> = entries
        .iter()
        .zip(legs)
        .map(|(LaneEntry::Leg { content: hash, .. }, transactions)| {
            assert_eq!(content(transactions), *hash);
            hashed("lockstep/leg/v1", transactions, *hash)
        })
        .collect();
    let item = network.item(second, rollup.0);
    json!({
        "genesis": hashed("lockstep/lane/genesis/v1", &(network.rules.network, rollup), before.feed),
        "contents": contents,
        "step": hashed("lockstep/lane/item/v1", &(before.feed, rollup, context, entries), after.feed),
        "leaves": [leaf(&before), leaf(&after)],
        "item": { "json": item, "wire": encode(&item.to_wire()) },
        "groupKey": network.genesis.group_key,
    })
}

fn tree(count: u64) -> Value {
    let network = NetworkId::from_name("lockstep-test-1");
    let leaves: Vec<_> = (1..=count)
        .map(|rollup| LaneLeaf { sequence: rollup * 3, ..LaneLeaf::genesis(network, RollupId(rollup)) })
        .collect();
    let tree = Tree::new(leaves.iter().map(LaneLeaf::hash).collect()).expect("there are leaves");
    let proven: Vec<_> = leaves
        .iter()
        .map(|leaf| {
            let values = [
                leaf.rollup.to_string(),
                leaf.sequence.to_string(),
                leaf.feed.to_string(),
                leaf.decision_sequence.to_string(),
                leaf.decisions.to_string(),
            ];
            json!({
                "values": values,
                "hash": leaf.hash(),
                "path": tree.path(leaf.hash()),
            })
        })
        .collect();
    json!({ "types": ["uint64", "uint64", "bytes32", "uint64", "bytes32"], "root": tree.root(), "leaves": proven })
}

fn state(network: &Network) -> Value {
    let accounts = [0, 1].map(|index| {
        let account = key(index).account();
        let record: AccountRecord = network.account(account).expect("the account is funded");
        json!({
            "key": hashed("lockstep/state/account/v1", &account, Hash32(account_key(&account))),
            "json": record,
            "record": encode(&record.to_record()),
        })
    });
    let rollup = RollupId(ROLLUPS[0]);
    let lane: LaneRecord = network.record(&lane_key(rollup)).expect("the lane has a record");
    let treasury: TreasuryRecord = network.record(&treasury_key()).expect("the network has a record");
    json!({
        "accounts": accounts,
        "lane": {
            "key": hashed("lockstep/state/lane/v1", &rollup, Hash32(lane_key(rollup))),
            "leaf": lane.leaf,
            "baseFee": lane.base_fee,
            "record": encode(&lane.to_record()),
        },
        "treasury": {
            "key": hashed("lockstep/state/treasury/v1", &(), Hash32(treasury_key())),
            "credits": treasury.credits,
            "record": encode(&treasury.to_record()),
        },
    })
}

fn reports(network: &Network) -> Value {
    let account = key(0).account();
    let all = network.all_reports(account);
    let mut head = all.before;
    let steps: Vec<_> = all
        .reports
        .iter()
        .map(|report| {
            let before = head;
            head = chain(before, report);
            json!({ "json": report, "chain": hashed("lockstep/report/v1", &(before, report), head) })
        })
        .collect();
    json!({
        "genesis": hashed("lockstep/reports/v1", &(network.rules.network, account), all.before),
        "steps": steps,
    })
}

fn certificate(network: &Network, block: &Block) -> Value {
    let digest = block.header.digest();
    let far = Certificate { epoch: 3, view: 300, parent_view: 128, ..network.certify(&block.header) };
    let entry = |certificate: &Certificate| {
        let message = certificate.message(network.rules.network, &digest);
        let signature = group_key(7).sign(&message, crate::fixture::DST, &[]).to_bytes();
        json!({
            "epoch": certificate.epoch,
            "view": certificate.view,
            "parentView": certificate.parent_view,
            "message": encode(&message),
            "signature": encode(&signature),
        })
    };
    json!({
        "secret": encode(&group_key(7).to_bytes()),
        "groupKey": network.genesis.group_key,
        "dst": String::from_utf8_lossy(crate::fixture::DST),
        "network": network.rules.network,
        "header": encode(&block.header.encode()),
        "digest": digest,
        "certificates": [entry(&network.certify(&block.header)), entry(&far)],
    })
}
