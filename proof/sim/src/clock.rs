//! The queue of what will happen, in order of time, then of insertion.

use std::collections::BTreeMap;

use holdfast_base::Instant;

/// Events by time; equal times keep the order of insertion.
#[derive(Debug)]
pub struct Agenda<E> {
    events: BTreeMap<(Instant, u64), E>,
    inserted: u64,
}

impl<E> Default for Agenda<E> {
    fn default() -> Agenda<E> {
        Agenda { events: BTreeMap::new(), inserted: 0 }
    }
}

impl<E> Agenda<E> {
    /// Plans `event` for `at`.
    pub fn plan(&mut self, at: Instant, event: E) {
        self.inserted += 1;
        self.events.insert((at, self.inserted), event);
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(Instant, E)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }

    /// When the next event is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.events.first_key_value().map(|(&(at, _), _)| at)
    }
}
