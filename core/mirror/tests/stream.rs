//! The stream as a whole: stories of a sender, a receiver and what lies between.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{CALM, Pair, Weather, flow, reference, session_of};
use holdfast_base::Rng;
use holdfast_engine::PersistenceRecord;
use holdfast_mirror::wire::{self, Ack};
use holdfast_mirror::{
    Digest, Item, JournalKind, JournalLine, Limits, MAX_PAYLOAD, Names, Record, RecordKind, WireError,
};

const STORM: Weather = Weather {
    loss_percent: 20,
    duplicate_percent: 10,
    delay: Duration::from_micros(50),
    jitter: Duration::from_micros(400),
};

fn line(text: String) -> Item {
    Item::Journal(JournalLine::new(JournalKind::Line, text).expect("short enough"))
}

fn open(pair: &mut Pair, id: u32, stamp: u64) {
    pair.flows.live.insert(reference(id), flow(id, stamp));
}

/// A calm pair that has exchanged some datagrams, one after the other.
fn pair_that_knows_its_path() -> Pair {
    let mut pair = Pair::new(1, CALM, Limits::default());
    for id in 1..=20 {
        open(&mut pair, id, u64::from(id));
        pair.sender.push(Item::Flow(reference(id)));
        pair.settle();
    }
    pair
}

/// Pushes a random mix; returns what the receiver must yield, urgent and bulk
/// apart, each in order.
fn push_mix(pair: &mut Pair, rng: &mut Rng, first: u32, count: u32) -> (Vec<Record>, Vec<Record>) {
    let (mut urgent, mut bulk) = (Vec::new(), Vec::new());
    for id in first..first + count {
        let stamp = u64::from(id) + 1;
        let flow = flow(id, stamp);
        match rng.below(6) {
            0 => {
                open(pair, id, stamp);
                pair.sender.push_bulk(Item::Flow(reference(id)));
                bulk.push(Record::Flow(flow));
            }
            1 => {
                let text = format!("{id} {}", "é".repeat(rng.below(2000) as usize));
                pair.sender.push(line(text.clone()));
                urgent.push(Record::Journal(JournalLine::new(JournalKind::Line, text).expect("short enough")));
            }
            2 => {
                let record = session_of(id as u8, stamp);
                pair.sender.push(Item::Persistence(record));
                urgent.push(Record::Persistence(record));
            }
            _ => {
                open(pair, id, stamp);
                pair.sender.push(Item::Flow(reference(id)));
                urgent.push(Record::Flow(flow));
            }
        }
        if rng.chance(1, 20) {
            pair.run_for(Duration::from_micros(200));
        }
    }
    pair.sender.push_bulk(Item::BulkEnd);
    (urgent, bulk)
}

#[test]
fn a_session_that_ends_while_it_waits_in_bulk_does_not_come_back() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    pair.sender.push_bulk(Item::Persistence(session_of(1, 10)));
    pair.sender.push_bulk(Item::Persistence(session_of(2, 11)));
    let ended = PersistenceRecord { server: None, stamp: 20, ..session_of(1, 10) };
    pair.sender.push(Item::Persistence(ended));
    pair.flows.over.insert(10);
    pair.sender.push_bulk(Item::BulkEnd);
    pair.settle();
    let told: Vec<_> = pair.yielded.iter().filter(|record| matches!(record, Record::Persistence(_))).collect();
    assert_eq!(told, [&Record::Persistence(ended), &Record::Persistence(session_of(2, 11))]);
}

#[test]
fn everything_arrives_exactly_once_and_in_order_through_a_storm() {
    for seed in 0..150 {
        let mut rng = Rng::from_seed(seed);
        let weather = Weather { loss_percent: rng.below(35), ..STORM };
        let mut pair = Pair::new(seed, weather, Limits::default());
        let (urgent, bulk) = push_mix(&mut pair, &mut rng, 1, 400);
        pair.settle();

        let is_bulk = |record: &&Record| bulk.contains(record);
        let got: Vec<_> = pair.yielded.iter().filter(|record| !matches!(record, Record::BulkEnd { .. })).collect();
        assert!(got.iter().copied().filter(|record| !is_bulk(record)).eq(&urgent), "seed {seed}: urgent order");
        assert!(got.iter().copied().filter(is_bulk).eq(&bulk), "seed {seed}: bulk order");
        assert!(matches!(pair.yielded.last(), Some(Record::BulkEnd { .. })), "seed {seed}: digest last");

        let mut stored = pair.stored.clone();
        let mut written = pair.flows.log.clone();
        stored.sort_unstable();
        written.sort_unstable();
        assert_eq!(stored, written, "seed {seed}: each record reported stored once");
        let stats = pair.sender.stats(pair.now);
        assert_eq!((stats.unacked_records, stats.in_flight, stats.oldest_unacked), (0, 0, None), "seed {seed}");
        assert_eq!(stats.records, pair.receiver.stats().records, "seed {seed}: counters by kind");
    }
}

#[test]
fn digests_are_equal_at_their_position_while_flows_come_and_go() {
    for seed in 0..60 {
        let mut rng = Rng::from_seed(1000 + seed);
        let mut pair = Pair::new(seed, STORM, Limits::default());
        let mut stamp = 0;
        for round in 0..400 {
            stamp += 1;
            let id = rng.below(80) as u32;
            if pair.flows.live.contains_key(&reference(id)) && rng.chance(1, 2) {
                if let Some(close) = pair.flows.close(id, stamp) {
                    pair.sender.push(Item::Close(Some(reference(id)), close));
                }
            } else {
                open(&mut pair, id, stamp);
                let item = Item::Flow(reference(id));
                if rng.chance(1, 4) { pair.sender.push_bulk(item) } else { pair.sender.push(item) }
            }
            if round % 25 == 0 {
                pair.sender.push_bulk(Item::BulkEnd);
            }
            if rng.chance(1, 5) {
                pair.run_for(Duration::from_micros(300));
            }
        }
        pair.settle();
        // `Mirrored::apply` compares at every `BulkEnd`.
        let ends = pair.yielded.iter().filter(|record| matches!(record, Record::BulkEnd { .. })).count();
        assert_eq!(ends, 16, "seed {seed}");
    }
}

#[test]
fn ten_changes_that_wait_cost_one_record() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    for stamp in 1..=10 {
        open(&mut pair, 1, stamp);
    }
    pair.sender.push(Item::Flow(reference(1)));
    pair.settle();
    assert_eq!(pair.yielded, [Record::Flow(flow(1, 10))]);
    assert_eq!(pair.stored, [(reference(1), 10)]);
}

#[test]
fn a_flow_that_is_gone_costs_nothing() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    for id in 0..5_000 {
        pair.sender.push(Item::Flow(reference(id)));
    }
    pair.settle();
    assert_eq!((pair.sent, pair.sender.stats(pair.now).gone), (0, 5_000));
}

#[test]
fn very_many_gone_flows_do_not_hide_the_one_behind_them() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    for id in 0..5_000 {
        pair.sender.push(Item::Flow(reference(id)));
    }
    open(&mut pair, 4_999, 1);
    pair.settle();
    assert_eq!(pair.yielded.len(), 1);
}

#[test]
fn an_idle_stream_is_silent() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    open(&mut pair, 1, 1);
    pair.sender.push(Item::Flow(reference(1)));
    pair.settle();
    assert_eq!(pair.sent, 2, "one datagram, one acknowledgement");
    assert_eq!(pair.sender.poll_timeout(), None);
}

#[test]
fn a_datagram_packs_as_many_records_as_fit() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    for id in 1..=1_000 {
        open(&mut pair, id, u64::from(id));
        pair.sender.push(Item::Flow(reference(id)));
    }
    pair.settle();
    let stats = pair.sender.stats(pair.now);
    assert!(stats.bytes > (stats.datagrams - 1) * (MAX_PAYLOAD as u64 - 100), "datagrams are full: {stats:?}");
    assert!(stats.bytes < 1_000 * 32, "records lean on their neighbours: {stats:?}");
}

#[test]
fn urgent_items_overtake_bulk() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    for id in 1..=2_000 {
        open(&mut pair, id, u64::from(id));
        pair.sender.push_bulk(Item::Flow(reference(id)));
    }
    open(&mut pair, 9_999, 5_000);
    pair.sender.push(Item::Flow(reference(9_999)));
    pair.settle();
    assert_eq!(pair.yielded[0], Record::Flow(flow(9_999, 5_000)));
    assert_eq!(pair.yielded.len(), 2_001);
}

#[test]
fn bulk_leaves_most_of_the_window_to_urgent_items() {
    let limits = Limits { window: 16, bulk_window: 4, ..Limits::default() };
    let mut pair = Pair::new(1, CALM, limits);
    pair.weather.loss_percent = 100;
    for id in 1..=4_000 {
        open(&mut pair, id, u64::from(id));
        pair.sender.push_bulk(Item::Flow(reference(id)));
    }
    pair.drain();
    assert_eq!(pair.sender.stats(pair.now).in_flight, 4);
    open(&mut pair, 9_999, 5_000);
    pair.sender.push(Item::Flow(reference(9_999)));
    pair.drain();
    assert_eq!(pair.sender.stats(pair.now).in_flight, 5, "the urgent one left at once");
}

#[test]
fn a_full_window_pushes_back_and_reopens() {
    let limits = Limits { window: 8, bulk_window: 8, marks: 100, bulk: 100, ..Limits::default() };
    let mut pair = Pair::new(1, CALM, limits);
    pair.weather.loss_percent = 100;
    let mut id = 0;
    while pair.sender.wants_marks() {
        id += 1;
        open(&mut pair, id, u64::from(id));
        pair.sender.push(Item::Flow(reference(id)));
        pair.drain();
    }
    let stats = pair.sender.stats(pair.now);
    assert_eq!((stats.in_flight, stats.urgent_waiting), (8, 100));
    assert!(stats.window_full > 0 && !pair.sender.needs_restart());

    pair.sender.push_bulk(Item::BulkEnd);
    pair.weather.loss_percent = 0;
    pair.settle();
    assert_eq!(pair.yielded.len(), id as usize, "everything but the digest, since marks were left in the engine");
    assert!(pair.sender.wants_marks());
    pair.settle();
    assert!(matches!(pair.yielded.last(), Some(Record::BulkEnd { .. })), "the marks have been asked for again");
}

#[test]
fn a_receiver_that_is_not_read_stops_the_sender_without_loss() {
    let limits = Limits { window: 8, bulk_window: 8, receive: 16, ..Limits::default() };
    let mut pair = Pair::new(1, CALM, limits);
    pair.reading = false;
    for id in 1..=3_000 {
        open(&mut pair, id, u64::from(id));
        pair.sender.push(Item::Flow(reference(id)));
    }
    pair.run_for(Duration::from_millis(500));
    assert_eq!(pair.receiver.stats().waiting, 16, "its memory is bounded");
    assert!(pair.receiver.stats().no_room > 0, "the sender asks whether there is room");
    pair.reading = true;
    pair.settle();
    assert_eq!(pair.yielded.len(), 3_000);
}

#[test]
fn room_that_comes_back_is_told_once() {
    let limits = Limits { window: 8, receive: 8, ..Limits::default() };
    let mut pair = Pair::new(1, CALM, limits);
    let mut out = Vec::new();
    for seq in 0..8 {
        wire::DataWriter::new(&mut out, 1, seq, &mut Names::new(0))
            .bulk_end(&Digest { flows: seq, ..Digest::default() });
        pair.receiver.handle_data(pair.now, &out).expect("our own data");
    }
    assert!(pair.receiver.poll_ack(pair.now, &mut out));
    assert_eq!(wire::decode_ack(&out).map(|ack| (ack.cumulative, ack.room)), Ok((8, 0)));
    for read in 1..=8 {
        assert!(pair.receiver.poll_record().is_some());
        let told = pair.receiver.poll_ack(pair.now, &mut out);
        assert_eq!(told, read == 4, "after {read}");
        assert!(!told || wire::decode_ack(&out).map(|ack| (ack.cumulative, ack.room)) == Ok((8, 4)));
    }
}

#[test]
fn an_overflow_asks_for_a_restart_and_writes_no_digest() {
    let limits = Limits { urgent: 10, ..Limits::default() };
    let mut pair = Pair::new(1, CALM, limits);
    for number in 0..11 {
        assert!(!pair.sender.needs_restart(), "after {number}");
        pair.sender.push(Item::Persistence(session_of(number, 1 + u64::from(number))));
    }
    assert!(pair.sender.needs_restart());
    pair.sender.push_bulk(Item::BulkEnd);
    pair.settle();
    assert_eq!(pair.yielded.len(), 10);
    assert_eq!(pair.sender.stats(pair.now).overflows, 2);

    pair.start(2);
    assert!(!pair.sender.needs_restart());
    pair.sender.push_bulk(Item::BulkEnd);
    pair.settle();
    assert_eq!(pair.yielded.last(), Some(&Record::BulkEnd(Digest::default())));
}

#[test]
fn too_much_journal_asks_for_a_restart() {
    let limits = Limits { journal_bytes: 10_000, ..Limits::default() };
    let mut pair = Pair::new(1, CALM, limits);
    for _ in 0..2 {
        pair.sender.push(line("x".repeat(4096)));
    }
    assert!(!pair.sender.needs_restart());
    pair.sender.push(line("x".repeat(4096)));
    assert!(pair.sender.needs_restart());
}

#[test]
fn messages_of_another_session_are_counted_and_ignored() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    open(&mut pair, 1, 1);
    pair.sender.push(Item::Flow(reference(1)));
    pair.drain();
    pair.start(2);
    open(&mut pair, 2, 2);
    pair.sender.push(Item::Flow(reference(2)));
    pair.settle();
    assert_eq!(pair.yielded, [Record::Flow(flow(2, 2))]);
    assert_eq!(pair.stored, [(reference(2), 2)]);
    assert_eq!(pair.receiver.stats().stale, 1);

    let mut old = Vec::new();
    wire::encode_ack(&mut old, &Ack { session: 1, room: 8, cumulative: 1, bitmap: &[] });
    assert_eq!(pair.sender.handle_ack(pair.now, &old, &mut |_, _| panic!("stale")), Ok(()));
    assert_eq!(pair.sender.stats(pair.now).stale_acks, 1);
}

#[test]
fn sessions_follow_each_other_through_a_storm() {
    for seed in 0..40 {
        let mut rng = Rng::from_seed(seed);
        let mut pair = Pair::new(seed, STORM, Limits::default());
        for session in 2..6 {
            push_mix(&mut pair, &mut rng, session * 1_000, 100);
            pair.run_for(Duration::from_micros(rng.below(3_000)));
            pair.flows.live.clear();
            pair.start(session);
            pair.yielded.clear();
        }
        let (urgent, bulk) = push_mix(&mut pair, &mut rng, 10_000, 100);
        pair.settle();
        assert_eq!(pair.yielded.len(), urgent.len() + bulk.len() + 1, "seed {seed}");
    }
}

#[test]
fn what_was_acknowledged_is_salvaged_before_the_next_session_or_counted() {
    for salvages in [true, false] {
        let mut pair = Pair::new(1, CALM, Limits::default());
        let mut payloads = [Vec::new(), Vec::new()];
        for (id, payload) in (1..).zip(&mut payloads) {
            open(&mut pair, id, u64::from(id));
            pair.sender.push(Item::Flow(reference(id)));
            assert!(pair.sender.poll_transmit(pair.now, &mut pair.flows, payload));
        }
        pair.receiver.handle_data(pair.now, &payloads[1]).expect("our own data");
        assert_eq!(pair.receiver.poll_record(), None, "beyond a gap");
        if salvages {
            pair.receiver.salvage();
            assert_eq!(pair.receiver.poll_record(), Some(Record::Flow(flow(2, 2))));
            assert_eq!(pair.receiver.poll_record(), None);
        }
        pair.receiver.start(2);
        assert_eq!(pair.receiver.stats().forgotten, u64::from(!salvages));
    }
}

#[test]
fn a_stopped_sender_takes_and_gives_nothing() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    open(&mut pair, 1, 1);
    pair.sender.push(Item::Flow(reference(1)));
    pair.sender.stop();
    pair.sender.push(Item::Flow(reference(1)));
    pair.settle();
    assert_eq!((pair.sent, pair.sender.is_active()), (0, false));
}

#[test]
fn a_lone_lost_datagram_is_sent_again_byte_for_byte_after_the_time_out() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    open(&mut pair, 1, 1);
    pair.sender.push(Item::Flow(reference(1)));
    let (mut first, mut again) = (Vec::new(), Vec::new());
    assert!(pair.sender.poll_transmit(pair.now, &mut pair.flows, &mut first));
    open(&mut pair, 1, 2);
    let deadline = pair.sender.poll_timeout().expect("something is in flight");
    assert_eq!(deadline.since(pair.now), Duration::from_millis(10), "before the first sample");
    pair.sender.handle_timeout(deadline);
    assert!(pair.sender.poll_transmit(deadline, &mut pair.flows, &mut again));
    assert_eq!(first, again, "the flow has changed, the datagram has not");
}

#[test]
fn the_time_out_follows_the_path_and_backs_off() {
    let mut pair = pair_that_knows_its_path();
    assert_eq!(pair.sender.stats(pair.now).rtt_us, 200);
    pair.weather.loss_percent = 100;
    pair.sender.push(Item::Flow(reference(1)));
    pair.drain();
    let mut waits = Vec::new();
    for _ in 0..9 {
        let deadline = pair.sender.poll_timeout().expect("something is in flight");
        waits.push(deadline.since(pair.now).as_millis());
        assert!(pair.step());
        pair.drain();
    }
    assert_eq!(waits, [2, 4, 8, 16, 32, 64, 128, 200, 200]);
    assert_eq!(pair.sender.stats(pair.now).timeouts, 9);
    pair.weather.loss_percent = 0;
    pair.settle();
    assert_eq!(pair.sender.stats(pair.now).in_flight, 0);
}

#[test]
fn a_path_that_becomes_slower_than_the_time_out_is_learned() {
    let mut pair = pair_that_knows_its_path();
    pair.weather.delay = Duration::from_millis(8);
    for id in 100..60_100 {
        open(&mut pair, id, u64::from(id));
        pair.sender.push_bulk(Item::Flow(reference(id)));
        if !pair.sender.wants_bulk() {
            pair.step();
        }
    }
    pair.settle();
    let stats = pair.sender.stats(pair.now);
    assert!(stats.datagrams > 1_000, "{stats:?}");
    assert!(stats.retransmits < 200, "{stats:?}");
}

#[test]
fn a_silent_peer_costs_a_few_datagrams_per_time_out() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    pair.weather.loss_percent = 100;
    for number in 0..500 {
        open(&mut pair, number, 1 + u64::from(number));
        pair.sender.push(Item::Flow(reference(number)));
        pair.drain();
    }
    let before = pair.sent;
    pair.run_for(Duration::from_secs(2));
    let stats = pair.sender.stats(pair.now);
    assert!(pair.sent - before <= 16 * stats.timeouts, "{stats:?}");
    pair.weather.loss_percent = 0;
    let healed = pair.now;
    pair.settle();
    assert_eq!(pair.yielded.len(), 500);
    assert!(pair.now.since(healed) < Duration::from_millis(450), "one time-out, then round trips");
}

#[test]
fn three_later_ones_show_a_loss_before_the_time_out() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    let mut payloads = Vec::new();
    for id in 1..=5 {
        open(&mut pair, id, u64::from(id));
        pair.sender.push(Item::Flow(reference(id)));
        let mut out = Vec::new();
        assert!(pair.sender.poll_transmit(pair.now, &mut pair.flows, &mut out));
        payloads.push(out);
    }
    let (mut ack, mut out) = (Vec::new(), Vec::new());
    for later in 1..5 {
        pair.receiver.handle_data(pair.now, &payloads[later]).expect("our own data");
        assert!(pair.receiver.poll_ack(pair.now, &mut ack));
        pair.sender.handle_ack(pair.now, &ack, &mut |_, _| {}).expect("our own ack");
        let again = pair.sender.poll_transmit(pair.now, &mut pair.flows, &mut out);
        assert_eq!(again, later == 3, "after {later} later ones");
        if again {
            assert_eq!(out, payloads[0]);
        }
    }
    assert_eq!(pair.sender.stats(pair.now).fast_retransmits, 1);
}

#[test]
fn a_late_original_is_not_taken_for_its_copy() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    let mut out = Vec::new();
    let start = pair.now;
    for id in 1..=4 {
        open(&mut pair, id, u64::from(id));
        pair.sender.push(Item::Flow(reference(id)));
        assert!(pair.sender.poll_transmit(pair.now, &mut pair.flows, &mut out));
        pair.now = start + Duration::from_millis(9);
    }
    let deadline = pair.sender.poll_timeout().expect("something is in flight");
    pair.sender.handle_timeout(deadline);
    assert!(pair.sender.poll_transmit(deadline, &mut pair.flows, &mut out), "the first again, as fifth transmission");
    wire::encode_ack(&mut out, &Ack { session: 1, room: 8, cumulative: 1, bitmap: &[] });
    pair.sender.handle_ack(deadline, &out, &mut |_, _| {}).expect("our own ack");
    assert!(!pair.sender.poll_transmit(deadline, &mut pair.flows, &mut out), "the other three are still under way");
}

#[test]
fn a_digest_waits_for_a_close_behind_very_many_gone_flows() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    open(&mut pair, 1, 1);
    pair.sender.push(Item::Flow(reference(1)));
    pair.settle();
    for id in 2..1_500 {
        pair.sender.push(Item::Flow(reference(id)));
    }
    let close = pair.flows.close(1, 2).expect("it had been written");
    pair.sender.push(Item::Close(Some(reference(1)), close));
    pair.sender.push_bulk(Item::BulkEnd);
    pair.settle();
    assert_eq!(pair.yielded[1..], [Record::Close(close), Record::BulkEnd(Digest::default())]);
}

#[test]
fn a_datagram_beyond_the_bitmap_is_not_stored() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    let mut out = Vec::new();
    for (seq, stored) in [(1_025, 0), (1_024, 1), (u64::MAX >> 1, 1)] {
        wire::DataWriter::new(&mut out, 1, seq, &mut Names::new(0)).bulk_end(&Digest::default());
        pair.receiver.handle_data(pair.now, &out).expect("well-formed");
        assert_eq!(pair.receiver.stats().datagrams, stored, "{seq}");
    }
    assert_eq!(pair.receiver.stats().no_room, 2);
    assert!(pair.receiver.poll_ack(pair.now, &mut out));
    let ack = wire::decode_ack(&out).expect("our own ack");
    assert_eq!(ack.beyond().collect::<Vec<_>>(), [1_024]);
}

#[test]
fn an_acknowledgement_of_what_was_never_sent_is_refused_whole() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    open(&mut pair, 1, 1);
    pair.sender.push(Item::Flow(reference(1)));
    let mut out = Vec::new();
    pair.sender.poll_transmit(pair.now, &mut pair.flows, &mut out);
    for (cumulative, bitmap) in [(2, &[][..]), (0, &[1][..]), (1, &[1][..])] {
        wire::encode_ack(&mut out, &Ack { session: 1, room: 8, cumulative, bitmap });
        let refused = pair.sender.handle_ack(pair.now, &out, &mut |_, _| panic!("nothing is stored"));
        assert_eq!(refused, Err(WireError::AckBeyondSent));
    }
    assert_eq!(pair.sender.stats(pair.now).in_flight, 1);
}

#[test]
fn salvage_yields_what_lies_beyond_gaps_without_what_needs_order() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    let mut payloads = Vec::new();
    for id in 0..6u32 {
        open(&mut pair, id, 1 + u64::from(id));
        pair.sender.push(Item::Flow(reference(id)));
        pair.sender.push(line(format!("line {id}")));
        let mut out = Vec::new();
        assert!(pair.sender.poll_transmit(pair.now, &mut pair.flows, &mut out));
        payloads.push(out);
    }
    for index in [5, 0, 1, 3] {
        pair.receiver.handle_data(pair.now, &payloads[index]).expect("our own data");
    }
    let salvage = pair.receiver.salvage();
    assert_eq!((salvage.in_order, salvage.beyond, salvage.missing), (2, 2, 2));
    let mut flows = BTreeSet::new();
    let mut lines = Vec::new();
    while let Some(record) = pair.receiver.poll_record() {
        match record {
            Record::Flow(flow) => assert!(flows.insert(flow.stamp)),
            Record::Journal(line) => lines.push(line.into_text()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(flows, BTreeSet::from([1, 2, 4, 6]));
    assert_eq!(lines, ["line 0", "line 1"]);
    assert_eq!(pair.receiver.stats().salvage_skipped, 2);
    pair.receiver.handle_data(pair.now, &payloads[2]).expect("ignored");
    assert!(!pair.receiver.poll_ack(pair.now, &mut Vec::new()), "nothing is promised any more");
    assert_eq!(pair.receiver.poll_record(), None);
}

#[test]
fn a_refused_payload_is_counted_by_reason_and_not_acknowledged() {
    let mut pair = Pair::new(1, CALM, Limits::default());
    open(&mut pair, 1, 1);
    pair.sender.push(Item::Flow(reference(1)));
    let mut out = Vec::new();
    pair.sender.poll_transmit(pair.now, &mut pair.flows, &mut out);
    out.pop();
    assert_eq!(pair.receiver.handle_data(pair.now, &out), Err(WireError::Truncated));
    let stats = pair.receiver.stats();
    assert_eq!((stats.refused[WireError::Truncated.index()], stats.refused.iter().sum()), (1, 1u64));
    assert!(!pair.receiver.poll_ack(pair.now, &mut out));
    pair.settle();
    assert_eq!(pair.sender.stats(pair.now).records.get(RecordKind::Flow), 1);
    assert_eq!(pair.yielded.len(), 1, "the whole one came with the time-out");
}

#[test]
fn nothing_that_arrives_makes_either_end_panic_or_keep_too_much() {
    for seed in 0..200 {
        let mut rng = Rng::from_seed(seed);
        let limits = Limits { window: 32, bulk_window: 8, receive: 32, ..Limits::default() };
        let mut pair = Pair::new(seed, CALM, limits);
        let mut heard: Vec<Vec<u8>> = Vec::new();
        for id in 0..300u32 {
            open(&mut pair, id, 1 + u64::from(id));
            pair.sender.push(Item::Flow(reference(id)));
            pair.sender.push(line("y".repeat(rng.below(1_500) as usize)));
            let mut out = Vec::new();
            if pair.sender.poll_transmit(pair.now, &mut pair.flows, &mut out) {
                heard.push(out.clone());
            }
            if pair.receiver.poll_ack(pair.now, &mut out) {
                heard.push(out.clone());
            }
            let mut payload = heard[rng.below(heard.len() as u64) as usize].clone();
            for _ in 0..rng.below(4) {
                // Mostly in the fixed part, where sequence numbers stand.
                let reach = if rng.chance(3, 4) { 24 } else { payload.len() as u64 };
                let at = rng.below(reach.min(payload.len() as u64)) as usize;
                payload[at] = rng.next_u64() as u8;
            }
            let _ = pair.receiver.handle_data(pair.now, &payload);
            let _ = pair.sender.handle_ack(pair.now, &payload, &mut |_, _| {});
            if rng.chance(1, 3) {
                while pair.receiver.poll_record().is_some() {}
            }
            assert!(pair.receiver.stats().waiting <= 32 && pair.sender.stats(pair.now).in_flight <= 32);
            if rng.chance(1, 100) {
                pair.receiver.salvage();
                assert!(!pair.receiver.poll_ack(pair.now, &mut out));
            }
        }
        pair.receiver.salvage();
        while pair.receiver.poll_record().is_some() {}
        assert_eq!(pair.receiver.stats().waiting, 0, "seed {seed}");
    }
}
