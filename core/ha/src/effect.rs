//! What the machine asks of its driver.

use crate::{Hello, PathId, Role, WitnessRequest};

/// One output of the machine, to be carried out in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this hello with the machine's term.
    Send {
        /// `None`: on every path.
        path: Option<PathId>,
        /// What to send.
        hello: Hello,
    },
    /// Make this term durable, then call `handle_term_stored` with it.
    StoreTerm(u64),
    /// Ask the witness, then call `handle_witness`. A new question replaces one
    /// that is not answered.
    AskWitness(WitnessRequest),
    /// The role changed, or a primary took a higher term. If the role is
    /// `Primary` and the peer is joined, a mirror session starts now.
    Role {
        /// The role from now on.
        role: Role,
        /// The machine's term from now on.
        term: u64,
        /// Why.
        cause: Cause,
    },
    /// We follow a primary that we did not follow before: what this node holds
    /// is no longer the pair's state; empty the tables and wait for the bulk.
    Follow {
        /// The primary's boot.
        boot: u64,
        /// The primary's term.
        term: u64,
    },
    /// The peer is heard (again). A primary starts a mirror session with it.
    PeerJoined {
        /// The peer's boot.
        boot: u64,
    },
    /// The peer is gone: end the session, release what waits for its acks.
    PeerLost {
        /// The boot that is gone.
        boot: u64,
        /// How we know.
        cause: LostCause,
    },
    /// For the log and the counters.
    Event(Event),
}

impl Effect {
    pub(crate) fn is_send(&self) -> bool {
        match self {
            Effect::Send { .. } => true,
            Effect::StoreTerm(_)
            | Effect::AskWitness(_)
            | Effect::Role { .. }
            | Effect::Follow { .. }
            | Effect::PeerJoined { .. }
            | Effect::PeerLost { .. }
            | Effect::Event(_) => false,
        }
    }
}

/// Why a role changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// No peer is configured.
    Standalone,
    /// Start-up: no peer heard for the start-up dead interval.
    Alone,
    /// The peer, alive and not primary, stood back for us.
    Elected,
    /// The draining primary stood back for us.
    Switchover,
    /// Nothing heard on any path for the dead interval.
    Silence,
    /// The peer's process is proven or all but proven dead.
    PeerDied,
    /// The peer said goodbye.
    PeerLeft,
    /// The peer is primary.
    PeerIsPrimary,
    /// Both were primary after a partition; settled by who served clients.
    Healed,
    /// Our last turn is too long ago: the lease has ended.
    Frozen,
    /// Nothing comes in here, from anybody.
    Deaf,
    /// The peer cannot hear us and is about to take over.
    Unheard,
    /// The peer does not answer; the witness has granted another term.
    Witnessed,
    /// Neither the peer nor the witness has answered in time: the lease has ended.
    Unwitnessed,
    /// An operator, or a status, asked for a switchover.
    Forced,
    /// Something that is monitored does not work here.
    Unhealthy,
    /// The switchover did not happen in time.
    SwitchoverFailed,
    /// The node ends.
    Stopping,
    /// Start-up is over, but the settings or the disk forbid to lead.
    NotReady,
}

/// How we know that a peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LostCause {
    /// Nothing heard on any path for the dead interval.
    Silence,
    /// The idle connection closed and no probe was answered.
    ProcessDeath,
    /// The peer speaks with a new boot.
    Restarted,
    /// The peer said goodbye.
    Goodbye,
    /// The peer was removed from the settings.
    Removed,
}

/// What an operator may want to know beyond the change of role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Promoted without ever having heard a peer since the start.
    PromotedAlone,
    /// Promoted although the state of the last primary is not complete here.
    PromotedNotCaughtUp,
    /// A second primary was heard.
    DualPrimary {
        /// Its term.
        peer_term: u64,
    },
    /// Nobody serves: this node is not healthy, `failSafe` is off, and no other can lead.
    NobodyServes,
    /// The idle connection closed, but the peer answers.
    FalseAlarm,
    /// The witness does not answer. By itself that changes nothing.
    WitnessLost,
    /// The witness answers (again).
    WitnessReached,
    /// We were not run for this many milliseconds more than planned.
    Frozen {
        /// Milliseconds since the last turn.
        millis: u64,
    },
    /// The peer's operator has ended the pair, and the peer leads on alone: this node does not lead until its settings change.
    Released,
    /// The node has handed over (or nobody can take over) and said goodbye:
    /// the process may end.
    Stopped,
}
