//! What two machines tell each other.

use crate::{Answered, HaStatus, NodeHealth};
use holdfast_base::Duration;

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Just started; listens.
    Init,
    /// Follows the primary or waits for its turn; the gate is closed.
    Secondary,
    /// Forwards, opens flows and announces, while its lease lasts.
    Primary,
    /// Hands over: forwards known flows, opens none, announces nothing.
    Draining,
}

/// Why a hello was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    /// The periodic one, and one at each change of role.
    Hello,
    /// Asks for an answer at once; also asks a peer that is not primary to
    /// let us promote.
    Probe {
        /// Comes back in the answer.
        nonce: u32,
    },
    /// The answer to a probe; may carry a promise.
    ProbeReply {
        /// The probe's.
        nonce: u32,
    },
    /// The sender has closed its gate for good and ends.
    Goodbye,
    /// The sender's operator ends the pair while both nodes live: the role stays where it is.
    Release,
}

/// One message of the election. Term and node id ride in the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Why it was sent.
    pub kind: HelloKind,
    /// The sender's start: a number never used before by this node.
    pub boot: u64,
    /// Grows with every hello of this boot; the copies on several paths carry
    /// the same number. An older number is news from the past.
    pub seq: u64,
    /// The sender's role.
    pub role: Role,
    /// The sender's setting.
    pub status: HaStatus,
    /// The sender holds the state of the last primary it knew.
    pub caught_up: bool,
    /// The sender would promote if it were its turn: willing, not ending, and
    /// its disk answers.
    pub ready: bool,
    /// The sender was frozen a moment ago and listens before it may promote.
    pub listening: bool,
    /// The mirror session that the sender is (or was last) caught up with.
    pub synced_session: u32,
    /// In a reply: from the sending on, for this many milliseconds, the sender
    /// will not become primary. 0: no promise.
    pub promise_ms: u32,
    /// The sender's dead interval in milliseconds: its lease is never longer.
    pub dead_ms: u32,
    /// How long the sender has listened without hearing us, in milliseconds.
    pub silence_ms: u32,
    /// Milliseconds since the sender last saw a packet of a client;
    /// `u64::MAX` if never.
    pub last_client_packet_ago: u64,
    /// The sender compared itself with a primary of this term after a
    /// partition, and outbid it. 0: did not.
    pub decided_over: u64,
    /// How well the sender can serve.
    pub health: NodeHealth,
    /// The sender asks a witness; as a follower it names the hello that it has
    /// heard last. `None`: it has no witness.
    pub witness: Option<Answered>,
    /// For how many more milliseconds the sender takes no records of the mirror
    /// stream; 0: it takes them. The election does not look at it.
    pub quarantine_ms: u64,
    /// The mirror session of which a flow found no room in the sender's table, so
    /// that it acknowledges nothing more of it; 0: none. The election does not look at it.
    pub full_session: u32,
    /// What the sender's node says beside the election; opaque here. 0: nothing.
    pub aside: u64,
}

impl HelloKind {
    /// The sender says no more after this, as far as the receiver is concerned.
    pub(crate) fn is_farewell(self) -> bool {
        matches!(self, HelloKind::Goodbye | HelloKind::Release)
    }
}

impl Hello {
    /// The promise as a duration.
    pub(crate) fn promise(&self) -> Duration {
        Duration::from_millis(u64::from(self.promise_ms))
    }
}
