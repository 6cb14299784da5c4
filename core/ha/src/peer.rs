//! The peer as heard: its boots, the order of its hellos, and questions to it.

use crate::{Hello, HelloKind, LostCause, PathId, PathView, Role};
use holdfast_base::{Duration, Instant};
use std::collections::VecDeque;

/// Ended boots of the peer that are remembered, so that late copies of their
/// hellos are not taken for a restart. A node restarts far less often than
/// this many times in the life of a packet.
const ENDED_BOOTS: usize = 16;
/// No peer's dead interval makes us wait longer than this.
const MAX_PATIENCE: Duration = Duration::from_secs(60);
/// Paths for which times are kept.
const MAX_PATHS: usize = 64;

/// What a hello is to us, before its content counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// A copy, older than one already heard, or of an ended boot.
    Old,
    /// The next from the boot we know.
    Next,
    /// The first that we hear of any boot, or the proof that a new one lives.
    NewBoot,
    /// From another boot than the one we know, without proof.
    Unproven,
}

/// A boot that has yet to prove that it lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) boot: u64,
    pub(crate) seq: u64,
    pub(crate) nonce: u32,
    /// When it was last asked.
    pub(crate) asked: Instant,
}

/// The last hello of a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    pub(crate) hello: Hello,
    pub(crate) term: u64,
    pub(crate) at: Instant,
}

/// Everything known about the peer.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The last hello; kept after the peer is lost.
    pub(crate) heard: Option<Heard>,
    pub(crate) joined: bool,
    /// Why it is not joined, after it was.
    pub(crate) lost: Option<LostCause>,
    /// Since when we have listened without hearing it. Moved forward by the
    /// time during which we were not run: that was not silence.
    pub(crate) quiet_since: Instant,
    /// Late turns excused since the peer was last heard.
    pub(crate) excuses: u8,
    /// A boot other than the one we know, until it has answered a question: a
    /// late letter of a process long dead cannot.
    pub(crate) candidate: Option<Candidate>,
    ended: VecDeque<u64>,
    pub(crate) paths: Vec<PathView>,
}

impl Peer {
    pub(crate) fn new(now: Instant) -> Peer {
        Peer {
            heard: None,
            joined: false,
            lost: None,
            quiet_since: now,
            excuses: 0,
            candidate: None,
            ended: VecDeque::new(),
            paths: Vec::new(),
        }
    }

    pub(crate) fn admit(&self, hello: &Hello) -> Admission {
        if self.ended.contains(&hello.boot) {
            return Admission::Old;
        }
        match self.heard {
            Some(last) if last.hello.boot != hello.boot => match (self.candidate, hello.kind) {
                (Some(candidate), HelloKind::ProbeReply { nonce })
                    if (candidate.boot, candidate.nonce) == (hello.boot, nonce) =>
                {
                    Admission::NewBoot
                }
                (Some(candidate), _) if candidate.boot == hello.boot && candidate.seq >= hello.seq => Admission::Old,
                (Some(_) | None, _) => Admission::Unproven,
            },
            Some(last) if last.hello.seq >= hello.seq => Admission::Old,
            Some(_) => Admission::Next,
            None => Admission::NewBoot,
        }
    }

    /// Nothing of the present boot will be believed any more.
    pub(crate) fn end_boot(&mut self) {
        if let Some(last) = self.heard {
            if self.ended.len() == ENDED_BOOTS {
                self.ended.pop_front();
            }
            self.ended.push_back(last.hello.boot);
        }
    }

    pub(crate) fn hear(&mut self, now: Instant, term: u64, hello: &Hello) {
        self.heard = Some(Heard { hello: *hello, term, at: now });
        self.quiet_since = self.quiet_since.max(now);
        self.excuses = 0;
        self.lost = None;
    }

    pub(crate) fn note_path(&mut self, now: Instant, path: PathId) {
        if let Some(view) = self.paths.iter_mut().find(|view| view.path == path) {
            view.heard = now;
            view.received += 1;
        } else if self.paths.len() < MAX_PATHS {
            self.paths.push(PathView { path, heard: now, received: 1 });
        }
    }

    /// The last hello, while the peer is joined.
    pub(crate) fn alive(&self) -> Option<&Heard> {
        self.heard.as_ref().filter(|_| self.joined)
    }

    /// The role of the joined peer.
    pub(crate) fn role(&self) -> Option<Role> {
        self.alive().map(|heard| heard.hello.role)
    }

    /// The longer of our dead interval and the peer's: its lease is measured
    /// with its own.
    pub(crate) fn patience(&self, dead: Duration) -> Duration {
        let theirs = self.heard.map_or(0, |heard| heard.hello.dead_ms);
        dead.max(Duration::from_millis(u64::from(theirs)).min(MAX_PATIENCE))
    }
}

/// A leading node hears again the peer that it had lost: which of the two is to lead is judged by what the peer says
/// now. What is heard first may have waited in a queue on the way since before the nodes parted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reunion {
    /// Whoever returns this has spoken since.
    pub(crate) nonce: u32,
    pub(crate) next_probe: Instant,
    /// Without an answer the last hello counts: we may not be heard.
    pub(crate) until: Instant,
}

/// A question to the peer: probes on every path until answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inquiry {
    pub(crate) nonce: u32,
    /// When the first probe with this nonce left: a promise in an answer is
    /// counted from here, which is never later than its sending.
    pub(crate) started: Instant,
    pub(crate) next_probe: Instant,
    /// If unanswered until then, the peer's process is dead. `None`: silence
    /// proves nothing here.
    pub(crate) verdict: Option<Instant>,
    /// The peer was said to be gone: its answer is told.
    pub(crate) alarm: bool,
    /// Late turns excused.
    pub(crate) excuses: u8,
}
