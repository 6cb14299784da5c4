//! The fast path's doors: what it is to do, and what it tells back.

use holdfast_base::Instant;
use holdfast_engine::{FlowKey, OffloadOrder, OffloadUse};

use crate::effect::DataPlane;
use crate::node::Node;

impl Node {
    /// Whether there is a fast path from here on; without one nothing is ordered.
    pub fn set_offload(&mut self, now: Instant, on: bool) {
        self.begin(now);
        self.engine.set_offload(on);
        // What passed elsewhere until now may never be told.
        self.engine.forgive_idleness(now);
    }

    /// The next thing that the fast path must be told, see [`holdfast_engine::Engine::poll_offload`].
    pub fn poll_offload(&mut self, now: Instant) -> Option<OffloadOrder> {
        self.engine.poll_offload(now)
    }

    /// Some more copies to be asked for their use, see [`holdfast_engine::Engine::next_copies`].
    pub fn next_copies(&mut self, now: Instant, keys: &mut Vec<FlowKey>) {
        self.engine.next_copies(now, keys);
    }

    /// When there are some, see [`holdfast_engine::Engine::copies_due`].
    pub fn copies_due(&self) -> Instant {
        self.engine.copies_due()
    }

    /// Flows with copies, see [`holdfast_engine::Engine::offloaded_flows`].
    pub fn offloaded_flows(&self) -> u32 {
        self.engine.offloaded_flows()
    }

    /// The copies that must be asked for their use, and their use be told by [`Node::handle_use`], before this frame is handed in.
    pub fn copies_to_ask(&self, frame: &[u8]) -> Option<[FlowKey; 2]> {
        self.engine.copies_to_ask(frame)
    }

    /// What `show ns dataplane` tells; complete, now and then.
    pub fn handle_data_plane(&mut self, data_plane: DataPlane) {
        self.data_plane = data_plane;
    }

    /// A copy has been used.
    pub fn handle_use(&mut self, now: Instant, report: &OffloadUse) {
        self.begin(now);
        self.engine.handle_use(now, report);
    }

    /// The fast path forwarded a client's packet at this time: of two nodes that lead the one that serves goes on.
    pub fn handle_client_seen(&mut self, at: Instant) {
        self.ha.handle_client_packet_seen(at);
    }
}
