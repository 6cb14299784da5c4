//! A queue with a limit that counts what it had to refuse.

use std::collections::VecDeque;

/// First in, first out, at most `limit` items.
#[derive(Clone, Debug)]
pub struct BoundedQueue<T> {
    items: VecDeque<T>,
    limit: usize,
    refused: u64,
}

impl<T> BoundedQueue<T> {
    /// An empty queue that holds at most `limit` items.
    pub fn new(limit: usize) -> BoundedQueue<T> {
        BoundedQueue { items: VecDeque::new(), limit, refused: 0 }
    }

    /// Appends `item`, or gives it back and counts the refusal when full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.items.len() >= self.limit {
            self.refused += 1;
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// The oldest item, left in place.
    pub fn front(&self) -> Option<&T> {
        self.items.front()
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many pushes were refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
