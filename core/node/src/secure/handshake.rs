//! The steps: hail, offer, answer, and what follows from them.

use holdfast_base::Instant;
use holdfast_ha::PathId;

use core::time::Duration;

use super::pake::{self, Part, Said, Terms, with_lengths};
use super::session::{End, Material, Session};
use super::step::{Step, StepKind};
use super::{CONFIRM_PAUSE, Failure, Opened, Outgoing, Password, RETRY_PAUSE, Secure, Told};
use crate::envelope::{Header, MessageKind, Refused};

/// Pause before an offer under a session is sent again.
const OFFER_AGAIN: Duration = Duration::from_millis(100);
/// Answered offers that wait, on one path.
pub(super) const HALF_OPEN_PER_PATH: usize = 2;
/// Confirmations at most.
const CONFIRMATIONS: u32 = 100;
/// Part of the draft's CI: another protocol with the same password gets other keys.
const PROTOCOL: &[u8] = b"holdfast peer channel 2";

/// An offer of ours.
pub(crate) struct Attempt {
    /// `None`: under the session.
    path: Option<PathId>,
    pub number: u64,
    boot: u64,
    part: Part,
    password: Password,
    detail: u8,
    pub made: Instant,
    pub failed: bool,
}

/// An offer that we have answered.
pub(crate) struct HalfOpen {
    pub attempt: u64,
    /// `None`: under the session.
    path: Option<PathId>,
    pub made: Instant,
    pub session: Session,
    answer: Step,
}

impl Secure {
    pub(super) fn step_in_clear(
        &mut self,
        now: Instant,
        path: PathId,
        header: &Header,
        payload: &[u8],
    ) -> Result<Opened, Refused> {
        if header.kind != MessageKind::Handshake {
            return Err(Refused::Unkeyed);
        }
        let step = Step::decode(payload)?;
        if step.kind == StepKind::Hail {
            self.hear_hail(now, path, header, &step)?;
            return Ok(Opened::Claim(step.role));
        }
        if !self.returns_cookie(path, header, &step) {
            return Err(Refused::Cookie);
        }
        self.step(now, Some(path), header, &step).map(|()| Opened::Step)
    }

    /// What we give to whoever hears us on this path, and to nobody else.
    pub(super) fn cookie(&self, path: PathId) -> u64 {
        let hash = blake3::keyed_hash(&self.cookie_key, &[path.0]);
        hash.as_bytes()[..8].iter().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }

    fn returns_cookie(&self, path: PathId, header: &Header, step: &Step) -> bool {
        header.echo == self.peer.own_boot() && step.echo == self.cookie(path)
    }

    fn hear_hail(&mut self, now: Instant, path: PathId, header: &Header, step: &Step) -> Result<(), Refused> {
        self.counters.hails += 1;
        // Who hails may be unable to read us although we hear it, so it gets its handshake. The session stays until
        // the next one is proven.
        if self.password.is_none() || self.is_new_with(now, header.boot) {
            return Ok(());
        }
        if self.returns_cookie(path, header, step) {
            if self.offers() {
                return self.offer(now, path, header.boot, step.cookie);
            }
        } else if !self.limits.may_reply(now, path) {
            // What it claims to be counts all the same.
            self.counters.hails_unanswered += 1;
            return Ok(());
        }
        self.hail(Some(path), header.boot, step.cookie);
        Ok(())
    }

    pub(super) fn hail(&mut self, path: Option<PathId>, boot: u64, echo: u64) {
        let step = Step { role: self.role, encrypt: self.encrypt, echo, ..Step::new(StepKind::Hail) };
        self.say(path, boot, step);
    }

    /// A step other than a hail, in clear by `path`, or under the session.
    pub(super) fn step(
        &mut self,
        now: Instant,
        path: Option<PathId>,
        header: &Header,
        step: &Step,
    ) -> Result<(), Refused> {
        match step.kind {
            StepKind::Offer => self.answer(now, path, header, step),
            StepKind::Answer => self.conclude(now, path, header, step),
            StepKind::Refusal => self.hear_refusal(now, header, step),
            // Under a session: the peer wants another one.
            StepKind::Hail => {
                if self.offers() && self.rekey_due().is_some_and(|due| self.next.is_none() || now >= due) {
                    self.offer_closed(now);
                }
                Ok(())
            }
        }
    }

    /// Under the session that works.
    pub(super) fn rekey(&mut self, now: Instant) {
        if self.offers() {
            self.offer_closed(now);
        } else {
            self.next_rekey = now + RETRY_PAUSE;
            self.say_closed(Step { encrypt: self.encrypt, ..Step::new(StepKind::Hail) });
        }
    }

    fn offer_closed(&mut self, now: Instant) {
        let boot = self.peer.boot();
        self.next_rekey = now + OFFER_AGAIN;
        if !self.offered(None, boot) {
            if let Some(until) = self.limits.pause(now, None) {
                self.next_rekey = until;
                return;
            }
            self.limits.set_pause(now, None, RETRY_PAUSE);
            self.begin_attempt(now, None, boot, 0);
        }
        if let Some(step) = self.offer_step(None, 0) {
            self.say_closed(step);
        }
    }

    /// In clear, to a life that has shown that it hears us on `path`.
    fn offer(&mut self, now: Instant, path: PathId, boot: u64, cookie: u64) -> Result<(), Refused> {
        if !self.offered(Some(path), boot) {
            if self.limits.pause(now, Some(path)).is_some() {
                return Ok(());
            }
            if !self.limits.may_work(now, path) {
                return Err(Refused::Busy);
            }
            let choices: &[u8] = if self.former_password.is_some() { &[0, 1, 2, 3] } else { &[0, 2] };
            let (choice, last) = self.limits.next_try(now, path, choices);
            if last {
                self.limits.set_pause(now, Some(path), RETRY_PAUSE);
            }
            self.begin_attempt(now, Some(path), boot, choice);
        }
        if let Some(step) = self.offer_step(Some(path), cookie) {
            self.say(Some(path), boot, step);
        }
        Ok(())
    }

    /// An offer to that life is under way there.
    fn offered(&self, path: Option<PathId>, boot: u64) -> bool {
        let alive = |attempt: &Attempt| attempt.path == path && attempt.boot == boot && !attempt.failed;
        self.attempts.iter().any(alive)
    }

    /// `choice`: 1 our former password, 2 the peer's.
    fn begin_attempt(&mut self, now: Instant, path: Option<PathId>, boot: u64, choice: u8) {
        let former = self.former_password.as_ref().filter(|_| choice & 1 != 0);
        let Some(password) = former.or(self.password.as_ref()).cloned() else { return };
        let number = u64::from_be_bytes(self.entropy.draw());
        let run = run(self.peer.own_boot(), boot, number);
        let channel = channel(self.node, self.peer_node);
        let terms = Terms { password: &password[..], channel: &channel, run: &run };
        let part = Part::begin(&terms, self.entropy.draw());
        self.counters.offers += 1;
        self.attempts.retain(|attempt| attempt.path != path);
        let detail = choice >> 1;
        self.attempts.push(Attempt { path, number, boot, part, password, detail, made: now, failed: false });
    }

    fn offer_step(&self, path: Option<PathId>, echo: u64) -> Option<Step> {
        let attempt = self.attempts.iter().find(|attempt| attempt.path == path)?;
        Some(Step {
            encrypt: self.encrypt,
            detail: attempt.detail,
            echo,
            attempt: attempt.number,
            point: attempt.part.point(),
            ..Step::new(StepKind::Offer)
        })
    }

    /// An offer: answered with our point and our proof.
    fn answer(&mut self, now: Instant, path: Option<PathId>, header: &Header, step: &Step) -> Result<(), Refused> {
        if self.offers() {
            return Err(Refused::Stale);
        }
        if step.attempt == self.adopted && header.boot == self.peer.boot() {
            return Ok(());
        }
        let fits = |waiting: &&HalfOpen| waiting.attempt == step.attempt && waiting.session.boot == header.boot;
        if let Some(waiting) = self.half_open.iter().find(fits) {
            let answer = waiting.answer;
            self.reply(path, header.boot, Step { echo: step.cookie, ..answer });
            return Ok(());
        }
        if step.encrypt != self.encrypt {
            self.fail(now, Failure::Secure);
            let refusal = Step { detail: 2, attempt: step.attempt, echo: step.cookie, ..Step::new(StepKind::Refusal) };
            self.reply(path, header.boot, refusal);
            return Ok(());
        }
        if path.is_some_and(|path| !self.limits.may_work(now, path)) {
            return Err(Refused::Busy);
        }
        let former = self.former_password.as_ref().filter(|_| step.detail & 1 != 0);
        let Some(password) = former.or(self.password.as_ref()).cloned() else { return Ok(()) };
        let run = run(header.boot, self.peer.own_boot(), step.attempt);
        let channel = channel(self.peer_node, self.node);
        let terms = Terms { password: &password[..], channel: &channel, run: &run };
        let part = Part::begin(&terms, self.entropy.draw());
        let point = part.point();
        let said = [
            Said { point: &step.point, bound: &flags(step.encrypt) },
            Said { point: &point, bound: &flags(self.encrypt) },
        ];
        let secret = pake::secret(&part, &step.point, &run, said).ok_or(Refused::Malformed)?;
        let material = Material::of(secret);
        let session = Session::new(now, &material, End::Answering, header.boot, self.encrypt, password);
        let answer = Step {
            encrypt: self.encrypt,
            attempt: step.attempt,
            point,
            proof: material.proof(),
            ..Step::new(StepKind::Answer)
        };
        self.counters.answers += 1;
        self.wait_half_open(HalfOpen { attempt: step.attempt, path, made: now, session, answer });
        self.reply(path, header.boot, Step { echo: step.cookie, ..answer });
        Ok(())
    }

    /// The oldest of its path makes room.
    fn wait_half_open(&mut self, half_open: HalfOpen) {
        let same = |waiting: &HalfOpen| waiting.path == half_open.path;
        if self.half_open.iter().filter(|waiting| same(waiting)).count() >= HALF_OPEN_PER_PATH
            && let Some(oldest) = self.half_open.iter().position(same)
        {
            self.half_open.remove(oldest);
            self.counters.half_open_evicted += 1;
        }
        self.half_open.push(half_open);
    }

    /// The answer to our offer: does the peer know the password?
    fn conclude(&mut self, now: Instant, path: Option<PathId>, header: &Header, step: &Step) -> Result<(), Refused> {
        let fits = |attempt: &Attempt| attempt.number == step.attempt && attempt.boot == header.boot;
        let index = self.attempts.iter().position(fits).ok_or(Refused::Stale)?;
        if path.is_some_and(|path| !self.limits.may_work(now, path)) {
            return Err(Refused::Busy);
        }
        let attempt = &mut self.attempts[index];
        let run = run(self.peer.own_boot(), attempt.boot, attempt.number);
        let point = attempt.part.point();
        let said = [
            Said { point: &point, bound: &flags(self.encrypt) },
            Said { point: &step.point, bound: &flags(step.encrypt) },
        ];
        let secret = pake::secret(&attempt.part, &step.point, &run, said).ok_or(Refused::Malformed)?;
        let material = Material::of(secret);
        if !material.proves(&step.proof) {
            // The attempt can still be answered: this may have been a forgery.
            attempt.failed = true;
            if path.is_none_or(|path| self.limits.tried_all(now, path)) {
                let refusal =
                    Step { detail: 1, attempt: step.attempt, echo: step.cookie, ..Step::new(StepKind::Refusal) };
                self.reply(path, header.boot, refusal);
                self.fail(now, Failure::Password);
            }
            return Err(Refused::Authentication);
        }
        let session = Session::new(now, &material, End::Offering, attempt.boot, self.encrypt, attempt.password.clone());
        let same_life = self.current.as_ref().is_some_and(|current| current.boot == session.boot);
        if same_life {
            // The session in use goes on until the peer is heard under this one. The peer may have taken up the one
            // that was concluded before and is not heard yet.
            if let Some(unheard) = self.next.replace(session) {
                self.keep_former(unheard);
            }
            self.attempts.clear();
        } else {
            self.establish(now, session);
        }
        (self.confirmations, self.confirm_at) = (CONFIRMATIONS, now + CONFIRM_PAUSE);
        self.push(Outgoing::Confirm);
        Ok(())
    }

    fn hear_refusal(&mut self, now: Instant, header: &Header, step: &Step) -> Result<(), Refused> {
        let fits = |own: &&mut Attempt| own.number == step.attempt && own.boot == header.boot;
        let own = self.attempts.iter_mut().find(fits).map(|own| own.failed = true);
        let answered = |waiting: &HalfOpen| waiting.attempt == step.attempt && waiting.session.boot == header.boot;
        if own.is_none() && !self.half_open.iter().any(answered) {
            return Err(Refused::Stale);
        }
        match step.detail {
            1 => self.fail(now, Failure::Password),
            2 => self.fail(now, Failure::Secure),
            _ => return Err(Refused::Malformed),
        }
        Err(Refused::Authentication)
    }

    /// Counted; told once.
    fn fail(&mut self, now: Instant, failure: Failure) {
        let failure = match failure {
            Failure::Password if self.unset => Failure::Unset,
            Failure::Password | Failure::Unset | Failure::Secure => failure,
        };
        self.last_failure = Some((now, failure));
        match failure {
            Failure::Password | Failure::Unset => self.counters.wrong_password += 1,
            Failure::Secure => self.counters.wrong_secure += 1,
        }
        if self.failure_told != Some(failure) {
            self.failure_told = Some(failure);
            self.told.push_back(Told::Failed(failure));
        }
    }
}

/// The draft's sid: the two lives, and the attempt.
fn run(offering: u64, answering: u64, attempt: u64) -> [u8; 24] {
    let mut run = [0; 24];
    for (part, word) in run.chunks_exact_mut(8).zip([offering, answering, attempt]) {
        part.copy_from_slice(&word.to_be_bytes());
    }
    run
}

/// The draft's CI: the protocol, and who offers to whom.
fn channel(offering: u128, answering: u128) -> Vec<u8> {
    with_lengths(&[PROTOCOL, &offering.to_be_bytes(), &answering.to_be_bytes()])
}

/// What a side wants, bound to its point.
fn flags(encrypt: bool) -> [u8; 1] {
    [u8::from(encrypt)]
}
