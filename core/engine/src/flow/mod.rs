//! Flows and the table that holds them.

pub(crate) mod hold;
pub(crate) mod numbers;
pub(crate) mod table;
pub(crate) mod tcp;
pub(crate) mod tcp_seen;

use core::time::Duration;

use holdfast_base::{Instant, StableHasher};
use holdfast_wire::{Endpoint, MacAddr};

use crate::buckets::Buckets;
use crate::frame::PortId;
use crate::limits::Limits;
use crate::record::{FlowKey, FlowRecord, L2Disc, Phase};
use tcp::TcpState;
use tcp_seen::Stream;

/// "No row", "no hold", "end of list".
pub(crate) const NONE: u32 = u32::MAX;

/// Keys of the digest over flows: fixed, since both nodes must agree.
const DIGEST_KEYS: (u64, u64) = (0x686f_6c64_6661_7374, 0x6469_6765_7374_0001);

/// Which end sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The client sent it; it leaves towards the server.
    Client,
    /// The server sent it; it leaves towards the client.
    Server,
}

impl Side {
    /// The one that gets it.
    pub(crate) const fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// What a flow's packets have shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowState {
    /// The slot is free.
    Free,
    /// A TCP connection.
    Tcp(TcpState),
    /// UDP or anything else without a handshake.
    Datagram,
}

/// Where packets of one direction leave, as resolved a moment ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Ethernet address of the next hop.
    pub(crate) mac: MacAddr,
    /// The port it leaves by.
    pub(crate) port: PortId,
    /// The [`Reading`] in which it was resolved, 0 = never.
    pub(crate) reading: u32,
}

/// Numbers the times at which a hop is good as it was resolved: a number ends with the generation
/// of the network tables, and after about a second, so that the neighbour table notices which
/// neighbours are in use. One number in a flow instead of two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    number: u32,
    generation: u32,
    /// Of 2^30 ns.
    second: u32,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading { number: 1, generation: 0, second: 0 }
    }
}

impl Reading {
    /// The number that is good now, never 0.
    pub(crate) fn number(&mut self, now: Instant, generation: u32) -> u32 {
        let second = (now.as_nanos() >> 30) as u32;
        if (self.generation, self.second) != (generation, second) {
            let number = self.number.wrapping_add(1).max(1);
            *self = Reading { number, generation, second };
        }
        self.number
    }
}

/// One tracked exchange. `Copy` and free of pointers, so that the table is one
/// allocation and clearing it is one store.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    /// The client.
    pub(crate) client: Endpoint,
    /// What the client calls.
    pub(crate) vip: Endpoint,
    /// The server.
    pub(crate) server: Endpoint,
    /// Who the server sees.
    pub(crate) source: Endpoint,
    /// Last packet of either side.
    pub(crate) last_seen: Instant,
    /// Order of the last change, 0 = never marked.
    pub(crate) stamp: u64,
    /// Where packets to the client leave.
    pub(crate) to_client: Hop,
    /// Where packets to the server leave.
    pub(crate) to_server: Hop,
    /// Layer-2 discriminator.
    pub(crate) l2: L2Disc,
    /// Tells this flow from earlier ones in the same slot.
    pub(crate) generation: u32,
    /// Its share of the digest as of its latest record that was written or applied.
    pub(crate) share: u64,
    /// Serial of the session in which that was, 0 = never.
    pub(crate) session: u32,
    /// Serial of the session in which the peer acknowledged it, 0 = none; or a mark that it was the peer that told of it.
    pub(crate) acked: u32,
    /// Serial of the session in which a mark of it is outstanding, 0 = none.
    pub(crate) marked: u32,
    /// Row of its vserver in the roster, or [`NONE`].
    pub(crate) vserver: u32,
    /// Row of its service in the roster, or [`NONE`].
    pub(crate) service: u32,
    /// Its hold, or [`NONE`]. In a free slot: the next free slot.
    pub(crate) hold: u32,
    /// What the client sends, and what the server sends, as far as TCP shows it.
    pub(crate) streams: [Stream; 2],
    /// Client-side idle time-out, seconds.
    pub(crate) client_idle_s: u32,
    /// Server-side idle time-out, seconds.
    pub(crate) server_idle_s: u32,
    /// Its bucket of the digest; counts once it has a share.
    pub(crate) bucket: u16,
    /// IP protocol number.
    pub(crate) proto: u8,
    /// What it has shown.
    pub(crate) state: FlowState,
    /// Bits, see the constants.
    pub(crate) flags: u16,
    /// The client has sent a SYN since the server last answered one.
    pub(crate) syn_again: bool,
}

/// A million of them with their index entries and what the mirror keeps of each are to fit into 256 MB.
const _: () = assert!(size_of::<Flow>() <= 192);

impl Flow {
    /// Its record has a tail: what is known of a control connection, or fields of another version.
    pub(crate) const TAIL: u16 = 1;
    /// A successor should know it: it counts as protected or unprotected.
    pub(crate) const TRACKED: u16 = 2;
    /// `source` is a leased SNAT port.
    pub(crate) const LEASED: u16 = 4;
    /// The server acknowledged the client's FIN.
    pub(crate) const CLIENT_FIN_ACKED: u16 = 8;
    /// The client acknowledged the server's FIN.
    pub(crate) const SERVER_FIN_ACKED: u16 = 16;
    /// Installed from a record, and no packet of it has passed here yet.
    pub(crate) const UNTOUCHED: u16 = 32;
    /// Counted as established in the roster.
    pub(crate) const COUNTED_ESTABLISHED: u16 = 64;
    /// The server's own connection through this node: addresses stay as they are.
    pub(crate) const PASS_THROUGH: u16 = 128;
    /// An FTP control connection, whose text is read.
    pub(crate) const CONTROL: u16 = 256;
    /// The server of its vserver is its client side: an active data connection of FTP.
    pub(crate) const REVERSED: u16 = 512;

    /// Whether a flag is set.
    pub(crate) const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Sets or clears a flag.
    pub(crate) fn set(&mut self, flag: u16, on: bool) {
        if on { self.flags |= flag } else { self.flags &= !flag }
    }

    /// Whose packets those of `side` are, seen from the vserver: its client's or its server's.
    pub(crate) const fn asker(&self, side: Side) -> Side {
        if self.has(Flow::REVERSED) { side.other() } else { side }
    }

    /// What `side` sends.
    pub(crate) const fn stream(&self, side: Side) -> &Stream {
        &self.streams[side as usize]
    }

    /// What `side` sends, to be noted.
    pub(crate) const fn stream_mut(&mut self, side: Side) -> &mut Stream {
        &mut self.streams[side as usize]
    }

    /// How the client's packets name it.
    pub(crate) fn client_key(&self) -> FlowKey {
        FlowKey { proto: self.proto, l2: self.l2, src: self.client, dst: self.vip }
    }

    /// How the server's packets name it.
    pub(crate) fn server_key(&self) -> FlowKey {
        FlowKey { proto: self.proto, l2: self.l2, src: self.server, dst: self.source }
    }

    /// The key by which packets of `side` name it.
    pub(crate) fn key(&self, side: Side) -> FlowKey {
        match side {
            Side::Client => self.client_key(),
            Side::Server => self.server_key(),
        }
    }

    /// Source and destination of a packet of `side` as it leaves.
    pub(crate) fn rewritten(&self, side: Side) -> (Endpoint, Endpoint) {
        match side {
            Side::Client => (self.source, self.server),
            Side::Server => (self.vip, self.client),
        }
    }

    /// Whether it is a TCP connection that its client has not completed, as far as was seen here.
    pub(crate) fn is_half_open(&self) -> bool {
        match self.state {
            FlowState::Tcp(TcpState::SynSeen | TcpState::Opening) => true,
            FlowState::Tcp(
                TcpState::Established
                | TcpState::ClientFin
                | TcpState::ServerFin
                | TcpState::Closing
                | TcpState::Closed
                | TcpState::Reset
                | TcpState::Mirrored,
            )
            | FlowState::Datagram
            | FlowState::Free => false,
        }
    }

    /// How long it may stay without a packet.
    pub(crate) fn time_out(&self, limits: &Limits) -> Duration {
        let idle = Duration::from_secs(u64::from(self.client_idle_s.max(self.server_idle_s)));
        match self.state {
            FlowState::Tcp(TcpState::SynSeen) => limits.half_open,
            FlowState::Tcp(TcpState::Opening) => idle.min(limits.opening),
            FlowState::Tcp(TcpState::Closed) => limits.closing_linger,
            FlowState::Tcp(TcpState::Reset) => limits.reset_linger,
            FlowState::Tcp(
                TcpState::Established
                | TcpState::ClientFin
                | TcpState::ServerFin
                | TcpState::Closing
                | TcpState::Mirrored,
            )
            | FlowState::Datagram
            | FlowState::Free => idle,
        }
    }

    /// Where it stands, as far as a successor cares.
    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            FlowState::Tcp(TcpState::SynSeen | TcpState::Opening) => Phase::Opening,
            FlowState::Tcp(TcpState::Established | TcpState::ClientFin | TcpState::ServerFin | TcpState::Mirrored)
            | FlowState::Datagram
            | FlowState::Free => Phase::Established,
            FlowState::Tcp(TcpState::Closing | TcpState::Closed | TcpState::Reset) => Phase::Closing,
        }
    }

    /// Its state in the market's words.
    pub(crate) fn state_label(&self) -> &'static str {
        match self.state {
            FlowState::Free => "CLOSED",
            FlowState::Datagram => "ESTABLISHED",
            FlowState::Tcp(state) => state.label(),
        }
    }

    /// What a successor must know.
    pub(crate) fn record(&self) -> FlowRecord {
        FlowRecord {
            stamp: self.stamp,
            proto: self.proto,
            l2: self.l2,
            client: self.client,
            vip: self.vip,
            server: self.server,
            source: self.source,
            phase: self.phase(),
            client_idle_s: self.client_idle_s,
            server_idle_s: self.server_idle_s,
        }
    }

    /// Its bucket and its share of the digest as it is: the same on both nodes
    /// if both have the same record of it.
    pub(crate) fn fingerprint(&self) -> (u16, u64) {
        let mut hasher = StableHasher::new(DIGEST_KEYS.0, DIGEST_KEYS.1);
        hasher.write(&key_bytes(&self.client_key()));
        let bucket = Buckets::of(hasher.finish());
        let mut rest = [0; 44];
        rest[..8].copy_from_slice(&self.stamp.to_be_bytes());
        rest[8..24].copy_from_slice(&self.server.addr.0);
        rest[24..26].copy_from_slice(&self.server.port.to_be_bytes());
        rest[26..42].copy_from_slice(&self.source.addr.0);
        rest[42..44].copy_from_slice(&self.source.port.to_be_bytes());
        (bucket, hasher.write(&rest).finish())
    }
}

/// Bytes of a key in one block, for hashing.
pub(crate) fn key_bytes(key: &FlowKey) -> [u8; 41] {
    let mut bytes = [0; 41];
    bytes[0] = key.proto;
    bytes[1..5].copy_from_slice(&key.l2.0.to_be_bytes());
    bytes[5..21].copy_from_slice(&key.src.addr.0);
    bytes[21..23].copy_from_slice(&key.src.port.to_be_bytes());
    bytes[23..39].copy_from_slice(&key.dst.addr.0);
    bytes[39..41].copy_from_slice(&key.dst.port.to_be_bytes());
    bytes
}
