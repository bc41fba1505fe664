//! How does everybody else talk to a node?
//!
//! JSON-RPC 2.0 over HTTP and WebSocket on one port, described by `openrpc.json`, with `/healthz`, `/readyz` and `/metrics`
//! beside it. The shapes are `lockstep_protocol::rpc`'s; answers come from the index, the log and the pool.
//!
//! * `methods`: what each method does, `params`: how its arguments are read, `failure`: how it says no.
//! * `outcomes`: what became of a bundle, `levels`: how far the rollups have brought it, `settlements`: how those stand.
//! * `subscribe`: who is told what happens, `calls`: how many calls run at once,
//!   `metrics`: what is counted of both, `pages`: the three plain pages.

mod calls;
mod failure;
mod levels;
mod methods;
pub mod metrics;
mod outcomes;
mod pages;
mod params;
mod settlements;
mod subscribe;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use jsonrpsee::server::{
    BatchRequestConfig, PingConfig, RegisterMethodError, Server as HttpServer, ServerConfig, ServerHandle,
    middleware::rpc::RpcServiceBuilder,
};
use lockstep_consensus::handle::Handle;
use lockstep_protocol::{
    genesis::Genesis,
    limits::{LIMITS, MAX_BUNDLE_BYTES},
    rpc::Network,
};

use crate::{
    admission::Admission,
    config,
    facts::Facts,
    index::{Index, feed::Feed},
    metrics::Metrics,
    pool::Pool,
};

pub use failure::Failure;
pub use levels::Levels;
pub use outcomes::{Claim, Outcomes};

use calls::CallsLayer;
use pages::PagesLayer;

/// Bytes of a request: a bundle of the largest size in hexadecimal fits, and a batch of a thousand small ones.
pub const REQUEST_BYTES_MAX: u32 = 1024 * 1024;
const _: () = assert!(REQUEST_BYTES_MAX as usize > 2 * MAX_BUNDLE_BYTES + 4096, "the largest bundle fits a request");
/// Bytes of a response: a page of a lane, which ends at 4 MiB, and one item of the largest size as JSON.
pub const RESPONSE_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Calls of one batch.
pub const BATCH_MAX: u32 = 256;
/// Calls of one connection that may run at once. Whoever waits for more bundles than this follows a lane or its reports.
pub const CALLS_MAX: usize = 2_048;
/// Messages to one WebSocket connection that wait to be sent. Each may be an item of a megabyte or two.
pub const OUTGOING_MAX: u32 = 32;
/// Items of one page of a lane.
pub const LANE_ITEMS_MAX: u64 = 256;
/// Items of a page if nobody says how many.
pub const LANE_ITEMS_DEFAULT: u64 = 64;
/// Reports of one answer.
pub const REPORTS_MAX: u64 = 1_024;
/// Settlements of one answer.
pub const UNSETTLED_MAX: u64 = 128;
/// Longest wait for a bundle's outcome. Proxies cut idle requests after a minute.
pub const WAIT_MS_MAX: u64 = 30_000;
/// A WebSocket connection is asked for a sign of life this often, and closed without one for twice as long.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// The description of all methods, as `rpc.discover` gives it.
pub const OPENRPC: &str = include_str!("../../openrpc.json");

/// What answers are made from.
pub struct Service {
    /// The network, as `lockstep_getNetwork` tells it.
    pub network: Network,
    /// The index.
    pub index: Arc<Index>,
    /// Lanes and headers.
    pub feed: Arc<Feed>,
    /// The log.
    pub log: Handle,
    /// The pool.
    pub pool: Arc<Pool>,
    /// What the log should hear of rollups.
    pub facts: Arc<Facts>,
    /// The way into it.
    pub admission: Admission,
    /// What became of bundles.
    pub outcomes: Arc<Outcomes>,
    /// How far the rollups have brought it.
    pub levels: Levels,
    /// The node's numbers.
    pub metrics: Arc<Metrics>,
    /// A subscriber that takes no message for this long is cut off.
    pub slow_subscriber: Duration,
    /// An idle network makes a block this often.
    pub heartbeat: Duration,
    /// When this process started, milliseconds since the Unix epoch.
    pub started_ms: u64,
}

/// A running server. Dropping it stops the server.
pub struct Server {
    address: SocketAddr,
    handle: ServerHandle,
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} for RPC: {source}. Is another node running? Choose another rpc.listen")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A method has two meanings.
    #[error(transparent)]
    Methods(#[from] RegisterMethodError),
}

/// A network as `lockstep_getNetwork` tells it.
pub fn network(genesis: &Genesis) -> Network {
    Network {
        name: genesis.network.clone(),
        id: genesis.network_id(),
        group_key: genesis.group_key,
        genesis: genesis.hash(),
        rollups: genesis.rollups.clone(),
        limits: LIMITS,
    }
}

impl Server {
    /// Starts to answer.
    pub async fn start(config: &config::Rpc, service: Arc<Service>) -> Result<Self, ServerError> {
        let address = config.listen;
        let listen_error = |source| ServerError::Listen { address, source };
        let server_config = ServerConfig::builder()
            .max_request_body_size(REQUEST_BYTES_MAX)
            .max_response_body_size(RESPONSE_BYTES_MAX)
            .max_connections(config.max_connections)
            .max_subscriptions_per_connection(config.max_subscriptions_per_connection)
            .set_batch_request_config(BatchRequestConfig::Limit(BATCH_MAX))
            .set_message_buffer_capacity(OUTGOING_MAX)
            .enable_ws_ping(PingConfig::new().ping_interval(PING_INTERVAL).inactive_limit(2 * PING_INTERVAL))
            .build();
        let methods = methods::register(service.clone())?;
        let calls = RpcServiceBuilder::new().layer(CallsLayer::new(&methods, service.metrics.clone()));
        let server = HttpServer::builder()
            .set_config(server_config)
            .set_http_middleware(tower::ServiceBuilder::new().layer(PagesLayer::new(service)))
            .set_rpc_middleware(calls)
            .build(address)
            .await
            .map_err(listen_error)?;
        let address = server.local_addr().map_err(listen_error)?;
        Ok(Self { address, handle: server.start(methods) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening, lets calls that run end, and returns when the port is free or `patience` is over.
    pub async fn stop(self, patience: Duration) {
        // Stopped already is stopped.
        let _ = self.handle.stop();
        let _ = tokio::time::timeout(patience, self.handle.stopped()).await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
