//! A small mutator: seeded, so that a finding has a seed and a number.

use holdfast_base::Rng;

/// Longest input it makes, in bytes.
const MAX_INPUT: usize = 8192;
/// Values at which decoders tend to change their minds.
const EDGES: &[u8] = &[0, 1, 2, 3, 4, 6, 7, 8, 15, 16, 17, 20, 31, 32, 40, 44, 58, 63, 64, 127, 128, 129, 254, 255];

/// Changes `input` in one to six places; `other` lends bytes.
pub fn mutate(rng: &mut Rng, input: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..1 + rng.below(6) {
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
    match rng.below(10) {
        0 => input[at] ^= 1 << rng.below(8),
        1 => input[at] = rng.next_u64() as u8,
        2 => input[at] = EDGES[rng.below(EDGES.len() as u64) as usize],
        3 => input[at] = input[at].wrapping_add(1).wrapping_sub(2 * (rng.below(2) as u8)),
        4 => {
            let edge = [0, 0xff, 0x80, 0x7f][rng.below(4) as usize];
            input[at..at + span].fill(edge);
        }
        5 => drop(input.drain(at..at + span)),
        6 => {
            let copy = input[at..at + span].to_vec();
            let to = rng.below(input.len() as u64 + 1) as usize;
            input.splice(to..to, copy);
        }
        7 => input.truncate(at),
        8 => {
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
