//! Real TCP through the attached program. The kernel's own TCP makes
//! super-packets with partial checksums, and a device that computes none makes it
//! finish them: a checksum that was mended the wrong way round loses every packet there.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_fastpath::layout::{Entry, Key, NEVER, Way};
use holdfast_fastpath::{Attachment, FlowMaps, Limits, Programs, load};
use holdfast_wire::{Endpoint, Ready, ethertype, proto};
use socket2::Socket;

use crate::lab::{HOSTS, MTU, OWN, host};
use crate::net::{DEVICES, Net, PATIENCE, index, run as run_program, set_tx_checksum};

/// Bytes that each end sends.
const TRANSFER: usize = 1 << 20;
/// How long nothing must come when nothing may pass.
const SILENCE: Duration = Duration::from_millis(300);

/// Runs every case.
pub fn run() -> Result<()> {
    let net = Net::new().context("three namespaces (needs root)")?;
    let (mut programs, mut maps) = load(&Limits { entries: 1024 })?;
    maps.set_macs(&OWN);
    maps.set_lease(NEVER);
    let mut port = 40_000;
    let mut next = || {
        port += 1;
        port
    };
    for clsact in [false, true] {
        let attached = attach(&mut programs, clsact)?;
        for tx in [[true, true], [false, true], [true, false], [false, false]] {
            set_tx_checksum(DEVICES[0], tx[0])?;
            set_tx_checksum(DEVICES[1], tx[1])?;
            for v6 in [false, true] {
                let name = format!("{attached:?}, IPv{}, tx checksum {tx:?}", if v6 { 6 } else { 4 });
                let (near, far) = connect(&net, &mut maps, v6, next())?;
                exchange(near, far).with_context(|| name)?;
            }
        }
    }
    lease_ends(&net, &mut maps, next())?;
    stale_filters_go(programs)?;
    println!(
        "fast path: TCP in both directions, tcx and clsact, IPv4 and IPv6, with and without tx checksum; the lease ends it"
    );
    Ok(())
}

fn attach(programs: &mut Programs, clsact: bool) -> Result<Attachment> {
    let mut attached = Attachment::Clsact;
    for device in DEVICES {
        programs.detach(device)?;
        if clsact {
            programs.attach_clsact(device)?;
        } else {
            attached = programs.attach_tc(device)?;
        }
    }
    Ok(attached)
}

/// A connection through the node, whose two ends and two copies are made by hand.
fn connect(net: &Net, maps: &mut FlowMaps, v6: bool, port: u16) -> Result<(Socket, Socket)> {
    let end = |net, last, port| Endpoint { addr: host(v6, net, last), port };
    let (client, vip) = (end(1, 9, port), end(1, 100, 80));
    let (server, source) = (end(2, 21, 8080), end(2, 5, port));
    let kind = if v6 { ethertype::IPV6 } else { ethertype::IPV4 };
    let copy = |from: (Endpoint, Endpoint), to, out: usize| -> Result<(Key, Entry)> {
        let way = Way { interface: index(DEVICES[out])?, mtu: MTU, to: HOSTS[out], from: OWN[out] };
        Ok((Key::new(proto::TCP, 0, from.0, from.1), Entry::new(0, &Ready::new(from, to), &way, kind)))
    };
    let copies = [copy((client, vip), (source, server), 1)?, copy((server, source), (vip, client), 0)?];
    ensure!(maps.install(&copies)? == 0, "room for two copies");
    let socket = |end: Endpoint| SocketAddr::new(IpAddr::from(end.addr), end.port);
    net.connection((socket(client), socket(vip)), (socket(server), socket(source)))
}

/// Both ends send at once, and get what the other sent. Neither closes before: a last segment that is sent again takes
/// the FIN along, and there is no engine here that would forward it.
fn exchange(near: Socket, far: Socket) -> Result<()> {
    let ends = [(near.try_clone()?, 3u8), (far.try_clone()?, 7u8)];
    let threads: Vec<_> = ends.into_iter().map(|(socket, step)| thread::spawn(move || talk(socket, step))).collect();
    let heard = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("an end panicked"))?);
    for (step, heard) in [7, 3].into_iter().zip(heard) {
        ensure!(heard? == pattern(step), "an end got other bytes than were sent");
    }
    drop((near, far));
    Ok(())
}

fn talk(socket: Socket, step: u8) -> Result<Vec<u8>> {
    let mut writer = socket.try_clone()?;
    let sender = thread::spawn(move || writer.write_all(&pattern(step)));
    let mut heard = vec![0; TRANSFER];
    let mut reader = &socket;
    reader.read_exact(&mut heard).context("reading")?;
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.context("writing")?;
    Ok(heard)
}

fn pattern(step: u8) -> Vec<u8> {
    (0..TRANSFER).map(|at| (at as u8).wrapping_mul(step) ^ (at >> 8) as u8).collect()
}

/// The moment the lease is over nothing passes any more, and passes again with the next one.
fn lease_ends(net: &Net, maps: &mut FlowMaps, port: u16) -> Result<()> {
    let (near, far) = connect(net, maps, false, port)?;
    let (mut sender, mut receiver) = (&near, &far);
    sender.write_all(b"before")?;
    let mut heard = [0; 6];
    receiver.read_exact(&mut heard).context("with a lease")?;
    maps.set_lease(1);
    sender.write_all(b"behind")?;
    far.set_read_timeout(Some(SILENCE))?;
    ensure!(receiver.read(&mut heard).is_err(), "a packet passed without a lease");
    maps.set_lease(NEVER);
    far.set_read_timeout(Some(PATIENCE))?;
    receiver.read_exact(&mut heard).context("with a lease again")?;
    ensure!(heard == *b"behind", "what was sent in between is sent again");
    Ok(())
}

/// A process that is killed leaves its clsact filters behind; the next one takes them away.
fn stale_filters_go(programs: Programs) -> Result<()> {
    let filters = |device: &str| -> Result<usize> {
        Ok(run_program("tc", &format!("filter show dev {device} ingress"))?
            .matches("holdfast_tc direct-action")
            .count())
    };
    ensure!(filters(DEVICES[0])? == 1, "the filter hangs there");
    // As a killed process would: nothing is undone.
    std::mem::forget(programs);
    let (mut programs, _maps) = load(&Limits { entries: 16 })?;
    programs.attach_clsact(DEVICES[0])?;
    ensure!(filters(DEVICES[0])? == 1, "of two filters one is stale and gone");
    drop(programs);
    ensure!(filters(DEVICES[0])? == 0, "it goes with its owner");
    for device in DEVICES {
        holdfast_fastpath::remove_stale(device)?;
        ensure!(filters(device)? == 0, "what is left of a killed process goes");
    }
    Ok(())
}
