//! Summaries of durations.

use serde_json::{Value, json};
use std::time::Duration;

/// Median, 99th percentile and maximum, in milliseconds.
pub fn summary(mut samples: Vec<Duration>) -> Value {
    samples.sort_unstable();
    let at = |share: f64| {
        let index = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
        samples.get(index).map_or(0.0, |time| ms(*time))
    };
    json!({ "count": samples.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0) })
}

/// Milliseconds with one decimal.
pub fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// Median, 99th percentile and maximum, in microseconds.
pub fn micros(mut samples: Vec<Duration>) -> Value {
    samples.sort_unstable();
    let at = |share: f64| {
        let index = ((samples.len() as f64 * share).ceil() as usize).clamp(1, samples.len().max(1)) - 1;
        samples.get(index).map_or(0.0, |time| time.as_nanos() as f64 / 1000.0)
    };
    json!({ "count": samples.len(), "p50_us": at(0.5), "p99_us": at(0.99), "max_us": at(1.0) })
}

/// Milliseconds of the system's monotonic clock: the same for all processes of this machine.
pub fn monotonic_ms() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid pointer; CLOCK_MONOTONIC always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    ms(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
