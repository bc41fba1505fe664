//! How a client behaves, and how it follows a lane. Every value has a default but the nodes.

use std::time::Duration;

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// URLs of nodes, `http://` or `ws://`; with the feature `tls` also `https://` and `wss://`. Both protocols are
    /// expected under one address, as a node serves them.
    pub nodes: Vec<String>,
    /// A node that does not answer a call within this is passed over.
    pub call_timeout: Duration,
    /// A question is given up after this.
    pub deadline: Duration,
    /// How often all nodes are gone through before a question is given up.
    pub rounds: u32,
    /// A node whose proven state is more heights behind what is known to be final is passed over.
    pub max_lag: u64,
    /// How long a node is asked to hold a question for a bundle's outcome before the proof is fetched anyway.
    pub wait_slice: Duration,
    /// How a lane is followed.
    pub follow: FollowConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            call_timeout: Duration::from_secs(3),
            deadline: Duration::from_secs(15),
            rounds: 4,
            // At the shortest block interval that was measured, a few seconds.
            max_lag: 256,
            // Two heartbeats of an idle network: a node that says nothing for that long is worth doubting.
            wait_slice: Duration::from_secs(2),
            follow: FollowConfig::default(),
        }
    }
}

/// How a lane is followed.
#[derive(Clone, Debug)]
pub struct FollowConfig {
    /// Subscribe over WebSocket, and ask for ranges only where that fails. Otherwise always ask.
    pub subscribe: bool,
    /// Pause between two questions for what is new, where there is no subscription.
    pub poll: Duration,
    /// A node from which nothing came for this long is not believed to have nothing. Longer than the network's heartbeat.
    pub silence: Duration,
}

impl Default for FollowConfig {
    fn default() -> Self {
        Self { subscribe: true, poll: Duration::from_millis(250), silence: Duration::from_secs(5) }
    }
}
