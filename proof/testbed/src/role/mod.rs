//! The programs that play clients and servers. Each runs as a process of its own inside a namespace
//! (`holdfast-testbed role …`), is told what to do by lines on its standard input and answers with JSON lines on its
//! standard output. It ends when its standard input does.

mod attack;
mod bench_flows;
mod bench_load;
mod bench_probe;
mod bench_server;
mod clock;
mod crowd_client;
mod crowd_conn;
mod crowd_plan;
mod crowd_server;
mod echo_client;
mod echo_server;
mod ends;
mod garbage;
mod handle;
mod pattern;
mod poller;
mod rough_road;
mod script;
mod spin;
mod syn_flood;
mod udp;
mod who;

pub use bench_flows::{BUSY, PORTS as FLOWS_PER_ADDRESS};
pub use clock::monotonic_ms;
pub use handle::{Role, play_inside};
pub use pattern::mix;
pub use udp::LATE;

use anyhow::Result;
use serde_json::Value;
use std::io::Write as _;

/// What a process inside a namespace can be.
#[derive(clap::Subcommand)]
pub enum RoleCommand {
    /// Echoes TCP and UDP; says its name on another port.
    EchoServer(echo_server::Options),
    /// Serves the campaign's connections and checks what they send.
    CrowdServer(crowd_server::Options),
    /// The campaign's connections, of every kind.
    CrowdClient(crowd_client::Options),
    /// Many TCP connections that send all the time, and a stream of short ones.
    EchoClient(echo_client::Options),
    /// UDP flows at a fixed rate.
    UdpClient(udp::Options),
    /// Idle TCP connections that speak once on command.
    Ends(ends::Options),
    /// Asks which server answers.
    Who(who::Options),
    /// Sends rubbish.
    Garbage(garbage::Options),
    /// Begins connections in the names of strangers.
    SynFlood(syn_flood::Options),
    /// Attacks the channel between the nodes.
    Attack(attack::Options),
    /// Answers the benches' clients.
    BenchServer(bench_server::Options),
    /// Connections at a rate, or as many as possible.
    BenchLoad(bench_load::Options),
    /// Times one connection after the other.
    BenchProbe(bench_probe::Options),
    /// A million UDP clients.
    BenchFlows(bench_flows::Options),
    /// Carries frames between cables, late, and loses some.
    RoughRoad(rough_road::Options),
    /// Keeps one core busy.
    Spin,
}

/// Plays the role to its end.
pub fn play(command: &RoleCommand) -> Result<()> {
    crate::sys::raise_file_limit();
    match command {
        RoleCommand::EchoServer(options) => echo_server::run(options),
        RoleCommand::EchoClient(options) => echo_client::run(options),
        RoleCommand::CrowdServer(options) => crowd_server::run(options),
        RoleCommand::CrowdClient(options) => crowd_client::run(options),
        RoleCommand::UdpClient(options) => udp::run(options),
        RoleCommand::Ends(options) => ends::run(options),
        RoleCommand::Who(options) => who::run(options),
        RoleCommand::Garbage(options) => garbage::run(options),
        RoleCommand::SynFlood(options) => syn_flood::run(options),
        RoleCommand::Attack(options) => attack::run(options),
        RoleCommand::BenchServer(options) => bench_server::run(options),
        RoleCommand::BenchLoad(options) => bench_load::run(options),
        RoleCommand::BenchProbe(options) => bench_probe::run(options),
        RoleCommand::BenchFlows(options) => bench_flows::run(options),
        RoleCommand::RoughRoad(options) => rough_road::run(options),
        RoleCommand::Spin => spin::run(),
    }
}

/// Writes one JSON line; a reader that is gone ends the role.
fn say(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{RoleCommand, pattern};
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        role: RoleCommand,
    }

    #[test]
    fn the_lab_writes_arguments_that_the_roles_accept() {
        let line = "x echo-client --target 192.0.2.100:7 --target [2001:db8::1]:7 --from 192.0.2.10 \
                    --connections 10 --new-per-second 5";
        let parsed = Line::try_parse_from(line.split_whitespace());
        assert!(matches!(parsed, Ok(Line { role: RoleCommand::EchoClient(_) })));
    }

    #[test]
    fn a_wrong_byte_anywhere_is_noticed() {
        let mut bytes = [0; 3000];
        pattern::fill(7, 13, &mut bytes);
        assert!(pattern::matches(7, 13, &bytes));
        assert!(!pattern::matches(8, 13, &bytes));
        assert!(!pattern::matches(7, 14, &bytes));
        bytes[2999] ^= 1;
        assert!(!pattern::matches(7, 13, &bytes));
    }
}
