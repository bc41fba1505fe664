//! Who can hear whom in a simulated network, and how well?
//!
//! Links and channel ends only. Who starts and stops is in `city.rs`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use commonware_p2p::{
    Receiver, Recipients, Sender,
    simulated::{self, SplitTarget},
};
use commonware_runtime::{IoBuf, Supervisor, deterministic};
use commonware_utils::{Probability, sync::Mutex};

use super::Conduct;
use crate::{
    channels::{Channel, Channels},
    types::PublicKey,
};

pub(super) type Oracle = simulated::Oracle<PublicKey, deterministic::Context>;

/// A link between two validators, one way. Messages on it arrive in order or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Mean time until a message arrives.
    pub latency: Duration,
    /// Standard deviation of that time.
    pub jitter: Duration,
    /// Messages that are lost, in thousandths.
    pub loss: u16,
}

impl Default for Link {
    /// A good network: 5 ms with a little jitter, and nothing is lost.
    fn default() -> Self {
        Self { latency: Duration::from_millis(5), jitter: Duration::from_millis(1), loss: 0 }
    }
}

/// A rate in thousandths as a probability.
pub(super) fn thousandths(rate: u16) -> Probability {
    Probability::new(u64::from(rate.min(1_000)), 1_000).expect("at most a thousand thousandths")
}

/// The links of a network and their quality.
pub(super) struct Links {
    oracle: Oracle,
    names: Vec<PublicKey>,
    quality: Link,
    up: Arc<Mutex<BTreeSet<(usize, usize)>>>,
}

impl Links {
    pub(super) fn new(oracle: Oracle, names: Vec<PublicKey>, quality: Link) -> Self {
        Self { oracle, names, quality, up: Arc::default() }
    }

    /// Makes exactly the links for which `wanted` holds, with the present quality.
    pub(super) async fn set(&mut self, wanted: impl Fn(usize, usize) -> bool) {
        for from in 0..self.names.len() {
            for to in (0..self.names.len()).filter(|to| *to != from) {
                let pair = (from, to);
                let (sender, receiver) = (self.names[from].clone(), self.names[to].clone());
                if self.up.lock().remove(&pair) {
                    // A link to a peer that was blocked is gone already.
                    let _ = self.oracle.remove_link(sender.clone(), receiver.clone()).await;
                }
                if wanted(from, to) {
                    let link = simulated::Link {
                        latency: self.quality.latency,
                        jitter: self.quality.jitter,
                        success_rate: thousandths(1_000 - self.quality.loss.min(1_000)),
                    };
                    self.oracle.add_link(sender, receiver, link).await.expect("the link was not there");
                    self.up.lock().insert(pair);
                }
            }
        }
    }

    /// Changes the quality of the links that are up.
    pub(super) async fn set_quality(&mut self, quality: Link) {
        self.quality = quality;
        let up = self.up.lock().clone();
        self.set(|from, to| up.contains(&(from, to))).await;
    }

    /// Counts those that `index` has a link to.
    pub(super) fn counter(&self, index: usize) -> Arc<dyn Fn() -> usize + Send + Sync> {
        let up = self.up.clone();
        Arc::new(move || up.lock().iter().filter(|(from, _)| *from == index).count())
    }
}

/// Opens the channels of a validator, once for each instance that speaks in its name.
///
/// Of consensus the first instance speaks to `audience.0` and the second to `audience.1`; both hear everybody.
pub(super) async fn open(
    context: &deterministic::Context,
    oracle: &Oracle,
    me: &PublicKey,
    conduct: &Conduct,
    audience: (Vec<PublicKey>, Vec<PublicKey>),
) -> [Channels<impl Sender<PublicKey = PublicKey>, impl Receiver<PublicKey = PublicKey>>; 2] {
    let control = oracle.control(me.clone());
    let twins = matches!(conduct, Conduct::Twins);
    let mut ends = [Vec::new(), Vec::new()];
    for channel in Channel::ALL {
        let (sender, receiver) =
            control.register(channel.id(), channel.quota()).await.expect("the simulated network runs");
        let withheld = matches!(conduct, Conduct::Withholds) && matches!(channel, Channel::Blocks | Channel::Backfill);
        // What both say of the past reaches everybody, or the one that fell behind would never come back.
        let parted = twins && matches!(channel, Channel::Votes | Channel::Certificates | Channel::Blocks);
        let audience = audience.clone();
        let forward = move |origin, recipients: &Recipients<PublicKey>, _: &IoBuf| {
            if withheld {
                return None;
            }
            if !parted {
                return Some(recipients.clone());
            }
            let audience = match origin {
                simulated::SplitOrigin::Primary => &audience.0,
                simulated::SplitOrigin::Secondary => &audience.1,
            };
            Some(Recipients::Some(match recipients {
                Recipients::All => audience.clone(),
                Recipients::Some(some) => some.iter().filter(|peer| audience.contains(peer)).cloned().collect(),
                Recipients::One(one) => audience.iter().filter(|peer| *peer == one).cloned().collect(),
            }))
        };
        let target = if twins { SplitTarget::Both } else { SplitTarget::Primary };
        let split = context.child("split").with_attribute("channel", channel.id());
        let (first, second) = sender.split_with(forward);
        let (first_receiver, second_receiver) = receiver.split_with(split, move |_| target);
        ends[0].push((first, first_receiver));
        ends[1].push((second, second_receiver));
    }
    ends.map(|ends| {
        let mut ends = ends.into_iter();
        Channels::open(|_| ends.next().expect("every channel was opened"))
    })
}
