//! What became of a bundle, told from the account's proven record and its report chain: one certain outcome.
//!
//! The record says whether the nonce is used. If it is free at a height past `valid_until`, the bundle never was and never
//! will be ordered. If it is used, the report that used it says how; reports are believed because their chain ends in the
//! record. Whether the record itself is proven is the caller's question.

use serde::{Deserialize, Serialize};

use crate::{
    account::AccountRecord,
    bundle::Bundle,
    ids::{Account, BundleId, Hash32, Height, NetworkId, SettlementId},
    report::{self, Event, Report},
    settlement::Decision,
};

/// Where a bundle stands. All but `Pending` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum BundleState {
    /// Its nonce is free and it may still be ordered.
    Pending,
    /// Ordered, every leg of it.
    Ordered {
        /// In this block.
        height: Height,
        /// Base fees and tip. Credits.
        fee: u64,
    },
    /// Its nonce was cancelled first.
    Cancelled {
        /// In this block.
        height: Height,
    },
    /// Another bundle with its nonce was ordered instead.
    Replaced {
        /// In this block.
        height: Height,
        /// The other bundle.
        by: BundleId,
    },
    /// It was not ordered in time, and never will be.
    Expired,
}

/// A run of an account's reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reports {
    /// The chain before the first of them.
    pub before: Hash32,
    /// Consecutive reports.
    pub reports: Vec<Report>,
}

/// Why the reports do not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say what each variant means")]
pub enum EvidenceError {
    #[error("reports {first}..={last} are not consecutive at {found}")]
    NotConsecutive { first: u64, last: u64, found: u64 },
    #[error("the reports end at {found}, the account's record at {expected}")]
    WrongEnd { expected: u64, found: u64 },
    #[error("the reports do not chain to the account's record")]
    BrokenChain,
    #[error("the nonce is used, but not by any of the reports from {first}: fetch earlier ones")]
    NotCovered { first: u64 },
    #[error("the record is of account {found}, the bundle of {expected}")]
    WrongAccount { expected: Account, found: Account },
}

impl Reports {
    /// Checks that the reports are the account's latest.
    pub fn verify(&self, record: &AccountRecord) -> Result<(), EvidenceError> {
        let (Some(first), Some(last)) = (self.reports.first(), self.reports.last()) else {
            let matches = self.before == record.reports;
            return if matches { Ok(()) } else { Err(EvidenceError::BrokenChain) };
        };
        let (first, last) = (first.sequence, last.sequence);
        let mut chain = self.before;
        let mut expected = Some(first);
        for report in &self.reports {
            if Some(report.sequence) != expected {
                return Err(EvidenceError::NotConsecutive { first, last, found: report.sequence });
            }
            chain = report::chain(chain, report);
            // Whoever sent the reports chose the numbers: the last one may have none after it.
            expected = report.sequence.checked_add(1);
        }
        if last != record.report_sequence {
            return Err(EvidenceError::WrongEnd { expected: record.report_sequence, found: last });
        }
        if chain != record.reports {
            return Err(EvidenceError::BrokenChain);
        }
        Ok(())
    }
}

/// What became of `bundle` by `height`, where the state holds `record` for its account.
///
/// `reports` are needed only where the nonce is not free; they must be the account's latest.
pub fn conclude(
    network: NetworkId,
    bundle: &Bundle,
    height: Height,
    record: Option<&AccountRecord>,
    reports: &Reports,
) -> Result<BundleState, EvidenceError> {
    let over = height >= bundle.valid_until;
    let unordered = if over { BundleState::Expired } else { BundleState::Pending };
    let Some(record) = record else { return Ok(unordered) };
    if record.account != bundle.account {
        return Err(EvidenceError::WrongAccount { expected: bundle.account, found: record.account });
    }
    let used = record.nonces.is_used(bundle.nonce);
    if used == Some(false) {
        return Ok(unordered);
    }
    reports.verify(record)?;
    let id = bundle.id();
    for Report { height, event, .. } in &reports.reports {
        let state = match event {
            Event::Ordered { bundle: other, nonce, fee, .. } if *nonce == bundle.nonce => {
                let (height, fee) = (*height, *fee);
                let replaced = BundleState::Replaced { height, by: *other };
                if *other == id { BundleState::Ordered { height, fee } } else { replaced }
            }
            Event::Cancelled { nonces }
                if nonces.iter().any(|range| (range.first..=range.last).contains(&bundle.nonce)) =>
            {
                BundleState::Cancelled { height: *height }
            }
            _ => continue,
        };
        // A nonce that was used after the bundle had expired does not change how the bundle ended.
        return Ok(if *height > bundle.valid_until { BundleState::Expired } else { state });
    }
    // Below the window a nonce can no longer be used; the complete chain shows that it never was.
    if used.is_none() && reports.before == AccountRecord::new(network, record.account).reports {
        return Ok(BundleState::Expired);
    }
    Err(EvidenceError::NotCovered {
        first: reports.reports.first().map_or(record.report_sequence.saturating_add(1), |report| report.sequence),
    })
}

/// What the log decided of a settlement, where the account's latest reports say so. `None`: not by any of these reports.
pub fn decision(
    settlement: &SettlementId,
    record: &AccountRecord,
    reports: &Reports,
) -> Result<Option<Decision>, EvidenceError> {
    reports.verify(record)?;
    Ok(reports.reports.iter().find_map(|report| match &report.event {
        Event::Decided { settlement: decided, decision, .. } if decided == settlement => Some(*decision),
        _ => None,
    }))
}
