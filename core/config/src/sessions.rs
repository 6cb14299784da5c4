//! Rows of `show lb persistentSessions`, and which sessions `clear lb persistentSessions` means; the node walks its table.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::json::Json;
use crate::lines::port;
use crate::model::{LbVserver, Persistence};
use crate::table::{Effect, View};
use crate::value::Value;

/// One persistence session.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// What it is found by.
    pub kind: Persistence,
    /// The client's address, masked, if it counts.
    pub source: Option<IpAddr>,
    /// The address called, masked, if it counts.
    pub called: Option<IpAddr>,
    /// The server its flows go to; no port: the one that the client calls.
    pub server: (IpAddr, Option<u16>),
    /// Name of the vserver; empty if unknown.
    pub vserver: String,
    /// How long it lasts without being used.
    pub left: Duration,
    /// Flows of it.
    pub flows: u32,
}

/// What a command about sessions means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionScope {
    /// Only those of the vserver with this number.
    pub vserver: Option<u32>,
    /// Only those with this address (`-persistenceParameter`).
    pub addr: Option<IpAddr>,
}

impl Command {
    /// `show lb persistentSessions`: the rows come from the node in slices, so the node must know.
    pub fn is_session_list(&self) -> bool {
        self.row.effect == Effect::Show(View::PersistentSessions)
    }

    /// Which sessions a command about sessions means; an error if there is no such vserver.
    pub fn session_scope(&self, config: &Config) -> Result<SessionScope, CommandError> {
        let addr = self.option("persistenceParameter").and_then(Value::as_network).map(|(addr, _)| addr);
        let Some(name) = self.text(0) else { return Ok(SessionScope { vserver: None, addr }) };
        let missing = || CommandError::about(messages::NO_SUCH_RESOURCE, "vServer", name);
        let vserver: &LbVserver = config.vserver(name).ok_or_else(missing)?;
        Ok(SessionScope { vserver: Some(vserver.id), addr })
    }
}

/// The heading of the list.
pub fn session_header() -> String {
    let words = ["TYPE", "SRCIP", "DESTIP", "DESTPORT", "TIMEOUT", "REF-COUNT", "PARAMETER"];
    columns(&words.map(str::to_owned), "VSERVER")
}

/// A row of the list.
pub fn session_line(row: &SessionRow) -> String {
    let (addr, dest_port) = row.server;
    let words = [
        row.kind.word().to_owned(),
        source(row).to_string(),
        addr.to_string(),
        port(dest_port),
        row.left.as_secs().to_string(),
        row.flows.to_string(),
        parameter(row),
    ];
    columns(&words, &row.vserver)
}

/// A row with the keys of the REST interface.
pub fn session_json(row: &SessionRow) -> String {
    let (addr, dest_port) = row.server;
    Json::Object(vec![
        ("typestring", row.kind.word().into()),
        ("srcip", source(row).to_string().into()),
        ("destip", addr.to_string().into()),
        ("destport", u64::from(dest_port.unwrap_or(u16::MAX)).into()),
        ("vservername", row.vserver.clone().into()),
        ("timeout", row.left.as_secs().into()),
        ("referencecount", u64::from(row.flows).into()),
        ("persistenceparam", parameter(row).into()),
    ])
    .write()
}

/// The client's address; unspecified if none counts.
fn source(row: &SessionRow) -> IpAddr {
    let nobody = || match row.called {
        Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        Some(IpAddr::V4(_)) | None => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    row.source.unwrap_or_else(nobody)
}

/// What the session is found by.
fn parameter(row: &SessionRow) -> String {
    let ends: Vec<String> = [row.source, row.called].into_iter().flatten().map(|addr| addr.to_string()).collect();
    ends.join(",")
}

fn columns(words: &[String; 7], vserver: &str) -> String {
    let [kind, source, addr, dest_port, left, flows, parameter] = words;
    let text = format!("{kind:<11}  {source:<15}  {addr:<15}  {dest_port:<8}  {left:<7}  {flows:<9}  {parameter:<15}");
    format!("{text}  {vserver}").trim_end().to_owned()
}
