//! Sessions with the peer: how two lives that know the same password get keys
//! that nobody else has, and how these are replaced.
//!
//! ```text
//!   the node with the smaller NSIP               the node with the larger NSIP (it offers)
//!      │ ◄──────────────── hail (cookie) ─────────────── │   no session, or silence: again and again, on every path
//!      │ ───────────── hail (cookies of both) ─────────► │
//!      │ ◄──── offer (cookies, number, point) ────────── │
//!      │ ───── answer (point, proof of the secret) ────► │   has the session
//!      │ ◄───────── any datagram under it ────────────── │
//!      has the session
//! ```
//! Both may hail; only one offers, so two that begin at once converge. A session
//! that works is left alone: it ends when another one was *proven* to work, or
//! with the peer's life. To replace the keys of a session that works, the same
//! steps travel under it, without cookies and hails.
//!
//! What a stranger can cause: one keyed hash for each step without the right
//! cookie; a group operation for each step with one, within [`limits`].

mod handshake;
mod limits;
mod pake;
mod session;
mod step;

use core::time::Duration;
use std::collections::VecDeque;

use holdfast_base::Instant;
use holdfast_ha::PathId;
use zeroize::Zeroizing;

use crate::envelope::{self, Header, MessageKind, Peer, Refused};
use handshake::{Attempt, HalfOpen};
use limits::{Entropy, Limits};
use session::Session;
use step::Step;

/// A stretched password; wiped when it is dropped.
pub(crate) type Password = Zeroizing<[u8; 32]>;

/// Pause between two hails while there is no session that works.
const HAIL_PAUSE: Duration = Duration::from_millis(50);
/// Shortest silence after which a session is not trusted to work any more.
const LEAST_PATIENCE: Duration = Duration::from_millis(150);
/// How long an offer may be answered.
const ATTEMPT_LIFE: Duration = Duration::from_secs(1);
/// Pause after all passwords were tried in vain, and between attempts under a session.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long an answered offer waits for its first datagram.
const HALF_OPEN_LIFE: Duration = Duration::from_secs(5);
/// Sessions that are good for receiving only, at most; the oldest goes.
const MAX_FORMER: usize = 3;
/// A session good for receiving only is kept until it was silent for this long.
const FORMER_GRACE: Duration = Duration::from_secs(10);
/// Pause between two confirmations of a session that the peer does not use yet.
const CONFIRM_PAUSE: Duration = Duration::from_millis(20);
/// A session's keys are replaced after this long …
pub(crate) const REKEY_AFTER: Duration = Duration::from_secs(300);
/// … or after so many bytes.
const REKEY_BYTES: u64 = 16 << 30;
/// Steps that wait to be sent, at most; more are not made.
const MAX_WAITING: usize = 64;

/// Why there is no session, or none as it is set here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The two nodes' rpcNode passwords differ.
    Password,
    /// This node has none.
    Unset,
    /// `-secure` differs.
    Secure,
}

/// Something worth telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A session with a life of the peer that had none.
    Established { encrypted: bool },
    /// Another session with the same life.
    Rekeyed,
    /// The first failure since a success, or since the settings changed.
    Failed(Failure),
}

/// What leaves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    /// A step in clear.
    Clear { path: Option<PathId>, echo: u64, payload: Vec<u8> },
    /// Under the session that is used for sending.
    Closed { path: Option<PathId>, kind: MessageKind, payload: Vec<u8> },
    /// Under the session that the peer does not use yet.
    Confirm,
}

/// What came in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// Authentic, fresh, of the peer's present life.
    Letter(Header, Vec<u8>),
    /// A hail that claims this role; nothing of it is proven.
    Claim(u8),
    /// A step that was taken.
    Step,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub hails: u64,
    /// Hails that came too fast for an answer.
    pub hails_unanswered: u64,
    pub offers: u64,
    pub answers: u64,
    pub established: u64,
    pub rekeyed: u64,
    pub wrong_password: u64,
    pub wrong_secure: u64,
    pub half_open_evicted: u64,
    pub attempts_unanswered: u64,
}

/// Where a session was found.
#[derive(Clone, Copy)]
enum Place {
    Current,
    Next,
    Former(usize),
    HalfOpen(usize),
}

/// The sessions of this life with its peer.
pub(crate) struct Secure {
    node: u128,
    peer_node: u128,
    peer: Peer,
    entropy: Entropy,
    cookie_key: [u8; 32],
    password: Option<Password>,
    /// It is a random one that nobody else has: none is set.
    unset: bool,
    /// The password before a change, while the peer may still have it.
    former_password: Option<Password>,
    encrypt: bool,
    role: u8,
    patience: Duration,
    /// Used for sending.
    current: Option<Session>,
    /// Ours, and not yet heard under: the peer may not have it.
    next: Option<Session>,
    confirm_at: Instant,
    confirmations: u32,
    /// Good for receiving only: what the peer may still send with, the latest last.
    former: Vec<Session>,
    half_open: Vec<HalfOpen>,
    /// The offer that made the current session: late copies of it are no new offers.
    adopted: u64,
    /// Offers of ours, one for each path and one under the session.
    attempts: Vec<Attempt>,
    next_hail: Instant,
    next_rekey: Instant,
    limits: Limits,
    out: VecDeque<Outgoing>,
    told: VecDeque<Told>,
    failure_told: Option<Failure>,
    last_failure: Option<(Instant, Failure)>,
    counters: Counters,
}

impl Secure {
    /// No password, no session. `seed` must be random and secret.
    pub fn new(node: u128, peer: u128, boot: u64, seed: [u8; 32]) -> Secure {
        let mut entropy = Entropy::new(seed);
        Secure {
            node,
            peer_node: peer,
            peer: Peer::new(boot, peer),
            cookie_key: entropy.draw(),
            entropy,
            password: None,
            unset: false,
            former_password: None,
            encrypt: true,
            role: 0,
            patience: LEAST_PATIENCE,
            current: None,
            next: None,
            confirm_at: Instant::ZERO,
            confirmations: 0,
            former: Vec::new(),
            half_open: Vec::new(),
            adopted: 0,
            attempts: Vec::new(),
            next_hail: Instant::ZERO,
            next_rekey: Instant::ZERO,
            limits: Limits::new(),
            out: VecDeque::new(),
            told: VecDeque::new(),
            failure_told: None,
            last_failure: None,
            counters: Counters::default(),
        }
    }

    /// The password, stretched. A session that was made under the one before
    /// goes on, and that one stays good until a session was made under this one:
    /// so the password of a running pair is changed on one node after the other.
    pub fn set_password(&mut self, now: Instant, password: [u8; 32]) {
        self.use_password(now, Password::new(password), false);
    }

    /// No password is set. A random one takes its place, which nobody can know:
    /// so all that holds for passwords that differ holds without one.
    pub fn lack_password(&mut self, now: Instant) {
        let random = Password::new(self.entropy.draw());
        self.use_password(now, random, true);
        self.last_failure = Some((now, Failure::Unset));
        self.told.push_back(Told::Failed(Failure::Unset));
    }

    fn use_password(&mut self, now: Instant, password: Password, unset: bool) {
        let shared = self.current.as_ref().map(|session| session.password.clone());
        self.former_password = self.former_password.take().or(shared).filter(|former| *former != password);
        (self.password, self.unset) = (Some(password), unset);
        self.begin_anew(now);
    }

    /// Whether payloads are to be encrypted.
    pub fn set_encrypt(&mut self, now: Instant, encrypt: bool) {
        if self.encrypt != encrypt {
            self.encrypt = encrypt;
            self.begin_anew(now);
        }
    }

    /// The role that hails claim.
    pub fn set_role(&mut self, role: u8) {
        self.role = role;
    }

    /// Silence after which a session may not work any more.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience.max(LEAST_PATIENCE);
    }

    /// Other addresses: no session is between these two.
    /// Whether it is another peer.
    pub fn readdress(&mut self, node: u128, peer: u128) -> bool {
        let boot = self.peer.own_boot();
        self.node = node;
        (self.password, self.unset) = (None, false);
        self.former_password = None;
        (self.current, self.next) = (None, None);
        self.former.clear();
        self.attempts.clear();
        self.half_open.clear();
        let other = self.peer_node != peer;
        if other {
            self.peer_node = peer;
            self.peer = Peer::new(boot, peer);
        }
        other
    }

    /// What was tried with other settings counts no more.
    fn begin_anew(&mut self, now: Instant) {
        self.attempts.clear();
        self.half_open.clear();
        self.limits.forget_tries();
        self.next_hail = now;
        self.next_rekey = now;
        self.failure_told = self.standing_failure();
    }

    /// What no session puts right.
    fn standing_failure(&self) -> Option<Failure> {
        self.unset.then_some(Failure::Unset)
    }

    /// Whether a key can be made at all.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    /// The session for sending: whether it encrypts, and since when it is there.
    pub fn session(&self) -> Option<(bool, Instant)> {
        self.current.as_ref().map(|session| (session.encrypted, session.made))
    }

    /// The session was made under a password that is not ours any more.
    pub fn uses_former_password(&self) -> bool {
        self.current.as_ref().is_some_and(|session| Some(&session.password) != self.password.as_ref())
    }

    /// The latest failure of a handshake.
    pub fn last_failure(&self) -> Option<(Instant, Failure)> {
        self.last_failure
    }

    /// No session was made since then, and nothing was set anew.
    pub fn is_failing(&self) -> bool {
        self.failure_told.is_some()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Answered offers that wait.
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Random bytes that nobody can foretell.
    pub fn draw<const N: usize>(&mut self) -> [u8; N] {
        self.entropy.draw()
    }

    /// The next thing worth telling.
    pub fn poll_told(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// The next thing to send.
    pub fn poll_out(&mut self) -> Option<Outgoing> {
        self.out.pop_front()
    }

    /// Appends the payload to `datagram` (cleared first), closed under the session
    /// for sending; false if there is none. `header` is completed.
    pub fn close(&mut self, mut header: Header, payload: &[u8], confirm: bool, datagram: &mut Vec<u8>) -> bool {
        let boot = self.peer.own_boot();
        let next = if confirm { self.next.as_mut() } else { None };
        let Some(session) = next.or(self.current.as_mut()) else { return false };
        header = Header { session: session.id, boot, echo: session.boot, node: self.node, ..header };
        envelope::write_header(&header, datagram);
        datagram.extend_from_slice(payload);
        session.close(header.sequence, datagram);
        true
    }

    /// Judges a datagram that came by `path`.
    pub fn receive(&mut self, now: Instant, path: PathId, datagram: &[u8]) -> Result<Opened, Refused> {
        let (header, rest) = envelope::claimed(datagram)?;
        self.peer.may_be(&header)?;
        if header.session == 0 {
            return self.step_in_clear(now, path, &header, rest);
        }
        let place = self.find(&header).ok_or(Refused::Unkeyed)?;
        let session = self.at(place).ok_or(Refused::Unkeyed)?;
        let payload = session.open(header.sequence, datagram).ok_or(Refused::Authentication)?;
        self.adopt(now, place);
        self.peer.accept(&header)?;
        self.note_heard(now, &header);
        match header.kind {
            MessageKind::Handshake => {
                let step = Step::decode(&payload)?;
                self.step(now, None, &header, &step).map(|()| Opened::Step)
            }
            MessageKind::Confirmation => {
                if !self.offers() {
                    // So the offering side learns at once that we have it, too.
                    self.push(Outgoing::Closed { path: None, kind: MessageKind::Confirmation, payload: Vec::new() });
                }
                Ok(Opened::Letter(header, payload))
            }
            MessageKind::Hello | MessageKind::MirrorData | MessageKind::MirrorAck | MessageKind::AskSession => {
                Ok(Opened::Letter(header, payload))
            }
        }
    }

    /// Whatever is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.former.retain(|former| now.since(former.last()) < FORMER_GRACE);
        self.half_open.retain(|waiting| now.since(waiting.made) < HALF_OPEN_LIFE);
        for attempt in self.attempts.extract_if(.., |attempt| now.since(attempt.made) >= ATTEMPT_LIFE) {
            self.counters.attempts_unanswered += u64::from(!attempt.failed);
        }
        if self.password.is_none() || self.peer_node == 0 {
            return;
        }
        if !self.works(now) {
            if now >= self.next_hail {
                self.next_hail = now + HAIL_PAUSE;
                self.hail(None, 0, 0);
            }
        } else if self.rekey_due().is_some_and(|due| now >= due) {
            self.rekey(now);
        }
        if self.confirms() && now >= self.confirm_at {
            self.confirmations -= 1;
            self.confirm_at = now + CONFIRM_PAUSE;
            self.push(Outgoing::Confirm);
        }
    }

    /// When something is due, as of `now`.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.password.as_ref().filter(|_| self.peer_node != 0)?;
        let works_until = self.current.as_ref().map(|session| session.last() + self.patience);
        let hail = works_until.map_or(self.next_hail, |until| until.max(self.next_hail));
        let rekey = self.rekey_due().filter(|_| self.works(now));
        let confirm = self.confirms().then_some(self.confirm_at);
        [Some(hail), rekey, confirm].into_iter().flatten().min()
    }

    /// When the keys are to be replaced.
    fn rekey_due(&self) -> Option<Instant> {
        let session = self.current.as_ref()?;
        // Of two that are due at once only the offering one need act.
        let age = if self.offers() { REKEY_AFTER } else { REKEY_AFTER + RETRY_PAUSE * 10 };
        let due = match self.differs(session) || session.bytes >= REKEY_BYTES {
            true => self.next_rekey,
            false => self.next_rekey.max(session.made + age),
        };
        // What the peer has not taken up for so long it does not have.
        Some(self.next.as_ref().map_or(due, |next| due.max(next.made + FORMER_GRACE)))
    }

    /// The node with the larger number offers, the other one answers.
    fn offers(&self) -> bool {
        self.node > self.peer_node
    }

    fn works(&self, now: Instant) -> bool {
        self.current.as_ref().is_some_and(|session| now.since(session.last()) < self.patience)
    }

    /// The peer has not been heard under the newest session.
    fn confirms(&self) -> bool {
        let newest = self.next.as_ref().or(self.current.as_ref());
        self.confirmations > 0 && newest.is_some_and(|session| session.heard.is_none())
    }

    /// There is a session with that life, and hails that are still on their way do not know. One that the peer
    /// has not confirmed counts as well: after a freeze many hails come at once, and one handshake answers all.
    fn is_new_with(&self, now: Instant, boot: u64) -> bool {
        let young = |session: &Session| session.boot == boot && now.since(session.made) < RETRY_PAUSE;
        self.next.as_ref().is_some_and(young) || self.works(now) && self.current.as_ref().is_some_and(young)
    }

    /// The session is not as it is set here.
    fn differs(&self, session: &Session) -> bool {
        Some(&session.password) != self.password.as_ref() || session.encrypted != self.encrypt
    }

    fn find(&self, header: &Header) -> Option<Place> {
        let fits = |session: &Session| session.id == header.session && session.boot == header.boot;
        let slot = |session: &Option<Session>| session.as_ref().is_some_and(fits);
        if slot(&self.current) {
            Some(Place::Current)
        } else if slot(&self.next) {
            Some(Place::Next)
        } else if let Some(index) = self.former.iter().position(fits) {
            Some(Place::Former(index))
        } else {
            self.half_open.iter().position(|waiting| fits(&waiting.session)).map(Place::HalfOpen)
        }
    }

    fn at(&mut self, place: Place) -> Option<&mut Session> {
        match place {
            Place::Current => self.current.as_mut(),
            Place::Next => self.next.as_mut(),
            Place::Former(index) => self.former.get_mut(index),
            Place::HalfOpen(index) => self.half_open.get_mut(index).map(|waiting| &mut waiting.session),
        }
    }

    /// Something fresh came: the peer lives, whichever session it sends with.
    fn note_heard(&mut self, now: Instant, header: &Header) {
        if let Some(current) = self.current.as_mut() {
            current.heard = Some(now);
        }
        if let Some(former) = self.former.iter_mut().find(|former| former.id == header.session) {
            former.heard = Some(now);
        }
    }

    /// An authentic datagram came under the session: the peer has it.
    fn adopt(&mut self, now: Instant, place: Place) {
        match place {
            Place::Current | Place::Former(_) => {}
            Place::Next => {
                if let Some(session) = self.next.take() {
                    self.establish(now, session);
                }
            }
            Place::HalfOpen(index) => {
                // What was answered later stays: the peer may have concluded one of these, too.
                let Some(HalfOpen { attempt, session, .. }) = self.half_open.drain(..=index).next_back() else {
                    return;
                };
                self.adopted = attempt;
                self.establish(now, session);
            }
        }
    }

    /// The session is used from here on.
    fn establish(&mut self, now: Instant, session: Session) {
        let same_life = self.current.as_ref().is_some_and(|current| current.boot == session.boot);
        self.peer.begin_life(session.boot);
        self.failure_told = self.standing_failure();
        self.attempts.clear();
        self.limits.forget_tries();
        if Some(&session.password) == self.password.as_ref() {
            self.former_password = None;
        }
        self.next_rekey = now + RETRY_PAUSE;
        self.told.push_back(match same_life {
            true => Told::Rekeyed,
            false => Told::Established { encrypted: session.encrypted },
        });
        self.counters.established += u64::from(!same_life);
        self.counters.rekeyed += u64::from(same_life);
        let boot = session.boot;
        if let Some(former) = self.current.replace(session) {
            self.keep_former(former);
        }
        if !same_life {
            self.next = None;
            self.former.clear();
            self.half_open.retain(|waiting| waiting.session.boot == boot);
        }
    }

    /// The peer may still send with it.
    fn keep_former(&mut self, session: Session) {
        if self.former.len() == MAX_FORMER {
            self.former.remove(0);
        }
        self.former.push(session);
    }

    fn reply(&mut self, path: Option<PathId>, boot: u64, step: Step) {
        match path {
            Some(path) => self.say(Some(path), boot, step),
            None => self.say_closed(step),
        }
    }

    fn say_closed(&mut self, step: Step) {
        let mut payload = Vec::new();
        step.encode(&mut payload);
        self.push(Outgoing::Closed { path: None, kind: MessageKind::Handshake, payload });
    }

    /// In clear; the cookie is put in when the path is known.
    fn say(&mut self, path: Option<PathId>, boot: u64, step: Step) {
        let mut payload = Vec::new();
        step.encode(&mut payload);
        self.push(Outgoing::Clear { path, echo: boot, payload });
    }

    /// A step in clear as it leaves by `path`.
    pub fn clear_datagram(&self, path: PathId, echo: u64, payload: &[u8], datagram: &mut Vec<u8>) {
        let header = Header {
            kind: MessageKind::Handshake,
            session: 0,
            boot: self.peer.own_boot(),
            echo,
            term: 0,
            sequence: 0,
            node: self.node,
            fingerprint: 0,
        };
        envelope::write_header(&header, datagram);
        datagram.extend_from_slice(payload);
        let at = envelope::HEADER_LEN + step::COOKIE_AT;
        datagram[at..at + 8].copy_from_slice(&self.cookie(path).to_be_bytes());
    }

    fn push(&mut self, outgoing: Outgoing) {
        if self.out.len() < MAX_WAITING {
            self.out.push_back(outgoing);
        }
    }
}

#[cfg(test)]
mod tests;
