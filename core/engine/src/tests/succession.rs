//! What a successor, and the successor's own successor, must be told.

use super::*;
use crate::flow::tcp::TcpState;
use crate::{Applied, FlowRecord, Phase};

/// The plan without what clients call.
fn bare(net: &Net) -> Plan {
    Plan { vservers: Vec::new(), services: Vec::new(), ..plan(net) }
}

/// A node with the flows of a record, which leads.
fn heir(lab: &Lab, plan: Plan, record: &FlowRecord) -> Lab {
    let mut heir = lab.standby(plan);
    assert_eq!(heir.engine.apply_record(heir.now, record, 1), Applied::Stored);
    heir.engine.set_gate(heir.now, Gate::Open);
    heir.engine.promote(heir.now);
    heir
}

#[test]
fn flows_of_a_removed_vserver_are_told_to_every_later_peer() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, true);
    assert_eq!(lab.records().len(), 1);
    lab.set_plan(bare(&net));
    lab.mirror(2, true);
    let records = lab.records();
    assert_eq!((records.len(), lab.engine.counts().unprotected), (1, 1));
    // To a node that never knew the vserver, and from it to the next.
    let mut heir = heir(&lab, bare(&net), &records[0]);
    heir.mirror(3, true);
    assert_eq!(heir.records().len(), 1);
}

#[test]
fn flows_of_a_removed_vserver_that_was_disabled_are_told_to_nobody() {
    let net = v4();
    let mut lab = Lab::new(net, with_failover(plan(&net), ConnFailover::Disabled));
    lab.establish();
    lab.set_plan(bare(&net));
    lab.mirror(1, true);
    assert_eq!((lab.records().len(), lab.engine.counts().unprotected), (0, 0));
}

#[test]
fn what_a_removed_vserver_was_last_decides() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, false);
    lab.establish();
    lab.acknowledge();
    lab.set_plan(with_failover(plan(&net), ConnFailover::Disabled));
    lab.set_plan(bare(&net));
    assert!(lab.records().is_empty());
    lab.settle();
    let counts = lab.engine.counts();
    assert_eq!((counts.flows, counts.in_session, counts.protected, counts.unprotected), (1, 0, 0, 0));
    assert!(matches!(lab.marks[..], [Mark::Closed(..)]), "the peer forgets it: {:?}", lab.marks);
}

/// A connection in which both ends have sent their FIN, and the client has not acknowledged the server's.
fn closing(net: Net) -> (Lab, Endpoint, Endpoint) {
    let mut lab = Lab::new(net, plan(&net));
    let (server, source) = lab.establish();
    lab.client(FIN_ACK, 101, 501, b"");
    lab.server(server, source, (FIN_ACK, 501, 102), b"");
    lab.sent.clear();
    (lab, server, source)
}

#[test]
fn a_connection_that_closes_is_told_to_the_heir_s_heir() {
    let (mut lab, server, source) = closing(v4());
    lab.mirror(1, false);
    let record = lab.records()[0];
    assert_eq!(record.phase, Phase::Closing);
    let mut heir = heir(&lab, plan(&lab.net), &record);
    heir.mirror(2, false);
    assert_eq!((heir.records().len(), heir.engine.counts().in_session), (1, 1));
    // An acknowledgement of data says nothing about a FIN that this node has not seen.
    heir.client(ACK, 102, 501, b"");
    heir.server(server, source, (ACK, 501, 102), b"");
    assert_eq!(heir.engine.counts().in_session, 1);
    // Both FINs come again and are acknowledged: the connection is over.
    heir.server(server, source, (FIN_ACK, 501, 102), b"");
    heir.client(FIN_ACK, 101, 502, b"");
    heir.server(server, source, (ACK, 502, 102), b"");
    assert_eq!(heir.engine.flows.at(0).state, crate::flow::FlowState::Tcp(TcpState::Closed));
    assert_eq!(heir.engine.counts().in_session, 0, "the peer forgets it");
}

#[test]
fn a_connection_that_closes_goes_in_its_time_under_the_heir() {
    let (mut lab, ..) = closing(v4());
    lab.mirror(1, false);
    let record = lab.records()[0];
    let mut heir = heir(&lab, plan(&lab.net), &record);
    // Its FINs may not be acknowledged, and what was sent before them come again.
    heir.pass(Duration::from_secs(290));
    assert_eq!((heir.engine.counts().flows, heir.engine.counts().leases), (1, 1));
    heir.pass(Duration::from_secs(11));
    assert_eq!((heir.engine.counts().flows, heir.engine.counts().leases), (0, 0));
}

#[test]
fn nothing_waits_for_the_peer_once_its_vserver_is_disabled() {
    for written in [false, true] {
        let net = v4();
        let mut lab = Lab::new(net, plan(&net));
        lab.mirror(1, true);
        let mut until_held = |port| {
            lab.net.client.port = port;
            lab.client(SYN, 100, 0, b"");
            let syn = lab.next().packet();
            lab.server(syn.destination(), syn.source(), (SYN_ACK, 500, 101), b"");
        };
        (0..200).for_each(|n| until_held(1000 + n));
        assert_eq!(lab.engine.counts().held, 200);
        if written {
            for mark in lab.marks.clone() {
                if let Mark::Flow(flow) = mark {
                    lab.engine.record(flow).expect("alive");
                }
            }
        }
        lab.set_plan(with_failover(plan(&net), ConnFailover::Disabled));
        assert!(lab.sent.len() >= 100, "no turn is long");
        lab.engine.handle_timeout(lab.now);
        lab.settle();
        assert_eq!(lab.sent.iter().filter(|sent| sent.tcp().flags == SYN_ACK).count(), 200);
        let counts = lab.engine.counts();
        assert_eq!((counts.held, counts.unprotected, counts.in_session), (0, 0, 0));
        assert_eq!(lab.engine.counters().hold_released_unprotected, 0);
        lab.pass(Duration::from_secs(2));
        assert_eq!(lab.engine.counters().hold_released_unprotected, 0);
    }
}

#[test]
fn what_waits_for_another_vserver_waits_on() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, true);
    lab.client(SYN, 100, 0, b"");
    let syn = lab.next().packet();
    lab.server(syn.destination(), syn.source(), (SYN_ACK, 500, 101), b"");
    let mut other = plan(&net);
    other.epoch += 1;
    lab.set_plan(other);
    lab.set_plan(bare(&net));
    lab.nothing();
    lab.acknowledge();
    assert_eq!(lab.next().tcp().flags, SYN_ACK);
    assert_eq!(lab.engine.counts().protected, 1);
}

#[test]
fn our_stamps_stay_far_from_the_end_whatever_a_peer_has_told() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, false);
    let record = FlowRecord { stamp: (1 << 62) - 1, ..lab.records()[0] };
    let mut heir = heir(&lab, plan(&net), &record);
    heir.mirror(2, false);
    heir.net.client.port += 1;
    heir.establish();
    let stamps: Vec<u64> = heir.records().iter().map(|record| record.stamp).collect();
    assert_eq!(stamps.len(), 2);
    assert!(heir.engine.last_stamp < 1 << 62, "{}", heir.engine.last_stamp);
}

#[test]
fn a_service_that_comes_after_its_vserver_finds_its_flows() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, false);
    let record = lab.records()[0];
    let mut without = plan(&net);
    without.vservers[0].services.clear();
    let mut heir = heir(&lab, without, &record);
    heir.client(ACK, 101, 501, b"");
    heir.set_plan(plan(&net));
    let of_service = |heir: &Lab| {
        let counters = heir.engine.service_counters(SERVICES[0]);
        (counters.flows, counters.established)
    };
    assert_eq!(of_service(&heir), (0, 0));
    heir.client(ACK, 101, 501, b"");
    assert_eq!(of_service(&heir), (1, 1));
    let counters = heir.engine.vserver_counters(VSERVER);
    assert_eq!((counters.flows, counters.established, counters.tracked), (1, 1, 1));
    heir.client(RST, 101, 0, b"");
    heir.pass(Duration::from_secs(400));
    assert_eq!((of_service(&heir), heir.engine.vserver_counters(VSERVER).flows), ((0, 0), 0));
}

/// A persistence session of a client of the network `net`.
fn sticky_session(net: &Net, client: u8, stamp: u64) -> crate::PersistenceRecord {
    let client = addr(&format!("192.0.2.{client}"));
    crate::PersistenceRecord {
        stamp,
        vip: net.vip,
        proto: 0,
        of: crate::SessionOf::Source(client),
        server: Some(net.servers[0]),
    }
}

#[test]
fn in_a_full_persistence_table_what_the_session_speaks_of_finds_room() {
    let net = v4();
    let mut sticky = plan(&net);
    sticky.vservers[0].persistence = by_source(60);
    let limits = Limits { max_flows: 64, max_persistence: 4, ..Limits::default() };
    let mut standby = Lab::with_limits(net, sticky, limits);
    standby.engine.set_gate(standby.now, Gate::Closed);
    let tell = |standby: &mut Lab, client, stamp, session| {
        standby.engine.apply_persistence(standby.now, &sticky_session(&net, client, stamp), session);
    };
    (1..5).for_each(|client| tell(&mut standby, client, 10, 1));
    standby.engine.begin_session(2);
    (11..15).for_each(|client| tell(&mut standby, client, 20, 2));
    let counts = standby.engine.counts();
    assert_eq!((counts.persistence, counts.persistence_missed, standby.engine.counters().stale_evicted), (4, 0, 4));
    tell(&mut standby, 15, 21, 2);
    tell(&mut standby, 16, 22, 2);
    assert_eq!((standby.engine.counts().persistence_missed, standby.engine.counters().persistence_full), (2, 2));
    tell(&mut standby, 14, 23, 2);
    assert_eq!(standby.engine.counts().persistence_missed, 2, "what is there is only changed");
    standby.engine.begin_session(3);
    assert_eq!(standby.engine.counts().persistence_missed, 0);
}

#[test]
fn what_is_only_inferred_gives_way_to_what_the_primary_says() {
    let net = v4();
    let mut sticky = plan(&net);
    sticky.vservers[0].persistence = by_source(60);
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, false);
    let record = lab.records()[0];
    let limits = Limits { max_flows: 64, max_persistence: 1, ..Limits::default() };
    let mut standby = Lab::with_limits(net, sticky, limits);
    standby.engine.set_gate(standby.now, Gate::Closed);
    standby.engine.apply_record(standby.now, &record, 1);
    assert_eq!(standby.engine.counts().persistence, 1);
    standby.engine.apply_persistence(standby.now, &sticky_session(&net, 77, 50), 1);
    let counts = standby.engine.counts();
    assert_eq!((counts.persistence, counts.persistence_missed, standby.engine.counters().stale_evicted), (1, 0, 1));
}
