//! One connection or exchange, as an onlooker follows it.

use std::collections::BTreeMap;

use core::net::SocketAddr;

use holdfast_base::Instant;

use super::{Offer, Promise};
use crate::apps::Client;

/// A client's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Caller {
    pub(super) client: usize,
    pub(super) end: SocketAddr,
}

/// A first answer to a client (TCP: the server's SYN-ACK), or a first datagram to a
/// server (UDP): the packet that makes an end believe.
#[derive(Clone, Debug, Default)]
pub(super) struct Proof {
    /// Who must know the connection.
    pub(super) knowers: [bool; 2],
    /// It has left a node.
    pub(super) released: bool,
    /// Which fault left nobody who knows it.
    pub(super) forgotten: Option<String>,
}

/// One connection or exchange.
#[derive(Clone, Debug)]
pub(super) struct Tracked {
    pub(super) caller: Caller,
    pub(super) offer: Offer,
    /// The client's first sequence number; 0 for UDP.
    pub(super) isn: u32,
    pub(super) begun: Instant,
    /// By the server's first sequence number, or the server (UDP).
    pub(super) proofs: BTreeMap<Peer, Proof>,
    /// The proof that an end has seen, and when.
    pub(super) believed: Option<(Peer, Instant)>,
    /// Why and since when it may be lost.
    pub(super) excuse: Option<(Instant, String)>,
    /// Two nodes served it apart from each other.
    pub(super) parted: bool,
    /// It began at one side of a divided network, which alone can know it.
    pub(super) sided: bool,
    /// The first fault that may have made another node serve it.
    pub(super) handed: Option<(Instant, String)>,
    /// In which turn that which can be told of it (the server's SYN-ACK, or the client's first datagram) reached each
    /// node in that node's present life.
    pub(super) arrived: [Option<u64>; 2],
    /// The same of the latest datagram: one that reached a node which did not lead was told to nobody.
    pub(super) latest: [Option<u64>; 2],
    /// In which turn the client's first packet reached any node.
    pub(super) seen: Option<u64>,
    /// Which nodes have taken the client's first packet in their present lives.
    pub(super) taken: [bool; 2],
}

/// What tells one proof of a connection from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Sequence(u32),
    Server(SocketAddr),
}

impl Tracked {
    pub(super) fn is_tcp(&self) -> bool {
        self.isn != 0
    }

    pub(super) fn believed_proof(&self) -> Option<&Proof> {
        self.believed.and_then(|(key, _)| self.proofs.get(&key))
    }

    /// Whether its client has done with it.
    pub(super) fn is_over(&self, clients: &[Client]) -> bool {
        let mut connections = clients[self.caller.client].connections.iter();
        let (port, v6) = (self.caller.end.port(), self.caller.end.is_ipv6());
        self.is_tcp()
            && connections.any(|c| {
                c.port == port && c.v6 == v6 && c.opened <= self.begun && c.ended.is_some_and(|at| at >= self.begun)
            })
    }

    /// An end has seen the proof.
    pub(super) fn believe(&mut self, now: Instant, key: Peer) {
        if self.believed.is_none() {
            self.believed = Some((key, now));
            if let Some(why) = self.proofs.get(&key).and_then(|proof| proof.forgotten.clone()) {
                self.lose(now, why);
            }
        }
    }

    /// A node has forgotten it.
    pub(super) fn forget(&mut self, now: Instant, machine: usize, why: &str) {
        if self.offer.promise == Promise::Disabled {
            return;
        }
        for proof in self.proofs.values_mut() {
            proof.knowers[machine] = false;
            if proof.is_unknown() {
                proof.forgotten.get_or_insert_with(|| why.into());
            }
        }
        if let Some(why) = self.believed_proof().and_then(|proof| proof.forgotten.clone()) {
            self.lose(now, why);
        }
    }

    /// A node's process has ended: nothing of what reached it is left.
    pub(super) fn dies_with(&mut self, machine: usize) {
        (self.arrived[machine], self.latest[machine], self.taken[machine]) = (None, None, false);
        for proof in self.proofs.values_mut() {
            proof.knowers[machine] = false;
        }
    }

    pub(super) fn lose(&mut self, now: Instant, why: String) {
        if self.offer.promise == Promise::Stateful {
            self.excuse.get_or_insert((now, why));
        }
    }
}

impl Proof {
    /// It has left, and nobody knows it any more.
    pub(super) fn is_unknown(&self) -> bool {
        self.released && self.knowers == [false; 2]
    }
}

impl core::fmt::Display for Tracked {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let kind = if self.is_tcp() { "connection" } else { "exchange" };
        write!(f, "the {kind} from {} to {}", self.caller.end, self.offer.at)
    }
}
