//! Reproducible choices: the same seed and label always give the same sequence.

use crate::role::mix;
use std::time::Duration;

/// A sequence of choices.
pub struct Dice {
    state: u64,
}

impl Dice {
    /// The sequence number `label` of `seed`.
    pub fn new(seed: u64, label: u64) -> Dice {
        Dice { state: mix(seed) ^ mix(label.wrapping_add(0x5851_f42d_4c95_7f2d)) }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits() % (high - low + 1)
    }

    /// A time from `low` to `high` milliseconds.
    pub fn ms(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.between(low * 1000, high * 1000))
    }

    /// True in `share` of 100 cases.
    pub fn percent(&mut self, share: u64) -> bool {
        self.bits() % 100 < share
    }

    /// One of `choices`, which must not be empty; each as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, choices: &[(T, u64)]) -> T {
        let mut left = self.bits() % choices.iter().map(|(_, weight)| weight).sum::<u64>().max(1);
        for (choice, weight) in choices {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        choices[0].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_repeats_and_another_does_not() {
        let draw = |seed, label| (0..8).map(move |_| ()).scan(Dice::new(seed, label), |dice, ()| Some(dice.bits()));
        assert!(draw(1, 2).eq(draw(1, 2)));
        assert!(!draw(1, 2).eq(draw(2, 2)));
        assert!(!draw(1, 2).eq(draw(1, 3)));
    }

    #[test]
    fn weights_are_kept() {
        let mut dice = Dice::new(7, 7);
        let ones = (0..10_000).filter(|_| dice.weighted(&[(0, 3), (1, 1), (2, 0)]) == 1).count();
        assert!((2200..2800).contains(&ones), "{ones}");
        assert!((0..10_000).all(|_| (5..=6).contains(&dice.between(5, 6))));
    }
}
