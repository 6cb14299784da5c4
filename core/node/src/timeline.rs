//! What an outage was made of: when the peer was last heard, when it was given up, when this node led, and when the
//! first packet went on.

use holdfast_base::Instant;

/// The instants of one promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Takeover {
    /// The term that began.
    pub term: u64,
    /// When something authentic last came from the peer; `None`: never in this life.
    pub heard: Option<Instant>,
    /// When the peer was given up; at a planned switchover, when this node led.
    pub detected: Instant,
    /// When this node led.
    pub promoted: Instant,
    /// The end of the turn in which a packet was first forwarded after that.
    pub first_packet: Option<Instant>,
}

/// The latest promotion of this life.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// The peer is gone since then.
    lost: Option<Instant>,
    latest: Option<Takeover>,
    /// When a switchover of this node's was last called off.
    called_off: Option<Instant>,
    /// Packets forwarded before the promotion whose first one has not come yet.
    forwarded_before: Option<u64>,
}

impl Timeline {
    /// The peer was given up.
    pub fn note_lost(&mut self, now: Instant) {
        self.lost = Some(now);
    }

    /// The peer is there.
    pub fn note_joined(&mut self) {
        self.lost = None;
    }

    /// This node leads. `forwarded`: packets that it ever forwarded.
    pub fn note_promoted(&mut self, now: Instant, term: u64, heard: Option<Instant>, forwarded: u64) {
        let detected = self.lost.unwrap_or(now);
        self.latest = Some(Takeover { term, heard, detected, promoted: now, first_packet: None });
        self.forwarded_before = Some(forwarded);
    }

    /// This node handed over, and nobody took the role up.
    pub fn note_called_off(&mut self, now: Instant) {
        self.called_off = Some(now);
    }

    /// When that last happened.
    pub fn called_off(&self) -> Option<Instant> {
        self.called_off
    }

    /// This node does not lead any more: no packet is its first.
    pub fn note_demoted(&mut self) {
        self.forwarded_before = None;
    }

    /// At the end of a turn: the takeover, when its first packet was forwarded in this turn.
    pub fn note_turn(&mut self, now: Instant, forwarded: u64) -> Option<Takeover> {
        if self.forwarded_before.is_none_or(|before| forwarded == before) {
            return None;
        }
        self.forwarded_before = None;
        let latest = self.latest.as_mut()?;
        latest.first_packet = Some(now);
        Some(*latest)
    }

    /// The latest promotion.
    pub fn latest(&self) -> Option<Takeover> {
        self.latest
    }
}

impl Takeover {
    /// For the log.
    pub fn text(&self) -> String {
        let ms = |from: Instant, to: Instant| format!("{:.1} ms", to.since(from).as_secs_f64() * 1e3);
        let heard = self.heard.map_or("never".to_owned(), |heard| ms(heard, self.promoted) + " before");
        let first = self.first_packet.map_or("none yet".to_owned(), |first| ms(self.promoted, first) + " after");
        format!(
            "promotion to term {}: peer last heard {heard}, given up {} before; first packet forwarded {first}",
            self.term,
            ms(self.detected, self.promoted)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn the_first_packet_after_a_promotion_ends_the_line() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.note_turn(at(1), 5), None);
        timeline.note_lost(at(30));
        timeline.note_promoted(at(31), 7, Some(at(1)), 5);
        assert_eq!(timeline.note_turn(at(32), 5), None);
        let takeover = timeline.note_turn(at(34), 6).unwrap();
        assert_eq!(timeline.latest(), Some(takeover));
        assert_eq!(
            takeover.text(),
            "promotion to term 7: peer last heard 30.0 ms before, given up 1.0 ms before; first packet forwarded 3.0 ms after"
        );
        assert_eq!(timeline.note_turn(at(35), 7), None, "told once");
    }

    #[test]
    fn a_planned_switchover_gives_nobody_up() {
        let mut timeline = Timeline::default();
        timeline.note_lost(at(10));
        timeline.note_joined();
        timeline.note_promoted(at(50), 3, Some(at(49)), 0);
        assert_eq!(timeline.latest().unwrap().detected, at(50));
        timeline.note_demoted();
        assert_eq!(timeline.note_turn(at(60), 9), None);
    }
}
