//! How is one JSON-RPC endpoint asked, so that it can be slow, wrong or gone without taking us with it?
//!
//! Every call has a time limit, every answer a size limit. Trying again is the caller's decision; whether that is worth it, the
//! error says.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use jsonrpsee_core::{
    client::{ClientT, Error as ClientError},
    params::ArrayParams,
};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

/// Largest answer: a full block of a rollup as JSON, with room.
const RESPONSE_BYTES_MAX: u32 = 128 * 1024 * 1024;
/// Largest request: six blobs with their proofs in hex, and a payload of the largest block.
const REQUEST_BYTES_MAX: u32 = 32 * 1024 * 1024;
/// A token is valid for a minute (Engine API, authentication); half of it leaves room for clocks that differ.
const TOKEN_LIFETIME: Duration = Duration::from_secs(30);
/// Text of an error that is kept: enough to find a cause, whatever a server sends.
const DETAIL_CHARS_MAX: usize = 400;

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No connection, or it broke.
    #[error("{endpoint} {method}: unreachable: {detail}")]
    Unreachable {
        /// Scheme and host.
        endpoint: String,
        /// The method called.
        method: String,
        /// What the transport says.
        detail: String,
    },
    /// No answer in time.
    #[error("{endpoint} {method}: no answer within {} ms", after.as_millis())]
    Timeout {
        /// Scheme and host.
        endpoint: String,
        /// The method called.
        method: String,
        /// The limit.
        after: Duration,
    },
    /// The server answered with an error.
    #[error("{endpoint} {method}: error {code}: {message}")]
    Call {
        /// Scheme and host.
        endpoint: String,
        /// The method called.
        method: String,
        /// JSON-RPC code.
        code: i32,
        /// Its text and data, shortened.
        message: String,
    },
    /// The answer is not what the method returns.
    #[error("{endpoint} {method}: the answer is not one: {detail}")]
    Malformed {
        /// Scheme and host.
        endpoint: String,
        /// The method called.
        method: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The endpoint cannot be used at all.
    #[error("{endpoint}: {detail}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// Why.
        detail: String,
    },
}

impl RpcError {
    /// Code and text, where the server answered with an error.
    pub fn call(&self) -> Option<(i32, &str)> {
        match self {
            Self::Call { code, message, .. } => Some((*code, message)),
            _ => None,
        }
    }
}

/// The secret of an authenticated endpoint (Engine API): 32 bytes that both sides know.
#[derive(Clone)]
pub struct Jwt([u8; 32]);

impl Jwt {
    /// Reads the usual file: 64 hex digits, with or without `0x`.
    pub fn parse(text: &str) -> Option<Self> {
        alloy_primitives::hex::decode_to_array(text.trim()).ok().map(Self)
    }

    /// A token for now: HS256 over the claim of when it was issued.
    fn token(&self, now: Duration) -> String {
        let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{}}}"#, now.as_secs()));
        let signed = format!("{header}.{claims}");
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }
}

/// One endpoint.
pub struct Rpc {
    url: String,
    endpoint: String,
    timeout: Duration,
    jwt: Option<Jwt>,
    client: Mutex<(HttpClient, Instant)>,
}

impl std::fmt::Debug for Rpc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.endpoint)
    }
}

impl Rpc {
    /// An endpoint whose answers are waited for `timeout` at most. Connects when it is used.
    pub fn new(url: &str, timeout: Duration, jwt: Option<Jwt>) -> Result<Self, RpcError> {
        let endpoint = name_of(url);
        let client = build(url, &endpoint, timeout, jwt.as_ref())?;
        Ok(Self { url: url.to_owned(), endpoint, timeout, jwt, client: Mutex::new((client, Instant::now())) })
    }

    /// Scheme and host, without credentials or keys in a path.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Calls `method` and reads its answer.
    pub async fn call<T: DeserializeOwned>(&self, method: &str, params: &[Value]) -> Result<T, RpcError> {
        let client = self.client()?;
        let mut array = ArrayParams::new();
        for param in params {
            array.insert(param).map_err(|error| self.malformed(method, error.to_string()))?;
        }
        // The client's own limit covers the request alone; a server that sends its answer byte by byte meets this one.
        match tokio::time::timeout(self.timeout, client.request::<Value, _>(method, array)).await {
            Err(_) => Err(RpcError::Timeout {
                endpoint: self.endpoint.clone(),
                method: method.to_owned(),
                after: self.timeout,
            }),
            Ok(Err(error)) => Err(self.error(method, error)),
            Ok(Ok(value)) => serde_json::from_value(value).map_err(|error| self.malformed(method, error.to_string())),
        }
    }

    fn malformed(&self, method: &str, detail: String) -> RpcError {
        RpcError::Malformed { endpoint: self.endpoint.clone(), method: method.to_owned(), detail: clip(detail) }
    }

    fn error(&self, method: &str, error: ClientError) -> RpcError {
        let (endpoint, method) = (self.endpoint.clone(), method.to_owned());
        match error {
            ClientError::Call(error) => {
                // op-geth says in the data what is wrong with attributes, and nothing of it in the text.
                let data = error.data().map(|data| format!(": {}", data.get())).unwrap_or_default();
                let message = clip(format!("{}{data}", error.message()));
                RpcError::Call { endpoint, method, code: error.code(), message }
            }
            ClientError::RequestTimeout => RpcError::Timeout { endpoint, method, after: self.timeout },
            ClientError::ParseError(error) => RpcError::Malformed { endpoint, method, detail: clip(error.to_string()) },
            other => RpcError::Unreachable { endpoint, method, detail: clip(chain(&other)) },
        }
    }

    fn client(&self) -> Result<HttpClient, RpcError> {
        // Two plain values: whoever panicked while holding them left them whole.
        let mut held = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if self.jwt.is_some() && held.1.elapsed() > TOKEN_LIFETIME {
            *held = (build(&self.url, &self.endpoint, self.timeout, self.jwt.as_ref())?, Instant::now());
        }
        Ok(held.0.clone())
    }
}

fn build(url: &str, endpoint: &str, timeout: Duration, jwt: Option<&Jwt>) -> Result<HttpClient, RpcError> {
    let fail = |detail: String| RpcError::Endpoint { endpoint: endpoint.to_owned(), detail };
    let mut headers = http::HeaderMap::new();
    if let Some(jwt) = jwt {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let value = format!("Bearer {}", jwt.token(now)).parse().map_err(|_| fail("the token is no header".into()))?;
        headers.insert(http::header::AUTHORIZATION, value);
    }
    HttpClientBuilder::default()
        .max_request_size(REQUEST_BYTES_MAX)
        .max_response_size(RESPONSE_BYTES_MAX)
        .request_timeout(timeout)
        .set_headers(headers)
        .build(url)
        .map_err(|error| fail(chain(&error)))
}

/// An error with its causes: the outermost alone mostly says nothing.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn clip(text: String) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// Scheme and host: keys in paths and credentials belong in no log.
fn name_of(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("?", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    format!("{scheme}://{}", authority.rsplit('@').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_one_that_others_compute() {
        // Python: hmac.new(bytes([7]*32), b"<header>.<claims>", hashlib.sha256), base64url without padding.
        let jwt = Jwt::parse(&format!("0x{}\n", "07".repeat(32))).expect("64 hex digits");
        let expected = include_str!("token.golden").trim();
        assert_eq!(jwt.token(Duration::from_secs(1_700_000_000)), expected);
        assert!(Jwt::parse("07").is_none());
    }

    #[test]
    fn keys_in_urls_stay_out_of_names() {
        assert_eq!(name_of("https://me:secret@host:1/v3/key?x=1"), "https://host:1");
        assert_eq!(name_of("nonsense"), "?://nonsense");
    }
}
