//! Every `haStatus` beside every other: who takes over from a dead primary, and what a forced failover is answered.
//! (Without a fault, and with a primary that is ill: `health.rs`.)

use holdfast_sim::scenario::Fault;
use holdfast_sim::world::{CLIENT_SIDE, World};
use holdfast_sim::{Scenario, Story};

const ALL: [&str; 4] = ["ENABLED", "STAYSECONDARY", "STAYPRIMARY", "DISABLED"];

/// The statuses of a settled pair: of the machine that leads, and of the other one.
struct Case {
    story: Story,
    leader: usize,
    own: &'static str,
    other: &'static str,
}

/// A pair whose first primary was told `first` and its peer `second`, when all roles have settled.
fn settled(first: &'static str, second: &'static str) -> Case {
    let mut story = Story::whole(Scenario::quiet(1));
    let before = story.primary();
    story.command(1 - before, &format!("set HA node -haStatus {second}"));
    story.command(before, &format!("set HA node -haStatus {first}"));
    story.run_ms(1500);
    let leader = story.primary();
    let (own, other) = if leader == before { (first, second) } else { (second, first) };
    Case { story, leader, own, other }
}

fn every_combination(mut judge: impl FnMut(Case)) {
    for first in ALL {
        for second in ALL {
            judge(settled(first, second));
        }
    }
}

#[test]
fn who_takes_over_from_a_dead_primary_beside_every_status() {
    every_combination(|Case { mut story, leader, own, other }| {
        story.fault(Fault::Kill(leader));
        story.run_ms(3000);
        let heir = matches!(other, "ENABLED" | "STAYPRIMARY").then_some(1 - leader);
        assert_eq!(story.world.primary(), heir, "{own} has died beside {other}");
        story.fault(Fault::Start(leader));
        story.run_ms(4000);
        // Settings that were not saved end with the process: what comes back is ENABLED.
        let wanted = match other {
            "ENABLED" | "STAYPRIMARY" => 1 - leader,
            _ => leader,
        };
        assert_eq!(story.world.primary(), Some(wanted), "{own} is back beside {other}");
    });
}

#[test]
fn what_a_forced_failover_is_answered_beside_every_status() {
    const PEER_STATE: &str = "ERROR: Operation not possible due to invalid peer state. Rectify and retry.";
    const OWN_STATE: &str =
        "ERROR: Operation not possible as system state is invalid. Use show node for more information.";
    const STAYS: &str = "ERROR: Cannot failover as Node State set to STAYPRIMARY";
    every_combination(|Case { mut story, leader, own, other }| {
        let from_below = if other == "STAYPRIMARY" { STAYS } else { OWN_STATE };
        for line in ["force HA failover", "force HA failover -force"] {
            assert_eq!(story.command(1 - leader, line), from_below, "{line} at {other} beside {own}");
        }
        let wanted = match (own, other) {
            ("STAYPRIMARY", _) => STAYS,
            (_, "STAYSECONDARY" | "DISABLED") => PEER_STATE,
            _ => "",
        };
        assert_eq!(story.command(leader, "force HA failover"), wanted, "at {own} beside {other}");
        if wanted.is_empty() {
            story.until("the other leads", |world| world.primary() == Some(1 - leader));
        } else {
            story.run_ms(500);
            assert_eq!(story.world.primary(), Some(leader), "{own} beside {other}: a refusal changes nothing");
        }
    });
}

/// One not well, the other told not to lead: with `failSafe` the first stays primary.
#[test]
fn with_fail_safe_an_ill_primary_serves_beside_a_peer_that_may_not_lead() {
    for status in ["STAYSECONDARY", "DISABLED"] {
        let mut story = Story::whole(Scenario::quiet(1));
        let primary = story.primary();
        story.command(primary, "set HA node -failSafe ON");
        story.command(1 - primary, &format!("set HA node -haStatus {status}"));
        story.run_ms(500);
        story.fault(Fault::Carrier(primary, CLIENT_SIDE, false));
        story.run_ms(3000);
        assert_eq!(story.world.primary(), Some(primary), "beside {status}");
        story.command(1 - primary, "unset HA node -haStatus");
        story.until("whoever is well leads", |world| world.primary() == Some(1 - primary));
        story.end();
    }
}

/// The settings are a node's own, are saved with it, and count from its next start on.
#[test]
fn a_status_that_was_saved_counts_after_a_restart() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    story.command(secondary, "set HA node -haStatus STAYSECONDARY");
    story.command(primary, "save ns config");
    story.run_ms(300);
    assert!(!story.command(primary, "show ns runningConfig").contains("STAYSECONDARY"), "nothing of it travels");
    story.fault(Fault::Kill(secondary));
    story.fault(Fault::Start(secondary));
    story.until("whole", World::is_whole);
    assert!(story.command(secondary, "show HA node 0").contains("Node State: STAYSECONDARY"));
    let stat = story.command(secondary, "stat HA node");
    assert!(stat.contains("DUMB") && stat.contains("STAYSECONDARY"), "as the market's counters call it: {stat}");
    story.fault(Fault::Kill(primary));
    story.run_ms(2000);
    assert_eq!(story.world.primary(), None, "told never to lead");
    story.command(secondary, "unset HA node -haStatus");
    story.until("free to lead", |world| world.primary() == Some(secondary));
    story.end();
}
