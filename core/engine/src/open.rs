//! Opening a flow: whose packet it is, which server it goes to and as whom.

use holdfast_base::{Duration, Instant};
use holdfast_wire::{Addr, Endpoint, IpPacket, Parsed, Transport, parse, proto};

use crate::engine::Engine;
use crate::flow::table::Refused;
use crate::flow::tcp::TcpState;
use crate::flow::tcp_seen::Stream;
use crate::flow::{Flow, FlowState, Hop, NONE, Side};
use crate::passage::is_fast_open;
use crate::path::Passage;
use crate::plan::{ConnFailover, FloatingKind, Persistence, Service, ServiceId, Vserver, VserverKind};
use crate::record::{L2Disc, Mark};
use crate::roster::Bound;
use crate::select::Ends;
use crate::select::persistence::SessionKey;
use crate::snat::Destination;
use crate::verdict::Drop;

/// Who has to do with a packet that belongs to no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// A client's packet to this vserver (place in the plan).
    Vserver(usize),
    /// A USIP server's packet, of this vserver and service (places in the plan).
    ServerOf(Bound),
    /// Sent to a SNIP.
    Snip,
    /// Sent to a VIP that has no vserver for it.
    Nobody,
    /// Sent to the host's kernel.
    Host,
    /// Sent to somebody else: to be routed.
    World,
}

/// What a new flow is made of.
pub(crate) struct Opening {
    pub(crate) proto: u8,
    pub(crate) client: Endpoint,
    pub(crate) vip: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) source: Endpoint,
    pub(crate) vserver: u32,
    pub(crate) service: u32,
    pub(crate) client_idle: Duration,
    pub(crate) server_idle: Duration,
    pub(crate) state: FlowState,
    pub(crate) flags: u16,
}

impl Engine {
    /// Who has to do with `packet`, which belongs to no flow.
    pub(crate) fn whose(&self, packet: &IpPacket) -> Whose {
        let vserver = self.roster.vserver_for(packet.destination(), packet.proto);
        if let Some(place) = vserver
            && self.roster.plan().vservers[place].addr != Addr::UNSPECIFIED
        {
            return Whose::Vserver(place);
        }
        match self.network.floating(packet.dst).map(|own| own.kind) {
            Some(FloatingKind::Snip) => return Whose::Snip,
            Some(FloatingKind::Vip) => return Whose::Nobody,
            None => {}
        }
        if self.network.is_host(packet.dst) {
            return Whose::Host;
        }
        if let Some(bound) = self.server_of(packet) {
            return Whose::ServerOf(bound);
        }
        vserver.map_or(Whose::World, Whose::Vserver)
    }

    /// Whether whoever is primary should have this frame: an IP packet to one of our Ethernet
    /// addresses that is not for the host itself.
    pub fn is_for_primary(&self, frame: &[u8]) -> bool {
        let Ok((ethernet, Parsed::Ip(packet))) = parse(frame) else { return false };
        let neighbours =
            matches!(packet.transport, Transport::NeighbourSolicitation(_) | Transport::NeighbourAdvertisement(_));
        !neighbours && self.network.is_own_mac(ethernet.dst) && self.whose(&packet) != Whose::Host
    }

    /// The vserver whose USIP server sent `packet`. Services on any port count
    /// only if STATELESS: what such a server sends may as well be its own.
    fn server_of(&self, packet: &IpPacket) -> Option<Bound> {
        let plan = self.roster.plan();
        let stateless = |bound: &Bound| plan.vservers[bound.vserver].failover == ConnFailover::Stateless;
        let concerned = |bound: &Bound| {
            let service = &plan.services[bound.service];
            let exact_tcp = service.server.port != 0 && packet.proto == proto::TCP;
            service.usip && (exact_tcp || stateless(bound))
        };
        let candidates = || self.roster.bound_to(packet.source(), packet.proto).filter(concerned);
        candidates().find(stateless).or_else(|| candidates().next())
    }

    /// Opens the flow of a client's packet: where, as whom, open. `state` is
    /// where a TCP flow begins.
    pub(crate) fn open_for_client(
        &mut self,
        now: Instant,
        packet: &IpPacket,
        vserver: usize,
        state: TcpState,
    ) -> Result<u32, Drop> {
        let plan = self.roster.plan().clone();
        let vserver = &plan.vservers[vserver];
        if !vserver.enabled {
            return Err(Drop::VserverDisabled);
        }
        if self.flows.len() >= self.limits.max_flows && !self.evict_for_place(now) {
            return Err(Drop::FlowTableFull);
        }
        let serving = self.serving(&plan, vserver)?;
        let service = self.where_to(now, (vserver, serving), packet.source(), packet.destination())?;
        let service = *self.roster.service(service).ok_or(Drop::NoService)?;
        if state == TcpState::SynSeen && !self.surge_admits(now, &service, packet.proto) {
            return Err(Drop::SurgeQueueFull);
        }
        let (client, vip) = (packet.source(), packet.destination());
        let port = if service.server.port == 0 { vip.port } else { service.server.port };
        let server = Endpoint { addr: service.server.addr, port };
        if server.addr.is_v4() != client.addr.is_v4() {
            return Err(Drop::NoService);
        }
        let (source, flags) = self.as_whom(now, &service, packet.proto, client, server, state)?;
        let opening = Opening {
            proto: packet.proto,
            client,
            vip,
            server,
            source,
            vserver: self.roster.vserver_row(vserver.id),
            service: self.roster.service_row(service.id),
            client_idle: vserver.client_idle,
            server_idle: service.server_idle,
            state: first_state(packet.proto, state),
            flags: flags | if vserver.ftp { Flow::CONTROL } else { 0 },
        };
        let slot = self.open(now, &opening)?;
        self.count_hit(&opening);
        Ok(slot)
    }

    /// Puts a flow into the table. A lease it brings is given back on refusal.
    pub(crate) fn open(&mut self, now: Instant, opening: &Opening) -> Result<u32, Drop> {
        let flow = new_flow(now, opening);
        let mut inserted = self.flows.insert(flow);
        if let Err(Refused::Taken(slot)) = inserted
            && opening.state == FlowState::Tcp(TcpState::SynSeen)
            && self.is_only_presumed(slot)
        {
            self.close(slot);
            inserted = self.flows.insert(flow);
        }
        match inserted {
            Ok(slot) => {
                self.flows.arm(slot, now + flow.time_out(&self.limits));
                self.count_open(slot);
                Ok(slot)
            }
            Err(refused) => {
                if flow.has(Flow::LEASED) {
                    self.snat.release(destination_of(&flow), flow.source.port);
                }
                Err(match refused {
                    Refused::Full => Drop::FlowTableFull,
                    Refused::Taken(_) => Drop::UsipConflict,
                })
            }
        }
    }

    /// Whether the flow was made from a stray of a server that serves a STATELESS vserver among others, and its client has not
    /// shown since that it was right: who has lost a SYN-ACK of another vserver sends its SYN again.
    fn is_only_presumed(&self, slot: u32) -> bool {
        let flow = self.flows.at(slot);
        let vserver = self.roster.vserver_at(flow.vserver).and_then(|row| self.roster.vserver(row.id));
        let rebuilt = vserver.is_some_and(|vserver| vserver.failover == ConnFailover::Stateless);
        rebuilt && matches!(flow.state, FlowState::Tcp(_)) && flow.stream(Side::Client).end() == 0
    }

    /// What the mirror says about the packet that opened the flow in `slot`: without a
    /// handshake the server believes at the first datagram, or at data in a SYN.
    pub(crate) fn opened(&mut self, slot: u32, packet: &IpPacket) -> Passage {
        self.counters.flows_opened += 1;
        let believes = match self.flows.at(slot).state {
            FlowState::Datagram => true,
            FlowState::Tcp(_) => packet.tcp().is_some_and(is_fast_open),
            FlowState::Free => false,
        };
        if believes && self.track(slot) { Passage::Hold } else { Passage::Go }
    }

    /// Persistence first, else the method, both of the vserver that serves. Sessions are the called one's: it has an address.
    fn where_to(
        &mut self,
        now: Instant,
        (called_one, vserver): (&Vserver, &Vserver),
        client: Endpoint,
        called: Endpoint,
    ) -> Result<ServiceId, Drop> {
        let ends = Ends { client, called: called.addr };
        let Some(persistence) = vserver.persistence else {
            let chosen = self.turns.choose(vserver, ends, &self.roster);
            return chosen.map(|binding| binding.service).ok_or(Drop::NoService);
        };
        let key = session_key(called_one, &persistence, client.addr, called.addr);
        if let Some(server) = self.sessions.find(&key)
            && let Some(service) = self.returnable_at(vserver, server)
        {
            self.sessions.touch(now, &key);
            self.sessions.set_timeout(&key, persistence.timeout);
            return Ok(service);
        }
        let chosen = self.turns.choose(vserver, ends, &self.roster).ok_or(Drop::NoService)?;
        if let Some(server) = self.roster.service(chosen.service).map(|service| service.server) {
            self.remember(now, key, server, persistence.timeout);
        }
        Ok(chosen.service)
    }

    /// Traffic of a flow keeps its client's session alive.
    pub(crate) fn refresh_session(&mut self, now: Instant, slot: u32) {
        if let Some((key, _)) = self.session_of(self.flows.at(slot)) {
            self.sessions.touch(now, &key);
        }
    }

    /// The name of the session of a flow's client, and how long it lasts; `None`
    /// if its vserver has no persistence.
    pub(crate) fn session_of(&self, flow: &Flow) -> Option<(SessionKey, Duration)> {
        let place = self.roster.vserver_at(flow.vserver)?.persistent?;
        let vserver = &self.roster.plan().vservers[place];
        let persistence = vserver.persistence.as_ref()?;
        let (client, called) =
            if flow.has(Flow::REVERSED) { (flow.server, flow.source) } else { (flow.client, flow.vip) };
        Some((session_key(vserver, persistence, client.addr, called.addr), persistence.timeout))
    }

    fn returnable_at(&self, vserver: &Vserver, server: Endpoint) -> Option<ServiceId> {
        let bound = vserver.services.iter().map(|binding| binding.service);
        bound.into_iter().find(|&id| self.roster.returnable(id).is_some_and(|service| service.server == server))
    }

    fn remember(&mut self, now: Instant, key: SessionKey, server: Endpoint, timeout: Duration) {
        let stamp = self.next_stamp();
        if !self.sessions.store(now, key, server, stamp, self.session.serial) {
            self.counters.persistence_full += 1;
            return;
        }
        self.sessions.set_timeout(&key, timeout);
        self.push_mark(Mark::Persistence(key.record(stamp, Some(server))));
    }

    /// Who the server sees, and the flags that follow from it.
    fn as_whom(
        &mut self,
        now: Instant,
        service: &Service,
        proto: u8,
        client: Endpoint,
        server: Endpoint,
        state: TcpState,
    ) -> Result<(Endpoint, u16), Drop> {
        if service.usip {
            return Ok((client, 0));
        }
        if state == TcpState::Established && proto == proto::TCP {
            // Rebuilt from the middle: nobody knows which port the server sees.
            return Err(Drop::StrayReset);
        }
        let mut found = false;
        for snip in self.network.snips_for(server.addr) {
            found = true;
            if let Ok(port) = self.snat.lease(Destination { snip, server, proto }) {
                return Ok((Endpoint { addr: snip, port }, Flow::LEASED));
            }
        }
        if !found {
            return Err(Drop::NoSnip);
        }
        if let Some(source) = self.evict_for_port(now, server, proto) {
            return Ok((source, Flow::LEASED));
        }
        self.counters.snat_exhausted += 1;
        Err(Drop::SnatExhausted)
    }

    fn count_hit(&mut self, opening: &Opening) {
        if let Some(counters) = self.roster.vserver_counters(opening.vserver) {
            counters.hits += 1;
        }
        if let Some(counters) = self.roster.service_counters(opening.service) {
            counters.hits += 1;
        }
    }

    /// Finds the vserver and service of a flow that came as a record before the
    /// plan knew them, or one of them.
    pub(crate) fn bind(&mut self, slot: u32) {
        let flow = self.flows.at(slot);
        if (flow.vserver != NONE && flow.service != NONE) || flow.has(Flow::PASS_THROUGH) {
            return;
        }
        let (vip, server) = self.parent_ends(slot).unwrap_or((flow.vip, flow.server));
        let (vserver, service) = self.rows_of(vip, server, flow.proto);
        if flow.vserver == NONE && vserver != NONE {
            let ftp = self.roster.vserver_at(vserver).is_some_and(|row| row.ftp);
            let flow = self.flows.at_mut(slot);
            (flow.vserver, flow.service) = (vserver, service);
            if ftp && flow.vip == vip {
                flow.set(Flow::CONTROL, true);
            }
            self.count_open(slot);
            self.count_bound(slot);
        } else if flow.vserver == vserver && flow.service != service {
            // The vserver has it already: it is counted anew, at both.
            self.count_close(slot);
            self.flows.at_mut(slot).service = service;
            self.count_open(slot);
        }
    }

    /// Rows of the vserver at `vip` and of its service at `server`.
    pub(crate) fn rows_of(&self, vip: Endpoint, server: Endpoint, proto: u8) -> (u32, u32) {
        let Some(place) = self.roster.vserver_for(vip, proto) else { return (NONE, NONE) };
        let plan = self.roster.plan();
        let service = self.roster.bound_to(server, proto).find(|bound| bound.vserver == place);
        let service = service.map_or(NONE, |bound| self.roster.service_row(plan.services[bound.service].id));
        (self.roster.vserver_row(plan.vservers[place].id), service)
    }
}

/// Where a flow of this protocol begins.
pub(crate) fn first_state(proto: u8, tcp: TcpState) -> FlowState {
    if proto == proto::TCP { FlowState::Tcp(tcp) } else { FlowState::Datagram }
}

/// Whose lease the source port of a flow is.
pub(crate) fn destination_of(flow: &Flow) -> Destination {
    Destination { snip: flow.source.addr, server: flow.server, proto: flow.proto }
}

/// The name of a vserver's session for a client that calls this address.
fn session_key(vserver: &Vserver, persistence: &Persistence, client: Addr, called: Addr) -> SessionKey {
    let (vip, proto) = session_owner(vserver);
    SessionKey { vip, proto, of: persistence.session_of(client, called) }
}

fn new_flow(now: Instant, opening: &Opening) -> Flow {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    Flow {
        client: opening.client,
        vip: opening.vip,
        server: opening.server,
        source: opening.source,
        last_seen: now,
        stamp: 0,
        to_client: Hop::default(),
        to_server: Hop::default(),
        l2: L2Disc(0),
        generation: 0,
        share: 0,
        session: 0,
        acked: 0,
        marked: 0,
        vserver: opening.vserver,
        service: opening.service,
        hold: NONE,
        streams: [Stream::default(); 2],
        client_idle_s: seconds(opening.client_idle),
        server_idle_s: seconds(opening.server_idle),
        bucket: 0,
        proto: opening.proto,
        state: opening.state,
        flags: opening.flags,
        syn_again: false,
    }
}

/// How sessions name their vserver: by what clients call, and its protocol.
pub(crate) fn session_owner(vserver: &Vserver) -> (Endpoint, u8) {
    let proto = match vserver.kind {
        VserverKind::Tcp => proto::TCP,
        VserverKind::Udp => proto::UDP,
        VserverKind::Any => 0,
    };
    (Endpoint { addr: vserver.addr, port: vserver.port }, proto)
}
