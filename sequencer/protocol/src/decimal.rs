//! 128-bit amounts in JSON: decimal text, because JSON numbers of that size are not read alike.

use serde::{Deserialize, Deserializer, Serializer, de};

pub(crate) fn serialize<S: Serializer>(amount: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    // `parse` would also take a plus sign and leading zeros: one amount has one text.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let amount = plain.then(|| text.parse().ok()).flatten();
    amount.ok_or_else(|| de::Error::custom("an amount is decimal digits, below 2^128"))
}
