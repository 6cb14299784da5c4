//! Every counter of the node, for the log: what no screen shows.

use crate::node::Node;

impl Node {
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
            ("unnumbered", received.unnumbered),
            ("refused", received.refused.iter().sum()),
            ("forgotten", received.forgotten),
            ("salvage_skipped", received.salvage_skipped),
        ];
        let node = [
            ("hellos_refused", self.hellos_refused),
            ("log_lines_lost", self.events_dropped),
            ("session_failures", self.mirroring.failures()),
            ("session_restarts", self.mirroring.restarts()),
        ];
        vec![
            line("engine", self.engine.counters().listed()),
            line("network", network.into_iter()),
            line("mirror sender", sender.into_iter()),
            line("mirror receiver", receiver.into_iter()),
            line("peer channel refused", self.channel.refused()),
            line("node", node.into_iter()),
        ]
    }
}

fn line<'a>(room: &str, counters: impl Iterator<Item = (&'a str, u64)>) -> String {
    let counted: Vec<String> =
        counters.filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
    format!("{room}: {}", if counted.is_empty() { "nothing counted".to_owned() } else { counted.join(", ") })
}
