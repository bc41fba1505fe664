//! How do relayers reach the city's log, and how do their connections break?

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use lockstep_adapters::relay::{Log, log::Answer};
use lockstep_protocol::{
    bundle::{Bundle, Leg, Transaction},
    ids::{BundleId, Height, RollupId, SettlementId},
    rpc::{DecisionPage, Fact, RollupStatus, SettlementStatus},
    settlement::records::{SettlementRecord, settlement_key},
};
use tokio::sync::watch;

use super::{City, RELAYER};
use crate::fixture;

/// A relayer's connection to the log.
pub(crate) struct Wire {
    pub(crate) city: Arc<City>,
    pub(crate) rollup: RollupId,
    pub(crate) payer: u8,
}

impl Wire {
    pub(crate) fn new(city: &Arc<City>, rollup: u64, number: usize) -> Self {
        Self { city: Arc::clone(city), rollup: RollupId(rollup), payer: RELAYER + number as u8 }
    }
}

impl Log for Wire {
    fn status(&self) -> Answer<'_, RollupStatus> {
        Box::pin(async move { Ok(self.city.core.lock().await.status(self.rollup)) })
    }

    fn unsettled(&self) -> Answer<'_, Vec<SettlementStatus>> {
        Box::pin(async move { Ok(self.city.core.lock().await.unsettled(self.rollup)) })
    }

    fn decisions(&self, from: u64, most: u64) -> Answer<'_, DecisionPage> {
        Box::pin(async move { Ok(self.city.core.lock().await.decisions(self.rollup, from, most)) })
    }

    fn knows(&self, settlement: SettlementId) -> Answer<'_, bool> {
        Box::pin(async move {
            let core = self.city.core.lock().await;
            Ok(core.network.record::<SettlementRecord>(&settlement_key(&settlement)).is_some())
        })
    }

    fn send_fact(&self, fact: Fact) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut core = self.city.core.lock().await;
            let height = core.network.parent.height;
            match fact {
                Fact::Observation(observation) => core.observations.push((height, observation)),
                Fact::Void(void) => {
                    let sid = void.sid(core.network.rules.network);
                    core.intents.entry(sid).or_insert_with(|| (void.intent.clone(), height));
                    core.voids.push(void);
                }
                fact => panic!("a relayer sends no such fact: {fact:?}"),
            }
            Ok(())
        })
    }

    fn submit(&self, transaction: Vec<u8>, valid_for: u64) -> Answer<'_, BundleId> {
        Box::pin(async move {
            let lost = self.city.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if lost.is_ok() {
                return Ok(BundleId::default());
            }
            let mut core = self.city.core.lock().await;
            let nonce = core.nonce(self.payer);
            let legs = vec![Leg { rollup: self.rollup, transactions: vec![Transaction(transaction)] }];
            let valid_until = Height(core.network.next().0 + valid_for);
            let bundle = Bundle { legs, valid_until, ..core.network.bundle(self.payer, nonce, &[]) };
            let id = bundle.id();
            core.bundles.push(bundle.sign(&fixture::key(self.payer)));
            Ok(id)
        })
    }

    fn is_ordered(&self, bundle: BundleId) -> Answer<'_, bool> {
        Box::pin(async move { Ok(self.city.core.lock().await.ordered.contains(&bundle)) })
    }
}

/// A connection that breaks for good after so many questions: the last is done, and its answer is lost.
pub(crate) struct Fragile {
    wire: Wire,
    left: AtomicU64,
    pub(crate) broken: watch::Sender<bool>,
}

impl Fragile {
    pub(crate) fn new(wire: Wire, questions: u64) -> Self {
        Self { wire, left: AtomicU64::new(questions), broken: watch::channel(false).0 }
    }

    fn through<'a, T: Send + 'a>(&'a self, answer: Answer<'a, T>) -> Answer<'a, T> {
        Box::pin(async move {
            let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            match left {
                Ok(left) if left > 1 => answer.await,
                Ok(_) => {
                    let _ = answer.await;
                    self.broken.send_replace(true);
                    std::future::pending().await
                }
                Err(_) => std::future::pending().await,
            }
        })
    }
}

impl Log for Fragile {
    fn status(&self) -> Answer<'_, RollupStatus> {
        // Looking does nothing that a kill could interrupt.
        if *self.broken.borrow() {
            return Box::pin(std::future::pending());
        }
        self.wire.status()
    }

    fn unsettled(&self) -> Answer<'_, Vec<SettlementStatus>> {
        self.wire.unsettled()
    }

    fn decisions(&self, from: u64, most: u64) -> Answer<'_, DecisionPage> {
        self.through(self.wire.decisions(from, most))
    }

    fn knows(&self, settlement: SettlementId) -> Answer<'_, bool> {
        self.wire.knows(settlement)
    }

    fn send_fact(&self, fact: Fact) -> Answer<'_, ()> {
        self.through(self.wire.send_fact(fact))
    }

    fn submit(&self, transaction: Vec<u8>, valid_for: u64) -> Answer<'_, BundleId> {
        self.through(self.wire.submit(transaction, valid_for))
    }

    fn is_ordered(&self, bundle: BundleId) -> Answer<'_, bool> {
        self.wire.is_ordered(bundle)
    }
}
