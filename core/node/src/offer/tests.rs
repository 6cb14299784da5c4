use holdfast_engine::{ConnFailover, Mirroring as Mode, Offered};

use super::*;
use crate::samples::{self, TURN, flow};

/// Lives of the peer.
const PEER: u64 = 7;
const OTHER: u64 = 8;
/// The mirror session from the winner to the loser.
const SESSION: u32 = 1;

fn engine(now: Instant) -> Engine {
    samples::engine(now, 8_192, ConnFailover::Stateful)
}

/// A loser with flows set aside, and a winner with none.
struct Healing {
    now: Instant,
    loser: Engine,
    offers: Offers,
    winner: Engine,
    intake: Offers,
    mirroring: Mirroring,
    /// The loser's end of the mirror session.
    told: Receiver,
}

impl Healing {
    /// `told` flows were mirrored before the split, `own` were opened in it.
    fn new(told: u16, own: u16) -> Healing {
        let now = Instant::ZERO + Duration::from_secs(100);
        let mut loser = engine(now);
        for number in 0..told {
            loser.apply_record(now, &flow(number), 9);
        }
        loser.set_mirroring(now, Mode::Off);
        for number in told..told + own {
            assert_eq!(loser.adopt_offered(now, &flow(number), &[]), Offered::Adopted);
        }
        loser.set_aside();
        let mut healing = Healing {
            now,
            loser,
            offers: Offers::new(),
            winner: engine(now),
            intake: Offers::new(),
            mirroring: Mirroring::new(),
            told: Receiver::new(Limits::default()),
        };
        healing.offers.begin(now, PEER);
        healing.start_session();
        healing
    }

    /// The flows opened in the split have crossed, and one is set aside that has not.
    fn of_one_more() -> Healing {
        let mut healing = Healing::new(0, 200);
        for _ in 0..5 {
            healing.turn(false, true);
        }
        assert!(healing.offers.offer.sender.is_drained());
        assert_eq!(healing.loser.adopt_offered(healing.now, &flow(4_000), &[]), Offered::Adopted);
        healing
    }

    fn start_session(&mut self) {
        let session = self.mirroring.start_session(self.now, String::new(), Vec::new(), Vec::new());
        self.winner.set_mirroring(self.now, Mode::On { session, strict: false });
        self.told.start(session);
    }

    /// A turn of both. `hears`: the loser's acknowledgements of its session arrive. What was acknowledged of the offer.
    fn turn(&mut self, caught_up: bool, hears: bool) -> bool {
        self.now = self.now + TURN;
        let now = self.now;
        self.offers.offer.sender.handle_timeout(now);
        self.offers.collect(&mut self.loser, caught_up);
        let (mut payload, intake) = (Vec::new(), &mut self.intake.intake);
        while self.offers.offer.sender.poll_transmit(now, &mut OfferSource(&mut self.loser), &mut payload) {
            if intake.begun.is_none() {
                (intake.begun, intake.told_in) = (Some((PEER, OFFER | 1)), self.mirroring.sender.session());
                intake.receiver.start(OFFER | 1);
            }
            intake.receiver.handle_data(now, &payload).expect("well-formed");
        }
        while let Some(record) = intake.receiver.poll_record() {
            match record {
                Record::Flow(flow) => assert_eq!(self.winner.adopt_offered(now, &flow, &[]), Offered::Adopted),
                Record::BulkEnd(_) => intake.end = End::Read,
                other => panic!("{other:?}"),
            }
        }
        self.mirroring.sender.handle_timeout(now);
        let mut ack = Vec::new();
        if hears && self.told.poll_ack(now, &mut ack) {
            self.mirroring.handle_answer(now, &mut self.winner, &ack).expect("well-formed");
        }
        self.mirroring.collect(now, &mut self.winner);
        let told = &mut self.told;
        self.mirroring
            .transmit(now, &mut self.winner, 0, |payload| told.handle_data(now, payload).expect("well-formed"));
        let acknowledged = self.intake.poll_ack(now, &self.mirroring, &self.winner, &mut ack);
        if acknowledged {
            self.offers.handle_ack(now, &ack).expect("well-formed");
        }
        acknowledged
    }

    fn is_done(&self) -> bool {
        self.offers.offer.stage == Stage::Told && self.offers.offer.sender.is_drained()
    }
}

#[test]
fn what_the_peer_knew_decides_what_may_be_lacking() {
    let at = |ms: u64| Instant::ZERO + Duration::from_millis(ms);
    let since = |story: &dyn Fn(&mut Offers)| {
        let mut offers = Offers::new();
        story(&mut offers);
        offers.begin(at(9_000), PEER);
        offers.offer.used_since
    };
    assert_eq!(since(&|_| ()), None, "a peer that was told nothing lacks everything");
    assert_eq!(since(&|offers| offers.note_synced()), Some(at(9_000)), "one that is there lacks nothing that was told");
    let lost = |offers: &mut Offers| {
        offers.note_synced();
        offers.note_apart(PEER, at(4_600));
    };
    assert_eq!(since(&lost), Some(at(4_600)));
    let lost_again = |offers: &mut Offers| {
        lost(offers);
        offers.note_apart(PEER, at(6_600));
    };
    assert_eq!(since(&lost_again), Some(at(4_600)), "it has not caught up in between");
    let other_life = |offers: &mut Offers| {
        lost(offers);
        offers.note_apart(OTHER, at(6_600));
    };
    assert_eq!(since(&other_life), None);
    let restarted = |offers: &mut Offers| {
        offers.note_synced();
        offers.note_apart(OTHER, at(4_600));
    };
    assert_eq!(since(&restarted), None, "the winner is another life than the one that was told");
}

#[test]
fn who_hands_over_has_nothing_of_its_own() {
    let mut offers = Offers::new();
    assert!(!offers.has_any());
    offers.note_promoted();
    assert!(offers.has_any());
    offers.note_demoted(false);
    assert!(offers.has_any(), "it may have to offer something");
    offers.note_demoted(true);
    assert!(!offers.has_any());
}

#[test]
fn untold_flows_go_at_once_and_the_others_when_the_node_has_caught_up() {
    let mut healing = Healing::new(300, 500);
    for _ in 0..20 {
        healing.turn(false, true);
    }
    assert_eq!((healing.winner.counts().flows, healing.is_done()), (500, false));
    assert_eq!(healing.offers.offer.stage, Stage::CatchUp);
    assert!(!healing.offers.is_busy(false) && healing.offers.is_busy(true));
    for _ in 0..20 {
        healing.turn(true, true);
    }
    assert_eq!((healing.winner.counts().flows, healing.is_done()), (800, true));
    assert_eq!(healing.loser.counters().flows_offered, 800);
    assert_eq!(healing.winner.counts().protected, 800, "the loser was told of each");
}

#[test]
fn the_end_is_acknowledged_when_the_loser_has_stored_what_was_adopted() {
    // The one flow more is adopted, and its record does not get through.
    let mut healing = Healing::of_one_more();
    for _ in 0..300 {
        assert!(!healing.turn(true, false), "nothing is acknowledged");
    }
    assert!(!healing.is_done() && matches!(healing.intake.intake.end, End::Written(_)));
    for _ in 0..300 {
        healing.turn(true, true);
    }
    assert!(healing.is_done());
    assert_eq!(healing.winner.counts().unprotected, 0);
}

#[test]
fn when_another_session_begins_all_of_it_is_told_again_first() {
    let mut healing = Healing::of_one_more();
    for _ in 0..3 {
        healing.turn(true, false);
    }
    healing.start_session();
    assert_ne!(healing.mirroring.sender.session(), Some(SESSION));
    for _ in 0..100 {
        assert!(!healing.turn(true, false));
    }
    assert_eq!(healing.intake.intake.end, End::Retold);
    for _ in 0..1_000 {
        healing.turn(true, true);
    }
    assert!(healing.is_done());
    assert_eq!(healing.winner.counts().protected, 201);
}

/// There is always a flow that the loser has not stored yet.
#[test]
fn a_winner_that_is_never_idle_acknowledges_the_end_of_an_offer() {
    let mut healing = Healing::of_one_more();
    for _ in 0..3 {
        healing.turn(true, false);
    }
    assert!(matches!(healing.intake.intake.end, End::Written(_)));
    healing.start_session();
    for number in 1_000..2_000 {
        assert_eq!(healing.winner.adopt_offered(healing.now, &flow(number), &[]), Offered::Adopted);
        healing.turn(true, true);
        assert!(!healing.mirroring.is_drained());
    }
    assert!(healing.is_done());
}

/// Anybody can forge such signs, for ever.
#[test]
fn signs_that_prove_nothing_silence_a_node_for_so_long_while_its_peer_is_away() {
    let mut offers = Offers::new();
    let mut silent = |from: u64| {
        let at = |ms: u64| Instant::ZERO + Duration::from_millis(from + ms);
        let (mut until, mut silent) = (Instant::ZERO, 0);
        for ms in 0..20_000 {
            if ms % 300 == 0 {
                until = offers.suspect(at(ms)).unwrap_or(until);
            }
            silent += u64::from(at(ms) < until);
        }
        let counts = offers.suspicions();
        offers.note_lost();
        (silent, counts)
    };
    assert_eq!(silent(1_000), (5_000, [15, 52]));
    assert_eq!(silent(30_000).0, 5_000, "the peer was there in between");
}
