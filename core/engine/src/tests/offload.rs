//! Copies of rewrites in a fast path: when a flow gets them, loses them, and what their use says.

use super::*;
use crate::{FlowKey, L2Disc, OffloadEntry, OffloadOrder, OffloadUse};
use holdfast_wire::{Rewrite, apply, rewrite, set_macs};

fn key(src: Endpoint, dst: Endpoint) -> FlowKey {
    FlowKey { proto: 6, l2: L2Disc(0), src, dst }
}

/// A lab with a fast path, and what that was told at first: an epoch.
fn lab(net: Net, plan: Plan) -> (Lab, u32) {
    let mut lab = Lab::new(net, plan);
    lab.engine.set_offload(true);
    let orders = orders(&mut lab);
    let [OffloadOrder::Epoch(epoch)] = orders[..] else { panic!("an epoch, not {orders:?}") };
    (lab, epoch)
}

fn orders(lab: &mut Lab) -> Vec<OffloadOrder> {
    std::iter::from_fn(|| lab.engine.poll_offload(lab.now)).collect()
}

/// Both copies of a flow, client's side first; nothing else must have been ordered.
#[track_caller]
fn installed(lab: &mut Lab) -> [OffloadEntry; 2] {
    match orders(lab)[..] {
        [OffloadOrder::Install(client), OffloadOrder::Install(server)] => [client, server],
        ref other => panic!("two copies, not {other:?}"),
    }
}

fn disabled(net: &Net) -> Plan {
    with_failover(plan(net), ConnFailover::Disabled)
}

/// What a copy has been used for since it was put in.
fn used(lab: &Lab, key: FlowKey, bytes: u64, (end, ack): (u32, u32)) -> OffloadUse {
    OffloadUse { key, packets: bytes, bytes, used: Some(lab.now), end, ack, last: false }
}

#[test]
fn without_a_fast_path_nothing_is_ordered() {
    let mut lab = Lab::new(v4(), disabled(&v4()));
    lab.establish();
    assert_eq!(orders(&mut lab), []);
}

#[test]
fn a_flow_gets_both_copies_with_the_packet_that_establishes_it() {
    for net in [v4(), v6()] {
        let (mut lab, epoch) = lab(net, disabled(&net));
        lab.client(SYN, 100, 0, b"");
        let syn = lab.next().packet();
        let (source, server) = (syn.source(), syn.destination());
        lab.server(server, source, (SYN_ACK, 500, 101), b"");
        assert_eq!(orders(&mut lab), [], "the client has not answered");
        lab.client(ACK, 101, 501, b"");
        let [client, answer] = installed(&mut lab);
        let expected = OffloadEntry {
            key: key(net.client, net.vip),
            from_client: true,
            src: source,
            dst: server,
            port: SERVER_PORT,
            mtu: 1500,
            to: SERVER_MACS[usize::from(server == net.servers[1])],
            from: OWN_MACS[1],
            epoch,
            end: 101,
            ack: 501,
            replaces: false,
        };
        assert_eq!(client, expected);
        assert_eq!((answer.key, answer.src, answer.dst), (key(server, source), net.vip, net.client));
        assert!(!answer.from_client);
        assert_eq!((answer.port, answer.to, answer.from), (CLIENT_PORT, CLIENT_MAC, OWN_MACS[0]));
        lab.client(ACK, 101, 501, b"data");
        assert_eq!(orders(&mut lab), [], "once");
    }
}

#[test]
fn a_flow_gets_no_copies_before_it_has_lasted_for_some_packets() {
    let limits = Limits { offload_after: 3, ..Limits::default() };
    let mut lab = Lab::with_limits(v4(), disabled(&v4()), limits);
    lab.engine.set_offload(true);
    orders(&mut lab);
    lab.establish();
    for _ in 0..2 {
        lab.client(ACK, 101, 501, b"data");
        assert_eq!(orders(&mut lab), [], "it may be over in a moment");
    }
    lab.client(ACK, 101, 501, b"data");
    let [client, _] = installed(&mut lab);
    lab.set_plan(disabled(&v4()));
    orders(&mut lab);
    lab.client(ACK, 101, 501, b"data");
    assert_eq!(installed(&mut lab)[0].key, client.key, "one that had some has lasted");
}

#[test]
fn a_copy_says_what_the_engine_does() {
    let (mut lab, _) = lab(v6(), disabled(&v6()));
    lab.establish();
    let [copy, _] = installed(&mut lab);
    let link = Link::new(OWN_MACS[0], CLIENT_MAC);
    let mut bytes = tcp_bytes(link, lab.net.client, lab.net.vip, (ACK, 101, 501), b"data");
    lab.give(CLIENT_PORT, bytes.clone());
    let (_, Parsed::Ip(packet)) = parse(&bytes[..]).expect("well-formed") else { panic!("IP") };
    let wanted = Rewrite { src: copy.src, dst: copy.dst, decrement_ttl: true };
    assert!(apply(&mut bytes[..], &rewrite(&packet, &wanted), holdfast_wire::Checksum::Complete));
    set_macs(&mut bytes, copy.to, copy.from);
    assert_eq!(lab.next().bytes, bytes);
}

#[test]
fn a_held_flow_gets_copies_when_its_peer_has_it() {
    let (mut lab, _) = lab(v4(), plan(&v4()));
    lab.mirror(1, true);
    lab.client(SYN, 100, 0, b"");
    let syn = lab.next().packet();
    let (source, server) = (syn.source(), syn.destination());
    lab.server(server, source, (SYN_ACK, 500, 101), b"");
    assert_eq!(orders(&mut lab), []);
    lab.acknowledge();
    lab.client(ACK, 101, 501, b"");
    installed(&mut lab);
}

#[test]
fn the_first_datagram_that_leaves_brings_copies() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    let (client, vip) = (lab.net.client, lab.net.vip);
    lab.datagram(CLIENT_PORT, client, vip, b"question");
    assert_eq!(orders(&mut lab), [], "it waits for the server's Ethernet address");
    lab.datagram(CLIENT_PORT, client, vip, b"question");
    let [question, _] = installed(&mut lab);
    assert_eq!(question.key.proto, 17);
}

#[test]
fn a_fin_takes_the_copies_out() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    let (server, source) = lab.establish();
    installed(&mut lab);
    lab.client(FIN_ACK, 101, 501, b"");
    let (client, vip) = (lab.net.client, lab.net.vip);
    let out = [OffloadOrder::Remove(key(client, vip)), OffloadOrder::Remove(key(server, source))];
    assert_eq!(orders(&mut lab), out);
    lab.server(server, source, (FIN_ACK, 501, 102), b"");
    lab.client(ACK, 102, 502, b"");
    assert_eq!(orders(&mut lab), [], "once");
}

#[test]
fn a_reset_that_is_believed_takes_them_out_and_a_forged_one_does_not() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    lab.establish();
    installed(&mut lab);
    lab.client(RST, 77_777, 0, b"");
    assert_eq!(orders(&mut lab), []);
    lab.client(RST, 101, 0, b"");
    assert_eq!(orders(&mut lab).len(), 2);
}

#[test]
fn a_fin_is_believed_by_what_the_copies_have_seen() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    let (server, source) = lab.establish();
    let [client, answer] = installed(&mut lab);
    // Far more has passed elsewhere than the engine takes for a leap.
    let (sent, acked) = (101 + (500 << 20), 501 + (900 << 20));
    let reports = [used(&lab, client.key, 10, (sent, acked)), used(&lab, answer.key, 10, (acked, sent))];
    reports.iter().for_each(|report| lab.engine.handle_use(lab.now, report));
    lab.client(FIN_ACK, sent, acked, b"");
    lab.server(server, source, (FIN_ACK, acked, sent + 1), b"");
    lab.client(ACK, sent + 1, acked + 1, b"");
    assert_eq!(lab.engine.counters().fins_doubted, 0);
    let row = |lab: &Lab| {
        let (mut rows, mut cursor) = (Vec::new(), 0);
        lab.engine.connections(lab.now, &mut cursor, 16, &mut rows);
        rows[0].state
    };
    assert_eq!(row(&lab), "TIME_WAIT");
}

#[test]
fn use_keeps_a_flow_alive_and_is_counted_once() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    lab.establish();
    let [client, answer] = installed(&mut lab);
    let traffic = |lab: &Lab| {
        let counters = lab.engine.vserver_counters(VSERVER);
        (counters.traffic.client_bytes, counters.traffic.server_bytes)
    };
    let before = traffic(&lab);
    for round in 1..=10 {
        lab.pass(Duration::from_secs(60));
        let report = used(&lab, client.key, 1000 * round, (101, 501));
        lab.engine.handle_use(lab.now, &report);
    }
    let report = used(&lab, answer.key, 7, (501, 101));
    lab.engine.handle_use(lab.now, &report);
    assert_eq!(lab.engine.counts().flows, 1);
    assert_eq!(traffic(&lab), (before.0 + 10_000, before.1 + 7));
    lab.pass(Duration::from_secs(305));
    assert_eq!(lab.engine.counts().flows, 0, "nothing has been used since");
    assert_eq!(orders(&mut lab).len(), 2);
    lab.engine.handle_use(lab.now, &OffloadUse { last: true, ..report });
}

#[test]
fn a_flow_that_seems_idle_is_asked_what_passed_elsewhere_before_it_ends() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    lab.establish();
    let [client, _] = installed(&mut lab);
    // Nobody has reported for the whole time-out.
    let mut asked = Vec::new();
    for _ in 0..400 {
        lab.pass(Duration::from_secs(1));
        asked.extend(orders(&mut lab));
        if !asked.is_empty() {
            break;
        }
    }
    assert!(asked.contains(&OffloadOrder::Remove(client.key)) && asked.len() == 2, "{asked:?}");
    let last = OffloadUse { last: true, ..used(&lab, client.key, 9, (101, 501)) };
    lab.engine.handle_use(lab.now, &OffloadUse { used: Some(lab.now - Duration::from_secs(20)), ..last });
    lab.pass(Duration::from_secs(100));
    assert_eq!(lab.engine.counts().flows, 1, "it was used 20 s before it was asked");
    lab.pass(Duration::from_secs(300));
    assert_eq!(lab.engine.counts().flows, 0, "and not since");
}

#[test]
fn only_what_ends_a_copy_asks_for_its_use() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    lab.establish();
    let frame = |lab: &Lab, flags| {
        let link = Link::new(OWN_MACS[0], CLIENT_MAC);
        let (src, dst) = (lab.net.client, lab.net.vip);
        let segment = Segment { src, dst, seq: 101, ack: 501, flags, window: 500, mss: None, payload: b"" };
        let mut bytes = vec![0; build::MAX_REPLY];
        let len = build::tcp_segment(&mut bytes, link, &segment);
        bytes.truncate(len);
        bytes
    };
    let [client, answer] = installed(&mut lab);
    let asks = |lab: &Lab, flags| lab.engine.copies_to_ask(&frame(lab, flags));
    let both = Some([client.key, answer.key]);
    assert_eq!((asks(&lab, ACK), asks(&lab, SYN)), (None, None));
    assert_eq!((asks(&lab, FIN_ACK), asks(&lab, RST)), (both, both));
    lab.client(FIN_ACK, 101, 501, b"");
    assert_eq!(asks(&lab, FIN_ACK), None, "its copies are withdrawn");
}

#[test]
fn a_change_of_plan_makes_every_copy_stale_and_the_next_packet_renews_it() {
    let (mut lab, epoch) = lab(v4(), disabled(&v4()));
    lab.establish();
    installed(&mut lab);
    lab.set_plan(disabled(&v4()));
    assert_eq!(orders(&mut lab), [OffloadOrder::Epoch(epoch + 1)]);
    lab.client(ACK, 101, 501, b"data");
    let [client, _] = installed(&mut lab);
    assert_eq!((client.epoch, client.replaces), (epoch + 1, true));
}

#[test]
fn a_neighbour_that_moves_all_the_time_makes_copies_stale_ten_times_a_second_at_most() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    lab.establish();
    installed(&mut lab);
    lab.pass(Duration::from_secs(2));
    let mut epochs = 0;
    for round in 0..100_u8 {
        let link = Link::new(MacAddr::BROADCAST, MacAddr([2, 0, 0, 0, 9, round]));
        let mut bytes = vec![0; build::MAX_REPLY];
        let len = build::arp_request(&mut bytes, link, lab.net.client.addr, lab.net.vip.addr);
        bytes.truncate(len);
        lab.give(CLIENT_PORT, bytes);
        epochs += orders(&mut lab).iter().filter(|order| matches!(order, OffloadOrder::Epoch(_))).count();
        lab.pass(Duration::from_millis(5));
    }
    assert!((2..=6).contains(&epochs), "{epochs} epochs in half a second");
}

#[test]
fn a_neighbour_that_moves_and_a_gate_that_closes_make_them_stale() {
    let (mut lab, epoch) = lab(v4(), disabled(&v4()));
    lab.establish();
    installed(&mut lab);
    let link = Link::new(MacAddr::BROADCAST, MacAddr([2, 0, 0, 0, 9, 9]));
    let mut bytes = vec![0; build::MAX_REPLY];
    lab.pass(Duration::from_secs(2));
    let len = build::arp_request(&mut bytes, link, lab.net.client.addr, lab.net.vip.addr);
    bytes.truncate(len);
    lab.give(CLIENT_PORT, bytes);
    assert_eq!(orders(&mut lab), [OffloadOrder::Epoch(epoch + 1)]);
    lab.engine.set_gate(lab.now, Gate::Closed);
    lab.engine.set_gate(lab.now, Gate::Open);
    let epochs = orders(&mut lab);
    let [OffloadOrder::Epoch(last)] = epochs[..] else { panic!("the latest epoch and no other, not {epochs:?}") };
    // Neighbours are asked again first, and what they answer may begin further epochs.
    for _ in 0..3 {
        lab.client(ACK, 101, 501, b"data");
    }
    let (mut valid, mut copies) = (last, 0);
    for order in orders(&mut lab) {
        match order {
            OffloadOrder::Epoch(epoch) => (valid, copies) = (epoch, 0),
            OffloadOrder::Install(copy) => copies += usize::from(copy.epoch == valid),
            OffloadOrder::Remove(_) | OffloadOrder::Sweep => panic!("the flow lives"),
        }
    }
    assert_eq!(copies, 2, "two copies of the latest epoch");
}

#[test]
fn clearing_leaves_nothing_valid_behind() {
    let (mut lab, epoch) = lab(v4(), disabled(&v4()));
    lab.establish();
    lab.engine.clear(lab.now);
    assert_eq!(orders(&mut lab), [OffloadOrder::Epoch(epoch + 1), OffloadOrder::Sweep]);
}

#[test]
fn a_round_names_the_copies_of_every_flow_that_has_some_once() {
    let (mut lab, _) = lab(v4(), disabled(&v4()));
    let round = |lab: &mut Lab| {
        let mut keys = Vec::new();
        lab.engine.next_copies(lab.now, &mut keys);
        lab.engine.next_copies(lab.now, &mut keys);
        lab.pass(Duration::from_secs(2));
        keys
    };
    lab.establish();
    let [client, answer] = installed(&mut lab);
    assert_eq!(round(&mut lab), [client.key, answer.key]);
    assert_eq!(round(&mut lab).len(), 2, "and again in the next round");
    lab.client(FIN_ACK, 101, 501, b"");
    assert_eq!(round(&mut lab), [], "its copies are withdrawn");
    lab.engine.clear(lab.now);
    assert_eq!(round(&mut lab), [], "it is gone");
}
