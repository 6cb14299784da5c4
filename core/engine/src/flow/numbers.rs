//! The flows that the numbers of a session stand for.

use crate::record::FlowRef;

/// Flows that a session may number; the end of one beyond is told by its key. 12 bytes are
/// kept for each.
pub const MAX_NUMBERS: u32 = 1 << 22;

/// As receiver: number → flow, for those numbers that the running session has
/// given. Zeroed memory that becomes resident as numbers are used; another session
/// begins without touching it.
#[derive(Debug)]
pub(crate) struct Numbers {
    slots: Vec<u32>,
    generations: Vec<u32>,
    /// Serial of the session that gave the number, 0 = none.
    serials: Vec<u32>,
}

impl Numbers {
    /// Room for numbers below `limit`; it grows if the peer's table is larger than ours.
    pub(crate) fn new(limit: u32) -> Numbers {
        let zeroed = || vec![0; limit as usize];
        Numbers { slots: zeroed(), generations: zeroed(), serials: zeroed() }
    }

    /// The session with this serial calls the flow by this number.
    pub(crate) fn set(&mut self, number: u32, flow: FlowRef, serial: u32) {
        let place = number as usize;
        if place >= self.serials.len() && number < MAX_NUMBERS {
            let len = (place + 1).next_power_of_two();
            for list in [&mut self.slots, &mut self.generations, &mut self.serials] {
                list.resize(len, 0);
            }
        }
        if place < self.serials.len() {
            self.slots[place] = flow.slot;
            self.generations[place] = flow.generation;
            self.serials[place] = serial;
        }
    }

    /// What the number stands for in the session with this serial.
    pub(crate) fn get(&self, number: u32, serial: u32) -> Option<FlowRef> {
        let place = number as usize;
        self.serials.get(place).filter(|&&given| given != 0 && given == serial)?;
        Some(FlowRef { slot: self.slots[place], generation: self.generations[place] })
    }
}
