//! Taking over the pair's configuration from the primary.

use crate::config::{Config, Named, Scope};
use crate::error::CommandError;
use crate::parse::parse;

impl Config {
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
