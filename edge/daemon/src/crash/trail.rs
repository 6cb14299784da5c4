//! What the data thread did last, in rings of fixed size. A note costs a dozen
//! plain stores: no allocation, no lock, no system call.
//!
//! One thread writes. Whoever reads after a crash may find the entry torn that
//! was being written; every word is atomic, so that is all that can happen.

use holdfast_base::Instant;
use holdfast_engine::FlowKey;
use holdfast_mirror::Record;
use holdfast_node::{Level, PEER_ETHERTYPE};
use holdfast_wire::{Addr, Endpoint};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Words before the bytes of an entry: number, time, kind and lengths, detail.
const HEAD: usize = 4;

/// The longest entry of any ring, in bytes.
pub const LONGEST: usize = (64 - HEAD) * 8;

/// Bytes kept of a peer datagram: the envelope's header. The rest is encrypted.
const DATAGRAM_HEAD: usize = 64;

/// Bytes before the peer's datagram in a frame: Ethernet header, length.
const PEER_HEAD: usize = 14 + 2;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A line of the log; the detail is its level.
    Log = 1,
    /// Headers of a frame; the detail is the port.
    Frame,
    /// Headers of a peer datagram.
    Datagram,
    /// A mirrored flow: client, VIP, server, source; the detail is its stamp.
    Flow,
    /// The end of a mirrored flow: the client-side key; the detail is its stamp.
    Close,
    /// The end of a mirrored flow: the number that it was told under; the detail is its stamp.
    CloseNumber,
    /// A persistence session: client and VIP.
    Persistence,
    /// A server's health; the detail is 1 if it is up.
    Health,
    /// A line of the journal without its options.
    Journal,
    /// A digest; the detail is the number of flows.
    Digest,
    /// Buckets that need no record; the detail is their part.
    Kept,
    /// A panic's message.
    Panic,
}

impl Kind {
    const ALL: [Kind; 12] = [
        Kind::Log,
        Kind::Frame,
        Kind::Datagram,
        Kind::Flow,
        Kind::Close,
        Kind::CloseNumber,
        Kind::Persistence,
        Kind::Health,
        Kind::Journal,
        Kind::Digest,
        Kind::Kept,
        Kind::Panic,
    ];
}

/// What a turn of the data thread is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It waits.
    Asleep,
    /// The lease, before any input.
    Turn,
    /// Peer datagrams.
    Peer,
    /// Frames.
    Frames,
    /// Inputs of other threads.
    Inputs,
    /// Whatever is due, and sending.
    Timers,
}

impl Phase {
    /// In words.
    pub fn word(number: u64) -> &'static str {
        const WORDS: [&str; 6] = [
            "asleep",
            "at the beginning of a turn",
            "reading peer datagrams (the last one below)",
            "handling frames (the last one below)",
            "taking inputs of other threads",
            "doing what was due",
        ];
        usize::try_from(number).ok().and_then(|index| WORDS.get(index)).copied().unwrap_or("unknown")
    }
}

/// An entry as it is read.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Counts from 1.
    pub number: u64,
    /// Nanoseconds since the start.
    pub at: u64,
    /// `None`: torn.
    pub kind: Option<Kind>,
    /// Bytes of what it is about, of which these are the first.
    pub whole: usize,
    /// By kind.
    pub detail: u64,
    bytes: [u8; LONGEST],
    len: usize,
}

impl Entry {
    /// What was kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

struct Slot<const WORDS: usize>([AtomicU64; WORDS]);

/// The last `SLOTS` entries, each of `WORDS` words.
pub struct Ring<const SLOTS: usize, const WORDS: usize> {
    written: AtomicU64,
    slots: [Slot<WORDS>; SLOTS],
}

impl<const SLOTS: usize, const WORDS: usize> Ring<SLOTS, WORDS> {
    /// Nothing yet.
    pub const fn new() -> Self {
        const { assert!(WORDS > HEAD && (WORDS - HEAD) * 8 <= LONGEST && SLOTS > 0) };
        let slots = [const { Slot([const { AtomicU64::new(0) }; WORDS]) }; SLOTS];
        Ring { written: AtomicU64::new(0), slots }
    }

    /// Writes an entry over the oldest one; bytes beyond its room are left out.
    pub fn put(&self, at: u64, kind: Kind, detail: u64, whole: usize, bytes: &[u8]) {
        let number = self.written.load(Relaxed) + 1;
        let slot = &self.slots[(number as usize - 1) % SLOTS].0;
        let bytes = &bytes[..bytes.len().min((WORDS - HEAD) * 8)];
        let about = kind as u64 | (bytes.len() as u64) << 8 | (whole as u64) << 32;
        for (word, value) in slot.iter().zip([number, at, about, detail]) {
            word.store(value, Relaxed);
        }
        let (chunks, rest) = bytes.as_chunks::<8>();
        for (word, chunk) in slot[HEAD..].iter().zip(chunks) {
            word.store(u64::from_le_bytes(*chunk), Relaxed);
        }
        if let Some(word) = slot.get(HEAD + chunks.len()) {
            // Shorter than the call that copies so few bytes.
            word.store(rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)), Relaxed);
        }
        self.written.store(number, Relaxed);
    }

    /// The entries that are left, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let written = self.written.load(Relaxed);
        (written.saturating_sub(SLOTS as u64)..written).map(|index| self.entry(index))
    }

    fn entry(&self, index: u64) -> Entry {
        let slot = &self.slots[index as usize % SLOTS].0;
        let word = |at: usize| slot[at].load(Relaxed);
        let about = word(2);
        let mut bytes = [0; LONGEST];
        for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&slot[HEAD..]) {
            *chunk = word.load(Relaxed).to_le_bytes();
        }
        Entry {
            number: word(0),
            at: word(1),
            kind: Kind::ALL.into_iter().find(|kind| *kind as u64 == about & 0xff),
            whole: (about >> 32) as usize,
            detail: word(3),
            bytes,
            len: ((about >> 8 & 0xff_ffff) as usize).min((WORDS - HEAD) * 8),
        }
    }
}

/// All rings of the process. Frames, datagrams, records and lines have one each:
/// a flood of the one leaves the others readable.
pub struct Trail {
    /// What the data thread is at ([`Phase`]).
    pub phase: AtomicU64,
    /// Lines of the log: roles, commands, servers.
    pub lines: Ring<64, 32>,
    /// Records of the peer, as they are applied.
    pub records: Ring<128, 16>,
    /// Datagrams of the peer.
    pub datagrams: Ring<128, 16>,
    /// Frames of the data ports.
    pub frames: Ring<256, 16>,
    /// The panic, if it was one.
    pub last_words: Ring<1, 64>,
}

impl Trail {
    /// Nothing yet.
    pub const fn new() -> Trail {
        Trail {
            phase: AtomicU64::new(0),
            lines: Ring::new(),
            records: Ring::new(),
            datagrams: Ring::new(),
            frames: Ring::new(),
            last_words: Ring::new(),
        }
    }

    /// The data thread goes on to something else.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u64, Relaxed);
    }

    /// A frame is handled next: its headers, nothing that its ends say to each other.
    pub fn frame(&self, now: Instant, port: u8, frame: &[u8]) {
        let head = &frame[..header_len(frame)];
        if frame.get(12..14) == Some(&PEER_ETHERTYPE.to_be_bytes()[..]) {
            self.datagram(now, frame.get(PEER_HEAD..).unwrap_or_default());
        }
        self.frames.put(now.as_nanos(), Kind::Frame, u64::from(port), frame.len(), head);
    }

    /// A datagram of the peer is handled next: its headers, no record of it.
    pub fn datagram(&self, now: Instant, datagram: &[u8]) {
        let head = &datagram[..datagram.len().min(DATAGRAM_HEAD)];
        self.datagrams.put(now.as_nanos(), Kind::Datagram, 0, datagram.len(), head);
    }

    /// A line goes to the log.
    pub fn line(&self, now: Instant, level: Level, text: &str) {
        self.lines.put(now.as_nanos(), Kind::Log, level as u64, text.len(), text.as_bytes());
    }

    /// A record of the peer is applied next.
    pub fn record(&self, now: Instant, record: &Record) {
        let at = now.as_nanos();
        let mut bytes = [0; 4 * ENDPOINT];
        let mut write = |index: usize, endpoint: Endpoint| {
            bytes[index * ENDPOINT..][..16].copy_from_slice(&endpoint.addr.0);
            bytes[index * ENDPOINT + 16..][..2].copy_from_slice(&endpoint.port.to_be_bytes());
        };
        let (kind, detail, ends) = match record {
            Record::Flow(flow) => {
                let ends = [flow.client, flow.vip, flow.server, flow.source];
                ends.into_iter().enumerate().for_each(|(index, end)| write(index, end));
                (Kind::Flow, flow.stamp, 4)
            }
            Record::Close(close) => {
                let FlowKey { src, dst, .. } = close.key;
                write(0, src);
                write(1, dst);
                (Kind::Close, close.stamp, 2)
            }
            Record::CloseNumber { number, stamp } => {
                bytes[..4].copy_from_slice(&number.to_be_bytes());
                return self.records.put(at, Kind::CloseNumber, *stamp, 4, &bytes[..4]);
            }
            Record::Persistence(session) => {
                write(0, Endpoint { addr: session.of.source().unwrap_or(Addr::UNSPECIFIED), port: 0 });
                write(1, session.vip);
                let called = session.of.destination();
                called.into_iter().for_each(|addr| write(2, Endpoint { addr, port: 0 }));
                (Kind::Persistence, session.stamp, 2 + usize::from(called.is_some()))
            }
            Record::Health(health) => {
                write(0, health.server);
                (Kind::Health, u64::from(health.up), 1)
            }
            Record::Journal(line) => {
                // Passwords are options: what follows the first one is left out.
                let text = line.text();
                let shown = text.split(" -").next().unwrap_or_default();
                return self.records.put(at, Kind::Journal, 0, text.len(), shown.as_bytes());
            }
            Record::BulkEnd(digest) => (Kind::Digest, digest.flows, 0),
            Record::Kept(kept) => (Kind::Kept, kept.part.into(), 0),
        };
        self.records.put(at, kind, detail, ends * ENDPOINT, &bytes[..ends * ENDPOINT]);
    }
}

/// Bytes of an endpoint in an entry: address, port.
pub const ENDPOINT: usize = 18;

/// The length of the headers in a frame: up to the first byte that an end says
/// to the other. What is not understood counts as far as it is surely a header.
fn header_len(frame: &[u8]) -> usize {
    const ETHERNET: usize = 14;
    let Some((head, _)) = frame.split_first_chunk::<{ ETHERNET + 10 }>() else { return frame.len() };
    match (head[12], head[13]) {
        (0x08, 0x00) => {
            let network = usize::from(head[ETHERNET] & 15) * 4;
            // A later fragment begins in the middle of what is said.
            let later = u16::from_be_bytes([head[ETHERNET + 6], head[ETHERNET + 7]]) & 0x1fff != 0;
            let transport = if later { 0 } else { transport_len(head[ETHERNET + 9], frame, ETHERNET + network) };
            frame.len().min(ETHERNET + network + transport)
        }
        (0x86, 0xdd) => {
            let transport = transport_len(head[ETHERNET + 6], frame, ETHERNET + 40);
            frame.len().min(ETHERNET + 40 + transport)
        }
        (0x08, 0x06) => frame.len().min(ETHERNET + 28),
        // Of the peer: its datagrams are noted for themselves.
        (0x88, 0xb5) => PEER_HEAD,
        _ => ETHERNET,
    }
}

/// The length of the transport header that begins at `at`.
fn transport_len(proto: u8, frame: &[u8], at: usize) -> usize {
    let first = || frame.get(at).copied().unwrap_or(0);
    match proto {
        6 => frame.get(at + 12).map_or(0, |offset| usize::from(offset >> 4) * 4),
        17 => 8,
        // An error: the headers of the packet that it is about follow.
        1 if matches!(first(), 3 | 5 | 11 | 12) => 8 + 20 + 8,
        58 if first() < 128 => 8 + 40 + 8,
        // Solicitations and advertisements of neighbours.
        58 if matches!(first(), 135 | 136) => 24,
        1 | 58 => 8,
        _ => 0,
    }
}
