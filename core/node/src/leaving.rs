//! Services that go out of service with a delay, or with their last connection.

use core::time::Duration;
use std::collections::BTreeMap;

use holdfast_base::Instant;
use holdfast_engine::ServiceId;
use holdfast_ha::Role;

use crate::node::Node;

/// How often it is looked whether something has gone.
const LOOK: Duration = Duration::from_secs(1);

/// What is going, by the command that ends it, and since when. A node that begins to lead begins to wait anew: what
/// leaves does so late rather than early.
#[derive(Debug, Default)]
pub(crate) struct Leavers {
    since: BTreeMap<String, Instant>,
    next: Option<Instant>,
}

impl Leavers {
    /// When to look next; `None`: nothing leaves.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

impl Node {
    /// The configuration or the role has changed: what leaves now is looked after.
    pub(crate) fn note_leavers(&mut self, now: Instant) {
        let leavers = if self.ha.role() == Role::Primary { self.config.leavers() } else { Vec::new() };
        self.leavers.since.retain(|line, _| leavers.iter().any(|(leaver, _, _)| leaver == line));
        for (line, _, _) in leavers {
            self.leavers.since.entry(line).or_insert(now);
        }
        self.leavers.next = (!self.leavers.since.is_empty()).then_some(now + LOOK);
    }

    /// Ends what has waited long enough, or has lost its last flow.
    pub(crate) fn watch_leavers(&mut self, now: Instant) {
        if self.leavers.next.is_none_or(|next| next > now) {
            return;
        }
        self.note_leavers(now);
        for (line, leaving, services) in self.config.leavers() {
            let Some(since) = self.leavers.since.get(&line) else { continue };
            let is_late = leaving.delay_s.is_some_and(|s| now.since(*since) >= Duration::from_secs(s.into()));
            let flows = |id: &u32| self.engine.service_counters(ServiceId(*id)).established;
            if is_late || leaving.graceful && services.iter().all(|id| flows(id) == 0) {
                self.change_in_time(now, &line);
            }
        }
    }
}
