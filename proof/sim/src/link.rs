//! What a bad network does to a frame on its way.

use core::time::Duration;

use holdfast_base::{Instant, Rng};

/// A network segment's manners.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Shortest delay.
    pub delay: Duration,
    /// Added on top, uniformly; frames overtake one another when it is not zero.
    pub jitter: Duration,
    /// Frames lost, per thousand.
    pub loss_permille: u64,
    /// Frames delivered twice, per thousand.
    pub duplicate_permille: u64,
}

impl Manners {
    /// A good cable.
    pub const CALM: Manners =
        Manners { delay: Duration::from_micros(20), jitter: Duration::ZERO, loss_permille: 0, duplicate_permille: 0 };

    /// When the copies of a frame sent at `now` arrive: none, one or two.
    pub fn arrivals(&self, now: Instant, rng: &mut Rng) -> Vec<Instant> {
        if rng.chance(self.loss_permille, 1000) {
            return Vec::new();
        }
        let copies = if rng.chance(self.duplicate_permille, 1000) { 2 } else { 1 };
        let jitter = self.jitter.as_nanos() as u64;
        (0..copies).map(|_| now + self.delay + Duration::from_nanos(rng.below(jitter + 1))).collect()
    }
}
