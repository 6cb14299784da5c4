//! Where packets go: floating addresses, connected subnets and static routes.

use crate::plan::{FloatingAddress, FloatingKind, Plan};
use holdfast_wire::Addr;
use std::collections::BTreeMap;

/// What a network in the table leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hop {
    /// The destination itself is a neighbour.
    Connected,
    /// Everything goes to this neighbour.
    Gateway(Addr),
}

/// The routing table and the address table of one plan.
#[derive(Debug, Default)]
pub(super) struct Routes {
    floating: BTreeMap<Addr, FloatingAddress>,
    /// SNIPs, longest prefix first, then in the plan's order.
    snips: Vec<FloatingAddress>,
    /// VIPs in the same order: second choice as a sender of requests.
    vips: Vec<FloatingAddress>,
    /// Networks by (prefix length, masked address).
    networks: BTreeMap<(u8, Addr), Hop>,
    /// Prefix lengths in use, longest first, per address family.
    lengths_v4: Vec<u8>,
    lengths_v6: Vec<u8>,
}

impl Routes {
    /// Lowers the addresses and routes of `plan`.
    pub(super) fn new(plan: &Plan) -> Routes {
        let mut routes = Routes::default();
        for address in &plan.addresses {
            routes.floating.insert(address.addr, *address);
            match address.kind {
                FloatingKind::Snip => routes.snips.push(*address),
                FloatingKind::Vip => routes.vips.push(*address),
            }
            if is_subnet(address) {
                let key = (address.prefix_len, address.addr.masked(address.prefix_len));
                routes.networks.insert(key, Hop::Connected);
            }
        }
        routes.snips.sort_by_key(|address| core::cmp::Reverse(address.prefix_len));
        routes.vips.sort_by_key(|address| core::cmp::Reverse(address.prefix_len));
        for route in &plan.routes {
            let key = (route.prefix_len, route.network.masked(route.prefix_len));
            // A connected subnet is nearer than a static route to the same network.
            routes.networks.entry(key).or_insert(Hop::Gateway(route.gateway));
        }
        for &(length, network) in routes.networks.keys().rev() {
            let lengths = if network.is_v4() { &mut routes.lengths_v4 } else { &mut routes.lengths_v6 };
            if lengths.last() != Some(&length) {
                lengths.push(length);
            }
        }
        routes
    }

    /// The floating address `addr`, if it is one.
    pub(super) fn floating(&self, addr: Addr) -> Option<&FloatingAddress> {
        self.floating.get(&addr)
    }

    /// Every floating address, in address order.
    pub(super) fn floating_addresses(&self) -> impl Iterator<Item = &FloatingAddress> {
        self.floating.values()
    }

    /// The neighbour that a packet to `dst` is handed to: `dst` itself when it
    /// is on-link, else the gateway of the longest matching route, provided
    /// that the gateway is on-link. `None`: no route.
    pub(super) fn next_hop(&self, dst: Addr) -> Option<Addr> {
        if is_link_local(dst) {
            return Some(dst);
        }
        match self.lookup(dst)? {
            Hop::Connected => Some(dst),
            Hop::Gateway(gateway) => self.is_on_link(gateway).then_some(gateway),
        }
    }

    /// Whether `addr` is reached without a gateway.
    pub(super) fn is_on_link(&self, addr: Addr) -> bool {
        is_link_local(addr) || self.lookup(addr) == Some(Hop::Connected)
    }

    /// The SNIPs that packets to `server` can leave with: those in the server's
    /// own subnet, else those in the subnet of the gateway towards it. A
    /// link-local gateway lies in no SNIP's subnet: all of the family serve then.
    pub(super) fn snips_for(&self, server: Addr) -> impl Iterator<Item = Addr> {
        let facing = if in_subnet(&self.snips, server).is_some() { Some(server) } else { self.next_hop(server) };
        let link_local = facing.is_some_and(|facing| facing != server && is_link_local(facing));
        self.snips.iter().filter_map(move |snip| {
            let facing = facing?;
            let fits = if link_local { !snip.addr.is_v4() } else { faces(snip, facing) };
            fits.then_some(snip.addr)
        })
    }

    /// Who asks for the address of `target`: a SNIP in its subnet, else a VIP
    /// in it, else any SNIP, else any floating address of the family.
    pub(super) fn asker_for(&self, target: Addr) -> Option<Addr> {
        let same_family = |address: &&FloatingAddress| address.addr.is_v4() == target.is_v4();
        in_subnet(&self.snips, target)
            .or_else(|| in_subnet(&self.vips, target))
            .or_else(|| self.snips.iter().chain(&self.vips).find(same_family).map(|address| address.addr))
    }

    fn lookup(&self, dst: Addr) -> Option<Hop> {
        let lengths = if dst.is_v4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().find_map(|&length| self.networks.get(&(length, dst.masked(length))).copied())
    }
}

/// The first of `addresses` whose subnet holds `addr`.
fn in_subnet(addresses: &[FloatingAddress], addr: Addr) -> Option<Addr> {
    addresses.iter().find(|own| faces(own, addr)).map(|own| own.addr)
}

/// Whether `addr` lies in the subnet of `own`.
fn faces(own: &FloatingAddress, addr: Addr) -> bool {
    is_subnet(own) && own.addr.matches_prefix(addr, own.prefix_len)
}

/// Whether the prefix of `address` says that others are on-link with it.
fn is_subnet(address: &FloatingAddress) -> bool {
    address.prefix_len < if address.addr.is_v4() { 32 } else { 128 }
}

/// Whether `addr` is in fe80::/10 (RFC 4291 section 2.5.6) or 169.254/16
/// (RFC 3927): on-link by definition.
pub(crate) fn is_link_local(addr: Addr) -> bool {
    match addr.0 {
        [0xfe, second, ..] => second & 0xc0 == 0x80,
        _ => addr.is_v4() && matches!(addr.v4_bytes(), [169, 254, ..]),
    }
}
