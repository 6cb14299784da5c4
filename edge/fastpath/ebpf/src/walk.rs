//! The story of a frame: ours? → known? → may it? → rewrite → out. What is not forwarded is the engine's, the host's, or
//! of interest to both.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use holdfast_fastpath_layout::{Entry, Key, NodeState, Reason, Seen, advanced, network, objection};
use holdfast_wire::{Load, Plain, Ready, Words, addresses, ethertype, plain, proto};

use crate::head::Head;
use crate::{COUNTS, FLOATING, FLOWS, HOST, NODE};

/// The messages of neighbour discovery about one neighbour.
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// A client's packet is noted so often at most, nanoseconds.
const CLIENT_NOTE: u64 = 1_000_000;
/// The bit of the first byte of an Ethernet address that says that it is a group's, in the word of
/// [`Head::first_word`].
const GROUP: u64 = u64::from_ne_bytes([0, 0, 1, 0, 0, 0, 0, 0]);

/// A frame in one of the two forms in which the kernel hands it over.
pub trait Carrier {
    /// What the program answers.
    type Action;
    /// The frame goes on as if there were no fast path.
    const UP: Self::Action;
    /// The frame is thrown away.
    const DROP: Self::Action;

    /// Length of the frame.
    fn len(&self) -> u32;
    /// Whether it came with a VLAN tag that does not stand in it any more.
    fn is_tagged(&self) -> bool;
    /// The payload of each segment of a super-packet; 0 for one packet.
    fn segment(&self) -> u32;
    /// Copies the frame's beginning; `false` if the frame is too short.
    fn load(&self, head: &mut Head) -> bool;
    /// Writes the rewritten beginning back and mends the transport checksum.
    /// After `false` the frame may be spoiled.
    fn store(&self, head: &mut Head, packet: &Plain, ready: &Ready) -> bool;
    /// Lets the frame leave by the interface of this number.
    fn redirect(&self, interface: u32) -> Self::Action;
    /// The TAP that stands for the interface, if what goes up is sorted here.
    fn tap(&self) -> Option<u32>;
    /// Gives the frame to the TAP of this number.
    fn hand_to(&self, tap: u32) -> Self::Action;
    /// Gives a copy to the TAP of this number.
    fn copy_to(&self, tap: u32);

    /// Where its counters begin.
    const COUNTERS: u32;
}

/// Whom a frame that is not forwarded is for.
#[derive(PartialEq, Eq)]
enum Whose {
    /// The engine and nobody else: the host must not answer or forward it.
    Engine,
    /// The host.
    Host,
    /// What is told to everybody, or may be for either.
    Both,
}

/// The way of a frame.
#[inline(always)]
pub fn walk<C: Carrier>(carrier: &C) -> C::Action {
    let mut place = MaybeUninit::uninit();
    let head = Head::begin(&mut place, carrier.len());
    let Some(node) = NODE.get(0) else { return C::UP };
    if !carrier.load(head) {
        return C::UP;
    }
    // SAFETY: the helper has no conditions.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: `node` is aligned and lives as long as the program runs. The owner writes the lease by one store meanwhile.
    let fenced = now >= unsafe { (&raw const node.lease).read_volatile() };
    if carrier.is_tagged() {
        return up::<C>(Reason::Tagged);
    }
    let mut packet = Plain::default();
    let reason = match plain(head, &mut packet) {
        Ok(()) => match FLOWS.get_ptr_mut(&Key::of(&packet)) {
            Some(entry) if !fenced => return forward(carrier, head, &packet, node, (entry, now)),
            Some(_) => return fence::<C>(),
            None => Reason::Unknown,
        },
        Err(unusual) => unusual.into(),
    };
    match fenced {
        true if concerns_us(head) => fence::<C>(),
        true => up::<C>(reason),
        false => sort(carrier, head, node, reason),
    }
}

/// A frame without an entry, with a valid lease.
#[inline(always)]
fn sort<C: Carrier>(carrier: &C, head: &Head, node: &NodeState, reason: Reason) -> C::Action {
    count::<C>(reason);
    let Some(tap) = carrier.tap() else { return C::UP };
    match whose(head, node) {
        Whose::Engine => carrier.hand_to(tap),
        Whose::Both => {
            carrier.copy_to(tap);
            C::UP
        }
        Whose::Host => C::UP,
    }
}

/// Whom a frame without an entry is for.
#[inline(always)]
fn whose(head: &Head, node: &NodeState) -> Whose {
    let first = head.first_word();
    if first & GROUP != 0 {
        return Whose::Both;
    }
    let Some((_, dst)) = addresses(head) else { return Whose::Both };
    let place = network(dst);
    if FLOATING.get_ptr(&place).is_some() {
        Whose::Engine
    } else if tells_where(head) {
        Whose::Both
    } else if HOST.get_ptr(&place).is_some() {
        Whose::Host
    } else if !node.is_own(first) {
        // Perhaps ours all the same, if not all of ours found room.
        if node.has_room() { Whose::Host } else { Whose::Both }
    } else if node.routes != 0 {
        Whose::Engine
    } else {
        Whose::Both
    }
}

/// Whether somebody says where it is, or asks (RFC 4861 section 4): the host may have asked, and the node hears who is there.
#[inline(always)]
fn tells_where(head: &Head) -> bool {
    const NEXT_HEADER: usize = 14 + 6;
    const TYPE: usize = 14 + 40;
    head.be16(12) == Some(ethertype::IPV6)
        && head.u8(NEXT_HEADER) == Some(proto::ICMPV6)
        && matches!(head.u8(TYPE), Some(SOLICITATION | ADVERTISEMENT))
}

/// A packet of a known flow goes to the engine.
#[inline(always)]
fn hand_over<C: Carrier>(carrier: &C, reason: Reason) -> C::Action {
    count::<C>(reason);
    match carrier.tap() {
        Some(tap) => carrier.hand_to(tap),
        None => C::UP,
    }
}

/// A packet of a known flow, with a valid lease.
#[inline(always)]
fn forward<C: Carrier>(
    carrier: &C,
    head: &mut Head,
    packet: &Plain,
    node: &NodeState,
    (entry, now): (*mut Entry, u64),
) -> C::Action {
    // SAFETY: map values live until the program ends; what other processors
    // write meanwhile is counters and numbers only, each read by itself.
    let known = unsafe { &*entry };
    if let Some(reason) = objection(packet, known, node.epoch, carrier.segment()) {
        note_passed_up(entry, reason);
        return hand_over(carrier, reason);
    }
    if !node.is_own(head.first_word()) {
        return hand_over(carrier, Reason::NotForUs);
    }
    let ready = known.ready();
    head.set_lead(known.lead());
    ready.write(head, packet);
    if !carrier.store(head, packet, &ready) {
        count::<C>(Reason::Failed);
        return C::DROP;
    }
    note_forwarded(entry, packet, now);
    if known.from == Entry::CLIENTS && now.wrapping_sub(node.client_seen) > CLIENT_NOTE {
        note_client(now);
    }
    carrier.redirect(known.interface)
}

/// Counts a packet and remembers what it has shown. Without locked
/// instructions, which would cost more than the rest of this function: a network
/// card gives a direction of a flow to one processor, and if two have it at
/// once all the same, a packet is missing in the counters, and nowhere else.
#[inline(always)]
fn note_forwarded(entry: *mut Entry, packet: &Plain, now: u64) {
    // SAFETY: the fields of a map value are aligned and live until the program ends.
    unsafe {
        add(&raw mut (*entry).packets, 1);
        add(&raw mut (*entry).bytes, u64::from(packet.total_len));
        (&raw mut (*entry).used).write_volatile(now);
    }
    if packet.proto == proto::TCP {
        // SAFETY: as above.
        unsafe {
            advance(&raw mut (*entry).end, packet.seq.wrapping_add(packet.payload_len()));
            advance(&raw mut (*entry).ack, packet.ack);
        }
    }
}

/// Clients' packets pass here: of two nodes that both lead, the one that serves goes on.
#[inline(always)]
fn note_client(now: u64) {
    if let Some(node) = NODE.get_ptr_mut(0) {
        // SAFETY: an aligned field of a map value; nobody but this program writes it.
        unsafe { (&raw mut (*node).client_seen).write_volatile(now) };
    }
}

/// # Safety
///
/// `place` is a field of a map value.
#[inline(always)]
unsafe fn add(place: *mut u64, number: u64) {
    // SAFETY: aligned, and alive until the program ends.
    unsafe { place.write_volatile(place.read_volatile().wrapping_add(number)) };
}

/// Moves a number of TCP on (see [`advanced`]). Two processors that do so at once may leave the smaller one: the next packet
/// mends it.
///
/// # Safety
///
/// `place` is a field of a map value.
#[inline(always)]
unsafe fn advance(place: *mut u32, number: u32) {
    // SAFETY: aligned, and alive until the program ends.
    unsafe { place.write_volatile(advanced(place.read_volatile(), number)) };
}

/// What ended a connection, or began one, stands in its entry, for whoever looks at the map.
#[inline(always)]
fn note_passed_up(entry: *mut Entry, reason: Reason) {
    let bit = match reason {
        Reason::Fin => Seen::FIN,
        Reason::Rst => Seen::RST,
        Reason::Syn => Seen::SYN,
        _ => return,
    };
    // SAFETY: a field of a map value, aligned and alive until the program ends.
    unsafe {
        let seen = &raw mut (*entry).seen;
        seen.write_volatile(seen.read_volatile() | bit.0);
    }
}

/// Whether the frame comes from or goes to a floating address.
#[inline(always)]
fn concerns_us(head: &Head) -> bool {
    match addresses(head) {
        Some((src, dst)) => is_floating(src) || is_floating(dst),
        None => false,
    }
}

#[inline(always)]
fn is_floating(address: Words) -> bool {
    FLOATING.get_ptr(&network(address)).is_some()
}

#[inline(always)]
fn up<C: Carrier>(reason: Reason) -> C::Action {
    count::<C>(reason);
    C::UP
}

#[inline(always)]
fn fence<C: Carrier>() -> C::Action {
    count::<C>(Reason::Fenced);
    C::DROP
}

#[inline(always)]
fn count<C: Carrier>(reason: Reason) {
    if let Some(counter) = COUNTS.get_ptr_mut(C::COUNTERS + reason as u32) {
        // SAFETY: a value of this processor, which nobody else writes.
        unsafe { *counter += 1 };
    }
}
