//! Who is told when the head changes?

use super::{Service, failure, logs, shapes};
use crate::chain::HeadChange;
use alloy_primitives::hex;
use alloy_rpc_types_eth::Filter;
use jsonrpsee::{
    PendingSubscriptionSink, RpcModule, SubscriptionMessage,
    core::traits::IdProvider,
    server::RegisterMethodError,
    types::{Params, SubscriptionId},
};
use serde_json::Value;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::broadcast::error::RecvError;
use tracing::debug;

/// Subscriptions are named in hexadecimal, as geth does and some libraries demand.
#[derive(Debug, Default)]
pub(crate) struct HexIds(AtomicU64);

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        let id = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        SubscriptionId::Str(hex::encode_prefixed(id.to_be_bytes()).into())
    }
}

/// What a subscriber asked for.
#[derive(Debug)]
pub(crate) enum Wanted {
    Heads,
    Logs(Box<Filter>),
}

pub(crate) fn register(module: &mut RpcModule<Service>) -> Result<(), RegisterMethodError> {
    module.register_subscription(
        "eth_subscribe",
        "eth_subscription",
        "eth_unsubscribe",
        |params, pending, service, _| async move { serve(&params, pending, service).await },
    )?;
    Ok(())
}

async fn serve(params: &Params<'static>, pending: PendingSubscriptionSink, service: Arc<Service>) {
    let wanted = match wanted(params) {
        Ok(wanted) => wanted,
        Err(text) => return pending.reject(failure::invalid_params(text)).await,
    };
    let mut heads = service.core.heads.subscribe();
    let Ok(sink) = pending.accept().await else { return };
    loop {
        let change = tokio::select! {
            change = heads.recv() => change,
            () = sink.closed() => return,
        };
        let change = match change {
            Ok(change) => change,
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(missed)) => {
                // A gap would not be noticed; a closed subscription is.
                debug!(missed, "a subscriber is too slow and is cut off");
                return;
            }
        };
        for item in news(&wanted, &change) {
            let Ok(json) = serde_json::value::to_raw_value(&item) else { return };
            if sink.send(SubscriptionMessage::from(json)).await.is_err() {
                return;
            }
        }
    }
}

fn wanted(params: &Params<'_>) -> Result<Wanted, String> {
    let mut params = params.sequence();
    let kind: String = params.next().map_err(|error| error.message().to_owned())?;
    match kind.as_str() {
        "newHeads" => Ok(Wanted::Heads),
        "logs" => {
            let filter: Option<Filter> = params.optional_next().map_err(|error| error.message().to_owned())?;
            Ok(Wanted::Logs(Box::new(filter.unwrap_or_default())))
        }
        other => Err(format!("no \"{other}\" subscription")),
    }
}

/// What a change of the head is to this subscriber.
pub(crate) fn news(wanted: &Wanted, change: &HeadChange) -> Vec<Value> {
    match wanted {
        Wanted::Heads => change.added.iter().map(|block| shapes::to_value(&shapes::header(block))).collect(),
        Wanted::Logs(filter) => {
            let removed = change.removed.iter().flat_map(|block| logs::matching(filter, block, true));
            let added = change.added.iter().flat_map(|block| logs::matching(filter, block, false));
            removed.chain(added).map(|log| shapes::to_value(&log)).collect()
        }
    }
}
