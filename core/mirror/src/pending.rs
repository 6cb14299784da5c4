//! Items that wait to be written: urgent ones, and bulk behind them.

use std::collections::VecDeque;

use crate::{Item, JournalLine, Limits};

/// The two queues. Nothing is dropped in silence: what does not fit sets
/// [`Pending::overflowed`], and the session has to be started anew.
#[derive(Debug)]
pub(crate) struct Pending {
    limits: Limits,
    urgent: VecDeque<Item>,
    bulk: VecDeque<Item>,
    /// The journal line being written, and where its next fragment begins.
    pub(crate) partial: Option<(JournalLine, usize)>,
    journal_bytes: usize,
    /// Urgent items that are ends of flows: nobody waits for those.
    closes: usize,
    /// Marks were left in the engine for want of room.
    throttled: bool,
    overflowed: bool,
}

impl Pending {
    pub(crate) fn new(limits: Limits) -> Pending {
        Pending {
            limits,
            urgent: VecDeque::new(),
            bulk: VecDeque::new(),
            partial: None,
            journal_bytes: 0,
            closes: 0,
            throttled: false,
            overflowed: false,
        }
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Whether there is room for a mark; remembers a refusal until asked again.
    pub(crate) fn wants_marks(&mut self) -> bool {
        self.throttled = self.urgent.len() >= self.limits.marks as usize;
        !self.throttled
    }

    pub(crate) fn wants_bulk(&self) -> bool {
        self.bulk.len() < self.limits.bulk as usize
    }

    /// False if the item was dropped. A [`Item::BulkEnd`] always goes behind
    /// everything, since its digest holds only there.
    pub(crate) fn push_urgent(&mut self, item: Item) -> bool {
        if item == Item::BulkEnd {
            return self.push_bulk(item);
        }
        let has_room = self.urgent.len() < self.limits.urgent as usize;
        let accepted = self.accept(&item, has_room);
        if accepted {
            self.closes += usize::from(is_close(&item));
            self.urgent.push_back(item);
        }
        accepted
    }

    /// False if the item was dropped.
    pub(crate) fn push_bulk(&mut self, item: Item) -> bool {
        let has_room = self.bulk.len() < self.limits.urgent as usize;
        let accepted = self.accept(&item, has_room);
        if accepted {
            self.bulk.push_back(item);
        }
        accepted
    }

    fn accept(&mut self, item: &Item, has_room: bool) -> bool {
        let bytes = self.journal_bytes + journal_bytes(item);
        if self.overflowed || !has_room || bytes > self.limits.journal_bytes as usize {
            self.overflowed = true;
            return false;
        }
        self.journal_bytes = bytes;
        true
    }

    /// Whether nothing waits (a digest that may not be written yet does).
    pub(crate) fn is_empty(&self) -> bool {
        self.partial.is_none() && self.urgent.is_empty() && self.bulk.is_empty()
    }

    /// Whether everything urgent has been written to its end.
    pub(crate) fn urgent_is_drained(&self) -> bool {
        self.partial.is_none() && self.urgent.is_empty()
    }

    /// Whether all that waits are ends of flows, and fewer than `many`.
    pub(crate) fn has_only_closes(&self, many: usize) -> bool {
        self.partial.is_none() && self.bulk.is_empty() && self.urgent.len() == self.closes && self.closes < many
    }

    pub(crate) fn front_urgent(&self) -> Option<&Item> {
        self.urgent.front()
    }

    pub(crate) fn pop_urgent(&mut self) -> Option<Item> {
        let item = self.urgent.pop_front()?;
        self.closes -= usize::from(is_close(&item));
        self.journal_bytes -= journal_bytes(&item);
        Some(item)
    }

    /// The next bulk item that may be written: a digest only when no mark can
    /// be waiting in the engine and nothing was dropped.
    pub(crate) fn front_bulk(&self) -> Option<&Item> {
        let may_end = !self.throttled && !self.overflowed;
        self.bulk.front().filter(|&item| may_end || *item != Item::BulkEnd)
    }

    pub(crate) fn pop_bulk(&mut self) -> Option<Item> {
        let item = self.bulk.pop_front()?;
        self.journal_bytes -= journal_bytes(&item);
        Some(item)
    }

    pub(crate) fn urgent_len(&self) -> usize {
        self.urgent.len()
    }

    pub(crate) fn bulk_len(&self) -> usize {
        self.bulk.len()
    }
}

fn is_close(item: &Item) -> bool {
    matches!(item, Item::Close(..))
}

/// What a waiting item counts against the journal's limit.
fn journal_bytes(item: &Item) -> usize {
    match item {
        Item::Journal(line) => line.text().len(),
        Item::Flow(_) | Item::Close(..) | Item::Persistence(_) | Item::Health(_) | Item::BulkEnd | Item::Kept(_) => 0,
    }
}
