//! Models of the pair, explored in every order of events by `stateright`.
//!
//! There are two, and they are not the same kind of thing:
//!
//! - [`Machines`] is **not of paper**: two real `holdfast_ha::Machine`s, driven as `core/node` drives them. What it
//!   shows is shown of the product's code, within a bound: so many steps of 20 ms, so many faults, a path that works
//!   without loss. Its disks, its mirror (a session that is complete one turn after it began) and its one connection are
//!   models.
//! - [`Variant`] is **of paper**: the rules of `core/ha/src/{machine,state,inquiry}.rs`, of `core/node/src/promote.rs` and
//!   of the strict hold, written again in [`rules`](self) as short as they go, with clocks that tell only differences, so
//!   that the set of all states is finite and can be explored to its end. It leaves out the planned switchover and the statuses (the machines above have them), the
//!   comparison of clients' packets after a partition, and more than one path.
//!
//! # What is taken from the real machine's time
//!
//! 1. A clock runs on while a process is frozen, and the clocks of both nodes run equally fast. (The product's margins
//!    pay for 10 % of drift; `core/ha/tests/pair.rs` has clocks that drift.)
//! 2. A lease ends at *sending of the last hello + lease*, a peer is declared gone at *reception of a hello + dead
//!    interval*, and the lease is the shorter one, by at least a tick.
//! 3. Where a path works, what is sent is there before the next tick, and is read in the receiver's next turn before its
//!    timers and before frames. So a tick stands for more than a round trip and less than the two lease margins.
//! 4. The start-up interval is longer than the dead interval by at least two ticks.
//! 5. A process that runs takes its turn in every tick; one that is frozen takes none, and time without turns is not the
//!    peer's silence. After a late turn there is a tick of listening before silence has consequences.
//! 6. A connection that closes proves the death of its process, if no path works. (If one works, probes prove it.)
//! 7. A disk answers in the next turn.
//!
//! Where every hello arrives within a tick, promises between two living nodes are never what decides, so breaking them
//! shows nothing here; delays of the length of a promise are the business of `core/ha/tests/pair.rs`.
//!
//! # The witness's rules, as explored
//!
//! The product follows these rules (`core/ha/src/witness.rs`). They survive the checker; breaking one of them does not. [`Machines`] explores
//! the product's own, too.
//!
//! 1. The witness is a cell (owner, term) that is compared and swapped. It expires nothing and knows no time.
//! 2. With a witness a primary's lease is renewed by what the peer *answers*, or by what the witness grants, each counted
//!    from the sending of what was answered.
//! 3. A primary that the peer does not answer swaps (itself, term) for (itself, another term) before its lease ends, and
//!    from then on asks for its own value again and again. The first word from the peer ends this loan; while it lasts, a
//!    word is what answers a hello so recent that the answer is a lease, or what a primary of a higher term says.
//! 4. A secondary that has caught up swaps the very (owner, term) that it follows for (itself, another term), and leads at
//!    once. So either of the two wins.
//! 5. A node that has not caught up may swap whatever lower term there is; then it waits a dead interval, counted from
//!    the *answer*, and leads only with the cell granted once more. (The product is stricter: it must have seen that
//!    nobody writes the cell.)
//! 6. A lost swap says that the pair went on without us: the node has no longer caught up.
//! 7. A node that led or followed a term does not follow a lower one (without a witness it must).
//! 8. A closed connection shortens no wait while every path is cut, if closes can be forged.
//!
//! # What is excluded, and why
//!
//! Without a witness, two gates may be open while *every* path is cut: each node sees exactly what it would see if the
//! other had lost power, so no rule can tell the two apart, and whoever waits for certainty serves nobody after a real
//! power loss. [`Variant::CUT`] shows that it happens, and claims only the rest. With a witness nothing is excluded.
//! A connection is excused only if a second fault strikes while the pair is not whole and nobody else serves, or, in a
//! partition, if a node that is not caught up leads after the start-up interval, aloud (`PromotedNotCaughtUp`).

#![forbid(unsafe_code)]

mod explore;
mod machine;
mod node;
mod rules;
mod variant;
mod world;

pub use explore::{Exploration, Verdict, explore, seek, table};
pub use machine::{Machines, Sin};
pub use variant::{Rule, Variant};
