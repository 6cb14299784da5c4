//! Packets that a node lets go without its peer's acknowledgement: which of them had to be, and which must never be.
//!
//! A node whose peer dies lets go what waited for it, and that is right. From then until its next mirror session it holds
//! nothing, so it has nothing to let go; and while a session runs every hold must end by an acknowledgement. So whatever
//! the counter shows is wrong, but for what came between the death of the peer and the next session.

use crate::node::Session;
use crate::pair::Pair;
use anyhow::Result;

/// What is known of one node's counter.
#[derive(Clone, Copy, Default)]
struct Seen {
    process: Option<u32>,
    count: u64,
    /// The peer is gone, and this was the latest session then.
    bereaved: Option<Option<Session>>,
}

/// Follows both nodes' counters through a campaign.
#[derive(Default)]
pub struct Releases {
    seen: [Seen; 2],
    wrong: u64,
}

impl Releases {
    /// Reads the counter of a node that can answer. What it has let go since the last look is wrong, unless it is alone.
    pub fn look(&mut self, pair: &Pair, node: usize) -> Result<()> {
        let view = pair.nodes[node].ha()?;
        let process = pair.nodes[node].pid();
        let last =
            std::mem::replace(&mut self.seen[node], Seen { process, count: view.released_unprotected, bereaved: None });
        if last.process != process {
            // A new process counts from 0.
            self.wrong += view.released_unprotected;
        } else if last.bereaved.is_some_and(|latest| latest == view.session()) {
            self.seen[node] = last;
        } else if last.bereaved.is_some() {
            self.wrong += view.released_in_session;
        } else {
            self.wrong += view.released_unprotected - last.count;
        }
        Ok(())
    }

    /// As [`Releases::look`], before a failure: a node that never missed its peer had nothing to let go either.
    pub fn settle(&mut self, pair: &Pair, node: usize) -> Result<()> {
        self.look(pair, node)?;
        if self.seen[node].bereaved.take().is_some() {
            self.look(pair, node)?;
        }
        Ok(())
    }

    /// The peer of `node` has just failed: what `node` lets go until its next session is due to that.
    pub fn bereave(&mut self, pair: &Pair, node: usize) -> Result<()> {
        let view = pair.nodes[node].ha()?;
        let process = pair.nodes[node].pid();
        self.seen[node] = Seen { process, count: view.released_unprotected, bereaved: Some(view.session()) };
        Ok(())
    }

    /// Whether `node` was bereaved and has not begun another session as of the last look.
    pub fn is_alone(&self, node: usize) -> bool {
        self.seen[node].bereaved.is_some()
    }

    /// What was wrong since this was last asked.
    pub fn take(&mut self) -> u64 {
        std::mem::take(&mut self.wrong)
    }
}
