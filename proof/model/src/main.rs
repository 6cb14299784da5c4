//! `holdfast-model [--slice]`: explores the models and prints the table on standard output; ends with an error if a
//! property does not hold.

use anyhow::{Result, bail};
use clap::Parser as _;
use holdfast_model::{Exploration, Machines, Variant, explore, table};

#[derive(clap::Parser)]
#[command(about = "Explores the models of roles and commit")]
struct Cli {
    /// Only the small variants.
    #[arg(long)]
    slice: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let (variants, machines) = if cli.slice { slice() } else { full() };
    let mut explorations = Vec::new();
    for variant in variants {
        explorations.push(told(explore(variant, cli.threads)));
    }
    for machines in machines {
        explorations.push(told(explore(machines, cli.threads)));
    }
    print!("{}", table(&explorations));
    if !explorations.iter().all(Exploration::holds) {
        bail!("a property does not hold");
    }
    Ok(())
}

fn slice() -> (Vec<Variant>, Vec<Machines>) {
    (Variant::SLICE.to_vec(), Machines::SLICE.to_vec())
}

fn full() -> (Vec<Variant>, Vec<Machines>) {
    (Variant::FULL.to_vec(), Machines::FULL.to_vec())
}

fn told(one: Exploration) -> Exploration {
    eprintln!("{}: {} states, {} unique, {:.1} s", one.name, one.states, one.unique, one.time.as_secs_f64());
    for counter_example in &one.counter_examples {
        eprintln!("counter-example:\n{counter_example}");
    }
    one
}
