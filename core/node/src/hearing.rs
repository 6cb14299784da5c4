//! Whether this node hears anybody at all.
//!
//! Whoever hears nothing of its peer cannot tell by that whether the peer is dead or its own ears are. So a node on whose
//! ports nothing came in for about half a dead interval, its peer's hellos included, asks neighbours that are known to
//! answer: gateways and servers, under no address of its own (see [`crate::fitness`]). If nobody proves that he is heard, the
//! node is *deaf*: it does not lead, and keeps silent, so that the other node hears no more of it than it hears of the
//! other (`docs/decisions/0015-nodes-on-their-own.md`).
//!
//! ```text
//!   last frame   dead / 2 - hello / 4     dead / 2        dead
//!   ──────┼────────────────┼─────────────────┼──────────────┼──────►
//!                      questions     not ready to lead    deaf
//!   ◄──────────── a word of the peer, an answer, or a frame to this node's own address ends all of it
//! ```
//! What a stranger tells everybody is no proof: a receiver that fails lets something through now and then. Where nobody is known
//! to answer nothing can be told, and silence means what it meant before.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_config::Config;
use holdfast_wire::{Addr, MacAddr};

use crate::effect::Level;
use crate::fitness::question;
use crate::node::Node;

/// Neighbours that are asked at most: each question is a broadcast.
const MAX_NEIGHBOURS: usize = 16;
/// So often all of them are asked, so that it is known who answers.
const ROUND: Duration = Duration::from_secs(30);
/// Rounds in a row without an answer after which nobody counts on one.
const MISSES: u32 = 2;
/// Longest pause between two questions of a node that hears nothing.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A node that has heard strangers, and none of its neighbours, for so long believes that those are gone.
const FORGETS: Duration = Duration::from_secs(60);

/// Somebody who may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbour {
    addr: Addr,
    /// It is known to answer.
    answers: bool,
    /// Rounds since its last answer.
    missed: u32,
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

/// What waits how long.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Silence of everybody after which neighbours are asked.
    limit: Duration,
    /// How long nobody answers then until it means something.
    patience: Duration,
    /// The peer is there: its silence begins.
    joined: bool,
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
                self.neighbours.push(known.copied().unwrap_or(Neighbour { addr, answers: false, missed: 0 }));
            }
        }
        let fresh = |known: &Neighbour| !former.iter().any(|other| other.addr == known.addr);
        self.next_round = match self.neighbours.iter().any(fresh) {
            _ if self.neighbours.is_empty() => None,
            true => Some(now),
            false => self.next_round.or(Some(now)),
        };
    }

    /// Something came in. `proof`: it would not have come in at a deaf node. Returns whether it ends a doubt.
    fn note(&mut self, now: Instant, proof: bool) -> bool {
        self.heard = now;
        proof && self.asked.take().is_some()
    }

    /// Somebody said where it is; whether it is a neighbour that is known to answer.
    fn note_speaker(&mut self, addr: Addr) -> bool {
        let Some(known) = self.neighbours.iter_mut().find(|known| known.addr == addr) else { return false };
        known.missed = 0;
        core::mem::replace(&mut known.answers, true)
    }

    /// A round begins: who has not answered some of them is not known to answer any more.
    fn begin_round(&mut self, now: Instant) {
        self.next_round = Some(now + ROUND);
        for known in &mut self.neighbours {
            known.missed += 1;
            known.answers &= known.missed <= MISSES;
        }
    }

    /// A node that hears strangers, and has asked in vain for long, knows of nobody who answers.
    fn forget(&mut self, now: Instant) -> bool {
        let long = self.asked.is_some_and(|asked| now >= asked + FORGETS) && now < self.heard + LONGEST_PAUSE * 2;
        if long {
            self.neighbours.iter_mut().for_each(|known| known.answers = false);
            self.asked = None;
        }
        long
    }

    /// Whether anybody is known to answer.
    fn may_ask(&self) -> bool {
        self.neighbours.iter().any(|known| known.answers)
    }

    /// Whether nobody answers, although some used to: `patience` after they were first asked.
    fn is_in_doubt(&self, now: Instant, patience: Duration) -> bool {
        self.asked.is_some_and(|asked| now >= asked + patience)
    }

    /// When something is due.
    fn poll_timeout(&self, pace: Pace) -> Option<Instant> {
        match self.asked {
            None => {
                let silence = (pace.joined && self.may_ask()).then_some(self.heard + pace.limit);
                silence.into_iter().chain(self.next_round).min()
            }
            Some(asked) if self.told => Some((asked + pace.patience).min(self.next_question)),
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

    /// A frame came in; `speaker`: who says in it where it is.
    pub(crate) fn hear_frame(&mut self, now: Instant, frame: &[u8], speaker: Option<Addr>) {
        let answer = speaker.is_some_and(|speaker| self.hearing.note_speaker(speaker));
        let in_doubt = self.hearing.asked.is_some();
        // To ask of every packet who sent it would cost more than an echo in a thousand is worth: what comes back is what goes
        // to all.
        let to_all = frame.first().is_some_and(|first| first & 1 != 0);
        if (in_doubt || to_all) && self.is_own_echo(frame) {
            return;
        }
        match in_doubt {
            true => self.hear_somebody(now, answer || self.is_to_us(frame)),
            false => self.hearing.heard = now,
        }
    }

    /// Something came in from outside. `proof`: it was for this node alone, or an answer.
    pub(crate) fn hear_somebody(&mut self, now: Instant, proof: bool) {
        if self.hearing.note(now, proof) {
            self.tell_hearing(now);
        }
    }

    /// Whether a frame is one of this node's own: where two ports lead to the same wire, it comes back by the other.
    fn is_own_echo(&self, frame: &[u8]) -> bool {
        frame.get(6..12).is_some_and(|from| self.own_stations().any(|own| own.0 == *from))
    }

    /// Whether a frame is for this node, and for nobody else.
    fn is_to_us(&self, frame: &[u8]) -> bool {
        frame.get(0..6).is_some_and(|to| self.own_stations().any(|own| own.0 == *to))
    }

    fn own_stations(&self) -> impl Iterator<Item = MacAddr> {
        let floating = self.floating_macs.iter().map(|&(_, mac)| mac);
        self.ports.iter().filter_map(|state| state.port).map(|port| port.mac).chain(floating)
    }

    /// When [`Node::watch_hearing`] has something to do.
    pub(crate) fn hearing_due(&self) -> Option<Instant> {
        let able = self.listening && self.config.ha().peer.is_some() && self.has_usable_port();
        able.then(|| self.hearing.poll_timeout(self.pace()))?
    }

    pub(crate) fn has_usable_port(&self) -> bool {
        self.ports.iter().any(|state| state.up && state.port.is_some())
    }

    /// Doubts must come before a primary that is told that it is not heard gives way: its last hello may be older than the last
    /// frame by a hello interval.
    fn pace(&self) -> Pace {
        let (hello, dead) = (self.hello_interval(), Duration::from_millis(self.config.ha().dead_ms.into()));
        Pace { limit: dead / 2 - hello / 4, patience: hello / 4, joined: self.peer_boot.is_some() }
    }

    /// Asks neighbours when it is time, and tells the election what has come of it.
    pub(crate) fn watch_hearing(&mut self, now: Instant) {
        if !self.listening || self.config.ha().peer.is_none() || !self.has_usable_port() {
            return;
        }
        if self.hearing.asked.is_none() && self.hearing.next_round.is_some_and(|at| now >= at) {
            self.hearing.begin_round(now);
            self.ask_neighbours(true);
        }
        let pace = self.pace();
        let silent = pace.joined && now >= self.hearing.heard + pace.limit;
        if self.hearing.asked.is_none() && silent && self.hearing.may_ask() {
            (self.hearing.asked, self.hearing.pause) = (Some(now), pace.limit.min(LONGEST_PAUSE));
            self.hearing.next_question = now;
        }
        if self.hearing.asked.is_some() && !self.hearing.forget(now) && now >= self.hearing.next_question {
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
        let hears = !self.hearing.is_in_doubt(now, self.pace().patience);
        if self.listening && core::mem::replace(&mut self.hearing.told, hears) != hears {
            self.ha.handle_hearing(now, hears);
            self.drain_ha(now);
            self.update_gate(now);
        }
        if hears && self.hearing.deaf_since.take().is_some() {
            self.event(Level::Info, "this node hears the network again".into());
        }
    }

    /// One question to each neighbour, or to each that is known to answer.
    fn ask_neighbours(&mut self, all: bool) {
        let ports = self.usable_ports();
        for known in self.hearing.neighbours.iter().filter(|known| all || known.answers) {
            self.hearing.questions += 1;
            self.frames.extend(ports.iter().map(|port| question(*port, known.addr)));
        }
    }
}

#[cfg(test)]
mod tests;
