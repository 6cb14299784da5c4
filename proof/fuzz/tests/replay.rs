//! Every target: the committed corpus, the well-formed seeds, then mutations.
//!
//! `HOLDFAST_FUZZ_WRITE=1` writes the well-formed seeds into the corpus first, under names that begin with `seed-`.
//! `HOLDFAST_FUZZ_ITERATIONS` sets the number of mutated inputs per target,
//! `HOLDFAST_FUZZ_SEED` their seed, `HOLDFAST_FUZZ_TARGET` picks one target. A
//! finding is written to the system's temporary folder; once mended it moves
//! to `corpus/<target>/`.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use holdfast_base::Rng;
use holdfast_fuzz::{TARGETS, Target, mutate};

/// Seed of an ordinary test run.
const SEED: u64 = 1;
/// Mutated inputs that a target keeps to mutate further.
const MAX_KEPT: usize = 256;

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { fuzz(stringify!($name)); })*

        #[test]
        fn every_target_has_a_test() {
            let tested = [$(stringify!($name)),*];
            let all: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(all, tested);
        }
    };
}

targets! {
    wire_frame mirror_data mirror_ack ha_hello config_lines connection_filter engine_frames node_envelope peer_steps
    probe_answer node_scenario
}

fn fuzz(name: &str) {
    if std::env::var("HOLDFAST_FUZZ_TARGET").is_ok_and(|wanted| wanted != name) {
        return;
    }
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    if std::env::var_os("HOLDFAST_FUZZ_WRITE").is_some() {
        write_seeds(target);
    }
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "corpus/{name} is empty: HOLDFAST_FUZZ_WRITE=1 writes the seeds");
    for (path, input) in &corpus {
        attack(target, input, || path.display().to_string());
    }
    let mut start = (target.seeds)();
    for (index, input) in start.iter().enumerate() {
        attack(target, input, || format!("well-formed input {index}"));
    }
    start.extend(corpus.into_iter().map(|(_, input)| input));
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let seed = number("HOLDFAST_FUZZ_SEED").unwrap_or(SEED);
    let iterations = number("HOLDFAST_FUZZ_ITERATIONS").unwrap_or(target.iterations);
    println!("{name}: seed {seed}, {iterations} mutated inputs");
    let mut rng = Rng::from_seed(seed);
    for turn in 0..iterations {
        // No coverage is measured: a few mutated inputs are kept to go further
        // from, but most begin where the decoder still says yes.
        let pool = if rng.chance(3, 4) || kept.is_empty() { &start } else { &kept };
        let mut input = pick(&mut rng, pool).clone();
        let other = pick(&mut rng, &start);
        mutate(&mut rng, &mut input, other);
        attack(target, &input, || format!("turn {turn} of seed {seed}"));
        if rng.chance(1, 50) {
            if kept.len() == MAX_KEPT {
                let one = rng.below(MAX_KEPT as u64) as usize;
                kept.swap_remove(one);
            }
            kept.push(input);
        }
    }
}

fn pick<'a>(rng: &mut Rng, pool: &'a [Vec<u8>]) -> &'a Vec<u8> {
    &pool[rng.below(pool.len() as u64) as usize]
}

fn attack(target: &Target, input: &[u8], origin: impl Fn() -> String) {
    if catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_err() {
        let file = std::env::temp_dir().join(format!("holdfast-fuzz-{}.bin", target.name));
        fs::write(&file, input).expect("the finding is kept");
        panic!("{}: {}: the input is in {}", target.name, origin(), file.display());
    }
}

/// Writes what the target begins with, so that it is kept although the code that wrote it changes.
fn write_seeds(target: &Target) {
    let folder = folder(target.name);
    fs::create_dir_all(&folder).expect("the corpus has a folder");
    for (index, input) in (target.seeds)().iter().enumerate() {
        fs::write(folder.join(format!("seed-{index:02}.bin")), input).expect("a seed is written");
    }
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name)
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(&path).expect("a readable file"))).collect()
}

fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a number"))
}
