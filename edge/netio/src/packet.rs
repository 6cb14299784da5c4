//! Ports on AF_PACKET sockets: `recvmmsg` into slots, `sendmmsg` out of them.

use crate::arena::{Arena, SLOT_LEN};
use crate::ports::{BATCH, Outbox, PortCounters, Ports};
use crate::socket::{OpenError, PacketSocket};
use crate::tap::Tap;
use crate::transmit::{Queue, send_queue};
use crate::vnet::{VNET_HEADER_LEN, decode_offload};
use holdfast_engine::{Frame, OwnedFrame, PortId};
use std::array;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// How a port receives and sends. To be dropped on another thread than the data thread.
#[derive(Debug)]
pub struct PortSockets {
    receive: PacketSocket,
    /// Where frames leave, if not by the socket that receives.
    send: Option<PacketSocket>,
    tap: Option<Tap>,
}

impl PortSockets {
    /// Receives all that comes in at the interface `device` of this number.
    pub fn open(device: &str, index: u32) -> Result<PortSockets, OpenError> {
        Ok(PortSockets { receive: PacketSocket::open(device, index)?, send: None, tap: None })
    }

    /// Receives what the fast path sorts out for the engine.
    pub fn open_behind_tap(device: &str, index: u32) -> Result<PortSockets, OpenError> {
        let tap = Tap::open(device)?;
        let receive = PacketSocket::open_on_tap(tap.name(), tap.index())?;
        Ok(PortSockets { receive, send: Some(PacketSocket::open_sender(device, index)?), tap: Some(tap) })
    }

    /// The TAP that it receives from, if it does.
    pub fn tap(&self) -> Option<&Tap> {
        self.tap.as_ref()
    }

    /// The number of the interface.
    pub fn index(&self) -> u32 {
        self.sender().index()
    }

    fn sender(&self) -> &PacketSocket {
        self.send.as_ref().unwrap_or(&self.receive)
    }
}

/// One open interface and what is queued for it.
struct Port {
    sockets: PortSockets,
    counters: PortCounters,
}

/// The data ports of a node, indexed by [`PortId`]. Made and used by the data
/// thread; sockets are opened elsewhere and handed in.
pub struct PacketPorts {
    arena: Arena,
    ports: Vec<Option<Port>>,
    queues: Vec<Queue>,
}

impl Default for PacketPorts {
    fn default() -> PacketPorts {
        PacketPorts::new()
    }
}

impl PacketPorts {
    /// No port yet; the receive buffers are allocated here, once.
    pub fn new() -> PacketPorts {
        PacketPorts { arena: Arena::new(), ports: Vec::new(), queues: Vec::new() }
    }

    /// Opens a port, or gives it other sockets. Returns the old ones, which are
    /// to be dropped on another thread.
    pub fn insert(&mut self, id: PortId, sockets: PortSockets) -> Option<PortSockets> {
        let at = usize::from(id.0);
        if self.ports.len() <= at {
            self.ports.resize_with(at + 1, || None);
        }
        self.queue(id);
        let counters = self.counters(id);
        self.ports[at].replace(Port { sockets, counters }).map(|old| old.sockets)
    }

    /// Closes a port. Returns its sockets, which are to be dropped on another thread.
    pub fn remove(&mut self, id: PortId) -> Option<PortSockets> {
        self.ports.get_mut(usize::from(id.0))?.take().map(|old| old.sockets)
    }

    /// The descriptor to wait on.
    pub fn raw_fd(&self, id: PortId) -> Option<RawFd> {
        self.port(id).map(|port| port.sockets.receive.as_raw_fd())
    }

    /// What an open port did so far; zeros for one that is not open.
    pub fn counters(&self, id: PortId) -> PortCounters {
        self.port(id).map_or_else(PortCounters::default, |port| port.counters)
    }

    /// Adds the kernel's own drops to the counters. Costs a system call per
    /// port: once a second is plenty.
    pub fn collect_drops(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.counters.rx_dropped += port.sockets.receive.take_dropped();
        }
    }

    fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(usize::from(id.0))?.as_ref()
    }

    fn queue(&mut self, id: PortId) -> &mut Queue {
        queue_of(&mut self.queues, id)
    }

    /// One `recvmmsg`: returns the number of slots filled and, through
    /// `lengths`, the bytes in each (0: cut short, to be ignored).
    fn fill(&mut self, id: PortId, want: usize, lengths: &mut [usize; BATCH]) -> usize {
        let Some(port) = self.ports.get_mut(usize::from(id.0)).and_then(Option::as_mut) else { return 0 };
        let first = self.arena.next();
        let mut parts: [libc::iovec; BATCH] =
            array::from_fn(|_| libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
        // SAFETY: all-zero is a valid mmsghdr: no name, no parts, no control data.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (at, (part, message)) in parts.iter_mut().zip(&mut messages).take(want).enumerate() {
            part.iov_base = self.arena.slot(first + at).as_mut_ptr().cast();
            part.iov_len = SLOT_LEN;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let (fd, flags) = (port.sockets.receive.as_raw_fd(), libc::MSG_DONTWAIT);
        // SAFETY: the first `want` messages each point at one part, and each part at SLOT_LEN bytes
        // of a slot of its own; all live until after the call.
        let rc = unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), want as _, flags as _, std::ptr::null_mut()) };
        let Ok(count) = usize::try_from(rc) else {
            if io::Error::last_os_error().kind() != io::ErrorKind::WouldBlock {
                port.counters.rx_errors += 1;
            }
            return 0;
        };
        for (message, length) in messages.iter().zip(lengths.iter_mut()).take(count) {
            let cut = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            port.counters.rx_truncated += u64::from(cut);
            *length = if cut { 0 } else { message.msg_len as usize };
        }
        self.arena.take(count);
        count
    }
}

impl Ports for PacketPorts {
    fn receive(
        &mut self,
        port: PortId,
        budget: usize,
        handle: &mut dyn FnMut(Frame<'_>, &mut Outbox<'_>) -> Option<PortId>,
    ) -> usize {
        let mut total = 0;
        loop {
            let want = BATCH.min(budget - total).min(self.arena.free());
            let first = self.arena.next();
            let mut lengths = [0; BATCH];
            let count = if want == 0 { 0 } else { self.fill(port, want, &mut lengths) };
            for (at, &length) in lengths.iter().enumerate().take(count) {
                self.deliver(port, first + at, length, handle);
            }
            total += count;
            if count < want || want == 0 {
                return total;
            }
        }
    }

    fn send(&mut self, frame: OwnedFrame) {
        queue_of(&mut self.queues, frame.port).push_own(frame);
    }

    fn flush(&mut self, may_send: &mut dyn FnMut() -> bool, recycle: &mut dyn FnMut(Vec<u8>)) -> bool {
        let mut all = true;
        for (at, queue) in self.queues.iter_mut().enumerate() {
            if let Some(port) = self.ports.get_mut(at).and_then(Option::as_mut)
                && all
            {
                all =
                    send_queue(port.sockets.sender().as_raw_fd(), queue, &mut self.arena, &mut port.counters, may_send);
            }
            queue.clear(recycle);
        }
        self.arena.reset();
        all
    }
}

impl PacketPorts {
    fn deliver(
        &mut self,
        id: PortId,
        slot: usize,
        length: usize,
        handle: &mut dyn FnMut(Frame<'_>, &mut Outbox<'_>) -> Option<PortId>,
    ) {
        let Some((header, bytes)) = self.arena.slot(slot).get_mut(..length).and_then(split_header) else { return };
        let offload = decode_offload(header);
        if let Some(port) = self.ports.get_mut(usize::from(id.0)).and_then(Option::as_mut) {
            port.counters.rx_frames += 1;
            port.counters.rx_bytes += bytes.len() as u64;
        }
        // What the handler sends must stay behind the frame it forwards, so that frame is queued first.
        let mut own = Vec::new();
        let mut push = |frame| own.push(frame);
        let out = handle(Frame { port: id, offload, bytes }, &mut Outbox::new(&mut push));
        if let Some(out) = out {
            queue_of(&mut self.queues, out).push_slot(slot, length);
        }
        for frame in own {
            queue_of(&mut self.queues, frame.port).push_own(frame);
        }
    }
}

fn split_header(bytes: &mut [u8]) -> Option<(&[u8; VNET_HEADER_LEN], &mut [u8])> {
    let (header, frame) = bytes.split_first_chunk_mut::<VNET_HEADER_LEN>()?;
    Some((header, frame))
}

fn queue_of(queues: &mut Vec<Queue>, id: PortId) -> &mut Queue {
    let at = usize::from(id.0);
    if queues.len() <= at {
        queues.resize_with(at + 1, Queue::default);
    }
    &mut queues[at]
}
