//! The idle TCP connection between the two processes, whose only message is its end.

use holdfast_base::Instant;

use crate::effect::StreamEvent;
use crate::node::Node;

impl Node {
    /// The idle TCP connection changed.
    pub fn handle_peer_stream(&mut self, now: Instant, event: StreamEvent) {
        self.begin(now);
        self.stream = Some(event);
        if !self.listening {
            return;
        }
        match event {
            StreamEvent::Open { round_trip } => {
                self.stream_boot = None;
                self.ha.handle_peer_open(now, round_trip);
            }
            // A power cut closes nothing: the connection of the life that it ended may close when the
            // next one has long joined, and says nothing about that one.
            StreamEvent::Closed | StreamEvent::Cut if self.stream_is_of_former_life() => {}
            StreamEvent::Closed => {
                // A connection ends with a segment that came in.
                self.hear_somebody(now, true);
                self.ha.handle_peer_closed(now);
            }
            StreamEvent::Cut => self.ha.handle_peer_cut(now),
        }
        self.drain_ha(now);
    }

    fn stream_is_of_former_life(&self) -> bool {
        self.stream_boot.zip(self.peer_boot).is_some_and(|(stream, peer)| stream != peer)
    }

    /// The life `boot` of the peer speaks. Whoever speaks after the connection was made has made it.
    pub(crate) fn note_maker(&mut self, boot: u64) {
        self.stream_boot = self.stream_boot.or(self.peer_boot.filter(|&peer| peer == boot));
    }
}
