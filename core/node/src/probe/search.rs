//! Looking for some bytes in others that come bit by bit.

/// A pattern, and what has come so far.
#[derive(Debug)]
pub(super) struct Search {
    pattern: Vec<u8>,
    /// What may still be the beginning of the pattern: always shorter than it, and the bytes just pushed.
    tail: Vec<u8>,
    anything: bool,
}

impl Search {
    /// Empty: one byte will do, whichever.
    pub(super) fn new(pattern: Vec<u8>) -> Search {
        Search { pattern, tail: Vec::new(), anything: false }
    }

    pub(super) fn takes_anything(&self) -> bool {
        self.pattern.is_empty()
    }

    /// Whether the pattern is in what has come, up to the end of `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        if self.pattern.is_empty() {
            self.anything |= !bytes.is_empty();
            return self.anything;
        }
        self.tail.extend_from_slice(bytes);
        let found = self.tail.windows(self.pattern.len()).any(|window| window == self.pattern);
        let keep = self.tail.len().min(self.pattern.len() - 1);
        self.tail.drain(..self.tail.len() - keep);
        found
    }
}
