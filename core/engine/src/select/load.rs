//! What services have carried of late, for the methods that go by it.
//!
//! The window is 14 seconds: every two seconds the totals of each service that such a method looks at are noted, and
//! what is compared is the total of this moment less the oldest note, of 12 to 14 seconds ago. Flows that a fast path
//! carries count when it reports them, about once a second.

use holdfast_base::{Duration, Instant};

use crate::counters::Traffic;
use crate::engine::{Engine, Gate};
use crate::plan::{Backup, Method, Plan, ServiceId};
use crate::roster::Roster;

/// Time between two notes.
const PAUSE: Duration = Duration::from_secs(2);
/// Notes of each service.
const NOTES: usize = 7;
/// The oldest note is never older.
const WINDOW: Duration = Duration::from_secs(WINDOW_SECONDS);
/// The same in seconds.
pub(crate) const WINDOW_SECONDS: u64 = 14;

/// Packets and bytes of both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Load {
    /// Everything that was counted.
    pub(crate) fn of(traffic: &Traffic) -> Load {
        Load {
            packets: traffic.client_packets + traffic.server_packets,
            bytes: traffic.client_bytes + traffic.server_bytes,
        }
    }

    fn since(self, before: Load) -> Load {
        Load { packets: self.packets.saturating_sub(before.packets), bytes: self.bytes.saturating_sub(before.bytes) }
    }
}

/// The latest notes of one service.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Window {
    notes: [Load; NOTES],
    /// The oldest one, and the next to be overwritten.
    oldest: usize,
}

impl Window {
    /// Nothing counts that was carried before.
    pub(crate) fn begin(total: Load) -> Window {
        Window { notes: [total; NOTES], oldest: 0 }
    }

    /// Notes the total.
    pub(crate) fn note(&mut self, total: Load) {
        self.notes[self.oldest] = total;
        self.oldest = (self.oldest + 1) % NOTES;
    }

    /// What was carried in the window, up to `total`.
    pub(crate) fn carried(&self, total: Load) -> Load {
        total.since(self.notes[self.oldest])
    }
}

impl Engine {
    /// Notes what services have carried, if it is time. A node that does not forward notes nothing; what it knew
    /// before it did not is too old when it does again.
    pub(crate) fn note_loads(&mut self, now: Instant) {
        let Some(due) = self.loads_due().filter(|due| *due <= now) else { return };
        let anew = now.since(due) >= WINDOW;
        self.loads_at = now + PAUSE;
        self.roster.note_loads(anew);
    }

    /// When [`Engine::note_loads`] has something to do.
    pub(crate) fn loads_due(&self) -> Option<Instant> {
        (self.gate == Gate::Open && self.roster.measures_loads()).then_some(self.loads_at)
    }
}

impl Roster {
    /// What the service has carried of late; only for services that a method of the plan looks at.
    pub(crate) fn recent(&self, id: ServiceId) -> Load {
        let row = self.service_at(self.service_row(id));
        row.map_or_else(Load::default, |row| row.window.carried(Load::of(&row.counters.traffic)))
    }

    /// How long the service takes to answer, times the flows that it would have with another one; microseconds.
    pub(crate) fn response_load(&self, id: ServiceId) -> u64 {
        let micros = self.answers_in(id).map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        // Some time must count even where a clock saw none.
        micros.max(1).saturating_mul(u64::from(self.open_flows(id)) + 1)
    }
}

/// The services that methods of the plan compare by what they have carried.
pub(crate) fn measured(plan: &Plan) -> impl Iterator<Item = ServiceId> {
    let by_load = |method: Method| match method {
        Method::LeastBandwidth
        | Method::LeastPackets
        | Method::LeastResponseTime(Backup::LeastBandwidth | Backup::LeastPackets) => true,
        Method::LeastResponseTime(Backup::RoundRobin | Backup::LeastConnection | Backup::SourceIpHash(_))
        | Method::RoundRobin
        | Method::LeastConnection
        | Method::SourceIpHash(_)
        | Method::DestinationIpHash(_)
        | Method::SrcIpDestIpHash(_)
        | Method::SrcIpSrcPortHash => false,
    };
    let vservers = plan.vservers.iter().filter(move |vserver| by_load(vserver.method));
    vservers.flat_map(|vserver| vserver.services.iter().map(|binding| binding.service))
}
