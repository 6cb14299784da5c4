//! Connections that no client completes: a SYN flood.

use super::*;

/// One service, so that one pool of ports serves all.
fn one_service(net: &Net) -> Plan {
    let mut one = plan(net);
    one.vservers[0].services.truncate(1);
    one.vservers[0].client_idle = Duration::from_secs(9000);
    one
}

/// The ports of a half.
const HALF: u32 = 32_256;

fn flooded_lab(net: Net) -> Lab {
    Lab::with_limits(net, one_service(&net), Limits { max_flows: 40_000, ..Limits::default() })
}

/// The client from the `n`th port asks, and the server answers. Who the server sees.
fn half_open(lab: &mut Lab, n: u32) -> Endpoint {
    lab.net.client.port = 1 + n as u16;
    lab.client(SYN, 100, 0, b"");
    let source = lab.next().packet().source();
    let server = lab.net.servers[0];
    lab.server(server, source, (SYN_ACK, 500, 101), b"");
    lab.sent.clear();
    source
}

/// As [`half_open`], and the client completes.
fn completed(lab: &mut Lab, n: u32) -> Endpoint {
    let source = half_open(lab, n);
    lab.client(ACK, 101, 501, b"");
    lab.sent.clear();
    source
}

#[test]
fn a_connection_that_its_client_never_completes_is_forgotten_after_four_minutes() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, one_service(&net));
        half_open(&mut lab, 0);
        lab.pass(Duration::from_secs(239));
        assert_eq!(lab.engine.counts().flows, 1);
        lab.pass(Duration::from_secs(2));
        assert_eq!((lab.engine.counts().flows, lab.engine.counts().leases), (0, 0));
        lab.nothing();
    }
}

#[test]
fn while_the_server_asks_again_for_a_lost_ack_the_connection_stays() {
    for net in [v4(), v6()] {
        let mut lab = Lab::new(net, one_service(&net));
        let source = half_open(&mut lab, 0);
        // The longest pause between two retransmissions of Linux is 120 s.
        for pause in [1, 2, 4, 8, 16, 32, 64, 120, 120] {
            lab.pass(Duration::from_secs(pause));
            lab.server(net.servers[0], source, (SYN_ACK, 500, 101), b"");
            assert_eq!(lab.next().tcp().flags, SYN_ACK);
        }
        lab.client(ACK, 101, 501, b"late");
        assert_eq!(lab.next().packet().destination(), net.servers[0]);
        lab.pass(Duration::from_secs(8000));
        assert_eq!(lab.engine.counts().flows, 1, "established: the idle time-out is the vserver's");
    }
}

#[test]
fn the_peer_hears_of_the_end_of_what_a_client_never_completed() {
    let net = v4();
    let mut lab = Lab::new(net, one_service(&net));
    lab.mirror(1, true);
    half_open(&mut lab, 0);
    lab.acknowledge();
    assert_eq!(lab.engine.counts().protected, 1);
    lab.pass(Duration::from_secs(241));
    assert!(matches!(lab.marks[..], [Mark::Closed(..)]), "{:?}", lab.marks);
    assert_eq!((lab.engine.counts().protected, lab.engine.counts().unprotected), (0, 0));
}

#[test]
fn a_flood_does_not_stop_new_connections_and_ends_none_that_is_established() {
    for net in [v4(), v6()] {
        let mut lab = flooded_lab(net);
        let first = completed(&mut lab, 0);
        let oldest = half_open(&mut lab, 1);
        for n in 2..HALF {
            half_open(&mut lab, n);
        }
        assert_eq!(lab.engine.counts().leases, HALF);
        lab.net.client.port = 65_000;
        lab.pass(Duration::from_millis(1500));
        lab.client(SYN, 100, 0, b"");
        assert_eq!(lab.next().packet().source(), oldest, "the oldest that is not completed makes room");
        assert_eq!((lab.engine.counters().half_open_evicted, lab.engine.counters().snat_exhausted), (1, 0));
        assert_eq!(lab.engine.counts().leases, HALF);
        lab.server(net.servers[0], first, (ACK, 501, 101), b"still here");
        assert_eq!(lab.next().packet().destination().port, 1);
    }
}

#[test]
fn where_every_connection_is_established_the_search_for_room_is_bounded_and_goes_on_later() {
    let net = v4();
    let mut lab = flooded_lab(net);
    for n in 0..HALF {
        if n == 1000 {
            half_open(&mut lab, n)
        } else {
            completed(&mut lab, n)
        };
    }
    lab.pass(Duration::from_millis(1500));
    lab.net.client.port = 65_000;
    let mut vain = 0;
    while lab.client(SYN, 100, 0, b"") == Verdict::Drop(Drop::SnatExhausted) {
        vain += 1;
        assert!(vain < 100);
    }
    assert!(vain > 1, "one packet does not look at everything");
    assert_eq!((lab.engine.counters().half_open_evicted, lab.engine.counters().snat_exhausted), (1, vain));
    // That one is half-open now: when it has been for a while, the search comes round to it.
    lab.pass(Duration::from_millis(1500));
    lab.net.client.port = 65_001;
    while lab.client(SYN, 100, 0, b"") == Verdict::Drop(Drop::SnatExhausted) {
        vain += 1;
        assert!(vain < 1000);
    }
    assert_eq!(lab.engine.counters().half_open_evicted, 2);
    assert_eq!(lab.engine.counts().leases, HALF);
}

#[test]
fn a_client_whose_ack_is_on_its_way_keeps_its_connection_when_ports_run_out() {
    for net in [v4(), v6()] {
        let mut lab = flooded_lab(net);
        for n in 1..HALF {
            half_open(&mut lab, n);
        }
        lab.pass(Duration::from_millis(1400));
        let youngest = half_open(&mut lab, HALF);
        assert_eq!(lab.engine.counts().leases, HALF);
        // Everybody's SYN-ACK has left a moment ago: nobody gives way.
        lab.net.client.port = 65_000;
        assert_eq!(lab.client(SYN, 100, 0, b""), Verdict::Drop(Drop::SnatExhausted));
        // Whoever has answered nothing for a while does, and nobody else.
        lab.pass(Duration::from_millis(100));
        for n in 1..HALF {
            lab.net.client.port = 32_500 + n as u16;
            assert_ne!(lab.client(SYN, 100, 0, b""), Verdict::Drop(Drop::SnatExhausted), "{n}");
        }
        lab.sent.clear();
        lab.net.client.port = 65_000;
        assert_eq!(lab.client(SYN, 100, 0, b""), Verdict::Drop(Drop::SnatExhausted));
        lab.net.client.port = 1 + HALF as u16;
        lab.client(ACK, 101, 501, b"");
        assert_eq!(lab.next().packet().source(), youngest);
        assert_eq!(lab.engine.counters().half_open_evicted, u64::from(HALF) - 1);
    }
}

#[test]
fn what_is_over_gives_its_port_before_what_a_client_may_yet_complete() {
    let net = v4();
    let mut lab = flooded_lab(net);
    for n in 1..=HALF {
        match n {
            // A search in vain has looked at 64 ports before.
            70 | 100 => {
                let source = completed(&mut lab, n);
                lab.finish(net.servers[0], source);
            }
            _ => {
                half_open(&mut lab, n);
            }
        }
    }
    let mut asked = 60_000;
    let mut ask = |lab: &mut Lab| {
        asked += 1;
        lab.net.client.port = asked;
        lab.client(SYN, 100, 0, b"")
    };
    assert_eq!(ask(&mut lab), Verdict::Drop(Drop::SnatExhausted), "a FIN may come again");
    lab.pass(Duration::from_millis(1500));
    for evicted in [(0, 1), (0, 2), (1, 2), (2, 2)] {
        assert_ne!(ask(&mut lab), Verdict::Drop(Drop::SnatExhausted));
        let counters = lab.engine.counters();
        assert_eq!((counters.half_open_evicted, counters.lingering_evicted), evicted);
    }
    assert_eq!(lab.engine.counts().leases, HALF);
}
