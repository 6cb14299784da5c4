//! Persistence by the address that clients call, alone or with their own: sessions here and on the other node.

use super::*;
use crate::{PersistenceRecord, SessionFilter, SessionOf, SessionRow};

/// A vserver that answers for the whole world, in turns, with this persistence.
fn wildcard(net: &Net, persistence: Option<Persistence>) -> Plan {
    let mut plan = plan(net);
    plan.vservers[0].addr = Addr::UNSPECIFIED;
    plan.vservers[0].persistence = persistence;
    plan
}

fn world(last: u8) -> Addr {
    addr(&format!("203.0.113.{last}"))
}

/// Opens a flow of the client `client` to `called`; the server that it went to.
fn call(lab: &mut Lab, client: u8, called: u8) -> Endpoint {
    lab.net.client.addr = addr(&format!("192.0.2.{client}"));
    lab.add_host(lab.net.client.addr, CLIENT_PORT, CLIENT_MAC);
    lab.net.client.port += 1;
    lab.net.vip.addr = world(called);
    lab.client(SYN, 1, 0, b"");
    lab.next().packet().destination()
}

fn listed(lab: &Lab) -> Vec<SessionRow> {
    let (mut rows, mut counts) = (Vec::new(), Vec::new());
    while !lab.engine.count_session_flows(&mut 0, u32::MAX, &mut counts) {}
    assert!(lab.engine.list_sessions(lab.now, &mut 0, u32::MAX, &counts, &mut rows));
    rows
}

fn ends_told(lab: &Lab) -> Vec<SessionOf> {
    let end = |mark: &Mark| match mark {
        Mark::Persistence(PersistenceRecord { of, server: None, .. }) => Some(*of),
        Mark::Persistence(_) | Mark::Flow(_) | Mark::Closed(..) => None,
    };
    lab.marks.iter().filter_map(end).collect()
}

#[test]
fn by_destination_whoever_calls_an_address_gets_its_server() {
    let net = v4();
    let mut lab = Lab::new(net, wildcard(&net, by(PersistenceKind::Destination, 60)));
    let first = call(&mut lab, 10, 1);
    let second = call(&mut lab, 10, 2);
    assert_ne!(first, second, "another address has a session of its own");
    for client in 11..15 {
        assert_eq!(call(&mut lab, client, 1), first);
        assert_eq!(call(&mut lab, client, 2), second);
    }
    assert_eq!(lab.engine.counts().persistence, 2);
}

#[test]
fn by_both_addresses_each_pair_has_a_session_of_its_own() {
    let net = v4();
    let mut lab = Lab::new(net, wildcard(&net, by(PersistenceKind::Both, 60)));
    let pairs = [(10, 1), (10, 2), (11, 2), (11, 1)];
    let servers = pairs.map(|(client, called)| call(&mut lab, client, called));
    assert_eq!([servers[0], servers[1]], [servers[2], servers[3]], "in turns");
    assert_ne!(servers[0], servers[1]);
    for ((client, called), server) in pairs.into_iter().zip(servers) {
        assert_eq!(call(&mut lab, client, called), server);
    }
    assert_eq!(lab.engine.counts().persistence, 4);
}

#[test]
fn the_mask_applies_to_both_addresses() {
    let net = v4();
    let wide = |kind| by(kind, 60).map(|persistence| Persistence { mask: Mask { v4: 28, v6: 64 }, ..persistence });
    for kind in [PersistenceKind::Destination, PersistenceKind::Both] {
        let mut lab = Lab::new(net, wildcard(&net, wide(kind)));
        let first = call(&mut lab, 17, 33);
        assert_eq!(call(&mut lab, 18, 34), first);
        assert_eq!(lab.engine.counts().persistence, 1);
        call(&mut lab, 18, 49);
        assert_eq!(lab.engine.counts().persistence, 2);
    }
}

#[test]
fn a_session_by_destination_ends_and_is_told_as_any_other() {
    let net = v4();
    let mut lab = Lab::new(net, wildcard(&net, by(PersistenceKind::Destination, 60)));
    lab.mirror(1, false);
    call(&mut lab, 10, 1);
    lab.pass(Duration::from_secs(61));
    assert_eq!(ends_told(&lab), [SessionOf::Destination(world(1))]);
    assert_eq!(lab.engine.counts().persistence, 0);
}

#[test]
fn the_other_node_goes_on_with_the_sessions_it_was_told_of() {
    let net = v4();
    for kind in [PersistenceKind::Destination, PersistenceKind::Both] {
        let plan = wildcard(&net, by(kind, 60));
        let mut lab = Lab::new(net, plan.clone());
        lab.mirror(1, false);
        let servers = [1, 2, 3].map(|called| call(&mut lab, 10, called));
        let mut other = lab.standby(plan);
        for mark in &lab.marks {
            if let Mark::Persistence(record) = mark {
                other.engine.apply_persistence(other.now, record, 1);
            }
        }
        other.engine.set_gate(other.now, Gate::Open);
        other.engine.promote(other.now);
        // In turns, and backwards, each would get another one.
        let again = [3, 2, 1].map(|called| call(&mut other, 10, called));
        assert_eq!(again, [servers[2], servers[1], servers[0]], "{kind:?}");
        assert_eq!(other.engine.counts().persistence, 3);
    }
}

#[test]
fn a_mirrored_flow_implies_its_session_by_both_addresses() {
    let net = v4();
    let plan = wildcard(&net, by(PersistenceKind::Both, 60));
    let mut lab = Lab::new(net, plan.clone());
    lab.mirror(1, false);
    lab.net.vip.addr = world(1);
    lab.establish();
    let mut other = lab.standby(plan);
    for mark in lab.marks.clone() {
        if let Mark::Flow(flow) = mark
            && let Some(record) = lab.engine.record(flow)
        {
            other.engine.apply_record(other.now, &record, 1);
        }
    }
    let both = SessionOf::Both { source: net.client.addr, destination: world(1) };
    assert_eq!(listed(&other).iter().map(|row| row.session.of).collect::<Vec<_>>(), [both]);
}

#[test]
fn the_list_says_whose_a_session_is_how_long_it_lasts_and_how_many_flows_it_has() {
    let net = v4();
    let mut lab = Lab::new(net, wildcard(&net, by(PersistenceKind::Destination, 60)));
    let first = call(&mut lab, 10, 1);
    lab.pass(Duration::from_secs(20));
    call(&mut lab, 11, 2);
    call(&mut lab, 12, 2);
    let rows = listed(&lab);
    assert_eq!(rows.len(), 2);
    assert_eq!((rows[0].session.of, rows[0].session.server), (SessionOf::Destination(world(1)), Some(first)));
    assert_eq!((rows[0].vserver, rows[0].left, rows[0].flows), (Some(VSERVER), Duration::from_secs(40), 1));
    assert_eq!((rows[1].left, rows[1].flows), (Duration::from_secs(60), 2));
    lab.engine.set_health(lab.now, SERVICES[usize::from(first == net.servers[1])], false);
    assert_ne!(call(&mut lab, 13, 1), first, "the session moves");
    assert_eq!(listed(&lab)[0].flows, 1, "the flow that stays where it was is no longer one of it");
    lab.engine.set_gate(lab.now, Gate::Closed);
    assert_eq!(listed(&lab)[0].left, Duration::from_secs(60), "nothing ends before a takeover");
}

#[test]
fn a_clear_ends_what_is_meant_tells_it_and_leaves_flows_alone() {
    let net = v4();
    let mut lab = Lab::new(net, wildcard(&net, by(PersistenceKind::Both, 60)));
    lab.mirror(1, false);
    for (client, called) in [(10, 1), (10, 2), (11, 2)] {
        call(&mut lab, client, called);
    }
    let flows = lab.engine.counts().flows;
    let clear = |lab: &mut Lab, filter| {
        lab.marks.clear();
        while !lab.engine.clear_sessions(&filter, &mut 0, u32::MAX) {}
        lab.marks.extend(std::iter::from_fn(|| lab.engine.poll_mark()));
        ends_told(lab)
    };
    let both =
        |client: u8, called| SessionOf::Both { source: addr(&format!("192.0.2.{client}")), destination: world(called) };
    let of_nobody = SessionFilter { vserver: Some(VserverId(99)), addr: None };
    assert_eq!(clear(&mut lab, of_nobody), []);
    let of_one = SessionFilter { vserver: Some(VSERVER), addr: Some(addr("192.0.2.11")) };
    assert_eq!(clear(&mut lab, of_one), [both(11, 2)]);
    assert_eq!(clear(&mut lab, SessionFilter { vserver: None, addr: Some(world(1)) }), [both(10, 1)]);
    assert_eq!(clear(&mut lab, SessionFilter::default()), [both(10, 2)]);
    assert_eq!((lab.engine.counts().persistence, lab.engine.counts().flows), (0, flows));
}

#[test]
fn a_clear_goes_on_where_it_stopped() {
    let net = v4();
    let mut lab = Lab::new(net, wildcard(&net, by(PersistenceKind::Destination, 60)));
    for called in 1..=5 {
        call(&mut lab, 10, called);
    }
    let mut cursor = 0;
    let mut clear = |lab: &mut Lab| lab.engine.clear_sessions(&SessionFilter::default(), &mut cursor, 2);
    assert!(!clear(&mut lab));
    assert_eq!(lab.engine.counts().persistence, 3);
    assert!(!clear(&mut lab));
    assert!(clear(&mut lab));
    assert_eq!(lab.engine.counts().persistence, 0);
}
