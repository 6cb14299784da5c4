//! `./x demo`: the promise, shown on one screen.

use crate::campaign::{keep_evidence, machine};
use crate::config::Vip;
use crate::ftp::{self, Client, Download, Front, Verdict};
use crate::lab::{Family, Lab};
use crate::node::{Binaries, Failure};
use crate::pair::Pair;
use crate::screen::Screen;
use crate::sys;
use crate::traffic::{self, Gaps, Load, Outcome, Traffic};
use anyhow::{Context, Result, bail, ensure};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long each download is made to last.
const DOWNLOAD_TIME: Duration = Duration::from_secs(16);
/// A download must have ended within this time.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(120);

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// How nodes fail.
    #[arg(long, value_enum, default_value_t = Failure::Kill)]
    fail: Failure,
    /// Leave the lab running at the end, with instructions; Ctrl-C removes it.
    #[arg(long)]
    keep: bool,
    /// Size of the file that is downloaded, in MiB.
    #[arg(long, default_value_t = 256)]
    size: u64,
    /// Echo connections, half of them IPv4, half IPv6.
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// Where to keep logs and states after a loss.
    #[arg(long, default_value = "artifacts/testbed")]
    evidence: PathBuf,
}

/// What one round (one failure) showed.
struct Round {
    direction: String,
    gaps: Gaps,
    takeover_ms: f64,
    verdicts: Vec<Verdict>,
}

/// Runs the demo; an error if anything was lost.
pub fn run(options: &Options, binaries: &Binaries) -> Result<()> {
    println!("Holdfast: connections that survive the death of a node\nmachine: {}\n", machine());
    let lab = Lab::build()?;
    let mut pair = Pair::new(&lab, binaries)?;
    let outcome = play(options, &lab, &mut pair);
    if sys::check_interrupt().is_ok() {
        if outcome.is_err() {
            keep_evidence(&lab, &pair, &options.evidence)?;
        }
        if options.keep {
            wait_for_player(&lab, &pair)?;
        }
    }
    outcome
}

fn play(options: &Options, lab: &Lab, pair: &mut Pair) -> Result<()> {
    let mut screen = Screen::new();
    screen.say("laid cables: client and servers on two networks, nodes a and b between them");
    let _servers = traffic::start_servers(lab)?;
    pair.bring_up(lab)?;
    let primary = pair.wait_whole()?;
    screen.say(&format!("the pair is up: node {} is primary, the other has caught up", pair.nodes[primary].name()));
    traffic::assert_no_bypass(lab)?;
    screen.say("client and servers have no route to each other: what arrives went through the virtual servers");
    let files = ftp::Servers::start_plain(lab, options.size)?;
    for family in Family::ALL {
        front(family).add(&pair.nodes[primary], "STATEFUL")?;
    }
    screen.say(&format!(
        "vsftpd serves one file of {} MiB of noise on both servers, behind virtual servers of type FTP",
        options.size
    ));
    let load = Load { connections: options.connections, new_per_second: 200, probe_rate: 1000 };
    let mut traffic = Traffic::start(lab, Vip::Nat, &Family::ALL, load)?;
    screen.say(&format!(
        "{} echo connections are established, IPv4 and IPv6; 200 new ones a second",
        options.connections
    ));

    let mut rounds = Vec::new();
    for number in 1..=2 {
        rounds.push(round(number, options, lab, pair, &files, &mut traffic, &mut screen)?);
    }
    let outcome = traffic.finish()?;
    summary(&rounds, &outcome)
}

/// The virtual server of the downloads: type FTP, servers see a SNIP.
fn front(family: Family) -> Front {
    Front { family, usip: false }
}

/// Downloads over both families, a failure half-way, the end of the downloads, and the return of the node.
fn round(
    number: u32,
    options: &Options,
    lab: &Lab,
    pair: &mut Pair,
    files: &ftp::Servers,
    traffic: &mut Traffic,
    screen: &mut Screen,
) -> Result<Round> {
    let primary = pair.wait_whole()?;
    let (victim, survivor) = (pair.nodes[primary].name(), pair.nodes[1 - primary].name());
    screen.say(&format!("\nround {number}: FTP downloads over IPv4 and IPv6 through node {victim}"));
    let mut downloads = Vec::new();
    for family in Family::ALL {
        downloads.push(Download::from(
            lab,
            files,
            (family, &front(family).address()),
            Client::Curl(&[]),
            DOWNLOAD_TIME,
        )?);
    }
    assert_in_table(pair, primary)?;
    screen.say(&format!("the data connections are in node {victim}'s connection table"));
    watch_until(screen, traffic, &mut downloads, &format!("through {victim}"), |downloads, _| {
        downloads.iter().all(|download| download.share() >= 0.45)
    })?;

    traffic.open_window()?;
    let what = match options.fail {
        Failure::Kill => "SIGKILL to",
        Failure::Power => "power cut of",
        Failure::Freeze => "SIGSTOP to",
    };
    let at = Instant::now();
    let outage = pair.fail(lab, primary, options.fail)?;
    let takeover_ms = at.elapsed().as_secs_f64() * 1000.0;
    screen.say(&format!(">>> {what} node {victim}; {takeover_ms:.0} ms later node {survivor} shows itself as primary"));
    let result = traffic.wait_recovered();
    let gaps = traffic.close_window()?;
    result?;
    screen.say(&format!(
        ">>> clients waited {:.0} ms (median), {:.0} ms (99 %), {:.0} ms (longest); UDP was silent for {:.0} ms",
        gaps.tcp[0], gaps.tcp[1], gaps.tcp[2], gaps.udp
    ));
    watch_until(screen, traffic, &mut downloads, &format!("through {survivor}"), |downloads, size| {
        downloads.iter().all(|download| download.received() >= size)
    })?;
    let mut verdicts = Vec::new();
    for download in &mut downloads {
        verdicts.push(download.finish(DOWNLOAD_LIMIT)?);
    }
    for verdict in &verdicts {
        let judgement = if verdict.equal { "checksum equal" } else { "CHECKSUM DIFFERS" };
        screen.say(&format!("FTP {}: {} bytes, {judgement} ({})", verdict.family, verdict.bytes, verdict.message));
    }
    screen.say(&format!("bringing node {victim} back"));
    pair.heal(lab, outage)?;
    screen.say(&format!("node {victim} has caught up and sent nothing for the virtual servers before"));
    Ok(Round { direction: format!("{victim} fails, {survivor} goes on"), gaps, takeover_ms, verdicts })
}

/// Waits until the primary lists an FTP data connection of each family, established.
fn assert_in_table(pair: &mut Pair, primary: usize) -> Result<()> {
    let mut table = String::new();
    let outcome =
        sys::wait_until("the FTP data connections are in the connection table", Duration::from_secs(10), || {
            table = pair.nodes[primary].cli(&["show", "ns", "connectiontable"])?;
            let listed = |family: Family| {
                let (client, vip) = (family.client_net(10), front(family).address());
                table.lines().any(|line| {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    let port = words.iter().position(|word| *word == vip).and_then(|at| words.get(at + 1));
                    words.contains(&client.as_str())
                        && port.and_then(|p| p.parse::<u16>().ok()).is_some_and(|p| p >= 1024)
                })
            };
            Ok(Family::ALL.into_iter().all(listed).then_some(()))
        });
    let ftp_lines = || table.lines().filter(|line| line.contains("FTP")).take(10).collect::<Vec<_>>().join("\n");
    outcome.with_context(|| format!("the table says:\n{}", ftp_lines()))
}

/// Shows the progress line until `done`.
fn watch_until(
    screen: &mut Screen,
    traffic: &mut Traffic,
    downloads: &mut [Download],
    title: &str,
    done: impl Fn(&[Download], u64) -> bool,
) -> Result<()> {
    let size = downloads.first().map_or(0, Download::size);
    sys::wait_until(&format!("the downloads {title} go on"), DOWNLOAD_LIMIT, || {
        downloads.iter_mut().try_for_each(Download::ensure_running)?;
        let report = traffic.tcp.progress()?;
        let shares: Vec<String> =
            downloads.iter().map(|download| format!("{:3.0} %", download.share() * 100.0)).collect();
        screen.progress(&format!(
            "{title}: FTP v4 {} v6 {} | echo: {} alive, {} reset, {} lost, {} new ones served, waiting {} ms",
            shares[0],
            shares[1],
            report["long_alive"],
            report["reset"],
            report["lost"],
            report["short_done"],
            report["waiting_ms"],
        ));
        Ok(done(downloads, size).then_some(()))
    })
}

fn summary(rounds: &[Round], outcome: &Outcome) -> Result<()> {
    println!("\n| round | operator saw takeover | TCP wait p50 / p99 / max | UDP silence | FTP v4 | FTP v6 |");
    println!("|---|---|---|---|---|---|");
    for round in rounds {
        let checks: Vec<&str> =
            round.verdicts.iter().map(|verdict| if verdict.equal { "equal" } else { "DIFFERS" }).collect();
        let [p50, p99, max] = round.gaps.tcp;
        println!(
            "| {} | {:.0} ms | {p50:.0} / {p99:.0} / {max:.0} ms | {:.0} ms | {} | {} |",
            round.direction, round.takeover_ms, round.gaps.udp, checks[0], checks[1]
        );
    }
    println!(
        "\nestablished {}   survived {}   reset {}   lost {}",
        outcome.established(),
        outcome.established().saturating_sub(outcome.lost()),
        outcome.reset(),
        outcome.lost()
    );
    if let Some(complaint) = outcome.complaint() {
        bail!(complaint);
    }
    let equal = rounds.iter().flat_map(|round| &round.verdicts).all(|verdict| verdict.equal);
    ensure!(equal, "a download differs from the file");
    println!("nothing was lost");
    Ok(())
}

/// Prints how to play by hand and waits for Ctrl-C.
fn wait_for_player(lab: &Lab, pair: &Pair) -> Result<()> {
    let client = lab.client.name();
    println!("\nThe lab stays up until you press Ctrl-C here. In another shell, as root:");
    println!("  a client's shell:   ip netns exec {client} bash");
    println!("  echo through it:    ip netns exec {client} curl -s telnet://{}:7", Vip::Nat.address(Family::V4));
    for (node, namespace) in pair.nodes.iter().zip(&lab.nodes) {
        println!(
            "  node {}: pid {}, host {}, log {}\n    {}",
            node.name(),
            node.pid().map_or("gone".into(), |pid| pid.to_string()),
            namespace.name(),
            node.log().display(),
            node.command_line("show ha node")
        );
    }
    loop {
        if sys::check_interrupt().is_err() {
            println!("\nremoving the lab");
            return Ok(());
        }
        sys::pause(Duration::from_secs(3600));
    }
}
