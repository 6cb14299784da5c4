//! Sessions by the address called, alone or with the client's: over a failover, and before an operator.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, Opening, USIP};
use holdfast_sim::{Scenario, Story};
use holdfast_wire::Addr;

/// Three servers and two clients; the vserver takes turns, has had its first one, and keeps sessions from now on.
fn sticky(kind: &str) -> Story {
    let mut story = Story::whole(Scenario { servers: 3, clients: 2, ..Scenario::quiet(5) });
    let primary = story.primary();
    for (family, v6) in [("v4", false), ("v6", true)] {
        server_of(&mut story, 0, v6);
        story.command(primary, &format!("set lb vserver usip-{family} -persistenceType {kind}"));
    }
    story
}

/// The server of a short connection of this client, from its beginning to its end.
fn server_of(story: &mut Story, client: usize, v6: bool) -> Addr {
    let plain = Opening::plain(Instant::ZERO, USIP, v6);
    let number = story.open(Opening { client, bytes: 100, pause: Duration::ZERO, ..plain });
    story.until("the connection has ended", |world| world.clients[client].connections[number].ended.is_some());
    let connection = &story.world.clients[client].connections[number];
    assert_eq!(connection.outcome, Outcome::Finished);
    story.world.watch.server_of(client, connection.port, v6).expect("a server was reached")
}

/// The primary dies, once nothing but sessions is left on the other machine, which is primary then.
fn fail_over(story: &mut Story) -> usize {
    let (old, new) = (story.primary(), 1 - story.primary());
    story.run_ms(500);
    assert_eq!(story.node(new).engine().counts().flows, 0, "no flow implies a session");
    story.fault(Fault::Kill(old));
    story.until("promoted", |world| world.primary() == Some(new));
    new
}

/// The sessions that a machine lists, without how long they last.
fn listed(story: &mut Story, machine: usize) -> Vec<String> {
    let text = story.command(machine, "show lb persistentSessions");
    assert!(text.starts_with("TYPE"), "{text}");
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        [&words[..4], &words[6..]].concat().join(" ")
    };
    let header = text.find("VSERVER").expect("the last column") + "VSERVER".len();
    let mut rows: Vec<String> = text[header..].lines().filter(|line| !line.is_empty()).map(row).collect();
    rows.sort();
    rows
}

#[test]
fn a_session_by_destination_survives_a_failover() {
    for v6 in [false, true] {
        let mut story = sticky("DESTIP");
        let server = server_of(&mut story, 0, v6);
        assert_eq!(server_of(&mut story, 1, v6), server, "whoever calls the address");
        let primary = story.primary();
        let before = listed(&mut story, primary);
        assert_eq!(before.len(), 1, "{before:?}");
        let new = fail_over(&mut story);
        assert_eq!(listed(&mut story, new), before);
        assert_eq!(server_of(&mut story, 1, v6), server, "its turn would be another one's");
        assert_eq!(server_of(&mut story, 0, v6), server);
        story.end();
    }
}

#[test]
fn a_session_by_both_addresses_survives_a_failover() {
    for v6 in [false, true] {
        let mut story = sticky("SRCIPDESTIP");
        let servers = [0, 1].map(|client| server_of(&mut story, client, v6));
        assert_ne!(servers[0], servers[1], "each client has its own");
        let primary = story.primary();
        let before = listed(&mut story, primary);
        assert_eq!(before.len(), 2, "{before:?}");
        let new = fail_over(&mut story);
        assert_eq!(listed(&mut story, new), before);
        for client in [1, 0, 1] {
            assert_eq!(server_of(&mut story, client, v6), servers[client]);
        }
        story.end();
    }
}

#[test]
fn sessions_reach_a_secondary_that_comes_late() {
    let mut story = sticky("SRCIPDESTIP");
    let (primary, other) = (story.primary(), 1 - story.primary());
    story.fault(Fault::Kill(other));
    let servers = [0, 1].map(|client| server_of(&mut story, client, false));
    story.run_ms(60_000);
    story.heal();
    let before = listed(&mut story, primary);
    assert_eq!(listed(&mut story, other), before);
    fail_over(&mut story);
    for client in [1, 0] {
        assert_eq!(server_of(&mut story, client, false), servers[client]);
    }
    story.end();
}

#[test]
fn a_list_names_both_ends_the_server_and_the_connections() {
    let mut story = sticky("SRCIPDESTIP");
    let primary = story.primary();
    let number = story.connect(USIP, false);
    let server = story.world.watch.server_of(0, story.connection(number).port, false).expect("a server was reached");
    let text = story.command(primary, "show lb persistentSessions usip-v4");
    let row: Vec<&str> = text.split_once("VSERVER").expect("the last column").1.split_whitespace().collect();
    let vip = story.world.scenario.vservers[USIP].v4.to_string();
    let [kind, source, dest, _, left, flows, parameter, vserver] = row[..] else { panic!("one row: {text}") };
    assert_eq!((kind, dest, flows, vserver), ("SRCIPDESTIP", server.to_string().as_str(), "1", "usip-v4"));
    assert_eq!(parameter, format!("{source},{vip}"));
    assert!(["119", "120"].contains(&left), "two minutes: {left}");
    assert!(!story.command(primary, "show lb persistentSessions snat-v4").contains("SRCIPDESTIP"));
    story.end_of(number);
    story.end();
}

#[test]
fn a_clear_reaches_both_nodes_and_new_connections_are_balanced_again() {
    let mut story = sticky("DESTIP");
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    let before = server_of(&mut story, 0, false);
    server_of(&mut story, 0, true);
    story.run_ms(300);
    let refused = story.command(secondary, "clear lb persistentSessions");
    assert!(refused.contains("Operation permitted only on primary node."), "{refused}");
    assert_eq!(listed(&mut story, secondary).len(), 2);
    story.command(primary, "clear lb persistentSessions usip-v4");
    story.run_ms(300);
    for machine in [primary, secondary] {
        let left = listed(&mut story, machine);
        assert!(left.len() == 1 && left[0].ends_with("usip-v6"), "{left:?}");
    }
    assert_ne!(server_of(&mut story, 0, false), before, "the next one's turn");
    let vip = story.world.scenario.vservers[USIP].v6;
    story.command(primary, &format!("clear lb persistentSessions -persistenceParameter {vip}"));
    story.run_ms(300);
    assert_eq!(listed(&mut story, secondary).len(), 1);
    story.end();
}
