//! Frames: what the parser finds lies inside, and edits undo each other.

use holdfast_wire::{
    Checksum, Endpoint, Fragment, IpPacket, Parsed, Rewrite, Transport, apply, icmp_checksum_ok, ipv4_checksum_ok,
    parse, rewrite, rewrite_icmp_error, transport_checksum_ok,
};

use crate::frames::host;

/// Parses `data` as a frame, rewrites it there and back, and translates ICMP errors.
pub fn wire_frame(data: &[u8]) {
    let Ok((ethernet, Parsed::Ip(packet))) = parse(data) else { return };
    assert!(usize::from(ethernet.len) == usize::from(packet.l3), "headers follow each other");
    assert!(packet.end() <= data.len() && usize::from(packet.l4) <= packet.end(), "{packet:?}");
    for l4 in [Checksum::Complete, Checksum::Partial] {
        there_and_back(data, &packet, l4);
        translate(data, &packet, l4);
    }
    let _ = holdfast_wire::build::reset_for(&packet);
}

fn wanted(packet: &IpPacket) -> Rewrite {
    let v6 = !packet.src.is_v4();
    Rewrite {
        src: Endpoint { addr: host(v6, 7, 7), port: 0x1234 },
        dst: Endpoint { addr: host(v6, 8, 8), port: 0xfedc },
        decrement_ttl: false,
    }
}

fn there_and_back(data: &[u8], packet: &IpPacket, l4: Checksum) {
    let wanted = wanted(packet);
    let mut frame = data.to_vec();
    let list = rewrite(packet, &wanted);
    assert!(apply(&mut frame[..], &list, l4), "the list fits its own frame");
    let Ok((_, Parsed::Ip(there))) = parse(&frame[..]) else { panic!("a rewritten packet parses") };
    assert_eq!((there.src, there.dst), (wanted.src.addr, wanted.dst.addr));
    if matches!(packet.transport, Transport::Tcp(_) | Transport::Udp(_)) {
        assert_eq!((there.source(), there.destination()), (wanted.src, wanted.dst));
    }
    if ipv4_checksum_ok(data, packet) {
        assert!(ipv4_checksum_ok(&frame[..], &there), "the header checksum was mended");
    }
    if l4 == Checksum::Complete && transport_checksum_ok(data, packet) {
        assert!(transport_checksum_ok(&frame, &there), "the transport checksum was mended");
    }
    let back = Rewrite { src: packet.source(), dst: packet.destination(), decrement_ttl: false };
    assert!(apply(&mut frame[..], &rewrite(&there, &back), l4));
    let Ok((_, Parsed::Ip(again))) = parse(&frame[..]) else { panic!("and parses again") };
    assert_eq!((again.source(), again.destination()), (packet.source(), packet.destination()));
}

fn translate(data: &[u8], packet: &IpPacket, l4: Checksum) {
    let mut frame = data.to_vec();
    let wanted = wanted(packet);
    let is_error = matches!(packet.transport, Transport::IcmpError(_));
    assert_eq!(rewrite_icmp_error(&mut frame, packet, &wanted, &wanted, l4), is_error);
    if !is_error {
        assert_eq!(frame, data, "nothing was touched");
        return;
    }
    let Ok((_, Parsed::Ip(there))) = parse(&frame[..]) else { panic!("a translated error parses") };
    let Transport::IcmpError(error) = there.transport else { panic!("and is still an error") };
    assert_eq!((error.inner.src.addr, error.inner.dst.addr), (wanted.src.addr, wanted.dst.addr));
    if l4 == Checksum::Complete && packet.fragment == Fragment::None && icmp_checksum_ok(data, packet) {
        assert!(icmp_checksum_ok(&frame, &there), "the error's checksum was mended");
    }
}
