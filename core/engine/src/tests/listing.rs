//! The connection table as operators see it.

use super::*;

#[test]
fn connections_are_listed_in_slices() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    for n in 0..10 {
        lab.net.client.port = 1000 + n;
        lab.establish();
    }
    lab.pass(Duration::from_secs(3));
    let (mut cursor, mut rows, mut calls) = (0, Vec::new(), 1);
    while !lab.engine.connections(lab.now, &mut cursor, 3, &mut rows) {
        calls += 1;
    }
    assert_eq!((rows.len(), calls), (10, 4));
    let row = rows[0];
    assert_eq!((row.client.port, row.vip, row.server), (1000, net.vip, net.servers[0]));
    assert_eq!((row.vserver, row.service), (Some(VSERVER), Some(SERVICES[0])));
    assert_eq!((row.state, row.idle.as_secs(), row.mirrored, row.protected), ("ESTABLISHED", 3, false, false));
}

#[test]
fn neighbours_are_listed() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.establish();
    let rows = lab.engine.neighbours();
    let server = rows.iter().find(|row| row.addr == net.servers[0].addr).expect("known");
    assert_eq!((server.mac, server.port), (Some(SERVER_MACS[0]), Some(SERVER_PORT)));
}
