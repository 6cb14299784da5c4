//! Flows: what happens to a packet, and what a successor must know about it.
//!
//! The engine is a sans-IO machine. Frames, time, plans, records and acks come
//! in through `handle_*` and `set_*`; verdicts, frames and marks go out. It
//! knows no object names, peers, roles or sockets. Read `path.rs` first.
#![forbid(unsafe_code)]

mod alg;
mod buckets;
mod complain;
mod counters;
mod engine;
mod evict;
mod flow;
mod fragment;
mod frame;
mod icmp;
mod limits;
mod mirror;
mod network;
mod offer;
mod offload;
mod open;
mod outbox;
mod passage;
mod path;
mod plan;
mod record;
mod roster;
#[cfg(feature = "sabotage")]
mod sabotage;
mod select;
mod sessions;
mod snat;
mod spill;
mod stray;
mod surge;
mod unreachable;
mod verdict;

#[cfg(test)]
mod tests;

pub use buckets::{BUCKETS, BUCKETS_PER_PART, PARTS};
pub use counters::{CONNECTION_STATES, ConnectionRow, Counters, Counts, ServiceCounters, Traffic, VserverCounters};
pub use engine::{Engine, Gate, Half, Mirroring, NeighbourRow};
pub use flow::numbers::MAX_NUMBERS;
pub use frame::{Frame, Offload, OwnedFrame, Port, PortId};
pub use limits::Limits;
pub use network::NetworkCounters;
pub use offer::Offered;
pub use offload::{OffloadEntry, OffloadOrder, OffloadUse};
pub use plan::{
    Backup, Binding, ConnFailover, Enough, FloatingAddress, FloatingKind, Mask, Method, Persistence, PersistenceKind,
    Plan, Route, Service, ServiceId, Spill, Surge, SurgeStep, Vserver, VserverId, VserverKind,
};
pub use record::{
    Applied, BulkStep, FlowClose, FlowKey, FlowRecord, FlowRef, L2Disc, Mark, PersistenceRecord, PersistenceStep,
    Phase, SessionOf,
};
pub use select::{STARTUP_FLOWS, StandIn};
pub use sessions::{SessionFilter, SessionRow};
pub use verdict::{Drop, Verdict};
