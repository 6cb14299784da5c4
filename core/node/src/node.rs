//! The joined node: which input goes to which room, and in what order their
//! outputs leave.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::net::IpAddr;
use core::time::Duration;

use holdfast_base::Instant;
use holdfast_config::{self as config, Config, Replacement};
use holdfast_engine::{Drop, Engine, Frame, Gate, OwnedFrame, Port, PortId, Verdict};
use holdfast_ha::{self as ha, Hello, Machine, NodeId, PathId, Role, Settings};
use holdfast_wire::{Addr, Endpoint, MacAddr};

use crate::channel::{self, Channel, Letter, Letterhead, Outgoing, Received};
use crate::counters::LimitWatch;
use crate::effect::{
    DataPlane, Effect, Level, NodeOptions, PeerLink, PortState, ProbeOutcome, Reply, StartError, StreamEvent,
};
use crate::envelope::MessageKind;
use crate::fitness::Fitness;
use crate::ha_counters::HaCounters;
use crate::handover::Handover;
use crate::health::Health;
use crate::hearing::Hearing;
use crate::leaving::Leavers;
use crate::listing::Listings;
use crate::mirroring::Mirroring;
use crate::offer::Offers;
use crate::onlooker::{Nobody, Onlooker};
use crate::overflow::Overflow;
use crate::promote;
use crate::propagation::Propagations;
use crate::quarantine::Quarantine;
use crate::sync::ConfigSync;
use crate::timeline::Timeline;
use crate::witness::{WitnessDoubt, node_id};

/// Log lines that wait for the driver at most; more are counted, not kept.
const MAX_WAITING_EVENTS: usize = 1024;
/// Hello intervals of silence on the peer link after which the mirror stream moves to a data port.
const LINK_PATIENCE_HELLOS: u32 = 3;

/// A node: engine, mirror, election and configuration behind one set of doors.
pub struct Node {
    pub(crate) now: Instant,
    pub(crate) options: NodeOptions,
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    pub(crate) ha: Machine,
    pub(crate) channel: Channel,
    pub(crate) mirroring: Mirroring,
    pub(crate) offers: Offers,
    pub(crate) quarantine: Quarantine,
    pub(crate) timeline: Timeline,
    pub(crate) handover: Handover,
    pub(crate) sync: ConfigSync,
    pub(crate) propagations: Propagations,
    pub(crate) leavers: Leavers,
    pub(crate) onlooker: &'static dyn Onlooker,
    pub(crate) health: Health,
    pub(crate) listings: Listings,
    pub(crate) ports: Vec<PortState>,
    pub(crate) fitness: Fitness,
    pub(crate) hearing: Hearing,
    /// The peer's interfaces, as it told last.
    pub(crate) peer_ports: Option<config::PeerPorts>,
    pub(crate) effects: VecDeque<Effect>,
    pub(crate) peer_boot: Option<u64>,
    /// The primary's configuration while it is being taken over.
    pub(crate) replacing: Option<Replacement>,
    /// Commands of the primary were applied and have not taken effect yet.
    pub(crate) config_unsettled: bool,
    /// Services by what the peer calls them.
    pub(crate) services_by_identity: BTreeMap<(Endpoint, u8), Vec<u32>>,
    /// The state of each vserver, and since when.
    pub(crate) vserver_states: BTreeMap<u32, (config::Health, Instant)>,
    /// Vservers whose flows are mirrored.
    pub(crate) stateful: BTreeSet<u32>,
    pub(crate) limit_watch: LimitWatch,
    pub(crate) witness_doubt: WitnessDoubt,
    /// Log lines among the effects.
    pub(crate) events_waiting: usize,
    /// The primary that this node follows: its life and its term.
    pub(crate) following: Option<(u64, u64)>,
    pub(crate) hellos_refused: u64,
    /// Messages of the mirror, either way, that are none.
    pub(crate) payloads_refused: u64,
    pub(crate) overflow: Overflow,
    pub(crate) ha_counters: HaCounters,
    /// As primary: sessions that the peer had no room for.
    pub(crate) sessions_without_room: u64,
    /// The primary has not been told yet that a flow found no room here.
    pub(crate) full_untold: bool,
    /// Hellos without this node's interfaces: they were too many.
    pub(crate) ports_untold: u64,
    pub(crate) events_dropped: u64,
    pub(crate) frames: VecDeque<OwnedFrame>,
    pub(crate) epoch: u32,
    pub(crate) fingerprint: u64,
    gate: Gate,
    /// The election has begun: a peer could be heard if it spoke.
    pub(crate) listening: bool,
    pub(crate) stream: Option<StreamEvent>,
    /// The peer's boot that the idle connection belongs to; `None` until that one has spoken since.
    pub(crate) stream_boot: Option<u64>,
    settled: bool,
    pub(crate) key_request: u64,
    pub(crate) derived_from: Option<(String, Vec<u8>)>,
    pub(crate) link: Option<PeerLink>,
    pub(crate) interfaces: Vec<(String, String)>,
    pub(crate) floating_macs: Vec<(String, MacAddr)>,
    pub(crate) guarded: (Vec<IpAddr>, bool),
    pub(crate) data_plane: DataPlane,
}

impl Node {
    /// A node with its configuration loaded. Nothing is sent before the first `handle_turn`.
    pub fn new(now: Instant, mut options: NodeOptions) -> Result<Node, StartError> {
        // Kept nowhere but where it is replaced with each draw.
        let secret = core::mem::take(&mut options.secret);
        let config = load(&options.config)?;
        let settings = settings(&config);
        let peer = settings.peer.unwrap_or(NodeId(0));
        let mut node = Node {
            now,
            engine: Engine::new(now, options.limits.clone(), options.seed),
            ha: Machine::new(now, settings, options.boot, options.stored_term),
            channel: Channel::new(settings.node.0, peer.0, options.boot, secret),
            mirroring: Mirroring::new(),
            offers: Offers::new(),
            quarantine: Quarantine::default(),
            timeline: Timeline::default(),
            handover: Handover::default(),
            sync: ConfigSync::default(),
            propagations: Propagations::default(),
            leavers: Leavers::default(),
            onlooker: &Nobody,
            health: Health::default(),
            listings: Listings::default(),
            ports: Vec::new(),
            fitness: Fitness::default(),
            hearing: Hearing::new(now),
            peer_ports: None,
            effects: VecDeque::new(),
            peer_boot: None,
            replacing: None,
            config_unsettled: false,
            services_by_identity: BTreeMap::new(),
            vserver_states: BTreeMap::new(),
            stateful: BTreeSet::new(),
            limit_watch: LimitWatch::default(),
            witness_doubt: WitnessDoubt::default(),
            events_waiting: 0,
            following: None,
            hellos_refused: 0,
            payloads_refused: 0,
            overflow: Overflow::default(),
            ha_counters: HaCounters::default(),
            sessions_without_room: 0,
            full_untold: false,
            ports_untold: 0,
            events_dropped: 0,
            frames: VecDeque::new(),
            epoch: 0,
            fingerprint: 0,
            gate: Gate::Closed,
            listening: false,
            stream: None,
            stream_boot: None,
            settled: false,
            key_request: 0,
            derived_from: None,
            link: None,
            interfaces: Vec::new(),
            floating_macs: Vec::new(),
            guarded: (Vec::new(), false),
            data_plane: DataPlane::default(),
            options,
            config,
        };
        node.open_monitor_passwords();
        node.config_changed(now);
        Ok(node)
    }

    /// First call of every turn, whatever woke the driver: notices a freeze.
    pub fn handle_turn(&mut self, now: Instant) {
        self.begin(now);
        self.begin_listening(now);
        // What a frozen primary must do is told by its role: it is secondary after this.
        if self.listening {
            self.ha.handle_turn(now);
        }
        self.drain_ha(now);
        self.update_gate(now);
    }

    /// Begins the election as soon as the peer could be heard: its start-up
    /// interval must not run out while the key is still being derived, or before the
    /// data ports are open. The peer link may be the path that is cut.
    fn begin_listening(&mut self, now: Instant) {
        let has_ports = self.interfaces.is_empty() || !self.ports.is_empty();
        let hears = self.link.is_none() || self.channel.has_key() && has_ports;
        if self.listening || !hears {
            return;
        }
        self.listening = true;
        self.ha = Machine::new(now, settings(&self.config), self.options.boot, self.options.stored_term);
        self.ha.handle_health(now, self.fitness.health());
        if let Some(StreamEvent::Open { round_trip }) = self.stream {
            self.ha.handle_peer_open(now, round_trip);
        }
    }

    /// The data ports as they are; complete list, whenever something changed.
    pub fn handle_ports(&mut self, now: Instant, ports: Vec<PortState>) {
        self.begin(now);
        let before = self.usable_ports();
        self.ports = ports;
        let usable = self.usable_ports();
        self.engine.set_ports(&usable);
        self.wear_floating_macs(now);
        self.channel.set_ports(&self.heartbeat_ports());
        if usable.iter().any(|port| !before.contains(port)) {
            self.engine.announce(now);
        }
        if !self.listening {
            // The election begins here, not at whatever wakes the driver next.
            self.handle_turn(now);
        }
        self.judge_fitness(now);
    }

    /// All addresses that the host's kernel owns; complete list, on change.
    pub fn handle_host_addresses(&mut self, now: Instant, addresses: Vec<Addr>) {
        self.begin(now);
        self.engine.set_host_addresses(addresses);
    }

    /// A frame from a data port. On `Verdict::Forward` the caller sends its
    /// own (edited) buffer with its own offload out of that port.
    pub fn handle_frame(&mut self, now: Instant, mut frame: Frame<'_>) -> Verdict {
        self.begin(now);
        self.overhear(now, frame.bytes);
        if let Some(datagram) = channel::datagram_in(frame.bytes) {
            let station = frame.bytes.get(6..12).and_then(|mac| Some((frame.port, MacAddr(mac.try_into().ok()?))));
            self.peer_datagram(now, channel::path_of(frame.port), station, datagram);
            return Verdict::Consumed;
        }
        if self.gate == Gate::Closed
            && let Some(verdict) = self.pass_on(&mut frame)
        {
            return verdict;
        }
        let Frame { port, offload, bytes } = frame;
        let verdict = self.engine.handle_frame(now, Frame { port, offload, bytes });
        if verdict == Verdict::Drop(Drop::Draining) && self.engine.is_for_primary(bytes) {
            return self.keep_waiting(&Frame { port, offload, bytes });
        }
        self.watch_claims(now);
        if self.engine.take_client_seen() {
            self.ha.handle_client_packet_seen(now);
        }
        verdict
    }

    /// A datagram from the peer's address on the peer link.
    pub fn handle_peer_datagram(&mut self, now: Instant, bytes: &[u8]) {
        self.begin(now);
        self.hear_somebody(now, true);
        self.peer_datagram(now, channel::LINK, None, bytes);
    }

    /// Answer to `Effect::DeriveKey`.
    pub fn handle_peer_key(&mut self, now: Instant, request: u64, key: [u8; 32]) {
        self.begin(now);
        if request == self.key_request {
            self.channel.set_key(now, key);
            if self.channel.secure().uses_former_password() {
                self.event(Level::Info, "the rpcNode password has changed here; the peer has the former one".into());
            }
            // The election begins here, not at whatever wakes the driver next.
            self.handle_turn(now);
        }
    }

    /// Answer to `Effect::StoreTerm`.
    pub fn handle_term_stored(&mut self, now: Instant, term: u64) {
        self.begin(now);
        self.ha.handle_term_stored(now, term);
        self.drain_ha(now);
    }

    /// Answer to `Effect::Probe`.
    pub fn handle_probe_outcome(&mut self, now: Instant, id: u64, outcome: ProbeOutcome) {
        self.begin(now);
        self.health.handle_outcome(now, id, &outcome);
        self.drain_health(now);
    }

    /// SIGTERM: hand over if a caught-up peer exists, then emit `Effect::Stopped`.
    pub fn handle_stop(&mut self, now: Instant) {
        self.begin(now);
        self.ha.handle_stop(now);
        self.drain_ha(now);
    }

    /// Whatever is due at `now`. Calling too often is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin(now);
        if self.listening {
            self.ha.handle_timeout(now);
            self.drain_ha(now);
            self.update_gate(now);
            self.channel.set_role(self.ha.role());
            self.channel.handle_timeout(now);
            self.tell_of_channel();
        }
        self.engine.handle_timeout(now);
        self.mirroring.sender.handle_timeout(now);
        self.watch_offer(now);
        if self.replacing.is_some() || self.mirroring.receiver.is_ready() {
            self.apply_records(now);
        }
        self.tell_full(now);
        self.mirroring.sweep(&mut self.engine);
        self.mirroring.push_check(now, self.fingerprint);
        self.mirroring.note_traffic(now);
        self.check_drift(now);
        self.watch_quarantine(now);
        self.watch_handover(now);
        self.complain(now);
        self.expire_propagations(now);
        self.watch_leavers(now);
        self.watch_limits(now);
        self.ask_next_hops(now);
        self.watch_hearing(now);
        self.health.handle_timeout(now);
        self.drain_health(now);
        self.continue_listings(now);
    }

    /// When to call `handle_timeout` next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mirrors = self.mirroring.is_busy(self.now) || self.offers.is_busy(self.mirroring.caught_up());
        if mirrors || self.replacing.is_some() || !self.listings.is_empty() {
            return Some(self.now);
        }
        let deadlines = [
            self.ha.poll_timeout().filter(|_| self.listening),
            self.channel.poll_timeout(self.now).filter(|_| self.listening && self.link.is_some()),
            self.engine.poll_timeout(),
            self.mirroring.poll_timeout(self.now),
            self.offers.poll_timeout(),
            self.quarantine.ends(),
            self.handover.ends(),
            self.sync.poll_timeout(),
            self.propagations.poll_timeout(),
            self.overflow.poll_timeout(),
            self.leavers.poll_timeout(),
            self.health.poll_timeout(),
            self.fitness.poll_timeout(),
            self.hearing_due(),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The next frame the node itself wants sent. Call `recycle` with its bytes afterwards.
    pub fn poll_frame(&mut self) -> Option<OwnedFrame> {
        self.settle();
        if let Some(frame) = self.frames.pop_front() {
            return Some(frame);
        }
        self.poll_reply()
    }

    /// The next frame that the engine made of what was handed in so far. The
    /// turn goes on: marks wait until it ends, so that many share a datagram.
    pub fn poll_reply(&mut self) -> Option<OwnedFrame> {
        loop {
            let frame = self.engine.poll_transmit()?;
            if self.gate != Gate::Closed {
                return Some(frame);
            }
            // What was released by closing the gate must not get out.
            self.engine.recycle(frame.bytes);
        }
    }

    /// Gives a buffer back.
    pub fn recycle(&mut self, bytes: Vec<u8>) {
        self.engine.recycle(bytes);
    }

    /// The next thing the driver must do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.settle();
        let effect = self.effects.pop_front();
        self.events_waiting -= usize::from(matches!(effect, Some(Effect::Event(..))));
        effect
    }

    /// Loses a flow, for tests of what then happens.
    #[cfg(feature = "sabotage")]
    pub fn lose_a_flow(&mut self, now: Instant) -> bool {
        self.begin(now);
        self.engine.lose_a_flow()
    }

    /// A datagram for the peer with any payload, closed under the session with it;
    /// `None` without one, or for a kind that there is none of.
    #[cfg(feature = "sabotage")]
    pub fn close_for_peer(&mut self, kind: u8, term: u64, payload: &[u8]) -> Option<Vec<u8>> {
        self.channel.close_any(kind, Letterhead { term, fingerprint: self.fingerprint }, payload)
    }

    /// Follows the primary anew, as if this node had led for a moment, unnoticed.
    #[cfg(feature = "sabotage")]
    pub fn follow_anew(&mut self, now: Instant) {
        self.begin(now);
        promote::follow(self, now, self.term());
    }

    /// Changes the server of a mirrored flow, for tests of what then happens.
    #[cfg(feature = "sabotage")]
    pub fn bend_a_flow(&mut self, now: Instant) -> bool {
        self.begin(now);
        self.engine.bend_a_flow(now)
    }

    /// The engine, for checkers and `show`.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// This node's role.
    pub fn role(&self) -> Role {
        self.ha.role()
    }

    /// This node's term.
    pub fn term(&self) -> u64 {
        self.ha.term()
    }

    /// Whether this node may forward at this moment.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// Until when this node may forward without another turn; `None` without a lease.
    pub fn lease_expiry(&self) -> Option<Instant> {
        self.ha.lease_expiry()
    }

    /// As secondary: this node holds all that the primary has, and nothing of its own. As primary: always.
    pub fn caught_up(&self) -> bool {
        self.ha.role() == Role::Primary || self.mirroring.caught_up() && !self.offers.is_pending()
    }

    /// As primary: a mirror session with a living peer runs.
    pub fn mirrors(&self) -> bool {
        self.mirroring.sender.is_active()
    }

    /// As secondary: datagrams that were stored and acknowledged and lie beyond
    /// a gap; a promotion would read them.
    pub fn unread_datagrams(&self) -> u64 {
        self.mirroring.receiver.stats().waiting
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Opens, narrows or closes the engine's gate by role and lease, in the very
    /// turn in which they change: announcements of a promotion leave with it.
    pub(crate) fn update_gate(&mut self, now: Instant) {
        let leased = self.ha.lease_expiry().is_none_or(|end| now < end);
        let gate = match self.ha.role() {
            Role::Primary if leased && self.listening => Gate::Open,
            Role::Draining if leased && self.listening => Gate::Draining,
            Role::Primary | Role::Draining | Role::Init | Role::Secondary => Gate::Closed,
        };
        if gate != self.gate {
            self.gate = gate;
            self.engine.set_gate(now, gate);
        }
    }

    /// Queues a line for the log.
    pub(crate) fn event(&mut self, level: Level, text: String) {
        if self.events_waiting >= MAX_WAITING_EVENTS {
            self.events_dropped += 1;
            return;
        }
        self.events_waiting += 1;
        self.effects.push_back(Effect::Event(level, text));
    }

    /// Queues an answer to an operator.
    pub(crate) fn reply(&mut self, reply: Reply) {
        self.effects.push_back(Effect::Reply(reply));
    }

    /// Carries out what the election asks for.
    pub(crate) fn drain_ha(&mut self, now: Instant) {
        while let Some(effect) = self.ha.poll_effect() {
            match effect {
                ha::Effect::Send { path, hello } => self.send_hello(path, &hello),
                ha::Effect::StoreTerm(term) => self.effects.push_back(Effect::StoreTerm(term)),
                ha::Effect::AskWitness(request) => self.call_witness(request),
                ha::Effect::Role { role: Role::Primary, term, cause } => {
                    promote::promote(self, now, term, cause);
                    self.run_hooks(Role::Primary, term, cause);
                }
                ha::Effect::Role { role: Role::Draining, term, cause } => {
                    self.update_gate(now);
                    self.event(Level::Warn, format!("draining, term {term}, cause {cause:?}"));
                    self.run_hooks(Role::Draining, term, cause);
                }
                ha::Effect::Role { role: role @ (Role::Init | Role::Secondary), term, cause } => {
                    promote::demote(self, now, role, term, cause);
                    self.run_hooks(role, term, cause);
                }
                ha::Effect::Follow { boot, term } => {
                    self.following = Some((boot, term));
                    promote::follow(self, now, term);
                }
                ha::Effect::PeerJoined { boot } => {
                    self.peer_boot = Some(boot);
                    self.timeline.note_joined();
                    self.event(Level::Info, "peer joined".into());
                    if self.ha.role() == Role::Primary {
                        // A node that was stopped in the middle of a turn may have announced after us.
                        self.engine.announce(now);
                        self.start_session(now);
                        self.await_role(now);
                    }
                }
                ha::Effect::PeerLost { cause, .. } => {
                    self.note_apart(now);
                    self.tell_rivals(now);
                    self.offers.note_lost();
                    self.peer_boot = None;
                    self.timeline.note_lost(now);
                    self.event(Level::Warn, format!("peer lost: {cause:?}"));
                    self.stop_session(now);
                }
                ha::Effect::Event(ha::Event::Stopped) => self.leave(now),
                ha::Effect::Event(event @ ha::Event::DualPrimary { .. }) => {
                    // The other has announced our addresses; if it is us who stays, hosts must hear of it.
                    self.engine.announce(now);
                    self.await_offer(now);
                    self.event(Level::Warn, format!("election: {event:?}"));
                }
                ha::Effect::Event(ha::Event::Released) => self.stay_secondary(),
                ha::Effect::Event(ha::Event::WitnessReached) => self.event(Level::Info, "the witness answers".into()),
                ha::Effect::Event(ha::Event::WitnessLost) => self.witness_lost(),
                ha::Effect::Event(event) => self.event(Level::Warn, format!("election: {event:?}")),
            }
        }
    }

    /// Notes the time of an input; its outputs are settled when they are polled.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.now = now;
        self.settled = false;
    }

    /// End of a turn's inputs: marks become datagrams before packets leave.
    fn settle(&mut self) {
        if self.settled {
            return;
        }
        self.settled = true;
        let now = self.now;
        self.measure_hellos(now);
        if let Some(takeover) = self.timeline.note_turn(now, self.engine.counters().forwarded) {
            self.event(Level::Info, takeover.text());
        }
        self.settle_config(now);
        self.mend_overflow(now);
        self.mirroring.collect(now, &mut self.engine);
        let head = self.letterhead();
        let path = Some(self.channel.mirror_path(now, self.patience()));
        // Who is not answered there uses every path: one may be dead in our direction only.
        let unanswered = self.mirroring.note_unanswered(now, self.hello_interval());
        let data_path = path.filter(|_| !unanswered);
        let (channel, engine, journal) = (&mut self.channel, &mut self.engine, self.fingerprint);
        self.mirroring.transmit(now, engine, journal, |payload| {
            channel.send(data_path, MessageKind::MirrorData, head, payload);
        });
        self.tell_offer(now);
        self.acknowledge_offer(now);
        self.propagations.note_written(self.mirroring.sender.written());
        let mut ack = Vec::new();
        let repeated = self.mirroring.note_copies(now);
        let ack_path = path.filter(|_| !repeated);
        if !self.mirroring.is_full() && self.mirroring.receiver.poll_ack(now, &mut ack) {
            self.channel.send(ack_path, MessageKind::MirrorAck, head, &ack);
        }
        while self.mirroring.receiver.poll_summary(now, &mut ack) {
            self.channel.send(ack_path, MessageKind::MirrorAck, head, &ack);
        }
        self.flush_channel();
    }

    /// What was closed for the peer leaves.
    pub(crate) fn flush_channel(&mut self) {
        for outgoing in self.channel.take_outgoing() {
            match outgoing {
                Outgoing::Link(effect) => self.effects.push_back(effect),
                Outgoing::Frame(frame) => self.frames.push_back(frame),
            }
        }
    }

    pub(crate) fn hello_interval(&self) -> Duration {
        Duration::from_millis(self.config.ha().hello_ms.into())
    }

    pub(crate) fn patience(&self) -> Duration {
        self.hello_interval() * LINK_PATIENCE_HELLOS
    }

    pub(crate) fn letterhead(&self) -> Letterhead {
        Letterhead { term: self.ha.term(), fingerprint: self.fingerprint }
    }

    fn send_hello(&mut self, path: Option<PathId>, hello: &Hello) {
        let mut payload = Vec::new();
        let (quarantine_ms, full_session) = (self.quarantine.left_ms(self.now), self.mirroring.full_session());
        let aside = self.aside().word();
        Hello { quarantine_ms, full_session, aside, ..*hello }.encode(&mut payload);
        self.tell_ports(hello, &mut payload);
        let head = self.letterhead();
        self.channel.send(path, MessageKind::Hello, head, &payload);
    }

    /// `station`: the data port by which it came, and the sender's Ethernet address there.
    fn peer_datagram(&mut self, now: Instant, path: PathId, station: Option<(PortId, MacAddr)>, datagram: &[u8]) {
        if !self.listening {
            // What an election heard before it began would be forgotten, and the peer would count on it.
            return;
        }
        let received = self.channel.receive(now, path, datagram);
        self.tell_of_channel();
        match received {
            Received::Letter(letter) => {
                if let Some((port, mac)) = station {
                    self.handover.meet(port, mac);
                }
                self.letter(now, path, &letter);
            }
            // It may be a primary with another password.
            Received::Claim(Role::Primary | Role::Draining) => {
                self.suspect_primary(now);
                self.ha.handle_unproven_primary(now);
            }
            Received::Claim(Role::Init | Role::Secondary) => self.ha.handle_unproven_peer(now),
            Received::Nothing => {}
            Received::Report(refused) => {
                let text = format!("a peer message was refused ({}); further ones are only counted", refused.label());
                self.event(Level::Warn, text);
            }
        }
    }

    fn letter(&mut self, now: Instant, path: PathId, letter: &Letter) {
        self.hear_somebody(now, true);
        let header = letter.header;
        match header.kind {
            MessageKind::Hello => match Hello::decode(&letter.payload) {
                Ok(hello) => {
                    self.ha.set_drained(self.mirroring.is_drained() && !self.engine.has_marks());
                    let intake = self.hear_intake(now, &hello);
                    self.hear_aside(now, &hello, header.fingerprint);
                    self.hear_ports(&letter.payload);
                    self.ha.handle_hello(now, path, header.term, NodeId(header.node), &hello);
                    self.drain_ha(now);
                    self.tell_rivals(now);
                    self.note_maker(hello.boot);
                    self.follow_intake(now, intake);
                    // Before what it says of being caught up: that would begin another session at once.
                    self.hear_full(now, hello.full_session);
                    self.note_synced(now);
                    self.hear_offering(now);
                    self.update_gate(now);
                }
                Err(_) => self.hellos_refused += 1,
            },
            MessageKind::Confirmation | MessageKind::Handshake => {}
            // A lower term is ignored; a higher one is first heard in a hello.
            MessageKind::MirrorData | MessageKind::MirrorAck | MessageKind::AskSession
                if header.term != self.ha.term() => {}
            MessageKind::MirrorData => self.mirror_data(now, (header.boot, header.term), &letter.payload),
            MessageKind::MirrorAck => self.mirror_answer(now, &letter.payload),
            MessageKind::AskSession => self.hear_request(now, &letter.payload),
        }
    }

    /// The peer asks for another session than the one it names, or, in more bytes, about the configuration. What it asked
    /// of the primary that we were may be read only after a freeze, by a node that leads nobody any more.
    fn hear_request(&mut self, now: Instant, payload: &[u8]) {
        let Some((asked, about)) = payload.split_first_chunk::<4>() else { return };
        let (asked, patience) = (u32::from_be_bytes(*asked), self.patience() * 3);
        let leads = matches!(self.ha.role(), Role::Primary | Role::Draining) && self.peer_boot.is_some();
        match about.split_first() {
            Some((flags, reason)) => self.handle_config_request(now, asked, *flags, reason),
            None if leads && self.mirroring.must_restart(now, asked, patience) => {
                self.restart_session(now, "the peer asks for another mirror session");
            }
            None => {}
        }
    }

    /// The peer may have caught up with the running session, or lost it.
    fn note_synced(&mut self, now: Instant) {
        let (Some(session), Some(peer)) = (self.mirroring.sender.session(), self.ha.status().peer) else { return };
        let holds = peer.holds(session);
        if holds {
            self.offers.note_synced();
        }
        if self.mirroring.note_synced(now, holds, self.engine.counts().in_session.into()) {
            self.restart_session(now, "the peer has lost what it held; starting another mirror session");
        }
    }

    pub(crate) fn usable_ports(&self) -> Vec<Port> {
        self.ports.iter().filter(|state| state.up).filter_map(|state| state.port).collect()
    }

    /// The usable ports by which hellos leave.
    pub(crate) fn heartbeat_ports(&self) -> Vec<Port> {
        let quiet = |id: &str| self.config.interfaces().iter().any(|port| port.id == id && !port.ha_heartbeat);
        let ports = self.ports.iter().filter(|state| state.up && !quiet(&state.id));
        ports.filter_map(|state| state.port).collect()
    }

    /// Whether the peer's hellos arrive through this data port.
    pub(crate) fn hears_peer_on(&self, port: PortId) -> bool {
        let dead = Duration::from_millis(self.config.ha().dead_ms.into());
        self.channel.last_heard_on(port).is_some_and(|at| self.now.since(at) < dead)
    }
}

/// Loads `ns.conf`; the first line that is refused ends it.
fn load(text: &str) -> Result<Config, StartError> {
    let mut config = Config::new();
    for (index, line) in text.lines().enumerate() {
        if let Err(error) = config.apply_line(line) {
            return Err(StartError { line: index + 1, error: error.to_string() });
        }
    }
    Ok(config)
}

/// The election's settings in a configuration.
pub(crate) fn settings(config: &Config) -> Settings {
    let node = config.ns_config().addr.map_or(NodeId(0), node_id);
    let ha = config.ha();
    let peer = config.ns_config().addr.and(ha.peer).map(|peer| node_id(peer.addr));
    Settings {
        hello: Duration::from_millis(ha.hello_ms.into()),
        dead: Duration::from_millis(ha.dead_ms.into()),
        status: match ha.status {
            config::HaStatus::Enabled => ha::HaStatus::Enabled,
            config::HaStatus::StaySecondary => ha::HaStatus::StaySecondary,
            config::HaStatus::StayPrimary => ha::HaStatus::StayPrimary,
            config::HaStatus::Disabled => ha::HaStatus::Disabled,
        },
        fail_safe: ha.fail_safe,
        max_flips: ha.max_flips,
        max_flip_time: Duration::from_secs(ha.max_flip_time_s.into()),
        lease_margin: lease_margin(ha.dead_ms),
        witness: !ha.witness.is_empty(),
        ..Settings::new(node, peer)
    }
}

/// A twentieth of the dead interval, 1 to 20 ms.
fn lease_margin(dead_ms: u32) -> Duration {
    Duration::from_millis(u64::from(dead_ms / 20).clamp(1, 20))
}
