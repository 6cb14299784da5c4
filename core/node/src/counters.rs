//! Every counter of the node, for the log: what no screen shows.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::Drop;

use crate::effect::Level;
use crate::node::Node;

/// Pause between two looks at the limits.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// A limit that is hit all the time is told once in this many looks.
const QUIET_LOOKS: u32 = 60;

/// What was known of the limits at the last look.
#[derive(Debug, Default)]
pub(crate) struct LimitWatch {
    next_look: Option<Instant>,
    counts: [u64; LIMITS],
    /// Looks until each may be told again.
    quiet: [u32; LIMITS],
}

/// Limits that an operator hears of when they are hit.
const LIMITS: usize = 10;

impl Node {
    /// Tells the log, once in a while, which limits were hit since the last look.
    pub(crate) fn watch_limits(&mut self, now: Instant) {
        if self.limit_watch.next_look.is_some_and(|at| now < at) {
            return;
        }
        self.limit_watch.next_look = Some(now + LOOK_PAUSE);
        for (index, (text, count)) in self.limits_hit().into_iter().enumerate() {
            let watch = &mut self.limit_watch;
            watch.quiet[index] = watch.quiet[index].saturating_sub(1);
            if count > watch.counts[index] && watch.quiet[index] == 0 {
                watch.quiet[index] = QUIET_LOOKS;
                watch.counts[index] = count;
                self.event(Level::Warn, format!("{text} ({count} times so far)"));
            }
        }
    }

    fn limits_hit(&self) -> [(&'static str, u64); LIMITS] {
        let (engine, network) = (self.engine.counters(), self.engine.network_counters());
        [
            ("the flow table is full: new flows are refused; see --max-flows", engine.drops(Drop::FlowTableFull)),
            ("no SNAT port is free towards a server: add a SNIP in its subnet", engine.snat_exhausted),
            (
                "the flow table is full, or no SNAT port is free towards a server: connections that no client has completed make room (a SYN flood?)",
                engine.half_open_evicted,
            ),
            (
                "packets left without the peer's acknowledgement: its flows are unprotected until it has them; see show ha node",
                engine.hold_released_unprotected,
            ),
            ("too much waits for the peer: held packets are dropped", engine.drops(Drop::HoldQueueFull)),
            (
                "the persistence table is full: clients are balanced without memory, or would be after a failover",
                engine.persistence_full,
            ),
            ("a mirrored flow found no room", engine.record_full),
            (
                "flows of this side of a split made room for the other side's before that had adopted them: it may lack them",
                engine.aside_evicted,
            ),
            ("too many changes wait for the mirror: another session tells everything", engine.marks_lost),
            ("the neighbour table is full", network.table_full),
        ]
    }

    /// One line for each room, `room: name value, …`; zeros are left out.
    pub fn counter_lines(&self) -> Vec<String> {
        let network = self.engine.network_counters();
        let sent = self.mirroring.sender.stats(self.now);
        let received = self.mirroring.receiver.stats();
        let network = [
            ("address_conflicts", network.address_conflicts),
            ("answers", network.answers),
            ("requests", network.requests),
            ("announcements", network.announcements),
            ("unreachable", network.unreachable),
            ("table_full", network.table_full),
        ];
        let sender = [
            ("datagrams", sent.datagrams),
            ("bytes", sent.bytes),
            ("records", sent.records.total()),
            ("retransmits", sent.retransmits),
            ("timeouts", sent.timeouts),
            ("window_full", sent.window_full),
            ("overflows", sent.overflows),
            ("gone", sent.gone),
            ("stale_acks", sent.stale_acks),
        ];
        let receiver = [
            ("datagrams", received.datagrams),
            ("bytes", received.bytes),
            ("records", received.records.total()),
            ("duplicates", received.duplicates),
            ("out_of_order", received.out_of_order),
            ("stale", received.stale),
            ("no_room", received.no_room),
            ("unknown", received.unknown),
            ("refused", received.refused.iter().sum()),
            ("forgotten", received.forgotten),
            ("salvage_skipped", received.salvage_skipped),
        ];
        let node = [
            ("hellos_refused", self.hellos_refused),
            ("payloads_refused", self.payloads_refused),
            ("hellos_without_interfaces", self.ports_untold),
            ("next_hop_questions", self.fitness.questions()),
            ("neighbour_questions", self.hearing.questions()),
            ("log_lines_lost", self.events_dropped),
            ("session_failures", self.mirroring.failures()),
            ("session_restarts", self.mirroring.restarts()),
            ("snapshots_refused", self.mirroring.snapshots_refused()),
            ("frames_passed_on", self.handover.passed_on()),
            ("frames_lost_in_handover", self.handover.lost()),
            ("sessions_without_room_at_peer", self.sessions_without_room),
            ("offers_given_up", self.offers.given_up()),
            ("offers_suspected", self.offers.suspicions()[0]),
            ("suspicions_refused", self.offers.suspicions()[1]),
            ("data_detours", self.mirroring.detours()[0]),
            ("ack_detours", self.mirroring.detours()[1]),
            ("sync_failures", self.sync.failures()),
            ("propagation_timeouts", self.propagations.timeouts()),
            ("quarantines", self.quarantine.begun()),
            ("quarantine_refused_datagrams", self.quarantine.refused()),
            ("quarantines_of_peer", self.quarantine.begun_by_peer()),
        ];
        vec![
            line("engine", self.engine.counters().listed()),
            line("network", network.into_iter()),
            line("mirror sender", sender.into_iter()),
            line("mirror receiver", receiver.into_iter()),
            line("peer channel refused", self.channel.refused()),
            line("peer channel", self.channel_counters().into_iter()),
            line("node", node.into_iter()),
        ]
    }

    fn channel_counters(&self) -> [(&'static str, u64); 11] {
        let secure = self.channel.secure();
        let counted = secure.counters();
        [
            ("hails", counted.hails),
            ("hails_unanswered", counted.hails_unanswered),
            ("offers", counted.offers),
            ("answers", counted.answers),
            ("established", counted.established),
            ("rekeyed", counted.rekeyed),
            ("wrong_password", counted.wrong_password),
            ("wrong_secure", counted.wrong_secure),
            ("half_open", secure.half_open() as u64),
            ("half_open_evicted", counted.half_open_evicted),
            ("attempts_unanswered", counted.attempts_unanswered),
        ]
    }
}

fn line<'a>(room: &str, counters: impl Iterator<Item = (&'a str, u64)>) -> String {
    let counted: Vec<String> =
        counters.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    format!("{room}: {}", if counted.is_empty() { "nothing counted".to_owned() } else { counted.join(", ") })
}
