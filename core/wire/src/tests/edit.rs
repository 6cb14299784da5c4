//! Rewriting: what an edit leaves behind is the frame that somebody who always
//! meant the new ends would have written.

use super::support::*;
use crate::checksum::{difference, fold, mend};
use crate::{
    Checksum, Cover, Edit, EditList, Endpoint, IpPacket, Load, MacAddr, Rewrite, Store, Transport, apply,
    ipv4_checksum_ok, rewrite, rewrite_icmp_error, set_macs, transport_checksum_ok,
};
use proptest::prelude::*;
use std::vec::Vec;

fn to(src: Endpoint, dst: Endpoint) -> Rewrite {
    Rewrite { src, dst, decrement_ttl: false }
}

fn rewritten(frame: &[u8], wanted: &Rewrite, l4: Checksum) -> Vec<u8> {
    let mut out = frame.to_vec();
    assert!(apply(&mut out[..], &rewrite(&ip(frame), wanted), l4));
    out
}

fn checksums() -> impl Strategy<Value = Checksum> {
    prop::sample::select(std::vec![Checksum::Complete, Checksum::Partial])
}

/// A shape of either version with two other ends of that version.
fn shape_and_ends() -> impl Strategy<Value = (Shape, Endpoint, Endpoint)> {
    any::<bool>().prop_flat_map(|is_v4| (shape(is_v4), endpoint(is_v4), endpoint(is_v4)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn rewrite_equals_a_frame_written_anew((shape, src, dst) in shape_and_ends(), l4 in checksums()) {
        let frame = shape.frame(l4);
        let mut wanted = shape.between(src, dst);
        prop_assert_eq!(rewritten(&frame, &to(src, dst), l4), wanted.frame(l4));
        let lowered = Rewrite { decrement_ttl: true, ..to(src, dst) };
        wanted.ttl -= 1;
        prop_assert_eq!(rewritten(&frame, &lowered, l4), wanted.frame(l4));
    }

    #[test]
    fn there_and_back_restores_the_bytes((shape, src, dst) in shape_and_ends(), l4 in checksums()) {
        let frame = shape.frame(l4);
        let there = rewritten(&frame, &to(src, dst), l4);
        let packet = ip(&frame);
        prop_assert_eq!(rewritten(&there, &to(packet.source(), packet.destination()), l4), frame);
    }

    #[test]
    fn rewritten_packet_verifies_and_says_the_new_ends((shape, src, dst) in shape_and_ends()) {
        let out = rewritten(&shape.frame(Checksum::Complete), &to(src, dst), Checksum::Complete);
        let packet = ip(&out);
        prop_assert!(ipv4_checksum_ok(&out[..], &packet));
        prop_assert!(transport_checksum_ok(&out, &packet));
        prop_assert_eq!((packet.src, packet.dst), (src.addr, dst.addr));
    }

    #[test]
    fn wrong_checksum_stays_wrong((shape, src, dst) in shape_and_ends(), flip in 1..=0xffffu16) {
        // A corrupted packet must not be made whole on its way through.
        let mut frame = shape.frame(Checksum::Complete);
        let packet = ip(&frame);
        let (Some(field), crate::Fragment::None) = (rewrite(&packet, &to(src, dst)).transport_checksum, packet.fragment)
        else {
            return Ok(());
        };
        let at = usize::from(field.at);
        let damaged = frame.be16(at).unwrap_or(0) ^ flip;
        // 0 and 0xffff are the same number to the arithmetic, and 0 is "none" in UDP.
        if damaged == 0 || transport_is_ok_with(&frame, at, damaged) {
            return Ok(());
        }
        frame.set_be16(at, damaged);
        let out = rewritten(&frame, &to(src, dst), Checksum::Complete);
        prop_assert!(!transport_checksum_ok(&out, &ip(&out)));
    }

    #[test]
    fn kernel_helpers_execute_the_same_list((shape, src, dst) in shape_and_ends(), l4 in checksums()) {
        let frame = shape.frame(l4);
        let list = rewrite(&ip(&frame), &Rewrite { decrement_ttl: true, ..to(src, dst) });
        prop_assert_eq!(as_tc_would(&frame, &list, l4), rewritten(&frame, &Rewrite { decrement_ttl: true, ..to(src, dst) }, l4));
    }

    #[test]
    fn icmp_error_is_translated_inside_and_outside(
        (error, ends) in any::<bool>().prop_flat_map(|is_v4| {
            (error(is_v4), [endpoint(is_v4), endpoint(is_v4), endpoint(is_v4), endpoint(is_v4)])
        })
    ) {
        let [src, dst, inner_src, inner_dst] = ends;
        let frame = error.frame(Checksum::Complete);
        let packet = ip(&frame);
        prop_assert!(matches!(packet.transport, Transport::IcmpError(_)), "{:?}", packet);
        let mut out = frame.clone();
        prop_assert!(rewrite_icmp_error(&mut out, &packet, &to(src, dst), &to(inner_src, inner_dst), Checksum::Complete));
        prop_assert_eq!(&out, &translated(&error, ends).frame(Checksum::Complete));
        prop_assert!(transport_checksum_ok(&out, &ip(&out)));
    }
}

fn transport_is_ok_with(frame: &[u8], at: usize, checksum: u16) -> bool {
    let mut changed = frame.to_vec();
    changed.set_be16(at, checksum);
    transport_checksum_ok(&changed, &ip(&changed))
}

fn translated(error: &Shape, [src, dst, inner_src, inner_dst]: [Endpoint; 4]) -> Shape {
    let mut wanted = error.between(src, dst);
    if let Body::Error { quoted, .. } = &mut wanted.body {
        **quoted = quoted.between(inner_src, inner_dst);
    }
    wanted
}

/// `bpf_l3_csum_replace`, `bpf_l4_csum_replace` (with `BPF_F_PSEUDO_HDR` and,
/// for UDP, `BPF_F_MARK_MANGLED_0`) and `bpf_skb_store_bytes`, edit by edit.
fn as_tc_would(frame: &[u8], list: &EditList, l4: Checksum) -> Vec<u8> {
    let mut out = frame.to_vec();
    for edit in list.iter() {
        let (from, to) = (edit.old, edit.new);
        if let (true, Some(at)) = (edit.in_header, list.header_checksum) {
            let at = usize::from(at);
            let old = out.be16(at).unwrap_or(0);
            out.set_be16(at, mend(old, difference(from, to)));
        }
        if let (true, Some(field)) = (edit.transport != Cover::No, list.transport_checksum) {
            let at = usize::from(field.at);
            let old = out.be16(at).unwrap_or(0);
            let skipped = field.udp && old == 0 && l4 == Checksum::Complete;
            let new = match (l4, edit.transport) {
                (Checksum::Complete, _) if skipped => 0,
                (Checksum::Complete, _) => match mend(old, difference(from, to)) {
                    0 if field.udp => 0xffff,
                    sum => sum,
                },
                (Checksum::Partial, Cover::Pseudo) => fold(u32::from(old) + u32::from(fold(difference(from, to)))),
                (Checksum::Partial, _) => old,
            };
            out.set_be16(at, new);
        }
        store(&mut out, edit);
    }
    out
}

fn store(out: &mut [u8], edit: &Edit) {
    let at = usize::from(edit.at);
    let bytes = edit.new.to_be_bytes();
    out[at..at + usize::from(edit.len)].copy_from_slice(&bytes[4 - usize::from(edit.len)..]);
}

#[test]
fn edit_list_names_only_what_changes() {
    let (client, vip) = (end(v4(10, 0, 0, 1), 40_000), end(v4(10, 0, 0, 100), 80));
    let packet = ip(&plain_tcp(client, vip).frame(Checksum::Complete));
    assert!(rewrite(&packet, &to(client, vip)).is_empty());
    let list = rewrite(&packet, &to(client, end(v4(10, 0, 0, 7), 80)));
    assert_eq!(list.len(), 1);
    let edit = Edit { at: 30, len: 4, old: 0x0a00_0064, new: 0x0a00_0007, in_header: true, transport: Cover::Pseudo };
    assert_eq!(list.get(0), Some(&edit));
    assert_eq!(list.get(1), None);
    assert_eq!(list.header_checksum, Some(24));
}

#[test]
fn fullest_list_fits_its_room() {
    let all_ones = end(crate::Addr([0xff; 16]), 0xffff);
    let packet = ip(&plain_tcp(end(v6(1), 1), end(v6(2), 2)).frame(Checksum::Complete));
    let list = rewrite(&packet, &Rewrite { src: all_ones, dst: all_ones, decrement_ttl: true });
    assert_eq!(list.len(), crate::MAX_EDITS);
}

#[test]
fn later_fragment_gets_addresses_only() {
    let shape = Shape { place: Place::Later(9), ..plain_tcp(end(v4(10, 0, 0, 1), 0), end(v4(10, 0, 0, 2), 0)) };
    let frame = shape.frame(Checksum::Complete);
    let list = rewrite(&ip(&frame), &to(end(v4(1, 1, 1, 1), 5), end(v4(2, 2, 2, 2), 6)));
    assert_eq!((list.len(), list.transport_checksum), (2, None));
}

#[test]
fn udp_without_checksum_stays_without() {
    let shape =
        Shape { body: Body::Udp { checksum: false }, ..plain_tcp(end(v4(10, 0, 0, 1), 53), end(v4(10, 0, 0, 2), 53)) };
    let out = rewritten(
        &shape.frame(Checksum::Complete),
        &to(end(v4(9, 9, 9, 9), 1), end(v4(8, 8, 8, 8), 2)),
        Checksum::Complete,
    );
    assert_eq!(out.be16(14 + 20 + 6), Some(0));
}

#[test]
fn udp_checksum_that_becomes_zero_is_written_as_all_ones() {
    // Search a source port for which the new checksum is zero.
    let shape =
        Shape { body: Body::Udp { checksum: true }, ..plain_tcp(end(v4(10, 0, 0, 1), 53), end(v4(10, 0, 0, 2), 53)) };
    let frame = shape.frame(Checksum::Complete);
    let hits = (0..=0xffff)
        .map(|port| rewritten(&frame, &to(end(v4(10, 0, 0, 1), port), shape.dst), Checksum::Complete))
        .filter(|out| out.be16(14 + 20 + 6) == Some(0xffff))
        .inspect(|out| assert!(transport_checksum_ok(out, &ip(out))))
        .count();
    assert!(hits >= 1);
}

#[test]
fn ttl_goes_down_by_one_and_not_below_zero() {
    for (before, after) in [(64, 63), (1, 0), (0, 0)] {
        for ends in [(end(v4(1, 2, 3, 4), 5), end(v4(5, 6, 7, 8), 9)), (end(v6(1), 5), end(v6(2), 9))] {
            let shape = Shape { ttl: before, ..plain_tcp(ends.0, ends.1) };
            let wanted = Rewrite { src: ends.0, dst: ends.1, decrement_ttl: true };
            let out = rewritten(&shape.frame(Checksum::Complete), &wanted, Checksum::Complete);
            assert_eq!(out, Shape { ttl: after, ..shape }.frame(Checksum::Complete));
        }
    }
}

#[test]
fn list_for_another_frame_changes_nothing() {
    let frame = plain_tcp(end(v4(1, 2, 3, 4), 5), end(v4(5, 6, 7, 8), 9)).frame(Checksum::Complete);
    let list = rewrite(&ip(&frame), &to(end(v4(9, 9, 9, 9), 1), end(v4(8, 8, 8, 8), 2)));
    let mut short = frame[..40].to_vec();
    assert!(!apply(&mut short[..], &list, Checksum::Complete));
    assert_eq!(short, frame[..40]);
}

#[test]
fn super_packet_of_stated_or_open_length_is_rewritten() {
    let ends = (end(v4(1, 2, 3, 4), 5), end(v4(5, 6, 7, 8), 9));
    let wanted = to(end(v4(9, 9, 9, 9), 1), end(v4(8, 8, 8, 8), 2));
    let shape = Shape { payload: std::vec![7; 65_535 - 40], ..plain_tcp(ends.0, ends.1) };
    let frame = shape.frame(Checksum::Partial);
    assert_eq!(
        rewritten(&frame, &wanted, Checksum::Partial),
        shape.between(wanted.src, wanted.dst).frame(Checksum::Partial)
    );

    // Beyond 65535 bytes the kernel states a length of zero.
    let mut frame = Shape { payload: std::vec![7; 100_000], ..shape }.frame(Checksum::Partial);
    frame.set_be16(16, 0);
    let packet: IpPacket = ip(&frame);
    assert_eq!(packet.total_len, 100_040);
    assert_eq!(packet.tcp().map(|tcp| tcp.payload_len), Some(100_000));
    let out = rewritten(&frame, &wanted, Checksum::Partial);
    assert_eq!((ip(&out).source(), ip(&out).destination()), (wanted.src, wanted.dst));
}

#[test]
fn macs_are_set_or_left_alone() {
    let mut frame = std::vec![0u8; 14];
    set_macs(&mut frame, OUR_MAC, THEIR_MAC);
    assert_eq!((frame.mac(0), frame.mac(6)), (Some(OUR_MAC), Some(THEIR_MAC)));
    set_macs(&mut frame[..11], MacAddr::BROADCAST, MacAddr::BROADCAST);
    assert_eq!(frame.mac(0), Some(OUR_MAC));
}
