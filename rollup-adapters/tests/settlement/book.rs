//! Leases in a log of one process, which takes what is offered in its next block.

#![allow(dead_code, reason = "tests of leases and tests of posters each use a part of it")]

use std::sync::{Arc, Mutex};

use lockstep_adapters::poster::lease::{BookFuture, LeaseBook, LogLease};
use lockstep_protocol::{
    body::Facts,
    genesis::Genesis,
    ids::{Height, RollupId},
    settlement::{
        SignedLease,
        records::{LeaseRecord, lease_key},
    },
    signature::AccountKey,
};

use crate::fixture::{self, Network};

pub(crate) const ROLLUP: RollupId = RollupId(10);
pub(crate) const HEIGHTS: u64 = 20;

pub(crate) fn poster(number: u8) -> AccountKey {
    AccountKey::ed25519([0x70 + number; 32])
}

fn genesis() -> Genesis {
    let mut genesis = fixture::genesis("lockstep-lease-1", 1, 1_000, &[ROLLUP.0]);
    let mut posters = vec![poster(0).account(), poster(1).account()];
    posters.sort();
    genesis.rollups[0].posters = posters;
    genesis
}

/// The log.
#[derive(Clone)]
pub(crate) struct Book(pub(crate) Arc<Mutex<(Network, Vec<SignedLease>)>>);

impl Book {
    pub(crate) fn new() -> Self {
        let book = Self(Arc::new(Mutex::new((Network::from_genesis(genesis()), Vec::new()))));
        book.block();
        book
    }

    pub(crate) fn block(&self) {
        let mut held = self.0.lock().expect("no holder panics");
        let leases = std::mem::take(&mut held.1);
        held.0.advance_with(Facts { leases, ..Facts::default() }, vec![], vec![]);
    }

    pub(crate) fn record(&self) -> Option<LeaseRecord> {
        self.0.lock().expect("no holder panics").0.record(&lease_key(ROLLUP))
    }

    /// The lease of poster `number`, for so many heights at a time.
    pub(crate) fn lease_for(&self, number: u8, heights: u64) -> LogLease<Self> {
        let network = self.0.lock().expect("no holder panics").0.rules.network;
        LogLease::new(self.clone(), poster(number), network, ROLLUP, heights)
    }

    pub(crate) fn lease(&self, number: u8) -> LogLease<Self> {
        self.lease_for(number, HEIGHTS)
    }
}

impl LeaseBook for Book {
    fn read(&self) -> BookFuture<'_, (Option<LeaseRecord>, Height)> {
        Box::pin(async {
            let tip = self.0.lock().expect("no holder panics").0.parent.height;
            Ok((self.record(), tip))
        })
    }

    fn offer(&self, signed: SignedLease) -> BookFuture<'_, ()> {
        Box::pin(async move {
            self.0.lock().expect("no holder panics").1.push(signed);
            Ok(())
        })
    }
}
