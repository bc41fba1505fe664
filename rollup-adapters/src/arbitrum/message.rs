//! The bytes of an L2 message: `0x04` and a signed transaction, or `0x03` and a list of messages.
//!
//! In a list each message comes after its length, 64 bits big-endian (Nitro, `arbos/parse_l2.go`).

use crate::{AdapterError, DecodeError};

/// Bytes of a message (Nitro, `arbostypes.MaxL2MessageSize`).
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

const LIST: u8 = 3;
const SIGNED_TRANSACTION: u8 = 4;
/// Lists in lists that are read (Nitro: 16). Ours are flat.
const DEPTH_MAX: usize = 16;

/// The message that holds these transactions. A single one needs no list.
pub fn encode_message(transactions: &[Vec<u8>]) -> Result<Vec<u8>, AdapterError> {
    let mut out = Vec::with_capacity(1 + transactions.iter().map(|bytes| bytes.len() + 9).sum::<usize>());
    match transactions {
        [single] => {
            out.push(SIGNED_TRANSACTION);
            out.extend_from_slice(single);
        }
        many => {
            out.push(LIST);
            for bytes in many {
                out.extend_from_slice(&(bytes.len() as u64 + 1).to_be_bytes());
                out.push(SIGNED_TRANSACTION);
                out.extend_from_slice(bytes);
            }
        }
    }
    if out.len() > MESSAGE_BYTES_MAX {
        let (limit, found) = (MESSAGE_BYTES_MAX as u64, out.len() as u64);
        return Err(AdapterError::Limit { what: "bytes of an L2 message", limit, found });
    }
    Ok(out)
}

/// The transactions of a message. Stricter than the node, which ignores an unfinished end of a list.
pub fn decode_message(message: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    if message.len() > MESSAGE_BYTES_MAX {
        let (limit, found) = (MESSAGE_BYTES_MAX as u64, message.len() as u64);
        return Err(DecodeError::Limit { what: "bytes of an L2 message", limit, found });
    }
    let mut transactions = Vec::new();
    read(message, 0, &mut transactions)?;
    Ok(transactions)
}

fn read(message: &[u8], depth: usize, out: &mut Vec<Vec<u8>>) -> Result<(), DecodeError> {
    match message {
        [SIGNED_TRANSACTION, bytes @ ..] => out.push(bytes.to_vec()),
        [LIST, _rest @ ..] if depth >= DEPTH_MAX => {
            let (limit, found) = (DEPTH_MAX as u64, depth as u64 + 1);
            return Err(DecodeError::Limit { what: "depth of lists in an L2 message", limit, found });
        }
        [LIST, rest @ ..] => {
            let mut rest = rest;
            while !rest.is_empty() {
                let (length, tail) =
                    rest.split_first_chunk::<8>().ok_or(DecodeError::Truncated("list in an L2 message"))?;
                let length = usize::try_from(u64::from_be_bytes(*length)).unwrap_or(usize::MAX);
                let (item, tail) =
                    tail.split_at_checked(length).ok_or(DecodeError::Truncated("list in an L2 message"))?;
                read(item, depth + 1, out)?;
                rest = tail;
            }
        }
        [] => return Err(DecodeError::Truncated("L2 message")),
        [other, ..] => return Err(DecodeError::Version { what: "L2 message", found: *other }),
    }
    Ok(())
}
