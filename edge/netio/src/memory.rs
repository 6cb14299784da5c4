//! Ports on queues, for tests.

use crate::ports::{Outbox, Ports};
use holdfast_engine::{Frame, OwnedFrame, PortId};
use std::collections::VecDeque;

/// Ports without a network: a test puts frames in and takes frames out.
#[derive(Debug, Default)]
pub struct MemoryPorts {
    inbound: VecDeque<OwnedFrame>,
    queued: VecDeque<OwnedFrame>,
    sent: VecDeque<OwnedFrame>,
}

impl MemoryPorts {
    /// No frames anywhere.
    pub fn new() -> MemoryPorts {
        MemoryPorts::default()
    }

    /// Lets `frame` arrive on its port.
    pub fn inject(&mut self, frame: OwnedFrame) {
        self.inbound.push_back(frame);
    }

    /// The next frame that was sent.
    pub fn take_sent(&mut self) -> Option<OwnedFrame> {
        self.sent.pop_front()
    }
}

impl Ports for MemoryPorts {
    fn receive(
        &mut self,
        port: PortId,
        budget: usize,
        handle: &mut dyn FnMut(Frame<'_>, &mut Outbox<'_>) -> Option<PortId>,
    ) -> usize {
        let mut count = 0;
        while count < budget {
            let Some(at) = self.inbound.iter().position(|frame| frame.port == port) else { break };
            let Some(mut frame) = self.inbound.remove(at) else { break };
            count += 1;
            let received = Frame { port, offload: frame.offload, bytes: &mut frame.bytes };
            let mut own = Vec::new();
            let mut push = |made| own.push(made);
            if let Some(out) = handle(received, &mut Outbox::new(&mut push)) {
                frame.port = out;
                self.queued.push_back(frame);
            }
            self.queued.extend(own);
        }
        count
    }

    fn send(&mut self, frame: OwnedFrame) {
        self.queued.push_back(frame);
    }

    fn flush(&mut self, may_send: &mut dyn FnMut() -> bool, _recycle: &mut dyn FnMut(Vec<u8>)) -> bool {
        if may_send() {
            self.sent.append(&mut self.queued);
            return true;
        }
        self.queued.clear();
        false
    }
}
