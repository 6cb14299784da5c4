//! Tables so large that a walk over them takes many turns, and what happens amid it.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use holdfast_base::Instant;
use holdfast_engine::PortId;
use holdfast_sim::apps::Outcome;
use holdfast_sim::link::Manners;
use holdfast_sim::machine::{Input, mac};
use holdfast_sim::scenario::{Fault, UDP, USIP};
use holdfast_sim::world::CLIENT_SIDE;
use holdfast_sim::{Scenario, Story, World};
use holdfast_wire::build::{Link, udp_datagram};
use holdfast_wire::{Addr, Endpoint, MacAddr};

/// A client that nobody plays: its datagrams open flows, and the answers go nowhere.
const CROWD: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 200);

/// A quiet pair with room for many flows and a peer link without delay.
fn roomy() -> Scenario {
    let peer_manners = Manners { delay: Duration::from_micros(1), ..Manners::CALM };
    Scenario { max_flows: [32_768; 2], peer_manners, ..Scenario::quiet(1) }
}

/// Opens so many UDP flows at a machine, by a datagram each.
fn crowd(story: &mut Story, machine: usize, flows: u16) {
    let vserver = &story.world.scenario.vservers[UDP];
    let end = |addr: Ipv4Addr, port| Endpoint { addr: Addr::from(IpAddr::from(addr)), port };
    let vip = end(vserver.v4, vserver.port);
    story.world.mute_servers(Instant::FAR);
    let link = Link { src: MacAddr([2, 0, 0, 1, 0, 200]), dst: mac(machine, CLIENT_SIDE), vlan: None };
    for port in 0..flows {
        let mut bytes = [0; 128];
        let len = udp_datagram(&mut bytes, link, end(CROWD, 10_000 + port), vip, b"hello");
        story.world.give(machine, Input::Frame(PortId(CLIENT_SIDE as u8), bytes[..len].to_vec()));
        if port % 64 == 0 {
            story.run_ms(1);
        }
    }
}

/// A switchover is asked for at once after a vserver has become STATEFUL: its connections are told first.
#[test]
fn a_switchover_waits_for_what_has_just_become_stateful() {
    let mut story = Story::whole(roomy());
    let primary = story.primary();
    // What is connected while its vserver is DISABLED was never held.
    story.world.reference.strict = false;
    for vserver in ["udp-v4", "usip-v4"] {
        assert_eq!(story.command(primary, &format!("set lb vserver {vserver} -connFailover DISABLED")), "");
    }
    story.run_ms(50);
    crowd(&mut story, primary, 20_000);
    story.run_ms(50);
    story.world.mute_servers(story.world.now);
    let numbers: Vec<usize> = (0..6).map(|_| story.connect(USIP, false)).collect();
    story.run_ms(50);
    let counts = story.node(primary).engine().counts();
    assert!(counts.flows > 20_000 && counts.in_session == 0, "{counts:?}");
    story.world.command(primary, 1, "set lb vserver usip-v4 -connFailover STATEFUL");
    story.fault(Fault::ForceFailover);
    story.until("the other leads", |world| world.primary() == Some(1 - primary));
    assert_eq!(story.node(1 - primary).engine().counts().flows, 6, "{}", story.log());
    for number in numbers {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
}

/// The primary dies when the other node has heard that a vserver is not STATEFUL any more, and not yet which flows are
/// to be forgotten: there is nothing to protect of them.
#[test]
fn flows_that_a_dead_primary_did_not_take_back_are_not_called_unprotected() {
    let mut story = Story::whole(roomy());
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    crowd(&mut story, primary, 4_000);
    story.until("told", |world| {
        world.machines[secondary].node.as_ref().is_some_and(|n| n.engine().counts().flows == 4_000)
    });
    story.run_ms(50);
    let is_off = |world: &World| {
        let [a, b] =
            [0, 1].map(|machine| world.machines[machine].node.as_ref().expect("it runs").config().fingerprint());
        a == b
    };
    let now = story.world.now;
    story.world.command(primary, 1, "set lb vserver udp-v4 -connFailover DISABLED");
    story.until("off", is_off);
    story.fault(Fault::Kill(primary));
    assert!(story.world.now.since(now) < Duration::from_millis(1));
    assert!(story.node(secondary).engine().counts().flows > 0, "not all is taken back");
    story.until("the other leads", |world| world.primary() == Some(secondary));
    story.run_ms(50);
    let counts = story.node(secondary).engine().counts();
    assert!(counts.flows > 0 && counts.unprotected == 0, "{counts:?}");
}
