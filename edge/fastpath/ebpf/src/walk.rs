//! The story of a frame: ours? → known? → may it? → rewrite → out.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::bpf_ktime_get_boot_ns;
use holdfast_fastpath_layout::{Entry, Key, NodeState, Reason, Seen, network, objection};
use holdfast_wire::{Plain, Ready, Words, addresses, plain, proto};

use crate::head::Head;
use crate::{COUNTS, FLOATING, FLOWS, NODE};

/// The largest window of TCP.
const WINDOW: u32 = 16 << 20;

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
    if fenced && concerns_us(head) { fence::<C>() } else { up::<C>(reason) }
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
        return up::<C>(reason);
    }
    if !node.is_own(head.first_word()) {
        return up::<C>(Reason::NotForUs);
    }
    let ready = known.ready();
    head.set_lead(known.lead());
    ready.write(head, packet);
    if !carrier.store(head, packet, &ready) {
        count(Reason::Failed);
        return C::DROP;
    }
    note_forwarded(entry, packet, now);
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

/// # Safety
///
/// `place` is a field of a map value.
#[inline(always)]
unsafe fn add(place: *mut u64, number: u64) {
    // SAFETY: aligned, and alive until the program ends.
    unsafe { place.write_volatile(place.read_volatile().wrapping_add(number)) };
}

/// Moves a number of TCP on, and not back by what was sent again; 0 is "not known
/// yet". A number that is further behind than any window stands as well: the one
/// before it may have been forged. Two processors that do so at once may leave the
/// smaller one: the next packet mends it.
///
/// # Safety
///
/// `place` is a field of a map value.
#[inline(always)]
unsafe fn advance(place: *mut u32, number: u32) {
    // SAFETY: aligned, and alive until the program ends.
    let known = unsafe { place.read_volatile() };
    if known == 0 || known.wrapping_sub(number) > WINDOW {
        // SAFETY: as above.
        unsafe { place.write_volatile(number) };
    }
}

/// What ends a connection is told with the entry's use, too: a report must not
/// depend on the one frame that went up.
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
    count(reason);
    C::UP
}

#[inline(always)]
fn fence<C: Carrier>() -> C::Action {
    count(Reason::Fenced);
    C::DROP
}

#[inline(always)]
fn count(reason: Reason) {
    if let Some(counter) = COUNTS.get_ptr_mut(reason as u32) {
        // SAFETY: a value of this processor, which nobody else writes.
        unsafe { *counter += 1 };
    }
}
