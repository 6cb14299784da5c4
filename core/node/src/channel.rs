//! The way to the peer: every path, one session, one order of sequence numbers.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::{Offload, OwnedFrame, Port, PortId};
use holdfast_ha::{PathId, Role};

use crate::effect::Effect;
use crate::envelope::{self, Header, MessageKind, Refused};
use crate::secure::{self, Opened, Secure, Told};

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
/// Room for the largest payload in its envelope.
const FULL_DATAGRAM: usize = 1400;

/// What every envelope says besides its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letterhead {
    pub term: u64,
    pub fingerprint: u64,
}

/// A datagram that counts: authentic, fresh, from the peer's present life.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub header: Header,
    pub payload: Vec<u8>,
}

/// What came of a datagram.
#[derive(Clone, Debug)]
pub(crate) enum Received {
    /// Something for the node.
    Letter(Letter),
    /// Unproven: the peer, or somebody in its name, says that it has this role.
    Claim(Role),
    /// Nothing for the node.
    Nothing,
    /// Refused for a reason that is worth a log line: the first of its kind.
    Report(Refused),
}

/// All paths to the peer.
pub(crate) struct Channel {
    secure: Secure,
    sequence: u64,
    ports: Vec<Port>,
    heard: Vec<(PathId, Instant)>,
    refused: [u64; Refused::ALL.len()],
    out: Vec<Outgoing>,
}

/// A closed datagram on its way out.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Link(Effect),
    Frame(OwnedFrame),
}

impl Channel {
    pub fn new(node: u128, peer: u128, boot: u64, seed: [u8; 32]) -> Channel {
        Channel {
            secure: Secure::new(node, peer, boot, seed),
            sequence: 0,
            ports: Vec::new(),
            heard: Vec::new(),
            refused: [0; Refused::ALL.len()],
            out: Vec::new(),
        }
    }

    /// The rpcNode passwords were stretched.
    pub fn set_key(&mut self, now: Instant, key: [u8; 32]) {
        self.secure.set_password(now, key);
    }

    /// An rpcNode password is empty: nobody is the peer, as when the two nodes' passwords differ.
    pub fn lack_key(&mut self, now: Instant) {
        self.secure.lack_password(now);
    }

    /// What follows from the configuration: `-secure`, and how long silence is normal.
    pub fn set_manner(&mut self, now: Instant, encrypt: bool, patience: Duration) {
        self.secure.set_encrypt(now, encrypt);
        self.secure.set_patience(patience);
    }

    /// The role that a peer without a session is told, unproven.
    pub fn set_role(&mut self, role: Role) {
        self.secure.set_role(match role {
            Role::Init => 0,
            Role::Secondary => 1,
            Role::Primary => 2,
            Role::Draining => 3,
        });
    }

    /// This node or its peer has another address. The order of what this life
    /// has sent goes on: a peer that knows it would take a fresh start for a replay.
    pub fn readdress(&mut self, node: u128, peer: u128) {
        if self.secure.readdress(node, peer) {
            self.heard.clear();
        }
    }

    /// Whether anything can be sent or heard.
    pub fn has_key(&self) -> bool {
        self.secure.has_password()
    }

    pub fn set_ports(&mut self, ports: &[Port]) {
        self.ports = ports.to_vec();
    }

    /// The session with the peer, as operators see it.
    pub fn secure(&self) -> &Secure {
        &self.secure
    }

    /// Random bytes that nobody can foretell.
    pub fn draw<const N: usize>(&mut self) -> [u8; N] {
        self.secure.draw()
    }

    /// What the log should hear of the sessions.
    pub fn poll_told(&mut self) -> Option<Told> {
        self.secure.poll_told()
    }

    /// Hails, keys that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.secure.handle_timeout(now);
        self.send_steps();
    }

    /// When something is due, as of `now`.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        self.secure.poll_timeout(now)
    }

    /// Opens a datagram that came by `path`.
    pub fn receive(&mut self, now: Instant, path: PathId, datagram: &[u8]) -> Received {
        if !self.secure.has_password() {
            return Received::Nothing;
        }
        let opened = self.secure.receive(now, path, datagram);
        self.send_steps();
        match opened {
            Ok(Opened::Letter(header, payload)) => {
                self.note_heard(now, path);
                Received::Letter(Letter { header, payload })
            }
            Ok(Opened::Claim(0)) => Received::Claim(Role::Init),
            Ok(Opened::Claim(2)) => Received::Claim(Role::Primary),
            Ok(Opened::Claim(3)) => Received::Claim(Role::Draining),
            Ok(Opened::Claim(_)) => Received::Claim(Role::Secondary),
            Ok(Opened::Step) => Received::Nothing,
            Err(refused) if self.count(refused) => Received::Report(refused),
            Err(_) => Received::Nothing,
        }
    }

    /// Closes `payload` and queues it for `path`, or for every path.
    pub fn send(&mut self, path: Option<PathId>, kind: MessageKind, head: Letterhead, payload: &[u8]) {
        self.send_on(path, |channel, datagram| channel.close(kind, head, payload, false, datagram));
    }

    /// The steps of handshakes leave in the order in which they were made.
    fn send_steps(&mut self) {
        while let Some(step) = self.secure.poll_out() {
            let head = Letterhead { term: 0, fingerprint: 0 };
            match step {
                secure::Outgoing::Closed { path, kind, payload } => self.send(path, kind, head, &payload),
                secure::Outgoing::Confirm => self.send_on(None, |channel, datagram| {
                    channel.close(MessageKind::Confirmation, head, &[], true, datagram)
                }),
                secure::Outgoing::Clear { path, echo, payload } => {
                    for path in self.paths(path) {
                        let mut datagram = Vec::with_capacity(envelope::HEADER_LEN + payload.len());
                        self.secure.clear_datagram(path, echo, &payload, &mut datagram);
                        self.put(path, datagram);
                    }
                }
            }
        }
    }

    fn paths(&self, path: Option<PathId>) -> Vec<PathId> {
        match path {
            Some(path) => vec![path],
            None => core::iter::once(LINK).chain(self.ports.iter().map(|port| path_of(port.id))).collect(),
        }
    }

    /// Every copy is closed for itself: a sequence number is used once.
    fn send_on(&mut self, path: Option<PathId>, mut close: impl FnMut(&mut Channel, &mut Vec<u8>) -> bool) {
        for path in self.paths(path) {
            let mut datagram = Vec::with_capacity(FULL_DATAGRAM);
            if close(self, &mut datagram) {
                self.put(path, datagram);
            }
        }
    }

    /// Any payload, closed; `None` without a session, or for an unknown kind.
    #[cfg(feature = "sabotage")]
    pub fn close_any(&mut self, kind: u8, head: Letterhead, payload: &[u8]) -> Option<Vec<u8>> {
        let mut datagram = Vec::new();
        self.close(MessageKind::of(kind)?, head, payload, false, &mut datagram).then_some(datagram)
    }

    fn close(
        &mut self,
        kind: MessageKind,
        head: Letterhead,
        payload: &[u8],
        confirm: bool,
        datagram: &mut Vec<u8>,
    ) -> bool {
        self.sequence += 1;
        let Letterhead { term, fingerprint } = head;
        // Session, lives and node are filled in where they are known.
        let header = Header { kind, session: 0, boot: 0, echo: 0, term, sequence: self.sequence, node: 0, fingerprint };
        self.secure.close(header, payload, confirm, datagram)
    }

    /// Queues a datagram as it is.
    fn put(&mut self, path: PathId, datagram: Vec<u8>) {
        if path == LINK {
            self.out.push(Outgoing::Link(Effect::PeerDatagram(datagram)));
            return;
        }
        let Some(port) = self.ports.iter().find(|port| path_of(port.id) == path) else { return };
        let mut bytes = Vec::with_capacity(ETHERNET_LEN + 2 + datagram.len());
        bytes.extend_from_slice(&PEER_GROUP);
        bytes.extend_from_slice(&port.mac.0);
        bytes.extend_from_slice(&PEER_ETHERTYPE.to_be_bytes());
        // Ethernet pads short frames, so the length must be in the frame itself.
        bytes.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&datagram);
        bytes.resize(bytes.len().max(MIN_FRAME), 0);
        self.out.push(Outgoing::Frame(OwnedFrame { port: port.id, offload: Offload::default(), bytes }));
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

    /// The next datagrams.
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

    fn note_heard(&mut self, now: Instant, path: PathId) {
        match self.heard.iter_mut().find(|(other, _)| *other == path) {
            Some((_, at)) => *at = now,
            None => self.heard.push((path, now)),
        }
    }

    /// Counts a refusal; true for the first of a kind that is worth a log line:
    /// after a restart some datagrams are for keys that are gone, and answers may be late.
    fn count(&mut self, refused: Refused) -> bool {
        let index = Refused::ALL.iter().position(|&other| other == refused).unwrap_or_default();
        self.refused[index] += 1;
        self.refused[index] == 1 && !matches!(refused, Refused::Unkeyed | Refused::Stale | Refused::Cookie)
    }
}

/// The datagram inside a frame of [`PEER_ETHERTYPE`], if it is one.
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
