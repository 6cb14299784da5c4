//! The way to the peer: every path, one key, one order of sequence numbers.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::{Offload, OwnedFrame, Port, PortId};
use holdfast_ha::PathId;

use crate::effect::Effect;
use crate::envelope::{self, Header, MessageKind, Peer, Refused};

/// Ethernet type of peer datagrams on data ports (IEEE 802 local experimental 1).
pub const PEER_ETHERTYPE: u16 = 0x88b5;
/// The peer link: UDP between the NSIPs.
pub(crate) const LINK: PathId = PathId(0);
/// Where peer datagrams go on data ports: a group address of our own
/// (locally administered), so that a switch floods it and no host's stack minds.
const PEER_GROUP: [u8; 6] = [0x03, b'H', b'F', 0, 0, 1];
const ETHERNET_LEN: usize = 14;
/// Shortest frame on Ethernet, without its check sequence.
const MIN_FRAME: usize = 60;

/// What every envelope says besides its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letterhead {
    pub term: u64,
    pub fingerprint: u64,
}

/// A datagram that counts: authentic, fresh, from the peer's present life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter<'a> {
    pub header: Header,
    pub payload: &'a [u8],
}

/// All paths to the peer.
#[derive(Debug)]
pub(crate) struct Channel {
    node: u128,
    boot: u64,
    key: Option<[u8; 32]>,
    /// The key before a change of password, while the peer still uses it.
    former_key: Option<[u8; 32]>,
    peer: Peer,
    sequence: u64,
    ports: Vec<Port>,
    heard: Vec<(PathId, Instant)>,
    refused: [u64; Refused::ALL.len()],
    out: Vec<Outgoing>,
}

/// A sealed datagram on its way out.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Link(Effect),
    Frame(OwnedFrame),
}

impl Channel {
    pub fn new(node: u128, peer: u128, boot: u64) -> Channel {
        Channel {
            node,
            boot,
            key: None,
            former_key: None,
            peer: Peer::new(boot, peer),
            sequence: 0,
            ports: Vec::new(),
            heard: Vec::new(),
            refused: [0; Refused::ALL.len()],
            out: Vec::new(),
        }
    }

    /// A key was derived. If the one before has ever been the peer's too, it
    /// stays good until the peer is heard under the other: so the password of a
    /// running pair is changed on one node after the other without a gap.
    pub fn set_key(&mut self, key: [u8; 32]) {
        let shared = self.former_key.or(self.key).filter(|_| self.peer.boot() != 0);
        self.former_key = shared.filter(|former| *former != key);
        self.key = Some(key);
    }

    /// Whether the peer does not use the newest key yet.
    pub fn is_rekeying(&self) -> bool {
        self.former_key.is_some()
    }

    /// This node or its peer has another address. The order of what this life
    /// has sent goes on: a peer that knows it would take a fresh start for a replay.
    pub fn readdress(&mut self, node: u128, peer: u128) {
        self.node = node;
        self.key = None;
        self.former_key = None;
        if !self.peer.is(peer) {
            self.peer = Peer::new(self.boot, peer);
            self.heard.clear();
        }
    }

    /// Whether anything can be sent or heard.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub fn set_ports(&mut self, ports: &[Port]) {
        self.ports = ports.to_vec();
    }

    /// Opens a datagram that came by `path`. A genuine one that does not know
    /// our life yet is [`Stray::Introduce`]: it deserves an introduction, nothing more.
    pub fn receive<'a>(&mut self, now: Instant, path: PathId, datagram: &'a [u8]) -> Result<Letter<'a>, Stray> {
        let key = self.key.ok_or(Stray::Silent)?;
        let opened = match (envelope::open(&key, datagram), self.former_key) {
            (Err(Refused::Authentication), Some(former)) => envelope::open(&former, datagram),
            (opened @ Ok(_), Some(_)) => {
                self.former_key = None;
                opened
            }
            (opened, _) => opened,
        };
        let opened = opened.and_then(|(header, payload)| {
            let fresh = self.peer.accept(&header);
            match fresh {
                Ok(()) => Ok(Ok(Letter { header, payload })),
                Err(Refused::NotForThisLife) => Ok(Err(header.boot)),
                Err(refused) => Err(refused),
            }
        });
        match opened {
            Ok(Ok(letter)) => {
                self.note_heard(now, path);
                Ok(letter)
            }
            Ok(Err(boot)) => {
                self.count(Refused::NotForThisLife);
                Err(Stray::Introduce { boot })
            }
            Err(refused) => Err(if self.count(refused) { Stray::Report(refused) } else { Stray::Silent }),
        }
    }

    /// The payload of a refused datagram that claims to be a hello of our peer.
    pub fn claimed_hello<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        let (header, payload) = envelope::claimed(datagram).ok()?;
        (header.kind == MessageKind::Hello && self.peer.is(header.node)).then_some(payload)
    }

    /// Seals `payload` and queues it for `path`, or for every path.
    pub fn send(&mut self, path: Option<PathId>, kind: MessageKind, head: Letterhead, payload: &[u8]) {
        let echo = self.peer.boot();
        self.send_echoing(path, kind, head, payload, echo);
    }

    /// As [`Channel::send`], but meant for another life of the peer than the
    /// proven one: how two nodes that do not know each other yet get acquainted.
    pub fn send_echoing(
        &mut self,
        path: Option<PathId>,
        kind: MessageKind,
        head: Letterhead,
        payload: &[u8],
        echo: u64,
    ) {
        match path {
            Some(path) => self.send_one(path, kind, head, payload, echo),
            None => {
                self.send_one(LINK, kind, head, payload, echo);
                for index in 0..self.ports.len() {
                    self.send_one(path_of(self.ports[index].id), kind, head, payload, echo);
                }
            }
        }
    }

    /// The path for the mirror stream: the peer link while it lives, else the
    /// path heard most recently.
    pub fn mirror_path(&self, now: Instant, patience: Duration) -> PathId {
        let heard = |path: PathId| self.heard.iter().find(|&&(other, _)| other == path).map(|&(_, at)| at);
        match heard(LINK) {
            Some(at) if now.since(at) < patience => LINK,
            Some(_) | None => self.heard.iter().max_by_key(|&&(_, at)| at).map_or(LINK, |&(path, _)| path),
        }
    }

    /// The next sealed datagram.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        core::mem::take(&mut self.out)
    }

    /// When something fresh last came by any path.
    pub fn last_heard(&self) -> Option<Instant> {
        self.heard.iter().map(|&(_, at)| at).max()
    }

    /// When something fresh last came by this data port.
    pub fn last_heard_on(&self, port: PortId) -> Option<Instant> {
        let path = path_of(port);
        self.heard.iter().find(|&&(other, _)| other == path).map(|&(_, at)| at)
    }

    /// Datagrams refused, by reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Refused::ALL.iter().zip(self.refused).map(|(reason, count)| (reason.label(), count))
    }

    fn send_one(&mut self, path: PathId, kind: MessageKind, head: Letterhead, payload: &[u8], echo: u64) {
        let Some(key) = self.key else { return };
        if let Some(former) = self.former_key {
            // The peer's present key first; a hello under the other key asks it to follow.
            self.seal_one(&former, path, kind, head, payload, echo);
            if kind != MessageKind::Hello {
                return;
            }
        }
        self.seal_one(&key, path, kind, head, payload, echo);
    }

    fn seal_one(
        &mut self,
        key: &[u8; 32],
        path: PathId,
        kind: MessageKind,
        head: Letterhead,
        payload: &[u8],
        echo: u64,
    ) {
        self.sequence += 1;
        let header = Header {
            kind,
            boot: self.boot,
            echo,
            term: head.term,
            sequence: self.sequence,
            node: self.node,
            fingerprint: head.fingerprint,
        };
        let mut sealed = Vec::with_capacity(ETHERNET_LEN + envelope::HEADER_LEN + payload.len() + envelope::TAG_LEN);
        envelope::seal(key, &header, payload, &mut sealed);
        if path == LINK {
            self.out.push(Outgoing::Link(Effect::PeerDatagram(sealed)));
            return;
        }
        let Some(port) = self.ports.iter().find(|port| path_of(port.id) == path) else { return };
        let mut bytes = Vec::with_capacity(ETHERNET_LEN + 2 + sealed.len());
        bytes.extend_from_slice(&PEER_GROUP);
        bytes.extend_from_slice(&port.mac.0);
        bytes.extend_from_slice(&PEER_ETHERTYPE.to_be_bytes());
        // Ethernet pads short frames, so the length must be in the frame itself.
        bytes.extend_from_slice(&(sealed.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&sealed);
        bytes.resize(bytes.len().max(MIN_FRAME), 0);
        self.out.push(Outgoing::Frame(OwnedFrame { port: port.id, offload: Offload::default(), bytes }));
    }

    fn note_heard(&mut self, now: Instant, path: PathId) {
        match self.heard.iter_mut().find(|(other, _)| *other == path) {
            Some((_, at)) => *at = now,
            None => self.heard.push((path, now)),
        }
    }

    /// Counts a refusal; true for the first of its kind, which is worth a log line.
    fn count(&mut self, refused: Refused) -> bool {
        let index = Refused::ALL.iter().position(|&other| other == refused).unwrap_or_default();
        self.refused[index] += 1;
        self.refused[index] == 1
    }
}

/// A datagram that does not count, and what it deserves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stray {
    /// Nothing.
    Silent,
    /// A log line: the first of its kind.
    Report(Refused),
    /// A hello that carries our boot and echoes this one.
    Introduce { boot: u64 },
}

/// The sealed datagram inside a frame of [`PEER_ETHERTYPE`], if it is one.
pub(crate) fn datagram_in(frame: &[u8]) -> Option<&[u8]> {
    let (head, rest) = frame.split_first_chunk::<ETHERNET_LEN>()?;
    if head[12..14] != PEER_ETHERTYPE.to_be_bytes() {
        return None;
    }
    let (len, rest) = rest.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

/// The path through a data port.
pub(crate) fn path_of(port: PortId) -> PathId {
    PathId(port.0.saturating_add(1))
}
