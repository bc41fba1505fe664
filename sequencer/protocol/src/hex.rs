//! Hexadecimal text with a `0x` prefix, as Ethereum's JSON-RPC writes bytes.

use serde::{Deserialize, Deserializer, Serializer, de};
use std::fmt;

/// Why a text is not the hexadecimal form of the bytes that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HexError {
    /// The text lacks the `0x` prefix.
    #[error("hexadecimal bytes start with 0x")]
    Prefix,
    /// The text has the wrong number of digits.
    #[error("expected {expected} bytes of hexadecimal, found {digits} digits")]
    Length {
        /// Bytes wanted.
        expected: usize,
        /// Digits found after the prefix.
        digits: usize,
    },
    /// A character is not a hexadecimal digit, or a digit is missing.
    #[error("not hexadecimal at digit {0}")]
    Digit(usize),
}

/// Writes `0x` and two digits a byte.
pub fn fmt(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("0x")?;
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// The text of `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes that `text` spells.
pub fn decode(text: &str) -> Result<Vec<u8>, HexError> {
    let digits = text.strip_prefix("0x").ok_or(HexError::Prefix)?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return Err(HexError::Digit(digits.len()));
    }
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for (index, pair) in digits.chunks_exact(2).enumerate() {
        let high = digit(pair[0]).ok_or(HexError::Digit(index * 2))?;
        let low = digit(pair[1]).ok_or(HexError::Digit(index * 2 + 1))?;
        bytes.push(high << 4 | low);
    }
    Ok(bytes)
}

/// The `N` bytes that `text` spells.
pub fn decode_fixed<const N: usize>(text: &str) -> Result<[u8; N], HexError> {
    let digits = text.strip_prefix("0x").ok_or(HexError::Prefix)?.len();
    if digits != N * 2 {
        return Err(HexError::Length { expected: N, digits });
    }
    let bytes = decode(text)?;
    bytes.try_into().map_err(|_| HexError::Length { expected: N, digits })
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Serde support for `[u8; N]`.
pub fn deserialize_fixed<'de, const N: usize, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; N], D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    decode_fixed(&text).map_err(de::Error::custom)
}

/// Serde support for `Vec<u8>`: `#[serde(with = "crate::hex::bytes")]`.
pub mod bytes {
    use super::*;

    /// Writes the bytes as text.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(bytes))
    }

    /// Reads the bytes from text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        decode(&text).map_err(de::Error::custom)
    }
}
