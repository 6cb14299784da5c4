//! What the engine counts.

use crate::flow::Side;
use crate::plan::{ServiceId, VserverId};
use crate::verdict::{Drop, Verdict};

/// Counters of the whole engine, since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames handed in.
    pub frames_in: u64,
    /// Bytes of frames handed in.
    pub bytes_in: u64,
    /// Frames forwarded in the caller's buffer.
    pub forwarded: u64,
    /// Bytes of frames forwarded in the caller's buffer.
    pub forwarded_bytes: u64,
    /// Frames that the engine kept, answered or learned from.
    pub consumed: u64,
    /// Frames left to the host's kernel.
    pub for_host: u64,
    /// Frames polled from the engine: replies, released holds, queued packets, announcements.
    pub transmitted: u64,
    /// Frames dropped, by reason, in the order of [`Drop::ALL`].
    pub drops: [u64; Drop::ALL.len()],
    /// Flows opened by a client's packet.
    pub flows_opened: u64,
    /// Clients that had to wait since their service had many (surge protection).
    pub surged: u64,
    /// Those of them that waited too long: they may have given up.
    pub surge_expired: u64,
    /// Flows rebuilt from a mid-stream packet (STATELESS).
    pub flows_rebuilt: u64,
    /// Flows installed from the peer's records.
    pub flows_mirrored: u64,
    /// Flows removed: closed, idle, or replaced.
    pub flows_closed: u64,
    /// Packets put on hold.
    pub held: u64,
    /// Holds released by the peer's ack.
    pub hold_released_by_ack: u64,
    /// Holds released without an ack (peer gone, or `hold_limit` over).
    pub hold_released_unprotected: u64,
    /// Flows refused because no SNAT port was free.
    pub snat_exhausted: u64,
    /// Connections that no client had completed, ended early so that another one finds a SNAT port, or room in the table.
    pub half_open_evicted: u64,
    /// Connections that were over and lingered, forgotten early for the same.
    pub lingering_evicted: u64,
    /// Resets sent to ends whose segment belonged to no flow.
    pub resets_sent: u64,
    /// Resets passed on that did not end their flow: their sequence number is not
    /// the one that the other end expects, as far as this node knows.
    pub resets_doubted: u64,
    /// FINs that no window of the other end has room for: passed on, without effect on the flow.
    pub fins_doubted: u64,
    /// Marks lost because too many waited; another session tells everything.
    pub marks_lost: u64,
    /// Stale mirrored flows and persistence sessions removed to make room for those of the running mirror session.
    pub stale_evicted: u64,
    /// Ends of mirrored flows by a number that stands for none here: the flow's
    /// record lies in a gap, or it is gone already.
    pub unnumbered: u64,
    /// Fields of another version that found no room beside their mirrored flow.
    pub tails_lost: u64,
    /// Lines of FTP control connections that spoke of a data connection and passed as they were: no port was free, or they
    /// named another host.
    pub ftp_unannounced: u64,
    /// Client packets balanced without being remembered, and sessions of the peer without room: persistence table full.
    pub persistence_full: u64,
    /// Mirrored flows that lost against another one with the same key or port.
    pub record_conflicts: u64,
    /// Mirrored flows refused because the table was full.
    pub record_full: u64,
    /// As loser of a split: flows offered to the winner.
    pub flows_offered: u64,
    /// As loser: flows that made room for what the winner tells before it had adopted them. It may lack them then.
    pub aside_evicted: u64,
    /// As winner: offered flows that are this node's own from then on.
    pub offers_adopted: u64,
    /// As winner: offered flows that this node had.
    pub offers_known: u64,
    /// As winner: offered flows refused for another one with the same key or port.
    pub offers_conflicting: u64,
    /// As winner: offered flows refused because the table was full.
    pub offers_without_room: u64,
    /// As winner: offered flows refused because their vserver is not there, or not STATEFUL.
    pub offers_unserved: u64,
}

impl Counters {
    /// Frames dropped for `reason`.
    pub fn drops(&self, reason: Drop) -> u64 {
        self.drops[reason as usize]
    }

    /// As winner of a split: offered flows that were refused.
    pub fn offers_refused(&self) -> u64 {
        self.offers_conflicting + self.offers_without_room + self.offers_unserved
    }

    /// Every counter with its name, drops by reason included.
    pub fn listed(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let named = [
            ("frames_in", self.frames_in),
            ("bytes_in", self.bytes_in),
            ("forwarded", self.forwarded),
            ("forwarded_bytes", self.forwarded_bytes),
            ("consumed", self.consumed),
            ("for_host", self.for_host),
            ("transmitted", self.transmitted),
            ("flows_opened", self.flows_opened),
            ("flows_rebuilt", self.flows_rebuilt),
            ("flows_mirrored", self.flows_mirrored),
            ("flows_closed", self.flows_closed),
            ("held", self.held),
            ("hold_released_by_ack", self.hold_released_by_ack),
            ("hold_released_unprotected", self.hold_released_unprotected),
            ("snat_exhausted_leases", self.snat_exhausted),
            ("half_open_evicted", self.half_open_evicted),
            ("lingering_evicted", self.lingering_evicted),
            ("resets_sent", self.resets_sent),
            ("resets_doubted", self.resets_doubted),
            ("fins_doubted", self.fins_doubted),
            ("marks_lost", self.marks_lost),
            ("stale_evicted", self.stale_evicted),
            ("unnumbered", self.unnumbered),
            ("tails_lost", self.tails_lost),
            ("ftp_unannounced", self.ftp_unannounced),
            ("persistence_full", self.persistence_full),
            ("record_conflicts", self.record_conflicts),
            ("record_full", self.record_full),
            ("flows_offered", self.flows_offered),
            ("aside_evicted", self.aside_evicted),
            ("offers_adopted", self.offers_adopted),
            ("offers_known", self.offers_known),
            ("offers_conflicting", self.offers_conflicting),
            ("offers_without_room", self.offers_without_room),
            ("offers_unserved", self.offers_unserved),
        ];
        named.into_iter().chain(Drop::ALL.iter().map(|&reason| (reason.label(), self.drops(reason))))
    }

    /// Counts one frame of `len` bytes by its end.
    pub(crate) fn count(&mut self, verdict: Verdict, len: u64) {
        self.frames_in += 1;
        self.bytes_in += len;
        match verdict {
            Verdict::Forward(_) => {
                self.forwarded += 1;
                self.forwarded_bytes += len;
            }
            Verdict::Consumed => self.consumed += 1,
            Verdict::ForHost => self.for_host += 1,
            Verdict::Drop(reason) => self.drop(reason),
        }
    }

    /// Counts a dropped packet that had no verdict of its own (it was queued).
    pub(crate) fn drop(&mut self, reason: Drop) {
        self.drops[reason as usize] += 1;
    }
}

/// Packets and bytes of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets (frames) from clients.
    pub client_packets: u64,
    /// IP bytes from clients.
    pub client_bytes: u64,
    /// Packets (frames) from servers.
    pub server_packets: u64,
    /// IP bytes from servers.
    pub server_bytes: u64,
}

impl Traffic {
    /// Counts one packet of `side`.
    pub(crate) fn add(&mut self, side: Side, bytes: u64) {
        self.add_all(side, 1, bytes);
    }

    /// Counts packets of `side`, of `bytes` bytes together.
    pub(crate) fn add_all(&mut self, side: Side, packets: u64, bytes: u64) {
        let (count, total) = match side {
            Side::Client => (&mut self.client_packets, &mut self.client_bytes),
            Side::Server => (&mut self.server_packets, &mut self.server_bytes),
        };
        *count += packets;
        *total += bytes;
    }
}

/// Counters of a vserver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VserverCounters {
    /// Flows that it opened, on this node.
    pub hits: u64,
    /// Flows that it has.
    pub flows: u32,
    /// Flows of those that are established.
    pub established: u32,
    /// Flows of those that a successor should know.
    pub tracked: u32,
    /// Flows of those that the peer has acknowledged in this session.
    pub protected: u32,
    /// Persistence sessions.
    pub persistence: u32,
    /// What passed through it, on this node.
    pub traffic: Traffic,
}

impl VserverCounters {
    /// What a vserver that takes over the flows of another one begins with.
    pub(crate) fn of_heir(self) -> VserverCounters {
        VserverCounters { hits: 0, traffic: Traffic::default(), ..self }
    }
}

/// Counters of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounters {
    /// Flows that were opened to it, on this node.
    pub hits: u64,
    /// Flows that it has.
    pub flows: u32,
    /// Flows of those that are established.
    pub established: u32,
    /// What passed through it, on this node.
    pub traffic: Traffic,
}

impl ServiceCounters {
    /// As [`VserverCounters::of_heir`].
    pub(crate) fn of_heir(self) -> ServiceCounters {
        ServiceCounters { hits: 0, traffic: Traffic::default(), ..self }
    }
}

/// Sizes of tables at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Flows in the table.
    pub flows: u32,
    /// Flows that a successor should know and the peer has acknowledged in this session.
    pub protected: u32,
    /// Flows that a successor should know and the peer has not acknowledged.
    pub unprotected: u32,
    /// Flows that are holding packets.
    pub held: u32,
    /// Mirrored flows not seen in the current session (receiver).
    pub stale: u32,
    /// Flows written or applied in the current session.
    pub in_session: u32,
    /// Persistence sessions.
    pub persistence: u32,
    /// Persistence sessions of the running mirror session that found no room (receiver).
    pub persistence_missed: u32,
    /// SNAT ports leased.
    pub leases: u32,
}

/// Every word of [`ConnectionRow::state`].
pub const CONNECTION_STATES: [&str; 8] =
    ["SYN_SENT", "SYN_RCVD", "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "CLOSING", "TIME_WAIT", "CLOSED"];

/// One line of the connection table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// IP protocol number.
    pub proto: u8,
    /// The client.
    pub client: holdfast_wire::Endpoint,
    /// What the client calls.
    pub vip: holdfast_wire::Endpoint,
    /// The server.
    pub server: holdfast_wire::Endpoint,
    /// Who the server sees.
    pub source: holdfast_wire::Endpoint,
    /// The vserver, if the plan has it.
    pub vserver: Option<VserverId>,
    /// The service, if the plan has it.
    pub service: Option<ServiceId>,
    /// State in the market's words, one of [`CONNECTION_STATES`].
    pub state: &'static str,
    /// Time since the last packet.
    pub idle: core::time::Duration,
    /// Came from the peer and no packet of it has been seen here.
    pub mirrored: bool,
    /// A successor should know it: it counts as protected or unprotected.
    pub tracked: bool,
    /// The peer has acknowledged it in this session.
    pub protected: bool,
    /// A packet of it waits until the peer has.
    pub held: bool,
}
