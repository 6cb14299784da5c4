//! The ground floor: time, seeded randomness, timers, bounded queues and the
//! stable hash. This crate knows no word of the domain.
#![forbid(unsafe_code)]

mod hash;
mod queue;
mod rng;
mod time;
mod wheel;

#[cfg(test)]
mod tests;

pub use core::time::Duration;
pub use hash::StableHasher;
pub use queue::BoundedQueue;
pub use rng::Rng;
pub use time::Instant;
pub use wheel::TimerWheel;
