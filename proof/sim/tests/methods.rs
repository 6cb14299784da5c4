//! Methods over a failover: what both nodes choose alike, and what a successor need not learn anew.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_sim::apps::Outcome;
use holdfast_sim::scenario::{Fault, Opening, SNAT, USIP};
use holdfast_sim::{Scenario, Story};
use holdfast_wire::Addr;

/// Five servers and three clients, on a pair that is whole.
fn many() -> Story {
    Story::whole(Scenario { servers: 5, clients: 3, ..Scenario::quiet(5) })
}

/// The server of a short connection of this client, from its beginning to its end.
fn server_of(story: &mut Story, vserver: usize, client: usize, v6: bool) -> Addr {
    let plain = Opening::plain(Instant::ZERO, vserver, v6);
    let number = story.open(Opening { client, bytes: 100, pause: Duration::ZERO, ..plain });
    story.until("the connection has ended", |world| world.clients[client].connections[number].ended.is_some());
    let connection = &story.world.clients[client].connections[number];
    assert_eq!(connection.outcome, Outcome::Finished);
    story.world.watch.server_of(client, connection.port, v6).expect("a server was reached")
}

fn fail_over(story: &mut Story) {
    let (old, new) = (story.primary(), 1 - story.primary());
    story.run_ms(300);
    story.fault(Fault::Kill(old));
    story.until("promoted", |world| world.primary() == Some(new));
}

#[test]
fn a_hash_leads_to_the_same_server_on_both_nodes() {
    for method in ["SOURCEIPHASH", "DESTINATIONIPHASH", "SRCIPDESTIPHASH"] {
        let mut story = many();
        let primary = story.primary();
        for family in ["v4", "v6"] {
            story.command(primary, &format!("set lb vserver usip-{family} -lbMethod {method}"));
        }
        let calls = [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)];
        let before = calls.map(|(client, v6)| server_of(&mut story, USIP, client, v6));
        fail_over(&mut story);
        let after = calls.map(|(client, v6)| server_of(&mut story, USIP, client, v6));
        assert_eq!(after, before, "{method}");
        let alike = before[0] == before[1] && before[1] == before[2];
        assert_eq!(alike, method == "DESTINATIONIPHASH", "{method}: only the address called counts: {before:?}");
        story.end();
    }
}

#[test]
fn services_are_new_to_a_node_that_starts_and_not_to_one_that_takes_over() {
    let mut story = many();
    let current = |story: &mut Story, machine: usize| {
        let shown = story.command(machine, "show lb vserver snat-v4");
        shown.lines().find_map(|line| line.trim().strip_prefix("Current Method: ").map(str::to_owned))
    };
    let starts = "Round Robin, Reason: Bound service's state changed to UP\tBackupMethod: ROUNDROBIN";
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    assert_eq!(current(&mut story, primary).as_deref(), Some(starts));
    assert_eq!(current(&mut story, secondary), None);
    server_of(&mut story, SNAT, 0, false);
    fail_over(&mut story);
    assert_eq!(current(&mut story, secondary), None, "its peer has told of every service");
    story.end();
}

#[test]
fn the_response_times_of_monitors_reach_the_method() {
    let mut story = many();
    let primary = story.primary();
    story.command(primary, "set lb vserver snat-v4 -lbMethod LRTM -backupLBMethod LEASTCONNECTION");
    fail_over(&mut story);
    let new = story.primary();
    let silent = story.command(new, "show lb vserver snat-v4");
    let stands_in = "Current Method: LEASTCONNECTION, Reason: A bound service has not answered its monitors yet";
    assert!(silent.contains(stands_in), "{silent}");
    story.run_ms(15_000);
    let answered = story.command(new, "show lb vserver snat-v4");
    assert!(answered.contains("Configured Method: LRTM\tBackupMethod: LEASTCONNECTION"), "{answered}");
    server_of(&mut story, SNAT, 0, false);
    story.end();
}
