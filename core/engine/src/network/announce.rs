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
    /// What is announced, with the campaign's number: an address that was
    /// taken away and given back must not be served by both campaigns.
    held: BTreeMap<Addr, u32>,
    campaign: u32,
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
                campaign
            });
        }
    }

    /// Announces `addr` from the beginning, whatever is under way for it.
    pub(super) fn repeat(&mut self, now: Instant, addr: Addr) {
        self.held.remove(&addr);
        self.start(now, core::iter::once(addr));
    }

    /// Stops everything; the next [`Announcer::start`] begins from nothing.
    pub(super) fn clear(&mut self) {
        *self = Announcer { campaign: self.campaign, ..Announcer::default() };
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
        self.held.get(&turn.addr) == Some(&turn.campaign)
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
