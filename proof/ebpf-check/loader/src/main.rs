//! Loads the wire-check program into the kernel, runs it on frames, and
//! compares every answer with what `holdfast-wire` does to the same frame.
//!
//! `wire-check-loader <object> [<seed>]`. Nothing is attached to an interface:
//! the program runs by `BPF_PROG_TEST_RUN` only.

mod frames;

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::Array;
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use holdfast_base::Rng;
use holdfast_wire::{
    Addr, Checksum, Endpoint, IpPacket, IpVersion, ParseError, Rewrite, apply, parse_ethernet, parse_ip, rewrite,
};

/// Answers of the program; see its source.
const REWRITTEN: u32 = 0;
const BROKEN: u32 = 2;
const NOT_IP: u32 = 3;

/// Size of the map's value.
const WANTED_LEN: usize = 40;
/// Frames made by mutation beside the named ones.
const MUTATED: u32 = 20_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let object = arguments.next().context("usage: wire-check-loader <object> [<seed>]")?;
    let seed = arguments.next().map_or(Ok(1), |seed| seed.parse()).context("the seed is a number")?;
    let bytes = std::fs::read(&object).with_context(|| format!("reading {object}"))?;
    let mut lab = Lab::load(&bytes)?;
    for (name, frame) in frames::named() {
        lab.compare(&frame).with_context(|| format!("the frame `{name}`"))?;
    }
    let mut rng = Rng::from_seed(seed);
    for turn in 0..MUTATED {
        let frame = frames::mutated(&mut rng);
        if !frames::is_runnable(&frame) {
            continue;
        }
        lab.compare(&frame).with_context(|| format!("mutated frame {turn} of seed {seed}"))?;
    }
    let [rewritten, broken, not_ip] = lab.seen;
    println!(
        "wire-check: {} frames agree: {rewritten} rewritten, {broken} broken, {not_ip} not IP (seed {seed})",
        rewritten + broken + not_ip,
    );
    ensure!(rewritten > 0 && broken > 0 && not_ip > 0, "the frames do not reach every answer");
    Ok(())
}

/// The loaded program.
struct Lab {
    ebpf: Ebpf,
    /// How many frames got each answer: rewritten, broken, not IP.
    seen: [u32; 3],
}

impl Lab {
    fn load(object: &[u8]) -> Result<Lab> {
        let mut ebpf = EbpfLoader::new().load(object).context("the kernel or the loader refuses the object")?;
        let program = program(&mut ebpf)?;
        program.load().context("the verifier refuses the program (needs CAP_BPF and CAP_NET_ADMIN)")?;
        let instructions = program.info()?.verified_instruction_count();
        println!("wire-check: verified, {} instructions walked", instructions.map_or("?".into(), |n| n.to_string()));
        Ok(Lab { ebpf, seen: [0; 3] })
    }

    /// Runs the program on `frame` and does the same with wire; both must agree.
    fn compare(&mut self, frame: &[u8]) -> Result<()> {
        let (expected, answer) = expectation(frame);
        let mut map: Array<_, [u8; WANTED_LEN]> =
            Array::try_from(self.ebpf.map_mut("WANTED").context("no map WANTED")?)?;
        map.set(0, lay_out(&wanted(frame)), 0)?;
        let mut out = vec![0; frame.len() + 256];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), repeat: 1, ..TestRunOptions::default() };
        let result = program(&mut self.ebpf)?
            .test_run(options)
            .with_context(|| format!("BPF_PROG_TEST_RUN on {}", hex(frame)))?;
        out.truncate(result.data_size_out as usize);
        if result.return_value != answer || out != expected {
            bail!(
                "wire and the program differ\n frame {}\n  wire {answer} {}\nkernel {} {}",
                hex(frame),
                hex(&expected),
                result.return_value,
                hex(&out)
            );
        }
        match answer {
            REWRITTEN => self.seen[0] += 1,
            BROKEN => self.seen[1] += 1,
            _ => self.seen[2] += 1,
        }
        Ok(())
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    Ok(ebpf.program_mut("wire_check").context("no program wire_check in the object")?.try_into()?)
}

/// What wire makes of `frame`, and the answer that the program must give.
fn expectation(frame: &[u8]) -> (Vec<u8>, u32) {
    let mut out = frame.to_vec();
    let answer = match ip_packet(frame) {
        Ok(Some(packet)) => {
            assert!(apply(&mut out[..], &rewrite(&packet, &wanted(frame)), Checksum::Complete), "its own frame");
            REWRITTEN
        }
        Ok(None) => NOT_IP,
        Err(_) => BROKEN,
    };
    (out, answer)
}

/// The same steps as the program's: ARP is not looked into.
fn ip_packet(frame: &[u8]) -> Result<Option<IpPacket>, ParseError> {
    let ethernet = parse_ethernet(frame)?;
    let mut packet = IpPacket::default();
    Ok(parse_ip(frame, &ethernet, &mut packet)?.then_some(packet))
}

/// The rewrite asked for: of the frame's own IP version.
fn wanted(frame: &[u8]) -> Rewrite {
    let v6 = matches!(ip_packet(frame), Ok(Some(packet)) if packet.version == IpVersion::V6);
    let (src, dst) = if v6 {
        let net = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0x42, 0, 0, 0, 0, 0, 0, 0];
        let host = |last: u8| Addr(std::array::from_fn(|at| net.get(at).copied().unwrap_or(last)));
        (host(0x51), host(0x52))
    } else {
        (Addr::v4([192, 0, 2, 51]), Addr::v4([198, 51, 100, 52]))
    };
    Rewrite { src: Endpoint { addr: src, port: 40_001 }, dst: Endpoint { addr: dst, port: 8080 }, decrement_ttl: true }
}

/// The map's value; its layout is drawn in the program's source.
fn lay_out(wanted: &Rewrite) -> [u8; WANTED_LEN] {
    let mut value = [0; WANTED_LEN];
    value[..16].copy_from_slice(&wanted.src.addr.0);
    value[16..32].copy_from_slice(&wanted.dst.addr.0);
    value[32..34].copy_from_slice(&wanted.src.port.to_be_bytes());
    value[34..36].copy_from_slice(&wanted.dst.port.to_be_bytes());
    value[36] = u8::from(wanted.decrement_ttl);
    value
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
