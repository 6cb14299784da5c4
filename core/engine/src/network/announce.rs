//! When each floating address is announced: three rounds after a promotion,
//! and membership reports for IPv6 as long as the address is held.

use holdfast_base::{Duration, Instant};
use holdfast_wire::Addr;
use std::collections::{BTreeMap, VecDeque};

/// Pauses before each round. The first is at once; two repetitions follow, for
/// switches and hosts that lost the first (RFC 5227 section 2.3 and RFC 4861
/// section 7.2.6 repeat for the same reason).
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(900)];

/// Pause between membership reports after the rounds. A snooping switch that
/// hears no query of a router forgets a group after 260 s (RFC 3810 section
/// 9.4); four reports fit into that.
const MEMBERSHIP_PAUSE: Duration = Duration::from_secs(60);

/// Pause between two defences of one address: whoever lies must not make us shout. What is claimed meanwhile is
/// corrected by the repetitions, whose last one ends the pause.
const DEFENCE_PAUSE: Duration = Duration::from_secs(1);

/// The same where the other one may lead and claim the address with the same right (DEFEND_INTERVAL of RFC 5227): the first
/// answer tells it that it is not alone; if each answered each, hosts would turn from one to the other all the while.
const RIVAL_PAUSE: Duration = Duration::from_secs(10);

/// Pause between two lines in the log about one address.
const TOLD_PAUSE: Duration = Duration::from_secs(60);

/// Lines about all addresses in that time.
const MAX_TOLD: u32 = 16;

/// What is due for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announcement {
    /// Gratuitous ARP, or a membership report and an unsolicited advertisement.
    Address(Addr),
    /// A membership report for the solicited-node group only.
    Membership(Addr),
}

/// One queue per round. A round adds the same pause to whatever enters it, so
/// every queue is in order of its due times and nothing needs sorting.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    rounds: [VecDeque<Turn>; PAUSES.len()],
    memberships: VecDeque<Turn>,
    /// Lines about claims in the present minute, and when it began.
    told: (Option<Instant>, u32),
    /// What is announced.
    held: BTreeMap<Addr, Held>,
    campaign: u32,
}

/// An address that is announced.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// An address that was taken away and given back must not be served by both campaigns.
    campaign: u32,
    /// When somebody's claim of it was last answered.
    defended: Option<Instant>,
    /// When somebody's claim of it was last told.
    told: Option<Instant>,
}

/// An announcement planned for `due`.
#[derive(Clone, Copy, Debug)]
struct Turn {
    due: Instant,
    addr: Addr,
    campaign: u32,
}

impl Announcer {
    /// Announces each of `addresses` that is not being announced or held yet.
    pub(super) fn start(&mut self, now: Instant, addresses: impl Iterator<Item = Addr>) {
        self.campaign = self.campaign.wrapping_add(1);
        let campaign = self.campaign;
        for addr in addresses {
            self.held.entry(addr).or_insert_with(|| {
                self.rounds[0].push_back(Turn { due: now + PAUSES[0], addr, campaign });
                Held { campaign, defended: None, told: None }
            });
        }
    }

    /// Somebody claims `addr`, if it is announced at all: announces it from the beginning, unless that was done a moment
    /// ago. Returns whether the claim is worth a line in the log.
    pub(super) fn defend(&mut self, now: Instant, addr: Addr, rival: bool) -> bool {
        let campaign = self.campaign.wrapping_add(1);
        let rested = |last: Option<Instant>, pause| last.is_none_or(|at| now.since(at) >= pause);
        let Some(held) = self.held.get_mut(&addr) else { return false };
        if rested(held.defended, if rival { RIVAL_PAUSE } else { DEFENCE_PAUSE }) {
            (self.campaign, held.campaign, held.defended) = (campaign, campaign, Some(now));
            self.rounds[0].push_back(Turn { due: now + PAUSES[0], addr, campaign });
        }
        if rested(self.told.0, TOLD_PAUSE) {
            self.told = (Some(now), 0);
        }
        let tell = rested(held.told, TOLD_PAUSE) && self.told.1 < MAX_TOLD;
        if tell {
            held.told = Some(now);
            self.told.1 += 1;
        }
        tell
    }

    /// Stops everything; the next [`Announcer::start`] begins from nothing.
    pub(super) fn clear(&mut self) {
        *self = Announcer { campaign: self.campaign, told: self.told, ..Announcer::default() };
    }

    /// Forgets the addresses that are no longer ours. What is queued for them
    /// is skipped when its turn comes.
    pub(super) fn retain(&mut self, is_ours: impl Fn(Addr) -> bool) {
        self.held.retain(|&addr, _| is_ours(addr));
    }

    /// Takes one announcement that is due at `now`, and plans its repetition.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Announcement> {
        for round in 0..PAUSES.len() {
            while let Some(turn) = take_due(&mut self.rounds[round], now) {
                if self.is_current(&turn) {
                    self.plan_next(now, round + 1, turn);
                    return Some(Announcement::Address(turn.addr));
                }
            }
        }
        while let Some(turn) = take_due(&mut self.memberships, now) {
            if self.is_current(&turn) {
                self.plan_next(now, PAUSES.len(), turn);
                return Some(Announcement::Membership(turn.addr));
            }
        }
        None
    }

    /// When the next announcement is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let rounds = self.rounds.iter().chain(core::iter::once(&self.memberships));
        rounds.filter_map(|round| round.front()).map(|turn| turn.due).min()
    }

    fn is_current(&self, turn: &Turn) -> bool {
        self.held.get(&turn.addr).is_some_and(|held| held.campaign == turn.campaign)
    }

    fn plan_next(&mut self, now: Instant, round: usize, turn: Turn) {
        match PAUSES.get(round) {
            Some(&pause) => self.rounds[round].push_back(Turn { due: now + pause, ..turn }),
            None if turn.addr.is_v4() => {}
            None => self.memberships.push_back(Turn { due: now + MEMBERSHIP_PAUSE, ..turn }),
        }
    }
}

fn take_due(queue: &mut VecDeque<Turn>, now: Instant) -> Option<Turn> {
    queue.pop_front_if(|turn| turn.due <= now)
}
