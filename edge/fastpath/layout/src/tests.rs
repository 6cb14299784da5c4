//! The layout, byte by byte, and the judgement, reason by reason.

use super::*;
use holdfast_wire::{Addr, Endpoint, MacAddr, Plain, Ready, TcpFlags, Unusual, ethertype, proto};
use std::vec::Vec;

fn end(last: u8, port: u16) -> Endpoint {
    Endpoint { addr: Addr::v4([10, 1, 2, last]), port }
}

fn entry() -> Entry {
    let ready = Ready::new((end(1, 1000), end(2, 80)), (end(3, 4000), end(4, 8080)));
    let way = Way { interface: 7, mtu: 1500, to: MacAddr([1; 6]), from: MacAddr([2; 6]) };
    Entry::new(9, &ready, &way, ethertype::IPV4)
}

/// A packet that nothing speaks against.
fn packet() -> Plain {
    Plain { proto: proto::TCP, ttl: 64, flags: TcpFlags::ACK, header_len: 20, total_len: 1500, ..Plain::default() }
}

#[test]
fn a_key_is_what_stands_in_the_packet() {
    let key = Key::new(proto::TCP, 0x0102_0304, end(1, 0x1122), end(2, 0x3344));
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2];
    let expected: Vec<u8> =
        [&mapped[..], &[1], &mapped, &[2], &[0x11, 0x22, 0x33, 0x44], &[1, 2, 3, 4], &[6, 0, 0, 0]].concat();
    assert_eq!(key.to_bytes().to_vec(), expected);
    assert_eq!(Key::from_bytes(&key.to_bytes()), key);
    assert_eq!(key.parts(), (proto::TCP, 0x0102_0304, end(1, 0x1122), end(2, 0x3344)));
}

#[test]
fn the_key_of_a_packet_is_that_of_its_ends() {
    let packet = Plain { src: end(1, 0).addr.into(), dst: end(2, 0).addr.into(), ports: 0x1122_3344, ..packet() };
    assert_eq!(Key::of(&packet), Key::new(proto::TCP, 0, end(1, 0x1122), end(2, 0x3344)));
}

#[test]
fn an_entry_comes_back_from_its_bytes() {
    let mut entry = entry();
    (entry.packets, entry.bytes, entry.used) = (1, 2, 3);
    (entry.seen, entry.end, entry.ack, entry.from) = (4, 5, 6, Entry::CLIENTS);
    let bytes = entry.to_bytes();
    assert_eq!(Entry::from_bytes(&bytes), entry);
    assert_eq!(bytes[48..64], [0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0], "the Ethernet header");
    assert_eq!(bytes[76..80], [10, 1, 2, 3], "the source in network order");
    assert_eq!(bytes[96..100], [0x0f, 0xa0, 0x1f, 0x90], "both ports");
    assert_eq!(entry.ready(), Ready::new((end(1, 1000), end(2, 80)), (end(3, 4000), end(4, 8080))));
}

#[test]
fn the_program_reads_an_entry_where_its_bytes_stand() {
    use core::mem::offset_of;
    assert_eq!((offset_of!(Entry, packets), offset_of!(Entry, bytes), offset_of!(Entry, used)), (0, 8, 16));
    assert_eq!((offset_of!(Entry, seen), offset_of!(Entry, end), offset_of!(Entry, ack)), (24, 28, 32));
    assert_eq!((offset_of!(Entry, epoch), offset_of!(Entry, interface), offset_of!(Entry, mtu)), (36, 40, 44));
    assert_eq!(offset_of!(Entry, from), 46);
    assert_eq!((offset_of!(NodeState, lease), offset_of!(NodeState, epoch)), (NodeState::LEASE, NodeState::EPOCH));
    assert_eq!(offset_of!(NodeState, routes), NodeState::ROUTES);
    assert_eq!(offset_of!(NodeState, client_seen), NodeState::CLIENT_SEEN);
}

#[test]
fn each_objection_has_its_reason() {
    let of = |change: &dyn Fn(&mut Plain), epoch, segment| {
        let mut packet = packet();
        change(&mut packet);
        objection(&packet, &entry(), epoch, segment)
    };
    let flags = |bits| of(&|packet| packet.flags = TcpFlags(bits), 9, 0);
    assert_eq!(of(&|_| {}, 9, 0), None);
    assert_eq!(of(&|_| {}, 8, 0), Some(Reason::Stale));
    assert_eq!(of(&|packet| packet.ttl = 1, 9, 0), Some(Reason::Ttl));
    assert_eq!(of(&|packet| packet.ttl = 2, 9, 0), None);
    assert_eq!(of(&|packet| packet.total_len = 1501, 9, 0), Some(Reason::TooBig));
    assert_eq!(of(&|packet| packet.total_len = 60_000, 9, 1460), None, "each segment fits");
    assert_eq!(of(&|packet| packet.total_len = 60_000, 9, 1461), Some(Reason::TooBig));
    assert_eq!(flags(0x18), None);
    assert_eq!((flags(0x02), flags(0x12)), (Some(Reason::Syn), Some(Reason::Syn)));
    assert_eq!((flags(0x11), flags(0x14), flags(0x04)), (Some(Reason::Fin), Some(Reason::Rst), Some(Reason::Rst)));
    assert_eq!(
        (flags(0), flags(0x03), flags(0x06)),
        (Some(Reason::OddFlags), Some(Reason::OddFlags), Some(Reason::OddFlags))
    );
    assert_eq!(of(&|packet| (packet.proto, packet.flags) = (proto::UDP, TcpFlags(0)), 9, 0), None);
}

#[test]
fn every_reason_has_a_name_of_its_own_and_its_number_is_its_place() {
    let mut names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.label()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::COUNT as usize);
    assert!(Reason::ALL.iter().enumerate().all(|(place, &reason)| place == reason as usize));
    assert_eq!(Reason::from(Unusual::Fragment), Reason::Fragment);
}

#[test]
fn frames_to_an_unlisted_address_are_not_for_us() {
    let first = |mac| {
        let [a, b, c, d, e, f, g, h, ..] = lead(mac);
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    };
    let node = NodeState::with_macs(&[first(MacAddr([1; 6])), first(MacAddr([2; 6]))]);
    assert!(node.is_own(first(MacAddr([1; 6]))) && node.is_own(first(MacAddr([2; 6]))));
    assert!(!node.is_own(first(MacAddr([3; 6]))) && !node.is_own(0));
    assert!(!NodeState::default().is_own(first(MacAddr([1; 6]))));
}
