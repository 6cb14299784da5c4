//! Start-up: a service that is new to a vserver would get every connection, since it has none. So round robin
//! stands in for a method that measures, until each usable service has had some flows.

use crate::plan::{Binding, Method, Plan, ServiceId, Vserver, VserverId};
use crate::roster::Roster;
use crate::select::{Rotation, Turns, place_of};

/// Flows that each usable service must have had before the vserver's own method chooses.
pub const STARTUP_FLOWS: u32 = 100;

/// Why another method chooses than the vserver's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StandIn {
    /// Round robin: the vserver has got another method.
    MethodChanged,
    /// Round robin: a bound service came up, or was enabled.
    ServiceUp,
    /// Round robin: a service was bound, or the vserver is new.
    ServiceBound,
    /// Round robin: the vserver was enabled.
    VserverEnabled,
    /// The backup method: a usable service has not answered its monitors yet.
    MonitorsSilent,
}

impl Turns {
    /// Whether round robin stands in for the vserver's method.
    pub(super) fn starts(&self, vserver: VserverId) -> bool {
        self.startup(vserver).is_some()
    }

    /// Why round robin stands in for the vserver's method, if it does.
    pub(crate) fn startup(&self, vserver: VserverId) -> Option<StandIn> {
        self.vservers.get(&vserver)?.startup
    }

    /// Round robin, which ends once every usable service has had its part.
    pub(super) fn start(&mut self, vserver: &Vserver, roster: &Roster) -> Option<Binding> {
        let usable = |binding: &Binding| roster.is_usable(binding.service);
        let chosen = self.round_robin(vserver, usable)?;
        let Rotation { turns, startup } = self.vservers.get_mut(&vserver.id)?;
        let place = place_of(turns, &chosen);
        turns[place].started += 1;
        if turns[place].started >= STARTUP_FLOWS {
            let had = |id: ServiceId| turns.iter().find(|turn| turn.service == id).map_or(0, |turn| turn.started);
            let waits = |binding: &Binding| usable(binding) && had(binding.service) < STARTUP_FLOWS;
            if !vserver.services.iter().any(waits) {
                *startup = None;
            }
        }
        Some(chosen)
    }

    /// A service of the plan came up.
    pub(crate) fn service_came_up(&mut self, plan: &Plan, service: ServiceId) {
        let has = |vserver: &&Vserver| vserver.services.iter().any(|binding| binding.service == service);
        for vserver in plan.vservers.iter().filter(has) {
            self.begin(vserver, StandIn::ServiceUp);
        }
    }

    /// This node forwards from here on, with what its peer has told of each service: none is new to it.
    pub(crate) fn end_startups(&mut self) {
        for rotation in self.vservers.values_mut() {
            rotation.startup = None;
        }
    }

    /// Begins with what is new in the plan `after`.
    pub(super) fn begin_changed(&mut self, before: &Plan, after: &Plan) {
        for vserver in &after.vservers {
            if let Some(why) = news(before, after, vserver) {
                self.begin(vserver, why);
            }
        }
    }

    fn begin(&mut self, vserver: &Vserver, why: StandIn) {
        let rotation = self.vservers.entry(vserver.id).or_default();
        rotation.startup = vserver.method.measures().then_some(why);
        for turn in &mut rotation.turns {
            turn.started = 0;
        }
    }
}

impl Method {
    /// Whether it goes by what services carry, so that one without any would get everything.
    fn measures(self) -> bool {
        match self {
            Method::LeastConnection | Method::LeastBandwidth | Method::LeastPackets | Method::LeastResponseTime(_) => {
                true
            }
            Method::RoundRobin
            | Method::SourceIpHash(_)
            | Method::DestinationIpHash(_)
            | Method::SrcIpDestIpHash(_)
            | Method::SrcIpSrcPortHash => false,
        }
    }
}

/// What the plan `after` has new of a vserver that its services must share anew.
fn news(before: &Plan, after: &Plan, vserver: &Vserver) -> Option<StandIn> {
    let place = before.vservers.binary_search_by_key(&vserver.id, |vserver| vserver.id);
    let Ok(place) = place else { return Some(StandIn::ServiceBound) };
    let former = &before.vservers[place];
    let is_enabled = |plan: &Plan, id: ServiceId| {
        let place = plan.services.binary_search_by_key(&id, |service| service.id);
        place.is_ok_and(|place| plan.services[place].enabled)
    };
    let had = |binding: &Binding| former.services.iter().any(|other| other.service == binding.service);
    let comes = |binding: &Binding| is_enabled(after, binding.service) && !is_enabled(before, binding.service);
    if former.method != vserver.method {
        Some(StandIn::MethodChanged)
    } else if vserver.enabled && !former.enabled {
        Some(StandIn::VserverEnabled)
    } else if !vserver.services.iter().all(had) {
        Some(StandIn::ServiceBound)
    } else if vserver.services.iter().any(comes) {
        Some(StandIn::ServiceUp)
    } else {
        None
    }
}
