//! The values that cross: what the node pushes into the [`crate::Sender`] and
//! what the [`crate::Receiver`] of the other node yields.

use holdfast_engine::{FlowClose, FlowRecord, FlowRef, PersistenceRecord};
use holdfast_wire::Endpoint;

/// Longest text of one journal line, bytes of UTF-8. The configuration refuses
/// longer commands, so that each line that was accepted can be mirrored.
pub const MAX_JOURNAL_TEXT: usize = 4096;

/// Something to be mirrored. A flow is only named: its record is read through
/// [`Source::record`] when the datagram is written, so ten changes that wait
/// cost one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The flow was opened or changed.
    Flow(FlowRef),
    /// A flow that the peer has is gone; with its reference if it was written in
    /// this session.
    Close(Option<FlowRef>, FlowClose),
    /// A persistence session began, moved or ended. Left out if it is no longer so when it is written.
    Persistence(PersistenceRecord),
    /// A server's health as seen by the primary's monitors.
    Health(HealthRecord),
    /// A line of the ordered journal.
    Journal(JournalLine),
    /// Everything that existed when the session started has been pushed; the
    /// digest is read when this is written. May be pushed again later, as a
    /// check at a position that both nodes agree on.
    BulkEnd,
    /// Both nodes began the session with the same flows in these buckets.
    Kept(Kept),
}

/// Buckets of one part ([`holdfast_engine::BUCKETS_PER_PART`]) that need not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The part, below [`holdfast_engine::PARTS`].
    pub part: u8,
    /// One bit per bucket, the first lowest.
    pub buckets: u128,
}

/// What the receiver yields, in the order of the sender's writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A flow as it stood when its datagram was written.
    Flow(FlowRecord),
    /// A flow is gone.
    Close(FlowClose),
    /// The flow that was told under this number ([`crate::Receiver::number`]) is gone.
    CloseNumber {
        /// The number, below [`crate::MAX_NUMBERS`].
        number: u32,
        /// As [`FlowClose::stamp`].
        stamp: u64,
    },
    /// A persistence session.
    Persistence(PersistenceRecord),
    /// A server's health.
    Health(HealthRecord),
    /// A line of the ordered journal.
    Journal(JournalLine),
    /// The sender's digest at exactly this position of the stream: a receiver
    /// that has applied everything before it must have the same.
    BulkEnd(Digest),
    /// The flows of these buckets are in the session as they are.
    Kept(Kept),
}

/// What a node holds, in three numbers; equal on both nodes at the same
/// position of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// XOR over the flows written in this session.
    pub digest: u64,
    /// How many flows it covers.
    pub flows: u64,
    /// A number for the state that the journal's lines have made.
    pub journal: u64,
}

/// Health of one server endpoint, by address and not by service number, since
/// configuration numbers never cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthRecord {
    /// The server endpoint as configured in the service (port 0 = `*`).
    pub server: Endpoint,
    /// IP protocol of the service: 6 TCP, 17 UDP, 0 ANY.
    pub kind: u8,
    /// Whether its monitors hold it to be up.
    pub up: bool,
}

/// Where a line stands in the journal. A snapshot is `Begin`, lines, `End`;
/// single changes are lines outside of such a bracket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalKind {
    /// Opens a snapshot.
    Begin,
    /// A line.
    Line,
    /// Closes a snapshot.
    End,
}

/// One line of the ordered journal; what its text means is not known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalLine {
    kind: JournalKind,
    text: String,
}

/// The text is longer than [`MAX_JOURNAL_TEXT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

impl JournalLine {
    /// A line; refused if `text` is longer than [`MAX_JOURNAL_TEXT`] bytes.
    pub fn new(kind: JournalKind, text: String) -> Result<JournalLine, LineTooLong> {
        if text.len() > MAX_JOURNAL_TEXT { Err(LineTooLong) } else { Ok(JournalLine { kind, text }) }
    }

    /// Where it stands.
    pub fn kind(&self) -> JournalKind {
        self.kind
    }

    /// Its text, at most [`MAX_JOURNAL_TEXT`] bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Takes the text out.
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Where the sender reads current values while it writes a datagram; the node
/// implements it over its engine.
pub trait Source {
    /// The record of a flow, `None` if the flow is gone. Each `Some` is
    /// written into the datagram for certain, so the implementation may note
    /// "written in this session" and update its digest at once.
    fn record(&mut self, flow: FlowRef) -> Option<FlowRecord>;

    /// Whether a session that was pushed is still as its record says. One that has moved or ended has been pushed again,
    /// and may have been written before what waited in bulk.
    fn is_current(&self, _session: &PersistenceRecord) -> bool {
        true
    }

    /// The tail fields that came with the flow from a peer of another version, to
    /// be passed on; at most [`crate::wire::MAX_TAIL`] bytes.
    fn tail(&self, _flow: FlowRef) -> &[u8] {
        &[]
    }

    /// The digest at this position of the stream.
    fn digest(&mut self) -> Digest;
}

/// The kinds of records, as indexes of the counters by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// [`Record::Flow`].
    Flow,
    /// [`Record::Close`].
    Close,
    /// [`Record::Persistence`].
    Persistence,
    /// [`Record::Health`].
    Health,
    /// [`Record::Journal`]; a line split over datagrams counts once.
    Journal,
    /// [`Record::BulkEnd`].
    BulkEnd,
    /// [`Record::Kept`].
    Kept,
}

impl RecordKind {
    /// Every kind, in the order of the counters.
    pub const ALL: [RecordKind; 7] = [
        RecordKind::Flow,
        RecordKind::Close,
        RecordKind::Persistence,
        RecordKind::Health,
        RecordKind::Journal,
        RecordKind::BulkEnd,
        RecordKind::Kept,
    ];

    /// Its name for counters and metrics.
    pub fn name(self) -> &'static str {
        match self {
            RecordKind::Flow => "flow",
            RecordKind::Close => "close",
            RecordKind::Persistence => "persistence",
            RecordKind::Health => "health",
            RecordKind::Journal => "journal",
            RecordKind::BulkEnd => "bulk-end",
            RecordKind::Kept => "kept",
        }
    }
}

/// Counters by record kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KindCounts([u64; RecordKind::ALL.len()]);

impl KindCounts {
    /// The count of one kind.
    pub fn get(&self, kind: RecordKind) -> u64 {
        self.0[kind as usize]
    }

    /// The sum over all kinds.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub(crate) fn add(&mut self, kind: RecordKind) {
        self.0[kind as usize] += 1;
    }
}
