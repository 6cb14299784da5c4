//! Frames that wait to be polled, and the buffers they come back in.

use std::collections::VecDeque;

use crate::frame::OwnedFrame;

/// Buffers kept for reuse; more than this are given back to the allocator.
const POOL_LIMIT: usize = 1024;
/// Capacity of a fresh buffer in bytes: a full Ethernet frame with two tags.
const BUFFER_CAPACITY: usize = 1536;

/// Frames in the order in which they must leave, and a pool of empty buffers.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<OwnedFrame>,
    pool: Vec<Vec<u8>>,
}

impl Outbox {
    /// Appends a frame; it leaves after all frames pushed before.
    pub(crate) fn push(&mut self, frame: OwnedFrame) {
        self.frames.push_back(frame);
    }

    /// The next frame to send.
    pub(crate) fn pop(&mut self) -> Option<OwnedFrame> {
        self.frames.pop_front()
    }

    /// An empty buffer, from the pool if there is one.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.pool.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_CAPACITY))
    }

    /// A buffer that holds a copy of `bytes`.
    pub(crate) fn copy_of(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut buffer = self.buffer();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Takes a buffer back. Very large ones and more than the pool holds are freed.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.pool.len() < POOL_LIMIT && buffer.capacity() <= 4 * BUFFER_CAPACITY {
            buffer.clear();
            self.pool.push(buffer);
        }
    }
}
