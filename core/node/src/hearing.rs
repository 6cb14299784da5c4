//! Whether this node hears anybody at all.
//!
//! Whoever hears nothing of its peer cannot tell by that whether the peer is dead or its own ears are. So a node on whose
//! ports nothing came in for half a dead interval asks neighbours that are known to answer: gateways and servers, under
//! no address of its own (see [`crate::fitness`]). If nothing comes in after that either, the node is *deaf*: it does not
//! lead, and keeps silent, so that the other node hears no more of it than it hears of the other
//! (`docs/decisions/0015-nodes-on-their-own.md`).
//!
//! ```text
//!   last frame     dead / 2          + hello / 2      dead
//!   ──────┼────────────┼──────────────────┼─────────────┼──────►
//!                  questions       not ready to lead   deaf
//!   ◄──────────── any frame, whoever sent it, ends all of it
//! ```
//! Where nobody is known to answer nothing can be told, and silence means what it meant before.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_config::Config;
use holdfast_wire::{Addr, MacAddr};

use crate::effect::Level;
use crate::fitness::question;
use crate::node::Node;

/// Neighbours that are asked at most: each question is a broadcast.
const MAX_NEIGHBOURS: usize = 8;
/// So often all of them are asked, so that it is known who answers.
const ROUND: Duration = Duration::from_secs(30);
/// A node that has no peer to hear asks no sooner: its network may just be quiet.
const QUIET: Duration = Duration::from_secs(1);
/// Longest pause between two questions of a node that hears nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Somebody who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbour {
    addr: Addr,
    /// It answered when it was last asked by a node that could hear.
    answers: bool,
    /// It was asked by such a node since its last answer.
    owes: bool,
}

/// What is known of this node's own ears.
#[derive(Debug)]
pub(crate) struct Hearing {
    /// When something last came in, from anybody.
    heard: Instant,
    /// Since when the neighbours are asked, because nothing came in.
    asked: Option<Instant>,
    next_question: Instant,
    pause: Duration,
    neighbours: Vec<Neighbour>,
    next_round: Option<Instant>,
    questions: u64,
    /// What the election was told.
    told: bool,
    /// Since when the operator has been told that nothing is heard.
    deaf_since: Option<Instant>,
}

impl Hearing {
    pub fn new(now: Instant) -> Hearing {
        Hearing {
            heard: now,
            asked: None,
            next_question: now,
            pause: Duration::ZERO,
            neighbours: Vec::new(),
            next_round: None,
            questions: 0,
            told: true,
            deaf_since: None,
        }
    }

    /// Takes the neighbours of a configuration: gateways first, then servers that no gateway is needed for.
    fn set_config(&mut self, now: Instant, config: &Config) {
        let subnets = || config.ips().iter().filter(|ip| ip.enabled);
        let on_link = |addr: &Addr| {
            subnets().any(|ip| {
                Addr::from(ip.addr).is_v4() == addr.is_v4() && addr.matches_prefix(ip.addr.into(), ip.prefix_len)
            })
        };
        let servers = config.services().filter_map(|service| config.server(&service.server));
        let candidates = config.routes().iter().map(|route| route.gateway).chain(servers.map(|server| server.addr));
        let former = core::mem::take(&mut self.neighbours);
        for addr in candidates.map(Addr::from).filter(on_link) {
            if self.neighbours.len() < MAX_NEIGHBOURS && !self.neighbours.iter().any(|known| known.addr == addr) {
                let known = former.iter().find(|known| known.addr == addr);
                self.neighbours.push(known.copied().unwrap_or(Neighbour { addr, answers: false, owes: false }));
            }
        }
        let fresh = self.neighbours.iter().any(|known| !known.answers);
        self.next_round = match (self.neighbours.is_empty(), fresh) {
            (true, _) => None,
            (false, true) => Some(now),
            (false, false) => self.next_round.or(Some(now)),
        };
    }

    /// Something came in. Returns whether that is news.
    fn note(&mut self, now: Instant) -> bool {
        self.heard = now;
        self.asked.take().is_some()
    }

    /// A neighbour said where it is.
    fn note_speaker(&mut self, addr: Addr) {
        if let Some(known) = self.neighbours.iter_mut().find(|known| known.addr == addr) {
            (known.answers, known.owes) = (true, false);
        }
    }

    /// Who was asked by a node that could hear, and has not answered it, is not known to answer any more.
    fn strike(&mut self) {
        for known in &mut self.neighbours {
            known.answers &= !known.owes;
            known.owes = false;
        }
    }

    /// Whether anybody is known to answer.
    fn may_ask(&self) -> bool {
        self.neighbours.iter().any(|known| known.answers)
    }

    /// Whether nobody answers, although some used to: `patience` after they were first asked.
    fn is_in_doubt(&self, now: Instant, patience: Duration) -> bool {
        self.asked.is_some_and(|asked| now >= asked + patience)
    }

    /// When something is due. `limit`: silence after which neighbours are asked; `patience`: see [`Hearing::is_in_doubt`].
    fn poll_timeout(&self, limit: Duration, patience: Duration) -> Option<Instant> {
        match self.asked {
            None => self.may_ask().then_some(self.heard + limit).into_iter().chain(self.next_round).min(),
            Some(asked) if self.told => Some((asked + patience).min(self.next_question)),
            // Rounds are for nodes that hear.
            Some(_) => Some(self.next_question),
        }
    }

    /// Questions asked, since the start; each counts once for all ports.
    pub fn questions(&self) -> u64 {
        self.questions
    }

    /// Since when this node has heard nobody, if that is so.
    pub fn deaf_since(&self) -> Option<Instant> {
        self.deaf_since
    }
}

impl Node {
    /// The configuration has changed: its gateways and servers may be asked from here on.
    pub(crate) fn know_neighbours(&mut self, now: Instant) {
        self.hearing.set_config(now, &self.config);
    }

    /// Something came in from outside, whoever sent it; `speaker`: who has just said where it is.
    pub(crate) fn hear_somebody(&mut self, now: Instant, speaker: Option<Addr>) {
        if let Some(speaker) = speaker {
            self.hearing.note_speaker(speaker);
        }
        if !self.hearing.note(now) {
            return;
        }
        self.tell_hearing(now);
        if self.hearing.deaf_since.take().is_some() {
            self.event(Level::Info, "this node hears the network again".into());
        }
        // Who was silent because nobody could be heard can answer now.
        self.hearing.strike();
        self.ask_neighbours(true);
    }

    /// Whether a frame to many is one of this node's own: where two ports lead to the same wire, it comes back by the other.
    pub(crate) fn is_own_echo(&self, frame: &[u8]) -> bool {
        let Some((to, rest)) = frame.split_first_chunk::<6>() else { return false };
        let to_many = MacAddr(*to).is_group();
        to_many && self.ports.iter().filter_map(|state| state.port).any(|own| rest.starts_with(&own.mac.0))
    }

    /// When [`Node::watch_hearing`] has something to do.
    pub(crate) fn hearing_due(&self) -> Option<Instant> {
        let pair = self.listening && self.config.ha().peer.is_some();
        pair.then(|| self.hearing.poll_timeout(self.silence_limit(), self.hello_interval() / 2))?
    }

    /// Silence of everybody after which neighbours are asked.
    fn silence_limit(&self) -> Duration {
        let half = Duration::from_millis(self.config.ha().dead_ms.into()) / 2;
        if self.peer_boot.is_some() { half } else { half.max(QUIET) }
    }

    /// Asks neighbours when it is time, and tells the election what has come of it.
    pub(crate) fn watch_hearing(&mut self, now: Instant) {
        if !self.listening || self.config.ha().peer.is_none() {
            return;
        }
        if self.hearing.asked.is_none() && self.hearing.next_round.is_some_and(|at| now >= at) {
            self.hearing.next_round = Some(now + ROUND);
            self.hearing.strike();
            self.ask_neighbours(true);
        }
        let limit = self.silence_limit();
        if self.hearing.asked.is_none() && self.hearing.may_ask() && now >= self.hearing.heard + limit {
            self.hearing.strike();
            if self.hearing.may_ask() {
                (self.hearing.asked, self.hearing.pause) = (Some(now), limit.min(LONGEST_PAUSE));
                self.hearing.next_question = now;
            }
        }
        if self.hearing.asked.is_some() && now >= self.hearing.next_question {
            self.ask_neighbours(false);
            self.hearing.next_question = now + self.hearing.pause;
            self.hearing.pause = (self.hearing.pause * 2).min(LONGEST_PAUSE);
        }
        self.tell_hearing(now);
        if self.ha.is_deaf() && self.hearing.deaf_since.is_none() {
            self.hearing.deaf_since = Some(self.hearing.heard);
            let text = "nothing comes in at any port, and neighbours that used to answer do not: this node seems to be deaf, \
                        does not lead, and keeps silent until it hears somebody";
            self.event(Level::Warn, text.into());
        }
    }

    fn tell_hearing(&mut self, now: Instant) {
        let hears = !self.hearing.is_in_doubt(now, self.hello_interval() / 2);
        if self.listening && core::mem::replace(&mut self.hearing.told, hears) != hears {
            self.ha.handle_hearing(now, hears);
            self.drain_ha(now);
            self.update_gate(now);
        }
    }

    /// One question to each: to all, by a node that hears; else to those that are known to answer.
    fn ask_neighbours(&mut self, hears: bool) {
        let ports = self.usable_ports();
        if ports.is_empty() {
            return;
        }
        for known in &mut self.hearing.neighbours {
            if !hears && !known.answers {
                continue;
            }
            known.owes |= hears && known.answers;
            self.hearing.questions += 1;
            self.frames.extend(ports.iter().map(|port| question(*port, known.addr)));
        }
    }
}

#[cfg(test)]
mod tests;
