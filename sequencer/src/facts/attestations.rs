//! What have validators signed about rollups, and for which heads is that a quorum?
//!
//! Attestations whose signatures were checked, in bounded numbers of each validator, and the certificates that they make. What
//! a certificate does to the log is the transition's business.

use std::collections::BTreeMap;

use lockstep_protocol::{
    genesis::Rules,
    ids::RollupId,
    settlement::{Head, HeadAttestation, HeadCertificate, Level},
};

use super::view::RollupView;

/// Attestations kept of one validator for one rollup and level: what it signs in some seconds. The lowest go first, so that a
/// liar's far-off numbers displace only its own.
const KEPT_MAX: usize = 256;
/// Certificates kept of one level of a rollup: the highest, and those of blocks that early observations are about.
const CERTIFICATES_MAX: usize = 64;

/// By incarnation and number.
type ByNumber<T> = BTreeMap<(u32, u64), T>;

/// What validators have signed.
#[derive(Default)]
pub(super) struct Attestations {
    by_validator: BTreeMap<(RollupId, Level, u8), ByNumber<HeadAttestation>>,
    certificates: BTreeMap<(RollupId, Level), ByNumber<HeadCertificate>>,
}

/// What an attestation changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was known.
    Known,
    /// It is new.
    New,
    /// It is new, and makes a certificate.
    Certified,
    /// Its validator has signed another block of this number and incarnation: a lie, and evidence.
    Equivocation(HeadAttestation),
}

impl Attestations {
    /// Takes an attestation whose signature was checked.
    pub(super) fn insert(&mut self, rules: &Rules, attestation: HeadAttestation) -> Taken {
        let HeadAttestation { head, validator, .. } = attestation;
        let place = (head.incarnation, head.number);
        for level in Level::ALL {
            let known = self.by_validator.get(&(head.rollup, level, validator)).and_then(|kept| kept.get(&place));
            if let Some(known) = known {
                if (known.head.block_hash, known.head.state_root) != (head.block_hash, head.state_root) {
                    return Taken::Equivocation(*known);
                }
                if level == head.level {
                    return Taken::Known;
                }
            }
        }
        let kept = self.by_validator.entry((head.rollup, head.level, validator)).or_default();
        kept.insert(place, attestation);
        if kept.len() > KEPT_MAX {
            kept.pop_first();
        }
        if self.certificates.get(&(head.rollup, head.level)).is_some_and(|known| known.contains_key(&place)) {
            return Taken::New;
        }
        let signed = (0..rules.validators.len()).filter_map(|validator| {
            let validator = u8::try_from(validator).ok()?;
            self.by_validator.get(&(head.rollup, head.level, validator))?.get(&place).copied()
        });
        let signed: Vec<_> = signed.collect();
        let Some(certificate) = HeadCertificate::assemble(rules, head, &signed) else { return Taken::New };
        let certificates = self.certificates.entry((head.rollup, head.level)).or_default();
        certificates.insert(place, certificate);
        if certificates.len() > CERTIFICATES_MAX {
            certificates.pop_first();
        }
        Taken::Certified
    }

    /// Forgets what the log has no use for any more.
    pub(super) fn prune(&mut self, rollup: RollupId, view: &RollupView) {
        let current = view.record.incarnation;
        for level in Level::ALL {
            let latest = view.record.latest[level as usize];
            let past = |(incarnation, number): &(u32, u64)| {
                *incarnation < current || (*incarnation == current && latest.is_some_and(|latest| *number <= latest))
            };
            if let Some(certificates) = self.certificates.get_mut(&(rollup, level)) {
                certificates.retain(|place, _| !past(place));
            }
            let of_level = self.by_validator.range_mut((rollup, level, 0)..=(rollup, level, u8::MAX));
            for (_, kept) in of_level {
                kept.retain(|place, _| !past(place));
            }
        }
    }

    /// The certificate of a head of the log's current incarnation.
    pub(super) fn certificate(
        &self,
        view: &RollupView,
        rollup: RollupId,
        level: Level,
        number: u64,
    ) -> Option<&HeadCertificate> {
        let found = self.certificates.get(&(rollup, level))?.get(&(view.record.incarnation, number))?;
        view.wants(&found.head).then_some(found)
    }

    /// The certificates that are worth a place in a block: of each level the highest head, and those that `also` asks for.
    pub(super) fn best<'a>(
        &'a self,
        view: &'a RollupView,
        rollup: RollupId,
        also: impl Fn(&Head) -> bool + 'a,
    ) -> impl Iterator<Item = &'a HeadCertificate> {
        let levels = self.certificates.range((rollup, Level::ALL[0])..=(rollup, Level::ALL[2]));
        levels.flat_map(move |(_, certificates)| {
            let wanted: Vec<_> = certificates.values().filter(|certificate| view.wants(&certificate.head)).collect();
            let highest = wanted.iter().map(|certificate| certificate.head.number).max();
            let reorganized = wanted.iter().any(|certificate| certificate.head.incarnation != view.record.incarnation);
            let chosen: Vec<_> = wanted
                .into_iter()
                .filter(|certificate| {
                    let head = &certificate.head;
                    // Where the log has left a history, its new heads say nothing.
                    if reorganized {
                        return head.incarnation != view.record.incarnation;
                    }
                    Some(head.number) == highest || also(head)
                })
                .collect();
            chosen
        })
    }
}

#[cfg(test)]
mod tests;
