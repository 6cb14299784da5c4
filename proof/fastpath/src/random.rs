//! Frames of every shape, in order: flows open, talk, are damaged and close, and
//! the program never does what the engine does not.

use anyhow::{Result, ensure};
use holdfast_engine::PortId;
use holdfast_wire::TcpFlags;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::frames::{self, Tcp, is_runnable, with_class, with_ttl};
use crate::lab::{CLIENTS, Fate, Kind, Lab, SERVERS};

/// Frames of one story.
const STORY: std::ops::Range<usize> = 1..12;
/// Stories between two clearings of the maps.
const CLEAR_EVERY: u32 = 1000;

/// A packet of the story's flow.
#[derive(Clone, Debug)]
struct Step {
    from_server: bool,
    flags: u8,
    numbers: (u32, u32),
    payload: Vec<u8>,
    ttl: u8,
    class: u8,
    /// Bytes that are changed: where among the headers, and to what.
    damage: Vec<(usize, u8)>,
    /// Bytes that are cut off the end.
    cut: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![12 => Just(0x10u8), 6 => Just(0x18), 1 => Just(0x11), 1 => Just(0x04), 2 => any::<u8>()];
    let number = |near: u32| prop_oneof![4 => (0u32..20_000).prop_map(move |by| near + by), 1 => any::<u32>()];
    let payload = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..64),
        1 => prop::collection::vec(any::<u8>(), 1380..1520),
    ];
    let ttl = prop_oneof![6 => Just(64u8), 1 => any::<u8>()];
    let damage = prop_oneof![
        6 => Just(Vec::new()),
        4 => prop::collection::vec((0usize..80, any::<u8>()), 1..4),
    ];
    let cut = prop_oneof![8 => Just(0usize), 1 => 1usize..60];
    let numbers = (number(1001), number(5001));
    (any::<bool>(), flags, numbers, payload, ttl, any::<u8>(), damage, cut).prop_map(
        |(from_server, flags, numbers, payload, ttl, class, damage, cut)| {
            let numbers = if from_server { (numbers.1, numbers.0) } else { numbers };
            Step { from_server, flags, numbers, payload, ttl, class, damage, cut }
        },
    )
}

fn kind() -> impl Strategy<Value = Kind> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(v6, udp, usip)| Kind { v6, udp, usip })
}

/// Runs stories until about `cases` frames have been compared.
pub fn run(lab: &mut Lab, cases: u32) -> Result<()> {
    let stories = cases / (STORY.end as u32 / 2);
    let config = Config { cases: stories, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let forwarded = lab.forwarded;
    let (mut told, mut compared) = (0, 0u64);
    let strategy = (kind(), prop::collection::vec(step(), STORY));
    // The runner wants a pure function; the lab is behind it, cleared often enough not to matter.
    let cell = std::cell::RefCell::new((&mut *lab, &mut told, &mut compared));
    let outcome = runner.run(&strategy, |(kind, steps)| {
        let (lab, told, compared) = &mut *cell.borrow_mut();
        **told += 1;
        **compared += steps.len() as u64;
        let clears = **told % CLEAR_EVERY == 1;
        tell(lab, clears, kind, &steps).map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, story)) => anyhow::bail!("{reason}\nstory {story:#?}"),
        Err(TestError::Abort(reason)) => anyhow::bail!("given up: {reason}"),
    }
    let forwarded = lab.forwarded - forwarded;
    println!("fast path: {compared} frames of {told} flows agree with the engine, {forwarded} of them forwarded");
    ensure!(forwarded * 5 > compared, "too few frames are forwarded to prove anything");
    Ok(())
}

fn tell(lab: &mut Lab, clears: bool, kind: Kind, steps: &[Step]) -> Result<()> {
    if clears {
        lab.clear()?;
    }
    let flow = lab.open(kind)?;
    for step in steps {
        let side: PortId = if step.from_server { SERVERS } else { CLIENTS };
        let tcp = Tcp { flags: TcpFlags(step.flags), numbers: step.numbers, payload: &step.payload };
        let whole = with_class(with_ttl(flow.frame(side, &tcp), step.ttl), step.class);
        let frame = damaged(whole, step);
        if !is_runnable(&frame) {
            continue;
        }
        let lives = lab.entry(&flow, side)?.is_some();
        let fate = lab.compare(side, &frame)?;
        let plain = step.damage.is_empty() && step.cut == 0 && step.ttl > 1 && step.payload.len() < 1400;
        let usual = kind.udp || step.flags & 0x17 == 0x10;
        if lives && plain && usual {
            ensure!(matches!(fate, Fate::Forward(_)), "a plain packet of a flow with a copy: {fate:?}");
        }
    }
    Ok(())
}

fn damaged(mut frame: Vec<u8>, step: &Step) -> Vec<u8> {
    for &(at, byte) in &step.damage {
        frame = frames::with(frame, at, byte);
    }
    // Half of the damage is to what stands behind a right header checksum.
    if step.class & 1 == 1 {
        frame = frames::with_header_checksum(frame);
    }
    frame.truncate(frame.len().saturating_sub(step.cut));
    frame
}
