//! Packets that wait until the peer knows their flow.

use std::collections::{BTreeSet, VecDeque};

use holdfast_base::Instant;

use super::{NONE, Side};
use crate::frame::OwnedFrame;
use crate::record::FlowRef;

/// Deadlines of ended holds that are kept before they are looked for and dropped.
const IDLE_DEADLINES: usize = 4096;

/// What a held packet costs besides its buffer, in bytes: its place in the queue, its hold and its deadline, with the
/// room in which these grow.
const PLACE: usize = 256;

/// The packets of one flow's direction, in order, addresses already rewritten.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Whose packets they are.
    pub(crate) flow: FlowRef,
    /// The direction that waits: the side that sent them.
    pub(crate) side: Side,
    /// Tells it from earlier holds, also of the same flow.
    serial: u64,
    /// The packets; their Ethernet addresses are not set yet.
    pub(crate) frames: VecDeque<OwnedFrame>,
}

/// Why a packet cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HoldFull;

/// All holds. Numbers are given to flows; a freed number is used again.
#[derive(Debug)]
pub(crate) struct Holds {
    holds: Vec<Option<Hold>>,
    free: Vec<u32>,
    /// Deadlines in order: the limit is the same for all. Those of holds that have ended go
    /// when their time comes, or when there are many.
    deadlines: VecDeque<(Instant, FlowRef, (u32, u64))>,
    /// So many of the deadlines count as over.
    hastened: usize,
    /// Serial of the latest hold.
    last_serial: u64,
    /// Memory of all held packets: their buffers as large as they are, not as full.
    bytes: usize,
    max_bytes: usize,
    max_packets: usize,
}

impl Holds {
    /// No holds; at most `max_packets` per hold, and none more once `max_bytes` are taken in all.
    pub(crate) fn new(max_packets: usize, max_bytes: usize) -> Holds {
        Holds {
            holds: Vec::new(),
            free: Vec::new(),
            deadlines: VecDeque::new(),
            hastened: 0,
            last_serial: 0,
            bytes: 0,
            max_bytes,
            max_packets,
        }
    }

    /// How many flows hold packets.
    pub(crate) fn len(&self) -> u32 {
        (self.holds.len() - self.free.len()) as u32
    }

    /// Whether one more packet may be held behind `hold` ([`NONE`]: a new hold).
    pub(crate) fn has_room(&self, hold: u32) -> bool {
        let packets = if hold == NONE { 0 } else { self.get(hold).frames.len() };
        packets < self.max_packets && self.bytes < self.max_bytes
    }

    /// Begins a hold with its first packet; `deadline` ends it at the latest.
    pub(crate) fn begin(&mut self, flow: FlowRef, side: Side, frame: OwnedFrame, deadline: Instant) -> u32 {
        self.bytes += cost(&frame);
        self.last_serial += 1;
        let serial = self.last_serial;
        let hold = Hold { flow, side, serial, frames: VecDeque::from([frame]) };
        let number = match self.free.pop() {
            Some(number) => {
                self.holds[number as usize] = Some(hold);
                number
            }
            None => {
                self.holds.push(Some(hold));
                self.holds.len() as u32 - 1
            }
        };
        self.deadlines.push_back((deadline, flow, (number, serial)));
        if self.deadlines.len() > IDLE_DEADLINES + 2 * self.len() as usize && self.hastened == 0 {
            let holds = &self.holds;
            self.deadlines.retain(|&(_, _, (number, serial))| {
                holds[number as usize].as_ref().is_some_and(|hold| hold.serial == serial)
            });
        }
        number
    }

    /// No hold, of those that are there, waits for longer than until `latest`.
    pub(crate) fn shorten(&mut self, latest: Instant) {
        self.deadlines.iter_mut().for_each(|(deadline, ..)| *deadline = (*deadline).min(latest));
    }

    /// The holds of these flows are over their limit from `now` on, before all others.
    pub(crate) fn hurry(&mut self, now: Instant, flows: &BTreeSet<FlowRef>) {
        let deadlines = core::mem::take(&mut self.deadlines);
        let (mut first, mut others): (VecDeque<_>, VecDeque<_>) =
            deadlines.into_iter().partition(|(_, flow, _)| flows.contains(flow));
        first.iter_mut().for_each(|(deadline, ..)| *deadline = (*deadline).min(now));
        first.append(&mut others);
        self.deadlines = first;
    }

    /// Queues a packet behind the others, or refuses it.
    pub(crate) fn queue(&mut self, hold: u32, frame: OwnedFrame) -> Result<(), HoldFull> {
        if !self.has_room(hold) {
            return Err(HoldFull);
        }
        self.bytes += cost(&frame);
        self.get_mut(hold).frames.push_back(frame);
        Ok(())
    }

    /// The hold with this number, which must exist (our own invariant).
    pub(crate) fn get(&self, hold: u32) -> &Hold {
        self.holds[hold as usize].as_ref().expect("a flow's hold exists")
    }

    /// Ends a hold and hands its packets out.
    pub(crate) fn end(&mut self, hold: u32) -> Hold {
        let ended = self.holds[hold as usize].take().expect("a flow's hold exists");
        self.bytes -= ended.frames.iter().map(cost).sum::<usize>();
        self.free.push(hold);
        ended
    }

    /// The next deadline that is over, if any: the flow whose hold it ends, or `None` if
    /// that hold has ended. The flow may be gone: the caller looks.
    pub(crate) fn poll_expired(&mut self, now: Instant) -> Option<Option<FlowRef>> {
        let &(deadline, flow, (number, serial)) = self.deadlines.front()?;
        if deadline > now && self.hastened == 0 {
            return None;
        }
        self.deadlines.pop_front();
        self.hastened = self.hastened.saturating_sub(1);
        let waits = self.holds[number as usize].as_ref().is_some_and(|hold| hold.serial == serial);
        Some(waits.then_some(flow))
    }

    /// Every hold is over its limit from now on: no ack will come.
    pub(crate) fn hasten(&mut self) {
        self.hastened = self.deadlines.len();
    }

    /// Holds wait for their deadlines again: acks may come.
    pub(crate) fn calm(&mut self) {
        self.hastened = 0;
    }

    /// When [`Holds::poll_expired`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let &(deadline, ..) = self.deadlines.front()?;
        Some(if self.hastened > 0 { Instant::ZERO } else { deadline })
    }

    /// The flows that hold packets, oldest number first.
    pub(crate) fn flows(&self) -> Vec<FlowRef> {
        self.holds.iter().flatten().map(|hold| hold.flow).collect()
    }

    /// Forgets every hold and its packets.
    pub(crate) fn clear(&mut self) {
        self.holds.clear();
        self.free.clear();
        self.deadlines.clear();
        self.hastened = 0;
        self.bytes = 0;
    }

    fn get_mut(&mut self, hold: u32) -> &mut Hold {
        self.holds[hold as usize].as_mut().expect("a flow's hold exists")
    }
}

/// The memory that a held packet takes, in bytes.
fn cost(frame: &OwnedFrame) -> usize {
    frame.bytes.capacity() + PLACE
}
