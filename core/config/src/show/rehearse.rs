//! `failover rehearse`: what would be lost if this node died at this moment.

use super::Scene;
use crate::facts::{ChannelState, HaFacts, HaRole, NodeState, PeerFacts, SyncState, VserverFacts};
use crate::json::Json;
use crate::model::{ConnFailover, LbVserver, MirrorMode};

/// What stands for the vservers that the configuration does not have any more.
const REMOVED: &str = "(removed)";

/// What the death of this node would mean for a vserver's flows.
struct Fate<'a> {
    name: &'a str,
    failover: ConnFailover,
    facts: VserverFacts,
    /// Flows whose packets wait for the peer's acknowledgement.
    held: u64,
    /// Flows that the other node could not go on with.
    lost: u64,
    /// Flows of DISABLED vservers: reset, as configured.
    reset: u64,
    reason: &'static str,
}

/// Every vserver's fate.
fn fates<'a>(s: &Scene<'a>) -> Vec<Fate<'a>> {
    let (ha, held) = (s.facts.ha(), s.facts.held_flows());
    let held_of = |vserver: &LbVserver| held.get(&vserver.id).copied().unwrap_or(0);
    let mut fates: Vec<_> = s.config.vservers.iter().map(|vserver| fate(s, &ha, vserver, held_of(vserver))).collect();
    fates.extend(fate_of_removed(s, &ha, &fates, held.values().sum()));
    fates
}

fn fate<'a>(s: &Scene<'a>, ha: &HaFacts, vserver: &'a LbVserver, held: u64) -> Fate<'a> {
    let facts = s.facts.vserver(vserver.id);
    let (lost, reset, reason) = match (ha.role, vserver.failover) {
        (HaRole::Init | HaRole::Secondary, _) => (0, 0, "the other node has them"),
        (HaRole::Primary | HaRole::Draining, ConnFailover::Disabled) => (0, facts.established, "reset, as configured"),
        (HaRole::Primary | HaRole::Draining, ConnFailover::Stateless) => match heir_is_missing(s, ha) {
            Some(reason) => (facts.established, 0, reason),
            None => (0, 0, "rebuilt from their packets"),
        },
        (HaRole::Primary | HaRole::Draining, ConnFailover::Stateful) => {
            let (lost, reason) = loss(s, ha, &facts, held);
            (lost, 0, reason)
        }
    };
    Fate { name: &vserver.name, failover: vserver.failover, facts, held, lost, reset, reason }
}

/// The fate of flows that outlive their STATEFUL vservers: all that the node counts, in all, and no vserver has.
fn fate_of_removed<'a>(s: &Scene<'a>, ha: &HaFacts, fates: &[Fate<'_>], held: u64) -> Option<Fate<'a>> {
    let left = |all: u64, of: fn(&Fate<'_>) -> u64| all.saturating_sub(fates.iter().map(of).sum());
    let held = left(held, |fate| fate.held);
    let protected = left(ha.protected, |fate| fate.facts.protected);
    let unprotected = left(ha.unprotected, |fate| fate.facts.unprotected);
    if protected + unprotected == 0 {
        return None;
    }
    let facts =
        VserverFacts { client_flows: protected + unprotected, protected, unprotected, ..VserverFacts::default() };
    let (lost, reason) = loss(s, ha, &facts, held);
    Some(Fate { name: REMOVED, failover: ConnFailover::Stateful, facts, held, lost, reset: 0, reason })
}

/// How many mirrored flows would be lost, and why.
fn loss(s: &Scene<'_>, ha: &HaFacts, facts: &VserverFacts, held: u64) -> (u64, &'static str) {
    // What the peer has is of no use if it never leads, or does not answer for the vserver's address.
    let useless = if heir_cannot_lead(ha) || heir_lacks_commands(ha) { facts.protected } else { 0 };
    // Who waits for the peer's acknowledgement believes nothing yet.
    let lost = (facts.unprotected + useless).saturating_sub(held);
    (lost, if lost == 0 { "" } else { heir_is_missing(s, ha).unwrap_or(not_yet(s)) })
}

fn heir_cannot_lead(ha: &HaFacts) -> bool {
    witness_is_silent(ha) || ha.peer.as_ref().is_some_and(|peer| peer.unready)
}

/// Nobody begins to lead without the witness while it decides. What it answers to this node stands for what it would
/// answer to the peer.
fn witness_is_silent(ha: &HaFacts) -> bool {
    ha.witness.is_some_and(|witness| witness.in_force && witness.reachable.is_some_and(|(answers, _)| !answers))
}

/// It has tried, and may not have the vserver.
fn heir_lacks_commands(ha: &HaFacts) -> bool {
    ha.peer.as_ref().is_some_and(|peer| matches!(peer.config.sync, SyncState::Failed { .. }))
}

/// Why nobody could take over.
fn heir_is_missing(s: &Scene<'_>, ha: &HaFacts) -> Option<&'static str> {
    if s.config.ha.peer.is_none() {
        return Some("there is no peer");
    }
    if witness_is_silent(ha) {
        return Some("the witness does not answer: nobody would take over until it does");
    }
    if heir_cannot_lead(ha) {
        return Some("the peer cannot lead: it stays secondary, is ending, or its disk does not answer");
    }
    match &ha.peer {
        Some(PeerFacts { channel: ChannelState::Quarantined { .. }, .. }) => {
            Some("the peer is in quarantine and takes no records")
        }
        Some(PeerFacts { channel: ChannelState::Full, .. }) => Some("the peer's table is full"),
        Some(PeerFacts { channel: ChannelState::VersionMismatch, .. }) => {
            Some("the peer's HA version has nothing in common with this node's")
        }
        Some(peer) if peer.state == NodeState::Up && heir_lacks_commands(ha) => {
            Some("the peer could not take over the configuration (show ha node) and may not have this vserver")
        }
        Some(peer) if peer.state == NodeState::Up && peer.channel == ChannelState::Up => None,
        Some(peer) if peer.state == NodeState::Up => {
            Some("the peer has not caught up; what it has from before is not counted yet")
        }
        Some(_) | None => Some("the peer is not up"),
    }
}

fn not_yet(s: &Scene<'_>) -> &'static str {
    match s.config.ha.mirror_mode {
        MirrorMode::Strict => "let go without the peer's acknowledgement, being repaired",
        MirrorMode::Async => "not acknowledged yet (mirrorMode ASYNC)",
    }
}

pub(super) fn text(s: &Scene<'_>) -> String {
    let fates = fates(s);
    let lost: u64 = fates.iter().map(|fate| fate.lost).sum();
    let reset: u64 = fates.iter().map(|fate| fate.reset).sum();
    let mut text = format!("If this node died now: {lost} connections would be lost\n");
    if reset > 0 {
        text += &format!("(and {reset} reset, as their vservers say: Connection Failover DISABLED)\n");
    }
    text += &format!(
        "\n{:<32} {:<10} {:>9} {:>9} {:>7} {:>7}  {}\n",
        "Vserver", "Failover", "Flows", "Protected", "Waiting", "Lost", "Reason"
    );
    for Fate { name, failover, facts, held, lost, reason, .. } in fates {
        let line = format!(
            "{:<32} {:<10} {:>9} {:>9} {:>7} {:>7}  {reason}",
            name,
            failover.word(),
            facts.client_flows,
            facts.protected,
            held,
            lost,
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

pub(super) fn json(s: &Scene<'_>) -> Json {
    let one = |fate: Fate<'_>| {
        Json::Object(vec![
            ("name", fate.name.to_owned().into()),
            ("connfailover", fate.failover.word().into()),
            ("flows", fate.facts.client_flows.into()),
            ("protectedflows", fate.facts.protected.into()),
            ("waitingflows", fate.held.into()),
            ("lost", fate.lost.into()),
            ("reset", fate.reset.into()),
            ("reason", fate.reason.into()),
        ])
    };
    Json::List(fates(s).into_iter().map(one).collect())
}
