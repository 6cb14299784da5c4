//! The witness as the machines see it: a cell elsewhere, slow, cut off or down.
//! It keeps what it holds as text, as the daemon would find it in etcd.

use core::time::Duration;

use holdfast_base::{Instant, Rng};
use holdfast_ha::{Claim, Held, WitnessAnswer, WitnessAsk};
use holdfast_node::{WitnessCall, claim_text, parse_claim};

use crate::machine::{Input, Sabotage};
use crate::scenario::Fault;
use crate::world::World;

/// A question and its answer are lost so often, in a hundred.
const LOSS: u64 = 2;
/// What a question to a witness that does not answer costs.
const TIME_OUT: Duration = Duration::from_millis(100);

/// The cell, and who can reach it.
#[derive(Debug)]
pub struct Witness {
    rng: Rng,
    /// What it holds, and how often it was written.
    pub cell: Option<(String, u64)>,
    /// It answers.
    pub up: bool,
    /// It answers this machine.
    pub reaches: [bool; 2],
    /// Longest time to it, one way.
    pub slowest: Duration,
    /// Swaps that it was asked for, by each machine.
    pub asked: [u64; 2],
}

impl Witness {
    /// A witness that was never asked.
    pub fn new(seed: u64) -> Witness {
        let rng = Rng::from_seed(seed ^ 0x0077_6974);
        let (cell, up, reaches, asked) = (None, true, [true; 2], [0; 2]);
        Witness { rng, cell, up, reaches, slowest: Duration::from_millis(3), asked }
    }

    fn held(&self) -> Option<Held> {
        let (text, revision) = self.cell.as_ref()?;
        parse_claim(text).map(|claim| Held { claim, revision: *revision })
    }

    /// Compares and swaps.
    fn judge(&mut self, ask: WitnessAsk) -> WitnessAnswer {
        let claim = self.held().map(|held| held.claim);
        let granted = match ask {
            WitnessAsk::Look => false,
            WitnessAsk::Confirm(own) => claim == Some(own),
            WitnessAsk::Swap { expect: None, to } => claim == Some(to) || claim.is_none_or(|held| held.term < to.term),
            WitnessAsk::Swap { expect, to } => claim == Some(to) || claim == expect,
        };
        match (granted, ask) {
            (false, _) => return WitnessAnswer::Holds(self.held()),
            (true, WitnessAsk::Swap { to, .. }) => self.write(to),
            (true, WitnessAsk::Look | WitnessAsk::Confirm(_)) => {}
        }
        WitnessAnswer::Granted
    }

    fn write(&mut self, claim: Claim) {
        let revision = self.cell.as_ref().map_or(0, |(_, revision)| *revision) + 1;
        self.cell = Some((claim_text(claim), revision));
    }

    fn delay(&mut self) -> Duration {
        let most = u64::try_from(self.slowest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(100 + self.rng.below(most))
    }

    /// What else breaks in a round of faults: often nothing.
    pub fn faults(&mut self) -> Vec<Fault> {
        self.slowest = Duration::from_millis([1, 10, 60][self.rng.below(3) as usize]);
        match self.rng.below(8) {
            0 => vec![Fault::Witness(false)],
            1 => vec![Fault::WitnessCable(self.rng.below(2) as usize, false)],
            2 => vec![Fault::Split(true)],
            3 => vec![Fault::WitnessCable(self.rng.below(2) as usize, false), Fault::Split(true)],
            4 => vec![Fault::Witness(false), Fault::Split(true)],
            _ => Vec::new(),
        }
    }

    /// Everybody reaches it again.
    pub fn heal(&mut self) {
        (self.up, self.reaches) = (true, [true; 2]);
    }
}

impl World {
    /// A machine asks. The cell is read and written at once, so that what is
    /// late is the answer; a question that is late is another one's turn.
    pub(crate) fn ask_witness(&mut self, machine: usize, call: &WitnessCall) {
        let witness = &mut self.witness;
        let reaches = witness.up && witness.reaches[machine] && !witness.rng.chance(LOSS, 100);
        if matches!(call.ask, WitnessAsk::Swap { .. }) {
            witness.asked[machine] += 1;
        }
        let mut answer = if reaches { witness.judge(call.ask) } else { WitnessAnswer::Unreachable };
        let (there, back) = (witness.delay(), witness.delay());
        let lost = reaches && witness.rng.chance(LOSS, 100);
        if lost {
            answer = WitnessAnswer::Unreachable;
        }
        if self.scenario.sabotage == Sabotage::EasyWitness {
            answer = WitnessAnswer::Granted;
        }
        let takes = if answer == WitnessAnswer::Unreachable { TIME_OUT.min(call.patience) } else { there + back };
        let at: Instant = self.now + takes;
        self.plan_input(at, machine, Input::Witness(call.number, answer));
    }
}
