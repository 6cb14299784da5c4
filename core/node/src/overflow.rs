//! What the mirror's queues cannot hold: another session tells everything, and where that overflows too, the next
//! one waits.

use core::time::Duration;

use holdfast_base::Instant;

use crate::effect::Level;
use crate::node::Node;

/// First pause between two sessions that overflowed; each that follows doubles it …
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// … up to this.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// An overflow so long after the one before is the first of its kind.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// Overflows, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Overflow {
    pause: Duration,
    /// When the session that followed the last one began, or is to begin.
    last: Option<Instant>,
    /// No session runs on account of one; the next begins then.
    due: Option<Instant>,
}

impl Overflow {
    /// Notes one; when the next session may begin.
    fn note(&mut self, now: Instant) -> Instant {
        if self.last.is_none_or(|last| now.since(last) >= FORGIVEN_AFTER) {
            self.pause = Duration::ZERO;
        }
        let due = now + self.pause;
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
        self.last = Some(due);
        due
    }

    /// A session begins, or none is wanted any more.
    pub fn settle(&mut self) {
        self.due = None;
    }

    /// When the next session begins, if one waits.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

impl Node {
    /// What did not fit into the mirror's queues is told by another session. While none runs nothing waits for the peer.
    pub(crate) fn mend_overflow(&mut self, now: Instant) {
        const WHY: &str = "the mirror's queues overflowed; starting another session";
        if let Some(due) = self.overflow.due {
            if now >= due {
                self.restart_session(now, WHY);
            }
            return;
        }
        if !self.mirroring.sender.needs_restart() && !self.engine.needs_session() {
            return;
        }
        let due = self.overflow.note(now);
        if due <= now {
            return self.restart_session(now, WHY);
        }
        if due.since(now) == FIRST_PAUSE {
            let text = "the mirror's queues overflow at once (too large a configuration?): flows are unprotected, and sessions begin with growing pauses";
            self.event(Level::Warn, text.into());
        }
        self.stop_session(now);
        self.overflow.due = Some(due);
    }

    /// Gives the mirror's queue another size, for tests of what then happens; the next session has it.
    #[cfg(feature = "sabotage")]
    pub fn set_journal_room(&mut self, journal_bytes: u32) {
        let limits = holdfast_mirror::Limits { journal_bytes, ..Default::default() };
        self.mirroring.sender = holdfast_mirror::Sender::new(limits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_second_and_an_overflow_much_later_is_forgiven() {
        let (mut overflow, mut now) = (Overflow::default(), Instant::ZERO);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            let due = overflow.note(now);
            pauses.push(due.since(now).as_millis());
            now = due;
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        now = now + FORGIVEN_AFTER;
        assert_eq!(overflow.note(now), now);
    }
}
