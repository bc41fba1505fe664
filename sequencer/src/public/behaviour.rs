//! Which libp2p protocols do we speak, under which names and limits?

use std::{collections::HashSet, net::IpAddr, sync::Arc, time::Duration};

use libp2p::{
    PeerId, StreamProtocol, SwarmBuilder, gossipsub, identify,
    identity::Keypair,
    kad, noise, ping, request_response,
    request_response::ProtocolSupport,
    swarm::{NetworkBehaviour, Swarm},
    tcp, yamux,
};
use libp2p_allow_block_list::BlockedPeers;
use libp2p_connection_limits::ConnectionLimits;
use lockstep_protocol::{
    ids::{NetworkId, RollupId},
    limits::{MAX_BUNDLE_BYTES, MAX_LANE_ITEM_BYTES},
    wire::Wire,
};

use super::{
    error::StartError,
    frames::Frames,
    metrics::Metrics,
    wire::{MAX_RANGE_BYTES, MAX_REFUSAL_BYTES, RangeRequest},
    wire_name,
};

/// Bytes of a gossip frame: an item, its topic and framing.
const MAX_GOSSIP_BYTES: usize = MAX_LANE_ITEM_BYTES + 1024;
/// Messages that wait for one slow peer; later ones are dropped, and the peer fetches them by range.
const MAX_GOSSIP_QUEUE: usize = 256;
/// A message that is seen again within this time is not looked at again.
const GOSSIP_MEMORY: Duration = Duration::from_secs(120);
/// Requests of one connection at once, each way.
const MAX_STREAMS_PER_PROTOCOL: usize = 16;
/// Streams of one TCP connection: those of all protocols, with room. Each may hold 256 KiB unread.
const MAX_STREAMS_PER_CONNECTION: usize = 64;
/// Bytes of one QUIC connection and of one stream that may be unread.
const MAX_QUIC_UNREAD_BYTES: u32 = 4 * 1024 * 1024;
/// Streams that a connection may be negotiating.
const MAX_NEGOTIATING_STREAMS: usize = 32;
/// How long an answer may take, from the request's first byte to the answer's last.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection that nobody uses is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections that may be coming about at once, each way: what noise handshakes may cost.
const MAX_PENDING_CONNECTIONS: u32 = 64;
/// Connections that we make.
const MAX_OUTGOING: u32 = 64;
/// Connections of one peer: one each way, where both called at once.
const MAX_CONNECTIONS_PER_PEER: u32 = 2;
/// Peers of one address before gossip trusts them less. Many may share a data centre's address, few a thousand.
const MAX_PEERS_PER_ADDRESS: f64 = 32.0;
/// Bytes of a discovery message.
const MAX_DISCOVERY_BYTES: usize = 16 * 1024;

type Gossip = gossipsub::Behaviour<
    gossipsub::IdentityTransform,
    gossipsub::MaxCountSubscriptionFilter<gossipsub::WhitelistSubscriptionFilter>,
>;

/// All protocols. The first two refuse connections before the others see them.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) blocked: libp2p_allow_block_list::Behaviour<BlockedPeers>,
    limits: libp2p_connection_limits::Behaviour,
    pub(super) gossip: Gossip,
    pub(super) ranges: request_response::Behaviour<Frames>,
    pub(super) bundles: request_response::Behaviour<Frames>,
    pub(super) discovery: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

/// What the protocols of a network are called.
pub(super) struct Names {
    net: String,
}

impl Names {
    pub(super) fn new(network: NetworkId) -> Self {
        Self { net: wire_name(network) }
    }

    /// The topic of a lane.
    pub(super) fn topic(&self, rollup: RollupId) -> gossipsub::IdentTopic {
        gossipsub::IdentTopic::new(format!("lockstep/{}/lane/{rollup}/1", self.net))
    }

    /// The protocol called `name`.
    pub(super) fn protocol(&self, name: &str) -> StreamProtocol {
        StreamProtocol::try_from_owned(format!("/lockstep/{}/{name}/1", self.net))
            .expect("a protocol's name starts with a slash")
    }

    /// The protocol of ranges.
    pub(super) fn ranges(&self) -> StreamProtocol {
        self.protocol("lane-range")
    }

    /// The protocol of bundles.
    pub(super) fn bundles(&self) -> StreamProtocol {
        self.protocol("bundle")
    }

    /// What peers of this network call themselves.
    pub(super) fn version(&self) -> String {
        format!("lockstep/{}/1", self.net)
    }
}

/// Which protocols are answered, and how many may ask.
pub(super) struct Roles {
    /// Every lane of the network: others' subscriptions to these are heard.
    pub(super) rollups: Vec<RollupId>,
    /// Whether bundles are taken.
    pub(super) takes_bundles: bool,
    /// Connections from others.
    pub(super) max_incoming: u32,
}

/// A swarm that speaks them.
pub(super) fn swarm(
    keypair: Keypair,
    names: &Names,
    roles: &Roles,
    metrics: &Arc<Metrics>,
) -> Result<Swarm<Behaviour>, StartError> {
    let transport = |error: &dyn std::fmt::Display| StartError::Transport(error.to_string());
    let streams = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS_PER_CONNECTION);
        config
    };
    let behaviour = behaviour(&keypair, names, roles, metrics)?;
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, streams)
        .map_err(|error| transport(&error))?
        .with_quic_config(|mut config| {
            config.max_connection_data = MAX_QUIC_UNREAD_BYTES;
            config.max_stream_data = MAX_QUIC_UNREAD_BYTES;
            config.max_concurrent_stream_limit = u32::try_from(MAX_STREAMS_PER_CONNECTION).unwrap_or(u32::MAX);
            config
        })
        .with_behaviour(|_| behaviour)
        .map_err(|error| transport(&error))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_TIMEOUT)
                .with_max_negotiating_inbound_streams(MAX_NEGOTIATING_STREAMS)
        })
        .build();
    Ok(swarm)
}

fn behaviour(keypair: &Keypair, names: &Names, roles: &Roles, metrics: &Arc<Metrics>) -> Result<Behaviour, StartError> {
    let peer = keypair.public().to_peer_id();
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING_CONNECTIONS))
        .with_max_pending_outgoing(Some(MAX_PENDING_CONNECTIONS))
        .with_max_established_incoming(Some(roles.max_incoming))
        .with_max_established_outgoing(Some(MAX_OUTGOING))
        .with_max_established_per_peer(Some(MAX_CONNECTIONS_PER_PEER));
    let requests = || {
        request_response::Config::default()
            .with_request_timeout(REQUEST_TIMEOUT)
            .with_max_concurrent_streams(MAX_STREAMS_PER_PROTOCOL)
    };
    let frames = |max_request, max_response| Frames { max_request, max_response, metrics: Arc::clone(metrics) };
    let bundles = if roles.takes_bundles { ProtocolSupport::Full } else { ProtocolSupport::Outbound };
    Ok(Behaviour {
        blocked: Default::default(),
        limits: libp2p_connection_limits::Behaviour::new(limits),
        gossip: gossip(names, roles)?,
        ranges: request_response::Behaviour::with_codec(
            frames(RangeRequest::MAX_BYTES, MAX_RANGE_BYTES),
            [(names.ranges(), ProtocolSupport::Full)],
            requests(),
        ),
        bundles: request_response::Behaviour::with_codec(
            frames(MAX_BUNDLE_BYTES, MAX_REFUSAL_BYTES),
            [(names.bundles(), bundles)],
            requests(),
        ),
        discovery: discovery(peer, names),
        identify: identify::Behaviour::new(
            identify::Config::new(names.version(), keypair.public())
                .with_agent_version(format!("lockstep/{}", env!("CARGO_PKG_VERSION"))),
        ),
        ping: ping::Behaviour::default(),
    })
}

fn gossip(names: &Names, roles: &Roles) -> Result<Gossip, StartError> {
    let config = gossipsub::ConfigBuilder::default()
        // Nothing is forwarded before it is judged.
        .validate_messages()
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        // The topic is part of the id: an item sent to a wrong topic first must not hide the same item in its own.
        .message_id_fn(|message| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(message.topic.as_str().as_bytes());
            hasher.update(&[0]);
            hasher.update(&message.data);
            gossipsub::MessageId::new(hasher.finalize().as_bytes())
        })
        .max_transmit_size(MAX_GOSSIP_BYTES)
        .connection_handler_queue_len(MAX_GOSSIP_QUEUE)
        .duplicate_cache_time(GOSSIP_MEMORY)
        .heartbeat_initial_delay(Duration::from_millis(100))
        .heartbeat_interval(Duration::from_millis(700))
        // A node sends to its mesh, not to every subscriber: others pass it on.
        .flood_publish(false)
        .build()
        .map_err(|error| StartError::Gossip(error.to_string()))?;
    let topics: HashSet<_> = roles.rollups.iter().map(|rollup| names.topic(*rollup).hash()).collect();
    let filter = gossipsub::MaxCountSubscriptionFilter {
        max_subscribed_topics: topics.len(),
        max_subscriptions_per_request: 2 * topics.len(),
        filter: gossipsub::WhitelistSubscriptionFilter(topics.clone()),
    };
    // An item proves itself, so it needs no author.
    let authenticity = gossipsub::MessageAuthenticity::Anonymous;
    let mut gossip = Gossip::new_with_subscription_filter(authenticity, config, filter)
        .map_err(|error| StartError::Gossip(error.to_owned()))?;
    let topic_score = gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.9,
        first_message_deliveries_cap: 50.0,
        // Lanes may be quiet for long, so a quiet peer is no worse for it.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // One invalid item outweighs all that can be earned: below every threshold.
        invalid_message_deliveries_weight: -1_000.0,
        invalid_message_deliveries_decay: 0.99,
        ..Default::default()
    };
    let score = gossipsub::PeerScoreParams {
        topics: topics.into_iter().map(|topic| (topic, topic_score.clone())).collect(),
        topic_score_cap: 100.0,
        ip_colocation_factor_threshold: MAX_PEERS_PER_ADDRESS,
        ip_colocation_factor_whitelist: HashSet::from([
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1]),
        ]),
        ..Default::default()
    };
    gossip.with_peer_score(score, gossipsub::PeerScoreThresholds::default()).map_err(StartError::Gossip)?;
    Ok(gossip)
}

fn discovery(peer: PeerId, names: &Names) -> kad::Behaviour<kad::store::MemoryStore> {
    // Peers are found here, records are not kept: others' puts are heard and dropped.
    let store = kad::store::MemoryStore::with_config(
        peer,
        kad::store::MemoryStoreConfig { max_records: 0, max_provided_keys: 0, ..Default::default() },
    );
    let mut config = kad::Config::new(names.protocol("kad"));
    config.set_record_filtering(kad::StoreInserts::FilterBoth);
    config.set_max_packet_size(MAX_DISCOVERY_BYTES);
    kad::Behaviour::with_config(peer, store, config)
}
