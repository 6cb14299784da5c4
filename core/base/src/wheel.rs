//! Timers for a million entries: a two-level wheel over slot numbers.
//!
//! The near level has one bucket per tick, for the current and the next
//! *stretch* of time; the far level has one bucket per stretch. While the hand
//! is in one stretch, the far bucket of the next is emptied into the near
//! level bit by bit. That is why there are two wide levels and not many narrow
//! ones: sorting a far bucket in a single step would stall the data thread for
//! milliseconds when a hundred thousand flows fall due in the same minute.

use crate::Instant;

/// Nanoseconds of a tick, as a shift: about 1.05 ms.
const TICK_SHIFT: u32 = 20;
/// Ticks of a stretch, as a shift: about 1.07 s.
const STRETCH_SHIFT: u32 = 10;
/// Buckets of the near level: two stretches.
const NEAR: usize = 2 << STRETCH_SHIFT;
/// Buckets of the far level: about 4.9 hours. Later deadlines wait in the
/// farthest bucket and are looked at again when the hand comes there.
const FAR: usize = 1 << 14;
/// Timers moved from the far to the near level by a `poll` that finds nothing
/// due. A driver that turns once per tick so sorts half a million in a stretch.
const MOVES_PER_POLL: usize = 512;
/// No timer, no bucket.
const NONE: u32 = u32::MAX;

/// At most one timer per slot number. Setting, re-setting and cancelling are
/// O(1) and never allocate. A timer fires at its deadline or up to one tick
/// (about a millisecond) later, never before; timers of the same tick fire in
/// the order in which they were armed.
#[derive(Debug)]
pub struct TimerWheel {
    entries: Vec<Entry>,
    /// First timer of each bucket, near level first; its `prev` is the last.
    heads: Vec<u32>,
    near: Occupied,
    far: Occupied,
    /// The tick up to which time has passed. What is due now is in its bucket;
    /// all buckets of earlier ticks are empty.
    hand: u64,
}

/// A slot's timer, linked into the ring of its bucket.
#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Instant,
    next: u32,
    prev: u32,
    /// Index into `heads`, [`NONE`] if not armed.
    bucket: u32,
}

const _: () = assert!(size_of::<Entry>() <= 24, "a million timers cost 24 MB");

impl TimerWheel {
    /// A wheel for slots `0..slots`, its hand at `now`.
    pub fn new(now: Instant, slots: usize) -> TimerWheel {
        assert!(slots < NONE as usize, "slot numbers are below u32::MAX");
        let idle = Entry { deadline: Instant::ZERO, next: NONE, prev: NONE, bucket: NONE };
        TimerWheel {
            entries: vec![idle; slots],
            heads: vec![NONE; NEAR + FAR],
            near: Occupied::new(NEAR),
            far: Occupied::new(FAR),
            hand: now.as_nanos() >> TICK_SHIFT,
        }
    }

    /// Arms or re-arms the timer of `slot`. Panics if `slot` is out of range
    /// (our own invariant).
    pub fn set(&mut self, slot: u32, deadline: Instant) {
        self.cancel(slot);
        self.entries[slot as usize].deadline = deadline;
        self.place(slot);
    }

    /// Disarms the timer of `slot`; nothing happens if it is not armed.
    pub fn cancel(&mut self, slot: u32) {
        if self.entries[slot as usize].bucket != NONE {
            self.unlink(slot);
        }
    }

    /// The deadline of `slot`, if armed.
    pub fn deadline(&self, slot: u32) -> Option<Instant> {
        let entry = &self.entries[slot as usize];
        (entry.bucket != NONE).then_some(entry.deadline)
    }

    /// Takes one timer that is due at `now`, or `None` when no (more) timer is
    /// due. Empty stretches are jumped over, and timers that are not due are
    /// sorted in small portions ahead of time, so that one call stays in the
    /// microseconds; only after a pause of more than a stretch (1 s), or with
    /// more than half a million timers in one, may a call have to sort the
    /// rest of a stretch.
    pub fn poll(&mut self, now: Instant) -> Option<u32> {
        self.advance(now.as_nanos() >> TICK_SHIFT);
        let slot = self.heads[near_bucket(self.hand)];
        if slot == NONE {
            self.empty_next_stretch(MOVES_PER_POLL);
            return None;
        }
        self.unlink(slot);
        Some(slot)
    }

    /// When to call [`TimerWheel::poll`] next: at most one tick after the
    /// earliest deadline, possibly earlier (timers to be sorted). `None` if
    /// nothing is armed.
    pub fn next_deadline(&self) -> Option<Instant> {
        let current = near_bucket(self.hand);
        let near = self.near.distance_from(current).map(|distance| self.hand + distance);
        let tick = match (near, self.next_far_stretch()) {
            (Some(tick), _) if tick == self.hand => tick,
            (_, Some(stretch)) if stretch == self.stretch() + 1 => self.hand + 1,
            (Some(tick), _) => tick,
            (None, Some(stretch)) => first_tick(stretch - 1),
            (None, None) => return None,
        };
        Some(Instant::from_nanos(tick.saturating_mul(1 << TICK_SHIFT)))
    }

    /// The stretch that the hand is in.
    fn stretch(&self) -> u64 {
        self.hand >> STRETCH_SHIFT
    }

    /// The first stretch after the hand's whose far bucket has timers.
    fn next_far_stretch(&self) -> Option<u64> {
        let next = self.stretch() + 1;
        self.far.distance_from(far_index(next)).map(|distance| next + distance)
    }

    /// Moves the hand to the first tick with due timers, at most to `target`.
    fn advance(&mut self, target: u64) {
        while self.hand < target && self.heads[near_bucket(self.hand)] == NONE {
            let next_stretch = self.stretch() + 1;
            let boundary = first_tick(next_stretch);
            let near = self.near.distance_from(near_bucket(self.hand)).map(|distance| self.hand + distance);
            match near {
                Some(tick) if tick < boundary => self.hand = tick.min(target),
                _ if target < boundary => self.hand = target,
                None if !self.far.contains(far_index(next_stretch)) => self.hand = self.end_of_emptiness(target),
                Some(_) | None => {
                    self.empty_next_stretch(usize::MAX);
                    self.hand = boundary;
                }
            }
        }
    }

    /// Where the hand may jump to when the near level and the next stretch are
    /// empty: just before the first stretch with timers, at most to `target`.
    fn end_of_emptiness(&self, target: u64) -> u64 {
        match self.next_far_stretch() {
            Some(stretch) => target.min(first_tick(stretch) - 1),
            None => target,
        }
    }

    /// Sorts up to `limit` timers of the next stretch into the near level.
    fn empty_next_stretch(&mut self, limit: usize) {
        let next = self.stretch() + 1;
        let bucket = NEAR + far_index(next);
        let mut moved = 0;
        while moved < limit {
            let slot = self.heads[bucket];
            if slot == NONE {
                return;
            }
            self.unlink(slot);
            self.place(slot);
            moved += 1;
        }
    }

    /// Puts `slot`, which is in no bucket, where its deadline belongs.
    fn place(&mut self, slot: u32) {
        let deadline = self.entries[slot as usize].deadline.as_nanos();
        let tick = deadline.div_ceil(1 << TICK_SHIFT).max(self.hand);
        let stretch = tick >> STRETCH_SHIFT;
        let bucket = if stretch <= self.stretch() + 1 {
            near_bucket(tick)
        } else {
            NEAR + far_index(stretch.min(self.stretch() + FAR as u64 - 1))
        };
        self.link(slot, bucket);
    }

    /// Appends `slot` to the ring of `bucket`.
    fn link(&mut self, slot: u32, bucket: usize) {
        let head = self.heads[bucket];
        let (next, prev) = if head == NONE { (slot, slot) } else { (head, self.entries[head as usize].prev) };
        let entry = &mut self.entries[slot as usize];
        (entry.next, entry.prev, entry.bucket) = (next, prev, bucket as u32);
        if head == NONE {
            self.heads[bucket] = slot;
            self.mark(bucket, true);
        } else {
            self.entries[prev as usize].next = slot;
            self.entries[next as usize].prev = slot;
        }
    }

    /// Takes `slot` out of the ring of its bucket.
    fn unlink(&mut self, slot: u32) {
        let Entry { next, prev, bucket, .. } = self.entries[slot as usize];
        self.entries[slot as usize].bucket = NONE;
        let bucket = bucket as usize;
        if next == slot {
            self.heads[bucket] = NONE;
            self.mark(bucket, false);
            return;
        }
        self.entries[prev as usize].next = next;
        self.entries[next as usize].prev = prev;
        if self.heads[bucket] == slot {
            self.heads[bucket] = next;
        }
    }

    fn mark(&mut self, bucket: usize, occupied: bool) {
        match bucket.checked_sub(NEAR) {
            Some(index) => self.far.mark(index, occupied),
            None => self.near.mark(bucket, occupied),
        }
    }
}

/// Index of the near bucket of `tick`.
fn near_bucket(tick: u64) -> usize {
    tick as usize % NEAR
}

/// Index of `stretch` in the far level.
fn far_index(stretch: u64) -> usize {
    stretch as usize % FAR
}

/// The first tick of `stretch`.
fn first_tick(stretch: u64) -> u64 {
    stretch << STRETCH_SHIFT
}

/// Which buckets of a level have timers: a bit each, in a ring; and which words of those bits are not zero, so that
/// a search skips what is empty. Every turn of a driver asks, and idle time-outs lie hours ahead.
#[derive(Debug)]
struct Occupied {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl Occupied {
    /// A ring of `buckets` bits, a multiple of 64.
    fn new(buckets: usize) -> Occupied {
        let words = buckets / 64;
        Occupied { words: vec![0; words], summary: vec![0; words.div_ceil(64)] }
    }

    fn mark(&mut self, index: usize, occupied: bool) {
        let word = index / 64;
        set_bit(&mut self.words, index, occupied);
        set_bit(&mut self.summary, word, self.words[word] != 0);
    }

    fn contains(&self, index: usize) -> bool {
        self.words[index / 64] >> (index % 64) & 1 == 1
    }

    /// How far after `start`, around the ring, the first occupied bucket is.
    fn distance_from(&self, start: usize) -> Option<u64> {
        let (words, word, bit) = (self.words.len(), start / 64, start % 64);
        let ahead = self.words[word] >> bit;
        if ahead != 0 {
            return Some(u64::from(ahead.trailing_zeros()));
        }
        // Around the ring it may be the first word again, whose upper bits are known to be zero.
        let found = first_bit(&self.summary, word + 1).or_else(|| first_bit(&self.summary, 0))?;
        let steps = if found > word { found - word } else { found + words - word };
        Some((steps * 64 - bit) as u64 + u64::from(self.words[found].trailing_zeros()))
    }
}

fn set_bit(words: &mut [u64], index: usize, on: bool) {
    let bit = 1 << (index % 64);
    if on {
        words[index / 64] |= bit;
    } else {
        words[index / 64] &= !bit;
    }
}

/// The first bit set at `start` or after it.
fn first_bit(words: &[u64], start: usize) -> Option<usize> {
    let (first, rest) = words.get(start / 64..)?.split_first()?;
    let ahead = first >> (start % 64);
    if ahead != 0 {
        return Some(start + ahead.trailing_zeros() as usize);
    }
    let (place, bits) = rest.iter().enumerate().find(|(_, bits)| **bits != 0)?;
    Some((start / 64 + 1 + place) * 64 + bits.trailing_zeros() as usize)
}
