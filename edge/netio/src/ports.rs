//! The door between the data thread and its ports.

use holdfast_engine::{Frame, OwnedFrame, PortId};

/// Frames that one system call receives or sends at most.
pub const BATCH: usize = 64;

/// Frames that can be received between two flushes: each one occupies a
/// buffer until then.
pub const TURN_FRAMES: usize = 256;

/// What a port did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received.
    pub rx_frames: u64,
    /// Their bytes, Ethernet header included.
    pub rx_bytes: u64,
    /// Frames the kernel threw away because the socket's buffer was full.
    pub rx_dropped: u64,
    /// Frames longer than a buffer (above 64 KiB of IP), thrown away.
    pub rx_truncated: u64,
    /// Failed receive calls, such as "network is down".
    pub rx_errors: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their bytes, Ethernet header included.
    pub tx_bytes: u64,
    /// Frames thrown away because the device's queue was full.
    pub tx_full: u64,
    /// Frames thrown away because the device refused them (down, too long).
    pub tx_errors: u64,
}

/// Where a handler of received frames puts those the node made meanwhile.
/// They leave in order, behind what was forwarded before.
pub struct Outbox<'a> {
    push: &'a mut dyn FnMut(OwnedFrame),
}

impl<'a> Outbox<'a> {
    /// An outbox that gives each frame to `push`.
    pub fn new(push: &'a mut dyn FnMut(OwnedFrame)) -> Outbox<'a> {
        Outbox { push }
    }

    /// Sends `frame` at the next flush.
    pub fn send(&mut self, frame: OwnedFrame) {
        (self.push)(frame);
    }
}

/// Receives and sends frames in batches.
///
/// Received bytes are edited and sent from the buffer they were received
/// into. So buffers are busy until [`Ports::flush`], and at most
/// [`TURN_FRAMES`] frames can be received between two flushes.
pub trait Ports {
    /// Receives up to `budget` frames from `port` without waiting and returns
    /// how many came. For each one `handle` may return the port to forward it
    /// to: the (edited) bytes leave with their offload at the next flush.
    fn receive(
        &mut self,
        port: PortId,
        budget: usize,
        handle: &mut dyn FnMut(Frame<'_>, &mut Outbox<'_>) -> Option<PortId>,
    ) -> usize;

    /// Queues a frame of the node's own. Frames for a port that is not open are
    /// counted there as errors and given back at the next flush.
    fn send(&mut self, frame: OwnedFrame);

    /// Sends all that is queued, in order per port, and gives the buffers of
    /// the node's own frames to `recycle`. `may_send` is asked before each batch:
    /// when it says no, the rest is thrown away. Returns whether all was sent.
    fn flush(&mut self, may_send: &mut dyn FnMut() -> bool, recycle: &mut dyn FnMut(Vec<u8>)) -> bool;
}
