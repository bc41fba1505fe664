//! How do the tests talk to a node? Over its port, as everybody does.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod contract;

use alloy_primitives::U256;
use jsonrpsee_core::{ClientError, client::ClientT, params::ArrayParams};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_evm::Node;
use serde_json::Value;

/// A client of a node.
pub struct Rpc(HttpClient);

impl Rpc {
    pub fn new(node: &Node) -> Self {
        Self::to(&node.rpc_url())
    }

    pub fn to(url: &str) -> Self {
        Self(HttpClientBuilder::default().build(url).expect("the node's own address"))
    }

    /// What the method answers.
    pub async fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The code, text and data of the method's refusal.
    pub async fn refuse(&self, method: &str, params: Value) -> (i32, String, Option<String>) {
        match self.try_call(method, params).await {
            Err(ClientError::Call(error)) => {
                (error.code(), error.message().to_owned(), error.data().map(|data| data.get().to_owned()))
            }
            other => panic!("{method} should have been refused: {other:?}"),
        }
    }

    pub async fn try_call(&self, method: &str, params: Value) -> Result<Value, ClientError> {
        let mut array = ArrayParams::new();
        for value in params.as_array().expect("parameters are an array") {
            array.insert(value).expect("JSON is JSON");
        }
        self.0.request(method, array).await
    }
}

/// Wei in so many ether.
pub fn ether(count: u64) -> U256 {
    U256::from(count) * U256::from(10).pow(U256::from(18))
}
