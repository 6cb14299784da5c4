//! Harm on request, for tests of what then happens (`--debug-hooks`). Off unless
//! the command line of the process says so; no command, file or network reaches it.
//!
//! | Datagram | What it does |
//! |---|---|
//! | `lose` | a flow that the mirror has told vanishes from this node's table |
//! | `bend` | a flow that the mirror has told gets another server here |
//! | `abort` | the data thread panics |
//!
//! And whoever applies a flow record of a client at one of [`POISON`] panics: a
//! connection from there through the primary is a poison record.

use crate::crash::Recorder;
use crate::log::Log;
use crate::queue::{InboxSender, Input};
use anyhow::{Context, Result};
use holdfast_base::Instant;
use holdfast_mirror::Record;
use holdfast_node::{Node, Onlooker};
use holdfast_wire::Addr;
use std::fs::Permissions;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// Clients whose flow records are poison: addresses of documentation, which no client has.
pub const POISON: [Addr; 2] =
    [Addr::v4([192, 0, 2, 66]), Addr([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x66])];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Lose a flow.
    Lose,
    /// Change a flow's server.
    Bend,
    /// Panic.
    Abort,
}

impl Hook {
    /// As written in a datagram.
    pub fn parse(word: &[u8]) -> Option<Hook> {
        match word.trim_ascii() {
            b"lose" => Some(Hook::Lose),
            b"bend" => Some(Hook::Bend),
            b"abort" => Some(Hook::Abort),
            _ => None,
        }
    }
}

/// Dies of poison; otherwise a [`Recorder`].
pub struct Victim;

impl Onlooker for Victim {
    fn see(&self, now: Instant, record: &Record) {
        Recorder.see(now, record);
        if let Record::Flow(flow) = record {
            assert!(!POISON.contains(&flow.client.addr), "debug hook: this record is poison");
        }
    }
}

/// Does it; returns the line for the log.
pub fn perform(node: &mut Node, now: Instant, hook: Hook) -> &'static str {
    match hook {
        Hook::Lose if node.lose_a_flow(now) => "debug hook: a flow was lost",
        Hook::Bend if node.bend_a_flow(now) => "debug hook: a flow has another server",
        Hook::Lose | Hook::Bend => "debug hook: there is no such flow",
        Hook::Abort => panic!("debug hook: abort"),
    }
}

/// Binds the socket. Only its owner can use it.
pub fn bind(path: &Path) -> Result<std::os::unix::net::UnixDatagram> {
    let attempt = || format!("cannot open the socket for debug hooks {}", path.display());
    // One that a killed process has left; whatever else stands there stays.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = std::fs::remove_file(path);
    }
    let socket = std::os::unix::net::UnixDatagram::bind(path).with_context(attempt)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(attempt)?;
    socket.set_nonblocking(true).with_context(attempt)?;
    Ok(socket)
}

/// Passes on what is asked for, for ever.
pub async fn serve(socket: std::os::unix::net::UnixDatagram, inbox: InboxSender, log: Arc<Log>) {
    let Ok(socket) = tokio::net::UnixDatagram::from_std(socket) else { return };
    let mut buffer = [0; 64];
    while let Ok(len) = socket.recv(&mut buffer).await {
        match Hook::parse(&buffer[..len]) {
            Some(hook) => inbox.deliver(Input::Hook(hook)).await,
            None => log.warn("debug hook: not understood"),
        }
    }
}
