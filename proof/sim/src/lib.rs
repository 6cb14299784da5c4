//! The simulator: two production nodes, clients, servers, a bad network and a
//! clock, all from one seed.
//!
//! A run is decided by its seed alone: `run_seed(seed)` gives the same report
//! every time. The checkers look from outside and share no code with the
//! product. `cargo xtask sim --seeds N` runs many; a failing seed prints how to
//! replay it.
#![forbid(unsafe_code)]

pub mod apps;
pub mod check;
pub mod clock;
pub mod ftp;
pub mod host;
pub mod kernel;
pub mod link;
pub mod machine;
pub mod reach;
pub mod reference;
pub mod runner;
pub mod scenario;
pub mod sight;
pub mod statement;
pub mod steps;
pub mod story;
pub mod sums;
pub mod trace;
pub mod watch;
pub mod witness;
pub mod world;

pub use runner::{Report, run, run_seed, run_traced};
pub use scenario::Scenario;
pub use story::Story;
pub use world::World;
