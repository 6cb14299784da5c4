//! Counts by way of failing, and the table.

use super::crowd::Totals;
use super::schedule::Way;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What came of all failures of one way.
#[derive(Default)]
pub struct Row {
    failures: u64,
    totals: Totals,
    released: u64,
    gaps: Vec<[f64; 4]>,
    failed: bool,
}

/// The whole table.
#[derive(Default)]
pub struct Tally {
    rows: BTreeMap<Way, Row>,
    /// What excused connections last: their losses, whenever they show, are booked there.
    excuser: Option<Way>,
}

const HEAD: &str = "\
| failure | failures | established | lost | reset | corrupted bytes | released unacknowledged | excused: at stake / lost | gap TCP p50 / p99 / max ms | gap UDP median / max ms | verdict |
|---|---|---|---|---|---|---|---|---|---|---|
";

impl Tally {
    /// Books one failure. `gaps` are there if it was allowed to settle.
    pub fn book(&mut self, way: Way, mut totals: Totals, released: u64, gaps: Option<[f64; 4]>, failed: bool) {
        if totals.marked > 0 {
            self.excuser = Some(way);
        }
        let excused = std::mem::take(&mut totals.excused);
        if let Some(excuser) = self.excuser {
            self.rows.entry(excuser).or_default().totals.excused += excused;
        }
        let row = self.rows.entry(way).or_default();
        row.failures += 1;
        row.totals.add(&totals);
        row.released += released;
        row.gaps.extend(gaps);
        row.failed |= failed;
    }

    /// Failures so far.
    pub fn failures(&self) -> u64 {
        self.rows.values().map(|row| row.failures).sum()
    }

    /// As Markdown, with a line of sums.
    pub fn table(&self) -> String {
        let mut text = HEAD.to_string();
        let mut all = Row::default();
        for (way, row) in &self.rows {
            let _ = writeln!(text, "{}", row.line(&way.name()));
            all.failures += row.failures;
            all.totals.add(&row.totals);
            all.released += row.released;
            all.gaps.extend(&row.gaps);
            all.failed |= row.failed;
        }
        let _ = writeln!(text, "{}", all.line("**all**"));
        text
    }
}

impl Row {
    fn line(&self, name: &str) -> String {
        let Totals { established, lost, reset, wrong_bytes, marked, excused } = self.totals;
        let column = |index: usize| -> Vec<f64> {
            let mut values: Vec<f64> = self.gaps.iter().map(|gaps| gaps[index]).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let middle = |index: usize| told(column(index).get(self.gaps.len() / 2));
        let worst = |index: usize| told(column(index).last());
        format!(
            "| {name} | {} | {established} | {lost} | {reset} | {wrong_bytes} | {} | {marked} / {excused} | {} / {} / {} | {} / {} | {} |",
            self.failures,
            self.released,
            middle(0),
            worst(1),
            worst(2),
            middle(3),
            worst(3),
            if self.failed { "FAILED" } else { "ok" },
        )
    }
}

impl Totals {
    fn add(&mut self, more: &Totals) {
        self.established += more.established;
        self.lost += more.lost;
        self.reset += more.reset;
        self.wrong_bytes += more.wrong_bytes;
        self.marked += more.marked;
        self.excused += more.excused;
    }
}

fn told(value: Option<&f64>) -> String {
    value.map_or("-".into(), |value| format!("{value:.0}"))
}
