//! The data thread's part of the fast path: the engine's orders go in, use comes back, and the lease is written.

use crate::clock::Clock;
use crate::queue::{Job, JobSender};
use holdfast_base::Instant;
use holdfast_engine::{FlowKey, Gate, OffloadOrder, OffloadUse, PortId};
use holdfast_fastpath::layout::Reason;
use holdfast_fastpath::{FastPathError, FlowMaps};
use holdfast_netio::Feed;
use holdfast_node::{DataPlane, Level, Node};
use holdfast_wire::{Addr, MacAddr};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// A node whose gate is closed, and that lives, is handed what comes in: for so long after each turn. Longer than it ever sleeps.
const ALIVE: Duration = Duration::from_secs(2);

/// The feed, and what the program must know of the node.
pub struct Offloading {
    feed: Feed,
    uses: Vec<OffloadUse>,
    asked: Vec<FlowKey>,
    client_seen: Option<Instant>,
    /// Ethernet addresses of the ports, and floating ones.
    macs: [BTreeSet<MacAddr>; 2],
    /// Nothing is ordered any more.
    broken: bool,
}

impl Offloading {
    /// Feeds `maps` with what `node` orders from here on.
    pub fn new(maps: FlowMaps, clock: Clock, node: &mut Node) -> Offloading {
        node.set_offload(clock.now(), true);
        Offloading {
            feed: Feed::new(maps, clock.origin_nanos()),
            uses: Vec::new(),
            asked: Vec::new(),
            client_seen: None,
            macs: [BTreeSet::new(), BTreeSet::new()],
            broken: false,
        }
    }

    /// A port is open; `tap` stands for it, or all that comes in there goes up.
    pub fn open_port(&mut self, port: PortId, interface: u32, tap: Option<u32>) -> Result<(), FastPathError> {
        let closed = self.close_port(port);
        self.feed.set_interface(port, Some(interface));
        closed.and(self.feed.maps().set_tap(interface, tap))
    }

    /// A port is closed.
    pub fn close_port(&mut self, port: PortId) -> Result<(), FastPathError> {
        match self.feed.set_interface(port, None) {
            Some(interface) => self.feed.maps().set_tap(interface, None),
            None => Ok(()),
        }
    }

    /// The ports' own Ethernet addresses.
    pub fn set_port_macs(&mut self, macs: impl Iterator<Item = MacAddr>) -> Result<(), FastPathError> {
        self.macs[0] = macs.collect();
        self.write_macs()
    }

    /// The floating Ethernet addresses.
    pub fn set_floating_macs(&mut self, macs: impl Iterator<Item = MacAddr>) -> Result<(), FastPathError> {
        self.macs[1] = macs.collect();
        self.write_macs()
    }

    fn write_macs(&mut self) -> Result<(), FastPathError> {
        let all: Vec<MacAddr> = self.macs[0].union(&self.macs[1]).copied().collect();
        all_found_room(self.feed.maps().set_macs(&all), "Ethernet addresses")
    }

    /// What is the engine's: packets to floating addresses and, if the node routes, to nobody here.
    pub fn set_floating(&mut self, floating: &[IpAddr], routes: bool) -> Result<(), FastPathError> {
        self.feed.maps().set_routes(routes);
        let addresses: BTreeSet<Addr> = floating.iter().map(|addr| Addr::from(*addr)).collect();
        all_found_room(self.feed.maps().set_floating(&addresses)?, "floating addresses")
    }

    /// What is the host's.
    pub fn set_host(&mut self, addresses: impl Iterator<Item = IpAddr>) -> Result<(), FastPathError> {
        let addresses: BTreeSet<Addr> = addresses.map(Addr::from).collect();
        all_found_room(self.feed.maps().set_host(&addresses)?, "addresses of the host")
    }

    /// Before a frame is handed in: what the node must know of the flow that it may end.
    pub fn tell_of_copies(&mut self, now: Instant, node: &mut Node, frame: &[u8]) {
        for key in node.copies_to_ask(frame).into_iter().flatten() {
            if let Ok(Some(report)) = self.feed.report_one(&key) {
                node.handle_use(now, &report);
            }
        }
    }

    /// Before a turn's frames leave: copies that must go are gone, so that what answers a FIN comes to the engine.
    pub fn withdraw(&mut self, now: Instant, node: &mut Node, jobs: &mut JobSender) {
        self.attempt(now, node, jobs, Offloading::follow);
    }

    /// Behind the frames of a turn: new copies, the lease, and some reports of use.
    pub fn settle(&mut self, now: Instant, node: &mut Node, jobs: &mut JobSender) {
        let mut sweeper = None;
        self.attempt(now, node, jobs, |fast, now, node| {
            fast.feed.flush()?;
            fast.ask_some(now, node)?;
            fast.report(now, node);
            sweeper = fast.feed.poll_sweep()?;
            Ok(())
        });
        if let Some(sweeper) = sweeper {
            jobs.send(Job::Sweep(sweeper));
        }
        self.write_lease(now, node);
        if let Some(seen) = self.feed.client_seen()
            && self.client_seen.replace(seen) != Some(seen)
        {
            node.handle_client_seen(seen);
        }
    }

    /// An error of the kernel is the end of the fast path, and of nothing else.
    fn attempt(
        &mut self,
        now: Instant,
        node: &mut Node,
        jobs: &mut JobSender,
        work: impl FnOnce(&mut Offloading, Instant, &mut Node) -> Result<(), FastPathError>,
    ) {
        if !self.broken
            && let Err(error) = work(self, now, node)
        {
            self.give_up(now, node);
            self.feed.maps().sweeper().into_iter().for_each(|sweeper| jobs.send(Job::Sweep(sweeper)));
            jobs.log(Level::Error, format!("the fast path is given up, all packets pass through the engine: {error}"));
        }
    }

    fn follow(&mut self, now: Instant, node: &mut Node) -> Result<(), FastPathError> {
        while let Some(order) = node.poll_offload(now) {
            self.feed.order(order, &mut self.uses)?;
        }
        self.report(now, node);
        Ok(())
    }

    fn report(&mut self, now: Instant, node: &mut Node) {
        for report in self.uses.drain(..) {
            node.handle_use(now, &report);
        }
    }

    /// The next batch of a round, if it is time.
    fn ask_some(&mut self, now: Instant, node: &mut Node) -> Result<(), FastPathError> {
        self.asked.clear();
        node.next_copies(now, &mut self.asked);
        for key in &self.asked {
            self.uses.extend(self.feed.report_one(key)?);
        }
        Ok(())
    }

    /// No copy is valid any more, and none is made; what comes in still finds its way to the engine.
    fn give_up(&mut self, now: Instant, node: &mut Node) {
        self.broken = true;
        self.uses.clear();
        node.set_offload(now, false);
        while let Some(OffloadOrder::Epoch(epoch)) = node.poll_offload(now) {
            self.feed.maps().set_epoch(epoch);
        }
    }

    /// While the gate is closed no copy is valid, but the node must hear what comes in.
    fn write_lease(&mut self, now: Instant, node: &Node) {
        match node.gate() {
            Gate::Closed => self.feed.set_lease(Some(now + ALIVE)),
            Gate::Open | Gate::Draining => self.feed.set_lease(node.lease_expiry()),
        }
    }

    /// When the next reports are due.
    pub fn poll_timeout(&self, node: &Node) -> Option<Instant> {
        (!self.broken).then(|| node.copies_due())
    }

    /// What `show` tells of it.
    pub fn tell(&mut self, node: &Node, plane: DataPlane) -> DataPlane {
        let counts = self.feed.maps().counts().unwrap_or_default();
        DataPlane {
            copies: 2 * u64::from(node.offloaded_flows()),
            refused: self.feed.refused(),
            not_forwarded: Reason::ALL.iter().map(|reason| reason.label()).zip(counts).collect(),
            ..plane
        }
    }
}

/// Says that some did not.
fn all_found_room(left_out: usize, what: &'static str) -> Result<(), FastPathError> {
    if left_out == 0 { Ok(()) } else { Err(FastPathError::Room { left_out, what }) }
}
