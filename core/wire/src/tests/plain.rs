//! The short way of the fast path says what the long way of the engine says.

use super::support::*;
use crate::{
    Checksum, Ethernet, Fragment, IpPacket, IpVersion, Load, PLAIN_HEAD, Parsed, Plain, Ready, Rewrite, Store,
    Transport, Unusual, addresses, apply, ethertype, ipv4_checksum_ok, parse, plain, rewrite, set_macs,
};
use proptest::prelude::*;
use std::vec::Vec;

fn read(frame: &[u8]) -> Result<Plain, Unusual> {
    let mut packet = Plain::default();
    plain(frame, &mut packet).map(|()| packet)
}

/// What the whole parser finds, if it is of the plain kind.
fn plain_by_parse(frame: &[u8]) -> Option<IpPacket> {
    let Ok((ethernet, Parsed::Ip(packet))) = parse(frame) else { return None };
    let Ethernet { vlan: None, len: 14, .. } = ethernet else { return None };
    let length_is_open = match packet.version {
        IpVersion::V4 => frame.be16(16) == Some(0),
        IpVersion::V6 => frame.be16(18) == Some(0),
    };
    let lacks_checksum = packet.version == IpVersion::V6
        && matches!(packet.transport, Transport::Udp(_))
        && frame.be16(usize::from(packet.l4) + 6) == Some(0);
    let carries_ports = matches!(packet.transport, Transport::Tcp(_) | Transport::Udp(_));
    let usual = carries_ports && packet.fragment == Fragment::None && !packet.options && !length_is_open;
    (usual && !lacks_checksum && ipv4_checksum_ok(frame, &packet)).then_some(packet)
}

fn assert_same(plain: &Plain, packet: &IpPacket) {
    assert_eq!(plain.version, packet.version);
    assert_eq!((plain.proto, plain.ttl, plain.total_len), (packet.proto, packet.ttl, packet.total_len));
    assert_eq!((plain.source(), plain.destination()), (packet.source(), packet.destination()));
    assert_eq!(plain.l4(), usize::from(packet.l4));
    let Transport::Tcp(tcp) = packet.transport else {
        assert_eq!((plain.header_len, plain.flags.0, plain.seq, plain.ack), (8, 0, 0, 0));
        return;
    };
    assert_eq!((plain.header_len, plain.flags), (tcp.header_len, tcp.flags));
    assert_eq!((plain.seq, plain.ack, plain.payload_len()), (tcp.seq, tcp.ack, tcp.payload_len));
}

/// Shapes of which more than half are plain.
fn mostly_plain() -> impl Strategy<Value = Shape> {
    (any::<bool>().prop_flat_map(shape), any::<u8>()).prop_map(|(mut shape, odd)| {
        if odd < 200 && matches!(shape.body, Body::Tcp { .. } | Body::Udp { .. }) {
            (shape.vlans, shape.extra, shape.place) = (Vec::new(), 0, Place::Whole);
        }
        shape
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn plain_is_what_parse_finds_plain(
        shape in mostly_plain(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let mut frame = shape.frame(Checksum::Complete);
        for (at, byte) in damage {
            let headers = frame.len().min(80);
            frame[at.index(headers)] = byte;
        }
        if let Some(cut) = cut {
            frame.truncate(cut.index(frame.len()));
        }
        match (read(&frame), plain_by_parse(&frame)) {
            (Ok(plain), Some(packet)) => assert_same(&plain, &packet),
            (Err(_), None) => {}
            (short, long) => prop_assert!(false, "{short:?} but {long:?}"),
        }
    }

    #[test]
    fn it_looks_no_further_than_it_says(shape in mostly_plain()) {
        let frame = shape.frame(Checksum::Complete);
        let mut other = frame.clone();
        other.iter_mut().skip(PLAIN_HEAD).for_each(|byte| *byte ^= 0x5a);
        prop_assert_eq!(read(&frame), read(&other));
    }

    #[test]
    fn a_ready_rewrite_is_the_rewrite(
        (shape, src, dst) in any::<bool>().prop_flat_map(|is_v4| (shape(is_v4), endpoint(is_v4), endpoint(is_v4))),
        stays in any::<(bool, bool)>(),
        partial in any::<bool>(),
        ttl in any::<u8>(),
    ) {
        let mut shape = Shape { vlans: Vec::new(), extra: 0, place: Place::Whole, ttl, ..shape };
        if !matches!(shape.body, Body::Tcp { .. } | Body::Udp { .. }) {
            shape.body = Body::Udp { checksum: shape.is_v4() && partial };
        }
        let l4 = if partial { Checksum::Partial } else { Checksum::Complete };
        let frame = shape.frame(l4);
        let Ok(packet) = read(&frame) else { return Ok(()) };
        let (src, dst) = (if stays.0 { packet.source() } else { src }, if stays.1 { packet.destination() } else { dst });
        let mut long = frame.clone();
        let wanted = Rewrite { src, dst, decrement_ttl: true };
        prop_assert!(apply(&mut long[..], &rewrite(&ip(&frame), &wanted), l4));
        let mut short = frame.clone();
        let ready = Ready::new((packet.source(), packet.destination()), (src, dst));
        ready.write(&mut short[..], &packet);
        ready.mend_transport(&mut short[..], &packet, l4);
        prop_assert_eq!(short, long);
    }
}

#[test]
fn each_unusual_frame_has_its_reason() {
    let tcp = || plain_tcp(end(v4(10, 1, 0, 9), 51_000), end(v4(10, 1, 0, 100), 80));
    let of = |change: &dyn Fn(&mut Shape)| {
        let mut shape = tcp();
        change(&mut shape);
        read(&shape.frame(Checksum::Complete)).err()
    };
    assert_eq!(of(&|_| {}), None);
    assert_eq!(of(&|shape| shape.vlans.push(7)), Some(Unusual::Tagged));
    assert_eq!(of(&|shape| shape.extra = 1), Some(Unusual::Options));
    assert_eq!(of(&|shape| shape.place = Place::First(9)), Some(Unusual::Fragment));
    assert_eq!(of(&|shape| shape.place = Place::Later(9)), Some(Unusual::Fragment));
    assert_eq!(of(&|shape| shape.body = Body::Echo { request: true, seq: 1 }), Some(Unusual::Protocol));
    let with = |bytes: &[(usize, u8)]| {
        let mut frame = tcp().frame(Checksum::Complete);
        bytes.iter().for_each(|&(at, byte)| frame[at] = byte);
        read(&frame).err()
    };
    assert_eq!(with(&[(12, 0x08), (13, 0x06)]), Some(Unusual::NotIp));
    assert_eq!(with(&[(14, 0x55)]), Some(Unusual::Malformed));
    assert_eq!(with(&[(24, 0x11)]), Some(Unusual::BadChecksum));
    assert_eq!(read(&tcp().frame(Checksum::Complete)[..40]).err(), Some(Unusual::Malformed));
}

#[test]
fn the_kinds_of_ipv6_that_go_up() {
    let shape = |body| Shape { body, ..plain_tcp(end(v6(1), 1000), end(v6(2), 80)) };
    let udp = shape(Body::Udp { checksum: true });
    let mut frame = udp.frame(Checksum::Complete);
    assert!(read(&frame).is_ok());
    frame.set_be16(14 + 40 + 6, 0);
    assert_eq!(read(&frame), Err(Unusual::NoChecksum));
    frame.set_be16(18, 0);
    assert_eq!(read(&frame), Err(Unusual::Jumbo));
    let extended = Shape { extra: 1, ..udp.clone() };
    assert_eq!(read(&extended.frame(Checksum::Complete)), Err(Unusual::Options));
    let first = Shape { place: Place::First(3), ..udp };
    assert_eq!(read(&first.frame(Checksum::Complete)), Err(Unusual::Fragment));
}

#[test]
fn addresses_are_found_in_packets_of_any_kind() {
    let (here, there) = (v4(10, 1, 0, 9), v4(10, 1, 0, 100));
    let later = Shape { place: Place::Later(9), ..plain_tcp(end(here, 0), end(there, 0)) };
    assert_eq!(addresses(&later.frame(Checksum::Complete)[..]), Some((here.into(), there.into())));
    let mut arp = later.frame(Checksum::Complete);
    arp.set_be16(12, ethertype::ARP);
    set_macs(&mut arp, OUR_MAC, THEIR_MAC);
    assert_eq!(addresses(&arp[..]), None);
}
