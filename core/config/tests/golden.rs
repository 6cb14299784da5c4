//! Transcripts under `tests/golden`: a line that begins with `> ` is typed, what follows is the answer.
//!
//! Lines that begin with `;; ` are kept as they are. `HOLDFAST_REGENERATE=1` writes the answers anew.

mod common;

use std::fs;
use std::path::PathBuf;

use holdfast_config::{Config, messages, reference_markdown};

fn regenerate() -> bool {
    std::env::var_os("HOLDFAST_REGENERATE").is_some()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The transcript with the answers that are given today.
fn replay(transcript: &str) -> String {
    let mut config = Config::new();
    let mut text = String::new();
    for line in transcript.lines() {
        if line.starts_with(";; ") {
            text += &format!("{line}\n");
        } else if let Some(typed) = line.strip_prefix("> ") {
            text += &format!("> {typed}\n{}", common::console(&mut config, typed));
        }
    }
    text
}

#[test]
fn transcripts_are_as_committed() {
    let mut files: Vec<PathBuf> = fs::read_dir(folder()).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 9, "the transcripts are there");
    for file in files {
        let committed = fs::read_to_string(&file).unwrap();
        let today = replay(&committed);
        if regenerate() {
            fs::write(&file, today).unwrap();
        } else {
            assert_eq!(committed, today, "{}", file.display());
        }
    }
}

#[test]
fn every_error_of_the_configuration_is_in_a_transcript() {
    // Raised by the node: roles, saving, forced failover, propagation, synchronisation. 257 answers a call that no
    // console makes.
    let of_node = [
        257, 347, 349, 358, 363, 364, 365, 366, 368, 410, 411, 412, 457, 458, 1017, 1028, 1130, 1146, 1147, 1149, 1441,
        1447, 1448, 1449, 1450, 60_006, 60_007, 60_009,
    ];
    let transcripts: String =
        fs::read_dir(folder()).unwrap().map(|e| fs::read_to_string(e.unwrap().path()).unwrap()).collect();
    let missing: Vec<_> = messages::ALL
        .iter()
        .filter(|m| !of_node.contains(&m.code))
        .filter(|m| !["ERROR", "Warning"].iter().any(|kind| transcripts.contains(&format!("{kind}: {}", m.text))))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_reference_is_as_committed() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/cli.md");
    if regenerate() {
        fs::write(&file, reference_markdown()).unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), reference_markdown());
}
