//! What is known of a control connection, and how it stands in the tail of its flow's record.
//!
//! ```text
//! type 1, 2: shift of what the client, the server says
//! +--------------------+---------------------------------------------------+
//! | before (4)         |  changes: | at (4) | old length | length | text |  │
//! +--------------------+---------------------------------------------------+
//! type 3: an expected data connection, once for each
//! +---------------------------+---------------+-----------+
//! | 0: passive, 1: active (1) | announced (2) | port (2)  |     ports: what we said, what the host said
//! +---------------------------+---------------+-----------+
//! type 4: of a data connection: what the control connection's flow is called and where it goes
//! +-----------------------+--------------------------+
//! | VIP (16), port (2)    | server (16), port (2)    |
//! +-----------------------+--------------------------+
//! ```

use holdfast_wire::{Addr, Endpoint};

use super::ftp::{self, Found, MAX_LINE, Mention};
use super::shift::{Change, MAX_CHANGES, MAX_TEXT, Shift};
use crate::flow::Side;
use crate::flow::tcp_seen::is_after;

/// Data connections that a control connection may wait for at a time; one more takes the place of the oldest.
pub(crate) const MAX_EXPECTED: usize = 4;
/// Longest tail of a record, in bytes: what two full shifts, all expectations and some unknown fields take.
pub(crate) const MAX_TAIL: usize = 640;
/// So often a segment is sent again before it passes all the same: the beginning of an address, or one before its turn.
const PATIENCE: u8 = 3;

const CLIENT_SHIFT: u8 = 1;
const SERVER_SHIFT: u8 = 2;
const EXPECTED: u8 = 3;
const PARENT: u8 = 4;

/// A data connection that was announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The server opens it, else the client.
    pub(crate) active: bool,
    /// The port that we announced.
    pub(crate) announced: u16,
    /// The port at which the host listens.
    pub(crate) port: u16,
}

/// What is known of a control connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control {
    shifts: [Shift; 2],
    readers: [Reader; 2],
    /// The oldest first.
    pub(crate) expected: Vec<Expected>,
}

/// What a segment says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Data connections of which it speaks, with the sequence number of the text that does.
    pub(crate) mentions: Vec<(u32, Mention)>,
    /// So many of its bytes may pass.
    pub(crate) passes: usize,
}

/// How far one direction was read. A successor does not know: it begins with the first segment that comes, as if a line began there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    /// The next byte.
    next: Option<u32>,
    /// What has passed of the line that it belongs to; no more than [`MAX_LINE`] bytes.
    line: Vec<u8>,
    /// Where a segment was cut, and how often.
    cut: (u32, u8),
    /// Where a segment came before its turn, and how often.
    early: (u32, u8),
}

impl Control {
    /// What was done to what `side` says.
    pub(crate) fn shift(&self, side: Side) -> &Shift {
        &self.shifts[side as usize]
    }

    /// The same, to be changed.
    pub(crate) fn shift_mut(&mut self, side: Side) -> &mut Shift {
        &mut self.shifts[side as usize]
    }

    /// How far what `side` says was read.
    pub(crate) fn reader(&mut self, side: Side) -> &mut Reader {
        &mut self.readers[side as usize]
    }

    /// What a record's tail says of a control connection; `None`: nothing, or more than this node keeps.
    pub(crate) fn of_tail(tail: &[u8]) -> Option<Control> {
        let (mut control, mut known) = (Control::default(), false);
        for (kind, value) in Fields(tail) {
            match kind {
                CLIENT_SHIFT | SERVER_SHIFT => {
                    let side = if kind == CLIENT_SHIFT { Side::Client } else { Side::Server };
                    *control.shift_mut(side) = read_shift(value)?;
                    known = true;
                }
                EXPECTED if control.expected.len() < MAX_EXPECTED => {
                    let &[active, a, b, c, d] = value else { return None };
                    let (announced, port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                    control.expected.push(Expected { active: active != 0, announced, port });
                    known = true;
                }
                _ => {}
            }
        }
        known.then_some(control)
    }

    /// Whether more was replaced here than there: the connection has gone on by who knows of it.
    pub(crate) fn is_ahead_of(&self, other: &Control) -> bool {
        let last = |control: &Control, side| control.shift(side).parts().1.last().map(|change| change.at);
        [Side::Client, Side::Server].into_iter().any(|side| match (last(self, side), last(other, side)) {
            (Some(ours), Some(theirs)) => is_after(ours, theirs),
            (Some(_), None) => true,
            (None, _) => false,
        })
    }

    /// The tail that says this, with the fields of `before` that this node does not understand, as far as there is room.
    pub(crate) fn tail(&self, before: &[u8]) -> Vec<u8> {
        let mut tail = Vec::new();
        for (kind, shift) in [CLIENT_SHIFT, SERVER_SHIFT].into_iter().zip(&self.shifts) {
            if !shift.is_none() {
                put(&mut tail, kind, &write_shift(shift));
            }
        }
        for Expected { active, announced, port } in &self.expected {
            let ([a, b], [c, d]) = (announced.to_be_bytes(), port.to_be_bytes());
            put(&mut tail, EXPECTED, &[u8::from(*active), a, b, c, d]);
        }
        for (kind, value) in Fields(before).filter(|&(kind, _)| !(CLIENT_SHIFT..=PARENT).contains(&kind)) {
            if tail.len() + value.len() + 3 <= MAX_TAIL {
                put(&mut tail, kind, value);
            }
        }
        tail
    }
}

impl Reader {
    /// The first byte will be `first`.
    pub(crate) fn begin(&mut self, first: u32) {
        *self = Reader { next: Some(first), ..Reader::default() };
    }

    /// The receiver has everything before `acked`, which may have passed elsewhere, and nothing behind it for certain.
    pub(crate) fn catch_up(&mut self, acked: u32) {
        if self.next.is_none_or(|next| is_after(acked, next)) {
            self.go_back(acked);
        }
    }

    /// The next byte will be `next`; where its line began is not known.
    pub(crate) fn go_back(&mut self, next: u32) {
        self.next = Some(next);
        self.line.clear();
    }

    /// Reads a segment of `side`; `None`: bytes before it are missing.
    pub(crate) fn read(&mut self, side: Side, seq: u32, text: &[u8]) -> Option<Reading> {
        let mut reading = Reading { mentions: Vec::new(), passes: text.len() };
        if text.is_empty() {
            return Some(reading);
        }
        if self.is_early(seq) {
            return None;
        }
        let next = *self.next.get_or_insert(seq);
        let end = seq.wrapping_add(text.len() as u32);
        if !is_after(end, next) {
            return Some(reading);
        }
        let new = next.wrapping_sub(seq) as usize;
        for (at, &byte) in (1u32..).zip(text).skip(new) {
            if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
            if byte == b'\n' {
                let start = seq.wrapping_add(at).wrapping_sub(self.line.len() as u32);
                if self.line.len() < MAX_LINE
                    && let Found::Whole(mention) = ftp::read(side, &self.line)
                    && let seq = start.wrapping_add(mention.at as u32)
                    && !is_after(next, seq)
                {
                    reading.mentions.push((seq, mention));
                }
                self.line.clear();
            }
        }
        self.next = Some(end);
        self.keep_beginning_back(side, next, end, &mut reading);
        Some(reading)
    }

    /// Whether bytes before `seq` are missing. Who repeats it all the same is right: the other end has them.
    fn is_early(&mut self, seq: u32) -> bool {
        if !self.next.is_some_and(|next| is_after(seq, next)) {
            return false;
        }
        let (before, times) = self.early;
        self.early = (seq, if before == seq { times.saturating_add(1) } else { 1 });
        if self.early.1 > PATIENCE {
            self.go_back(seq);
        }
        self.early.1 <= PATIENCE
    }

    /// The beginning of an address does not pass without its end.
    fn keep_beginning_back(&mut self, side: Side, first: u32, end: u32, reading: &mut Reading) {
        let Found::Begun(offset) = ftp::read(side, &self.line) else { return };
        let kept = self.line.len() - offset;
        let from = end.wrapping_sub(kept as u32);
        if self.line.len() >= MAX_LINE || is_after(first, from) {
            return;
        }
        let (before, times) = self.cut;
        self.cut = (from, if before == from { times.saturating_add(1) } else { 1 });
        if self.cut.1 <= PATIENCE {
            self.line.truncate(offset);
            self.next = Some(from);
            reading.passes -= kept;
        }
    }
}

/// The tail of a data connection's record.
pub(crate) fn parent_tail(vip: Endpoint, server: Endpoint) -> Vec<u8> {
    let mut value = Vec::with_capacity(36);
    for end in [vip, server] {
        value.extend_from_slice(&end.addr.0);
        value.extend_from_slice(&end.port.to_be_bytes());
    }
    let mut tail = Vec::new();
    put(&mut tail, PARENT, &value);
    tail
}

/// What the control connection of a data connection calls and where it goes, if the tail says so.
pub(crate) fn parent_of(tail: &[u8]) -> Option<(Endpoint, Endpoint)> {
    let (_, value) = Fields(tail).find(|&(kind, _)| kind == PARENT)?;
    let ends: &[u8; 36] = value.try_into().ok()?;
    let end = |at: usize| {
        let mut addr = [0; 16];
        addr.copy_from_slice(&ends[at..at + 16]);
        Endpoint { addr: Addr(addr), port: u16::from_be_bytes([ends[at + 16], ends[at + 17]]) }
    };
    Some((end(0), end(18)))
}

fn write_shift(shift: &Shift) -> Vec<u8> {
    let (before, changes) = shift.parts();
    let mut value = before.to_be_bytes().to_vec();
    for Change { at, len, text } in changes {
        value.extend_from_slice(&at.to_be_bytes());
        value.extend_from_slice(&[*len, text.len() as u8]);
        value.extend_from_slice(text);
    }
    value
}

/// `None`: it is none, or says more than this node does.
fn read_shift(value: &[u8]) -> Option<Shift> {
    let (before, mut rest) = value.split_first_chunk()?;
    let mut changes: Vec<Change> = Vec::new();
    while !rest.is_empty() {
        let (at, behind) = rest.split_first_chunk()?;
        let (&[len, text], behind) = behind.split_first_chunk()?;
        let (text, behind) = behind.split_at_checked(usize::from(text))?;
        let change = Change { at: u32::from_be_bytes(*at), len, text: text.to_vec() };
        let in_order = changes.last().is_none_or(|last| !is_after(last.end(), change.at));
        if len == 0 || change.text.len() > MAX_TEXT || changes.len() >= MAX_CHANGES || !in_order {
            return None;
        }
        changes.push(change);
        rest = behind;
    }
    Some(Shift::new(u32::from_be_bytes(*before), changes))
}

/// Appends a field: type, length (seven bits a byte, lowest first), value.
fn put(tail: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let len = value.len();
    tail.push(kind);
    if len < 128 {
        tail.push(len as u8);
    } else {
        tail.extend_from_slice(&[len as u8 | 128, (len >> 7) as u8]);
    }
    tail.extend_from_slice(value);
}

/// The fields of a tail, up to the first that is cut short.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&kind, rest) = self.0.split_first()?;
        let (&low, rest) = rest.split_first()?;
        let (len, rest) = if low < 128 {
            (usize::from(low), rest)
        } else {
            let (&high, rest) = rest.split_first()?;
            (usize::from(low & 127) | usize::from(high) << 7, rest)
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_base::Rng;

    fn change(at: u32, text: &str) -> Change {
        Change { at, len: 3, text: text.into() }
    }

    #[test]
    fn a_tail_says_what_was_written_and_keeps_what_others_have_said() {
        let mut control = Control::default();
        assert_eq!(control.tail(&[]), [0; 0], "nothing, in no bytes");
        *control.shift_mut(Side::Server) = Shift::new(7, vec![change(10, "192,0,2,1,4,1"), change(u32::MAX / 2, "x")]);
        *control.shift_mut(Side::Client) = Shift::new(0, vec![change(u32::MAX - 1, &"y".repeat(MAX_TEXT))]);
        control.expected.push(Expected { active: true, announced: 2048, port: 3000 });
        control.expected.push(Expected { active: false, announced: 1, port: 65535 });
        let foreign = [&[99, 2, 5, 6][..], &[CLIENT_SHIFT, 1, 0], &[100, 0x81, 0x01], &[8; 129]].concat();
        let tail = control.tail(&foreign);
        let read = Control::of_tail(&tail).expect("its own");
        assert_eq!((read.shifts.clone(), read.expected.clone()), (control.shifts.clone(), control.expected.clone()));
        assert_eq!(read.tail(&tail), tail, "again the same");
        assert!(tail.ends_with(&[&[99, 2, 5, 6][..], &[100, 0x81, 0x01], &[8; 129]].concat()), "{tail:?}");
    }

    #[test]
    fn the_fullest_tail_has_room() {
        let text = "z".repeat(MAX_TEXT);
        let full = || Shift::new(1, (0..MAX_CHANGES as u32).map(|at| change(at * 10, &text)).collect());
        let expected = vec![Expected { active: true, announced: 1, port: 1 }; MAX_EXPECTED];
        let control = Control { shifts: [full(), full()], expected, ..Control::default() };
        assert!(control.tail(&[77; MAX_TAIL]).len() <= MAX_TAIL);
        assert!(Control::of_tail(&control.tail(&[])).is_some());
    }

    #[test]
    fn a_data_connection_says_whose_it_is() {
        let end = |last, port| Endpoint { addr: Addr::v4([192, 0, 2, last]), port };
        let tail = parent_tail(end(1, 21), end(9, 2121));
        assert_eq!(parent_of(&tail), Some((end(1, 21), end(9, 2121))));
        assert_eq!(parent_of(&tail[..20]), None);
        assert!(Control::of_tail(&tail).is_none());
    }

    #[test]
    fn no_tail_makes_it_panic_or_says_more_than_is_kept() {
        let mut rng = Rng::from_seed(11);
        for _ in 0..50_000 {
            let mut tail: Vec<u8> = (0..rng.below(90)).map(|_| rng.below(8) as u8).collect();
            tail.iter_mut().filter(|_| rng.chance(1, 5)).for_each(|byte| *byte = 0xff);
            let Some(control) = Control::of_tail(&tail) else { continue };
            assert!(control.expected.len() <= MAX_EXPECTED);
            for side in [Side::Client, Side::Server] {
                let (_, changes) = control.shift(side).parts();
                assert!(changes.len() <= MAX_CHANGES && changes.iter().all(|change| change.len > 0));
            }
            let again = Control::of_tail(&control.tail(&tail));
            assert!(again.is_some_and(|again| again.shifts == control.shifts) || control.tail(&[]).is_empty());
            parent_of(&tail);
        }
    }
}
