//! What did the block's records hold, and what do they hold by now?
//!
//! The records that were staged, with what execution wrote over them. Does not know what a record means.

use std::collections::BTreeMap;

use crate::state::{Key, Record, Records, Stored};

pub(crate) struct Store<'a> {
    records: &'a Records,
    writes: BTreeMap<Key, Record>,
}

impl<'a> Store<'a> {
    pub(crate) fn new(records: &'a Records) -> Self {
        Self { records, writes: BTreeMap::new() }
    }

    pub(crate) fn get<T: Stored>(&self, key: &Key) -> Option<T> {
        match self.writes.get(key) {
            Some(record) => Some(value(record)),
            None => read(self.records, key),
        }
    }

    pub(crate) fn put(&mut self, key: Key, value: &impl Stored) {
        debug_assert!(self.records.contains_key(&key), "every key that a body touches is staged");
        self.writes.insert(key, value.to_record());
    }

    /// What changed.
    pub(crate) fn changes(self) -> BTreeMap<Key, Record> {
        let Self { records, mut writes } = self;
        writes.retain(|key, record| records.get(key).copied().flatten().as_ref() != Some(record));
        writes
    }
}

/// The record is ours: written by this code and authenticated by the state root. If it does not read, nothing else may run.
pub(crate) fn read<T: Stored>(records: &Records, key: &Key) -> Option<T> {
    records.get(key).expect("every key that a body touches is staged").as_ref().map(value)
}

fn value<T: Stored>(record: &Record) -> T {
    T::from_record(record).expect("records of the state are of the kind that their key says")
}
