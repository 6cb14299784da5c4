//! What follows from a configuration: plan, election settings, peer link, ports.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_base::Instant;
use holdfast_config::ConnFailover;
use holdfast_engine::Half;
use holdfast_ha::{Role, Settings};
use holdfast_wire::MacAddr;

use crate::effect::{Effect, Level, PeerLink};
use crate::lower;
use crate::node::{Node, settings};
use crate::sealed::{self, Owner};
use crate::secure::{Failure, Told};

/// Hello intervals of silence after which a session with the peer may not work any more.
const SILENT_HELLOS: u32 = 3;

/// What virtual MAC addresses begin with; the number of the vrID ends them.
const VIRTUAL_MAC: [u8; 5] = [0x00, 0x00, 0x5e, 0x00, 0x01];

impl Node {
    /// The configuration has changed: everything that follows from it.
    pub(crate) fn config_changed(&mut self, now: Instant) {
        self.epoch += 1;
        self.close_passwords();
        self.fingerprint = self.config.fingerprint();
        self.engine.set_plan(now, Arc::new(lower::plan(&self.config, self.epoch)));
        self.health.set_services(now, lower::watched(&self.config));
        self.services_by_identity = lower::services_by_identity(&self.config);
        self.drain_health(now);
        self.note_vservers(now);
        self.note_leavers(now);
        self.follow_mirror_settings(now);
        let stateful = self.stateful_vservers();
        if stateful != self.stateful {
            self.stateful = stateful;
            if self.ha.role() == Role::Primary {
                self.mirroring.rescan();
            }
        }
        let settings = settings(&self.config);
        self.ha.set_settings(now, settings);
        self.channel.set_ports(&self.heartbeat_ports());
        self.engine.set_half(match settings.peer {
            Some(peer) if peer < settings.node => Half::Upper,
            Some(_) | None => Half::Lower,
        });
        self.publish_link(settings);
        self.publish_interfaces(now);
        self.refit(now);
        self.know_neighbours(now);
        self.drain_ha(now);
        self.tell_rivals(now);
    }

    /// Sessions with the peer, in the words of the log.
    pub(crate) fn tell_of_channel(&mut self) {
        while let Some(told) = self.channel.poll_told() {
            let (level, text) = match told {
                Told::Established { encrypted: true } => (Level::Info, "peer channel: authenticated, encrypted"),
                Told::Established { encrypted: false } => {
                    (Level::Warn, "peer channel: authenticated, not encrypted (-secure OFF)")
                }
                Told::Rekeyed => (Level::Info, "peer channel: new keys"),
                Told::Failed(Failure::Password) => (
                    Level::Warn,
                    "peer channel: the rpcNode passwords of the two nodes differ: use `set ns rpcNode` (further attempts are only counted)",
                ),
                Told::Failed(Failure::Unset) => (
                    Level::Warn,
                    "peer channel: no rpcNode password is set, so the peer cannot be told from a stranger: set ns rpcNode <address> -password … for both addresses, on both nodes",
                ),
                Told::Failed(Failure::Secure) => (
                    Level::Warn,
                    "peer channel: -secure of the two nodes' rpcNode differs: use `set ns rpcNode` (further attempts are only counted)",
                ),
            };
            self.event(level, text.into());
        }
    }

    /// The vservers whose flows are mirrored.
    fn stateful_vservers(&self) -> BTreeSet<u32> {
        let vservers = self.config.vservers().filter(|vserver| vserver.failover == ConnFailover::Stateful);
        vservers.map(|vserver| vserver.id).collect()
    }

    fn publish_link(&mut self, settings: Settings) {
        let own = self.config.ns_config().addr;
        let peer = self.config.ha().peer.map(|peer| peer.addr);
        let from = |node| self.config.rpc_node(node).and_then(|node| node.src_ip);
        let link = own.zip(peer).map(|(local, peer)| PeerLink {
            local,
            peer,
            source: from(peer).unwrap_or(local),
            expected: from(local).unwrap_or(peer),
            connects: local > peer,
        });
        if link != self.link {
            let pair = |link: &Option<PeerLink>| link.as_ref().map(|link| (link.local, link.peer));
            if pair(&link) != pair(&self.link) {
                self.handover.forget_stations();
                self.channel.readdress(settings.node.0, settings.peer.map_or(0, |peer| peer.0));
                self.derived_from = None;
            }
            self.sync.forget_peer();
            self.link.clone_from(&link);
            self.effects.push_back(Effect::PeerLink(link.clone()));
        }
        if let Some(link) = link {
            let encrypt = self.config.rpc_node(link.peer).is_none_or(|node| node.secure);
            let patience = settings.hello * SILENT_HELLOS;
            self.channel.set_manner(self.now, encrypt, patience);
            self.derive_key(&link);
        }
    }

    /// Asks for the key when the passwords or the addresses have changed. Of an empty password none is made: anybody
    /// could make it, too.
    fn derive_key(&mut self, link: &PeerLink) {
        let (low, high) = if link.local < link.peer { (link.local, link.peer) } else { (link.peer, link.local) };
        let (first, second) = (self.password(low), self.password(high));
        let unset = first.is_empty() || second.is_empty();
        let password = if unset { String::new() } else { format!("{first}\n{second}") };
        let salt = format!("holdfast peer v2 {low} {high}").into_bytes();
        let source = Some((password.clone(), salt.clone()));
        if self.derived_from == source {
            return;
        }
        self.derived_from = source;
        self.key_request += 1;
        if unset {
            self.channel.lack_key(self.now);
            return;
        }
        self.effects.push_back(Effect::DeriveKey { request: self.key_request, password, salt });
    }

    /// The password of an entry in clear. One that was closed on another node is good for nothing.
    fn password(&mut self, addr: IpAddr) -> String {
        let Some(node) = self.config.rpc_node(addr) else { return String::new() };
        if !node.encrypted {
            return node.password.clone();
        }
        match sealed::open(Owner::RpcNode, &self.options.password_key, &node.password) {
            Some(password) => password,
            None => {
                let unreadable = node.password.clone();
                let text = format!(
                    "the rpcNode password of {addr} was encrypted on another node and cannot be read here; set it again"
                );
                self.event(Level::Warn, text);
                unreadable
            }
        }
    }

    /// From here on passwords lie in the configuration as they are written to the file.
    fn close_passwords(&mut self) {
        for (addr, password) in self.config.clear_passwords() {
            let nonce = self.channel.draw();
            let closed = sealed::close(Owner::RpcNode, &self.options.password_key, nonce, &password);
            self.config.close_password(addr, closed);
        }
    }

    /// After the file was read: passwords of monitors are the pair's, and in clear. Those that another node has closed
    /// stay as they are, and their monitors say so. Of what comes from the peer none is opened, or the two
    /// configurations would differ.
    pub(crate) fn open_monitor_passwords(&mut self) {
        for (monitor, closed) in self.config.closed_monitor_passwords() {
            if let Some(clear) = self.opened_monitor_password(&closed) {
                self.config.open_monitor_password(&monitor, clear);
            }
        }
    }

    /// A monitor's password that this node has closed.
    pub(crate) fn opened_monitor_password(&self, closed: &str) -> Option<String> {
        sealed::open(Owner::Monitor, &self.options.password_key, closed)
    }

    /// The configuration as it is written to the file.
    pub(crate) fn lines_to_save(&mut self) -> Vec<String> {
        let (key, channel) = (&self.options.password_key, &mut self.channel);
        self.config.lines_to_save(|password| sealed::close(Owner::Monitor, key, channel.draw(), password))
    }

    /// The interfaces that answer with a virtual MAC address, by id.
    fn virtual_macs(&self) -> impl Iterator<Item = (&String, MacAddr)> {
        let routers = self.config.virtual_routers().iter();
        routers.flat_map(|router| {
            let [a, b, c, d, e] = VIRTUAL_MAC;
            router.interfaces.iter().map(move |id| (id, MacAddr([a, b, c, d, e, router.id])))
        })
    }

    fn publish_floating_macs(&mut self, now: Instant) {
        let device = |id: &String| self.config.interfaces().iter().find(|port| port.id == *id && port.enabled);
        let wanted: Vec<_> =
            self.virtual_macs().filter_map(|(id, mac)| Some((device(id)?.device.clone(), mac))).collect();
        if wanted != self.floating_macs {
            self.floating_macs.clone_from(&wanted);
            self.effects.push_back(Effect::FloatingMacs(wanted));
            self.wear_floating_macs(now);
        }
    }

    /// Gives ports their virtual MAC addresses.
    pub(crate) fn wear_floating_macs(&mut self, now: Instant) {
        let port = |id: &String| self.ports.iter().find(|state| state.id == *id).and_then(|state| state.port);
        let macs: Vec<_> = self.virtual_macs().filter_map(|(id, mac)| Some((port(id)?.id, mac))).collect();
        self.engine.set_floating_macs(now, &macs);
    }

    fn publish_interfaces(&mut self, now: Instant) {
        let enabled = self.config.interfaces().iter().filter(|port| port.enabled);
        let wanted: Vec<_> = enabled.map(|port| (port.id.clone(), port.device.clone())).collect();
        if wanted != self.interfaces {
            self.interfaces.clone_from(&wanted);
            self.effects.push_back(Effect::Interfaces(wanted));
        }
        self.publish_floating_macs(now);
        let floating = self.config.ips().iter().filter(|ip| ip.enabled).map(|ip| ip.addr).collect();
        let guarded = (floating, self.config.modes().l3);
        if guarded != self.guarded {
            self.guarded.clone_from(&guarded);
            self.effects.push_back(Effect::Guard { floating: guarded.0, transit: guarded.1 });
        }
    }
}
