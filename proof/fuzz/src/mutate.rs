//! A small mutator: seeded, so that a finding has a seed and a number.

use holdfast_base::Rng;

/// Longest input it makes, in bytes.
const MAX_INPUT: usize = 8192;
/// Values at which decoders tend to change their minds.
const EDGES: &[u8] = &[0, 1, 2, 3, 4, 6, 7, 8, 15, 16, 17, 20, 31, 32, 40, 44, 58, 63, 64, 127, 128, 129, 254, 255];

/// Changes `input` in one place, and with falling odds in more; `other` lends bytes.
pub fn mutate(rng: &mut Rng, input: &mut Vec<u8>, other: &[u8]) {
    change(rng, input, other);
    while rng.chance(1, 2) {
        change(rng, input, other);
    }
    input.truncate(MAX_INPUT);
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, other: &[u8]) {
    let at = rng.below(input.len() as u64) as usize;
    if input.is_empty() {
        input.extend_from_slice(other);
        input.push(rng.next_u64() as u8);
        return;
    }
    let span = (1 + rng.below(16) as usize).min(input.len() - at);
    // The last three destroy much, so they are rare.
    match rng.below(32) {
        0..=7 => input[at] ^= 1 << rng.below(8),
        8..=11 => input[at] = rng.next_u64() as u8,
        12..=17 => input[at] = EDGES[rng.below(EDGES.len() as u64) as usize],
        18..=21 => input[at] = input[at].wrapping_add(1).wrapping_sub(2 * (rng.below(2) as u8)),
        22..=23 => {
            let edge = [0, 0xff, 0x80, 0x7f][rng.below(4) as usize];
            input[at..at + span].fill(edge);
        }
        24..=25 => drop(input.drain(at..at + span)),
        26..=27 => {
            let copy = input[at..at + span].to_vec();
            let to = rng.below(input.len() as u64 + 1) as usize;
            input.splice(to..to, copy);
        }
        28 => input.truncate(at),
        29..=30 => {
            let from = rng.below(other.len() as u64 + 1) as usize;
            let lent = &other[from..(from + span).min(other.len())];
            input.splice(at..(at + lent.len()).min(input.len()), lent.iter().copied());
        }
        _ => {
            let from = rng.below(other.len() as u64 + 1) as usize;
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}
