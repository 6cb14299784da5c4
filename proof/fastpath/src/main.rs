//! `holdfast-fastpath-proof check [<object> [<cases>]]`: the same frames through
//! the engine and through the loaded program give the same bytes and the same
//! verdict. Here nothing is attached to an interface: the program runs by
//! `BPF_PROG_TEST_RUN`.
//!
//! `holdfast-fastpath-proof live`: real TCP between two namespaces through the
//! attached program, which sees partial checksums and super-packets.
//!
//! The engine is the real one, and so is what carries its orders to the maps.
//! What the program forwards, the engine must forward, to the byte; what the
//! program passes up it must leave as it came; and a plain packet of an
//! established flow must not go up at all.

mod frames;
mod lab;
mod live;
mod named;
mod net;
mod random;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use holdfast_fastpath::{FlowMaps, Limits, OBJECT, Programs, Which, load_object};
use lab::Lab;

/// Frames of the property test unless the command line says otherwise.
const CASES: u32 = 20_000;
/// Room for copies: more than a run opens between two clearings.
const ENTRIES: u32 = 65_536;

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["live"] => live::run(),
        ["check"] => check(None, CASES),
        ["check", object] => check(Some(object), CASES),
        ["check", object, cases] => check(Some(object), cases.parse().context("cases are a number")?),
        _ => bail!("usage: holdfast-fastpath-proof live | check [<object> [<cases>]]"),
    }
}

fn check(object: Option<&str>, cases: u32) -> Result<()> {
    let (mut programs, maps) = open(object)?;
    let walked = [programs.verified(Which::Tc)?, programs.verified(Which::Xdp)?].map(|n| n.unwrap_or(0));
    println!("fast path: verified, {} instructions walked for tc, {} for XDP", walked[0], walked[1]);
    let mut lab = Lab::new(programs, maps)?;
    named::run(&mut lab)?;
    random::run(&mut lab, cases)
}

fn open(object: Option<&str>) -> Result<(Programs, FlowMaps)> {
    let limits = Limits { entries: ENTRIES };
    let read = object.map(|path| std::fs::read(path).with_context(|| format!("reading {path}"))).transpose()?;
    // SAFETY: the command line names an object that was built with this crate's layout.
    let loaded = unsafe { load_object(read.as_deref().unwrap_or(OBJECT), &limits) };
    loaded.context("the differential test runs the program in the kernel")
}
