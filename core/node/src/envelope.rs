//! The envelope around every datagram between the two nodes: who, which life,
//! which term, in what order, and proof that it knows the password.
//!
//! ```text
//!  0  2  magic "HF"
//!  2  1  version (1)
//!  3  1  kind (1 hello, 2 mirror data, 3 mirror ack, 4 ask for another
//!        session, 5 introduction)
//!  4  4  zero
//!  8  8  boot of the sender: random per process start
//! 16  8  echo: the boot of the receiver this is meant for, 0 = not known yet
//! 24  8  term
//! 32  8  sequence: grows with every datagram of this boot, over all paths
//! 40 16  node id of the sender (its NSIP)
//! 56  8  fingerprint of the shared configuration
//! 64  n  payload
//!     16 tag: BLAKE3 keyed hash of all before it, first 16 bytes
//! ```
//! All numbers big-endian. A datagram counts as evidence of life only if it is
//! *fresh*: right tag, echo equal to our own boot, sequence not seen before.
//! So nothing captured in an earlier life of either node is worth replaying.

/// Bytes before the payload.
pub const HEADER_LEN: usize = 64;
/// Bytes after the payload.
pub const TAG_LEN: usize = 16;
/// How far a datagram may be overtaken by later ones of the same boot.
const REPLAY_WINDOW: u64 = 1024;
/// Former boots of the peer that are remembered so that they never come back.
const RETIRED_BOOTS: usize = 64;
const MAGIC: [u8; 2] = *b"HF";
const VERSION: u8 = 1;

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
    /// Nothing but the envelope: answers a genuine datagram of a life that does
    /// not know ours yet, so that it learns our boot.
    Introduction,
}

/// The envelope's own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the payload is.
    pub kind: MessageKind,
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
    /// The tag does not fit: another password, or a forgery.
    Authentication,
    /// From ourselves or from a node that is not the configured peer.
    Stranger,
    /// Genuine, but meant for another life of ours, or not yet for any. It
    /// deserves an answer that carries our boot, nothing more.
    NotForThisLife,
    /// A sequence number seen before or too old, or a former life of the peer.
    Replayed,
}

impl Refused {
    /// Every reason, in counter order.
    pub const ALL: [Refused; 6] = [
        Refused::Malformed,
        Refused::Version,
        Refused::Authentication,
        Refused::Stranger,
        Refused::NotForThisLife,
        Refused::Replayed,
    ];

    /// The counter's name.
    pub const fn label(self) -> &'static str {
        match self {
            Refused::Malformed => "malformed",
            Refused::Version => "version",
            Refused::Authentication => "authentication",
            Refused::Stranger => "stranger",
            Refused::NotForThisLife => "not_for_this_life",
            Refused::Replayed => "replayed",
        }
    }
}

/// Writes header, payload and tag into `out` (cleared first).
pub fn seal(key: &[u8; 32], header: &Header, payload: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.push(VERSION);
    out.push(match header.kind {
        MessageKind::Hello => 1,
        MessageKind::MirrorData => 2,
        MessageKind::MirrorAck => 3,
        MessageKind::AskSession => 4,
        MessageKind::Introduction => 5,
    });
    out.extend_from_slice(&[0; 4]);
    for word in [header.boot, header.echo, header.term, header.sequence] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&header.node.to_be_bytes());
    out.extend_from_slice(&header.fingerprint.to_be_bytes());
    debug_assert_eq!(out.len(), HEADER_LEN);
    out.extend_from_slice(payload);
    let tag = tag(key, out);
    out.extend_from_slice(&tag);
}

/// Checks form and tag; freshness is the [`Peer`]'s judgement.
pub fn open<'a>(key: &[u8; 32], datagram: &'a [u8]) -> Result<(Header, &'a [u8]), Refused> {
    let (signed, received) = datagram.split_last_chunk::<TAG_LEN>().ok_or(Refused::Malformed)?;
    let (head, payload) = head_of(signed)?;
    // A constant-time comparison: blake3::Hash's equality is, a slice's is not.
    if blake3::Hash::from_bytes(widen(tag(key, signed))) != blake3::Hash::from_bytes(widen(*received)) {
        return Err(Refused::Authentication);
    }
    Ok((header_of(head)?, payload))
}

/// A datagram whose tag nobody has looked at: what it claims, and no more.
pub fn claimed(datagram: &[u8]) -> Result<(Header, &[u8]), Refused> {
    let (signed, _) = datagram.split_last_chunk::<TAG_LEN>().ok_or(Refused::Malformed)?;
    let (head, payload) = head_of(signed)?;
    Ok((header_of(head)?, payload))
}

/// Header and payload of what has our magic and version.
fn head_of(signed: &[u8]) -> Result<(&[u8; HEADER_LEN], &[u8]), Refused> {
    let (head, payload) = signed.split_first_chunk::<HEADER_LEN>().ok_or(Refused::Malformed)?;
    if head[..2] != MAGIC {
        return Err(Refused::Malformed);
    }
    if head[2] != VERSION {
        return Err(Refused::Version);
    }
    Ok((head, payload))
}

fn header_of(head: &[u8; HEADER_LEN]) -> Result<Header, Refused> {
    let kind = match head[3] {
        1 => MessageKind::Hello,
        2 => MessageKind::MirrorData,
        3 => MessageKind::MirrorAck,
        4 => MessageKind::AskSession,
        5 => MessageKind::Introduction,
        _ => return Err(Refused::Malformed),
    };
    Ok(Header {
        kind,
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

    /// Whether this is the configured peer's number.
    pub fn is(&self, node: u128) -> bool {
        self.node == node
    }

    /// Judges an authentic header, and remembers it if it is fresh.
    pub fn accept(&mut self, header: &Header) -> Result<(), Refused> {
        if header.node != self.node || header.boot == self.own_boot || header.boot == 0 {
            return Err(Refused::Stranger);
        }
        if self.retired.contains(&header.boot) {
            return Err(Refused::Replayed);
        }
        if header.echo != self.own_boot {
            return Err(Refused::NotForThisLife);
        }
        if header.boot != self.boot {
            self.begin_life(header.boot);
        }
        self.remember(header.sequence)
    }

    fn begin_life(&mut self, boot: u64) {
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

fn tag(key: &[u8; 32], bytes: &[u8]) -> [u8; TAG_LEN] {
    let hash = blake3::keyed_hash(key, bytes);
    let mut tag = [0; TAG_LEN];
    tag.copy_from_slice(&hash.as_bytes()[..TAG_LEN]);
    tag
}

fn widen(tag: [u8; TAG_LEN]) -> [u8; 32] {
    let mut wide = [0; 32];
    wide[..TAG_LEN].copy_from_slice(&tag);
    wide
}

fn word(head: &[u8; HEADER_LEN], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    u64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn header(boot: u64, echo: u64, sequence: u64) -> Header {
        Header { kind: MessageKind::Hello, boot, echo, term: 3, sequence, node: 9, fingerprint: 5 }
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        let mut datagram = Vec::new();
        seal(&KEY, &header(1, 2, 3), b"payload", &mut datagram);
        assert_eq!(open(&KEY, &datagram), Ok((header(1, 2, 3), &b"payload"[..])));
        assert_eq!(open(&[8; 32], &datagram), Err(Refused::Authentication));
        for at in 0..datagram.len() {
            let mut bent = datagram.clone();
            bent[at] ^= 1;
            assert!(open(&KEY, &bent).is_err(), "byte {at}");
            assert!(open(&KEY, &datagram[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_replay_is_refused_and_overtaking_is_not() {
        let mut peer = Peer::new(2, 9);
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
        peer.accept(&header(1, 2, 1)).unwrap();
        assert_eq!(peer.accept(&header(4, 0, 1)), Err(Refused::NotForThisLife));
        assert_eq!(peer.boot(), 1, "an unproven life changes nothing");
        peer.accept(&header(4, 2, 1)).unwrap();
        assert_eq!(peer.accept(&header(1, 2, 99)), Err(Refused::Replayed));
        assert_eq!(peer.accept(&Header { node: 8, ..header(5, 2, 1) }), Err(Refused::Stranger));
    }
}
