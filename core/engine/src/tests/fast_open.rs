//! SYNs with data (TCP Fast Open, RFC 7413): the server may act on them at once.

use super::*;

#[test]
fn a_syn_with_data_waits_until_the_peer_knows_its_flow() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.mirror(1, true);
        assert_eq!(lab.client(SYN, 100, 0, b"GET /"), Verdict::Consumed);
        lab.nothing();
        assert_eq!((lab.engine.counts().held, lab.engine.counts().unprotected), (1, 1));
        lab.acknowledge();
        let syn = lab.next();
        assert_eq!((syn.tcp().flags, syn.tcp().payload_len), (SYN, 5));
        let source = syn.packet().source();

        // The answer has nothing to wait for, nor has what the server says at once.
        let verdict = lab.server(syn.packet().destination(), source, (SYN_ACK, 500, 106), b"");
        assert_eq!(verdict, Verdict::Forward(CLIENT_PORT));
        assert_eq!(lab.next().tcp().flags, SYN_ACK);
        lab.server(syn.packet().destination(), source, (ACK, 501, 106), b"200");
        assert_eq!(lab.next().tcp().payload_len, 3);
        lab.client(ACK, 106, 504, b"");
        assert_eq!((lab.engine.counts().held, lab.engine.counts().protected), (0, 1));
        assert_eq!(lab.engine.counters().hold_released_by_ack, 1);
    }
}

#[test]
fn a_syn_without_data_does_not_wait_and_one_with_data_behind_it_does() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, plan(&net));
        lab.mirror(1, true);
        lab.client(SYN, 100, 0, b"");
        let syn = lab.next();
        assert_eq!(syn.tcp().payload_len, 0);
        let syn = syn.packet();
        assert_eq!(lab.client(SYN, 100, 0, b"GET /"), Verdict::Consumed);
        lab.nothing();
        // Nor does the answer to the first one make the client believe meanwhile; the server repeats it.
        let answer = |lab: &mut Lab| lab.server(syn.destination(), syn.source(), (SYN_ACK, 500, 101), b"");
        assert_eq!(answer(&mut lab), Verdict::Drop(Drop::HoldDuplicate));
        lab.acknowledge();
        assert_eq!(lab.next().tcp().payload_len, 5);
        assert_eq!(answer(&mut lab), Verdict::Forward(CLIENT_PORT));
    }
}

#[test]
fn a_retransmission_of_the_syn_that_waits_is_not_kept() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, true);
    lab.client(SYN, 100, 0, b"GET /");
    assert_eq!(lab.client(SYN, 100, 0, b""), Verdict::Drop(Drop::HoldDuplicate));
    lab.acknowledge();
    assert_eq!(lab.next().tcp().payload_len, 5);
    lab.nothing();
}

#[test]
fn without_strict_mirroring_a_syn_with_data_leaves_at_once_and_a_later_peer_is_told_of_it() {
    let net = v4();
    for failover in [ConnFailover::Stateless, ConnFailover::Disabled] {
        let mut lab = Lab::new(net, with_failover(plan(&net), failover));
        lab.mirror(1, true);
        lab.client(SYN, 100, 0, b"GET /");
        lab.next();
        assert!(lab.marks.is_empty());
    }
    let mut lab = Lab::new(net, plan(&net));
    lab.client(SYN, 100, 0, b"GET /");
    let syn = lab.next().packet();
    lab.mirror(1, true);
    let told = lab.engine.next_for_bulk(&mut 0, 100);
    assert!(matches!(told, crate::BulkStep::Flow(_)), "the server may believe it: {told:?}");
    lab.server(syn.destination(), syn.source(), (SYN_ACK, 500, 106), b"");
}

#[test]
fn what_the_server_refuses_is_told_as_over() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, true);
    lab.client(SYN, 100, 0, b"GET /");
    lab.acknowledge();
    let syn = lab.next().packet();
    lab.server(syn.destination(), syn.source(), (TcpFlags(0x14), 0, 106), b"");
    lab.pass(Duration::from_secs(5));
    assert_eq!((lab.engine.counts().flows, lab.engine.counts().protected), (0, 0));
    assert!(matches!(lab.marks[..], [Mark::Closed(..)]), "{:?}", lab.marks);
}
