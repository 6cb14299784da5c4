//! Segments that no end has sent: a forger knows addresses and ports, not sequence numbers.

use super::*;
use crate::ConnectionRow;

/// An established connection that the peer has; both ends have sent: the client up to 106, the server up to 503.
fn protected() -> (Lab, Endpoint, Endpoint) {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, false);
    let (server, source) = lab.establish();
    lab.acknowledge();
    lab.client(ACK, 101, 501, b"hello");
    lab.server(server, source, (ACK, 501, 106), b"hi");
    lab.client(ACK, 106, 503, b"");
    lab.sent.clear();
    assert_eq!(told(&lab), (1, 0));
    (lab, server, source)
}

/// Flows that the peer has acknowledged, and flows that a successor would miss.
fn told(lab: &Lab) -> (u32, u32) {
    let counts = lab.engine.counts();
    (counts.protected, counts.unprotected)
}

fn row(lab: &Lab) -> ConnectionRow {
    let mut rows = Vec::new();
    lab.engine.connections(lab.now, &mut 0, 100, &mut rows);
    assert_eq!(rows.len(), 1);
    rows[0]
}

#[test]
fn a_reset_that_is_not_exact_ends_nothing_and_takes_nothing_from_the_peer() {
    for offset in [1, 1000, 1 << 20, 15 << 20, -1, -1000, -60_000] {
        for by_client in [true, false] {
            let (mut lab, server, source) = protected();
            let verdict = if by_client {
                lab.client(RST, 106u32.wrapping_add_signed(offset), 0, b"")
            } else {
                lab.server(server, source, (RST, 503u32.wrapping_add_signed(offset), 0), b"")
            };
            assert!(matches!(verdict, Verdict::Forward(_)), "the end decides");
            assert_eq!(told(&lab), (1, 0), "{offset}");
            lab.pass(Duration::from_secs(290));
            assert_eq!((lab.engine.counts().flows, told(&lab)), (1, (1, 0)), "{offset}");
        }
    }
}

#[test]
fn blind_resets_all_over_the_sequence_space_end_nothing() {
    let (mut lab, ..) = protected();
    (0..256u32).for_each(|step| _ = lab.client(RST, step << 24, 0, b""));
    lab.pass(Duration::from_secs(290));
    assert_eq!((told(&lab), lab.engine.counters().resets_doubted), ((1, 0), 256));
}

#[test]
fn a_forged_reset_and_a_forged_syn_do_not_move_a_connection() {
    let (mut lab, server, source) = protected();
    lab.client(RST, 106 + (1 << 20), 0, b"");
    lab.client(SYN, 7000, 0, b"");
    lab.sent.clear();
    lab.client(ACK, 106, 503, b"next");
    let sent = lab.next().packet();
    assert_eq!((sent.source(), sent.destination(), lab.engine.counters().flows_opened), (source, server, 1));
    assert_eq!(told(&lab), (1, 0));
}

#[test]
fn what_is_forged_about_the_stream_makes_no_reset_exact() {
    let (mut lab, ..) = protected();
    // Far ahead with an acknowledgement from nowhere, then the reset that would fit behind it.
    lab.client(ACK, 106 + (4 << 20), 77 << 24, b"12345678");
    lab.client(RST, 106 + (4 << 20) + 8, 0, b"");
    // Near, but with an acknowledgement from nowhere.
    lab.client(ACK, 206, 77 << 24, b"12345678");
    lab.client(RST, 214, 0, b"");
    lab.pass(Duration::from_secs(290));
    assert_eq!(told(&lab), (1, 0));
}

#[test]
fn an_exact_reset_ends_a_connection_quickly() {
    // Acknowledged to the end; behind data that is under way; in answer to what the other end sent.
    for (data, seq) in [(&b""[..], 106), (b"bye", 109), (b"bye", 106)] {
        let (mut lab, ..) = protected();
        lab.client(ACK, 106, 503, data);
        lab.client(RST, seq, 0, b"");
        assert_eq!(told(&lab), (0, 0), "{seq}");
        lab.pass(Duration::from_secs(5));
        assert_eq!(lab.engine.counts().flows, 0, "{seq}");
    }
    for (data, seq) in [(&b""[..], 503), (b"bye", 506), (b"bye", 503)] {
        let (mut lab, server, source) = protected();
        lab.server(server, source, (ACK, 503, 106), data);
        lab.server(server, source, (RST, seq, 0), b"");
        lab.pass(Duration::from_secs(5));
        assert_eq!(lab.engine.counts().flows, 0, "{seq}");
    }
}

#[test]
fn a_scanner_s_reset_ends_what_it_never_opened() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.client(SYN, 100, 0, b"");
    let syn = lab.next().packet();
    lab.server(syn.destination(), syn.source(), (SYN_ACK, 500, 101), b"");
    lab.client(RST, 101, 0, b"");
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.engine.counts().flows, 0);
}

#[test]
fn a_connection_that_outlives_an_exact_reset_is_protected_again() {
    for by_client in [true, false] {
        let (mut lab, server, source) = protected();
        lab.client(RST, 106, 0, b"");
        assert_eq!(told(&lab), (0, 0));
        if by_client {
            lab.client(ACK, 106, 503, b"still here");
        } else {
            lab.server(server, source, (ACK, 503, 106), b"");
        }
        assert_eq!(told(&lab), (1, 0));
        lab.pass(Duration::from_secs(290));
        assert_eq!((told(&lab), lab.engine.vserver_counters(VSERVER).established), ((1, 0), 1));
    }
}

#[test]
fn after_a_takeover_a_reset_counts_when_the_other_end_has_spoken() {
    let (mut lab, server, source) = protected();
    lab.mirror(2, false);
    let record = lab.records()[0];
    let mut heir = lab.standby(plan(&lab.net));
    heir.engine.apply_record(heir.now, &record, 1);
    heir.engine.set_gate(heir.now, Gate::Open);
    heir.engine.promote(heir.now);
    // What one end says of itself is no proof.
    heir.client(ACK, 9000, 7000, b"forged");
    heir.client(RST, 9006, 0, b"");
    heir.pass(Duration::from_secs(200));
    assert_eq!(heir.engine.counts().flows, 1);
    // Whatever was forged before, what the ends say is believed as soon as it fits together.
    heir.client(ACK, 106, 503, b"hello");
    heir.server(server, source, (ACK, 503, 111), b"");
    heir.client(ACK, 111, 503, b"bye");
    heir.client(RST, 114, 0, b"");
    heir.pass(Duration::from_secs(5));
    assert_eq!(heir.engine.counts().flows, 0);
}

/// The client's machine has crashed and its next connection has the same port.
#[test]
fn a_port_is_used_again_after_a_crash() {
    let (mut lab, server, source) = protected();
    lab.client(SYN, 90_000, 0, b"");
    assert_eq!(lab.next().packet().source(), source);
    // The server's challenge, and the reset with which the client answers it (RFC 5961 section 4).
    lab.server(server, source, (ACK, 503, 106), b"");
    lab.client(RST, 106, 0, b"");
    lab.sent.clear();
    lab.client(SYN, 90_000, 0, b"");
    let syn = lab.next().packet();
    assert_ne!(syn.source(), source, "another flow");
    lab.server(syn.destination(), syn.source(), (SYN_ACK, 700, 90_001), b"");
    lab.client(ACK, 90_001, 701, b"");
    lab.acknowledge();
    assert_eq!((told(&lab), lab.engine.counts().flows), ((1, 0), 1));
}

/// The server knows that the old connection is over: it has rebooted, say.
#[test]
fn a_server_that_answers_a_syn_begins_the_connection_anew() {
    let (mut lab, server, source) = protected();
    lab.client(SYN, 90_000, 0, b"");
    lab.server(server, source, (SYN_ACK, 0x7000_0000, 90_001), b"");
    assert_eq!(row(&lab).state, "SYN_RCVD");
    lab.client(ACK, 90_001, 0x7000_0001, b"hello");
    assert_eq!((row(&lab).state, told(&lab)), ("ESTABLISHED", (1, 0)));
    // Its streams are the new ones.
    lab.client(RST, 106, 0, b"");
    assert_eq!(row(&lab).state, "ESTABLISHED");
    lab.client(RST, 90_006, 0, b"");
    assert_eq!(row(&lab).state, "CLOSED");
}

/// Both FINs were sent; what the server sent last has not reached the client.
fn closing() -> (Lab, Endpoint, Endpoint) {
    let (mut lab, server, source) = protected();
    lab.client(FIN_ACK, 106, 503, b"");
    lab.server(server, source, (FIN_ACK, 503, 107), b"answer");
    assert_eq!(row(&lab).state, "CLOSING");
    lab.sent.clear();
    (lab, server, source)
}

#[test]
fn a_connection_that_closes_waits_for_its_last_retransmission() {
    let (mut lab, server, source) = closing();
    for _ in 0..8 {
        lab.pass(Duration::from_secs(120));
        assert_eq!(lab.server(server, source, (FIN_ACK, 503, 107), b"answer"), Verdict::Forward(CLIENT_PORT));
        assert_eq!(told(&lab), (1, 0));
    }
    lab.client(ACK, 107, 510, b"");
    assert_eq!((row(&lab).state, told(&lab)), ("TIME_WAIT", (0, 0)));
    lab.pass(Duration::from_secs(41));
    assert_eq!(lab.engine.counts().flows, 0);
}

#[test]
fn a_syn_does_not_destroy_an_answer_under_way() {
    for seq in [0, 106, 107, 7000, 1 << 30, 3 << 30] {
        let (mut lab, server, source) = closing();
        lab.client(SYN, seq, 0, b"");
        assert_eq!(lab.next().packet().source(), source, "the server answers it");
        assert_eq!(lab.server(server, source, (FIN_ACK, 503, 107), b"answer"), Verdict::Forward(CLIENT_PORT));
        assert_eq!((told(&lab), row(&lab).state), ((1, 0), "CLOSING"));
    }
}

#[test]
fn after_both_fins_only_a_later_syn_opens_another_connection() {
    for (seq, opened) in [(108, 2), (7000, 2), (107, 1), (100, 1), (3 << 30, 1)] {
        let (mut lab, ..) = closing();
        lab.client(ACK, 107, 510, b"");
        lab.client(SYN, seq, 0, b"");
        assert_eq!(lab.engine.counters().flows_opened, opened, "{seq}");
    }
    // An earlier one is the server's matter: it may know by its timestamp that it is new (RFC 6191).
    let (mut lab, server, source) = closing();
    lab.client(ACK, 107, 510, b"");
    lab.client(SYN, 50, 0, b"");
    lab.server(server, source, (SYN_ACK, 1000, 51), b"");
    assert_eq!(row(&lab).state, "SYN_RCVD");
    lab.client(ACK, 51, 1001, b"");
    lab.acknowledge();
    assert_eq!((row(&lab).state, told(&lab)), ("ESTABLISHED", (1, 0)));
}

#[test]
fn a_forged_fin_of_the_client_does_not_end_what_the_server_has_half_closed() {
    for offset in [-500, -1, 0, 500, 1 << 20] {
        let (mut lab, server, source) = protected();
        lab.client(ACK, 106, 503, &[7; 1000]);
        lab.server(server, source, (FIN_ACK, 503, 1106), b"");
        // Whoever forges does not know what was acknowledged.
        lab.client(FIN_ACK, 1106u32.wrapping_add_signed(offset), 77 << 24, b"");
        lab.client(ACK, 1106, 504, b"");
        lab.server(server, source, (ACK, 504, 1106), b"");
        assert_eq!((row(&lab).state, told(&lab)), ("FIN_WAIT_1", (1, 0)), "{offset}");
        lab.pass(Duration::from_secs(290));
        assert_eq!(told(&lab), (1, 0), "{offset}");
    }
    for offset in [-500, -1] {
        let (mut lab, server, source) = protected();
        lab.client(ACK, 106, 503, &[7; 1000]);
        lab.server(server, source, (FIN_ACK, 503, 1106), b"");
        lab.client(FIN_ACK, 1106u32.wrapping_add_signed(offset), 503, b"");
        lab.client(ACK, 1106, 504, b"");
        lab.server(server, source, (ACK, 504, 1106), b"");
        assert_eq!((row(&lab).state, told(&lab)), ("FIN_WAIT_1", (1, 0)), "{offset}");
    }
}

#[test]
fn a_fin_in_the_window_that_was_not_the_client_s_is_forgotten_when_the_client_goes_on() {
    let (mut lab, server, source) = protected();
    lab.server(server, source, (FIN_ACK, 503, 106), b"");
    lab.client(ACK, 106, 504, b"");
    lab.client(FIN_ACK, 106, 504, b"123");
    assert_eq!((row(&lab).state, told(&lab)), ("CLOSING", (1, 0)));
    lab.client(ACK, 106, 504, b"12345678");
    assert_eq!((row(&lab).state, told(&lab)), ("FIN_WAIT_1", (1, 0)));
    // An acknowledgement that happens to fit makes no difference.
    lab.server(server, source, (ACK, 504, 110), b"");
    assert_eq!((row(&lab).state, told(&lab)), ("FIN_WAIT_1", (1, 0)));
    lab.client(FIN_ACK, 114, 504, b"");
    lab.server(server, source, (ACK, 504, 115), b"");
    assert_eq!((row(&lab).state, told(&lab)), ("TIME_WAIT", (0, 0)));
}

#[test]
fn what_is_over_counts_as_neither_protected_nor_unprotected() {
    let (mut lab, ..) = protected();
    assert!(row(&lab).tracked && row(&lab).protected);
    lab.client(RST, 106, 0, b"");
    assert!(!row(&lab).tracked && !row(&lab).protected);
    let (mut lab, ..) = closing();
    assert!(row(&lab).tracked && row(&lab).protected);
    lab.client(ACK, 107, 510, b"");
    assert!(!row(&lab).tracked && !row(&lab).protected);
}

#[test]
fn a_connection_that_begins_anew_waits_for_the_peer_as_long_as_the_first_one() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.mirror(1, true);
    lab.client(SYN, 100, 0, b"");
    let syn = lab.next().packet();
    let (server, source) = (syn.destination(), syn.source());
    lab.server(server, source, (SYN_ACK, 500, 101), b"");
    lab.acknowledge();
    lab.client(ACK, 101, 501, b"");
    lab.finish(server, source);
    lab.settle();
    lab.acknowledge();
    lab.pass(Duration::from_millis(900));
    lab.client(SYN, 50, 0, b"");
    lab.server(server, source, (SYN_ACK, 1000, 51), b"");
    lab.pass(Duration::from_millis(900));
    assert_eq!((lab.engine.counts().held, lab.engine.counters().hold_released_unprotected), (1, 0));
}
