//! Operators' commands: one door for the CLI, the file and the peer's journal.

use holdfast_base::Instant;
use holdfast_config::{
    self as config, Action, Command, CommandError, Config, ConnectionFilter, Kind, Message, Warning,
};
use holdfast_engine::ServiceId;
use holdfast_ha::{NodeHealth, Refusal, Role};

use crate::effect::{Effect, Level, Reply};
use crate::fitness;
use crate::node::Node;
use crate::propagation::warned;
use crate::view::View;

/// What ends a node's claim to lead.
const STAY_SECONDARY: &str = "set HA node -haStatus STAYSECONDARY";
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
            Kind::Show if command.is_session_list() => self.list_sessions(request, command, json).map(|()| None),
            Kind::Action(Action::FlushSurgeQueue) => self.flush_surge_queue(command).map(Some),
            Kind::Action(Action::ClearSessions) => self.clear_sessions(request, command).map(|()| None),
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
            // A line of this node's own file: the peer has another key.
            let command = command.with_open_password(|closed| self.opened_monitor_password(closed));
            warnings.extend(next.apply(&command)?);
            if command.ends_pair() {
                warnings.extend(self.end_pair(&mut next)?);
            }
            if !local {
                shared.push(command.canonical());
            }
        }
        warnings.extend(self.doubt_address(&next));
        if self.config.ha().peer.is_some() && next.ha().peer.is_none() {
            self.release_peer(now);
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

    /// The operator removes the peer in `next`. While the peer is there the role stays where it is.
    fn end_pair(&self, next: &mut Config) -> Result<Option<Warning>, CommandError> {
        if self.ha.peer_role().is_none() {
            return Ok(None);
        }
        match self.ha.role() {
            Role::Draining => return Err(refused(Refusal::NotNow)),
            Role::Primary => {}
            Role::Init | Role::Secondary => {
                next.apply(&config::parse(STAY_SECONDARY)?)?;
            }
        }
        Ok(Some(Warning::new(config::messages::PAIR_ENDED)))
    }

    /// The peer is told, before its address is forgotten.
    fn release_peer(&mut self, now: Instant) {
        self.ha.handle_release(now);
        self.drain_ha(now);
        self.flush_channel();
    }

    /// The peer has gone on alone: this node stays what it is, until its operator says otherwise.
    pub(crate) fn stay_secondary(&mut self) {
        let applied = config::parse(STAY_SECONDARY).and_then(|command| self.config.apply(&command));
        let text = match applied {
            Ok(_) => {
                self.config_unsettled = true;
                "the peer's operator has removed this node (rm HA node), and the peer goes on alone: this node is STAYSECONDARY now. \
                 Remove the peer here, too; or add this node there again, and set HA node -haStatus ENABLED here"
                    .to_owned()
            }
            Err(error) => error.to_string(),
        };
        self.event(Level::Warn, text);
    }

    /// A change that nobody types: its time has come. Nobody waits for the answer, either.
    pub(crate) fn change_in_time(&mut self, now: Instant, line: &str) {
        let changed = config::parse_all(line).and_then(|commands| self.change_all(now, (0, false), &commands));
        if let Err(error) = changed {
            self.event(Level::Warn, format!("{line}: {error}"));
        }
    }

    /// An NSIP that no interface has is of no use to the peer link. (Before the first look at the host nothing is known.)
    fn doubt_address(&self, next: &Config) -> Option<Warning> {
        let addr = next.ns_config().addr.filter(|addr| self.config.ns_config().addr != Some(*addr))?;
        let lacks = self.engine.knows_host() && !self.engine.is_host_address(addr.into());
        lacks.then(|| Warning::with(config::messages::NSIP_NOT_OF_HOST, addr.to_string()))
    }

    /// Whether a living primary owns the configuration, or is about to: what is
    /// typed at a node that hands over would not reach the other one any more.
    pub(crate) fn follows_a_primary(&self) -> bool {
        self.ha.role() == Role::Draining
            || self.ha.role() != Role::Primary && matches!(self.ha.peer_role(), Some(Role::Primary | Role::Draining))
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
                Err(refusal) => Err(refused(refusal)),
            },
            Action::ForceSync { force, save } => self.force_sync(now, force, save).map(|()| Some(String::new())),
            Action::SyncFiles => self.sync_files().map(|warning| Some(warned(&[warning], json))),
            Action::SaveConfig => {
                self.save(request);
                self.journal(SAVE.into());
                Ok(None)
            }
            Action::ClearSessions | Action::FlushSurgeQueue | Action::Quit => Ok(Some(String::new())),
        }
    }

    fn flush_surge_queue(&mut self, command: &Command) -> Result<String, CommandError> {
        let services = match command.flushed() {
            None => self.config.services().map(|service| service.id).collect(),
            Some(name) => {
                let services = self.config.services_named(name);
                if services.is_empty() && self.config.vserver(name).is_none() && self.config.group(name).is_none() {
                    return Err(CommandError::with(config::messages::NO_SUCH_RESOURCE, format!("name, {name}")));
                }
                services
            }
        };
        services.into_iter().for_each(|id| self.engine.flush_surge_queue(ServiceId(id)));
        Ok(String::new())
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
        for line in self.lines_to_save() {
            text.push_str(&line);
            text.push('\n');
        }
        self.effects.push_back(Effect::StoreConfig { request, text });
    }

    /// Answer to `Effect::StoreConfig`.
    pub fn handle_config_stored(&mut self, now: Instant, request: u64, result: Result<(), String>) {
        self.begin(now);
        let (text, ok) = match result {
            Ok(()) => (String::new(), true),
            Err(why) => (format!("ERROR: The configuration could not be saved: {why}"), false),
        };
        self.sync.note_saved(ok);
        if !ok {
            self.event(Level::Warn, text.clone());
        }
        if request != 0 {
            self.reply(Reply { request, text, ok, last: true });
        }
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

/// A refusal of the election as the market words it.
fn refused(refusal: Refusal) -> CommandError {
    CommandError::new(Message { code: refusal.code(), text: refusal.text() })
}
