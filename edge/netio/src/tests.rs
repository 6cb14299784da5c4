//! What needs no rights. The rest is in `tests/namespaces.rs`.

use crate::guard::script;
use crate::*;
use holdfast_engine::{Offload, OwnedFrame, PortId};
use std::net::IpAddr;

const OFFLOAD: Offload = Offload {
    flags: Offload::NEEDS_CHECKSUM,
    gso_type: 1,
    header_len: 66,
    segment_size: 1448,
    checksum_start: 34,
    checksum_offset: 16,
};

fn plain(port: PortId, bytes: Vec<u8>) -> OwnedFrame {
    OwnedFrame { port, offload: Offload::default(), bytes }
}

#[test]
fn the_vnet_header_survives_a_round_trip() {
    let bytes = encode_offload(&OFFLOAD);
    assert_eq!(decode_offload(&bytes), OFFLOAD);
    assert_eq!(u16::from_ne_bytes([bytes[4], bytes[5]]), 1448);
}

#[test]
fn a_forwarded_frame_leaves_before_what_its_handler_sent() {
    let mut ports = MemoryPorts::new();
    ports.inject(plain(PortId(0), vec![1, 2, 3]));
    let received = ports.receive(PortId(0), 8, &mut |frame, outbox| {
        frame.bytes[0] = 9;
        outbox.send(plain(PortId(2), vec![7]));
        Some(PortId(1))
    });
    assert_eq!(received, 1);
    assert_eq!(ports.take_sent(), None, "nothing leaves before the flush");
    ports.flush(&mut || true, &mut drop);
    assert_eq!(ports.take_sent(), Some(plain(PortId(1), vec![9, 2, 3])));
    assert_eq!(ports.take_sent(), Some(plain(PortId(2), vec![7])));
}

#[test]
fn a_closed_port_swallows_frames_and_gives_their_buffers_back() {
    let mut ports = PacketPorts::new();
    ports.send(plain(PortId(3), vec![1]));
    let mut returned = 0;
    ports.flush(&mut || true, &mut |_| returned += 1);
    assert_eq!(returned, 1);
    assert_eq!(ports.receive(PortId(3), 8, &mut |_, _| None), 0);
}

#[test]
fn the_guard_script_names_both_families_and_every_device() {
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let plan = GuardPlan {
        devices: ["eth1".to_owned(), "eth2".to_owned()].into(),
        floating: [address("192.0.2.1"), address("2001:db8::1")].into(),
        transit: Some([address("198.51.100.7")].into()),
    };
    let text = script("holdfast_7", &plan);
    assert!(text.starts_with("add table netdev holdfast_7\ndelete table netdev holdfast_7\n"));
    assert!(text.contains("set floating4 { type ipv4_addr; elements = { 192.0.2.1 }; }"));
    assert!(text.contains("set floating6 { type ipv6_addr; elements = { 2001:db8::1 }; }"));
    assert!(text.contains("set host6 { type ipv6_addr; }"), "an empty set has no elements clause");
    assert!(text.contains("device \"eth2\""));
    assert!(!script("t", &GuardPlan::default()).contains("chain"), "nothing to guard: the table only goes");
}

#[test]
fn the_loopback_is_among_the_host_addresses_but_no_ethernet_link() {
    let addresses = host_addresses().unwrap();
    let local: IpAddr = "127.0.0.1".parse().unwrap();
    let found = addresses.iter().find(|entry| entry.addr == local).expect("127.0.0.1 on lo");
    assert_eq!((found.device.as_str(), found.prefix), ("lo", 8));
    assert!(found.reaches("127.9.9.9".parse().unwrap()) && !found.reaches("128.0.0.1".parse().unwrap()));
    assert_eq!(link("lo").unwrap(), None);
    assert_eq!(link("no-such-device-of-mine").unwrap(), None);
}

#[test]
fn an_interface_that_is_not_there_is_named_in_the_error() {
    let error = PacketSocket::open("hf-none", 0x7fff_fff0).expect_err("no such interface");
    assert!(error.to_string().starts_with("interface hf-none: cannot "), "{error}");
}

#[test]
fn a_flush_that_may_not_send_throws_away() {
    let mut ports = MemoryPorts::new();
    ports.send(plain(PortId(1), vec![1; 60]));
    assert!(!ports.flush(&mut || false, &mut drop));
    assert!(ports.flush(&mut || true, &mut drop));
    assert_eq!(ports.take_sent(), None);
}
