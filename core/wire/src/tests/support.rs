//! Frames from a description, by code that shares nothing with the crate's own
//! builders and checksums.

use crate::{Addr, Checksum, Endpoint, IpPacket, MacAddr, Parsed, parse};
use proptest::prelude::*;
use std::vec::Vec;

/// A packet to write down.
#[derive(Clone, Debug)]
pub struct Shape {
    pub vlans: Vec<u16>,
    pub src: Endpoint,
    pub dst: Endpoint,
    pub ttl: u8,
    pub body: Body,
    pub payload: Vec<u8>,
    /// IPv4: words of options. IPv6: extension headers of 8 bytes.
    pub extra: usize,
    pub place: Place,
    /// Ethernet padding behind the packet.
    pub padding: usize,
}

#[derive(Clone, Debug)]
pub enum Body {
    Tcp {
        seq: u32,
        ack: u32,
        flags: u8,
        options: usize,
    },
    Udp {
        checksum: bool,
    },
    Echo {
        request: bool,
        seq: u16,
    },
    /// An ICMP error of `kind` quoting the first `keep` bytes of a packet.
    Error {
        kind: u8,
        code: u8,
        quoted: std::boxed::Box<Shape>,
        keep: usize,
    },
    /// A protocol that the crate does not know.
    Unknown(u8),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Whole,
    First(u16),
    Later(u16),
}

impl Shape {
    pub fn is_v4(&self) -> bool {
        self.src.addr.is_v4()
    }

    pub fn frame(&self, checksum: Checksum) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
        for vlan in &self.vlans {
            out.extend_from_slice(&0x8100u16.to_be_bytes());
            out.extend_from_slice(&(vlan | 0x6000).to_be_bytes());
        }
        out.extend_from_slice(&(if self.is_v4() { 0x0800u16 } else { 0x86dd }).to_be_bytes());
        out.extend_from_slice(&self.packet(checksum));
        out.resize(out.len() + self.padding, 0xee);
        out
    }

    pub fn packet(&self, checksum: Checksum) -> Vec<u8> {
        let transport = if let Place::Later(_) = self.place { self.payload.clone() } else { self.transport(checksum) };
        if self.is_v4() { self.ipv4(&transport) } else { self.ipv6(&transport) }
    }

    fn proto(&self) -> u8 {
        match self.body {
            Body::Tcp { .. } => 6,
            Body::Udp { .. } => 17,
            Body::Echo { .. } | Body::Error { .. } if self.is_v4() => 1,
            Body::Echo { .. } | Body::Error { .. } => 58,
            Body::Unknown(proto) => proto,
        }
    }

    fn ipv4(&self, transport: &[u8]) -> Vec<u8> {
        let header = 20 + 4 * self.extra;
        let mut out = Vec::new();
        out.extend_from_slice(&[0x40 | (header / 4) as u8, 0]);
        out.extend_from_slice(&((header + transport.len()) as u16).to_be_bytes());
        let (id, flags) = match self.place {
            Place::Whole => (7, 0x4000u16),
            Place::First(id) => (id, 0x2000),
            Place::Later(id) => (id, 100),
        };
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(&[self.ttl, self.proto(), 0, 0]);
        out.extend_from_slice(&self.src.addr.v4_bytes());
        out.extend_from_slice(&self.dst.addr.v4_bytes());
        out.resize(header, 1);
        let sum = !ones_sum(&[&out]);
        out[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(transport);
        out
    }

    fn ipv6(&self, transport: &[u8]) -> Vec<u8> {
        const KINDS: [u8; 3] = [0, 43, 60];
        let mut kinds: Vec<u8> = (0..self.extra).map(|index| KINDS[index % 3]).collect();
        if self.place != Place::Whole {
            kinds.push(44);
        }
        let mut out = Vec::new();
        out.extend_from_slice(&[0x60, 0, 0, 0]);
        out.extend_from_slice(&((8 * kinds.len() + transport.len()) as u16).to_be_bytes());
        out.extend_from_slice(&[kinds.first().copied().unwrap_or(self.proto()), self.ttl]);
        out.extend_from_slice(&self.src.addr.0);
        out.extend_from_slice(&self.dst.addr.0);
        for (index, kind) in kinds.iter().enumerate() {
            let next = kinds.get(index + 1).copied().unwrap_or(self.proto());
            match (*kind, self.place) {
                (44, Place::First(id)) => out.extend_from_slice(&[next, 0, 0, 1, 0, 0, (id >> 8) as u8, id as u8]),
                (44, Place::Later(id)) => out.extend_from_slice(&[next, 0, 1, 0, 0, 0, (id >> 8) as u8, id as u8]),
                _ => out.extend_from_slice(&[next, 0, 1, 0, 0, 0, 0, 0]),
            }
        }
        out.extend_from_slice(transport);
        out
    }

    fn transport(&self, checksum: Checksum) -> Vec<u8> {
        let mut out = Vec::new();
        let (src, dst) = (self.src.port.to_be_bytes(), self.dst.port.to_be_bytes());
        let field = match &self.body {
            Body::Tcp { seq, ack, flags, options } => {
                out.extend_from_slice(&[src, dst].concat());
                out.extend_from_slice(&seq.to_be_bytes());
                out.extend_from_slice(&ack.to_be_bytes());
                out.extend_from_slice(&[((5 + options) << 4) as u8, *flags, 0x12, 0x34, 0, 0, 0, 0]);
                out.resize(20 + 4 * options, 1);
                16
            }
            Body::Udp { .. } => {
                out.extend_from_slice(&[src, dst].concat());
                out.extend_from_slice(&(8 + self.payload.len() as u16).to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                6
            }
            Body::Echo { request, seq } => {
                let id = if *request { src } else { dst };
                let kind = match (self.is_v4(), request) {
                    (true, true) => 8,
                    (true, false) => 0,
                    (false, true) => 128,
                    (false, false) => 129,
                };
                out.extend_from_slice(&[kind, 0, 0, 0, id[0], id[1]]);
                out.extend_from_slice(&seq.to_be_bytes());
                2
            }
            Body::Error { kind, code, quoted, keep } => {
                let quoted = quoted.packet(Checksum::Complete);
                out.extend_from_slice(&[*kind, *code, 0, 0, 0, 0, 5, 0]);
                out.extend_from_slice(&quoted[..quoted.len().min(*keep)]);
                2
            }
            Body::Unknown(_) => return self.payload.clone(),
        };
        if !matches!(self.body, Body::Error { .. }) {
            out.extend_from_slice(&self.payload);
        }
        let value = self.checksum(&out, checksum);
        out[field..field + 2].copy_from_slice(&value.to_be_bytes());
        out
    }

    fn checksum(&self, segment: &[u8], checksum: Checksum) -> u16 {
        let with_pseudo = self.proto() != 1;
        let pseudo = if with_pseudo { self.pseudo_header(segment.len()) } else { Vec::new() };
        match (checksum, &self.body) {
            (Checksum::Complete, Body::Udp { checksum: false }) => 0,
            (Checksum::Partial, _) => ones_sum(&[&pseudo]),
            (Checksum::Complete, body) => match !ones_sum(&[&pseudo, segment]) {
                0 if matches!(body, Body::Udp { .. }) => 0xffff,
                sum => sum,
            },
        }
    }

    fn pseudo_header(&self, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        if self.is_v4() {
            out.extend_from_slice(&self.src.addr.v4_bytes());
            out.extend_from_slice(&self.dst.addr.v4_bytes());
        } else {
            out.extend_from_slice(&self.src.addr.0);
            out.extend_from_slice(&self.dst.addr.0);
        }
        out.extend_from_slice(&(len as u32).to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, self.proto()]);
        out
    }

    /// The same packet saying other ends, as a correct rewrite would.
    pub fn between(&self, src: Endpoint, dst: Endpoint) -> Shape {
        Shape { src, dst, ..self.clone() }
    }
}

/// One's complement sum, the slow way: bit 16 comes back in after every step.
pub fn ones_sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u32;
    for part in parts {
        for (index, byte) in part.iter().enumerate() {
            total += u32::from(*byte) << if index % 2 == 0 { 8 } else { 0 };
            if total > 0xffff {
                total -= 0xffff;
            }
        }
    }
    total as u16
}

pub fn ip(frame: &[u8]) -> IpPacket {
    match parse(frame) {
        Ok((_, Parsed::Ip(packet))) => packet,
        other => panic!("expected an IP packet, got {other:?}"),
    }
}

pub fn v4(a: u8, b: u8, c: u8, d: u8) -> Addr {
    Addr::v4([a, b, c, d])
}

pub fn v6(last: u8) -> Addr {
    Addr([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

pub fn end(addr: Addr, port: u16) -> Endpoint {
    Endpoint { addr, port }
}

pub const OUR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const THEIR_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

/// A whole TCP segment without frills.
pub fn plain_tcp(src: Endpoint, dst: Endpoint) -> Shape {
    Shape {
        vlans: Vec::new(),
        src,
        dst,
        ttl: 64,
        body: Body::Tcp { seq: 1000, ack: 2000, flags: 0x10, options: 0 },
        payload: b"hello".to_vec(),
        extra: 0,
        place: Place::Whole,
        padding: 0,
    }
}

/// An end of IPv4, or of IPv6 outside the mapped range.
pub fn endpoint(is_v4: bool) -> impl Strategy<Value = Endpoint> {
    (any::<[u8; 16]>(), any::<u16>()).prop_map(move |(mut bytes, port)| {
        bytes[0] |= 0x20;
        let addr = if is_v4 { Addr::v4([bytes[0], bytes[1], bytes[2], bytes[3]]) } else { Addr(bytes) };
        Endpoint { addr, port }
    })
}

fn simple_body() -> impl Strategy<Value = Body> {
    prop_oneof![
        4 => (any::<u32>(), any::<u32>(), any::<u8>(), 0..10usize)
            .prop_map(|(seq, ack, flags, options)| Body::Tcp { seq, ack, flags, options }),
        3 => any::<bool>().prop_map(|checksum| Body::Udp { checksum }),
        2 => (any::<bool>(), any::<u16>()).prop_map(|(request, seq)| Body::Echo { request, seq }),
        1 => Just(Body::Unknown(132)),
    ]
}

/// Any packet but an ICMP error.
pub fn shape(is_v4: bool) -> impl Strategy<Value = Shape> {
    let place = prop_oneof![
        6 => Just(Place::Whole),
        1 => any::<u16>().prop_map(Place::First),
        1 => any::<u16>().prop_map(Place::Later),
    ];
    let vlans = prop::collection::vec(0..0x1000u16, 0..3);
    let payload = prop::collection::vec(any::<u8>(), 0..80);
    (endpoint(is_v4), endpoint(is_v4), simple_body(), payload, 0..6usize, place, vlans, 0..10usize, 1u8..).prop_map(
        move |(src, dst, body, payload, extra, place, vlans, padding, ttl)| {
            let mut shape = Shape { vlans, src, dst, ttl, body, payload, extra, place, padding };
            shape.normalise();
            shape
        },
    )
}

/// An ICMP error of either version about any whole or first packet with ports.
pub fn error(is_v4: bool) -> impl Strategy<Value = Shape> {
    let quoted = shape(is_v4).prop_filter("has ports", |shape| {
        !matches!(shape.body, Body::Unknown(_)) && !matches!(shape.place, Place::Later(_))
    });
    let kind = if is_v4 {
        prop::sample::select(std::vec![3u8, 11, 12])
    } else {
        prop::sample::select(std::vec![1u8, 2, 3, 4])
    };
    // A quote cut through the middle of a TCP checksum (after 17 bytes) leaves half of it as it was.
    let more = (0..60usize).prop_filter("half a checksum", |more| *more != 9);
    (shape(is_v4), quoted, kind, 0..5u8, more).prop_map(move |(mut outer, quoted, kind, code, more)| {
        let headers = if is_v4 {
            20 + 4 * quoted.extra
        } else {
            40 + 8 * (quoted.extra + usize::from(quoted.place != Place::Whole))
        };
        outer.body = Body::Error { kind, code, quoted: std::boxed::Box::new(quoted), keep: headers + 8 + more };
        outer.place = Place::Whole;
        outer.normalise();
        outer
    })
}

impl Shape {
    /// Ports that the packet cannot say are 0, as the parser reports them.
    fn normalise(&mut self) {
        let (keeps_src, keeps_dst) = match (&self.body, self.place) {
            (_, Place::Later(_)) | (Body::Error { .. } | Body::Unknown(_), _) => (false, false),
            (Body::Tcp { .. } | Body::Udp { .. }, _) => (true, true),
            (Body::Echo { request, .. }, _) => (*request, !*request),
        };
        self.src.port *= u16::from(keeps_src);
        self.dst.port *= u16::from(keeps_dst);
    }
}
