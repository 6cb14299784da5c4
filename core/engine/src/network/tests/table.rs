//! The neighbour table by itself: its clock, its limits.

use super::*;
use crate::network::neighbours::{MAX_QUEUED, MAX_QUEUED_BYTES, REACHABLE_TIME};

const HERE: Location = Location { port: PortId(2), mac: SERVER_MAC };

fn table(entries: u32, queue: u16) -> Neighbours {
    Neighbours::new(TableLimits { entries, queue })
}

fn frame() -> OwnedFrame {
    OwnedFrame { port: PortId(0), offload: Offload::default(), bytes: vec![0; 60] }
}

/// An address by number.
fn host(number: u16) -> Addr {
    let [high, low] = number.to_be_bytes();
    Addr::v4([10, 1, high, low])
}

#[test]
fn only_a_changed_location_ends_a_generation() {
    let mut table = table(16, 4);
    let start = table.generation();
    table.lookup(at(0), host(1));
    table.confirm(at(1), host(1), HERE, false);
    table.confirm(at(2), host(2), HERE, true);
    table.confirm(at(3), host(1), HERE, false);
    assert_eq!(table.generation(), start, "nobody can hold a location that was never handed out");
    table.confirm(at(4), host(1), Location { mac: OTHER_MAC, ..HERE }, false);
    assert_eq!(table.generation(), start + 1);
}

#[test]
fn a_neighbour_heard_on_two_ports_stays_where_it_was_heard_first() {
    let mut table = table(16, 4);
    let other_port = Location { port: PortId(1), ..HERE };
    table.lookup(at(0), host(1));
    table.confirm(at(1), host(1), HERE, false);
    let settled = table.generation();
    table.confirm(at(2), host(1), other_port, false);
    assert_eq!((table.location(host(1)), table.generation()), (Some(HERE), settled));
    table.confirm(at(1_001), host(1), other_port, false);
    assert_eq!((table.location(host(1)), table.generation()), (Some(other_port), settled + 1));
}

#[test]
fn a_full_table_gives_up_whoever_has_not_answered_for_longest() {
    let mut table = table(8, 4);
    for number in 0..8 {
        table.confirm(at(u64::from(number)), host(number), HERE, true);
    }
    assert_eq!(table.lookup(at(10), host(100)), Lookup::Ask);
    assert_eq!(table.location(host(0)), None);
    assert_eq!(table.location(host(1)), Some(HERE));
    table.confirm(at(11), host(101), HERE, true);
    assert_eq!(table.location(host(101)), None, "learning pushes nobody out");
}

#[test]
fn unanswered_neighbours_fill_a_quarter_of_the_table_at_most() {
    let mut table = table(16, 4);
    let asked = (0..100).filter(|&number| table.lookup(at(0), host(number)) == Lookup::Ask).count();
    assert_eq!(asked, 16 / 4);
    assert_eq!(table.lookup(at(0), host(99)), Lookup::Full);
    while table.poll(at(10_000)).is_some() {}
    assert_eq!(table.lookup(at(10_000), host(99)), Lookup::Full, "four requests each, then room");
    for step in 1..5 {
        while table.poll(at(10_000 + 200 * step)).is_some() {}
    }
    assert_eq!(table.lookup(at(11_000), host(99)), Lookup::Ask);
}

#[test]
fn the_queue_of_a_neighbour_and_the_sum_of_queues_are_bounded() {
    let mut table = table(4_096, 128);
    for number in 0..=(MAX_QUEUED / 128) as u16 {
        table.lookup(at(0), host(number));
        let taken = (0..200).filter(|_| table.enqueue(host(number), frame()).is_ok()).count();
        assert_eq!(taken, if u32::from(number) < MAX_QUEUED / 128 { 128 } else { 0 });
    }
    assert_eq!(table.confirm(at(1), host(0), HERE, false).len(), 128);
    assert!(table.enqueue(host((MAX_QUEUED / 128) as u16), frame()).is_ok(), "room again");
    assert!(table.enqueue(host(60_000), frame()).is_err(), "nobody asked for it");
    assert!(table.enqueue(host(0), frame()).is_err(), "known: send it instead");
}

#[test]
fn forgetting_all_takes_effect_at_once_and_costs_nothing() {
    let mut table = table(16, 4);
    table.confirm(at(0), host(1), HERE, true);
    table.lookup(at(0), host(2));
    table.enqueue(host(2), frame()).unwrap();
    let before = table.generation();
    table.forget_all();
    assert_ne!(table.generation(), before);
    assert_eq!(table.list().count(), 0);
    assert_eq!(table.location(host(1)), None);
    assert_eq!(table.lookup(at(1), host(2)), Lookup::Ask);
    assert!(table.confirm(at(2), host(2), HERE, false).is_empty(), "what waited then is not sent now");
}

#[test]
fn entries_of_an_older_life_leave_one_by_one_when_their_time_comes() {
    let mut table = table(16, 4);
    table.confirm(at(0), host(1), HERE, true);
    table.confirm(at(0), host(2), HERE, true);
    table.forget_all();
    let due = at(0) + REACHABLE_TIME;
    assert_eq!(table.poll_timeout(), Some(due));
    assert_eq!([table.poll(due), table.poll(due), table.poll(due)], [Some(Due::Swept), Some(Due::Swept), None]);
    assert_eq!(table.poll_timeout(), None);
}

#[test]
fn entries_of_an_older_life_make_room_for_those_of_this_one() {
    let mut table = table(4, 4);
    table.lookup(at(0), host(1));
    for number in 2..5 {
        table.confirm(at(0), host(number), HERE, true);
    }
    table.forget_all();
    assert_eq!(table.lookup(at(1), host(9)), Lookup::Ask);
    table.assert_consistent();
}

#[test]
fn the_bytes_of_waiting_frames_are_bounded() {
    let mut table = table(4_096, 128);
    let large = OwnedFrame { bytes: vec![0; 65_536], ..frame() };
    let mut taken = 0;
    for number in 0..10 {
        table.lookup(at(0), host(number));
        taken += (0..128).filter(|_| table.enqueue(host(number), large.clone()).is_ok()).count();
    }
    assert_eq!(taken, MAX_QUEUED_BYTES / 65_536);
    table.confirm(at(1), host(0), HERE, false);
    assert!(table.enqueue(host(9), large).is_ok(), "room again");
}
