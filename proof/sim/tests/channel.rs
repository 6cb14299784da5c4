//! The channel between the nodes: its sessions, and what an operator sees of them.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_ha::Role;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, SNAT, USIP};
use holdfast_sim::{Scenario, Story};

const DIFFER: &str = "the rpcNode passwords of the two nodes differ";

/// What `show ns rpcNode` tells of the channel.
fn channel(story: &mut Story, machine: usize) -> String {
    story.command(machine, &format!("show ns rpcNode 10.0.3.{}", 2 - machine))
}

#[test]
fn a_pair_talks_encrypted_and_says_so() {
    let mut story = Story::whole(Scenario::quiet(1));
    for machine in [0, 1] {
        let shown = channel(&mut story, machine);
        assert!(shown.contains("Channel: AUTHENTICATED, ENCRYPTED  Cipher: CHACHA20-POLY1305  Since: "), "{shown}");
        assert!(shown.contains("Handshakes: 1  Rekeys: 0  Failures: 0  Last Failure: never"), "{shown}");
        let shown = story.command(machine, "show HA node");
        assert!(shown.contains("Peer Channel Security: AUTHENTICATED, ENCRYPTED\n"), "{shown}");
    }
    story.end();
}

#[test]
fn keys_are_replaced_under_traffic_and_nobody_notices() {
    let mut story = Story::whole(Scenario::quiet(2));
    let (primary, term) = (story.primary(), story.node(story.primary()).term());
    let number = story.connect(SNAT, false);
    story.fault(Fault::PeerLoss(100));
    story.run_ms(310_000);
    for machine in [0, 1] {
        let shown = channel(&mut story, machine);
        assert!(shown.contains("Handshakes: 1  Rekeys: 1  Failures: 0"), "{shown}");
    }
    assert_eq!((story.primary(), story.node(primary).term()), (primary, term));
    let second = story.connect(USIP, false);
    assert_eq!(story.node(primary).engine().counters().hold_released_unprotected, 0);
    story.fault(Fault::Kill(primary));
    assert_eq!((story.end_of(number), story.end_of(second)), (Outcome::Finished, Outcome::Finished));
    story.end();
}

#[test]
fn strangers_that_start_at_once_do_not_both_lead() {
    let wrong = "set ns rpcNode 10.0.3.1 -password wrong\nset ns rpcNode 10.0.3.2 -password wrong\n";
    let extra_config = [String::new(), wrong.into()];
    let mut story = Story::begin(Scenario { extra_config, ..Scenario::quiet(10) });
    let leads = |story: &Story| [0, 1].map(|machine| story.node(machine).role() == Role::Primary);
    story.until("one leads", |world| {
        world.machines.iter().any(|machine| machine.node.as_ref().is_some_and(|node| node.role() == Role::Primary))
    });
    assert_eq!(leads(&story), [true, false], "the one with the smaller id");
    story.run_ms(8000);
    assert_eq!(leads(&story), [true, false], "the other hears that there is a primary");
}

#[test]
fn a_wrong_password_is_told_on_both_nodes_and_nobody_takes_over() {
    let wrong = "set ns rpcNode 10.0.3.1 -password wrong\nset ns rpcNode 10.0.3.2 -password wrong\n";
    let faults = vec![(Instant::ZERO + Duration::from_secs(5), Fault::Start(1))];
    let extra_config = [String::new(), wrong.into()];
    let mut story = Story::begin(Scenario { extra_config, faults, first_only: true, ..Scenario::quiet(10) });
    story.until("the first serves", |world| world.primary() == Some(0));
    let number = story.connect(SNAT, false);
    story.run_ms(8000);
    assert_ne!(story.node(1).role(), Role::Primary, "it hears that there is a primary");
    for machine in [0, 1] {
        let shown = story.command(machine, "show HA node");
        assert!(shown.contains(&format!("Peer Channel Security: NOT AUTHENTICATED ({DIFFER}, seen ")), "{shown}");
        let shown = channel(&mut story, machine);
        assert!(shown.contains(DIFFER) && shown.contains("Handshakes: 0"), "{shown}");
        let told = |line: &&(Instant, _, String)| line.2.contains(DIFFER);
        assert_eq!(story.world.machines[machine].log.iter().filter(told).count(), 1, "told once");
    }
    let answer = story.command(0, "add service alone v4-0 TCP 8080");
    assert_eq!(answer, "Warning: Command propagation failed due to user authentication problems");
    // Put right, it joins.
    for node in [1, 2] {
        story.command(1, &format!("set ns rpcNode 10.0.3.{node} -password correct-horse"));
    }
    story.until("the pair is whole", |world| world.is_whole());
    assert_eq!((story.primary(), story.end_of(number)), (0, Outcome::Finished));
    story.end();
}

#[test]
fn without_a_password_there_is_no_session_and_nobody_takes_over() {
    const UNSET: &str = "no rpcNode password is set";
    let unset = |nodes: &[usize]| -> String {
        nodes.iter().map(|node| format!("unset ns rpcNode 10.0.3.{node} -password\n")).collect()
    };
    // Both passwords on both nodes, one of them on both, one of them on the second only.
    for (seed, lacks) in [(11, [&[1, 2][..], &[1, 2]]), (12, [&[2], &[2]]), (13, [&[], &[1]])] {
        let faults = vec![(Instant::ZERO + Duration::from_secs(5), Fault::Start(1))];
        let extra_config = lacks.map(unset);
        let mut story = Story::begin(Scenario { extra_config, faults, first_only: true, ..Scenario::quiet(seed) });
        story.until("the first serves", |world| world.primary() == Some(0));
        let number = story.connect(SNAT, false);
        story.run_ms(8000);
        assert_ne!(story.node(1).role(), Role::Primary, "it hears that there is a primary");
        assert!(story.node(0).term() > story.node(1).term(), "and believes nothing of what it hears");
        for machine in [0, 1] {
            let shown = story.command(machine, "show HA node");
            let why = match lacks[machine].first() {
                Some(node) => format!("({UNSET}: set ns rpcNode 10.0.3.{node} -password …)"),
                None => format!("({DIFFER}, seen "),
            };
            // A node names its own address first.
            let why = if lacks[machine].len() == 2 {
                why.replace("10.0.3.1", &format!("10.0.3.{}", machine + 1))
            } else {
                why
            };
            assert!(shown.contains(&format!("Peer Channel Security: NOT AUTHENTICATED {why}")), "{shown}");
            let shown = channel(&mut story, machine);
            assert!(shown.contains(&why) && shown.contains("Handshakes: 0"), "{shown}");
            let told =
                |line: &&(Instant, _, String)| line.2.contains(if lacks[machine].is_empty() { DIFFER } else { UNSET });
            assert_eq!(story.world.machines[machine].log.iter().filter(told).count(), 1, "told once");
        }
        for (machine, node) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
            story.command(machine, &format!("set ns rpcNode 10.0.3.{node} -password correct-horse"));
        }
        story.until("the pair is whole", |world| world.is_whole());
        assert_eq!((story.primary(), story.end_of(number)), (0, Outcome::Finished));
        story.end();
    }
}

#[test]
fn a_running_pair_whose_password_is_cleared_goes_on_and_takes_no_other_session() {
    let mut story = Story::whole(Scenario::quiet(14));
    let (primary, term) = (story.primary(), story.node(story.primary()).term());
    let number = story.connect(SNAT, false);
    for machine in [0, 1] {
        story.command(machine, "unset ns rpcNode 10.0.3.1 -password");
    }
    story.run_ms(5000);
    assert!(story.world.is_whole());
    assert_eq!((story.primary(), story.node(primary).term()), (primary, term), "nobody took over");
    for machine in [0, 1] {
        let shown = story.command(machine, "show HA node");
        let why = "(no rpcNode password is set: set ns rpcNode 10.0.3.1 -password …)";
        assert!(shown.contains(&format!("Peer Channel Security: AUTHENTICATED, ENCRYPTED {why}")), "{shown}");
    }
    let second = story.connect(USIP, false);
    for machine in [0, 1] {
        story.command(machine, "set ns rpcNode 10.0.3.1 -password correct-horse");
    }
    story.run_ms(2000);
    let shown = story.command(primary, "show HA node");
    assert!(shown.contains("Peer Channel Security: AUTHENTICATED, ENCRYPTED\n"), "{shown}");
    story.fault(Fault::Kill(primary));
    assert_eq!((story.end_of(number), story.end_of(second)), (Outcome::Finished, Outcome::Finished));
    story.end();
}

#[test]
fn one_node_that_wants_no_secrecy_is_told_and_changes_nothing() {
    let mut story = Story::whole(Scenario::quiet(3));
    let primary = story.primary();
    let number = story.connect(SNAT, false);
    let off = |node: usize| format!("set ns rpcNode 10.0.3.{node} -secure OFF");
    story.command(primary, &off(2 - primary));
    story.run_ms(2000);
    assert!(story.world.is_whole());
    for machine in [0, 1] {
        let shown = channel(&mut story, machine);
        assert!(
            shown.contains("Channel: AUTHENTICATED, ENCRYPTED (-secure of the two nodes' rpcNode differs"),
            "{shown}"
        );
    }
    story.command(1 - primary, &off(primary + 1));
    story.run_ms(2000);
    for machine in [0, 1] {
        let shown = channel(&mut story, machine);
        assert!(shown.contains("Channel: AUTHENTICATED, NOT ENCRYPTED  Cipher"), "{shown}");
    }
    assert_eq!((story.primary(), story.end_of(number)), (primary, Outcome::Finished));
    story.end();
}

#[test]
fn the_saved_password_is_encrypted_and_good_after_a_restart() {
    let mut story = Story::whole(Scenario::quiet(4));
    let primary = story.primary();
    story.command(primary, "save ns config");
    story.run_ms(500);
    for machine in &story.world.machines {
        let text = &machine.stored_config;
        assert!(!text.contains("correct-horse"), "{text}");
        let line = text.lines().find(|line| line.starts_with("set ns rpcNode 10.0.3.1")).unwrap_or_default();
        assert!(line.contains(" -encrypted -encryptmethod ENCMTHD_3"), "{line}");
    }
    let shown = story.command(primary, "show ns runningConfig");
    assert!(!shown.contains("correct-horse"), "{shown}");
    for machine in [1 - primary, primary] {
        story.fault(Fault::Kill(machine));
        story.run_ms(3000);
        story.fault(Fault::Start(machine));
        story.until("the pair is whole", |world| world.is_whole());
    }
    story.end();
}

#[test]
fn a_monitors_password_is_the_pairs_and_saved_encrypted_on_each_node() {
    let mut story = Story::whole(Scenario::quiet(4));
    let add = "add lb monitor login FTP -userName probe";
    let agreed = |story: &mut Story| {
        story.run_ms(1000);
        let shown = story.command(story.primary(), "show ha node");
        assert!(shown.contains("(EQUAL)"), "{shown}");
    };
    story.command(story.primary(), &format!("{add} -password battery-staple"));
    story.command(story.primary(), "save ns config");
    agreed(&mut story);
    let saved = |machine: usize, story: &Story| {
        let text = &story.world.machines[machine].stored_config;
        assert!(!text.contains("battery-staple"), "{text}");
        text.lines().find(|line| line.starts_with(add)).map(str::to_owned).expect("the monitor is saved")
    };
    let lines = [saved(0, &story), saved(1, &story)];
    assert!(lines.iter().all(|line| line.ends_with(" -encrypted -encryptmethod ENCMTHD_3")), "{lines:?}");
    assert_ne!(lines[0], lines[1], "each node has a key of its own");
    for machine in [1 - story.primary(), story.primary()] {
        story.fault(Fault::Kill(machine));
        story.run_ms(3000);
        story.fault(Fault::Start(machine));
        story.until("the pair is whole", |world| world.is_whole());
        agreed(&mut story);
    }
    // A line of the primary's own file, typed: the peer gets the password, not what only this node can open.
    let primary = story.primary();
    story.command(primary, "rm lb monitor login");
    story.command(primary, &lines[primary]);
    story.command(primary, "save ns config");
    agreed(&mut story);
    assert_ne!(saved(0, &story), saved(1, &story));
    // A line of the peer's file is of no use here, and nobody opens it: the two configurations stay equal.
    story.command(primary, "rm lb monitor login");
    story.command(primary, &lines[1 - primary]);
    agreed(&mut story);
    story.command(primary, "save ns config");
    agreed(&mut story);
    assert_eq!([saved(0, &story), saved(1, &story)], [lines[1 - primary].clone(), lines[1 - primary].clone()]);
    let shown = story.command(primary, "show ns runningConfig");
    assert!(shown.contains(&format!("{add} -password \"********\" -encrypted")), "{shown}");
    story.end();
}
