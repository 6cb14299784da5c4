//! Stories with a witness: a real etcd, and one that talks nonsense.
//!
//! It lives at the switch, so that both nodes reach it while nothing gets from one node to the other.

use crate::ns::Namespace;
use crate::sniff::Watch;
use crate::stories::{Stage, nothing_lost, start_traffic, wait_recovered};
use crate::sys;
use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

/// Time for a role, or for what is shown of the witness, to change.
const LIMIT: Duration = Duration::from_secs(15);
/// So long a partition lasts.
const PARTED: Duration = Duration::from_secs(6);
/// Where the witness is, on the server network.
const WITNESS: &str = "198.51.100.200";
/// Its port, and that of the one that talks nonsense.
const PORTS: [u16; 2] = [2379, 2399];
/// The switch's ends of the nodes' cables.
const CABLES: [&str; 4] = ["a-c", "b-c", "a-s", "b-s"];

/// A story.
type Story = fn(&mut Stage<'_>) -> Result<()>;

/// Name and story of each.
pub const STORIES: &[(&str, Story)] = &[
    ("witness_a_full_partition_leaves_one_forwarder_and_loses_nothing", primary_keeps_it),
    ("witness_a_primary_that_loses_everything_gives_way_and_loses_nothing", primary_loses_it),
    ("witness_killed_changes_no_role_and_loses_nothing", etcd_killed),
    ("witness_talking_nonsense_changes_nothing", nonsense),
    ("witness_whose_cell_was_overwritten_is_written_again", overwritten),
];

/// A running etcd; ends on drop.
struct Etcd(Child);

impl Etcd {
    fn start(stage: &Stage<'_>) -> Result<Etcd> {
        ensure!(sys::is_installed("etcd"), "etcd is missing: cargo xtask setup");
        let directory = stage.lab.directory();
        let clients = format!("http://{WITNESS}:{}", PORTS[0]);
        let log = File::options().create(true).append(true).open(directory.join("etcd.log"))?;
        let mut command = stage.lab.switch.command("etcd")?;
        command.arg("--data-dir").arg(directory.join("etcd"));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Etcd(command.spawn().context("start etcd")?))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gives the switch an address.
fn settle(stage: &Stage<'_>) -> Result<()> {
    stage.lab.switch.ip_batch(&format!("addr add {WITNESS}/24 dev br-s\n"))
}

fn set_witness(stage: &Stage<'_>, port: u16) -> Result<()> {
    let url = format!("http://{WITNESS}:{port}");
    stage.pair.nodes.iter().try_for_each(|node| node.cli(&["set", "HA", "node", "-witness", &url]).map(drop))
}

/// What a node says of the witness.
fn told(stage: &Stage<'_>, node: usize) -> Result<String> {
    let text = stage.pair.nodes[node].cli(&["show", "ha", "node", "0"])?;
    let line = text.lines().map(str::trim).find(|line| line.starts_with("Witness: "));
    Ok(line.with_context(|| format!("no witness in {text}"))?.to_owned())
}

fn wait_told(stage: &Stage<'_>, node: usize, what: &str) -> Result<()> {
    let mut last = String::new();
    sys::wait_until(&format!("node {node} says: Witness: {what}"), LIMIT, || {
        last = told(stage, node)?;
        Ok(last.starts_with(&format!("Witness: {what}")).then_some(()))
    })
    .with_context(|| format!("it says: {last}"))
}

/// A pair whose primary is registered with a real etcd.
fn with_etcd(stage: &mut Stage<'_>) -> Result<(Etcd, usize)> {
    settle(stage)?;
    let etcd = Etcd::start(stage)?;
    set_witness(stage, PORTS[0])?;
    let primary = stage.pair.wait_whole()?;
    for node in 0..2 {
        wait_told(stage, node, "REACHABLE")?;
    }
    let owner = format!("Owner: {}", crate::lab::peer_address(primary as u8));
    sys::wait_until("the witness names the primary", LIMIT, || {
        Ok((told(stage, 0)?.contains(&owner) && told(stage, 1)?.contains(&owner)).then_some(()))
    })?;
    Ok((etcd, primary))
}

/// Nothing gets from one node to the other any more; both reach all hosts.
fn part(stage: &Stage<'_>, parted: bool) -> Result<()> {
    let isolated = if parted { "on" } else { "off" };
    let lines: String =
        CABLES.iter().map(|port| format!("link set {port} type bridge_slave isolated {isolated}\n")).collect();
    stage.lab.switch.ip_batch(&lines)?;
    stage.lab.nodes[0].ip_batch(&format!("link set eth-p {}\n", if parted { "down" } else { "up" }))
}

fn hide_witness(node: &Namespace, hidden: bool) -> Result<()> {
    node.ip_batch(&format!("route {} blackhole {WITNESS}/32\n", if hidden { "add" } else { "del" }))
}

/// Every path is cut; the primary goes on, and the other one sends no frame in the name of a floating address.
fn primary_keeps_it(stage: &mut Stage<'_>) -> Result<()> {
    let (_etcd, primary) = with_etcd(stage)?;
    let mut traffic = start_traffic(stage)?;
    for _ in 0..2 {
        let watch = Watch::start(&stage.lab, 1 - primary)?;
        part(stage, true)?;
        sys::pause(PARTED);
        wait_recovered(&mut traffic)?;
        let views = [stage.pair.nodes[primary].ha()?, stage.pair.nodes[1 - primary].ha()?];
        ensure!(views[0].is_primary() && !views[1].is_primary(), "{} / {}", views[0].role, views[1].role);
        ensure!(told(stage, primary)?.contains("this node leads by it"), "{}", told(stage, primary)?);
        part(stage, false)?;
        ensure!(stage.pair.wait_whole()? == primary, "the role has moved");
        let seen = watch.finish()?;
        ensure!(seen.count == 0, "two forwarders: {:?}", seen.first);
        wait_recovered(&mut traffic)?;
    }
    nothing_lost(traffic)
}

/// The primary loses the witness, and nothing happens; then every path is cut. The other one leads, and speaks for
/// floating addresses only after the last word of the old one.
fn primary_loses_it(stage: &mut Stage<'_>) -> Result<()> {
    let (_etcd, _) = with_etcd(stage)?;
    let mut traffic = start_traffic(stage)?;
    for _ in 0..2 {
        let primary = stage.pair.wait_whole()?;
        hide_witness(&stage.lab.nodes[primary], true)?;
        wait_told(stage, primary, "UNREACHABLE")?;
        ensure!(stage.pair.wait_whole()? == primary, "the loss of the witness has moved the role");
        let watches = [Watch::start(&stage.lab, primary)?, Watch::start(&stage.lab, 1 - primary)?];
        part(stage, true)?;
        sys::wait_until("the other node leads", LIMIT, || {
            Ok(stage.pair.nodes[1 - primary].ha()?.is_primary().then_some(()))
        })?;
        wait_recovered(&mut traffic)?;
        sys::pause(PARTED);
        ensure!(!stage.pair.nodes[primary].ha()?.is_primary(), "the old primary has not given way");
        let [old, new] = watches;
        let (old, new) = (old.finish()?, new.finish()?);
        let (Some((_, last)), Some((first, _))) = (old.span, new.span) else {
            anyhow::bail!("{} frames of the old primary, {} of the new one", old.count, new.count)
        };
        ensure!(last < first, "two forwarders: the old primary spoke {:?} after the new one", last - first);
        println!("    {:.1} ms between the old primary's last frame and the new one's first", ms(first - last));
        part(stage, false)?;
        hide_witness(&stage.lab.nodes[primary], false)?;
        ensure!(stage.pair.wait_whole()? == 1 - primary, "the role has moved back");
        wait_recovered(&mut traffic)?;
    }
    nothing_lost(traffic)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The etcd dies and comes back, under load: nobody notices but the operator. Then a primary dies: its successor is let.
fn etcd_killed(stage: &mut Stage<'_>) -> Result<()> {
    let (etcd, primary) = with_etcd(stage)?;
    let mut traffic = start_traffic(stage)?;
    let term = stage.pair.nodes[primary].ha()?.raw["hanode"][0]["term"].clone();
    drop(etcd);
    for node in 0..2 {
        wait_told(stage, node, "UNREACHABLE since")?;
    }
    sys::pause(PARTED);
    wait_recovered(&mut traffic)?;
    ensure!(stage.pair.wait_whole()? == primary, "the role has moved");
    ensure!(stage.pair.nodes[primary].ha()?.raw["hanode"][0]["term"] == term, "the term has changed");
    let _etcd = Etcd::start(stage)?;
    for node in 0..2 {
        wait_told(stage, node, "REACHABLE since")?;
    }
    let outage = stage.pair.fail(&stage.lab, primary, crate::node::Failure::Power)?;
    wait_recovered(&mut traffic)?;
    stage.pair.heal(&stage.lab, outage)?;
    stage.pair.nodes[1 - primary].cli(&["force", "ha", "failover", "-force"])?;
    nothing_lost(traffic)
}

/// What a server says that is no etcd, or a mad one.
const NONSENSE: [&str; 6] = [
    "",
    "SSH-2.0-OpenSSH_9.2p1\r\n",
    "HTTP/1.0 200 OK\r\n\r\n{\"succeeded\":true}",
    "HTTP/1.0 200 OK\r\n\r\n{\"kvs\":[{\"value\":\"!\",\"mod_revision\":\"x\"}]}",
    // A claim of a node that is not of the pair, with the highest number there is.
    "HTTP/1.0 200 OK\r\n\r\n{\"header\":{},\"kvs\":[{\"value\":\"MTAuMC4wLjEgMTg0NDY3NDQwNzM3MDk1NTE2MTU=\",\"mod_revision\":\"1\"}]}",
    "HTTP/1.1 503 Service Unavailable\r\n\r\n",
];

/// A witness that answers nonsense to everybody, each time another one.
fn talk_nonsense(listener: &TcpListener) {
    for (turn, stream) in listener.incoming().enumerate() {
        let Ok(mut stream) = stream else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(NONSENSE[turn % NONSENSE.len()].as_bytes());
        if turn % 5 == 0 {
            // More than anybody wants to read.
            let _ = stream.write_all(&[b'x'; 100_000]);
        }
    }
}

/// Under load: nothing but what is shown of the witness.
fn nonsense(stage: &mut Stage<'_>) -> Result<()> {
    settle(stage)?;
    let listener = stage.lab.switch.inside(|| Ok(TcpListener::bind((WITNESS, PORTS[1]))?))?;
    // It ends with this program.
    std::thread::spawn(move || talk_nonsense(&listener));
    let mut traffic = start_traffic(stage)?;
    let primary = stage.pair.wait_whole()?;
    let term = stage.pair.nodes[primary].ha()?.raw["hanode"][0]["term"].clone();
    set_witness(stage, PORTS[1])?;
    for node in 0..2 {
        wait_told(stage, node, "UNREACHABLE since")?;
    }
    sys::pause(2 * PARTED);
    wait_recovered(&mut traffic)?;
    ensure!(stage.pair.wait_whole()? == primary, "the role has moved");
    ensure!(stage.pair.nodes[primary].ha()?.raw["hanode"][0]["term"] == term, "the term has changed");
    for node in 0..2 {
        let log = log_of(stage.pair.nodes[node].log().as_path());
        ensure!(log.lines().count() < 200, "node {node} has much to say about it:\n{log}");
    }
    nothing_lost(traffic)
}

/// Asks etcd about the pair's cell behind the nodes' backs; what it holds, if that was asked.
fn ask_etcd(stage: &Stage<'_>, method: &str, value: &str) -> Result<String> {
    let [a, b] = [0, 1].map(crate::lab::peer_address);
    let script = format!(
        "key=$(printf '/holdfast/{a},{b}/primary' | base64 -w0); value=$(printf '{value}' | base64 -w0)\n\
         body='{{\"key\":\"'$key'\"'; [ -z \"$value\" ] || body=$body',\"value\":\"'$value'\"'\n\
         curl -sf -d \"$body}}\" http://{WITNESS}:{}/v3/kv/{method} | sed -n 's/.*\"value\":\"\\([^\"]*\\)\".*/\\1/p' | base64 -d",
        PORTS[0]
    );
    stage.lab.switch.run("sh", &["-c", &script], "")
}

/// Somebody writes into the pair's cell, or empties it. The primary puts it right, and the pair survives its death then.
fn overwritten(stage: &mut Stage<'_>) -> Result<()> {
    let (_etcd, primary) = with_etcd(stage)?;
    let mut traffic = start_traffic(stage)?;
    let owner = crate::lab::peer_address(primary as u8);
    for (method, value) in [("put", "good morning"), ("deleterange", ""), ("put", "10.9.9.9 0")] {
        ask_etcd(stage, method, value)?;
        sys::wait_until("the primary has put it right", LIMIT, || {
            Ok(ask_etcd(stage, "range", "")?.starts_with(&format!("{owner} ")).then_some(()))
        })?;
        wait_told(stage, 1 - primary, "REACHABLE")?;
    }
    let log = log_of(&stage.pair.nodes[primary].log()) + &log_of(&stage.pair.nodes[1 - primary].log());
    ensure!(log.contains("holds \"good morning\" in this pair's cell"), "nobody was told of it");
    ensure!(stage.pair.wait_whole()? == primary, "it has moved the role");
    stage.pair.nodes[primary].kill()?;
    sys::wait_until("the other node leads", LIMIT, || {
        Ok(stage.pair.nodes[1 - primary].ha()?.is_primary().then_some(()))
    })?;
    wait_recovered(&mut traffic)?;
    nothing_lost(traffic)
}

fn log_of(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
