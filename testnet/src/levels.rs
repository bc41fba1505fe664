//! How long do a bundle's legs take to each level, as somebody sees it who asks a node?
//!
//! Follows one bundle of the traffic after the other, from its order until its legs are final on their rollups. Levels are the
//! word of the node that is asked, so nothing is promised by them; they are shown.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use lockstep_protocol::{
    evidence::BundleState,
    ids::{BundleId, RollupId},
    rpc::Level,
};
use lockstep_sdk::Client;
use tokio::task::JoinHandle;

use crate::traffic::Book;

/// How often a node is asked, which is how well times are known.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A bundle that is not final after this is left alone: L1 may stand still.
const FOLLOWED_FOR: Duration = Duration::from_secs(120);
/// Climbs that are kept, the latest.
const KEPT: usize = 64;

/// The way of one leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Climb {
    /// On which rollup.
    pub rollup: RollupId,
    /// Each change of its level that was seen, and when after its order.
    pub seen: Vec<(Level, Duration)>,
}

/// Follows bundles. Dropping it ends that.
pub struct Levels {
    climbs: Arc<Mutex<Vec<Climb>>>,
    following: JoinHandle<()>,
}

impl Levels {
    /// Follows bundles of `book` at the node of `client`. With several, what one has yet to learn looks as if a leg went back.
    pub fn start(book: Book, client: Client) -> Self {
        let climbs: Arc<Mutex<Vec<Climb>>> = Arc::default();
        let kept = climbs.clone();
        let following = tokio::spawn(async move {
            loop {
                let next = book.ledger().pending().next().copied();
                let Some(bundle) = next else {
                    tokio::time::sleep(LOOK_INTERVAL / 10).await;
                    continue;
                };
                follow(&client, bundle, &kept).await;
            }
        });
        Self { climbs, following }
    }

    /// The latest climbs, whether they are over or not.
    pub fn climbs(&self) -> Vec<Climb> {
        self.climbs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Levels {
    fn drop(&mut self) {
        self.following.abort();
    }
}

async fn follow(client: &Client, bundle: BundleId, kept: &Mutex<Vec<Climb>>) {
    let begun = Instant::now();
    let mut ordered: Option<Instant> = None;
    let mut climbs: Vec<Climb> = Vec::new();
    while begun.elapsed() < FOLLOWED_FOR {
        // A node that was killed is asked again.
        if let Ok(status) = client.status(bundle).await {
            match status.state {
                BundleState::Ordered { .. } => {
                    let since = ordered.get_or_insert_with(Instant::now).elapsed();
                    if climbs.is_empty() {
                        climbs = status.legs.iter().map(|leg| Climb { rollup: leg.rollup, seen: Vec::new() }).collect();
                    }
                    for (climb, leg) in climbs.iter_mut().zip(&status.legs) {
                        if climb.seen.last().is_none_or(|(level, _)| *level != leg.level) {
                            climb.seen.push((leg.level, since));
                        }
                    }
                    if status.legs.iter().all(|leg| leg.level == Level::Final) {
                        break;
                    }
                }
                BundleState::Pending => {}
                // Not ordered, so never executed.
                _ => return,
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.extend(climbs);
    let over = kept.len().saturating_sub(KEPT);
    kept.drain(..over);
}

/// A line for each rollup: the median time to each level that was seen.
pub fn summary(climbs: &[Climb]) -> Vec<String> {
    let mut times: BTreeMap<RollupId, BTreeMap<Level, Vec<Duration>>> = BTreeMap::new();
    for climb in climbs {
        let levels = times.entry(climb.rollup).or_default();
        for (level, after) in climb.seen.iter().filter(|(level, _)| *level > Level::Ordered) {
            levels.entry(*level).or_default().push(*after);
        }
    }
    let line = |(rollup, levels): (RollupId, BTreeMap<Level, Vec<Duration>>)| {
        let level = |(level, mut times): (Level, Vec<Duration>)| {
            times.sort_unstable();
            format!("{} {:.1} s", format!("{level:?}").to_lowercase(), times[times.len() / 2].as_secs_f64())
        };
        let levels: Vec<String> = levels.into_iter().map(level).collect();
        format!("Levels of legs on {rollup}, after their order: {}", levels.join(", "))
    };
    times.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_medians_of_what_was_seen() {
        let second = Duration::from_secs;
        let climb = |posted| Climb {
            rollup: RollupId(901),
            seen: vec![(Level::Ordered, second(0)), (Level::Executed, second(1)), (Level::Posted, second(posted))],
        };
        let lines = summary(&[climb(5), climb(9), climb(7)]);
        assert_eq!(lines, ["Levels of legs on 901, after their order: executed 1.0 s, posted 7.0 s"]);
        assert!(summary(&[]).is_empty());
    }
}
