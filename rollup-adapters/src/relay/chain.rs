//! What is asked of a rollup's node?
//!
//! Standard `eth_*` calls alone. What it answers is believed as far as it goes: the log checks every proof, and the hub every
//! decision, so a node that lies costs a fee.

use alloy_primitives::{Address, B256, Bytes, U256};
use lockstep_contracts::{SolCall, abi::SettlementHub};
use lockstep_protocol::{
    ids::{Address20, Hash32, SettlementId},
    settlement::proof::ProofNode,
};
use serde::Deserialize;
use serde_json::json;

use crate::poster::{
    L1, L1Header, Rpc, RpcError,
    l1::{Receipt, quantity},
};

/// A rollup's node.
#[derive(Debug)]
pub struct Chain {
    node: L1,
    hub: Address,
}

/// How far a hub is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Decisions taken.
    pub sequence: u64,
    /// The chain over them.
    pub chain: Hash32,
}

/// What `eth_getProof` answers.
#[derive(Clone, Debug)]
pub struct Proof {
    /// From the state root to the contract's account.
    pub account: Vec<ProofNode>,
    /// For each slot that was asked for: its word, and the nodes from the storage root to it.
    pub slots: Vec<(U256, Vec<ProofNode>)>,
}

/// An event of a contract.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// What is indexed; the first is the event's hash.
    pub topics: Vec<B256>,
    /// The transaction that made it.
    pub transaction_hash: B256,
}

#[derive(Deserialize)]
struct RawTransaction {
    from: Address,
    input: Bytes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProof {
    account_proof: Vec<Bytes>,
    storage_proof: Vec<RawSlot>,
}

#[derive(Deserialize)]
struct RawSlot {
    value: U256,
    proof: Vec<Bytes>,
}

impl Chain {
    /// The node behind this endpoint, of the rollup whose hub has this address.
    pub fn new(rpc: Rpc, hub: Address20) -> Self {
        Self { node: L1::new(rpc), hub: Address::from(hub.0) }
    }

    /// The hub's address.
    pub fn hub(&self) -> Address {
        self.hub
    }

    /// The rollup's chain id.
    pub async fn chain_id(&self) -> Result<u64, RpcError> {
        self.node.chain_id().await
    }

    /// The latest block.
    pub async fn tip(&self) -> Result<L1Header, RpcError> {
        self.node.latest().await
    }

    /// How far the hub was after block `number`. `None` where it has no code yet.
    pub async fn place(&self, number: u64) -> Result<Option<Place>, RpcError> {
        // Of one block both, or they would not belong together.
        let (sequence, chain) = tokio::try_join!(
            self.ask(SettlementHub::decisionSequenceCall {}, number),
            self.ask(SettlementHub::decisionsCall {}, number),
        )?;
        let place = sequence.zip(chain).map(|(sequence, chain)| Place { sequence, chain: Hash32(chain.0) });
        Ok(place)
    }

    /// What the hub has recorded of a decision; zero if nothing.
    pub async fn outcome(&self, settlement: SettlementId, number: u64) -> Result<u8, RpcError> {
        let outcome = self.ask(SettlementHub::outcomeOfCall { sid: B256::from(settlement.0) }, number).await?;
        Ok(outcome.unwrap_or_default())
    }

    /// The account of `contract` and some of its slots after block `number`, with the proofs. `None` if the node does not have
    /// that block.
    pub async fn proof(&self, contract: Address20, slots: &[Hash32], number: u64) -> Result<Option<Proof>, RpcError> {
        let keys: Vec<B256> = slots.iter().map(|slot| B256::from(slot.0)).collect();
        let params = [json!(Address::from(contract.0)), json!(keys), quantity(number)];
        let raw: RawProof = match self.node.rpc().call("eth_getProof", &params).await {
            Ok(raw) => raw,
            // Nodes have no common text for a block that they lack or whose state they forgot.
            Err(error @ RpcError::Call { .. }) => {
                tracing::debug!(%error, number, "no proof");
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if raw.storage_proof.len() != slots.len() {
            return Err(RpcError::Malformed {
                endpoint: self.node.rpc().endpoint().to_owned(),
                method: "eth_getProof".to_owned(),
                detail: format!("{} slots, asked for {}", raw.storage_proof.len(), slots.len()),
            });
        }
        let nodes = |nodes: Vec<Bytes>| nodes.into_iter().map(|node| ProofNode(node.to_vec())).collect();
        let slots = raw.storage_proof.into_iter().map(|slot| (slot.value, nodes(slot.proof)));
        Ok(Some(Proof { account: nodes(raw.account_proof), slots: slots.collect() }))
    }

    /// Transactions of `address` that are executed.
    pub async fn nonce(&self, address: Address) -> Result<u64, RpcError> {
        self.node.nonce(address).await
    }

    /// Gas that a call of the hub takes now; an error with what the node says if it would revert.
    pub async fn estimate(&self, from: Address, data: &[u8]) -> Result<Result<u64, String>, RpcError> {
        match self.node.estimate_gas(from, self.hub, data).await {
            Ok(gas) => Ok(Ok(gas)),
            Err(RpcError::Call { message, .. }) => Ok(Err(message)),
            Err(error) => Err(error),
        }
    }

    /// The receipt of an executed transaction.
    pub async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        self.node.receipt(hash).await
    }

    /// Events of `contracts` with one of these first topics, in blocks `from` to `to`.
    pub async fn events(
        &self,
        contracts: &[Address20],
        topics: &[B256],
        from: u64,
        to: u64,
    ) -> Result<Vec<Event>, RpcError> {
        let contracts: Vec<_> = contracts.iter().map(|contract| Address::from(contract.0)).collect();
        let filter = json!({
            "address": contracts, "topics": [topics], "fromBlock": quantity(from), "toBlock": quantity(to),
        });
        self.node.rpc().call("eth_getLogs", &[filter]).await
    }

    /// Who sent a transaction, and its calldata; `None` if the node does not have it.
    pub async fn transaction(&self, hash: B256) -> Result<Option<(Address, Bytes)>, RpcError> {
        let raw: Option<RawTransaction> = self.node.rpc().call("eth_getTransactionByHash", &[json!(hash)]).await?;
        Ok(raw.map(|raw| (raw.from, raw.input)))
    }

    async fn ask<C: SolCall>(&self, call: C, number: u64) -> Result<Option<C::Return>, RpcError> {
        let question = json!({ "to": self.hub, "input": Bytes::from(call.abi_encode()) });
        let answer: Bytes = self.node.rpc().call("eth_call", &[question, quantity(number)]).await?;
        // An address without code answers nothing.
        if answer.is_empty() {
            return Ok(None);
        }
        C::abi_decode_returns(&answer).map(Some).map_err(|error| RpcError::Malformed {
            endpoint: self.node.rpc().endpoint().to_owned(),
            method: C::SIGNATURE.to_owned(),
            detail: error.to_string(),
        })
    }
}
