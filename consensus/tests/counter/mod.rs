//! A state machine for the tests: numbered counters that only step by one.
//!
//! A body is a list of steps of 16 bytes, a counter's id and the number it steps to, each a big-endian `u64`. A step is
//! valid only from the number before it, so every step enters the log exactly once or an assertion here fails.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use lockstep_consensus::{
    block::Block,
    machine::{Candidate, Genesis, Invalid, Key, Machine, Outcome, Position, RECORD_BYTES, Record, Records, Standing},
};
use lockstep_protocol::{
    header::{Header, L1Origin},
    ids::{Hash32, NetworkId},
};

pub(crate) const STEP_BYTES: usize = 16;

/// A counter's id and the number it steps to.
pub(crate) type Step = (u64, u64);

#[derive(Default)]
pub(crate) struct Counters {
    inner: Mutex<Inner>,
    /// Appended to every body: makes validators with different machines propose different blocks.
    pub mark: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Inner {
    /// Steps that wait to be ordered.
    pub pool: BTreeMap<Step, ()>,
    /// Headers of final blocks, by height.
    pub log: BTreeMap<u64, Header>,
    /// How often a final block came again.
    pub repeats: u64,
    /// Final steps, by counter.
    pub counters: BTreeMap<u64, u64>,
    /// When each of the last final blocks arrived, for latency.
    pub arrivals: Vec<(u64, std::time::Instant)>,
}

impl Counters {
    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics while it holds the counters")
    }

    pub(crate) fn submit(&self, step: Step) {
        self.inner().pool.insert(step, ());
    }

    pub(crate) fn height(&self) -> u64 {
        self.inner().log.keys().next_back().copied().unwrap_or_default()
    }
}

pub(crate) fn network() -> NetworkId {
    NetworkId::from_name("counters")
}

pub(crate) fn key_of(counter: u64) -> Key {
    let mut key = [0; 32];
    // Spread over the key space, as hashed keys are.
    key[..8].copy_from_slice(&counter.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..16].copy_from_slice(&counter.to_be_bytes());
    key
}

pub(crate) fn record_of(number: u64) -> Record {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&number.to_be_bytes());
    record
}

pub(crate) fn number_of(record: &Option<Record>) -> u64 {
    record.as_ref().map_or(0, |record| u64::from_be_bytes(record[..8].try_into().expect("eight bytes")))
}

fn steps(body: &[u8]) -> impl Iterator<Item = Step> + '_ {
    body.chunks_exact(STEP_BYTES).map(|step| {
        let (counter, number) = step.split_at(8);
        (
            u64::from_be_bytes(counter.try_into().expect("eight bytes")),
            u64::from_be_bytes(number.try_into().expect("eight bytes")),
        )
    })
}

fn lanes(parent: &Header, body: &[u8]) -> Hash32 {
    lockstep_consensus::block::hash_body(&[&parent.lanes.0, body].concat())
}

impl Machine for Counters {
    fn genesis(&self) -> Genesis {
        Genesis {
            network: network(),
            timestamp_ms: 1_000,
            config: Hash32([7; 32]),
            lanes: Hash32([8; 32]),
            l1: L1Origin { number: 5, hash: Hash32([5; 32]), timestamp: 1 },
        }
    }

    fn waiting(&self, _: &Header) -> bool {
        !self.inner().pool.is_empty()
    }

    fn candidate(&self, parent: &Header, limit: usize) -> Candidate {
        let mut body = Vec::new();
        for (counter, number) in self.inner().pool.keys() {
            if body.len() + STEP_BYTES > limit {
                break;
            }
            body.extend_from_slice(&counter.to_be_bytes());
            body.extend_from_slice(&number.to_be_bytes());
        }
        // L1 moves on with every tenth block, and this node sometimes lags behind.
        let number = (parent.height.0 / 10) + 4;
        let l1 = L1Origin { number, hash: Hash32([number as u8; 32]), timestamp: number };
        Candidate { body: body.into(), l1 }
    }

    fn keys(&self, position: &Position, body: &Bytes) -> Result<Vec<Key>, Invalid> {
        assert_eq!(position.height.0, position.parent.height.0 + 1);
        assert!(position.timestamp_ms > position.parent.timestamp_ms);
        assert!(position.l1.number >= position.parent.l1.number);
        if !body.len().is_multiple_of(STEP_BYTES) {
            return Err(Invalid::because(format!("{} bytes are not whole steps", body.len())));
        }
        Ok(steps(body).map(|(counter, _)| key_of(counter)).collect())
    }

    fn build(&self, position: &Position, candidate: Bytes, records: &Records) -> (Bytes, Outcome) {
        let mut writes = Records::new();
        let mut body = Vec::new();
        for (counter, number) in steps(&candidate) {
            let key = key_of(counter);
            let before = number_of(writes.get(&key).unwrap_or(&records[&key]));
            if number == before + 1 {
                writes.insert(key, Some(record_of(number)));
                body.extend_from_slice(&counter.to_be_bytes());
                body.extend_from_slice(&number.to_be_bytes());
            }
        }
        let outcome = Outcome { writes, lanes: lanes(&position.parent, &body) };
        (body.into(), outcome)
    }

    fn apply(&self, position: &Position, body: &Bytes, records: &Records, _: Standing) -> Result<Outcome, Invalid> {
        let mut writes = Records::new();
        for (counter, number) in steps(body) {
            let key = key_of(counter);
            let before = number_of(writes.get(&key).unwrap_or(&records[&key]));
            if number != before + 1 {
                return Err(Invalid::because(format!("counter {counter} steps from {before} to {number}")));
            }
            writes.insert(key, Some(record_of(number)));
        }
        Ok(Outcome { writes, lanes: lanes(&position.parent, body) })
    }

    fn seen(&self, _: &L1Origin) -> bool {
        true
    }

    fn finalized(&self, block: &Block) {
        let mut inner = self.inner();
        let header = block.header();
        if let Some(known) = inner.log.get(&header.height.0) {
            assert_eq!(known, header, "a final block came again as another one");
            inner.repeats += 1;
            return;
        }
        if let Some((last, _)) = inner.log.last_key_value() {
            assert_eq!(*last + 1, header.height.0, "final blocks come in order");
        }
        inner.log.insert(header.height.0, header.clone());
        inner.arrivals.push((header.height.0, std::time::Instant::now()));
        for (counter, number) in steps(block.body()) {
            inner.pool.remove(&(counter, number));
            inner.counters.insert(counter, number);
        }
    }
}
