//! Who looks on while the node works.
//!
//! All other outputs are polled after a turn; what a process dies of does not
//! live to be polled. So the one who writes down what preceded a crash is called
//! before each record of the peer is applied.

use holdfast_base::Instant;
use holdfast_mirror::Record;

use crate::node::Node;

/// Sees what is about to be done. It must be quick, and it changes nothing.
pub trait Onlooker: Sync {
    /// This record of the peer is applied next.
    fn see(&self, now: Instant, record: &Record);
}

/// Nobody looks on.
pub(crate) struct Nobody;

impl Onlooker for Nobody {
    fn see(&self, _: Instant, _: &Record) {}
}

impl Node {
    /// From here on `onlooker` looks on.
    pub fn set_onlooker(&mut self, onlooker: &'static dyn Onlooker) {
        self.onlooker = onlooker;
    }
}
