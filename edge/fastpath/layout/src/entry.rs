//! One direction of a flow: how a packet names it, and what is done to it.

use core::mem::{offset_of, size_of};

use holdfast_wire::{Addr, Endpoint, MacAddr, Plain, Ready, Words};

use crate::node::lead;

/// Size of a [`Key`].
pub const KEY_LEN: usize = 44;
/// Size of an [`Entry`].
pub const ENTRY_LEN: usize = 104;

/// How a packet names its direction of a flow.
///
/// ```text
///  0               16              32      36      40   41     44
///  +---------------+---------------+---+---+-------+----+------+
///  | source        | destination   | s | d | L2    | IP | 0    |
///  | address       | address       | port  | discr.| pr.|      |
///  +---------------+---------------+---+---+-------+----+------+
/// ```
///
/// Its length is a multiple of four: the kernel hashes words then, not bytes.
/// Words here and in [`Entry`] are held so that their bytes in memory are in
/// network order: a program moves words at the price of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C, align(4))]
pub struct Key {
    src: [u32; 4],
    dst: [u32; 4],
    ports: u32,
    l2: u32,
    proto: u32,
}

const _: () = assert!(size_of::<Key>() == KEY_LEN && offset_of!(Key, proto) == 40);

impl Key {
    /// Packets of `proto` from `src` to `dst`; `l2` is the layer-2
    /// discriminator, 0 = off.
    pub fn new(proto: u8, l2: u32, src: Endpoint, dst: Endpoint) -> Key {
        let ports = u32::from(src.port) << 16 | u32::from(dst.port);
        Key {
            src: network(src.addr.into()),
            dst: network(dst.addr.into()),
            ports: ports.to_be(),
            l2: l2.to_be(),
            proto: first_byte(proto),
        }
    }

    /// The key of `packet`.
    #[inline(always)]
    pub const fn of(packet: &Plain) -> Key {
        Key {
            src: network(packet.src),
            dst: network(packet.dst),
            ports: packet.ports.to_be(),
            l2: 0,
            proto: first_byte(packet.proto),
        }
    }

    /// Protocol, layer-2 discriminator, source and destination.
    pub fn parts(&self) -> (u8, u32, Endpoint, Endpoint) {
        let ports = u32::from_be(self.ports);
        let [proto, ..] = self.proto.to_ne_bytes();
        let end = |addr: &[u32; 4], port| Endpoint { addr: host(addr).into(), port };
        (proto, u32::from_be(self.l2), end(&self.src, (ports >> 16) as u16), end(&self.dst, ports as u16))
    }

    /// As it stands in the map.
    pub fn to_bytes(&self) -> [u8; KEY_LEN] {
        let mut out = [0; KEY_LEN];
        out[..16].copy_from_slice(&address_bytes(&self.src));
        out[16..32].copy_from_slice(&address_bytes(&self.dst));
        out[32..36].copy_from_slice(&self.ports.to_ne_bytes());
        out[36..40].copy_from_slice(&self.l2.to_ne_bytes());
        out[40..44].copy_from_slice(&self.proto.to_ne_bytes());
        out
    }

    /// From the bytes in the map.
    pub fn from_bytes(bytes: &[u8; KEY_LEN]) -> Key {
        Key {
            src: address_at(bytes, 0),
            dst: address_at(bytes, 16),
            ports: u32::from_ne_bytes(piece(bytes, 32)),
            l2: u32::from_ne_bytes(piece(bytes, 36)),
            proto: u32::from_ne_bytes(piece(bytes, 40)),
        }
    }
}

/// Which segments that end something an entry has passed up, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(pub u32);

impl Seen {
    /// A FIN.
    pub const FIN: Seen = Seen(1);
    /// A reset.
    pub const RST: Seen = Seen(2);
    /// A SYN.
    pub const SYN: Seen = Seen(4);

    /// Whether all bits of `other` are set here.
    pub const fn contains(self, other: Seen) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How packets of a direction leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Number of the interface that they leave by.
    pub interface: u32,
    /// The largest IP packet that fits there.
    pub mtu: u16,
    /// Ethernet address of the next hop.
    pub to: MacAddr,
    /// Ethernet address that they leave under.
    pub from: MacAddr,
}

/// What is done to the packets of one direction, and what has been seen of them.
///
/// ```text
///   0        8        16       24    28   32   36     40      44   46   48
///  +--------+--------+--------+-----+----+----+------+-------+----+----+----
///  | packets| bytes  | used   |seen |end |ack |epoch | inter-| MTU|from| 0 0
///  |        |        |        |     |    |    |      | face  |    |    |
///  +--------+--------+--------+-----+----+----+------+-------+----+----+----
///    50          64          80          96      100        102      104
///  ------------+-----------+-----------+-------+----------+----------+
///   Ethernet   | source    | destin.   | ports | addresses| ports    |
///   header, 14 | address   | address   |       | change   | change   |
///  ------------+-----------+-----------+-------+----------+----------+
/// ```
///
/// The program writes the first 36 bytes, the owner all of them when it puts
/// the entry in (numbers of TCP that it knows, or 0) and none later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Entry {
    /// Packets that it has forwarded; a super-packet counts once.
    pub packets: u64,
    /// Their bytes from the IP header on.
    pub bytes: u64,
    /// When it forwarded the last one: CLOCK_BOOTTIME, nanoseconds; 0: none yet.
    pub used: u64,
    /// What it has passed up.
    pub seen: u32,
    /// TCP: after the last byte that passed.
    pub end: u32,
    /// TCP: the furthest acknowledgement that passed.
    pub ack: u32,
    /// The epoch it is valid in.
    pub epoch: u32,
    /// Number of the interface that packets leave by.
    pub interface: u32,
    /// The largest IP packet that fits there.
    pub mtu: u16,
    /// Whose packets it is for: [`Entry::CLIENTS`], or 0 for the server's.
    pub from: u16,
    lead: [u64; 2],
    src: [u32; 4],
    dst: [u32; 4],
    ports: u32,
    addresses_change: u16,
    ports_change: u16,
}

const _: () = assert!(size_of::<Entry>() == ENTRY_LEN && offset_of!(Entry, lead) == 48 && offset_of!(Entry, src) == 64);

impl Entry {
    /// [`Entry::from`]: it is for packets of the client.
    pub const CLIENTS: u16 = 1;

    /// Bits that are set in [`Entry::seen`] and cleared never.
    pub const fn seen(&self) -> Seen {
        Seen(self.seen)
    }

    /// An unused entry, valid in `epoch`, for packets of `version`'s ethertype.
    pub fn new(epoch: u32, ready: &Ready, way: &Way, ethertype: u16) -> Entry {
        let mut lead = lead(way.to);
        let [_, _, header @ ..] = &mut lead;
        header[6..12].copy_from_slice(&way.from.0);
        header[12..14].copy_from_slice(&ethertype.to_be_bytes());
        Entry {
            epoch,
            interface: way.interface,
            mtu: way.mtu,
            lead: [u64::from_ne_bytes(piece(&lead, 0)), u64::from_ne_bytes(piece(&lead, 8))],
            src: network(ready.src),
            dst: network(ready.dst),
            ports: ready.ports.to_be(),
            addresses_change: ready.addresses_change,
            ports_change: ready.ports_change,
            ..Entry::default()
        }
    }

    /// The rewrite.
    #[inline(always)]
    pub fn ready(&self) -> Ready {
        Ready {
            src: host(&self.src),
            dst: host(&self.dst),
            ports: u32::from_be(self.ports),
            addresses_change: self.addresses_change,
            ports_change: self.ports_change,
        }
    }

    /// Two zero bytes and the Ethernet header that packets leave with.
    #[inline(always)]
    pub const fn lead(&self) -> [u64; 2] {
        self.lead
    }

    /// As it stands in the map.
    pub fn to_bytes(&self) -> [u8; ENTRY_LEN] {
        let mut out = [0; ENTRY_LEN];
        out[..8].copy_from_slice(&self.packets.to_ne_bytes());
        out[8..16].copy_from_slice(&self.bytes.to_ne_bytes());
        out[16..24].copy_from_slice(&self.used.to_ne_bytes());
        out[24..28].copy_from_slice(&self.seen.to_ne_bytes());
        out[28..32].copy_from_slice(&self.end.to_ne_bytes());
        out[32..36].copy_from_slice(&self.ack.to_ne_bytes());
        out[36..40].copy_from_slice(&self.epoch.to_ne_bytes());
        out[40..44].copy_from_slice(&self.interface.to_ne_bytes());
        out[44..46].copy_from_slice(&self.mtu.to_ne_bytes());
        out[46..48].copy_from_slice(&self.from.to_ne_bytes());
        out[48..56].copy_from_slice(&self.lead[0].to_ne_bytes());
        out[56..64].copy_from_slice(&self.lead[1].to_ne_bytes());
        out[64..80].copy_from_slice(&address_bytes(&self.src));
        out[80..96].copy_from_slice(&address_bytes(&self.dst));
        out[96..100].copy_from_slice(&self.ports.to_ne_bytes());
        out[100..102].copy_from_slice(&self.addresses_change.to_ne_bytes());
        out[102..104].copy_from_slice(&self.ports_change.to_ne_bytes());
        out
    }

    /// From the bytes in the map.
    pub fn from_bytes(bytes: &[u8; ENTRY_LEN]) -> Entry {
        Entry {
            packets: u64::from_ne_bytes(piece(bytes, 0)),
            bytes: u64::from_ne_bytes(piece(bytes, 8)),
            used: u64::from_ne_bytes(piece(bytes, 16)),
            seen: u32::from_ne_bytes(piece(bytes, 24)),
            end: u32::from_ne_bytes(piece(bytes, 28)),
            ack: u32::from_ne_bytes(piece(bytes, 32)),
            epoch: u32::from_ne_bytes(piece(bytes, 36)),
            interface: u32::from_ne_bytes(piece(bytes, 40)),
            mtu: u16::from_ne_bytes(piece(bytes, 44)),
            from: u16::from_ne_bytes(piece(bytes, 46)),
            lead: [u64::from_ne_bytes(piece(bytes, 48)), u64::from_ne_bytes(piece(bytes, 56))],
            src: address_at(bytes, 64),
            dst: address_at(bytes, 80),
            ports: u32::from_ne_bytes(piece(bytes, 96)),
            addresses_change: u16::from_ne_bytes(piece(bytes, 100)),
            ports_change: u16::from_ne_bytes(piece(bytes, 102)),
        }
    }
}

/// `N` bytes from `at` on; the caller's offsets are constants inside the array.
fn piece<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    out
}

/// A word whose first byte in memory is `byte`, and the others zero.
#[inline(always)]
const fn first_byte(byte: u8) -> u32 {
    ((byte as u32) << 24).to_be()
}

/// The words of an address whose bytes in memory are in network order.
#[inline(always)]
pub const fn network(Words([a, b, c, d]): Words) -> [u32; 4] {
    [a.to_be(), b.to_be(), c.to_be(), d.to_be()]
}

/// The opposite of [`network`].
#[inline(always)]
const fn host(&[a, b, c, d]: &[u32; 4]) -> Words {
    Words([u32::from_be(a), u32::from_be(b), u32::from_be(c), u32::from_be(d)])
}

fn address_bytes(words: &[u32; 4]) -> [u8; 16] {
    Addr::from(host(words)).0
}

fn address_at(bytes: &[u8], at: usize) -> [u32; 4] {
    network(Addr(piece(bytes, at)).into())
}
