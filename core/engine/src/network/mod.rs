//! The node as a host of its own network: whose addresses it answers for,
//! where packets go, and who is behind which Ethernet address.
//!
//! All ports form one broadcast domain: requests leave by every port, the
//! port of an answer is learned with it, and frames to a neighbour leave by
//! the port it was learned on. Nothing is answered on behalf of others.

mod announce;
mod messages;
mod neighbours;
mod routes;

pub(crate) use routes::is_link_local;

use crate::engine::NeighbourRow;
use crate::frame::{OwnedFrame, Port, PortId};
use crate::limits::Limits;
use crate::outbox::Outbox;
use crate::plan::{FloatingAddress, Plan};
use crate::verdict::{Drop, Verdict};
use announce::{Announcement, Announcer};
use holdfast_base::Instant;
use holdfast_wire::{Addr, Arp, ArpOp, Ethernet, IpPacket, MacAddr, Transport};
use neighbours::{Due, Location, Lookup, Neighbours, TableLimits};
use routes::Routes;
use std::collections::VecDeque;

/// Frames of announcements, and of repeated requests, after which a turn ends.
/// The address or neighbour that reaches it is still served on every port.
const MAX_FRAMES_PER_TURN: u64 = 64;

/// Entries of the neighbour table moved on in one turn.
const MAX_STEPS_PER_TURN: usize = 64;

/// Frames given up in one turn, after which the turn ends: their senders are
/// told, which costs more than anything else here.
const MAX_GIVEN_UP_PER_TURN: usize = 128;

/// The answer to "how do I reach this next hop".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Send it out of this port to this Ethernet address.
    Ready {
        /// The port.
        port: PortId,
        /// The neighbour.
        mac: MacAddr,
    },
    /// It has been asked; queue with [`Network::enqueue`].
    Pending,
}

/// What the node did and met as a host of its network, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkCounters {
    /// Somebody else claimed a floating address of ours.
    pub address_conflicts: u64,
    /// ARP requests and neighbour solicitations answered.
    pub answers: u64,
    /// Requests and solicitations sent, per port.
    pub requests: u64,
    /// Gratuitous ARPs, unsolicited advertisements and membership reports sent.
    pub announcements: u64,
    /// Neighbours that stopped answering or never did.
    pub unreachable: u64,
    /// Next hops that found no room in the neighbour table.
    pub table_full: u64,
}

/// Addresses, routes, neighbours and announcements of one node.
#[derive(Debug)]
pub(crate) struct Network {
    /// In order of their ids, with the Ethernet addresses that they speak under.
    ports: Vec<Port>,
    /// Those of the devices.
    hardware: Vec<(PortId, MacAddr)>,
    /// Floating ones, for ports that have one; spoken under while `defends`.
    floating_macs: Vec<(PortId, MacAddr)>,
    /// The kernel's addresses, sorted.
    host_addresses: Vec<Addr>,
    routes: Routes,
    neighbours: Neighbours,
    announcer: Announcer,
    /// Frames whose neighbour did not answer.
    unreachable: VecDeque<OwnedFrame>,
    quiet: bool,
    defends: bool,
    /// Who may rightly claim the same addresses.
    rivals: Vec<MacAddr>,
    /// A claim that is worth a line in the log: of which address, by whom.
    claimed: Option<(Addr, MacAddr)>,
    counters: NetworkCounters,
}

impl Network {
    /// A host without ports and addresses.
    pub(crate) fn new(limits: &Limits) -> Network {
        let table = TableLimits { entries: limits.max_neighbours, queue: limits.neighbour_queue };
        Network {
            ports: Vec::new(),
            hardware: Vec::new(),
            floating_macs: Vec::new(),
            host_addresses: Vec::new(),
            routes: Routes::default(),
            neighbours: Neighbours::new(table),
            announcer: Announcer::default(),
            unreachable: VecDeque::new(),
            quiet: false,
            defends: false,
            rivals: Vec::new(),
            claimed: None,
            counters: NetworkCounters::default(),
        }
    }

    /// Replaces the ports. Neighbours are asked again when they are next needed.
    pub(crate) fn set_ports(&mut self, ports: &[Port]) {
        self.ports = ports.to_vec();
        self.ports.sort_by_key(|port| port.id);
        self.hardware = self.ports.iter().map(|port| (port.id, port.mac)).collect();
        self.wear_macs();
        self.neighbours.forget_all();
    }

    /// Replaces the floating Ethernet addresses. Frames to them are ours at any
    /// time; only a node that may announce sends under them, so that a switch never
    /// learns of two places. Returns whether anything has changed.
    pub(crate) fn set_floating_macs(&mut self, macs: &[(PortId, MacAddr)]) -> bool {
        let changed = self.floating_macs != macs;
        self.floating_macs = macs.to_vec();
        self.wear_macs();
        changed
    }

    /// Gives each port the Ethernet address that it speaks under.
    fn wear_macs(&mut self) {
        let of = |list: &[(PortId, MacAddr)], id| list.iter().find(|(port, _)| *port == id).map(|(_, mac)| *mac);
        for port in &mut self.ports {
            let floating = of(&self.floating_macs, port.id).filter(|_| self.defends);
            port.mac = floating.or(of(&self.hardware, port.id)).unwrap_or(port.mac);
        }
    }

    /// Takes addresses and routes from `plan`. Addresses that are new in it are
    /// announced by [`Network::announce_added`], not here.
    pub(crate) fn set_plan(&mut self, plan: &Plan) {
        self.routes = Routes::new(plan);
        let routes = &self.routes;
        self.announcer.retain(|addr| routes.floating(addr).is_some_and(|own| own.arp));
        self.neighbours.invalidate();
    }

    /// Replaces the list of addresses that belong to the host's kernel.
    pub(crate) fn set_host_addresses(&mut self, mut addresses: Vec<Addr>) {
        addresses.sort_unstable();
        self.host_addresses = addresses;
    }

    /// While quiet, timers rest: nothing is asked, probed or announced. Going
    /// quiet forgets neighbours and announcements (O(1)): what was true then may
    /// not be true when the node comes back, and a node that may not forward
    /// must not show itself under a floating address.
    pub(crate) fn set_quiet(&mut self, quiet: bool) {
        if quiet && !self.quiet {
            self.neighbours.forget_all();
            self.announcer.clear();
        }
        self.quiet = quiet;
    }

    /// The port numbered `id`.
    pub(crate) fn port(&self, id: PortId) -> Option<&Port> {
        let index = self.ports.binary_search_by_key(&id, |port| port.id).ok()?;
        self.ports.get(index)
    }

    /// Whether `mac` is an Ethernet address of one of our ports.
    pub(crate) fn is_own_mac(&self, mac: MacAddr) -> bool {
        let same = |known: &(PortId, MacAddr)| known.1 == mac;
        self.hardware.iter().any(same) || self.floating_macs.iter().any(same)
    }

    /// The floating address `addr`, if it is one.
    pub(crate) fn floating(&self, addr: Addr) -> Option<&FloatingAddress> {
        self.routes.floating(addr)
    }

    /// Whether `addr` belongs to the host's kernel.
    pub(crate) fn is_host(&self, addr: Addr) -> bool {
        self.host_addresses.binary_search(&addr).is_ok()
    }

    /// Whether any address of the host is known.
    pub(crate) fn knows_host(&self) -> bool {
        !self.host_addresses.is_empty()
    }

    /// The neighbour that packets to `dst` are handed to; `None`: no route.
    pub(crate) fn next_hop(&self, dst: Addr) -> Option<Addr> {
        self.routes.next_hop(dst)
    }

    /// The SNIPs that packets to `server` can leave with, the preferred one first.
    pub(crate) fn snips_for(&self, server: Addr) -> impl Iterator<Item = Addr> {
        self.routes.snips_for(server)
    }

    /// The floating address that faces `sender`: it speaks for the node when
    /// the node has something to tell `sender` (an ICMP error).
    pub(crate) fn facing(&self, sender: Addr) -> Option<Addr> {
        self.routes.snips_for(sender).next().or_else(|| self.routes.asker_for(sender))
    }

    /// Counters, since the start.
    pub(crate) fn counters(&self) -> &NetworkCounters {
        &self.counters
    }

    /// Grows when a [`Resolution::Ready`] handed out earlier may be wrong: a
    /// neighbour moved or is gone, or ports or plan have changed.
    pub(crate) fn generation(&self) -> u32 {
        self.neighbours.generation()
    }

    /// How to reach `next_hop`; asks for it when nobody has yet.
    pub(crate) fn resolve(&mut self, now: Instant, next_hop: Addr, out: &mut Outbox) -> Resolution {
        match self.neighbours.lookup(now, next_hop) {
            Lookup::Known(Location { port, mac }) => return Resolution::Ready { port, mac },
            Lookup::Asked => {}
            Lookup::Ask => self.ask(next_hop, out),
            Lookup::Full => self.counters.table_full += 1,
        }
        Resolution::Pending
    }

    /// Keeps `frame` until `next_hop` has answered; then its Ethernet addresses
    /// are set and it is pushed to the outbox. Only after [`Resolution::Pending`].
    pub(crate) fn enqueue(&mut self, next_hop: Addr, frame: OwnedFrame) -> Result<(), Drop> {
        self.neighbours.enqueue(next_hop, frame).map_err(|_| Drop::NeighbourQueueFull)
    }

    /// Takes a frame whose neighbour did not answer. The caller counts it as
    /// [`Drop::NeighbourUnreachable`], tells its sender and recycles the buffer.
    pub(crate) fn poll_unreachable(&mut self) -> Option<OwnedFrame> {
        self.unreachable.pop_front()
    }

    /// An ARP packet came in by `port`: answers for floating addresses, learns.
    pub(crate) fn handle_arp(&mut self, now: Instant, port: PortId, arp: &Arp, out: &mut Outbox) -> Verdict {
        if self.is_own_mac(arp.sender_mac) {
            return Verdict::Drop(Drop::NotForUs);
        }
        if self.floating(arp.sender).is_some() {
            self.defend(now, arp.sender, arp.sender_mac);
            return Verdict::Consumed;
        }
        let ours = self.floating(arp.target).is_some_and(|own| own.arp);
        let asks = arp.op == ArpOp::Request;
        self.learn(now, arp.sender, Location { port, mac: arp.sender_mac }, ours && asks, out);
        if self.is_host(arp.target) {
            return Verdict::ForHost;
        }
        if ours && asks {
            self.answer_arp(port, arp, out);
        }
        if ours || arp.sender == arp.target { Verdict::Consumed } else { Verdict::Drop(Drop::NotForUs) }
    }

    /// A neighbour solicitation or advertisement came in by `port`. The caller
    /// has verified its ICMPv6 checksum; the parser its hop limit.
    pub(crate) fn handle_neighbour(
        &mut self,
        now: Instant,
        port: PortId,
        ethernet: &Ethernet,
        packet: &IpPacket,
        out: &mut Outbox,
    ) -> Verdict {
        if self.is_own_mac(ethernet.src) {
            return Verdict::Drop(Drop::NotForUs);
        }
        match packet.transport {
            Transport::NeighbourSolicitation(ref asked) => {
                let mac = asked.source_mac.unwrap_or(ethernet.src);
                self.handle_solicitation(now, Location { port, mac }, packet.src, asked.target, out)
            }
            Transport::NeighbourAdvertisement(ref told) => {
                let location = Location { port, mac: told.mac.unwrap_or(ethernet.src) };
                let verdict = if self.is_host(packet.dst) { Verdict::ForHost } else { Verdict::Consumed };
                self.handle_advertisement(now, location, told.target, told.override_cache, out);
                verdict
            }
            Transport::Tcp(_)
            | Transport::Udp(_)
            | Transport::Echo(_)
            | Transport::IcmpError(_)
            | Transport::OtherIcmp { .. }
            | Transport::Other
            | Transport::None => Verdict::Drop(Drop::Unserved),
        }
    }

    /// Announces all floating addresses on every port: at once, after 100 ms
    /// and after 1 s. About 64 frames per turn; the rest is due at once.
    pub(crate) fn announce(&mut self, now: Instant) {
        self.announcer.clear();
        self.announce_added(now);
    }

    /// Announces the floating addresses that are not announced yet.
    pub(crate) fn announce_added(&mut self, now: Instant) {
        let announced = self.routes.floating_addresses().filter(|own| own.arp);
        self.announcer.start(now, announced.map(|own| own.addr));
    }

    /// Stops announcing.
    pub(crate) fn clear_announcements(&mut self) {
        self.announcer.clear();
    }

    /// Sends what is due at `now`: announcements first, then repeated requests.
    pub(crate) fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.quiet {
            return;
        }
        let announced_before = self.counters.announcements;
        while self.counters.announcements - announced_before < MAX_FRAMES_PER_TURN {
            match self.announcer.poll(now) {
                Some(Announcement::Address(addr)) => self.announce_address(addr, out),
                Some(Announcement::Membership(addr)) => self.report_membership(addr, out),
                None => break,
            }
        }
        let asked_before = self.counters.requests;
        for _ in 0..MAX_STEPS_PER_TURN {
            let asked = self.counters.requests - asked_before;
            if asked >= MAX_FRAMES_PER_TURN || self.unreachable.len() >= MAX_GIVEN_UP_PER_TURN {
                break;
            }
            match self.neighbours.poll(now) {
                Some(Due::Ask(addr)) => self.ask(addr, out),
                Some(Due::Probe(addr, location)) => self.probe(addr, location, out),
                Some(Due::Unreachable(frames)) => {
                    self.counters.unreachable += 1;
                    self.unreachable.extend(frames);
                }
                Some(Due::Swept) => {}
                None => break,
            }
        }
    }

    /// When [`Network::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.quiet {
            return None;
        }
        [self.neighbours.poll_timeout(), self.announcer.poll_timeout()].into_iter().flatten().min()
    }

    /// The first `limit` neighbours in address order, for listings.
    pub(crate) fn neighbours(&self, limit: usize) -> Vec<NeighbourRow> {
        let rows = self.neighbours.list().take(limit);
        rows.map(|(addr, location)| NeighbourRow {
            addr,
            mac: location.map(|location| location.mac),
            port: location.map(|location| location.port),
        })
        .collect()
    }

    /// Somebody at `asker` wants to know who has `target`. `src` is the source
    /// of the solicitation; unspecified: it wants to take `target` for itself.
    fn handle_solicitation(
        &mut self,
        now: Instant,
        asker: Location,
        src: Addr,
        target: Addr,
        out: &mut Outbox,
    ) -> Verdict {
        let ours = self.floating(target).is_some_and(|own| own.arp);
        let claims = if src == Addr::UNSPECIFIED { target } else { src };
        if self.floating(claims).is_some() {
            self.defend(now, claims, asker.mac);
        } else {
            self.learn(now, src, asker, ours, out);
        }
        if self.is_host(target) {
            return Verdict::ForHost;
        }
        if !ours {
            return Verdict::Drop(Drop::NotForUs);
        }
        self.answer_solicitation(asker, src, target, out);
        Verdict::Consumed
    }

    /// Somebody says that `target` is at `location`. Without the override flag
    /// it does not change what is known (RFC 4861 section 7.2.5).
    fn handle_advertisement(
        &mut self,
        now: Instant,
        location: Location,
        target: Addr,
        overrides: bool,
        out: &mut Outbox,
    ) {
        if self.floating(target).is_some() {
            self.defend(now, target, location.mac);
            return;
        }
        let known = self.neighbours.location(target);
        if overrides || known.is_none_or(|known| known.mac == location.mac) {
            self.learn(now, target, location, false, out);
        }
    }

    /// The station `mac` claims a floating address: hosts hear of its true place
    /// again, about once a second for each address (RFC 5227 section 2.4 c). While handing over, and
    /// behind a closed gate, the address may well be the other node's.
    fn defend(&mut self, now: Instant, addr: Addr, mac: MacAddr) {
        self.counters.address_conflicts += 1;
        if self.defends && self.announcer.defend(now, addr, self.rivals.contains(&mac)) {
            self.claimed = Some((addr, mac));
        }
    }

    /// The stations of another node that may lead: the election decides between the two, and announces. Their claims are
    /// answered seldom.
    pub(crate) fn set_rivals(&mut self, rivals: &[MacAddr]) {
        self.rivals = rivals.to_vec();
    }

    /// Takes the claim of a floating address by another station that was met since the last call, if it is worth a line
    /// in the log: one for each address in a minute.
    pub(crate) fn take_claimed(&mut self) -> Option<(Addr, MacAddr)> {
        self.claimed.take()
    }

    /// Whether this node alone may announce: claims of others are answered by
    /// announcing again, and floating Ethernet addresses are used.
    pub(crate) fn set_defends(&mut self, defends: bool) {
        self.defends = defends;
        self.wear_macs();
    }

    /// Notes where `addr` is, and sends what waited for it. Unknown neighbours
    /// are entered only with `enter`.
    fn learn(&mut self, now: Instant, addr: Addr, location: Location, enter: bool, out: &mut Outbox) {
        if addr == Addr::UNSPECIFIED || addr == Addr::v4([0; 4]) || location.mac.is_group() {
            return;
        }
        let enter = enter && self.routes.is_on_link(addr);
        let waiting = self.neighbours.confirm(now, addr, location, enter);
        let Some(&port) = self.port(location.port) else { return };
        for mut frame in waiting {
            frame.port = location.port;
            holdfast_wire::set_macs(&mut frame.bytes, location.mac, port.mac);
            out.push(frame);
        }
    }
}

#[cfg(test)]
mod tests;
