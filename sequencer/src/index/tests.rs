//! Does the index tell what the log did, after any restart, and refuse every file that is not its own?

mod settlements;

use super::*;
use lockstep_protocol::{
    body::{CheckedBundle, Facts},
    bundle::{Bundle, Cancel, Kind, Leg, NonceRange, Tag, Transaction},
    genesis::{Balance, Format, GroupKeyBytes, Rollup},
    header::L1Origin,
    signature::AccountKey,
};

/// A log without consensus: headers with true lane roots and parents, bodies made by the pure transition.
pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    rules: Rules,
    records: Records,
    pub(crate) blocks: Vec<(Header, Vec<u8>)>,
}

pub(crate) fn genesis(name: &str) -> Genesis {
    Genesis {
        network: name.into(),
        timestamp_ms: 1_000,
        group_key: GroupKeyBytes([0; 96]),
        sharing: Vec::new(),
        validators: vec![Hash32([1; 32])],
        rollups: [900, 901, 902].map(|id| Rollup::new(RollupId(id), format!("r{id}"), Format::Eip2718, 1)).to_vec(),
        balances: {
            let mut balances: Vec<_> =
                (1..=3).map(|seed| Balance { account: key(seed).account(), credits: 1 << 40 }).collect();
            balances.sort_by_key(|balance| balance.account);
            balances
        },
        settlement: None,
    }
}

pub(crate) fn key(seed: u8) -> AccountKey {
    AccountKey::ed25519([seed; 32])
}

impl Chain {
    fn new() -> Self {
        Self::of(genesis("index-test"))
    }

    fn of(genesis: Genesis) -> Self {
        let rules = genesis.rules().expect("a sound genesis");
        Self { genesis, rules, records: Records::new(), blocks: Vec::new() }
    }

    fn bundle(&self, seed: u8, nonce: u64, rollups: &[u64]) -> CheckedBundle {
        let bundle = Bundle {
            network: self.rules.network,
            account: key(seed).account(),
            nonce,
            tag: Tag([seed; 16]),
            valid_until: Height(1_000),
            tip: nonce % 7,
            max_fee: 1 << 20,
            legs: rollups
                .iter()
                .map(|rollup| Leg { rollup: RollupId(*rollup), transactions: vec![Transaction(vec![seed; 40])] })
                .collect(),
            kind: Kind::Plain,
        };
        CheckedBundle::new(bundle.sign(&key(seed)), &self.rules).expect("a sound bundle")
    }

    fn cancel(&self, seed: u8, first: u64, last: u64) -> lockstep_protocol::bundle::SignedCancel {
        let nonces = NonceRange { first, last };
        Cancel { network: self.rules.network, account: key(seed).account(), nonces }.sign(&key(seed))
    }

    fn extend(&mut self, cancels: Vec<lockstep_protocol::bundle::SignedCancel>, bundles: Vec<CheckedBundle>) {
        self.extend_with(Facts::default(), cancels, bundles);
    }

    fn extend_with(
        &mut self,
        facts: Facts,
        cancels: Vec<lockstep_protocol::bundle::SignedCancel>,
        bundles: Vec<CheckedBundle>,
    ) {
        let facts_given = facts.clone();
        let parent = match self.blocks.last() {
            Some((header, _)) => header.clone(),
            None => genesis_header(&self.genesis, &self.rules),
        };
        let candidates = CheckedBody::arrange(cancels, bundles).with_facts(facts, &self.rules);
        let height = parent.height.next();
        for key in candidates.keys(&self.rules, height) {
            self.records.entry(key).or_insert(None);
        }
        for key in candidates.more_keys(&self.rules, height, &self.records) {
            self.records.entry(key).or_insert(None);
        }
        let position =
            Position { timestamp_ms: parent.timestamp_ms + 20, l1: L1Origin::default(), parent: parent.clone() };
        let built = transition::build(&self.rules, &position, candidates, &self.records);
        assert!(built.left_out.is_empty(), "{:?}", built.left_out);
        assert_eq!(*built.body.facts(), facts_given, "a fact was left out");
        self.records.extend(built.outcome.writes.iter().map(|(key, record)| (*key, Some(*record))));
        let header = Header {
            network: self.rules.network,
            height,
            parent: parent.digest(),
            timestamp_ms: position.timestamp_ms,
            lanes: built.outcome.lanes,
            sync_end: 1,
            ..Header::default()
        };
        self.blocks.push((header, built.body.to_body().to_wire()));
    }

    /// Some thirty blocks with bundles of one to three legs, cancels, and blocks with nothing.
    fn long() -> Self {
        let mut chain = Self::new();
        chain.extend(vec![], vec![]);
        for height in 2..=30_u64 {
            let bundles = match height % 4 {
                0 => vec![],
                1 => vec![chain.bundle(1, height, &[900, 901]), chain.bundle(2, height, &[901])],
                2 => vec![chain.bundle(3, height * 2, &[900, 901, 902])],
                _ => vec![chain.bundle(1, height, &[902])],
            };
            let cancels = if height % 10 == 0 { vec![chain.cancel(2, 500 + height, 502 + height)] } else { vec![] };
            chain.extend(cancels, bundles);
        }
        chain
    }

    fn replay(&self, index: &Index, heights: std::ops::Range<usize>) {
        for (header, body) in &self.blocks[heights] {
            index.apply(header, body).expect("a block of the log");
        }
    }
}

/// Everything that the index answers, in one comparable text.
fn answers(index: &Index, chain: &Chain) -> String {
    use std::fmt::Write;
    let mut text = format!("{:?}\n", index.header());
    for rollup in chain.rules.rollups.keys() {
        writeln!(text, "{:?} {:?}", index.lane(*rollup), index.lane_heights(*rollup, Height(0), 100)).expect("text");
        for height in 0..=chain.blocks.len() as u64 {
            writeln!(text, "{:?}", index.leaf_at(*rollup, Height(height))).expect("text");
        }
    }
    for balance in &chain.genesis.balances {
        writeln!(text, "{:?} {:?}", index.account(&balance.account), index.reports(&balance.account, 0, 1_000))
            .expect("text");
    }
    for (_, body) in &chain.blocks {
        for signed in Body::from_wire(body).expect("a body").bundles {
            let ordered = index.bundle(&signed.bundle.id()).expect("readable").expect("every ordered bundle is found");
            assert_eq!(ordered.rollups, signed.bundle.legs.iter().map(|leg| leg.rollup).collect::<Vec<_>>());
            writeln!(text, "{ordered:?}").expect("text");
        }
    }
    text
}

fn open(folder: &tempfile::TempDir, genesis: &Genesis) -> Result<Index, IndexError> {
    Index::open(&folder.path().join("data/index.redb"), genesis)
}

#[test]
fn whatever_is_in_memory_in_the_file_or_between_the_answers_are_the_same() {
    let chain = Chain::long();
    let folder = || tempfile::tempdir().expect("a temporary folder");
    let (memory, file) = (folder(), folder());
    let unwritten = open(&memory, &chain.genesis).expect("opened");
    chain.replay(&unwritten, 0..30);
    let expected = answers(&unwritten, &chain);

    let index = open(&file, &chain.genesis).expect("opened");
    for height in 0..30 {
        chain.replay(&index, height..height + 1);
        if height % 7 == 3 {
            index.flush().expect("written");
        }
    }
    assert_eq!(answers(&index, &chain), expected, "partly written");
    index.flush().expect("written");
    assert_eq!(answers(&index, &chain), expected, "wholly written");
    drop(index);
    let again = open(&file, &chain.genesis).expect("opened again");
    assert_eq!(answers(&again, &chain), expected, "after a restart");
    assert_eq!(again.height(), Height(30));
}

#[test]
fn after_a_crash_the_index_catches_up_from_where_its_file_ends() {
    let chain = Chain::long();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = open(&folder, &chain.genesis).expect("opened");
    chain.replay(&index, 0..11);
    index.flush().expect("written");
    chain.replay(&index, 11..19);
    // Dropped without a flush: what a kill leaves.
    drop(index);
    let index = open(&folder, &chain.genesis).expect("opened again");
    assert_eq!(index.height(), Height(11));
    chain.replay(&index, 11..30);
    let whole = tempfile::tempdir().expect("a temporary folder");
    let expected = open(&whole, &chain.genesis).expect("opened");
    chain.replay(&expected, 0..30);
    assert_eq!(answers(&index, &chain), answers(&expected, &chain));
}

#[test]
fn reports_chain_to_the_account_and_lanes_to_the_header() {
    let chain = Chain::long();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = open(&folder, &chain.genesis).expect("opened");
    chain.replay(&index, 0..20);
    index.flush().expect("written");
    chain.replay(&index, 20..30);
    for balance in &chain.genesis.balances {
        let record = index.account(&balance.account).expect("readable").expect("funded");
        for from in [1, 2, record.report_sequence] {
            index.reports(&balance.account, from, 1_000).expect("readable").verify(&record).expect("a true chain");
        }
        let past = index.reports(&balance.account, record.report_sequence + 1, 10).expect("readable");
        assert!(past.reports.is_empty());
        past.verify(&record).expect("nothing came after the last report");
        assert_eq!(index.reports(&balance.account, 1, 2).expect("readable").reports.len(), 2);
    }
    for (header, body) in &chain.blocks {
        let replayed = index.replay(header, body).expect("lanes as the header says");
        for (rollup, entries) in &replayed.entries {
            let before = index.leaf_at(*rollup, Height(header.height.0 - 1)).expect("readable");
            let after = index.leaf_at(*rollup, header.height).expect("readable");
            assert_eq!(before.extend(header.into(), entries), after);
        }
    }
    let stranger = key(9).account();
    assert_eq!(index.account(&stranger).expect("readable"), None);
    assert!(index.reports(&stranger, 0, 10).expect("readable").reports.is_empty());
    assert_eq!(index.bundle(&BundleId([3; 32])).expect("readable"), None);
}

#[test]
fn a_block_that_does_not_follow_is_refused_and_changes_nothing() {
    let chain = Chain::long();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = open(&folder, &chain.genesis).expect("opened");
    chain.replay(&index, 0..10);
    let before = index.header();
    let (header, body) = &chain.blocks[10];
    assert!(matches!(index.apply(&chain.blocks[11].0, body), Err(IndexError::Discontinuous { .. })));
    assert!(matches!(index.apply(&chain.blocks[9].0, body), Err(IndexError::Discontinuous { .. })));
    let stranger = Header { parent: Hash32([7; 32]), ..header.clone() };
    assert!(matches!(index.apply(&stranger, body), Err(IndexError::Discontinuous { .. })));
    assert!(matches!(index.apply(header, &[1, 2, 3]), Err(IndexError::Invalid { .. })));
    let lying = Header { lanes: Hash32([7; 32]), ..header.clone() };
    let error = index.apply(&lying, body).expect_err("another lane root");
    assert!(matches!(error, IndexError::Diverged { .. }) && error.to_string().contains("index rebuild"), "{error}");
    assert_eq!(index.header(), before);
    index.apply(header, body).expect("the true block still follows");
}

#[test]
fn a_foreign_or_damaged_file_is_refused_with_the_way_out() {
    let chain = Chain::long();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let index = open(&folder, &chain.genesis).expect("opened");
    chain.replay(&index, 0..30);
    index.flush().expect("written");
    assert!(matches!(open(&folder, &chain.genesis), Err(IndexError::InUse(_))), "two nodes on one folder");
    drop(index);
    let refused = |what: &str| {
        let error = open(&folder, &chain.genesis).err().unwrap_or_else(|| panic!("{what} was opened"));
        assert!(error.to_string().contains("lockstep index rebuild"), "{what}: {error}");
    };
    let error = open(&folder, &genesis("another-network")).err().expect("another network's");
    assert!(matches!(error, IndexError::Foreign { .. }) && error.to_string().contains("index rebuild"), "{error}");

    let path = folder.path().join("data/index.redb");
    let whole = std::fs::read(&path).expect("the file");
    for (what, bytes) in [
        ("half a file", whole[..whole.len() / 2].to_vec()),
        ("text", b"not an index".repeat(1_000)),
        ("zeros", vec![0; 1 << 16]),
        ("a torn middle", {
            let mut torn = whole.clone();
            let length = torn.len();
            torn[8192..length].fill(0xa5);
            torn
        }),
    ] {
        std::fs::write(&path, bytes).expect("overwritten");
        refused(what);
    }
    std::fs::remove_file(&path).expect("removed");
    drop(redb::Database::create(&path).map(|database| {
        let writing = database.begin_write().expect("a transaction");
        writing
            .open_table(redb::TableDefinition::<u64, u64>::new("other"))
            .expect("a table")
            .insert(1, 1)
            .expect("a row");
        writing.commit().expect("written");
    }));
    refused("another program's database");
    // The tables of an earlier version.
    std::fs::write(&path, &whole).expect("restored");
    drop(redb::Database::open(&path).map(|database| {
        let writing = database.begin_write().expect("a transaction");
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let schema = 1_u64.to_be_bytes();
        writing.open_table(meta).expect("a table").insert("schema", schema.as_slice()).expect("a row");
        writing.commit().expect("written");
    }));
    refused("an index of schema 1");
    std::fs::write(&path, &whole).expect("restored");
    assert_eq!(open(&folder, &chain.genesis).expect("whole again").height(), Height(30));
}
