//! The table through the front door: every command can be shortened, every option changes something.

use holdfast_config::{Config, Scope, parse};

fn apply(config: &mut Config, line: &str) {
    config.apply(&parse(line).unwrap_or_else(|e| panic!("{line}: {e}"))).unwrap_or_else(|e| panic!("{line}: {e}"));
}

/// A world in which every object named below exists.
fn world() -> Config {
    let mut config = Config::new();
    for line in [
        "set ns config -IPAddress 10.0.0.1 -netmask 24",
        "add HA node 1 10.0.0.2",
        "add interface 1/1 -device eth1",
        "add ns ip 192.0.2.2 24",
        "add ns ip6 2001:db8::2/64",
        "add server srv 192.0.2.21",
        "add service svc srv ANY *",
        "add serviceGroup group ANY",
        "add lb monitor mon TCP",
        "add lb monitor ecv TCP-ECV",
        "add lb monitor http HTTP",
        "add lb monitor body HTTP-ECV",
        "add lb monitor ftp FTP -userName u",
        "add lb monitor dns DNS-TCP -query a",
        "add lb vserver vs ANY 192.0.2.10 *",
        "add lb vserver spare ANY 0.0.0.0 0",
    ] {
        apply(&mut config, line);
    }
    config
}

#[test]
fn every_set_is_kept_and_every_unset_takes_it_back() {
    let cases: &[(&str, &[&str])] = &[
        ("ns ip 192.0.2.2", &["-arp DISABLED", "-icmp DISABLED"]),
        ("ns ip 2001:db8::2", &["-nd DISABLED"]),
        ("server srv", &["-comment x"]),
        ("ns spParams", &["-baseThreshold 3", "-throttle Relaxed"]),
        (
            "service svc",
            &[
                "-usip YES",
                "-useproxyport YES",
                "-maxClient 9",
                "-sp ON",
                "-TCPB YES",
                "-cltTimeout 5",
                "-svrTimeout 6",
                "-healthMonitor NO",
                "-monThreshold 3",
                "-hashId 3",
                "-comment x",
            ],
        ),
        (
            "serviceGroup group",
            &[
                "-usip YES",
                "-useproxyport YES",
                "-maxClient 9",
                "-sp ON",
                "-TCPB YES",
                "-cltTimeout 5",
                "-svrTimeout 6",
                "-healthMonitor NO",
                "-monThreshold 3",
                "-comment x",
            ],
        ),
        (
            "lb monitor mon",
            &[
                "-interval 7",
                "-resptimeout 1",
                "-retries 9",
                "-successRetries 2",
                "-downTime 3",
                "-destIP 192.0.2.9",
                "-destPort 99",
                "-failureRetries 2",
                "-reverse YES",
                "-secure YES",
                "-state DISABLED",
            ],
        ),
        ("lb monitor ecv", &["-send \"a\\r\\n\"", "-recv b"]),
        ("lb monitor http", &["-httpRequest \"GET /x\"", "-respCode 204 300-310", "-customHeaders \"A: b\\r\\n\""]),
        ("lb monitor body", &["-send a", "-recv b", "-customHeaders c"]),
        ("lb monitor ftp", &["-password p"]),
        ("lb monitor dns", &["-queryType AAAA", "-IPAddress 192.0.2.1 192.0.2.2"]),
        (
            "lb vserver vs",
            &[
                "-persistenceType SOURCEIP",
                "-timeout 9",
                "-persistMask 255.0.0.0",
                "-v6persistmasklen 9",
                "-lbMethod ROUNDROBIN",
                "-m MAC",
                "-m IPTUNNEL",
                "-netmask 255.0.0.0",
                "-v6netmasklen 9",
                "-backupLBMethod LEASTPACKETS",
                "-connFailover STATEFUL",
                "-backupVServer spare",
                "-healthThreshold 50",
                "-soBackupAction ACCEPT",
                "-cltTimeout 77",
                "-comment x",
            ],
        ),
        (
            "HA node",
            &[
                "-haStatus STAYSECONDARY",
                "-helloInterval 50",
                "-deadInterval 1",
                "-mirrorMode ASYNC",
                "-failSafe ON",
                "-maxFlips 3",
                "-maxFlipTime 60",
                "-syncvlan 7",
            ],
        ),
        ("interface 1/1", &["-haMonitor OFF", "-haHeartbeat OFF"]),
        ("ns rpcNode 10.0.0.2", &["-password x", "-srcIP 10.0.0.1", "-secure OFF"]),
    ];
    for (object, options) in cases {
        for option in *options {
            let mut config = world();
            let before = config.lines(Scope::All);
            apply(&mut config, &format!("set {object} {option}"));
            assert_ne!(config.lines(Scope::All), before, "set {object} {option}");
            let name = option.split(' ').next().unwrap();
            apply(&mut config, &format!("unset {object} {name}"));
            assert_eq!(config.lines(Scope::All), before, "unset {object} {name}");
        }
    }
}

#[test]
fn the_shared_part_does_not_depend_on_the_node() {
    let (a, mut b) = (world(), Config::new());
    for line in a.lines(Scope::Shared) {
        apply(&mut b, &line);
    }
    apply(&mut b, "set ns config -IPAddress 10.0.0.2 -netmask 24");
    assert_eq!(a.fingerprint(), b.fingerprint());
    apply(&mut b, "set lb vserver vs -comment other");
    assert_ne!(a.fingerprint(), b.fingerprint());
}

#[test]
fn numbers_of_objects_are_never_used_again() {
    let mut config = world();
    let first = config.vserver("vs").unwrap().id;
    apply(&mut config, "rm lb vserver vs");
    apply(&mut config, "add lb vserver vs ANY 192.0.2.10 *");
    assert_ne!(config.vserver("vs").unwrap().id, first);
    let first = config.service("svc").unwrap().id;
    apply(&mut config, "rm service svc");
    apply(&mut config, "add service svc srv ANY *");
    assert_ne!(config.service("svc").unwrap().id, first);
}

#[test]
fn time_outs_follow_the_type_unless_they_are_set() {
    let mut config = world();
    apply(&mut config, "add lb vserver t TCP 192.0.2.11 80");
    apply(&mut config, "add service st srv TCP 80");
    let idle = |c: &Config| {
        (c.vserver("t").unwrap().client_idle().as_secs(), c.service("st").unwrap().server_idle().as_secs())
    };
    assert_eq!(idle(&config), (9000, 9000));
    assert_eq!(config.vserver("vs").unwrap().client_idle().as_secs(), 120);
    apply(&mut config, "set lb vserver t -cltTimeout 60");
    apply(&mut config, "set service st -cltTimeout 30 -svrTimeout 45");
    apply(&mut config, "bind lb vserver t st");
    assert_eq!(idle(&config), (60, 45), "the vserver's value beats the service's");
}

#[test]
fn time_outs_of_each_type_are_the_markets() {
    let mut config = world();
    for (kind, client, server) in [
        ("TCP", 9000, 9000),
        ("SSL_BRIDGE", 9000, 9000),
        ("SSL_TCP", 9000, 9000),
        ("HTTP", 180, 360),
        ("SSL", 180, 360),
    ]
    .into_iter()
    .chain([("UDP", 120, 120), ("ANY", 120, 120), ("DNS", 120, 120)])
    {
        apply(&mut config, &format!("add service {kind} srv {kind} 80"));
        apply(&mut config, &format!("add lb vserver {kind} {kind}"));
        let service = config.service(kind).unwrap();
        assert_eq!(config.vserver(kind).unwrap().client_idle().as_secs(), client, "{kind}");
        assert_eq!((service.client_idle().as_secs(), service.server_idle().as_secs()), (client, server), "{kind}");
        for name in [format!("rm service {kind}"), format!("rm lb vserver {kind}")] {
            apply(&mut config, &name);
        }
    }
}

#[test]
fn a_new_name_keeps_the_number_and_the_place() {
    let mut config = world();
    for line in ["add service later srv TCP 80", "add lb vserver later TCP 192.0.2.11 80", "bind lb vserver vs svc"] {
        apply(&mut config, line);
    }
    let ids = |config: &Config| {
        let vservers = config.vservers().map(|vserver| vserver.id);
        vservers.chain(config.services().map(|service| service.id)).collect::<Vec<_>>()
    };
    let (before, fingerprint) = (ids(&config), config.fingerprint());
    for line in ["rename lb vserver vs vs9", "rename service svc svc9", "rename server srv srv9"] {
        let command = parse(line).unwrap();
        assert!(!config.keeps_to_itself(&command), "both nodes rename");
        config.apply(&command).unwrap();
    }
    assert_eq!(ids(&config), before);
    assert!(config.vserver("vs").is_none() && config.service("svc").is_none() && config.server("srv").is_none());
    assert_eq!(config.vserver("vs9").unwrap().bindings[0].service, "svc9");
    assert_eq!(config.service("svc9").unwrap().server, "srv9");
    for line in ["rename lb vserver vs9 vs", "rename service svc9 svc", "rename server srv9 srv"] {
        apply(&mut config, line);
    }
    assert_eq!(config.fingerprint(), fingerprint);
}

#[test]
fn the_built_in_monitor_counts_until_another_is_bound() {
    let mut config = world();
    apply(&mut config, "add service t srv TCP 80");
    let names = |c: &Config, s: &str| {
        c.effective_monitors(c.service(s).unwrap()).into_iter().map(|(m, _)| m.name).collect::<Vec<_>>()
    };
    assert_eq!(names(&config, "t"), ["tcp-default"]);
    assert_eq!(names(&config, "svc"), ["ping-default"]);
    apply(&mut config, "bind service t -monitorName mon");
    assert_eq!(names(&config, "t"), ["mon"]);
    apply(&mut config, "unbind service t -monitorName mon");
    assert_eq!(names(&config, "t"), ["tcp-default"]);
    apply(&mut config, "set service t -healthMonitor NO");
    assert!(names(&config, "t").is_empty());
    apply(&mut config, "add service bridge srv SSL_BRIDGE 443");
    assert_eq!(names(&config, "bridge"), ["tcp-default"]);
    apply(&mut config, "add service web srv HTTP 80");
    apply(&mut config, "bind service web -monitorName mon");
    assert!(names(&config, "web").is_empty(), "nobody probes what is not served");
}

#[test]
fn passwords_never_leave_by_a_window() {
    for line in ["set ns rpcNode 10.0.0.2 -password s3cret", "add HA node 1 10.0.0.2 -rpcNodePassword s3cret"] {
        let mut config = world();
        if line.starts_with("add") {
            apply(&mut config, "rm HA node 1");
        }
        let command = parse(line).unwrap();
        config.apply(&command).unwrap();
        assert!(command.canonical().contains("s3cret"), "the file and the peer need it");
        assert!(!command.redacted().contains("s3cret"));
        assert!(config.lines(Scope::Local).iter().any(|l| l.contains("s3cret")));
        assert!(!config.lines(Scope::Shared).iter().any(|l| l.contains("s3cret")));
    }
}

#[test]
fn the_password_of_a_monitor_goes_to_the_file_and_the_peer_only() {
    let mut config = world();
    let command = parse("set lb monitor ftp -password s3cret").unwrap();
    config.apply(&command).unwrap();
    assert!(command.canonical().contains("s3cret") && !command.redacted().contains("s3cret"));
    assert!(config.lines(Scope::Shared).iter().any(|l| l.contains("s3cret")), "the peer logs in, too");
}

#[test]
fn a_monitor_that_would_not_fit_a_line_is_refused() {
    let quotes = "\\\"".repeat(512);
    let line = format!("add lb monitor m TCP-ECV -send {} -recv \"{quotes}\"", "s".repeat(512));
    assert_eq!(line.len() > holdfast_config::MAX_LINE, parse(&line).is_err(), "typed in full it is too long by itself");
    // In single quotes they are typed in half of the room that they take when they are written.
    let typed = format!("add lb monitor m TCP-ECV -send '{}' -recv '{}'", "\"".repeat(512), "\"".repeat(512));
    let mut config = Config::new();
    let error = config.apply(&parse(&typed).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "ERROR: String length exceeds maximum [monitorName, m]");
    apply(&mut config, &format!("add lb monitor m TCP-ECV -send '{}'", "\"".repeat(512)));
    let error = config.apply(&parse(&format!("set lb monitor m -recv '{}'", "\"".repeat(512))).unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "ERROR: String length exceeds maximum [monitorName, m]");
    for line in config.lines(Scope::All) {
        assert!(parse(&line).is_ok(), "{} bytes", line.len());
    }
}

#[test]
fn what_a_monitor_sends_is_what_its_escapes_mean() {
    let bytes = holdfast_config::unescape(r#"a\r\n\t\x41\xff\\n\"\'é"#);
    assert_eq!(bytes, b"a\r\n\tA\xff\\n\"'\xc3\xa9");
    let mut config = Config::new();
    for (name, typed) in
        [("one", r#""a\r\x00""#), ("two", r#"'a\\r\\x00'"#), ("three", r"q/a\r\x00/"), ("four", r"a\r\x00")]
    {
        apply(&mut config, &format!("add lb monitor {name} TCP-ECV -send {typed}"));
        let monitor = config.monitor(name).unwrap();
        let holdfast_config::MonitorKind::TcpEcv(pattern) = &monitor.kind else { panic!("{monitor:?}") };
        assert_eq!(holdfast_config::unescape(&pattern.send), b"a\r\0", "{typed}");
    }
}

#[test]
fn a_show_is_no_change() {
    let error = Config::new().apply(&parse("show lb vserver").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "ERROR: Operation not permitted [show lb vserver]");
}

#[test]
fn the_longest_object_still_fits_a_line() {
    let mut config = Config::new();
    let (long, comment) = ("n".repeat(127), "\\\"".repeat(255));
    apply(
        &mut config,
        &format!("add server {long} 2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff -state DISABLED -comment \"{comment}\""),
    );
    apply(
        &mut config,
        &format!(
            "add service {long} {long} ANY 65534 -usip YES -TCPB YES -cltTimeout 31536000 -svrTimeout 31536000 -healthMonitor NO \
             -monThreshold 65535 -state DISABLED -comment \"{comment}\""
        ),
    );
    apply(
        &mut config,
        &format!(
            "add lb vserver {long} ANY 2001:db8:aaaa:bbbb:cccc:dddd:eeee:fffe 65534 -persistenceType SOURCEIP -timeout 1440 \
             -persistMask 255.255.255.128 -v6persistmasklen 127 -lbMethod SRCIPSRCPORTHASH -m IPTUNNEL -connFailover STATELESS \
             -cltTimeout 31536000 -state DISABLED -comment \"{comment}\""
        ),
    );
    apply(&mut config, &format!("bind lb vserver {long} {long} -weight 100"));
    for line in config.lines(Scope::All) {
        assert!(parse(&line).is_ok(), "{} bytes", line.len());
    }
}
