//! Spill-over: who serves a new flow of a vserver that is DOWN or has enough.

use crate::engine::Engine;
use crate::plan::{Enough, Plan, ServiceId, Spill, Vserver};
use crate::roster::Roster;
use crate::select::load::WINDOW_SECONDS;
use crate::verdict::Drop;

/// Vservers that may stand behind each other.
pub(crate) const MAX_CHAIN: usize = 8;

/// A vserver and those that serve in its place, in their order.
pub(crate) fn chain<'p>(plan: &'p Plan, vserver: &'p Vserver) -> impl Iterator<Item = &'p Vserver> {
    let behind = |vserver: &&'p Vserver| {
        let id = vserver.spill.backup?;
        let place = plan.vservers.binary_search_by_key(&id, |other| other.id).ok()?;
        Some(&plan.vservers[place])
    };
    core::iter::successors(Some(vserver), behind).take(MAX_CHAIN)
}

impl Engine {
    /// Who chooses the server of a new flow to `vserver`: itself, or the first in its place that is UP and has not enough.
    pub(crate) fn serving<'p>(&self, plan: &'p Plan, vserver: &'p Vserver) -> Result<&'p Vserver, Drop> {
        if vserver.spill == Spill::default() {
            return Ok(vserver);
        }
        let serves =
            |other: &&Vserver| other.enabled && self.roster.is_vserver_up(other) && !self.roster.has_enough(other);
        if let Some(found) = chain(plan, vserver).find(serves) {
            return Ok(found);
        }
        match self.roster.is_vserver_up(vserver) {
            true if vserver.spill.goes_on => Ok(vserver),
            true => Err(Drop::SpilledOver),
            false => Err(Drop::NoService),
        }
    }
}

impl Roster {
    /// How many of its services are UP, and how many it has.
    fn services_up(&self, vserver: &Vserver) -> (usize, usize) {
        let up = vserver.services.iter().filter(|binding| self.is_up(binding.service)).count();
        (up, vserver.services.len())
    }

    fn is_vserver_up(&self, vserver: &Vserver) -> bool {
        let (up, all) = self.services_up(vserver);
        up > 0 && up * 100 >= usize::from(vserver.spill.health_threshold) * all
    }

    /// Established flows of a vserver's services: those that others serve for it are not among them, those that it serves
    /// for others are.
    fn established(&self, vserver: &Vserver) -> u64 {
        let rows = vserver.services.iter().filter_map(|binding| self.service_at(self.service_row(binding.service)));
        rows.map(|row| u64::from(row.counters.established)).sum()
    }

    fn has_enough(&self, vserver: &Vserver) -> bool {
        match vserver.spill.enough {
            Enough::Never => false,
            Enough::Flows(limit) => self.established(vserver) >= u64::from(limit),
            Enough::Limits => {
                let up = vserver.services.iter().map(|binding| binding.service).filter(|id| self.is_up(*id));
                let limits = up.filter_map(|id| self.service(id)).map(|service| u64::from(service.max_clients));
                // One without a limit has room without end.
                let room = limits.map(|limit| if limit == 0 { u64::from(u32::MAX) } else { limit });
                self.established(vserver) >= room.sum()
            }
            Enough::Bandwidth(kilobits) => {
                let bytes: u64 = vserver.services.iter().map(|binding| self.recent(binding.service).bytes).sum();
                bytes * 8 / 1000 / WINDOW_SECONDS >= u64::from(kilobits)
            }
            Enough::Health(percent) => {
                let (up, all) = self.services_up(vserver);
                up * 100 < usize::from(percent) * all
            }
        }
    }
}

/// The services whose traffic is compared with a threshold.
pub(crate) fn measured(plan: &Plan) -> impl Iterator<Item = ServiceId> {
    let vservers = plan.vservers.iter().filter(|vserver| matches!(vserver.spill.enough, Enough::Bandwidth(_)));
    vservers.flat_map(|vserver| vserver.services.iter().map(|binding| binding.service))
}
