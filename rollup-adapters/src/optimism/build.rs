//! Which of the lane's transactions does the next block hold?
//!
//! All that are valid at their place, in their order. **A transaction is skipped if, after the ones before it that were not
//! skipped, the rollup's own rules do not let it be in the block** (a nonce that is not the account's next, a balance that
//! does not cover it, and so on): a fact of lane, parent and L1, so every driver skips the same, whatever client it asks.
//! One that reverts is not skipped: it is in the block and pays.
//!
//! There are two kinds of clients, and both are asked until the answer is one. Those that leave invalid transactions out
//! (op-reth) answer at once. Those that refuse the whole block (op-geth) are asked for prefixes, until the first transaction
//! that makes a refusal is found; a transaction is blamed only if the block before it was made and the block with it was
//! refused as such. Any other trouble blames no transaction: the driver waits and asks again.

use std::future::Future;

use alloy_primitives::{B256, Bytes, U64, keccak256};
use serde::Deserialize;

use super::engine::{EngineError, Payload};

/// A block that the client made.
#[derive(Clone, Debug)]
pub struct Built {
    /// For `newPayload`.
    pub payload: Payload,
    /// Its place and results.
    pub block: PayloadBlock,
    /// Indexes of the candidates that are in it, in order.
    pub included: Vec<usize>,
    /// Indexes of those that are invalid at their place, in order. What is in neither comes after the last of these.
    pub invalid: Vec<usize>,
}

/// What is read of a payload.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayloadBlock {
    /// Hash of the block.
    pub block_hash: B256,
    /// Its number.
    pub block_number: U64,
    /// Hash of the block before it.
    pub parent_hash: B256,
    /// Seconds since the Unix epoch.
    pub timestamp: U64,
    /// Root of the state after it.
    pub state_root: B256,
    /// Gas that it used.
    pub gas_used: U64,
    /// All its transactions.
    pub transactions: Vec<Bytes>,
}

impl PayloadBlock {
    /// What is read of `payload`.
    pub fn of(payload: &Payload) -> Result<Self, EngineError> {
        serde_json::from_value(payload.json.clone())
            .map_err(|error| EngineError::Answer(format!("with a payload that is none: {error}")))
    }
}

/// Makes a block of `deposits` and of those of `candidates` that are valid, up to the one that is the `most`-th that is not. `make` asks
/// the client for one particular block.
pub async fn build<F>(
    deposits: &[Vec<u8>],
    candidates: &[Vec<u8>],
    most: usize,
    mut make: impl FnMut(Vec<usize>) -> F,
) -> Result<Built, EngineError>
where
    F: Future<Output = Result<Payload, EngineError>>,
{
    let mut kept: Vec<usize> = (0..candidates.len()).collect();
    // So many of `kept` are known to make a block.
    let mut good = 0;
    let mut invalid = Vec::new();
    let mut is_well = false;
    loop {
        let refusal = match make(kept.clone()).await {
            Ok(payload) => return compare(payload, deposits, candidates, &kept, invalid),
            Err(EngineError::Attributes(refusal)) if !kept.is_empty() => refusal,
            Err(error) => return Err(error),
        };
        if !is_well {
            // If not even the deposits make a block, no transaction is to blame.
            make(Vec::new()).await?;
            is_well = true;
        }
        good = blame(&kept, candidates, good, &refusal, &mut make).await?;
        invalid.push(kept.remove(good));
        if invalid.len() >= most {
            kept.truncate(good);
        }
    }
}

/// The index in `kept` of the first transaction that makes the block refused; `good` before it are known to be fine.
async fn blame<F>(
    kept: &[usize],
    candidates: &[Vec<u8>],
    good: usize,
    refusal: &str,
    make: &mut impl FnMut(Vec<usize>) -> F,
) -> Result<usize, EngineError>
where
    F: Future<Output = Result<Payload, EngineError>>,
{
    let (mut low, mut high) = (good, kept.len());
    // A client may name the transaction. That is a hint where to look, not a verdict.
    let refusal = refusal.to_lowercase();
    let named = kept.iter().position(|index| refusal.contains(&format!("{:x}", keccak256(&candidates[*index]))));
    let mut probes = named.map_or(Vec::new(), |named| vec![named + 1, named]);
    while low + 1 < high {
        let probe = probes.pop().filter(|probe| (low + 1..high).contains(probe)).unwrap_or(low.midpoint(high));
        match make(kept[..probe].to_vec()).await {
            Ok(_) => low = probe,
            Err(EngineError::Attributes(_)) => high = probe,
            Err(error) => return Err(error),
        }
    }
    Ok(low)
}

/// What is in the payload: the deposits, and of the candidates asked for those that the client did not leave out, in order. Those are
/// invalid too.
fn compare(
    payload: Payload,
    deposits: &[Vec<u8>],
    candidates: &[Vec<u8>],
    kept: &[usize],
    mut invalid: Vec<usize>,
) -> Result<Built, EngineError> {
    let block = PayloadBlock::of(&payload)?;
    let mut held = block.transactions.iter().map(|bytes| bytes.as_ref());
    if !deposits.iter().all(|deposit| held.next() == Some(deposit.as_slice())) {
        return Err(EngineError::Answer("with a block that lacks the deposits".into()));
    }
    let mut held = held.peekable();
    let is_held = |index: &usize| held.next_if_eq(&candidates[*index].as_slice()).is_some();
    let (included, left_out): (Vec<usize>, Vec<usize>) = kept.iter().copied().partition(is_held);
    if held.next().is_some() {
        return Err(EngineError::Answer("with transactions that were not asked for, or in another order".into()));
    }
    invalid.extend(left_out);
    invalid.sort_unstable();
    Ok(Built { payload, block, included, invalid })
}

#[cfg(test)]
mod tests;
