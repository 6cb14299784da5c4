//! Surge protection: the feature, and how new connections of a busy service are slowed.

use crate::options::Options;
use crate::value::Value;

/// How much new connections are slowed (`set ns spParams -throttle`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Throttle {
    /// The usual pace.
    #[default]
    Normal,
    /// Earlier and more.
    Aggressive,
    /// Later and less.
    Relaxed,
}

impl Throttle {
    const ALL: [Throttle; 3] = [Throttle::Normal, Throttle::Aggressive, Throttle::Relaxed];

    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            Throttle::Normal => "Normal",
            Throttle::Aggressive => "Aggressive",
            Throttle::Relaxed => "Relaxed",
        }
    }

    /// The market's table: from so many connections on, one new one in so many milliseconds.
    fn table(self) -> [(u32, u32); 4] {
        match self {
            Throttle::Normal => [(200, 10), (400, 20), (800, 50), (2000, 100)],
            Throttle::Aggressive => [(16, 10), (200, 30), (500, 50), (1000, 500)],
            Throttle::Relaxed => [(500, 10), (1000, 10), (2000, 10), (3000, 10)],
        }
    }
}

/// Surge protection of the node (`enable ns feature SP`, `set ns spParams`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SurgeProtection {
    /// The feature is on.
    pub enabled: bool,
    /// Connections of a service that are let in at once; `None`: what the throttle's table begins with.
    pub base_threshold: Option<u32>,
    /// How much is slowed above it.
    pub throttle: Throttle,
}

impl SurgeProtection {
    /// Steps in rising order: from so many connections of a service on, one new one in so many milliseconds.
    pub fn steps(&self) -> [(u32, u32); 4] {
        let mut steps = self.throttle.table();
        let base = self.base_threshold.unwrap_or(steps[0].0);
        steps[0].0 = base;
        steps.iter_mut().for_each(|step| step.0 = step.0.max(base));
        steps
    }
}

impl Options for SurgeProtection {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "baseThreshold" => self.base_threshold.map(|n| Value::Number(n.into())),
            "throttle" => Some(Value::Word(self.throttle.word())),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "baseThreshold" => {
                self.base_threshold = value.and_then(Value::as_number).and_then(|n| u32::try_from(n).ok());
            }
            "throttle" => {
                let word = value.and_then(Value::as_word).unwrap_or_default();
                self.throttle = Throttle::ALL.into_iter().find(|t| t.word() == word).unwrap_or_default();
            }
            _ => {}
        }
    }
}
