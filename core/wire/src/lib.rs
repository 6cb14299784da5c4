//! Frames: find the headers once, edit in place, build small replies.
//!
//! This crate is `no_std`, allocates nothing, and obeys the rules of the eBPF
//! verifier (constant-size loads through [`Load`], no slices and no panicking
//! index in the parser, no `u128`, no unbounded loop, at most five arguments),
//! so that the fast path and the engine run the same code.
//!
//! The way of a frame: [`parse`] finds the headers, [`rewrite`] turns the
//! wanted addresses into an [`EditList`], [`apply`] writes it and mends the
//! checksums. The fast path goes a shorter one: [`plain`] finds the headers of
//! the usual packet, [`Ready`] is its rewrite, computed once for a flow.
//! [`build`] makes the few packets a node says on its own behalf.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod addr;
pub mod build;
pub mod checksum;
mod edit;
mod icmp;
mod load;
mod packet;
mod parse;
mod plain;
mod ready;

#[cfg(test)]
mod tests;

pub use addr::{Addr, Endpoint, MacAddr};
pub use checksum::{Checksum, icmp_checksum_ok, ipv4_checksum_ok, transport_checksum_ok};
pub use edit::{
    Cover, Edit, EditList, MAX_EDITS, Rewrite, TransportChecksum, apply, rewrite, rewrite_icmp_error, rewrite_into,
    set_macs,
};
pub use load::{Load, Store};
pub use packet::{
    Arp, ArpOp, Echo, Embedded, Ethernet, Fragment, IcmpError, IcmpErrorKind, IpPacket, IpVersion,
    NeighbourAdvertisement, NeighbourSolicitation, ParseError, Parsed, Ports, Tcp, TcpFlags, Transport, Udp, ethertype,
    proto,
};
pub use parse::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS, parse, parse_ethernet, parse_ip};
pub use plain::{PLAIN_HEAD, Plain, Unusual, Words, addresses, plain};
pub use ready::{Ready, checksum_at, hop_limit_change};
