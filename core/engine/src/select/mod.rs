//! Which server: persistence first, else the vserver's method over the
//! services that are usable.

pub(crate) mod hash;
pub(crate) mod persistence;

use std::collections::BTreeMap;

use holdfast_wire::Endpoint;

use crate::plan::{Binding, Method, Vserver, VserverId};
use crate::roster::Roster;

/// Turns of the methods that remember whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    vservers: BTreeMap<VserverId, Vec<Turn>>,
}

/// Credit of one binding under smooth weighted round robin: each round every
/// usable binding earns its weight, the richest is taken and pays the round.
#[derive(Clone, Copy, Debug)]
struct Turn {
    service: crate::plan::ServiceId,
    credit: i64,
}

impl Turns {
    /// Chooses among the usable services of `vserver`; the roster says which
    /// are up and how many flows each has. `None`: none is usable.
    pub(crate) fn choose(&mut self, vserver: &Vserver, client: Endpoint, roster: &Roster) -> Option<Binding> {
        match vserver.method {
            Method::RoundRobin => self.round_robin(vserver, |binding| roster.is_usable(binding.service)),
            Method::LeastConnection => self.least_connection(vserver, roster),
            Method::SourceIpHash => hash::choose(vserver, roster, &client.addr.0),
            Method::SrcIpSrcPortHash => {
                let mut key = [0; 18];
                key[..16].copy_from_slice(&client.addr.0);
                key[16..].copy_from_slice(&client.port.to_be_bytes());
                hash::choose(vserver, roster, &key)
            }
        }
    }

    /// Fewest open flows per weight; among equals, round robin.
    fn least_connection(&mut self, vserver: &Vserver, roster: &Roster) -> Option<Binding> {
        let load = |binding: &Binding| u64::from(roster.open_flows(binding.service));
        let usable = || vserver.services.iter().filter(|binding| roster.is_usable(binding.service));
        let lighter =
            |a: &&Binding, b: &&Binding| (load(a) * u64::from(b.weight)).cmp(&(load(b) * u64::from(a.weight)));
        let best = *usable().min_by(lighter)?;
        self.round_robin(vserver, |binding| {
            roster.is_usable(binding.service)
                && load(binding) * u64::from(best.weight) == load(&best) * u64::from(binding.weight)
        })
    }

    fn round_robin(&mut self, vserver: &Vserver, candidate: impl Fn(&Binding) -> bool) -> Option<Binding> {
        let turns = self.vservers.entry(vserver.id).or_default();
        turns.retain(|turn| vserver.services.iter().any(|binding| binding.service == turn.service));
        let mut round = 0;
        let mut best: Option<(Binding, usize, i64)> = None;
        for binding in vserver.services.iter().filter(|binding| candidate(binding)) {
            let place = place_of(turns, binding);
            turns[place].credit += i64::from(binding.weight);
            round += i64::from(binding.weight);
            let credit = turns[place].credit;
            if best.is_none_or(|(_, _, richest)| credit > richest) {
                best = Some((*binding, place, credit));
            }
        }
        let (binding, place, _) = best?;
        turns[place].credit -= round;
        Some(binding)
    }

    /// Forgets vservers that the plan no longer has.
    pub(crate) fn retain(&mut self, mut known: impl FnMut(VserverId) -> bool) {
        self.vservers.retain(|&id, _| known(id));
    }
}

fn place_of(turns: &mut Vec<Turn>, binding: &Binding) -> usize {
    match turns.iter().position(|turn| turn.service == binding.service) {
        Some(place) => place,
        None => {
            turns.push(Turn { service: binding.service, credit: 0 });
            turns.len() - 1
        }
    }
}
