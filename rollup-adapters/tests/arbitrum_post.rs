//! Is every message posted once, in order, when it is time, and never with a clock that L1 would move?
#![cfg(feature = "feed")]

use alloy_primitives::{Address, B256, keccak256};
use lockstep_adapters::{
    AdapterError, Batch, BatchTarget,
    arbitrum::{
        Event, decode_blobs, decompress,
        delayed::DelayedMessage,
        feed::{FeedMessage, KIND_BATCH_REPORT, KIND_L2_MESSAGE, MessageHeader, SEQUENCER},
        inbox::{Bounds, InboxState, TimeVariation},
        next_batch::{Placed, PostError, PostPolicy, next_batch},
    },
    conformance::Seed,
};

const NOW: u64 = 1_750_000_000;
const L1_NOW: u64 = 20_000_000;
const CALLDATA: BatchTarget = BatchTarget::Calldata { bytes_max: 90_000 };
const POLICY: PostPolicy = PostPolicy { wait_seconds: 60, reports_wait_seconds: 3_600, quality: 2 };

/// Messages from 1 on; every fifth is a delayed one.
fn messages(seed: &mut Seed, count: u64, bytes: usize) -> Vec<Placed> {
    let (mut delayed_read, mut accumulator) = (1u64, B256::repeat_byte(1));
    let message = |sequence: u64| {
        let mut header = MessageHeader {
            kind: KIND_L2_MESSAGE,
            sender: SEQUENCER,
            l1_number: L1_NOW - 10 + sequence / 100,
            timestamp: NOW - 100 + sequence / 100,
            request: None,
            l1_base_fee: None,
        };
        let mut content: Vec<u8> = (0..bytes).map(|_| seed.draw() as u8).collect();
        if sequence.is_multiple_of(5) {
            header = MessageHeader {
                kind: 12,
                sender: Address::repeat_byte(3),
                request: Some(B256::left_padding_from(&delayed_read.to_be_bytes())),
                l1_base_fee: Some(9),
                ..header
            };
            content.truncate(52);
            let (header, content) = (header.clone(), content.clone());
            accumulator = DelayedMessage { index: delayed_read, header, content, before: accumulator }.accumulator();
            delayed_read += 1;
        }
        let message = FeedMessage {
            sequence,
            header,
            content,
            delayed_read,
            block_hash: None,
            metadata: vec![],
            signature: vec![],
        };
        Placed { message, delayed_accumulator: accumulator }
    };
    (1..=count).map(message).collect()
}

fn state() -> InboxState {
    InboxState {
        l1_number: L1_NOW,
        l1_hash: keccak256("L1 now"),
        l1_timestamp: NOW,
        batches: 1,
        messages: 1,
        forced: 0,
        delayed_read: 1,
        accumulator: keccak256("genesis"),
        delayed_accumulator: B256::repeat_byte(1),
        delay_bufferable: true,
        variation: TimeVariation {
            delay_blocks: 7_200,
            future_blocks: 64,
            delay_seconds: 86_400,
            future_seconds: 3_600,
        },
    }
}

fn events(data: &Batch) -> Vec<Event> {
    match data {
        Batch::Calldata(batch) => decompress(batch),
        Batch::Blobs(blobs) => decode_blobs(blobs).and_then(|batch| decompress(&batch)),
    }
    .expect("ours are well formed")
}

fn expected(messages: &[Placed]) -> Vec<Event> {
    let event = |Placed { message, .. }: &Placed| match message.is_delayed() {
        true => Event::Delayed,
        false => Event::Message {
            timestamp: message.header.timestamp,
            l1_number: message.header.l1_number,
            message: message.content.clone(),
        },
    };
    messages.iter().map(event).collect()
}

#[test]
fn call_after_call_posts_every_message_once_whatever_l1_takes_back() {
    for (target, bytes_max) in [(CALLDATA, 90_000), (BatchTarget::Blobs { per_transaction: 2 }, 2 * 130_048)] {
        let seed = &mut Seed(1);
        let messages = messages(seed, 4_000, 300);
        let mut states = vec![state()];
        let mut posted: Vec<Vec<Event>> = Vec::new();
        let mut reorganisations = 0;
        loop {
            let now = states.last().expect("the first stays").clone();
            let rest = &messages[now.messages as usize - 1..];
            let Some(call) = next_batch(&now, rest, &POLICY, target).expect("posts") else { break };
            // Another poster, or the same one after it was killed, makes the same call.
            assert_eq!(next_batch(&now, rest, &POLICY, target).expect("posts").as_ref(), Some(&call));
            assert_eq!(
                (call.sequence, call.messages_before, call.before),
                (now.batches, now.messages, now.accumulator)
            );
            let size = match &call.data {
                Batch::Calldata(data) => data.len(),
                Batch::Blobs(blobs) => decode_blobs(blobs).expect("blobs").len(),
            };
            assert!(size <= bytes_max);
            let full = size > bytes_max / 10 * 8;
            assert!(full || call.messages_after == 4_001, "only the last is not full: {size}");
            let delayed = rest.iter().find(|placed| placed.message.is_delayed()).expect("every fifth");
            let proof = call.proof.as_ref().expect("the inbox wants it");
            assert_eq!((proof.accumulator(), proof.index), (delayed.delayed_accumulator, now.delayed_read));
            posted.push(events(&call.data));
            states.push(InboxState {
                batches: now.batches + 1,
                messages: call.messages_after,
                delayed_read: call.delayed_read,
                accumulator: call.accumulator(&Bounds::at(&now.variation, L1_NOW, NOW), &[]),
                delayed_accumulator: call.delayed_accumulator,
                ..now
            });
            if reorganisations < 5 && seed.below(2) == 0 {
                reorganisations += 1;
                let back = 1 + seed.below(3).min(states.len() as u64 - 2) as usize;
                states.truncate(states.len() - back);
                posted.truncate(posted.len() - back);
            }
        }
        assert!(reorganisations > 0 && posted.len() > 3);
        assert_eq!(posted.concat(), expected(&messages), "{target:?}");
    }
}

#[test]
fn little_waits_for_more_and_reports_wait_longer() {
    let mut few = messages(&mut Seed(2), 4, 100);
    let young = InboxState { l1_timestamp: few[0].message.header.timestamp + 59, ..state() };
    assert_eq!(next_batch(&young, &few, &POLICY, CALLDATA).expect("waits"), None);
    assert_eq!(next_batch(&young, &[], &POLICY, CALLDATA).expect("waits"), None);
    let old = InboxState { l1_timestamp: young.l1_timestamp + 1, ..young };
    assert_eq!(next_batch(&old, &few, &POLICY, CALLDATA).expect("posts").map(|call| call.messages_after), Some(5));
    // The inbox reports each batch in a delayed message. A batch for the report alone would be reported again.
    let mut accumulator = state().delayed_accumulator;
    for (index, Placed { message, delayed_accumulator }) in (1..).zip(&mut few) {
        message.header.kind = KIND_BATCH_REPORT;
        message.header.request = Some(B256::left_padding_from(&u64::to_be_bytes(index)));
        message.delayed_read = index + 1;
        let (header, content) = (message.header.clone(), message.content.clone());
        accumulator = DelayedMessage { index, header, content, before: accumulator }.accumulator();
        *delayed_accumulator = accumulator;
    }
    assert_eq!(next_batch(&old, &few, &POLICY, CALLDATA).expect("waits"), None);
    let later = InboxState { l1_timestamp: old.l1_timestamp + 3_540, ..old };
    let call = next_batch(&later, &few, &POLICY, CALLDATA).expect("posts").expect("at last");
    assert_eq!((call.messages_after, call.delayed_read), (5, 5));
    assert_eq!(events(&call.data), vec![Event::Delayed; 4]);
    assert_eq!(call.delayed_accumulator, accumulator);
    let plain = InboxState { delay_bufferable: false, ..later };
    assert_eq!(next_batch(&plain, &few, &POLICY, CALLDATA).expect("posts").expect("posts").proof, None);
}

#[test]
fn what_l1_would_move_or_has_otherwise_is_not_posted() {
    let messages = messages(&mut Seed(3), 300, 100);
    let start = next_batch(&state(), &messages[1..], &POLICY, CALLDATA);
    assert!(matches!(start, Err(PostError::Start { posted: 1, first: 2 })), "{start:?}");
    let forced = next_batch(&InboxState { delayed_read: 3, ..state() }, &messages, &POLICY, CALLDATA);
    assert!(matches!(forced, Err(PostError::Forced { message: 1, inbox: 3, chain: 1 })), "{forced:?}");
    let forked = InboxState { delayed_accumulator: B256::ZERO, ..state() };
    let forked = next_batch(&forked, &messages, &POLICY, CALLDATA);
    assert!(matches!(forked, Err(PostError::Fork { message: 5 })), "{forked:?}");
    // One second and one block too old.
    for (l1_timestamp, l1_number) in [(NOW - 100 + 86_401, L1_NOW), (NOW, L1_NOW - 10 + 7_201)] {
        let late = next_batch(&InboxState { l1_timestamp, l1_number, ..state() }, &messages, &POLICY, CALLDATA);
        assert!(matches!(late, Err(PostError::TooOld { message: 1, .. })), "{late:?}");
        let text = late.expect_err("it is too old").to_string();
        assert!(["setMaxTimeVariation", "forceInclusion"].iter().all(|way| text.contains(way)), "no way out: {text}");
        let (l1_timestamp, l1_number) = (l1_timestamp.min(NOW - 100 + 86_400), l1_number.min(L1_NOW - 10 + 7_200));
        let just = next_batch(&InboxState { l1_timestamp, l1_number, ..state() }, &messages, &POLICY, CALLDATA);
        assert!(just.expect("posts").is_some());
    }
    // An L1 whose clock is behind waits for its own time: what is before goes, what is ahead stays.
    let behind = InboxState { l1_timestamp: NOW - 100 + 1 - 3_600, ..state() };
    let hurry = PostPolicy { wait_seconds: 0, ..POLICY };
    let call = next_batch(&behind, &messages, &hurry, CALLDATA).expect("posts").expect("some");
    assert_eq!(call.messages_after, 201, "messages 200 and on are two seconds in");
    let behind = InboxState { l1_number: L1_NOW - 10 - 65, ..state() };
    assert_eq!(next_batch(&behind, &messages, &hurry, CALLDATA).expect("waits"), None);
    // What cannot fit at all is an error and not silence.
    let tight = next_batch(&state(), &messages, &POLICY, BatchTarget::Calldata { bytes_max: 50 });
    assert!(matches!(tight, Err(PostError::Adapter(AdapterError::Limit { .. }))), "{tight:?}");
}
