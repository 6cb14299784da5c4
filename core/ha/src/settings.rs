//! What the operator sets, and the names of nodes and paths.

use holdfast_base::Duration;

/// A node's identity in the pair, derived from its NSIP. Only compared: it
/// settles what is equal otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u128);

/// A way by which hellos reach the peer: 0 is the peer link (UDP), 1 and up
/// are the data ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u8);

/// `set HA node -haStatus`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HaStatus {
    /// Takes part in the election.
    #[default]
    Enabled,
    /// Never promotes itself; a primary with this status hands over as soon as
    /// the peer has caught up. A standalone node with it does not begin to lead.
    StaySecondary,
    /// Takes over from a peer without this status as soon as it has caught
    /// up, and refuses a forced failover.
    StayPrimary,
    /// Takes no part: keeps the role it has and never promotes itself.
    Disabled,
}

/// The settings of one machine. Both nodes should have the same intervals; if
/// they differ, each waits for the longer of the two dead intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// The other node; `None` is a standalone node.
    pub peer: Option<NodeId>,
    /// Time between two hellos.
    pub hello: Duration,
    /// Silence on every path after which the peer is declared gone. Must be
    /// at least three hello intervals and more than four lease margins;
    /// [`Settings::dead`] is used as if it were.
    pub dead: Duration,
    /// The node's part in the election.
    pub status: HaStatus,
    /// Lead even if this node is not healthy, when nobody healthier can.
    pub fail_safe: bool,
    /// After so many changes of role for health's sake within `max_flip_time`
    /// the primary stays primary, however it is; 0: no limit.
    pub max_flips: u32,
    /// The interval in which they count; zero: they are not counted.
    pub max_flip_time: Duration,
    /// After a hint that the peer's process died: how long the probes on all
    /// paths must stay unanswered. More than the worst round trip to a peer
    /// that is not frozen.
    pub probe_silence: Duration,
    /// How much earlier than the peer's patience a lease ends, half of it:
    /// covers clock drift and the delay of a turn.
    pub lease_margin: Duration,
    /// A witness decides who leads when the nodes do not hear each other.
    pub witness: bool,
}

impl Settings {
    /// The default time between two hellos.
    pub const HELLO: Duration = Duration::from_millis(100);
    /// The default dead interval.
    pub const DEAD: Duration = Duration::from_millis(400);
    /// The default time that probes must stay unanswered.
    pub const PROBE_SILENCE: Duration = Duration::from_millis(3);
    /// The default lease margin.
    pub const LEASE_MARGIN: Duration = Duration::from_millis(20);

    /// The defaults for `node` with (or without) a peer.
    pub fn new(node: NodeId, peer: Option<NodeId>) -> Settings {
        Settings {
            node,
            peer,
            hello: Settings::HELLO,
            dead: Settings::DEAD,
            status: HaStatus::Enabled,
            fail_safe: false,
            max_flips: 0,
            max_flip_time: Duration::ZERO,
            probe_silence: Settings::PROBE_SILENCE,
            lease_margin: Settings::LEASE_MARGIN,
            witness: false,
        }
    }

    /// The dead interval in force: never below three hellos or four margins,
    /// so that a lease is longer than the time between its renewals.
    pub(crate) fn dead(&self) -> Duration {
        self.dead.max(self.hello * 3).max(self.lease_margin * 4 + self.hello)
    }

    /// The start-up dead interval: how long a node listens before it trusts
    /// that it is alone.
    pub(crate) fn start_up(&self) -> Duration {
        self.dead().max(START_UP_LEAST)
    }

    /// How long after the sending of a question what the witness has lent lasts. A
    /// node that never heard its peer does not know the peer's dead interval, but
    /// waits for the start-up interval at least.
    pub(crate) fn loan(&self) -> Duration {
        self.lease().min(START_UP_LEAST.saturating_sub(self.lease_margin * 2))
    }

    /// How long after the sending of a hello the sender may still act on it.
    pub(crate) fn lease(&self) -> Duration {
        self.dead().saturating_sub(self.lease_margin * 2)
    }
}

/// A node just started listens at least this long before it promotes itself
/// without having heard a peer: two machines powered on together boot seconds
/// apart, but links come up within this time.
const START_UP_LEAST: Duration = Duration::from_secs(1);
