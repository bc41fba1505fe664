//! What several groups of numbers are counted by.

use prometheus_client::encoding::EncodeLabelSet;

/// Why something was refused, dropped or held.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// `Refusal::reason`.
    pub reason: &'static str,
}

/// Which validator.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ValidatorLabel {
    /// Its ed25519 key in hexadecimal.
    pub validator: String,
}
