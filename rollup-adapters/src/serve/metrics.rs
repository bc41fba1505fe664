//! What is on the page `/metrics`, and of which type is each number?
//!
//! OpenMetrics' text, written by its library. What a process counted since it began is a counter and has the suffix `_total`;
//! everything else, also what grows in the log or on L1, is a gauge.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

/// Before every name.
const PREFIX: &str = "lockstep_rollup";
/// What the text is, for who reads it.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A number for `/metrics`, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    name: &'static str,
    help: &'static str,
    value: u64,
    is_counter: bool,
}

impl Number {
    /// What this process counted since it began: it never falls. Its name has neither prefix nor suffix.
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, value, is_counter: true }
    }

    /// Where something stands; 1 or 0 for what is so or not.
    pub fn gauge(name: &'static str, help: &'static str, value: impl Into<u64>) -> Self {
        Self { name, help, value: value.into(), is_counter: false }
    }

    fn register(self, registry: &mut Registry) {
        if self.is_counter {
            registry.register(self.name, self.help, ConstCounter::new(self.value));
        } else {
            registry.register(self.name, self.help, ConstGauge::new(self.value));
        }
    }
}

/// Where others register what they count themselves.
pub(super) fn registry() -> Registry {
    Registry::with_prefix(PREFIX)
}

/// The page: numbers, what is registered, and how long the process runs.
pub(super) fn page(numbers: Vec<Number>, registered: &Registry, uptime: Duration) -> Result<String, fmt::Error> {
    let mut now = registry();
    for number in numbers {
        number.register(&mut now);
    }
    let uptime = ConstGauge::new(uptime.as_secs());
    now.register_with_unit("uptime", "Time since this process began", Unit::Seconds, uptime);
    let mut text = String::new();
    encode_registry(&mut text, &now)?;
    encode_registry(&mut text, registered)?;
    encode_eof(&mut text)?;
    Ok(text)
}
