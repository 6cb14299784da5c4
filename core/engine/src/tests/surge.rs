//! Surge protection.

use super::*;
use crate::{Surge, SurgeStep};

/// From two connections of a service on, a new one opens each 10 ms; from four on, each 50 ms.
const SURGE: Surge = {
    const fn step(connections: u32, ms: u64) -> SurgeStep {
        SurgeStep { connections, pause: Duration::from_millis(ms) }
    }
    Surge { steps: [step(2, 10), step(4, 50), step(1000, 100), step(2000, 100)] }
};

fn lab(net: Net) -> Lab {
    let mut plan = with_failover(plan(&net), ConnFailover::Disabled);
    plan.vservers[0].services.truncate(1);
    plan.services.truncate(1);
    plan.services[0].surge = Some(SURGE);
    let mut lab = Lab::new(net, plan);
    // Next hops are known.
    lab.client(SYN, 1, 0, b"");
    lab.next();
    lab.pass(Duration::from_secs(300));
    assert_eq!(lab.engine.counts().flows, 0);
    lab
}

/// A SYN of another client port.
fn syn(lab: &mut Lab, port: u16) -> Verdict {
    let client = Endpoint { port, ..lab.net.client };
    lab.segment(CLIENT_PORT, CLIENT_MAC, client, lab.net.vip, (SYN, 100, 0), b"")
}

fn sent(lab: &mut Lab) -> usize {
    lab.settle();
    let sent = lab.sent.len();
    lab.sent.clear();
    sent
}

#[test]
fn above_a_threshold_new_connections_open_one_after_another_and_in_order() {
    for net in [v4(), v6()] {
        let mut lab = lab(net);
        for port in 1..=6 {
            syn(&mut lab, port);
        }
        // Two fill the threshold, the third is the first of those with a pause.
        assert_eq!((sent(&mut lab), lab.engine.counts().flows), (3, 3));
        assert_eq!(lab.engine.counters().surged, 3);
        for (ms, expected) in [(9, 0), (1, 1), (10, 1), (49, 0), (1, 1)] {
            lab.pass(Duration::from_millis(ms));
            assert_eq!(sent(&mut lab), expected, "{ms} ms");
        }
        assert_eq!(lab.engine.counts().flows, 6);
        lab.pass(Duration::from_secs(1));
        assert_eq!(sent(&mut lab), 0, "nobody waits any more");
    }
}

#[test]
fn who_asks_again_does_not_wait_twice() {
    let mut lab = lab(v4());
    for port in [1, 2, 3, 4, 4, 4] {
        syn(&mut lab, port);
    }
    assert_eq!(lab.engine.counters().surged, 1);
    lab.pass(Duration::from_secs(1));
    assert_eq!((sent(&mut lab), lab.engine.counts().flows), (4, 4));
}

#[test]
fn established_connections_are_not_slowed_and_others_behind_them_go_when_there_are_fewer() {
    let mut lab = lab(v4());
    let (server, source) = lab.establish();
    lab.client(ACK, 101, 501, b"data");
    lab.next();
    for port in 1..=4 {
        syn(&mut lab, port);
    }
    sent(&mut lab);
    lab.client(ACK, 105, 501, b"data");
    assert_eq!(lab.next().packet().destination(), server, "what is open passes");
    lab.finish(server, source);
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.engine.surges.len(), 0);
}

#[test]
fn nobody_waits_at_a_node_that_does_not_lead_and_at_its_successor_the_client_asks_again() {
    let mut lab = lab(v4());
    for port in 1..=5 {
        syn(&mut lab, port);
    }
    assert_eq!(lab.engine.surges.len(), 2);
    lab.engine.set_gate(lab.now, Gate::Closed);
    assert_eq!(lab.engine.surges.len(), 0);
    lab.engine.set_gate(lab.now, Gate::Open);
    lab.pass(Duration::from_secs(1));
    syn(&mut lab, 5);
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.engine.counts().flows, 4);
}

#[test]
fn who_has_waited_too_long_is_forgotten() {
    let mut lab = lab(v4());
    let mut plan = lab.plan();
    let never = SurgeStep { connections: 1, pause: Duration::from_secs(40) };
    plan.services[0].surge = Some(Surge { steps: [never; 4] });
    lab.set_plan(plan);
    for port in 1..=3 {
        syn(&mut lab, port);
    }
    lab.pass(Duration::from_secs(41));
    let counters = lab.engine.counters();
    assert_eq!((counters.surged, counters.surge_expired), (1, 1));
}

#[test]
fn a_queue_is_full_some_time() {
    let mut lab = lab(v4());
    let mut plan = lab.plan();
    let never = SurgeStep { connections: 0, pause: Duration::from_secs(40) };
    plan.services[0].surge = Some(Surge { steps: [never; 4] });
    lab.set_plan(plan);
    assert_eq!(syn(&mut lab, 1), Verdict::Forward(SERVER_PORT));
    for port in 2..16_386 {
        assert_eq!(syn(&mut lab, port), Verdict::Consumed);
    }
    assert_eq!(syn(&mut lab, 16_386), Verdict::Drop(Drop::SurgeQueueFull));
    assert_eq!(syn(&mut lab, 2), Verdict::Consumed, "a repetition");
}
