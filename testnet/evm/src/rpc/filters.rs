//! What has happened since a client asked last? Filters that the node remembers, for libraries that poll.
//!
//! Each is a subscription whose news wait in the channel of heads; one that nobody asks for is forgotten.

use super::{
    Service, failure,
    methods::json,
    subscribe::{Wanted, news},
};
use crate::chain::HeadChange;
use alloy_primitives::U64;
use alloy_rpc_types_eth::Filter;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::broadcast::{Receiver, error::TryRecvError};

/// Filters that are remembered; each costs a place in the channel of heads.
pub const FILTERS_MAX: usize = 1_024;
/// A filter that nobody asks for this long is forgotten (geth's time).
pub const FILTER_IDLE_MAX: Duration = Duration::from_secs(300);

/// The remembered filters.
#[derive(Debug, Default)]
pub(crate) struct Filters(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    last: u64,
    filters: HashMap<u64, Remembered>,
}

#[derive(Debug)]
struct Remembered {
    wanted: Wanted,
    heads: Receiver<Arc<HeadChange>>,
    asked: Instant,
}

impl Service {
    pub(crate) fn new_filter(&self, wanted: Wanted) -> Result<Value, ErrorObjectOwned> {
        let mut held = self.filters.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.filters.retain(|_, filter| filter.asked.elapsed() < FILTER_IDLE_MAX);
        if held.filters.len() >= FILTERS_MAX {
            return Err(failure::limit(format!("at most {FILTERS_MAX} filters")));
        }
        held.last += 1;
        let id = held.last;
        let filter = Remembered { wanted, heads: self.core.heads.subscribe(), asked: Instant::now() };
        held.filters.insert(id, filter);
        Ok(json(U64::from(id)))
    }

    pub(crate) fn filter_changes(&self, id: U64) -> Result<Value, ErrorObjectOwned> {
        let mut held = self.filters.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = id.to();
        let filter = held.filters.get_mut(&id).ok_or_else(unknown)?;
        filter.asked = Instant::now();
        let mut found = Vec::new();
        loop {
            match filter.heads.try_recv() {
                Ok(change) => match &filter.wanted {
                    Wanted::Heads => found.extend(change.added.iter().map(|block| json(block.hash))),
                    wanted @ Wanted::Logs(_) => found.extend(news(wanted, &change)),
                },
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(Value::Array(found)),
                // A gap would not be noticed; a filter that is gone is, and libraries then make a new one.
                Err(TryRecvError::Lagged(_)) => {
                    held.filters.remove(&id);
                    return Err(unknown());
                }
            }
        }
    }

    pub(crate) fn filter_logs(&self, id: U64) -> Result<Value, ErrorObjectOwned> {
        let filter: Filter = {
            let mut held = self.filters.0.lock().unwrap_or_else(PoisonError::into_inner);
            let remembered = held.filters.get_mut(&id.to()).ok_or_else(unknown)?;
            remembered.asked = Instant::now();
            match &remembered.wanted {
                Wanted::Logs(filter) => (**filter).clone(),
                Wanted::Heads => return Err(unknown()),
            }
        };
        Ok(json(self.logs(&filter)?))
    }

    pub(crate) fn uninstall_filter(&self, id: U64) -> bool {
        self.filters.0.lock().unwrap_or_else(PoisonError::into_inner).filters.remove(&id.to()).is_some()
    }
}

fn unknown() -> ErrorObjectOwned {
    failure::refused("filter not found")
}
