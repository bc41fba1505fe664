//! Who is told what happens, and what if they do not listen?
//!
//! A subscriber is a place in the feed: it reads from the archive until it has caught up, then what is new. All take the same
//! JSON, written once. One that takes nothing for too long is cut off, and told where to resume; it slows nobody.

use std::sync::Arc;

use jsonrpsee::{
    PendingSubscriptionSink, RpcModule, SubscriptionMessage, SubscriptionSink,
    core::SubscriptionError,
    server::{RegisterMethodError, SendTimeoutError},
    types::{ErrorObjectOwned, Params},
};
use lockstep_protocol::{
    ids::{Height, RollupId},
    rpc::QueryError,
};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};
use serde_json::value::{RawValue, to_raw_value};

use super::{Failure, Service, params::Arguments};
use crate::index::feed::FeedError;

/// A quiet lane's follower is given a proof that there was nothing at least every so many heights: half a minute of an idle
/// network, a second of a busy one.
const QUIET_HEIGHTS: u64 = 32;
/// Lane heights looked up at once.
const HEIGHTS_AT_ONCE: usize = 64;

/// What subscriptions count.
#[derive(Default)]
pub struct SubscriptionMetrics {
    /// Subscriptions that run.
    pub open: Gauge,
    /// Messages sent.
    pub sent: Counter,
    /// Subscribers that were cut off because they took nothing.
    pub slow: Counter,
}

impl SubscriptionMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("subscriptions", "Subscriptions that run", self.open.clone());
        registry.register("subscription_messages", "Messages sent to subscribers", self.sent.clone());
        registry.register("slow_subscribers", "Subscribers cut off because they took nothing", self.slow.clone());
    }
}

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
    Ok(())
}

#[derive(Clone, Copy)]
enum What {
    Headers,
    Lane,
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
    let (rollup, next) = match arguments(service, params, what) {
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
    let end = match rollup {
        None => subscriber.headers().await,
        Some(rollup) => subscriber.lane(rollup).await,
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

/// The lane, if one is asked for, and the height to begin with: by default the next block.
fn arguments(service: &Service, params: &Params<'_>, what: What) -> Result<(Option<RollupId>, Height), Failure> {
    let tip = service.index.height();
    let (rollup, from) = match what {
        What::Headers => (None, Arguments::read(params, 1)?.optional("fromHeight")?),
        What::Lane => {
            let mut arguments = Arguments::read(params, 2)?;
            let rollup: RollupId = arguments.next("rollup")?;
            if !service.index.rules().rollups.contains_key(&rollup) {
                return Err(QueryError::UnknownRollup { rollup }.into());
            }
            (Some(rollup), arguments.optional("fromHeight")?)
        }
    };
    let from = from.unwrap_or(tip.next()).max(Height(1));
    if from > tip.next() {
        return Err(QueryError::AheadOfTip { height: from, tip }.into());
    }
    Ok((rollup, from))
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
