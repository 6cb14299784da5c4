//! How well a node can serve, and what a primary does when it cannot well.

use crate::machine::Ending;
use crate::{Cause, Event, HaStatus, Machine, Role, Settings};
use holdfast_base::{Duration, Instant};

/// Two nodes that both fail a route monitor change places this often: one of
/// them may reach more than its own monitors tell.
const FLIP_EVERY: Duration = Duration::from_secs(180);

/// How well a node can serve; the driver finds out. The greater, the worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeHealth {
    /// All that is monitored works.
    #[default]
    Up,
    /// A monitored route does not work.
    RouteMonitorFail,
    /// A monitored interface, or every one of a failover set, does not work.
    PartialFail,
    /// No interface works.
    CompleteFail,
}

impl NodeHealth {
    /// Whether a node in this state leads only with `failSafe`. A route that
    /// fails at both nodes takes nobody's clients away.
    pub(crate) fn forbids_to_lead(self) -> bool {
        match self {
            NodeHealth::Up | NodeHealth::RouteMonitorFail => false,
            NodeHealth::PartialFail | NodeHealth::CompleteFail => true,
        }
    }
}

/// Changes of role for health's sake, counted in an interval.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flips {
    count: u32,
    began: Option<Instant>,
}

impl Flips {
    fn note(&mut self, now: Instant, settings: &Settings) {
        *self = self.at(now, settings);
        self.count = self.count.saturating_add(1);
        self.began.get_or_insert(now);
    }

    /// As they count now: an interval that is over counts no more.
    fn at(self, now: Instant, settings: &Settings) -> Flips {
        let over = self.began.is_some_and(|began| now.since(began) >= settings.max_flip_time);
        if over { Flips::default() } else { self }
    }

    /// How many, and how much of the interval is over.
    pub(crate) fn told(self, now: Instant, settings: &Settings) -> (u32, Option<Duration>) {
        let Flips { count, began } = self.at(now, settings);
        (count, began.map(|began| now.since(began)))
    }

    /// Whether there were as many as are allowed.
    pub(crate) fn exhausted(self, now: Instant, settings: &Settings) -> bool {
        settings.max_flips > 0 && self.at(now, settings).count >= settings.max_flips
    }
}

impl Machine {
    /// How well this node can serve; to be told at every change.
    pub fn handle_health(&mut self, now: Instant, health: NodeHealth) {
        self.enter(now);
        if self.health != health {
            let better = health < self.health;
            self.health = health;
            self.unhealthy_after = now;
            let follows = match self.role() {
                Role::Init | Role::Secondary => true,
                Role::Primary | Role::Draining => false,
            };
            if better && follows && self.peer.alive().is_none() {
                // Its interfaces were dark: who leads meanwhile could not be heard.
                self.listen_until = self.listen_until.max(now + self.settings.dead());
            }
            self.send_hello(now);
        }
        self.settle(now);
    }

    /// Whether health lets this node lead.
    pub(crate) fn is_fit(&self) -> bool {
        self.settings.fail_safe || !self.health.forbids_to_lead()
    }

    /// As primary: does our health want the other node to lead, or nobody?
    pub(crate) fn consider_health(&mut self, now: Instant) {
        let takes_part = self.settings.status != HaStatus::Disabled && self.ending == Ending::No;
        if self.health == NodeHealth::Up || !takes_part || self.flips.exhausted(now, &self.settings) {
            return;
        }
        let Some(heard) = self.peer.alive() else {
            // Nobody is worse off, and when the cables are back the other node, if it leads, is heard first.
            if self.health == NodeHealth::CompleteFail && !self.is_fit() && self.settings.peer.is_some() {
                self.stand_down(now);
            }
            return;
        };
        let (theirs, status) = (heard.hello.health, heard.hello.status);
        let excluded = match status {
            HaStatus::Enabled | HaStatus::StayPrimary => theirs.forbids_to_lead(),
            HaStatus::StaySecondary | HaStatus::Disabled => true,
        };
        // It may change its mind; until then nothing of what it has may be missing there.
        let helpless = excluded && !heard.hello.ready && self.is_current(&heard.hello);
        let turn = theirs == self.health && now.since(self.since) >= FLIP_EVERY;
        let better = theirs < self.health || !self.is_fit() || turn;
        if better && self.peer_could_lead() && now >= self.unhealthy_after {
            self.drain(now, Cause::Unhealthy);
        } else if helpless && !self.is_fit() {
            self.stand_down(now);
        }
    }

    /// Closes the gate: this node may not lead as it is, and nobody else can.
    fn stand_down(&mut self, now: Instant) {
        self.flipping = true;
        self.become_secondary(now, Cause::Unhealthy);
        self.tell_nobody_serves();
    }

    /// Once until something changes.
    pub(crate) fn tell_nobody_serves(&mut self) {
        if !self.nobody_told {
            self.nobody_told = true;
            self.event(Event::NobodyServes);
        }
    }

    /// This node has taken over: from a peer that was not healthy?
    pub(crate) fn note_takeover(&mut self, now: Instant, cause: Cause) {
        let asked = cause == Cause::Switchover || cause == Cause::Elected;
        let ailing = self.peer.alive().is_some_and(|heard| heard.hello.health != NodeHealth::Up);
        if asked && ailing {
            self.flips.note(now, &self.settings);
        }
        self.flipping = false;
        self.nobody_told = false;
        // Who is given the role as it is keeps it for a while, unless something changes: an operator may have meant it.
        let kept = cause == Cause::Switchover && self.health != NodeHealth::Up;
        self.unhealthy_after = if kept { now + FLIP_EVERY } else { now };
    }

    /// This node has given its role away: for health's sake?
    pub(crate) fn note_giving_way(&mut self, now: Instant) {
        if core::mem::take(&mut self.flipping) {
            self.flips.note(now, &self.settings);
        }
    }
}
