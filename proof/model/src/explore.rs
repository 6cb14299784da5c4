//! Runs the checker, and tells what it found.

use crate::{Machines, Variant};
use stateright::{Checker, Expectation, HasDiscoveries, Model};
use std::fmt::Write as _;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// One property of an explored model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// In words.
    pub property: &'static str,
    /// It holds: in every state, or, if it says that something is possible, in one.
    pub holds: bool,
    /// It says that something is possible.
    pub possible: bool,
}

/// A model, explored to its end.
#[derive(Clone, Debug)]
pub struct Exploration {
    /// The variant's name and bounds.
    pub name: String,
    /// Steps taken.
    pub states: usize,
    /// States that differ.
    pub unique: usize,
    /// The longest of the shortest ways to a state.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// All properties.
    pub verdicts: Vec<Verdict>,
    /// The shortest history that breaks a property, a step on each line.
    pub counter_examples: Vec<String>,
}

impl Exploration {
    /// Whether everything holds.
    pub fn holds(&self) -> bool {
        self.verdicts.iter().all(|verdict| verdict.holds)
    }
}

/// Something that can be explored and told.
pub trait Explorable: Model + Sync + Send + 'static {
    /// Name and bounds.
    fn title(&self) -> String;
}

impl Explorable for Variant {
    fn title(&self) -> String {
        let begin = if self.whole { "a whole pair" } else { "cold start" };
        let answers = if self.witness && !self.prompt { ", slow answers" } else { "" };
        format!(
            "rules: {}{answers}; from {begin}; {} faults, {} cuts, {} late hellos, {} connections, terms ≤ {}",
            self.name, self.faults, self.cuts, self.late, self.connections, self.max_term
        )
    }
}

impl Explorable for Machines {
    fn title(&self) -> String {
        let ails = if self.ails > 0 { format!(", {} failures of an interface", self.ails) } else { String::new() };
        let begin =
            if self.witness { format!("partition, witness, {} cuts", self.cuts) } else { "a path works".into() };
        format!(
            "real machines: {begin}; {} steps of 20 ms, faults in the first {}; {} faults, {} switchovers{ails}",
            self.steps, self.restless, self.faults, self.forced
        )
    }
}

/// Explores every state.
pub fn explore<M>(model: M, threads: usize) -> Exploration
where
    M: Explorable,
    M::State: Hash + Send + Sync + std::fmt::Debug + Clone + PartialEq,
    M::Action: std::fmt::Debug + Clone + PartialEq,
{
    let (name, properties) = (model.title(), model.properties());
    let began = Instant::now();
    let checker = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let mut counter_examples = Vec::new();
    let verdicts = properties
        .iter()
        .map(|property| {
            let found = checker.discovery(property.name);
            let possible = property.expectation == Expectation::Sometimes;
            if let (Some(path), false) = (&found, possible) {
                counter_examples.push(history(path.clone().into_actions()));
            }
            Verdict { property: property.name, holds: found.is_some() == possible, possible }
        })
        .collect();
    Exploration {
        name,
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        time: began.elapsed(),
        verdicts,
        counter_examples,
    }
}

/// The shortest history that breaks (or, if it says that something is possible, shows) a property; `None` if there is
/// none.
pub fn seek<M>(model: M, property: &'static str, threads: usize) -> Option<String>
where
    M: Explorable,
    M::State: Hash + Send + Sync + std::fmt::Debug + Clone + PartialEq,
    M::Action: std::fmt::Debug + Clone + PartialEq,
{
    assert!(model.properties().iter().any(|one| one.name == property), "there is no property `{property}`");
    let found = HasDiscoveries::AnyOf([property].into_iter().collect());
    let checker = model.checker().threads(threads).finish_when(found).spawn_bfs().join();
    checker.discovery(property).map(|path| history(path.into_actions()))
}

fn history(actions: Vec<impl std::fmt::Debug>) -> String {
    actions.iter().map(|action| format!("{action:?}\n")).collect()
}

/// The table of the report, and what each property says.
pub fn table(explorations: &[Exploration]) -> String {
    let mut text =
        String::from("| variant | states | unique | depth | properties | time |\n|---|---:|---:|---:|---|---:|\n");
    for one in explorations {
        let broken: Vec<&str> = one.verdicts.iter().filter(|v| !v.holds).map(|v| v.property).collect();
        let properties = match broken.as_slice() {
            [] => format!("{} hold", one.verdicts.len()),
            broken => format!("BROKEN: {}", broken.join(", ")),
        };
        let seconds = one.time.as_secs_f64();
        writeln!(
            text,
            "| {} | {} | {} | {} | {properties} | {seconds:.1} s |",
            one.name, one.states, one.unique, one.depth
        )
        .expect("a string takes it");
    }
    text.push_str("\nProperties, and in how many of the variants above they are claimed:\n\n");
    let mut said: Vec<(&Verdict, usize)> = Vec::new();
    for verdict in explorations.iter().flat_map(|one| &one.verdicts) {
        match said.iter_mut().find(|(other, _)| other.property == verdict.property) {
            Some((_, count)) => *count += 1,
            None => said.push((verdict, 1)),
        }
    }
    for (verdict, count) in said {
        let kind = if verdict.possible { "possible" } else { "always" };
        writeln!(text, "- {kind}: {} ({count})", verdict.property).expect("a string takes it");
    }
    text
}
