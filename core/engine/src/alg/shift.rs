//! Texts that leave longer or shorter than they came: what that does to sequence numbers.
//!
//! One [`Shift`] for each direction of a connection. Where a text was replaced is kept until another change needs the place
//! and its receiver has acknowledged this one: whatever is sent again then gets the same text at the same numbers, on this
//! node or on its successor.
//!
//! ```text
//! as it came    ────────[ old text ]──────────────►  seq
//!                       at    at+len
//! as it leaves  ────────[ longer new text ]───────►  seq + before  │  seq + before + (new - old)
//! ```

use crate::flow::tcp_seen::is_after;

/// Changes of one direction that may wait for their acknowledgement at a time.
pub(crate) const MAX_CHANGES: usize = 4;
/// Longest text of a change, in bytes: an extended address with its delimiters.
pub(crate) const MAX_TEXT: usize = 56;

/// One replaced text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Sequence number of its first byte, as its sender counts.
    pub(crate) at: u32,
    /// Its length as it came, 1 to 255.
    pub(crate) len: u8,
    /// What leaves in its place; [`MAX_TEXT`] bytes at most.
    pub(crate) text: Vec<u8>,
}

/// What was done to one direction of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    /// What is added to numbers before the first of the changes, modulo 2^32.
    before: u32,
    /// In order of their numbers.
    changes: Vec<Change>,
}

impl Change {
    /// The number behind its last byte, as its sender counts.
    pub(crate) fn end(&self) -> u32 {
        self.at.wrapping_add(u32::from(self.len))
    }

    /// By how much it moves what follows, modulo 2^32.
    fn growth(&self) -> u32 {
        (self.text.len() as u32).wrapping_sub(u32::from(self.len))
    }
}

impl Shift {
    /// From its parts, as they were mirrored.
    pub(crate) fn new(before: u32, changes: Vec<Change>) -> Shift {
        Shift { before, changes }
    }

    /// What is added before the first change, and the changes.
    pub(crate) fn parts(&self) -> (u32, &[Change]) {
        (self.before, &self.changes)
    }

    /// Whether everything leaves as it came.
    pub(crate) fn is_none(&self) -> bool {
        self.before == 0 && self.changes.is_empty()
    }

    /// The number under which the byte `seq` leaves; of a byte inside of a replaced text, as the bytes behind it are counted.
    pub(crate) fn leaving(&self, seq: u32) -> u32 {
        let passed = self.changes.iter().take_while(|change| is_after(seq, change.at));
        passed.fold(self.before, |sum, change| sum.wrapping_add(change.growth())).wrapping_add(seq)
    }

    /// What an acknowledgement of `number`, as it left, acknowledges of what came. A replaced text counts when all of it is there.
    pub(crate) fn acknowledged(&self, number: u32) -> u32 {
        self.coming(number, |change| change.at)
    }

    /// The same of the first byte of a block that arrived out of order: a text of which only a part is there is not.
    pub(crate) fn first_of_block(&self, number: u32) -> u32 {
        self.coming(number, Change::end)
    }

    fn coming(&self, number: u32, inside: impl Fn(&Change) -> u32) -> u32 {
        let mut sum = self.before;
        for change in &self.changes {
            let start = change.at.wrapping_add(sum);
            if !is_after(number, start) {
                break;
            }
            if is_after(start.wrapping_add(change.text.len() as u32), number) {
                return inside(change);
            }
            sum = sum.wrapping_add(change.growth());
        }
        number.wrapping_sub(sum)
    }

    /// The change that begins at `seq`, if there is one.
    pub(crate) fn at(&self, seq: u32) -> Option<&Change> {
        self.changes.iter().find(|change| change.at == seq)
    }

    /// Whether another change finds a place, when everything before `acked` has arrived.
    pub(crate) fn has_room(&self, acked: Option<u32>) -> bool {
        let waits = |change: &&Change| acked.is_none_or(|acked| is_after(change.end(), acked));
        self.changes.iter().filter(waits).count() < MAX_CHANGES
    }

    /// Adds a change behind all others. False: too many wait for their acknowledgement, which stands at `acked`.
    pub(crate) fn add(&mut self, change: Change, acked: Option<u32>) -> bool {
        if let Some(acked) = acked {
            self.forget(acked);
        }
        let behind = self.changes.last().is_none_or(|last| !is_after(last.end(), change.at));
        if self.changes.len() >= MAX_CHANGES || change.text.len() > MAX_TEXT || !behind {
            return false;
        }
        self.changes.push(change);
        true
    }

    /// Nobody sends again what lies before `acked`.
    fn forget(&mut self, acked: u32) {
        let over = self.changes.iter().take_while(|change| !is_after(change.end(), acked)).count();
        for change in self.changes.drain(..over) {
            self.before = self.before.wrapping_add(change.growth());
        }
    }

    /// Whether any of the `len` bytes from `seq` on belongs to a replaced text.
    pub(crate) fn touches(&self, seq: u32, len: u32) -> bool {
        let end = seq.wrapping_add(len);
        self.changes.iter().any(|change| is_after(end, change.at) && is_after(change.end(), seq))
    }

    /// Where the text of a segment that begins at `seq` leaves: a replaced text leaves whole, with its first byte.
    pub(crate) fn begins(&self, seq: u32) -> u32 {
        let inside = self.changes.iter().find(|change| is_after(seq, change.at) && is_after(change.end(), seq));
        self.leaving(inside.map_or(seq, Change::end))
    }

    /// Appends what leaves in place of `bytes`, which came at `seq`, up to `room` bytes. Answers how many of them that covers.
    pub(crate) fn write(&self, seq: u32, bytes: &[u8], room: usize, out: &mut Vec<u8>) -> usize {
        let last = out.len() + room;
        let mut done = 0;
        while done < bytes.len() {
            let here = seq.wrapping_add(done as u32);
            let next = self.changes.iter().find(|change| is_after(change.end(), here));
            match next {
                Some(change) if !is_after(change.at, here) => {
                    if change.at == here {
                        if out.len() + change.text.len() > last {
                            break;
                        }
                        out.extend_from_slice(&change.text);
                    }
                    done += change.end().wrapping_sub(here) as usize;
                }
                Some(_) | None => {
                    let plain = next.map_or(usize::MAX, |change| change.at.wrapping_sub(here) as usize);
                    let count = plain.min(bytes.len() - done).min(last - out.len());
                    if count == 0 {
                        break;
                    }
                    out.extend_from_slice(&bytes[done..done + count]);
                    done += count;
                }
            }
        }
        done.min(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_base::Rng;

    /// A stream as it comes, some of its texts replaced, and what must leave.
    struct Stream {
        first: u32,
        shift: Shift,
        comes: Vec<u8>,
        leaves: Vec<u8>,
    }

    impl Stream {
        fn new(rng: &mut Rng) -> Stream {
            // Often across the end of the numbers.
            let (first, before) = ((rng.next_u64() as u32) | 0xffff_ff00, rng.next_u64() as u32);
            let (mut comes, mut leaves, mut changes) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rng.below(MAX_CHANGES as u64 + 1) {
                let plain: Vec<u8> = (0..rng.below(40)).map(|_| rng.next_u64() as u8).collect();
                comes.extend_from_slice(&plain);
                leaves.extend_from_slice(&plain);
                let (len, text) =
                    (1 + rng.below(20) as u8, (0..=rng.below(30)).map(|_| rng.next_u64() as u8).collect());
                let change = Change { at: first.wrapping_add(comes.len() as u32), len, text };
                comes.extend(core::iter::repeat_n(b'?', usize::from(len)));
                leaves.extend_from_slice(&change.text);
                changes.push(change);
            }
            comes.extend_from_slice(b"behind it all");
            leaves.extend_from_slice(b"behind it all");
            Stream { first, shift: Shift::new(before, changes), comes, leaves }
        }

        /// The place among what leaves of a number of what leaves.
        fn place(&self, number: u32) -> usize {
            number.wrapping_sub(self.first).wrapping_sub(self.shift.before) as usize
        }

        fn seq(&self, at: usize) -> u32 {
            self.first.wrapping_add(at as u32)
        }
    }

    #[test]
    fn however_a_stream_is_cut_and_repeated_the_same_text_leaves_at_the_same_numbers() {
        for seed in 0..2_000 {
            let mut rng = Rng::from_seed(seed);
            let stream = Stream::new(&mut rng);
            let mut arrived = vec![None; stream.leaves.len()];
            let mut from = 0;
            while from < stream.comes.len() {
                let to = (from + 1 + rng.below(25) as usize).min(stream.comes.len());
                let room = if rng.chance(1, 4) { rng.below(40) as usize } else { 4096 };
                let mut text = Vec::new();
                let covered = stream.shift.write(stream.seq(from), &stream.comes[from..to], room, &mut text);
                assert!(text.len() <= room && covered <= to - from, "seed {seed}");
                let place = stream.place(stream.shift.begins(stream.seq(from)));
                for (at, byte) in (place..).zip(text) {
                    assert_eq!(byte, stream.leaves[at], "seed {seed}, place {at}");
                    arrived[at] = Some(byte);
                }
                // What did not fit comes again, and so does now and then what did.
                from += covered;
                from -= if rng.chance(1, 3) { (rng.below(10) as usize).min(from) } else { 0 };
            }
            assert!(arrived.iter().all(Option::is_some), "seed {seed}: everything has left");
        }
    }

    #[test]
    fn acknowledgements_name_what_has_come_and_never_more() {
        for seed in 0..2_000 {
            let mut rng = Rng::from_seed(seed);
            let stream = Stream::new(&mut rng);
            let mut latest = 0;
            for place in 0..=stream.leaves.len() {
                let number = stream.shift.before.wrapping_add(stream.seq(place));
                let acked = stream.shift.acknowledged(number).wrapping_sub(stream.first) as usize;
                assert!(acked >= latest, "seed {seed}: they only grow");
                let leaves = stream.place(stream.shift.leaving(stream.seq(acked)));
                assert!(leaves <= place, "seed {seed}: {acked} of what came is not there after {place}");
                latest = acked;
            }
            assert_eq!(latest, stream.comes.len(), "seed {seed}: all is all");
        }
    }

    #[test]
    fn what_is_forgotten_changes_no_number_behind_it() {
        for seed in 0..2_000 {
            let mut rng = Rng::from_seed(seed);
            let stream = Stream::new(&mut rng);
            let acked = stream.seq(rng.below(stream.comes.len() as u64) as usize);
            let mut forgetful = stream.shift.clone();
            forgetful.forget(acked);
            for seq in (0..stream.comes.len()).map(|at| stream.seq(at)).filter(|&seq| !is_after(acked, seq)) {
                assert_eq!(forgetful.leaving(seq), stream.shift.leaving(seq), "seed {seed}");
            }
            assert!(forgetful.has_room(None) || stream.shift.changes.len() == MAX_CHANGES, "seed {seed}");
        }
    }
}
