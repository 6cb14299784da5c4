//! Hostile bytes for every decoder and machine that hears the outside.
//!
//! A target is a function from bytes to nothing that may only return: a panic,
//! an overflow or a broken promise is a finding. The same targets serve the
//! plain tests of this crate (committed corpus, then a bounded seeded mutation
//! loop) and the optional cargo-fuzz crate in `fuzz/`.

mod config;
mod engine;
mod frames;
mod ha;
mod mirror;
mod mutate;
mod node;
mod probe;
mod wire;

pub use config::{config_lines, connection_filter};
pub use engine::engine_frames;
pub use ha::ha_hello;
pub use mirror::{mirror_ack, mirror_data};
pub use mutate::mutate;
pub use node::{node_envelope, node_scenario, peer_steps};
pub use probe::probe_answer;
pub use wire::wire_frame;

/// A function under attack.
#[derive(Clone, Copy)]
pub struct Target {
    /// Name of the function, of its corpus folder and of its cargo-fuzz binary.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]),
    /// Well-formed inputs to start from, beside the corpus.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutated inputs in a plain test run; fewer where one costs more.
    pub iterations: u64,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "wire_frame", run: wire_frame, seeds: frames::all, iterations: 200_000 },
    Target { name: "mirror_data", run: mirror_data, seeds: mirror::all_data_seeds, iterations: 100_000 },
    Target { name: "mirror_ack", run: mirror_ack, seeds: mirror::ack_seeds, iterations: 100_000 },
    Target { name: "ha_hello", run: ha_hello, seeds: ha::seeds, iterations: 20_000 },
    Target { name: "config_lines", run: config_lines, seeds: config::line_seeds, iterations: 10_000 },
    Target { name: "connection_filter", run: connection_filter, seeds: config::filter_seeds, iterations: 100_000 },
    Target { name: "engine_frames", run: engine_frames, seeds: engine::seeds, iterations: 10_000 },
    Target { name: "node_envelope", run: node_envelope, seeds: node::envelope_seeds, iterations: 10_000 },
    Target { name: "peer_steps", run: peer_steps, seeds: node::step_seeds, iterations: 10_000 },
    Target { name: "probe_answer", run: probe_answer, seeds: probe::seeds, iterations: 100_000 },
    Target { name: "node_scenario", run: node_scenario, seeds: node::scenario_seeds, iterations: 3_000 },
];

/// Reads an input piece by piece; beyond its end everything is zero.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn u8(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn be16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    fn be64(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.u8()))
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_inputs_are_accepted() {
        assert!(frames::all().iter().skip(1).all(|frame| holdfast_wire::parse(&frame[..]).is_ok()));
        assert!(probe::seeds().iter().all(|seed| probe::found(seed).starts_with("Success - ")));
        let known = holdfast_mirror::KnownNames::default();
        assert!(mirror::data_seeds().iter().all(|data| holdfast_mirror::wire::validate_data(data, &known).is_ok()));
        // By number: nothing without the names, all with them.
        let named = |data: &Vec<u8>| {
            let mut receiver = holdfast_mirror::Receiver::new(holdfast_mirror::Limits::default());
            receiver.start(5);
            let now = holdfast_base::Instant::ZERO;
            receiver.handle_data(now, &mirror::names_told(5).0).is_ok() && receiver.handle_data(now, data).is_ok()
        };
        assert!(mirror::later_seeds().iter().all(named));
        assert!(holdfast_mirror::wire::validate_data(&mirror::later_seeds()[0], &known).is_err());
        let answer = |data: &Vec<u8>| {
            holdfast_mirror::wire::decode_ack(data).is_ok() || holdfast_mirror::wire::decode_summary(data).is_ok()
        };
        assert!(mirror::ack_seeds().iter().all(answer));
        assert!(ha::seeds().iter().all(|data| holdfast_ha::Hello::decode(data).is_ok()));
        for line in config::line_seeds() {
            let text = String::from_utf8(line).expect("text");
            assert!(text.lines().all(|line| holdfast_config::parse_all(line).is_ok()), "{text}");
        }
        for filter in config::filter_seeds() {
            let text = String::from_utf8(filter).expect("text");
            assert!(holdfast_config::ConnectionFilter::parse(&text).is_ok(), "{text}");
        }
    }
}
