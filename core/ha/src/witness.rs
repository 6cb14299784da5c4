//! The witness: a cell outside the pair that is compared and swapped, and the
//! rules by which it settles who may lead when the nodes do not hear each
//! other. The rules are numbered in `docs/ha.md` (*Witness*), and explored in
//! every order of events by `proof/model`.

use crate::machine::Ending;
use crate::{Cause, Effect, Event, Hello, LostCause, Machine, NodeId, Role, Terms};
use holdfast_base::{Duration, Instant};
use std::collections::VecDeque;

/// Sent hellos whose time is remembered until the peer answers them.
const MAX_SENT: usize = 64;
/// Time between two looks at the cell that are for the operator's eyes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Who leads by what the witness has lent writes this often, so that a node that
/// watches the cell sees that somebody lives by it.
const BEAT: Duration = Duration::from_millis(250);
/// After an attempt that failed, the next one no sooner than this.
const LEAST_PAUSE: Duration = Duration::from_millis(2);

/// What the witness holds: who leads, and under which term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The node that leads.
    pub owner: NodeId,
    /// Its term.
    pub term: u64,
}

impl Claim {
    /// The highest term that a pair reaches. A cell with a higher one is damaged.
    pub const MAX_TERM: u64 = Terms::MAX;
}

/// What to do with the witness's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WitnessAsk {
    /// Read it.
    Look,
    /// Grant it if it holds this; write nothing.
    Confirm(Claim),
    /// Write `to` if the cell holds `expect`, or `to` already (the answer to a
    /// former attempt was lost). No expectation: if it holds nothing, or a
    /// lower term than that of `to`. What is written counts as a change even if it
    /// is the same.
    Swap {
        /// What the cell must hold.
        expect: Option<Claim>,
        /// What to write.
        to: Claim,
    },
}

/// One question to the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WitnessRequest {
    /// Comes back with the answer; an answer to an older question is ignored.
    pub number: u32,
    /// What is asked.
    pub ask: WitnessAsk,
    /// After this time an answer is of no use.
    pub patience: Duration,
}

/// What the cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Held {
    /// The claim.
    pub claim: Claim,
    /// Another number with every writing.
    pub revision: u64,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WitnessAnswer {
    /// The cell holds what was to be written.
    Granted,
    /// The cell holds this, and was not changed.
    Holds(Option<Held>),
    /// No answer, or none that makes sense. The cell may have changed.
    Unreachable,
}

/// The witness for display.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessView {
    /// It decides. Not while the peer says that it has no witness.
    pub in_force: bool,
    /// Whether it answered when it was last asked, and since when it does (or does not).
    pub reachable: Option<(bool, Instant)>,
    /// What the cell held when it was last seen.
    pub cell: Option<Claim>,
    /// The peer has said nothing since we won the cell.
    pub sole: bool,
}

/// How long the cell has stayed as it is.
#[derive(Clone, Copy, Debug)]
struct Watched {
    held: Option<Held>,
    /// It was seen so at this time at the latest.
    first: Instant,
    /// And still at this time at the earliest.
    last: Instant,
}

/// A question that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Request {
    number: u32,
    ask: WitnessAsk,
    sent: Instant,
    until: Instant,
}

/// A cell that was won and is not used yet.
#[derive(Clone, Copy, Debug)]
struct Licence {
    term: u64,
    /// When it was granted first.
    answered: Instant,
    /// It was taken from the very term that we are caught up with.
    exact: bool,
}

/// What a machine knows of the witness, and of the peer's answers.
#[derive(Clone, Debug)]
pub(crate) struct Witness {
    number: u32,
    request: Option<Request>,
    licence: Option<Licence>,
    /// When the last question that it granted was sent.
    granted: Option<Instant>,
    /// When the newest hello that the peer has answered was sent.
    answered: Option<Instant>,
    /// Number and time of hellos that were sent, oldest first; not of all.
    sent: VecDeque<(u64, Instant)>,
    sole: bool,
    /// As primary: the cell holds our term.
    registered: bool,
    /// As primary: the term of a claim of which we do not know whether it was
    /// granted. Only a definite answer ends it: the cell must name the term that
    /// the peer follows, or neither of us could win from it.
    owed: Option<u64>,
    /// The highest term that this life led or followed.
    bound: u64,
    next_ask: Instant,
    /// When it was asked last.
    asked: Option<Instant>,
    /// When we wrote last.
    written: Option<Instant>,
    watched: Option<Watched>,
    reachable: Option<(bool, Instant)>,
    cell: Option<Claim>,
}

impl Witness {
    pub(crate) fn new(now: Instant) -> Witness {
        Witness {
            number: 0,
            request: None,
            licence: None,
            granted: None,
            answered: None,
            sent: VecDeque::new(),
            sole: false,
            registered: false,
            owed: None,
            bound: 0,
            next_ask: now,
            asked: None,
            written: None,
            watched: None,
            reachable: None,
            cell: None,
        }
    }

    /// A hello leaves. Those that leave in a hurry share an entry, with the
    /// time of the first.
    pub(crate) fn note_sent(&mut self, now: Instant, seq: u64, apart: Duration) {
        if self.sent.back().is_some_and(|&(_, at)| now.since(at) < apart) {
            return;
        }
        if self.sent.len() == MAX_SENT {
            self.sent.pop_front();
        }
        self.sent.push_back((seq, now));
    }

    /// No later than the sending of our hello with this number.
    fn sending_of(&self, seq: u64) -> Option<Instant> {
        self.sent.iter().rev().find(|&&(sent, _)| sent <= seq).map(|&(_, at)| at)
    }

    /// A term that we follow or lead.
    pub(crate) fn note_term(&mut self, term: u64) {
        self.bound = self.bound.max(term);
    }

    /// A living primary is followed: what was won without it is void.
    pub(crate) fn drop_licence(&mut self) {
        self.licence = None;
    }

    /// The role of primary is taken.
    pub(crate) fn begin_lead(&mut self, term: u64, joined: bool, won: bool) {
        self.note_term(term);
        self.registered = won;
        self.sole = !joined;
        (self.licence, self.request, self.owed) = (None, None, None);
    }

    /// The gate closes.
    pub(crate) fn end_lead(&mut self) {
        (self.sole, self.registered) = (false, false);
        (self.granted, self.request, self.owed) = (None, None, None);
    }

    fn note_held(&mut self, now: Instant, sent: Instant, held: Option<Held>) {
        self.cell = held.map(|held| held.claim);
        match &mut self.watched {
            Some(watched) if watched.held == held => watched.last = watched.last.max(sent),
            _ => self.watched = Some(Watched { held, first: now, last: now }),
        }
    }

    /// Whether a swap is on its way. A look keeps nobody waiting.
    fn is_swapping(&self) -> bool {
        self.request.is_some_and(|request| request.ask != WitnessAsk::Look)
    }

    fn note_reach(&mut self, now: Instant, reachable: bool) -> bool {
        let changed = self.reachable.is_none_or(|(before, _)| before != reachable);
        if changed {
            self.reachable = Some((reachable, now));
        }
        changed
    }
}

impl Machine {
    /// Whether the witness decides: it is set here, and the peer has not said
    /// that it has none.
    pub(crate) fn is_witnessed(&self) -> bool {
        let peer_asks = self.peer.heard.is_none_or(|heard| heard.hello.witness.is_some());
        self.settings.witness && self.settings.peer.is_some() && peer_asks
    }

    /// The answer to [`Effect::AskWitness`].
    pub fn handle_witness(&mut self, now: Instant, number: u32, answer: WitnessAnswer) {
        self.enter(now);
        if let Some(request) = self.witness.request.filter(|request| request.number == number) {
            self.witness.request = None;
            self.hear_witness(now, request, answer);
        }
        self.settle(now);
    }

    fn hear_witness(&mut self, now: Instant, request: Request, answer: WitnessAnswer) {
        match (request.ask, answer) {
            (_, WitnessAnswer::Unreachable) => {
                self.witness_failed(now);
                return;
            }
            (_, WitnessAnswer::Holds(Some(held))) if held.claim.term > Terms::MAX => {
                // Damage, not news.
                self.witness_failed(now);
                return;
            }
            (WitnessAsk::Look, WitnessAnswer::Granted) => {}
            (WitnessAsk::Look, WitnessAnswer::Holds(held)) => {
                self.witness.note_held(now, request.sent, held);
                self.miss_registration(held);
            }
            (WitnessAsk::Confirm(claim), WitnessAnswer::Granted) => {
                self.witness_granted(now, request.sent, Some(claim), claim);
            }
            (WitnessAsk::Swap { expect, to }, WitnessAnswer::Granted) => {
                self.witness.cell = Some(to);
                self.witness.written = Some(request.sent);
                self.witness_granted(now, request.sent, expect, to);
            }
            (WitnessAsk::Swap { .. } | WitnessAsk::Confirm(_), WitnessAnswer::Holds(held)) => {
                self.witness.note_held(now, request.sent, held);
                self.witness_refused(now, held);
            }
        }
        if self.witness.note_reach(now, true) {
            self.event(Event::WitnessReached);
        }
    }

    /// As primary: a cell that somebody has emptied, or put back, is written again, as when the witness was new.
    fn miss_registration(&mut self, held: Option<Held>) {
        let leads = matches!(self.role(), Role::Primary | Role::Draining);
        if leads && held.is_none_or(|held| held.claim.term < self.term) {
            self.witness.registered = false;
        }
    }

    fn witness_failed(&mut self, now: Instant) {
        self.witness.next_ask = now + self.witness_pause();
        if self.witness.note_reach(now, false) {
            self.event(Event::WitnessLost);
        }
    }

    fn witness_granted(&mut self, now: Instant, sent: Instant, expect: Option<Claim>, to: Claim) {
        match self.role() {
            // It was written what is so already: nothing is lent for that.
            Role::Primary | Role::Draining if expect.is_none() => self.witness.registered = true,
            Role::Primary | Role::Draining if to.term < self.term => {}
            Role::Primary | Role::Draining => {
                self.witness.granted = self.witness.granted.max(Some(sent));
                if to.term > self.term {
                    // One that does not answer cannot lead from what it holds any more: nothing waits for it. One that is back
                    // hears of the term, and what waits for it goes on waiting.
                    if !self.is_answered_in_time() {
                        self.lose(LostCause::Silence);
                    }
                    self.promised_until = now;
                    self.flipping = false;
                    self.lead(now, to.term, Cause::Witnessed);
                }
            }
            Role::Init | Role::Secondary => {
                self.witness.granted = self.witness.granted.max(Some(sent));
                if self.witness.licence.is_none_or(|licence| licence.term != to.term) {
                    self.witness.licence = Some(Licence { term: to.term, answered: now, exact: expect.is_some() });
                    self.ask_after = now;
                }
            }
        }
    }

    /// The pair went on without us, or is about to.
    fn witness_refused(&mut self, now: Instant, held: Option<Held>) {
        self.terms.note(held.map_or(0, |held| held.claim.term));
        (self.witness.licence, self.witness.owed) = (None, None);
        self.witness.next_ask = now + self.witness_pause();
        match self.role() {
            Role::Primary | Role::Draining => {}
            Role::Init | Role::Secondary => self.current = false,
        }
    }

    /// The term that the witness lets us lead, if it does; asks it otherwise.
    /// From the very term that we hold, we lead at once: its primary cannot
    /// win any more. Otherwise all that was lent before must have ended first,
    /// and the cell must still be ours then.
    pub(crate) fn licensed_term(&mut self, now: Instant) -> Option<u64> {
        let Some(licence) = self.witness.licence else {
            self.ask_for_licence(now);
            return None;
        };
        let waited = licence.exact || now >= licence.answered + self.lent_at_most();
        let fresh = self.witness.granted.is_some_and(|granted| now < granted + self.loan());
        (waited && fresh && licence.term > self.term).then_some(licence.term)
    }

    /// How long something lent to the peer may last. A peer that was never heard
    /// may have a longer dead interval than ours.
    fn lent_at_most(&self) -> Duration {
        let patience = self.peer.patience(self.settings.dead());
        if self.peer.heard.is_some() { patience } else { patience.max(self.settings.start_up()) }
    }

    fn ask_for_licence(&mut self, now: Instant) {
        let Some(term) = self.terms.reserved() else { return };
        let held = match (self.following, self.settings.peer) {
            (Some((_, term)), Some(peer)) => Claim { owner: peer, term },
            (_, _) => Claim { owner: self.settings.node, term: self.term },
        };
        let expect = self.current.then_some(held);
        if expect.is_none() && !self.may_take_any(now) {
            return;
        }
        self.ask_to_swap(now, expect, term);
    }

    /// Whether nobody lives by what the cell holds, as far as can be seen: the
    /// peer is heard, and does not lead; or the cell is our own, or empty, or has
    /// not changed for as long as a node may go without being heard.
    fn may_take_any(&self, now: Instant) -> bool {
        if self.peer.joined {
            return true;
        }
        let Some(watched) = self.witness.watched else { return false };
        let foreign = watched.held.is_some_and(|held| held.claim.owner != self.settings.node);
        let recent = now < watched.last + self.settings.start_up();
        recent && (!foreign || watched.last >= watched.first + self.settings.start_up())
    }

    /// Whether the cell is watched, for want of the peer.
    fn watches_cell(&self) -> bool {
        self.is_witnessed() && !self.peer.joined && !self.current && self.witness.licence.is_none()
    }

    fn look_due(&self) -> Instant {
        let pause = if self.watches_cell() { self.settings.start_up() / 8 } else { LOOK_EVERY };
        self.witness.asked.map_or(self.now, |asked| asked + pause)
    }

    /// Writes our name and this term, if the pace allows; returns whether it does.
    fn ask_to_swap(&mut self, now: Instant, expect: Option<Claim>, term: u64) -> bool {
        let may = now >= self.witness.next_ask && !self.witness.is_swapping();
        if may {
            let to = Claim { owner: self.settings.node, term };
            let beats = self.witness.written.is_none_or(|written| now >= written + BEAT);
            let keeps = expect == Some(to) && !beats;
            let swap = WitnessAsk::Swap { expect, to };
            self.ask_witness(now, if keeps { WitnessAsk::Confirm(to) } else { swap });
        }
        may
    }

    fn ask_witness(&mut self, now: Instant, ask: WitnessAsk) {
        let patience = self.loan() / 3;
        self.witness.number = self.witness.number.wrapping_add(1);
        let number = self.witness.number;
        self.witness.request = Some(Request { number, ask, sent: now, until: now + patience });
        self.witness.asked = Some(now);
        self.effects.push_back(Effect::AskWitness(WitnessRequest { number, ask, patience }));
    }

    /// Asks what is due.
    pub(crate) fn check_witness(&mut self, now: Instant) {
        if !self.settings.witness || self.settings.peer.is_none() || self.ending != Ending::No {
            return;
        }
        if self.witness.request.is_some_and(|request| now >= request.until) {
            self.witness.request = None;
            self.witness_failed(now);
        }
        if self.is_witnessed() && self.swap_due().is_some_and(|due| now >= due) {
            self.swap(now);
        }
        if now >= self.look_due() && self.witness.request.is_none() {
            self.ask_witness(now, WitnessAsk::Look);
        }
    }

    /// When the cell must be won, or asked for again.
    fn swap_due(&self) -> Option<Instant> {
        let renewal = || self.witness.granted.unwrap_or(self.since) + self.loan() / 3;
        match self.role() {
            Role::Primary | Role::Draining if self.witness.sole => Some(renewal()),
            Role::Primary | Role::Draining if self.witness.owed.is_some() => Some(self.since),
            Role::Primary | Role::Draining if !self.witness.registered && self.is_answered() => Some(self.since),
            Role::Primary | Role::Draining => Some(self.witnessed_lease_end() - self.loan() / 3),
            Role::Init | Role::Secondary => self.witness.licence.map(|_| renewal()),
        }
    }

    /// A primary that the peer does not answer takes another term, so that the
    /// peer cannot win from the term that it knows. Whoever has won asks for
    /// its own value again and again.
    fn swap(&mut self, now: Instant) {
        let own = |term| Some(Claim { owner: self.settings.node, term });
        let leads = match self.role() {
            Role::Init | Role::Secondary => false,
            Role::Primary | Role::Draining => true,
        };
        let (expect, term) = match self.witness.licence {
            Some(licence) => (own(licence.term), Some(licence.term)),
            None if !leads => return,
            None if self.witness.sole => (own(self.term), Some(self.term)),
            None if self.witness.owed.is_none() && !self.witness.registered && self.is_answered() => {
                (None, Some(self.term))
            }
            None => (own(self.term), self.witness.owed.or(self.terms.reserved())),
        };
        if let Some(term) = term {
            let asked = self.ask_to_swap(now, expect, term);
            if asked && leads && term > self.term {
                self.witness.owed = Some(term);
            }
        }
    }

    /// Whether what the peer has answered is a lease by itself.
    fn is_answered(&self) -> bool {
        self.witness.answered.is_some_and(|answered| self.now < answered + self.lease_length())
    }

    /// Whether what the peer has answered is so new that the witness need not be asked on its account.
    fn is_answered_in_time(&self) -> bool {
        let enough = self.lease_length().saturating_sub(self.loan() / 3);
        self.witness.answered.is_some_and(|answered| self.now < answered + enough)
    }

    /// Time between two attempts.
    fn witness_pause(&self) -> Duration {
        (self.settings.hello / 4).max(LEAST_PAUSE)
    }

    /// With a witness, a lease counts from the sending of what was answered.
    pub(crate) fn witnessed_lease_end(&self) -> Instant {
        let answered = self.witness.answered.map(|answered| answered + self.lease_length());
        let granted = self.witness.granted.map(|granted| granted + self.loan());
        answered.max(granted).unwrap_or(self.since)
    }

    /// How long what the witness has lent lasts.
    fn loan(&self) -> Duration {
        self.settings.loan().min(self.lease_length())
    }

    /// When [`Machine::check_witness`] has something to do.
    pub(crate) fn witness_deadlines(&self) -> [Option<Instant>; 6] {
        if !self.settings.witness {
            return [None; 6];
        }
        [
            self.witness.request.map(|request| request.until),
            Some(self.look_due()),
            Some(self.witness.next_ask),
            self.swap_due(),
            self.witness.licence.map(|licence| licence.answered + self.lent_at_most()),
            self.lease_expiry(),
        ]
    }

    /// What a hello of ours says: that we ask a witness, and, as a follower,
    /// which hello of the peer we have heard last.
    pub(crate) fn answered_hello(&self) -> Option<Answered> {
        let heard = match self.role() {
            Role::Init | Role::Secondary => self.peer.heard,
            // Two primaries lend each other nothing.
            Role::Primary | Role::Draining => None,
        };
        let answered = heard.map(|heard| Answered { boot: heard.hello.boot, seq: heard.hello.seq });
        self.settings.witness.then(|| answered.unwrap_or_default())
    }

    /// When the hello that this one answers was sent.
    fn answer_in(&self, hello: &Hello) -> Option<Instant> {
        let answered = hello.witness.filter(|answered| answered.boot == self.boot)?;
        match hello.role {
            Role::Init | Role::Secondary => self.witness.sending_of(answered.seq),
            Role::Primary | Role::Draining => None,
        }
    }

    /// With a witness: whether a hello counts. Nobody leads a term lower than
    /// one that we led or followed. And as long as a loan of the witness lasts,
    /// only an answer that takes its place is a word from the peer.
    pub(crate) fn is_word(&self, now: Instant, term: u64, hello: &Hello) -> bool {
        if hello.witness.is_none() || !self.is_witnessed() {
            return true;
        }
        match hello.role {
            Role::Primary | Role::Draining => term >= self.witness.bound,
            Role::Init | Role::Secondary if self.witness.sole => {
                self.answer_in(hello).is_some_and(|answered| now < answered + self.lease_length())
            }
            Role::Init | Role::Secondary => true,
        }
    }

    /// A follower answers a primary at once: the primary's lease lives on it.
    pub(crate) fn answer_primary(&mut self, now: Instant, hello: &Hello) {
        match (self.role(), hello.role) {
            (Role::Init | Role::Secondary, Role::Primary | Role::Draining) if self.is_witnessed() => {
                self.send_hello(now);
            }
            (_, _) => {}
        }
    }

    /// A word from the peer: it may renew the lease, and it ends what the
    /// witness has lent while there was none.
    pub(crate) fn hear_answer(&mut self, hello: &Hello) {
        self.witness.answered = self.witness.answered.max(self.answer_in(hello));
        if core::mem::replace(&mut self.witness.sole, false) {
            (self.witness.granted, self.witness.request) = (None, None);
        }
    }

    /// The settings have changed: a primary has one lease to get its first
    /// answer in.
    pub(crate) fn reset_witness(&mut self, now: Instant) {
        let answered = match self.role() {
            Role::Init | Role::Secondary => None,
            Role::Primary | Role::Draining => Some(now),
        };
        let Witness { number, bound, .. } = self.witness;
        self.witness = Witness { number, bound, answered, ..Witness::new(now) };
    }

    /// For display; `None` without one.
    pub(crate) fn witness_view(&self) -> Option<WitnessView> {
        let Witness { reachable, cell, sole, .. } = self.witness;
        self.settings.witness.then(|| WitnessView { in_force: self.is_witnessed(), reachable, cell, sole })
    }
}

/// The hello that another one answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Answered {
    /// The boot of its sender; 0: none is answered.
    pub boot: u64,
    /// Its number.
    pub seq: u64,
}
