//! Neighbour discovery (RFC 4861) and multicast listener reports (RFC 3810).

use super::{IpHeader, Link, Writer};
use crate::icmp::{SOURCE_LINK_LAYER, TARGET_LINK_LAYER, v6};
use crate::packet::{ethertype, proto};
use crate::{Addr, MacAddr};

/// Groups that fit into one listener report.
pub const MAX_MLD_GROUPS: usize = 60;

const SOLICITED: u32 = 0x4000_0000;
const OVERRIDE: u32 = 0x2000_0000;

/// All nodes on the link, `ff02::1`.
pub const fn all_nodes() -> Addr {
    Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
}

/// The solicited-node group of `addr` (RFC 4291 section 2.7.1) and its Ethernet address.
pub const fn solicited_node(addr: Addr) -> (Addr, MacAddr) {
    let [_, _, _, _, _, _, _, _, _, _, _, _, _, a, b, c] = addr.0;
    let group = Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    (group, multicast_mac(group))
}

/// The Ethernet address of an IPv6 multicast group (RFC 2464 section 7).
pub const fn multicast_mac(group: Addr) -> MacAddr {
    let [_, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d] = group.0;
    MacAddr([0x33, 0x33, a, b, c, d])
}

/// Asks the solicited-node group for the Ethernet address of `target`, from
/// `src` at `mac`.
pub fn neighbour_solicitation(out: &mut [u8], mac: MacAddr, src: Addr, target: Addr) -> usize {
    let (group, group_mac) = solicited_node(target);
    solicitation(out, Link::new(group_mac, mac), IpHeader::icmp(src, group), target)
}

/// Asks `target` itself, at `link.dst`, whether it is still there.
pub fn neighbour_probe(out: &mut [u8], link: Link, src: Addr, target: Addr) -> usize {
    solicitation(out, link, IpHeader::icmp(src, target), target)
}

fn solicitation(out: &mut [u8], link: Link, header: IpHeader, target: Addr) -> usize {
    neighbour_message(
        out,
        link,
        header,
        &Body { kind: v6::NEIGHBOUR_SOLICITATION, flags: 0, target, option: SOURCE_LINK_LAYER },
    )
}

/// Answers the solicitation for `target` that `dst` (at `link.dst`) sent:
/// `target` is at `link.src`. To a solicitation from the unspecified address
/// (duplicate address detection) the answer is
/// [`unsolicited_neighbour_advertisement`].
pub fn neighbour_advertisement(out: &mut [u8], link: Link, target: Addr, dst: Addr) -> usize {
    let header = IpHeader::icmp(target, dst);
    let flags = SOLICITED | OVERRIDE;
    neighbour_message(
        out,
        link,
        header,
        &Body { kind: v6::NEIGHBOUR_ADVERTISEMENT, flags, target, option: TARGET_LINK_LAYER },
    )
}

/// Announces to all nodes that `target` is at `mac`, replacing what they cached.
pub fn unsolicited_neighbour_advertisement(out: &mut [u8], mac: MacAddr, target: Addr) -> usize {
    let header = IpHeader::icmp(target, all_nodes());
    let link = Link::new(multicast_mac(all_nodes()), mac);
    let body = Body { kind: v6::NEIGHBOUR_ADVERTISEMENT, flags: OVERRIDE, target, option: TARGET_LINK_LAYER };
    neighbour_message(out, link, header, &body)
}

/// What distinguishes one neighbour message from another.
struct Body {
    kind: u8,
    flags: u32,
    target: Addr,
    option: u8,
}

fn neighbour_message(out: &mut [u8], link: Link, header: IpHeader, body: &Body) -> usize {
    let header = header.with_ttl(255);
    let mut writer = Writer::new(out, link, ethertype::IPV6);
    writer.ip(&header, 32);
    let start = writer.at;
    writer.bytes(&[body.kind, 0, 0, 0]);
    writer.be32(body.flags);
    writer.bytes(&body.target.0);
    writer.bytes(&[body.option, 1]);
    writer.bytes(&link.src.0);
    writer.finish(&header, start, start + 2)
}

/// Reports, to all MLDv2 routers (`ff02::16`), that `mac` listens to `groups`,
/// so that snooping switches deliver them. `src` is a link-local address or,
/// without one, [`Addr::UNSPECIFIED`] (RFC 3810 section 5.2.13). Panics with
/// more than [`MAX_MLD_GROUPS`] groups.
pub fn mld2_report(out: &mut [u8], mac: MacAddr, src: Addr, groups: &[Addr]) -> usize {
    const ALL_MLD2_ROUTERS: Addr = Addr([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16]);
    const CHANGE_TO_EXCLUDE: u8 = 4;
    const ROUTER_ALERT: [u8; 8] = [proto::ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    const HOP_BY_HOP: u8 = 0;
    assert!(groups.len() <= MAX_MLD_GROUPS, "the caller splits longer lists of groups");
    let header = IpHeader::icmp(src, ALL_MLD2_ROUTERS).with_ttl(1);
    let mut writer = Writer::new(out, Link::new(multicast_mac(ALL_MLD2_ROUTERS), mac), ethertype::IPV6);
    writer.ipv6(&header, HOP_BY_HOP, ROUTER_ALERT.len() + 8 + 20 * groups.len());
    writer.bytes(&ROUTER_ALERT);
    let start = writer.at;
    writer.bytes(&[v6::MLD2_REPORT, 0, 0, 0]);
    writer.be32(groups.len() as u32);
    for group in groups {
        writer.bytes(&[CHANGE_TO_EXCLUDE, 0, 0, 0]);
        writer.bytes(&group.0);
    }
    writer.finish(&header, start, start + 2)
}
