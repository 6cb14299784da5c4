//! Who is primary: the pure election machine of a pair.
//!
//! One [`Machine`] runs in each node. It hears hellos and hints, is asked at
//! the start of every turn whether the gate must be closed, and answers with
//! [`Effect`]s. It knows nothing of flows, packets or addresses. The reasoning
//! behind every rule is told in `docs/ha.md`; the checkers in `tests/` hold
//! the machine to it: *at most one node is primary with an unexpired lease*.
//!
//! The driver's contract:
//! - [`Machine::handle_turn`] is the first call of every turn. If it returns
//!   `true` the gate is closed before anything else happens.
//! - In a turn, hellos are handed in before frames are looked at: a node that
//!   stalled must learn that it was replaced before it forwards again.
//! - After every input, drain [`Machine::poll_effect`]; then arm one timer at
//!   [`Machine::poll_timeout`] for [`Machine::handle_timeout`].
//! - A polled hello is sealed with [`Machine::term`] as it is at that moment.
//! - The clock behind `now` runs on while the process or the machine sleeps.
#![forbid(unsafe_code)]

mod effect;
mod error;
mod health;
mod hello;
mod inquiry;
mod machine;
mod peer;
mod settings;
mod state;
mod terms;
mod view;
mod wire;
mod witness;

pub use effect::{Cause, Effect, Event, LostCause};
pub use error::{HelloError, Refusal};
pub use health::NodeHealth;
pub use hello::{Hello, HelloKind, Role};
pub use machine::Machine;
pub use settings::{HaStatus, NodeId, PathId, Settings};
pub(crate) use terms::Terms;
pub use view::{PathView, PeerView, StatusView};
pub use wire::{MAX_HELLO, VERSION, tail_value, write_tail_value};
pub use witness::{Answered, Claim, Held, WitnessAnswer, WitnessAsk, WitnessRequest, WitnessView};
