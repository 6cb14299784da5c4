//! What is explored: which rules hold, how much may fail.

/// A rule of the pair, or an assumption that its safety rests on. A variant can break one; the checker must then find a
/// history in which a promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A term is durable before anybody hears of it (broken: it never becomes so).
    Fsync,
    /// A gate is open only while the lease lasts.
    Lease,
    /// The lease ends before the peer's patience does.
    LeaseEndsFirst,
    /// A packet that would make an end believe waits for the peer's acknowledgement.
    Hold,
    /// A node is eligible only when it has stored what the primary has.
    CatchUp,
    /// A primary does not give way to a lower term.
    Term,
    /// A living primary is followed, whoever has the better name.
    NoPreemption,
    /// A promotion is won at the witness.
    Witness,
    /// The first word from the peer ends what the witness has lent.
    LoanEnds,
    /// A secondary that waits for a session which the primary takes for read gets another one.
    SessionAsked,
    /// Assumption: a connection closes only if its process is dead.
    HonestClose,
}

/// One thing to explore. Times are in ticks: only their order counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// For the table.
    pub name: &'static str,
    /// A witness decides when the nodes do not hear each other.
    pub witness: bool,
    /// The witness answers in the moment in which it reads a request; otherwise at any later time.
    pub prompt: bool,
    /// How long after its renewal a lease ends.
    pub lease: u8,
    /// Silence after which the peer is declared gone.
    pub dead: u8,
    /// Silence after which a node that has not caught up leads.
    pub start: u8,
    /// Begins with a whole pair instead of two processes that have just started.
    pub whole: bool,
    /// Crashes, power losses and freezes, together.
    pub faults: u8,
    /// Full partitions.
    pub cuts: u8,
    /// Hellos that are not lost in a partition, but slow.
    pub late: u8,
    /// Connections that clients open.
    pub connections: u8,
    /// Calm ticks after which the pair must be whole again.
    pub settled: u8,
    /// Histories with a higher term are not followed further.
    pub max_term: u8,
    /// The rule that is broken on purpose.
    pub broken: Option<Rule>,
}

impl Variant {
    /// Two nodes of which a path always connects.
    pub const PATH_WORKS: Variant = Variant {
        name: "a path works",
        witness: false,
        prompt: true,
        lease: 2,
        dead: 3,
        start: 5,
        whole: false,
        faults: 2,
        cuts: 0,
        late: 0,
        connections: 1,
        settled: 12,
        max_term: 5,
        broken: None,
    };

    /// Two nodes that every path may cease to connect.
    pub const CUT: Variant = Variant {
        name: "partition, no witness",
        faults: 1,
        cuts: 1,
        late: 1,
        connections: 0,
        max_term: 3,
        ..Variant::PATH_WORKS
    };

    /// Two nodes and a witness.
    pub const WITNESS: Variant = Variant {
        name: "partition, witness",
        witness: true,
        prompt: true,
        lease: 3,
        dead: 4,
        start: 6,
        whole: true,
        faults: 0,
        cuts: 1,
        late: 0,
        connections: 1,
        settled: 20,
        max_term: 3,
        broken: None,
    };

    /// What an ordinary test run explores.
    pub const SLICE: &[Variant] = &[
        Variant { faults: 1, ..Variant::PATH_WORKS },
        Variant { faults: 0, ..Variant::CUT },
        Variant { connections: 0, max_term: 2, ..Variant::WITNESS },
    ];

    /// What `cargo xtask model` explores.
    pub const FULL: &[Variant] = &[
        Variant { faults: 0, connections: 2, ..Variant::PATH_WORKS },
        Variant { faults: 1, connections: 2, ..Variant::PATH_WORKS },
        Variant::PATH_WORKS,
        Variant { faults: 0, late: 2, ..Variant::CUT },
        Variant::CUT,
        Variant { connections: 0, prompt: false, ..Variant::WITNESS },
        Variant { connections: 0, late: 1, max_term: 2, ..Variant::WITNESS },
        Variant::WITNESS,
        Variant { connections: 0, whole: false, max_term: 2, ..Variant::WITNESS },
        Variant { connections: 1, cuts: 0, faults: 1, ..Variant::WITNESS },
    ];

    /// The same without this rule.
    pub const fn without(self, rule: Rule) -> Variant {
        Variant { broken: Some(rule), ..self }
    }

    /// Whether the rule is not the broken one.
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// Whether (b) is claimed at all: without a witness a partition excuses it.
    pub(crate) fn promises_connections(&self) -> bool {
        self.witness || self.cuts == 0
    }
}
