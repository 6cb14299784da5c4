//! What a packet costs in the fast path's programs, and in the minimal DNAT
//! program (`ebpf/`) that is their bound, by `BPF_PROG_TEST_RUN`: the program's
//! own time, without drivers and queues.
//!
//! A run edits the frame that the next run finds. So there are two flows, each
//! of which turns a packet into one of the other, and the TTL bounds how many
//! runs there are in a row.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::HashMap;
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, Xdp};
use holdfast_fastpath::layout::{Entry, Key, NEVER, Way};
use holdfast_fastpath::{FlowMaps, Limits, Programs, Trial, Which};
use holdfast_wire::build::{Link, MAX_HEADERS, Segment, tcp_segment, udp_datagram};
use holdfast_wire::{Addr, Endpoint, MacAddr, Ready, TcpFlags, checksum, ethertype, proto};

/// The minimal program, as built by `cargo xtask ebpf`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../dnat.o");

/// Runs in a row: fewer than the TTL allows.
const IN_A_ROW: u32 = 250;
/// Measurements of each program, and with `--smoke`.
const ROUNDS: u32 = 4000;
const SMOKE_ROUNDS: u32 = 20;

const OWN: MacAddr = MacAddr([2, 0xf, 0, 0, 0, 1]);
const PAYLOAD: &[u8] = b"0123456789";
/// What the programs answer for a packet that leaves.
const TC_REDIRECT: u32 = 7;
const XDP_REDIRECT: u32 = 4;
/// Other entries in the map.
const CROWDS: [u32; 3] = [0, 10_000, 100_000];

/// A packet of the bench.
#[derive(Clone, Copy)]
struct Shape {
    v6: bool,
    udp: bool,
}

/// Measures and prints a table.
pub fn run(arguments: &[String]) -> Result<()> {
    let smoke = arguments.iter().any(|word| word == "--smoke");
    let rounds = if smoke { SMOKE_ROUNDS } else { ROUNDS };
    let object = arguments.iter().find(|word| *word != "--smoke");
    let read = object.map(|path| std::fs::read(path).with_context(|| format!("reading {path}"))).transpose()?;
    let mut bound = Bound::load(read.as_deref().unwrap_or(OBJECT)).context("the minimal program needs root")?;
    let (mut programs, mut maps) = holdfast_fastpath::load(&Limits { entries: 262_144 })?;
    maps.set_lease(NEVER);
    maps.set_macs(&[OWN]);
    println!("{:<44} {:>12} {:>12}", "a packet, ns of program time", "tc", "XDP");
    let idle = [Which::Tc, Which::Xdp].map(|which| undisturbed(rounds, || bound.time(which, &[0xee; 64], false)));
    print_row("the frame of somebody else, minimal DNAT", idle)?;
    let tcp = Shape { v6: false, udp: false };
    for crowd in CROWDS {
        bound.fill(crowd)?;
        let frame = tcp.frame();
        let times = [Which::Tc, Which::Xdp].map(|which| undisturbed(rounds, || bound.time(which, &frame, true)));
        print_row(&format!("minimal DNAT, TCP over IPv4, {} flows", crowd + 1), times)?;
    }
    for crowd in CROWDS {
        fill(&mut maps, crowd)?;
        let times = measure(&mut programs, &mut maps, tcp, rounds);
        print_row(&format!("fast path, TCP over IPv4, {} flows", crowd + 1), times)?;
    }
    for (name, shape) in [
        ("fast path, UDP over IPv4", Shape { v6: false, udp: true }),
        ("fast path, TCP over IPv6", Shape { v6: true, udp: false }),
        ("fast path, UDP over IPv6", Shape { v6: true, udp: true }),
    ] {
        print_row(name, measure(&mut programs, &mut maps, shape, rounds))?;
    }
    let walked = [Which::Tc, Which::Xdp].map(|which| programs.verified(which));
    println!(
        "{:<44} {:>12} {:>12}",
        "instructions that the verifier walks",
        show(walked[0].as_ref().ok()),
        show(walked[1].as_ref().ok())
    );
    Ok(())
}

fn show(walked: Option<&Option<u32>>) -> String {
    walked.copied().flatten().map_or("?".into(), |number| number.to_string())
}

fn print_row(name: &str, times: [Result<f64>; 2]) -> Result<()> {
    let [tc, xdp] = times;
    println!("{name:<44} {:>12.1} {:>12.1}", tc?, xdp?);
    Ok(())
}

/// What a tenth of many measurements do not exceed, nanoseconds: on a machine that
/// does other things, too, the median tells of those.
fn undisturbed(rounds: u32, mut measure: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let mut times = (0..rounds).map(|_| measure()).collect::<Result<Vec<_>>>()?;
    times.sort_unstable();
    Ok(times[times.len() / 10].as_nanos() as f64)
}

fn measure(programs: &mut Programs, maps: &mut FlowMaps, shape: Shape, rounds: u32) -> [Result<f64>; 2] {
    [Which::Tc, Which::Xdp].map(|which| {
        maps.install(&shape.entries())?;
        let (frame, mut out) = (shape.frame(), [0; 256]);
        undisturbed(rounds, || {
            let ran = programs.run(which, Trial { frame: &frame, segment: 0, repeat: IN_A_ROW }, &mut out)?;
            ensure!(
                matches!(ran.answer, TC_REDIRECT | XDP_REDIRECT),
                "the packet leaves, and is not answered {}",
                ran.answer
            );
            Ok(ran.time)
        })
    })
}

/// Entries of flows that no packet belongs to.
fn fill(maps: &mut FlowMaps, count: u32) -> Result<()> {
    let shape = Shape { v6: false, udp: false };
    let [(_, entry), _] = shape.entries();
    let others: Vec<(Key, Entry)> = (0..count)
        .map(|number| {
            let client = Endpoint { addr: Addr::v4((0x0a80_0000 + number).to_be_bytes()), port: 7 };
            (Key::new(proto::TCP, 0, client, shape.ends()[1]), entry)
        })
        .collect();
    ensure!(maps.install(&others)? == 0, "the map has room");
    Ok(())
}

impl Shape {
    /// Two pairs of ends; packets between the first become packets between the second.
    fn ends(self) -> [Endpoint; 4] {
        [(9, 51_234), (100, 80), (5, 40_001), (21, 8080)].map(|(last, port)| {
            let addr = if self.v6 {
                Addr([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
            } else {
                Addr::v4([10, 1, 0, last])
            };
            Endpoint { addr, port }
        })
    }

    fn frame(self) -> Vec<u8> {
        let [src, dst, ..] = self.ends();
        let link = Link::new(OWN, OWN);
        let mut out = vec![0; MAX_HEADERS + PAYLOAD.len()];
        let len = if self.udp {
            udp_datagram(&mut out, link, src, dst, PAYLOAD)
        } else {
            let flags = TcpFlags::ACK;
            let segment = Segment { src, dst, seq: 1, ack: 1, flags, window: 500, mss: None, payload: PAYLOAD };
            tcp_segment(&mut out, link, &segment)
        };
        out.truncate(len);
        if self.v6 {
            out[14 + 7] = 255;
            return out;
        }
        out[14 + 8] = 255;
        out[14 + 10..14 + 12].fill(0);
        let sum = !checksum::fold(checksum::sum(&out[14..34]));
        out[14 + 10..14 + 12].copy_from_slice(&sum.to_be_bytes());
        out
    }

    fn entries(self) -> [(Key, Entry); 2] {
        let [a, b, c, d] = self.ends();
        let (kind, proto) =
            (if self.v6 { ethertype::IPV6 } else { ethertype::IPV4 }, if self.udp { proto::UDP } else { proto::TCP });
        let way = Way { interface: 1, mtu: 1500, to: OWN, from: OWN };
        let turn = |from: (Endpoint, Endpoint), to| {
            (Key::new(proto, 0, from.0, from.1), Entry::new(0, &Ready::new(from, to), &way, kind))
        };
        [turn((a, b), (c, d)), turn((c, d), (a, b))]
    }
}

/// The minimal program. A flow's ends are both addresses and both ports, as in the frame.
struct Bound {
    ebpf: Ebpf,
}

impl Bound {
    fn load(object: &[u8]) -> Result<Bound> {
        let mut ebpf = Ebpf::load(object)?;
        let tc: &mut SchedClassifier = ebpf.program_mut("dnat_tc").context("no program dnat_tc")?.try_into()?;
        tc.load()?;
        let xdp: &mut Xdp = ebpf.program_mut("dnat_xdp").context("no program dnat_xdp")?.try_into()?;
        xdp.load()?;
        let mut bound = Bound { ebpf };
        let [a, b, c, d] = Shape { v6: false, udp: false }.ends();
        bound.insert(ends_of(a, b), ends_of(c, d))?;
        bound.insert(ends_of(c, d), ends_of(a, b))?;
        Ok(bound)
    }

    /// Further flows, up to `count`.
    fn fill(&mut self, count: u32) -> Result<()> {
        let [.., d] = Shape { v6: false, udp: false }.ends();
        for number in 0..count {
            let client = Endpoint { addr: Addr::v4((0x0a80_0000 + number).to_be_bytes()), port: 7 };
            self.insert(ends_of(client, d), ends_of(d, client))?;
        }
        Ok(())
    }

    fn insert(&mut self, from: [u32; 3], to: [u32; 3]) -> Result<()> {
        let map = self.ebpf.map_mut("TARGETS").context("no map TARGETS")?;
        let mut targets: HashMap<_, [u32; 3], [u32; 7]> = HashMap::try_from(map)?;
        let [a, b, c, d, e, f] = OWN.0;
        let macs = [[a, b, c, d], [e, f, a, b], [c, d, e, f]].map(u32::from_ne_bytes);
        targets.insert(from, [to[0], to[1], to[2], 1, macs[0], macs[1], macs[2]], 0)?;
        Ok(())
    }

    /// Time of a run, after which the frame must have left, or not.
    fn time(&mut self, which: Which, frame: &[u8], leaves: bool) -> Result<Duration> {
        let mut out = [0; 256];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            repeat: IN_A_ROW,
            ..TestRunOptions::default()
        };
        let result = match which {
            Which::Tc => self.program::<SchedClassifier>("dnat_tc")?.test_run(options)?,
            Which::Xdp => self.program::<Xdp>("dnat_xdp")?.test_run(options)?,
        };
        let left = matches!(result.return_value, TC_REDIRECT | XDP_REDIRECT);
        ensure!(left == leaves, "the packet is answered {}", result.return_value);
        Ok(result.duration)
    }

    fn program<'a, P>(&'a mut self, name: &str) -> Result<&'a mut P>
    where
        &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
    {
        let program = self.ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
        Ok(program.try_into()?)
    }
}

fn ends_of(src: Endpoint, dst: Endpoint) -> [u32; 3] {
    let ports = [src.port.to_be_bytes(), dst.port.to_be_bytes()].concat();
    [src.addr.v4_bytes(), dst.addr.v4_bytes(), [ports[0], ports[1], ports[2], ports[3]]].map(u32::from_ne_bytes)
}
