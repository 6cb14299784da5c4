//! A console over a configuration with made-up facts, for transcripts.

use core::time::Duration;
use holdfast_config::{
    ChannelState, Config, ConfigFacts, DataPlaneFacts, DigestState, Facts, HaFacts, HaRole, Health, Kind, MonitorFacts,
    NodeFacts, NodeState, PeerFacts, PeerPorts, ResyncFacts, RouteFacts, SecurityFacts, SecurityFailure, SecurityState,
    ServiceFacts, StandIn, SyncState, TakeoverFacts, VserverFacts, complete, help, parse_all, show, show_json,
};

/// Sat Jan 16 05:23:00 2021.
const NOW: u64 = 1_610_774_580_200;

/// Facts of a node that never change.
#[derive(Default)]
pub struct Fixed {
    /// The peer could not take over the configuration.
    pub peer_failed: bool,
    pub witness_silent: bool,
    /// What stands in for the methods of vservers.
    pub stand_in: Option<StandIn>,
}

impl Facts for Fixed {
    fn now(&self) -> u64 {
        NOW
    }

    fn node(&self) -> NodeFacts {
        NodeFacts {
            host_name: "adc-a".to_owned(),
            version: "0.1.0".to_owned(),
            ports_up: vec!["1/1".to_owned()],
            ports_down: vec!["1/2".to_owned()],
            drops: vec![("GateClosed", 3), ("NoRoute", 1)],
            data_plane: DataPlaneFacts {
                way: "tc",
                why: "the kernel takes the program".to_owned(),
                interfaces: vec![("1/1".to_owned(), "tcx".to_owned()), ("1/2".to_owned(), "clsact".to_owned())],
                copies: 24,
                refused: 0,
                not_forwarded: vec![("unknown", 12), ("not_ip", 0), ("fin", 4)],
            },
        }
    }

    fn ha(&self) -> HaFacts {
        let own =
            ConfigFacts { incarnation: 6, fingerprint: 0x0123_4567_89ab_cdef, version: 2, ..ConfigFacts::default() };
        HaFacts {
            role: HaRole::Primary,
            state: NodeState::Up,
            term: 7,
            caught_up: true,
            in_role_for: Duration::from_secs(3 * 86_400 + 3 * 3600 + 13 * 60),
            last_transition: NOW - 3_600_000,
            hellos_received: 1234,
            hellos_sent: 1240,
            hello_rates: (10, 11),
            propagation_timeouts: 0,
            sync_failures: 1,
            config: own.clone(),
            refused_messages: 2,
            silent_ports: Vec::new(),
            failed_ports: vec!["1/2".to_owned()],
            routes: vec![
                RouteFacts { up: true, text: "192.0.2.1 answers".to_owned() },
                RouteFacts { up: false, text: "no such route".to_owned() },
            ],
            flips: 1,
            flip_time: Some(Duration::from_secs(75)),
            sticky: false,
            deaf_since: None,
            called_off: None,
            peer: Some(PeerFacts {
                host_name: String::new(),
                role: HaRole::Secondary,
                state: NodeState::Up,
                term: 7,
                caught_up: true,
                unready: false,
                heard_on: vec!["1/1".to_owned()],
                ports: Some(PeerPorts {
                    enabled: vec!["1/1".to_owned(), "1/2".to_owned()],
                    monitored: vec!["1/1".to_owned()],
                    silent: vec!["1/2".to_owned()],
                    fail_safe: true,
                    ..PeerPorts::default()
                }),
                channel: ChannelState::Up,
                rekeying: false,
                config: match self.peer_failed {
                    false => ConfigFacts { sync: SyncState::Success, version: 2, ..own.clone() },
                    true => ConfigFacts {
                        sync: SyncState::Failed { reason: "commands refused: 1".to_owned() },
                        propagation_off: true,
                        incarnation: 5,
                        fingerprint: 0x0123_4567_89ab_cdee,
                        unsaved: true,
                        ..ConfigFacts::default()
                    },
                },
                last_heard: Some(Duration::from_micros(41_300)),
            }),
            flows: 1001,
            max_flows: 1_048_576,
            protected: 1000,
            unprotected: 1,
            held: 1,
            released_unprotected: 0,
            unacked_records: 2,
            mirror_lag: Duration::from_micros(180),
            mirror_delay: Duration::from_micros(95),
            mirrored: 1000,
            persistence_missed: 0,
            offered: 12,
            offers: (9, 3),
            mirror_rate: 12_345,
            takeover: Some(TakeoverFacts {
                term: 7,
                began: NOW - 3_600_000,
                heard_before: Some(Duration::from_micros(31_400)),
                given_up_before: Duration::from_micros(200),
                first_packet_after: Some(Duration::from_micros(700)),
            }),
            resync: Some(ResyncFacts {
                session: 3,
                began: NOW - 60_000,
                took: Some(Duration::from_micros(40_300)),
                flows: 1000,
                told: 12,
                released: 0,
            }),
            digest: DigestState::Equal { ago: None },
            witness: Some(holdfast_config::WitnessFacts {
                in_force: true,
                reachable: Some((!self.witness_silent, NOW - 60_000)),
                owner: Some(core::net::IpAddr::from([10, 1, 1, 104])),
                term: 7,
                sole: false,
                doubted: false,
            }),
            security: SecurityFacts {
                state: SecurityState::Encrypted,
                since: NOW - 200_000,
                last_failure: Some((SecurityFailure::Password, NOW - 500_000)),
                failing: false,
                handshakes: 2,
                rekeys: 7,
                failures: 3,
            },
        }
    }

    fn vserver(&self, id: u32) -> VserverFacts {
        VserverFacts {
            health: if id == 1 { Health::Up } else { Health::Down },
            last_change: NOW - 427_020,
            hits: 5000 + u64::from(id),
            client_flows: 1001,
            server_flows: 1001,
            established: 998,
            protected: 1000,
            unprotected: 1,
            persistence_sessions: 12,
            stand_in: self.stand_in,
            packets_in: 100_000,
            packets_out: 200_000,
            bytes_in: 5_000_000,
            bytes_out: 900_000_000,
        }
    }

    fn held_flows(&self) -> std::collections::BTreeMap<u32, u64> {
        [(1, 1)].into()
    }

    fn service(&self, id: u32) -> ServiceFacts {
        ServiceFacts {
            health: if id == 1 { Health::Up } else { Health::Down },
            last_change: NOW - 67_250,
            hits: 2500,
            flows: 500,
            waiting: 7,
            packets_in: 50_000,
            packets_out: 100_000,
            bytes_in: 2_500_000,
            bytes_out: 450_000_000,
        }
    }

    fn monitor(&self, service: u32, _monitor: &str) -> MonitorFacts {
        let up = service == 1;
        MonitorFacts {
            health: if up { Health::Up } else { Health::Down },
            probes: 40,
            failed_total: if up { 0 } else { 7 },
            failed_current: if up { 0 } else { 3 },
            last_response: if up { "Success - TCP syn+ack received." } else { "Failure - Time out." }.to_owned(),
            response_time: Duration::from_micros(340),
        }
    }
}

/// Carries out a line as the node would, and answers what an operator would read.
///
/// Beside commands: `<command> --json`, `<command> (peer failed)`, `<command> (witness silent)`, `<command> (service up)`, `<command> (silent)`,
/// `complete <line>|` and `help <words>`.
pub fn console(config: &mut Config, line: &str) -> String {
    if let Some(line) = line.strip_prefix("complete ") {
        let list = complete(line.trim_end_matches('|'));
        return list.iter().map(|c| format!("{} {}", c.word, c.doc).trim_end().to_owned() + "\n").collect();
    }
    if let Some(words) = line.strip_prefix("help ") {
        return help(words);
    }
    let (line, json) = line.strip_suffix(" --json").map_or((line, false), |line| (line, true));
    let (line, peer_failed) = line.strip_suffix(" (peer failed)").map_or((line, false), |line| (line, true));
    let (line, witness_silent) = line.strip_suffix(" (witness silent)").map_or((line, false), |line| (line, true));
    let (line, stand_in) = match (line.strip_suffix(" (service up)"), line.strip_suffix(" (silent)")) {
        (Some(line), _) => (line, Some(StandIn::ServiceUp)),
        (None, Some(line)) => (line, Some(StandIn::MonitorsSilent)),
        (None, None) => (line, None),
    };
    match run(config, line, json, &Fixed { peer_failed, witness_silent, stand_in }) {
        Ok(text) => text + " Done\n",
        Err(error) => format!("{error}\n"),
    }
}

fn run(config: &mut Config, line: &str, json: bool, facts: &Fixed) -> Result<String, holdfast_config::CommandError> {
    let mut text = String::new();
    for command in parse_all(line)? {
        match command.kind() {
            Kind::Change { .. } => {
                for warning in config.apply(&command)? {
                    text += &format!("{warning}\n");
                }
            }
            Kind::Show if json => text += &(show_json(&command, config, facts)? + "\n"),
            Kind::Show => text += &show(&command, config, facts)?,
            Kind::Action(action) => text += &format!("({action:?})\n"),
        }
    }
    Ok(text)
}
