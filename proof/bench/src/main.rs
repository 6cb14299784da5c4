//! `holdfast-bench`: what the engine and the mirror cost, on one thread, with
//! no kernel in between. Prints a table; the figures are of this machine and
//! this run, to be compared with one another, not with other machines.
//!
//! `holdfast-bench fastpath [--smoke] [<object>]`: what a packet costs in the fast
//! path's programs, beside the least that does the same work (needs root).
//! `holdfast-bench dnat`: the latter, at work (for `cargo xtask bench plane`).
//! `holdfast-bench instructions`: what the processor does for a packet, counted by callgrind.

mod bulk;
mod engine;
mod fastpath;
mod holder;
mod instructions;
mod mirror;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((word, rest)) => {
            let ran = match word.as_str() {
                "fastpath" => fastpath::run(rest),
                "dnat" => holder::run(rest),
                "instructions" => instructions::run(rest),
                _ => Err(anyhow::anyhow!(
                    "usage: holdfast-bench [fastpath [--smoke] [<object>] | dnat tc|xdp <device>… | instructions]"
                )),
            };
            match ran {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
        None => {
            without_kernel();
            ExitCode::SUCCESS
        }
    }
}

fn without_kernel() {
    println!("{:<44} {:>12} {:>14}", "engine, one thread", "ns/packet", "packets/s");
    for flows in [1, 10_000, 100_000] {
        let nanos = engine::established(flows, engine::PACKETS);
        println!(
            "{:<44} {:>12.0} {:>14.0}",
            format!("established TCP, {flows} flows, 64-byte data"),
            nanos,
            1e9 / nanos
        );
    }
    let nanos = engine::connections(100_000);
    println!("{:<44} {:>12.0} {:>14.0}", "TCP set-up, 3 packets, DISABLED (per conn.)", nanos, 1e9 / nanos);
    println!();
    println!("{:<44} {:>12} {:>14}", "mirror, both ends, no loss", "bytes/record", "records/s");
    for v6 in [false, true] {
        let cost = mirror::bulk(200_000, v6);
        let name = if v6 { "IPv6 open, SNAT" } else { "IPv4 open, SNAT" };
        println!("{name:<44} {:>12.1} {:>14.0}", cost.bytes_per_record, cost.records_per_second);
    }
    println!();
    bulk_stages(1_000_000);
}

/// Where the time of a bulk transfer goes.
fn bulk_stages(flows: u32) {
    println!("{:<44} {:>12}", format!("bulk transfer of {flows} flows"), "ns/flow");
    let transfer = bulk::transfer(flows);
    for (name, nanos) in &transfer.stages {
        println!("{name:<44} {nanos:>12.0}");
    }
    let millis = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    println!("{:<44} {:>12}", "takeover with them", "ms");
    println!("{:<44} {:>12.2}", "the receiver forgets the session", millis(transfer.leave));
    println!("{:<44} {:>12.2}", "the engine becomes primary", millis(transfer.promote));
}
