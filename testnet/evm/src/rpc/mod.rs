//! How do wallets, drivers and observers talk to the node? By Ethereum's JSON-RPC, HTTP and WebSocket on one port.
//!
//! * `methods`: the standard methods; `at`: which block they mean; `shapes`: the JSON of blocks and receipts; `failure`: errors.
//! * `call`: calls and gas estimates; `fees`: prices; `logs`: filters; `subscribe`, `filters`: news; `dev`: what only tests ask for.

mod at;
mod call;
mod dev;
mod failure;
mod fees;
mod filters;
mod logs;
mod methods;
mod shapes;
mod subscribe;

use crate::{core::Core, jwt::TokenLayer, l1::Miner};
use alloy_primitives::B256;
use jsonrpsee::{
    RpcModule,
    server::{BatchRequestConfig, PingConfig, RegisterMethodError, Server, ServerConfig, ServerHandle},
};
use std::{io, net::SocketAddr, sync::Arc};

pub use call::CALL_GAS_MAX;
pub use fees::{FEE_HISTORY_MAX, PERCENTILES_MAX};
pub(crate) use filters::Filters;
pub use filters::{FILTER_IDLE_MAX, FILTERS_MAX};
pub use logs::{LOG_BLOCKS_MAX, LOGS_MAX};
pub use methods::PROOF_SLOTS_MAX;

/// Bytes of a request: the largest transaction in hexadecimal, and a batch of hundreds of small ones.
pub const REQUEST_BYTES_MAX: u32 = 4 << 20;
/// Bytes of an answer: a full block with its transactions as JSON.
pub const RESPONSE_BYTES_MAX: u32 = 128 << 20;
/// Calls of one batch (geth's limit).
pub const BATCH_MAX: u32 = 1_000;
/// Open connections.
pub const CONNECTIONS_MAX: u32 = 1_024;
/// Messages to one WebSocket connection that wait to be sent.
const OUTGOING_MAX: u32 = 1_024;
/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: u32 = 64;

/// What answers are made from.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) core: Arc<Core>,
    pub(crate) miner: Option<Arc<Miner>>,
    /// What polling clients have asked to be remembered; one set for both ports.
    pub(crate) filters: Arc<Filters>,
    /// Whether there is a pool that blocks are made from.
    pub(crate) takes_transactions: bool,
}

/// The methods of the public port.
pub(crate) fn module(service: Service) -> Result<RpcModule<Service>, RegisterMethodError> {
    let mut module = RpcModule::new(service);
    methods::register(&mut module)?;
    subscribe::register(&mut module)?;
    dev::register(&mut module)?;
    Ok(module)
}

/// Serves them; the address with the port that was taken.
pub(crate) async fn serve(address: SocketAddr, module: RpcModule<Service>) -> io::Result<(SocketAddr, ServerHandle)> {
    let server = Server::builder().set_config(config()).build(address).await?;
    let address = server.local_addr()?;
    Ok((address, server.start(module)))
}

/// Serves them to those who have a token for `secret`.
pub(crate) async fn serve_with_token(
    address: SocketAddr,
    module: RpcModule<Service>,
    secret: B256,
) -> io::Result<(SocketAddr, ServerHandle)> {
    let middleware = tower::ServiceBuilder::new().layer(TokenLayer { secret });
    let server = Server::builder().set_config(config()).set_http_middleware(middleware).build(address).await?;
    let address = server.local_addr()?;
    Ok((address, server.start(module)))
}

/// The limits of both ports.
fn config() -> ServerConfig {
    ServerConfig::builder()
        .max_request_body_size(REQUEST_BYTES_MAX)
        .max_response_body_size(RESPONSE_BYTES_MAX)
        .max_connections(CONNECTIONS_MAX)
        .max_subscriptions_per_connection(SUBSCRIPTIONS_MAX)
        .set_message_buffer_capacity(OUTGOING_MAX)
        .set_batch_request_config(BatchRequestConfig::Limit(BATCH_MAX))
        .enable_ws_ping(PingConfig::default())
        .set_id_provider(subscribe::HexIds::default())
        .build()
}
