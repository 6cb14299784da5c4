//! The pair's configuration: changes travel, what was missed is made up for by the difference, and what cannot be
//! carried out on one node is said on both and harms no connection.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::ServiceId;
use holdfast_ha::Role;
use holdfast_node::Node;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, SNAT, STICKY, USIP};
use holdfast_sim::world::World;
use holdfast_sim::{Scenario, Story};

/// The value of a line of `show ha node`, in the block of node `id` as `machine` shows it.
fn shown(story: &mut Story, machine: usize, id: usize, what: &str) -> String {
    let text = story.command(machine, &format!("show ha node {id}"));
    let value = text.lines().find_map(|line| line.trim().strip_prefix(what)?.strip_prefix(": "));
    value.unwrap_or_default().to_owned()
}

/// The number of a machine's latest mirror session.
fn session(story: &mut Story, machine: usize) -> String {
    shown(story, machine, 0, "Last Resync").split(", ").nth(1).unwrap_or_default().to_owned()
}

fn has_service(node: &Node, name: &str) -> bool {
    node.config().service(name).is_some()
}

/// Numbers of all vservers and services: what flows and counters hang on.
fn numbers(node: &Node) -> Vec<(String, u32)> {
    let vservers = node.config().vservers().map(|vserver| (vserver.name.clone(), vserver.id));
    let services = node.config().services().map(|service| (service.name.clone(), service.id));
    vservers.chain(services).collect()
}

fn same_configuration(world: &World) -> bool {
    let [Some(a), Some(b)] = [0, 1].map(|machine| world.machines[machine].node.as_ref()) else { return false };
    a.config().fingerprint() == b.config().fingerprint()
}

fn node(story: &mut Story, machine: usize) -> &mut Node {
    story.world.machines[machine].node.as_mut().expect("the machine runs")
}

#[test]
fn the_operator_hears_of_a_change_when_the_peer_has_it() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    assert_eq!(story.command(primary, "add service extra v4-0 TCP 8080"), "");
    assert!(has_service(story.node(secondary), "extra"));
    assert_eq!(story.command(primary, "set HA node -holdLimit 500"), "", "a node's own");
    assert_eq!(story.node(secondary).config().ha().hold_limit_ms, 1000);
    story.run_ms(700);
    assert_eq!(shown(&mut story, secondary, 0, "Sync State"), "SUCCESS");
    assert_eq!(shown(&mut story, primary, 0, "Sync State"), "ENABLED");
    assert_eq!(shown(&mut story, primary, 1, "Sync State"), "SUCCESS");
    let own = shown(&mut story, primary, 0, "Incarnation");
    assert!(own.starts_with('1') && own.ends_with(" (EQUAL)"), "{own}");
    assert_eq!(shown(&mut story, secondary, 0, "Incarnation"), own);
    let refused = story.command(secondary, "rm service extra");
    assert!(refused.contains("permitted only on primary"), "{refused}");
    story.fault(Fault::Kill(primary));
    story.heal();
    assert!(has_service(story.node(primary), "extra"), "what was not saved comes from the new primary");
    story.end();
}

#[test]
fn saving_saves_on_both_nodes() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    story.command(primary, "add service extra v4-0 TCP 8080");
    assert_eq!(story.command(primary, "save ns config"), "");
    story.run_ms(200);
    for machine in [primary, secondary] {
        let saved = &story.world.machines[machine].stored_config;
        assert!(saved.contains("add service extra v4-0 TCP 8080"), "machine {machine}: {saved}");
    }
    story.fault(Fault::PowerOff(primary));
    story.fault(Fault::PowerOff(secondary));
    story.run_ms(100);
    story.heal();
    assert!(has_service(story.node(primary), "extra") && has_service(story.node(secondary), "extra"));
    story.end();
}

#[test]
fn a_save_that_fails_is_told_to_the_operator_and_on_both_nodes() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let failed = |story: &mut Story| {
        [0, 1].map(|node| shown(story, primary, node, "Incarnation").ends_with("Last Save: FAILED"))
    };
    story.world.machines[secondary].disk_full = true;
    assert!(!story.command(primary, "save ns config").contains("ERROR"), "this node has saved");
    story.run_ms(500);
    assert_eq!(failed(&mut story), [false, true]);
    assert!(shown(&mut story, secondary, 0, "Incarnation").ends_with("Last Save: FAILED"));
    story.world.machines[secondary].disk_full = false;
    story.world.machines[primary].disk_full = true;
    let kept = story.world.machines[primary].stored_config.clone();
    let told = story.command(primary, "save ns config");
    assert!(told.starts_with("ERROR") && told.contains("the disk is full"), "{told}");
    story.run_ms(500);
    assert_eq!(failed(&mut story), [true, false]);
    assert_eq!(story.world.machines[primary].stored_config, kept, "the old file is there");
    story.world.machines[primary].disk_full = false;
    story.command(primary, "save ns config");
    story.run_ms(500);
    assert_eq!(failed(&mut story), [false, false]);
    story.end();
}

#[test]
fn after_a_partition_the_winners_configuration_is_everywhere_and_only_the_difference_is_applied() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let before = numbers(story.node(secondary));
    story.command(primary, "add service common v4-0 TCP 8080");
    story.fault(Fault::Split(true));
    story.until("both lead", |world| {
        world.machines.iter().all(|machine| machine.node.as_ref().is_some_and(|node| node.role() == Role::Primary))
    });
    story.command(primary, "add service one v4-0 TCP 8081");
    story.command(primary, "set lb vserver snat-v4 -comment one");
    story.command(secondary, "add service two v4-0 TCP 8082");
    story.command(secondary, "rm service common");
    story.heal();
    story.until("one configuration", same_configuration);
    let (winner, loser) = (story.primary(), 1 - story.primary());
    let (kept, gone) = if winner == primary { ("one", "two") } else { ("two", "one") };
    for machine in [winner, loser] {
        assert!(has_service(story.node(machine), kept) && !has_service(story.node(machine), gone));
        assert_eq!(has_service(story.node(machine), "common"), winner == primary);
    }
    let after = numbers(story.node(loser));
    for known in &before {
        assert!(after.contains(known), "{known:?} has another number on the loser: {after:?}");
    }
    assert!(story.log().contains("not in the primary's configuration, gone here"), "{}", story.log());
    assert_eq!(shown(&mut story, loser, 0, "Sync State"), "SUCCESS");
    story.end();
}

#[test]
fn a_secondary_with_an_old_file_takes_over_the_difference_and_no_connection_notices() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let open: Vec<usize> = (0..8).map(|n| story.connect([SNAT, USIP][n % 2], n % 3 == 0)).collect();
    story.command(primary, "add service late v4-0 TCP 8080");
    story.command(primary, "rm service stateless-v4-0");
    story.fault(Fault::Kill(secondary));
    story.run_ms(300);
    story.command(primary, "add service later v4-0 TCP 8081");
    story.fault(Fault::Start(secondary));
    story.until("the pair is whole", World::is_whole);
    story.until("one configuration", same_configuration);
    assert!(has_service(story.node(secondary), "late") && has_service(story.node(secondary), "later"));
    story.run_ms(700);
    assert_eq!(shown(&mut story, secondary, 0, "Sync State"), "SUCCESS");
    let counts = story.node(primary).engine().counts();
    assert_eq!((counts.unprotected, story.node(secondary).engine().counts().flows), (0, counts.flows));
    story.fault(Fault::Kill(primary));
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn a_new_name_travels_and_no_connection_notices() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let open: Vec<usize> = (0..6).map(|n| story.connect([SNAT, USIP][n % 2], false)).collect();
    let before: Vec<u32> = numbers(story.node(primary)).into_iter().map(|(_, id)| id).collect();
    for line in ["rename lb vserver snat-v4 web", "rename service snat-v4-0 first", "rename server v4-0 front"] {
        assert_eq!(story.command(primary, line), "");
    }
    for machine in [primary, secondary] {
        let after: Vec<u32> = numbers(story.node(machine)).into_iter().map(|(_, id)| id).collect();
        assert_eq!(after, before, "machine {machine}");
        assert!(has_service(story.node(machine), "first") && !has_service(story.node(machine), "snat-v4-0"));
    }
    let flows = story.node(primary).engine().counts().flows;
    assert!(story.command(primary, "show ns connectiontable VSVRNAME == web").contains("PROTECTED"));
    // Names that the secondary has to make up for are the same flows, too.
    story.command(primary, "set HA node -haProp DISABLED");
    story.command(primary, "rename lb vserver web portal");
    story.command(primary, "rename service first only");
    story.command(primary, "unset HA node -haProp");
    story.until("the secondary makes up for it", same_configuration);
    story.run_ms(700);
    assert_eq!(story.node(secondary).engine().counts().flows, flows);
    assert_eq!(story.node(primary).engine().counts().unprotected, 0);
    story.fault(Fault::Kill(primary));
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn connections_of_a_service_group_survive_its_changes_and_a_death() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    for line in ["rm service snat-v4-0", "rm service snat-v4-1", "add serviceGroup farm TCP"] {
        assert_eq!(story.command(primary, line), "");
    }
    for line in [
        "bind serviceGroup farm v4-0 7",
        "bind lb vserver snat-v4 farm",
        "bind serviceGroup farm v4-1 7 -weight 2",
        "bind serviceGroup farm -monitorName tcp-default",
    ] {
        assert_eq!(story.command(primary, line), "");
    }
    assert_eq!(numbers(story.node(secondary)), numbers(story.node(primary)));
    story.until("members are UP", move |world| {
        let node = world.machines[secondary].node.as_ref();
        node.is_some_and(|node| node.config().services().filter(|s| s.group.is_some()).count() == 2)
    });
    story.run_ms(2_000);
    let open: Vec<usize> = (0..6).map(|_| story.connect(SNAT, false)).collect();
    story.run_ms(200);
    let members = story.command(primary, "stat serviceGroup farm");
    assert!(members.contains("v4-0") && members.contains("v4-1"), "{members}");
    // What the secondary missed it makes up for, and members stay who they are.
    story.command(primary, "set HA node -haProp DISABLED");
    for line in
        ["disable serviceGroup farm v4-0 7", "rename serviceGroup farm barn", "set serviceGroup barn -svrTimeout 77"]
    {
        assert!(story.command(primary, line).starts_with("Warning: Propagation disabled"), "{line}");
    }
    story.command(primary, "unset HA node -haProp");
    story.until("the secondary makes up for it", same_configuration);
    story.run_ms(700);
    let counts = story.node(primary).engine().counts();
    assert_eq!((counts.unprotected, story.node(secondary).engine().counts().flows), (0, counts.flows));
    story.fault(Fault::Kill(primary));
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    let late = story.connect(SNAT, false);
    assert_eq!(story.end_of(late), Outcome::Finished, "the member that is left takes new ones");
    story.end();
}

#[test]
fn a_service_of_two_stateful_vservers_keeps_the_connections_of_both() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    for (vserver, service) in [("usip-v4", "snat-v4-0"), ("snat-v4", "usip-v4-1")] {
        assert_eq!(story.command(primary, &format!("bind lb vserver {vserver} {service}")), "");
    }
    let open: Vec<usize> = (0..12).map(|n| story.connect([SNAT, USIP][n % 2], false)).collect();
    for service in ["snat-v4-0", "usip-v4-1"] {
        let own = connections(&story, primary, service);
        assert!(own > 3, "{service} has some of both vservers' {own}");
    }
    story.run_ms(300);
    story.fault(Fault::Kill(primary));
    story.until("the other leads", move |world| world.primary() == Some(secondary));
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

/// Connections that a service has.
fn connections(story: &Story, machine: usize, service: &str) -> u32 {
    let node = story.node(machine);
    node.config().service(service).map_or(0, |found| node.engine().service_counters(ServiceId(found.id)).flows)
}

#[test]
fn a_service_leaves_with_its_last_connection_also_at_a_successor() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let mut open = vec![story.connect_for_long(STICKY, false)];
    let names = ["sticky-v4-0", "sticky-v4-1"];
    let leaving = names.into_iter().find(|name| connections(&story, primary, name) == 1).expect("one of them has it");
    assert_eq!(story.command(primary, &format!("disable service {leaving} -graceFul YES")), "");
    story.run_ms(3_000);
    open.push(story.connect(STICKY, false));
    assert_eq!(connections(&story, primary, leaving), 2, "who has a session there comes back");
    let shown = |story: &mut Story, machine| story.command(machine, &format!("show service {leaving}"));
    assert!(shown(&mut story, primary).contains("State: GOING OUT OF SERVICE"));
    story.fault(Fault::Kill(primary));
    story.until("the other leads", move |world| world.primary() == Some(secondary));
    assert!(shown(&mut story, secondary).contains("State: GOING OUT OF SERVICE"));
    open.push(story.connect(STICKY, false));
    assert_eq!(connections(&story, secondary, leaving), 3);
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.until("it has gone", move |world| {
        let node = world.machines[secondary].node.as_ref();
        node.is_some_and(|node| node.config().service(leaving).is_some_and(|service| service.leaving.is_none()))
    });
    assert!(shown(&mut story, secondary).contains("State: OUT OF SERVICE"));
    story.end();
}

#[test]
fn a_service_leaves_when_its_time_has_come() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let number = story.connect_for_long(STICKY, false);
    assert_eq!(story.command(primary, "disable server v4-0 2"), "");
    let state = |story: &mut Story, machine| story.command(machine, "show service sticky-v4-0");
    for machine in [primary, secondary] {
        assert!(state(&mut story, machine).contains("GOING OUT OF SERVICE"));
    }
    story.run_ms(3_500);
    for machine in [primary, secondary] {
        assert!(state(&mut story, machine).contains("State: OUT OF SERVICE"), "both nodes know");
    }
    assert!(same_configuration(&story.world));
    assert_eq!(story.end_of(number), Outcome::Finished, "its connections go on");
    story.end();
}

#[test]
fn what_is_not_served_is_kept_on_both_nodes() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let number = story.connect(SNAT, false);
    for (line, why) in [
        ("add service web v4-0 HTTP 8080", "[web, HTTP]"),
        ("add lb vserver web HTTP 10.0.1.200 80", "[web, HTTP]"),
        ("add lb vserver many TCP -IPPattern 10.0.9.0 -IPMask 255.255.255.0 80", "[many, IPPattern]"),
    ] {
        assert_eq!(story.command(primary, line), format!("Warning: Not served by this release {why}"));
    }
    assert_eq!(story.command(primary, "bind lb vserver web web"), "");
    assert!(same_configuration(&story.world), "it travels");
    story.command(primary, "save ns config");
    story.run_ms(200);
    story.fault(Fault::Kill(secondary));
    story.run_ms(300);
    assert!(story.command(primary, "add lb vserver dns DNS 10.0.1.201 53").starts_with("Warning: Not served"));
    story.fault(Fault::Start(secondary));
    story.until("the pair is whole", World::is_whole);
    story.until("one configuration", same_configuration);
    story.fault(Fault::Kill(primary));
    story.until("the other leads", move |world| world.primary() == Some(secondary));
    for what in ["service web", "lb vserver web", "lb vserver many", "lb vserver dns"] {
        let text = story.command(secondary, &format!("show {what}"));
        assert!(text.contains("State: DOWN") && text.contains("not served by this release"), "{text}");
    }
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}

#[test]
fn an_ssl_bridge_fails_over_like_tcp() {
    let mut scenario = Scenario::quiet(1);
    scenario.vservers[SNAT].kind = "SSL_BRIDGE";
    let mut story = Story::whole(scenario);
    let primary = story.primary();
    let open: Vec<usize> = (0..4).map(|n| story.connect(SNAT, n % 2 == 0)).collect();
    let table = story.command(primary, "show ns connectiontable SVCTYPE == SSL_BRIDGE -detail FULL");
    assert_eq!(table.matches(" PROTECTED").count(), open.len(), "{table}");
    story.fault(Fault::Kill(primary));
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn a_command_that_the_secondary_does_not_know_is_told_on_both_nodes_and_harms_nothing() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let open: Vec<usize> = (0..6).map(|n| story.connect([SNAT, USIP][n % 2], n % 3 == 0)).collect();
    story.run_ms(300);
    let before = session(&mut story, primary);
    node(&mut story, secondary).misunderstand(Some("novelty"));
    let answer = story.command(primary, "add service novelty v4-0 TCP 8080");
    assert!(
        answer.starts_with("Warning: Command failed on secondary node,  but succeeded on primary node."),
        "{answer}"
    );
    assert_eq!(story.command(primary, "add service known v4-0 TCP 8081"), "", "others still travel");
    assert!(has_service(story.node(secondary), "known"));
    story.run_ms(3000);
    for (machine, id) in [(secondary, 0), (primary, 1)] {
        assert_eq!(shown(&mut story, machine, id, "Sync State"), "FAILED");
        let reason = shown(&mut story, machine, id, "Sync Failure Reason");
        assert!(
            reason.starts_with("commands refused: 1; the first: ") && reason.contains("No such command [mystify]"),
            "{reason}"
        );
    }
    assert!(story.command(primary, "failover rehearse").contains("the peer could not take over the configuration"));
    assert_eq!(session(&mut story, primary), before, "the mirror goes on in its session");
    assert!(story.world.is_whole(), "the secondary can lead: {}", story.log());
    let log = story.log();
    assert!(log.matches("configuration not synchronised").count() <= 2, "it does not repeat itself: {log}");
    node(&mut story, secondary).misunderstand(None);
    story.until("it is tried again", same_configuration);
    story.run_ms(700);
    assert_eq!(shown(&mut story, secondary, 0, "Sync State"), "SUCCESS");
    assert_eq!(shown(&mut story, primary, 1, "Sync State"), "SUCCESS");
    story.fault(Fault::Kill(primary));
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
}

#[test]
fn propagation_and_synchronisation_can_be_switched_off_and_on() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    story.command(primary, "set HA node -haProp DISABLED");
    let answer = story.command(primary, "add service quiet v4-0 TCP 8080");
    assert_eq!(answer, "Warning: Propagation disabled [this node]");
    story.run_ms(2000);
    assert!(!has_service(story.node(secondary), "quiet"), "nobody asks for it");
    assert_eq!(shown(&mut story, primary, 0, "Propagation"), "DISABLED");
    assert_eq!(shown(&mut story, secondary, 1, "Propagation"), "DISABLED");
    assert!(shown(&mut story, secondary, 0, "Incarnation").ends_with(" (DIFFERENT)"));
    assert!(story.world.is_whole(), "the flows are the same");
    story.command(primary, "unset HA node -haProp");
    story.until("the secondary makes up for it", same_configuration);

    story.command(secondary, "set HA node -haProp DISABLED");
    story.run_ms(300);
    let answer = story.command(primary, "add service quieter v4-0 TCP 8081");
    assert_eq!(answer, "Warning: Command propagation disabled. [peer node]");
    story.command(secondary, "set HA node -haProp ENABLED -haSync DISABLED");
    story.run_ms(2000);
    assert!(!has_service(story.node(secondary), "quieter"));
    assert_eq!(shown(&mut story, secondary, 0, "Sync State"), "DISABLED");
    assert_eq!(shown(&mut story, primary, 1, "Sync State"), "DISABLED");
    for machine in [primary, secondary] {
        let refused = story.command(machine, "force HA sync");
        assert_eq!(refused, "ERROR: Synchronization disabled");
    }
    assert_eq!(story.command(secondary, "force HA sync -force -save YES"), "");
    story.until("forced", same_configuration);
    story.run_ms(300);
    assert!(story.world.machines[secondary].stored_config.contains("add service quieter"), "and saved");
    assert!(!story.world.machines[primary].stored_config.contains("add service quieter"));
    story.command(primary, "set HA node -haProp DISABLED");
    story.command(primary, "rm service quieter");
    assert_eq!(story.command(primary, "force HA sync -force"), "");
    story.until("forced from the other side", same_configuration);
    story.command(primary, "unset HA node -haProp");
    story.command(secondary, "unset HA node -haSync");
    story.end();
}

#[test]
fn forced_synchronisation_is_refused_where_it_cannot_be() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    assert_eq!(story.command(primary, "force HA sync"), "");
    assert_eq!(story.command(secondary, "force HA sync -force"), "");
    story.run_ms(700);
    assert_eq!(shown(&mut story, secondary, 0, "Sync State"), "SUCCESS");
    let done = story.command(primary, "sync HA files all");
    assert!(done.starts_with("Warning: There are no such files"), "{done}");
    story.command(secondary, "set HA node -haStatus DISABLED");
    story.run_ms(300);
    for machine in [primary, secondary] {
        assert_eq!(story.command(machine, "force HA sync"), "ERROR: Node disabled");
        assert_eq!(story.command(machine, "sync files"), "ERROR: Node disabled");
    }
    story.command(secondary, "set HA node -haStatus ENABLED");
    story.fault(Fault::Kill(secondary));
    story.run_ms(1000);
    let refused = story.command(primary, "force HA sync");
    assert!(refused.contains("invalid peer state"), "{refused}");
    assert_eq!(story.command(primary, "sync HA files"), refused);
    story.command(primary, "rm HA node 1");
    for line in ["force HA sync", "sync HA files"] {
        assert_eq!(story.command(primary, line), "ERROR: Operation not permitted on stand-alone node");
    }
}

#[test]
fn a_peer_that_does_not_answer_is_not_waited_for_for_ever() {
    let mut scenario = Scenario::quiet(1);
    scenario.extra_config.iter_mut().for_each(|text| text.push_str("set HA node -deadInterval 4\n"));
    let mut story = Story::whole(scenario);
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    story.fault(Fault::Freeze(secondary, Duration::from_millis(2500)));
    let begun = story.world.now;
    let answer = story.command(primary, "add service one v4-0 TCP 8080");
    assert_eq!(answer, "Warning: There is no response from the secondary. Propagation timed out");
    assert!(story.world.now.since(begun) < Duration::from_millis(1200));
    let counted = story.command(primary, "stat ha node");
    assert!(counted.lines().any(|line| line.starts_with("Propagation timeouts") && line.ends_with(" 1")), "{counted}");
    story.until("it arrives all the same", same_configuration);
    story.fault(Fault::Kill(secondary));
    let answer = story.command(primary, "add service two v4-0 TCP 8081");
    assert_eq!(answer, "Warning: Unable to establish connection with the secondary. Command propagation failed");
    story.heal();
    story.until("it makes up for it", same_configuration);
    story.end();
}

#[test]
fn builds_without_a_common_language_leave_each_other_alone() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let number = story.connect(SNAT, false);
    story.fault(Fault::Kill(secondary));
    story.run_ms(500);
    story.fault(Fault::Start(secondary));
    node(&mut story, secondary).speak_version(99, 98);
    story.run_ms(5000);
    assert_eq!(story.primary(), primary, "no flapping");
    assert!(!story.node(primary).mirrors() && !story.node(secondary).caught_up());
    assert_eq!(story.node(primary).engine().counts().held, 0, "nothing waits");
    for (machine, id) in [(primary, 1), (secondary, 1)] {
        assert_eq!(shown(&mut story, machine, id, "Peer Channel"), "VERSION MISMATCH");
    }
    assert_eq!(shown(&mut story, secondary, 0, "Sync State"), "FAILED");
    let reason = shown(&mut story, secondary, 0, "Sync Failure Reason");
    assert_eq!(reason, "HA version mismatch between primary and secondary");
    for machine in [primary, secondary] {
        let refused = story.command(machine, "force HA sync");
        assert_eq!(refused, "ERROR: HA version mismatch. Prop and sync not allowed");
    }
    let answer = story.command(primary, "add service extra v4-0 TCP 8080");
    assert_eq!(answer, "Warning: HA version mismatch. Prop and sync not allowed");
    assert!(story.command(primary, "force HA failover -force").contains("ERROR"), "it must not hand over");
    assert_eq!(story.log().matches("version mismatch:").count(), 2, "once on each node: {}", story.log());
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.fault(Fault::Kill(secondary));
    story.run_ms(500);
    story.heal();
    story.end();
}

#[test]
fn builds_of_different_versions_that_get_on_mirror_and_synchronise() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    story.fault(Fault::Kill(secondary));
    story.run_ms(500);
    story.fault(Fault::Start(secondary));
    node(&mut story, secondary).speak_version(7, 2);
    story.until("the pair is whole", World::is_whole);
    let number = story.connect(SNAT, false);
    assert_eq!(story.command(primary, "add service extra v4-0 TCP 8080"), "");
    assert!(has_service(story.node(secondary), "extra"));
    story.fault(Fault::Kill(primary));
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}

#[test]
fn a_configuration_that_overflows_the_mirror_is_tried_again_with_growing_pauses() {
    let mut story = Story::whole(Scenario::quiet(1));
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    // What cannot be told goes unprotected, and that is honest.
    story.world.checker.link_bad_until = Instant::FAR;
    let set_room = |story: &mut Story, room: u32| {
        story.world.machines[primary].node.as_mut().expect("it runs").set_journal_room(room);
    };
    set_room(&mut story, 1000);
    story.fault(Fault::Kill(secondary));
    story.run_ms(3000);
    story.fault(Fault::Start(secondary));
    story.run_ms(8000);
    let (begun, told) = ("starting another session", "the mirror's queues overflow at once");
    let count = |story: &Story, text: &str| {
        story.world.machines[primary].log.iter().filter(|line| line.2.contains(text)).count()
    };
    let sessions = count(&story, begun);
    assert!((8..20).contains(&sessions), "{sessions} sessions in 8 s");
    assert_eq!(count(&story, told), 1, "told once");
    // Nothing waits for a peer that is told nothing.
    let opened = story.world.now;
    let number = story.connect(SNAT, false);
    assert!(story.world.now.since(opened).as_millis() < 100);
    set_room(&mut story, 32 << 20);
    story.until("all is told", |world| world.is_whole());
    story.run_ms(1000);
    story.fault(Fault::Kill(primary));
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}
