//! What does a node do about rollups when it starts?
//!
//! Chooses who watches which rollup, and remembers what was open. The rest is the business of `heads` and `facts`.

use std::sync::Arc;

use lockstep_protocol::{genesis::Rules, signature::AccountKey};
use tracing::warn;

use super::NodeError;
use crate::{
    application::Application,
    config::Config,
    facts::Facts,
    heads::{HeadsMetrics, Signer, Watcher},
    index::{Index, IndexError},
    keys,
    metrics::Metrics,
};

/// Open settlements that are read at once.
const OPEN_AT_ONCE: usize = 128;
/// Pages of them: many times what is followed.
const OPEN_PAGES_MAX: usize = 64;

/// Tells the facts what was open when the node stopped: the newest of it, as much as they follow.
pub(super) fn follow_open(index: &Index, facts: &Facts) -> Result<(), IndexError> {
    for rollup in index.rules().participants() {
        let mut after = None;
        for _ in 0..OPEN_PAGES_MAX {
            let page = index.unsettled(rollup, after, OPEN_AT_ONCE)?;
            page.settlements.iter().for_each(|open| facts.follow(open.settlement, open.changed));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// Who watches which rollup.
pub(super) fn watchers(
    config: &Config,
    rules: &Arc<Rules>,
    application: &Application,
    metrics: &Metrics,
) -> Result<Vec<Watcher>, NodeError> {
    let numbers = Arc::new(HeadsMetrics::new(rules));
    metrics.register_heads(&numbers);
    if config.rollups.is_empty() {
        return Ok(Vec::new());
    }
    let key = AccountKey::ed25519(keys::load_identity(&config.keys)?.seed());
    let Some(signer) = Signer::open(rules.clone(), key, &config.heads_file(), numbers)? else {
        warn!("this node is no validator of the genesis: it signs no heads of rollups");
        return Ok(Vec::new());
    };
    let (part, none): (Vec<_>, Vec<_>) =
        config.rollups.iter().cloned().partition(|rollup| rules.participant(rollup.id).is_ok());
    for rollup in none {
        warn!(rollup = %rollup.id, "a rollup of the configuration takes no part in settlements: it is not watched");
    }
    let watch = |rollup| Watcher::new(rollup, application.facts().clone(), signer.clone());
    Ok(part.into_iter().map(watch).collect())
}
