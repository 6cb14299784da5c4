//! The rooms joined into one node; still pure.
//!
//! The driver (daemon or simulator) follows one routine per turn:
//! `handle_turn(now)` first, then inputs (peer datagrams before frames), then
//! `handle_timeout(now)` in every turn, due or not, then drain `poll_frame` and `poll_effect`
//! until both are empty, then sleep until `poll_timeout`.
#![forbid(unsafe_code)]

mod aside;
mod channel;
mod commands;
mod counters;
mod effect;
mod envelope;
mod fitness;
mod ha_counters;
mod handover;
mod health;
mod hearing;
mod hooks;
mod idle;
mod leaving;
mod listing;
mod lower;
mod mirroring;
mod node;
mod offer;
mod offloading;
mod onlooker;
mod overflow;
mod peer_ports;
mod probe;
mod promote;
mod propagation;
mod publish;
mod quarantine;
mod resync;
#[cfg(test)]
mod samples;
mod sealed;
mod secure;
mod sessions;
mod stream;
mod sync;
mod timeline;
mod view;
mod witness;

pub use channel::PEER_ETHERTYPE;
pub use effect::{
    DataPlane, Effect, HookRun, Level, NodeOptions, PEER_PORT, PeerLink, PortState, ProbeKind, ProbeOutcome,
    ProbeRequest, Reply, StartError, StreamEvent, WitnessCall,
};
pub use node::Node;
pub use onlooker::Onlooker;
pub use probe::{
    Carrier, Conversation, Event, Expectation, Inquiry, Login, MAX_HEARD, Question, Records, Script, Verdict,
};
pub use quarantine::{Life, LifeEnd, quarantine_at_start};
pub use witness::{claim_text, parse_claim};
