//! Properties over random commands: nothing panics, what is written replays, rules always hold.

use std::collections::BTreeMap;

use holdfast_config::{
    Command, Config, ConnFailover, ConnectionFilter, LbVserver, Method, Persistence, Redirection, Replacement, Scope,
    Service, ServiceType, complete, help, parse, parse_all,
};
use proptest::prelude::*;

/// Applies every line that is a change; what is refused is refused.
fn run(config: &mut Config, lines: &[String]) {
    for line in lines {
        let Ok(command) = parse(line) else { continue };
        let before = config.clone();
        if config.apply(&command).is_err() {
            assert_eq!(*config, before, "a refused command changes nothing: {line}");
        }
    }
}

fn replayed(lines: &[String]) -> Config {
    let mut config = Config::new();
    for line in lines {
        let command = parse(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        config.apply(&command).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
    config
}

/// The configuration without what replaying cannot keep: ids, and where a VIP of a vserver stands.
#[derive(Debug, PartialEq)]
struct Content {
    vservers: Vec<LbVserver>,
    services: Vec<Service>,
    addresses: BTreeMap<String, String>,
    rest: String,
}

fn content(config: &Config) -> Content {
    Content {
        vservers: config.vservers().cloned().map(|v| LbVserver { id: 0, ..v }).collect(),
        services: config.services().cloned().map(|s| Service { id: 0, ..s }).collect(),
        addresses: config.ips().iter().map(|i| (i.addr.to_string(), format!("{i:?}"))).collect(),
        rest: format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            config.routes(),
            config.modes(),
            config.servers().collect::<Vec<_>>(),
            config.monitors().collect::<Vec<_>>(),
            config.ns_config(),
            config.ha(),
            config.rpc_nodes(),
            (config.interfaces(), config.failover_sets(), config.virtual_routers(), config.hooks())
        ),
    }
}

/// The rules of connection failover, said again without looking at how they are enforced.
fn assert_rules(config: &Config) {
    for v in config.vservers() {
        let services: Vec<&Service> = v.bindings.iter().map(|b| config.service(&b.service).unwrap()).collect();
        for s in &services {
            let (kind, bound) = (v.kind.word(), s.kind.word());
            assert!(kind == bound || (kind, bound) == ("TCP", "SSL_TCP"));
            assert!(v.failover != ConnFailover::Stateful || !s.tcp_buffering && bound != "SSL_TCP");
            assert!(!v.sessionless || s.usip);
            let loopback = config.service_address(s).is_loopback();
            assert!(v.failover == ConnFailover::Disabled || !loopback, "{}", v.name);
        }
        if v.failover == ConnFailover::Stateful {
            assert!(["TCP", "FTP", "UDP", "ANY", "SSL_BRIDGE"].contains(&v.kind.word()) && !config.ha().inc);
        }
        assert!(v.failover == ConnFailover::Disabled || !v.sessionless && v.pattern.is_none());
        if v.sessionless {
            assert!(["ANY", "UDP", "DNS"].contains(&v.kind.word()) && v.redirection != Redirection::Ip);
            assert!(v.persistence == Persistence::None && v.method != Method::LeastConnection);
        }
        if v.failover == ConnFailover::Stateless {
            assert_eq!(v.kind, ServiceType::Any);
            let by_hash = v.persistence == Persistence::None && v.method == Method::SrcIpSrcPortHash;
            assert!(v.persistence == Persistence::SourceIp || by_hash);
            assert!(services.iter().all(|s| s.usip && config.vservers_of(s).count() == 1));
        }
        assert!(v.backup != v.method || v.method == Method::RoundRobin, "{} has itself for a backup", v.name);
        let claimed = v.addr.filter(|a| !a.is_unspecified());
        assert!(claimed.is_none_or(|a| config.ips().iter().any(|i| i.addr == a)), "a vserver has its VIP");
    }
    for s in config.services() {
        assert!(config.server(&s.server).is_some());
        assert!(s.monitors.iter().all(|b| config.monitor(&b.monitor).is_some()));
        assert!(!(s.usip && s.use_proxy_port));
    }
    for i in config.ips().iter().filter(|i| i.implicit) {
        assert!(config.vservers().any(|v| v.addr == Some(i.addr)), "a VIP goes with its last vserver");
    }
}

fn pick(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(words).prop_map(str::to_owned)
}

fn address() -> impl Strategy<Value = String> {
    pick(&["192.0.2.1", "192.0.2.2", "192.0.2.3", "127.0.0.1", "2001:db8::1", "2001:db8::2", "0.0.0.0", "*"])
}

fn port() -> impl Strategy<Value = String> {
    pick(&["80", "443", "*", "0", "65535"])
}

fn options(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(words), 0..4).prop_map(|o| o.join(" "))
}

const SERVICE_OPTIONS: &[&str] = &[
    "-usip YES",
    "-usip NO",
    "-useproxyport YES",
    "-useproxyport NO",
    "-cltTimeout 60",
    "-svrTimeout 31536000",
    "-healthMonitor NO",
    "-monThreshold 2",
    "-TCPB YES",
    "-hashId 9",
    "-comment 'a \"b\" \\\\ #c'",
    "-state DISABLED",
];
const VSERVER_OPTIONS: &[&str] = &[
    "-connFailover STATELESS",
    "-connFailover STATEFUL",
    "-connFailover DISABLED",
    "-persistenceType SOURCEIP",
    "-persistenceType DESTIP",
    "-persistenceType SRCIPDESTIP",
    "-persistenceType NONE",
    "-lbMethod SRCIPSRCPORTHASH",
    "-lbMethod ROUNDROBIN",
    "-lbMethod LEASTPACKETS",
    "-lbMethod DESTINATIONIPHASH",
    "-backupLBMethod LEASTPACKETS",
    "-netmask 255.255.0.0",
    "-v6netmasklen 48",
    "-timeout 1440",
    "-persistMask 255.255.255.0",
    "-v6persistmasklen 64",
    "-cltTimeout 1",
    "-comment q/x y/",
    "-m MAC",
    "-m IPTUNNEL -sessionless ENABLED -lbMethod SOURCEIPHASH",
    "-IPPattern 198.51.100.0 -IPMask 255.255.255.0",
];
const MONITOR_TYPES: &[&str] =
    &["TCP-ECV", "UDP-ECV", "HTTP", "HTTP-ECV", "FTP", "DNS -query a", "DNS-TCP -query a.b."];
const MONITOR_OPTIONS: &[&str] = &[
    "-send \"a\\r\\n\\x00\"",
    "-send '\\\\\\\\ \" é'",
    "-recv q/ \\\\ /",
    "-recv ''",
    "-respCode 200 301-302",
    "-httpRequest 'GET /a b'",
    "-customHeaders 'A: \"b\"'",
    "-userName u",
    "-password 'a \"b'",
    "-queryType AAAA",
    "-queryType Zone",
    "-IPAddress 192.0.2.9 192.0.2.1",
    "-IPAddress 2001:db8::9",
    "-secure YES",
    "-reverse YES",
    "-retries 9 -failureRetries 4",
];
const UNSET: &[&str] = &[
    "-connFailover",
    "-persistenceType",
    "-lbMethod",
    "-backupLBMethod",
    "-hashId",
    "-usip",
    "-cltTimeout",
    "-comment",
    "-srcIP",
    "-m",
    "-TCPB",
];

fn line() -> impl Strategy<Value = String> {
    let name = || pick(&["a", "b", "c", "'x y'", "_z#1"]);
    let kind = || pick(&["TCP", "UDP", "ANY", "ANY", "ANY", "SSL_BRIDGE", "SSL_TCP", "DNS"]);
    let of_service = prop_oneof![
        (name(), address(), kind(), port(), options(SERVICE_OPTIONS))
            .prop_map(|(n, a, k, p, o)| format!("add service {n} {a} {k} {p} {o}")),
        (name(), options(SERVICE_OPTIONS)).prop_map(|(n, o)| format!("set service {n} {o}")),
        (name(), options(UNSET)).prop_map(|(n, o)| format!("unset service {n} {o}")),
        (name(), name()).prop_map(|(s, m)| format!("bind service {s} -monitorName {m} -weight 7")),
        (name(), name()).prop_map(|(s, m)| format!("unbind service {s} -monitorName {m}")),
        (pick(&["rm", "enable", "disable"]), name()).prop_map(|(v, n)| format!("{v} service {n}")),
        (pick(&["server", "service", "lb vserver"]), name(), name())
            .prop_map(|(o, n, m)| format!("rename {o} {n} {m}")),
    ];
    let of_vserver = prop_oneof![
        (name(), kind(), address(), port(), options(VSERVER_OPTIONS))
            .prop_map(|(n, k, a, p, o)| format!("add lb vserver {n} {k} {a} {p} {o}")),
        (name(), options(VSERVER_OPTIONS)).prop_map(|(n, o)| format!("set lb vserver {n} {o}")),
        (name(), address()).prop_map(|(n, a)| format!("set lb vserver {n} -IPAddress {a}")),
        (name(), options(UNSET)).prop_map(|(n, o)| format!("unset lb vserver {n} {o}")),
        (pick(&["bind", "bind", "bind", "unbind"]), name(), name())
            .prop_map(|(v, a, b)| format!("{v} lb vserver {a} {b}")),
        (pick(&["rm", "enable", "disable"]), name()).prop_map(|(v, n)| format!("{v} lb vserver {n}")),
    ];
    let of_others = prop_oneof![
        (name(), address()).prop_map(|(n, a)| format!("add server {n} {a}")),
        (name(), address()).prop_map(|(n, a)| format!("set server {n} -IPAddress {a}")),
        (pick(&["rm", "enable", "disable"]), name()).prop_map(|(v, n)| format!("{v} server {n}")),
        (name(), pick(&["TCP", "PING"]), pick(&["", "-interval 1 -resptimeout 0.5", "-interval 300 MSEC"]))
            .prop_map(|(n, k, o)| format!("add lb monitor {n} {k} {o}")),
        (name(), pick(MONITOR_TYPES), options(MONITOR_OPTIONS))
            .prop_map(|(n, k, o)| format!("add lb monitor {n} {k} {o}")),
        (pick(&["set", "unset"]), name(), options(MONITOR_OPTIONS))
            .prop_map(|(v, n, o)| format!("{v} lb monitor {n} {o}")),
        (pick(&["rm", "enable", "disable"]), name()).prop_map(|(v, n)| format!("{v} lb monitor {n}")),
        (address(), pick(&["24", "32", "64", "128"]), pick(&["VIP", "SNIP"]))
            .prop_map(|(a, m, t)| format!("add ns ip {a} {m} -type {t}")),
        (pick(&["rm", "enable", "disable"]), address()).prop_map(|(v, a)| format!("{v} ns ip {a}")),
        (address(), pick(&["-icmp", "-arp", "-nd"])).prop_map(|(a, o)| format!("set ns ip {a} {o} DISABLED")),
        (pick(&["add", "rm"]), address()).prop_map(|(v, a)| format!("{v} route 10.0.0.0 255.0.0.0 {a}")),
        (pick(&["add", "rm"]), address()).prop_map(|(v, a)| format!("{v} route6 2001:db8:1::/48 {a}")),
        (pick(&["enable", "disable"]), pick(&["L3", "USIP", "l3 usip"])).prop_map(|(v, m)| format!("{v} ns mode {m}")),
    ];
    let of_pair = prop_oneof![
        address().prop_map(|a| format!("set ns config -IPAddress {a} -netmask 24")),
        (address(), pick(&["", " -rpcNodePassword pw", " -rpcNodePassword \"a b\""]))
            .prop_map(|(a, o)| format!("add HA node 1 {a}{o}")),
        Just("rm HA node 1".to_owned()),
        pick(&["-deadInterval 3.25", "-helloInterval 200", "-haStatus STAYPRIMARY", "-mirrorMode ASYNC"])
            .prop_map(|o| format!("set HA node {o}")),
        (address(), pick(&["x", "'a b'", "\"q/z\"", "-x", "'[1-2]'", "\"\\\"\""]))
            .prop_map(|(a, p)| format!("set ns rpcNode {a} -password {p}")),
        (
            address(),
            pick(&["-password 0aff -encrypted -encryptmethod ENCMTHD_3", "-secure OFF", "-secure YES -srcIP *"])
        )
            .prop_map(|(a, o)| format!("set ns rpcNode {a} {o}")),
        (pick(&["1/1", "1/2"]), pick(&["eth0", "eth1"])).prop_map(|(i, d)| format!("add interface {i} -device {d}")),
        pick(&["1/1", "1/2"]).prop_map(|i| format!("rm interface {i}")),
        (pick(&["enable", "disable"]), pick(&["1/1", "1/2"])).prop_map(|(v, i)| format!("{v} interface {i}")),
        (pick(&["1/1", "1/2"]), pick(&["-haMonitor OFF", "-haHeartbeat OFF", "-haMonitor ON"]))
            .prop_map(|(i, o)| format!("set interface {i} {o}")),
        (pick(&["add", "rm", "bind", "unbind"]), pick(&["fis a", "fis b"]), pick(&["", "1/1", "1/2 1/1"]))
            .prop_map(|(v, f, i)| format!("{v} {f} {i}")),
        (pick(&["add", "rm", "bind", "unbind"]), pick(&["vrID 1", "vrID 2"]), pick(&["", "-ifnum 1/1", "-ifnum 1/2"]))
            .prop_map(|(v, r, i)| format!("{v} {r} {i}")),
        (pick(&["bind", "unbind"]), pick(&["*", "10.0.0.0 255.0.0.0", "192.0.2.1", "2001:db8::/32"]))
            .prop_map(|(v, r)| format!("{v} HA node -routeMonitor {r}")),
        (pick(&["a", "b"]), pick(&["/bin/true", "'/a b'"])).prop_map(|(n, p)| format!("add HA hook {n} -command {p}")),
        pick(&["rm HA hook a", "set HA node -failSafe ON -maxFlips 2 -syncvlan 9", "unset HA node -syncvlan"]),
    ];
    prop_oneof![3 => of_service, 3 => of_vserver, 2 => of_others, 1 => of_pair]
}

/// Changes around two vservers and two services that could be STATELESS: the rules meet often.
fn failover_line() -> impl Strategy<Value = String> {
    let name = || pick(&["a", "b"]);
    prop_oneof![
        (name(), pick(&["YES", "NO"])).prop_map(|(s, u)| format!("set service {s} -usip {u}")),
        (name(), pick(&["YES", "NO"])).prop_map(|(s, b)| format!("set service {s} -TCPB {b}")),
        (name(), pick(&["-m MAC -sessionless ENABLED", "-sessionless DISABLED", "-m IP", "-lbMethod ROUNDROBIN"]))
            .prop_map(|(v, o)| format!("set lb vserver {v} {o}")),
        (name(), pick(&["DISABLED", "STATEFUL", "STATELESS", "STATELESS"]))
            .prop_map(|(v, f)| format!("set lb vserver {v} -connFailover {f}")),
        (name(), pick(&["-persistenceType NONE", "-persistenceType SOURCEIP", "-lbMethod SRCIPSRCPORTHASH"]))
            .prop_map(|(v, o)| format!("set lb vserver {v} {o}")),
        (name(), pick(&["-usip", "-useproxyport"])).prop_map(|(s, o)| format!("unset service {s} {o}")),
        (pick(&["bind", "bind", "unbind"]), name(), name()).prop_map(|(w, v, s)| format!("{w} lb vserver {v} {s}")),
        (name(), pick(&["127.0.0.1", "192.0.2.21", "192.0.2.22", "2001:db8::21"]))
            .prop_map(|(s, a)| format!("set server {s} -IPAddress {a}")),
    ]
}

fn failover_world() -> Config {
    replayed(
        &[
            "add server a 192.0.2.21",
            "add server b 192.0.2.22",
            "add service a a ANY * -usip YES",
            "add service b b ANY * -usip YES",
            "add lb vserver a ANY 192.0.2.1 * -persistenceType SOURCEIP",
            "add lb vserver b ANY * 80 -persistenceType SOURCEIP",
        ]
        .map(str::to_owned),
    )
}

/// Words of commands, signs and rubbish in any order.
fn soup() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        pick(&[
            "add",
            "set",
            "show",
            "unset",
            "bind",
            "lb",
            "ns",
            "ha",
            "vserver",
            "service",
            "ip",
            "node",
            "route6",
            "rpcnode",
            "connectiontable",
            "-connFailover",
            "-",
            "--",
            "-detail",
            "&&",
            "||",
            "==",
            "*",
            "[1-",
            "a[1-3]",
            "a[0-4294967295]",
            "q/",
            "\"",
            "'",
            "\\",
            "#",
            "::/0",
            "1.2.3.4/33",
            "-interval",
            "5",
            "msec",
            "-1",
            "0.0001",
            "99999999999999999999",
            "CONNECTION.",
            "(",
            ")",
            "-d",
            "é",
            "\u{202e}",
            "\0",
        ]),
        ".{0,12}",
    ];
    prop::collection::vec(word, 0..12).prop_map(|w| w.join(" "))
}

proptest! {
    #[test]
    fn garbage_is_answered_not_believed(text in prop_oneof![soup(), ".{0,200}"]) {
        let _ = parse(&text);
        let _ = parse_all(&text);
        let _ = complete(&text);
        let _ = help(&text);
        let _ = ConnectionFilter::parse(&text);
    }

    #[test]
    fn a_command_written_out_reads_back_the_same(text in prop_oneof![line(), soup()]) {
        if let Ok(command) = parse(&text) {
            let written = command.canonical();
            let again: Command = parse(&written).unwrap_or_else(|e| panic!("{written}: {e}"));
            prop_assert_eq!(&again, &command, "{}", written);
            prop_assert_eq!(again.canonical(), written);
        }
    }

    #[test]
    fn the_rules_of_failover_hold_from_every_side(lines in prop::collection::vec(failover_line(), 1..40)) {
        let mut config = failover_world();
        for line in &lines {
            run(&mut config, core::slice::from_ref(line));
            assert_rules(&config);
        }
    }

    #[test]
    fn a_configuration_written_out_replays_the_same(lines in prop::collection::vec(line(), 1..60)) {
        let mut config = Config::new();
        run(&mut config, &lines);
        assert_rules(&config);
        let again = replayed(&config.lines(Scope::All));
        prop_assert_eq!(content(&again), content(&config));
        prop_assert_eq!(again.lines(Scope::All), config.lines(Scope::All));
        prop_assert_eq!(again.fingerprint(), config.fingerprint());
        let shared = replayed(&config.lines(Scope::Shared));
        prop_assert_eq!(shared.fingerprint(), config.fingerprint(), "the shared part stands alone");
    }

    #[test]
    fn what_is_taken_over_is_the_primarys_and_keeps_its_numbers(
        common in prop::collection::vec(line(), 0..30),
        here in prop::collection::vec(line(), 0..20),
        there in prop::collection::vec(line(), 0..20),
    ) {
        let (mut secondary, mut primary) = (Config::new(), Config::new());
        run(&mut secondary, &[common.clone(), here].concat());
        run(&mut primary, &[common, there].concat());
        let (theirs, ours) = (primary.lines(Scope::Shared), secondary.lines(Scope::Shared));
        let local = secondary.lines(Scope::Local);
        let Some(mut replacement) = Replacement::begin(&secondary, theirs.clone()) else {
            prop_assert_eq!(theirs, ours);
            return Ok(());
        };
        while !replacement.step(7) {}
        let replaced = replacement.finish(&secondary);
        prop_assert_eq!(replaced.config.lines(Scope::Local), local);
        if replaced.refusals == 0 && secondary.ha().inc == primary.ha().inc {
            prop_assert_eq!(replaced.config.lines(Scope::Shared), theirs);
        }
        for vserver in replaced.config.vservers() {
            prop_assert_eq!(replaced.config.vserver_by_id(vserver.id).map(|v| &v.name), Some(&vserver.name));
            let before = secondary.vserver(&vserver.name);
            if let Some(before) = before.filter(|b| (b.addr, b.port, b.kind) == (vserver.addr, vserver.port, vserver.kind)) {
                prop_assert_eq!(before.id, vserver.id);
            } else {
                prop_assert!(secondary.vserver_by_id(vserver.id).is_none(), "a number is used again");
            }
        }
        for service in replaced.config.services() {
            prop_assert_eq!(replaced.config.service_by_id(service.id).map(|s| &s.name), Some(&service.name));
        }
    }
}
