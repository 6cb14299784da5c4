//! Writing data messages.

use holdfast_engine::{FlowClose, FlowKey, FlowRecord, L2Disc, PersistenceRecord, Phase, SessionOf};
use holdfast_wire::{Addr, Endpoint};

use super::{
    BASE_AT, BESIDE_CLIENT, BULK_END, BY_NUMBER, CLOSE, CONTINUED, Context, DATA, DATA_HEADER, ENDED, FLOW, HEALTH,
    IDLE, IDLE_AS_BEFORE, IDLE_ONE, INSTEAD_OF_CLIENT, JOURNAL, KEPT, L2, MAX_RECORD, MAX_TAIL, MIN_FRAGMENT, MORE,
    NAME, PERSISTENCE, PROTO, SEQUENCE_END, SERVER_AS_BEFORE, SOURCE_AS_BEFORE, UP, USIP, VERSION, VIP_AS_BEFORE, WIDE,
    nobody,
};
use crate::names::{Names, Naming};
use crate::read::{put_varint, zigzag};
use crate::{Digest, HealthRecord, JournalKind, Kept, MAX_PAYLOAD};

/// Writes one data message into a caller's buffer. The caller asks
/// [`DataWriter::room`] before each record; a record that does not fit is a
/// broken invariant of ours and asserted.
#[derive(Debug)]
pub struct DataWriter<'a> {
    out: &'a mut Vec<u8>,
    names: &'a mut Names,
    context: Context,
    stamped: bool,
    records: u32,
}

impl<'a> DataWriter<'a> {
    /// Clears `out` and writes the fixed part. `names` are those of the session.
    pub fn new(out: &'a mut Vec<u8>, session: u32, seq: u64, names: &'a mut Names) -> DataWriter<'a> {
        assert!(seq < SEQUENCE_END, "a session has less than 2^63 datagrams");
        out.clear();
        out.extend_from_slice(&[VERSION, DATA, 0, 0]);
        out.extend_from_slice(&session.to_be_bytes());
        out.extend_from_slice(&seq.to_be_bytes());
        out.extend_from_slice(&0u64.to_be_bytes());
        DataWriter { out, names, context: Context::default(), stamped: false, records: 0 }
    }

    /// Bytes left; a record with its names needs [`ROOM_FOR_ANY`] at most.
    pub fn room(&self) -> usize {
        MAX_PAYLOAD - self.out.len()
    }

    /// Records and journal fragments written so far.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Writes a flow, and the number under which [`DataWriter::close_number`] ends it.
    pub fn flow(&mut self, record: &FlowRecord, number: Option<u32>) {
        self.flow_with_tail(record, number, &[]);
    }

    /// As [`DataWriter::flow`], with tail fields of another version, at most
    /// [`MAX_TAIL`] bytes.
    pub fn flow_with_tail(&mut self, record: &FlowRecord, number: Option<u32>, tail: &[u8]) {
        let FlowRecord { stamp, proto, l2, client, vip, server, source, phase, client_idle_s, server_idle_s } = *record;
        let wide = ![client, vip, server, source].iter().all(|end| end.addr.is_v4());
        let usip = source == client;
        let idle = (client_idle_s, server_idle_s);
        let phase = match phase {
            Phase::Opening => 0,
            Phase::Established => 1,
            Phase::Closing => 2,
        };
        let before = *self.context.before(wide);
        let shape = shape_proto(proto)
            | bit(L2, l2 != L2Disc(0))
            | if before.idle == Some(idle) { IDLE_AS_BEFORE } else { bit(IDLE_ONE, client_idle_s == server_idle_s) }
            | bit(VIP_AS_BEFORE, before.vip == Some(vip))
            | bit(SERVER_AS_BEFORE, before.server == Some(server))
            | bit(SOURCE_AS_BEFORE, !usip && before.source == Some(source.addr));
        let delta = self.delta(stamp);
        let vip_name = self.name_unless(shape & VIP_AS_BEFORE != 0, vip.addr);
        let server_name = self.name_unless(shape & SERVER_AS_BEFORE != 0, server.addr);
        let source_name = self.name_unless(usip || shape & SOURCE_AS_BEFORE != 0, source.addr);
        let start = self.open(FLOW | phase << 4 | bit(WIDE, wide) | bit(USIP, usip));
        self.out.push(shape);
        put_varint(self.out, delta);
        self.put_proto_l2(shape, proto, l2);
        self.put_endpoint(wide, client);
        self.put_named(vip_name, wide, vip);
        self.put_named(server_name, wide, server);
        if !usip {
            self.put_named_addr(source_name, wide, source.addr);
            self.out.extend_from_slice(&source.port.to_be_bytes());
        }
        match shape & IDLE {
            IDLE_AS_BEFORE => {}
            IDLE_ONE => put_varint(self.out, client_idle_s.into()),
            _ => {
                put_varint(self.out, client_idle_s.into());
                put_varint(self.out, server_idle_s.into());
            }
        }
        put_varint(self.out, number.map_or(0, |number| u64::from(number) + 1));
        let before = self.context.before(wide);
        (before.vip, before.server, before.idle) = (Some(vip), Some(server), Some(idle));
        if !usip {
            before.source = Some(source.addr);
        }
        self.out.extend_from_slice(tail);
        self.close_record(start);
    }

    /// Writes the end of a flow that was written under a number.
    pub fn close_number(&mut self, number: u32, stamp: u64) {
        let delta = self.delta(stamp);
        let start = self.open(CLOSE | BY_NUMBER);
        put_varint(self.out, delta);
        put_varint(self.out, u64::from(number) + 1);
        self.close_record(start);
    }

    /// Writes the end of a flow by its key.
    pub fn close(&mut self, close: &FlowClose) {
        let FlowClose { stamp, key: FlowKey { proto, l2, src, dst } } = *close;
        let wide = !(src.addr.is_v4() && dst.addr.is_v4());
        let before = *self.context.before(wide);
        let shape = shape_proto(proto) | bit(L2, l2 != L2Disc(0)) | bit(VIP_AS_BEFORE, before.vip == Some(dst));
        let delta = self.delta(stamp);
        let name = self.name_unless(shape & VIP_AS_BEFORE != 0, dst.addr);
        let start = self.open(CLOSE | bit(WIDE, wide));
        self.out.push(shape);
        put_varint(self.out, delta);
        self.put_proto_l2(shape, proto, l2);
        self.put_endpoint(wide, src);
        self.put_named(name, wide, dst);
        self.context.before(wide).vip = Some(dst);
        self.close_record(start);
    }

    /// Writes a persistence session.
    pub fn persistence(&mut self, record: &PersistenceRecord) {
        let PersistenceRecord { stamp, vip, proto, of, server } = *record;
        let client = of.source().unwrap_or_else(|| nobody(of.destination().is_some_and(Addr::is_v4)));
        let wide = !(client.is_v4() && vip.addr.is_v4() && server.is_none_or(|server| server.addr.is_v4()));
        let before = *self.context.before(wide);
        let shape = shape_proto(proto)
            | bit(VIP_AS_BEFORE, before.vip == Some(vip))
            | bit(SERVER_AS_BEFORE, server.is_some() && before.server == server);
        let delta = self.delta(stamp);
        let vip_name = self.name_unless(shape & VIP_AS_BEFORE != 0, vip.addr);
        let server_name = server.and_then(|server| self.name_unless(shape & SERVER_AS_BEFORE != 0, server.addr));
        let start = self.open(PERSISTENCE | bit(WIDE, wide) | bit(ENDED, server.is_none()));
        self.out.push(shape);
        put_varint(self.out, delta);
        self.put_proto_l2(shape, proto, L2Disc(0));
        self.put_addr(wide, client);
        self.put_named(vip_name, wide, vip);
        self.context.before(wide).vip = Some(vip);
        if let Some(server) = server {
            self.put_named(server_name, wide, server);
            self.context.before(wide).server = Some(server);
        }
        match of {
            SessionOf::Source(_) => {}
            SessionOf::Destination(destination) => self.put_addr_field(INSTEAD_OF_CLIENT, destination),
            SessionOf::Both { destination, .. } => self.put_addr_field(BESIDE_CLIENT, destination),
        }
        self.close_record(start);
    }

    /// A tail field that holds an address.
    fn put_addr_field(&mut self, field: u8, addr: Addr) {
        let wide = !addr.is_v4();
        self.out.extend_from_slice(&[field, if wide { 16 } else { 4 }]);
        self.put_addr(wide, addr);
    }

    /// Writes a server's health.
    pub fn health(&mut self, record: &HealthRecord) {
        let wide = !record.server.addr.is_v4();
        let start = self.open(HEALTH | bit(WIDE, wide) | bit(UP, record.up));
        self.out.push(record.kind);
        self.put_endpoint(wide, record.server);
        self.close_record(start);
    }

    /// Writes the sender's digest.
    pub fn bulk_end(&mut self, digest: &Digest) {
        let start = self.open(BULK_END);
        for number in [digest.digest, digest.flows, digest.journal] {
            self.out.extend_from_slice(&number.to_be_bytes());
        }
        self.close_record(start);
    }

    /// Writes which buckets are kept.
    pub fn kept(&mut self, kept: Kept) {
        let start = self.open(KEPT);
        self.out.push(kept.part);
        self.out.extend_from_slice(&kept.buckets.to_be_bytes());
        self.close_record(start);
    }

    /// Writes as much of a journal line as fits, from byte `from` of `text`,
    /// and returns where the next fragment begins (`text.len()` when the line
    /// is complete). `None` if this datagram has no room for a fragment worth it.
    pub fn journal(&mut self, kind: JournalKind, text: &str, from: usize) -> Option<usize> {
        let rest = &text[from..];
        // One byte of tag, two of length.
        let room = self.room().checked_sub(3)?;
        if rest.len() > room && room < MIN_FRAGMENT {
            return None;
        }
        let part = &rest[..rest.floor_char_boundary(room)];
        let last = part.len() == rest.len();
        let kind = match kind {
            JournalKind::Begin => 0,
            JournalKind::Line => 1,
            JournalKind::End => 2,
        };
        self.out.push(JOURNAL | kind << 4 | bit(MORE, !last) | bit(CONTINUED, from > 0));
        put_varint(self.out, part.len() as u64);
        self.out.extend_from_slice(part.as_bytes());
        self.records += 1;
        assert!(self.out.len() <= MAX_PAYLOAD, "a fragment was cut to the room");
        Some(from + part.len())
    }

    /// The stamp as a difference; the first stamp becomes the base.
    fn delta(&mut self, stamp: u64) -> u64 {
        assert!(stamp != 0, "stamps begin at 1");
        if !self.stamped {
            self.stamped = true;
            self.context.base = stamp;
            self.out[BASE_AT..DATA_HEADER].copy_from_slice(&stamp.to_be_bytes());
        }
        zigzag(stamp.wrapping_sub(self.context.base))
    }

    fn open(&mut self, tag: u8) -> usize {
        let start = self.out.len();
        self.out.extend_from_slice(&[tag, 0]);
        start
    }

    fn close_record(&mut self, start: usize) {
        self.set_length(start);
        self.records += 1;
    }

    fn set_length(&mut self, start: usize) {
        let len = self.out.len() - start - 2;
        if len < 0x80 {
            self.out[start + 1] = len as u8;
        } else {
            // Only a long tail needs a second byte of length.
            self.out[start + 1] = len as u8 | 0x80;
            self.out.insert(start + 2, (len >> 7) as u8);
        }
        let fits = self.out.len() - start <= MAX_RECORD + 1 + MAX_TAIL && self.out.len() <= MAX_PAYLOAD;
        assert!(fits, "the room was checked before the record");
    }

    fn put_proto_l2(&mut self, shape: u8, proto: u8, l2: L2Disc) {
        if shape & PROTO == 0 {
            self.out.push(proto);
        }
        if shape & L2 != 0 {
            self.out.extend_from_slice(&l2.0.to_be_bytes());
        }
    }

    fn put_addr(&mut self, wide: bool, addr: Addr) {
        if wide {
            self.out.extend_from_slice(&addr.0);
        } else {
            self.out.extend_from_slice(&addr.v4_bytes());
        }
    }

    fn put_endpoint(&mut self, wide: bool, end: Endpoint) {
        self.put_addr(wide, end.addr);
        self.out.extend_from_slice(&end.port.to_be_bytes());
    }

    /// How to write an address; a new one is told in a record of its own, in
    /// front of the one that has it. `None`: it is as before.
    fn name_unless(&mut self, before: bool, addr: Addr) -> Option<Naming> {
        if before {
            return None;
        }
        let naming = self.names.name(addr);
        if let Naming::Tell(number) = naming {
            let wide = !addr.is_v4();
            let start = self.open(NAME | bit(WIDE, wide));
            put_varint(self.out, number.into());
            self.put_addr(wide, addr);
            // Part of the record that has it, and not counted.
            self.set_length(start);
        }
        Some(naming)
    }

    fn put_named_addr(&mut self, name: Option<Naming>, wide: bool, addr: Addr) {
        match name {
            None => {}
            Some(Naming::Number(number)) => put_varint(self.out, u64::from(number) + 1),
            Some(Naming::Out | Naming::Tell(_)) => {
                self.out.push(0);
                self.put_addr(wide, addr);
            }
        }
    }

    fn put_named(&mut self, name: Option<Naming>, wide: bool, end: Endpoint) {
        if name.is_some() {
            self.put_named_addr(name, wide, end.addr);
            self.out.extend_from_slice(&end.port.to_be_bytes());
        }
    }
}

fn bit(bit: u8, set: bool) -> u8 {
    if set { bit } else { 0 }
}

fn shape_proto(proto: u8) -> u8 {
    match proto {
        6 => 1,
        17 => 2,
        0 => 3,
        _ => 0,
    }
}
