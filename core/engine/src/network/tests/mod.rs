//! Stories of the node as a network host.

mod announcements;
mod answers;
mod properties;
mod resolution;
mod routes;
mod table;

use super::*;
use crate::frame::Offload;
use crate::plan::{FloatingKind, Route};
use holdfast_wire::build::{self, Link};
use holdfast_wire::{Parsed, parse};

const CLIENT_PORT: Port = Port { id: PortId(1), mac: MacAddr([2, 0, 0, 0, 1, 1]), mtu: 1500 };
/// A floating Ethernet address, for tests that give one to a port.
const FLOATING: MacAddr = MacAddr([0, 0, 0x5e, 0, 1, 60]);
const SERVER_PORT: Port = Port { id: PortId(2), mac: MacAddr([2, 0, 0, 0, 1, 2]), mtu: 1500 };
const SERVER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
const OTHER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 8, 8]);

/// 192.0.2.`last`: the client side.
fn client_net(last: u8) -> Addr {
    Addr::v4([192, 0, 2, last])
}

/// 10.0.0.`last`: the server side.
fn server_net(last: u8) -> Addr {
    Addr::v4([10, 0, 0, last])
}

/// 2001:db8:0:`net`::`last`.
fn v6(net: u8, last: u8) -> Addr {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    bytes[7] = net;
    bytes[15] = last;
    Addr(bytes)
}

/// fe80::`last`.
fn link_local(last: u8) -> Addr {
    let mut bytes = [0; 16];
    (bytes[0], bytes[1], bytes[15]) = (0xfe, 0x80, last);
    Addr(bytes)
}

fn vip(addr: Addr) -> FloatingAddress {
    let prefix_len = if addr.is_v4() { 32 } else { 128 };
    FloatingAddress { addr, prefix_len, kind: FloatingKind::Vip, arp: true, icmp: true }
}

fn snip(addr: Addr, prefix_len: u8) -> FloatingAddress {
    FloatingAddress { prefix_len, kind: FloatingKind::Snip, ..vip(addr) }
}

fn route(network: Addr, prefix_len: u8, gateway: Addr) -> Route {
    Route { network, prefix_len, gateway }
}

/// VIPs .100, SNIPs .1 on the client side and .2 on the server side, both families.
fn plan() -> Plan {
    Plan {
        epoch: 1,
        addresses: vec![
            vip(client_net(100)),
            snip(client_net(1), 24),
            snip(server_net(2), 24),
            vip(v6(1, 100)),
            snip(v6(1, 1), 64),
            snip(v6(2, 2), 64),
        ],
        routes: vec![route(Addr::v4([0; 4]), 0, client_net(254)), route(Addr::UNSPECIFIED, 0, link_local(254))],
        l3_mode: true,
        ..Plan::default()
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// What a frame says, in a line.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    port: PortId,
    to: MacAddr,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Arp(Arp),
    Solicitation { src: Addr, dst: Addr, target: Addr, mac: Option<MacAddr> },
    Advertisement { src: Addr, dst: Addr, target: Addr, mac: Option<MacAddr>, solicited: bool, overrides: bool },
    Membership { src: Addr, dst: Addr },
    Payload(Vec<u8>),
}

/// A network with two ports, and the frames it wants sent.
struct Lab {
    network: Network,
    out: Outbox,
}

impl Lab {
    fn new() -> Lab {
        Lab::with(&plan(), &Limits::default())
    }

    fn with(plan: &Plan, limits: &Limits) -> Lab {
        let mut network = Network::new(limits);
        network.set_ports(&[SERVER_PORT, CLIENT_PORT]);
        network.set_plan(plan);
        Lab { network, out: Outbox::default() }
    }

    fn resolve(&mut self, now: Instant, next_hop: Addr) -> Resolution {
        self.network.resolve(now, next_hop, &mut self.out)
    }

    /// Runs timers until nothing is due at `now`; returns what was sent.
    fn run(&mut self, now: Instant) -> Vec<Said> {
        while self.network.poll_timeout().is_some_and(|due| due <= now) {
            self.network.handle_timeout(now, &mut self.out);
        }
        self.said()
    }

    /// Frames sent since the last call.
    fn said(&mut self) -> Vec<Said> {
        core::iter::from_fn(|| self.out.pop()).map(|frame| read(&frame)).collect()
    }

    /// Feeds a frame that `write` makes, as it arrives by `port`.
    fn hear(&mut self, now: Instant, port: Port, write: impl FnOnce(&mut [u8]) -> usize) -> Verdict {
        let mut bytes = [0; 256];
        let len = write(&mut bytes);
        let (ethernet, parsed) = parse(&bytes[..len]).expect("test frames are well-formed");
        match parsed {
            Parsed::Arp(arp) => self.network.handle_arp(now, port.id, &arp, &mut self.out),
            Parsed::Ip(packet) => {
                assert!(holdfast_wire::icmp_checksum_ok(&bytes[..len], &packet));
                self.network.handle_neighbour(now, port.id, &ethernet, &packet, &mut self.out)
            }
            Parsed::Other => panic!("neither ARP nor IP"),
        }
    }

    /// An ARP packet arrives by `port`.
    fn arp(&mut self, now: Instant, port: Port, arp: Arp) -> Verdict {
        let to = if arp.op == ArpOp::Request { MacAddr::BROADCAST } else { arp.target_mac };
        let link = Link::new(to, arp.sender_mac);
        self.hear(now, port, |bytes| match arp.op {
            ArpOp::Request => build::arp_request(bytes, link, arp.sender, arp.target),
            ArpOp::Reply => build::arp_reply(bytes, link, arp.sender, arp.target),
        })
    }

    /// `target` advertises itself at `mac`: as an answer to us with the override
    /// flag, or to everybody without.
    fn advertise(&mut self, now: Instant, port: Port, target: Addr, mac: MacAddr, overrides: bool) -> Verdict {
        let location = Location { port: port.id, mac };
        if overrides {
            let link = Link::new(port.mac, mac);
            return self.hear(now, port, |bytes| build::neighbour_advertisement(bytes, link, target, v6(2, 2)));
        }
        // No builder makes one without the flag: it is for proxies.
        self.network.handle_advertisement(now, location, target, false, &mut self.out);
        Verdict::Consumed
    }

    /// A frame with one recognisable byte goes to the queue of `next_hop`.
    fn queue(&mut self, next_hop: Addr, content: u8) -> Result<(), Drop> {
        let mut bytes = vec![0; 60];
        (bytes[12], bytes[13], bytes[20]) = (0x88, 0xb5, content);
        self.network.enqueue(next_hop, OwnedFrame { port: PortId(0), offload: Offload::default(), bytes })
    }
}

fn read(frame: &OwnedFrame) -> Said {
    let (ethernet, parsed) = parse(&frame.bytes[..]).expect("own frames are well-formed");
    assert!(frame.bytes.len() >= 42, "a frame was cut short");
    let port = if frame.port == CLIENT_PORT.id { CLIENT_PORT } else { SERVER_PORT };
    assert!([port.mac, FLOATING].contains(&ethernet.src), "frames leave with an address of their port");
    let what = match parsed {
        Parsed::Arp(arp) => What::Arp(arp),
        Parsed::Ip(packet) => {
            assert!(holdfast_wire::icmp_checksum_ok(&frame.bytes[..], &packet));
            message(&packet)
        }
        Parsed::Other => What::Payload(frame.bytes.clone()),
    };
    Said { port: frame.port, to: ethernet.dst, what }
}

fn message(packet: &IpPacket) -> What {
    let (src, dst) = (packet.src, packet.dst);
    match packet.transport {
        Transport::NeighbourSolicitation(asked) => {
            What::Solicitation { src, dst, target: asked.target, mac: asked.source_mac }
        }
        Transport::NeighbourAdvertisement(told) => What::Advertisement {
            src,
            dst,
            target: told.target,
            mac: told.mac,
            solicited: told.solicited,
            overrides: told.override_cache,
        },
        Transport::OtherIcmp { kind: 143, .. } => What::Membership { src, dst },
        ref other => panic!("the node never says {other:?}"),
    }
}

fn arp_request(sender: Addr, sender_mac: MacAddr, target: Addr) -> Arp {
    Arp { op: ArpOp::Request, sender_mac, sender, target_mac: MacAddr::default(), target }
}

fn arp_reply(sender: Addr, sender_mac: MacAddr, target: Addr, target_mac: MacAddr) -> Arp {
    Arp { op: ArpOp::Reply, sender_mac, sender, target_mac, target }
}
