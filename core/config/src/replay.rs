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

    /// Replaces what both nodes have in common by what `lines` make; what is
    /// node-local stays. All or nothing. Returns whether anything changed: if
    /// nothing did, every object keeps its number, else objects get numbers
    /// never used before (flows find them again by address).
    pub fn replace_shared(&mut self, lines: &[String]) -> Result<bool, CommandError> {
        if self.lines(Scope::Shared) == lines {
            return Ok(false);
        }
        let mut next = Config {
            services: Named::continuing(&self.services),
            vservers: Named::continuing(&self.vservers),
            ns_config: self.ns_config.clone(),
            ha: self.ha.clone(),
            rpc_nodes: self.rpc_nodes.clone(),
            interfaces: self.interfaces.clone(),
            ..Config::default()
        };
        for line in lines {
            next.apply(&parse(line)?)?;
        }
        *self = next;
        Ok(true)
    }
}
