//! The witness as the machines see it: a cell elsewhere, slow, cut off or down.
//! It keeps what it holds as text, as the daemon would find it in etcd.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use holdfast_base::Rng;
use holdfast_ha::{Claim, Held, WitnessAnswer, WitnessAsk};
use holdfast_node::{WitnessCall, claim_text, parse_claim};

use crate::machine::{Input, Sabotage};
use crate::scenario::Fault;
use crate::world::World;

/// A question and its answer are lost so often, in a hundred.
const LOSS: u64 = 2;
/// So many in a hundred wait on their way for up to [`LONGEST_WAIT`]: whoever asked has given up by then.
const LATE: u64 = 2;
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// What a question to a witness that does not answer costs.
const TIME_OUT: Duration = Duration::from_millis(100);

/// A question on its way.
#[derive(Debug)]
pub(crate) struct Question {
    machine: usize,
    /// The life of the process that asked.
    boot: u64,
    number: u32,
    ask: WitnessAsk,
    members: Vec<SocketAddr>,
    /// How long the answer takes; `None`: nobody waits for it any more, or it is lost.
    back: Option<Duration>,
}

/// The cell, and who can reach it.
#[derive(Debug)]
pub struct Witness {
    rng: Rng,
    /// What each witness holds, by its members, and how often it was written.
    cells: BTreeMap<Vec<SocketAddr>, (String, u64)>,
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
        let (cells, up, reaches, asked) = (BTreeMap::new(), true, [true; 2], [0; 2]);
        Witness { rng, cells, up, reaches, slowest: Duration::from_millis(3), asked }
    }

    fn held(&self, members: &[SocketAddr]) -> Option<Held> {
        let (text, revision) = self.cells.get(members)?;
        parse_claim(text).map(|claim| Held { claim, revision: *revision })
    }

    /// Compares and swaps.
    fn judge(&mut self, members: &[SocketAddr], ask: WitnessAsk) -> WitnessAnswer {
        let claim = self.held(members).map(|held| held.claim);
        let granted = match ask {
            WitnessAsk::Look => false,
            WitnessAsk::Confirm(own) => claim == Some(own),
            WitnessAsk::Swap { expect: None, to } => claim == Some(to) || claim.is_none_or(|held| held.term < to.term),
            WitnessAsk::Swap { expect, to } => claim == Some(to) || claim == expect,
        };
        match (granted, ask) {
            (false, _) => return WitnessAnswer::Holds(self.held(members)),
            (true, WitnessAsk::Swap { to, .. }) => self.write(members, to),
            (true, WitnessAsk::Look | WitnessAsk::Confirm(_)) => {}
        }
        WitnessAnswer::Granted
    }

    fn write(&mut self, members: &[SocketAddr], claim: Claim) {
        let revision = self.cells.get(members).map_or(0, |(_, revision)| *revision) + 1;
        self.cells.insert(members.to_vec(), (claim_text(claim), revision));
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
    /// A machine asks. It gives up after a while; the cell is read and written when the question gets there, which may be
    /// later than that, and after others.
    pub(crate) fn ask_witness(&mut self, machine: usize, call: WitnessCall) {
        let boot = self.machines[machine].boot;
        let (now, witness) = (self.now, &mut self.witness);
        let reaches = witness.up && witness.reaches[machine] && !witness.rng.chance(LOSS, 100);
        if matches!(call.ask, WitnessAsk::Swap { .. }) {
            witness.asked[machine] += 1;
        }
        let (mut there, back) = (witness.delay(), witness.delay());
        if witness.rng.chance(LATE, 100) {
            there += Duration::from_millis(witness.rng.below(LONGEST_WAIT.as_millis() as u64));
        }
        let lost = witness.rng.chance(LOSS, 100);
        let is_answered = reaches && !lost && there + back <= call.patience;
        if !is_answered {
            let at = now + TIME_OUT.min(call.patience);
            let answer = self.bent(WitnessAnswer::Unreachable);
            self.plan_input(at, machine, Input::Witness(call.number, answer));
        }
        if reaches {
            let WitnessCall { number, ask, members, .. } = call;
            let back = is_answered.then_some(back);
            self.plan_question(now + there, Question { machine, boot, number, ask, members, back });
        }
    }

    /// A question gets there.
    pub(crate) fn answer(&mut self, question: Question) {
        let Question { machine, boot, number, ask, members, back } = question;
        let answer = self.witness.judge(&members, ask);
        let answer = self.bent(answer);
        if let Some(back) = back.filter(|_| self.machines[machine].boot == boot) {
            self.plan_input(self.now + back, machine, Input::Witness(number, answer));
        }
    }

    /// The answer as it is told.
    fn bent(&self, answer: WitnessAnswer) -> WitnessAnswer {
        if self.scenario.sabotage == Sabotage::EasyWitness { WitnessAnswer::Granted } else { answer }
    }
}
