//! How well this node can serve: its interfaces, and the routes that it monitors.
//!
//! A monitored route works while its next hop answers. The node asks under no
//! address of its own (ARP with the sender 0.0.0.0, RFC 5227; a solicitation from
//! a link-local address), so a node whose gate is closed may ask, too.

use core::net::IpAddr;
use core::time::Duration;

use holdfast_base::Instant;
use holdfast_config::{Config, RouteFacts, RouteMonitor};
use holdfast_engine::{Offload, OwnedFrame, Port};
use holdfast_ha::NodeHealth;
use holdfast_wire::build::{self, Link};
use holdfast_wire::{Addr, MacAddr};

use crate::effect::{Level, PortState};
use crate::node::Node;

/// Pause between two questions to the next hop of a monitored route.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// Questions in a row without an answer after which the route does not work.
const MISSES: u32 = 3;
/// Room for one question.
const QUESTION: usize = 128;

/// Where a monitored route leads, by this node's own table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// This neighbour must answer.
    Neighbour(Addr),
    /// A connected subnet: a port must work.
    Connected,
}

/// A monitored route; any of its targets will do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watched {
    targets: Vec<Target>,
    up: bool,
}

/// A next hop that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    addr: Addr,
    /// Questions since its last sign of life.
    unanswered: u32,
}

impl Asked {
    /// The last question is still on its way: it is no miss yet.
    fn is_silent(self) -> bool {
        self.unanswered > MISSES
    }
}

/// What is known of this node's own fitness.
#[derive(Debug, Default)]
pub(crate) struct Fitness {
    health: NodeHealth,
    failed_ports: Vec<String>,
    routes: Vec<Watched>,
    asked: Vec<Asked>,
    next_ask: Option<Instant>,
    questions: u64,
}

impl Fitness {
    /// How well the node can serve.
    pub fn health(&self) -> NodeHealth {
        self.health
    }

    /// Ids of the data ports whose failure counts.
    pub fn failed_ports(&self) -> &[String] {
        &self.failed_ports
    }

    /// Questions to next hops, since the start; each counts once for all ports.
    pub fn questions(&self) -> u64 {
        self.questions
    }

    /// When the next hops must be asked again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_ask
    }

    /// The monitored routes for `show`, in the order of the configuration.
    pub fn routes(&self) -> Vec<RouteFacts> {
        let one = |route: &Watched| RouteFacts { up: route.up, text: self.told(route) };
        self.routes.iter().map(one).collect()
    }

    fn told(&self, route: &Watched) -> String {
        let one = |target: &Target| match target {
            Target::Neighbour(addr) if self.answers(*addr) => format!("{} answers", IpAddr::from(*addr)),
            Target::Neighbour(addr) => format!("{} does not answer", IpAddr::from(*addr)),
            Target::Connected => "connected".to_owned(),
        };
        match route.targets.is_empty() {
            true => "no such route".to_owned(),
            false => route.targets.iter().map(one).collect::<Vec<_>>().join(", "),
        }
    }

    fn answers(&self, addr: Addr) -> bool {
        self.asked.iter().any(|asked| asked.addr == addr && !asked.is_silent())
    }

    /// Takes the monitors and the table of a configuration.
    fn set_config(&mut self, now: Instant, config: &Config) {
        let monitors = &config.ha().route_monitors;
        self.routes = monitors.iter().map(|m| Watched { targets: targets(config, *m), up: true }).collect();
        let former = core::mem::take(&mut self.asked);
        for target in self.routes.iter().flat_map(|route| &route.targets) {
            let Target::Neighbour(addr) = *target else { continue };
            if !self.asked.iter().any(|asked| asked.addr == addr) {
                let known = former.iter().find(|asked| asked.addr == addr);
                self.asked.push(known.copied().unwrap_or(Asked { addr, unanswered: 0 }));
            }
        }
        self.next_ask = (!self.asked.is_empty()).then(|| self.next_ask.unwrap_or(now));
    }

    /// Somebody has said where it is: is it a next hop that is asked?
    /// Returns whether one that was silent has answered.
    fn hear(&mut self, speaker: Addr) -> bool {
        let Some(asked) = self.asked.iter_mut().find(|asked| asked.addr == speaker) else { return false };
        let back = asked.is_silent();
        asked.unanswered = 0;
        back
    }
}

/// What the route leads to. Empty: there is no such route.
fn targets(config: &Config, monitor: RouteMonitor) -> Vec<Target> {
    match monitor {
        RouteMonitor::Default => {
            let defaults = config.routes().iter().filter(|route| route.prefix_len == 0);
            defaults.map(|route| Target::Neighbour(route.gateway.into())).collect()
        }
        RouteMonitor::To { network, prefix_len } => target(config, network.into(), prefix_len).into_iter().collect(),
    }
}

/// The route to exactly this network; else a connected subnet; else the longest route that leads there.
fn target(config: &Config, network: Addr, prefix_len: u8) -> Option<Target> {
    let bits = if network.is_v4() { 32 } else { 128 };
    let leads = |to: IpAddr, len: u8| {
        let to = Addr::from(to);
        to.is_v4() == network.is_v4() && len <= prefix_len && to.matches_prefix(network, len)
    };
    let routes = config.routes().iter().filter(|route| leads(route.network, route.prefix_len));
    let longest = routes.max_by_key(|route| route.prefix_len);
    if let Some(exact) = longest.filter(|route| route.prefix_len == prefix_len) {
        return Some(Target::Neighbour(exact.gateway.into()));
    }
    let ips = || config.ips().iter().filter(|ip| ip.enabled && ip.prefix_len < bits);
    if ips().any(|ip| leads(ip.addr, ip.prefix_len)) {
        let own = config.ips().iter().any(|ip| Addr::from(ip.addr) == network);
        return Some(if prefix_len == bits && !own { Target::Neighbour(network) } else { Target::Connected });
    }
    longest.map(|route| Target::Neighbour(route.gateway.into()))
}

/// Who says where it is: the sender of an ARP packet, the target of a neighbour advertisement.
fn speaker_of(frame: &[u8]) -> Option<Addr> {
    match frame.get(12..14)? {
        [0x08, 0x06] => Some(Addr::v4(frame.get(28..32)?.try_into().ok()?)),
        [0x86, 0xdd] if frame.get(20) == Some(&58) && frame.get(54) == Some(&136) => {
            Some(Addr(frame.get(62..78)?.try_into().ok()?))
        }
        _ => None,
    }
}

/// A question for `addr` out of `port`.
pub(crate) fn question(port: Port, addr: Addr) -> OwnedFrame {
    let mut bytes = vec![0; QUESTION];
    let len = match addr.is_v4() {
        true => {
            let link = Link::new(MacAddr::BROADCAST, port.mac);
            build::arp_request(&mut bytes, link, Addr::v4([0; 4]), addr)
        }
        false => build::neighbour_solicitation(&mut bytes, port.mac, link_local_of(port.mac), addr),
    };
    bytes.truncate(len);
    OwnedFrame { port: port.id, offload: Offload::default(), bytes }
}

/// The link-local address that goes with an Ethernet address (RFC 4291 appendix A).
fn link_local_of(mac: MacAddr) -> Addr {
    let [a, b, c, d, e, f] = mac.0;
    Addr([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// The failure of interfaces: which ones count, and what they make of the node.
fn interfaces(config: &Config, ports: &[PortState]) -> (NodeHealth, Vec<String>) {
    // A port that was not looked at yet is not known to have failed.
    let down = |id: &str| ports.iter().any(|port| port.id == id && !(port.up && port.port.is_some()));
    let enabled = || config.interfaces().iter().filter(|port| port.enabled);
    let critical = config.critical_interfaces().filter(|port| down(&port.id));
    let mut failed: Vec<String> = critical.map(|port| port.id.clone()).collect();
    for set in config.failover_sets() {
        let members: Vec<&String> = set.members.iter().filter(|id| enabled().any(|port| port.id == **id)).collect();
        if members.iter().all(|id| down(id)) {
            failed.extend(members.into_iter().cloned());
        }
    }
    let health = match (failed.is_empty(), enabled().all(|port| down(&port.id))) {
        (true, true | false) => NodeHealth::Up,
        (false, false) => NodeHealth::PartialFail,
        (false, true) => NodeHealth::CompleteFail,
    };
    (health, failed)
}

/// The market's word for a health.
pub(crate) fn word(health: NodeHealth) -> &'static str {
    match health {
        NodeHealth::Up => "UP",
        NodeHealth::RouteMonitorFail => "ROUTEMONITORFAIL",
        NodeHealth::PartialFail => "PARTIALFAIL",
        NodeHealth::CompleteFail => "COMPLETEFAIL",
    }
}

impl Node {
    /// The configuration has changed: its monitors count from here on.
    pub(crate) fn refit(&mut self, now: Instant) {
        self.fitness.set_config(now, &self.config);
        self.judge_fitness(now);
    }

    /// Asks the next hops of monitored routes when it is time.
    pub(crate) fn ask_next_hops(&mut self, now: Instant) {
        if self.fitness.next_ask.is_none_or(|at| now < at) {
            return;
        }
        self.fitness.next_ask = Some(now + ASK_PAUSE);
        if self.ports.is_empty() {
            return;
        }
        let ports = self.usable_ports();
        for asked in &mut self.fitness.asked {
            asked.unanswered = (asked.unanswered + 1).min(MISSES + 1);
            self.fitness.questions += 1;
            self.frames.extend(ports.iter().map(|port| question(*port, asked.addr)));
        }
        self.judge_fitness(now);
    }

    /// Looks at a frame before anybody else does.
    pub(crate) fn overhear(&mut self, now: Instant, frame: &[u8]) {
        let speaker = speaker_of(frame);
        self.hear_frame(now, frame, speaker);
        if speaker.is_some_and(|speaker| self.fitness.hear(speaker)) {
            self.judge_fitness(now);
        }
    }

    /// Finds out how well this node can serve, and tells the election what has changed.
    pub(crate) fn judge_fitness(&mut self, now: Instant) {
        let (by_ports, failed) = interfaces(&self.config, &self.ports);
        let some_port = self.has_usable_port() || self.ports.is_empty();
        let fitness = &mut self.fitness;
        let asked = &fitness.asked;
        let answers = |addr: Addr| asked.iter().any(|asked| asked.addr == addr && !asked.is_silent());
        for route in &mut fitness.routes {
            route.up = route.targets.iter().any(|target| match target {
                Target::Neighbour(addr) => answers(*addr),
                Target::Connected => some_port,
            });
        }
        let by_routes = match fitness.routes.iter().all(|route| route.up) {
            true => NodeHealth::Up,
            false => NodeHealth::RouteMonitorFail,
        };
        fitness.failed_ports = failed;
        let health = by_ports.max(by_routes);
        if health == fitness.health {
            return;
        }
        fitness.health = health;
        let level = if health == NodeHealth::Up { Level::Info } else { Level::Warn };
        let text = format!("node state {}{}", word(health), self.fitness.reasons());
        self.event(level, text);
        // An election that has not begun is told when it begins.
        if self.listening {
            self.ha.handle_health(now, health);
            self.drain_ha(now);
            self.update_gate(now);
        }
    }
}

impl Fitness {
    /// What does not work, in words, behind a colon.
    fn reasons(&self) -> String {
        let ports = self.failed_ports.iter().map(|id| format!("interface {id} is down"));
        let routes = self.routes.iter().filter(|route| !route.up);
        let reasons: Vec<String> =
            ports.chain(routes.map(|route| format!("route monitor: {}", self.told(route)))).collect();
        if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) }
    }
}

#[cfg(test)]
mod tests;
