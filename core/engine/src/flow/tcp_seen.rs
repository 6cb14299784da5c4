//! What the segments of a connection have shown of its sequence numbers, and what a
//! reset, a FIN or a SYN is worth by that (RFC 9293 section 3.10, RFC 5961), seen from
//! between the ends.
//!
//! Each end judges by its own next expected number. The node knows bounds of it: what
//! that end has acknowledged, and the end of what was sent to it. When in doubt the flow
//! stays: that costs memory until its idle time-out, and the opposite costs a connection.

use holdfast_wire::Tcp;

use super::tcp::{Segment, Step, TcpState, step};
use super::{Flow, Side};

/// The largest window: what is under way is not longer.
const WINDOW: u32 = 16 << 20;
/// How far a segment may be ahead of all that passed: what was lost before it came here.
const LEAP: u32 = 1 << 20;

/// What was seen of the bytes that one end sends. Each number is 0 if it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stream {
    /// After the last byte, or FIN, that passed.
    end: u32,
    /// How far the other end has acknowledged.
    acked: u32,
    /// After the FIN.
    fin: u32,
}

impl Stream {
    /// Whether both ends have spoken of it, and mean the same. What only one says may
    /// be forged: the latest word of each is kept until they agree.
    fn is_known(&self) -> bool {
        self.end != 0 && self.acked != 0 && self.end.wrapping_sub(self.acked) <= WINDOW
    }

    /// After the last byte that passed; 0: not known.
    pub(crate) const fn end(&self) -> u32 {
        self.end
    }

    /// How far the other end has acknowledged; 0: not known.
    pub(crate) const fn acked(&self) -> u32 {
        self.acked
    }

    /// Whether the end that is asked may believe this number, of a segment or of an acknowledgement.
    fn has_room_for(&self, number: u32) -> bool {
        !self.is_known() || number.wrapping_sub(self.end.wrapping_sub(WINDOW)) <= WINDOW + LEAP
    }

    /// Whether this number is one of those that passed lately.
    fn has_passed(&self, number: u32) -> bool {
        self.is_known() && self.end.wrapping_sub(number) <= WINDOW
    }

    /// Bytes up to `end` pass.
    fn note_sent(&mut self, end: u32) {
        if !self.is_known() || is_after(end, self.end) {
            self.end = end;
        }
        self.catch_up();
    }

    /// The other end acknowledges up to `acked`.
    fn note_acked(&mut self, acked: u32) {
        if !self.is_known() || is_after(acked, self.acked) {
            self.acked = acked;
        }
        self.catch_up();
    }

    /// What is acknowledged was sent, though it may have passed elsewhere.
    fn catch_up(&mut self) {
        if self.end != 0 && self.acked != 0 && self.acked.wrapping_sub(self.end) <= LEAP {
            self.end = self.acked;
        }
    }

    /// Whether the other end takes a reset with this number for true: the next one that it expects
    /// (RFC 5961 section 3), which is what it has acknowledged, or all that was sent to it. Of a
    /// closed stream it may be the FIN's own.
    fn ends_at(&self, seq: u32, is_opening: bool) -> bool {
        let all = self.end != 0 && seq == self.end && (self.is_known() || is_opening && self.acked == 0);
        let last = self.fin != 0 && seq.wrapping_add(1) == self.fin;
        self.acked != 0 && seq == self.acked || all || last && self.is_known()
    }
}

/// What a segment is, after what is known of its flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What it counts as.
    pub(crate) segment: Segment,
    /// The state in which it finds the flow.
    pub(crate) state: TcpState,
    /// What the flow does not believe: the segment passes, and changes nothing.
    pub(crate) doubt: Doubt,
}

/// What a segment claims without showing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Nothing.
    None,
    /// That the connection is reset.
    Reset,
    /// That its sender has closed; it counts as data.
    Fin,
    /// That the connection is over: another one begins.
    Syn,
}

/// Notes what a segment of `side` shows, and judges it.
pub(crate) fn note(flow: &mut Flow, state: TcpState, side: Side, segment: Segment, tcp: &Tcp) -> Seen {
    let seen = |segment, state, doubt| Seen { segment, state, doubt };
    match segment {
        Segment::Rst if state != TcpState::SynSeen => {
            let exact = flow.stream(side).ends_at(tcp.seq, state == TcpState::Opening);
            seen(segment, state, if exact { Doubt::None } else { Doubt::Reset })
        }
        Segment::Syn if side == Side::Client => {
            flow.syn_again = true;
            let fin = flow.stream(side).fin;
            // RFC 1122 section 4.2.2.13. An earlier one may be right all the same: the server answers it.
            let doubted = state == TcpState::Closed && fin != 0 && !is_after(tcp.seq, fin);
            seen(segment, state, if doubted { Doubt::Syn } else { Doubt::None })
        }
        Segment::SynAck if side == Side::Server => seen(segment, note_answer(flow, state, tcp), Doubt::None),
        Segment::Syn | Segment::SynAck | Segment::Rst => seen(segment, state, Doubt::None),
        Segment::Data | Segment::Fin | Segment::LastAck if state == TcpState::SynSeen => {
            seen(segment, state, Doubt::None)
        }
        Segment::Data | Segment::Fin | Segment::LastAck => {
            let (state, trust) = note_stream(flow, state, side, segment, tcp);
            let (state, is_last) = note_fin_ack(flow, state, side, tcp);
            let doubt = if segment == Segment::Fin && trust == Trust::None { Doubt::Fin } else { Doubt::None };
            let segment = match (is_last, trust) {
                (true, _) => Segment::LastAck,
                (false, Trust::Full) => segment,
                (false, Trust::Unknown | Trust::None) => Segment::Data,
            };
            seen(segment, state, doubt)
        }
    }
}

/// Notes how far `side` has sent and acknowledged in packets that passed elsewhere. Nobody has judged
/// them one by one: what is forged among them disagrees with the other end, and is not believed long.
pub(crate) fn note_offloaded(flow: &mut Flow, side: Side, end: u32, acked: u32) {
    if end != 0 {
        flow.stream_mut(side).note_sent(end);
    }
    if acked != 0 {
        flow.stream_mut(side.other()).note_acked(acked);
    }
}

/// The state of a flow that lives after all: by the FINs that it has seen.
pub(crate) fn resumed(flow: &Flow) -> TcpState {
    match (flow.stream(Side::Client).fin != 0, flow.stream(Side::Server).fin != 0) {
        (false, false) => TcpState::Established,
        (true, false) => TcpState::ClientFin,
        (false, true) => TcpState::ServerFin,
        (true, true) => TcpState::Closing,
    }
}

/// How much a segment's numbers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// They fit what both ends have said.
    Full,
    /// Too little is known to say.
    Unknown,
    /// No end can believe them.
    None,
}

/// The server's SYN-ACK. If it answers a SYN that came since, the server has no other
/// connection on these addresses: both streams begin anew, and so does the flow.
fn note_answer(flow: &mut Flow, state: TcpState, tcp: &Tcp) -> TcpState {
    let (first, acked) = (tcp.seq.wrapping_add(1), tcp.ack);
    let (client, server) = (flow.stream(Side::Client), flow.stream(Side::Server));
    let repeated = server.has_passed(first) && client.has_passed(acked);
    let (begins, next) = match state {
        // As the table has it.
        TcpState::SynSeen | TcpState::Opening | TcpState::Mirrored => (true, state),
        TcpState::Reset => (true, TcpState::Opening),
        TcpState::Established | TcpState::ClientFin | TcpState::ServerFin | TcpState::Closing | TcpState::Closed => {
            (flow.syn_again && !repeated, TcpState::Opening)
        }
    };
    if !begins {
        return state;
    }
    *flow.stream_mut(Side::Client) = Stream { end: acked, acked, fin: 0 };
    *flow.stream_mut(Side::Server) = Stream { end: first, acked: 0, fin: 0 };
    flow.set(Flow::CLIENT_FIN_ACKED | Flow::SERVER_FIN_ACKED, false);
    flow.syn_again = false;
    next
}

/// Notes what a segment sends and acknowledges, if its receiver can believe it.
fn note_stream(flow: &mut Flow, state: TcpState, side: Side, segment: Segment, tcp: &Tcp) -> (TcpState, Trust) {
    let (own, other) = (*flow.stream(side), *flow.stream(side.other()));
    let known = own.is_known() && other.is_known();
    if !own.has_room_for(tcp.seq) || !tcp.flags.ack() || !other.has_room_for(tcp.ack) {
        return (state, Trust::None);
    }
    let end = tcp.seq.wrapping_add(tcp.payload_len).wrapping_add(u32::from(segment == Segment::Fin));
    let stream = flow.stream_mut(side);
    stream.note_sent(end);
    // Nothing follows a FIN: it was not the sender's.
    let goes_on = known && tcp.payload_len > 0 && own.fin != 0 && is_after(end, own.fin);
    if goes_on {
        stream.fin = 0;
        flow.set(fin_acked(side), false);
    }
    flow.stream_mut(side.other()).note_acked(tcp.ack);
    let state = if goes_on && state != TcpState::Reset { resumed(flow) } else { state };
    let trust = if segment == Segment::Fin { note_fin(flow, state, side, end, &own) } else { Trust::Full };
    (state, if known { trust } else { trust.min_unknown() })
}

impl Trust {
    /// At most [`Trust::Unknown`].
    fn min_unknown(self) -> Trust {
        if self == Trust::Full { Trust::Unknown } else { self }
    }
}

/// Notes a FIN that ends at `end`, unless it is old. What the receiver had acknowledged before it came
/// can be one only in a connection of which a record said that both ends had closed.
fn note_fin(flow: &mut Flow, state: TcpState, side: Side, end: u32, before: &Stream) -> Trust {
    let told_again = state == TcpState::Closing && before.fin == 0 && end == before.acked;
    let is_new = before.acked == 0 || !before.is_known() && end != before.acked || is_after(end, before.acked);
    let repeated = before.fin == end;
    if !repeated && (flow.has(fin_acked(side)) || !is_new && !told_again) {
        return Trust::None;
    }
    flow.stream_mut(side).fin = end;
    Trust::Full
}

/// Notes whether `side` acknowledges the other end's FIN, that very one: the end that had
/// it believes it. Answers the state, and whether both FINs are acknowledged with this.
fn note_fin_ack(flow: &mut Flow, state: TcpState, side: Side, tcp: &Tcp) -> (TcpState, bool) {
    let closer = side.other();
    let fin = flow.stream(closer).fin;
    let mut state = state;
    if fin != 0 && tcp.flags.ack() && tcp.ack == fin && !flow.has(fin_acked(closer)) {
        flow.set(fin_acked(closer), true);
        if state.is_established()
            && let Step::Move(next) = step(state, closer, Segment::Fin)
        {
            state = next;
        }
    }
    let both = flow.has(Flow::CLIENT_FIN_ACKED) && flow.has(Flow::SERVER_FIN_ACKED);
    (state, both && state == TcpState::Closing)
}

/// The flag that says that the FIN of `side` is acknowledged.
const fn fin_acked(side: Side) -> u16 {
    match side {
        Side::Client => Flow::CLIENT_FIN_ACKED,
        Side::Server => Flow::SERVER_FIN_ACKED,
    }
}

/// Whether sequence number `a` is later than `b` (RFC 9293 section 3.4).
pub(crate) const fn is_after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}
