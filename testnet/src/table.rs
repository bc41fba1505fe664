//! How does a running network look to the person who started it?
//!
//! A snapshot as text: a table for a terminal, a line for a log. Reads no clock and no network; printing is `screen.rs`.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use crate::{
    latency::Percentiles,
    rollups::{RollupView, StockView, View},
    venues,
};

pub(crate) mod margin;

/// Widest table: what an ordinary terminal shows without wrapping, which would break redrawing in place.
const WIDTH_MAX: usize = 78;

/// What there is to see.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Since the traffic began.
    pub elapsed: Duration,
    /// Validators whose process runs.
    pub validators_up: usize,
    /// Validators of the network.
    pub validators: usize,
    /// The last final height.
    pub height: u64,
    /// Blocks a second, lately.
    pub block_rate: f64,
    /// From submitting to the verified outcome.
    pub finality: Percentiles,
    /// Bundles proven to be ordered.
    pub ordered: u64,
    /// Bundles without a proven outcome yet.
    pub pending: u64,
    /// Bundles proven never to be ordered.
    pub not_ordered: u64,
    /// Bundles refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// The lanes.
    pub lanes: Vec<Lane>,
    /// Promises that were seen broken.
    pub breaches: u64,
    /// L1 and the rollups; nothing where the city has none.
    pub chains: View,
    /// The venues on them; nothing where there are none.
    pub venues: Option<venues::View>,
    /// How often what was killed; nothing where nothing is.
    pub kills: Option<BTreeMap<String, u64>>,
}

/// A lane, as its followers verified it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lane {
    /// The rollup's id.
    pub rollup: u64,
    /// Its name.
    pub name: String,
    /// Blocks that had something for it.
    pub sequence: u64,
    /// What they had for it.
    pub entries: u64,
    /// The height up to which the slowest follower verified it.
    pub verified: u64,
    /// Followers that verify it without an error.
    pub followers_good: usize,
    /// All its followers.
    pub followers: usize,
}

impl Snapshot {
    /// The table, a string for each line, none wider than a terminal.
    pub fn table(&self) -> Vec<String> {
        let mut lines = vec![
            format!("Lockstep testnet  {}   promises {}", clock(self.elapsed), self.promises()),
            String::new(),
            format!(
                "  validators  {} of {} up   height {}   {:.1} blocks/s",
                self.validators_up, self.validators, self.height, self.block_rate
            ),
            format!("  finality    {}", self.finality()),
            format!(
                "  bundles     {} ordered   {} pending   {} not ordered",
                self.ordered, self.pending, self.not_ordered
            ),
            format!("  refused     {}", self.refused()),
            String::new(),
            "  lane                 sequence    entries   verified to   followers".to_owned(),
        ];
        for lane in &self.lanes {
            let name = format!("{} {}", lane.rollup, lane.name);
            let followers = format!("{} of {} verify", lane.followers_good, lane.followers);
            lines.push(format!(
                "  {name:<18} {:>10} {:>10}   {:>11}   {followers}",
                lane.sequence, lane.entries, lane.verified
            ));
        }
        if !self.chains.rollups.is_empty() {
            let l1 = self.chains.l1_height.map_or("-".to_owned(), |height| height.to_string());
            // An ordinary terminal has no room for both this line and op-node's.
            if self.chains.rollups.iter().all(|rollup| rollup.stock.is_none()) {
                lines.push(String::new());
            }
            lines.push(format!("  L1 at block {l1:<10} executed  state root    batches   B/tx   from L1"));
            for rollup in &self.chains.rollups {
                lines.push(rollup_line(rollup));
                lines.extend(rollup.stock.map(|stock| format!("  {:<64}{}", "    op-node", by_stock(stock))));
            }
        }
        if let Some(venues) = &self.venues {
            lines.push(String::new());
            lines.extend(margin::lines(venues));
        }
        if let Some(kills) = &self.kills {
            lines.push(margin::killed(kills));
        }
        for line in &mut lines {
            if let Some((end, _)) = line.char_indices().nth(WIDTH_MAX) {
                line.truncate(end);
            }
        }
        lines
    }

    /// One line, for what is no terminal.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} height {} ({:.1}/s), {} of {} validators, finality {}, {} ordered, {} pending, refused {}",
            clock(self.elapsed),
            self.height,
            self.block_rate,
            self.validators_up,
            self.validators,
            self.finality(),
            self.ordered,
            self.pending,
            self.refused(),
        );
        for rollup in &self.chains.rollups {
            let _ = write!(line, ", {} at {} from L1 {}", rollup.rollup, or_dash(rollup.executed), from_l1(rollup));
            if let Some(stock) = rollup.stock {
                let _ = write!(line, " op-node {}", by_stock(stock));
            }
        }
        if let Some(venues) = &self.venues {
            let _ = write!(line, ", {}", margin::phrase(venues));
        }
        if self.breaches > 0 {
            let _ = write!(line, ", {}", self.promises());
        }
        line
    }

    fn finality(&self) -> String {
        if self.finality.count == 0 {
            return "-".to_owned();
        }
        format!("{:.0} ms p50, {:.0} ms p99", self.finality.p50_ms, self.finality.p99_ms)
    }

    fn refused(&self) -> String {
        let reasons: Vec<_> = self.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if reasons.is_empty() { "0".to_owned() } else { reasons.join(", ") }
    }

    fn promises(&self) -> String {
        match self.breaches {
            0 => "all kept so far".to_owned(),
            count => format!("{count} BROKEN"),
        }
    }
}

/// One rollup in the table.
fn rollup_line(rollup: &RollupView) -> String {
    let name = format!("{} {}", rollup.rollup, rollup.stack);
    let root = rollup.state_root.map_or("-".to_owned(), |root| root.to_string().chars().take(10).collect());
    let bytes = rollup.bytes_per_transaction.map_or("-".to_owned(), |bytes| format!("{bytes:.1}"));
    let (executed, mut batches) = (or_dash(rollup.executed), or_dash(rollup.batches));
    if let Some(leader) = rollup.leader {
        let _ = write!(batches, " by {}", leader + 1);
    }
    format!("  {name:<20} {executed:>10}  {root:<10} {batches:>10} {bytes:>6}   {}", from_l1(rollup))
}

/// Up to which block L1 leads to what was executed.
fn from_l1(rollup: &RollupView) -> String {
    agreement(rollup.derived, rollup.agreed)
}

/// The same by software that no one here wrote. It takes a while to start.
fn by_stock(stock: StockView) -> String {
    match stock.safe {
        None => "-".to_owned(),
        safe => agreement(safe, stock.agreed),
    }
}

fn agreement(number: Option<u64>, agreed: bool) -> String {
    if agreed { format!("{} agreed", or_dash(number)) } else { "DIFFERS".to_owned() }
}

fn or_dash(number: Option<u64>) -> String {
    number.map_or("-".to_owned(), |number| number.to_string())
}

/// Minutes and seconds.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let lane = |rollup, name: &str| Lane {
            rollup,
            name: name.to_owned(),
            sequence: 321,
            entries: 3_100,
            verified: 4_711,
            followers_good: 2,
            followers: 2,
        };
        Snapshot {
            elapsed: Duration::from_secs(65),
            validators_up: 3,
            validators: 4,
            height: 4_712,
            block_rate: 23.45,
            finality: Percentiles { count: 9, p50_ms: 41.2, p90_ms: 50.0, p99_ms: 97.8, max_ms: 99.0 },
            ordered: 3_100,
            pending: 2,
            not_ordered: 1,
            refused: BTreeMap::from([("pool_full".to_owned(), 4), ("expired".to_owned(), 1)]),
            lanes: vec![lane(901, "alpha"), lane(902, "beta")],
            breaches: 0,
            chains: View::default(),
            venues: None,
            kills: None,
        }
    }

    #[test]
    fn the_table_shows_every_figure() {
        let table = snapshot().table().join("\n");
        for figure in [
            "01:05",
            "3 of 4 up",
            "height 4712   23.4 blocks/s",
            "41 ms p50, 98 ms p99",
            "3100 ordered   2 pending   1 not ordered",
            "1 expired, 4 pool_full",
            "all kept",
            "901 alpha",
            "902 beta",
            "321",
            "4711",
            "2 of 2 verify",
        ] {
            assert!(table.contains(figure), "{figure} is missing in\n{table}");
        }
    }

    #[test]
    fn no_line_is_wider_than_a_terminal_and_the_height_never_changes() {
        let mut snapshot = snapshot();
        let height = snapshot.table().len();
        for number in 0..40 {
            snapshot.refused.insert(format!("ünusual_reason_{number}"), u64::MAX);
        }
        snapshot.lanes[0].name = "a rollup with a very long name that nobody would give it, or would they? ".repeat(2);
        snapshot.breaches = u64::MAX;
        let table = snapshot.table();
        assert_eq!(table.len(), height);
        assert!(table.iter().all(|line| line.chars().count() <= WIDTH_MAX), "{}", table.join("\n"));
    }

    #[test]
    fn the_whole_table_fits_an_ordinary_terminal() {
        let view = RollupView { stack: "OP Stack", ..RollupView::default() };
        let derived = RollupView { stock: Some(StockView::default()), ..view.clone() };
        let whole = Snapshot {
            chains: View { l1_height: Some(1), rollups: vec![derived, view] },
            venues: Some(venues::View::default()),
            kills: Some(BTreeMap::new()),
            ..snapshot()
        };
        // One line stays for the cursor.
        assert!(whole.table().len() < 24, "{}", whole.table().join("\n"));
    }

    #[test]
    fn what_op_node_finds_is_shown_below_what_the_adapters_find() {
        let shown = |agreed| {
            let stock = Some(StockView { safe: Some(14), agreed });
            let derived = Some(15);
            let rollup = RollupView { stack: "OP Stack", derived, agreed: true, stock, ..RollupView::default() };
            let snapshot = Snapshot { chains: View { l1_height: Some(1), rollups: vec![rollup] }, ..snapshot() };
            (snapshot.table(), snapshot.line())
        };
        let (table, line) = shown(true);
        let row = |words: &str| table.iter().find(|line| line.contains(words)).expect("it is shown").clone();
        assert_eq!(row("op-node").find("14 agreed"), row("OP Stack").find("15 agreed"), "{}", table.join("\n"));
        assert!(line.contains("op-node 14 agreed"), "{line}");
        let (table, line) = shown(false);
        assert!(table.join("\n").contains("DIFFERS") && line.contains("DIFFERS"), "{line}");
    }

    #[test]
    fn a_breach_is_loud_in_both_forms() {
        let broken = Snapshot { breaches: 2, ..snapshot() };
        assert!(broken.table().join("\n").contains("2 BROKEN"));
        assert!(broken.line().contains("2 BROKEN"));
        assert!(!snapshot().line().contains("BROKEN"));
    }

    #[test]
    fn a_network_that_has_done_nothing_yet_is_no_division_by_zero() {
        let line = Snapshot::default().line();
        assert!(line.contains("finality -") && line.contains("0 ordered"), "{line}");
    }
}
