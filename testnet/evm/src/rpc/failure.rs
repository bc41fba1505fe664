//! How does the node say no? With the codes and texts of EIP-1474 and geth, which libraries know.

use crate::{core::CoreError, l1::ReorgError, pool::PoolError};
use alloy_primitives::{Bytes, hex};
use jsonrpsee::types::ErrorObjectOwned;

/// A call that reverted; its data is what the contract said (geth).
const REVERTED: i32 = 3;
/// EIP-1474: something in the request does not fit.
const INVALID_PARAMS: i32 = -32602;
/// EIP-1474: the server's own fault.
const INTERNAL: i32 = -32603;
/// EIP-1474: the request is well formed, and refused.
const REFUSED: i32 = -32000;
/// EIP-1474: it asks for too much.
const LIMIT: i32 = -32005;
/// The selector of Solidity's `Error(string)`.
const ERROR_STRING: [u8; 4] = [0x08, 0xc3, 0x79, 0xa0];

pub(crate) fn invalid_params(text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS, text, None::<()>)
}

pub(crate) fn refused(text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(REFUSED, text, None::<()>)
}

pub(crate) fn limit(text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(LIMIT, text, None::<()>)
}

pub(crate) fn internal(text: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INTERNAL, text, None::<()>)
}

pub(crate) fn reverted(data: &Bytes) -> ErrorObjectOwned {
    let text = match reason(data) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".into(),
    };
    ErrorObjectOwned::owned(REVERTED, text, Some(hex::encode_prefixed(data)))
}

/// geth's words for an exceptional halt.
pub(crate) fn halted(reason: &str) -> ErrorObjectOwned {
    refused(if reason.contains("OutOfGas") {
        "out of gas".into()
    } else if reason.contains("OpcodeNotFound") || reason.contains("InvalidFEOpcode") {
        "invalid opcode".into()
    } else {
        format!("execution halted: {reason}")
    })
}

pub(crate) fn header_not_found() -> ErrorObjectOwned {
    refused("header not found")
}

pub(crate) fn state_not_kept(number: u64) -> ErrorObjectOwned {
    refused(format!("missing trie node: the state after block {number} is no longer kept"))
}

pub(crate) fn pool(error: &PoolError) -> ErrorObjectOwned {
    refused(error.to_string())
}

pub(crate) fn core(error: &CoreError) -> ErrorObjectOwned {
    match error {
        CoreError::Store(_) => internal(error.to_string()),
        CoreError::Block(_) | CoreError::UnknownParent(_) => refused(error.to_string()),
    }
}

pub(crate) fn reorg(error: &ReorgError) -> ErrorObjectOwned {
    match error {
        ReorgError::Depth { .. } => invalid_params(error.to_string()),
        ReorgError::Core(error) => core(error),
    }
}

/// The text of Solidity's `Error(string)`.
fn reason(data: &[u8]) -> Option<String> {
    let words = data.strip_prefix(&ERROR_STRING)?;
    let length = words.get(32..64)?;
    let (zeros, length) = length.split_at(24);
    if zeros.iter().any(|byte| *byte != 0) {
        return None;
    }
    let length = usize::try_from(u64::from_be_bytes(length.try_into().ok()?)).ok()?;
    let text = words.get(64..)?.get(..length)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_solidity_reason_is_told_and_a_malformed_one_is_not_believed() {
        let mut data = ERROR_STRING.to_vec();
        data.extend([0; 31]);
        data.push(32);
        data.extend([0; 31]);
        data.push(3);
        data.extend(b"no!");
        data.extend([0; 29]);
        assert_eq!(reason(&data).as_deref(), Some("no!"));
        assert_eq!(reverted(&data.clone().into()).message(), "execution reverted: no!");
        data[4 + 32] = 0xff;
        assert_eq!(reason(&data), None, "a length that does not fit");
        assert_eq!(reason(&data[..40]), None, "cut off");
    }
}
