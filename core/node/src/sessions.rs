//! Persistence sessions before an operator: listed and cleared in slices, without holding the data thread up.

use holdfast_base::Instant;
use holdfast_config::{self as config, Command, CommandError, SessionScope};
use holdfast_engine::{self as engine, SessionFilter, SessionOf, VserverId};
use holdfast_wire::Addr;

use crate::effect::Reply;
use crate::listing::{Job, SLOTS_PER_TURN};
use crate::node::Node;

/// Sessions that one listing prints; of more the last line tells.
const MAX_SESSIONS_LISTED: usize = 10_000;

/// A listing under way: first the flows of each session are counted, then the sessions printed.
pub(crate) struct SessionListing {
    request: u64,
    json: bool,
    scope: SessionScope,
    /// Where the walk over the flow table has come to; `None`: it is over.
    flows: Option<u32>,
    counts: Vec<u32>,
    cursor: u32,
    /// Rows printed so far.
    rows: usize,
    /// Rows that were left out.
    more: usize,
}

/// A clear under way.
pub(crate) struct SessionClearing {
    request: u64,
    filter: SessionFilter,
    cursor: u32,
}

impl Node {
    /// Begins a listing of sessions; its header leaves at once.
    pub(crate) fn list_sessions(&mut self, request: u64, command: &Command, json: bool) -> Result<(), CommandError> {
        let scope = command.session_scope(&self.config)?;
        let header = if json { "{\"lbpersistentsessions\":[".into() } else { config::session_header() };
        let (flows, counts) = (Some(0), Vec::new());
        let listing = SessionListing { request, json, scope, flows, counts, cursor: 0, rows: 0, more: 0 };
        self.start_job(request, Some(header), Job::Sessions(listing));
        Ok(())
    }

    /// Begins to clear sessions. Only who leads may: the sessions of a secondary are its primary's.
    pub(crate) fn clear_sessions(&mut self, request: u64, command: &Command) -> Result<(), CommandError> {
        if self.follows_a_primary() {
            return Err(CommandError::new(config::messages::PRIMARY_ONLY));
        }
        let SessionScope { vserver, addr } = command.session_scope(&self.config)?;
        let filter = SessionFilter { vserver: vserver.map(VserverId), addr: addr.map(Addr::from) };
        self.start_job(request, None, Job::Clearing(SessionClearing { request, filter, cursor: 0 }));
        Ok(())
    }

    /// One slice of a listing; it comes back until it is done.
    pub(crate) fn continue_session_listing(&mut self, now: Instant, mut listing: SessionListing) -> Option<Job> {
        if let Some(mut cursor) = listing.flows {
            let done = self.engine.count_session_flows(&mut cursor, SLOTS_PER_TURN, &mut listing.counts);
            listing.flows = (!done).then_some(cursor);
            return Some(Job::Sessions(listing));
        }
        let mut found = Vec::new();
        let done = self.engine.list_sessions(now, &mut listing.cursor, SLOTS_PER_TURN, &listing.counts, &mut found);
        let wanted = listing.scope.vserver;
        let mut lines = Vec::new();
        for row in found.iter().filter(|row| wanted.is_none() || row.vserver.map(|id| id.0) == wanted) {
            if listing.rows == MAX_SESSIONS_LISTED {
                listing.more += 1;
                continue;
            }
            let row = self.session_row(row);
            let comma = if listing.rows > 0 { "," } else { "" };
            lines.push(match listing.json {
                true => format!("{comma}{}", config::session_json(&row)),
                false => config::session_line(&row),
            });
            listing.rows += 1;
        }
        if done && listing.json {
            lines.push("]}".into());
        } else if done && listing.more > 0 {
            lines.push(format!("({} more)", listing.more));
        }
        if done || !lines.is_empty() {
            self.reply(Reply { request: listing.request, text: lines.join("\n"), ok: true, last: done });
        }
        (!done).then_some(Job::Sessions(listing))
    }

    /// One slice of a clear; it comes back until it is done.
    pub(crate) fn continue_clearing(&mut self, mut clearing: SessionClearing) -> Option<Job> {
        if self.follows_a_primary() {
            let text = CommandError::new(config::messages::PRIMARY_ONLY).to_string();
            self.reply(Reply { request: clearing.request, text, ok: false, last: true });
            return None;
        }
        let done = self.engine.clear_sessions(&clearing.filter, &mut clearing.cursor, SLOTS_PER_TURN);
        if done {
            self.reply(Reply { request: clearing.request, text: String::new(), ok: true, last: true });
        }
        (!done).then_some(Job::Clearing(clearing))
    }

    /// A session with the names that an operator knows.
    fn session_row(&self, row: &engine::SessionRow) -> config::SessionRow {
        let of = row.session.of;
        let server = row.session.server.unwrap_or_default();
        let vserver = row.vserver.and_then(|id| self.config.vserver_by_id(id.0));
        config::SessionRow {
            kind: match of {
                SessionOf::Source(_) => config::Persistence::SourceIp,
                SessionOf::Destination(_) => config::Persistence::DestIp,
                SessionOf::Both { .. } => config::Persistence::SrcIpDestIp,
            },
            source: of.source().map(Into::into),
            called: of.destination().map(Into::into),
            server: (server.addr.into(), Some(server.port).filter(|port| *port != 0)),
            vserver: vserver.map(|vserver| vserver.name.clone()).unwrap_or_default(),
            left: row.left,
            flows: row.flows,
        }
    }
}
