//! Lets the pair fail in every way of the schedule, and makes it whole again.

use super::crowd::Crowd;
use super::releases::Releases;
use super::schedule::{Step, Way};
use crate::lab::Lab;
use crate::node::{Failure, Session};
use crate::pair::Pair;
use crate::sniff::Watch;
use crate::sys;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

/// A role must be taken up within this time.
const ROLE_LIMIT: Duration = Duration::from_secs(20);
/// A node that came back, and whose absence was noticed, is told everything anew within this time.
const SESSION_LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks for a new mirror session.
const SESSION_POLL: Duration = Duration::from_millis(5);

/// What failures are done to.
pub struct Field<'f> {
    /// Network and hosts.
    pub lab: &'f Lab,
    /// Both nodes.
    pub pair: &'f mut Pair,
    /// The traffic.
    pub crowd: &'f mut Crowd,
    /// Packets let go without the peer's acknowledgement.
    pub releases: &'f mut Releases,
}

/// Who leads, since when, and which processes both nodes are.
#[derive(PartialEq, Debug)]
struct Roles {
    primary: usize,
    term: u64,
    processes: [Option<u32>; 2],
}

impl Field<'_> {
    /// Does one step to a pair whose node `primary` leads; returns when the pair is whole again.
    pub fn strike(&mut self, step: &Step, primary: usize) -> Result<()> {
        for node in 0..2 {
            self.releases.settle(self.pair, node)?;
        }
        self.break_and_mend(step, primary)?;
        for node in 0..2 {
            self.releases.look(self.pair, node)?;
        }
        Ok(())
    }

    fn break_and_mend(&mut self, step: &Step, primary: usize) -> Result<()> {
        let secondary = 1 - primary;
        match step.way {
            Way::Primary(failure) => {
                let outage = self.pair.fail(self.lab, primary, failure)?;
                sys::pause(step.outage);
                self.pair.heal(self.lab, outage)
            }
            Way::Secondary(failure) => self.fail_secondary(secondary, failure, step.outage),
            Way::Restart => {
                self.pair.nodes[primary].fail(self.lab, Failure::Kill)?;
                self.return_of(primary)
            }
            Way::Stutter => {
                let pid = self.pair.nodes[primary].pid().context("the primary runs")?;
                self.nothing_happens(|_| {
                    sys::signal(pid, libc::SIGSTOP)?;
                    sys::pause(step.outage);
                    sys::signal(pid, libc::SIGCONT)
                })
            }
            Way::Stop => {
                self.pair.nodes[primary].stop()?;
                // It was the other one's secondary for a moment.
                self.releases.bereave(self.pair, secondary)?;
                let watch = Watch::start(self.lab, primary)?;
                sys::pause(step.outage);
                self.return_of_watched(primary, watch)
            }
            Way::SecondaryStop => {
                let watch = Watch::start(self.lab, secondary)?;
                self.pair.nodes[secondary].stop()?;
                self.releases.bereave(self.pair, primary)?;
                sys::pause(step.outage);
                self.return_of_watched(secondary, watch)
            }
            Way::Handover => self.hand_over(primary),
            Way::BulkSecondary => {
                let watch = self.kill_secondary(secondary)?;
                sys::pause(step.outage);
                self.pair.nodes[secondary].spawn(self.lab)?;
                sys::pause(step.between);
                self.kill_secondary(secondary)?;
                self.return_of_watched(secondary, watch)
            }
            Way::PeerCut => self.cut_for_a_while(primary, "eth-p", step.outage),
            Way::PeerCutKill => self.cut_and_kill(primary, step),
            Way::PortCut => self.cut_and_move(primary, step),
            Way::SecondaryPortCut => self.cut_for_a_while(secondary, port(step), step.outage),
            Way::Early => self.kill_early(primary, step),
            Way::Both => self.kill_both(primary, step),
        }
    }

    /// What waited for the secondary is let go when its death is noticed.
    fn fail_secondary(&mut self, secondary: usize, failure: Failure, time: Duration) -> Result<()> {
        let outage = self.pair.fail(self.lab, secondary, failure)?;
        self.releases.bereave(self.pair, 1 - secondary)?;
        sys::pause(time);
        self.pair.heal(self.lab, outage)
    }

    /// Kills the secondary; begins to watch its cables.
    fn kill_secondary(&mut self, secondary: usize) -> Result<Watch> {
        self.pair.nodes[secondary].fail(self.lab, Failure::Kill)?;
        let watch = Watch::start(self.lab, secondary)?;
        self.releases.bereave(self.pair, 1 - secondary)?;
        Ok(watch)
    }

    /// Starts a node whose end is a fact. It must not lead, nor speak before it has caught up.
    fn return_of(&mut self, node: usize) -> Result<()> {
        let watch = Watch::start(self.lab, node)?;
        self.return_of_watched(node, watch)
    }

    fn return_of_watched(&mut self, node: usize, watch: Watch) -> Result<()> {
        self.pair.nodes[node].spawn(self.lab)?;
        if self.releases.is_alone(1 - node) {
            self.wait_for_session(1 - node, SESSION_LIMIT)?.context("a node that came back is told everything anew")?;
        }
        self.pair.caught_up_in_silence(node, watch)
    }

    /// Waits until a node that was bereaved begins another mirror session.
    fn wait_for_session(&mut self, node: usize, limit: Duration) -> Result<Option<Session>> {
        let deadline = Instant::now() + limit;
        loop {
            sys::check_interrupt()?;
            self.pair.ensure_alive()?;
            self.releases.look(self.pair, node)?;
            if !self.releases.is_alone(node) {
                return Ok(self.pair.nodes[node].ha()?.session());
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            sys::pause(SESSION_POLL);
        }
    }

    fn hand_over(&mut self, primary: usize) -> Result<()> {
        self.pair.nodes[primary].cli(&["force", "ha", "failover", "-force"])?;
        sys::wait_until("the roles are swapped", ROLE_LIMIT, || Ok((self.pair.wait_whole()? != primary).then_some(())))
    }

    fn link(&self, node: usize, device: &str, state: &str) -> Result<()> {
        self.lab.nodes[node].ip_batch(&format!("link set {device} {state}\n"))
    }

    fn cut_for_a_while(&mut self, node: usize, device: &str, time: Duration) -> Result<()> {
        self.nothing_happens(|field| {
            field.link(node, device, "down")?;
            sys::pause(time);
            field.link(node, device, "up")
        })
    }

    /// Whatever `disturb` does must change no role, not even for a moment, and end no process.
    fn nothing_happens(&mut self, disturb: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let before = self.roles()?;
        disturb(self)?;
        let after = self.roles()?;
        ensure!(before == after, "no role may change, but {before:?} became {after:?}");
        Ok(())
    }

    /// The roles of a whole pair.
    fn roles(&mut self) -> Result<Roles> {
        let primary = self.pair.wait_whole()?;
        let term = self.pair.nodes[primary].ha()?.term;
        Ok(Roles { primary, term, processes: self.pair.nodes.each_ref().map(crate::node::Node::pid) })
    }

    /// A primary that lost a data port hands over by itself, and does not take the role back with the cable.
    fn cut_and_move(&mut self, primary: usize, step: &Step) -> Result<()> {
        self.link(primary, port(step), "down")?;
        sys::wait_until("the role has moved", ROLE_LIMIT, || {
            Ok(self.pair.nodes[1 - primary].ha()?.is_primary().then_some(()))
        })?;
        sys::pause(step.outage);
        self.link(primary, port(step), "up")?;
        ensure!(self.pair.wait_whole()? != primary, "the role went back by itself");
        Ok(())
    }

    /// While the peer link is dead the mirror travels over the data ports: the secondary holds everything.
    fn cut_and_kill(&mut self, primary: usize, step: &Step) -> Result<()> {
        self.link(primary, "eth-p", "down")?;
        sys::pause(step.between);
        self.releases.look(self.pair, primary)?;
        let outage = self.pair.fail(self.lab, primary, Failure::Kill)?;
        sys::pause(step.outage);
        if step.coin {
            self.link(primary, "eth-p", "up")?;
        }
        self.pair.heal(self.lab, outage)?;
        if !step.coin {
            self.link(primary, "eth-p", "up")?;
        }
        ensure!(self.pair.wait_whole()? != primary, "the role went back by itself");
        Ok(())
    }

    /// Whether the new secondary had caught up decides whether a loss is excused: looked at just before the kill. What
    /// began after the mirror session did was held until the secondary had it, and is not excused.
    fn kill_early(&mut self, primary: usize, step: &Step) -> Result<()> {
        let secondary = 1 - primary;
        let watch = self.kill_secondary(secondary)?;
        sys::pause(step.outage);
        self.pair.nodes[secondary].spawn(self.lab)?;
        let spawned = Instant::now();
        if self.wait_for_session(primary, step.between)?.is_some() {
            self.crowd.spare_what_begins()?;
        }
        sys::pause(step.between.saturating_sub(spawned.elapsed()));
        let whole = match (self.pair.nodes[secondary].ha(), self.pair.nodes[primary].ha()) {
            (Ok(secondary), Ok(primary)) => {
                secondary.is_secondary() && secondary.caught_up && primary.is_primary() && primary.peer_caught_up
            }
            _ => false,
        };
        self.pair.ensure_silent(secondary, watch)?;
        self.crowd.spare_no_more()?;
        self.pair.nodes[primary].fail(self.lab, Failure::Kill)?;
        // At once: on a busy machine the successor may lead before the watch has begun.
        if whole {
            self.crowd.spare_no_more()?;
        } else {
            self.crowd.excuse()?;
        }
        let watch = Watch::start(self.lab, primary)?;
        sys::wait_until("the node that was left leads", ROLE_LIMIT, || {
            self.pair.nodes[secondary].ensure_alive()?;
            Ok(self.pair.nodes[secondary].ha().is_ok_and(|view| view.is_primary()).then_some(()))
        })?;
        self.return_of_watched(primary, watch)?;
        if whole { Ok(()) } else { self.excuse_until_healthy() }
    }

    /// A node that began without its peer's state does not know its servers' health either. What it opens while it knows
    /// only some of them may be on a server that a hash would not choose again.
    fn excuse_until_healthy(&mut self) -> Result<()> {
        self.pair.wait_healthy()?;
        self.crowd.excuse_since_the_last()
    }

    /// Of two nodes that come back any may lead; neither speaks before, and the other one not at all.
    fn kill_both(&mut self, primary: usize, step: &Step) -> Result<()> {
        self.pair.nodes[primary].fail(self.lab, Failure::Kill)?;
        let own = Watch::start(self.lab, primary)?;
        sys::pause(step.between);
        self.pair.nodes[1 - primary].fail(self.lab, Failure::Kill)?;
        let other = Watch::start(self.lab, 1 - primary)?;
        self.crowd.spare_no_more()?;
        self.crowd.excuse()?;
        sys::pause(step.outage);
        self.pair.ensure_silent(primary, own)?;
        self.pair.ensure_silent(1 - primary, other)?;
        let first = if step.coin { primary } else { 1 - primary };
        let mut watches = [Some(Watch::start(self.lab, 0)?), Some(Watch::start(self.lab, 1)?)];
        self.pair.nodes[first].start(self.lab)?;
        self.pair.nodes[1 - first].start(self.lab)?;
        let follower = 1 - self.pair.wait_whole()?;
        let watch = watches[follower].take().context("both are watched")?;
        self.pair.ensure_silent(follower, watch)?;
        self.excuse_until_healthy()
    }
}

/// The data port of a step that concerns one.
fn port(step: &Step) -> &'static str {
    if step.coin { "eth-c" } else { "eth-s" }
}
