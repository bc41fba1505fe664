//! Do lane and delayed inbox give every message one number, whoever numbers, wherever they were interrupted?
#![cfg(feature = "feed")]

use std::{fs, path::PathBuf};

use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::{Encodable, Header};
use lockstep_adapters::{
    AdapterError, LaneBlock, SkipReason,
    arbitrum::{
        Arbitrum, ArbitrumConfig, BLOCK_GAS,
        delayed::{DelayedError, DelayedInbox, DelayedMessage},
        feed::{FeedMessage, History, KIND_L2_MESSAGE, MessageHeader},
        journal::{Journal, JournalError},
        sequence::{ForcedTail, Numbered, Position, Sequence},
    },
    conformance::Seed,
};
use lockstep_protocol::{
    header::L1Origin,
    ids::{Hash32, Height, RollupId},
};

const CHAIN: u64 = 42_161;
const DEPTH: u64 = 5;

fn adapter() -> Arbitrum {
    Arbitrum::new(ArbitrumConfig { chain_id: CHAIN, quality: 5, delayed_depth: Some(DEPTH), block_gas: BLOCK_GAS })
}

fn transaction(seed: &mut Seed, chain: u64, data: usize) -> Vec<u8> {
    let mut list = Vec::new();
    chain.encode(&mut list);
    for bits in [16, 30, 40, 20] {
        (seed.draw() >> (64 - bits)).encode(&mut list);
    }
    seed.bytes::<20>().encode(&mut list);
    (seed.draw() >> 8).encode(&mut list);
    vec![7u8; data].as_slice().encode(&mut list);
    list.push(0xc0);
    true.encode(&mut list);
    for _ in 0..2 {
        seed.bytes::<32>().map(|byte| byte | 1).encode(&mut list);
    }
    let mut out = vec![2];
    Header { list: true, payload_length: list.len() }.encode(&mut out);
    out.extend(list);
    out
}

fn l1(number: u64) -> L1Origin {
    L1Origin { number, hash: Hash32(keccak256(number.to_be_bytes()).0), timestamp: 1_000 + 12 * number }
}

/// The delayed inbox of an L1 that takes a message in every third block, on top of `first` which is in block 100.
fn delayed_messages(count: u64) -> Vec<DelayedMessage> {
    let mut before = B256::ZERO;
    let message = |index: u64| {
        let header = MessageHeader {
            kind: 12,
            sender: Address::repeat_byte(index as u8),
            l1_number: 100 + index * 3,
            timestamp: 1_000 + 12 * (100 + index * 3),
            request: Some(B256::left_padding_from(&index.to_be_bytes())),
            l1_base_fee: Some(7 + index),
        };
        let message = DelayedMessage { index, header, content: vec![index as u8; 52], before };
        before = message.accumulator();
        message
    };
    (0..count).map(message).collect()
}

fn initial() -> Position {
    Position::initial(l1(100), delayed_messages(1)[0].accumulator())
}

/// What L1 has given of its delayed inbox to somebody who stands at `position` and has seen L1 up to `l1_number`.
fn inbox(position: &Position, l1_number: u64) -> DelayedInbox {
    let mut inbox = DelayedInbox::new(position.tip.delayed, position.delayed_accumulator);
    let known = delayed_messages(40).into_iter();
    let known = known.filter(|message| message.index >= position.tip.delayed && message.header.l1_number <= l1_number);
    inbox.extend(known.collect(), l1_number).expect("they follow");
    inbox
}

fn lane(seed: &mut Seed, heights: u64) -> Vec<LaneBlock> {
    let mut timestamp_ms = 3_000_000;
    let block = |height| {
        timestamp_ms += 1 + seed.below(2_000);
        let mut transactions: Vec<_> = (0..seed.below(4)).map(|_| transaction(seed, CHAIN, 100)).collect();
        match height % 7 {
            3 => transactions.insert(0, vec![0x7e, 1]),
            5 => transactions = (0..9).map(|_| transaction(seed, CHAIN, 20_000)).collect(),
            6 => transactions.clear(),
            _ => {}
        }
        let l1 = l1(100 + height);
        LaneBlock { rollup: RollupId(CHAIN), height: Height(height), timestamp_ms, l1, transactions }
    };
    (1..=heights).map(block).collect()
}

fn follow(sequence: &mut Sequence, block: &LaneBlock) -> Vec<Numbered> {
    let needed = sequence.needs(block).expect("delayed messages are followed");
    let inbox = inbox(sequence.position(), needed);
    sequence.follow(block, &inbox).expect("follows").0
}

fn all(lane: &[LaneBlock]) -> Vec<Numbered> {
    let mut sequence = Sequence::new(adapter(), initial());
    lane.iter().flat_map(|block| follow(&mut sequence, block)).collect()
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("lockstep-nitro-{name}-{}", std::process::id()));
    drop(fs::remove_dir_all(&folder));
    folder
}

#[test]
fn every_message_has_the_number_after_the_one_before_and_delayed_ones_come_when_l1_is_deep_enough() {
    let lane = lane(&mut Seed(1), 60);
    let messages = all(&lane);
    let mut delayed = 1;
    for (index, Numbered { message, after }) in messages.iter().enumerate() {
        assert_eq!(message.sequence, 1 + index as u64);
        assert_eq!((after.tip.number, after.tip.delayed), (message.sequence, message.delayed_read));
        if message.is_delayed() {
            let expected = &delayed_messages(40)[delayed as usize];
            assert_eq!((&message.header, &message.content), (&expected.header, &expected.content));
            assert_eq!(after.delayed_accumulator, expected.accumulator());
            assert!(message.header.l1_number + DEPTH <= lane[after.height.0 as usize - 1].l1.number);
            delayed += 1;
        } else {
            assert_eq!(message.header.kind, KIND_L2_MESSAGE);
            let block = &lane[after.height.0 as usize - 1];
            assert_eq!(
                (message.header.timestamp, message.header.l1_number),
                (block.timestamp_ms / 1_000, block.l1.number)
            );
        }
        assert_eq!(message.delayed_read, delayed);
    }
    assert_eq!(delayed, 1 + (60 - DEPTH) / 3, "all that were deep enough");
    let sent: Vec<Vec<u8>> = messages
        .iter()
        .filter(|numbered| !numbered.message.is_delayed())
        .flat_map(|numbered| numbered.message.transactions().expect("ours are well formed"))
        .collect();
    let fit = lane.iter().flat_map(|block| block.transactions.clone()).filter(|transaction| transaction[0] == 2);
    assert_eq!(sent, fit.collect::<Vec<_>>(), "every fit transaction once, in order");
}

#[test]
fn empty_heights_may_be_left_out_and_l1_may_be_reorganised_above_the_depth() {
    for seed in 1..6 {
        let lane = lane(&mut Seed(seed), 60);
        let full = all(&lane);
        // Heights with nothing are only sometimes known; delayed messages that fell due there come before the next that has.
        let sparse: Vec<_> = lane.iter().filter(|block| !block.transactions.is_empty()).cloned().collect();
        let fewer = all(&sparse);
        let content = |all: &[Numbered]| all.iter().map(|numbered| numbered.message.clone()).collect::<Vec<_>>();
        assert_eq!(content(&fewer), content(&full)[..fewer.len()], "seed {seed}");
        // L1 took back what the log had seen of it: the numbers of its blocks count, not their hashes.
        let mut forked = lane.clone();
        for block in &mut forked {
            block.l1.hash = Hash32([9; 32]);
        }
        assert_eq!(content(&all(&forked)), content(&full), "seed {seed}");
    }
}

#[test]
fn interrupted_after_any_message_the_rest_is_numbered_alike() {
    let lane = lane(&mut Seed(2), 40);
    let messages = all(&lane);
    for numbered in &messages {
        let at = numbered.after.clone();
        let mut sequence = Sequence::new(adapter(), at.clone());
        // The lane is read again from the last message's height, or from before.
        let begin = (at.height.0 - 1).saturating_sub(at.tip.number % 3) as usize;
        let rest: Vec<_> = lane[begin..].iter().flat_map(|block| follow(&mut sequence, block)).collect();
        assert_eq!(rest, messages[at.tip.number as usize..], "after message {}", at.tip.number);
    }
}

#[test]
fn what_is_not_known_of_l1_is_waited_for_and_a_deep_reorganisation_is_found_out() {
    let lane = lane(&mut Seed(3), 30);
    let mut sequence = Sequence::new(adapter(), initial());
    let position = sequence.position().clone();
    let behind = sequence.follow(&lane[29], &inbox(&position, 100));
    assert_eq!(behind, Err(AdapterError::L1Behind { last: 100, needed: 125 }));
    assert_eq!(*sequence.position(), position, "nothing changed");
    let foreign = LaneBlock { rollup: RollupId(1), ..lane[0].clone() };
    assert!(matches!(sequence.follow(&foreign, &inbox(&position, 200)), Err(AdapterError::ForeignLane { .. })));
    // Messages that L1 put in the place of ones that the chain has.
    let messages = delayed_messages(6);
    let mut known = DelayedInbox::new(1, messages[0].accumulator());
    known.extend(messages[1..3].to_vec(), 106).expect("they follow");
    known.forget_before(3);
    let mut other = messages[3].clone();
    other.before = B256::repeat_byte(1);
    assert_eq!(known.extend(vec![other], 109), Err(DelayedError::Fork { index: 3 }));
    assert_eq!(known.extend(vec![messages[4].clone()], 112), Err(DelayedError::Order { expected: 3, found: 4 }));
    assert_eq!(known.seen(), Some(106));
    known.extend(messages[3..].to_vec(), 115).expect("they follow");
    assert_eq!((known.count_at(111), known.count_at(112), known.count_at(116)), (Some(4), Some(5), None));
}

#[test]
fn unfit_transactions_are_named_once() {
    let mut blocks = lane(&mut Seed(4), 30);
    blocks[29].transactions = vec![vec![], vec![0x7e], transaction(&mut Seed(5), 1, 1)];
    let mut sequence = Sequence::new(adapter(), initial());
    let needed = sequence.needs(&blocks[29]).expect("followed");
    let inbox = inbox(sequence.position(), needed);
    let (messages, skipped) = sequence.follow(&blocks[29], &inbox).expect("follows");
    assert!(messages.iter().all(|numbered| numbered.message.is_delayed()) && !messages.is_empty());
    let reasons: Vec<_> = skipped.iter().map(|skipped| (skipped.index, skipped.reason)).collect();
    assert_eq!(reasons, [(0, SkipReason::Empty), (1, SkipReason::Type(0x7e)), (2, SkipReason::Chain(1))]);
}

#[test]
fn a_journal_torn_anywhere_goes_on_with_the_same_messages() {
    let messages = all(&lane(&mut Seed(6), 20));
    let folder = folder("torn");
    let mut journal = Journal::open(&folder).expect("opens");
    assert!(journal.last().is_none() && journal.reader().first().is_none());
    journal.append(&messages[..12]).expect("appends");
    assert!(matches!(Journal::open(&folder), Err(JournalError::InUse(_))), "one writer at a time");
    drop(journal);
    let file = fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let file = file.into_iter().find(|path| path.extension().is_some()).expect("a file");
    let whole = fs::read(&file).expect("reads");
    let seed = &mut Seed(7);
    for _ in 0..60 {
        let cut = seed.below(whole.len() as u64) as usize;
        fs::write(&file, &whole[..cut]).expect("writes");
        let mut journal = Journal::open(&folder).expect("opens whatever a crash left");
        let have = journal.last().map_or(0, |last| last.tip.number as usize);
        assert!(have < 12);
        journal.append(&messages[have..]).expect("goes on");
        let read = journal.reader().read(1, usize::MAX).expect("reads");
        let expected: Vec<FeedMessage> = messages.iter().map(|numbered| numbered.message.clone()).collect();
        assert_eq!(read, expected, "cut at {cut}");
        drop(journal);
        // A journal that lost its file entirely begins anew under the same name.
        assert_eq!(Journal::open(&folder).expect("opens").last(), Some(&messages.last().expect("some").after));
    }
    // A flipped bit ends the journal where it is; what follows is made again.
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    fs::write(&file, &flipped).expect("writes");
    let journal = Journal::open(&folder).expect("opens");
    let have = journal.last().map_or(0, |last| last.tip.number);
    assert!(have < 12);
    assert_eq!(journal.last().cloned(), (have > 0).then(|| messages[have as usize - 1].after.clone()));
    fs::remove_dir_all(&folder).expect("cleans up");
}

#[test]
fn a_journal_is_read_from_anywhere_while_it_grows_over_many_files() {
    let seed = &mut Seed(8);
    let mut at = initial();
    let big = |seed: &mut Seed, height: u64| LaneBlock {
        rollup: RollupId(CHAIN),
        height: Height(height),
        timestamp_ms: 3_000_000 + height,
        l1: l1(100),
        transactions: vec![transaction(seed, CHAIN, 70_000)],
    };
    let folder = folder("files");
    let mut journal = Journal::open(&folder).expect("opens");
    let mut messages = Vec::new();
    for height in 1..=200 {
        let mut sequence = Sequence::new(adapter(), at.clone());
        let new = follow(&mut sequence, &big(seed, height));
        journal.append(&new).expect("appends");
        at = sequence.position().clone();
        messages.extend(new);
    }
    let reader = journal.reader();
    assert_eq!(reader.first(), Some(1));
    assert!(fs::read_dir(&folder).expect("a folder").count() > 2, "several files");
    for from in [1, 2, 79, 80, 81, 119, 150, 200] {
        let read = reader.placed(from, 300_000).expect("reads");
        assert_eq!(read.len(), 5.min(201 - from as usize), "from {from}");
        let expected = &messages[from as usize - 1..][..read.len()];
        assert!(read.iter().zip(expected).all(|(read, expected)| read.message == expected.message), "from {from}");
        assert_eq!(reader.get(from).expect("reads").as_ref(), Some(&messages[from as usize - 1]));
    }
    assert!(reader.placed(201, 1).expect("reads").is_empty() && reader.placed(0, 1).expect("reads").is_empty());
    let wrong = journal.append(&messages[3..4]);
    assert!(matches!(wrong, Err(JournalError::OutOfOrder { expected: 201, found: 4 })));
    drop(journal);
    assert_eq!(Journal::open(&folder).expect("opens").last(), Some(&at));
    fs::remove_dir_all(&folder).expect("cleans up");
}

#[test]
fn a_journal_goes_back_to_any_message_and_on_with_others() {
    let seed = &mut Seed(9);
    let folder = folder("rewound");
    let mut journal = Journal::open(&folder).expect("opens");
    let blocks: Vec<_> = (1..=160)
        .map(|height| LaneBlock {
            rollup: RollupId(CHAIN),
            height: Height(height),
            timestamp_ms: 3_000_000 + height,
            l1: l1(100),
            transactions: vec![transaction(seed, CHAIN, 70_000)],
        })
        .collect();
    let mut messages = all(&blocks);
    journal.append(&messages).expect("appends");
    let reader = journal.reader();
    // Within the last file, over its border, to the first of a file, to the chain's first message.
    for next in [160, 150, 80, 3, 2, 1] {
        journal.rewind(next).expect("goes back");
        messages.truncate(next as usize - 1);
        assert_eq!(journal.last(), messages.last().map(|numbered| &numbered.after), "before {next}");
        assert_eq!(reader.get(next).expect("reads"), None);
        assert_eq!(reader.get(next.max(2) - 1).expect("reads").as_ref(), messages.last());
        let at = messages.last().map_or_else(initial, |numbered| numbered.after.clone());
        let other = LaneBlock { transactions: vec![transaction(seed, CHAIN, 10)], ..blocks[next as usize - 1].clone() };
        let new = follow(&mut Sequence::new(adapter(), at), &other);
        journal.append(&new).expect("goes on");
        assert_eq!(reader.get(next).expect("reads").as_ref(), new.first());
        messages.extend(new);
    }
    drop(journal);
    assert_eq!(Journal::open(&folder).expect("opens").last(), messages.last().map(|numbered| &numbered.after));
    fs::remove_dir_all(&folder).expect("cleans up");
}

#[test]
fn what_is_forced_in_is_numbered_in_its_order_and_moves_the_clocks_of_what_follows() {
    let lane = lane(&mut Seed(10), 12);
    let mut sequence = Sequence::new(adapter(), initial());
    for block in &lane[..4] {
        follow(&mut sequence, block);
    }
    let before = sequence.position().clone();
    let forced_at = l1(9_000);
    let known = inbox(&before, 200);
    let (first, second) = (before.tip.delayed + 2, before.tip.delayed + 3);
    let one = sequence.force(7, first, forced_at, &known).expect("all are known");
    let other = sequence.force(8, second, forced_at, &known).expect("all are known");
    let numbers: Vec<_> = one.iter().chain(&other).map(|numbered| numbered.message.sequence).collect();
    assert_eq!(numbers, (before.next()..before.next() + 3).collect::<Vec<_>>());
    let tails: Vec<_> = one.iter().chain(&other).map(|numbered| numbered.after.forced.expect("forced")).collect();
    let expected = [(7, 1), (7, 2), (8, 3)].map(|(batch, messages)| ForcedTail { batch, messages });
    assert_eq!(tails, expected, "those of batches in a row are counted together");
    let messages = delayed_messages(40);
    assert_eq!(sequence.position().delayed_accumulator, messages[second as usize - 1].accumulator());
    assert_eq!(sequence.position().height, before.height, "the lane goes on where it was");
    // A batch of a poster between two: they are not in a row.
    let later = sequence.force(10, second + 1, forced_at, &known).expect("all are known");
    assert_eq!(later[0].after.forced, Some(ForcedTail { batch: 10, messages: 1 }));
    let unknown = sequence.force(11, 90, forced_at, &known);
    assert!(matches!(unknown, Err(AdapterError::L1Behind { .. })), "{unknown:?}");
    let next = lane[4..].iter().flat_map(|block| follow(&mut sequence, block));
    let own: Vec<_> = next.filter(|numbered| !numbered.message.is_delayed()).collect();
    assert!(!own.is_empty());
    for Numbered { message, .. } in own {
        assert_eq!((message.header.l1_number, message.header.timestamp), (9_000, forced_at.timestamp));
    }
}
