//! The small variants hold. `cargo xtask model` explores the large ones.

use holdfast_model::{Exploration, Machines, Variant, explore};

fn holds(exploration: Exploration) {
    let broken: Vec<_> = exploration.verdicts.iter().filter(|verdict| !verdict.holds).collect();
    assert!(broken.is_empty(), "{}: {broken:?}\n{}", exploration.name, exploration.counter_examples.join("\n"));
}

#[test]
fn the_rules_keep_their_promises() {
    Variant::SLICE.iter().for_each(|&variant| holds(explore(variant, 2)));
}

#[test]
fn two_real_machines_keep_their_promises() {
    Machines::SLICE.iter().for_each(|&machines| holds(explore(machines, 2)));
}
