//! What do a feed's server and client say to each other before the first message?
//!
//! HTTP headers of the WebSocket handshake, as Nitro's (`wsbroadcastserver`). Compression is not offered: Nitro's is an extension of
//! its own with a dictionary of its own, and a client that does not get it goes without.

use tokio_tungstenite::tungstenite::{
    handshake::server::{ErrorResponse, Request, Response},
    http::{HeaderMap, HeaderValue, StatusCode},
};

/// Version of the protocol that a server speaks.
pub const SERVER_VERSION_HEADER: &str = "arbitrum-feed-server-version";
/// Version of the protocol that a client speaks.
pub const CLIENT_VERSION_HEADER: &str = "arbitrum-feed-client-version";
/// The first message that a client wants.
pub const REQUESTED_HEADER: &str = "arbitrum-requested-sequence-number";
/// The chain whose feed it is.
pub const CHAIN_HEADER: &str = "arbitrum-chain-id";
/// Version that both sides must speak.
pub const FEED_VERSION: u64 = 2;

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// The first message that it wants; `None` if it did not say.
    pub(super) from: Option<u64>,
}

/// Reads a client's request and answers it: with the server's headers, or with a status and a reason.
#[allow(clippy::result_large_err, reason = "the library's own type")]
pub(super) fn answer(
    request: &Request,
    mut response: Response,
    chain_id: u64,
) -> Result<(Asked, Response), ErrorResponse> {
    let headers = request.headers();
    let bad = |text| refusal(StatusCode::BAD_REQUEST, text);
    if let Some(version) = number(headers, CLIENT_VERSION_HEADER).map_err(bad)?
        && version < FEED_VERSION
    {
        return Err(bad(format!("feed client version too old: {version}, expected {FEED_VERSION}")));
    }
    if let Some(chain) = number(headers, CHAIN_HEADER).map_err(bad)?
        && chain != chain_id
    {
        return Err(bad(format!("this is the feed of chain {chain_id}, not of {chain}")));
    }
    let asked = Asked { from: number(headers, REQUESTED_HEADER).map_err(bad)? };
    response.headers_mut().insert(SERVER_VERSION_HEADER, HeaderValue::from(FEED_VERSION));
    response.headers_mut().insert(CHAIN_HEADER, HeaderValue::from(chain_id));
    Ok((asked, response))
}

/// An answer that is no handshake.
pub(super) fn refusal(status: StatusCode, text: String) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text));
    *response.status_mut() = status;
    response
}

/// The number in a header, decimal or after `0x`, if the header is there.
pub(super) fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, String> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| format!("malformed HTTP header {name}"))?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map(Some).map_err(|_| format!("malformed HTTP header {name}"))
}
