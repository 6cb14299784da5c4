//! Spill-over, backup vservers, limits of services.

use super::*;
use crate::{Enough, Spill};

const BACKUP: VserverId = VserverId(9);

/// The first service belongs to the vserver, the second to its backup, which has no address of its own.
fn spilling(net: &Net, spill: Spill) -> Plan {
    let mut plan = plan(net);
    let binding = |service| Binding { service, weight: 1 };
    plan.vservers[0].services = vec![binding(SERVICES[0])];
    plan.vservers[0].spill = Spill { backup: Some(BACKUP), ..spill };
    let behind = Vserver {
        id: BACKUP,
        addr: Addr::UNSPECIFIED,
        port: 0,
        listens: false,
        spill: Spill::default(),
        services: vec![binding(SERVICES[1])],
        ..plan.vservers[0].clone()
    };
    plan.vservers.push(behind);
    plan
}

/// The server that a first datagram from this port goes to.
fn server(lab: &mut Lab, port: u16) -> Option<Endpoint> {
    lab.datagram(CLIENT_PORT, Endpoint { port, ..lab.net.client }, lab.net.vip, b"x");
    lab.acknowledge();
    lab.settle();
    lab.sent.pop_front().map(|sent| sent.packet().destination())
}

fn set_up(lab: &mut Lab, service: ServiceId, up: bool) {
    lab.engine.set_health(lab.now, service, up);
}

#[test]
fn a_backup_serves_new_flows_while_the_vserver_is_down_and_they_stay() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, spilling(&net, Spill::default()));
        let [own, behind] = net.servers;
        assert_eq!(server(&mut lab, 1), Some(own));
        set_up(&mut lab, SERVICES[0], false);
        assert_eq!(server(&mut lab, 2), Some(behind));
        assert_eq!(server(&mut lab, 1), Some(own), "an open flow stays");
        set_up(&mut lab, SERVICES[0], true);
        assert_eq!((server(&mut lab, 2), server(&mut lab, 3)), (Some(behind), Some(own)));
        set_up(&mut lab, SERVICES[0], false);
        set_up(&mut lab, SERVICES[1], false);
        assert_eq!((server(&mut lab, 4), lab.drops(Drop::NoService)), (None, 1));
    }
}

#[test]
fn a_vserver_with_enough_flows_spills_over_and_takes_them_again_when_it_has_fewer() {
    let net = v4();
    let mut lab = Lab::new(net, spilling(&net, Spill { enough: Enough::Flows(2), ..Spill::default() }));
    let [own, behind] = net.servers;
    let chosen: Vec<_> = (1..=4).map(|port| server(&mut lab, port)).collect();
    assert_eq!(chosen, [Some(own), Some(own), Some(behind), Some(behind)]);
    lab.pass(Duration::from_secs(301));
    assert_eq!(server(&mut lab, 5), Some(own));
}

#[test]
fn without_a_backup_who_has_enough_drops_or_goes_on_as_it_is_told() {
    let net = v4();
    for goes_on in [false, true] {
        let mut plan = spilling(&net, Spill { enough: Enough::Flows(1), goes_on, ..Spill::default() });
        plan.vservers[0].spill.backup = None;
        let mut lab = Lab::new(net, plan);
        assert_eq!(server(&mut lab, 1), Some(net.servers[0]));
        assert_eq!(server(&mut lab, 2), goes_on.then_some(net.servers[0]));
        assert_eq!(lab.drops(Drop::SpilledOver), u64::from(!goes_on));
    }
}

#[test]
fn the_health_threshold_says_how_many_services_make_it_up() {
    let net = v4();
    let mut plan = spilling(&net, Spill { health_threshold: 51, ..Spill::default() });
    plan.vservers[0].services = SERVICES.map(|service| Binding { service, weight: 1 }).to_vec();
    plan.vservers[0].spill.backup = None;
    let mut lab = Lab::new(net, plan);
    assert!(server(&mut lab, 1).is_some());
    set_up(&mut lab, SERVICES[1], false);
    assert_eq!(server(&mut lab, 2), None, "half of them are not enough");
    let mut plan = lab.plan();
    plan.vservers[0].spill.health_threshold = 50;
    lab.set_plan(plan);
    assert_eq!(server(&mut lab, 3), Some(net.servers[0]));
}

#[test]
fn spill_over_by_health_leaves_a_vserver_that_is_up() {
    let net = v4();
    let mut plan = spilling(&net, Spill { enough: Enough::Health(60), ..Spill::default() });
    plan.vservers[0].services = SERVICES.map(|service| Binding { service, weight: 1 }).to_vec();
    plan.vservers[1].services = vec![Binding { service: SERVICES[0], weight: 1 }];
    let mut lab = Lab::new(net, plan);
    set_up(&mut lab, SERVICES[1], false);
    for port in 1..=3 {
        assert_eq!(server(&mut lab, port), Some(net.servers[0]), "the backup has this one only");
    }
}

#[test]
fn a_service_with_its_limit_gets_no_more_and_all_limits_together_spill() {
    let net = v4();
    let mut plan = spilling(&net, Spill { enough: Enough::Limits, ..Spill::default() });
    plan.services[0].max_clients = 2;
    let mut lab = Lab::new(net, plan);
    let [own, behind] = net.servers;
    let chosen: Vec<_> = (1..=3).map(|port| server(&mut lab, port)).collect();
    assert_eq!(chosen, [Some(own), Some(own), Some(behind)]);
    let mut plan = lab.plan();
    plan.vservers[0].spill = Spill::default();
    lab.set_plan(plan);
    assert_eq!((server(&mut lab, 4), lab.drops(Drop::NoService)), (None, 1), "without spill-over nobody has room");
}

#[test]
fn bandwidth_of_late_spills() {
    let net = v4();
    let mut lab = Lab::new(net, spilling(&net, Spill { enough: Enough::Bandwidth(8), ..Spill::default() }));
    let [own, behind] = net.servers;
    assert_eq!(server(&mut lab, 1), Some(own));
    for _ in 0..20 {
        lab.datagram(CLIENT_PORT, Endpoint { port: 1, ..lab.net.client }, lab.net.vip, &[0; 1000]);
        lab.next();
    }
    assert_eq!(server(&mut lab, 2), Some(behind), "20 kB in 14 s are more than 8 kbit/s");
    lab.pass(Duration::from_secs(30));
    assert_eq!(server(&mut lab, 3), Some(own));
}

#[test]
fn backups_that_stand_behind_each_other_in_a_ring_are_walked_once() {
    let net = v4();
    let mut plan = spilling(&net, Spill::default());
    plan.vservers[1].spill.backup = Some(plan.vservers[0].id);
    let mut lab = Lab::new(net, plan);
    set_up(&mut lab, SERVICES[0], false);
    set_up(&mut lab, SERVICES[1], false);
    assert_eq!(server(&mut lab, 1), None);
}

#[test]
fn a_spilled_flow_goes_on_at_a_successor_and_counts_there() {
    let net = v4();
    let mut lab = Lab::new(net, spilling(&net, Spill::default()));
    lab.mirror(1, true);
    set_up(&mut lab, SERVICES[0], false);
    lab.datagram(CLIENT_PORT, net.client, net.vip, b"x");
    let records = lab.records();
    lab.acknowledge();
    assert_eq!(lab.next().packet().destination(), net.servers[1]);
    let mut heir = lab.standby(lab.plan());
    heir.engine.apply_record(heir.now, &records[0], 1);
    heir.engine.set_gate(heir.now, Gate::Open);
    heir.engine.promote(heir.now);
    heir.datagram(CLIENT_PORT, net.client, net.vip, b"y");
    heir.settle();
    assert_eq!(heir.next().packet().destination(), net.servers[1], "though its vserver is UP there");
    assert_eq!(heir.engine.service_counters(SERVICES[1]).flows, 1);
    assert_eq!(heir.engine.vserver_counters(VSERVER).flows, 1);
}
