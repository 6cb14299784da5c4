//! What fails when: a function of the seed.

use crate::dice::Dice;
use crate::node::Failure;
use std::time::Duration;

/// A way to fail.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// The primary dies, loses power, or freezes.
    Primary(Failure),
    /// The primary is killed and started again at once, before anybody need have missed it.
    Restart,
    /// The primary is stopped for less than its lease.
    Stutter,
    /// SIGTERM to the primary; started again later.
    Stop,
    /// The operator forces a failover.
    Handover,
    /// The secondary dies, loses power, or freezes.
    Secondary(Failure),
    /// SIGTERM to the secondary; started again later.
    SecondaryStop,
    /// The secondary is killed, started, and killed again while it is being filled.
    BulkSecondary,
    /// The peer link is cut for a while.
    PeerCut,
    /// The peer link is cut, and then the primary is killed.
    PeerCutKill,
    /// One data port of the primary loses its cable; the role moves by itself.
    PortCut,
    /// One data port of the secondary is without its cable for a while.
    SecondaryPortCut,
    /// The primary is killed soon after the secondary was started, caught up or not.
    Early,
    /// Both nodes are killed.
    Both,
}

impl Way {
    /// Each with how often it comes up.
    pub const ALL: [(Way, u64); 18] = [
        (Way::Primary(Failure::Kill), 18),
        (Way::Primary(Failure::Power), 10),
        (Way::Primary(Failure::Freeze), 8),
        (Way::Restart, 5),
        (Way::Stutter, 4),
        (Way::Stop, 6),
        (Way::Handover, 6),
        (Way::Secondary(Failure::Kill), 6),
        (Way::Secondary(Failure::Power), 4),
        (Way::Secondary(Failure::Freeze), 4),
        (Way::SecondaryStop, 3),
        (Way::BulkSecondary, 6),
        (Way::PeerCut, 5),
        (Way::PeerCutKill, 5),
        (Way::PortCut, 6),
        (Way::SecondaryPortCut, 2),
        (Way::Early, 6),
        (Way::Both, 2),
    ];

    /// As reports call it.
    pub fn name(self) -> String {
        match self {
            Way::Primary(failure) => format!("primary: {failure}"),
            Way::Restart => "primary: kill and start at once".into(),
            Way::Stutter => "primary: stutter".into(),
            Way::Stop => "primary: orderly stop".into(),
            Way::Handover => "forced failover".into(),
            Way::Secondary(failure) => format!("secondary: {failure}"),
            Way::SecondaryStop => "secondary: orderly stop".into(),
            Way::BulkSecondary => "secondary: kill while it is filled".into(),
            Way::PeerCut => "peer link cut".into(),
            Way::PeerCutKill => "peer link cut, then primary: kill".into(),
            Way::PortCut => "primary: data port cut".into(),
            Way::SecondaryPortCut => "secondary: data port cut".into(),
            Way::Early => "primary: kill right after a rejoin".into(),
            Way::Both => "both nodes: kill".into(),
        }
    }

    /// Range of the time until what failed comes back, in ms.
    fn outage_ms(self) -> (u64, u64) {
        match self {
            Way::Stutter => (10, 250),
            Way::PeerCut => (50, 3000),
            Way::Restart | Way::Handover => (0, 0),
            Way::Primary(_)
            | Way::Stop
            | Way::Secondary(_)
            | Way::SecondaryStop
            | Way::BulkSecondary
            | Way::PeerCutKill
            | Way::PortCut
            | Way::SecondaryPortCut
            | Way::Early
            | Way::Both => (0, 1200),
        }
    }
}

/// One failure of the schedule.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    /// Its number, from 1.
    pub number: u32,
    /// What happens.
    pub way: Way,
    /// From the moment when the pair is whole to the failure.
    pub delay: Duration,
    /// From the failure to the return.
    pub outage: Duration,
    /// Between the two halves of a failure that has two.
    pub between: Duration,
    /// Which of two: port, order.
    pub coin: bool,
    /// After it, wait until every connection is answered; if not, the next failure comes right after the rejoin.
    pub settle: bool,
}

/// Failure `number` of the schedule of `seed`, chosen among `ways`.
pub fn step(seed: u64, number: u32, ways: &[(Way, u64)]) -> Step {
    let mut dice = Dice::new(seed ^ 0x5afe, u64::from(number));
    let way = dice.weighted(ways);
    let (low, high) = way.outage_ms();
    // Whether the failure before this one was allowed to settle.
    let calm = number == 1 || settles(seed, number - 1);
    Step {
        number,
        way,
        delay: if calm { dice.ms(0, 1500) } else { dice.ms(0, 60) },
        outage: dice.ms(low, high),
        between: dice.ms(0, 300),
        coin: dice.percent(50),
        settle: settles(seed, number),
    }
}

fn settles(seed: u64, number: u32) -> bool {
    Dice::new(seed ^ 0xca1f, u64::from(number)).percent(65)
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Step { number, delay, outage, between, coin, settle, .. } = self;
        let name = self.way.name();
        write!(f, "{number} {name} (after {delay:.0?}, out for {outage:.0?}, between {between:.0?}, ")?;
        write!(f, "coin {}, {})", u8::from(*coin), if *settle { "settles" } else { "next one follows at once" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_decides_the_schedule_and_every_way_comes_up() {
        let schedule = |seed| (1..=1000).map(|number| step(seed, number, &Way::ALL)).collect::<Vec<_>>();
        assert_eq!(schedule(1), schedule(1));
        assert_ne!(schedule(1), schedule(2));
        for (way, _) in Way::ALL {
            assert!(schedule(1).iter().any(|step| step.way == way), "{way:?} never comes up");
        }
    }

    #[test]
    fn the_slice_that_every_change_must_pass_knows_every_way() {
        // Seed and length as in `cargo xtask ci`.
        let slice: Vec<Way> = (1..=40).map(|number| step(141, number, &Way::ALL).way).collect();
        let missing: Vec<_> = Way::ALL.iter().filter(|(way, _)| !slice.contains(way)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
