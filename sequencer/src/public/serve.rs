//! How is a peer's request for a range answered from what we hold?
//!
//! In small reads, so that one request holds little memory however many items it asks for. Who may ask is the actor's
//! question.

use lockstep_protocol::{
    rpc::{LanePage, QueryError},
    wire::Wire,
};

use super::{
    LaneSource,
    metrics::Metrics,
    wire::{self, MAX_RANGE_BYTES, MAX_RANGE_ITEMS, RangeAnswer, RangeRequest},
};

/// Items read at once: ten megabytes where every one is of the largest size that a lane allows.
const ITEMS_PER_READ: usize = 16;

/// The envelope of the answer.
pub(super) async fn range(source: &dyn LaneSource, request: RangeRequest, metrics: &Metrics) -> Vec<u8> {
    let answer = match page(source, request).await {
        Ok(page) => RangeAnswer::from_page(page),
        Err(error) => RangeAnswer::refused(&error),
    };
    let bytes = answer.to_wire();
    if let RangeAnswer::Page { items, .. } = &answer {
        metrics.served_items.inc_by(items.len() as u64);
        metrics.served_bytes.inc_by(bytes.len() as u64);
    }
    bytes
}

async fn page(source: &dyn LaneSource, request: RangeRequest) -> Result<LanePage, QueryError> {
    let RangeRequest { rollup, from_height, max_items } = request;
    if max_items == 0 || max_items > MAX_RANGE_ITEMS {
        return Err(QueryError::TooMany { max: MAX_RANGE_ITEMS.into(), found: max_items.into() });
    }
    let mut left = usize::from(max_items);
    let mut all = LanePage { items: Vec::new(), tip: None, next_height: from_height };
    let mut bytes = 0;
    while left > 0 && bytes < MAX_RANGE_BYTES && all.tip.is_none() {
        let asked = left.min(ITEMS_PER_READ);
        let next = match source.page(rollup, all.next_height, asked).await {
            Ok(page) => page,
            // What was read before is a good page, even if the next read goes past the tip.
            Err(_) if !all.items.is_empty() => break,
            Err(error) => return Err(error),
        };
        let ended = next.items.is_empty() || next.next_height <= all.next_height;
        left -= next.items.len().min(left);
        bytes += next.items.iter().map(wire::length).sum::<usize>();
        all.items.extend(next.items);
        (all.tip, all.next_height) = (next.tip, next.next_height.max(all.next_height));
        if ended {
            break;
        }
    }
    Ok(all)
}
