//! A chain of real headers and lane items, finalized by a single key that stands for the group.

use std::collections::BTreeMap;

use blst::min_sig::SecretKey;
use lockstep_protocol::{
    bundle::Transaction,
    certificate::{Certificate, CertificateSignature, Finality, Verifier, vote_namespace},
    genesis::{Format, Genesis, GroupKeyBytes, Rollup},
    header::Header,
    ids::{BundleId, Hash32, Height, RollupId},
    lane::{LaneContext, LaneEntry, LaneItem, LaneLeaf, content},
    tree::Tree,
};

pub(super) const A: RollupId = RollupId(901);
pub(super) const B: RollupId = RollupId(902);

/// A network of two lanes.
pub(super) struct Chain {
    secret: SecretKey,
    genesis: Genesis,
    tip: Header,
    leaves: BTreeMap<RollupId, LaneLeaf>,
}

impl Chain {
    pub(super) fn new(name: &str, seed: u8) -> Self {
        let secret = SecretKey::key_gen(&[seed; 32], &[]).expect("32 bytes are enough");
        let rollup = |id| Rollup::new(id, id.to_string(), Format::Eip2718, 1);
        let genesis = Genesis {
            network: name.into(),
            timestamp_ms: 1_700_000_000_000,
            group_key: GroupKeyBytes(secret.sk_to_pk().compress()),
            sharing: Vec::new(),
            validators: vec![Hash32([7; 32])],
            rollups: vec![rollup(A), rollup(B)],
            balances: Vec::new(),
            settlement: None,
        };
        let network = genesis.network_id();
        let tip = Header { network, timestamp_ms: genesis.timestamp_ms, sync_end: 1, ..Header::default() };
        let leaves = [A, B].map(|id| (id, LaneLeaf::genesis(network, id))).into();
        Self { secret, genesis, tip, leaves }
    }

    pub(super) fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    pub(super) fn verifier(&self) -> Verifier {
        Verifier::new(self.genesis.network_id(), &self.genesis.group_key).expect("a real key")
    }

    /// One more block, with a leg for each of `rollups`. Gives every lane's item of it: without entries where it has none.
    pub(super) fn block(&mut self, rollups: &[RollupId]) -> BTreeMap<RollupId, LaneItem> {
        let height = self.tip.height.next();
        let mut header = Header {
            network: self.genesis.network_id(),
            view: height.0,
            parent_view: self.tip.view,
            height,
            parent: self.tip.digest(),
            timestamp_ms: self.tip.timestamp_ms + 20,
            sync_end: 1,
            ..Header::default()
        };
        let mut shares = BTreeMap::new();
        for (rollup, leaf) in &mut self.leaves {
            let (mut entries, mut transactions) = (Vec::new(), Vec::new());
            if rollups.contains(rollup) {
                let leg: Vec<_> = (0..3_u8)
                    .map(|n| Transaction([rollup.0.to_le_bytes(), height.0.to_be_bytes(), [n; 8]].concat()))
                    .collect();
                let bundle = BundleId(*blake3::hash(&leg[0].0).as_bytes());
                entries.push(LaneEntry::Leg { bundle, content: content(&leg) });
                transactions.push(leg);
            }
            *leaf = leaf.extend(LaneContext::from(&header), &entries);
            shares.insert(*rollup, (*leaf, entries, transactions));
        }
        let tree = Tree::new(self.leaves.values().map(LaneLeaf::hash).collect()).expect("there are lanes");
        header.lanes = tree.root();
        let finality = self.finalize(&header);
        self.tip = header.clone();
        let item = |(leaf, entries, transactions): (LaneLeaf, _, _)| LaneItem {
            header: header.clone(),
            finality: finality.clone(),
            path: tree.path(leaf.hash()).expect("a leaf of the tree"),
            leaf,
            entries,
            transactions,
        };
        shares.into_iter().map(|(rollup, share)| (rollup, item(share))).collect()
    }

    /// `count` blocks that all have a leg for every lane; one lane's items.
    pub(super) fn items(&mut self, rollup: RollupId, count: usize) -> Vec<LaneItem> {
        (0..count).map(|_| self.block(&[A, B]).remove(&rollup).expect("a lane of the network")).collect()
    }

    pub(super) fn height(&self) -> Height {
        self.tip.height
    }

    /// The certificate that the group would give.
    pub(super) fn finalize(&self, header: &Header) -> Finality {
        let namespace = [vote_namespace(header.network).as_slice(), b"_FINALIZE"].concat();
        let mut message = Vec::new();
        varint(namespace.len() as u64, &mut message);
        message.extend_from_slice(&namespace);
        for number in [header.epoch, header.view, header.parent_view] {
            varint(number, &mut message);
        }
        message.extend_from_slice(&header.digest().0);
        let signature = self.secret.sign(&message, b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_POP_", &[]);
        let certificate = Certificate {
            epoch: header.epoch,
            view: header.view,
            parent_view: header.parent_view,
            signature: CertificateSignature(signature.compress()),
        };
        Finality { descendants: Vec::new(), certificate }
    }
}

/// The item with other entries, as its author could not have meant it, but with hashes that fit them.
pub(super) fn with_other_entries(mut item: LaneItem) -> LaneItem {
    item.transactions = vec![vec![Transaction(b"nobody ordered this".to_vec())]];
    let LaneEntry::Leg { bundle, .. } = item.entries[0];
    item.entries = vec![LaneEntry::Leg { bundle, content: content(&item.transactions[0]) }];
    item
}

/// The item with a certificate that another group signed.
pub(super) fn forged(mut item: LaneItem) -> LaneItem {
    item.finality = Chain::new("anything", 99).finalize(&item.header);
    item
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
