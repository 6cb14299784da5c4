//! One cell of the campaign's matrix: traffic through one virtual server while node after node fails.

use crate::config::Vip;
use crate::lab::{Family, Lab};
use crate::node::Failure;
use crate::pair::Pair;
use crate::role::Role;
use crate::sys;
use crate::traffic::{Gaps, Load, Outcome, Traffic, server_resets};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// New connections must be under way within this time.
const WARM_UP_LIMIT: Duration = Duration::from_secs(20);

/// What is done to which traffic.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// How nodes fail.
    pub failure: Failure,
    /// Do servers see the client's address?
    pub usip: bool,
    /// IPv4 or IPv6.
    pub family: Family,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} usip {} {}", self.failure, if self.usip { "yes" } else { "no" }, self.family)
    }
}

/// What came of it.
pub struct CellReport {
    /// Which cell.
    pub cell: Cell,
    /// One entry for each failure.
    pub gaps: Vec<Gaps>,
    /// The clients' totals.
    pub outcome: Option<Outcome>,
    /// New connections a second, as achieved.
    pub new_per_second: f64,
    /// Packets let go without the peer's acknowledgement while the pair was whole.
    pub released: u64,
    /// What went wrong; nothing if all is well.
    pub complaint: Option<String>,
}

/// Runs one cell. A complaint is in the report; an error only says that the lab itself failed.
pub fn run(
    lab: &Lab,
    pair: &mut Pair,
    servers: &mut [Role; 2],
    cell: Cell,
    load: Load,
    kills: u32,
) -> Result<CellReport> {
    let mut report =
        CellReport { cell, gaps: Vec::new(), outcome: None, new_per_second: 0.0, released: 0, complaint: None };
    let resets_before = server_resets(servers)?;
    let vip = if cell.usip { Vip::Usip } else { Vip::Nat };
    if let Err(error) = pair.wait_healthy() {
        report.complaint = Some(format!("{error:#}"));
        return Ok(report);
    }
    let mut traffic = match Traffic::start(lab, vip, &[cell.family], load) {
        Ok(traffic) => traffic,
        Err(error) => {
            sys::check_interrupt()?;
            report.complaint = Some(format!("{error:#}"));
            return Ok(report);
        }
    };
    let started = Instant::now();
    for _ in 0..kills {
        if let Err(error) = one_failure(lab, pair, &mut traffic, cell.failure, &mut report) {
            sys::check_interrupt()?;
            report.complaint = Some(format!("failure {}: {error:#}", report.gaps.len() + 1));
            break;
        }
    }
    let took = started.elapsed().as_secs_f64();
    match traffic.finish() {
        Ok(outcome) => {
            report.new_per_second = outcome.count("short_begun") as f64 / took;
            let lost = outcome.complaint();
            report.complaint = match (report.complaint.take(), lost) {
                (Some(first), Some(second)) => Some(format!("{first}; {second}")),
                (first, second) => first.or(second),
            };
            report.outcome = Some(outcome);
        }
        Err(error) => {
            report.complaint.get_or_insert(format!("{error:#}"));
        }
    }
    let resets = server_resets(servers)? - resets_before;
    if resets > 0 && report.complaint.is_none() {
        report.complaint = Some(format!("the servers saw {resets} connections reset"));
    }
    if report.released > 0 && report.complaint.is_none() {
        report.complaint = Some(format!("{} packets were let go without the peer's acknowledgement", report.released));
    }
    Ok(report)
}

/// Lets the primary fail amid traffic, waits until all clients are served again, and makes the pair whole.
fn one_failure(
    lab: &Lab,
    pair: &mut Pair,
    traffic: &mut Traffic,
    failure: Failure,
    report: &mut CellReport,
) -> Result<()> {
    let primary = pair.wait_whole()?;
    let released = pair.nodes[primary].ha()?.released_unprotected;
    traffic.open_window()?;
    warm_up(traffic)?;
    report.released += pair.nodes[primary].ha()?.released_unprotected.saturating_sub(released);
    let outage = pair.fail(lab, primary, failure)?;
    traffic.wait_recovered()?;
    report.gaps.push(traffic.close_window()?);
    // The survivor holds again as soon as the other one is back: nothing may be let go then.
    let survivor = &pair.nodes[1 - primary];
    let alone = survivor.ha()?.released_unprotected;
    pair.heal(lab, outage)?;
    report.released += pair.nodes[1 - primary].ha()?.released_unprotected.saturating_sub(alone);
    let lost = traffic.tcp.progress()?["lost"].as_u64().unwrap_or_default();
    ensure!(lost == 0, "{lost} connections lost so far");
    Ok(())
}

/// Waits until new connections flow.
fn warm_up(traffic: &mut Traffic) -> Result<()> {
    let done = |report: &Value| report["short_done"].as_u64().unwrap_or_default();
    let start = done(traffic.tcp.progress()?);
    sys::wait_until("new connections are served", WARM_UP_LIMIT, || {
        Ok((done(traffic.tcp.progress()?) >= start + 50).then_some(()))
    })
}
