//! Stories of fragments.

use super::*;
use crate::frame::{Offload, PortId};
use proptest::prelude::*;

const CLIENT: Addr = Addr::v4([10, 0, 0, 9]);
const VIP: Addr = Addr::v4([10, 0, 0, 100]);

fn key(id: u32) -> FragmentKey {
    FragmentKey { src: CLIENT, dst: VIP, proto: 17, id }
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn later(table: &mut Fragments<char>, now: Instant, id: u32, content: u8) -> FragmentStep<char> {
    let mut bytes = [content; 60];
    table.later(now, key(id), &Frame { port: PortId(3), offload: Offload::default(), bytes: &mut bytes })
}

#[test]
fn later_fragments_follow_the_first_for_five_seconds() {
    let mut table = Fragments::new();
    assert!(table.first(at(0), key(1), 'a').is_empty());
    assert_eq!(later(&mut table, at(4_999), 1, 0), FragmentStep::Follow('a'));
    assert_eq!(table.poll_timeout(), Some(at(5_000)));
    assert_eq!(table.handle_timeout(at(5_000)), 0);
    assert_eq!(table.poll_timeout(), None);
    assert_eq!(later(&mut table, at(5_000), 1, 0), FragmentStep::Queued);
}

#[test]
fn fragments_that_overtake_the_first_wait_and_keep_their_order() {
    let mut table = Fragments::new();
    assert_eq!(later(&mut table, at(0), 1, 11), FragmentStep::Queued);
    assert_eq!(later(&mut table, at(1), 1, 12), FragmentStep::Queued);
    let released = table.first(at(2), key(1), 'a');
    let contents: Vec<u8> = released.iter().map(|frame| frame.bytes[0]).collect();
    assert_eq!(contents, [11, 12]);
    assert_eq!(released[0].port, PortId(3));
    assert_eq!(later(&mut table, at(3), 1, 13), FragmentStep::Follow('a'));
}

#[test]
fn fragments_without_a_first_are_dropped_after_a_second_and_counted() {
    let mut table = Fragments::<char>::new();
    later(&mut table, at(0), 1, 0);
    later(&mut table, at(10), 1, 0);
    assert_eq!(table.handle_timeout(at(999)), 0);
    assert_eq!(table.handle_timeout(at(1_000)), 2);
    assert!(table.first(at(1_001), key(1), 'a').is_empty());
}

#[test]
fn packets_with_the_same_id_between_other_hosts_are_other_packets() {
    let mut table = Fragments::new();
    let _ = table.first(at(0), key(1), 'a');
    let _ = table.first(at(0), FragmentKey { src: VIP, dst: CLIENT, ..key(1) }, 'b');
    assert_eq!(later(&mut table, at(1), 1, 0), FragmentStep::Follow('a'));
    assert_eq!(later(&mut table, at(1), 2, 0), FragmentStep::Queued);
}

#[test]
fn an_identification_used_again_names_the_newer_packet() {
    let mut table = Fragments::new();
    let _ = table.first(at(0), key(1), 'a');
    let _ = table.first(at(3_000), key(1), 'b');
    table.handle_timeout(at(5_000));
    assert_eq!(later(&mut table, at(5_001), 1, 0), FragmentStep::Follow('b'));
}

#[test]
fn eight_wait_per_packet_and_no_more() {
    let mut table = Fragments::new();
    for _ in 0..MAX_WAITING_PER_PACKET {
        assert_eq!(later(&mut table, at(0), 1, 0), FragmentStep::Queued);
    }
    assert_eq!(later(&mut table, at(0), 1, 0), FragmentStep::Drop);
    assert_eq!(table.first(at(1), key(1), 'a').len(), MAX_WAITING_PER_PACKET);
}

#[test]
fn a_full_table_drops_later_fragments_and_gives_up_the_oldest_for_a_first() {
    let mut table = Fragments::new();
    for id in 0..MAX_PACKETS as u32 {
        let _ = table.first(at(u64::from(id)), key(id), 'a');
    }
    let now = at(4_200);
    assert_eq!(later(&mut table, now, 100_000, 0), FragmentStep::Drop);
    let _ = table.first(now, key(100_000), 'z');
    assert_eq!(later(&mut table, now, 100_000, 0), FragmentStep::Follow('z'));
    assert_eq!(later(&mut table, now, 1, 0), FragmentStep::Follow('a'));
    assert_eq!(later(&mut table, now, 0, 0), FragmentStep::Drop, "the oldest had to go");
    assert_eq!(table.packets.len(), MAX_PACKETS);
}

#[test]
fn the_total_of_waiting_fragments_is_bounded_and_expiry_is_sliced() {
    let mut table = Fragments::<char>::new();
    for id in 0..(MAX_WAITING / MAX_WAITING_PER_PACKET) as u32 {
        for _ in 0..MAX_WAITING_PER_PACKET {
            assert_eq!(later(&mut table, at(0), id, 0), FragmentStep::Queued);
        }
    }
    assert_eq!(later(&mut table, at(0), 99_999, 0), FragmentStep::Drop);
    assert_eq!(table.handle_timeout(at(2_000)), MAX_EXPIRED_PER_TURN * MAX_WAITING_PER_PACKET);
    assert_eq!(table.poll_timeout(), Some(at(1_000)), "the rest is still due");
    while table.poll_timeout().is_some() {
        table.handle_timeout(at(2_000));
    }
    assert_eq!((table.waiting, table.waiting_bytes, table.packets.len()), (0, 0, 0));
}

#[test]
fn the_bytes_of_waiting_fragments_are_bounded() {
    let mut table = Fragments::<char>::new();
    let mut bytes = vec![0; 60_000];
    let mut queued = 0;
    for id in 0..200 {
        let frame = Frame { port: PortId(3), offload: Offload::default(), bytes: &mut bytes };
        queued += usize::from(table.later(at(0), key(id), &frame) == FragmentStep::Queued);
    }
    assert_eq!(queued, MAX_WAITING_BYTES / 60_000);
}

proptest! {
    /// Every fragment that was queued comes out exactly once: released by the
    /// first of its packet, or counted as dropped.
    #[test]
    fn nothing_queued_is_lost_or_doubled(steps in prop::collection::vec((0..3u8, 0..6u32, 0..700u64), 1..200)) {
        let mut table = Fragments::new();
        let (mut now, mut queued, mut out) = (at(0), 0, 0);
        for (action, id, ms) in steps {
            now = now + Duration::from_millis(ms);
            match action {
                0 => out += table.first(now, key(id), 'a').len(),
                1 => out += table.handle_timeout(now),
                _ => queued += usize::from(later(&mut table, now, id, 0) == FragmentStep::Queued),
            }
            prop_assert_eq!(table.waiting, queued - out);
            prop_assert_eq!(table.deadlines.len(), table.packets.len());
        }
        out += table.handle_timeout(now + FOLLOW_TIME);
        prop_assert_eq!((queued, table.packets.len()), (out, 0));
    }
}
