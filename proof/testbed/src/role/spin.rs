//! Keeps one core busy until the standard input ends, at the priority that it was started with.

use super::say;
use anyhow::Result;
use serde_json::json;
use std::io::Read as _;

/// Says `ready` and computes without a pause.
pub fn run() -> Result<()> {
    // The thread ends with the process.
    std::thread::spawn(|| {
        loop {
            std::hint::black_box((0..1_000_u64).fold(0, u64::wrapping_add));
        }
    });
    say(&json!({ "event": "ready" }))?;
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    Ok(())
}
