//! The envelope around every datagram between the two nodes: who, which life,
//! which term, in what order, and under which session's key.
//!
//! ```text
//!  0  2  magic "HF"
//!  2  1  version (2)
//!  3  1  kind (1 hello, 2 mirror data, 3 mirror ack, 4 ask for another
//!        session, 5 confirmation, 6 step of a handshake)
//!  4  4  number of the session, 0 = none: a step in clear, without a tag
//!  8  8  boot of the sender: random per process start
//! 16  8  echo: the boot of the receiver this is meant for, 0 = not known yet
//! 24  8  term
//! 32  8  sequence: grows with every datagram of this boot, over all paths
//! 40 16  node id of the sender (its NSIP)
//! 56  8  fingerprint of the shared configuration
//! 64  n  payload: encrypted; with `-secure OFF` in clear
//!     16 tag: ChaCha20-Poly1305 over header and payload, nonce = sequence
//! ```
//! All numbers big-endian. A datagram counts as evidence of life only if it is
//! *fresh*: closed under a session that was made between our life and the
//! peer's, sequence not seen before. So nothing captured is worth replaying.

/// Bytes before the payload.
pub const HEADER_LEN: usize = 64;
/// Bytes after the payload.
pub const TAG_LEN: usize = 16;
/// How far a datagram may be overtaken by later ones of the same boot.
const REPLAY_WINDOW: u64 = 1024;
/// Former boots of the peer that are remembered so that they never come back.
const RETIRED_BOOTS: usize = 64;
const MAGIC: [u8; 2] = *b"HF";
const VERSION: u8 = 2;

/// What the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// A hello of the election (`holdfast-ha`).
    Hello,
    /// A datagram of the mirror stream.
    MirrorData,
    /// An acknowledgement of the mirror stream.
    MirrorAck,
    /// The receiver of the mirror stream asks for another session: the digests
    /// differ, a record could not be used, or there is none. Payload: the session, 4
    /// bytes; 0: none.
    AskSession,
    /// Nothing but the envelope: proves to the peer that we have the session's key.
    Confirmation,
    /// A step of a handshake ([`crate::secure`]).
    Handshake,
}

impl MessageKind {
    /// By its number on the wire.
    pub(crate) fn of(number: u8) -> Option<MessageKind> {
        match number {
            1 => Some(MessageKind::Hello),
            2 => Some(MessageKind::MirrorData),
            3 => Some(MessageKind::MirrorAck),
            4 => Some(MessageKind::AskSession),
            5 => Some(MessageKind::Confirmation),
            6 => Some(MessageKind::Handshake),
            _ => None,
        }
    }
}

/// The envelope's own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: MessageKind,
    /// The session whose key closes it; 0: none.
    pub session: u32,
    /// Sender's life.
    pub boot: u64,
    /// Receiver's life as the sender knows it, 0 = unknown.
    pub echo: u64,
    /// Sender's term.
    pub term: u64,
    /// Order within the sender's life.
    pub sequence: u64,
    /// Sender's NSIP.
    pub node: u128,
    /// Fingerprint of the sender's shared configuration.
    pub fingerprint: u64,
}

/// Why a datagram is not evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too short, wrong magic or an unknown kind.
    Malformed,
    /// A version this build does not speak.
    Version,
    /// The tag or the proof does not fit: another password, or a forgery.
    Authentication,
    /// From ourselves or from a node that is not the configured peer.
    Stranger,
    /// Closed under a session that this life does not have.
    Unkeyed,
    /// A sequence number seen before or too old, or a former life of the peer.
    Replayed,
    /// A step of a handshake whose sender does not show that it hears us.
    Cookie,
    /// A step of a handshake beyond what may be spent on its path.
    Busy,
    /// A step of a handshake that answers none of ours.
    Stale,
}

impl Refused {
    /// Every reason, in counter order.
    pub const ALL: [Refused; 9] = [
        Refused::Malformed,
        Refused::Version,
        Refused::Authentication,
        Refused::Stranger,
        Refused::Unkeyed,
        Refused::Replayed,
        Refused::Cookie,
        Refused::Busy,
        Refused::Stale,
    ];

    /// The counter's name.
    pub const fn label(self) -> &'static str {
        match self {
            Refused::Malformed => "malformed",
            Refused::Version => "version",
            Refused::Authentication => "authentication",
            Refused::Stranger => "stranger",
            Refused::Unkeyed => "unkeyed",
            Refused::Replayed => "replayed",
            Refused::Cookie => "cookie",
            Refused::Busy => "busy",
            Refused::Stale => "stale",
        }
    }
}

/// Writes the header into `out` (cleared first).
pub fn write_header(header: &Header, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.push(match header.kind {
        MessageKind::Hello => 1,
        MessageKind::MirrorData => 2,
        MessageKind::MirrorAck => 3,
        MessageKind::AskSession => 4,
        MessageKind::Confirmation => 5,
        MessageKind::Handshake => 6,
    });
    out.extend_from_slice(&header.session.to_be_bytes());
    for word in [header.boot, header.echo, header.term, header.sequence] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&header.node.to_be_bytes());
    out.extend_from_slice(&header.fingerprint.to_be_bytes());
    debug_assert_eq!(out.len(), HEADER_LEN);
}

/// What a datagram claims, and what follows its header. Nothing of it is proven.
pub fn claimed(datagram: &[u8]) -> Result<(Header, &[u8]), Refused> {
    let (head, rest) = datagram.split_first_chunk::<HEADER_LEN>().ok_or(Refused::Malformed)?;
    if head[..2] != MAGIC {
        return Err(Refused::Malformed);
    }
    if head[2] != VERSION {
        return Err(Refused::Version);
    }
    Ok((header_of(head)?, rest))
}

fn header_of(head: &[u8; HEADER_LEN]) -> Result<Header, Refused> {
    let kind = MessageKind::of(head[3]).ok_or(Refused::Malformed)?;
    Ok(Header {
        kind,
        session: u32::from_be_bytes([head[4], head[5], head[6], head[7]]),
        boot: word(head, 8),
        echo: word(head, 16),
        term: word(head, 24),
        sequence: word(head, 32),
        node: u128::from(word(head, 40)) << 64 | u128::from(word(head, 48)),
        fingerprint: word(head, 56),
    })
}

/// What we know of the peer's life: which boot it is in, and what we have heard of it.
#[derive(Debug)]
pub struct Peer {
    own_boot: u64,
    node: u128,
    boot: u64,
    newest: u64,
    seen: [u64; (REPLAY_WINDOW / 64) as usize],
    retired: Vec<u64>,
}

impl Peer {
    /// Nothing heard yet of the node with id `node`.
    pub fn new(own_boot: u64, node: u128) -> Peer {
        Peer { own_boot, node, boot: 0, newest: 0, seen: [0; (REPLAY_WINDOW / 64) as usize], retired: Vec::new() }
    }

    /// The peer's present life, 0 while unknown: what our envelopes echo.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// The life that this is the present one of.
    pub fn own_boot(&self) -> u64 {
        self.own_boot
    }

    /// Whether the sender is the configured peer, in a life that has not ended.
    pub fn may_be(&self, header: &Header) -> Result<(), Refused> {
        if header.node != self.node || header.boot == self.own_boot || header.boot == 0 {
            return Err(Refused::Stranger);
        }
        if self.retired.contains(&header.boot) {
            return Err(Refused::Replayed);
        }
        Ok(())
    }

    /// Judges an authentic header of the present life, and remembers it if it is fresh.
    pub fn accept(&mut self, header: &Header) -> Result<(), Refused> {
        self.may_be(header)?;
        if header.boot != self.boot || header.echo != self.own_boot {
            return Err(Refused::Unkeyed);
        }
        self.remember(header.sequence)
    }

    /// A handshake has proven this life of the peer; the one before never comes back.
    pub fn begin_life(&mut self, boot: u64) {
        if boot == self.boot {
            return;
        }
        if self.boot != 0 {
            if self.retired.len() == RETIRED_BOOTS {
                self.retired.remove(0);
            }
            self.retired.push(self.boot);
        }
        self.boot = boot;
        self.newest = 0;
        self.seen = [0; (REPLAY_WINDOW / 64) as usize];
    }

    /// Sets the sequence's bit in the sliding window; refuses a second time.
    fn remember(&mut self, sequence: u64) -> Result<(), Refused> {
        if sequence.saturating_add(REPLAY_WINDOW) <= self.newest {
            return Err(Refused::Replayed);
        }
        if sequence > self.newest {
            let advance = sequence - self.newest;
            for step in 1..=advance.min(REPLAY_WINDOW) {
                self.clear_bit(self.newest + step);
            }
            self.newest = sequence;
        }
        let (index, bit) = ((sequence % REPLAY_WINDOW / 64) as usize, 1u64 << (sequence % 64));
        if self.seen[index] & bit != 0 {
            return Err(Refused::Replayed);
        }
        self.seen[index] |= bit;
        Ok(())
    }

    fn clear_bit(&mut self, sequence: u64) {
        self.seen[(sequence % REPLAY_WINDOW / 64) as usize] &= !(1u64 << (sequence % 64));
    }
}

fn word(head: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(boot: u64, echo: u64, sequence: u64) -> Header {
        Header { kind: MessageKind::Hello, session: 77, boot, echo, term: 3, sequence, node: 9, fingerprint: 5 }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let mut datagram = Vec::new();
        write_header(&header(1, 2, 3), &mut datagram);
        datagram.extend_from_slice(b"rest");
        assert_eq!(claimed(&datagram), Ok((header(1, 2, 3), &b"rest"[..])));
        assert_eq!(claimed(&datagram[..HEADER_LEN - 1]), Err(Refused::Malformed));
        for (at, byte, why) in [(0, 0, Refused::Malformed), (2, 1, Refused::Version), (3, 0, Refused::Malformed)] {
            let mut bent = datagram.clone();
            bent[at] = byte;
            assert_eq!(claimed(&bent), Err(why), "byte {at}");
        }
    }

    #[test]
    fn a_replay_is_refused_and_overtaking_is_not() {
        let mut peer = Peer::new(2, 9);
        peer.begin_life(1);
        assert_eq!(peer.accept(&header(1, 2, 10)), Ok(()));
        assert_eq!(peer.accept(&header(1, 2, 8)), Ok(()));
        assert_eq!(peer.accept(&header(1, 2, 8)), Err(Refused::Replayed));
        assert_eq!(peer.accept(&header(1, 2, 2000)), Ok(()));
        assert_eq!(peer.accept(&header(1, 2, 10)), Err(Refused::Replayed));
        assert_eq!(peer.accept(&header(1, 2, 1999)), Ok(()));
    }

    #[test]
    fn a_former_life_never_comes_back() {
        let mut peer = Peer::new(2, 9);
        peer.begin_life(1);
        peer.accept(&header(1, 2, 1)).unwrap();
        assert_eq!(peer.accept(&header(4, 2, 1)), Err(Refused::Unkeyed));
        assert_eq!(peer.boot(), 1, "an unproven life changes nothing");
        peer.begin_life(4);
        peer.accept(&header(4, 2, 1)).unwrap();
        assert_eq!(peer.accept(&header(1, 2, 99)), Err(Refused::Replayed));
        assert_eq!(peer.may_be(&header(1, 0, 0)), Err(Refused::Replayed));
        assert_eq!(peer.accept(&Header { node: 8, ..header(5, 2, 1) }), Err(Refused::Stranger));
    }
}
