//! The live node as the `show` commands see it.

use std::collections::BTreeMap;

use core::time::Duration;
use holdfast_base::Instant;
use holdfast_config::{
    ChannelState, ConfigFacts, DataPlaneFacts, DigestState, Facts, HaFacts, HaRole, Health, LbVserver, MonitorFacts,
    NodeFacts, NodeState, PeerFacts, ResyncFacts, SecurityFacts, SecurityFailure, SecurityState, Service, ServiceFacts,
    StandIn, TakeoverFacts, VserverFacts,
};
use holdfast_engine::{self as engine, Drop, ServiceId, VserverId};
use holdfast_ha::{HaStatus, NodeHealth, PeerView, Role};

use crate::effect::PortState;
use crate::envelope::Refused;
use crate::node::Node;
use crate::secure::Failure;

/// A node at one moment.
pub(crate) struct View<'a> {
    node: &'a Node,
    now: Instant,
}

impl<'a> View<'a> {
    pub fn new(node: &'a Node, now: Instant) -> View<'a> {
        View { node, now }
    }

    /// Whether the flows here are this node's own to protect.
    fn leads(&self) -> bool {
        matches!(self.node.ha.role(), Role::Primary | Role::Draining)
    }

    /// Unix milliseconds of an instant.
    fn unix_millis(&self, at: Instant) -> u64 {
        (self.node.options.unix_nanos_at_origin + at.as_nanos()) / 1_000_000
    }

    fn peer(&self) -> Option<PeerFacts> {
        self.node.config.ha().peer?;
        let status = self.node.ha.status();
        let last_heard = self.node.channel.last_heard().map(|at| self.now.since(at));
        let Some(peer) = status.peer else {
            let state = if status.peer_ever_heard { NodeState::NotUp } else { NodeState::Unknown };
            return Some(PeerFacts { state, last_heard, ..PeerFacts::default() });
        };
        Some(PeerFacts {
            host_name: String::new(),
            role: role(peer.role),
            state: peer_state(&peer),
            term: peer.term,
            caught_up: peer.caught_up,
            unready: peer.role == Role::Secondary && !peer.ready,
            channel: self.channel_state(&peer),
            rekeying: self.node.channel.secure().uses_former_password(),
            config: self.peer_config(),
            last_heard,
            heard_on: self.heard_on(),
            ports: self.node.peer_ports.clone(),
        })
    }

    fn data_plane(&self) -> DataPlaneFacts {
        let plane = &self.node.data_plane;
        let how = |state: &PortState| {
            let id = state.port?.id;
            let (_, how) = plane.ports.iter().find(|(port, _)| *port == id)?;
            Some((state.id.clone(), how.clone()))
        };
        DataPlaneFacts {
            way: plane.way,
            why: plane.why.clone(),
            interfaces: self.node.ports.iter().filter_map(how).collect(),
            copies: plane.copies,
            refused: plane.refused,
            not_forwarded: plane.not_forwarded.clone(),
        }
    }

    /// The peer's configuration, as its last hello told.
    fn peer_config(&self) -> ConfigFacts {
        let sync = &self.node.sync;
        let Some(aside) = sync.peer() else { return ConfigFacts::default() };
        ConfigFacts {
            sync: aside.sync.shown(sync.peer_reason()),
            propagation_off: aside.propagation_off,
            inc: aside.inc,
            incarnation: aside.incarnation,
            fingerprint: sync.peer_fingerprint(),
            unsaved: aside.unsaved,
            version: aside.version,
        }
    }

    fn own_config(&self) -> ConfigFacts {
        let aside = self.node.aside();
        ConfigFacts {
            sync: aside.sync.shown(self.node.sync_reason()),
            propagation_off: aside.propagation_off,
            inc: aside.inc,
            incarnation: aside.incarnation,
            fingerprint: self.node.fingerprint,
            unsaved: aside.unsaved,
            version: aside.version,
        }
    }

    fn security(&self) -> SecurityFacts {
        let secure = self.node.channel.secure();
        let counters = secure.counters();
        SecurityFacts {
            state: match secure.session() {
                Some((true, _)) => SecurityState::Encrypted,
                Some((false, _)) => SecurityState::Authenticated,
                None => SecurityState::None,
            },
            since: secure.session().map_or(0, |(_, made)| self.unix_millis(made)),
            last_failure: secure.last_failure().map(|(at, failure)| {
                let failure = match failure {
                    Failure::Password => SecurityFailure::Password,
                    Failure::Unset => SecurityFailure::Unset,
                    Failure::Secure => SecurityFailure::Secure,
                };
                (failure, self.unix_millis(at))
            }),
            failing: secure.is_failing(),
            handshakes: counters.established,
            rekeys: counters.rekeyed,
            failures: counters.wrong_password + counters.wrong_secure,
        }
    }

    /// The data ports through which the peer's hellos arrive.
    fn heard_on(&self) -> Vec<String> {
        let heard = |state: &&crate::effect::PortState| state.port.is_some_and(|port| self.node.hears_peer_on(port.id));
        self.node.ports.iter().filter(heard).map(|state| state.id.clone()).collect()
    }

    fn channel_state(&self, peer: &PeerView) -> ChannelState {
        let mirroring = &self.node.mirroring;
        if !self.node.gets_on_with_peer() {
            return ChannelState::VersionMismatch;
        }
        if self.leads() {
            match mirroring.sender.session() {
                Some(session) if peer.holds(session) => ChannelState::Up,
                Some(_) => ChannelState::Bulk,
                None if mirroring.is_peer_full() => ChannelState::Full,
                None => match self.node.peer_quarantine_left(self.now) {
                    Some(left) => ChannelState::Quarantined { left },
                    None => ChannelState::Connecting,
                },
            }
        } else if let Some(left) = self.node.quarantine.left(self.now) {
            ChannelState::Quarantined { left }
        } else if mirroring.caught_up() {
            ChannelState::Up
        } else if mirroring.full_session() != 0 {
            ChannelState::Full
        } else if mirroring.receiver.session().is_some() {
            ChannelState::Bulk
        } else {
            ChannelState::Connecting
        }
    }

    fn resync(&self) -> Option<ResyncFacts> {
        let resync = self.node.mirroring.resync()?;
        Some(ResyncFacts {
            session: resync.session,
            began: self.unix_millis(resync.began),
            took: resync.took(),
            flows: resync.flows(self.node.engine.counts().in_session.into()),
            told: resync.told(self.node.mirroring.flow_records(self.now)),
            released: self.node.engine.counters().hold_released_unprotected.saturating_sub(resync.released_before),
        })
    }

    fn takeover(&self) -> Option<TakeoverFacts> {
        self.node.timeline.latest().map(|takeover| TakeoverFacts {
            term: takeover.term,
            began: self.unix_millis(takeover.promoted),
            heard_before: takeover.heard.map(|heard| takeover.promoted.since(heard)),
            given_up_before: takeover.promoted.since(takeover.detected),
            first_packet_after: takeover.first_packet.map(|first| first.since(takeover.promoted)),
        })
    }

    fn digest(&self) -> DigestState {
        let mirroring = &self.node.mirroring;
        if self.leads() {
            let synced = self.node.ha.status().peer.is_some_and(|peer| self.channel_state(&peer) == ChannelState::Up);
            return if synced { DigestState::Equal { ago: None } } else { DigestState::NotCompared };
        }
        match mirroring.agreed_at().filter(|_| mirroring.caught_up()) {
            Some(at) => DigestState::Equal { ago: Some(self.now.since(at)) },
            None if mirroring.differs() => DigestState::Different,
            None => DigestState::NotCompared,
        }
    }

    fn vserver_health(&self, id: u32) -> (Health, u64) {
        let known = self.node.vserver_states.get(&id);
        known.map_or((Health::Unknown, 0), |(health, since)| (*health, self.unix_millis(*since)))
    }

    fn service_health(&self, id: u32) -> (Health, u64) {
        let config = &self.node.config;
        let Some(service) = config.service_by_id(id) else { return (Health::Unknown, 0) };
        let Some(state) = self.node.health.service(id) else { return (Health::Unknown, 0) };
        let since = self.unix_millis(state.since);
        match (config.service_enabled(service) || config.leaving(service).is_some(), state.up) {
            (false, _) => (Health::OutOfService, since),
            (true, true) => (Health::Up, since),
            (true, false) => (Health::Down, since),
        }
    }
}

impl Facts for View<'_> {
    fn now(&self) -> u64 {
        self.unix_millis(self.now)
    }

    fn node(&self) -> NodeFacts {
        let names = |up: bool| {
            let ports = self.node.ports.iter().filter(|state| (state.up && state.port.is_some()) == up);
            ports.map(|state| state.id.clone()).collect()
        };
        let counters = self.node.engine.counters();
        let frames = Drop::ALL.iter().map(|&reason| (reason.label(), counters.drops(reason)));
        NodeFacts {
            host_name: self.node.options.host_name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            ports_up: names(true),
            ports_down: names(false),
            data_plane: self.data_plane(),
            drops: frames.chain([("malformed mirror payload", self.node.payloads_refused)]).collect(),
        }
    }

    fn ha(&self) -> HaFacts {
        let node = self.node;
        let status = node.ha.status();
        let counts = node.engine.counts();
        let leads = self.leads();
        let stats = node.mirroring.sender.stats(self.now);
        let heard = node.ha_counts();
        // What was meant for an earlier life of ours comes at every start.
        // After a restart: for keys that are gone, or late.
        let harmless = [Refused::Unkeyed.label(), Refused::Stale.label()];
        let refused: u64 =
            node.channel.refused().filter(|(reason, _)| !harmless.contains(reason)).map(|(_, count)| count).sum();
        HaFacts {
            role: role(status.role),
            state: own_state(status.role, status.status, status.health),
            term: status.term,
            caught_up: node.caught_up(),
            in_role_for: self.now.since(status.since),
            last_transition: self.unix_millis(status.since),
            hellos_received: heard.received,
            hellos_sent: heard.sent,
            hello_rates: node.ha_counters.rates(),
            propagation_timeouts: heard.timeouts,
            sync_failures: heard.sync_failures,
            config: self.own_config(),
            refused_messages: refused + node.hellos_refused + node.payloads_refused,
            security: self.security(),
            silent_ports: silent_ports(node),
            failed_ports: node.fitness.failed_ports().to_vec(),
            routes: node.fitness.routes(),
            flips: status.flips,
            flip_time: status.flip_time,
            sticky: status.sticky,
            deaf_since: node.hearing.deaf_since().map(|since| self.unix_millis(since)),
            called_off: node.timeline.called_off().map(|at| self.unix_millis(at)),
            peer: self.peer(),
            flows: counts.flows.into(),
            max_flows: node.engine.limits().max_flows.into(),
            protected: if leads { counts.protected.into() } else { 0 },
            unprotected: if leads { counts.unprotected.into() } else { 0 },
            held: counts.held.into(),
            released_unprotected: node.engine.counters().hold_released_unprotected,
            unacked_records: stats.unacked_records,
            mirror_lag: stats.oldest_unacked.unwrap_or_default(),
            mirror_delay: Duration::from_micros(stats.lag_us),
            mirrored: counts.in_session.into(),
            persistence_missed: counts.persistence_missed.into(),
            offered: node.engine.counters().flows_offered,
            offers: (node.engine.counters().offers_adopted, node.engine.counters().offers_refused()),
            mirror_rate: node.mirroring.traffic(),
            resync: self.resync(),
            takeover: self.takeover(),
            digest: self.digest(),
            witness: status.witness.map(|view| node.witness_facts(view, |at| self.unix_millis(at))),
        }
    }

    fn vserver(&self, id: u32) -> VserverFacts {
        let counters = self.node.engine.vserver_counters(VserverId(id));
        let (health, last_change) = self.vserver_health(id);
        VserverFacts {
            health,
            last_change,
            hits: counters.hits,
            client_flows: counters.flows.into(),
            server_flows: counters.flows.into(),
            established: counters.established.into(),
            protected: counters.protected.into(),
            // Whether a secondary's copies are protected is not its business.
            unprotected: if self.leads() { (counters.tracked - counters.protected).into() } else { 0 },
            persistence_sessions: counters.persistence.into(),
            stand_in: self.node.engine.stand_in(VserverId(id)).map(stand_in),
            packets_in: counters.traffic.client_packets,
            packets_out: counters.traffic.server_packets,
            bytes_in: counters.traffic.client_bytes,
            bytes_out: counters.traffic.server_bytes,
        }
    }

    fn held_flows(&self) -> BTreeMap<u32, u64> {
        let mut held = BTreeMap::new();
        for VserverId(id) in self.node.engine.held_vservers() {
            *held.entry(id).or_default() += 1;
        }
        held
    }

    fn service(&self, id: u32) -> ServiceFacts {
        let counters = self.node.engine.service_counters(ServiceId(id));
        let (health, last_change) = self.service_health(id);
        ServiceFacts {
            health,
            last_change,
            hits: counters.hits,
            flows: counters.flows.into(),
            waiting: self.node.engine.surge_waiting(ServiceId(id)),
            packets_in: counters.traffic.client_packets,
            packets_out: counters.traffic.server_packets,
            bytes_in: counters.traffic.client_bytes,
            bytes_out: counters.traffic.server_bytes,
        }
    }

    fn monitor(&self, service: u32, monitor: &str) -> MonitorFacts {
        let state = self.node.health.service(service);
        let Some(found) = state.and_then(|state| state.monitors.iter().find(|m| m.spec.name == monitor)) else {
            return MonitorFacts::default();
        };
        MonitorFacts {
            health: match found.up {
                Some(true) => Health::Up,
                Some(false) => Health::Down,
                None => Health::Unknown,
            },
            probes: found.probes,
            failed_total: found.failed,
            failed_current: found.failed_in_row.into(),
            last_response: found.last_response.clone(),
            response_time: found.took,
        }
    }
}

fn stand_in(why: engine::StandIn) -> StandIn {
    match why {
        engine::StandIn::MethodChanged => StandIn::MethodChanged,
        engine::StandIn::ServiceUp => StandIn::ServiceUp,
        engine::StandIn::ServiceBound => StandIn::ServiceBound,
        engine::StandIn::VserverEnabled => StandIn::VserverEnabled,
        engine::StandIn::MonitorsSilent => StandIn::MonitorsSilent,
    }
}

fn role(role: Role) -> HaRole {
    match role {
        Role::Init => HaRole::Init,
        Role::Secondary => HaRole::Secondary,
        Role::Primary => HaRole::Primary,
        Role::Draining => HaRole::Draining,
    }
}

/// The data ports on which hellos should come and do not.
pub(crate) fn silent_ports(node: &Node) -> Vec<String> {
    if node.config.ha().peer.is_none() {
        return Vec::new();
    }
    let expected = |id: &str| node.config.interfaces().iter().any(|port| port.id == id && port.ha_heartbeat);
    let silent = |state: &&crate::effect::PortState| {
        expected(&state.id) && state.port.is_none_or(|port| !node.hears_peer_on(port.id))
    };
    node.ports.iter().filter(silent).map(|state| state.id.clone()).collect()
}

fn own_state(role: Role, status: HaStatus, health: NodeHealth) -> NodeState {
    let well = match health {
        NodeHealth::Up => NodeState::Up,
        NodeHealth::RouteMonitorFail => NodeState::RouteMonitorFail,
        NodeHealth::PartialFail => NodeState::PartialFail,
        NodeHealth::CompleteFail => NodeState::CompleteFail,
    };
    match (status, role) {
        (HaStatus::Disabled, _) => NodeState::Disabled,
        (HaStatus::StaySecondary, _) => NodeState::StaySecondary,
        (HaStatus::Enabled | HaStatus::StayPrimary, Role::Init) if health == NodeHealth::Up => NodeState::Init,
        (HaStatus::Enabled | HaStatus::StayPrimary, Role::Init) => well,
        (HaStatus::Enabled | HaStatus::StayPrimary, Role::Secondary | Role::Primary | Role::Draining) => well,
    }
}

fn peer_state(peer: &PeerView) -> NodeState {
    own_state(peer.role, peer.status, peer.health)
}

impl Node {
    /// Looks which vservers have changed their state.
    pub(crate) fn note_vservers(&mut self, now: Instant) {
        let former = core::mem::take(&mut self.vserver_states);
        for vserver in self.config.vservers() {
            let state = self.vserver_state(vserver);
            let kept = former.get(&vserver.id).filter(|(before, _)| *before == state);
            self.vserver_states.insert(vserver.id, kept.copied().unwrap_or((state, now)));
        }
    }

    /// Up: enabled and served, with a bound service that is.
    fn vserver_state(&self, vserver: &LbVserver) -> Health {
        if !vserver.enabled {
            return Health::OutOfService;
        }
        if vserver.unserved().is_some() {
            return Health::Down;
        }
        let usable = |service: &Service| {
            self.config.service_enabled(service) && self.health.service(service.id).is_some_and(|state| state.up)
        };
        if self.config.is_up(vserver, usable) { Health::Up } else { Health::Down }
    }
}
