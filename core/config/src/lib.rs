//! Named objects and the one table of commands.
//!
//! A command travels one road, whoever typed it: [`parse`] turns a line into a
//! [`Command`] by looking at the table, [`Config::apply`] turns the command
//! into another configuration or an error with the market's code and the
//! offending word, and [`Config::lines`] writes the configuration back as
//! commands that replay. The same table answers [`complete`], [`help`] and
//! [`reference_markdown`]. [`show`] joins the configuration with the live
//! [`Facts`] of a node.
//!
//! The crate leans on nothing: no clock, no file, no terminal. Time enters
//! through [`Facts::now`], and everything a `show` command prints that is not
//! configuration comes from the same trait.

#![forbid(unsafe_code)]

mod apply;
mod check;
mod command;
mod complete;
mod config;
mod connections;
mod error;
mod facts;
mod group;
mod json;
mod kept;
mod lexer;
mod lines;
mod matching;
mod model;
mod monitor;
mod options;
mod parse;
mod replay;
mod rules;
mod sessions;
mod show;
mod spill;
mod surge;
mod table;
mod time;
mod value;

#[cfg(test)]
mod tests;

pub use command::{Action, Command, Kind};
pub use complete::{Completion, complete, help, reference_markdown};
pub use config::{Config, Scope};
pub use connections::{
    CONNECTION_STATES, ConnectionFilter, ConnectionRow, FlowRole, connection_header, connection_json, connection_line,
};
pub use error::{CommandError, Message, Warning, messages};
pub use facts::{
    ChannelState, ConfigFacts, DataPlaneFacts, DigestState, Facts, HaFacts, HaRole, Health, MonitorFacts, NodeFacts,
    NodeState, PeerFacts, PeerPorts, ResyncFacts, RouteFacts, SecurityFacts, SecurityFailure, SecurityState,
    ServiceFacts, StandIn, SyncState, TakeoverFacts, VserverFacts, WitnessFacts,
};
pub use group::ServiceGroup;
pub use kept::{KeptType, Transport};
pub use model::{
    AddressPattern, Binding, ConnFailover, FailoverSet, HaPeer, HaSettings, HaStatus, Hook, Interface, IpKind,
    LbVserver, Leaving, Method, MirrorMode, Modes, MonitorBinding, NsConfig, NsIp, Persistence, Redirection, Route,
    RouteMonitor, RpcNode, Server, Service, ServiceType, VirtualRouter,
};
pub use monitor::{DnsQuestion, DnsRecords, HttpBody, HttpStatus, Login, Monitor, MonitorKind, Pattern, unescape};
pub use parse::{parse, parse_all};
pub use replay::{REFUSALS_KEPT, Refusal, Replaced, Replacement};
pub use sessions::{SessionRow, SessionScope, session_header, session_json, session_line};
pub use show::{show, show_json};
pub use spill::{SpillMethod, Spillover};
pub use surge::{SurgeProtection, Throttle};

/// Longest command line that is accepted, in bytes; a journal line must fit one mirror datagram.
pub const MAX_LINE: usize = 1280;
