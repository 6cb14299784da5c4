//! Questions to the peer: is it dead, may we lead? And our answers.

use crate::machine::millis;
use crate::peer::{Candidate, Inquiry, Reunion};
use crate::{Cause, Event, Hello, HelloKind, LostCause, Machine, Role};
use holdfast_base::{Duration, Instant};

/// So many times longer a primary waits for an answer before it declares the peer dead.
const PRIMARY_PATIENCE: u32 = 10;
/// So many round trips without an answer are silence: one of them is that of the first probe, and nodes are busy.
const ROUND_TRIPS: u32 = 3;
/// Time between two probes while their silence is a proof.
const PROBE_INTERVAL: Duration = Duration::from_micros(500);

impl Machine {
    /// The idle connection has come to its end, as when its process dies: ask on every path, at once, and a short silence
    /// is a proof. A secondary that waits too long prolongs an outage. A primary that does not wait long enough lets go
    /// of what it holds for a peer that was only busy.
    pub(crate) fn suspect(&mut self, now: Instant) {
        if self.is_witnessed() {
            // An end may be forged, and no path may work: nothing is proven by it.
            return self.inquire(now);
        }
        let answers_take = self.round_trip * ROUND_TRIPS;
        if answers_take > self.settings.dead() / 2 {
            // Hellos that do not come say it as soon.
            return self.inquire(now);
        }
        let proves = self.inquiry.is_some_and(|inquiry| inquiry.verdict.is_some());
        if self.peer.joined && !proves {
            let silence = match self.role() {
                Role::Init | Role::Secondary | Role::Draining => self.settings.probe_silence,
                Role::Primary => self.settings.probe_silence * PRIMARY_PATIENCE,
            };
            self.start_inquiry(now, Some(now + silence.max(answers_take)));
        }
        self.expect_answer();
    }

    /// The idle connection is gone, which proves nothing: ask whether the peer lives.
    pub(crate) fn inquire(&mut self, now: Instant) {
        if self.peer.joined && self.inquiry.is_none() {
            self.start_inquiry(now, None);
        }
        self.expect_answer();
    }

    fn expect_answer(&mut self) {
        self.inquiry = self.inquiry.map(|inquiry| Inquiry { alarm: true, ..inquiry });
    }

    /// Asks a peer that is not primary to stand back for us. If it has just
    /// restarted, its former process is dead and the present one is still
    /// listening, so that no answer is as good as one.
    pub(crate) fn ask(&mut self, now: Instant) {
        if self.inquiry.is_some()
            || now < self.ask_after
            || now < self.listen_until
            || now < self.promised_until
            || self.terms.reserved().is_none()
        {
            return;
        }
        let proves = self.is_peer_restarted() && self.current && !self.is_witnessed();
        let verdict = proves.then_some(now + self.settings.probe_silence);
        self.start_inquiry(now, verdict);
    }

    /// Whether the peer has restarted and its present process still listens.
    fn is_peer_restarted(&self) -> bool {
        self.restarted && self.peer.role() == Some(Role::Init)
    }

    fn start_inquiry(&mut self, now: Instant, verdict: Option<Instant>) {
        self.nonce = self.nonce.wrapping_add(1);
        let (nonce, next_probe) = (self.nonce, now + PROBE_INTERVAL);
        self.inquiry = Some(Inquiry { nonce, started: now, next_probe, verdict, alarm: false, excuses: 0 });
        self.send(now, HelloKind::Probe { nonce: self.nonce }, 0);
    }

    /// A boot that we do not know speaks: does it live?
    pub(crate) fn demand_proof(&mut self, now: Instant, hello: &Hello) {
        let (boot, seq) = (hello.boot, hello.seq);
        let known = self.peer.candidate.filter(|candidate| candidate.boot == boot);
        if let Some(candidate) = known.filter(|candidate| now.since(candidate.asked) < self.probe_pause()) {
            // Many letters may come at once.
            self.peer.candidate = Some(Candidate { seq, ..candidate });
        } else {
            let fresh = self.nonce.wrapping_add(1);
            let nonce = known.map_or(fresh, |candidate| candidate.nonce);
            self.nonce = if known.is_some() { self.nonce } else { fresh };
            self.peer.candidate = Some(Candidate { boot, seq, nonce, asked: now });
            self.send(now, HelloKind::Probe { nonce }, 0);
        }
        if let HelloKind::Probe { nonce } = hello.kind {
            // It may be asking the same of us; a promise waits until it is known.
            self.send(now, HelloKind::ProbeReply { nonce }, 0);
        }
    }

    /// We lead, and the peer that we had lost speaks again: asks what it is now.
    pub(crate) fn begin_reunion(&mut self, now: Instant) {
        match self.role() {
            Role::Primary | Role::Draining => {
                self.nonce = self.nonce.wrapping_add(1);
                let (nonce, hello) = (self.nonce, self.settings.hello);
                self.reunion = Some(Reunion { nonce, next_probe: now + PROBE_INTERVAL, until: now + hello });
                self.client_seen_apart = Some((self.client_seen, now + hello * 2));
                self.send(now, HelloKind::Probe { nonce }, 0);
            }
            // Who leads nobody has nothing to give up.
            Role::Init | Role::Secondary => {}
        }
    }

    /// The next question, or, when nobody has answered, the judgement: we hear the peer, but it may not hear us.
    pub(crate) fn check_reunion(&mut self, now: Instant) {
        let Some(reunion) = self.reunion else { return };
        if now >= reunion.until {
            self.end_reunion(now);
        } else if now >= reunion.next_probe {
            self.reunion = Some(Reunion { next_probe: now + self.probe_pause(), ..reunion });
            self.send(now, HelloKind::Probe { nonce: reunion.nonce }, 0);
        }
    }

    /// Judges by the last hello.
    pub(crate) fn end_reunion(&mut self, now: Instant) {
        self.reunion = None;
        if let Some(heard) = self.peer.alive().copied() {
            self.hear_role(now, heard.term, &heard.hello, true);
        }
    }

    /// The next probe, or the verdict.
    pub(crate) fn check_inquiry(&mut self, now: Instant) {
        let Some(inquiry) = self.inquiry else { return };
        if inquiry.verdict.is_some_and(|verdict| now >= verdict) {
            self.lose(LostCause::ProcessDeath);
            return;
        }
        let age = now.since(inquiry.started);
        if inquiry.verdict.is_none() && age >= self.settings.dead() / 2 {
            self.inquiry = None;
            return;
        }
        if now >= inquiry.next_probe {
            let hurry = inquiry.verdict.is_some() || age < self.settings.probe_silence;
            let pause = if hurry { PROBE_INTERVAL } else { self.probe_pause() };
            self.inquiry = Some(Inquiry { next_probe: now + pause, ..inquiry });
            self.send(now, HelloKind::Probe { nonce: inquiry.nonce }, 0);
        }
    }

    /// Time between two probes that prove nothing by themselves.
    fn probe_pause(&self) -> Duration {
        (self.settings.hello / 20).max(PROBE_INTERVAL)
    }

    /// Near the end of our patience with a silent peer, asks; at its end,
    /// declares it gone. Before a promotion by silence it asks too: a primary
    /// that hears us, but whom we do not hear, then gives up in time.
    pub(crate) fn check_silence(&mut self, now: Instant) {
        let (ask, act) = self.silence_deadlines();
        if self.peer.joined && now >= act {
            self.lose(LostCause::Silence);
            return;
        }
        let claims = match self.role() {
            Role::Init | Role::Secondary => self.is_ready(now),
            Role::Primary | Role::Draining => false,
        };
        // Who waits for the witness may wait long; it goes on with hellos.
        let waits = self.is_witnessed() && now >= act;
        if now >= ask && !waits && self.inquiry.is_none() && (self.peer.joined || claims) {
            self.start_inquiry(now, None);
        }
    }

    /// Answers a probe; a promise in it keeps us from promoting for one dead
    /// interval from now. A draining node whose peer has not stored everything
    /// keeps silent: it is asked again within half a millisecond.
    pub(crate) fn answer(&mut self, now: Instant, nonce: u32, hello: &Hello) {
        let follower = match hello.role {
            Role::Init | Role::Secondary => true,
            Role::Primary | Role::Draining => false,
        };
        let able = follower && hello.ready;
        let grants = match self.role() {
            Role::Primary => false,
            Role::Init | Role::Secondary => able && !self.outranks_peer(now),
            Role::Draining if self.is_overdue(now) => false,
            Role::Draining if able && self.is_current(hello) && !self.drained => return,
            Role::Draining => able && self.is_current(hello),
        };
        let mut promise_ms = 0;
        if grants {
            self.promised_until = now + self.settings.dead();
            self.inquiry = None;
            promise_ms = millis(self.settings.dead());
        }
        self.send(now, HelloKind::ProbeReply { nonce }, promise_ms);
    }

    /// A switchover that the witness did not let happen in time is called off: no
    /// further promise prolongs it.
    fn is_overdue(&self, now: Instant) -> bool {
        self.is_witnessed() && self.state.deadline().is_some_and(|until| now >= until)
    }

    /// As primary: whether the peer has heard nothing of what we said for so
    /// long that it is about to promote. It sent many probes before this one.
    pub(crate) fn is_given_up(&self, hello: &Hello) -> bool {
        // A draining node takes its role back, whether it is ready or not.
        (hello.ready || hello.role == Role::Draining) && self.goes_unheard(hello)
    }

    /// Whether the peer has heard nothing of us for almost as long as it bears.
    pub(crate) fn goes_unheard(&self, hello: &Hello) -> bool {
        let patience = self.peer.patience(self.settings.dead());
        let limit = if hello.caught_up { patience } else { patience.max(self.settings.start_up()) };
        let limit = limit.saturating_sub(self.settings.hello / 4);
        hello.silence_ms >= millis(limit)
    }

    /// The peer answered our probe.
    pub(crate) fn hear_reply(&mut self, now: Instant, nonce: u32, hello: &Hello) {
        let Some(inquiry) = self.inquiry.filter(|inquiry| inquiry.nonce == nonce) else { return };
        self.inquiry = None;
        self.ask_after = now + self.settings.hello / 2;
        let cause = match (self.role(), hello.role) {
            (Role::Primary | Role::Draining, _) | (Role::Init | Role::Secondary, Role::Primary) => {
                if inquiry.alarm {
                    self.event(Event::FalseAlarm);
                }
                return;
            }
            (Role::Init | Role::Secondary, Role::Draining) => Cause::Switchover,
            (Role::Init | Role::Secondary, Role::Init) if self.restarted => Cause::PeerDied,
            (Role::Init | Role::Secondary, Role::Init | Role::Secondary) => Cause::Elected,
        };
        let usable = hello.promise().saturating_sub(self.settings.lease_margin * 2);
        let entitled = cause != Cause::Switchover || self.current;
        if now < inquiry.started + usable && entitled && self.is_ready(now) {
            self.promote(now, cause);
        }
    }
}
