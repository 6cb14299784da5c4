//! What follows from a configuration: plan, election settings, peer link, ports.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_base::Instant;
use holdfast_config::ConnFailover;
use holdfast_engine::Half;
use holdfast_ha::{Role, Settings};

use crate::effect::{Effect, Level, PeerLink};
use crate::lower;
use crate::node::{Node, settings};

impl Node {
    /// The configuration has changed: everything that follows from it.
    pub(crate) fn config_changed(&mut self, now: Instant) {
        self.epoch += 1;
        self.fingerprint = self.config.fingerprint();
        self.engine.set_plan(now, Arc::new(lower::plan(&self.config, self.epoch)));
        self.health.set_services(now, lower::watched(&self.config));
        self.services_by_identity = lower::services_by_identity(&self.config);
        self.drain_health(now);
        self.note_vservers(now);
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
        self.engine.set_half(match settings.peer {
            Some(peer) if peer < settings.node => Half::Upper,
            Some(_) | None => Half::Lower,
        });
        self.publish_link(settings);
        self.publish_interfaces();
        self.drain_ha(now);
    }

    /// The vservers whose flows are mirrored.
    fn stateful_vservers(&self) -> BTreeSet<u32> {
        let vservers = self.config.vservers().filter(|vserver| vserver.failover == ConnFailover::Stateful);
        vservers.map(|vserver| vserver.id).collect()
    }

    fn publish_link(&mut self, settings: Settings) {
        let own = self.config.ns_config().addr;
        let peer = self.config.ha().peer.map(|peer| peer.addr);
        let link = own.zip(peer).map(|(local, peer)| PeerLink { local, peer, connects: local > peer });
        if link != self.link {
            if let Some(peer) = settings.peer {
                self.channel.readdress(settings.node.0, peer.0);
            }
            self.derived_from = None;
            self.link.clone_from(&link);
            self.effects.push_back(Effect::PeerLink(link.clone()));
        }
        if let Some(link) = link {
            self.derive_key(&link);
        }
    }

    /// Asks for the key when the passwords or the addresses have changed.
    fn derive_key(&mut self, link: &PeerLink) {
        let (low, high) = if link.local < link.peer { (link.local, link.peer) } else { (link.peer, link.local) };
        let word = |addr| self.config.rpc_node(addr).map_or("", |node| node.password.as_str());
        let password = format!("{}\n{}", word(low), word(high));
        let unset = word(low).is_empty() || word(high).is_empty();
        let salt = format!("holdfast peer v1 {low} {high}").into_bytes();
        let source = Some((password.clone(), salt.clone()));
        if self.derived_from == source {
            return;
        }
        self.derived_from = source;
        self.key_request += 1;
        if unset {
            let text =
                "no rpcNode password: anybody on the peer's network can speak for the peer; use `set ns rpcNode`";
            self.event(Level::Warn, text.into());
        }
        self.effects.push_back(Effect::DeriveKey { request: self.key_request, password, salt });
    }

    fn publish_interfaces(&mut self) {
        let wanted: Vec<_> =
            self.config.interfaces().iter().map(|port| (port.id.clone(), port.device.clone())).collect();
        if wanted != self.interfaces {
            self.interfaces.clone_from(&wanted);
            self.effects.push_back(Effect::Interfaces(wanted));
        }
        let floating = self.config.ips().iter().filter(|ip| ip.enabled).map(|ip| ip.addr).collect();
        let guarded = (floating, self.config.modes().l3);
        if guarded != self.guarded {
            self.guarded.clone_from(&guarded);
            self.effects.push_back(Effect::Guard { floating: guarded.0, transit: guarded.1 });
        }
    }
}
