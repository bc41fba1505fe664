//! What does gossip count?

use lockstep_protocol::ids::Hash32;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::labels::ValidatorLabel;

/// The gossip's numbers.
#[derive(Default)]
pub struct GossipMetrics {
    /// Messages handed to the network, once for all receivers.
    pub messages: Counter,
    /// Bundles and cancels in them.
    pub sent: Counter,
    /// Bundles and cancels that others passed on.
    pub received: Counter,
    /// Attestations and other facts handed to the network.
    pub facts_sent: Counter,
    /// Attestations and other facts that others passed on.
    pub facts_received: Counter,
    /// Times that the network's queue was full.
    pub full: Counter,
    /// Messages that are not messages, by sender.
    pub malformed: Family<ValidatorLabel, Counter>,
    /// Bundles and cancels with bad signatures, by sender.
    pub dishonest: Family<ValidatorLabel, Counter>,
    /// Messages that were not read because of those, by sender.
    pub ignored: Family<ValidatorLabel, Counter>,
}

impl GossipMetrics {
    /// Adds the numbers to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("gossip");
        registry.register("messages", "Messages handed to the network", self.messages.clone());
        registry.register("sent", "Bundles and cancels in them", self.sent.clone());
        registry.register("received", "Bundles and cancels that others passed on", self.received.clone());
        registry.register("facts_sent", "Attestations and facts handed to the network", self.facts_sent.clone());
        registry.register("facts_received", "Attestations and facts passed on by others", self.facts_received.clone());
        registry.register("full", "Times that the network's queue was full", self.full.clone());
        registry.register("malformed", "Messages that are not messages", self.malformed.clone());
        registry.register("dishonest", "Bundles and cancels with bad signatures", self.dishonest.clone());
        registry.register("ignored", "Messages of senders that are not listened to", self.ignored.clone());
    }

    pub(crate) fn malformed(&self, sender: Hash32) {
        self.malformed.get_or_create(&label(sender)).inc();
    }

    pub(crate) fn dishonest(&self, sender: Hash32, items: u64) {
        self.dishonest.get_or_create(&label(sender)).inc_by(items);
    }

    pub(crate) fn ignored(&self, sender: Hash32) {
        self.ignored.get_or_create(&label(sender)).inc();
    }
}

fn label(sender: Hash32) -> ValidatorLabel {
    ValidatorLabel { validator: sender.to_string() }
}
