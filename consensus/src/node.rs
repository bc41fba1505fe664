//! How does a validator run on real sockets and a real disk?
//!
//! Starts the engine on a thread with its own runtime, and stops it. What runs there is in `engine.rs`.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use commonware_cryptography::{ChaCha20Poly1305, Signer, ed25519};
use commonware_macros::select;
use commonware_p2p::{Address, AddressableManager, authenticated::lookup};
use commonware_runtime::{Clock, Metrics, Quota, Runner, Spawner, Supervisor, tokio};
use commonware_stream::{
    cups::{self, Cups},
    sake::{self, Sake},
};
use commonware_utils::{NZU32, NZUsize, TryFromIterator, channel::oneshot, ordered::Map};
use lockstep_protocol::ids::Hash32;

use crate::{
    channels::{Channels, Peers},
    config::{Join, Limits, Retention, Timing, TimingError, VALIDATORS_MAX},
    dialing::{self, Committee},
    engine::{self, Setup},
    handle::Handle,
    keys::{Group, Identity, KeyError, name, transport_namespace},
    machine::Machine,
    storage::Sizes,
};

/// Requests that an actor of the transport holds.
const TRANSPORT_MAILBOX: usize = 1_024;

/// Longest wait for tasks to end by themselves when a node is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Who is dialed, and everybody, for those who cannot be reached by whoever should dial them.
const PEER_SETS: usize = 2;

/// How long after its start a validator waits for those who should dial it before it dials them itself: a connection to a
/// peer that is there takes a fraction of it.
const LISTEN_PATIENCE: Duration = Duration::from_secs(5);

/// Everything that a validator on sockets needs to know.
#[derive(Clone)]
pub struct Config {
    /// Its secrets.
    pub identity: Identity,
    /// The validator set.
    pub group: Group,
    /// Where to listen for other validators.
    pub listen: SocketAddr,
    /// Where the validators are reached, by name. May leave out this one.
    pub peers: Vec<(Hash32, SocketAddr)>,
    /// Directory for everything the log stores, for one process at a time. A validator whose directory was lost must not
    /// come back with the same keys: it has forgotten what it voted for, and may vote otherwise.
    pub directory: PathBuf,
    /// Whether several validators share an address, as on one machine: relaxes what is allowed per address, and allows
    /// private addresses.
    pub local: bool,
    /// Threads that run the log.
    pub threads: usize,
    /// Pacing and timeouts.
    pub timing: Timing,
    /// Sizes that all validators share.
    pub limits: Limits,
    /// What is kept of the past.
    pub retention: Retention,
    /// How to begin with an empty directory.
    pub join: Join,
}

/// Why a validator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The keys do not fit together.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The timing contradicts itself.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// A validator has no address.
    #[error("no address for validator {0}")]
    Address(Hash32),
    /// The directory cannot be made.
    #[error("cannot use {0}: {1}")]
    Directory(PathBuf, std::io::Error),
    /// The thread cannot be made.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The runtime ended before the log was open; its last words are in the log or on stderr.
    #[error("the log stopped while it was opening")]
    Stopped,
}

/// A running validator. Dropping it stops the validator, without waiting until its directory is free as
/// [`stop`](Self::stop) does.
pub struct Node {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: JoinHandle<()>,
}

impl Node {
    /// Starts a validator and returns when its state is open. Blocks the caller's thread meanwhile; with [`Join::Sync`]
    /// on an empty directory that lasts until peers have provided the state.
    pub fn start(config: Config, machine: Arc<dyn Machine>) -> Result<Self, StartError> {
        config.timing.check()?;
        let network = machine.genesis().network;
        let scheme = config.group.signer(&network, &config.identity)?;
        let me = config.identity.key.public_key();
        let mut addresses = Vec::new();
        for validator in config.group.set() {
            let validator_name = name(validator);
            let given = config.peers.iter().find(|(peer, _)| *peer == validator_name).map(|(_, address)| *address);
            let address = match given {
                Some(address) => address,
                None if *validator == me => config.listen,
                None => return Err(StartError::Address(validator_name)),
            };
            addresses.push((validator.clone(), Address::Symmetric(address)));
        }
        let addresses = Map::try_from_iter(addresses).map_err(|_| KeyError::Duplicate)?;
        std::fs::create_dir_all(&config.directory)
            .map_err(|error| StartError::Directory(config.directory.clone(), error))?;

        let setup = Setup {
            me: me.clone(),
            scheme,
            machine,
            timing: config.timing,
            limits: config.limits,
            retention: config.retention,
            join: config.join,
            partition: "log".into(),
            sizes: Sizes::DISK,
            tamper: None,
            skew: Duration::ZERO,
        };
        let runner = tokio::Runner::new(
            tokio::Config::new()
                .with_tcp_nodelay(Some(true))
                .with_worker_threads(config.threads.max(1))
                .with_storage_directory(&config.directory),
        );
        let transport = transport(&config, transport_namespace(&network));
        let (stop, stopped) = oneshot::channel();
        let (ready, opened) = std::sync::mpsc::sync_channel(1);
        let thread = thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                runner.start(|context| async move {
                    let (mut network, mut oracle) = lookup::Network::new(context.child("network"), transport);
                    oracle.track(engine::EPOCH.get(), dialing::parted(&me, &addresses));
                    let channels = Channels::open(|channel| network.register(channel.id(), channel.quota()));
                    let encoder = context.child("peers");
                    let peers = Peers {
                        provider: Committee::new(addresses.keys().clone()),
                        blocker: oracle.clone(),
                        channels,
                        connected: Arc::new(move || count_connected(&encoder.encode())),
                    };
                    let (others, connected) = (addresses.len() - 1, peers.connected.clone());
                    context.child("patience").spawn(move |context| async move {
                        context.sleep(LISTEN_PATIENCE).await;
                        if connected() < others {
                            oracle.track(engine::EPOCH.get() + 1, addresses);
                        }
                    });
                    let network = network.start();
                    let (handle, parts) = engine::start(&context.child("validator"), setup, peers).await;
                    if ready.send(handle).is_err() {
                        return;
                    }
                    select! {
                        _ = stopped => {
                            // Parts that wait for each other need not end in order: what is durable is durable.
                            let _ = context.stop(0, Some(STOP_TIMEOUT)).await;
                        },
                        _ = parts.ended() => {},
                        _ = network => {},
                    }
                });
            })
            .map_err(StartError::Thread)?;
        let handle = opened.recv().map_err(|_| StartError::Stopped)?;
        Ok(Self { handle, stop: Some(stop), thread })
    }

    /// The way to the log.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Whether the log has ended by itself: a disk fault, or a broken invariant. The process should end too, and a
    /// restart recovers.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops the validator and waits until its directory is free. Blocks the caller's thread.
    pub fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // A panic on that thread was reported by the panic hook; there is nothing left to save.
        let _ = self.thread.join();
    }
}

type Handshake = Cups<Sake<ed25519::PrivateKey>, ChaCha20Poly1305>;

fn transport(config: &Config, namespace: Vec<u8>) -> lookup::Config<Handshake> {
    let handshake = Cups::new(
        Sake {
            signer: config.identity.key.clone(),
            // Clocks of validators may be this far apart; a replayed handshake is useless after the age.
            synchrony_bound: Duration::from_secs(5),
            max_handshake_age: Duration::from_secs(10),
            version: sake::Version::V1,
        },
        cups::Version::V1,
    );
    // A peer that is refused comes again after the cooldown.
    let per_address = if config.local { VALIDATORS_MAX } else { 8 };
    lookup::Config {
        handshake,
        namespace,
        listen: config.listen,
        allow_private_ips: config.local,
        allow_dns: false,
        bypass_ip_check: false,
        max_message_size: config.limits.message_bytes_max(),
        max_peers_per_set: NZUsize!(config.group.set().len()),
        mailbox_size: NZUsize!(TRANSPORT_MAILBOX),
        send_batch_size: NZUsize!(8),
        handshake_timeout: Duration::from_secs(5),
        // A machine that was away is reached this long after it is back: while an attempt waits, there is no other.
        dial_timeout: Duration::from_secs(3),
        // How often a peer that is away is dialed, and how long it may wait when it is back. It refuses nobody who comes in
        // time, because only one of two validators dials: see `dialing.rs`.
        peer_connection_cooldown: Duration::from_millis(200),
        max_concurrent_handshakes: NZU32!(256),
        allowed_handshake_rate_per_ip: per_second(per_address),
        allowed_handshake_rate_per_subnet: per_second(VALIDATORS_MAX * 2),
        ping_frequency: Duration::from_secs(10),
        // One peer each time: a validator that starts dials half of sixty-four in three quarters of a second.
        dial_frequency: Duration::from_millis(25),
        tracked_peer_sets: NZUsize!(PEER_SETS),
        block_duration: Duration::from_secs(600),
    }
}

fn per_second(handshakes: u32) -> Quota {
    Quota::per_second(std::num::NonZeroU32::new(handshakes).expect("at least one handshake is allowed"))
}

/// Peers in the transport's own metric: one line for each connected one, with the time since when.
fn count_connected(metrics: &str) -> usize {
    metrics.lines().filter(|line| line.starts_with("network_tracker_directory_connected{")).count()
}
