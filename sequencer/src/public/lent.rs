//! How does a node lend its lanes and its pool to the public network?
//!
//! Lanes come from the feed that also answers RPC, so an item is made once for everybody. Bundles go through the same
//! admission as those of RPC.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use lockstep_protocol::{
    bundle::SignedBundle,
    ids::{BundleId, Height, RollupId},
    lane::LaneItem,
    refusal::Refusal,
    rpc::{LanePage, QueryError},
};
use tokio::sync::broadcast;

use super::{BundleSink, LaneSource};
use crate::{index::feed::FeedError, rpc::Service};

/// Items that the public network may be behind before it misses some; peers fetch those by range.
const MAX_LAG: usize = 256;
/// Heights looked up at once.
const HEIGHTS_AT_ONCE: usize = 64;
/// Between tries for an item whose certificate is on its way.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// Tries before an item is left to be fetched by range: two seconds, many blocks.
const MAX_TRIES: u32 = 100;

/// A node as the public network sees it.
pub struct Lent {
    service: Arc<Service>,
    items: broadcast::Sender<Arc<LaneItem>>,
}

impl Lent {
    /// Lends what answers RPC.
    pub fn new(service: Arc<Service>) -> Arc<Self> {
        Arc::new(Self { service, items: broadcast::channel(MAX_LAG).0 })
    }

    /// Tells subscribers of every item from now on. Runs until the index is gone.
    pub async fn tell(self: Arc<Self>) {
        let mut heights = self.service.index.watch();
        let mut told = *heights.borrow_and_update();
        while heights.changed().await.is_ok() {
            let tip = *heights.borrow_and_update();
            for rollup in self.service.index.rules().rollup_ids() {
                self.tell_lane(rollup, told.next(), tip).await;
            }
            told = tip;
        }
    }

    async fn tell_lane(&self, rollup: RollupId, from: Height, tip: Height) {
        // After a long absence only the newest are news.
        let from = from.max(Height(tip.0.saturating_sub(HEIGHTS_AT_ONCE as u64)));
        let heights = match self.service.index.lane_heights(rollup, from, HEIGHTS_AT_ONCE) {
            Ok(heights) => heights,
            Err(error) => return tracing::error!(%rollup, %error, "a lane cannot be read"),
        };
        for height in heights.into_iter().filter(|height| *height <= tip) {
            match self.item(rollup, height).await {
                // Nobody may be listening.
                Ok(item) => drop(self.items.send(item)),
                Err(error) => tracing::warn!(%rollup, %height, %error, "a lane item is not told: peers fetch it"),
            }
        }
    }

    /// The item, once its certificate is here.
    async fn item(&self, rollup: RollupId, height: Height) -> Result<Arc<LaneItem>, FeedError> {
        for _ in 0..MAX_TRIES {
            match self.service.feed.item(rollup, height).await {
                Err(FeedError::Query(QueryError::NotReady { .. })) => tokio::time::sleep(RETRY_AFTER).await,
                item => return Ok(Arc::new(item?.value().clone())),
            }
        }
        Err(QueryError::NotReady { detail: "its certificate has not arrived".into() }.into())
    }
}

impl LaneSource for Lent {
    fn page(&self, rollup: RollupId, from: Height, max_items: usize) -> BoxFuture<'_, Result<LanePage, QueryError>> {
        async move {
            let page = self.service.feed.page(rollup, from, max_items).await.map_err(query)?;
            Ok(page.to_lane_page())
        }
        .boxed()
    }

    fn latest(&self, rollup: RollupId) -> BoxFuture<'_, Result<Option<LaneItem>, QueryError>> {
        async move {
            let tip = self.service.index.height();
            if tip == Height(0) {
                return Ok(None);
            }
            let item = self.service.feed.bare_item(rollup, tip).await.map_err(query)?;
            Ok(Some(item.value().clone()))
        }
        .boxed()
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<LaneItem>> {
        self.items.subscribe()
    }
}

impl BundleSink for Lent {
    fn submit(&self, bundle: SignedBundle) -> BoxFuture<'_, Result<BundleId, Refusal>> {
        let id = bundle.bundle.id();
        async move {
            match self.service.admission.submit(bundle).await {
                Ok(_) => Ok(id),
                // The same bundle again, after it was ordered: the answer that was lost is given again.
                Err(Refusal::NonceUsed { .. } | Refusal::NonceBelowWindow { .. })
                    if matches!(self.service.outcomes.is_ordered(&id), Ok(true)) =>
                {
                    Ok(id)
                }
                Err(refusal) => Err(refusal),
            }
        }
        .boxed()
    }
}

/// The part of an error that peers are told.
fn query(error: FeedError) -> QueryError {
    match error {
        FeedError::Query(error) => error,
        FeedError::Index(error) => {
            tracing::error!(%error, "a lane cannot be read");
            QueryError::NotReady { detail: "the node cannot read this lane".into() }
        }
    }
}
