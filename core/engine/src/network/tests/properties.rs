//! What holds after any sequence of events.

use super::*;
use crate::network::neighbours::REACHABLE_TIME;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// An address of a small world, so that sequences meet each other.
fn host(number: u8) -> Addr {
    server_net(number)
}

#[derive(Clone, Debug)]
enum Event {
    Lookup(u8),
    Enqueue(u8),
    Confirm { host: u8, mac: u8, port: u8, learn: bool },
    Pass { ms: u64 },
    Poll,
    ForgetAll,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..24u8).prop_map(Event::Lookup),
        6 => (0..24u8).prop_map(Event::Enqueue),
        6 => (0..24u8, 0..3u8, 0..2u8, any::<bool>())
            .prop_map(|(host, mac, port, learn)| Event::Confirm { host, mac, port, learn }),
        3 => prop_oneof![0..30u64, 90..400u64, 29_000..31_000u64].prop_map(|ms| Event::Pass { ms }),
        6 => Just(Event::Poll),
        1 => Just(Event::ForgetAll),
    ]
}

proptest! {
    /// Frames leave to whom they waited for, the counts agree with the entries,
    /// a location handed out is valid for its generation, and the limits hold.
    #[test]
    fn the_neighbour_table_keeps_its_books(events in prop::collection::vec(event(), 1..300)) {
        let limits = TableLimits { entries: 12, queue: 3 };
        let mut table = Neighbours::new(limits);
        let mut now = at(0);
        let mut handed_out: BTreeMap<Addr, (u32, Location)> = BTreeMap::new();
        for event in events {
            match event {
                Event::Lookup(number) => {
                    if let Lookup::Known(location) = table.lookup(now, host(number)) {
                        handed_out.insert(host(number), (table.generation(), location));
                    }
                }
                Event::Enqueue(number) => {
                    let frame = OwnedFrame { port: PortId(0), offload: Offload::default(), bytes: vec![number; 60] };
                    let _ = table.enqueue(host(number), frame);
                }
                Event::Confirm { host: number, mac, port, learn } => {
                    let location = Location { port: PortId(port), mac: MacAddr([2, 0, 0, 0, 0, mac]) };
                    for frame in table.confirm(now, host(number), location, learn) {
                        prop_assert_eq!(frame.bytes[0], number, "frames leave to whom they waited for");
                    }
                }
                Event::Pass { ms } => now = now + core::time::Duration::from_millis(ms),
                Event::Poll => drop(table.poll(now)),
                Event::ForgetAll => table.forget_all(),
            }
            let generation = table.generation();
            handed_out.retain(|_, (since, _)| *since == generation);
            for (&addr, &(_, location)) in &handed_out {
                prop_assert_eq!(table.location(addr), Some(location), "or the generation would have ended");
            }
            prop_assert!(table.list().count() <= limits.entries as usize);
            table.assert_consistent();
        }
        for _ in 0..10_000 {
            let Some(due) = table.poll_timeout() else { break };
            now = now.max(due) + REACHABLE_TIME;
            while table.poll(now).is_some() {}
            table.assert_consistent();
        }
        prop_assert_eq!(table.poll_timeout(), None, "the silent leave in the end");
        prop_assert_eq!(table.list().count(), 0);
    }

    /// The routing table answers like a search through all networks.
    #[test]
    fn routes_agree_with_a_search_through_all_of_them(
        snips in prop::collection::vec((0..4u8, 0..4u8, 8..=31u8), 0..4),
        routes in prop::collection::vec((0..4u8, 0..4u8, 0..=32u8, 0..4u8, 0..4u8), 0..6),
        dst in (0..4u8, 0..4u8),
    ) {
        let addr = |(a, b): (u8, u8)| Addr::v4([10, a * 64, b * 64, 7]);
        let plan = Plan {
            addresses: snips.iter().map(|&(a, b, len)| snip(Addr::v4([10, a * 64, b * 64, 1]), len)).collect(),
            routes: routes.iter().map(|&(a, b, len, c, d)| route(addr((a, b)), len, addr((c, d)))).collect(),
            ..Plan::default()
        };
        let table = Routes::new(&plan);
        prop_assert_eq!(table.next_hop(addr(dst)), searched(&plan, addr(dst)));
    }
}

/// The next hop to `dst` by a plain search: the longest prefix, connected ones
/// before static ones, the first of equals.
fn searched(plan: &Plan, dst: Addr) -> Option<Addr> {
    let connected = |addr: Addr| plan.addresses.iter().filter(move |own| own.addr.matches_prefix(addr, own.prefix_len));
    let lookup = |addr: Addr| {
        let near = connected(addr).map(|own| (own.prefix_len, true, addr));
        let far = plan.routes.iter().filter(|route| route.network.matches_prefix(addr, route.prefix_len));
        let far = far.map(|route| (route.prefix_len, false, route.gateway));
        near.chain(far).reduce(|best, next| if (next.0, next.1) > (best.0, best.1) { next } else { best })
    };
    match lookup(dst)? {
        (_, true, _) => Some(dst),
        (_, false, gateway) => lookup(gateway)?.1.then_some(gateway),
    }
}
