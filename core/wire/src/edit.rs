//! Rewriting a packet in place: first the list of edits, then their application.
//!
//! The list is data, so that the engine, XDP (both [`apply`]) and tc
//! (`bpf_l3_csum_replace`, `bpf_l4_csum_replace`) execute the same decision.

use crate::checksum::{difference, mend, mend_partial};
use crate::packet::proto;
use crate::{Addr, Checksum, Embedded, Endpoint, IpPacket, IpVersion, MacAddr, Ports, Store, Transport};

/// Room of an [`EditList`]: two IPv6 addresses of four words, two ports, TTL.
pub const MAX_EDITS: usize = 11;

/// How the transport checksum covers a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cover {
    /// Not at all.
    #[default]
    No,
    /// As one of the bytes it is computed over: a partial checksum leaves it out.
    Direct,
    /// Through the pseudo-header: a partial checksum contains it.
    Pseudo,
}

/// One field to replace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Offset in the frame; even, counted from either header's start, unless `len` is 1.
    pub at: u16,
    /// 1, 2 or 4 bytes. Only a hop limit, which no checksum covers, has 1.
    pub len: u8,
    /// What stands there, as a number in host order.
    pub old: u32,
    /// What shall stand there, as a number in host order.
    pub new: u32,
    /// The IPv4 header checksum covers it.
    pub in_header: bool,
    /// The transport checksum covers it.
    pub transport: Cover,
}

/// Where the transport checksum stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportChecksum {
    /// Its offset in the frame.
    pub at: u16,
    /// It is UDP's: zero means none and stays, a computed zero is written as 0xffff.
    pub udp: bool,
}

/// The edits of one packet: only fields that change, in ascending groups
/// (addresses, ports, TTL), and the checksums to mend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EditList {
    items: [Edit; MAX_EDITS],
    len: u8,
    /// Offset of the IPv4 header checksum; `None` in IPv6.
    pub header_checksum: Option<u16>,
    /// The transport checksum; `None` if there is none in this packet.
    pub transport_checksum: Option<TransportChecksum>,
}

impl EditList {
    /// The edits in order.
    pub fn iter(&self) -> impl Iterator<Item = &Edit> {
        self.items.iter().take(usize::from(self.len))
    }

    /// The edit at `index`, if there are so many.
    pub fn get(&self, index: usize) -> Option<&Edit> {
        if index < usize::from(self.len) { self.items.get(index) } else { None }
    }

    /// How many edits there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `edit` unless it changes nothing. The room suffices for every
    /// list that [`edits`] makes.
    fn push(&mut self, edit: Edit) {
        if edit.old == edit.new {
            return;
        }
        if let Some(slot) = self.items.get_mut(usize::from(self.len)) {
            *slot = edit;
            self.len += 1;
        }
    }

    /// Whether every edit and checksum lies inside a frame of `len` bytes.
    fn fits(&self, len: usize) -> bool {
        let checksums = [self.header_checksum, self.transport_checksum.map(|field| field.at)];
        self.iter().all(|edit| usize::from(edit.at) + usize::from(edit.len) <= len)
            && checksums.iter().flatten().all(|&at| usize::from(at) + 2 <= len)
    }
}

/// What the packet shall say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The new source; see [`IpPacket::source`] for which port of an echo counts.
    pub src: Endpoint,
    /// The new destination.
    pub dst: Endpoint,
    /// Take one off TTL or hop limit (not below 0; the caller has looked).
    pub decrement_ttl: bool,
}

/// The edits that make `packet` say what `wanted` says. Addresses must be of
/// the packet's own IP version. Packets without ports (later fragments, ICMP
/// errors, other protocols) get addresses only; what an error quotes is for
/// [`rewrite_icmp_error`].
pub fn rewrite(packet: &IpPacket, wanted: &Rewrite) -> EditList {
    let mut list = EditList::default();
    rewrite_into(&mut list, packet, wanted);
    list
}

/// [`rewrite`] into a list that exists: a program in the kernel has no stack
/// for one. What the list held before is forgotten.
pub fn rewrite_into(list: &mut EditList, packet: &IpPacket, wanted: &Rewrite) {
    *list = EditList::default();
    let ports = match packet.transport {
        Transport::Tcp(_) | Transport::Udp(_) => Some(Ports::Pair),
        Transport::Echo(echo) if echo.request => Some(Ports::EchoRequest),
        Transport::Echo(_) => Some(Ports::EchoReply),
        Transport::IcmpError(_)
        | Transport::NeighbourSolicitation(_)
        | Transport::NeighbourAdvertisement(_)
        | Transport::OtherIcmp { .. }
        | Transport::Other
        | Transport::None => None,
    };
    let has_checksum = !matches!(packet.transport, Transport::Other | Transport::None);
    let headers = Headers {
        l3: packet.l3,
        l4: packet.l4,
        version: packet.version,
        proto: packet.proto,
        src: packet.source(),
        dst: packet.destination(),
        ports,
        has_checksum,
    };
    edits(list, &headers, wanted);
    if wanted.decrement_ttl {
        list.push(ttl(packet));
    }
}

/// What an edit list is made from: the headers of a packet, or of one quoted
/// by an ICMP error.
struct Headers {
    l3: u16,
    l4: u16,
    version: IpVersion,
    proto: u8,
    src: Endpoint,
    dst: Endpoint,
    ports: Option<Ports>,
    has_checksum: bool,
}

/// Fills the empty `list`.
fn edits(list: &mut EditList, headers: &Headers, wanted: &Rewrite) {
    if headers.has_checksum {
        list.transport_checksum = checksum_field(headers.proto, headers.l4);
    }
    match headers.version {
        IpVersion::V4 => {
            list.header_checksum = Some(headers.l3 + 10);
            let cover = if headers.proto == proto::ICMP { Cover::No } else { Cover::Pseudo };
            list.push(v4_address(headers.l3 + 12, headers.src.addr, wanted.src.addr, cover));
            list.push(v4_address(headers.l3 + 16, headers.dst.addr, wanted.dst.addr, cover));
        }
        IpVersion::V6 => {
            v6_address(list, headers.l3 + 8, headers.src.addr, wanted.src.addr);
            v6_address(list, headers.l3 + 24, headers.dst.addr, wanted.dst.addr);
        }
    }
    match headers.ports {
        Some(Ports::Pair) => {
            list.push(port(headers.l4, headers.src.port, wanted.src.port));
            list.push(port(headers.l4 + 2, headers.dst.port, wanted.dst.port));
        }
        Some(Ports::EchoRequest) => list.push(port(headers.l4 + 4, headers.src.port, wanted.src.port)),
        Some(Ports::EchoReply) => list.push(port(headers.l4 + 4, headers.dst.port, wanted.dst.port)),
        None => {}
    }
}

fn checksum_field(protocol: u8, l4: u16) -> Option<TransportChecksum> {
    match protocol {
        proto::TCP => Some(TransportChecksum { at: l4 + 16, udp: false }),
        proto::UDP => Some(TransportChecksum { at: l4 + 6, udp: true }),
        proto::ICMP | proto::ICMPV6 => Some(TransportChecksum { at: l4 + 2, udp: false }),
        _ => None,
    }
}

fn v4_address(at: u16, old: Addr, new: Addr, transport: Cover) -> Edit {
    let [_, _, _, old] = words(old);
    let [_, _, _, new] = words(new);
    Edit { at, len: 4, old, new, in_header: true, transport }
}

fn v6_address(list: &mut EditList, at: u16, old: Addr, new: Addr) {
    let [old0, old1, old2, old3] = words(old);
    let [new0, new1, new2, new3] = words(new);
    let word = |at, old, new| Edit { at, len: 4, old, new, in_header: false, transport: Cover::Pseudo };
    list.push(word(at, old0, new0));
    list.push(word(at + 4, old1, new1));
    list.push(word(at + 8, old2, new2));
    list.push(word(at + 12, old3, new3));
}

fn words(addr: Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = addr.0;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l], [m, n, o, p]].map(u32::from_be_bytes)
}

fn port(at: u16, old: u16, new: u16) -> Edit {
    Edit { at, len: 2, old: u32::from(old), new: u32::from(new), in_header: false, transport: Cover::Direct }
}

fn ttl(packet: &IpPacket) -> Edit {
    let old = u32::from(packet.ttl);
    let new = u32::from(packet.ttl.saturating_sub(1));
    match packet.version {
        IpVersion::V4 => {
            // Checksums count words: TTL shares one with the protocol number.
            let protocol = u32::from(packet.proto);
            let (old, new) = (old << 8 | protocol, new << 8 | protocol);
            Edit { at: packet.l3 + 8, len: 2, old, new, in_header: true, transport: Cover::No }
        }
        IpVersion::V6 => Edit { at: packet.l3 + 7, len: 1, old, new, in_header: false, transport: Cover::No },
    }
}

/// Writes `list` into the frame it was made for and mends the checksums; `l4`
/// says what stands in the transport's field. Answers `false`, having changed
/// nothing, if the frame is too short to be that frame.
pub fn apply<F: Store + ?Sized>(frame: &mut F, list: &EditList, l4: Checksum) -> bool {
    write(frame, list, l4).is_some()
}

/// [`apply`], answering the difference that all changed words (checksums
/// included) make to a sum over them.
fn write<F: Store + ?Sized>(frame: &mut F, list: &EditList, l4: Checksum) -> Option<u32> {
    if !list.fits(frame.len()) {
        return None;
    }
    let mut header = 0;
    let mut transport = 0;
    let mut everything = 0;
    for edit in list.iter() {
        let at = usize::from(edit.at);
        let change = match edit.len {
            1 => {
                frame.set_u8(at, edit.new as u8);
                0
            }
            2 => {
                frame.set_be16(at, edit.new as u16);
                difference(edit.old, edit.new)
            }
            _ => {
                frame.set_be32(at, edit.new);
                difference(edit.old, edit.new)
            }
        };
        everything += change;
        if edit.in_header {
            header += change;
        }
        transport += match (edit.transport, l4) {
            (Cover::Pseudo, Checksum::Complete | Checksum::Partial) | (Cover::Direct, Checksum::Complete) => change,
            (Cover::Direct, Checksum::Partial) | (Cover::No, Checksum::Complete | Checksum::Partial) => 0,
        };
    }
    if let Some(at) = list.header_checksum {
        everything += mend_header(frame, at, header);
    }
    if let Some(field) = list.transport_checksum {
        everything += mend_transport(frame, field, transport, l4);
    }
    Some(everything)
}

/// Mends a field of the IPv4 header checksum; answers the difference it makes itself.
fn mend_header<F: Store + ?Sized>(frame: &mut F, at: u16, change: u32) -> u32 {
    if change == 0 {
        return 0;
    }
    let old = frame.be16(usize::from(at)).unwrap_or(0);
    replace(frame, at, old, mend(old, change))
}

/// Mends a transport checksum; answers the difference it makes itself.
fn mend_transport<F: Store + ?Sized>(frame: &mut F, field: TransportChecksum, change: u32, l4: Checksum) -> u32 {
    if change == 0 {
        return 0;
    }
    let old = frame.be16(usize::from(field.at)).unwrap_or(0);
    let new = match l4 {
        Checksum::Partial => mend_partial(old, change),
        Checksum::Complete if field.udp && old == 0 => 0,
        Checksum::Complete => match mend(old, change) {
            0 if field.udp => 0xffff,
            new => new,
        },
    };
    replace(frame, field.at, old, new)
}

fn replace<F: Store + ?Sized>(frame: &mut F, at: u16, old: u16, new: u16) -> u32 {
    if old == new {
        return 0;
    }
    frame.set_be16(usize::from(at), new);
    difference(u32::from(old), u32::from(new))
}

/// Rewrites an ICMP or ICMPv6 error: `outer` for the error's own addresses
/// (its ports are ignored), `inner` for the packet it quotes, in the direction
/// in which that packet was travelling. The quoted packet's checksums are
/// mended where they are part of the quote; its TTL stays. Answers `false`,
/// having changed nothing, if `packet` is no error or not of this frame.
pub fn rewrite_icmp_error(frame: &mut [u8], packet: &IpPacket, outer: &Rewrite, inner: &Rewrite, l4: Checksum) -> bool {
    let Transport::IcmpError(error) = packet.transport else { return false };
    let outer_edits = rewrite(packet, outer);
    if !outer_edits.fits(frame.len()) {
        return false;
    }
    let Some(change) = write(frame, &quoted_edits(&error.inner, inner), Checksum::Complete) else {
        return false;
    };
    if let (Some(field), Checksum::Complete) = (outer_edits.transport_checksum, l4) {
        mend_transport(frame, field, change, l4);
    }
    apply(frame, &outer_edits, l4)
}

fn quoted_edits(inner: &Embedded, wanted: &Rewrite) -> EditList {
    let headers = Headers {
        l3: inner.l3,
        l4: inner.l4,
        version: inner.version,
        proto: inner.proto,
        src: inner.src,
        dst: inner.dst,
        ports: Some(inner.ports),
        has_checksum: inner.has_checksum,
    };
    let mut list = EditList::default();
    edits(&mut list, &headers, wanted);
    list
}

/// Writes the Ethernet addresses of `frame`; nothing happens to one too short
/// to have them.
pub fn set_macs(frame: &mut [u8], dst: MacAddr, src: MacAddr) {
    if let Some([d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) = frame.first_chunk_mut::<12>() {
        [*d0, *d1, *d2, *d3, *d4, *d5] = dst.0;
        [*s0, *s1, *s2, *s3, *s4, *s5] = src.0;
    }
}
