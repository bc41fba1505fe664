//! What does an L1 node mean that answers a transaction with an error?
//!
//! A guess from the words, which no standard gives. A wrong one costs time: what is in blocks is asked of L1.

/// What became of a transaction that was handed to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handed {
    /// It is in the pool, now or already before.
    Taken,
    /// Its nonce is used.
    Used,
    /// The pool has another with its nonce, at a price that this one does not beat.
    Underpriced,
}

/// What a node means that did not just take a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It is settled.
    Handed(Handed),
    /// The same may be taken another time.
    Later,
    /// The pool has blobs from this key and this has none, or the other way round.
    Reserved,
    /// It never will.
    Refused,
}

/// There is no standard for these texts; the words are those of geth, reth, erigon, nethermind, besu and anvil.
pub(super) fn judge(message: &str) -> Judged {
    let message = message.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["already known", "already imported", "alreadyknown", "known transaction", "already exists"]) {
        Judged::Handed(Handed::Taken)
    } else if says(&["nonce too low", "nonce_too_low", "oldnonce", "nonce is too low", "already been used"]) {
        Judged::Handed(Handed::Used)
    } else if says(&["underpriced", "feetoolow", "gas price too low", "fee too low"]) {
        Judged::Handed(Handed::Underpriced)
    } else if says(&["insufficient funds", "insufficientfunds", "pool is full", "txpool is full", "limit exceeded"])
        || says(&["max fee per gas less than block base fee", "base fee", "rate limit", "too many requests"])
    {
        Judged::Later
    } else if says(&["already reserved"]) {
        Judged::Reserved
    } else {
        Judged::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_say_is_understood() {
        for (message, judged) in [
            ("already known", Judged::Handed(Handed::Taken)),
            ("transaction already imported", Judged::Handed(Handed::Taken)),
            ("nonce too low: next nonce 5, tx nonce 3", Judged::Handed(Handed::Used)),
            ("replacement transaction underpriced", Judged::Handed(Handed::Underpriced)),
            ("ReplacementNotAllowed: underpriced", Judged::Handed(Handed::Underpriced)),
            ("Insufficient funds for gas * price + value", Judged::Later),
            ("max fee per gas less than block base fee", Judged::Later),
            ("address already reserved", Judged::Reserved),
            ("intrinsic gas too low", Judged::Refused),
            ("invalid sender", Judged::Refused),
        ] {
            assert_eq!(judge(message), judged, "{message}");
        }
    }
}
