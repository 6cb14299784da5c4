//! Lets the pair fail in every way of the schedule, and makes it whole again.

use super::crowd::Crowd;
use super::schedule::{Step, Way};
use crate::lab::Lab;
use crate::node::Failure;
use crate::pair::Pair;
use crate::sys;
use anyhow::{Context, Result};
use std::time::Duration;

/// A role must be taken up within this time.
const ROLE_LIMIT: Duration = Duration::from_secs(20);

/// What failures are done to.
pub struct Field<'f> {
    /// Network and hosts.
    pub lab: &'f Lab,
    /// Both nodes.
    pub pair: &'f mut Pair,
    /// The traffic.
    pub crowd: &'f mut Crowd,
    /// Packets let go without the peer's acknowledgement while the peer was there.
    pub released: u64,
}

impl Field<'_> {
    /// Does one step to a pair whose node `primary` leads; returns when the pair is whole again.
    pub fn strike(&mut self, step: &Step, primary: usize) -> Result<()> {
        let secondary = 1 - primary;
        match step.way {
            Way::Primary(failure) => self.fail_and_heal(primary, failure, step.outage),
            Way::Secondary(failure) => self.fail_and_heal(secondary, failure, step.outage),
            Way::Restart => {
                self.pair.nodes[primary].fail(self.lab, Failure::Kill)?;
                self.return_of(primary)
            }
            Way::Stutter => {
                let pid = self.pair.nodes[primary].pid().context("the primary runs")?;
                sys::signal(pid, libc::SIGSTOP)?;
                sys::pause(step.outage);
                sys::signal(pid, libc::SIGCONT)?;
                self.pair.wait_whole().map(drop)
            }
            Way::Stop => self.stop_and_start(primary, step.outage),
            Way::SecondaryStop => self.stop_and_start(secondary, step.outage),
            Way::Handover => self.hand_over(primary),
            Way::BulkSecondary => {
                self.pair.nodes[secondary].fail(self.lab, Failure::Kill)?;
                sys::pause(step.outage);
                self.pair.nodes[secondary].spawn(self.lab)?;
                sys::pause(step.between);
                self.pair.nodes[secondary].fail(self.lab, Failure::Kill)?;
                self.return_of(secondary)
            }
            Way::PeerCut => self.cut_for_a_while(primary, "eth-p", step.outage),
            Way::PeerCutKill => self.cut_and_kill(primary, step),
            Way::PortCut => self.cut_for_a_while(primary, port(step), step.outage),
            Way::SecondaryPortCut => self.cut_for_a_while(secondary, port(step), step.outage),
            Way::PortCutHandover => {
                self.link(primary, port(step), "down")?;
                sys::pause(step.between);
                self.hand_over(primary)?;
                sys::pause(step.outage);
                self.link(primary, port(step), "up")?;
                self.pair.wait_whole().map(drop)
            }
            Way::Early => self.kill_early(primary, step),
            Way::Both => self.kill_both(primary, step),
        }
    }

    fn fail_and_heal(&mut self, victim: usize, failure: Failure, time: Duration) -> Result<()> {
        let outage = self.pair.fail(self.lab, victim, failure)?;
        sys::pause(time);
        let survivor = 1 - victim;
        let alone = self.pair.nodes[survivor].ha()?;
        self.pair.heal(self.lab, outage)?;
        // What waited for the victim is let go when its death is noticed. After that the survivor holds again as soon as
        // the other one is back, and nothing may be let go.
        if !alone.peer_caught_up {
            let after = self.pair.nodes[survivor].ha()?.released_unprotected;
            self.released += after.saturating_sub(alone.released_unprotected);
        }
        Ok(())
    }

    fn return_of(&mut self, node: usize) -> Result<()> {
        self.pair.nodes[node].start(self.lab)?;
        self.pair.wait_whole().map(drop)
    }

    fn stop_and_start(&mut self, node: usize, time: Duration) -> Result<()> {
        self.pair.nodes[node].stop()?;
        sys::pause(time);
        self.return_of(node)
    }

    fn hand_over(&mut self, primary: usize) -> Result<()> {
        self.pair.nodes[primary].cli(&["force", "ha", "failover", "-force"])?;
        sys::wait_until("the roles are swapped", ROLE_LIMIT, || Ok((self.pair.wait_whole()? != primary).then_some(())))
    }

    fn link(&self, node: usize, device: &str, state: &str) -> Result<()> {
        self.lab.nodes[node].ip_batch(&format!("link set {device} {state}\n"))
    }

    fn cut_for_a_while(&mut self, node: usize, device: &str, time: Duration) -> Result<()> {
        let primary = self.pair.wait_whole()?;
        let before = self.pair.nodes[primary].ha()?;
        self.link(node, device, "down")?;
        sys::pause(time);
        self.link(node, device, "up")?;
        let after_primary = self.pair.wait_whole()?;
        if after_primary == primary {
            let after = self.pair.nodes[primary].ha()?.released_unprotected;
            self.released += after.saturating_sub(before.released_unprotected);
        }
        Ok(())
    }

    /// While the peer link is dead the mirror travels over the data ports: the secondary holds everything.
    fn cut_and_kill(&mut self, primary: usize, step: &Step) -> Result<()> {
        self.link(primary, "eth-p", "down")?;
        sys::pause(step.between);
        let outage = self.pair.fail(self.lab, primary, Failure::Kill)?;
        sys::pause(step.outage);
        if step.coin {
            self.link(primary, "eth-p", "up")?;
        }
        self.pair.heal(self.lab, outage)?;
        if !step.coin {
            self.link(primary, "eth-p", "up")?;
        }
        self.pair.wait_whole().map(drop)
    }

    /// Whether the new secondary had caught up decides whether a loss is excused: looked at just before the kill.
    fn kill_early(&mut self, primary: usize, step: &Step) -> Result<()> {
        let secondary = 1 - primary;
        self.pair.nodes[secondary].fail(self.lab, Failure::Kill)?;
        sys::pause(step.outage);
        self.pair.nodes[secondary].spawn(self.lab)?;
        sys::pause(step.between);
        let whole = match (self.pair.nodes[secondary].ha(), self.pair.nodes[primary].ha()) {
            (Ok(secondary), Ok(primary)) => {
                secondary.is_secondary() && secondary.caught_up && primary.is_primary() && primary.peer_caught_up
            }
            _ => false,
        };
        self.pair.nodes[primary].fail(self.lab, Failure::Kill)?;
        if !whole {
            self.crowd.excuse()?;
        }
        sys::wait_until("the node that was left leads", ROLE_LIMIT, || {
            self.pair.nodes[secondary].ensure_alive()?;
            Ok(self.pair.nodes[secondary].ha().is_ok_and(|view| view.is_primary()).then_some(()))
        })?;
        self.return_of(primary)?;
        if whole { Ok(()) } else { self.excuse_until_healthy() }
    }

    /// A node that began without its peer's state does not know its servers' health either. What it opens while it knows
    /// only some of them may be on a server that a hash would not choose again.
    fn excuse_until_healthy(&mut self) -> Result<()> {
        self.pair.wait_healthy()?;
        self.crowd.excuse_since_the_last()
    }

    fn kill_both(&mut self, primary: usize, step: &Step) -> Result<()> {
        self.pair.nodes[primary].fail(self.lab, Failure::Kill)?;
        sys::pause(step.between);
        self.pair.nodes[1 - primary].fail(self.lab, Failure::Kill)?;
        self.crowd.excuse()?;
        sys::pause(step.outage);
        let first = if step.coin { primary } else { 1 - primary };
        self.pair.nodes[first].start(self.lab)?;
        self.return_of(1 - first)?;
        self.excuse_until_healthy()
    }
}

/// The data port of a step that concerns one.
fn port(step: &Step) -> &'static str {
    if step.coin { "eth-c" } else { "eth-s" }
}
