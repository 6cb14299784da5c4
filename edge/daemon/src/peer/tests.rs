//! What each end of the idle connection learns of the other, through the kernel's loopback.

use super::*;
use std::net::Ipv4Addr;

/// Loopback addresses of a test of its own: the port is always the same.
fn link(connects: bool, test: u8) -> PeerLink {
    let end = |connects| IpAddr::V4(Ipv4Addr::new(127, 77, test, 1 + u8::from(connects)));
    let (local, peer) = (end(connects), end(!connects));
    PeerLink { local, peer, source: local, expected: peer, connects }
}

struct End {
    peer: Peer,
    poller: Poller,
    jobs: JobSender,
}

impl End {
    fn new(link: PeerLink) -> End {
        let mut peer = Peer::new();
        peer.set_link(Instant::ZERO, Some(link));
        let (sender, _) = tokio::sync::mpsc::channel(8);
        End { peer, poller: Poller::new().expect("an epoll"), jobs: JobSender::new(sender) }
    }

    /// Lives for a moment; what it has seen.
    fn live(&mut self, now: Instant) -> Vec<StreamEvent> {
        self.peer.maintain(now, &self.poller, &mut self.jobs);
        let mut ready = Vec::new();
        self.poller.wait(Duration::from_millis(2), &mut ready);
        ready.into_iter().for_each(|token| self.peer.handle_ready(now, token, &self.poller));
        self.peer.take_events()
    }
}

/// Time as these tests count it: two milliseconds a round, in which nothing is due by itself.
fn at(round: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(200 + 2 * round)
}

/// Both ends, connected: the one that listens, and the one that connects.
fn connected(test: u8) -> [End; 2] {
    let mut ends = [false, true].map(|connects| End::new(link(connects, test)));
    let mut open = [false; 2];
    for round in 0..500 {
        for (end, open) in ends.iter_mut().zip(&mut open) {
            *open |= end.live(at(round)).iter().any(|event| match event {
                StreamEvent::Open { round_trip } => {
                    assert!((1..1000).contains(&round_trip.as_millis().max(1)), "{round_trip:?}");
                    !round_trip.is_zero()
                }
                StreamEvent::Closed | StreamEvent::Cut => false,
            });
        }
        if open == [true; 2] {
            return ends;
        }
    }
    panic!("not connected after 500 rounds: {open:?}");
}

/// What `end` sees next.
fn next_event(end: &mut End) -> StreamEvent {
    let events = (0..500).map(|_| end.live(at(0))).find(|events| !events.is_empty());
    events.expect("something happens within a second")[0]
}

#[test]
fn the_end_of_a_process_is_seen_as_such() {
    for dying in 0..2 {
        let mut ends = connected(10 + dying as u8);
        // As the kernel does for a dead process: the descriptors are closed, nobody has a last word.
        ends[dying].peer.stream = Stream::None;
        assert_eq!(next_event(&mut ends[1 - dying]), StreamEvent::Closed, "end {dying} dies");
    }
}

#[test]
fn who_lives_and_lets_go_is_not_taken_for_dead() {
    for leaving in 0..2 {
        let mut ends = connected(20 + leaving as u8);
        ends[leaving].peer.set_link(at(0), None);
        assert_eq!(next_event(&mut ends[1 - leaving]), StreamEvent::Cut, "end {leaving} is configured anew");
    }
    let mut ends = connected(22);
    ends[1].peer.note_heard(at(0) + STALE_AFTER * 2);
    assert_eq!(next_event(&mut ends[0]), StreamEvent::Cut, "the other end connects anew");
}

#[test]
fn a_stranger_is_refused_by_a_reset() {
    let mut listening = End::new(PeerLink { expected: IpAddr::V4(Ipv4Addr::new(127, 77, 30, 9)), ..link(false, 30) });
    let mut connecting = End::new(link(true, 30));
    let mut seen = Vec::new();
    for round in 0..500 {
        listening.live(at(round));
        seen.extend(connecting.live(at(round)));
        if listening.peer.counters().foreign > 0 && seen.last() == Some(&StreamEvent::Cut) {
            break;
        }
    }
    assert!(!seen.contains(&StreamEvent::Closed) && seen.contains(&StreamEvent::Cut), "{seen:?}");
    assert!(listening.peer.counters().foreign > 0);
}

#[test]
fn a_kernel_without_the_process_refuses() {
    let mut connecting = End::new(link(true, 40));
    assert_eq!(next_event(&mut connecting), StreamEvent::Closed);
}
