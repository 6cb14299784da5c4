//! One node as the model knows it: what is durable, what a process remembers, and clocks that tell only differences.

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// There is none. `closed`: the kernel has closed its connections.
    Down {
        /// It was killed; the machine lives.
        closed: bool,
    },
    /// It takes its turns.
    Running,
    /// It is there, but is not run.
    Frozen,
}

/// The roles of `holdfast_ha`, without the planned switchover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Just started.
    Init,
    /// Gate closed.
    Secondary,
    /// Gate open while the lease lasts.
    Primary,
}

/// What a node has proof of about its peer's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Knows {
    /// Nothing.
    Never,
    /// A process that has ended.
    Former,
    /// The present process.
    Present,
}

/// A node's part in an exchange with the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Ticks since it was sent.
    pub age: u8,
    /// What the cell must hold; `None`: anything of a lower term.
    pub expect: Option<(u8, u8)>,
    /// The term to be written, with our name.
    pub to: u8,
    /// What came of it, once the witness has looked.
    pub outcome: Option<Outcome>,
}

/// The answer of the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The cell is ours.
    Won,
    /// It held this term.
    Lost(u8),
}

/// The witness lets us lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Licence {
    /// With this term.
    pub term: u8,
    /// Ticks since it was asked for.
    pub age: u8,
    /// It was taken from the very term that we are caught up with.
    pub exact: bool,
}

/// One node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    /// Whether the process runs.
    pub life: Life,
    /// Durable: no term above it was announced.
    pub disk: u8,
    /// The next term is on its way to the disk.
    pub storing: bool,
    /// Its role.
    pub role: Role,
    /// Its own term as primary, that of the primary it follows as secondary.
    pub term: u8,
    /// The highest term stored, heard or used.
    pub known: u8,
    /// It has taken its turn in this tick.
    pub turned: bool,
    /// Ticks without a turn.
    pub gap: u8,
    /// Ticks of listening without hearing the peer.
    pub quiet: u8,
    /// Ticks since a hello was sent.
    pub sent: u8,
    /// Ticks before a thawed node may promote.
    pub listen: u8,
    /// Ticks for which a promise binds.
    pub promised: u8,
    /// Ticks since the unanswered probe was sent.
    pub asked: Option<u8>,
    /// Which of the peer's lives it has proof of.
    pub knows: Knows,
    /// It has received something from the peer's present life, so that its letters name it.
    pub acquainted: bool,
    /// The peer is heard.
    pub joined: bool,
    /// The peer's process is proven dead.
    pub lost_dead: bool,
    /// As last heard.
    pub peer_role: Role,
    /// As last heard.
    pub peer_term: u8,
    /// As last heard.
    pub peer_current: bool,
    /// As last heard.
    pub peer_listening: bool,
    /// The term of the primary that it follows or followed last.
    pub following: Option<u8>,
    /// It holds the state of the last primary that it knew, or is it.
    pub current: bool,
    /// Connections in its table, a bit each.
    pub table: u8,
    /// Connections whose packet waits for the peer.
    pub held: u8,
    /// As primary: a mirror session runs.
    pub session: bool,
    /// With a witness: ticks since the sending of the newest hello that the peer has answered.
    pub acked: u8,
    /// With a witness: ticks since the sending of the newest hello heard.
    pub heard_age: u8,
    /// With a witness: ticks since the sending of the last request that it granted.
    pub verified: u8,
    /// The peer has said nothing since the cell was won: what was won holds.
    pub sole: bool,
    /// What it has asked the witness.
    pub request: Option<Request>,
    /// What it has won and not used yet.
    pub licence: Option<Licence>,
}

impl Node {
    /// A process that has just started on a disk with this term.
    pub fn started(disk: u8, lease: u8) -> Node {
        Node {
            life: Life::Running,
            disk,
            storing: false,
            role: Role::Init,
            term: disk,
            known: disk,
            turned: false,
            gap: 0,
            quiet: 0,
            sent: lease,
            listen: 0,
            promised: 0,
            asked: None,
            knows: Knows::Never,
            acquainted: false,
            joined: false,
            lost_dead: false,
            peer_role: Role::Init,
            peer_term: 0,
            peer_current: false,
            peer_listening: false,
            following: None,
            current: false,
            table: 0,
            held: 0,
            session: false,
            acked: lease,
            heard_age: lease,
            verified: lease,
            sole: false,
            request: None,
            licence: None,
        }
    }

    /// No process: only the disk is left.
    pub fn ended(disk: u8, lease: u8, closed: bool) -> Node {
        Node { life: Life::Down { closed }, turned: true, ..Node::started(disk, lease) }
    }

    /// Whether it takes its turns.
    pub fn runs(&self) -> bool {
        self.life == Life::Running
    }
}

/// What a letter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The periodic hello.
    Hello,
    /// Asks the peer to stand back. `fresh`: the asker waits for this very answer.
    Probe {
        /// See above.
        fresh: bool,
    },
    /// Answers a probe.
    Reply {
        /// The probe's.
        fresh: bool,
        /// For a dead interval the sender will not lead.
        promise: bool,
    },
}

/// A hello on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Letter {
    /// What it is for.
    pub kind: Kind,
    /// The sender's role.
    pub role: Role,
    /// The sender's term.
    pub term: u8,
    /// The sender holds the last primary's state.
    pub current: bool,
    /// The sender listens after a freeze.
    pub listening: bool,
    /// The sender has heard nothing for so long that it is about to lead.
    pub gives_up: bool,
    /// It names the receiver's present life, so that it is evidence.
    pub echoes: bool,
    /// Its sender's process has ended and another has begun.
    pub dead_boot: bool,
    /// With a witness: ticks since it was sent.
    pub age: u8,
    /// With a witness: ticks since the sending of the hello that it answers.
    pub acks_age: u8,
}

/// A mirror session: what is under way in it. A record or an acknowledgement that was sent can arrive at any time or
/// never; a copy of it changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// The sender's term.
    pub term: u8,
    /// It is meant for the receiver's present life.
    pub live: bool,
    /// The receiver has begun to read it.
    pub begun: bool,
    /// Records under way.
    pub records: u8,
    /// Records stored.
    pub stored: u8,
    /// What the table held when the session began; its digest follows the last of them.
    pub bulk: u8,
    /// Acknowledgements under way.
    pub acks: u8,
    /// The receiver has found its digest equal.
    pub synced: bool,
}
