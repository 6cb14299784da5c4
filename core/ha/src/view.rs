//! What `show HA node` and the counters need from a machine.

use crate::{HaStatus, NodeHealth, PathId, Role, WitnessView};
use holdfast_base::{Duration, Instant};

/// One path as seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathView {
    /// Which.
    pub path: PathId,
    /// When the last hello came by it.
    pub heard: Instant,
    /// Hellos received by it since the start.
    pub received: u64,
}

/// The peer as last heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerView {
    /// Its boot.
    pub boot: u64,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Its setting.
    pub status: HaStatus,
    /// It says that it holds the last primary's state.
    pub caught_up: bool,
    /// It says that it would lead if it were its turn.
    pub ready: bool,
    /// How well it can serve, as it says.
    pub health: NodeHealth,
    /// The mirror session that it is caught up with.
    pub synced_session: u32,
    /// When it was last heard on any path.
    pub heard: Instant,
}

impl PeerView {
    /// Whether it says that it holds all that this mirror session has told. A node that leads, or hands over, names the
    /// session that it began itself: that may have the same number.
    pub fn holds(&self, session: u32) -> bool {
        self.role == Role::Secondary && self.caught_up && self.synced_session == session
    }
}

/// A machine's state for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusView {
    /// Our role.
    pub role: Role,
    /// Our term.
    pub term: u64,
    /// Our setting.
    pub status: HaStatus,
    /// How well we can serve.
    pub health: NodeHealth,
    /// Changes of role for health's sake in the present interval.
    pub flips: u32,
    /// How much of that interval is over.
    pub flip_time: Option<Duration>,
    /// There were as many as allowed: the primary stays.
    pub sticky: bool,
    /// Since when we have this role.
    pub since: Instant,
    /// We hold the state of the last primary (or are it).
    pub caught_up: bool,
    /// The hello interval in force.
    pub hello: Duration,
    /// The dead interval in force.
    pub dead: Duration,
    /// The lease's end, if one is running.
    pub lease_expiry: Option<Instant>,
    /// The peer, while it is joined.
    pub peer: Option<PeerView>,
    /// The witness, if there is one.
    pub witness: Option<WitnessView>,
    /// The idle connection to the peer is open.
    pub connected: bool,
    /// The peer was heard since the start, even if it is gone.
    pub peer_ever_heard: bool,
    /// Every path by which a hello came.
    pub paths: Vec<PathView>,
    /// Promotions of this machine since the start.
    pub promotions: u64,
    /// Times that the lease had ended before a turn began.
    pub frozen: u64,
    /// Times that a second primary was heard.
    pub dual_primary: u64,
    /// Hellos sent, each counted once for all its paths.
    pub hellos_sent: u64,
    /// Hellos received, copies included.
    pub hellos_received: u64,
    /// Hellos received that were copies, too old, of an ended boot or from a
    /// node that is not our peer.
    pub hellos_ignored: u64,
}
