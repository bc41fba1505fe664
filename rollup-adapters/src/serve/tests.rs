//! Is every number on `/metrics` of its right type, whoever serves the page?

use std::collections::BTreeMap;

use prometheus_client::metrics::counter::Counter;

use super::*;
use crate::arbitrum::{drive::FeedStatus, post::PostStatus};

/// The page's families by name, without prefix: their type. What OpenMetrics asks of the text is asserted on the way.
fn families(text: &str) -> BTreeMap<&str, &str> {
    let mut families = BTreeMap::new();
    let mut lines = text.lines();
    loop {
        let mut next = || lines.next().expect("the page ends with its mark");
        let Some((name, help)) = next().strip_prefix("# HELP lockstep_rollup_").and_then(|line| line.split_once(' '))
        else {
            break;
        };
        assert!(help.ends_with('.') && help.len() > 8, "{name}: {help}");
        let kind = next().strip_prefix(&format!("# TYPE lockstep_rollup_{name} ")).expect("TYPE comes after HELP");
        let mut sample = next();
        if let Some(unit) = sample.strip_prefix("# UNIT ") {
            assert_eq!(unit, "lockstep_rollup_uptime_seconds seconds");
            sample = next();
        }
        let suffix = if kind == "counter" { "_total" } else { "" };
        let value = sample.strip_prefix(&format!("lockstep_rollup_{name}{suffix} ")).expect("a sample of that name");
        value.parse::<u64>().expect("a whole number");
        assert!(families.insert(name, kind).is_none(), "{name} is there twice");
    }
    assert!(text.ends_with("\n# EOF\n"));
    families
}

fn assert_counters(status: impl Status, expected: &str) {
    let service = Service::new(status);
    let (code, kind, text) = service.page("/metrics").expect("a page");
    assert_eq!((code, kind), (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let families = families(&text);
    assert!(families.values().all(|kind| ["counter", "gauge"].contains(kind)));
    assert_eq!(families["uptime_seconds"], "gauge");
    let counters: Vec<_> = families.iter().filter(|(_, kind)| **kind == "counter").map(|(name, _)| *name).collect();
    let mut expected: Vec<_> = expected.split_whitespace().collect();
    expected.sort_unstable();
    assert_eq!(counters, expected);
}

#[test]
fn what_a_process_counts_is_a_counter_and_what_it_sees_is_a_gauge() {
    let derived = "derived_blocks derived_transactions derived_bytes derived_dropped";
    let driver = "blocks transactions skipped_transactions failures resumed l1_reorganisations";
    assert_counters(DriverStatus::default(), &format!("{driver} {derived}"));
    let poster = "batches_posted bytes_posted transactions_posted rounds rounds_without_effect failures";
    assert_counters(PosterStatus::default(), &format!("{poster} {derived}"));
    let feed = "transactions skipped_transactions feed_clients_too_slow feed_bytes failures";
    assert_counters(FeedStatus::default(), feed);
    assert_counters(PostStatus::default(), "batches_posted bytes_posted transactions_posted failures");
    let relay = "observations claims observations_refused contradictions voids calls calls_succeeded calls_reverted \
        decisions_applied gas_used stubborn_legs failures";
    assert_counters(RelayStatus::default(), relay);
}

#[test]
fn what_is_counted_is_on_the_page_beside_what_others_register() {
    let service = Service::new(RelayStatus { block: 7, ..RelayStatus::default() });
    let paid = Counter::<u64>::default();
    service.register(|registry| registry.register("l1_spent_gwei", "Gwei paid for gas", paid.clone()));
    paid.inc_by(5);
    service.update(|status| {
        status.note_call(3, true, 21_000, 250);
        status.note_call(0, false, 30_000, 100);
        status.note_observing(Some("no answer".into()));
    });
    let (_, _, text) = service.page("/metrics").expect("a page");
    assert_eq!(families(&text)["l1_spent_gwei"], "counter");
    for sample in [
        "l1_spent_gwei_total 5",
        "gas_used_total 51000",
        "decisions_applied_total 3",
        "calls_reverted_total 1",
        "failures_total 1",
        "executed_block 7",
        "latest_call_ms 100",
        "waiting 1",
    ] {
        assert!(text.lines().any(|line| line.strip_prefix("lockstep_rollup_") == Some(sample)), "{sample}\n{text}");
    }
    let (code, _, reason) = service.page("/healthz").expect("a page");
    assert_eq!((code, reason.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "no answer\n"));
}

#[test]
fn who_is_unwell_waits_whatever_part_of_it_has_the_trouble() {
    let derivation = Derived { trouble: Some("no answer".into()), ..Derived::default() };
    let contradicted = Derived { disagreement: Some("another block".into()), ..Derived::default() };
    for derivation in [derivation, contradicted] {
        assert_waits(DriverStatus { derivation: derivation.clone(), ..DriverStatus::default() });
        assert_waits(PosterStatus { derivation, ..PosterStatus::default() });
    }
    let trouble = Some(String::from("no answer"));
    assert_waits(DriverStatus { trouble: trouble.clone(), ..DriverStatus::default() });
    assert_waits(PosterStatus { trouble: trouble.clone(), ..PosterStatus::default() });
    assert_waits(FeedStatus { trouble: trouble.clone(), ..FeedStatus::default() });
    assert_waits(PostStatus { trouble: trouble.clone(), ..PostStatus::default() });
    assert_waits(RelayStatus { observing_trouble: trouble.clone(), ..RelayStatus::default() });
    assert_waits(RelayStatus { applying_trouble: trouble, ..RelayStatus::default() });
}

/// `/healthz` and `/metrics` say alike that it waits.
fn assert_waits(status: impl Status) {
    let service = Service::new(status);
    let (code, _, trouble) = service.page("/healthz").expect("a page");
    let (_, _, text) = service.page("/metrics").expect("a page");
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert!(text.lines().any(|line| line == "lockstep_rollup_waiting 1"), "{trouble}{text}");
}
