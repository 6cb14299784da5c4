//! The data thread: wait, stamp the time, feed the node, drain it, send.

use crate::clock::Clock;
use crate::crash::TRAIL;
use crate::crash::trail::Phase;
use crate::hooks;
use crate::offloading::Offloading;
use crate::peer::{DATAGRAMS, LISTENER, Peer, STREAM};
use crate::poller::Poller;
use crate::precedence::Precedence;
use crate::queue::{Inbox, Input, Job, JobSender, Opened};
use holdfast_base::Instant;
use holdfast_engine::{PortId, Verdict};
use holdfast_fastpath::{FastPathError, FlowMaps};
use holdfast_netio::{PacketPorts, PortSockets, Ports, TURN_FRAMES, Tap};
use holdfast_node::{DataPlane, Effect, Level, Node};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest a turn should take; a longer one is counted.
pub const TURN_LIMIT: Duration = Duration::from_millis(1);

/// Peer datagrams handled in one turn: a full one has some 60 records of about a
/// microsecond each, and the acknowledgement waits for the turn's end.
const TURN_DATAGRAMS: usize = 16;

/// Inputs of other threads handled in one turn.
const TURN_INPUTS: usize = 16;

/// The longest sleep: the watchdog wants to see turns.
const MAX_SLEEP: Duration = Duration::from_millis(500);

/// Sleep while jobs wait for room in their queue.
const BACKLOG_SLEEP: Duration = Duration::from_millis(1);

/// Pause between two looks at the kernel's drop counters.
const TICK: Duration = Duration::from_secs(1);

/// Token of the inbox at the poller.
const WAKE: u64 = 4 << 32;

/// What others may see of the data thread.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Turns so far.
    pub turns: AtomicU64,
}

/// How turns went.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    slow_turns: u64,
    /// Turns whose frames were thrown away: the lease had ended before they left.
    discarded_turns: u64,
    longest: Duration,
    frames: u64,
}

/// Which way packets go, and why.
pub type Way = (&'static str, String);

/// The one owner of the node.
pub struct Driver {
    clock: Clock,
    node: Node,
    ports: PacketPorts,
    /// The fast path, if there is one.
    fast: Option<Offloading>,
    /// Which way packets go, and why.
    way: Way,
    open: Vec<PortId>,
    /// How each port is watched.
    hows: BTreeMap<PortId, String>,
    rx_errors: u64,
    peer: Peer,
    poller: Poller,
    ready: Vec<u64>,
    inbox: Inbox,
    jobs: JobSender,
    pulse: Arc<Pulse>,
    precedence: Precedence,
    tally: Tally,
    next_tick: Instant,
    /// When the last wait ended.
    woken: Instant,
    /// Jobs that were lost, as last reported.
    lost_told: u64,
}

impl Driver {
    /// Drives `node`, and its fast path, from the calling thread, whose precedence it claims; nothing happens before `run`.
    pub fn new(
        clock: Clock,
        mut node: Node,
        (way, maps): (Way, Option<FlowMaps>),
        inbox: Inbox,
        jobs: JobSender,
        pulse: Arc<Pulse>,
    ) -> std::io::Result<Driver> {
        let poller = Poller::new()?;
        poller.add(inbox.raw_fd(), WAKE, false)?;
        let fast = maps.map(|maps| Offloading::new(maps, clock, &mut node));
        Ok(Driver {
            clock,
            node,
            ports: PacketPorts::new(),
            fast,
            way,
            open: Vec::new(),
            hows: BTreeMap::new(),
            rx_errors: 0,
            peer: Peer::new(),
            poller,
            ready: Vec::new(),
            inbox,
            jobs,
            pulse,
            precedence: Precedence::claim(clock.now()),
            tally: Tally::default(),
            next_tick: Instant::ZERO,
            woken: Instant::ZERO,
            lost_told: 0,
        })
    }

    /// Turns for ever; the process ends around it.
    pub fn run(mut self) -> ! {
        self.woken = self.clock.now();
        loop {
            self.turn();
            let now = self.clock.now();
            let sleep = self.sleep(now);
            self.precedence.note_work(now, now.since(self.woken));
            TRAIL.enter(Phase::Asleep);
            self.ready.clear();
            self.poller.wait(sleep, &mut self.ready);
            self.woken = self.clock.now();
            self.precedence.note_wake(self.woken, now + sleep);
        }
    }

    /// One turn. Peer datagrams come before frames: an ack releases what is
    /// held, and that must leave before later packets of the same flow.
    fn turn(&mut self) {
        let now = self.clock.now();
        TRAIL.enter(Phase::Turn);
        self.node.handle_turn(now);
        self.drain(now);
        TRAIL.enter(Phase::Peer);
        self.take_peer(now);
        TRAIL.enter(Phase::Frames);
        self.take_frames(now);
        TRAIL.enter(Phase::Inputs);
        self.take_inputs(now);
        TRAIL.enter(Phase::Timers);
        self.node.handle_timeout(now);
        self.drain(now);
        self.flush(now);
        if let Some(fast) = &mut self.fast {
            fast.settle(now, &mut self.node, &mut self.jobs);
        }
        self.peer.maintain(now, &self.poller, &mut self.jobs);
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            self.precedence.note_tick();
            self.ports.collect_drops();
            self.notice_port_trouble();
            self.notice_lost_jobs();
            self.tell_data_plane();
        }
        self.finish(now);
    }

    /// Sends what the turn has queued, copies that must go being gone, unless the process was stopped in the
    /// middle of it for so long that the peer may lead by now. Looked at before
    /// every batch; what is left is the moment between the look and the call.
    fn flush(&mut self, now: Instant) {
        if let Some(fast) = &mut self.fast {
            fast.withdraw(now, &mut self.node, &mut self.jobs);
        }
        let (lease, clock) = (self.node.lease_expiry(), self.clock);
        let mut may_send = || lease.is_none_or(|end| clock.now() < end);
        let node = &mut self.node;
        if !self.ports.flush(&mut may_send, &mut |bytes| node.recycle(bytes)) {
            self.tally.discarded_turns += 1;
        }
    }

    fn take_peer(&mut self, now: Instant) {
        for token in [LISTENER, STREAM] {
            if self.ready.contains(&token) {
                self.peer.handle_ready(now, token, &self.poller);
            }
        }
        // After a stall the poller's answer is old: what the peer has said meanwhile counts before any frame.
        let stalled = now.since(self.woken) > TURN_LIMIT;
        if stalled || self.ready.contains(&DATAGRAMS) {
            let node = &mut self.node;
            self.peer.receive(now, TURN_DATAGRAMS, &mut |bytes| {
                TRAIL.datagram(now, bytes);
                node.handle_peer_datagram(now, bytes);
            });
        }
        for event in self.peer.take_events() {
            self.node.handle_peer_stream(now, event);
        }
        self.drain(now);
    }

    fn take_frames(&mut self, now: Instant) {
        let Driver { node, ports, fast, ready, open, tally, .. } = self;
        let ready: Vec<PortId> = open.iter().copied().filter(|id| ready.contains(&u64::from(id.0))).collect();
        let budget = TURN_FRAMES / ready.len().max(1);
        for id in ready {
            let count = ports.receive(id, budget.max(1), &mut |frame, outbox| {
                TRAIL.frame(now, frame.port.0, frame.bytes);
                if let Some(fast) = fast {
                    fast.tell_of_copies(now, node, frame.bytes);
                }
                let out = match node.handle_frame(now, frame) {
                    Verdict::Forward(port) => Some(port),
                    Verdict::Consumed | Verdict::ForHost | Verdict::Drop(_) => None,
                };
                while let Some(made) = node.poll_reply() {
                    outbox.send(made);
                }
                out
            });
            tally.frames += count as u64;
        }
        self.drain(now);
    }

    fn take_inputs(&mut self, now: Instant) {
        if !self.ready.contains(&WAKE) {
            return;
        }
        for input in self.inbox.take(TURN_INPUTS) {
            self.take_input(now, input);
            self.drain(now);
        }
    }

    fn take_input(&mut self, now: Instant, input: Input) {
        let node = &mut self.node;
        match input {
            Input::Ports { states, opened, closed } => {
                self.swap_ports(now, opened, &closed);
                self.guide(|fast| {
                    fast.set_port_macs(states.iter().filter_map(|state| state.port).map(|port| port.mac))
                });
                self.node.handle_ports(now, states);
            }
            Input::HostAddresses(list) => {
                self.guide(|fast| fast.set_host(list.iter().map(|own| own.addr)));
                self.node.handle_host_addresses(now, list.iter().map(|own| own.addr.into()).collect());
            }
            Input::Command { request, line, json } => node.handle_command(now, request, &line, json),
            Input::PeerKey { request, key } => node.handle_peer_key(now, request, key),
            Input::TermStored(term) => node.handle_term_stored(now, term),
            Input::ConfigStored { request, result } => node.handle_config_stored(now, request, result),
            Input::ProbeOutcome { id, outcome } => node.handle_probe_outcome(now, id, outcome),
            Input::Witness { number, answer } => node.handle_witness(now, number, answer),
            Input::Dump => self.dump(),
            Input::Hook(hook) => self.jobs.log(Level::Warn, hooks::perform(node, now, hook)),
            Input::Stop => node.handle_stop(now),
        }
    }

    /// What was queued for a socket leaves before it goes.
    fn swap_ports(&mut self, now: Instant, opened: Vec<Opened>, closed: &[PortId]) {
        self.flush(now);
        for id in closed {
            self.unwatch(*id);
            self.guide(|fast| fast.close_port(*id));
            let old = self.ports.remove(*id);
            self.retire(old);
        }
        for Opened { port: id, sockets, how } in opened {
            self.unwatch(id);
            self.hows.insert(id, how);
            let (index, tap) = (sockets.index(), sockets.tap().map(Tap::index));
            self.guide(|fast| fast.open_port(id, index, tap));
            let old = self.ports.insert(id, sockets);
            self.retire(old);
            let watched = self.ports.raw_fd(id).map(|fd| self.poller.add(fd, u64::from(id.0), false));
            match watched {
                Some(Ok(())) => self.open.push(id),
                Some(Err(error)) => self.jobs.log(Level::Error, format!("cannot wait for port {}: {error}", id.0)),
                None => {}
            }
        }
        self.tell_data_plane();
    }

    fn unwatch(&mut self, id: PortId) {
        self.open.retain(|open| *open != id);
        if let Some(fd) = self.ports.raw_fd(id) {
            self.poller.remove(fd);
        }
    }

    fn retire(&mut self, sockets: Option<PortSockets>) {
        if let Some(sockets) = sockets {
            self.jobs.send(Job::Close(sockets));
        }
    }

    /// Tells the fast path something about the node.
    fn guide(&mut self, tell: impl FnOnce(&mut Offloading) -> Result<(), FastPathError>) {
        if let Some(Err(error)) = self.fast.as_mut().map(tell) {
            self.jobs.log(Level::Error, error.to_string());
        }
    }

    /// Does what the node wants, in its order.
    fn drain(&mut self, now: Instant) {
        loop {
            while let Some(frame) = self.node.poll_frame() {
                self.ports.send(frame);
            }
            match self.node.poll_effect() {
                Some(effect) => self.perform(now, effect),
                None => return,
            }
        }
    }

    fn perform(&mut self, now: Instant, effect: Effect) {
        let job = match effect {
            Effect::PeerDatagram(bytes) => return self.peer.send(&bytes),
            Effect::PeerLink(link) => return self.peer.set_link(now, link),
            Effect::StoreTerm(term) => Job::StoreTerm(term),
            Effect::StoreConfig { request, text } => Job::StoreConfig { request, text },
            Effect::DeriveKey { request, password, salt } => Job::DeriveKey { request, password, salt },
            Effect::Interfaces(wanted) => Job::Interfaces(wanted),
            Effect::FloatingMacs(list) => {
                self.guide(|fast| fast.set_floating_macs(list.iter().map(|&(_, mac)| mac)));
                Job::FloatingMacs(list)
            }
            Effect::Guard { floating, transit } => {
                self.guide(|fast| fast.set_floating(&floating, transit));
                Job::Guard { floating, transit }
            }
            Effect::Probe(request) => Job::Probe(request),
            Effect::Reply(reply) => Job::Reply(reply),
            Effect::Event(level, text) => {
                TRAIL.line(now, level, &text);
                Job::Log(level, text)
            }
            Effect::Witness(call) => Job::Witness(call),
            Effect::Hook(run) => Job::Hook(run),
            Effect::Stopped => Job::Stopped,
        };
        self.jobs.send(job);
    }

    /// A failed receive may mean that an interface went away: look before the next poll.
    fn notice_port_trouble(&mut self) {
        let errors = self.open.iter().map(|id| self.ports.counters(*id).rx_errors).sum();
        if errors > self.rx_errors {
            self.jobs.send(Job::CheckLinks);
        }
        self.rx_errors = errors;
    }

    fn tell_data_plane(&mut self) {
        let (way, why) = self.way.clone();
        let ports = self.open.iter().filter_map(|id| Some((*id, self.hows.get(id)?.clone()))).collect();
        let mut plane = DataPlane { way, why, ports, ..DataPlane::default() };
        if let Some(fast) = &mut self.fast {
            plane = fast.tell(&self.node, plane);
        }
        self.node.handle_data_plane(plane);
    }

    /// A lost job is a duty not done: it is told as soon as a line has room again.
    fn notice_lost_jobs(&mut self) {
        let lost = self.jobs.lost();
        if lost > self.lost_told {
            self.jobs.log(
                Level::Error,
                format!("{} jobs of the data thread were lost: management is overloaded", lost - self.lost_told),
            );
            self.lost_told = lost;
        }
    }

    fn finish(&mut self, started: Instant) {
        let took = self.clock.now().since(started);
        self.tally.longest = self.tally.longest.max(took);
        self.tally.slow_turns += u64::from(took > TURN_LIMIT);
        self.pulse.turns.fetch_add(1, Ordering::Relaxed);
    }

    fn sleep(&mut self, now: Instant) -> Duration {
        if !self.jobs.push_on() {
            return BACKLOG_SLEEP;
        }
        let reports = self.fast.as_ref().and_then(|fast| fast.poll_timeout(&self.node));
        let due = [self.node.poll_timeout(), self.peer.poll_timeout(), reports, Some(self.next_tick)];
        due.into_iter().flatten().map(|due| due.since(now)).fold(MAX_SLEEP, Duration::min)
    }

    fn dump(&mut self) {
        let (turns, tally) = (self.pulse.turns.load(Ordering::Relaxed), self.tally);
        let peer = self.peer.counters();
        self.jobs.log(
            Level::Info,
            format!(
                "driver: turns {turns}, longer than {} us {}, discarded {}, longest {} us, frames {}, jobs lost {}, peer datagrams unsent {}, foreign {}",
                TURN_LIMIT.as_micros(),
                tally.slow_turns,
                tally.discarded_turns,
                tally.longest.as_micros(),
                tally.frames,
                self.jobs.lost(),
                peer.unsent,
                peer.foreign,
            ),
        );
        self.jobs.log(Level::Info, format!("driver: {}", self.precedence.text()));
        for line in self.node.counter_lines() {
            self.jobs.log(Level::Info, line);
        }
        for id in self.open.clone() {
            let counters = self.ports.counters(id);
            self.jobs.log(Level::Info, format!("driver: port {}: {counters:?}", id.0));
        }
    }
}
