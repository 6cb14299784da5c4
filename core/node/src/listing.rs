//! Long answers in slices: `show ns connectiontable` walks a table of a
//! million flows without holding the data thread up; what walks the sessions does likewise.

use std::collections::VecDeque;

use holdfast_base::Instant;
use holdfast_config::{self as config, ConnectionFilter, FlowRole};
use holdfast_engine::{self as engine, Gate};

use crate::effect::Reply;
use crate::node::Node;
use crate::sessions::{SessionClearing, SessionListing};

#[cfg(test)]
mod tests;

/// Table slots walked per turn for one listing.
pub(crate) const SLOTS_PER_TURN: u32 = 1024;
/// IP protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Listings under way at once; further ones are refused.
const MAX_LISTINGS: usize = 16;

/// Listings under way, served one slice per turn in rotation.
#[derive(Default)]
pub(crate) struct Listings {
    waiting: VecDeque<Job>,
}

/// One of them.
pub(crate) enum Job {
    /// `show ns connectiontable`.
    Connections(Listing),
    /// `show lb persistentSessions`.
    Sessions(SessionListing),
    /// `clear lb persistentSessions`.
    Clearing(SessionClearing),
}

/// A listing of connections under way.
pub(crate) struct Listing {
    request: u64,
    filter: ConnectionFilter,
    json: bool,
    cursor: u32,
    /// Rows printed so far: JSON needs commas between them.
    rows: u64,
}

impl Listings {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Node {
    /// Begins a listing; its header leaves at once.
    pub(crate) fn start_listing(&mut self, request: u64, filter: ConnectionFilter, json: bool) {
        let text = if json { "{\"nsconnectiontable\":[".into() } else { config::connection_header(&filter) };
        self.start_job(request, Some(text), Job::Connections(Listing { request, filter, json, cursor: 0, rows: 0 }));
    }

    /// Begins what is done in slices; what it has to say first leaves at once.
    pub(crate) fn start_job(&mut self, request: u64, first: Option<String>, job: Job) {
        if self.listings.waiting.len() >= MAX_LISTINGS {
            let text = "ERROR: Too many listings under way. Wait for them to finish and retry.".into();
            self.reply(Reply { request, text, ok: false, last: true });
            return;
        }
        if let Some(text) = first {
            self.reply(Reply { request, text, ok: true, last: false });
        }
        self.listings.waiting.push_back(job);
    }

    /// One slice of what has its turn.
    pub(crate) fn continue_listings(&mut self, now: Instant) {
        let goes_on = match self.listings.waiting.pop_front() {
            Some(Job::Connections(listing)) => self.continue_connections(now, listing),
            Some(Job::Sessions(listing)) => self.continue_session_listing(now, listing),
            Some(Job::Clearing(clearing)) => self.continue_clearing(clearing),
            None => None,
        };
        self.listings.waiting.extend(goes_on);
    }

    fn continue_connections(&mut self, now: Instant, mut listing: Listing) -> Option<Job> {
        let mut found = Vec::new();
        let done = self.engine.connections(now, &mut listing.cursor, SLOTS_PER_TURN, &mut found);
        let mut lines = Vec::new();
        for row in &found {
            let row = self.connection_row(row);
            if !listing.filter.matches(&row) {
                continue;
            }
            if listing.json {
                let comma = if listing.rows > 0 { "," } else { "" };
                lines.push(format!("{comma}{}", config::connection_json(&row)));
            } else {
                lines.push(config::connection_line(&listing.filter, &row));
            }
            listing.rows += 1;
        }
        if done && listing.json {
            lines.push("]}".into());
        }
        if done || !lines.is_empty() {
            let text = lines.join("\n");
            self.reply(Reply { request: listing.request, text, ok: true, last: done });
        }
        (!done).then_some(Job::Connections(listing))
    }

    /// A flow with the names that an operator knows.
    fn connection_row(&self, row: &engine::ConnectionRow) -> config::ConnectionRow {
        let vserver = row.vserver.and_then(|id| self.config.vserver_by_id(id.0));
        let service = row.service.and_then(|id| self.config.service_by_id(id.0));
        let failover = vserver.map(|vserver| vserver.failover).unwrap_or_default();
        let stateful = failover == config::ConnFailover::Stateful;
        // What the counters count, and as what.
        let role = match (row.tracked, row.protected) {
            _ if row.mirrored && self.gate() == Gate::Closed => FlowRole::Mirrored,
            (true, true) => FlowRole::Protected,
            _ if row.held => FlowRole::Held,
            (true, false) => FlowRole::Unprotected,
            (false, _) if stateful => FlowRole::Uncounted,
            (false, _) => FlowRole::Local,
        };
        config::ConnectionRow {
            source: row.client.addr.into(),
            source_port: row.client.port,
            destination: row.vip.addr.into(),
            destination_port: row.vip.port,
            link_source: (row.source.addr.into(), row.source.port),
            link_destination: (row.server.addr.into(), row.server.port),
            kind: match (row.proto, vserver.map(|vserver| vserver.kind)) {
                (TCP, Some(kind @ (config::ServiceType::Ftp | config::ServiceType::SslBridge))) => kind,
                (TCP, _) => config::ServiceType::Tcp,
                (UDP, _) => config::ServiceType::Udp,
                _ => config::ServiceType::Any,
            },
            idle: row.idle,
            state: row.state,
            vserver: vserver.map(|vserver| vserver.name.clone()).unwrap_or_default(),
            service: service.map(|service| service.name.clone()).unwrap_or_default(),
            failover,
            role,
        }
    }
}
