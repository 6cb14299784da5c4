use holdfast_engine::{ConnFailover, Mirroring as Mode};

use super::*;
use crate::samples::{self, TURN, flow};

/// A session that only gave the engine its flows.
const FORMER: u32 = 9;

/// A primary's end of the stream, and the receiver of another node.
struct Ends {
    now: Instant,
    engine: Engine,
    ours: Mirroring,
    theirs: Receiver,
    /// The receiver's acknowledgements arrive.
    answers: bool,
}

impl Ends {
    fn with_flows(flows: u16, failover: ConnFailover) -> Ends {
        let now = Instant::ZERO + Duration::from_secs(1);
        let engine = samples::engine(now, 16_384, failover);
        let (ours, theirs) = (Mirroring::new(), Receiver::new(Limits::default()));
        let mut ends = Ends { now, engine, ours, theirs, answers: true };
        for number in 0..flows {
            ends.engine.apply_record(now, &flow(number), FORMER);
        }
        ends.engine.set_mirroring(now, Mode::Off);
        ends
    }

    /// The vserver of all flows is as configured.
    fn configure(&mut self, failover: ConnFailover) {
        samples::configure(self.now, &mut self.engine, failover);
    }

    fn start(&mut self, lines: Vec<String>) {
        let session = self.ours.start_session(self.now, String::new(), lines, Vec::new());
        self.engine.set_mirroring(self.now, Mode::On { session, strict: true });
        self.theirs.start(session);
    }

    /// A turn of the primary, and one of the other node.
    fn turn(&mut self) {
        self.now = self.now + TURN;
        self.ours.sender.handle_timeout(self.now);
        self.ours.collect(self.now, &mut self.engine);
        let (now, theirs) = (self.now, &mut self.theirs);
        self.ours.transmit(now, &mut self.engine, 0, |payload| theirs.handle_data(now, payload).expect("fine"));
        while self.theirs.poll_record().is_some() {}
        let mut ack = Vec::new();
        if self.answers && self.theirs.poll_ack(self.now, &mut ack) {
            self.ours.handle_answer(self.now, &mut self.engine, &ack).expect("fine");
        }
    }

    fn rests(&self) -> bool {
        !self.ours.is_busy(self.now) && self.ours.poll_timeout(self.now).is_none_or(|at| at > self.now)
    }
}

#[test]
fn a_walk_that_a_session_overtakes_goes_on_in_its_bulk_and_ends() {
    let mut ends = Ends::with_flows(5_000, ConnFailover::Stateful);
    ends.ours.rescan();
    for _ in 0..4 {
        ends.turn();
    }
    assert_eq!(ends.engine.counts().unprotected, 5_000);
    ends.configure(ConnFailover::Disabled);
    ends.ours.rescan();
    ends.turn();
    let left = ends.engine.counts().unprotected;
    assert!((1..5_000).contains(&left), "amid the walk: {left}");
    ends.start(Vec::new());
    for _ in 0..300 {
        ends.turn();
    }
    assert!(ends.rests(), "{:?}", ends.ours.bulk);
    assert_eq!(ends.engine.counts().unprotected, 0);
}

#[test]
fn a_walk_that_ends_with_its_session_goes_on_without_one() {
    let mut ends = Ends::with_flows(5_000, ConnFailover::Stateful);
    ends.start(Vec::new());
    for _ in 0..300 {
        ends.turn();
    }
    assert_eq!((ends.engine.counts().unprotected, ends.rests()), (0, true));
    ends.configure(ConnFailover::Disabled);
    ends.ours.rescan();
    ends.turn();
    ends.ours.stop_session();
    ends.engine.set_mirroring(ends.now, Mode::Off);
    for _ in 0..4 {
        ends.turn();
    }
    assert_eq!((ends.engine.counts().unprotected, ends.rests()), (0, true));
}

#[test]
fn a_summary_that_is_awaited_in_vain_keeps_nobody_busy() {
    let mut ends = Ends::with_flows(0, ConnFailover::Stateful);
    ends.answers = false;
    ends.start(vec!["x".repeat(4_000); 500]);
    for _ in 0..400 {
        ends.turn();
        assert!(ends.ours.sender.written().is_none(), "the window is full");
    }
    assert!(matches!(ends.ours.bulk, Bulk::Summary(until) if until < ends.now));
    assert!(ends.rests());
    ends.answers = true;
    for _ in 0..2_000 {
        ends.turn();
    }
    assert_eq!((ends.ours.bulk, ends.rests()), (Bulk::Idle, true));
}

#[test]
fn nothing_is_drained_while_a_walk_may_find_something_to_tell() {
    let mut ends = Ends::with_flows(5_000, ConnFailover::Disabled);
    ends.start(Vec::new());
    for _ in 0..300 {
        ends.turn();
    }
    assert!(ends.ours.is_drained());
    ends.ours.rescan();
    assert!(!ends.ours.is_drained());
    ends.turn();
    assert!(ends.ours.sender.is_drained() && !ends.ours.is_drained());
    for _ in 0..10 {
        ends.turn();
    }
    assert!(ends.ours.is_drained());
}

#[test]
fn a_summary_that_comes_after_its_time_keeps_nothing() {
    for (wait, kept) in [(50, 1), (150, 0)] {
        let mut ends = Ends::with_flows(100, ConnFailover::Stateful);
        ends.start(Vec::new());
        for _ in 0..wait {
            ends.turn();
        }
        let digests = Box::new(core::array::from_fn(|index| ends.engine.summary(0).nth(index).expect("there are")));
        let session = ends.ours.sender.session().expect("it runs");
        let mut part = Vec::new();
        wire::encode_summary(&mut part, &Summary { session, told: Told::Part { part: 0, digests } });
        ends.ours.handle_answer(ends.now, &mut ends.engine, &part).expect("fine");
        for _ in 0..200 {
            ends.turn();
        }
        assert_eq!(ends.ours.sender.stats(ends.now).records.get(RecordKind::Kept), kept, "after {wait} ms");
        assert_eq!((ends.engine.counts().unprotected, ends.ours.bulk), (0, Bulk::Idle));
    }
}

#[test]
fn a_snapshot_longer_than_a_sender_would_queue_is_refused_and_counted() {
    let line = |kind, text: &str| JournalLine::new(kind, text.into()).expect("short");
    let receive = |lines: usize, bytes: usize| {
        let mut mirroring = Mirroring::new();
        let text = "x".repeat(bytes);
        mirroring.journal(line(JournalKind::Begin, ""));
        for _ in 0..lines {
            assert!(matches!(mirroring.journal(line(JournalKind::Line, &text)), JournalStep::Wait));
        }
        let step = mirroring.journal(line(JournalKind::End, ""));
        (matches!(step, JournalStep::TooLong), mirroring.snapshots_refused())
    };
    assert_eq!(receive(8_192, 4_096), (false, 0));
    assert_eq!(receive(8_193, 4_096), (true, 1));
    assert_eq!(receive(262_144, 0), (false, 0));
    assert_eq!(receive(262_145, 0), (true, 1));
}
