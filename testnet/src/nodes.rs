//! What does one node say, and not any of the others?
//!
//! Questions to single nodes, with answers proven as the SDK proves them. Where any node will do, the SDK is asked instead.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use jsonrpsee_core::{client::ClientT, rpc_params};
use jsonrpsee_http_client::{HttpClient, HttpClientBuilder};
use lockstep_protocol::{
    ids::Height,
    rpc::{FinalHeader, StateProof, StateQuery},
    state::{Stored, TreasuryRecord},
};
use lockstep_sdk::Trust;

use crate::network::Network;

/// How long a network may take to come back before whoever waits for it gives up.
pub(crate) const BACK_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked whether a block was made: the resolution of what is measured.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// A node that does not answer within this is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The nodes, each asked on its own: who is down is no reason to ask another.
pub struct Nodes {
    nodes: Vec<HttpClient>,
    trust: Trust,
}

impl Nodes {
    /// The nodes of a network, running or not.
    pub fn new(network: &Network) -> Result<Self> {
        let node = |url: &String| HttpClientBuilder::new().request_timeout(ANSWER_TIMEOUT).build(url);
        let nodes = network.urls().iter().map(node).collect::<Result<_, _>>()?;
        Ok(Self { nodes, trust: Trust::from_genesis(network.genesis())? })
    }

    /// A node's header at a height, or its tip, proven; `None` if it does not answer, or has no such header.
    pub async fn header(&self, node: usize, height: Option<Height>) -> Result<Option<FinalHeader>> {
        let answer: Result<FinalHeader, _> = self.nodes[node].request("lockstep_getHeader", rpc_params![height]).await;
        let Ok(answer) = answer else { return Ok(None) };
        self.trust.check_header(&answer, height)?;
        Ok(Some(answer))
    }

    /// The tip of a node once it is above `height`.
    pub async fn wait_tip(&self, node: usize, above: Height) -> Result<FinalHeader> {
        let deadline = Instant::now() + BACK_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(tip) = self.header(node, None).await?.filter(|tip| tip.header.height > above) {
                return Ok(tip);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("validator {node} has no final block above {above} after {BACK_TIMEOUT:?}")
    }

    /// A node's header at `height`, once there is one.
    pub async fn wait_header(&self, node: usize, height: Height) -> Result<FinalHeader> {
        let deadline = Instant::now() + BACK_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(header) = self.header(node, Some(height)).await? {
                return Ok(header);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        bail!("validator {node} has no block at height {height} after {BACK_TIMEOUT:?}")
    }

    /// What the network has taken in fees by now, by a node's proof.
    pub async fn treasury(&self, node: usize) -> Result<u64> {
        let query = StateQuery::Treasury;
        let answer: StateProof = self.nodes[node].request("lockstep_getState", rpc_params![query]).await?;
        let Some(record) = self.trust.check_state(query, &answer)? else { return Ok(0) };
        ensure!(answer.header.height > Height(0), "a record before the first block");
        Ok(TreasuryRecord::from_record(&record)?.credits)
    }
}
