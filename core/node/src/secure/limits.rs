//! What a stranger may cost us, and where randomness comes from.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_ha::PathId;
use zeroize::Zeroize;

/// Group operations that a handshake may cause on one path, at once …
const WORK_BURST: u32 = 32;
/// … and then each second. It is also the number of guesses at a password that
/// somebody on that path has, so it is small: one takes about a tenth of a millisecond.
const WORK_RATE: u32 = 50;
/// Answers to hails that did not return our cookie, on one path, at once …
const REPLY_BURST: u32 = 32;
/// … and then each second.
const REPLY_RATE: u32 = 100;

/// What may be done at most, for a while.
#[derive(Debug)]
struct Allowance {
    left: u32,
    burst: u32,
    pause: Duration,
    refilled: Instant,
}

impl Allowance {
    fn new(now: Instant, burst: u32, rate: u32) -> Allowance {
        Allowance { left: burst, burst, pause: Duration::from_secs(1) / rate, refilled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.left < self.burst && now.since(self.refilled) >= self.pause {
            self.left += 1;
            self.refilled = self.refilled + self.pause;
        }
        if self.left == self.burst {
            self.refilled = now;
        }
        let granted = self.left > 0;
        self.left -= u32::from(granted);
        granted
    }
}

/// The allowances of one path: whoever floods one leaves the others usable.
#[derive(Debug)]
pub(crate) struct PathLimits {
    path: PathId,
    work: Allowance,
    replies: Allowance,
    pause_until: Instant,
    /// Passwords tried in vain since the last pause.
    tried: usize,
}

/// All paths' allowances; a path is a data port or the link, so there are few.
#[derive(Debug)]
pub(crate) struct Limits {
    paths: Vec<PathLimits>,
    /// The pause between attempts under the session.
    pause_until: Instant,
}

impl Limits {
    pub fn new() -> Limits {
        Limits { paths: Vec::new(), pause_until: Instant::ZERO }
    }

    /// Whether a group operation may be spent on what came by `path`.
    pub fn may_work(&mut self, now: Instant, path: PathId) -> bool {
        self.of(now, path).work.take(now)
    }

    /// Whether a hail that came by `path` may be answered.
    pub fn may_reply(&mut self, now: Instant, path: PathId) -> bool {
        self.of(now, path).replies.take(now)
    }

    /// Until when no offer is made there, if that is later than now. No path: under the session.
    pub fn pause(&mut self, now: Instant, path: Option<PathId>) -> Option<Instant> {
        let until = match path {
            Some(path) => self.of(now, path).pause_until,
            None => self.pause_until,
        };
        Some(until).filter(|until| now < *until)
    }

    /// No offer there for a while.
    pub fn set_pause(&mut self, now: Instant, path: Option<PathId>, pause: Duration) {
        match path {
            Some(path) => self.of(now, path).pause_until = now + pause,
            None => self.pause_until = now + pause,
        }
    }

    /// The next of `choices` in turn, and whether it is the last one.
    pub fn next_try(&mut self, now: Instant, path: PathId, choices: &[u8]) -> (u8, bool) {
        let limits = self.of(now, path);
        let index = limits.tried % choices.len();
        limits.tried = (index + 1) % choices.len();
        (choices[index], limits.tried == 0)
    }

    /// Whether the latest offer there was the last one before a pause.
    pub fn tried_all(&mut self, now: Instant, path: PathId) -> bool {
        self.of(now, path).tried == 0
    }

    /// The settings have changed, or there is a session: nothing was tried yet.
    pub fn forget_tries(&mut self) {
        self.pause_until = Instant::ZERO;
        for limits in &mut self.paths {
            (limits.pause_until, limits.tried) = (Instant::ZERO, 0);
        }
    }

    fn of(&mut self, now: Instant, path: PathId) -> &mut PathLimits {
        let known = self.paths.iter().position(|limits| limits.path == path);
        let index = known.unwrap_or(self.paths.len());
        if known.is_none() {
            self.paths.push(PathLimits {
                path,
                work: Allowance::new(now, WORK_BURST, WORK_RATE),
                replies: Allowance::new(now, REPLY_BURST, REPLY_RATE),
                pause_until: Instant::ZERO,
                tried: 0,
            });
        }
        &mut self.paths[index]
    }
}

/// Random bytes from a seed that came in from outside. Each draw replaces the
/// seed: who finds it later cannot say what was drawn before.
pub(crate) struct Entropy {
    seed: [u8; 32],
}

impl Entropy {
    pub fn new(seed: [u8; 32]) -> Entropy {
        Entropy { seed }
    }

    pub fn draw<const N: usize>(&mut self) -> [u8; N] {
        let mut reader = blake3::Hasher::new_keyed(&self.seed).finalize_xof();
        let mut drawn = [0; N];
        reader.fill(&mut self.seed);
        reader.fill(&mut drawn);
        drawn
    }
}

impl Drop for Entropy {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}
