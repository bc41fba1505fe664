//! How are a rollup's node and an L1 node asked?

use jsonrpsee_core::ClientError;

/// Largest answer that is read: a receipt with many logs.
pub(super) const ANSWER_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// Why a rollup's node told nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error(transparent)]
    Rpc(#[from] ClientError),
    #[error("{0} is not a quantity")]
    Quantity(String),
}

/// A number as Ethereum's JSON-RPC writes it.
pub(super) fn quantity(text: &str) -> Result<u64, AskError> {
    let digits = text.strip_prefix("0x").ok_or_else(|| AskError::Quantity(text.to_owned()))?;
    u64::from_str_radix(digits, 16).map_err(|_| AskError::Quantity(text.to_owned()))
}
