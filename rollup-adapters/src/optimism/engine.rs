//! How is the execution client told what to do?
//!
//! The Engine API as of Isthmus (`engine_forkchoiceUpdatedV3`, `engine_getPayloadV4`, `engine_newPayloadV4`), and V3 of the latter
//! before, over HTTP with a JWT: what op-geth, op-reth and everything that stands in for them serve. Whether to try again is the
//! driver's decision.

use alloy_primitives::B256;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::poster::{Rpc, RpcError};

/// What the client answers if it cannot make a block of the given attributes (Engine API, errors).
const INVALID_ATTRIBUTES: i32 = -38_003;

/// Which blocks the client should hold for what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forkchoice {
    /// The latest block.
    pub head: B256,
    /// The latest block that L1 leads to; zero if there is none.
    pub safe: B256,
    /// The latest block that finalized L1 leads to; zero if there is none.
    pub finalized: B256,
}

/// Why the client did not do it. Nothing was lost: the same may be asked again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No answer, or an error that is not about what was asked.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// It lacks a block that it needs first.
    #[error("the execution client is syncing")]
    Syncing,
    /// It finds a block invalid.
    #[error("the execution client finds {what} invalid: {reason}")]
    Invalid {
        /// What.
        what: &'static str,
        /// Why, as it says.
        reason: String,
    },
    /// It cannot make a block of these attributes.
    #[error("the execution client refuses the attributes: {0}")]
    Attributes(String),
    /// Its answer contradicts what was asked.
    #[error("the execution client answers {0}")]
    Answer(String),
}

/// The client's Engine API.
#[derive(Debug)]
pub struct Engine {
    rpc: Rpc,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    status: String,
    validation_error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Updated {
    payload_status: Status,
    payload_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    execution_payload: Value,
    /// op-geth names none by `null`, others by an empty list.
    execution_requests: Option<Vec<Value>>,
}

/// A block that the client made and has not taken over yet.
#[derive(Clone, Debug)]
pub struct Payload {
    /// As the client gave it.
    pub json: Value,
    /// Isthmus alone has them, and always none.
    requests: Option<Vec<Value>>,
}

#[cfg(test)]
impl Payload {
    pub(super) fn of(json: Value) -> Self {
        Self { json, requests: None }
    }
}

impl Engine {
    /// The Engine API at this endpoint, which carries the JWT.
    pub fn new(rpc: Rpc) -> Self {
        Self { rpc }
    }

    /// Tells the client which blocks to hold for what.
    pub async fn update(&self, forkchoice: &Forkchoice) -> Result<(), EngineError> {
        self.forkchoice(forkchoice, Value::Null).await.map(|_| ())
    }

    /// Has the client make a block on `forkchoice.head`, under Isthmus' rules or those before.
    pub async fn make(
        &self,
        forkchoice: &Forkchoice,
        attributes: Value,
        isthmus: bool,
    ) -> Result<Payload, EngineError> {
        let id = self.forkchoice(forkchoice, attributes).await?;
        let id = id.ok_or_else(|| EngineError::Answer("that the head is valid, and begins no block".into()))?;
        let method = if isthmus { "engine_getPayloadV4" } else { "engine_getPayloadV3" };
        let envelope: Envelope = self.rpc.call(method, &[json!(id)]).await?;
        let requests = isthmus.then(|| envelope.execution_requests.unwrap_or_default());
        Ok(Payload { json: envelope.execution_payload, requests })
    }

    /// Has the client execute and keep a block.
    pub async fn take(&self, payload: &Payload, parent_beacon_block_root: B256) -> Result<(), EngineError> {
        let mut params = vec![payload.json.clone(), json!([]), json!(parent_beacon_block_root)];
        params.extend(payload.requests.as_ref().map(|requests| json!(requests)));
        let method = if payload.requests.is_some() { "engine_newPayloadV4" } else { "engine_newPayloadV3" };
        judge(self.rpc.call(method, &params).await?, "its own block")
    }

    async fn forkchoice(&self, forkchoice: &Forkchoice, attributes: Value) -> Result<Option<String>, EngineError> {
        let state = json!({
            "headBlockHash": forkchoice.head,
            "safeBlockHash": forkchoice.safe,
            "finalizedBlockHash": forkchoice.finalized,
        });
        match self.rpc.call::<Updated>("engine_forkchoiceUpdatedV3", &[state, attributes]).await {
            Ok(updated) => judge(updated.payload_status, "the head").map(|()| updated.payload_id),
            Err(RpcError::Call { code: INVALID_ATTRIBUTES, message, .. }) => Err(EngineError::Attributes(message)),
            Err(error) => Err(error.into()),
        }
    }
}

fn judge(status: Status, what: &'static str) -> Result<(), EngineError> {
    match status.status.as_str() {
        "VALID" => Ok(()),
        "SYNCING" | "ACCEPTED" => Err(EngineError::Syncing),
        "INVALID" | "INVALID_BLOCK_HASH" => {
            let reason = status.validation_error.unwrap_or_else(|| "no reason given".into());
            Err(EngineError::Invalid { what, reason })
        }
        other => Err(EngineError::Answer(format!("with status {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_requests_are_told_in_two_ways() {
        for told in ["null", "[]"] {
            let text = format!(r#"{{"executionPayload":{{}},"executionRequests":{told}}}"#);
            let envelope: Envelope = serde_json::from_str(&text).expect("an envelope");
            assert_eq!(envelope.execution_requests.unwrap_or_default(), Vec::<Value>::new());
        }
    }
}
