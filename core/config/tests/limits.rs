//! How large a configuration may become: the whole must fit into the queues of the mirror.

use holdfast_config::{Config, Scope, parse};

/// Objects of one kind.
const MOST: usize = 16_384;

fn apply(config: &mut Config, line: &str) -> Result<(), String> {
    let command = parse(line).map_err(|error| error.to_string())?;
    config.apply(&command).map(drop).map_err(|error| error.to_string())
}

#[test]
fn one_object_too_many_is_refused_and_one_less_makes_room() {
    let mut config = Config::new();
    let add = |n: usize| format!("add lb monitor m{n} TCP");
    for n in 1..=MOST {
        apply(&mut config, &add(n)).expect("there is room");
    }
    let before = config.fingerprint();
    let refused = Err(format!("ERROR: Integer value exceeds maximum [monitor, {MOST}]"));
    assert_eq!(apply(&mut config, &add(MOST + 1)), refused);
    assert_eq!(config.fingerprint(), before);
    apply(&mut config, "rm lb monitor m7 TCP").expect("it is there");
    apply(&mut config, &add(MOST + 1)).expect("there is room again");
}

#[test]
fn bindings_are_counted_over_all_vservers() {
    let mut config = Config::new();
    for n in 0..128 {
        apply(&mut config, &format!("add service s{n} 10.0.0.{} TCP 80", n + 1)).expect("a service");
    }
    for n in 0..129 {
        apply(&mut config, &format!("add lb vserver v{n} TCP 10.1.0.{} 80", n + 1)).expect("a vserver");
    }
    let mut made = 0;
    let refusal = (0..129).flat_map(|v| (0..128).map(move |s| (v, s))).find_map(|(v, s)| {
        let refused = apply(&mut config, &format!("bind lb vserver v{v} s{s}")).err();
        made += usize::from(refused.is_none());
        refused
    });
    assert_eq!(made, MOST);
    assert_eq!(refusal, Some(format!("ERROR: Integer value exceeds maximum [serviceName, {MOST}]")));
    assert_eq!(config.lines(Scope::Shared).iter().filter(|line| line.starts_with("bind lb vserver")).count(), MOST);
}
