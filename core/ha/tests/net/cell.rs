//! The witness of a random world: a cell that is compared and swapped. Its
//! answers are late, lost, or never made; it forgets nothing.

use super::{What, World};
use holdfast_base::Rng;
use holdfast_ha::{Claim, Held, WitnessAnswer, WitnessAsk, WitnessRequest};

pub struct Cell {
    rng: Rng,
    value: Option<Claim>,
    revision: u64,
    /// It can be reached by neither, or not by this node.
    down: bool,
    cut: [bool; 2],
    asked: Vec<Asked>,
}

struct Asked {
    node: usize,
    boot: u64,
    request: WitnessRequest,
    answer: WitnessAnswer,
}

impl Cell {
    pub fn new(seed: u64) -> Cell {
        let rng = Rng::from_seed(seed ^ 0x77_6974);
        Cell { rng, value: None, revision: 0, down: false, cut: [false; 2], asked: Vec::new() }
    }

    pub fn fault(&mut self) {
        self.down = self.rng.chance(1, 6);
        self.cut = [0, 1].map(|_| self.rng.chance(1, 5));
    }

    pub fn heal(&mut self) {
        (self.down, self.cut) = (false, [false; 2]);
    }

    fn held(&self) -> Option<Held> {
        self.value.map(|claim| Held { claim, revision: self.revision })
    }

    fn swap(&mut self, ask: WitnessAsk) -> WitnessAnswer {
        match ask {
            WitnessAsk::Look => WitnessAnswer::Holds(self.held()),
            WitnessAsk::Confirm(claim) if self.value == Some(claim) => WitnessAnswer::Granted,
            WitnessAsk::Confirm(_) => WitnessAnswer::Holds(self.held()),
            WitnessAsk::Swap { expect, to } => {
                let lower = self.value.is_none_or(|held| held.term < to.term);
                let equal = if expect.is_some() { self.value == expect } else { lower };
                if !(equal || self.value == Some(to)) {
                    return WitnessAnswer::Holds(self.held());
                }
                self.value = Some(to);
                self.revision += 1;
                WitnessAnswer::Granted
            }
        }
    }
}

impl World {
    pub(super) fn ask_witness(&mut self, node: usize, request: WitnessRequest) {
        let boot = self.nodes[node].boot;
        let cell = &mut self.cell;
        let asked = cell.asked.len();
        cell.asked.push(Asked { node, boot, request, answer: WitnessAnswer::Unreachable });
        let cut = cell.down || cell.cut[node];
        let delay = [200, 2_000, 8_000, 30_000][cell.rng.below(4) as usize];
        // Rarely it is read when its asker has long given it up.
        let delay = if cell.rng.chance(1, 30) { delay * 40 } else { delay };
        let delay = delay / 2 + cell.rng.below(delay);
        if cut {
            self.after(delay, What::Answer { asked });
        } else {
            self.after(delay, What::Judge { asked });
        }
    }

    pub(super) fn judge(&mut self, asked: usize) {
        let cell = &mut self.cell;
        let Asked { node, request, .. } = cell.asked[asked];
        let answer = cell.swap(request.ask);
        let lost = cell.down || cell.cut[node] || cell.rng.chance(1, 20);
        let delay = 100 + cell.rng.below(3_000);
        if self.trace {
            println!("{:>9} witness: node {} {:?} {answer:?}", self.now, node + 1, request.ask);
        }
        if !lost {
            self.cell.asked[asked].answer = answer;
            self.after(delay, What::Answer { asked });
        }
    }

    pub(super) fn answered(&mut self, asked: usize) {
        let Asked { node, boot, request, answer } = self.cell.asked[asked];
        if self.runs(node, boot) {
            let holds = |world: &World| world.nodes[node].machine.as_ref().is_some_and(|one| one.status().caught_up);
            let held = holds(self);
            self.input(node, |machine, now| machine.handle_witness(now, request.number, answer));
            if let Some(follows) = self.nodes[node].follows.filter(|_| held && !holds(self)) {
                // The primary sees it in the hellos, and begins another session.
                self.after(100_000, What::CaughtUp { node, boot, follows });
            }
        }
    }
}
