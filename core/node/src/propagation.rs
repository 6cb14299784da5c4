//! Changes on their way to the peer: the operator hears of a change when the peer has it.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_config::{Message, Warning, messages};

use crate::effect::Reply;
use crate::node::Node;

/// How long an operator waits for the peer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Operators that wait at the same time; further ones are answered at once.
const MAX_WAITING: usize = 256;

/// An operator who waits.
#[derive(Debug)]
struct Waiting {
    request: u64,
    json: bool,
    warnings: Vec<Warning>,
    /// The peer has the change when it has stored all below this position; `None`: not written yet.
    position: Option<u64>,
    until: Instant,
    refused: bool,
}

/// All operators who wait.
#[derive(Debug, Default)]
pub(crate) struct Propagations {
    waiting: Vec<Waiting>,
    timeouts: u64,
}

impl Propagations {
    /// Changes that the peer did not confirm in time.
    pub fn timeouts(&self) -> u64 {
        self.timeouts
    }

    /// When the first of them has waited long enough.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// The peer has refused something.
    pub fn note_refused(&mut self) {
        self.waiting.iter_mut().for_each(|waiting| waiting.refused = true);
    }

    /// All that was pushed has been written, up to this position of the stream.
    pub fn note_written(&mut self, position: Option<u64>) {
        let unwritten = self.waiting.iter_mut().filter(|waiting| waiting.position.is_none());
        unwritten.for_each(|waiting| waiting.position = position);
    }

    /// Another session tells everything anew.
    pub fn begin_session(&mut self) {
        self.waiting.iter_mut().for_each(|waiting| waiting.position = None);
    }

    fn take(&mut self, is_done: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        self.waiting.extract_if(.., |waiting| is_done(waiting)).collect()
    }
}

/// An answer that has nothing to say but this.
pub(crate) fn warned(warnings: &[Warning], json: bool) -> String {
    let lines = warnings.iter().map(|warning| if json { warning.to_json() } else { warning.to_string() });
    lines.collect::<Vec<_>>().join("\n")
}

impl Node {
    /// Sends changes that were made here to the peer. The answer, unless it must wait for the peer.
    pub(crate) fn propagate(
        &mut self,
        now: Instant,
        (request, json): (u64, bool),
        mut warnings: Vec<Warning>,
        lines: Vec<String>,
    ) -> Option<String> {
        let unsent = self.propagation_is_off().or_else(|| self.propagation_is_impossible().map(Warning::new));
        if lines.is_empty() || unsent.is_some() || !self.mirroring.sender.is_active() {
            warnings.extend(unsent.filter(|_| !lines.is_empty()));
            return Some(warned(&warnings, json));
        }
        for line in lines {
            self.sync.count_change();
            self.journal(line);
        }
        if self.propagations.waiting.len() >= MAX_WAITING {
            return Some(warned(&warnings, json));
        }
        let until = now + PATIENCE;
        self.propagations.waiting.push(Waiting { request, json, warnings, position: None, until, refused: false });
        None
    }

    /// Why changes stay here, if the operator of a node of the pair wants that.
    pub(crate) fn propagation_is_off(&self) -> Option<Warning> {
        self.config.ha().peer?;
        match self.sync.peer() {
            _ if !self.config.ha().propagation => Some(Warning::with(messages::PROPAGATION_DISABLED, "this node")),
            Some(aside) if aside.propagation_off => {
                Some(Warning::with(messages::PEER_PROPAGATION_DISABLED, "peer node"))
            }
            Some(_) | None => None,
        }
    }

    /// Why changes do not reach a peer that is there: it takes nothing of us, or nothing can be said to it. The next
    /// session brings them.
    fn propagation_is_impossible(&self) -> Option<Message> {
        self.config.ha().peer.filter(|_| !self.mirroring.sender.is_active())?;
        match self.ha.status().peer {
            Some(_) if self.gets_on_with_peer() => Some(messages::PROPAGATION_FAILED),
            Some(_) => Some(messages::VERSION_FORBIDS_SYNC),
            None => self.channel.secure().is_failing().then_some(messages::PROPAGATION_UNAUTHORIZED),
        }
    }

    /// Answers the operators whose changes the peer has.
    pub(crate) fn confirm_propagations(&mut self) {
        let stored = self.mirroring.sender.stored_below();
        for done in self.propagations.take(|waiting| waiting.position.is_some_and(|position| position <= stored)) {
            let warning = done.refused.then(|| Warning::new(messages::SECONDARY_FAILED));
            self.answer(done, warning);
        }
    }

    /// Answers the operators who have waited long enough.
    pub(crate) fn expire_propagations(&mut self, now: Instant) {
        for late in self.propagations.take(|waiting| waiting.until <= now) {
            self.propagations.timeouts += 1;
            self.answer(late, Some(Warning::new(messages::PROPAGATION_TIMED_OUT)));
        }
    }

    /// The peer is gone: nobody waits for it any more.
    pub(crate) fn abandon_propagations(&mut self) {
        for lost in self.propagations.take(|_| true) {
            self.answer(lost, Some(Warning::new(messages::PEER_UNREACHABLE)));
        }
    }

    fn answer(&mut self, mut waiting: Waiting, warning: Option<Warning>) {
        waiting.warnings.extend(warning);
        let text = warned(&waiting.warnings, waiting.json);
        self.reply(Reply { request: waiting.request, text, ok: true, last: true });
    }
}
