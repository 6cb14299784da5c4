//! Command lines: what was accepted replays, and nothing typed may panic.

use holdfast_config::{Config, ConnectionFilter, Kind, Scope, complete, help, parse, parse_all};

/// Lines of one input at most.
const MAX_LINES: usize = 64;

/// Reads `data` as command lines, with bracket ranges, and applies them; then
/// the configuration is written out and replayed.
pub fn config_lines(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut config = Config::new();
    for line in text.lines().take(MAX_LINES) {
        let _ = complete(line);
        let _ = help(line);
        let _ = parse(line).map_err(|error| error.to_string());
        let Ok(commands) = parse_all(line) else { continue };
        for command in commands {
            if command.kind() == Kind::Show {
                let _ = ConnectionFilter::parse(command.connection_filter().unwrap_or_default());
                continue;
            }
            let again = parse(&command.canonical());
            assert_eq!(
                again.as_ref().map(|c| c.canonical()).ok(),
                Some(command.canonical()),
                "canonical text is stable"
            );
            let _ = command.redacted();
            let before = config.lines(Scope::All);
            if config.apply(&command).is_err() {
                assert_eq!(config.lines(Scope::All), before, "a refused command changes nothing");
            }
        }
    }
    replay(&config);
}

fn replay(config: &Config) {
    let mut again = Config::new();
    for line in config.lines(Scope::All) {
        let command = parse(&line).unwrap_or_else(|error| panic!("own line refused: {line}: {error}"));
        if let Err(error) = again.apply(&command) {
            panic!("own line does not apply: {line}: {error}");
        }
    }
    assert_eq!(again.lines(Scope::All), config.lines(Scope::All));
    assert_eq!(again.fingerprint(), config.fingerprint());
}

/// Reads `data` as a filter of `show ns connectiontable`.
pub fn connection_filter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(filter) = ConnectionFilter::parse(&text) {
        assert_eq!(ConnectionFilter::parse(&text), Ok(filter), "the same text means the same");
    }
}

/// Configurations and single lines.
pub fn line_seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = CONFIG.lines().map(|line| line.as_bytes().to_vec()).collect();
    seeds.push(CONFIG.as_bytes().to_vec());
    seeds
}

/// A configuration that uses most commands.
pub const CONFIG: &str = "\
set ns config -IPAddress 10.0.3.1 -netmask 255.255.255.0
add interface 1/1 -device eth1
add interface 1/2 -device eth2
add HA node 1 10.0.3.2
set HA node -mirrorMode STRICT -deadInterval 0.4
set ns rpcNode 10.0.3.1 -password correct-horse
set ns rpcNode 10.0.3.2 -password correct-horse
add ns ip 10.0.2.5 255.255.255.0 -type SNIP
add ns ip6 fd00:2::5/64 -type SNIP
add ns ip 10.0.1.5 255.255.255.0 -type SNIP
add ns ip6 fd00:1::5/64 -type SNIP
add route 172.16.0.0 255.255.0.0 10.0.1.1
add server v4-0 10.0.2.21
add server v6-0 fd00:2::15
add service web-v4 v4-0 TCP 80 -usip NO -svrTimeout 30
add service web-v6 v6-0 TCP 80
add service dns-v4 v4-0 UDP 53
add lb vserver web4 TCP 10.0.1.100 80 -lbMethod ROUNDROBIN -cltTimeout 30
add lb vserver web6 TCP fd00:1::64 80 -persistenceType SOURCEIP
add lb vserver dns4 UDP 10.0.1.100 53
bind lb vserver web4 web-v4 -weight 10
bind lb vserver web6 web-v6
bind lb vserver dns4 dns-v4
set lb vserver web4 -connFailover STATEFUL
set lb vserver web6 -connFailover STATEFUL
add lb vserver any4 ANY 10.0.1.101 * -persistenceType SOURCEIP
set lb vserver any4 -connFailover STATELESS
add server pool[1-3] 10.0.2.[31-33]
disable service web-v4
unset lb vserver web4 -lbMethod
set lb vserver any4 -lbMethod SRCIPDESTIPHASH -netmask 255.255.255.0 -persistenceType SRCIPDESTIP
show lb persistentSessions any4
clear lb persistentSessions any4 -persistenceParameter 10.0.1.31
unbind lb vserver web4 web-v4
rm server \"pool1\"
show ns connectiontable \"CONNECTION.SRCIP.EQ(10.0.1.31)\"
force HA failover -force
save ns config
";

/// Filters in both languages.
pub fn filter_seeds() -> Vec<Vec<u8>> {
    [
        "",
        "SOURCEIP == 10.0.1.31 && DESTPORT == 80",
        "IDLETIME > 10 -detail LINK NAME CONNFAILOVER",
        "CONNECTION.SRCIP.EQ(10.0.1.31)",
        "CONNECTION.SRCIP.EQ(fd00:1::1f) && CONNECTION.DSTPORT.EQ(80)",
        "CONNECTION.SRCPORT.BETWEEN(1,1024) || CONNECTION.STATE.EQ(ESTABLISHED)",
        "connection.lb_vserver.name.eq(\"web4\")",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
