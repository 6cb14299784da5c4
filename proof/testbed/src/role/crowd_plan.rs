//! What the campaign's connection number n does: a function of the seed.

use super::script::{Header, Pace, Script};
use crate::dice::Dice;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How a connection behaves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// One message, its answer, the end.
    Short,
    /// Messages all the time.
    Chat,
    /// A few messages with long silence between them.
    Idle,
    /// The server sends.
    Download,
    /// The client sends; the server answers each byte.
    Upload,
    /// The client closes its direction at once and receives for a long time.
    ClientClosed,
    /// The server closes its direction at once and receives for a long time.
    ServerClosed,
    /// The handshake is kept incomplete for a while.
    HalfOpen,
}

impl Kind {
    /// How often a connection that is not short is of this kind.
    const LONG: [(Kind, u64); 7] = [
        (Kind::Chat, 44),
        (Kind::Idle, 14),
        (Kind::Download, 7),
        (Kind::Upload, 5),
        (Kind::ClientClosed, 10),
        (Kind::ServerClosed, 8),
        (Kind::HalfOpen, 12),
    ];

    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Short => "short",
            Kind::Chat => "chat",
            Kind::Idle => "idle",
            Kind::Download => "download",
            Kind::Upload => "upload",
            Kind::ClientClosed => "client closed first",
            Kind::ServerClosed => "server closed first",
            Kind::HalfOpen => "half open",
        }
    }
}

/// Where connections come from and go to.
#[derive(Clone, Default)]
pub struct Places {
    /// Virtual servers.
    pub targets: Vec<SocketAddr>,
    /// Virtual servers whose servers are mute at times.
    pub mute: Vec<SocketAddr>,
    /// Client addresses.
    pub from: Vec<IpAddr>,
}

/// One connection's part.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What sort it is.
    pub kind: Kind,
    /// What the server is told.
    pub header: Header,
    /// The client ignores what the server says for so long.
    pub deaf: Option<Duration>,
    /// The client closes its direction when it has sent all, without waiting for the server's end.
    pub closes_early: bool,
    /// The virtual server.
    pub target: SocketAddr,
    /// The client's address.
    pub from: IpAddr,
}

/// The plan of connection `id`; `None` without places of the right family.
pub fn plan(seed: u64, id: u64, short: bool, places: &Places) -> Option<Plan> {
    let mut dice = Dice::new(seed, id);
    let kind = if short { Kind::Short } else { dice.weighted(&Kind::LONG) };
    let (script, pace) = part(kind, &mut dice);
    let mute = kind == Kind::HalfOpen && !places.mute.is_empty() && dice.percent(65);
    let targets = if mute { &places.mute } else { &places.targets };
    let target = *targets.get(dice.bits() as usize % targets.len().max(1))?;
    let sources: Vec<_> = places.from.iter().filter(|from| from.is_ipv4() == target.is_ipv4()).collect();
    let from = **sources.get(dice.bits() as usize % sources.len().max(1))?;
    Some(Plan {
        kind,
        header: Header { id, script, pace },
        deaf: (kind == Kind::HalfOpen && !mute).then(|| dice.ms(300, 5000)),
        closes_early: kind == Kind::ClientClosed || (script == Script::Exchange && dice.percent(30)),
        target,
        from,
    })
}

fn part(kind: Kind, dice: &mut Dice) -> (Script, Pace) {
    let paced = |chunk: u64, interval: Duration, chunks: u64| Pace { total: chunk * chunks, chunk, interval };
    match kind {
        Kind::Short => {
            let total = if dice.percent(90) { dice.between(1, 4096) } else { dice.between(4097, 65_536) };
            (Script::Exchange, paced(total, Duration::ZERO, 1))
        }
        Kind::Chat => {
            let size = if dice.percent(90) { dice.between(1, 400) } else { dice.between(400, 6000) };
            (Script::Exchange, paced(size, dice.ms(60, 400), dice.between(20, 150)))
        }
        Kind::Idle => (Script::Exchange, paced(dice.between(1, 2000), dice.ms(4_000, 40_000), dice.between(2, 4))),
        Kind::Download => match dice.percent(25) {
            true => (Script::Source, paced(65_536, Duration::ZERO, dice.between(4, 32))),
            false => (Script::Source, paced(dice.between(500, 8000), dice.ms(20, 100), dice.between(50, 300))),
        },
        Kind::Upload => (Script::Exchange, paced(dice.between(500, 8000), dice.ms(20, 100), dice.between(50, 300))),
        Kind::ClientClosed => (Script::Source, paced(dice.between(1, 2000), dice.ms(50, 1500), dice.between(10, 60))),
        Kind::ServerClosed => (Script::Sink, paced(dice.between(1, 2000), dice.ms(50, 1500), dice.between(10, 60))),
        Kind::HalfOpen => (Script::Exchange, paced(dice.between(1, 1000), dice.ms(50, 500), dice.between(1, 20))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        let sockets = |words: &str| words.split(' ').filter_map(|word| word.parse().ok()).collect();
        Places {
            targets: sockets("192.0.2.1:7 [2001:db8::1]:7"),
            mute: sockets("192.0.2.2:7"),
            from: ["192.0.2.10", "2001:db8::10"].into_iter().filter_map(|word| word.parse().ok()).collect(),
        }
    }

    #[test]
    fn one_seed_decides_every_plan_and_every_kind_comes_up() {
        let plans = |seed| (0..2000).map(|id| plan(seed, id, id % 2 == 1, &places())).collect::<Vec<_>>();
        assert_eq!(plans(3), plans(3));
        assert_ne!(plans(3), plans(4));
        let kinds = Kind::LONG.iter().map(|(kind, _)| *kind).chain([Kind::Short]);
        for kind in kinds {
            assert!(plans(3).iter().flatten().any(|plan| plan.kind == kind), "{kind:?} never comes up");
        }
    }

    #[test]
    fn addresses_are_of_one_family_and_only_half_open_ones_are_deaf() {
        for plan in (0..2000).filter_map(|id| plan(5, id, false, &places())) {
            assert_eq!(plan.target.is_ipv4(), plan.from.is_ipv4());
            assert!(plan.deaf.is_none() || plan.kind == Kind::HalfOpen);
        }
    }
}
