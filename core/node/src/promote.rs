//! Becoming primary, and ceasing to be: two ordered lists.

use holdfast_base::Instant;
use holdfast_engine::{Gate, Mirroring as EngineMirroring};
use holdfast_ha::{Cause, Role};

use crate::effect::{Effect, Level};
use crate::node::Node;

/// This node is primary from now on. The order matters: nothing may be
/// forwarded before everything the old primary said has been applied.
pub(crate) fn promote(node: &mut Node, now: Instant, term: u64, cause: Cause) {
    // 1. Nothing more from the old primary; what lies beyond gaps counts too.
    let found = node.mirroring.receiver.salvage();
    node.apply_all_records(now);
    node.mirroring.stop_receiving();
    node.offers.note_promoted();
    node.mirroring.let_sweep(true);
    // 2. The gate opens (`Node::update_gate`, by role and lease): a closed one would swallow what follows.
    node.update_gate(now);
    // 3. Idle time-outs start afresh, strays get their grace, addresses are announced.
    node.engine.promote(now);
    // 4. Monitors go on from the mirrored picture.
    node.health.set_active(now, true);
    node.note_leavers(now);
    // 5. A peer that is there already gets the state; without one nothing is held.
    if node.peer_boot.is_some() {
        node.start_session(now);
    } else {
        node.stop_session(now);
    }
    // What a vserver that is not STATEFUL any more has left here: the old primary died before it took it back.
    node.mirroring.rescan();
    if cause == Cause::SwitchoverFailed {
        node.timeline.note_called_off(now);
    }
    node.timeline.note_promoted(now, term, node.channel.last_heard(), node.engine.counters().forwarded);
    // 6. What waited for a hand-over that was called off.
    node.take_back_waiting(now);
    let counts = node.engine.counts();
    node.event(
        Level::Warn,
        format!(
            "primary, term {term}, cause {cause:?}: {} flows taken over, {} records read beyond the last ack, {} datagrams missing",
            counts.flows,
            found.in_order + found.beyond,
            found.missing
        ),
    );
}

/// This node is not primary any more.
pub(crate) fn demote(node: &mut Node, now: Instant, role: Role, term: u64, cause: Cause) {
    // The gate closes first: holds that end below must not let packets out.
    let handed_over = node.gate() == Gate::Draining && cause == Cause::PeerIsPrimary;
    node.update_gate(now);
    node.stop_session(now);
    node.offers.note_demoted(handed_over);
    if handed_over {
        node.pass_on_from(now);
    } else {
        node.forget_handover();
    }
    node.health.set_active(now, false);
    node.note_leavers(now);
    node.timeline.note_demoted();
    node.event(Level::Warn, format!("{}, term {term}, cause {cause:?}", word(role)));
}

/// We follow a primary from now on: what this node holds is no longer the
/// pair's state. What it served itself it may offer.
pub(crate) fn follow(node: &mut Node, now: Instant, term: u64) {
    node.part_with_flows(now);
    // Whoever follows tells nobody, however it came to have a session.
    node.stop_session(now);
    node.replacing = None;
    node.mirroring.stop_receiving();
    node.mirroring.await_session(now);
    node.sync.follow();
    node.ha.handle_caught_up(now, false);
    node.event(Level::Info, format!("following the primary of term {term}; waiting for its state"));
}

/// The process may end.
pub(crate) fn stopped(node: &mut Node) {
    node.event(Level::Info, "handed over; ending".into());
    node.effects.push_back(Effect::Stopped);
}

/// A role in the words of the log.
pub(crate) fn word(role: Role) -> &'static str {
    match role {
        Role::Init => "initialising",
        Role::Secondary => "secondary",
        Role::Primary => "primary",
        Role::Draining => "draining",
    }
}

/// The engine's view of a session.
pub(crate) fn engine_mirroring(session: Option<u32>, strict: bool) -> EngineMirroring {
    match session {
        Some(session) => EngineMirroring::On { session, strict },
        None => EngineMirroring::Off,
    }
}
