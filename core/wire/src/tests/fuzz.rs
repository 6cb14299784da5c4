//! Bytes from outside: nothing panics, and what the parser says lies in the frame.

use super::support::*;
use crate::build::{self, ErrorReport, Link, MAX_REPLY, Quote};
use crate::{
    Addr, Checksum, Ethernet, IpPacket, IpVersion, Parsed, Rewrite, Transport, apply, icmp_checksum_ok,
    ipv4_checksum_ok, parse, rewrite, rewrite_icmp_error, transport_checksum_ok,
};
use proptest::prelude::*;
use std::vec::Vec;

/// Parses `frame` and does everything with it that the crate offers.
fn exercise(frame: &[u8]) {
    match parse(frame) {
        Ok((ethernet, Parsed::Ip(packet))) => exercise_packet(frame, &ethernet, &packet),
        Ok((_, Parsed::Arp(_) | Parsed::Other)) | Err(_) => {}
    }
}

fn exercise_packet(frame: &[u8], ethernet: &Ethernet, packet: &IpPacket) {
    assert!(usize::from(ethernet.len) == usize::from(packet.l3));
    assert!(packet.l3 < packet.l4 && usize::from(packet.l4) <= packet.end() && packet.end() <= frame.len());
    if let Transport::Tcp(tcp) = packet.transport {
        let end = usize::from(packet.l4) + usize::from(tcp.header_len) + tcp.payload_len as usize;
        assert_eq!(end, packet.end());
    }
    let _ = (ipv4_checksum_ok(frame, packet), icmp_checksum_ok(frame, packet), transport_checksum_ok(frame, packet));
    let other = match packet.version {
        IpVersion::V4 => end(v4(192, 0, 2, 1), 7),
        IpVersion::V6 => end(v6(77), 7),
    };
    let wanted = Rewrite { src: other, dst: other, decrement_ttl: true };
    for l4 in [Checksum::Complete, Checksum::Partial] {
        let mut copy = frame.to_vec();
        assert!(apply(&mut copy[..], &rewrite(packet, &wanted), l4));
        let mut copy = frame.to_vec();
        let is_error = matches!(packet.transport, Transport::IcmpError(_));
        assert_eq!(rewrite_icmp_error(&mut copy, packet, &wanted, &wanted, l4), is_error);
        let mut copy = frame.to_vec();
        build::echo_reply_in_place(&mut copy, packet, OUR_MAC, l4);
    }
    answer(frame, ethernet, packet, other.addr);
}

fn answer(frame: &[u8], ethernet: &Ethernet, packet: &IpPacket, own: Addr) {
    let mut out = [0; MAX_REPLY];
    let link = Link::answer(ethernet, OUR_MAC);
    let quote = Quote { frame, packet };
    if let Some(len) = build::icmp_error(&mut out, link, own, quote, ErrorReport::TooBig { mtu: 1400 }) {
        let reply = ip(&out[..len]);
        assert!(transport_checksum_ok(&out[..len], &reply));
    }
    if let Some(reset) = build::reset_for(packet) {
        let len = build::tcp_reset(&mut out, link, packet.destination(), packet.source(), reset);
        let reply = ip(&out[..len]);
        assert!(transport_checksum_ok(&out[..len], &reply));
        assert_eq!(build::reset_for(&reply), None, "a reset is never answered");
    }
}

fn any_shape() -> impl Strategy<Value = Shape> {
    any::<bool>().prop_flat_map(|is_v4| prop_oneof![shape(is_v4), error(is_v4)])
}

/// Random bytes behind an Ethernet type that is looked into.
fn random_frame() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(std::vec![0x0800u16, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x1234]);
    (prop::collection::vec(any::<u8>(), 0..300), kind, any::<bool>(), any::<[u8; 2]>()).prop_map(
        |(mut bytes, kind, likely, choice)| {
            if let Some(place) = bytes.get_mut(12..14) {
                place.copy_from_slice(&kind.to_be_bytes());
            }
            if let (true, Some(first)) = (likely, bytes.get_mut(14)) {
                *first = if kind == 0x0800 { 0x45 + choice[0] % 3 } else { 0x60 };
            }
            if let (true, 0x86dd, Some(next)) = (likely, kind, bytes.get_mut(20)) {
                *next = [0, 43, 44, 60, 6, 17, 58][usize::from(choice[1]) % 7];
            }
            if let (true, Some(length)) = (likely && kind != 0x8100, bytes.get_mut(16..20)) {
                length.fill(0);
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn random_bytes_do_no_harm(frame in random_frame()) {
        exercise(&frame);
    }

    #[test]
    fn mutated_frames_do_no_harm(
        shape in any_shape(),
        changes in prop::collection::vec((0..160usize, any::<u8>()), 1..6),
    ) {
        let mut frame = shape.frame(Checksum::Complete);
        for (at, value) in changes {
            let len = frame.len();
            frame[at % len] = value;
        }
        exercise(&frame);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn truncated_frames_do_no_harm(shape in any_shape()) {
        let frame = shape.frame(Checksum::Complete);
        for len in 0..=frame.len() {
            exercise(&frame[..len]);
        }
        let whole = frame.len() - shape.padding;
        prop_assert!(parse(&frame[..whole]).is_ok());
        prop_assert!(parse(&frame[..whole - 1]).is_err(), "a packet cut short is refused");
    }
}
