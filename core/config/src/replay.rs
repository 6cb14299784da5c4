//! Commands from a file, and taking over the pair's configuration from the primary.

use std::collections::BTreeMap;

use crate::config::{Config, Named, Scope, fingerprint_of};
use crate::error::CommandError;
use crate::model::{IpKind, LbVserver, NsIp, Server, Service};
use crate::parse::{parse, parse_all};
use crate::table::rows;

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
///
/// What comes out differs from what was here by the difference only: an object
/// that both have keeps its number, and with it whatever the node knows of it.
/// A line that this node cannot carry out is left out, and told; an object that
/// it would have made stays as this node has it.
#[derive(Debug)]
pub struct Replacement {
    next: Config,
    lines: std::vec::IntoIter<String>,
    total: usize,
    fingerprint: u64,
    /// Our own lines.
    former: Vec<String>,
    /// Those of them that make something, by what they make; empty before the first refusal.
    making: BTreeMap<String, String>,
    refused: Vec<Refusal>,
    refusals: usize,
}

/// A line of the primary that could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The command, without its values that are secret.
    pub line: String,
    /// Why not.
    pub error: CommandError,
}

/// What taking over the primary's configuration came to.
#[derive(Debug)]
pub struct Replaced {
    /// The configuration as it is to be.
    pub config: Config,
    /// The first lines that could not be carried out, at most [`REFUSALS_KEPT`].
    pub refused: Vec<Refusal>,
    /// How many there were.
    pub refusals: usize,
    /// How many lines there were.
    pub lines: usize,
    /// The primary's fingerprint.
    pub fingerprint: u64,
}

/// Refused lines of which the reason is kept; further ones are counted.
pub const REFUSALS_KEPT: usize = 20;

impl Replacement {
    /// Begins to replace what both nodes have in common by what `lines` make;
    /// what is node-local stays. `None`: nothing differs.
    pub fn begin(config: &Config, lines: Vec<String>) -> Option<Replacement> {
        let former = config.lines(Scope::Shared);
        if former == lines {
            return None;
        }
        let next = Config {
            services: Named::continuing(&config.services),
            vservers: Named::continuing(&config.vservers),
            ..Config::default()
        };
        Some(Replacement {
            next: next.with_local_part_of(config),
            total: lines.len(),
            fingerprint: fingerprint_of(&lines),
            lines: lines.into_iter(),
            former,
            making: BTreeMap::new(),
            refused: Vec::new(),
            refusals: 0,
        })
    }

    /// Applies up to `count` lines; true when all are.
    pub fn step(&mut self, count: usize) -> bool {
        for _ in 0..count {
            let Some(line) = self.lines.next() else { break };
            if let Err(error) = parse(&line).and_then(|command| self.next.apply(&command)) {
                self.refuse(&line, error);
            }
        }
        self.lines.len() == 0
    }

    /// The new configuration, with what is node-local in `config`.
    pub fn finish(self, config: &Config) -> Replaced {
        let Replacement { next, refused, refusals, total: lines, fingerprint, .. } = self;
        let mut next = next.with_local_part_of(config);
        let servers = next.servers.clone();
        let same_service = |new: &Service, old: &Service| {
            let place = |servers: &Named<Server>, s: &Service| (servers.get(&s.server).map(|s| s.addr), s.port, s.kind);
            place(&servers, new) == place(&config.servers, old)
        };
        let same_vserver =
            |new: &LbVserver, old: &LbVserver| (new.addr, new.port, new.kind) == (old.addr, old.port, old.kind);
        next.services.renumber(&config.services, same_service, |service, id| service.id = id);
        next.vservers.renumber(&config.vservers, same_vserver, |vserver, id| vserver.id = id);
        Replaced { config: next, refused, refusals, lines, fingerprint }
    }

    fn refuse(&mut self, line: &str, error: CommandError) {
        self.refusals += 1;
        if self.refused.len() < REFUSALS_KEPT {
            // What is secret in a line that cannot be read is not known: its options are not told.
            let unread = || line.split(" -").next().unwrap_or_default().to_owned();
            let line = parse(line).map_or_else(|_| unread(), |command| command.redacted());
            self.refused.push(Refusal { line, error });
        }
        if self.making.is_empty() {
            let made = |line: &String| Some((making(line)?.to_owned(), line.clone()));
            self.making = self.former.iter().filter_map(made).collect();
        }
        let own = making(line).and_then(|made| self.making.get(made));
        if let Some(command) = own.and_then(|own| parse(own).ok()) {
            // Refused as well if something else has its place by now.
            let _ = self.next.apply(&command);
        }
    }
}

/// The beginning of a line that makes something, up to the name of it.
fn making(line: &str) -> Option<&str> {
    let mut titles = rows().filter(|row| row.verb == "add").map(|row| row.title());
    let title = titles.find(|title| line.strip_prefix(title.as_str()).is_some_and(|r| r.starts_with(' ')))?;
    let name = title.len() + 1;
    let rest = line.get(name..)?;
    line.get(..name + name_length(rest))
}

/// Length of the word at the beginning of `rest`, as commands write names.
fn name_length(rest: &str) -> usize {
    if !rest.starts_with('"') {
        return rest.find(' ').unwrap_or(rest.len());
    }
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == '"' && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

impl Config {
    /// This configuration with what belongs to the node alone in `config`.
    fn with_local_part_of(self, config: &Config) -> Config {
        let inc = config.ha.inc;
        let is_local = |ip: &&NsIp| inc && ip.kind == IpKind::Snip;
        let own = config.ips.iter().filter(is_local).cloned();
        let shared = self.ips.into_iter().filter(|ip| !is_local(&ip));
        Config {
            ips: shared.chain(own).collect(),
            routes: if inc { config.routes.clone() } else { self.routes },
            ns_config: config.ns_config.clone(),
            ha: config.ha.clone(),
            rpc_nodes: config.rpc_nodes.clone(),
            interfaces: config.interfaces.clone(),
            failover_sets: config.failover_sets.clone(),
            virtual_routers: config.virtual_routers.clone(),
            hooks: config.hooks.clone(),
            ..self
        }
    }
}
