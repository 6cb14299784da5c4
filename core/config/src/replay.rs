//! Commands from a file, and taking over the pair's configuration from the primary.

use crate::config::{Config, Named, Scope};
use crate::error::CommandError;
use crate::parse::{parse, parse_all};

impl Config {
    /// Applies one line of a file, which may stand for several commands
    /// (`vs[1-4]`): all of them or none. Blank lines and comments do nothing.
    pub fn apply_line(&mut self, line: &str) -> Result<(), CommandError> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        match &parse_all(line)?[..] {
            [command] => self.apply(command).map(drop),
            commands => {
                let mut next = self.clone();
                for command in commands {
                    next.apply(command)?;
                }
                *self = next;
                Ok(())
            }
        }
    }
}

/// The primary's configuration on its way into ours, a slice at a time.
#[derive(Debug)]
pub struct Replacement {
    next: Config,
    lines: std::vec::IntoIter<String>,
}

impl Replacement {
    /// Begins to replace what both nodes have in common by what `lines` make;
    /// what is node-local stays. `None`: nothing differs. Objects get numbers
    /// never used before (flows find them again by address).
    pub fn begin(config: &Config, lines: Vec<String>) -> Option<Replacement> {
        if config.lines(Scope::Shared) == lines {
            return None;
        }
        let next = Config {
            services: Named::continuing(&config.services),
            vservers: Named::continuing(&config.vservers),
            ns_config: config.ns_config.clone(),
            ha: config.ha.clone(),
            rpc_nodes: config.rpc_nodes.clone(),
            interfaces: config.interfaces.clone(),
            failover_sets: config.failover_sets.clone(),
            virtual_routers: config.virtual_routers.clone(),
            hooks: config.hooks.clone(),
            ..Config::default()
        };
        Some(Replacement { next, lines: lines.into_iter() })
    }

    /// Applies up to `count` lines; true when all are.
    pub fn step(&mut self, count: usize) -> Result<bool, CommandError> {
        for line in self.lines.by_ref().take(count) {
            self.next.apply(&parse(&line)?)?;
        }
        Ok(self.lines.len() == 0)
    }

    /// The new configuration, with what is node-local in `config`.
    pub fn finish(self, config: &Config) -> Config {
        Config {
            ns_config: config.ns_config.clone(),
            ha: config.ha.clone(),
            rpc_nodes: config.rpc_nodes.clone(),
            interfaces: config.interfaces.clone(),
            failover_sets: config.failover_sets.clone(),
            virtual_routers: config.virtual_routers.clone(),
            hooks: config.hooks.clone(),
            ..self.next
        }
    }
}
