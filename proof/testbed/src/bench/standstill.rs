//! What the machine does by itself: how long each processor ran nobody.
//!
//! A thread of the highest real-time priority on each processor sleeps a millisecond at a time. When it wakes late, nobody
//! could have run there: a shared machine's processor was given to somebody else, or the kernel had interrupts to see to. A gap that a
//! client sees holds that time, too, and no program can shorten it.

use crate::sys;
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks; what is shorter is not seen.
const PAUSE: Duration = Duration::from_millis(1);

/// The threads, and the longest time that any of them was late.
pub struct Standstill {
    longest_ns: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Standstill {
    /// Begins to watch all processors.
    pub fn watch() -> Result<Standstill> {
        let mut watch = Standstill { longest_ns: Arc::default(), ended: Arc::default(), threads: Vec::new() };
        for processor in 0..std::thread::available_parallelism()?.get() {
            let (longest, ended) = (watch.longest_ns.clone(), watch.ended.clone());
            let (say, hear) = std::sync::mpsc::sync_channel(1);
            watch.threads.push(std::thread::spawn(move || {
                let able = sys::pin_first_of_all(processor);
                let _ = say.send(able);
                while able && !ended.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    sys::pause(PAUSE);
                    let late = begun.elapsed().saturating_sub(PAUSE);
                    longest.fetch_max(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
            }));
            ensure!(
                hear.recv().context("the watching thread")?,
                "no real-time priority for the thread that watches processor {processor}"
            );
        }
        Ok(watch)
    }

    /// The longest standstill since this was last asked, milliseconds.
    pub fn take_ms(&self) -> f64 {
        self.longest_ns.swap(0, Ordering::Relaxed) as f64 / 1e6
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
