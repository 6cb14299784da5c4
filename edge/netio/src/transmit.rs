//! Sending a queue of frames with as few system calls as possible.

use crate::arena::Arena;
use crate::ports::{BATCH, PortCounters};
use crate::vnet::{VNET_HEADER_LEN, encode_offload};
use holdfast_engine::OwnedFrame;
use std::array;
use std::ffi::c_uint;
use std::io;
use std::os::fd::RawFd;

/// A frame that waits for the flush.
enum Waiting {
    /// Received and edited; header and frame stand in the slot.
    Slot { slot: usize, length: usize },
    /// Made by the node.
    Own(OwnedFrame),
}

impl Waiting {
    fn frame_len(&self) -> usize {
        match self {
            Waiting::Slot { length, .. } => length - VNET_HEADER_LEN,
            Waiting::Own(frame) => frame.bytes.len(),
        }
    }
}

/// What waits for one port, in order. Bounded by the frames of one turn.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Vec<Waiting>,
}

impl Queue {
    pub(crate) fn push_slot(&mut self, slot: usize, length: usize) {
        self.waiting.push(Waiting::Slot { slot, length });
    }

    pub(crate) fn push_own(&mut self, frame: OwnedFrame) {
        self.waiting.push(Waiting::Own(frame));
    }

    /// Empties the queue; the node gets its own buffers back.
    pub(crate) fn clear(&mut self, recycle: &mut dyn FnMut(Vec<u8>)) {
        for waiting in self.waiting.drain(..) {
            match waiting {
                Waiting::Slot { .. } => {}
                Waiting::Own(frame) => recycle(frame.bytes),
            }
        }
    }
}

/// Sends all of `queue`. A frame that the device refuses is counted and
/// skipped; when the device's queue is full the rest of the batch is. False if
/// `may_send` ended it.
pub(crate) fn send_queue(
    fd: RawFd,
    queue: &mut Queue,
    arena: &mut Arena,
    counters: &mut PortCounters,
    may_send: &mut dyn FnMut() -> bool,
) -> bool {
    for batch in queue.waiting.chunks(BATCH) {
        if !may_send() {
            return false;
        }
        send_batch(fd, batch, arena, counters);
    }
    true
}

fn send_batch(fd: RawFd, batch: &[Waiting], arena: &mut Arena, counters: &mut PortCounters) {
    let mut headers = [[0u8; VNET_HEADER_LEN]; BATCH];
    let mut parts: [libc::iovec; 2 * BATCH] =
        array::from_fn(|_| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
    // SAFETY: all-zero is a valid mmsghdr: no name (the socket is bound), no parts, no control data.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    let lanes = headers.iter_mut().zip(parts.chunks_mut(2)).zip(&mut messages);
    for (waiting, ((header, parts), message)) in batch.iter().zip(lanes) {
        message.msg_hdr.msg_iov = parts.as_mut_ptr();
        message.msg_hdr.msg_iovlen = match waiting {
            Waiting::Slot { slot, length } => {
                parts[0].iov_base = arena.slot(*slot).as_mut_ptr().cast();
                parts[0].iov_len = *length;
                1
            }
            Waiting::Own(frame) => {
                *header = encode_offload(&frame.offload);
                parts[0] = libc::iovec { iov_base: header.as_mut_ptr().cast(), iov_len: VNET_HEADER_LEN };
                parts[1] = libc::iovec { iov_base: frame.bytes.as_ptr().cast_mut().cast(), iov_len: frame.bytes.len() };
                2
            }
        } as _;
    }
    let mut done = 0;
    while done < batch.len() {
        let rest = &mut messages[done..batch.len()];
        // SAFETY: each of the messages in `rest` points at one or two parts and those at readable
        // bytes in `headers`, the arena or the queue, all of which outlive the call.
        let rc = unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as c_uint, libc::MSG_DONTWAIT as _) };
        match usize::try_from(rc) {
            Ok(sent) => {
                counters.tx_frames += sent as u64;
                counters.tx_bytes +=
                    batch[done..done + sent].iter().map(|waiting| waiting.frame_len() as u64).sum::<u64>();
                done += sent;
            }
            Err(_) => done += skip_after_error(&io::Error::last_os_error(), rest.len(), counters),
        }
    }
}

/// How many frames to give up after an error of the first of `left`.
fn skip_after_error(error: &io::Error, left: usize, counters: &mut PortCounters) -> usize {
    match error.raw_os_error() {
        Some(libc::EINTR) => 0,
        Some(libc::EAGAIN | libc::ENOBUFS) => {
            counters.tx_full += left as u64;
            left
        }
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => {
            counters.tx_errors += left as u64;
            left
        }
        _ => {
            counters.tx_errors += 1;
            1
        }
    }
}
