//! Which server: persistence first, else the vserver's method over the
//! services that are usable.

pub(crate) mod hash;
pub(crate) mod load;
pub(crate) mod persistence;
mod startup;

use std::collections::BTreeMap;

use holdfast_wire::{Addr, Endpoint};

use crate::plan::{Backup, Binding, Mask, Method, Plan, ServiceId, Vserver, VserverId};
use crate::roster::Roster;

pub use startup::{STARTUP_FLOWS, StandIn};

/// Both ends of a flow that is about to be opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) client: Endpoint,
    /// The address that it calls.
    pub(crate) called: Addr,
}

/// Turns of the methods that remember whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    vservers: BTreeMap<VserverId, Rotation>,
}

/// What is remembered of one vserver.
#[derive(Debug, Default)]
struct Rotation {
    turns: Vec<Turn>,
    /// Round robin stands in for the vserver's method, and why.
    startup: Option<StandIn>,
}

/// Credit of one binding under smooth weighted round robin: each round every
/// usable binding earns its weight, the richest is taken and pays the round.
#[derive(Clone, Copy, Debug)]
struct Turn {
    service: ServiceId,
    credit: i64,
    /// Flows since round robin stands in.
    started: u32,
}

impl Turns {
    /// Chooses among the usable services of `vserver`; the roster says which
    /// are up and what each carries. `None`: none is usable.
    pub(crate) fn choose(&mut self, vserver: &Vserver, ends: Ends, roster: &Roster) -> Option<Binding> {
        if self.starts(vserver.id) {
            return self.start(vserver, roster);
        }
        self.by_method(vserver, vserver.method, ends, roster)
    }

    fn by_method(&mut self, vserver: &Vserver, method: Method, ends: Ends, roster: &Roster) -> Option<Binding> {
        let Ends { client, called } = ends;
        match method {
            Method::RoundRobin => self.round_robin(vserver, |binding| roster.is_usable(binding.service)),
            Method::LeastConnection => self.least(vserver, roster, |id| roster.open_flows(id).into()),
            Method::LeastBandwidth => self.least(vserver, roster, |id| roster.recent(id).bytes),
            Method::LeastPackets => self.least(vserver, roster, |id| roster.recent(id).packets),
            Method::LeastResponseTime(backup) if has_silent(vserver, roster) => {
                self.by_method(vserver, backup.into(), ends, roster)
            }
            Method::LeastResponseTime(_) => self.least(vserver, roster, |id| roster.response_load(id)),
            Method::SourceIpHash(mask) => hash::choose(vserver, roster, &mask.of(client.addr).0),
            Method::DestinationIpHash(mask) => hash::choose(vserver, roster, &mask.of(called).0),
            Method::SrcIpDestIpHash(mask) => hash::choose(vserver, roster, &both(mask, client.addr, called)),
            Method::SrcIpSrcPortHash => {
                let mut key = [0; 18];
                key[..16].copy_from_slice(&client.addr.0);
                key[16..].copy_from_slice(&client.port.to_be_bytes());
                hash::choose(vserver, roster, &key)
            }
        }
    }

    /// The smallest load per weight; among equals, round robin.
    fn least(&mut self, vserver: &Vserver, roster: &Roster, load: impl Fn(ServiceId) -> u64) -> Option<Binding> {
        let load = |binding: &Binding| u128::from(load(binding.service));
        let usable = || vserver.services.iter().filter(|binding| roster.is_usable(binding.service));
        let lighter =
            |a: &&Binding, b: &&Binding| (load(a) * u128::from(b.weight)).cmp(&(load(b) * u128::from(a.weight)));
        let best = *usable().min_by(lighter)?;
        self.round_robin(vserver, |binding| {
            roster.is_usable(binding.service)
                && load(binding) * u128::from(best.weight) == load(&best) * u128::from(binding.weight)
        })
    }

    fn round_robin(&mut self, vserver: &Vserver, candidate: impl Fn(&Binding) -> bool) -> Option<Binding> {
        let turns = &mut self.vservers.entry(vserver.id).or_default().turns;
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

    /// Another plan is in force: forgets vservers that it does not have.
    pub(crate) fn follow(&mut self, before: &Plan, after: &Plan) {
        self.vservers.retain(|id, _| after.vservers.binary_search_by_key(id, |vserver| vserver.id).is_ok());
        self.begin_changed(before, after);
    }
}

/// Whether nothing is known of how fast a usable service answers.
pub(crate) fn has_silent(vserver: &Vserver, roster: &Roster) -> bool {
    let usable = |binding: &&Binding| roster.is_usable(binding.service);
    vserver.services.iter().filter(usable).any(|binding| roster.answers_in(binding.service).is_none())
}

impl From<Backup> for Method {
    fn from(backup: Backup) -> Method {
        match backup {
            Backup::RoundRobin => Method::RoundRobin,
            Backup::LeastConnection => Method::LeastConnection,
            Backup::LeastBandwidth => Method::LeastBandwidth,
            Backup::LeastPackets => Method::LeastPackets,
            Backup::SourceIpHash(mask) => Method::SourceIpHash(mask),
        }
    }
}

fn both(mask: Mask, client: Addr, called: Addr) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&mask.of(client).0);
    key[16..].copy_from_slice(&mask.of(called).0);
    key
}

fn place_of(turns: &mut Vec<Turn>, binding: &Binding) -> usize {
    match turns.iter().position(|turn| turn.service == binding.service) {
        Some(place) => place,
        None => {
            turns.push(Turn { service: binding.service, credit: 0, started: 0 });
            turns.len() - 1
        }
    }
}
