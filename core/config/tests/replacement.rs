//! Taking over the primary's configuration: by the difference, and as far as it can be carried out.

use holdfast_config::{Config, REFUSALS_KEPT, Replaced, Replacement, Scope};

/// A configuration of these commands.
fn made(lines: &[&str]) -> Config {
    let mut config = Config::new();
    for line in lines {
        config.apply_line(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    config
}

/// What comes out when `config` takes over `lines`, three at a time.
fn replace(config: &Config, lines: Vec<String>) -> Option<Replaced> {
    let mut replacement = Replacement::begin(config, lines)?;
    while !replacement.step(3) {}
    Some(replacement.finish(config))
}

const PRIMARY: &[&str] = &[
    "add ns ip 10.2.0.9 255.255.255.0 -type SNIP",
    "add service s1 10.2.0.1 TCP 80",
    "add service s2 10.2.0.2 TCP 80",
    "add service s3 10.2.0.3 TCP 80",
    "add lb vserver v1 TCP 198.51.100.1 80 -connFailover STATEFUL",
    "add lb vserver v2 TCP 198.51.100.2 80",
    "bind lb vserver v1 s1",
    "bind lb vserver v1 s2 -weight 3",
];

#[test]
fn nothing_happens_if_nothing_differs() {
    let config = made(PRIMARY);
    assert!(replace(&config, config.lines(Scope::Shared)).is_none());
}

#[test]
fn what_both_have_keeps_its_number_and_stands_where_the_primary_has_it() {
    let primary = made(PRIMARY);
    let secondary = made(&[
        "set ns config -IPAddress 10.1.1.102 -netmask 255.255.255.0",
        "add service s3 10.2.0.3 TCP 80",
        "add service gone 10.2.0.7 TCP 80",
        "add service s1 10.2.0.1 TCP 80 -comment old",
        "add service s2 10.2.0.99 TCP 80",
        "add lb vserver v2 TCP 198.51.100.2 80",
        "add lb vserver v1 TCP 198.51.100.1 80",
        "bind lb vserver v2 gone",
    ]);
    let replaced = replace(&secondary, primary.lines(Scope::Shared)).expect("they differ");
    let next = &replaced.config;
    assert_eq!(next.lines(Scope::Shared), primary.lines(Scope::Shared));
    assert_eq!(next.fingerprint(), primary.fingerprint());
    assert_eq!(next.lines(Scope::Local), secondary.lines(Scope::Local));
    assert_eq!((replaced.refusals, replaced.lines), (0, primary.lines(Scope::Shared).len()));
    let service = |config: &Config, name: &str| config.service(name).map(|service| service.id);
    let vserver = |config: &Config, name: &str| config.vserver(name).map(|vserver| vserver.id);
    for name in ["s1", "s3"] {
        assert_eq!(service(next, name), service(&secondary, name), "{name}");
    }
    for name in ["v1", "v2"] {
        assert_eq!(vserver(next, name), vserver(&secondary, name), "{name}");
    }
    let moved = service(next, "s2").expect("it is there");
    assert!(secondary.services().all(|service| service.id != moved), "another server is another service");
    for config in [next, &primary] {
        for service in config.services() {
            assert_eq!(config.service_by_id(service.id).map(|found| &found.name), Some(&service.name));
        }
        for vserver in config.vservers() {
            assert_eq!(config.vserver_by_id(vserver.id).map(|found| &found.name), Some(&vserver.name));
        }
    }
}

#[test]
fn numbers_go_on_where_they_were() {
    let secondary = made(&["add service a 10.2.0.1 TCP 80", "add service b 10.2.0.2 TCP 80"]);
    let highest = secondary.services().map(|service| service.id).max().expect("two services");
    let primary = made(&["add service b 10.2.0.2 TCP 80"]);
    let mut next = replace(&secondary, primary.lines(Scope::Shared)).expect("they differ").config;
    next.apply_line("add service c 10.2.0.3 TCP 80").expect("a new service");
    assert!(next.service("c").is_some_and(|service| service.id > highest));
}

#[test]
fn a_line_that_is_not_understood_is_told_and_leaves_what_was_there() {
    let secondary = made(&[
        "add service s1 10.2.0.1 TCP 80",
        "add lb vserver v1 TCP 198.51.100.1 80",
        "add lb vserver \"a b\" TCP 198.51.100.3 80 -comment kept",
        "bind lb vserver v1 s1",
    ]);
    let mut lines = made(PRIMARY).lines(Scope::Shared);
    let at = lines.iter().position(|line| line.starts_with("add lb vserver v1")).expect("v1");
    lines[at] += " -newOption YES -password hidden";
    lines.insert(at, "add lb vserver \"a b\" CARRIER 198.51.100.3 80".to_owned());
    lines.push("add cs vserver later HTTP 198.51.100.9 80 -secret hidden".to_owned());
    let replaced = replace(&secondary, lines).expect("they differ");
    let told: Vec<&str> = replaced.refused.iter().map(|refusal| refusal.line.as_str()).collect();
    let expected = ["add lb vserver \"a b\" CARRIER 198.51.100.3 80", "add lb vserver v1 TCP 198.51.100.1 80"];
    assert_eq!(told[..2], expected);
    assert_eq!(told[2..], ["add cs vserver later HTTP 198.51.100.9 80"]);
    assert_eq!(replaced.refusals, 3);
    let vserver = replaced.config.vserver("v1").expect("ours stays");
    assert_eq!(vserver.bindings.len(), 2, "and is bound as the primary binds it");
    assert_eq!(Some(vserver.id), secondary.vserver("v1").map(|vserver| vserver.id));
    assert_eq!(replaced.config.vserver("a b").map(|vserver| vserver.comment.as_str()), Some("kept"));
    assert!(replaced.config.vserver("v2").is_some(), "what is understood is taken over");
}

#[test]
fn refusals_are_counted_and_only_some_are_kept() {
    let lines = (0..REFUSALS_KEPT + 5).map(|number| format!("add gizmo g{number}")).collect();
    let replaced = replace(&Config::new(), lines).expect("they differ");
    assert_eq!((replaced.refused.len(), replaced.refusals), (REFUSALS_KEPT, REFUSALS_KEPT + 5));
    assert_eq!(replaced.config, Config::new(), "nothing has changed");
}

#[test]
fn in_inc_mode_subnets_and_routes_are_the_nodes_own() {
    let inc = |own: &[&str]| {
        let mut lines =
            vec!["set ns config -IPAddress 10.1.1.102 -netmask 255.255.255.0", "add HA node 1 10.9.1.103 -inc ENABLED"];
        lines.extend(own);
        made(&lines)
    };
    let primary = inc(&[
        "add ns ip 10.2.0.9 255.255.255.0 -type SNIP",
        "add route 10.3.0.0 255.255.255.0 10.2.0.1",
        "add ns ip 198.51.100.7 255.255.255.255 -type VIP",
        "add service s1 10.2.0.1 TCP 80",
    ]);
    let secondary = inc(&["add ns ip 10.7.0.9 255.255.255.0 -type SNIP", "add route 10.3.0.0 255.255.255.0 10.7.0.1"]);
    let local = ["add ns ip 10.2.0.9", "add route 10.3.0.0"];
    assert!(primary.lines(Scope::Shared).iter().all(|line| !local.iter().any(|own| line.starts_with(own))));
    let replaced = replace(&secondary, primary.lines(Scope::Shared)).expect("they differ");
    assert_eq!(replaced.refusals, 0);
    assert_eq!(replaced.config.lines(Scope::Shared), primary.lines(Scope::Shared));
    assert_eq!(replaced.config.lines(Scope::Local), secondary.lines(Scope::Local));
    let local = |line: &str| primary.keeps_to_itself(&holdfast_config::parse(line).expect("a command"));
    assert!(local("add ns ip 10.8.0.9 255.255.255.0"));
    assert!(local("add ns ip 10.8.0.9 255.255.255.0 -type SNIP"));
    assert!(!local("add ns ip 198.51.100.8 255.255.255.255 -type VIP"));
    assert!(local("disable ns ip 10.2.0.9"));
    assert!(!local("disable ns ip 198.51.100.7"));
    assert!(local("rm route 10.3.0.0 255.255.255.0 10.2.0.1"));
    assert!(!local("rm service s1"));
    assert!(local("set HA node -haSync DISABLED"));
}
