//! The ways in which the bench of takeovers lets a node of the product fail or hand over, and how it returns.

use super::stage::Stage;
use crate::node::Failure;
use anyhow::Result;

/// What happens to whoever is primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Blow {
    /// Nothing, for the scale.
    None,
    /// SIGKILL of the daemons.
    Kill,
    /// Silence at one instant: the processes stop, the links go down, then the processes are killed.
    Power,
    /// SIGSTOP of the daemons.
    Freeze,
    /// Both data cables are cut at the switch; the link between the nodes lives.
    Cut,
    /// The operator hands over.
    Planned,
    /// SIGTERM.
    Term,
}

impl Blow {
    /// All of them, as tables list them.
    pub const ALL: [Blow; 7] =
        [Blow::None, Blow::Kill, Blow::Power, Blow::Freeze, Blow::Cut, Blow::Planned, Blow::Term];

    /// Whether not even a datagram may be lost.
    pub fn is_planned(self) -> bool {
        matches!(self, Blow::Planned | Blow::Term)
    }

    /// How tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Blow::None => "none",
            Blow::Kill => "kill -9",
            Blow::Power => "power cut",
            Blow::Freeze => "SIGSTOP",
            Blow::Cut => "data cables cut",
            Blow::Planned => "planned switchover",
            Blow::Term => "SIGTERM",
        }
    }
}

/// Takes both data cables of a host out of the switch, or puts them back: the switch calls them by its name.
pub fn set_cables(stage: &Stage, host: &str, state: &str) -> Result<()> {
    stage.lab.switch.ip_batch(&format!("link set {host}-c {state}\nlink set {host}-s {state}\n"))
}

/// Does it to node `primary`.
pub fn strike(stage: &mut Stage, primary: usize, blow: Blow) -> Result<()> {
    let (pair, lab) = (&mut stage.pair, &stage.lab);
    let node = &mut pair.nodes[primary];
    match blow {
        Blow::None => Ok(()),
        Blow::Kill => node.fail(lab, Failure::Kill),
        Blow::Power => node.fail(lab, Failure::Power),
        Blow::Freeze => node.fail(lab, Failure::Freeze),
        Blow::Planned => node.cli(&["force", "ha", "failover", "-force"]).map(drop),
        Blow::Term => node.stop(),
        Blow::Cut => {
            let name = node.name();
            set_cables(stage, name, "down")
        }
    }
}

/// Takes it back, and waits until the pair is whole.
pub fn heal(stage: &mut Stage, victim: usize, blow: Blow) -> Result<()> {
    let (pair, lab) = (&mut stage.pair, &stage.lab);
    let node = &mut pair.nodes[victim];
    match blow {
        Blow::None | Blow::Planned => {}
        Blow::Kill | Blow::Term => node.start(lab)?,
        Blow::Power => node.revive(lab, Failure::Power)?,
        Blow::Freeze => node.revive(lab, Failure::Freeze)?,
        Blow::Cut => {
            let name = node.name();
            set_cables(stage, name, "up")?;
        }
    }
    stage.pair.wait_whole().map(drop)
}
