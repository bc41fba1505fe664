//! How do margin transfers and the venues look?
//!
//! Lines for the table, for the summary at the end, and a phrase for what is no terminal. Prints nothing itself.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    latency::Percentiles,
    venues::{UNIT, View, conservation::Totals, settlements},
};

/// The lines of the table.
pub(crate) fn lines(venues: &View) -> Vec<String> {
    let settlements::View { counts, undecided, unapplied, to_decided, to_applied, locked, .. } = &venues.settlements;
    let Totals { paid_in, claims, in_flight, between } = &venues.totals;
    let [to, back] = counts.ways;
    let prices: Vec<_> = venues.prices.iter().map(|price| format!("{:.2}", *price as f64 / UNIT as f64)).collect();
    vec![
        format!(
            "  margin transfers  {} ordered   {} committed   aborted {}",
            counts.ordered,
            counts.committed,
            aborted(counts)
        ),
        format!(
            "    under way       {undecided} undecided   {unapplied} unapplied   done {to} from 901, {back} from 902"
        ),
        format!("    ordered to      decided {}   applied {} (p50 / p99)", pair(to_decided), pair(to_applied)),
        format!(
            "    at no venue     {}   price {}   {} liquidated",
            pair(locked),
            prices.join(" and "),
            counts.liquidated
        ),
        format!("    gas             {}", gas(&venues.settlements.gas)),
        format!(
            "  margin            {} USDC = {} + {} + {} between",
            units(*paid_in),
            units(claims[0]),
            units(claims[1]),
            between / UNIT.cast_signed()
        ),
        format!("    in flight       {} + {}   {}", units(in_flight[0]), units(in_flight[1]), checked(venues)),
    ]
}

/// The lines of the summary.
pub(crate) fn summary(venues: &View, elapsed: Duration, posted: u64) -> Vec<String> {
    let settlements::View { counts, to_decided, to_applied, to_applied_at, locked, .. } = &venues.settlements;
    let [to, back] = counts.ways;
    let seconds = elapsed.as_secs_f64().max(1.0);
    vec![
        format!(
            "Margin transfers: {} ordered, {} committed ({to} from 901, {back} from 902), aborted {}; {:.1} a second",
            counts.ordered,
            counts.committed,
            aborted(counts),
            counts.applied as f64 / seconds
        ),
        format!("  ordered to decided: {}", times(to_decided)),
        format!(
            "  ordered to applied on both: {} (on 901 {}, on 902 {})",
            times(to_applied),
            times(&to_applied_at[0]),
            times(&to_applied_at[1])
        ),
        format!("  margin at no venue: {}", times(locked)),
        format!("  gas: {}", gas(&venues.settlements.gas)),
        format!(
            "  L1 bytes of everything posted: {posted}, {} for each transfer; {} USDC moved, {} liquidations",
            posted / counts.committed.max(1),
            units(counts.moved),
            counts.liquidated
        ),
    ]
}

/// In one phrase.
pub(crate) fn phrase(venues: &View) -> String {
    let settlements::View { counts, to_applied, .. } = &venues.settlements;
    format!(
        "margin: {} ordered, {} committed, aborted {}, {} applied in {}; {} liquidated; {}",
        counts.ordered,
        counts.committed,
        aborted(counts),
        counts.applied,
        times(to_applied),
        counts.liquidated,
        checked(venues)
    )
}

/// How often what was killed.
pub(crate) fn killed(kills: &BTreeMap<String, u64>) -> String {
    let parts: Vec<_> = kills.iter().map(|(part, count)| format!("{count} {part}")).collect();
    format!("  killed            {}", if parts.is_empty() { "nothing yet".to_owned() } else { parts.join(", ") })
}

fn checked(venues: &View) -> String {
    match venues.breaches {
        0 => format!("checked {} times: all there", venues.checks),
        breaches => format!("checked {} times: {breaches} BROKEN", venues.checks),
    }
}

fn aborted(counts: &settlements::Counts) -> String {
    let reasons: Vec<_> = counts.aborted.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if reasons.is_empty() { "0".to_owned() } else { reasons.join(", ") }
}

fn gas(gas: &settlements::Gas) -> String {
    let each = |sum: u64, count: u64| sum.checked_div(count).map_or("-".to_owned(), |each| each.to_string());
    format!(
        "prepare {}   hub call {}   a leg of it {}",
        each(gas.prepare_gas, gas.prepares),
        each(gas.hub_gas, gas.hub_calls),
        each(gas.hub_gas, gas.legs_applied)
    )
}

/// Whole ones of the collateral.
fn units(amount: u128) -> u128 {
    amount / UNIT
}

fn pair(latency: &Percentiles) -> String {
    match latency.count {
        0 => "-".to_owned(),
        _ => format!("{:.2} / {:.2} s", latency.p50_ms / 1_000.0, latency.p99_ms / 1_000.0),
    }
}

fn times(latency: &Percentiles) -> String {
    match latency.count {
        0 => "-".to_owned(),
        _ => format!("{:.2} s p50 {:.2} s p99", latency.p50_ms / 1_000.0, latency.p99_ms / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn venues() -> View {
        let counts = settlements::Counts {
            ordered: 120,
            committed: 100,
            aborted: BTreeMap::from([("expired".to_owned(), 1), ("refused".to_owned(), 2)]),
            applied: 90,
            ways: [60, 40],
            moved: 5_000 * UNIT,
            liquidated: 3,
        };
        let latency = Percentiles { count: 100, p50_ms: 410.0, p99_ms: 2_600.0, ..Percentiles::default() };
        let gas =
            settlements::Gas { prepares: 2, prepare_gas: 160_000, hub_calls: 1, hub_gas: 250_000, legs_applied: 4 };
        let settlements =
            settlements::View { counts, to_decided: latency, gas, undecided: 7, ..settlements::View::default() };
        View { settlements, checks: 33, ..View::default() }
    }

    #[test]
    fn every_figure_is_in_the_table_and_in_the_summary() {
        let table = lines(&venues()).join("\n");
        for figure in [
            "120 ordered   100 committed   aborted 1 expired, 2 refused",
            "7 undecided",
            "60 from 901, 40 from 902",
            "decided 0.41 / 2.60 s   applied -",
            "prepare 80000   hub call 250000   a leg of it 62500",
            "3 liquidated",
            "checked 33 times: all there",
        ] {
            assert!(table.contains(figure), "{figure} is missing in\n{table}");
        }
        let summary = summary(&venues(), Duration::from_secs(45), 40_000).join("\n");
        for figure in ["2.0 a second", "400 for each transfer", "5000 USDC moved", "0.41 s p50"] {
            assert!(summary.contains(figure), "{figure} is missing in\n{summary}");
        }
    }

    #[test]
    fn a_unit_that_is_missing_is_loud_everywhere() {
        let broken = View { breaches: 1, ..venues() };
        assert!(lines(&broken).join("\n").contains("1 BROKEN"));
        assert!(phrase(&broken).contains("1 BROKEN"));
        assert!(!phrase(&venues()).contains("BROKEN"));
    }
}
