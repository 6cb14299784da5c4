//! ARP (RFC 826) and its gratuitous forms (RFC 5227 section 3).

use super::{Link, Writer};
use crate::packet::ethertype;
use crate::{Addr, MacAddr};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// Asks for the Ethernet address of `target` on behalf of `sender`. To find a
/// neighbour `link` goes to the broadcast address; to confirm one, to itself.
pub fn arp_request(out: &mut [u8], link: Link, sender: Addr, target: Addr) -> usize {
    arp(out, link, REQUEST, sender, (MacAddr::default(), target))
}

/// Tells the requester (`target`, at `link.dst`) that `sender` is at `link.src`.
pub fn arp_reply(out: &mut [u8], link: Link, sender: Addr, target: Addr) -> usize {
    arp(out, link, REPLY, sender, (link.dst, target))
}

/// Announces that `addr` is at `mac`: the request form, broadcast.
pub fn gratuitous_arp_request(out: &mut [u8], mac: MacAddr, addr: Addr) -> usize {
    arp(out, Link::new(MacAddr::BROADCAST, mac), REQUEST, addr, (MacAddr::default(), addr))
}

/// Announces that `addr` is at `mac`: the reply form, broadcast, for receivers
/// that ignore the request form.
pub fn gratuitous_arp_reply(out: &mut [u8], mac: MacAddr, addr: Addr) -> usize {
    arp(out, Link::new(MacAddr::BROADCAST, mac), REPLY, addr, (MacAddr::BROADCAST, addr))
}

fn arp(out: &mut [u8], link: Link, op: u16, sender: Addr, target: (MacAddr, Addr)) -> usize {
    let mut writer = Writer::new(out, link, ethertype::ARP);
    writer.be16(1);
    writer.be16(ethertype::IPV4);
    writer.be16(0x0604);
    writer.be16(op);
    writer.bytes(&link.src.0);
    writer.bytes(&sender.v4_bytes());
    writer.bytes(&target.0.0);
    writer.bytes(&target.1.v4_bytes());
    writer.at
}
