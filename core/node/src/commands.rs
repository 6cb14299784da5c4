//! Operators' commands: one door for the CLI, the file and the peer's journal.

use holdfast_base::Instant;
use holdfast_config::{self as config, Action, Command, CommandError, ConnectionFilter, Kind, Message};
use holdfast_ha::{NodeHealth, Role};

use crate::effect::{Effect, Level, Reply};
use crate::fitness;
use crate::node::Node;
use crate::propagation::warned;
use crate::view::View;

/// The journal's word for "the primary has saved; save too".
const SAVE: &str = "save ns config";

impl Node {
    /// A command line from an operator; answered by one or more `Effect::Reply`.
    pub fn handle_command(&mut self, now: Instant, request: u64, line: &str, json: bool) {
        self.begin(now);
        match self.command(now, request, line, json) {
            Ok(Some(text)) => self.reply(Reply { request, text, ok: true, last: true }),
            Ok(None) => {}
            Err(error) => {
                let text = if json { error.to_json() } else { error.to_string() };
                self.reply(Reply { request, text, ok: false, last: true });
            }
        }
        self.drain_ha(now);
        self.update_gate(now);
    }

    /// Carries a command out. `None`: the answer follows later.
    fn command(&mut self, now: Instant, request: u64, line: &str, json: bool) -> Result<Option<String>, CommandError> {
        let commands = config::parse_all(line)?;
        let [command] = &commands[..] else { return self.change_all(now, (request, json), &commands) };
        match command.kind() {
            Kind::Change { .. } => self.change_all(now, (request, json), &commands),
            Kind::Show if command.is_connection_table() => {
                let filter = ConnectionFilter::parse(command.connection_filter().unwrap_or_default())?;
                self.start_listing(request, filter, json);
                Ok(None)
            }
            Kind::Show => {
                let view = View::new(self, now);
                let shown = if json { config::show_json } else { config::show };
                let text = shown(command, &self.config, &view)?;
                if command.clears_counters() {
                    self.clear_ha_counters();
                }
                Ok(Some(text))
            }
            Kind::Action(action) => self.act(now, (request, json), action),
        }
    }

    /// Carries out the commands that one line stands for (`vs[1-4]`): all of them or none.
    fn change_all(
        &mut self,
        now: Instant,
        asker: (u64, bool),
        commands: &[Command],
    ) -> Result<Option<String>, CommandError> {
        let mut next = self.config.clone();
        let (mut warnings, mut shared) = (Vec::new(), Vec::new());
        for command in commands {
            let local = next.keeps_to_itself(command);
            // The primary's configuration is the pair's; what is typed here would be lost at the next synchronisation.
            if !local && self.follows_a_primary() {
                return Err(CommandError::new(config::messages::PRIMARY_ONLY));
            }
            warnings.extend(next.apply(command)?);
            if !local {
                shared.push(command.canonical());
            }
        }
        let before = core::mem::replace(&mut self.config, next);
        self.config_changed(now);
        self.follow_sync_settings(now, before.ha());
        let answer = self.propagate(now, asker, warnings, shared);
        for command in commands {
            self.event(Level::Info, format!("command: {}", command.redacted()));
        }
        Ok(answer)
    }

    /// Whether a living primary owns the configuration, or is about to: what is
    /// typed at a node that hands over would not reach the other one any more.
    fn follows_a_primary(&self) -> bool {
        self.ha.role() == Role::Draining
            || self.ha.role() != Role::Primary && self.ha.status().peer.is_some_and(|peer| peer.role == Role::Primary)
    }

    fn act(
        &mut self,
        now: Instant,
        (request, json): (u64, bool),
        action: Action,
    ) -> Result<Option<String>, CommandError> {
        match action {
            Action::ForceFailover { force: false }
                if self.ha.may_force_failover().is_ok() && !self.doubts().is_empty() =>
            {
                Err(self.ask_back())
            }
            Action::ForceFailover { .. } => match self.ha.handle_force_failover(now) {
                Ok(()) => Ok(Some(String::new())),
                Err(refusal) => Err(CommandError::new(Message { code: refusal.code(), text: refusal.text() })),
            },
            Action::ForceSync { force, save } => self.force_sync(now, force, save).map(|()| Some(String::new())),
            Action::SyncFiles => self.sync_files().map(|warning| Some(warned(&[warning], json))),
            Action::SaveConfig => {
                self.save(request);
                self.journal(SAVE.into());
                Ok(None)
            }
            Action::Quit => Ok(Some(String::new())),
        }
    }

    /// What is not as it should be at a peer that could take over.
    fn doubts(&self) -> Vec<String> {
        let health = self.ha.status().peer.map(|peer| peer.health).filter(|health| *health != NodeHealth::Up);
        health.map(|health| format!("the peer is {}", fitness::word(health))).into_iter().collect()
    }

    /// The question before a failover to such a peer; `-force` is its answer.
    fn ask_back(&self) -> CommandError {
        let (why, question) = (config::messages::PEER_NOT_OPTIMUM, config::messages::CONFIRM_FAILOVER);
        let text = format!("{} {}. {}", why.text, self.doubts().join(", "), question.text);
        CommandError { code: why.code, text, ..CommandError::new(why) }
    }

    pub(crate) fn save(&mut self, request: u64) {
        let mut text = String::from("# Holdfast configuration. Written by `save ns config`.\n");
        for line in self.config.lines(config::Scope::All) {
            text.push_str(&line);
            text.push('\n');
        }
        self.effects.push_back(Effect::StoreConfig { request, text });
    }

    /// A command of the primary's journal.
    pub(crate) fn apply_journal(&mut self, now: Instant, line: &str) {
        if line == SAVE {
            self.save(0);
            return;
        }
        // What is this node's own the peer has no say in: programs to run, passwords, ports.
        let applied = config::parse(line).and_then(|command| match command.kind() {
            Kind::Change { node_local: false } => self.config.apply(&command),
            Kind::Change { node_local: true } | Kind::Show | Kind::Action(_) => {
                Err(CommandError::with(config::messages::NOT_PERMITTED, command.redacted()))
            }
        });
        match applied {
            Ok(_) => {
                self.config_unsettled = true;
                self.sync.count_change();
            }
            Err(error) => self.command_failed(now, line, &error),
        }
    }
}
