//! The market's rules of connection failover, one test for each row and each side that can break it.

use holdfast_config::{CommandError, Config, Scope, parse};

/// Services that all types of vservers may have.
const SERVICES: &[&str] = &[
    "add service any 192.0.2.21 ANY *",
    "add service usip 192.0.2.22 ANY * -usip YES",
    "add service tcp 192.0.2.21 TCP 80",
    "add service buffering 192.0.2.22 TCP 80 -TCPB YES",
    "add service tls 192.0.2.21 SSL_TCP 443",
    "add service udp 192.0.2.21 UDP 53",
    "add service loop 127.0.0.3 ANY *",
    "add service loop6 ::1 ANY *",
];

fn change(config: &mut Config, line: &str) -> Result<(), CommandError> {
    config.apply(&parse(line)?).map(drop)
}

fn world(lines: &[&str]) -> Config {
    let mut config = Config::new();
    for line in SERVICES.iter().chain(lines) {
        change(&mut config, line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    config
}

/// In a world of `lines`, `line` is refused with this code and text, and changes nothing; behind `remedy` it is carried
/// out, and what it leads to can be written and read.
fn rule(lines: &[&str], line: &str, (code, text): (u32, &str), remedy: &str) {
    let mut config = world(lines);
    let before = config.clone();
    let error = change(&mut config, line).expect_err(line);
    assert_eq!((error.code, error.text.as_str()), (code, text), "{line}");
    assert_eq!(config, before, "{line}");
    change(&mut config, remedy).unwrap_or_else(|error| panic!("{remedy}: {error}"));
    change(&mut config, line).unwrap_or_else(|error| panic!("{line} after {remedy}: {error}"));
    let mut again = Config::new();
    for line in config.lines(Scope::All) {
        change(&mut again, &line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    assert_eq!(again.fingerprint(), config.fingerprint());
}

const STATELESS: &str = "add lb vserver v ANY 192.0.2.10 * -persistenceType SOURCEIP -connFailover STATELESS";
const STATEFUL: &str = "add lb vserver v TCP 192.0.2.10 80 -connFailover STATEFUL";
const ANY: &str = "add lb vserver v ANY 192.0.2.10 * -persistenceType SOURCEIP";
const TCP: &str = "add lb vserver v TCP 192.0.2.10 80";
const SESSIONLESS: &str = "add lb vserver v ANY 192.0.2.10 * -m MAC -sessionless ENABLED -lbMethod ROUNDROBIN";
const PATTERN: &str = "add lb vserver v TCP -IPPattern 198.51.100.0 -IPMask 255.255.255.0 80";

const ROW_1280: (u32, &str) = (1280, "Incompatible LB method for sessionless vserver");
const ROW_1281: (u32, &str) = (1281, "Incompatible persistence method for sessionless vserver");
const ROW_1282: (u32, &str) = (1282, "Sessionless vserver must be of type ANY, DNS or UDP");
const ROW_1283: (u32, &str) = (1283, "Sessionless vserver must have MAC or IPTUNNEL mode set");
const ROW_1284: (u32, &str) = (1284, "Service bound to a sessionless vserver must have UseSourceIP mode enabled");
const ROW_1289: (u32, &str) = (
    1289,
    "Service must have Use Source IP option set in order to be bound to a connection failover enabled virtual server",
);
const ROW_1290: (u32, &str) = (1290, "Connection failover can only be enabled on a virtual server of service type ANY");
const ROW_1293: (u32, &str) = (1293, "Connection Failover is not supported for sessionless lb vserver");
const ROW_1304: (u32, &str) = (1304, "Service type mismatch between the vserver and service");
const ROW_1323: (u32, &str) = (1323, "Stateful connection failover cannot be enabled in INC mode");
const ROW_1324: (u32, &str) = (
    1324,
    "Stateful connection failover cannot be enabled on a vserver that binds services with TCP buffering enabled",
);
const ROW_1326: (u32, &str) =
    (1326, "Service with TCP buffering enabled cannot be bound to a vserver with stateful connection failover enabled");
const ROW_1327: (u32, &str) =
    (1327, "TCP buffering cannot be enabled on a service bound to a vserver with stateful connection failover enabled");
const ROW_1328: (u32, &str) =
    (1328, "Stateful connection failover cannot be enabled on a vserver of this service type");
const ROW_1329: (u32, &str) =
    (1329, "SSL TCP service cannot be bound to a TCP vserver with stateful connection failover enabled");
const ROW_1330: (u32, &str) = (
    1330,
    "Ha node with INC mode enabled cannot be added to the system that has vserver(s) with stateful connection failover enabled",
);
const ROW_1331: (u32, &str) =
    (1331, "Stateful connection failover cannot be enabled on a vserver that binds services of type SSL_TCP");
const ROW_1338: (u32, &str) = (1338, "Loopback service cannot be bound to vserver with connection failover enabled ");
const ROW_1339: (u32, &str) =
    (1339, "Connection Failover cannot be set to STATEFUL/STATELESS on vserver with bound loopback service");
const ROW_1342: (u32, &str) = (1342, "Connection Failover is not supported for pattern based vservers");
const ROW_2329: (u32, &str) = (
    2329,
    "MAC/IPTUNNEL mode can be set only for a VIP with wildcard IP or with service type ANY or for a sessionless VIP",
);
const ROW_60001: (u32, &str) =
    (60_001, "Stateless connection failover needs SOURCEIP persistence or the SRCIPSRCPORTHASH method");
const ROW_60002: (u32, &str) =
    (60_002, "A service of a vserver with stateless connection failover can be bound to that vserver only");

#[test]
fn row_1280_asked_of_the_vserver() {
    rule(
        &[SESSIONLESS],
        "set lb vserver v -lbMethod LEASTCONNECTION",
        ROW_1280,
        "set lb vserver v -sessionless DISABLED",
    );
    let line = "set lb vserver v -sessionless ENABLED";
    rule(&["add lb vserver v ANY 192.0.2.10 * -m MAC"], line, ROW_1280, "set lb vserver v -lbMethod SOURCEIPHASH");
}

#[test]
fn row_1281_asked_of_the_vserver() {
    let line = "set lb vserver v -persistenceType SOURCEIP";
    rule(&[SESSIONLESS], line, ROW_1281, "set lb vserver v -sessionless DISABLED");
    let persistent = "add lb vserver v ANY 192.0.2.10 * -m MAC -lbMethod ROUNDROBIN -persistenceType SOURCEIP";
    rule(&[persistent], "set lb vserver v -sessionless ENABLED", ROW_1281, "unset lb vserver v -persistenceType");
}

#[test]
fn row_1282_asked_of_the_vserver() {
    for kind in ["TCP", "SSL_BRIDGE", "HTTP", "TFTP"] {
        let mut config = world(&[&format!("add lb vserver v {kind} * 80 -m MAC -lbMethod ROUNDROBIN")]);
        let error = change(&mut config, "set lb vserver v -sessionless ENABLED").expect_err(kind);
        assert_eq!((error.code, error.text.as_str()), ROW_1282, "{kind}");
    }
    for kind in ["ANY", "UDP", "DNS"] {
        world(&[&format!(
            "add lb vserver v {kind} 192.0.2.10 80 -m IPTUNNEL -lbMethod ROUNDROBIN -sessionless ENABLED"
        )]);
    }
}

#[test]
fn row_1283_asked_of_the_vserver() {
    let plain = "add lb vserver v ANY 192.0.2.10 * -lbMethod ROUNDROBIN";
    rule(&[plain], "set lb vserver v -sessionless ENABLED", ROW_1283, "set lb vserver v -m MAC");
    rule(&[SESSIONLESS], "unset lb vserver v -m", ROW_1283, "unset lb vserver v -sessionless");
}

#[test]
fn row_1284_asked_of_the_binding() {
    rule(&[SESSIONLESS], "bind lb vserver v any", ROW_1284, "set service any -usip YES");
}

#[test]
fn row_1284_asked_of_the_vserver() {
    let lines = ["add lb vserver v ANY 192.0.2.10 * -m MAC -lbMethod ROUNDROBIN", "bind lb vserver v any"];
    rule(&lines, "set lb vserver v -sessionless ENABLED", ROW_1284, "set service any -usip YES");
}

#[test]
fn row_1284_asked_of_the_service() {
    let lines = [SESSIONLESS, "bind lb vserver v usip"];
    rule(&lines, "set service usip -usip NO", ROW_1284, "unbind lb vserver v usip");
    rule(&lines, "unset service usip -usip", ROW_1284, "unbind lb vserver v usip");
}

#[test]
fn row_1289_asked_of_the_binding() {
    rule(&[STATELESS], "bind lb vserver v any", ROW_1289, "set service any -usip YES");
}

#[test]
fn row_1289_asked_of_the_vserver() {
    let lines = [ANY, "bind lb vserver v any"];
    rule(&lines, "set lb vserver v -connFailover STATELESS", ROW_1289, "set service any -usip YES");
}

#[test]
fn row_1289_asked_of_the_service() {
    let lines = [STATELESS, "bind lb vserver v usip"];
    rule(&lines, "set service usip -usip NO", ROW_1289, "set lb vserver v -connFailover STATEFUL");
    rule(&lines, "unset service usip -usip", ROW_1289, "unbind lb vserver v usip");
}

#[test]
fn row_1290_asked_of_the_vserver() {
    for kind in ["TCP", "UDP", "SSL_BRIDGE", "SSL_TCP", "HTTP", "DNS"] {
        let mut config = world(&[&format!("add lb vserver v {kind} 192.0.2.10 80 -persistenceType SOURCEIP")]);
        for line in [
            "set lb vserver v -connFailover STATELESS",
            &format!("add lb vserver w {kind} 192.0.2.11 80 -persistenceType SOURCEIP -connFailover STATELESS"),
        ] {
            let error = change(&mut config, line).expect_err(kind);
            assert_eq!((error.code, error.text.as_str()), ROW_1290, "{kind}");
        }
    }
    world(&[STATELESS]);
}

#[test]
fn row_1293_asked_of_the_failover() {
    for failover in ["STATEFUL", "STATELESS"] {
        let line = format!("set lb vserver v -connFailover {failover}");
        let remedy = "set lb vserver v -sessionless DISABLED -lbMethod SRCIPSRCPORTHASH";
        rule(&[SESSIONLESS], &line, ROW_1293, remedy);
        let both = format!("{SESSIONLESS} -connFailover {failover}").replace("vserver v", "vserver w");
        assert_eq!(change(&mut world(&[]), &both).expect_err(&both).code, 1293);
    }
}

#[test]
fn row_1293_asked_of_sessionless() {
    for failover in ["STATEFUL", "STATELESS"] {
        let lines = [format!("add lb vserver v ANY 192.0.2.10 * -lbMethod SRCIPSRCPORTHASH -connFailover {failover}")];
        let line = "set lb vserver v -sessionless ENABLED -m MAC";
        rule(&lines.each_ref().map(String::as_str), line, ROW_1293, "unset lb vserver v -connFailover");
    }
}

#[test]
fn row_1304_asked_of_the_binding() {
    let kinds = ["TCP", "UDP", "ANY", "SSL_BRIDGE", "SSL_TCP", "HTTP", "SSL", "DNS"];
    for vserver in kinds {
        for service in kinds {
            let made = [format!("add lb vserver v {vserver} * 80"), format!("add service s 192.0.2.29 {service} 80")];
            let bound = change(&mut world(&made.each_ref().map(String::as_str)), "bind lb vserver v s");
            match vserver == service || (vserver, service) == ("TCP", "SSL_TCP") {
                true => assert_eq!(bound, Ok(()), "{service} to {vserver}"),
                false => {
                    let error = bound.expect_err(service);
                    assert_eq!((error.code, error.text.as_str()), ROW_1304, "{service} to {vserver}");
                }
            }
        }
    }
}

const INC: &[&str] =
    &["set ns config -IPAddress 10.0.0.1 -netmask 255.255.255.0", "add HA node 1 10.9.0.1 -inc ENABLED"];

#[test]
fn row_1323_asked_of_the_vserver() {
    let lines = [INC[0], INC[1], TCP];
    rule(&lines, "set lb vserver v -connFailover STATEFUL", ROW_1323, "rm HA node 1");
    rule(INC, STATEFUL, ROW_1323, "rm HA node 1");
    world(&[INC[0], INC[1], STATELESS]);
}

#[test]
fn row_1330_asked_of_the_pair() {
    rule(&[INC[0], STATEFUL], INC[1], ROW_1330, "set lb vserver v -connFailover DISABLED");
    world(&[INC[0], STATELESS, INC[1]]);
}

#[test]
fn row_1324_asked_of_the_vserver() {
    let lines = [TCP, "bind lb vserver v buffering"];
    rule(&lines, "set lb vserver v -connFailover STATEFUL", ROW_1324, "set service buffering -TCPB NO");
}

#[test]
fn row_1326_asked_of_the_binding() {
    rule(&[STATEFUL], "bind lb vserver v buffering", ROW_1326, "unset service buffering -TCPB");
}

#[test]
fn row_1327_asked_of_the_service() {
    let lines = [STATEFUL, "bind lb vserver v tcp"];
    rule(&lines, "set service tcp -TCPB YES", ROW_1327, "unset lb vserver v -connFailover");
}

#[test]
fn rows_1324_to_1327_are_about_stateful_failover_only() {
    let stateless = [STATELESS, "bind lb vserver v usip", "set service usip -TCPB YES", "unbind lb vserver v usip"];
    world(&[&stateless[..], &["bind lb vserver v usip"]].concat());
}

#[test]
fn row_1328_asked_of_the_vserver() {
    for kind in ["HTTP", "SSL", "SSL_TCP", "DNS", "TFTP"] {
        let made = format!("add lb vserver v {kind} 192.0.2.10 80");
        let mut config = world(&[&made]);
        for line in ["set lb vserver v -connFailover STATEFUL", &format!("{made} -connFailover STATEFUL")] {
            let error = change(&mut config, &line.replace("add lb vserver v", "add lb vserver w")).expect_err(line);
            assert_eq!((error.code, error.text.as_str()), ROW_1328, "{kind}");
        }
    }
    for kind in ["TCP", "UDP", "ANY", "SSL_BRIDGE"] {
        world(&[&format!("add lb vserver v {kind} 192.0.2.10 80 -connFailover STATEFUL")]);
    }
}

#[test]
fn row_1329_asked_of_the_binding() {
    rule(&[STATEFUL], "bind lb vserver v tls", ROW_1329, "unset lb vserver v -connFailover");
}

#[test]
fn row_1331_asked_of_the_vserver() {
    let lines = [TCP, "bind lb vserver v tls"];
    rule(&lines, "set lb vserver v -connFailover STATEFUL", ROW_1331, "unbind lb vserver v tls");
}

#[test]
fn row_1338_asked_of_the_binding() {
    let off = "unset lb vserver v -connFailover";
    rule(&[&STATELESS.replace("192.0.2.10", "*")], "bind lb vserver v loop", ROW_1338, off);
    let stateful = ["192.0.2.10", "2001:db8::10"].map(|addr| format!("add lb vserver v ANY {addr} * -connF STATEFUL"));
    rule(&[&stateful[0]], "bind lb vserver v loop", ROW_1338, off);
    rule(&[&stateful[1]], "bind lb vserver v loop6", ROW_1338, off);
}

#[test]
fn row_1339_asked_of_the_vserver() {
    for (service, addr) in [("loop", "192.0.2.10"), ("loop6", "2001:db8::10")] {
        let lines = [format!("add lb vserver v ANY {addr} *"), format!("bind lb vserver v {service}")];
        let remedy = format!("unbind lb vserver v {service}");
        for failover in ["STATEFUL", "STATELESS -lbMethod SRCIPSRCPORTHASH"] {
            let line = format!("set lb vserver v -connFailover {failover}");
            rule(&lines.each_ref().map(String::as_str), &line, ROW_1339, &remedy);
        }
    }
}

#[test]
fn row_1339_asked_of_the_server() {
    let lines = [STATEFUL, "bind lb vserver v tcp"];
    rule(&lines, "set server 192.0.2.21 -IPAddress 127.255.0.9", ROW_1339, "unset lb vserver v -connFailover");
}

#[test]
fn row_1342_asked_of_the_vserver() {
    for failover in ["STATEFUL", "STATELESS"] {
        let mut config = world(&[PATTERN]);
        let added = format!("{PATTERN} -connFailover {failover}").replace("vserver v", "vserver w");
        for line in [format!("set lb vserver v -connFailover {failover}"), added] {
            let error = change(&mut config, &line).expect_err(&line);
            assert_eq!((error.code, error.text.as_str()), ROW_1342, "{line}");
        }
    }
    world(&[TCP, "set lb vserver v -connFailover STATEFUL"]);
}

#[test]
fn row_2329_asked_of_the_vserver() {
    for mode in ["MAC", "IPTUNNEL"] {
        let line = format!("set lb vserver v -m {mode}");
        rule(&[TCP], &line, ROW_2329, "set lb vserver v -IPAddress *");
        world(&[ANY, &line]);
    }
    let lines = ["add lb vserver v TCP * 80 -m MAC"];
    rule(&lines, "set lb vserver v -IPAddress 192.0.2.10", ROW_2329, "unset lb vserver v -m");
    let udp = SESSIONLESS.replace("ANY", "UDP");
    rule(&[&udp], "set lb vserver v -sessionless DISABLED", ROW_2329, "set lb vserver v -IPAddress *");
}

#[test]
fn row_60001_asked_of_the_vserver() {
    let line = "set lb vserver v -connFailover STATELESS";
    for method in ["ROUNDROBIN", "LEASTCONNECTION", "SOURCEIPHASH"] {
        let plain = format!("add lb vserver v ANY 192.0.2.10 * -lbMethod {method}");
        rule(&[&plain], line, ROW_60001, "set lb vserver v -lbMethod SRCIPSRCPORTHASH");
        rule(&[&plain], line, ROW_60001, "set lb vserver v -persistenceType SOURCEIP");
    }
    let to_another = "set lb vserver v -connFailover STATEFUL";
    rule(&[STATELESS], "unset lb vserver v -persistenceType", ROW_60001, to_another);
    let hashed = "add lb vserver v ANY 192.0.2.10 * -lbMethod SRCIPSRCPORTHASH -connFailover STATELESS";
    rule(&[hashed], "unset lb vserver v -lbMethod", ROW_60001, to_another);
}

#[test]
fn row_60002_asked_of_the_binding() {
    let other = "add lb vserver w ANY 192.0.2.11 *";
    let lines = [STATELESS, other, "bind lb vserver w usip"];
    rule(&lines, "bind lb vserver v usip", ROW_60002, "unbind lb vserver w usip");
    let lines = [STATELESS, other, "bind lb vserver v usip"];
    rule(&lines, "bind lb vserver w usip", ROW_60002, "set lb vserver v -connFailover DISABLED");
}

#[test]
fn row_60002_asked_of_the_vserver() {
    let lines = [ANY, "add lb vserver w ANY 192.0.2.11 *", "bind lb vserver v usip", "bind lb vserver w usip"];
    rule(&lines, "set lb vserver v -connFailover STATELESS", ROW_60002, "unbind lb vserver w usip");
}
