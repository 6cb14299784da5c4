//! The codec: three messages, eight records. Drawn in `docs/mirror-protocol.md`.
//!
//! A record leans on earlier records of its own datagram, and on names that the
//! peer had stored before it was written, and on nothing else: so what lies
//! beyond a gap can be salvaged. Decoders check every byte, never panic, and allocate
//! nothing but the digests of a summary.

use holdfast_engine::{
    BUCKETS_PER_PART, FlowClose, FlowKey, FlowRecord, L2Disc, PARTS, PersistenceRecord, Phase, SessionOf,
};
use holdfast_wire::{Addr, Endpoint};

use crate::names::KnownNames;
use crate::read::Reader;
use crate::{Digest, HealthRecord, JournalKind, Kept, MAX_NUMBERS, MAX_PAYLOAD, MAX_WINDOW, WireError};

mod write;

pub use write::DataWriter;

/// The version of all messages that this code speaks.
pub const VERSION: u8 = 1;
/// Bytes before the first record of a data message.
pub const DATA_HEADER: usize = 24;
/// Bytes of an acknowledgement before its bitmap.
pub const ACK_HEADER: usize = 16;
/// Most bytes of the bitmap: one bit per datagram of the largest window.
pub const MAX_BITMAP: usize = MAX_WINDOW as usize / 8;
/// Most bytes of a flow's tail fields that are kept and passed on; a longer
/// tail is left out and counted.
pub const MAX_TAIL: usize = 640;
/// Most bytes of one record of any kind but a journal fragment, without a tail.
pub const MAX_RECORD: usize = 107;
/// Room that a datagram must have for any record but a journal fragment and
/// for the three names that it may tell; a tail comes on top, and a second byte
/// of length with it.
pub const ROOM_FOR_ANY: usize = MAX_RECORD + 3 * 20;

/// Message kind of data.
const DATA: u8 = 1;
/// Message kind of acknowledgements.
const ACK: u8 = 2;
/// Message kind of summaries.
const SUMMARY: u8 = 3;
/// The part of a summary that stands for all parts: nothing is in any bucket.
const NOTHING: u8 = 0xff;
/// Where the base stamp stands in a data message.
const BASE_AT: usize = 16;
/// Sequence numbers stay below this, so that sums with a window cannot overflow.
const SEQUENCE_END: u64 = 1 << 63;
/// Stamps stay below this: twice what a node counts on from, so that no node's own get here.
const STAMP_END: u64 = 1 << 62;
/// Fewer bytes of journal text than this are not worth a fragment of their own.
const MIN_FRAGMENT: usize = 64;

const FLOW: u8 = 1;
const CLOSE: u8 = 2;
const PERSISTENCE: u8 = 3;
const HEALTH: u8 = 4;
const JOURNAL: u8 = 5;
const BULK_END: u8 = 6;
const NAME: u8 = 7;
const KEPT: u8 = 8;
/// Record kinds from here to 15 must be understood.
const MANDATORY_RECORD: u8 = 12;
/// Tail fields from here to 255 must be understood.
const MANDATORY_FIELD: u8 = 0x80;

/// Tail field of a persistence session: the address called counts, beside the client's.
const BESIDE_CLIENT: u8 = 1;
/// Tail field of a persistence session: the address called counts, and no client's, which is written as unspecified.
const INSTEAD_OF_CLIENT: u8 = 2;

/// Tag bit: addresses take 16 bytes instead of 4.
const WIDE: u8 = 0x40;
/// Tag bit of a flow: the source is the client itself (USIP).
const USIP: u8 = 0x80;
/// Tag bit of a close: the flow's number follows, and nothing else.
const BY_NUMBER: u8 = 0x80;
/// Tag bit of a persistence session: it has ended, no server follows.
const ENDED: u8 = 0x80;
/// Tag bit of a health record: up.
const UP: u8 = 0x80;
/// Tag bit of a journal fragment: more follow.
const MORE: u8 = 0x40;
/// Tag bit of a journal fragment: not the first.
const CONTINUED: u8 = 0x80;

/// Shape bits: protocol (0 a byte follows, 1 TCP, 2 UDP, 3 the number 0).
const PROTO: u8 = 0x03;
/// Shape bit: a layer-2 discriminator follows.
const L2: u8 = 0x04;
/// Shape bits: idle time-outs (0 two follow, 1 one for both, 2 as before).
const IDLE: u8 = 0x18;
const IDLE_ONE: u8 = 0x08;
const IDLE_AS_BEFORE: u8 = 0x10;
/// Shape bit: VIP (of a close: the key's destination) as before.
const VIP_AS_BEFORE: u8 = 0x20;
/// Shape bit: server as before.
const SERVER_AS_BEFORE: u8 = 0x40;
/// Shape bit: address of the source as before; its port follows.
const SOURCE_AS_BEFORE: u8 = 0x80;

/// Which message a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// From a sender, for a receiver.
    Data,
    /// From a receiver, for a sender.
    Ack,
    /// From a receiver, for a sender: what it began the session with.
    Summary,
}

/// Which message a payload is and of which session, without reading further.
pub fn peek(payload: &[u8]) -> Result<(Message, u32), WireError> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != VERSION {
        return Err(WireError::Version);
    }
    let message = match reader.u8()? {
        DATA => Message::Data,
        ACK => Message::Ack,
        SUMMARY => Message::Summary,
        _ => return Err(WireError::MessageKind),
    };
    reader.be16()?;
    Ok((message, reader.be32()?))
}

/// The fixed part of a data message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The session.
    pub session: u32,
    /// Position of the datagram in its session, from 0.
    pub seq: u64,
    /// What the stamps of its records are counted from.
    pub base: u64,
}

/// Reads the fixed part of a data message.
pub fn decode_data_header(payload: &[u8]) -> Result<DataHeader, WireError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(WireError::TooLong);
    }
    let (message, session) = peek(payload)?;
    if message != Message::Data {
        return Err(WireError::MessageKind);
    }
    let mut reader = Reader::new(payload);
    reader.take(8)?;
    let seq = reader.be64()?;
    if seq >= SEQUENCE_END {
        return Err(WireError::Sequence);
    }
    Ok(DataHeader { session, seq, base: reader.be64()? })
}

/// Checks a data message to its last byte: after `Ok`, walking it with a
/// [`Cursor`] meets no error.
pub fn validate_data(payload: &[u8], known: &KnownNames) -> Result<Checked, WireError> {
    let header = decode_data_header(payload)?;
    let mut cursor = Cursor::new(&header);
    let (mut records, mut names) = (0, 0);
    while let Some(entry) = cursor.next(payload, known) {
        names += u32::from(matches!(entry?, Entry::Name { .. }));
        records += 1;
    }
    if records == 0 { Err(WireError::Empty) } else { Ok(Checked { header, names }) }
}

/// A data message in which every byte was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its fixed part.
    pub header: DataHeader,
    /// Names that it tells.
    pub names: u32,
}

/// One record as it stands in a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A flow, and the number under which it may be closed.
    Flow(FlowRecord, Option<u32>),
    /// A flow's end.
    Close(FlowClose),
    /// The end of the flow with this number.
    CloseNumber {
        /// The number, as told with the flow's latest record.
        number: u32,
        /// As [`FlowClose::stamp`].
        stamp: u64,
    },
    /// A persistence session.
    Persistence(PersistenceRecord),
    /// A server's health.
    Health(HealthRecord),
    /// A journal line or a part of one.
    Fragment(Fragment<'a>),
    /// The sender's digest at this position.
    BulkEnd(Digest),
    /// From here on this number may stand for this address.
    Name {
        /// The number, below [`crate::MAX_NAMES`].
        number: u16,
        /// The address.
        addr: Addr,
    },
    /// Buckets that need not be written.
    Kept(Kept),
    /// A record kind that this version does not know and may skip.
    Unknown,
}

/// A journal line or a part of one; parts follow each other with no other
/// journal record between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Where the line stands in the journal.
    pub kind: JournalKind,
    /// Whether the line begins here.
    pub first: bool,
    /// Whether the line ends here.
    pub last: bool,
    /// The text of this part.
    pub text: &'a str,
}

/// What later records of a datagram may lean on. "As before" is as in the
/// latest record of the same width: IPv4 and IPv6 flows come mixed and share
/// nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Context {
    base: u64,
    narrow: Before,
    wide: Before,
}

impl Context {
    fn before(&mut self, wide: bool) -> &mut Before {
        if wide { &mut self.wide } else { &mut self.narrow }
    }
}

/// What later records of a datagram may call "as before".
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    vip: Option<Endpoint>,
    server: Option<Endpoint>,
    source: Option<Addr>,
    idle: Option<(u32, u32)>,
}

/// Walks the records of one data message. It borrows nothing, so that a
/// receiver can keep it beside the payload.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    at: usize,
    context: Context,
    unknown: u64,
    /// Where the tail fields of the latest record stand: from, to.
    tail: (usize, usize),
}

impl Cursor {
    /// A cursor before the first record of the message with this header.
    pub fn new(header: &DataHeader) -> Cursor {
        let context = Context { base: header.base, ..Context::default() };
        Cursor { at: DATA_HEADER, context, unknown: 0, tail: (0, 0) }
    }

    /// Records and tail fields skipped so far because they are not known.
    pub fn unknown(&self) -> u64 {
        self.unknown
    }

    /// The tail fields, none of which this version knows, of the record that
    /// [`Cursor::next`] has read last.
    pub fn tail<'a>(&self, payload: &'a [u8]) -> &'a [u8] {
        payload.get(self.tail.0..self.tail.1).unwrap_or_default()
    }

    /// The next record of `payload`, `None` at its end. After an error the
    /// walk is over. `known` are the names told by datagrams stored before.
    pub fn next<'a>(&mut self, payload: &'a [u8], known: &KnownNames) -> Option<Result<Entry<'a>, WireError>> {
        let rest = payload.get(self.at..).filter(|rest| !rest.is_empty())?;
        let mut reader = Reader::new(rest);
        let entry = self.entry(&mut reader, known);
        self.at = if entry.is_ok() { self.at + reader.at() } else { usize::MAX };
        Some(entry)
    }

    fn entry<'a>(&mut self, reader: &mut Reader<'a>, known: &KnownNames) -> Result<Entry<'a>, WireError> {
        self.tail = (0, 0);
        let tag = reader.u8()?;
        let len = reader.varint()?;
        let body = reader.take(usize::try_from(len).map_err(|_| WireError::Truncated)?)?;
        let mut body = Reader::new(body);
        let base = self.context.base;
        let before = self.context.before(tag & WIDE != 0);
        let entry = match tag & 0x0f {
            FLOW => {
                let record = read_flow(tag, &mut body, base, before, known)?;
                Entry::Flow(record, read_number(&mut body)?)
            }
            CLOSE if tag & BY_NUMBER != 0 => read_close_number(tag, &mut body, base)?,
            CLOSE => Entry::Close(read_close(tag, &mut body, base, before, known)?),
            PERSISTENCE => {
                let (record, unknown) = read_persistence(tag, &mut body, base, before, known)?;
                self.unknown += unknown;
                Entry::Persistence(record)
            }
            HEALTH => Entry::Health(read_health(tag, &mut body)?),
            JOURNAL => return Ok(Entry::Fragment(read_fragment(tag, &mut body)?)),
            BULK_END => Entry::BulkEnd(read_bulk_end(tag, &mut body)?),
            NAME => read_name(tag, &mut body, known)?,
            KEPT => Entry::Kept(read_kept(tag, &mut body)?),
            kind if kind >= MANDATORY_RECORD => return Err(WireError::UnknownRecord),
            _ => {
                self.unknown += 1;
                return Ok(Entry::Unknown);
            }
        };
        let end = self.at + reader.at();
        self.tail = (end - body.left(), end);
        self.unknown += skip_tail(&mut body)?;
        Ok(entry)
    }
}

/// Skips the tail fields; none is known to this version.
fn skip_tail(body: &mut Reader<'_>) -> Result<u64, WireError> {
    let mut skipped = 0;
    while !body.is_empty() {
        let (field, _) = read_field(body)?;
        reject_mandatory(field)?;
        skipped += 1;
    }
    Ok(skipped)
}

/// A tail field: its type and its value.
fn read_field<'a>(body: &mut Reader<'a>) -> Result<(u8, &'a [u8]), WireError> {
    let field = body.u8()?;
    let len = body.varint()?;
    Ok((field, body.take(usize::try_from(len).map_err(|_| WireError::Truncated)?)?))
}

fn reject_mandatory(field: u8) -> Result<(), WireError> {
    if field >= MANDATORY_FIELD { Err(WireError::UnknownField) } else { Ok(()) }
}

fn read_flow(
    tag: u8,
    body: &mut Reader<'_>,
    base: u64,
    before: &mut Before,
    known: &KnownNames,
) -> Result<FlowRecord, WireError> {
    let phase = match (tag >> 4) & 3 {
        0 => Phase::Opening,
        1 => Phase::Established,
        2 => Phase::Closing,
        _ => return Err(WireError::Value),
    };
    let wide = tag & WIDE != 0;
    let shape = body.u8()?;
    let stamp = read_stamp(body, base)?;
    let proto = read_proto(shape, body)?;
    let l2 = read_l2(shape, body)?;
    let client = read_endpoint(wide, body)?;
    let vip = read_or_before(shape & VIP_AS_BEFORE != 0, before.vip, || read_named(wide, body, known))?;
    let server = read_or_before(shape & SERVER_AS_BEFORE != 0, before.server, || read_named(wide, body, known))?;
    let source_before = shape & SOURCE_AS_BEFORE != 0;
    let source = if tag & USIP == 0 {
        let addr = read_or_before(source_before, before.source, || read_named_addr(wide, body, known))?;
        before.source = Some(addr);
        Endpoint { addr, port: body.be16()? }
    } else if source_before {
        return Err(WireError::Value);
    } else {
        client
    };
    let idle = match shape & IDLE {
        0 => (body.varint32()?, body.varint32()?),
        IDLE_ONE => body.varint32().map(|both| (both, both))?,
        IDLE_AS_BEFORE => before.idle.ok_or(WireError::Reference)?,
        _ => return Err(WireError::Value),
    };
    (before.vip, before.server, before.idle) = (Some(vip), Some(server), Some(idle));
    let (client_idle_s, server_idle_s) = idle;
    Ok(FlowRecord { stamp, proto, l2, client, vip, server, source, phase, client_idle_s, server_idle_s })
}

/// A flow's number plus one; 0: it has none.
fn read_number(body: &mut Reader<'_>) -> Result<Option<u32>, WireError> {
    let number = body.varint32()?.checked_sub(1);
    if number.is_some_and(|number| number >= MAX_NUMBERS) { Err(WireError::Value) } else { Ok(number) }
}

fn read_close_number(tag: u8, body: &mut Reader<'_>, base: u64) -> Result<Entry<'static>, WireError> {
    reject_bits(tag, 0x70)?;
    let stamp = read_stamp(body, base)?;
    let number = read_number(body)?.ok_or(WireError::Value)?;
    Ok(Entry::CloseNumber { number, stamp })
}

fn read_close(
    tag: u8,
    body: &mut Reader<'_>,
    base: u64,
    before: &mut Before,
    known: &KnownNames,
) -> Result<FlowClose, WireError> {
    reject_bits(tag, 0xb0)?;
    let wide = tag & WIDE != 0;
    let shape = body.u8()?;
    reject_bits(shape, IDLE | SERVER_AS_BEFORE | SOURCE_AS_BEFORE)?;
    let stamp = read_stamp(body, base)?;
    let proto = read_proto(shape, body)?;
    let l2 = read_l2(shape, body)?;
    let src = read_endpoint(wide, body)?;
    let dst = read_or_before(shape & VIP_AS_BEFORE != 0, before.vip, || read_named(wide, body, known))?;
    before.vip = Some(dst);
    Ok(FlowClose { stamp, key: FlowKey { proto, l2, src, dst } })
}

fn read_persistence(
    tag: u8,
    body: &mut Reader<'_>,
    base: u64,
    before: &mut Before,
    known: &KnownNames,
) -> Result<(PersistenceRecord, u64), WireError> {
    reject_bits(tag, 0x30)?;
    let wide = tag & WIDE != 0;
    let shape = body.u8()?;
    reject_bits(shape, L2 | IDLE | SOURCE_AS_BEFORE)?;
    let stamp = read_stamp(body, base)?;
    let proto = read_proto(shape, body)?;
    let client = read_addr(wide, body)?;
    let vip = read_or_before(shape & VIP_AS_BEFORE != 0, before.vip, || read_named(wide, body, known))?;
    before.vip = Some(vip);
    let server_before = shape & SERVER_AS_BEFORE != 0;
    let server = if tag & ENDED == 0 {
        let server = read_or_before(server_before, before.server, || read_named(wide, body, known))?;
        before.server = Some(server);
        Some(server)
    } else if server_before {
        return Err(WireError::Value);
    } else {
        None
    };
    let (of, unknown) = read_session_tail(body, client)?;
    Ok((PersistenceRecord { stamp, vip, proto, of, server }, unknown))
}

/// Which packets a persistence session is of: the client's, unless a tail field says otherwise; and how many fields
/// are not known.
fn read_session_tail(body: &mut Reader<'_>, client: Addr) -> Result<(SessionOf, u64), WireError> {
    let (mut of, mut unknown) = (SessionOf::Source(client), 0);
    while !body.is_empty() {
        let (field, value) = read_field(body)?;
        reject_mandatory(field)?;
        of = match (field, of) {
            (BESIDE_CLIENT, SessionOf::Source(source)) => {
                SessionOf::Both { source, destination: read_lone_addr(value)? }
            }
            (INSTEAD_OF_CLIENT, SessionOf::Source(source)) if source == nobody(source.is_v4()) => {
                SessionOf::Destination(read_lone_addr(value)?)
            }
            (BESIDE_CLIENT | INSTEAD_OF_CLIENT, _) => return Err(WireError::Value),
            (_, of) => {
                unknown += 1;
                of
            }
        };
    }
    Ok((of, unknown))
}

/// What stands for a client that does not count.
fn nobody(v4: bool) -> Addr {
    if v4 { Addr::v4([0; 4]) } else { Addr::UNSPECIFIED }
}

/// An address that is all of a value: 4 bytes or 16.
fn read_lone_addr(value: &[u8]) -> Result<Addr, WireError> {
    let (wide, mut reader) = (value.len() != 4, Reader::new(value));
    let addr = read_addr(wide, &mut reader)?;
    if reader.is_empty() { Ok(addr) } else { Err(WireError::Value) }
}

fn read_health(tag: u8, body: &mut Reader<'_>) -> Result<HealthRecord, WireError> {
    reject_bits(tag, 0x30)?;
    let kind = body.u8()?;
    Ok(HealthRecord { server: read_endpoint(tag & WIDE != 0, body)?, kind, up: tag & UP != 0 })
}

fn read_name(tag: u8, body: &mut Reader<'_>, known: &KnownNames) -> Result<Entry<'static>, WireError> {
    reject_bits(tag, 0xb0)?;
    let number = body.varint()?;
    let addr = read_addr(tag & WIDE != 0, body)?;
    match u16::try_from(number) {
        Ok(short) if known.agrees(number, addr) => Ok(Entry::Name { number: short, addr }),
        Ok(_) | Err(_) => Err(WireError::Value),
    }
}

fn read_bulk_end(tag: u8, body: &mut Reader<'_>) -> Result<Digest, WireError> {
    reject_bits(tag, 0xf0)?;
    Ok(Digest { digest: body.be64()?, flows: body.be64()?, journal: body.be64()? })
}

fn read_kept(tag: u8, body: &mut Reader<'_>) -> Result<Kept, WireError> {
    reject_bits(tag, 0xf0)?;
    let part = body.u8()?;
    if usize::from(part) >= PARTS {
        return Err(WireError::Value);
    }
    Ok(Kept { part, buckets: u128::from_be_bytes(body.array()?) })
}

fn read_fragment<'a>(tag: u8, body: &mut Reader<'a>) -> Result<Fragment<'a>, WireError> {
    let kind = match (tag >> 4) & 3 {
        0 => JournalKind::Begin,
        1 => JournalKind::Line,
        2 => JournalKind::End,
        _ => return Err(WireError::Value),
    };
    let text = core::str::from_utf8(body.rest()).map_err(|_| WireError::Text)?;
    Ok(Fragment { kind, first: tag & CONTINUED == 0, last: tag & MORE == 0, text })
}

fn reject_bits(byte: u8, bits: u8) -> Result<(), WireError> {
    if byte & bits == 0 { Ok(()) } else { Err(WireError::Value) }
}

fn read_or_before<T>(
    before: bool,
    known: Option<T>,
    read: impl FnOnce() -> Result<T, WireError>,
) -> Result<T, WireError> {
    if before { known.ok_or(WireError::Reference) } else { read() }
}

/// A stamp is the base plus a zigzag difference, modulo 2^64; never 0, and below [`STAMP_END`].
fn read_stamp(body: &mut Reader<'_>, base: u64) -> Result<u64, WireError> {
    let coded = body.varint()?;
    let delta = (coded >> 1) ^ (coded & 1).wrapping_neg();
    match base.wrapping_add(delta) {
        stamp if stamp == 0 || stamp >= STAMP_END => Err(WireError::Stamp),
        stamp => Ok(stamp),
    }
}

fn read_proto(shape: u8, body: &mut Reader<'_>) -> Result<u8, WireError> {
    match shape & PROTO {
        0 => body.u8(),
        1 => Ok(6),
        2 => Ok(17),
        _ => Ok(0),
    }
}

fn read_l2(shape: u8, body: &mut Reader<'_>) -> Result<L2Disc, WireError> {
    if shape & L2 == 0 { Ok(L2Disc(0)) } else { body.be32().map(L2Disc) }
}

fn read_addr(wide: bool, body: &mut Reader<'_>) -> Result<Addr, WireError> {
    if wide { body.array().map(Addr) } else { body.array().map(Addr::v4) }
}

fn read_endpoint(wide: bool, body: &mut Reader<'_>) -> Result<Endpoint, WireError> {
    Ok(Endpoint { addr: read_addr(wide, body)?, port: body.be16()? })
}

/// An address by its number plus one, or 0 and the address itself.
fn read_named_addr(wide: bool, body: &mut Reader<'_>, known: &KnownNames) -> Result<Addr, WireError> {
    match body.varint()? {
        0 => read_addr(wide, body),
        number => known.get(number - 1).ok_or(WireError::Reference),
    }
}

fn read_named(wide: bool, body: &mut Reader<'_>, known: &KnownNames) -> Result<Endpoint, WireError> {
    Ok(Endpoint { addr: read_named_addr(wide, body, known)?, port: body.be16()? })
}

/// An acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The session.
    pub session: u32,
    /// Datagrams that the receiver has room for, counted from `cumulative`.
    pub room: u16,
    /// Every datagram below this is stored; this one is not.
    pub cumulative: u64,
    /// Bit `i` of byte `j`, lowest first: datagram `cumulative + 1 + 8j + i` is
    /// stored. At most [`MAX_BITMAP`] bytes.
    pub bitmap: &'a [u8],
}

impl Ack<'_> {
    /// The stored datagrams beyond `cumulative`, ascending.
    pub fn beyond(&self) -> impl Iterator<Item = u64> {
        let first = self.cumulative + 1;
        (0u64..).zip(self.bitmap).flat_map(move |(byte, &bits)| {
            (0..8u64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| first + 8 * byte + bit)
        })
    }
}

/// Reads an acknowledgement.
pub fn decode_ack(payload: &[u8]) -> Result<Ack<'_>, WireError> {
    let (message, session) = peek(payload)?;
    if message != Message::Ack {
        return Err(WireError::MessageKind);
    }
    let mut reader = Reader::new(payload);
    reader.be16()?;
    let room = reader.be16()?;
    reader.be32()?;
    let cumulative = reader.be64()?;
    if cumulative >= SEQUENCE_END {
        return Err(WireError::Sequence);
    }
    let bitmap = reader.rest();
    if bitmap.len() > MAX_BITMAP {
        return Err(WireError::AckTooWide);
    }
    Ok(Ack { session, room, cumulative, bitmap })
}

/// Writes an acknowledgement into `out` (cleared first).
pub fn encode_ack(out: &mut Vec<u8>, ack: &Ack<'_>) {
    assert!(ack.bitmap.len() <= MAX_BITMAP, "the receiver keeps no more than a window");
    out.clear();
    out.extend_from_slice(&[VERSION, ACK]);
    out.extend_from_slice(&ack.room.to_be_bytes());
    out.extend_from_slice(&ack.session.to_be_bytes());
    out.extend_from_slice(&ack.cumulative.to_be_bytes());
    out.extend_from_slice(ack.bitmap);
}

/// What a receiver's buckets held when the session began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The session.
    pub session: u32,
    /// What it says.
    pub told: Told,
}

/// The content of a summary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing in any bucket.
    Nothing,
    /// The digests of a part's buckets.
    Part {
        /// The part, below [`PARTS`].
        part: u8,
        /// One digest per bucket.
        digests: Box<[u64; BUCKETS_PER_PART]>,
    },
}

/// Reads a summary.
pub fn decode_summary(payload: &[u8]) -> Result<Summary, WireError> {
    let (message, session) = peek(payload)?;
    if message != Message::Summary {
        return Err(WireError::MessageKind);
    }
    let mut reader = Reader::new(payload);
    reader.be16()?;
    let part = reader.u8()?;
    reject_bits(reader.u8()?, 0xff)?;
    reader.be32()?;
    let told = if part == NOTHING { Told::Nothing } else { read_part(part, &mut reader)? };
    if reader.left() == 0 { Ok(Summary { session, told }) } else { Err(WireError::TooLong) }
}

fn read_part(part: u8, reader: &mut Reader<'_>) -> Result<Told, WireError> {
    if usize::from(part) >= PARTS {
        return Err(WireError::Value);
    }
    let mut digests = Box::new([0; BUCKETS_PER_PART]);
    for digest in digests.iter_mut() {
        *digest = reader.be64()?;
    }
    Ok(Told::Part { part, digests })
}

/// Writes a summary into `out` (cleared first).
pub fn encode_summary(out: &mut Vec<u8>, summary: &Summary) {
    let (part, digests): (u8, &[u64]) = match &summary.told {
        Told::Nothing => (NOTHING, &[]),
        Told::Part { part, digests } => (*part, &digests[..]),
    };
    out.clear();
    out.extend_from_slice(&[VERSION, SUMMARY, part, 0]);
    out.extend_from_slice(&summary.session.to_be_bytes());
    for digest in digests {
        out.extend_from_slice(&digest.to_be_bytes());
    }
}
