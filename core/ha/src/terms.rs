//! Terms: known, durable and being stored.

use crate::Effect;
use holdfast_base::{Duration, Instant};
use std::collections::VecDeque;

/// Keeps one term more than any known one durable, so that a promotion does
/// not wait for a disk.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// The highest term stored at the start, heard, or used by us.
    known: u64,
    durable: u64,
    storing: Option<(u64, Instant)>,
}

impl Terms {
    /// No pair lives to see this term: a higher one is damage, not news.
    pub(crate) const MAX: u64 = u64::MAX / 2;

    pub(crate) fn new(stored: u64) -> Terms {
        Terms { known: stored, durable: stored, storing: None }
    }

    /// A durable term above every known one, if there is one.
    pub(crate) fn reserved(&self) -> Option<u64> {
        (self.durable > self.known).then_some(self.durable)
    }

    /// The term that a standalone node uses without waiting.
    pub(crate) fn next(&self) -> u64 {
        self.known.saturating_add(1).max(self.durable)
    }

    pub(crate) fn is_durable(&self, term: u64) -> bool {
        term <= self.durable
    }

    /// Notes a term that was heard or is used from here on.
    pub(crate) fn note(&mut self, term: u64) {
        self.known = self.known.max(term);
    }

    pub(crate) fn stored(&mut self, term: u64) {
        self.durable = self.durable.max(term);
        if self.storing.is_some_and(|(wanted, _)| wanted <= term) {
            self.storing = None;
        }
    }

    /// Asks for the next term to be stored unless that is done or under way.
    pub(crate) fn reserve(&mut self, now: Instant, effects: &mut VecDeque<Effect>) {
        let wanted = self.known.saturating_add(1);
        if self.durable >= wanted || self.storing.is_some_and(|(term, _)| term >= wanted) {
            return;
        }
        let since = self.storing.map_or(now, |(_, since)| since);
        self.storing = Some((wanted, since));
        effects.push_back(Effect::StoreTerm(wanted));
    }

    /// Whether the disk has failed to answer for `patience`.
    pub(crate) fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        self.reserved().is_none() && self.storing.is_some_and(|(_, since)| now.since(since) >= patience)
    }
}
