//! Surge protection: while a service has many connections, new ones wait and are let go one after another.
//!
//! What waits is the client's SYN as it came. Nobody has answered it, so nobody believes in anything, and a successor
//! needs to know nothing: the client says it again.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holdfast_base::Instant;
use holdfast_wire::proto;

use crate::engine::Engine;
use crate::frame::{Frame, OwnedFrame};
use crate::path::Arrival;
use crate::plan::{Service, ServiceId, Surge};
use crate::record::FlowKey;
use crate::verdict::{Drop, Verdict};

/// Clients that wait, of all services.
const MAX_WAITING: usize = 16_384;
/// Who has waited that long has probably given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// What was opened within this time counts as a connection, though its client has not completed it yet.
const YOUNG: Duration = Duration::from_millis(100);
/// Clients let go in one turn.
const MAX_LET_GO: usize = 64;

impl Surge {
    /// Time between two new connections at so many open ones; `None`: no need to wait.
    fn pause(&self, connections: u32) -> Option<Duration> {
        self.steps.iter().rev().find(|step| connections >= step.connections).map(|step| step.pause)
    }
}

/// A client's SYN.
#[derive(Debug)]
struct Waiting {
    key: FlowKey,
    /// As it came, with the port that it came in by.
    frame: OwnedFrame,
    since: Instant,
}

/// Who waits for one service.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// The next one may go then.
    next: Instant,
    /// Connections opened since `young_since`.
    young: u32,
    young_since: Instant,
}

/// All clients that wait.
#[derive(Debug, Default)]
pub(crate) struct Surges {
    /// By service.
    queues: BTreeMap<ServiceId, Queue>,
    keys: BTreeSet<FlowKey>,
    /// The service that has just refused one.
    refused: Option<ServiceId>,
    /// One that has waited comes by.
    letting_go: bool,
}

impl Queue {
    /// Counts a connection that is being opened.
    fn note(&mut self, now: Instant, pause: Option<Duration>) {
        self.young += 1;
        self.next = now + pause.unwrap_or_default();
    }

    /// Connections that count, beside those that are established.
    fn young(&mut self, now: Instant) -> u32 {
        if now.since(self.young_since) >= YOUNG {
            (self.young, self.young_since) = (0, now);
        }
        self.young
    }
}

impl Surges {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Nobody waits any more.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.queues.values_mut().for_each(|queue| queue.waiting.clear());
    }

    /// When the next one may go; possibly early, never late.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.queues.values().filter(|queue| !queue.waiting.is_empty()).map(|queue| queue.next).min()
    }
}

impl Engine {
    /// Whether a first packet may open a flow to a service now. Who may not waits behind those that do.
    pub(crate) fn surge_admits(&mut self, now: Instant, service: &Service, packet_proto: u8) -> bool {
        let Some(surge) = service.surge.filter(|_| packet_proto == proto::TCP) else { return true };
        let established = self.established_at(service.id);
        let queue = self.surges.queues.entry(service.id).or_default();
        let pause = surge.pause(established + queue.young(now));
        let goes = queue.waiting.is_empty() && (pause.is_none() || now >= queue.next);
        if goes || self.surges.letting_go {
            queue.note(now, pause);
            return true;
        }
        self.surges.refused = Some(service.id);
        false
    }

    /// The SYN waits, unless it is a repetition of one that does.
    pub(crate) fn wait_in_surge(&mut self, now: Instant, arrival: &mut Arrival<'_, '_>) -> Verdict {
        let key = arrival.key();
        if self.surges.keys.contains(&key) {
            return Verdict::Consumed;
        }
        let Some(service) = self.surges.refused.filter(|_| self.surges.len() < MAX_WAITING) else {
            return Verdict::Drop(Drop::SurgeQueueFull);
        };
        let Frame { port, offload, ref bytes } = *arrival.frame;
        let frame = OwnedFrame { port, offload, bytes: self.out.copy_of(bytes) };
        self.surges.keys.insert(key);
        let queue = self.surges.queues.entry(service).or_default();
        queue.waiting.push_back(Waiting { key, frame, since: now });
        self.counters.surged += 1;
        Verdict::Consumed
    }

    /// Lets those go whose time has come.
    pub(crate) fn let_surges(&mut self, now: Instant) {
        for _ in 0..MAX_LET_GO {
            let is_due = |queue: &&mut Queue| !queue.waiting.is_empty() && now >= queue.next;
            let Some(queue) = self.surges.queues.values_mut().find(is_due) else { break };
            let Some(Waiting { key, mut frame, since }) = queue.waiting.pop_front() else { break };
            self.surges.keys.remove(&key);
            if now.since(since) >= PATIENCE {
                self.counters.surge_expired += 1;
                self.out.recycle(frame.bytes);
                continue;
            }
            self.surges.letting_go = true;
            let verdict =
                self.walk(now, &mut Frame { port: frame.port, offload: frame.offload, bytes: &mut frame.bytes });
            self.surges.letting_go = false;
            match verdict {
                Verdict::Forward(port) => self.out.push(OwnedFrame { port, ..frame }),
                Verdict::Consumed | Verdict::ForHost => self.out.recycle(frame.bytes),
                Verdict::Drop(reason) => {
                    self.counters.drop(reason);
                    self.out.recycle(frame.bytes);
                }
            }
        }
    }

    /// Clients that wait for a service.
    pub fn surge_waiting(&self, service: ServiceId) -> u64 {
        self.surges.queues.get(&service).map_or(0, |queue| queue.waiting.len() as u64)
    }

    /// Forgets the clients that wait for a service; who is still there asks again.
    pub fn flush_surge_queue(&mut self, service: ServiceId) {
        let Some(queue) = self.surges.queues.get_mut(&service) else { return };
        for waiting in queue.waiting.drain(..) {
            self.surges.keys.remove(&waiting.key);
        }
    }

    fn established_at(&self, service: ServiceId) -> u32 {
        let row = self.roster.service_at(self.roster.service_row(service));
        row.map_or(0, |row| row.counters.established)
    }
}
