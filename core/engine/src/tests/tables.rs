//! The transition table enumerated, the flow table and the leases.

use super::*;
use crate::engine::Half;
use crate::flow::Side;
use crate::flow::tcp::{Segment as Seg, Step, TcpState, step};
use crate::snat::{Destination, LeaseError, Snat};

use Side::{Client, Server};
use TcpState::{ClientFin, Closed, Closing, Established, Mirrored, Opening, Reset, ServerFin, SynSeen};

/// The whole table: a row per state, in [`Seg::ALL`] order, client then server.
/// `.` stays, `!` is invalid, `@` reopens, a letter moves.
const TABLE: [(TcpState, [&str; 2]); 9] = [
    //               Syn SynAck Data Fin LastAck Rst
    (SynSeen, [". ! . . . .", ". O . . . R"]),
    (Opening, [". ! E c E R", ". . . s . R"]),
    (Established, [". ! . c . R", ". . . s . R"]),
    (ClientFin, [". ! . . . R", ". . . X . R"]),
    (ServerFin, [". ! . X . R", ". . . . . R"]),
    (Closing, [". ! . . Z R", ". . . . Z R"]),
    (Closed, ["@ ! . . . .", ". . . . . ."]),
    (Reset, ["@ ! E c E .", ". . E s E ."]),
    (Mirrored, [". ! E c E R", ". O E s E R"]),
];

#[test]
fn every_transition_is_as_drawn() {
    assert_eq!(TABLE.map(|(state, _)| state), TcpState::ALL);
    for (state, rows) in TABLE {
        for (side, row) in [Client, Server].into_iter().zip(rows) {
            let cells: Vec<&str> = row.split(' ').collect();
            assert_eq!(cells.len(), Seg::ALL.len());
            for (segment, cell) in Seg::ALL.into_iter().zip(cells) {
                let expected = match cell {
                    "." => Step::Stay,
                    "!" => Step::Invalid,
                    "@" => Step::Reopen,
                    "O" => Step::Move(Opening),
                    "E" => Step::Move(Established),
                    "c" => Step::Move(ClientFin),
                    "s" => Step::Move(ServerFin),
                    "X" => Step::Move(Closing),
                    "Z" => Step::Move(Closed),
                    "R" => Step::Move(Reset),
                    other => panic!("{other}"),
                };
                assert_eq!(step(state, side, segment), expected, "{state:?} {side:?} {segment:?}");
            }
        }
    }
}

#[test]
fn every_state_has_one_of_the_words_that_listings_know() {
    let used: std::collections::BTreeSet<&str> = TcpState::ALL.into_iter().map(TcpState::label).collect();
    assert_eq!(used, crate::CONNECTION_STATES.into_iter().collect());
}

#[test]
fn flags_name_segments() {
    for bits in 0..16u8 {
        let (fin, syn, rst, ack) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0, bits & 8 != 0);
        let expected = match (syn, rst, fin, ack) {
            (true, false, false, false) => Some(Seg::Syn),
            (true, false, false, true) => Some(Seg::SynAck),
            (true, ..) => None,
            (false, true, ..) => Some(Seg::Rst),
            (false, false, true, _) => Some(Seg::Fin),
            (false, false, false, true) => Some(Seg::Data),
            (false, false, false, false) => None,
        };
        assert_eq!(Seg::from_flags(fin, syn, rst, ack), expected);
    }
}

#[test]
fn a_flow_costs_at_most_256_bytes_with_index_and_timer() {
    // Index: two entries of 4 bytes and a control byte, at most half full; timer: 24 bytes.
    let index = 2 * 2 * (4 + 1);
    assert!(size_of::<crate::flow::Flow>() + index + 24 <= 256, "{}", size_of::<crate::flow::Flow>());
}

#[test]
fn fins_acknowledged_out_of_order_close_the_connection_too() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let (server, source) = lab.establish();
    // Both close at once: the FINs cross, then each acknowledges the other's.
    lab.client(FIN_ACK, 101, 501, b"bye");
    lab.server(server, source, (FIN_ACK, 501, 101), b"");
    assert_eq!(state(&lab), "CLOSING");
    lab.client(ACK, 105, 502, b"");
    assert_eq!(state(&lab), "CLOSING");
    lab.server(server, source, (ACK, 502, 105), b"");
    assert_eq!(state(&lab), "TIME_WAIT");
}

#[test]
fn a_half_closed_connection_carries_data_until_its_idle_time_out() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    let (server, source) = lab.establish();
    lab.client(FIN_ACK, 101, 501, b"");
    assert_eq!(state(&lab), "CLOSE_WAIT");
    lab.pass(Duration::from_secs(100));
    assert_eq!(lab.server(server, source, (ACK, 501, 102), b"late"), Verdict::Forward(CLIENT_PORT));
    lab.pass(Duration::from_secs(299));
    assert_eq!(lab.engine.counts().flows, 1);
}

fn state(lab: &Lab) -> &'static str {
    let mut rows = Vec::new();
    lab.engine.connections(lab.now, &mut 0, 100, &mut rows);
    rows[0].state
}

fn destination(n: u8) -> Destination {
    Destination {
        snip: addr("198.51.100.1"),
        server: Endpoint { addr: addr("198.51.100.11"), port: u16::from(n) },
        proto: 6,
    }
}

#[test]
fn leases_rotate_and_a_pool_that_comes_back_does_not_begin_with_its_last_port() {
    let mut snat = Snat::new(10, 0);
    let first = snat.lease(destination(1)).expect("free");
    snat.release(destination(1), first);
    assert_ne!(snat.lease(destination(1)).expect("free"), first);
}

/// After a takeover the pools exist already, with leases of the peer: servers may have connections of a former
/// life of this node in its own half all the same.
#[test]
fn the_first_own_lease_beside_those_of_the_peer_is_from_another_place_in_each_life_too() {
    let first = |rotation| {
        let mut snat = Snat::new(10, rotation);
        snat.lease_exactly(destination(1), 2000).expect("free");
        snat.set_half(Half::Upper);
        snat.lease(destination(1)).expect("free")
    };
    assert_eq!((first(0), first(5000)), (33_280, 38_280));
}

#[test]
fn the_halves_do_not_overlap_and_exact_leases_may_be_of_either() {
    let mut snat = Snat::new(10, 0);
    assert_eq!(snat.lease_exactly(destination(1), 40_000), Ok(()));
    assert_eq!(snat.lease_exactly(destination(1), 40_000), Err(LeaseError::Taken));
    snat.set_half(Half::Upper);
    let all: std::collections::BTreeSet<u16> = std::iter::from_fn(|| snat.lease(destination(1)).ok()).collect();
    assert_eq!(all.len(), 65_536 - 33_280 - 1);
    assert!(all.iter().all(|&port| port >= 33_280 && port != 40_000));
    assert_eq!(snat.lease(destination(1)), Err(LeaseError::Exhausted));
    snat.release(destination(1), 50_000);
    assert_eq!(snat.lease(destination(1)), Ok(50_000));
}

#[test]
fn the_number_of_destinations_is_limited() {
    let mut snat = Snat::new(2, 0);
    let port = snat.lease(destination(1)).expect("free");
    snat.lease(destination(2)).expect("free");
    assert_eq!(snat.lease(destination(3)), Err(LeaseError::Exhausted));
    snat.release(destination(1), port);
    assert!(snat.lease(destination(3)).is_ok());
}
