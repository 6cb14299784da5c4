//! What the receiver began a session with, told until the sender has answered.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::{BUCKETS_PER_PART, PARTS};

use crate::wire::{self, Told};

/// Time after which what was not answered is told again: some round trips of a
/// busy link, and a fraction of what the sender waits for it.
const REPEAT: Duration = Duration::from_millis(20);

/// A session's summary on its way.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    /// The digests of all buckets; empty: there is nothing in any.
    digests: Vec<u64>,
    /// Parts that the sender has not answered.
    unanswered: u64,
    /// Of these, what is still to be written in this round.
    round: u64,
    /// When the next round begins.
    repeat_at: Option<Instant>,
}

const _: () = assert!(PARTS == u64::BITS as usize, "one bit per part");

impl Offer {
    pub(crate) fn new(digests: Vec<u64>) -> Offer {
        Offer { digests, unanswered: u64::MAX, round: u64::MAX, repeat_at: None }
    }

    /// The sender has decided about a part.
    pub(crate) fn answer(&mut self, part: u8) {
        let bit = 1u64.checked_shl(part.into()).unwrap_or_default();
        self.unanswered &= !bit;
        self.round &= !bit;
        if self.unanswered == 0 {
            self.repeat_at = None;
        }
    }

    /// The sender does not wait for it any more.
    pub(crate) fn withdraw(&mut self) {
        *self = Offer::default();
    }

    /// Writes the next message of it into `out`.
    pub(crate) fn poll(&mut self, now: Instant, session: u32, out: &mut Vec<u8>) -> bool {
        if self.repeat_at.is_some_and(|at| at <= now) {
            self.round = self.unanswered;
        }
        if self.round == 0 {
            return false;
        }
        let part = self.round.trailing_zeros() as u8;
        let first = usize::from(part) * BUCKETS_PER_PART;
        let told = match self.digests.get(first..).and_then(|rest| rest.first_chunk()) {
            Some(&digests) => Told::Part { part, digests: Box::new(digests) },
            None => Told::Nothing,
        };
        match told {
            Told::Nothing => self.round = 0,
            Told::Part { .. } => self.round &= self.round - 1,
        }
        self.repeat_at = Some(now + REPEAT);
        wire::encode_summary(out, &wire::Summary { session, told });
        true
    }

    /// When to poll next, if nothing else happens.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.repeat_at
    }
}
