//! The doors of the machine, and what every input does before and after.

use crate::health::Flips;
use crate::peer::{Admission, Inquiry, Peer, Reunion};
use crate::state::State;
use crate::witness::Witness;
use crate::{
    Cause, Effect, Event, HaStatus, Hello, HelloKind, LostCause, NodeHealth, NodeId, PathId, PeerView, Refusal, Role,
    Settings, StatusView, Terms,
};
use holdfast_base::{Duration, Instant};
use std::collections::VecDeque;

/// A turn that begins at most this much later than planned is on time: no
/// turn of the data thread is longer.
const ON_TIME: Duration = Duration::from_millis(1);
/// Late turns that are excused while one and the same silence lasts. A node
/// that is always late must still act in the end.
const MAX_EXCUSES: u8 = 8;

/// So often it is told that a pair has ended: nobody will answer.
const RELEASES: usize = 3;

/// Whether the node is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It stays.
    No,
    /// It hands over, then leaves.
    Stopping,
    /// It has said goodbye and does nothing any more.
    Gone,
}

/// A dead interval that was made longer counts for the lease only when the peer
/// has had the time to hear of it. Until then hellos leave as often as before:
/// the lease that they renew is as short as before.
#[derive(Clone, Copy, Debug)]
struct Former {
    lease: Duration,
    hello: Duration,
    until: Instant,
}

impl Former {
    /// The intervals before a change, or those before an earlier one that still count.
    fn of(earlier: Option<Former>, old: &Settings, now: Instant) -> Former {
        let (lease, hello, until) = (old.lease(), old.hello, now + old.dead());
        earlier.map_or(Former { lease, hello, until }, |earlier| Former {
            lease: earlier.lease.min(lease),
            hello: earlier.hello.min(hello),
            until: earlier.until.max(until),
        })
    }
}

/// The election machine of one node.
#[derive(Clone, Debug)]
pub struct Machine {
    pub(crate) settings: Settings,
    pub(crate) boot: u64,
    /// When the last input came; never goes back.
    pub(crate) now: Instant,
    pub(crate) state: State,
    pub(crate) since: Instant,
    pub(crate) term: u64,
    pub(crate) terms: Terms,
    pub(crate) peer: Peer,
    pub(crate) inquiry: Option<Inquiry>,
    pub(crate) reunion: Option<Reunion>,
    /// The peer refused; ask again then.
    pub(crate) ask_after: Instant,
    /// The peer restarted: its former process is proven dead.
    pub(crate) restarted: bool,
    /// Boot and term of the primary that we follow or followed last.
    pub(crate) following: Option<(u64, u64)>,
    /// We hold the state of the last primary that we knew, or are it.
    pub(crate) current: bool,
    /// The peer has stored all that we told it.
    pub(crate) drained: bool,
    /// After a freeze: not to promote before.
    pub(crate) listen_until: Instant,
    /// So long an unproven primary keeps a node waiting that has heard its peer
    /// never since its start.
    pub(crate) unproven_until: Instant,
    /// Of the idle connection's handshake; zero: not known.
    pub(crate) round_trip: Duration,
    /// When it was made.
    pub(crate) began: Instant,
    /// Given to the peer: not to promote before.
    pub(crate) promised_until: Instant,
    pub(crate) decided_over: u64,
    /// The second primary that was counted last.
    pub(crate) dual: Option<(u64, u64)>,
    pub(crate) hand_over_after: Instant,
    pub(crate) health: NodeHealth,
    /// Not to hand over for our health before.
    pub(crate) unhealthy_after: Instant,
    /// The role is being given away for health's sake.
    pub(crate) flipping: bool,
    pub(crate) flips: Flips,
    /// See [`Machine::handle_hearing`].
    pub(crate) hears: bool,
    /// When the peer was first heard, or heard again.
    pub(crate) met: Instant,
    /// What the peer was caught up with when it was lost: not with what has happened since.
    pub(crate) stale: Option<(u64, u32)>,
    /// The peer goes on alone, and said so: this node does not take its place.
    pub(crate) released: bool,
    /// That nobody serves was told.
    pub(crate) nobody_told: bool,
    pub(crate) ending: Ending,
    pub(crate) witness: Witness,
    /// When a hello was last sent on every path.
    sent: Instant,
    /// Intervals that were made longer, as they were.
    former: Option<Former>,
    next_hello: Instant,
    seq: u64,
    pub(crate) nonce: u32,
    synced_session: u32,
    pub(crate) client_seen: Option<Instant>,
    /// The same when the nodes met again, which counts instead until then: whoever
    /// announces first must not win by that.
    pub(crate) client_seen_apart: Option<(Option<Instant>, Instant)>,
    connected: bool,
    pub(crate) counts: Counts,
    pub(crate) effects: VecDeque<Effect>,
}

/// Counters of a machine, since its start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) promotions: u64,
    pub(crate) frozen: u64,
    pub(crate) dual_primary: u64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) ignored: u64,
}

impl Machine {
    /// A machine that has just started. `boot` was never used before by this
    /// node; `stored_term` is what was last made durable (0 at first). Drain
    /// the effects at once.
    pub fn new(now: Instant, settings: Settings, boot: u64, stored_term: u64) -> Machine {
        let mut machine = Machine {
            settings,
            boot,
            now,
            state: State::Init,
            since: now,
            term: stored_term.min(Terms::MAX),
            terms: Terms::new(stored_term.min(Terms::MAX)),
            peer: Peer::new(now),
            inquiry: None,
            reunion: None,
            ask_after: now,
            restarted: false,
            following: None,
            current: false,
            drained: true,
            listen_until: now,
            unproven_until: now,
            round_trip: Duration::ZERO,
            began: now,
            promised_until: now,
            decided_over: 0,
            dual: None,
            hand_over_after: now,
            health: NodeHealth::Up,
            unhealthy_after: now,
            flipping: false,
            flips: Flips::default(),
            hears: true,
            released: false,
            stale: None,
            met: now,
            nobody_told: false,
            ending: Ending::No,
            witness: Witness::new(now),
            sent: now,
            former: None,
            next_hello: now,
            seq: 0,
            nonce: 0,
            synced_session: 0,
            client_seen: None,
            client_seen_apart: None,
            connected: false,
            counts: Counts::default(),
            effects: VecDeque::new(),
        };
        machine.settle(now);
        machine
    }

    /// Changes the settings. A node whose peer is removed becomes primary at
    /// once, unless its status is [`HaStatus::StaySecondary`]: who removes the peer of a secondary
    /// that hears its primary sets that, too. A standalone primary that gets a peer stays
    /// primary.
    pub fn set_settings(&mut self, now: Instant, settings: Settings) {
        self.enter(now);
        let old = self.settings;
        if old.peer != settings.peer {
            self.lose(LostCause::Removed);
            self.peer = Peer::new(now);
            self.promised_until = now;
            self.sent = now;
        }
        if settings.dead() > old.dead() {
            self.former = Some(Former::of(self.former, &old, now));
        }
        self.settings = settings;
        self.released &= old.peer == settings.peer && old.status == settings.status;
        if old.peer != settings.peer || old.witness != settings.witness {
            self.reset_witness(now);
        }
        self.leave_room(now);
        self.next_hello = now;
        self.settle(now);
    }

    /// Tells which mirror session we are caught up with; carried in hellos.
    pub fn set_synced_session(&mut self, session: u32) {
        self.synced_session = session;
    }

    /// First call of every turn, before any frame or message is looked at.
    /// Returns whether the gate must be closed. A primary whose lease ended
    /// while it was not run is secondary after this call.
    pub fn handle_turn(&mut self, now: Instant) -> bool {
        self.enter(now);
        match self.role() {
            Role::Init | Role::Secondary => true,
            Role::Primary | Role::Draining => false,
        }
    }

    /// A hello that the envelope found authentic arrived on `path`.
    pub fn handle_hello(&mut self, now: Instant, path: PathId, sender_term: u64, sender: NodeId, hello: &Hello) {
        self.enter(now);
        self.counts.received += 1;
        let ours = self.settings.peer == Some(sender) && sender_term <= Terms::MAX;
        if !ours || self.ending == Ending::Gone {
            self.counts.ignored += 1;
            return;
        }
        self.peer.note_path(now, path);
        let admission = self.peer.admit(hello);
        let counts = match admission {
            Admission::Next | Admission::NewBoot => self.is_word(now, sender_term, hello),
            Admission::Old | Admission::Unproven => true,
        };
        if !counts {
            self.counts.ignored += 1;
            // It answers this, or follows. Where all answers are late, not at every one.
            match hello.kind {
                HelloKind::Probe { nonce } => self.send(now, HelloKind::ProbeReply { nonce }, 0),
                _ if now.since(self.sent) >= self.settings.hello / 4 => self.send_hello(now),
                HelloKind::Hello | HelloKind::ProbeReply { .. } | HelloKind::Goodbye | HelloKind::Release => {}
            }
            self.settle(now);
            return;
        }
        match admission {
            Admission::Old => self.counts.ignored += 1,
            Admission::Next => self.hear(now, sender_term, hello),
            Admission::Unproven => self.demand_proof(now, hello),
            Admission::NewBoot => {
                let known = self.peer.heard.is_some();
                self.lose(LostCause::Restarted);
                self.peer.end_boot();
                self.peer.candidate = None;
                self.restarted = known;
                self.hear(now, sender_term, hello);
            }
        }
        self.settle(now);
    }

    /// The idle connection has come to its end, as when the peer's process dies. Anybody on
    /// the LAN can forge that, so it only makes us ask.
    pub fn handle_peer_closed(&mut self, now: Instant) {
        self.enter(now);
        self.connected = false;
        self.suspect(now);
        self.settle(now);
    }

    /// The idle connection was reset or cannot be made: the peer may live and be too busy to answer,
    /// so that silence proves nothing before its time.
    pub fn handle_peer_cut(&mut self, now: Instant) {
        self.enter(now);
        self.connected = false;
        self.inquire(now);
        self.settle(now);
    }

    /// The idle connection is open; `round_trip` is how long its handshake took: no answer to a probe comes sooner.
    pub fn handle_peer_open(&mut self, now: Instant, round_trip: Duration) {
        self.enter(now);
        self.connected = true;
        self.round_trip = round_trip;
        self.settle(now);
    }

    /// As secondary: whether we hold the state of the primary that we follow.
    /// Ignored while we follow nobody. The loss of the
    /// primary takes nothing from what we hold: do not call this for it.
    pub fn handle_caught_up(&mut self, now: Instant, caught_up: bool) {
        self.enter(now);
        let follows = self.role() == Role::Secondary && self.following.is_some();
        if follows && self.current != caught_up {
            self.current = caught_up;
            self.leave_room(now);
            self.send_hello(now);
        }
        self.settle(now);
    }

    /// Whether anything comes in here. `false`: after a silence of everybody neighbours that are known to answer were asked, and
    /// nothing has come in since that proves that this node hears. To be told at every change.
    pub fn handle_hearing(&mut self, now: Instant, hears: bool) {
        self.enter(now);
        if hears && self.is_deaf() {
            // The peer may have spoken, and led, all the while; and it takes a hello interval to find out what we are.
            self.listen_until = self.listen_until.max(now + self.settings.dead());
            self.peer.quiet_since = now;
        }
        self.hears = hears;
        self.settle(now);
    }

    /// Whether it is this node that does not hear, rather than the peer that says nothing: nothing comes in at all, for as
    /// long as a peer may be silent.
    pub fn is_deaf(&self) -> bool {
        let paired = self.settings.peer.is_some();
        paired && !self.hears && self.now.since(self.peer.quiet_since) >= self.peer.patience(self.settings.dead())
    }

    /// The operator ends the pair: the peer, if it is there, is told which of the two goes on. To be called before the
    /// settings lose the peer.
    pub fn handle_release(&mut self, now: Instant) {
        self.enter(now);
        if self.peer.alive().is_some() {
            for _ in 0..RELEASES {
                self.send(now, HelloKind::Release, 0);
            }
        }
        self.settle(now);
    }

    /// Sends a hello at once: something that its driver adds to it has changed.
    pub fn speak(&mut self, now: Instant) {
        self.enter(now);
        self.send_hello(now);
        self.settle(now);
    }

    /// As primary: whether the peer has stored all that we told it. While it has
    /// not, a draining node gives no promise. To be told before every hello.
    pub fn set_drained(&mut self, drained: bool) {
        self.drained = drained;
    }

    /// `term` and everything below it is durable.
    pub fn handle_term_stored(&mut self, now: Instant, term: u64) {
        self.enter(now);
        self.terms.stored(term);
        self.settle(now);
    }

    /// `force HA failover`: starts a switchover, or says why not.
    pub fn handle_force_failover(&mut self, now: Instant) -> Result<(), Refusal> {
        self.enter(now);
        let answer = self.force_failover(now);
        self.settle(now);
        answer
    }

    /// The process is asked to end: hands over if it can, then says goodbye.
    /// [`Event::Stopped`] tells when the process may end.
    pub fn handle_stop(&mut self, now: Instant) {
        self.enter(now);
        self.stop(now);
        self.settle(now);
    }

    /// A message that claims to come from our peer, and that it is primary, but
    /// does not prove it: most likely another password. It is no evidence, so it
    /// changes nothing once the peer was heard; a node that has heard nobody
    /// since its start waits, for it would take over from a healthy primary.
    pub fn handle_unproven_primary(&mut self, now: Instant) {
        self.enter(now);
        self.unproven_until = now + self.settings.start_up();
    }

    /// As [`Machine::handle_unproven_primary`], but it does not claim to lead. Two nodes that start at once and
    /// do not believe each other would both lead: the one with the larger id leaves the other time to say so, once.
    pub fn handle_unproven_peer(&mut self, now: Instant) {
        self.enter(now);
        if self.settings.peer.is_some_and(|peer| peer < self.settings.node) {
            self.unproven_until = self.unproven_until.max(self.began + self.settings.start_up() * 2);
        }
    }

    /// A packet of a client was forwarded. Cheap; may be called once a turn.
    pub fn handle_client_packet_seen(&mut self, now: Instant) {
        self.client_seen = Some(now);
    }

    /// The timer fired. Harmless at any other time.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.enter(now);
        self.settle(now);
    }

    /// When to call [`Machine::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ending == Ending::Gone || self.settings.peer.is_none() {
            return None;
        }
        let silence = self.silence_deadlines();
        let inquiry = self.inquiry.map(|inquiry| (inquiry.next_probe, inquiry.verdict));
        [
            Some(self.next_hello),
            Some(silence.0),
            Some(silence.1),
            inquiry.map(|(probe, _)| probe),
            inquiry.and_then(|(_, verdict)| verdict),
            self.reunion.map(|reunion| reunion.next_probe.min(reunion.until)),
            self.state.deadline(),
            Some(self.listen_until),
            Some(self.unproven_until),
            Some(self.promised_until),
            Some(self.ask_after),
        ]
        .into_iter()
        .chain(self.witness_deadlines())
        .flatten()
        .filter(|&at| at > self.now)
        .min()
    }

    /// The next effect; drain until `None` after every input.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Our role.
    pub fn role(&self) -> Role {
        self.state.role()
    }

    /// The role of the peer, while it is there.
    pub fn peer_role(&self) -> Option<Role> {
        self.peer.role()
    }

    /// Our term, for the envelope: our own as primary, that of the primary we
    /// follow as secondary, the stored one before either. It may go down when
    /// a restarted node joins a primary that never knew its last term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Until when we may forward and announce; `None` when not primary, and
    /// for a standalone primary, which needs no lease.
    pub fn lease_expiry(&self) -> Option<Instant> {
        self.settings.peer?;
        match self.role() {
            Role::Init | Role::Secondary => None,
            Role::Primary | Role::Draining => {
                let plain = self.sent + self.lease_length();
                Some(if self.is_witnessed() { self.witnessed_lease_end() } else { plain })
            }
        }
    }

    /// How long a lease lasts.
    pub(crate) fn lease_length(&self) -> Duration {
        let full = self.settings.lease();
        self.former.map_or(full, |former| former.lease.min(full))
    }

    /// Since when the peer, which is lost now, may not have heard us: the longer of the two dead intervals, and longer
    /// if turns of ours were late.
    pub fn out_of_hearing_since(&self, now: Instant) -> Instant {
        let silent = now - self.peer.patience(self.settings.dead());
        self.peer.heard.map_or(silent, |heard| heard.at.min(silent))
    }

    /// For `show HA node` and the counters.
    pub fn status(&self) -> StatusView {
        let (flips, flip_time) = self.flips.told(self.now, &self.settings);
        StatusView {
            role: self.role(),
            term: self.term,
            status: self.settings.status,
            health: self.health,
            flips,
            flip_time,
            sticky: self.flips.exhausted(self.now, &self.settings),
            since: self.since,
            caught_up: self.current,
            hello: self.settings.hello,
            dead: self.settings.dead(),
            lease_expiry: self.lease_expiry(),
            peer: self.peer.alive().map(|heard| PeerView {
                boot: heard.hello.boot,
                role: heard.hello.role,
                term: heard.term,
                status: heard.hello.status,
                caught_up: heard.hello.caught_up,
                ready: heard.hello.ready,
                health: heard.hello.health,
                synced_session: heard.hello.synced_session,
                heard: heard.at,
            }),
            witness: self.witness_view(),
            connected: self.connected,
            peer_ever_heard: self.peer.heard.is_some(),
            paths: self.peer.paths.clone(),
            promotions: self.counts.promotions,
            frozen: self.counts.frozen,
            dual_primary: self.counts.dual_primary,
            hellos_sent: self.counts.sent,
            hellos_received: self.counts.received,
            hellos_ignored: self.counts.ignored,
        }
    }

    /// What every input begins with: time spent not running is neither the
    /// peer's silence nor ours to act on.
    pub(crate) fn enter(&mut self, now: Instant) {
        let planned = self.poll_timeout().unwrap_or(now).max(self.now);
        let gap = now.since(self.now);
        self.now = self.now.max(now);
        if self.settings.peer.is_none() || self.ending == Ending::Gone {
            return;
        }
        let late = now.since(planned);
        if late > ON_TIME {
            self.excuse(now, late);
        }
        let lapsed = self.lease_expiry().is_some_and(|expiry| now >= expiry);
        if lapsed || gap > self.settings.dead() {
            // Who has said something lately was run, and was not answered.
            let ran = self.is_witnessed() && now < self.sent + self.lease_length();
            self.thaw(now, gap, if ran { Cause::Unwitnessed } else { Cause::Frozen });
        }
        if self.former.is_some_and(|former| now >= former.until) {
            self.former = None;
        }
    }

    /// Moves what waits for the peer's silence by the time we did not listen,
    /// and leaves room to hear what came meanwhile.
    fn excuse(&mut self, now: Instant, late: Duration) {
        self.peer.quiet_since = self.peer.quiet_since + late;
        if late > self.settings.lease_margin && self.peer.excuses < MAX_EXCUSES {
            self.peer.excuses += 1;
            self.leave_room(now);
        }
        let room = self.settings.probe_silence / 2;
        if let Some(inquiry) = &mut self.inquiry
            && let Some(verdict) = &mut inquiry.verdict
            && inquiry.excuses < MAX_EXCUSES
        {
            inquiry.excuses += 1;
            *verdict = (*verdict + late).max(now + room);
        }
    }

    /// However long the silence was: asks and listens for half a hello interval
    /// before it has consequences.
    fn leave_room(&mut self, now: Instant) {
        let (ask, _) = self.silence_deadlines();
        self.peer.quiet_since = self.peer.quiet_since + now.since(ask);
    }

    /// What every input ends with: everything that is due.
    pub(crate) fn settle(&mut self, now: Instant) {
        if self.ending == Ending::Gone {
            return;
        }
        self.check_inquiry(now);
        self.check_reunion(now);
        self.check_silence(now);
        self.check_state(now);
        self.decide(now);
        self.check_witness(now);
        self.terms.reserve(now, &mut self.effects);
        if now >= self.next_hello {
            self.send_hello(now);
        }
    }

    fn hear(&mut self, now: Instant, term: u64, hello: &Hello) {
        if self.peer.role() != Some(hello.role) {
            self.ask_after = now;
        }
        if self.peer.alive().is_none_or(|last| hello.health < last.hello.health) {
            self.unhealthy_after = now;
        }
        self.nobody_told = false;
        self.terms.note(term);
        let lost = self.peer.lost.is_some();
        self.peer.hear(now, term, hello);
        if hello.kind == HelloKind::Release {
            self.hear_release(hello);
            return;
        }
        self.released = false;
        if hello.kind == HelloKind::Goodbye {
            self.lose(LostCause::Goodbye);
            self.peer.lost = Some(LostCause::Goodbye);
            self.peer.end_boot();
            return;
        }
        let parted = !self.peer.joined;
        if parted {
            self.peer.joined = true;
            self.met = now;
            self.effects.push_back(Effect::PeerJoined { boot: hello.boot });
            if lost {
                self.begin_reunion(now);
            }
        }
        self.hear_answer(hello);
        match self.reunion {
            Some(reunion) if hello.kind == (HelloKind::ProbeReply { nonce: reunion.nonce }) => self.end_reunion(now),
            Some(_) => {}
            None => self.hear_role(now, term, hello, parted),
        }
        match hello.kind {
            HelloKind::Hello => self.answer_primary(now, hello),
            HelloKind::Goodbye | HelloKind::Release => {}
            HelloKind::Probe { nonce } => self.answer(now, nonce, hello),
            HelloKind::ProbeReply { nonce } => self.hear_reply(now, nonce, hello),
        }
    }

    /// The pair has ended while both nodes live. If the peer leads, it goes on alone.
    fn hear_release(&mut self, hello: &Hello) {
        self.lose(LostCause::Goodbye);
        self.peer.lost = Some(LostCause::Goodbye);
        let follows = matches!(self.role(), Role::Init | Role::Secondary);
        if follows && !self.released && matches!(hello.role, Role::Primary | Role::Draining) {
            self.released = true;
            self.event(Event::Released);
        }
    }

    /// Declares the joined peer gone; nothing if it is not joined.
    pub(crate) fn lose(&mut self, cause: LostCause) {
        let Some(boot) = self.peer.alive().map(|heard| heard.hello.boot) else { return };
        self.peer.joined = false;
        self.peer.lost = Some(cause);
        self.stale =
            self.peer.heard.map(|heard| (heard.hello.boot, heard.hello.synced_session)).filter(|stale| stale.1 != 0);
        (self.inquiry, self.reunion) = (None, None);
        self.effects.push_back(Effect::PeerLost { boot, cause });
    }

    /// Sends the periodic hello now.
    pub(crate) fn send_hello(&mut self, now: Instant) {
        let hello = self.settings.hello;
        self.next_hello = now + self.former.map_or(hello, |former| former.hello.min(hello));
        self.send(now, HelloKind::Hello, 0);
    }

    /// Sends a hello on every path, which renews the lease. A primary whose
    /// term is not durable says nothing: nobody may hear of such a term.
    pub(crate) fn send(&mut self, now: Instant, kind: HelloKind, promise_ms: u32) {
        let leads = match self.role() {
            Role::Init | Role::Secondary => false,
            Role::Primary | Role::Draining => true,
        };
        // Who hears nobody is heard by nobody: the other one must not wait for its answers, or for its role.
        let mute = !leads && self.is_deaf() && !kind.is_farewell();
        if self.settings.peer.is_none() || mute || leads && !self.terms.is_durable(self.term) {
            return;
        }
        self.seq += 1;
        self.sent = now;
        if self.settings.witness {
            self.witness.note_sent(now, self.seq, self.settings.hello / 8);
        }
        self.counts.sent += 1;
        let quiet = now.since(self.peer.quiet_since);
        let hello = Hello {
            kind,
            boot: self.boot,
            seq: self.seq,
            role: self.role(),
            status: self.settings.status,
            caught_up: self.current,
            ready: self.is_ready(now),
            listening: now < self.listen_until,
            synced_session: self.synced_session,
            promise_ms,
            dead_ms: millis(self.settings.dead()),
            silence_ms: millis(quiet),
            last_client_packet_ago: self.client_ago(now),
            decided_over: self.decided_over,
            health: self.health,
            witness: self.answered_hello(),
            // Filled in by whoever owns the mirror stream.
            quarantine_ms: 0,
            full_session: 0,
            aside: 0,
        };
        self.effects.push_back(Effect::Send { path: None, hello });
    }

    /// Milliseconds since a client's packet was last forwarded.
    pub(crate) fn client_ago(&self, now: Instant) -> u64 {
        let apart = self.client_seen_apart.filter(|(_, until)| now < *until);
        let seen = apart.map_or(self.client_seen, |(seen, _)| seen);
        seen.map_or(u64::MAX, |seen| u64::from(millis(now.since(seen))))
    }

    /// Whether we would promote if it were our turn.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.hears && self.would_lead(now)
    }

    /// The same, if it heard anybody.
    pub(crate) fn would_lead(&self, now: Instant) -> bool {
        let willing = match self.settings.status {
            HaStatus::Enabled | HaStatus::StayPrimary => true,
            HaStatus::StaySecondary | HaStatus::Disabled => false,
        };
        willing
            && self.is_fit()
            && !self.released
            && self.ending == Ending::No
            && !self.terms.is_stuck(now, self.settings.dead())
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.effects.push_back(Effect::Event(event));
    }
}

/// Whole milliseconds, as hellos carry them.
pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
