//! The market's two tables about connection failover, one test for each row that the configuration decides.

use holdfast_config::{CommandError, Config, parse};

const STATEFUL_TYPES: [&str; 5] = ["TCP", "UDP", "ANY", "FTP", "SSL_BRIDGE"];
const METHODS: [&str; 11] = [
    "ROUNDROBIN",
    "LEASTCONNECTION",
    "LEASTRESPONSETIME",
    "LRTM",
    "LEASTBANDWIDTH",
    "LEASTPACKETS",
    "SOURCEIPHASH",
    "DESTINATIONIPHASH",
    "SRCIPDESTIPHASH",
    "SRCIPSRCPORTHASH",
    "CUSTOMLOAD",
];
const PERSISTENCE: [&str; 4] = ["NONE", "SOURCEIP", "DESTIP", "SRCIPDESTIP"];

fn change(config: &mut Config, line: &str) -> Result<(), CommandError> {
    config.apply(&parse(line)?).map(drop)
}

/// What becomes of a line in a new configuration that has carried out `before`.
fn outcome(before: &[&str], line: &str) -> Result<(), u16> {
    let mut config = Config::new();
    for line in before {
        change(&mut config, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    change(&mut config, line).map_err(|error| error.code as u16)
}

/// A vserver of a type with options.
fn vserver(kind: &str, options: &str) -> String {
    format!("add lb vserver v {kind} 192.0.2.10 80 {options}")
}

#[test]
fn row_service_type() {
    let unserved = ["HTTP", "SSL", "SSL_TCP", "DNS", "RADIUS"];
    for kind in STATEFUL_TYPES.into_iter().chain(unserved) {
        let stateful = if STATEFUL_TYPES.contains(&kind) { Ok(()) } else { Err(1328) };
        assert_eq!(outcome(&[], &vserver(kind, "-connFailover STATEFUL")), stateful, "{kind}");
        let stateless = if kind == "ANY" { Ok(()) } else { Err(1290) };
        let options = "-persistenceType SOURCEIP -connFailover STATELESS";
        assert_eq!(outcome(&[], &vserver(kind, options)), stateless, "{kind}");
    }
}

#[test]
fn row_lb_methods() {
    for method in METHODS {
        for kind in STATEFUL_TYPES {
            let options = format!("-lbMethod {method} -backupLBMethod ROUNDROBIN -connFailover STATEFUL");
            assert_eq!(outcome(&[], &vserver(kind, &options)), Ok(()), "{kind} {method}");
        }
        let stateless = format!("-lbMethod {method} -connFailover STATELESS");
        let alone = if method == "SRCIPSRCPORTHASH" { Ok(()) } else { Err(60_001) };
        assert_eq!(outcome(&[], &vserver("ANY", &stateless)), alone, "{method}");
        let sticky = format!("{stateless} -persistenceType SOURCEIP");
        assert_eq!(outcome(&[], &vserver("ANY", &sticky)), Ok(()), "{method}");
    }
}

#[test]
fn row_persistence() {
    for persistence in PERSISTENCE {
        for kind in STATEFUL_TYPES {
            let options = format!("-persistenceType {persistence} -connFailover STATEFUL");
            assert_eq!(outcome(&[], &vserver(kind, &options)), Ok(()), "{kind} {persistence}");
        }
        let options = format!("-persistenceType {persistence} -lbMethod SRCIPSRCPORTHASH -connFailover STATELESS");
        let stateless = if ["NONE", "SOURCEIP"].contains(&persistence) { Ok(()) } else { Err(60_001) };
        assert_eq!(outcome(&[], &vserver("ANY", &options)), stateless, "{persistence}");
    }
}

#[test]
fn row_usip() {
    for usip in ["YES", "NO"] {
        let service = format!("add service s 192.0.2.21 ANY * -usip {usip}");
        for (options, expected) in [
            ("-connFailover STATEFUL", Ok(())),
            ("-persistenceType SOURCEIP -connFailover STATELESS", if usip == "YES" { Ok(()) } else { Err(1289) }),
        ] {
            let before = [service.as_str(), &vserver("ANY", options)];
            assert_eq!(outcome(&before, "bind lb vserver v s"), expected, "{usip} {options}");
        }
    }
}

#[test]
fn row_service_binding() {
    let service = "add service s 192.0.2.21 ANY * -usip YES";
    for (mode, expected) in [("STATEFUL", Ok(())), ("STATELESS", Err(60_002))] {
        let first = vserver("ANY", &format!("-persistenceType SOURCEIP -connFailover {mode}"));
        let second = first.replace("vserver v", "vserver w").replace("192.0.2.10", "192.0.2.11");
        let before = [service, &first, &second, "bind lb vserver v s"];
        assert_eq!(outcome(&before, "bind lb vserver w s"), expected, "{mode}");
    }
}

#[test]
fn row_ip_versions() {
    for (vip, server) in [("192.0.2.10", "192.0.2.21"), ("2001:db8::10", "2001:db8::21")] {
        for mode in ["STATEFUL", "STATELESS"] {
            let service = format!("add service s {server} ANY * -usip YES");
            let vserver = format!("add lb vserver v ANY {vip} * -persistenceType SOURCEIP -connFailover {mode}");
            assert_eq!(outcome(&[&service, &vserver], "bind lb vserver v s"), Ok(()), "{vip} {mode}");
        }
    }
}

#[test]
fn row_redundancy_and_inc() {
    let own = "set ns config -IPAddress 10.0.0.1 -netmask 255.255.255.0";
    let inc = "add HA node 1 10.0.9.2 -inc ENABLED";
    let stateless = vserver("ANY", "-persistenceType SOURCEIP -connFailover STATELESS");
    assert_eq!(outcome(&[own, inc], &vserver("TCP", "-connFailover STATEFUL")), Err(1323));
    assert_eq!(outcome(&[own, &vserver("TCP", "-connFailover STATEFUL")], inc), Err(1330));
    assert_eq!(outcome(&[own, inc], &stateless), Ok(()), "nodes that share nothing");
    assert_eq!(outcome(&[], &stateless), Ok(()), "a node without a peer");
}

#[test]
fn row_application_firewall() {
    assert_eq!(outcome(&[], "enable ns feature AppFw"), Err(1074));
}

#[test]
fn row_surge_protection() {
    let service = "add service s 192.0.2.21 TCP 80 -sp ON";
    let before = ["enable ns feature SP", service, &vserver("TCP", "-connFailover STATEFUL")];
    assert_eq!(outcome(&before, "bind lb vserver v s"), Ok(()));
}

#[test]
fn row_access_down() {
    assert_eq!(outcome(&[], "add service s 192.0.2.21 TCP 80 -accessDown YES"), Err(1074));
}

#[test]
fn row_tcp_buffering() {
    let buffering = "add service s 192.0.2.21 TCP 80 -TCPB YES";
    let stateful = vserver("TCP", "-connFailover STATEFUL");
    assert_eq!(outcome(&[buffering, &stateful], "bind lb vserver v s"), Err(1326));
    let bound = [buffering, &vserver("TCP", ""), "bind lb vserver v s"];
    assert_eq!(outcome(&bound, "set lb vserver v -connFailover STATEFUL"), Err(1324));
    let plain = ["add service s 192.0.2.21 TCP 80", &stateful, "bind lb vserver v s"];
    assert_eq!(outcome(&plain, "set service s -TCPB YES"), Err(1327));
}
