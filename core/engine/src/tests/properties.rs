//! Properties over random operations.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::engine::Half;
use crate::snat::{Destination, Snat};
use crate::{FlowClose, FlowRecord, L2Disc, PersistenceRecord, Phase, SessionOf};

fn record(client: u8, version: u8) -> FlowRecord {
    let net = v4();
    FlowRecord {
        stamp: u64::from(version) + 1,
        proto: 6,
        l2: L2Disc(0),
        client: Endpoint { port: 1000 + u16::from(client), ..net.client },
        vip: net.vip,
        server: net.servers[usize::from(version % 2)],
        source: Endpoint { addr: net.snip, port: 2000 + u16::from(client) * 16 + u16::from(version) },
        phase: Phase::Established,
        client_idle_s: 10,
        server_idle_s: 20,
    }
}

/// Sessions of few addresses, so that kinds differ where addresses do not.
fn session_of() -> impl Strategy<Value = SessionOf> {
    let few = || (1u8..4).prop_map(|last| Addr::v4([192, 0, 2, last]));
    prop_oneof![
        few().prop_map(SessionOf::Source),
        few().prop_map(SessionOf::Destination),
        (few(), few()).prop_map(|(source, destination)| SessionOf::Both { source, destination }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Flow records alone, without a close among them, leave the same table in any order and any number of times: of each
    /// flow the newest. With closes the order counts: see `an_old_record_behind_a_close_opens_the_flow_again`.
    #[test]
    fn records_converge(mut order in prop::collection::vec((0u8..8, 0u8..6), 1..60), seed in any::<u64>()) {
        let net = v4();
        let mut one = Lab::new(net, plan(&net));
        let mut two = Lab::new(net, plan(&net));
        one.engine.begin_session(1);
        two.engine.begin_session(1);
        for &(client, version) in &order {
            one.engine.apply_record(one.now, &record(client, version), 1);
        }
        let mut rng = holdfast_base::Rng::from_seed(seed);
        for index in (1..order.len()).rev() {
            order.swap(index, rng.below(index as u64 + 1) as usize);
        }
        for &(client, version) in order.iter().chain(&order) {
            two.engine.apply_record(two.now, &record(client, version), 1);
        }
        prop_assert_eq!(one.engine.digest(), two.engine.digest());
        let clients: BTreeSet<u8> = order.iter().map(|&(client, _)| client).collect();
        for lab in [&one, &two] {
            let counts = lab.engine.counts();
            prop_assert_eq!(counts.flows as usize, clients.len());
            prop_assert_eq!((counts.leases, counts.in_session, counts.stale), (counts.flows, counts.flows, 0));
        }
    }

    /// Two flows claim one source towards one server, since the close of the older one lies in a gap: the newer one has
    /// it, in any order and any number of times.
    #[test]
    fn of_two_flows_with_one_source_the_newer_stays(mut order in prop::collection::vec(any::<bool>(), 0..8), seed in any::<u64>()) {
        let net = v4();
        let older = record(1, 0);
        let newer = FlowRecord { stamp: 9, source: older.source, ..record(2, 0) };
        order.extend([false, true]);
        let mut rng = holdfast_base::Rng::from_seed(seed);
        for index in (1..order.len()).rev() {
            order.swap(index, rng.below(index as u64 + 1) as usize);
        }
        let mut lab = Lab::new(net, plan(&net));
        lab.engine.begin_session(1);
        for is_newer in order {
            lab.engine.apply_record(lab.now, if is_newer { &newer } else { &older }, 1);
        }
        let (mut rows, mut cursor) = (Vec::new(), 0);
        while !lab.engine.connections(lab.now, &mut cursor, 4096, &mut rows) {}
        let clients: Vec<Endpoint> = rows.iter().map(|row| row.client).collect();
        prop_assert_eq!(clients, [newer.client]);
        prop_assert_eq!(lab.engine.counts().leases, 1);
    }

    /// Sessions of every kind are told apart, and of each the larger stamp stays, whatever the order and however
    /// often it is told.
    #[test]
    fn of_each_session_the_newest_record_stays(told in prop::collection::vec((session_of(), 1u64..50), 1..60)) {
        let net = v4();
        let mut lab = Lab::new(net, plan(&net));
        lab.engine.begin_session(1);
        let mut model: BTreeMap<SessionOf, (u64, Endpoint)> = BTreeMap::new();
        for (of, stamp) in told {
            // One stamp is one change.
            let server = Endpoint { addr: net.servers[0].addr, port: stamp as u16 };
            let record = PersistenceRecord { stamp, vip: net.vip, proto: 0, of, server: Some(server) };
            lab.engine.apply_persistence(lab.now, &record, 1);
            let known = model.entry(of).or_insert((stamp, server));
            if stamp >= known.0 {
                *known = (stamp, server);
            }
        }
        let mut rows = Vec::new();
        prop_assert!(lab.engine.list_sessions(lab.now, &mut 0, u32::MAX, &[], &mut rows));
        let found: BTreeMap<_, _> = rows
            .iter()
            .map(|row| (row.session.of, (row.session.stamp, row.session.server.expect("it lives"))))
            .collect();
        prop_assert_eq!(rows.len(), found.len());
        prop_assert_eq!(found, model);
    }

    /// Records and closes in the sender's order leave what the sender has, and
    /// no lease too many or too few.
    #[test]
    fn closes_leave_nothing_behind(steps in prop::collection::vec((0u8..6, any::<bool>()), 1..80)) {
        let net = v4();
        let mut lab = Lab::new(net, plan(&net));
        lab.engine.begin_session(1);
        let mut alive = BTreeSet::new();
        for (index, (client, close)) in steps.into_iter().enumerate() {
            let stamp = index as u64 + 1;
            if close {
                let key = record(client, 0).client_key();
                lab.engine.apply_close(lab.now, &FlowClose { stamp, key }, 1);
                alive.remove(&client);
            } else {
                lab.engine.apply_record(lab.now, &FlowRecord { stamp, ..record(client, 0) }, 1);
                alive.insert(client);
            }
            let counts = lab.engine.counts();
            prop_assert_eq!((counts.flows as usize, counts.leases as usize), (alive.len(), alive.len()));
            prop_assert_eq!(counts.in_session as usize, alive.len());
        }
        for client in alive {
            lab.engine.apply_close(lab.now, &FlowClose { stamp: 1000, key: record(client, 0).client_key() }, 1);
        }
        prop_assert_eq!(lab.engine.digest(), 0);
    }

    /// No port is leased twice, none is lost.
    #[test]
    fn leases_agree_with_a_model(steps in prop::collection::vec((0u8..3, 0u8..4, any::<u16>()), 1..400)) {
        let mut snat = Snat::new(16, 0);
        let mut model: BTreeMap<u8, BTreeSet<u16>> = BTreeMap::new();
        let destination = |n: u8| Destination {
            snip: addr("198.51.100.1"),
            server: Endpoint { addr: addr("198.51.100.11"), port: u16::from(n) },
            proto: 6,
        };
        for (which, action, number) in steps {
            let ours = model.entry(which).or_default();
            match action {
                0 | 1 => {
                    snat.set_half(if number % 2 == 0 { Half::Lower } else { Half::Upper });
                    let port = snat.lease(destination(which)).expect("far from exhausted");
                    prop_assert!(port >= 1024 && (port < 33_280) == (number % 2 == 0));
                    prop_assert!(ours.insert(port), "leased twice");
                }
                2 => prop_assert_eq!(snat.lease_exactly(destination(which), number).is_ok(), ours.insert(number)),
                _ => {
                    if let Some(&port) = ours.range(number..).next() {
                        ours.remove(&port);
                        snat.release(destination(which), port);
                    }
                }
            }
            prop_assert_eq!(snat.leases() as usize, model.values().map(BTreeSet::len).sum::<usize>());
        }
    }

    /// Whatever comes in: no panic, every frame counted once, gate respected.
    #[test]
    fn garbage_is_counted_and_never_fatal(
        frames in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..200), 0u8..3, 0usize..8), 1..40),
    ) {
        let net = v4();
        let mut lab = Lab::new(net, plan(&net));
        lab.mirror(1, true);
        let (_, source) = { lab.client(SYN, 1, 0, b""); let packet = lab.next().packet(); ((), packet.source()) };
        let link = Link::new(OWN_MACS[0], CLIENT_MAC);
        for (noise, kind, cut) in frames {
            let mut bytes = match kind {
                0 => noise.clone(),
                1 => tcp_bytes(link, net.client, net.vip, (ACK, 1, 1), &noise),
                _ => tcp_bytes(Link::new(OWN_MACS[1], SERVER_MACS[0]), net.servers[0], source, (SYN_ACK, 1, 2), &noise),
            };
            for (place, value) in noise.iter().take(cut).enumerate() {
                let at = usize::from(*value) % bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (place % 8);
                }
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let before = lab.engine.counters().frames_in;
            lab.give(PortId(kind % 2), bytes);
            prop_assert!(lab.engine.counters().frames_in > before);
        }
        lab.pass(Duration::from_secs(5));
    }
}

/// Nothing remembers a flow that was closed. That is why the stream is read in order, and why a close beyond a gap is safe: what
/// lies in the gap never comes any more.
#[test]
fn an_old_record_behind_a_close_opens_the_flow_again() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.engine.begin_session(1);
    let (old, key) = (record(1, 0), record(1, 0).client_key());
    lab.engine.apply_close(lab.now, &FlowClose { stamp: 200, key }, 1);
    lab.engine.apply_record(lab.now, &FlowRecord { stamp: 50, ..old }, 1);
    assert_eq!(lab.engine.counts().flows, 1);
}
