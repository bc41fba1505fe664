//! Who is told what happens, and what if they do not listen?
//!
//! A subscriber is a place in the feed: it reads from the archive until it has caught up, then what is new. All take the same
//! JSON, written once. One that takes nothing for too long is cut off, and told where to resume; it slows nobody.

use std::{sync::Arc, time::Duration};

use jsonrpsee::{
    PendingSubscriptionSink, RpcModule, SubscriptionMessage, SubscriptionSink,
    core::SubscriptionError,
    server::{RegisterMethodError, SendTimeoutError},
    types::{ErrorObjectOwned, Params},
};
use lockstep_protocol::{
    evidence::BundleState,
    ids::{BundleId, Height, RollupId},
    rpc::{BundleStatus, LegStatus, Level, QueryError},
};
use serde_json::value::{RawValue, to_raw_value};

use super::{Failure, Service, levels::with_levels, params::Arguments};
use crate::index::feed::FeedError;

/// A quiet lane's follower is given a proof that there was nothing at least every so many heights: half a minute of an idle
/// network, a second of a busy one.
const QUIET_HEIGHTS: u64 = 32;
/// How often rollups are asked how far a bundle is that somebody follows.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// A pending bundle is looked at again after this, although nothing was heard of it.
const STATUS_HOLD: Duration = Duration::from_secs(10);
/// Lane heights looked up at once.
const HEIGHTS_AT_ONCE: usize = 64;

pub(super) fn register(module: &mut RpcModule<Arc<Service>>) -> Result<(), RegisterMethodError> {
    module.register_subscription(
        "lockstep_subscribeHeaders",
        "lockstep_header",
        "lockstep_unsubscribeHeaders",
        |params, pending, service, _| async move { subscribe(&service, &params, pending, What::Headers).await },
    )?;
    module.register_subscription(
        "lockstep_subscribeLane",
        "lockstep_lane",
        "lockstep_unsubscribeLane",
        |params, pending, service, _| async move { subscribe(&service, &params, pending, What::Lane).await },
    )?;
    module.register_subscription(
        "lockstep_subscribeBundle",
        "lockstep_bundle",
        "lockstep_unsubscribeBundle",
        |params, pending, service, _| async move { subscribe(&service, &params, pending, What::Bundle).await },
    )?;
    Ok(())
}

#[derive(Clone, Copy)]
enum What {
    Headers,
    Lane,
    Bundle,
}

/// What a subscriber is told of.
enum Topic {
    Headers,
    Lane(RollupId),
    Bundle(BundleId),
}

/// A subscriber's place.
struct Subscriber<'a> {
    service: &'a Service,
    sink: SubscriptionSink,
    /// The next height to be told of.
    next: Height,
}

/// Why a subscription ends.
enum End {
    /// The subscriber left.
    Left,
    /// There is a reason that the subscriber is told.
    Told(Failure),
}

async fn subscribe(
    service: &Service,
    params: &Params<'static>,
    pending: PendingSubscriptionSink,
    what: What,
) -> Result<(), SubscriptionError> {
    let (topic, next) = match arguments(service, params, what) {
        Ok(arguments) => arguments,
        Err(failure) => {
            pending.reject(ErrorObjectOwned::from(failure)).await;
            return Ok(());
        }
    };
    let Ok(sink) = pending.accept().await else { return Ok(()) };
    let numbers = &service.metrics.subscriptions;
    numbers.open.inc();
    let mut subscriber = Subscriber { service, sink, next };
    let end = match topic {
        Topic::Headers => subscriber.headers().await,
        Topic::Lane(rollup) => subscriber.lane(rollup).await,
        Topic::Bundle(id) => subscriber.bundle(id).await,
    };
    numbers.open.dec();
    match end {
        End::Left => Ok(()),
        End::Told(failure) => {
            let error = ErrorObjectOwned::from(failure);
            Err(SubscriptionError::from_json(to_raw_value(&error).expect("an error has a JSON form")))
        }
    }
}

/// What is asked for, and the height to begin with: by default the next block.
fn arguments(service: &Service, params: &Params<'_>, what: What) -> Result<(Topic, Height), Failure> {
    let tip = service.index.height();
    let (topic, from) = match what {
        What::Headers => (Topic::Headers, Arguments::read(params, 1)?.optional("fromHeight")?),
        What::Bundle => (Topic::Bundle(Arguments::read(params, 1)?.next("bundleId")?), None),
        What::Lane => {
            let mut arguments = Arguments::read(params, 2)?;
            let rollup: RollupId = arguments.next("rollup")?;
            if !service.index.rules().rollups.contains_key(&rollup) {
                return Err(QueryError::UnknownRollup { rollup }.into());
            }
            (Topic::Lane(rollup), arguments.optional("fromHeight")?)
        }
    };
    let from = from.unwrap_or(tip.next()).max(Height(1));
    if from > tip.next() {
        return Err(QueryError::AheadOfTip { height: from, tip }.into());
    }
    Ok((topic, from))
}

impl Subscriber<'_> {
    async fn headers(&mut self) -> End {
        let mut heights = self.service.index.watch();
        loop {
            let tip = *heights.borrow_and_update();
            while self.next <= tip {
                let header = match self.service.feed.header(self.next).await {
                    Ok(header) => header,
                    Err(error) => return End::Told(error.into()),
                };
                if let Err(end) = self.send(header.json()).await {
                    return end;
                }
                self.next = self.next.next();
            }
            if let Err(end) = self.wait(&mut heights).await {
                return end;
            }
        }
    }

    async fn lane(&mut self, rollup: RollupId) -> End {
        let mut heights = self.service.index.watch();
        // The first proof that there is nothing more says that the past is complete.
        let mut quiet_since = Height(0);
        loop {
            let tip = *heights.borrow_and_update();
            match self.lane_up_to(rollup, tip, &mut quiet_since).await {
                Ok(()) => {}
                Err(end) => return end,
            }
            if let Err(end) = self.wait(&mut heights).await {
                return end;
            }
        }
    }

    /// Each change of a bundle's status, until nothing of it will change any more.
    async fn bundle(&mut self, id: BundleId) -> End {
        let service = self.service;
        let mut told: Option<BundleStatus> = None;
        loop {
            let status = tokio::select! {
                status = service.outcomes.wait(id, if told.is_none() { Duration::ZERO } else { STATUS_HOLD }) => status,
                () = self.sink.closed() => return End::Left,
            };
            let status = match status {
                Ok(status) => with_levels(service, status).await,
                // It may be on its way to this node.
                Err(Failure::Query(QueryError::UnknownBundle { .. })) => {
                    tokio::select! {
                        () = tokio::time::sleep(STATUS_INTERVAL) => continue,
                        () = self.sink.closed() => return End::Left,
                    }
                }
                Err(failure) => return End::Told(failure),
            };
            let is_new = told.as_ref().is_none_or(|told| (told.state, &told.legs) != (status.state, &status.legs));
            if is_new && let Err(end) = self.send(&to_raw_value(&status).expect("a status has a JSON form")).await {
                return end;
            }
            let pending = status.state == BundleState::Pending;
            let last = |leg: &LegStatus| leg.level == Level::Final || !service.levels.knows(leg.rollup);
            if !pending && status.legs.iter().all(last) {
                self.sink.closed().await;
                return End::Left;
            }
            told = Some(status);
            // One that is pending is waited for; of a rollup nobody tells when it has moved.
            if !pending {
                tokio::select! {
                    () = tokio::time::sleep(STATUS_INTERVAL) => {}
                    () = self.sink.closed() => return End::Left,
                }
            }
        }
    }

    async fn lane_up_to(&mut self, rollup: RollupId, tip: Height, quiet_since: &mut Height) -> Result<(), End> {
        let service = self.service;
        while self.next <= tip {
            let found = service.index.lane_heights(rollup, self.next, HEIGHTS_AT_ONCE);
            let mut found = found.map_err(|error| End::Told(error.into()))?;
            let more = found.len() == HEIGHTS_AT_ONCE;
            found.retain(|height| *height <= tip);
            for height in &found {
                let item = service.feed.item(rollup, *height).await.map_err(End::from)?;
                self.send(item.json()).await?;
                (self.next, *quiet_since) = (height.next(), *height);
            }
            if more && !found.is_empty() {
                continue;
            }
            if self.next <= tip && tip.0 >= quiet_since.0.saturating_add(QUIET_HEIGHTS) {
                let proof = service.feed.item(rollup, tip).await.map_err(End::from)?;
                self.send(proof.json()).await?;
                *quiet_since = tip;
            }
            self.next = tip.next();
        }
        Ok(())
    }

    async fn send(&self, json: &RawValue) -> Result<(), End> {
        let message = SubscriptionMessage::new(self.sink.method_name(), self.sink.subscription_id(), &json)
            .expect("JSON has a JSON form");
        let numbers = &self.service.metrics.subscriptions;
        match self.sink.send_timeout(message, self.service.slow_subscriber).await {
            Ok(()) => {
                numbers.sent.inc();
                Ok(())
            }
            Err(SendTimeoutError::Closed(_)) => Err(End::Left),
            Err(SendTimeoutError::Timeout(_)) => {
                numbers.slow.inc();
                Err(End::Told(QueryError::TooSlow { resume_from: self.next }.into()))
            }
        }
    }

    /// Returns when there is a new height.
    async fn wait(&self, heights: &mut tokio::sync::watch::Receiver<Height>) -> Result<(), End> {
        tokio::select! {
            changed = heights.changed() => changed.map_err(|_| End::Left),
            () = self.sink.closed() => Err(End::Left),
        }
    }
}

impl From<FeedError> for End {
    fn from(error: FeedError) -> Self {
        Self::Told(error.into())
    }
}
