//! Stories about virtual servers of type FTP: vsftpd, curl, every way to transfer, and what fails in between.

use crate::config::SNIP_HOST;
use crate::ftp::{Client, Download, Front, Servers};
use crate::lab::Family;
use crate::node::Failure;
use crate::stories::Stage;
use crate::{ns, sys};
use anyhow::{Context as _, Result, ensure};
use std::time::Duration;

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[
    ("ftp_transfers_of_every_kind_survive", every_kind),
    ("ftp_of_lftp_ftplib_and_pyftpdlib_survives", other_programs),
    ("ftp_data_connections_survive_between_the_answer_and_the_first_packet", before_the_data),
    ("ftp_answers_that_were_lost_are_said_again_by_the_successor", answer_lost),
    ("ftp_ends_with_the_node_if_it_is_disabled", disabled),
];

/// MiB of the file.
const SIZE: u64 = 24;
/// How long a transfer is made to last.
const TIME: Duration = Duration::from_secs(9);
/// A transfer must have ended within this time.
const LIMIT: Duration = Duration::from_secs(60);
/// Something must be seen within this time.
const SIGHT: Duration = Duration::from_secs(15);
/// The data ports of the servers.
const DATA_PORTS: &str = "30000-30999";

fn begin(stage: &mut Stage<'_>, failover: &str) -> Result<(Servers, usize)> {
    let files = Servers::start_plain(&stage.lab, SIZE)?;
    let primary = stage.pair.wait_whole()?;
    for front in Front::ALL {
        front.add(&stage.pair.nodes[primary], failover)?;
    }
    Ok((files, primary))
}

/// Passive and active, by the old and the extended commands, with the servers seeing SNIPs or clients; both nodes die in turn.
fn every_kind(stage: &mut Stage<'_>) -> Result<()> {
    let (files, _) = begin(stage, "STATEFUL")?;
    let mut downloads = Vec::new();
    for front in Front::ALL {
        let mut ways: Vec<&[&str]> = vec![&[], &["--ftp-port", "-"]];
        if front.family == Family::V4 {
            ways.extend([&["--disable-epsv"][..], &["--ftp-port", "-", "--disable-eprt"]]);
        }
        for way in ways {
            let download =
                Download::from(&stage.lab, &files, (front.family, &front.address()), Client::Curl(way), TIME)?;
            downloads.push((format!("{} {way:?}", front.name()), download));
        }
    }
    both_die(stage, &mut downloads)?;
    finish(&mut downloads)?;
    all_over(stage)
}

/// Both nodes are killed in turn amid the transfers.
fn both_die(stage: &mut Stage<'_>, downloads: &mut [(String, Download)]) -> Result<()> {
    for share in [0.3, 0.6] {
        sys::wait_until("all transfers go on", LIMIT, || {
            for (name, download) in downloads.iter_mut() {
                download.ensure_running().with_context(|| name.clone())?;
            }
            Ok(downloads.iter().all(|(_, download)| download.share() >= share).then_some(()))
        })?;
        let primary = stage.pair.wait_whole()?;
        let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
        stage.pair.wait_primary(1 - primary)?;
        stage.pair.heal(&stage.lab, outage)?;
    }
    Ok(())
}

/// Other clients, and another server beside vsftpd.
fn other_programs(stage: &mut Stage<'_>) -> Result<()> {
    let files = Servers::start_mixed(&stage.lab, SIZE)?;
    let primary = stage.pair.wait_whole()?;
    let mut downloads = Vec::new();
    for front in Front::ALL {
        front.add(&stage.pair.nodes[primary], "STATEFUL")?;
        // Two each: the servers take turns.
        for program in [Client::Lftp, Client::Lftp, Client::Ftplib, Client::Ftplib] {
            let download = Download::from(&stage.lab, &files, (front.family, &front.address()), program, TIME)?;
            downloads.push((format!("{} {program:?}", front.name()), download));
        }
    }
    for server in 1..=2 {
        // Number, name, address, port, protocol, state, hits.
        let hits = |line: &str| line.split_whitespace().nth(6).and_then(|word| word.parse::<u32>().ok());
        sys::wait_until("both servers serve", SIGHT, || {
            let told = stage.pair.nodes[primary].cli(&["stat", "service", &format!("ftp_v4_snat_{server}")])?;
            Ok((told.lines().filter_map(hits).sum::<u32>() > 0).then_some(()))
        })?;
    }
    both_die(stage, &mut downloads)?;
    finish(&mut downloads)?;
    all_over(stage)
}

fn finish(downloads: &mut [(String, Download)]) -> Result<()> {
    for (name, download) in downloads {
        let verdict = download.finish(LIMIT).with_context(|| name.clone())?;
        ensure!(verdict.equal, "{name} differs: {}", verdict.message);
    }
    Ok(())
}

/// Control connections are closed in order as well, in both ends' own numbers.
fn all_over(stage: &mut Stage<'_>) -> Result<()> {
    let primary = stage.pair.wait_whole()?;
    let node = &stage.pair.nodes[primary];
    let open = || node.cli(&["show", "ns", "connectiontable"]).map(|table| table.matches("ESTABLISHED").count());
    let outcome = sys::wait_until("every connection has ended", LIMIT, || Ok((open()? == 0).then_some(())));
    outcome.with_context(|| node.cli(&["show", "ns", "connectiontable"]).unwrap_or_default())
}

/// What the client's host throws away, counted.
fn block(stage: &Stage<'_>, hook: &str, rule: &str) -> Result<()> {
    let chain = format!("chain some {{\ntype filter hook {hook} priority 0;\n{rule} counter drop\n}}");
    let script = format!("table inet lost {{\n{chain}\n}}\n");
    let mut nft = stage.lab.client.command("nft")?;
    nft.args(["-f", "-"]);
    ns::run(nft, &script).map(drop)
}

fn unblock(stage: &Stage<'_>) -> Result<()> {
    stage.lab.client.run("nft", &["delete", "table", "inet", "lost"], "").map(drop)
}

/// Packets that were thrown away so far.
fn lost(stage: &Stage<'_>) -> Result<u64> {
    let listed = stage.lab.client.run("nft", &["list", "table", "inet", "lost"], "")?;
    let (_, behind) = listed.split_once("counter packets ").context("a counter")?;
    Ok(behind.split_whitespace().next().unwrap_or_default().parse()?)
}

fn kill_while_lost(stage: &mut Stage<'_>, primary: usize, enough: u64) -> Result<()> {
    sys::wait_until("packets are lost", SIGHT, || Ok((lost(stage)? >= enough).then_some(())))?;
    let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    stage.pair.wait_primary(1 - primary)?;
    unblock(stage)?;
    stage.pair.heal(&stage.lab, outage)
}

fn passive(stage: &Stage<'_>, files: &Servers) -> Result<Vec<(String, Download)>> {
    let mut downloads = Vec::new();
    for front in Front::ALL {
        let way: &[&str] = if front.family == Family::V4 { &["--disable-epsv"] } else { &[] };
        let download =
            Download::from(&stage.lab, files, (front.family, &front.address()), Client::Curl(way), TIME / 4)?;
        downloads.push((front.name(), download));
    }
    Ok(downloads)
}

/// The client has the answer to PASV; its SYN reaches the successor only.
fn before_the_data(stage: &mut Stage<'_>) -> Result<()> {
    let (files, primary) = begin(stage, "STATEFUL")?;
    block(stage, "output", &format!("tcp dport {DATA_PORTS} tcp flags syn"))?;
    let mut downloads = passive(stage, &files)?;
    kill_while_lost(stage, primary, 4)?;
    finish(&mut downloads)?;
    all_over(stage)
}

/// The rewritten answer to PASV is lost between node and client; the successor says the same again.
fn answer_lost(stage: &mut Stage<'_>) -> Result<()> {
    let (files, primary) = begin(stage, "STATEFUL")?;
    // 227 and 229 at the beginning of the text.
    block(stage, "input", "tcp sport 21 @ih,0,24 { 0x323237, 0x323239 }")?;
    let mut downloads = passive(stage, &files)?;
    kill_while_lost(stage, primary, 4)?;
    finish(&mut downloads)?;
    all_over(stage)
}

/// Data connections are reset at both ends. So are control connections, at the first packet of either end: a server waits for one.
/// (A server that sees its client's address may as well have a connection of its own with it: that is routed.)
fn disabled(stage: &mut Stage<'_>) -> Result<()> {
    let (files, primary) = begin(stage, "DISABLED")?;
    let mut downloads = Vec::new();
    // A client that waits for data says nothing by itself.
    let asking = ["--keepalive-time", "1"];
    for front in Front::ALL {
        downloads.push(Download::from(
            &stage.lab,
            &files,
            (front.family, &front.address()),
            Client::Curl(&asking),
            TIME,
        )?);
    }
    sys::wait_until("all transfers go on", LIMIT, || {
        Ok(downloads.iter().all(|download| download.share() >= 0.2).then_some(()))
    })?;
    let outage = stage.pair.fail(&stage.lab, primary, Failure::Kill)?;
    stage.pair.wait_primary(1 - primary)?;
    for download in &mut downloads {
        sys::wait_until("the client is told", SIGHT, || Ok(download.ensure_running().err().map(drop)))?;
    }
    for server in &stage.lab.servers {
        sys::wait_until("the servers are told", SIGHT, || {
            let open = server.run("ss", &["-Htn", "state", "established", "sport >= 30000 and sport <= 30999"], "")?;
            let snips = Family::ALL.map(|family| family.server_net(SNIP_HOST));
            Ok(snips.iter().all(|snip| !open.contains(snip.as_str())).then_some(()))
        })?;
    }
    stage.pair.heal(&stage.lab, outage)
}
