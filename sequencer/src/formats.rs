//! Are a bundle's transactions well-formed for their rollups?
//!
//! One file for each format that a genesis can name. Asked only by the node that takes a bundle from a client: the log
//! itself carries transactions unread, and a rollup's own rules judge them at execution.

pub mod eip2718;

use lockstep_protocol::{
    bundle::Bundle,
    genesis::{Format, Rules},
    ids::RollupId,
    refusal::Refusal,
};

/// Checks every transaction of a bundle whose shape is good, by the format of its rollup.
pub fn check(bundle: &Bundle, rules: &Rules) -> Result<(), Refusal> {
    for leg in &bundle.legs {
        let rollup = rules.rollups.get(&leg.rollup).ok_or(Refusal::UnknownRollup { rollup: leg.rollup })?;
        for (index, transaction) in leg.transactions.iter().enumerate() {
            match rollup.format {
                Format::Eip2718 => {
                    eip2718::check(&transaction.0, rollup.id).map_err(|error| refusal(error, leg.rollup, index))?
                }
                // A genesis of a newer release: refusing is safe, guessing is not.
                _ => return Err(Refusal::NotReady { detail: format!("rollup {}: unknown format", rollup.id) }),
            };
        }
    }
    Ok(())
}

fn refusal(error: eip2718::TransactionError, rollup: RollupId, index: usize) -> Refusal {
    match error {
        eip2718::TransactionError::ChainId(found) => Refusal::WrongChainId { rollup, index, found },
        error => Refusal::MalformedTransaction { rollup, index, detail: error.to_string() },
    }
}
