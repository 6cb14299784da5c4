//! What the host says: requests, answers, announcements.

use super::Network;
use super::neighbours::Location;
use crate::frame::{Offload, OwnedFrame, Port, PortId};
use crate::outbox::Outbox;
use holdfast_wire::build::{self, Link};
use holdfast_wire::{Addr, Arp, MacAddr};

impl Network {
    /// Asks on every port who has `target`.
    pub(super) fn ask(&mut self, target: Addr, out: &mut Outbox) {
        for index in 0..self.ports.len() {
            let port = self.ports[index];
            self.request(port, target, None, out);
        }
    }

    /// Asks `target` itself whether it is still where we know it.
    pub(super) fn probe(&mut self, target: Addr, location: Location, out: &mut Outbox) {
        if let Some(&port) = self.port(location.port) {
            self.request(port, target, Some(location.mac), out);
        }
    }

    /// A request for `target` leaves by `port`: to `mac`, or to everybody.
    /// Without any address of the family nobody can ask in IPv6; in IPv4 the
    /// request is sent like a probe, from 0.0.0.0 (RFC 5227 section 1.1).
    fn request(&mut self, port: Port, target: Addr, mac: Option<MacAddr>, out: &mut Outbox) {
        let asker = self.routes.asker_for(target);
        if target.is_v4() {
            let link = Link::new(mac.unwrap_or(MacAddr::BROADCAST), port.mac);
            let asker = asker.unwrap_or(Addr::v4([0; 4]));
            send(port, out, |bytes| build::arp_request(bytes, link, asker, target));
        } else if let Some(asker) = asker {
            send(port, out, |bytes| match mac {
                Some(mac) => build::neighbour_probe(bytes, Link::new(mac, port.mac), asker, target),
                None => build::neighbour_solicitation(bytes, port.mac, asker, target),
            });
        }
        self.counters.requests += 1;
    }

    /// Answers `asked`, which came in by the port `id`, with that port's address.
    pub(super) fn answer_arp(&mut self, id: PortId, asked: &Arp, out: &mut Outbox) {
        let Some(&port) = self.port(id) else { return };
        let link = Link::new(asked.sender_mac, port.mac);
        send(port, out, |bytes| build::arp_reply(bytes, link, asked.target, asked.sender));
        self.counters.answers += 1;
    }

    /// Answers a solicitation for `target` from `src` at `asker`. Somebody who
    /// wants to take the address (`src` unspecified) hears it with all others.
    pub(super) fn answer_solicitation(&mut self, asker: Location, src: Addr, target: Addr, out: &mut Outbox) {
        let Some(&port) = self.port(asker.port) else { return };
        let link = Link::new(asker.mac, port.mac);
        send(port, out, |bytes| {
            if src == Addr::UNSPECIFIED {
                build::unsolicited_neighbour_advertisement(bytes, port.mac, target)
            } else {
                build::neighbour_advertisement(bytes, link, target, src)
            }
        });
        self.counters.answers += 1;
    }

    /// Says on every port that `addr` is here.
    pub(super) fn announce_address(&mut self, addr: Addr, out: &mut Outbox) {
        if !addr.is_v4() {
            // First the group: behind a snooping switch nobody could ask otherwise.
            self.report_membership(addr, out);
        }
        for &port in &self.ports {
            send(port, out, |bytes| {
                if addr.is_v4() {
                    build::gratuitous_arp_request(bytes, port.mac, addr)
                } else {
                    build::unsolicited_neighbour_advertisement(bytes, port.mac, addr)
                }
            });
            self.counters.announcements += 1;
        }
    }

    /// Says on every port that we listen to the solicited-node group of `addr`.
    pub(super) fn report_membership(&mut self, addr: Addr, out: &mut Outbox) {
        let (group, _) = build::solicited_node(addr);
        for &port in &self.ports {
            send(port, out, |bytes| build::mld2_report(bytes, port.mac, link_local_of(port.mac), &[group]));
            self.counters.announcements += 1;
        }
    }
}

/// A frame that `write` makes leaves by `port`.
fn send(port: Port, out: &mut Outbox, write: impl FnOnce(&mut [u8]) -> usize) {
    let mut bytes = out.buffer();
    bytes.resize(build::MAX_REPLY, 0);
    let len = write(&mut bytes);
    bytes.truncate(len);
    out.push(OwnedFrame { port: port.id, offload: Offload::default(), bytes });
}

/// The link-local address that belongs to `mac` (RFC 4291 appendix A). Listener
/// reports must come from such an address; nothing is ever sent to it, so it
/// does no harm that the kernel may use the same one.
fn link_local_of(mac: MacAddr) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    Addr([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
