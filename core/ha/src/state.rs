//! The roles and every change between them. Drawn in `docs/ha.md`.

use crate::machine::Ending;
use crate::{Cause, Effect, Event, HaStatus, Hello, HelloKind, LostCause, Machine, NodeHealth, Refusal, Role};
use core::cmp::Reverse;
use holdfast_base::{Duration, Instant};

/// A switchover that nobody took up within this time is called off.
const SWITCHOVER_LIMIT: Duration = Duration::from_secs(1);
/// A status that asks for a switchover asks again no sooner than this.
const HAND_OVER_PAUSE: Duration = Duration::from_secs(10);

/// The role, with what exists in that role only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Init,
    Secondary,
    Primary {
        /// Two primaries met and we are to win with a higher term.
        outbid: Option<Outbid>,
    },
    Draining {
        /// When the switchover is called off.
        until: Instant,
    },
}

/// The term to outbid, and when we give up and yield instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outbid {
    over: u64,
    until: Instant,
}

impl State {
    pub(crate) fn role(&self) -> Role {
        match self {
            State::Init => Role::Init,
            State::Secondary => Role::Secondary,
            State::Primary { .. } => Role::Primary,
            State::Draining { .. } => Role::Draining,
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            State::Init | State::Secondary | State::Primary { outbid: None } => None,
            State::Primary { outbid: Some(outbid) } => Some(outbid.until),
            State::Draining { until } => Some(*until),
        }
    }
}

/// What decides between two nodes that are alive and not primary; the greater
/// one promotes. Both compute it from the same facts, and never equal.
pub(crate) type Standing = (bool, bool, bool, Reverse<NodeHealth>, bool, bool, u64, Reverse<u128>);

impl Machine {
    /// The peer said what it is: who must give way? `parted`: this is the first
    /// that we hear of it after it was lost.
    pub(crate) fn hear_role(&mut self, now: Instant, term: u64, hello: &Hello, parted: bool) {
        match (self.role(), hello.role) {
            (Role::Init | Role::Secondary, Role::Primary | Role::Draining) => {
                if hello.role == Role::Primary {
                    self.witness.drop_licence();
                }
                self.follow(now, term, hello.boot, Cause::PeerIsPrimary);
            }
            (Role::Init | Role::Secondary, Role::Init | Role::Secondary) => {}
            (Role::Primary | Role::Draining, Role::Init | Role::Secondary) => {
                // With a witness it is not silence that decides.
                if self.is_given_up(hello) && !self.is_witnessed() {
                    self.become_secondary(now, Cause::Unheard);
                }
            }
            (Role::Primary | Role::Draining, Role::Primary | Role::Draining) => {
                self.meet_primary(now, term, hello, parted);
            }
        }
    }

    /// Becomes (or stays) the secondary of this primary. What we hold is not a
    /// new primary's state, and the first hello in the role says so already.
    fn follow(&mut self, now: Instant, term: u64, boot: u64, cause: Cause) {
        self.term = term;
        self.witness.note_term(term);
        self.restarted = false;
        let unknown = self.following != Some((boot, term));
        if unknown {
            self.following = Some((boot, term));
            self.current = false;
        }
        if self.role() != Role::Secondary {
            self.become_secondary(now, cause);
        }
        if unknown {
            self.effects.push_back(Effect::Follow { boot, term });
        }
    }

    /// Two primaries. The lower one decides, so that both come to one answer:
    /// it yields, or, if both had lost each other and it served clients more
    /// recently, takes a term above the other's, which then yields without
    /// comparing again.
    fn meet_primary(&mut self, now: Instant, term: u64, hello: &Hello, parted: bool) {
        // A draining node is waiting for the other to be primary.
        let second = self.role() == Role::Primary && hello.role == Role::Primary;
        if second && self.dual != Some((hello.boot, term)) {
            self.dual = Some((hello.boot, term));
            self.counts.dual_primary += 1;
            self.event(Event::DualPrimary { peer_term: term });
        }
        // Where nodes have just met, both have been silent to each other.
        let settled = now >= self.met + self.settings.hello + self.round_trip * 2;
        if second && settled && self.goes_unheard(hello) && !self.is_witnessed() {
            // Only who hears can give way.
            self.yield_to_peer(now, Cause::Unheard);
            return;
        }
        let peer = self.settings.peer.map_or(0, |node| node.0);
        if (self.term, self.settings.node.0) > (term, peer) {
            if hello.role == Role::Draining && self.is_given_up(hello) {
                // It stood back for us, never heard that we lead, and is about
                // to take its role back.
                self.yield_to_peer(now, Cause::Unheard);
            } else {
                self.send_hello(now);
            }
            return;
        }
        let slack = self.settings.hello.as_millis() as u64;
        // With a witness the higher term is the pair's, whoever served whom.
        let fresher =
            parted && !self.is_witnessed() && self.client_ago(now).saturating_add(slack) < hello.last_client_packet_ago;
        match self.state {
            State::Primary { outbid: Some(outbid) } if outbid.over == term => {}
            State::Primary { .. } if fresher && hello.decided_over < self.term => {
                let until = now + self.settings.dead();
                self.state = State::Primary { outbid: Some(Outbid { over: term, until }) };
            }
            State::Primary { .. } => self.yield_to_peer(now, Cause::Healed),
            State::Draining { .. } => self.yield_to_peer(now, Cause::PeerIsPrimary),
            State::Init | State::Secondary => {}
        }
    }

    fn yield_to_peer(&mut self, now: Instant, cause: Cause) {
        let Some(heard) = self.peer.heard else { return };
        self.follow(now, heard.term, heard.hello.boot, cause);
    }

    /// What is due in the present state.
    pub(crate) fn check_state(&mut self, now: Instant) {
        match self.state {
            State::Init | State::Primary { outbid: None } => {}
            State::Secondary => {
                if self.ending == Ending::Stopping {
                    self.depart(now);
                }
            }
            State::Primary { outbid: Some(outbid) } => self.check_outbid(now, outbid),
            State::Draining { until } => self.check_drain(now, until),
        }
    }

    fn check_outbid(&mut self, now: Instant, outbid: Outbid) {
        let faces_primary = match self.peer.role() {
            Some(Role::Primary | Role::Draining) => true,
            Some(Role::Init | Role::Secondary) | None => false,
        };
        if !faces_primary {
            self.state = State::Primary { outbid: None };
        } else if let Some(term) = self.terms.reserved() {
            self.decided_over = outbid.over;
            self.lead(now, term, Cause::Healed);
        } else if now >= outbid.until {
            self.yield_to_peer(now, Cause::Healed);
        }
    }

    /// Ends a switchover that nobody took up. A promise given is kept first.
    fn check_drain(&mut self, now: Instant, until: Instant) {
        if now < self.promised_until || now < until && self.peer_could_lead() {
            return;
        }
        if self.ending == Ending::Stopping {
            self.depart(now);
            return;
        }
        self.state = State::Primary { outbid: None };
        self.flipping = false;
        self.announce_role(now, Cause::SwitchoverFailed);
    }

    /// Promotes, asks or waits, as the facts are now.
    pub(crate) fn decide(&mut self, now: Instant) {
        match self.state {
            State::Primary { outbid: None } => {
                if self.is_deaf() && self.peer.alive().is_none() && self.would_lead(now) {
                    // It serves nobody; the other one may.
                    self.become_secondary(now, Cause::Deaf);
                    return;
                }
                self.consider_hand_over(now);
                if self.state == (State::Primary { outbid: None }) {
                    self.consider_health(now);
                }
            }
            State::Primary { outbid: Some(_) } | State::Draining { .. } => {}
            State::Init | State::Secondary => self.consider_promotion(now),
        }
    }

    fn consider_promotion(&mut self, now: Instant) {
        if self.ending != Ending::No {
            return;
        }
        if self.settings.peer.is_none() {
            match self.settings.status {
                HaStatus::Enabled | HaStatus::StayPrimary | HaStatus::Disabled => self.promote(now, Cause::Standalone),
                HaStatus::StaySecondary if self.role() == Role::Init => self.become_secondary(now, Cause::NotReady),
                HaStatus::StaySecondary => {}
            }
            return;
        }
        if !self.is_ready(now) {
            if self.role() == Role::Init && now.since(self.since) >= self.settings.start_up() {
                self.become_secondary(now, Cause::NotReady);
            }
            if self.role() == Role::Secondary && !self.is_fit() && self.peer.alive().is_none() {
                self.tell_nobody_serves();
            }
            return;
        }
        match self.peer.role() {
            Some(Role::Primary) => {}
            Some(Role::Draining) => {
                if self.current {
                    self.ask(now);
                }
            }
            Some(Role::Init | Role::Secondary) => {
                if self.outranks_peer(now) {
                    self.ask(now);
                }
            }
            None => self.consider_silence(now),
        }
    }

    /// Nobody is heard: promote when the silence is long enough for what we
    /// know.
    fn consider_silence(&mut self, now: Instant) {
        let quiet = now.since(self.peer.quiet_since);
        let patience = self.peer.patience(self.settings.dead());
        let proof = match self.peer.lost {
            // Where every path may be cut, a close that may be forged proves nothing.
            Some(LostCause::ProcessDeath) if self.is_witnessed() => None,
            Some(LostCause::ProcessDeath) => Some(Cause::PeerDied),
            Some(LostCause::Goodbye) => Some(Cause::PeerLeft),
            Some(LostCause::Silence | LostCause::Restarted | LostCause::Removed) | None => None,
        };
        if let (true, Some(cause)) = (self.current, proof) {
            self.promote(now, cause);
        } else if self.current && quiet >= patience {
            self.promote(now, Cause::Silence);
        } else if quiet >= self.settings.start_up().max(patience) {
            match self.peer.heard {
                None if now < self.unproven_until => {}
                None => self.promote(now, Cause::Alone),
                Some(_) => self.promote(now, Cause::Silence),
            }
        }
    }

    /// When the silence is long enough for the next consequence, and before
    /// that, when to ask.
    pub(crate) fn silence_deadlines(&self) -> (Instant, Instant) {
        let patience = self.peer.patience(self.settings.dead());
        let limit = if self.peer.joined || self.current { patience } else { patience.max(self.settings.start_up()) };
        let since = self.peer.quiet_since;
        (since + limit.saturating_sub(self.settings.hello / 2), since + limit)
    }

    /// Becomes primary, unless a promise, a freeze or the disk forbids it; then
    /// the facts are weighed again when that has passed.
    pub(crate) fn promote(&mut self, now: Instant, cause: Cause) {
        let standalone = self.settings.peer.is_none();
        if !standalone && (now < self.listen_until || now < self.promised_until) {
            return;
        }
        let term = if standalone {
            Some(self.terms.next())
        } else if self.is_witnessed() {
            self.licensed_term(now)
        } else {
            self.terms.reserved()
        };
        let Some(term) = term else { return };
        let complete = self.current || standalone;
        self.decided_over = 0;
        self.dual = None;
        self.lead(now, term, cause);
        if cause == Cause::Alone {
            self.event(Event::PromotedAlone);
        } else if !complete && self.following.is_some() {
            self.event(Event::PromotedNotCaughtUp);
        }
        self.following = None;
        self.current = true;
    }

    /// Takes `term` as primary.
    pub(crate) fn lead(&mut self, now: Instant, term: u64, cause: Cause) {
        assert!(term > self.term, "terms grow with every promotion");
        self.terms.note(term);
        self.term = term;
        self.state = State::Primary { outbid: None };
        let won = self.is_witnessed();
        self.witness.begin_lead(term, self.peer.joined, won);
        self.inquiry = None;
        self.restarted = false;
        self.counts.promotions += 1;
        self.current = true;
        self.note_takeover(now, cause);
        self.announce_role(now, cause);
    }

    /// Closes the gate.
    pub(crate) fn become_secondary(&mut self, now: Instant, cause: Cause) {
        self.note_giving_way(now);
        self.state = State::Secondary;
        self.witness.end_lead();
        self.inquiry = None;
        self.decided_over = 0;
        self.dual = None;
        self.announce_role(now, cause);
    }

    /// The role changed (or its term): says so here and to the peer. A hello
    /// not yet polled would travel under the new term: it is dropped.
    fn announce_role(&mut self, now: Instant, cause: Cause) {
        self.effects.retain(|effect| !effect.is_send());
        self.since = now;
        self.effects.push_back(Effect::Role { role: self.role(), term: self.term, cause });
        self.send_hello(now);
    }

    /// We were not run for so long that the peer may be primary, or nobody has
    /// answered us for so long: listen first.
    pub(crate) fn thaw(&mut self, now: Instant, gap: Duration, cause: Cause) {
        if cause == Cause::Frozen {
            self.counts.frozen += 1;
            self.event(Event::Frozen { millis: gap.as_millis() as u64 });
        }
        self.listen_until = now + self.settings.dead();
        self.peer.quiet_since = self.peer.quiet_since.max(now);
        match self.role() {
            Role::Init | Role::Secondary => {}
            Role::Primary | Role::Draining => self.become_secondary(now, cause),
        }
    }

    pub(crate) fn standing(&self, now: Instant) -> Standing {
        (
            self.is_ready(now),
            self.settings.status == HaStatus::StayPrimary && self.health == NodeHealth::Up,
            self.current,
            Reverse(self.health),
            now >= self.listen_until,
            self.role() == Role::Secondary,
            self.term,
            Reverse(self.settings.node.0),
        )
    }

    pub(crate) fn outranks_peer(&self, now: Instant) -> bool {
        let Some(heard) = self.peer.alive() else { return false };
        let hello = &heard.hello;
        let theirs: Standing = (
            hello.ready,
            hello.status == HaStatus::StayPrimary && hello.health == NodeHealth::Up,
            hello.caught_up,
            Reverse(hello.health),
            !hello.listening,
            hello.role == Role::Secondary,
            heard.term,
            Reverse(self.settings.peer.map_or(0, |node| node.0)),
        );
        self.standing(now) > theirs
    }

    /// As primary: does a status want the other node to lead?
    fn consider_hand_over(&mut self, now: Instant) {
        let Some(heard) = self.peer.alive() else { return };
        let mine = self.settings.status;
        let theirs = heard.hello.status == HaStatus::StayPrimary && heard.hello.health == NodeHealth::Up;
        let wanted = mine == HaStatus::StaySecondary || theirs && mine == HaStatus::Enabled;
        if wanted && now >= self.hand_over_after && self.peer_could_lead() {
            self.drain(now, Cause::Forced);
        }
    }

    pub(crate) fn peer_could_lead(&self) -> bool {
        self.peer.alive().is_some_and(|heard| heard.hello.ready && self.is_current(&heard.hello))
    }

    /// As primary: whether the peer holds what we have. One that we had lost says so of what it held before, until it has
    /// caught up with another session.
    pub(crate) fn is_current(&self, hello: &Hello) -> bool {
        hello.caught_up && self.stale != Some((hello.boot, hello.synced_session))
    }

    pub(crate) fn drain(&mut self, now: Instant, cause: Cause) {
        self.flipping = cause == Cause::Unhealthy;
        if self.flipping {
            self.unhealthy_after = now + HAND_OVER_PAUSE;
        } else {
            self.hand_over_after = now + HAND_OVER_PAUSE;
        }
        self.state = State::Draining { until: now + SWITCHOVER_LIMIT };
        self.announce_role(now, cause);
    }

    pub(crate) fn force_failover(&mut self, now: Instant) -> Result<(), Refusal> {
        self.may_force_failover()?;
        self.drain(now, Cause::Forced);
        Ok(())
    }

    /// Whether `force HA failover` would start a switchover, or why not.
    pub fn may_force_failover(&self) -> Result<(), Refusal> {
        if self.settings.peer.is_none() {
            return Err(Refusal::Standalone);
        }
        if self.settings.status == HaStatus::StayPrimary {
            return Err(Refusal::StayPrimary);
        }
        match self.role() {
            Role::Init | Role::Secondary => return Err(Refusal::OwnState),
            Role::Draining => return Err(Refusal::NotNow),
            Role::Primary => {}
        }
        let Some(heard) = self.peer.alive() else {
            let known = self.peer.heard.is_some();
            return Err(if known { Refusal::PeerDown } else { Refusal::PeerState });
        };
        match heard.hello.status {
            HaStatus::StaySecondary | HaStatus::Disabled => return Err(Refusal::PeerState),
            HaStatus::Enabled | HaStatus::StayPrimary => {}
        }
        if !heard.hello.ready && heard.hello.health.forbids_to_lead() {
            return Err(Refusal::PeerState);
        }
        if !self.peer_could_lead() || heard.hello.role != Role::Secondary {
            return Err(Refusal::NotNow);
        }
        Ok(())
    }

    pub(crate) fn stop(&mut self, now: Instant) {
        if self.ending != Ending::No {
            return;
        }
        let leads = match self.role() {
            Role::Init | Role::Secondary => false,
            Role::Primary => self.peer_could_lead(),
            Role::Draining => true,
        };
        if !leads {
            self.depart(now);
            return;
        }
        self.ending = Ending::Stopping;
        if self.role() == Role::Primary {
            self.drain(now, Cause::Stopping);
        }
    }

    /// Closes the gate for good, and says so.
    fn depart(&mut self, now: Instant) {
        match self.role() {
            Role::Init | Role::Secondary => {}
            Role::Primary | Role::Draining => self.become_secondary(now, Cause::Stopping),
        }
        self.send(now, HelloKind::Goodbye, 0);
        self.ending = Ending::Gone;
        self.event(Event::Stopped);
    }
}
