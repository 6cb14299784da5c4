//! What is still on its way to a node that hands over: hosts and switches send
//! to the old primary until they have heard the new one's announcements.
//!
//! While it drains, the old primary forwards what it knows; packets that would
//! open a flow wait here. Once the new primary is heard, they and whatever still
//! comes for floating addresses go on to it, frame by frame, through the port by
//! which they came: the new primary treats them as if they had come at once. Nothing
//! is opened, announced or rewritten by a node that is not primary.

use core::time::Duration;
use std::collections::VecDeque;

use holdfast_base::Instant;
use holdfast_engine::{Frame, Gate, OwnedFrame, PortId, Verdict};
use holdfast_ha::Role;
use holdfast_wire::{MacAddr, set_macs};

use crate::node::Node;

/// How long frames are passed on: addresses are announced at once and again after
/// 100 ms; what is sent when both have been heard goes to the new primary.
const PASS_ON: Duration = Duration::from_millis(250);
/// Frames that wait for the new primary at most; a drain takes a round trip or two.
const MAX_WAITING: usize = 1024;

/// The state of a hand-over, and its counters.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    waiting: VecDeque<OwnedFrame>,
    until: Option<Instant>,
    /// The process may end when frames need not be passed on any longer.
    leaving: bool,
    /// The peer's Ethernet address on each port, as its latest genuine datagram there had it.
    stations: Vec<(PortId, MacAddr)>,
    /// Whether the engine was told that they may be a primary's; `None`: not of these.
    rivals: Option<bool>,
    passed_on: u64,
    lost: u64,
}

impl Handover {
    /// A genuine datagram of the peer came by this port from this station.
    pub fn meet(&mut self, port: PortId, station: MacAddr) {
        match self.stations.iter_mut().find(|(other, _)| *other == port) {
            Some((_, known)) if *known == station => return,
            Some((_, known)) => *known = station,
            None => self.stations.push((port, station)),
        }
        self.rivals = None;
    }

    /// There is another peer, or none.
    pub fn forget_stations(&mut self) {
        (self.stations, self.rivals) = (Vec::new(), None);
    }

    /// When passing on ends, if it is under way.
    pub fn ends(&self) -> Option<Instant> {
        self.until
    }

    /// Frames passed on to the new primary.
    pub fn passed_on(&self) -> u64 {
        self.passed_on
    }

    /// Frames that waited for it in vain, or found no room to wait.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn station(&self, port: PortId) -> Option<MacAddr> {
        self.stations.iter().find(|(other, _)| *other == port).map(|&(_, station)| station)
    }
}

impl Node {
    /// A peer that says that it follows has no claim to floating addresses: who speaks in its name is lying. One that leads, or
    /// that is not heard, may have.
    pub(crate) fn tell_rivals(&mut self, now: Instant) {
        let follows = matches!(self.ha.peer_role(), Some(Role::Init | Role::Secondary));
        let rivals = self.config.ha().peer.is_some() && !follows;
        let before = self.handover.rivals.replace(rivals);
        if before == Some(rivals) {
            return;
        }
        let stations = self.handover.stations.iter().filter(|_| rivals).map(|&(_, station)| station);
        self.engine.set_rivals(&stations.collect::<Vec<_>>());
        if before == Some(true) && self.gate() == Gate::Open {
            // It may have announced after us before it gave way.
            self.engine.announce(now);
        }
    }

    /// While draining: a frame that opens a flow waits for the new primary.
    pub(crate) fn keep_waiting(&mut self, frame: &Frame<'_>) -> Verdict {
        if self.handover.waiting.len() >= MAX_WAITING {
            self.handover.lost += 1;
        } else {
            let (port, offload) = (frame.port, frame.offload);
            self.handover.waiting.push_back(OwnedFrame { port, offload, bytes: frame.bytes.to_vec() });
        }
        Verdict::Consumed
    }

    /// The peer has taken over what this node drained for it.
    pub(crate) fn pass_on_from(&mut self, now: Instant) {
        self.handover.until = Some(now + PASS_ON);
        for mut frame in core::mem::take(&mut self.handover.waiting) {
            if self.readdress_to_peer(frame.port, &mut frame.bytes) {
                self.frames.push_back(frame);
            } else {
                self.handover.lost += 1;
            }
        }
    }

    /// This node leads: nothing is passed on, and what waited for another primary is looked at again.
    pub(crate) fn take_back_waiting(&mut self, now: Instant) {
        self.handover.until = None;
        for mut frame in core::mem::take(&mut self.handover.waiting) {
            let (port, offload) = (frame.port, frame.offload);
            match self.engine.handle_frame(now, Frame { port, offload, bytes: &mut frame.bytes }) {
                Verdict::Forward(port) => self.frames.push_back(OwnedFrame { port, ..frame }),
                Verdict::Consumed | Verdict::ForHost | Verdict::Drop(_) => {}
            }
        }
    }

    /// As former primary: sends a frame for a floating address, or for a flow of one, on to
    /// the new primary. `None`: it is not such a frame, or passing on is over.
    pub(crate) fn pass_on(&mut self, frame: &mut Frame<'_>) -> Option<Verdict> {
        self.handover.until?;
        if !self.engine.is_for_primary(frame.bytes) || !self.readdress_to_peer(frame.port, frame.bytes) {
            return None;
        }
        Some(Verdict::Forward(frame.port))
    }

    /// Addresses a frame to the peer on the port by which it came. False: it came from there.
    fn readdress_to_peer(&mut self, port: PortId, bytes: &mut [u8]) -> bool {
        let own = self.ports.iter().filter_map(|state| state.port).find(|own| own.id == port);
        let (Some(own), Some(station)) = (own, self.handover.station(port)) else { return false };
        if bytes.get(6..12) == Some(&station.0) {
            return false;
        }
        set_macs(bytes, station, own.mac);
        self.handover.passed_on += 1;
        true
    }

    /// The process may end: at once, or when nothing needs to be passed on any more.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.handover.leaving = true;
        self.watch_handover(now);
    }

    /// Ends what is over.
    pub(crate) fn watch_handover(&mut self, now: Instant) {
        if self.handover.until.is_some_and(|until| now >= until) {
            self.handover.until = None;
        }
        if self.handover.leaving && self.handover.until.is_none() {
            self.handover.leaving = false;
            crate::promote::stopped(self);
        }
    }

    /// Whatever this node had kept for a hand-over that did not happen is gone.
    pub(crate) fn forget_handover(&mut self) {
        self.handover.until = None;
        self.handover.lost += self.handover.waiting.len() as u64;
        self.handover.waiting.clear();
    }
}
