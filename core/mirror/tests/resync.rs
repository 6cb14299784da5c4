//! What crosses when a session follows another: summaries, kept buckets, and
//! fields of another version.

mod common;

use std::time::Duration;

use common::{Flows, flow, reference};
use holdfast_base::Instant;
use holdfast_engine::{BUCKETS, BUCKETS_PER_PART, FlowRecord, FlowRef, PARTS};
use holdfast_mirror::wire::{self, MAX_TAIL, Summary, Told};
use holdfast_mirror::{Digest, Item, Kept, Limits, MAX_PAYLOAD, Receiver, Record, Sender, Source};

const SESSION: u32 = 3;

fn receiver(digests: Vec<u64>) -> Receiver {
    let mut receiver = Receiver::new(Limits::default());
    receiver.start(SESSION);
    receiver.offer(digests);
    receiver
}

/// Everything that the receiver has to say about what it began with.
fn summaries(receiver: &mut Receiver, now: Instant) -> Vec<Summary> {
    let mut out = Vec::new();
    let mut told = Vec::new();
    while receiver.poll_summary(now, &mut out) {
        assert!(out.len() <= MAX_PAYLOAD);
        told.push(wire::decode_summary(&out).expect("our own summary"));
    }
    told
}

/// The sender's answer about some parts reaches the receiver.
fn answer(sender: &mut Sender, receiver: &mut Receiver, now: Instant, parts: impl Iterator<Item = u8>) -> Vec<Record> {
    parts.for_each(|part| sender.push(Item::Kept(Kept { part, buckets: 1 << part })));
    let (mut out, mut flows) = (Vec::new(), Flows::default());
    while sender.poll_transmit(now, &mut flows, &mut out) {
        receiver.handle_data(now, &out).expect("our own data");
    }
    std::iter::from_fn(|| receiver.poll_record()).collect()
}

#[test]
fn a_summary_is_repeated_until_every_part_is_answered() {
    let digests: Vec<u64> = (0..BUCKETS as u64).collect();
    let mut receiver = receiver(digests.clone());
    let mut sender = Sender::new(Limits::default());
    let mut now = Instant::ZERO;
    sender.start(now, SESSION);

    let told = summaries(&mut receiver, now);
    let heard = told.iter().flat_map(|summary| match &summary.told {
        Told::Part { digests, .. } => digests.to_vec(),
        Told::Nothing => panic!("there is something"),
    });
    assert_eq!(heard.collect::<Vec<u64>>(), digests);
    assert!(summaries(&mut receiver, now).is_empty(), "once a round");

    let records = answer(&mut sender, &mut receiver, now, 0..60);
    assert_eq!(records.len(), 60);
    assert_eq!(records[7], Record::Kept(Kept { part: 7, buckets: 1 << 7 }));
    now = receiver.poll_timeout().expect("four parts are not answered");
    let parts: Vec<Told> = summaries(&mut receiver, now).into_iter().map(|summary| summary.told).collect();
    let again = |part: u8| {
        let first = usize::from(part) * BUCKETS_PER_PART;
        Told::Part { part, digests: Box::new(core::array::from_fn(|at| (first + at) as u64)) }
    };
    assert_eq!(parts, (60..PARTS as u8).map(again).collect::<Vec<Told>>());
    answer(&mut sender, &mut receiver, now, 60..PARTS as u8);
    assert_eq!(receiver.poll_timeout(), None);
    assert!(summaries(&mut receiver, now + Duration::from_secs(1)).is_empty());
}

#[test]
fn a_receiver_that_has_nothing_says_so_in_one_message() {
    let mut receiver = receiver(Vec::new());
    let nothing = Summary { session: SESSION, told: Told::Nothing };
    assert_eq!(summaries(&mut receiver, Instant::ZERO), std::slice::from_ref(&nothing));
    let later = receiver.poll_timeout().expect("nobody has answered");
    assert_eq!(summaries(&mut receiver, later), [nothing]);
}

#[test]
fn a_sender_that_does_not_ask_is_not_told_for_ever() {
    let mut receiver = receiver(vec![7; BUCKETS]);
    let mut sender = Sender::new(Limits::default());
    sender.start(Instant::ZERO, SESSION);
    assert_eq!(summaries(&mut receiver, Instant::ZERO).len(), PARTS);
    sender.push_bulk(Item::BulkEnd);
    assert!(matches!(answer(&mut sender, &mut receiver, Instant::ZERO, 0..0)[..], [Record::BulkEnd(_)]));
    assert_eq!(receiver.poll_timeout(), None);
    receiver.stop();
    assert!(summaries(&mut receiver, Instant::ZERO).is_empty());
}

/// Flows with fields of another version.
struct Tailed(Vec<u8>);

impl Source for Tailed {
    fn record(&mut self, reference: FlowRef) -> Option<FlowRecord> {
        Some(flow(reference.slot, 1))
    }

    fn tail(&self, _: FlowRef) -> &[u8] {
        &self.0
    }

    fn digest(&mut self) -> Digest {
        Digest::default()
    }
}

#[test]
fn fields_of_another_version_arrive_with_their_flow() {
    for len in [3, 40, MAX_TAIL as u8] {
        let tail: Vec<u8> = [1, len - 2].into_iter().chain(vec![9; usize::from(len) - 2]).collect();
        let mut source = Tailed(tail.clone());
        let mut receiver = receiver(Vec::new());
        let mut sender = Sender::new(Limits::default());
        sender.start(Instant::ZERO, SESSION);
        (0..200).for_each(|slot| sender.push(Item::Flow(reference(slot))));
        let mut out = Vec::new();
        while sender.poll_transmit(Instant::ZERO, &mut source, &mut out) {
            receiver.handle_data(Instant::ZERO, &out).expect("our own data");
        }
        let mut read = 0;
        while let Some(record) = receiver.poll_record() {
            assert_eq!(record, Record::Flow(flow(read, 1)));
            assert_eq!(receiver.tail(), tail);
            read += 1;
        }
        assert_eq!((read, receiver.tail()), (200, &[][..]));
    }
}

#[test]
fn ends_of_flows_wait_for_something_to_travel_with_but_not_for_long() {
    let mut flows = Flows::default();
    let mut sender = Sender::new(Limits::default());
    let (mut now, mut out) = (Instant::ZERO, Vec::new());
    sender.start(now, SESSION);
    let open = |sender: &mut Sender, flows: &mut Flows, id: u32| {
        flows.live.insert(reference(id), flow(id, 1));
        sender.push(Item::Flow(reference(id)));
    };
    for id in 1..=3 {
        open(&mut sender, &mut flows, id);
    }
    assert!(sender.poll_transmit(now, &mut flows, &mut out));
    let close = |sender: &mut Sender, flows: &mut Flows, id: u32| {
        let close = flows.close(id, 2).expect("it had been written");
        sender.push(Item::Close(Some(reference(id)), close));
    };
    close(&mut sender, &mut flows, 1);
    assert!(!sender.poll_transmit(now, &mut flows, &mut out));
    open(&mut sender, &mut flows, 4);
    assert!(sender.poll_transmit(now, &mut flows, &mut out), "a record takes it along at once");
    assert_eq!(sender.stats(now).urgent_waiting, 0);

    close(&mut sender, &mut flows, 2);
    assert!(!sender.poll_transmit(now, &mut flows, &mut out));
    close(&mut sender, &mut flows, 3);
    let due = now + Duration::from_millis(5);
    now = now + Duration::from_millis(4);
    assert!(!sender.poll_transmit(now, &mut flows, &mut out));
    assert!(sender.poll_timeout().is_some_and(|at| at <= due));
    assert!(sender.poll_transmit(due, &mut flows, &mut out));
    assert_eq!(sender.stats(due).urgent_waiting, 0, "both in one datagram");
}
