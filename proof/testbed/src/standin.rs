//! Checks the lab itself without the product: one node's kernel forwards (nft DNAT and masquerade) in place of the
//! daemon. The instruments must report nothing while nothing happens, and must report the loss when the node fails, since
//! nobody takes over.

use crate::config::{ECHO_PORT, SNIP_HOST, Vip};
use crate::ftp;
use crate::lab::{Family, Lab, SERVER_ROWS};
use crate::sniff::Watch;
use crate::sys;
use crate::traffic::{self, Load, Traffic};
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::time::Duration;

/// Runs the check; prints what it does.
pub fn run() -> Result<()> {
    let lab = Lab::build()?;
    println!("lab built: {}", lab.directory().display());
    forward_in_kernel(&lab)?;
    traffic::assert_no_bypass(&lab)?;
    println!("no route between client and servers");
    let _servers = traffic::start_servers(&lab)?;

    let load = Load { connections: 1000, new_per_second: 500, probe_rate: 1000 };
    let mut traffic = Traffic::start(&lab, Vip::Nat, &Family::ALL, load)?;
    traffic.open_window()?;
    let ftp = ftp::Servers::start(&lab, 64)?;
    let mut downloads = Vec::new();
    for family in Family::ALL {
        downloads.push(ftp::Download::start(&lab, &ftp, family, Duration::from_secs(4))?);
    }
    for download in &mut downloads {
        let verdict = download.finish(Duration::from_secs(30))?;
        println!(
            "FTP {}: {} bytes, longest stall {:.1} ms, equal: {}",
            verdict.family, verdict.bytes, verdict.longest_stall_ms, verdict.equal
        );
        ensure!(verdict.equal, "the download differs: {}", verdict.message);
    }
    let gaps = traffic.close_window()?;
    println!("undisturbed: waits p50/p99/max {:?} ms, UDP gap {} ms", gaps.tcp, gaps.udp);

    let watch = Watch::start(&lab, 0)?;
    lab.nodes[0].ip_batch("link set eth-c down\n")?;
    sys::wait_until("the clients miss their connections", Duration::from_secs(40), || {
        let lost = traffic.tcp.progress()?["lost"].as_u64();
        Ok((lost >= Some(u64::from(load.connections))).then_some(()))
    })?;
    let dark = traffic.finish()?;
    let seen = watch.finish()?;
    println!("after the cable was cut: {} of {} lost ({} reset)", dark.lost(), dark.established(), dark.reset());
    println!("the watch saw {} frames; first: {:?}", seen.count, seen.first);
    ensure!(dark.lost() >= u64::from(load.connections), "the instruments missed losses: {}", dark.tcp);
    ensure!(seen.count > 0, "the watch is blind");
    println!("the instruments work");
    Ok(())
}

fn forward_in_kernel(lab: &Lab) -> Result<()> {
    let node = &lab.nodes[0];
    node.sysctl("net/ipv4/ip_forward", "1")?;
    node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    let mut lines = String::new();
    let mut rules = String::from("table inet standin {\n chain pre { type nat hook prerouting priority -100;\n");
    for family in Family::ALL {
        let (bits, nodad, ip) = match family {
            Family::V4 => (24, "", "ip"),
            Family::V6 => (64, " nodad", "ip6"),
        };
        let _ = writeln!(lines, "addr add {}/{bits} dev eth-s{nodad}", family.server_net(SNIP_HOST));
        for vip in [Vip::Nat, Vip::Ftp] {
            let address = vip.address(family);
            let _ = writeln!(lines, "addr add {address}/{bits} dev eth-c{nodad}");
            let row = if vip == Vip::Ftp { SERVER_ROWS[2] } else { SERVER_ROWS[0] };
            let server = family.server_net(row + 1);
            let (matcher, target) = match vip.server_port() {
                Some(port) => (format!("th dport {ECHO_PORT}"), family.endpoint(&server, port)),
                None => ("meta l4proto tcp".into(), server),
            };
            let layer4 = if vip.server_port().is_some() { "meta l4proto { tcp, udp } " } else { "" };
            let _ = writeln!(rules, "  {ip} daddr {address} {layer4}{matcher} dnat {ip} to {target}");
        }
    }
    rules += " }\n chain post { type nat hook postrouting priority 100; oifname eth-s masquerade\n }\n}\n";
    node.ip_batch(&lines)?;
    node.run("nft", &["-f", "-"], &rules).map(drop)
}
