//! Marks, holds, acks, records, bulk, sessions and promotion.

use super::*;
use crate::{Applied, BulkStep, FlowRecord, FlowRef, PersistenceRecord, PersistenceStep, Phase, SessionOf};

const ANOTHER: Duration = Duration::from_millis(1);

impl Lab {
    /// The SYN-ACK of a new connection is on hold after this.
    pub(super) fn until_held(&mut self) -> (Endpoint, Endpoint) {
        self.client(SYN, 100, 0, b"");
        let syn = self.next().packet();
        let verdict = self.server(syn.destination(), syn.source(), (SYN_ACK, 500, 101), b"");
        assert_eq!(verdict, Verdict::Consumed);
        self.nothing();
        (syn.destination(), syn.source())
    }

    fn flow_mark(&self) -> FlowRef {
        match self.marks[..] {
            [Mark::Flow(flow)] => flow,
            _ => panic!("one flow mark expected: {:?}", self.marks),
        }
    }

    pub(super) fn records(&mut self) -> Vec<FlowRecord> {
        let mut cursor = 0;
        let mut found = Vec::new();
        loop {
            match self.engine.next_for_bulk(&mut cursor, 7) {
                BulkStep::Flow(flow) => found.push(self.engine.record(flow).expect("alive")),
                BulkStep::Kept | BulkStep::Scanned => {}
                BulkStep::Done => return found,
            }
        }
    }
}

#[test]
fn what_waits_is_counted_while_it_is_unprotected() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, true);
    let (server, source) = lab.until_held();
    assert_eq!((lab.engine.held_vservers().count(), lab.engine.counts().unprotected), (1, 1));
    // Queued behind its SYN-ACK; nothing is left to protect.
    lab.server(server, source, (RST, 501, 0), b"");
    let counts = lab.engine.counts();
    assert_eq!((counts.held, counts.unprotected), (1, 0));
    assert_eq!(lab.engine.held_vservers().count(), 0);
}

#[test]
fn a_strict_hold_keeps_the_syn_ack_until_the_peer_has_the_flow() {
    for net in [v4(), v6()] {
        for plan in [plan(&net), usip_plan(&net)] {
            let mut lab = Lab::new(net, plan);
            lab.mirror(1, true);
            let (server, source) = lab.until_held();
            assert_eq!((lab.engine.counts().held, lab.engine.counts().unprotected), (1, 1));
            let flow = lab.flow_mark();
            let record = lab.engine.record(flow).expect("alive");
            assert_eq!((record.client, record.vip), (net.client, net.vip));
            assert_eq!((record.server, record.source, record.phase), (server, source, Phase::Opening));
            assert_eq!((record.client_idle_s, record.server_idle_s), (180, 300));
            assert!(record.stamp > 0);

            only_changed(
                &mut lab,
                |lab| {
                    lab.engine.handle_ack(lab.now, flow, record.stamp);
                    lab.settle();
                },
                &[("hold_released_by_ack", 1), ("transmitted", 1)],
            );
            let answer = lab.next();
            assert_eq!((answer.port, answer.macs()), (CLIENT_PORT, (CLIENT_MAC, OWN_MACS[0])));
            assert_eq!((answer.tcp().flags, answer.packet().source()), (SYN_ACK, net.vip));
            assert_eq!((lab.engine.counts().held, lab.engine.counts().protected), (0, 1));
            assert_eq!(lab.client(ACK, 101, 501, b""), Verdict::Forward(SERVER_PORT));
            assert_eq!(lab.marks.len(), 1, "established packets mark nothing");
        }
    }
}

#[test]
fn a_vserver_counts_which_of_its_flows_the_peer_has() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let counted = |lab: &Lab| {
        let counters = lab.engine.vserver_counters(VSERVER);
        (counters.flows, counters.tracked, counters.protected)
    };
    lab.mirror(1, true);
    lab.until_held();
    assert_eq!(counted(&lab), (1, 1, 0));
    let flow = lab.flow_mark();
    let record = lab.engine.record(flow).expect("alive");
    lab.engine.handle_ack(lab.now, flow, record.stamp);
    assert_eq!(counted(&lab), (1, 1, 1));
    lab.mirror(2, true);
    assert_eq!(counted(&lab), (1, 1, 0), "another session begins with nothing");

    let mut standby = Lab::new(v4(), plan(&v4()));
    standby.engine.apply_record(standby.now, &record, 1);
    assert_eq!(counted(&standby), (1, 1, 0));
    standby.engine.clear(standby.now);
    assert_eq!(counted(&standby), (0, 0, 0));
}

#[test]
fn what_the_server_sends_behind_the_hold_leaves_in_order() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, true);
    let (server, source) = lab.until_held();
    assert_eq!(lab.server(server, source, (SYN_ACK, 500, 101), b""), Verdict::Drop(Drop::HoldDuplicate));
    for n in 0..63u8 {
        assert_eq!(lab.server(server, source, (ACK, 501 + u32::from(n), 101), &[n]), Verdict::Consumed);
    }
    assert_eq!(lab.server(server, source, (ACK, 564, 101), b"x"), Verdict::Drop(Drop::HoldQueueFull));
    assert_eq!(lab.client(SYN, 100, 0, b""), Verdict::Forward(SERVER_PORT), "the client's direction is free");
    lab.next();
    lab.acknowledge();
    assert_eq!(lab.next().tcp().flags, SYN_ACK);
    for n in 0..63 {
        assert_eq!(lab.next().tcp().seq, 501 + n);
    }
    lab.nothing();
}

#[test]
fn a_hold_ends_unprotected_after_a_second_and_is_counted() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, true);
    lab.until_held();
    lab.pass(Duration::from_millis(999));
    lab.nothing();
    lab.pass(Duration::from_millis(2));
    assert_eq!(lab.next().tcp().flags, SYN_ACK);
    assert_eq!(lab.engine.counters().hold_released_unprotected, 1);
    assert_eq!(lab.engine.counts().unprotected, 1);
    lab.acknowledge();
    assert_eq!(lab.engine.counts().protected, 1, "repaired by a late ack");
    assert_eq!(lab.engine.counters().hold_released_by_ack, 0);
}

#[test]
fn when_the_peer_is_declared_gone_all_holds_end() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, true);
    lab.until_held();
    lab.engine.set_mirroring(lab.now, Mirroring::Off);
    lab.settle();
    assert_eq!(lab.next().tcp().flags, SYN_ACK);
    assert_eq!(lab.engine.counters().hold_released_unprotected, 1);
    assert_eq!(lab.engine.counts().held, 0);
}

#[test]
fn a_thousand_holds_end_in_bounded_turns() {
    let net = v4();
    let mut lab = Lab::with_limits(net, plan(&net), Limits { max_flows: 2000, ..Limits::default() });
    lab.mirror(1, true);
    for n in 0..1000 {
        lab.net.client.port = 1000 + n;
        lab.until_held();
    }
    lab.engine.set_mirroring(lab.now, Mirroring::Off);
    assert!(lab.engine.counts().held >= 800, "{:?}", lab.engine.counts());
    for _ in 0..20 {
        assert!(lab.engine.poll_timeout().is_some());
        lab.engine.handle_timeout(lab.now);
    }
    lab.settle();
    assert_eq!(lab.engine.counters().hold_released_unprotected, 1000);
    assert_eq!(lab.sent.len(), 1000);
    lab.net.client.port = 1000;
    assert_eq!(lab.client(ACK, 101, 501, b""), Verdict::Forward(SERVER_PORT));
}

#[test]
fn nothing_leaves_through_a_closed_gate_though_a_hold_ends() {
    for by_ack in [true, false] {
        let mut lab = Lab::new(v4(), plan(&v4()));
        lab.mirror(1, true);
        lab.until_held();
        lab.engine.set_gate(lab.now, Gate::Closed);
        if by_ack {
            lab.acknowledge();
        } else {
            lab.pass(Duration::from_secs(2));
        }
        assert_eq!(lab.engine.counts().held, 0);
        lab.engine.set_gate(lab.now, Gate::Open);
        // Nor does it wait for its neighbour until the gate is open again (simulation seed 111).
        lab.pass(Duration::from_secs(1));
        lab.nothing();
    }
}

#[test]
fn an_ack_of_an_older_stamp_releases_nothing() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, true);
    lab.until_held();
    let flow = lab.flow_mark();
    let stamp = lab.engine.record(flow).expect("alive").stamp;
    lab.engine.handle_ack(lab.now, flow, stamp - 1);
    lab.settle();
    lab.nothing();
    let gone = FlowRef { generation: flow.generation + 1, ..flow };
    lab.engine.handle_ack(lab.now, gone, stamp);
    lab.settle();
    lab.nothing();
}

#[test]
fn a_new_session_marks_held_flows_again_and_unprotects_all_others() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, true);
    lab.until_held();
    lab.acknowledge();
    lab.next();
    lab.net.client.port += 1;
    lab.until_held();
    assert_eq!((lab.engine.counts().protected, lab.engine.counts().unprotected), (1, 1));
    lab.marks.clear();
    lab.mirror(2, true);
    assert_eq!((lab.engine.counts().protected, lab.engine.counts().unprotected), (0, 2));
    assert_eq!(lab.marks.len(), 1, "the held flow");
    lab.acknowledge();
    assert_eq!(lab.next().tcp().flags, SYN_ACK);
}

#[test]
fn asynchronous_mirroring_marks_and_holds_nothing() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, false);
    lab.establish();
    assert_eq!(lab.marks.len(), 1);
    assert_eq!((lab.engine.counts().unprotected, lab.engine.counts().held), (1, 0));
    lab.acknowledge();
    assert_eq!(lab.engine.counts().protected, 1);
}

#[test]
fn flows_of_other_vservers_are_neither_marked_nor_held() {
    for failover in [ConnFailover::Disabled, ConnFailover::Stateless] {
        let mut lab = Lab::new(v4(), with_failover(plan(&v4()), failover));
        lab.mirror(1, true);
        lab.establish();
        assert!(lab.marks.is_empty());
        assert_eq!((lab.engine.counts().protected, lab.engine.counts().unprotected), (0, 0));
        assert!(lab.records().is_empty());
    }
}

#[test]
fn a_refused_connection_is_never_marked() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, true);
    lab.client(SYN, 100, 0, b"");
    let syn = lab.next().packet();
    lab.server(syn.destination(), syn.source(), (TcpFlags(0x14), 0, 101), b"");
    assert!(lab.next().tcp().flags.rst());
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.engine.counts().flows, 0);
    assert!(lab.marks.is_empty());
}

#[test]
fn a_hold_that_finds_no_room_is_tried_again_by_the_retransmission() {
    let net = v4();
    let limits = Limits { max_flows: 16, held_bytes: 60, ..Limits::default() };
    let mut lab = Lab::with_limits(net, plan(&net), limits);
    lab.mirror(1, true);
    lab.until_held();
    lab.net.client.port += 1;
    lab.client(SYN, 100, 0, b"");
    let syn = lab.next().packet();
    let (server, source) = (syn.destination(), syn.source());
    assert_eq!(lab.server(server, source, (SYN_ACK, 9, 101), b""), Verdict::Drop(Drop::HoldQueueFull));
    lab.marks.truncate(1);
    lab.acknowledge();
    lab.next();
    assert_eq!(lab.server(server, source, (SYN_ACK, 9, 101), b""), Verdict::Consumed);
    lab.nothing();
    assert_eq!((lab.engine.counts().held, lab.engine.counts().protected, lab.engine.counts().unprotected), (1, 1, 1));
}

#[test]
fn a_flow_acknowledged_before_its_hold_found_room_needs_none() {
    let net = v4();
    let limits = Limits { max_flows: 16, held_bytes: 0, ..Limits::default() };
    let mut lab = Lab::with_limits(net, plan(&net), limits);
    lab.mirror(1, true);
    lab.client(SYN, 100, 0, b"");
    let syn = lab.next().packet();
    let (server, source) = (syn.destination(), syn.source());
    assert_eq!(lab.server(server, source, (SYN_ACK, 9, 101), b""), Verdict::Drop(Drop::HoldQueueFull));
    lab.acknowledge();
    assert_eq!(lab.server(server, source, (SYN_ACK, 9, 101), b""), Verdict::Forward(CLIENT_PORT));
    assert_eq!((lab.engine.counts().protected, lab.engine.counts().unprotected), (1, 0));
    lab.client(ACK, 101, 10, b"");
    lab.finish(server, source);
    lab.pass(Duration::from_secs(60));
    assert_eq!((lab.engine.counts().protected, lab.engine.counts().unprotected), (0, 0));
}

#[test]
fn a_sender_that_hears_a_record_adopts_it_and_passes_it_on() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, false);
    let record = lab.records()[0];
    let mut other = lab.standby(plan(&net));
    other.engine.set_gate(other.now, Gate::Open);
    other.mirror(2, true);
    assert_eq!(other.engine.apply_record(other.now, &record, 1), Applied::Stored);
    other.settle();
    assert_eq!(other.engine.digest(), 0, "not written yet");
    other.acknowledge();
    assert_eq!((other.engine.counts().protected, other.engine.counts().in_session), (1, 1));
}

#[test]
fn the_end_of_a_written_flow_is_marked_and_leaves_the_digest() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, false);
    let (server, source) = lab.establish();
    lab.acknowledge();
    assert_ne!(lab.engine.digest(), 0);
    lab.finish(server, source);
    lab.pass(Duration::from_secs(41));
    let [Mark::Closed(_, close)] = lab.marks[..] else { panic!("{:?}", lab.marks) };
    assert_eq!((close.key.src, close.key.dst), (lab.net.client, lab.net.vip));
    assert_eq!((lab.engine.digest(), lab.engine.counts().in_session), (0, 0));
    assert_eq!((lab.engine.counts().protected, lab.engine.counts().unprotected), (0, 0));
}

#[test]
fn a_mirrored_flow_continues_on_the_other_node_with_its_server_and_port() {
    for net in [v4(), v6()] {
        for plan in [plan(&net), usip_plan(&net)] {
            let mut lab = Lab::new(net, plan.clone());
            let (server, source) = lab.establish();
            let mut other = lab.standby(plan);
            lab.mirror(5, true);
            for record in lab.records() {
                assert_eq!(other.engine.apply_record(other.now, &record, 5), Applied::Stored);
            }
            assert_eq!(other.engine.digest(), lab.engine.digest());
            assert_eq!(other.client(ACK, 101, 501, b"x"), Verdict::Drop(Drop::GateClosed));

            other.engine.set_gate(other.now, Gate::Open);
            other.engine.promote(other.now);
            other.client(ACK, 101, 501, b"x");
            let data = other.next().packet();
            assert_eq!((data.source(), data.destination()), (source, server));
            other.server(server, source, (ACK, 501, 102), b"y");
            let answer = other.next().packet();
            assert_eq!((answer.source(), answer.destination()), (net.vip, net.client));
            let counters = other.engine.vserver_counters(VSERVER);
            assert_eq!((counters.hits, counters.flows, counters.established), (0, 1, 1));
        }
    }
}

#[test]
fn a_flow_lost_before_its_syn_ack_arrived_opens_on_the_other_node() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let mut other = lab.standby(plan(&net));
    lab.mirror(1, true);
    let (server, source) = lab.until_held();
    let record = lab.engine.record(lab.flow_mark()).expect("alive");
    other.engine.apply_record(other.now, &record, 1);
    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    other.client(SYN, 100, 0, b"");
    let syn = other.next().packet();
    assert_eq!((syn.source(), syn.destination()), (source, server));
    other.server(server, source, (SYN_ACK, 500, 101), b"");
    assert_eq!(other.next().tcp().flags, SYN_ACK);
    other.client(ACK, 101, 501, b"");
    assert_eq!(other.next().packet().destination(), server);
}

#[test]
fn the_standby_expires_nothing_and_promotion_grants_a_full_time_out() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    let mut other = lab.standby(plan(&net));
    lab.mirror(1, true);
    for record in lab.records() {
        other.engine.apply_record(other.now, &record, 1);
    }
    other.pass(Duration::from_secs(1000));
    assert_eq!(other.engine.counts().flows, 1);
    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    other.pass(Duration::from_secs(299));
    assert_eq!(other.engine.counts().flows, 1);
    other.pass(Duration::from_secs(302));
    assert_eq!((other.engine.counts().flows, other.engine.counts().leases), (0, 0));
}

#[test]
fn stamps_continue_above_the_largest_seen() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, false);
    let mut record = lab.records()[0];
    record.stamp = 1_000_000;
    let mut other = lab.standby(plan(&net));
    other.engine.apply_record(other.now, &record, 1);
    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    other.mirror(2, false);
    other.net.client.port = 50_000;
    other.client(SYN, 1, 0, b"");
    let syn = other.next().packet();
    other.server(syn.destination(), syn.source(), (SYN_ACK, 5, 2), b"");
    let flow = other.flow_mark();
    assert!(other.engine.record(flow).expect("alive").stamp > 1_000_000);
}

#[test]
fn a_mirrored_port_is_not_leased_again() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let (server, source) = lab.establish();
    lab.mirror(1, false);
    let record = lab.records()[0];
    let mut other = lab.standby(plan(&net));
    other.engine.apply_record(other.now, &record, 1);
    other.engine.set_gate(other.now, Gate::Open);
    for n in 0..200 {
        other.net.client.port = 50_000 + n;
        other.client(SYN, 1, 0, b"");
        let syn = other.next().packet();
        assert_ne!((syn.source(), syn.destination()), (source, server));
    }
}

#[test]
fn older_and_equal_records_change_nothing_and_a_newer_one_of_the_same_key_wins() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, false);
    let record = FlowRecord { stamp: 10, ..lab.records()[0] };
    let mut other = lab.standby(plan(&net));
    let now = other.now;
    assert_eq!(other.engine.apply_record(now, &record, 1), Applied::Stored);
    assert_eq!(other.engine.apply_record(now, &record, 1), Applied::Refreshed);
    let Applied::Older(ours) = other.engine.apply_record(now, &FlowRecord { stamp: 9, ..record }, 1) else { panic!() };
    assert_eq!(ours, FlowRecord { phase: ours.phase, ..record });
    let moved = FlowRecord { stamp: 11, server: net.servers[1], ..record };
    assert_eq!(other.engine.apply_record(now, &moved, 1), Applied::Stored);
    let counts = other.engine.counts();
    assert_eq!((counts.flows, counts.leases, counts.in_session, counts.unprotected), (1, 1, 1, 1));
    assert_eq!(other.engine.service_counters(SERVICES[0]).flows, 0);
    assert_eq!(other.engine.service_counters(SERVICES[1]).flows, 1);
}

#[test]
fn two_clients_that_claim_one_port_are_settled_by_the_larger_stamp() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, false);
    let first = FlowRecord { stamp: 10, ..lab.records()[0] };
    let second = FlowRecord { stamp: 11, client: Endpoint { port: 1, ..first.client }, ..first };
    let mut other = lab.standby(plan(&net));
    let now = other.now;
    other.engine.apply_record(now, &first, 1);
    assert_eq!(other.engine.apply_record(now, &second, 1), Applied::Stored);
    assert!(matches!(other.engine.apply_record(now, &first, 1), Applied::Older(_)));
    assert_eq!((other.engine.counts().flows, other.engine.counters().record_conflicts), (1, 2));
}

#[test]
fn a_close_removes_the_flow_unless_ours_is_newer() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.mirror(1, false);
    let record = FlowRecord { stamp: 10, ..lab.records()[0] };
    let mut other = lab.standby(plan(&net));
    let now = other.now;
    other.engine.apply_record(now, &record, 1);
    let close = |stamp| crate::FlowClose { stamp, key: record.client_key() };
    other.engine.apply_close(now, &close(10), 1);
    assert_eq!(other.engine.counts().flows, 1);
    other.engine.apply_close(now, &close(11), 1);
    let counts = other.engine.counts();
    assert_eq!((counts.flows, counts.leases, counts.in_session, other.engine.digest()), (0, 0, 0, 0));
}

#[test]
fn records_that_come_before_the_configuration_are_bound_when_it_comes() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let (server, _) = lab.establish();
    lab.mirror(1, false);
    let record = lab.records()[0];
    let mut bare = plan(&net);
    (bare.vservers, bare.services) = (Vec::new(), Vec::new());
    let mut other = lab.standby(bare);
    other.engine.apply_record(other.now, &record, 1);
    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    other.client(ACK, 101, 501, b"");
    assert_eq!(other.next().packet().destination(), server, "forwarded by address");
    assert_eq!(other.engine.vserver_counters(VSERVER).flows, 0);
    other.set_plan(plan(&net));
    other.client(ACK, 101, 501, b"");
    assert_eq!(other.engine.vserver_counters(VSERVER).flows, 1);
    assert_eq!(other.engine.service_counters(SERVICES[0]).flows, 1);
}

/// The plan with other numbers for all that it has.
fn renumbered(mut plan: Plan) -> Plan {
    plan.services.iter_mut().for_each(|service| service.id.0 += 100);
    for vserver in &mut plan.vservers {
        vserver.id.0 += 100;
        vserver.services.iter_mut().for_each(|binding| binding.service.0 += 100);
    }
    plan
}

/// Simulation seed 273: a secondary takes over the primary's configuration, and
/// what it knows is told to its own successor all the same.
#[test]
fn flows_stay_with_what_has_their_address_under_another_number() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.set_plan(renumbered(plan(&net)));
    lab.mirror(2, false);
    assert_eq!(lab.records().len(), 1);
    let counters = lab.engine.vserver_counters(VserverId(VSERVER.0 + 100));
    assert_eq!((counters.flows, counters.tracked, counters.hits), (1, 1, 0));
    assert_eq!(lab.engine.service_counters(ServiceId(SERVICES[0].0 + 100)).flows, 1);
    assert_eq!(lab.engine.vserver_counters(VSERVER).flows, 0);
    // The operator removes the vserver and adds it again.
    lab.set_plan(Plan { vservers: Vec::new(), services: Vec::new(), ..plan(&net) });
    lab.mirror(3, false);
    assert_eq!(lab.records().len(), 1, "nobody's flow lives on, and so does its copy");
    lab.set_plan(plan(&net));
    lab.mirror(4, false);
    assert_eq!(lab.records().len(), 1);
}

#[test]
fn a_flow_that_outlives_a_reset_is_told_to_the_peer_again() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let (server, source) = lab.establish();
    lab.mirror(1, false);
    lab.client(RST, 101, 0, b"");
    assert_eq!(lab.records().len(), 0, "a bulk skips it");
    lab.marks.clear();
    lab.server(server, source, (ACK, 501, 101), b"the reset was not for me");
    let flow = lab.flow_mark();
    assert_eq!(lab.engine.record(flow).map(|record| record.phase), Some(Phase::Established));
}

#[test]
fn a_mark_that_finds_no_room_asks_for_another_session() {
    let mut lab = Lab::with_limits(v4(), plan(&v4()), Limits { max_marks: 0, ..Limits::default() });
    lab.mirror(1, true);
    lab.until_held();
    assert!(lab.engine.needs_session());
    assert_eq!((lab.engine.counters().marks_lost, lab.marks.len()), (1, 0));
    lab.engine.set_mirroring(lab.now, Mirroring::Off);
    assert!(!lab.engine.needs_session());
}

#[test]
fn a_full_standby_gives_up_what_the_session_does_not_speak_of() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    for n in 0..16 {
        lab.net.client.port = 1000 + n;
        lab.establish();
    }
    lab.mirror(1, false);
    let (old, young): (Vec<_>, Vec<_>) = lab.records().into_iter().partition(|record| record.client.port < 1008);
    let mut other = Lab::with_limits(net, plan(&net), Limits { max_flows: 8, ..Limits::default() });
    other.engine.set_gate(other.now, Gate::Closed);
    old.iter().for_each(|record| assert_eq!(other.engine.apply_record(other.now, record, 1), Applied::Stored));
    other.engine.begin_session(2);
    young.iter().for_each(|record| assert_eq!(other.engine.apply_record(other.now, record, 2), Applied::Stored));
    assert_eq!((other.engine.counts().flows, other.engine.counts().stale), (8, 0));
    assert_eq!(other.engine.counters().stale_evicted, 8);
    assert_eq!(other.engine.apply_record(other.now, &old[0], 2), Applied::Full, "all are of this session");
}

#[test]
fn bulk_offers_each_flow_once_per_session_and_skips_half_open_ones() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    for n in 0..20 {
        lab.net.client.port = 1000 + n;
        lab.establish();
    }
    lab.net.client.port = 2000;
    lab.client(SYN, 1, 0, b"");
    lab.mirror(1, false);
    assert_eq!(lab.records().len(), 20);
    assert_eq!(lab.records().len(), 0);
    assert_eq!(lab.engine.counts().in_session, 20);
    lab.mirror(2, false);
    assert_eq!(lab.engine.digest(), 0);
    assert_eq!(lab.records().len(), 20);
}

#[test]
fn flows_that_the_new_session_does_not_speak_of_are_swept() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.net.client.port += 1;
    lab.establish();
    lab.mirror(1, false);
    let records = lab.records();
    let mut other = lab.standby(plan(&net));
    for record in &records {
        other.engine.apply_record(other.now, record, 1);
    }
    other.engine.begin_session(2);
    assert_eq!((other.engine.counts().stale, other.engine.digest()), (2, 0));
    other.engine.apply_record(other.now, &records[1], 2);
    while !other.engine.sweep_stale(1) {}
    assert_eq!((other.engine.counts().flows, other.engine.counts().leases), (1, 1));
    assert_eq!(other.engine.counts().stale, 0);
}

#[test]
fn clearing_forgets_everything_at_once() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, true);
    lab.until_held();
    lab.engine.clear(lab.now);
    let counts = lab.engine.counts();
    assert_eq!((counts.flows, counts.leases, counts.held, counts.unprotected), (0, 0, 0, 0));
    assert_eq!(lab.engine.vserver_counters(VSERVER).flows, 0);
    lab.pass(Duration::from_secs(400));
    lab.marks.clear();
    lab.engine.set_mirroring(lab.now, Mirroring::Off);
    lab.sent.clear();
    lab.establish();
    assert_eq!(lab.engine.counts().flows, 1);
}

#[test]
fn persistence_reaches_the_other_node_by_mark_and_by_bulk() {
    let net = v4();
    let mut sticky = with_failover(plan(&net), ConnFailover::Stateless);
    sticky.vservers[0].persistence = by_source(60);
    let mut lab = Lab::new(net, sticky.clone());
    lab.mirror(1, true);
    lab.establish();
    let [Mark::Persistence(record)] = lab.marks[..] else { panic!("{:?}", lab.marks) };
    assert_eq!(record.server, Some(net.servers[0]));
    assert_eq!((record.vip, record.of, record.proto), (net.vip, SessionOf::Source(net.client.addr), 0));
    assert_eq!(sessions(&mut lab), []);
    lab.mirror(2, true);
    assert_eq!(sessions(&mut lab), [record]);

    let mut other = lab.standby(sticky);
    other.engine.apply_persistence(other.now, &record, 2);
    other.engine.set_health(other.now, SERVICES[0], true);
    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    for n in 0..3 {
        other.net.client.port = 1 + n;
        assert_eq!(other.establish().0, net.servers[0]);
    }
    other.pass(ANOTHER);
    other.engine.apply_persistence(other.now, &PersistenceRecord { server: None, stamp: u64::MAX / 2, ..record }, 2);
    assert_eq!(other.engine.counts().persistence, 0);
}

fn sessions(lab: &mut Lab) -> Vec<PersistenceRecord> {
    let mut cursor = 0;
    let mut found = Vec::new();
    loop {
        match lab.engine.persistence_for_bulk(&mut cursor, 1) {
            PersistenceStep::Session(record) => found.push(record),
            PersistenceStep::Scanned => {}
            PersistenceStep::Done => return found,
        }
    }
}

#[test]
fn a_draining_node_forwards_what_it_knows_and_opens_nothing() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    lab.engine.set_gate(lab.now, Gate::Draining);
    assert_eq!(lab.client(ACK, 101, 501, b""), Verdict::Forward(SERVER_PORT));
    lab.net.client.port += 1;
    assert_eq!(lab.client(SYN, 1, 0, b""), Verdict::Drop(Drop::Draining));
    assert_eq!(lab.client(ACK, 1, 1, b""), Verdict::Drop(Drop::Draining));
}

#[test]
fn a_promoted_node_announces_its_addresses_and_a_closed_one_is_silent() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.engine.set_gate(lab.now, Gate::Closed);
    lab.pass(Duration::from_secs(2));
    assert!(lab.engine.poll_transmit().is_none());
    lab.engine.set_gate(lab.now, Gate::Open);
    lab.engine.promote(lab.now);
    lab.engine.handle_timeout(lab.now);
    let mut announced = std::collections::BTreeSet::new();
    while let Some(frame) = lab.engine.poll_transmit() {
        if let Ok((_, Parsed::Arp(arp))) = parse(&frame.bytes[..]) {
            announced.insert(arp.sender);
        }
    }
    assert_eq!(announced, [net.vip.addr, net.snip].into());
}

/// Simulation seed 369: the session's record was lost with the primary, the flow's was not.
#[test]
fn a_mirrored_flow_implies_the_persistence_session_that_chose_its_server() {
    let net = v4();
    let mut sticky = plan(&net);
    sticky.vservers[0].persistence = by_source(60);
    let mut lab = Lab::new(net, sticky.clone());
    lab.mirror(1, false);
    lab.establish();
    let record = lab.records()[0];
    let mut other = lab.standby(sticky);
    assert_eq!(other.engine.apply_record(other.now, &record, 1), Applied::Stored);
    assert_eq!(other.engine.counts().persistence, 1);
    let moved = PersistenceRecord {
        stamp: 2,
        vip: net.vip,
        proto: 0,
        of: SessionOf::Source(net.client.addr),
        server: Some(net.servers[1]),
    };
    other.engine.apply_persistence(other.now, &moved, 1);
    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    other.net.client.port = 1;
    assert_eq!(other.establish().0, net.servers[1], "what the primary says of it wins");
}

/// An established connection of `net` on a node that has just taken over, with its server and source.
fn taken_over(net: Net) -> (Lab, Endpoint, Endpoint) {
    let mut lab = Lab::new(net, plan(&net));
    let (server, source) = lab.establish();
    let mut other = lab.standby(plan(&net));
    lab.mirror(5, true);
    for record in lab.records() {
        other.engine.apply_record(other.now, &record, 5);
    }
    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    (other, server, source)
}

#[test]
fn after_a_takeover_a_forged_reset_ends_no_idle_connection() {
    for by_client in [true, false] {
        let (mut lab, server, source) = taken_over(v4());
        let reset = |lab: &mut Lab, seq| {
            if by_client { lab.client(RST, seq, 0, b"") } else { lab.server(server, source, (RST, seq, 0), b"") }
        };
        assert!(matches!(reset(&mut lab, 0), Verdict::Forward(_) | Verdict::Consumed), "the end itself decides");
        lab.pass(Duration::from_secs(100));
        assert_eq!((lab.engine.counts().flows, lab.engine.counters().resets_doubted), (1, 1));
    }
}

#[test]
fn after_a_takeover_a_close_counts_when_the_other_end_has_acknowledged_it() {
    let (mut lab, server, source) = taken_over(v4());
    lab.client(FIN_ACK, 101, 501, b"");
    assert_eq!(lab.engine.vserver_counters(VSERVER).established, 1, "nothing is known of the stream yet");
    lab.server(server, source, (FIN_ACK, 501, 102), b"");
    lab.client(ACK, 102, 502, b"");
    lab.pass(Duration::from_secs(41));
    assert_eq!(lab.engine.counts().flows, 0);
}

#[test]
fn the_peer_forgets_a_connection_as_soon_as_it_is_closed() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, false);
    let (server, source) = lab.establish();
    lab.acknowledge();
    assert_eq!((lab.engine.counts().protected, lab.engine.counts().in_session), (1, 1));
    lab.finish(server, source);
    assert!(matches!(lab.marks[..], [Mark::Closed(Some(_), _)]), "{:?}", lab.marks);
    let counts = lab.engine.counts();
    assert_eq!((counts.flows, counts.in_session, counts.protected, counts.unprotected), (1, 0, 0, 0));
    lab.marks.clear();
    assert!(lab.records().is_empty(), "bulk does not bring it back");
    lab.pass(Duration::from_secs(41));
    assert_eq!(lab.engine.counts().flows, 0);
    assert!(lab.marks.is_empty(), "told once: {:?}", lab.marks);
}

#[test]
fn a_reset_connection_does_not_count_as_one_that_could_be_lost() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    let (server, source) = lab.establish();
    assert_eq!(lab.engine.counts().unprotected, 1);
    lab.server(server, source, (RST, 501, 0), b"");
    assert_eq!(lab.engine.counts().unprotected, 0);
}
