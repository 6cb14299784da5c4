//! What becomes of types and settings that the engine does not know, and of names.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_config::{Config, Health, parse};
use holdfast_engine::{Limits, VserverKind};

use super::{plan, service_identity, services_by_identity, watched};
use crate::effect::NodeOptions;
use crate::node::Node;

fn made(lines: &[&str]) -> Config {
    let mut config = Config::new();
    lines.iter().for_each(|line| apply(&mut config, line));
    config
}

fn apply(config: &mut Config, line: &str) {
    config.apply(&parse(line).unwrap()).unwrap_or_else(|error| panic!("{line}: {error}"));
}

/// Rows of the plan, services watched, services known to the peer.
fn extent(config: &Config) -> (usize, usize, usize, usize) {
    let plan = plan(config, 1);
    (plan.vservers.len(), plan.services.len(), watched(config).len(), services_by_identity(config).len())
}

#[test]
fn ssl_bridge_is_tcp_to_the_engine() {
    let config = made(&[
        "add service s 192.0.2.21 SSL_BRIDGE 443",
        "add lb vserver v SSL_BRIDGE 192.0.2.10 443 -connFailover STATEFUL",
        "bind lb vserver v s",
    ]);
    let plan = plan(&config, 1);
    let (vserver, service) = (&plan.vservers[0], &plan.services[0]);
    assert_eq!((vserver.kind, service.kind), (VserverKind::Tcp, VserverKind::Tcp));
    assert_eq!((vserver.client_idle, service.server_idle), (Duration::from_secs(9000), Duration::from_secs(9000)));
    assert_eq!(vserver.services.len(), 1);
    let monitors: Vec<_> = watched(&config)[0].monitors.iter().map(|monitor| monitor.name.clone()).collect();
    assert_eq!(monitors, ["tcp-default"]);
    let (_, kind) = service_identity(&config, config.service("s").unwrap()).unwrap();
    assert_eq!(kind, 6);
}

#[test]
fn what_is_not_served_has_no_row_and_no_probe() {
    let served = ["add service t 192.0.2.21 TCP 80", "add lb vserver t TCP 192.0.2.10 80", "bind lb vserver t t"];
    let mut config = made(&served);
    let before = (extent(&config), plan(&config, 1));
    for line in [
        "add service h 192.0.2.21 HTTP 80",
        "add service s 192.0.2.21 SSL_TCP 443",
        "add lb vserver h HTTP 192.0.2.11 80",
        "add lb vserver p TCP -IPPattern 198.51.100.0 -IPMask 255.255.255.0 80",
        "add lb vserver m ANY 192.0.2.12 * -m MAC",
        "add lb vserver l UDP 192.0.2.13 53 -m IPTUNNEL -sessionless ENABLED -lbMethod ROUNDROBIN",
        "bind lb vserver h h",
        "bind lb vserver p t",
        // The engine must not choose it.
        "bind lb vserver t s",
    ] {
        apply(&mut config, line);
    }
    let after = plan(&config, 1);
    assert_eq!(extent(&config), before.0);
    assert_eq!((after.vservers, after.services), (before.1.vservers, before.1.services));
    apply(&mut config, "unset lb vserver m -m");
    assert_eq!(extent(&config).0, before.0.0 + 1, "served again without the setting");
}

#[test]
fn the_engine_does_not_see_a_new_name() {
    let mut config = made(&[
        "add server web 192.0.2.21",
        "add service s web TCP 80",
        "add lb vserver v TCP 192.0.2.10 80 -connFailover STATEFUL",
        "bind lb vserver v s",
    ]);
    let before = (plan(&config, 1), watched(&config), services_by_identity(&config));
    for line in ["rename server web web2", "rename service s s2", "rename lb vserver v v2"] {
        apply(&mut config, line);
    }
    assert_eq!((plan(&config, 1), watched(&config), services_by_identity(&config)), before);
    assert!(config.lines(holdfast_config::Scope::Shared).contains(&"bind lb vserver v2 s2".to_owned()));
}

#[test]
fn a_node_shows_what_it_does_not_serve_as_down() {
    let config = "add service h 192.0.2.21 HTTP 80\nadd lb vserver h HTTP 192.0.2.10 80\nbind lb vserver h h\n\
                  add service t 192.0.2.21 TCP 80 -healthMonitor NO\n\
                  add lb vserver p TCP -IPPattern 198.51.100.0 -IPMask 255.255.255.0 80\nbind lb vserver p t\n";
    let options = NodeOptions {
        boot: 1,
        seed: 1,
        secret: [1; 32],
        password_key: [1; 32],
        stored_term: 0,
        config: config.into(),
        limits: Limits { max_flows: 16, max_neighbours: 16, max_persistence: 4, ..Limits::default() },
        unix_nanos_at_origin: 0,
        host_name: "n".into(),
    };
    let at = Instant::from_nanos(1_000_000);
    let mut node = Node::new(at, options).unwrap();
    let pattern = node.config().vserver("p").unwrap().id;
    assert_eq!(node.vserver_states[&pattern].0, Health::Down, "although its service is up");
    let mut shown = |line: &str| {
        node.handle_command(at, 1, line, false);
        let reply = core::iter::from_fn(|| node.poll_effect()).find_map(|effect| match effect {
            crate::effect::Effect::Reply(reply) => Some(reply.text),
            _ => None,
        });
        reply.unwrap_or_default()
    };
    for (line, why) in [("show service h", "HTTP"), ("show lb vserver h", "HTTP"), ("show lb vserver p", "IPPattern")] {
        let text = shown(line);
        assert!(text.contains("\tState: DOWN\n"), "{text}");
        assert!(text.contains(&format!("\tnot served by this release ({why})\n")), "{text}");
    }
    assert!(shown("show lb vserver p").contains("t (192.0.2.21: 80) - TCP State: UP"));
    assert!(!shown("show service h").contains("1970"), "nobody has looked at it");
    let warned = shown("add lb vserver d DNS 192.0.2.11 53");
    assert_eq!(warned, "Warning: Not served by this release [d, DNS]");
}
