//! The TCP transition table: what a segment does to a flow (RFC 9293 section
//! 3.3.2, seen from between the ends).

use super::Side;

/// What the segments seen so far say about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TcpState {
    /// The client's SYN went to the server.
    SynSeen,
    /// The server's SYN-ACK was seen; it may be on hold.
    Opening,
    /// Both ends may send.
    Established,
    /// The client has sent its FIN.
    ClientFin,
    /// The server has sent its FIN.
    ServerFin,
    /// Both FINs were seen, not both are acknowledged.
    Closing,
    /// Both FINs are acknowledged.
    Closed,
    /// An end has sent a reset that the other one believes.
    Reset,
    /// Installed from a record: anything may come next.
    Mirrored,
}

impl TcpState {
    /// Every state, for tests and listings.
    #[cfg(test)]
    pub(crate) const ALL: [TcpState; 9] = [
        TcpState::SynSeen,
        TcpState::Opening,
        TcpState::Established,
        TcpState::ClientFin,
        TcpState::ServerFin,
        TcpState::Closing,
        TcpState::Closed,
        TcpState::Reset,
        TcpState::Mirrored,
    ];

    /// The market's word for it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            TcpState::SynSeen => "SYN_SENT",
            TcpState::Opening => "SYN_RCVD",
            TcpState::Established | TcpState::Mirrored => "ESTABLISHED",
            TcpState::ClientFin => "CLOSE_WAIT",
            TcpState::ServerFin => "FIN_WAIT_1",
            TcpState::Closing => "CLOSING",
            TcpState::Closed => "TIME_WAIT",
            TcpState::Reset => "CLOSED",
        }
    }

    /// Whether both ends believe in the connection.
    pub(crate) const fn is_established(self) -> bool {
        match self {
            TcpState::Established | TcpState::ClientFin | TcpState::ServerFin | TcpState::Mirrored => true,
            TcpState::SynSeen | TcpState::Opening | TcpState::Closing | TcpState::Closed | TcpState::Reset => false,
        }
    }
}

/// What a segment is, by its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// SYN without ACK.
    Syn,
    /// SYN with ACK.
    SynAck,
    /// Data or a pure acknowledgement.
    Data,
    /// FIN, with or without data.
    Fin,
    /// The acknowledgement after which both FINs are acknowledged.
    LastAck,
    /// RST.
    Rst,
}

impl Segment {
    /// Every kind, for tests.
    #[cfg(test)]
    pub(crate) const ALL: [Segment; 6] =
        [Segment::Syn, Segment::SynAck, Segment::Data, Segment::Fin, Segment::LastAck, Segment::Rst];

    /// Names a segment by its flag bits; `None` for combinations that no end
    /// sends (SYN with FIN or RST, none of SYN, FIN, RST, ACK).
    pub(crate) const fn from_flags(fin: bool, syn: bool, rst: bool, ack: bool) -> Option<Segment> {
        match (syn, rst, fin, ack) {
            (true, false, false, false) => Some(Segment::Syn),
            (true, false, false, true) => Some(Segment::SynAck),
            (true, true, _, _) | (true, _, true, _) => None,
            (false, true, _, _) => Some(Segment::Rst),
            (false, false, true, _) => Some(Segment::Fin),
            (false, false, false, true) => Some(Segment::Data),
            (false, false, false, false) => None,
        }
    }
}

/// What a segment does to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing changes; forward it.
    Stay,
    /// The flow is in this state now; forward it.
    Move(TcpState),
    /// The old connection is over and this SYN begins another one on its tuple.
    Reopen,
    /// No end could have sent this here.
    Invalid,
}

/// The transition of a flow in `state` when `side` sends `segment`.
pub(crate) const fn step(state: TcpState, side: Side, segment: Segment) -> Step {
    match state {
        TcpState::SynSeen => syn_seen(side, segment),
        TcpState::Opening => opening(side, segment),
        TcpState::Established => established(side, segment),
        TcpState::ClientFin => half_closed(side, segment, Side::Client),
        TcpState::ServerFin => half_closed(side, segment, Side::Server),
        TcpState::Closing => closing(side, segment),
        TcpState::Closed => closed(side, segment),
        TcpState::Reset => reset(side, segment),
        TcpState::Mirrored => mirrored(side, segment),
    }
}

const fn syn_seen(side: Side, segment: Segment) -> Step {
    match (side, segment) {
        // Retransmission, or simultaneous open: the ends sort it out.
        (_, Segment::Syn) => Step::Stay,
        (Side::Server, Segment::SynAck) => Step::Move(TcpState::Opening),
        (Side::Client, Segment::SynAck) => Step::Invalid,
        // A challenge ACK for an old connection on the same tuple, or the client's late answer to one.
        (_, Segment::Data | Segment::Fin | Segment::LastAck) => Step::Stay,
        // The client's answer to a challenge ACK: it has ended what the server still had of an earlier
        // connection from this very port, and the SYN that comes again finds the port free.
        (Side::Client, Segment::Rst) => Step::Stay,
        // Refused.
        (Side::Server, Segment::Rst) => Step::Move(TcpState::Reset),
    }
}

const fn opening(side: Side, segment: Segment) -> Step {
    match (side, segment) {
        (_, Segment::Syn) | (Side::Server, Segment::SynAck) => Step::Stay,
        (Side::Client, Segment::SynAck) => Step::Invalid,
        (Side::Client, Segment::Data | Segment::LastAck) => Step::Move(TcpState::Established),
        // Data right behind the SYN-ACK (RFC 7413): the client has not answered yet.
        (Side::Server, Segment::Data | Segment::LastAck) => Step::Stay,
        (Side::Client, Segment::Fin) => Step::Move(TcpState::ClientFin),
        (Side::Server, Segment::Fin) => Step::Move(TcpState::ServerFin),
        (_, Segment::Rst) => Step::Move(TcpState::Reset),
    }
}

const fn established(side: Side, segment: Segment) -> Step {
    match (side, segment) {
        // A SYN on a living connection: the server answers with a challenge ACK (RFC 5961 section 4).
        (_, Segment::Syn) | (Side::Server, Segment::SynAck) => Step::Stay,
        (Side::Client, Segment::SynAck) => Step::Invalid,
        (_, Segment::Data | Segment::LastAck) => Step::Stay,
        (Side::Client, Segment::Fin) => Step::Move(TcpState::ClientFin),
        (Side::Server, Segment::Fin) => Step::Move(TcpState::ServerFin),
        (_, Segment::Rst) => Step::Move(TcpState::Reset),
    }
}

const fn half_closed(side: Side, segment: Segment, closer: Side) -> Step {
    match (side, segment) {
        (_, Segment::Syn) | (Side::Server, Segment::SynAck) => Step::Stay,
        (Side::Client, Segment::SynAck) => Step::Invalid,
        (_, Segment::Data | Segment::LastAck) => Step::Stay,
        (Side::Client, Segment::Fin) => match closer {
            Side::Client => Step::Stay,
            Side::Server => Step::Move(TcpState::Closing),
        },
        (Side::Server, Segment::Fin) => match closer {
            Side::Client => Step::Move(TcpState::Closing),
            Side::Server => Step::Stay,
        },
        (_, Segment::Rst) => Step::Move(TcpState::Reset),
    }
}

const fn closing(side: Side, segment: Segment) -> Step {
    match (side, segment) {
        // What one end sent last is still under way: whether it is over the server knows, and answers.
        (_, Segment::Syn) | (Side::Server, Segment::SynAck) => Step::Stay,
        (Side::Client, Segment::SynAck) => Step::Invalid,
        (_, Segment::Data | Segment::Fin) => Step::Stay,
        (_, Segment::LastAck) => Step::Move(TcpState::Closed),
        (_, Segment::Rst) => Step::Move(TcpState::Reset),
    }
}

const fn closed(side: Side, segment: Segment) -> Step {
    match (side, segment) {
        (Side::Client, Segment::Syn) => Step::Reopen,
        (Side::Client, Segment::SynAck) => Step::Invalid,
        (Side::Server, Segment::Syn | Segment::SynAck) => Step::Stay,
        // Retransmitted FINs and their answers; TIME_WAIT keeps its full length.
        (_, Segment::Data | Segment::Fin | Segment::LastAck | Segment::Rst) => Step::Stay,
    }
}

const fn reset(side: Side, segment: Segment) -> Step {
    match (side, segment) {
        (Side::Client, Segment::Syn) => Step::Reopen,
        (Side::Client, Segment::SynAck) => Step::Invalid,
        (Side::Server, Segment::Syn | Segment::SynAck) => Step::Stay,
        // The reset was not believed (RFC 5961 section 3): the connection lives on.
        (_, Segment::Data | Segment::LastAck) => Step::Move(TcpState::Established),
        (Side::Client, Segment::Fin) => Step::Move(TcpState::ClientFin),
        (Side::Server, Segment::Fin) => Step::Move(TcpState::ServerFin),
        (_, Segment::Rst) => Step::Stay,
    }
}

const fn mirrored(side: Side, segment: Segment) -> Step {
    match (side, segment) {
        // Whether it was ever established only the server knows: it answers.
        (_, Segment::Syn) => Step::Stay,
        (Side::Server, Segment::SynAck) => Step::Move(TcpState::Opening),
        (Side::Client, Segment::SynAck) => Step::Invalid,
        (_, Segment::Data | Segment::LastAck) => Step::Move(TcpState::Established),
        (Side::Client, Segment::Fin) => Step::Move(TcpState::ClientFin),
        (Side::Server, Segment::Fin) => Step::Move(TcpState::ServerFin),
        (_, Segment::Rst) => Step::Move(TcpState::Reset),
    }
}
