//! What is the authenticated state made of?

use std::collections::BTreeMap;

/// Where a record lives in the authenticated state.
pub type Key = [u8; 32];

/// A record of the authenticated state. Fixed size: shorter content is padded by the application.
pub type Record = [u8; RECORD_BYTES];

/// Length of a [`Record`]. State sync has no stock support for values of varying length.
pub const RECORD_BYTES: usize = 256;

/// Records by key; `None` is a record that is absent, or in an outcome one that is deleted.
pub type Records = BTreeMap<Key, Option<Record>>;
