//! How one node tells another what it must remember: flow records and an
//! ordered journal, as a reliable, in-order stream of datagram payloads from
//! the primary's [`Sender`] to the secondary's [`Receiver`].
//!
//! Both are sans-IO machines. A session is one life of the stream; its number
//! stands in every payload and messages of other sessions are ignored. The
//! protocol is drawn in `docs/mirror-protocol.md`. This crate knows nothing of
//! roles, sockets, what journal lines mean, or why a flow changed.
#![forbid(unsafe_code)]

mod error;
mod flight;
mod limits;
mod names;
mod pending;
mod read;
mod receiver;
mod record;
mod rtt;
mod sender;
mod summary;
pub mod wire;

pub use error::WireError;
pub use holdfast_engine::MAX_NUMBERS;
pub use limits::{Limits, MAX_PAYLOAD, MAX_WINDOW};
pub use names::{KnownNames, MAX_NAMES, Names};
pub use receiver::{Receiver, ReceiverStats, Salvage};
pub use record::{
    Digest, HealthRecord, Item, JournalKind, JournalLine, Kept, KindCounts, LineTooLong, MAX_JOURNAL_TEXT, Record,
    RecordKind, Source,
};
pub use sender::{Sender, SenderStats};
