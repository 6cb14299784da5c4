//! Programs that the operator wants run when this node's role changes.

use core::net::IpAddr;
use core::time::Duration;

use holdfast_ha::{Cause, Role};

use crate::effect::{Effect, HookRun};
use crate::fitness;
use crate::node::Node;

impl Node {
    /// Asks for every hook to be run. A change of term alone is a change of role, too.
    pub(crate) fn run_hooks(&mut self, role: Role, term: u64, cause: Cause) {
        self.forget_sync_failures();
        let name = |addr: Option<IpAddr>| addr.map_or(String::new(), |addr| addr.to_string());
        let environment = vec![
            ("HOLDFAST_ROLE", shown(role).to_owned()),
            ("HOLDFAST_CAUSE", format!("{cause:?}")),
            ("HOLDFAST_TERM", term.to_string()),
            ("HOLDFAST_NODE", name(self.config.ns_config().addr)),
            ("HOLDFAST_PEER", name(self.config.ha().peer.map(|peer| peer.addr))),
            ("HOLDFAST_STATE", fitness::word(self.fitness.health()).to_owned()),
        ];
        for hook in self.config.hooks() {
            self.effects.push_back(Effect::Hook(HookRun {
                name: hook.name.clone(),
                command: hook.command.clone(),
                timeout: Duration::from_millis(hook.timeout_ms.into()),
                environment: environment.clone(),
            }));
        }
    }
}

/// A role as `show HA node` has it.
fn shown(role: Role) -> &'static str {
    match role {
        Role::Init => "Init",
        Role::Secondary => "Secondary",
        Role::Primary => "Primary",
        Role::Draining => "Draining",
    }
}
