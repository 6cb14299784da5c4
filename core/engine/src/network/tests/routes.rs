//! Where packets go.

use super::*;

#[test]
fn the_longest_prefix_wins_and_connected_subnets_need_no_gateway() {
    let mut plan = plan();
    plan.routes.push(route(Addr::v4([198, 51, 0, 0]), 16, server_net(253)));
    plan.routes.push(route(Addr::v4([198, 51, 100, 0]), 24, client_net(253)));
    let lab = Lab::with(&plan, &Limits::default());
    let hop = |addr| lab.network.next_hop(addr);
    assert_eq!(hop(server_net(7)), Some(server_net(7)));
    assert_eq!(hop(Addr::v4([198, 51, 100, 7])), Some(client_net(253)));
    assert_eq!(hop(Addr::v4([198, 51, 101, 7])), Some(server_net(253)));
    assert_eq!(hop(Addr::v4([8, 8, 8, 8])), Some(client_net(254)));
    assert_eq!(hop(v6(2, 77)), Some(v6(2, 77)));
    assert_eq!(hop(v6(9, 77)), Some(link_local(254)), "a link-local gateway is on-link by definition");
    assert_eq!(hop(link_local(5)), Some(link_local(5)));
    let autoconfigured = Addr::v4([169, 254, 1, 1]);
    assert_eq!(hop(autoconfigured), Some(autoconfigured), "not by way of the default gateway");
}

#[test]
fn a_route_whose_gateway_is_not_on_link_is_no_route() {
    let routes = vec![route(Addr::v4([0; 4]), 0, Addr::v4([203, 0, 113, 1]))];
    let lab = Lab::with(&Plan { routes, ..plan() }, &Limits::default());
    assert_eq!(lab.network.next_hop(Addr::v4([8, 8, 8, 8])), None);
    assert_eq!(lab.network.next_hop(v6(9, 77)), None, "no route of the other family applies");
}

#[test]
fn a_connected_subnet_is_nearer_than_a_route_to_the_same_network() {
    let routes = vec![route(server_net(0), 24, client_net(254))];
    let lab = Lab::with(&Plan { routes, ..plan() }, &Limits::default());
    assert_eq!(lab.network.next_hop(server_net(9)), Some(server_net(9)));
}

#[test]
fn a_vip_with_a_wide_prefix_makes_its_subnet_connected_but_is_no_snip() {
    let wide = FloatingAddress { prefix_len: 24, ..vip(Addr::v4([203, 0, 113, 100])) };
    let lab = Lab::with(&Plan { addresses: vec![wide], routes: vec![], ..plan() }, &Limits::default());
    let neighbour = Addr::v4([203, 0, 113, 7]);
    assert_eq!(lab.network.next_hop(neighbour), Some(neighbour));
    assert_eq!(lab.network.snips_for(neighbour).next(), None);
    assert_eq!(lab.network.facing(neighbour), Some(wide.addr));
}

#[test]
fn the_snip_lies_in_the_subnet_of_the_server_or_of_the_gateway_to_it() {
    let lab = Lab::new();
    let snip_for = |addr| lab.network.snips_for(addr).next();
    assert_eq!(snip_for(server_net(9)), Some(server_net(2)));
    assert_eq!(snip_for(v6(2, 9)), Some(v6(2, 2)));
    assert_eq!(snip_for(Addr::v4([8, 8, 8, 8])), Some(client_net(1)), "by way of the default gateway");
    assert_eq!(snip_for(v6(9, 9)), Some(v6(1, 1)), "any SNIP of the family for a link-local gateway");
    let only_v4 = Plan { addresses: vec![snip(server_net(2), 24)], routes: vec![], ..plan() };
    let lab = Lab::with(&only_v4, &Limits::default());
    assert_eq!(lab.network.snips_for(v6(2, 9)).next(), None);
    assert_eq!(lab.network.snips_for(Addr::v4([8, 8, 8, 8])).next(), None);
}

#[test]
fn the_narrowest_subnet_gives_the_snip() {
    let addresses = vec![snip(Addr::v4([10, 0, 1, 1]), 16), snip(server_net(2), 24)];
    let lab = Lab::with(&Plan { addresses, ..plan() }, &Limits::default());
    assert_eq!(lab.network.snips_for(server_net(9)).next(), Some(server_net(2)));
    assert_eq!(lab.network.snips_for(Addr::v4([10, 0, 7, 9])).next(), Some(Addr::v4([10, 0, 1, 1])));
}

#[test]
fn addresses_of_the_kernel_and_of_the_plan_are_told_apart() {
    let mut lab = Lab::new();
    lab.network.set_host_addresses(vec![server_net(4), client_net(3)]);
    assert!(lab.network.is_host(client_net(3)) && lab.network.is_host(server_net(4)));
    assert!(!lab.network.is_host(client_net(100)));
    assert_eq!(lab.network.floating(client_net(100)).map(|own| own.kind), Some(FloatingKind::Vip));
    assert_eq!(lab.network.floating(client_net(3)), None);
    assert_eq!(lab.network.port(PortId(2)), Some(&SERVER_PORT));
    assert_eq!(lab.network.port(PortId(7)), None);
}
