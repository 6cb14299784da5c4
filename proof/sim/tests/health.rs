//! Interfaces and monitored routes that fail, and what an operator asks of a pair:
//! every case of the election's health, told with production nodes and traffic.

use core::time::Duration;

use holdfast_ha::Role;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, SNAT, STATELESS, STICKY, USIP};
use holdfast_sim::world::{CLIENT_SIDE, SERVER_SIDE, World};
use holdfast_sim::{Scenario, Story};

/// A pair with further lines in both configurations.
fn pair(lines: &str) -> Story {
    let extra_config = [lines.to_owned(), lines.to_owned()];
    Story::whole(Scenario { extra_config, ..Scenario::quiet(1) })
}

fn roles(world: &World) -> [Option<Role>; 2] {
    [0, 1].map(|machine| world.machines[machine].node.as_ref().map(|node| node.role()))
}

fn nobody_leads(world: &World) -> bool {
    roles(world).iter().all(|role| *role == Some(Role::Secondary))
}

/// A line of `show HA node`, of this node or (`second`) of its peer.
fn shown(story: &mut Story, machine: usize, label: &str, second: bool) -> String {
    let text = story.command(machine, "show HA node");
    let lines: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix(label)).collect();
    lines.get(usize::from(second)).map_or_else(String::new, |line| line.trim().to_owned())
}

/// Traffic of every kind that must survive.
fn talk(story: &mut Story) -> Vec<usize> {
    let kinds = [SNAT, USIP, STICKY, STATELESS].into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
    kinds.map(|(kind, v6)| story.connect(kind, v6)).collect()
}

/// All transfers end in order.
fn all_finish(story: &mut Story, open: Vec<usize>) {
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
}

#[test]
fn transfers_survive_the_loss_of_an_interface_of_the_primary() {
    for network in [CLIENT_SIDE, SERVER_SIDE] {
        let mut story = pair("");
        let open = talk(&mut story);
        let before = story.primary();
        story.run_ms(300);
        let at = story.world.now;
        story.fault(Fault::Carrier(before, network, false));
        story.until("the other leads", |world| world.primary() == Some(1 - before));
        let took = story.world.now.since(at);
        assert!(took < Duration::from_millis(5), "a planned switchover: {took:?}");
        all_finish(&mut story, open);
        let failed = if network == CLIENT_SIDE { "1/1" } else { "1/2" };
        assert_eq!(shown(&mut story, before, "Node State: ", false), "PARTIALFAIL");
        assert_eq!(shown(&mut story, before, "Interfaces causing Partial Failure: ", false), failed);
        assert_eq!(shown(&mut story, 1 - before, "Node State: ", true), "PARTIALFAIL");
        assert_eq!(shown(&mut story, 1 - before, "Interfaces causing Partial Failure: ", true), failed);
        story.heal();
        assert_eq!(story.primary(), 1 - before, "nobody takes the role back");
        story.end();
    }
}

#[test]
fn the_loss_of_an_interface_of_the_secondary_moves_nothing() {
    let mut story = pair("");
    let before = story.primary();
    story.fault(Fault::Carrier(1 - before, CLIENT_SIDE, false));
    story.run_ms(3000);
    assert_eq!(story.primary(), before);
    assert_eq!(shown(&mut story, before, "Node State: ", true), "PARTIALFAIL");
    let refused = story.command(before, "force HA failover -force");
    assert!(refused.contains("invalid peer state"), "364: {refused}");
    story.heal();
    story.end();
}

#[test]
fn an_interface_that_is_not_monitored_moves_nothing() {
    let mut story = pair("set interface 1/2 -haMonitor OFF\n");
    let before = story.primary();
    story.fault(Fault::Carrier(before, SERVER_SIDE, false));
    story.run_ms(1000);
    assert_eq!(story.primary(), before);
    assert_eq!(shown(&mut story, before, "Node State: ", false), "UP");
    assert_eq!(shown(&mut story, before, "HA MON ON Interfaces : ", false), "1/1");
    assert_eq!(shown(&mut story, before, "Critical Interfaces: ", false), "1/1");
    story.heal();
    story.end();
}

#[test]
fn a_set_of_interfaces_fails_with_its_last_member() {
    let mut story = pair("add fis both\nbind fis both 1/1 1/2\n");
    let before = story.primary();
    assert_eq!(shown(&mut story, before, "Critical Interfaces: ", false), "None");
    story.fault(Fault::Carrier(before, SERVER_SIDE, false));
    story.run_ms(1000);
    assert_eq!(story.primary(), before, "one member is left");
    story.fault(Fault::Carrier(before, CLIENT_SIDE, false));
    story.until("the other leads", |world| world.primary() == Some(1 - before));
    assert_eq!(shown(&mut story, before, "Node State: ", false), "COMPLETEFAIL");
    story.heal();
    story.end();
}

#[test]
fn a_disabled_interface_carries_nothing_and_is_not_missed() {
    let mut story = pair("");
    let before = story.primary();
    story.command(before, "disable interface 1/2");
    story.run_ms(1000);
    assert_eq!(story.primary(), before);
    assert_eq!(shown(&mut story, before, "Disabled Interfaces : ", false), "1/2");
    assert_eq!(shown(&mut story, 1 - before, "Disabled Interfaces : ", true), "1/2");
    assert_eq!(shown(&mut story, 1 - before, "Interfaces on which heartbeats are not seen : ", false), "1/2");
    story.command(before, "enable interface 1/2");
    story.run_ms(1000);
    let number = story.connect(SNAT, false);
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}

#[test]
fn if_both_nodes_fail_nobody_serves_until_one_is_well_and_nothing_is_lost() {
    let mut story = pair("");
    let open = talk(&mut story);
    let before = story.primary();
    story.run_ms(200);
    story.fault(Fault::Carrier(1 - before, SERVER_SIDE, false));
    story.run_ms(300);
    story.fault(Fault::Carrier(before, SERVER_SIDE, false));
    story.until("nobody leads", nobody_leads);
    story.run_ms(2000);
    assert!(nobody_leads(&story.world), "failSafe is off");
    story.fault(Fault::Carrier(1 - before, SERVER_SIDE, true));
    story.until("who is well leads", |world| world.primary() == Some(1 - before));
    all_finish(&mut story, open);
    story.heal();
    story.end();
}

#[test]
fn if_both_nodes_fail_with_fail_safe_the_last_primary_goes_on() {
    let mut story = pair("set HA node -failSafe ON\n");
    let before = story.primary();
    story.fault(Fault::Carrier(before, SERVER_SIDE, false));
    story.until("the other leads", |world| world.primary() == Some(1 - before));
    story.run_ms(500);
    story.fault(Fault::Carrier(1 - before, SERVER_SIDE, false));
    story.run_ms(3000);
    assert_eq!(story.primary(), 1 - before);
    assert_eq!(shown(&mut story, 1 - before, "Fail-Safe Mode: ", false), "ON");
    assert_eq!(shown(&mut story, 1 - before, "Fail-Safe Mode: ", true), "ON");
    story.heal();
    assert_eq!(story.primary(), 1 - before);
    story.end();
}

#[test]
fn a_monitored_route_that_fails_at_the_primary_only_moves_the_role_without_a_loss() {
    let mut story = pair("bind HA node -routeMonitor fd00:2::15\nbind HA node -routeMonitor 10.0.2.21\n");
    let open = talk(&mut story);
    let before = story.primary();
    story.run_ms(2500);
    assert_eq!(story.primary(), before, "the server answers both nodes");
    assert_eq!(shown(&mut story, before, "Node State: ", true), "UP");
    assert!(shown(&mut story, before, "Route Monitor: ", false).ends_with("State: UP (10.0.2.21 answers)"));
    // The cable is cut behind a switch: no carrier is lost.
    story.fault(Fault::Cable(before, SERVER_SIDE, false));
    story.until("the other leads", |world| world.primary() == Some(1 - before));
    assert_eq!(shown(&mut story, before, "Node State: ", false), "ROUTEMONITORFAIL");
    assert_eq!(shown(&mut story, 1 - before, "Node State: ", true), "ROUTEMONITORFAIL");
    all_finish(&mut story, open);
    story.heal();
    story.until("it is well again", |world| {
        world.machines[before].log.iter().any(|(_, _, text)| text == "node state UP")
    });
    assert_eq!(story.primary(), 1 - before);
    story.end();
}

#[test]
fn a_route_that_does_not_exist_fails_at_both_and_moves_nothing_but_now_and_then() {
    let mut story = pair("bind HA node -routeMonitor 203.0.113.0 255.255.255.0\n");
    let before = story.primary();
    story.run_ms(5000);
    assert_eq!(story.primary(), before);
    assert!(shown(&mut story, before, "Route Monitor: ", false).ends_with("State: DOWN (no such route)"));
    let answer = story.command(before, "force HA failover");
    assert!(answer.contains("peer health not optimum. Reason(s): the peer is ROUTEMONITORFAIL"), "1147: {answer}");
    assert!(answer.ends_with("(Y/N)? [N]:"), "1146: {answer}");
    assert_eq!(story.primary(), before, "nothing was done");
    story.command(before, "force HA failover -force");
    story.until("the other leads", |world| world.primary() == Some(1 - before));
    story.end();
}

#[test]
fn flips_are_counted_and_the_primary_becomes_sticky() {
    let mut story = pair("set HA node -maxFlips 2 -maxFlipTime 600\n");
    let first = story.primary();
    for leader in [first, 1 - first] {
        assert_eq!(story.primary(), leader);
        story.fault(Fault::Carrier(leader, SERVER_SIDE, false));
        story.until("the role moves", |world| world.primary() == Some(1 - leader));
        story.heal();
        story.run_ms(600);
    }
    assert_eq!(shown(&mut story, first, "Configured/Completed Flips: ", false), "2/2  Sticky Primary");
    story.fault(Fault::Carrier(first, SERVER_SIDE, false));
    story.run_ms(3000);
    assert_eq!(story.primary(), first, "sticky primary");
    story.heal();
    story.end();
}

#[test]
fn hellos_on_one_path_only_are_shown_and_move_nothing() {
    let mut story = pair("");
    let before = story.primary();
    story.command(before, "set interface 1/1 -haHeartbeat OFF");
    story.run_ms(2000);
    assert_eq!(story.primary(), before);
    assert_eq!(shown(&mut story, 1 - before, "Interfaces on which heartbeats are not seen : ", false), "1/1");
    assert_eq!(shown(&mut story, before, "HA HEARTBEAT OFF Interfaces : ", false), "1/1");
    assert_eq!(shown(&mut story, before, "Interfaces on which heartbeats are not seen : ", true), "1/1");
    story.command(before, "unset interface 1/1 -haHeartbeat");
    story.run_ms(500);
    assert_eq!(shown(&mut story, 1 - before, "Interfaces on which heartbeats are not seen : ", false), "None");
    story.end();
}

/// `force HA failover` in every case in which the market refuses it.
#[test]
fn every_refusal_of_a_forced_failover() {
    let mut story = pair("");
    let before = story.primary();
    let refusal = |story: &mut Story, machine: usize| story.command(machine, "force HA failover");
    let text = refusal(&mut story, 1 - before);
    assert!(text.ends_with("system state is invalid. Use show node for more information."), "365: {text}");
    story.command(before, "set HA node -haStatus STAYPRIMARY");
    assert!(refusal(&mut story, before).ends_with("Cannot failover as Node State set to STAYPRIMARY"), "1441");
    story.command(before, "set HA node -haStatus ENABLED");
    for status in ["STAYSECONDARY", "DISABLED"] {
        story.command(1 - before, &format!("set HA node -haStatus {status}"));
        story.run_ms(200);
        let text = refusal(&mut story, before);
        assert!(text.ends_with("due to invalid peer state. Rectify and retry."), "364, {status}: {text}");
    }
    story.command(1 - before, "set HA node -haStatus ENABLED");
    story.fault(Fault::Kill(1 - before));
    story.run_ms(1500);
    let text = refusal(&mut story, before);
    assert!(text.ends_with("as one node is up and another node is down"), "1449: {text}");
    story.fault(Fault::Start(1 - before));
    story.until("it is heard again", |world| {
        world.machines[before].log.iter().filter(|(_, _, text)| text == "peer joined").count() > 1
    });
    let text = refusal(&mut story, before);
    assert!(text.ends_with("Please wait for system to stabilize before retrying."), "366: {text}");
    story.until("whole", World::is_whole);
    story.command(before, "rm HA node 1");
    let text = refusal(&mut story, before);
    assert!(text.ends_with("Operation not permitted on stand-alone node"), "363: {text}");
}

/// Every `haStatus` beside every other, first without a fault, then with a primary whose interface fails.
#[test]
fn every_combination_of_statuses() {
    const ALL: [&str; 4] = ["ENABLED", "STAYSECONDARY", "STAYPRIMARY", "DISABLED"];
    for first in ALL {
        for second in ALL {
            let mut story = pair("");
            let before = story.primary();
            story.command(1 - before, &format!("set HA node -haStatus {second}"));
            story.command(before, &format!("set HA node -haStatus {first}"));
            story.run_ms(1500);
            let gives =
                matches!((first, second), ("STAYSECONDARY", "ENABLED" | "STAYPRIMARY") | ("ENABLED", "STAYPRIMARY"));
            let leader = if gives { 1 - before } else { before };
            assert_eq!(story.primary(), leader, "{first} beside {second}");
            story.run_ms(600);
            story.fault(Fault::Carrier(leader, CLIENT_SIDE, false));
            story.run_ms(1500);
            let (own, other) = if gives { (second, first) } else { (first, second) };
            let wanted = match (own, other) {
                ("DISABLED", _) => Some(leader),
                (_, "ENABLED" | "STAYPRIMARY") => Some(1 - leader),
                (_, _) => None,
            };
            assert_eq!(story.world.primary(), wanted, "{first} beside {second}, and the primary fails");
        }
    }
}

#[test]
fn hooks_are_told_of_every_change_of_role() {
    let mut story = pair("add HA hook tell -command /usr/local/bin/tell -timeout 3\n");
    let before = story.primary();
    story.fault(Fault::Carrier(before, CLIENT_SIDE, false));
    story.until("the role moves", |world| world.primary() == Some(1 - before));
    story.run_ms(10);
    let told = |story: &Story, machine: usize| -> Vec<String> {
        let of = |run: &holdfast_node::HookRun, name: &str| {
            run.environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let runs = story.world.machines[machine].hooks.iter();
        runs.map(|run| format!("{} {} {}", run.name, of(run, "HOLDFAST_ROLE"), of(run, "HOLDFAST_CAUSE"))).collect()
    };
    let (old, new) = (told(&story, before), told(&story, 1 - before));
    assert!(old.ends_with(&["tell Draining Unhealthy".into(), "tell Secondary PeerIsPrimary".into()]), "{old:?}");
    assert_eq!(new.last().map(String::as_str), Some("tell Primary Switchover"), "{new:?}");
    let run = &story.world.machines[1 - before].hooks.last().unwrap().clone();
    let peer = run.environment.iter().find(|(name, _)| *name == "HOLDFAST_PEER").map(|(_, value)| value.as_str());
    assert_eq!(peer, Some(format!("10.0.3.{}", before + 1).as_str()));
    assert_eq!((run.command.as_str(), run.timeout), ("/usr/local/bin/tell", Duration::from_secs(3)));
}

#[test]
fn a_peer_cannot_make_a_node_run_a_program() {
    let mut story = pair("");
    let before = story.primary();
    story.command(before, "add HA hook mine -command /bin/true");
    story.run_ms(200);
    let there = story.command(1 - before, "show ns runningConfig");
    assert!(!there.contains("hook"), "hooks are a node's own: {there}");
    story.end();
}

#[test]
fn a_virtual_mac_moves_with_the_role_and_transfers_survive() {
    let mut story = pair("add vrID 60\nbind vrID 60 -ifnum 1/1 1/2\n");
    let open = talk(&mut story);
    let before = story.primary();
    story.run_ms(200);
    story.fault(Fault::ForceFailover);
    story.until("the other leads", |world| world.primary() == Some(1 - before));
    story.until("whole", World::is_whole);
    story.run_ms(300);
    story.fault(Fault::Kill(1 - before));
    all_finish(&mut story, open);
    story.heal();
    let shown = story.command(before, "show vrID");
    assert!(shown.contains("VMAC: 00:00:5e:00:01:3c"), "{shown}");
    story.end();
}
