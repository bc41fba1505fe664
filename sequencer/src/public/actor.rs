//! What happens on the public network, one event at a time?
//!
//! One task owns the swarm and all bookkeeping. It judges nothing itself (`verifier.rs`) and reads nothing that may take
//! long (`serve.rs` runs beside it). Requests and answers are in `requests.rs`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId,
    gossipsub::{self, MessageAcceptance, TopicHash},
    identify, kad,
    request_response::{OutboundRequestId, ResponseChannel},
    swarm::{Swarm, SwarmEvent},
};
use lockstep_protocol::{
    ids::{BundleId, Height, RollupId},
    lane::LaneItem,
    refusal::Refusal,
    rpc::QueryError,
    wire::Wire,
};
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    BundleSink, LaneSource, Metrics, PublicConfig,
    backfill::{Answer, Backfill},
    behaviour::{Behaviour, BehaviourEvent, Names},
    error::{Stopped, SubmitError},
    handle::{Command, Status},
    lanes::{Ticket, Verdict},
    peers::{Blocks, OpenAnswers, Quotas},
    verifier::{Input, Queue, Report, Worth},
    wire::Fault,
};

/// How often what is due is looked for.
const TICK: Duration = Duration::from_millis(100);
/// Ticks between calling bootstrap peers that are not connected, and asking who else is there.
const TICKS_PER_ROUND: u32 = 30;
/// Fewer peers than this, and more are looked for.
const ENOUGH_PEERS: usize = 12;
/// Addresses of one peer that are remembered; it may claim any number.
const MAX_ADDRESSES_PER_PEER: usize = 8;

/// Where an answer goes to.
pub(super) type Channel = ResponseChannel<Vec<u8>>;

/// Work beside the actor that came to its end.
pub(super) enum Done {
    /// A range was read.
    Range(Channel, Vec<u8>),
    /// A bundle was judged.
    Bundle(Channel, Result<BundleId, Refusal>),
    /// A name was looked up.
    Resolved(Vec<Multiaddr>),
}

/// What an actor is made of, besides its swarm.
pub(super) struct Parts {
    pub(super) config: PublicConfig,
    pub(super) followed: BTreeSet<RollupId>,
    pub(super) follows: bool,
    pub(super) source: Arc<dyn LaneSource>,
    pub(super) sink: Option<Arc<dyn BundleSink>>,
    pub(super) items: broadcast::Receiver<Arc<LaneItem>>,
    pub(super) queue: Queue,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) status: watch::Sender<Status>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: oneshot::Receiver<()>,
}

pub(super) struct Actor {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) names: Names,
    pub(super) parts: Parts,
    topics: HashMap<TopicHash, RollupId>,
    /// What was published or forwarded of each lane already.
    told: BTreeMap<RollupId, Height>,
    /// `None` where the lanes come from a log of our own.
    pub(super) backfill: Option<Backfill>,
    pub(super) quotas: Quotas,
    blocks: Blocks,
    /// Peers that serve ranges.
    servers: BTreeSet<PeerId>,
    /// Peers that take bundles.
    pub(super) takers: BTreeSet<PeerId>,
    pub(super) asked: HashMap<OutboundRequestId, (RollupId, Height)>,
    pub(super) submitted: HashMap<OutboundRequestId, oneshot::Sender<Result<BundleId, SubmitError>>>,
    pub(super) open_ranges: OpenAnswers,
    pub(super) open_bundles: OpenAnswers,
    pub(super) work: JoinSet<Done>,
}

impl Actor {
    pub(super) fn new(mut swarm: Swarm<Behaviour>, names: Names, parts: Parts) -> Self {
        let mode = if parts.config.listen.is_empty() { kad::Mode::Client } else { kad::Mode::Server };
        let behaviour = swarm.behaviour_mut();
        behaviour.discovery.set_mode(Some(mode));
        let mut topics = HashMap::new();
        for rollup in &parts.followed {
            let topic = names.topic(*rollup);
            behaviour.gossip.subscribe(&topic).expect("the filter allows every lane of the network");
            topics.insert(topic.hash(), *rollup);
        }
        let poll = Duration::from_millis(parts.config.poll_ms);
        let backfill = parts.follows.then(|| Backfill::new(parts.followed.iter().copied(), poll, Instant::now()));
        Self {
            swarm,
            names,
            topics,
            backfill,
            told: BTreeMap::new(),
            quotas: Quotas::default(),
            blocks: Blocks::default(),
            servers: BTreeSet::new(),
            takers: BTreeSet::new(),
            asked: HashMap::new(),
            submitted: HashMap::new(),
            open_ranges: OpenAnswers::default(),
            open_bundles: OpenAnswers::default(),
            work: JoinSet::new(),
            parts,
        }
    }

    pub(super) async fn run(mut self) -> Result<(), Stopped> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        let mut source_lives = true;
        loop {
            tokio::select! {
                // Reports first: the thread that judges waits for them to be taken.
                biased;
                _ = &mut self.parts.stop => return Ok(()),
                report = self.parts.reports.recv() => match report {
                    Some(Report::Failed(error)) => return Err(Stopped::Store(error)),
                    Some(report) => self.on_report(report),
                    None => return Err(Stopped::Task("the verifier".into())),
                },
                _ = tick.tick() => {
                    if ticks.is_multiple_of(TICKS_PER_ROUND) {
                        self.on_round();
                    }
                    ticks = ticks.wrapping_add(1);
                    self.ask_what_is_due();
                }
                item = self.parts.items.recv(), if source_lives => match item {
                    Ok(item) => self.on_own(item),
                    Err(broadcast::error::RecvError::Lagged(lost)) => {
                        tracing::warn!(lost, "own lane items came faster than they were published: peers fetch them");
                    }
                    Err(broadcast::error::RecvError::Closed) => source_lives = false,
                },
                Some(done) = self.work.join_next(), if !self.work.is_empty() => self.on_done(done),
                Some(command) = self.parts.commands.recv() => self.on_command(command),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ranges(event)) => self.on_range(event),
            SwarmEvent::Behaviour(BehaviourEvent::Bundles(event)) => self.on_bundle(event),
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. })) => {
                self.on_identified(peer_id, info);
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, peer = %self.swarm.local_peer_id(), "listening on the public network");
                self.parts.status.send_modify(|status| status.listen.push(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.parts.status.send_modify(|status| status.listen.retain(|other| *other != address));
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.parts.status.send_modify(|status| {
                    status.peers.insert(peer_id);
                });
                self.show_peers();
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                self.servers.remove(&peer_id);
                self.takers.remove(&peer_id);
                self.parts.status.send_modify(|status| {
                    status.peers.remove(&peer_id);
                });
                self.show_peers();
            }
            SwarmEvent::IncomingConnectionError { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                self.parts.metrics.failed_connections.inc();
            }
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                tracing::error!(?addresses, ?reason, "the public network no longer listens here");
            }
            _ => {}
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else { return };
        let ticket = Ticket { message: message_id, peer: propagation_source };
        let Some(topic) = self.topics.get(&message.topic).copied() else {
            return self.settle(ticket, Verdict::Ignore);
        };
        let gossip = Input::Gossip { topic, bytes: message.data, ticket: ticket.clone() };
        if !self.parts.queue.push(gossip) {
            self.parts.metrics.count_gossip("overloaded");
            self.accept(&ticket, MessageAcceptance::Ignore);
        }
    }

    fn on_report(&mut self, report: Report) {
        let now = Instant::now();
        match report {
            Report::Verdicts(verdicts) => {
                for (ticket, verdict) in verdicts {
                    self.settle(ticket, verdict);
                }
            }
            Report::Page { rollup, peer, worth } => {
                let (answer, outcome) = match worth {
                    Worth::Items => (Answer::More, "items"),
                    Worth::Tip => (Answer::All, "tip"),
                    Worth::Refused(QueryError::AheadOfTip { .. }) => (Answer::All, "tip"),
                    Worth::Refused(reason) => {
                        tracing::debug!(%peer, %rollup, %reason, "a peer does not have the range");
                        (Answer::Nothing, "refused")
                    }
                    Worth::Faulty(fault) => {
                        self.block(peer, &fault);
                        (Answer::Nothing, "faulty")
                    }
                };
                self.parts.metrics.count_range(outcome);
                if let Some(backfill) = &mut self.backfill {
                    backfill.answered(rollup, peer, answer, now);
                }
                self.ask_what_is_due();
            }
            Report::Lane { rollup, height, waiting } => {
                if let Some(backfill) = &mut self.backfill {
                    backfill.moved(rollup, height, waiting, now);
                }
                self.parts.metrics.set_height(rollup, height.0);
                self.parts.status.send_if_modified(|status| status.lanes.insert(rollup, height) != Some(height));
            }
            Report::Verified(items) => {
                self.parts.metrics.verified.inc_by(items);
            }
            Report::Failed(_) => {}
        }
    }

    /// Publishes what our own log has brought.
    fn on_own(&mut self, item: Arc<LaneItem>) {
        let (rollup, height) = (item.leaf.rollup, item.header.height);
        // A mirror forwards what others publish; its own store tells it nothing new.
        if self.parts.follows || item.entries.is_empty() || !self.parts.followed.contains(&rollup) {
            return;
        }
        if self.told.get(&rollup).is_none_or(|told| *told < height) {
            let topic = self.names.topic(rollup);
            match self.swarm.behaviour_mut().gossip.publish(topic, item.to_wire()) {
                Ok(_) => {
                    self.parts.metrics.published.inc();
                }
                Err(gossipsub::PublishError::NoPeersSubscribedToTopic | gossipsub::PublishError::Duplicate) => {}
                Err(error) => tracing::warn!(%rollup, %height, %error, "a lane item was not published: peers fetch it"),
            }
            self.told.insert(rollup, height);
        }
        // If the queue is full, gossip is judged against an older item of ours, and the next one mends it.
        let _ = self.parts.queue.push(Input::Own(item));
    }

    fn settle(&mut self, ticket: Ticket, verdict: Verdict) {
        let (acceptance, label) = match &verdict {
            Verdict::Accept(rollup, height) => {
                self.told.insert(*rollup, *height);
                (MessageAcceptance::Accept, "accepted")
            }
            Verdict::Ignore => (MessageAcceptance::Ignore, "ignored"),
            Verdict::Reject(_) => (MessageAcceptance::Reject, "rejected"),
        };
        self.parts.metrics.count_gossip(label);
        self.accept(&ticket, acceptance);
        if let Verdict::Reject(fault) = verdict {
            self.block(ticket.peer, &fault);
        }
    }

    fn accept(&mut self, ticket: &Ticket, acceptance: MessageAcceptance) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(&ticket.message, &ticket.peer, acceptance);
    }

    /// Keeps a peer out for what it sent.
    pub(super) fn block(&mut self, peer: PeerId, fault: &Fault) {
        tracing::warn!(%peer, reason = fault.reason(), %fault, "a peer sent what does not prove itself: blocked");
        self.parts.metrics.count_fault(fault);
        let time = Duration::from_secs(self.parts.config.block_seconds);
        let behaviour = self.swarm.behaviour_mut();
        if let Some(freed) = self.blocks.block(peer, Instant::now(), time) {
            behaviour.blocked.unblock_peer(freed);
        }
        behaviour.blocked.block_peer(peer);
        behaviour.discovery.remove_peer(&peer);
        self.servers.remove(&peer);
        self.takers.remove(&peer);
        self.show_blocked();
    }

    fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        if info.protocol_version != self.names.version() {
            tracing::debug!(%peer, version = %info.protocol_version, "a peer of another network");
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        let discovery = &mut self.swarm.behaviour_mut().discovery;
        if info.protocols.contains(&self.names.protocol("kad")) {
            // Its claim of today replaces that of yesterday, or claims would pile up.
            discovery.remove_peer(&peer);
            for address in info.listen_addrs.into_iter().take(MAX_ADDRESSES_PER_PEER) {
                discovery.add_address(&peer, address);
            }
        }
        if info.protocols.contains(&self.names.ranges()) {
            self.servers.insert(peer);
        }
        if info.protocols.contains(&self.names.bundles()) {
            self.takers.insert(peer);
        }
    }

    /// What is looked after every few seconds.
    fn on_round(&mut self) {
        let now = Instant::now();
        for peer in self.blocks.expired(now) {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
        self.show_blocked();
        self.quotas.forget_quiet(now);
        for address in self.parts.config.bootstrap.clone() {
            self.dial(address);
        }
        let connected = self.swarm.connected_peers().count();
        if (1..ENOUGH_PEERS).contains(&connected) {
            self.swarm.behaviour_mut().discovery.get_closest_peers(PeerId::random());
        }
    }

    fn ask_what_is_due(&mut self) {
        let Some(backfill) = &mut self.backfill else { return };
        let servers: Vec<_> = self.servers.iter().copied().collect();
        for (peer, rollup, from) in backfill.due(&servers, Instant::now(), &mut rand::rng()) {
            self.ask(peer, rollup, from);
        }
    }

    fn show_peers(&self) {
        let peers = self.swarm.connected_peers().count();
        self.parts.metrics.peers.set(i64::try_from(peers).unwrap_or(i64::MAX));
    }

    fn show_blocked(&self) {
        let blocked = self.blocks.len();
        self.parts.metrics.blocked.set(i64::try_from(blocked).unwrap_or(i64::MAX));
        self.parts.status.send_if_modified(|status| std::mem::replace(&mut status.blocked, blocked) != blocked);
    }
}
