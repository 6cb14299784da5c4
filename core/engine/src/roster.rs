//! Vservers and services as packets see them: who answers an address, who is
//! usable, and what each has carried.
//!
//! Rows are dense, are given at first sight and are never taken away, so that a
//! flow can keep a row number and count without a look-up. What gets another
//! number while its address stays (a configuration taken over from the primary,
//! or `rm` and `add`) inherits the row, and with it the flows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_base::Duration;
use holdfast_wire::{Addr, Endpoint, proto};

use crate::counters::{ServiceCounters, VserverCounters};
use crate::flow::NONE;
use crate::plan::{ConnFailover, Plan, Service, ServiceId, Vserver, VserverId, VserverKind};
use crate::select::load::{self, Load, Window};
use crate::spill;

/// What a row is found again by when its number has changed.
type Place = (Addr, u16, VserverKind);

/// What stays of a vserver across plans.
#[derive(Clone, Debug)]
pub(crate) struct VserverRow {
    /// Its number.
    pub(crate) id: VserverId,
    /// Its address, as of the last plan that had it.
    place: Option<Place>,
    /// Whether its flows are mirrored, by the last plan that had it: once it is gone they live on as they were.
    pub(crate) stateful: bool,
    /// Whether it is FTP's, by that plan.
    pub(crate) ftp: bool,
    /// Whether its flows end with the server's answer, by that plan.
    pub(crate) one_answer: bool,
    /// Its place in the plan, if the plan has it and it has persistence.
    pub(crate) persistent: Option<usize>,
    /// Its counters.
    pub(crate) counters: VserverCounters,
}

/// What stays of a service across plans.
#[derive(Clone, Debug)]
pub(crate) struct ServiceRow {
    /// Its number.
    pub(crate) id: ServiceId,
    /// Its server, as of the last plan that had it.
    place: Option<Place>,
    /// Whether its monitors say it is up.
    pub(crate) up: bool,
    /// How long it takes to answer them, if it has.
    answers_in: Option<Duration>,
    /// Its counters.
    pub(crate) counters: ServiceCounters,
    /// What it had carried a while ago.
    pub(crate) window: Window,
}

/// The plan in force with its look-ups, and the rows.
pub(crate) struct Roster {
    plan: Arc<Plan>,
    by_address: BTreeMap<Place, usize>,
    /// (server, vserver, service), both as places in the plan.
    by_server: Vec<(Endpoint, usize, usize)>,
    vserver_rows: Vec<VserverRow>,
    service_rows: Vec<ServiceRow>,
    vserver_row_of: BTreeMap<VserverId, u32>,
    service_row_of: BTreeMap<ServiceId, u32>,
    /// Rows of the services that methods compare by what they have carried.
    measured: BTreeSet<u32>,
}

/// A vserver together with one of its services, as places in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// Place of the vserver.
    pub(crate) vserver: usize,
    /// Place of the service.
    pub(crate) service: usize,
}

impl VserverRow {
    /// Whether its flows are not mirrored. Those of one that is gone live on as
    /// they were, and so do their copies.
    pub(crate) fn is_unmirrored(&self) -> bool {
        !self.stateful
    }
}

impl Roster {
    /// An empty plan.
    pub(crate) fn new() -> Roster {
        Roster {
            plan: Arc::new(Plan::default()),
            by_address: BTreeMap::new(),
            by_server: Vec::new(),
            vserver_rows: Vec::new(),
            service_rows: Vec::new(),
            vserver_row_of: BTreeMap::new(),
            service_row_of: BTreeMap::new(),
            measured: BTreeSet::new(),
        }
    }

    /// Puts a plan in force.
    pub(crate) fn set_plan(&mut self, plan: Arc<Plan>) {
        self.by_address.clear();
        self.by_server.clear();
        for row in &mut self.vserver_rows {
            row.persistent = None;
        }
        self.inherit_rows(&plan);
        for service in &plan.services {
            let row = self.service_row_or_new(service.id);
            self.service_rows[row as usize].place = Some(place_of_service(service));
        }
        for (place, vserver) in plan.vservers.iter().enumerate() {
            let row = self.vserver_row_or_new(vserver.id);
            let row = &mut self.vserver_rows[row as usize];
            row.place = vserver.listens.then(|| place_of_vserver(vserver));
            row.stateful = vserver.failover == ConnFailover::Stateful;
            row.ftp = vserver.ftp;
            row.one_answer = vserver.one_answer;
            row.persistent = vserver.persistence.map(|_| place);
            if vserver.listens {
                self.by_address.entry(place_of_vserver(vserver)).or_insert(place);
            }
            // Flows that another one serves are its own all the same.
            for binding in spill::chain(&plan, vserver).flat_map(|serving| &serving.services) {
                if let Some((index, service)) = find_service(&plan, binding.service) {
                    self.by_server.push((service.server, place, index));
                }
            }
        }
        self.by_server.sort();
        self.by_server.dedup();
        self.measure(&plan);
        self.plan = plan;
    }

    /// From here on it is noted what the services carry that methods of `plan` compare by it.
    fn measure(&mut self, plan: &Plan) {
        let rows: BTreeSet<u32> = load::measured(plan)
            .chain(spill::measured(plan))
            .map(|id| self.service_row(id))
            .filter(|&row| row != NONE)
            .collect();
        for &row in rows.difference(&self.measured) {
            let row = &mut self.service_rows[row as usize];
            row.window = Window::begin(Load::of(&row.counters.traffic));
        }
        self.measured = rows;
    }

    /// Whether anything is to be noted by [`Roster::note_loads`].
    pub(crate) fn measures_loads(&self) -> bool {
        !self.measured.is_empty()
    }

    /// Notes what services have carried up to this moment. With `anew` nothing counts that they carried before.
    pub(crate) fn note_loads(&mut self, anew: bool) {
        for &row in &self.measured {
            let row = &mut self.service_rows[row as usize];
            let total = Load::of(&row.counters.traffic);
            if anew {
                row.window = Window::begin(total);
            } else {
                row.window.note(total);
            }
        }
    }

    /// The plan in force.
    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Place in the plan of the vserver that answers `dst`: the most exact
    /// address and port first, then the more exact kind.
    pub(crate) fn vserver_for(&self, dst: Endpoint, proto: u8) -> Option<usize> {
        let places = [(dst.addr, dst.port), (dst.addr, 0), (Addr::UNSPECIFIED, dst.port), (Addr::UNSPECIFIED, 0)];
        let keys = places.into_iter().flat_map(|(addr, port)| kinds(proto).iter().map(move |&kind| (addr, port, kind)));
        keys.into_iter().find_map(|key| self.by_address.get(&key).copied())
    }

    /// Places in the plan of the vservers at this address, whatever their ports.
    pub(crate) fn vservers_at(&self, addr: Addr) -> impl Iterator<Item = usize> {
        let all = (addr, 0, VserverKind::Tcp)..=(addr, u16::MAX, VserverKind::Any);
        self.by_address.range(all).map(|(_, &place)| place)
    }

    /// The bindings of services at exactly `server`, then those of services on
    /// any port of its address.
    pub(crate) fn bound_to(&self, server: Endpoint, proto: u8) -> impl Iterator<Item = Bound> {
        let any_port = Endpoint { addr: server.addr, port: 0 };
        let exact = self.at_server(server);
        let wildcard = if server.port == 0 { &[][..] } else { self.at_server(any_port) };
        exact.iter().chain(wildcard).filter_map(move |&(_, vserver, service)| {
            let kind = self.plan.services.get(service)?.kind;
            kinds(proto).contains(&kind).then_some(Bound { vserver, service })
        })
    }

    /// The bindings to FTP vservers of services at any port of `server`.
    pub(crate) fn ftp_bound_to(&self, server: Addr) -> impl Iterator<Item = Bound> {
        let first = self.by_server.partition_point(|(other, ..)| other.addr < server);
        let here = self.by_server[first..].iter().take_while(move |(other, ..)| other.addr == server);
        let bound = here.map(|&(_, vserver, service)| Bound { vserver, service });
        bound.filter(|bound| self.plan.vservers[bound.vserver].ftp)
    }

    /// The vserver with exactly this address, port and protocol (0: ANY).
    pub(crate) fn vserver_named(&self, vip: Endpoint, proto: u8) -> Option<&Vserver> {
        let kind = match proto {
            proto::TCP => VserverKind::Tcp,
            proto::UDP => VserverKind::Udp,
            _ => VserverKind::Any,
        };
        self.by_address.get(&(vip.addr, vip.port, kind)).map(|&place| &self.plan.vservers[place])
    }

    /// The vserver with this number, if the plan has it.
    pub(crate) fn vserver(&self, id: VserverId) -> Option<&Vserver> {
        let place = self.plan.vservers.binary_search_by_key(&id, |vserver| vserver.id).ok()?;
        Some(&self.plan.vservers[place])
    }

    /// The service with this number, if the plan has it.
    pub(crate) fn service(&self, id: ServiceId) -> Option<&Service> {
        find_service(&self.plan, id).map(|(_, service)| service)
    }

    /// The service, if it is enabled, up and has room.
    pub(crate) fn usable(&self, id: ServiceId) -> Option<&Service> {
        self.returnable(id).filter(|service| service.enabled)
    }

    /// The service, if it is up, has room and takes clients whose persistence session names it.
    pub(crate) fn returnable(&self, id: ServiceId) -> Option<&Service> {
        let service = self.service(id)?;
        let row = self.service_rows.get(self.service_row(id) as usize)?;
        let has_room = service.max_clients == 0 || row.counters.established < service.max_clients;
        ((service.enabled || service.leaving) && row.up && has_room).then_some(service)
    }

    /// Whether the service is enabled and up, with room or without.
    pub(crate) fn is_up(&self, id: ServiceId) -> bool {
        let row = self.service_rows.get(self.service_row(id) as usize);
        self.service(id).is_some_and(|service| service.enabled) && row.is_some_and(|row| row.up)
    }

    /// Whether [`Roster::usable`] has an answer.
    pub(crate) fn is_usable(&self, id: ServiceId) -> bool {
        self.usable(id).is_some()
    }

    /// Flows that the service has.
    pub(crate) fn open_flows(&self, id: ServiceId) -> u32 {
        self.service_rows.get(self.service_row(id) as usize).map_or(0, |row| row.counters.flows)
    }

    /// How long the service takes to answer its monitors, if it has.
    pub(crate) fn answers_in(&self, id: ServiceId) -> Option<Duration> {
        self.service_rows.get(self.service_row(id) as usize)?.answers_in
    }

    /// Notes what monitors say; whether the service came up by that.
    pub(crate) fn set_health(&mut self, id: ServiceId, up: bool) -> bool {
        let row = self.service_row_or_new(id);
        let before = core::mem::replace(&mut self.service_rows[row as usize].up, up);
        up && !before
    }

    /// Notes how long a service takes to answer its monitors.
    pub(crate) fn set_response_time(&mut self, id: ServiceId, time: Duration) {
        let row = self.service_row_or_new(id);
        self.service_rows[row as usize].answers_in = Some(time);
    }

    /// Row number of a vserver, or [`NONE`].
    pub(crate) fn vserver_row(&self, id: VserverId) -> u32 {
        self.vserver_row_of.get(&id).copied().unwrap_or(NONE)
    }

    /// Row number of a service, or [`NONE`].
    pub(crate) fn service_row(&self, id: ServiceId) -> u32 {
        self.service_row_of.get(&id).copied().unwrap_or(NONE)
    }

    /// A vserver's row by number; `None` for [`NONE`].
    pub(crate) fn vserver_at(&self, row: u32) -> Option<&VserverRow> {
        self.vserver_rows.get(row as usize)
    }

    /// Whether a successor should know the flows of a vserver's row; not for [`NONE`].
    pub(crate) fn is_stateful(&self, row: u32) -> bool {
        self.vserver_at(row).is_some_and(|row| row.stateful)
    }

    /// A service's row by number; `None` for [`NONE`].
    pub(crate) fn service_at(&self, row: u32) -> Option<&ServiceRow> {
        self.service_rows.get(row as usize)
    }

    /// A vserver's counters by row number.
    pub(crate) fn vserver_counters(&mut self, row: u32) -> Option<&mut VserverCounters> {
        self.vserver_rows.get_mut(row as usize).map(|row| &mut row.counters)
    }

    /// A service's counters by row number.
    pub(crate) fn service_counters(&mut self, row: u32) -> Option<&mut ServiceCounters> {
        self.service_rows.get_mut(row as usize).map(|row| &mut row.counters)
    }

    /// No flow exists any more: the numbers of open flows are zero.
    pub(crate) fn forget_flows(&mut self) {
        for row in &mut self.vserver_rows {
            (row.counters.flows, row.counters.established) = (0, 0);
            (row.counters.tracked, row.counters.protected) = (0, 0);
        }
        for row in &mut self.service_rows {
            (row.counters.flows, row.counters.established) = (0, 0);
        }
    }

    /// The peer has no flow any more, as far as we know.
    pub(crate) fn forget_protected(&mut self) {
        for row in &mut self.vserver_rows {
            row.counters.protected = 0;
        }
    }

    fn at_server(&self, server: Endpoint) -> &[(Endpoint, usize, usize)] {
        let first = self.by_server.partition_point(|&(other, ..)| other < server);
        let last = self.by_server.partition_point(|&(other, ..)| other <= server);
        &self.by_server[first..last]
    }

    /// Gives the row of a number that `plan` does not have any more to the number
    /// that it has for the same address instead.
    fn inherit_rows(&mut self, plan: &Plan) {
        let vservers = plan.vservers.iter().map(|vserver| (vserver.id, place_of_vserver(vserver)));
        let rows = self.vserver_rows.iter().map(|row| (row.id, row.place));
        for (id, row) in inherited(&mut self.vserver_row_of, rows, vservers) {
            let row = &mut self.vserver_rows[row as usize];
            (row.id, row.counters) = (id, row.counters.of_heir());
        }
        let services = plan.services.iter().map(|service| (service.id, place_of_service(service)));
        let rows = self.service_rows.iter().map(|row| (row.id, row.place));
        for (id, row) in inherited(&mut self.service_row_of, rows, services) {
            let row = &mut self.service_rows[row as usize];
            // Its monitors have not said anything yet.
            (row.id, row.up, row.answers_in, row.counters) = (id, false, None, row.counters.of_heir());
            row.window = Window::default();
        }
    }

    fn vserver_row_or_new(&mut self, id: VserverId) -> u32 {
        let rows = &mut self.vserver_rows;
        *self.vserver_row_of.entry(id).or_insert_with(|| {
            let counters = VserverCounters::default();
            rows.push(VserverRow {
                id,
                place: None,
                stateful: false,
                ftp: false,
                one_answer: false,
                persistent: None,
                counters,
            });
            rows.len() as u32 - 1
        })
    }

    fn service_row_or_new(&mut self, id: ServiceId) -> u32 {
        let rows = &mut self.service_rows;
        *self.service_row_of.entry(id).or_insert_with(|| {
            let (counters, window) = (ServiceCounters::default(), Window::default());
            rows.push(ServiceRow { id, place: None, up: false, answers_in: None, counters, window });
            rows.len() as u32 - 1
        })
    }
}

fn place_of_vserver(vserver: &Vserver) -> Place {
    (vserver.addr, vserver.port, vserver.kind)
}

fn place_of_service(service: &Service) -> Place {
    (service.server.addr, service.server.port, service.kind)
}

/// Numbers of `planned` without a row that take over the row of a number that is
/// not planned any more; `row_of` follows.
fn inherited<Id: Copy + Ord>(
    row_of: &mut BTreeMap<Id, u32>,
    rows: impl Iterator<Item = (Id, Option<Place>)>,
    planned: impl Iterator<Item = (Id, Place)> + Clone,
) -> Vec<(Id, u32)> {
    let heirs: Vec<(Id, Place)> = planned.clone().filter(|(id, _)| !row_of.contains_key(id)).collect();
    if heirs.is_empty() {
        return Vec::new();
    }
    let alive: BTreeSet<Id> = planned.map(|(id, _)| id).collect();
    let mut orphans: BTreeMap<Place, (Id, u32)> = (0..)
        .zip(rows)
        .filter(|(_, (id, _))| !alive.contains(id))
        .filter_map(|(row, (id, place))| Some((place?, (id, row))))
        .collect();
    let mut taken = Vec::new();
    for (heir, place) in heirs {
        let Some((former, row)) = orphans.remove(&place) else { continue };
        row_of.remove(&former);
        row_of.insert(heir, row);
        taken.push((heir, row));
    }
    taken
}

/// The kinds that carry an IP protocol, the more exact first.
fn kinds(proto: u8) -> &'static [VserverKind] {
    match proto {
        6 => &[VserverKind::Tcp, VserverKind::Any],
        17 => &[VserverKind::Udp, VserverKind::Any],
        _ => &[VserverKind::Any],
    }
}

fn find_service(plan: &Plan, id: ServiceId) -> Option<(usize, &Service)> {
    let place = plan.services.binary_search_by_key(&id, |service| service.id).ok()?;
    Some((place, &plan.services[place]))
}
