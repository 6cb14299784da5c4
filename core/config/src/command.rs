//! A command that was read: a row of the table with its values.

use core::net::IpAddr;

use crate::table::{Change, Effect, Opt, Row};
use crate::value::{Type, Value};

/// What the node must do about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes the configuration: [`Config::apply`](crate::Config::apply).
    Change {
        /// It belongs to this node alone and does not travel to the peer, whatever the
        /// settings ([`Config::keeps_to_itself`](crate::Config::keeps_to_itself) knows those).
        node_local: bool,
    },
    /// Prints something: [`show`](crate::show).
    Show,
    /// Asks the node to act.
    Action(Action),
}

/// What a command can ask of the node itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `force HA failover`.
    ForceFailover {
        /// Without asking back.
        force: bool,
    },
    /// `force HA sync`.
    ForceSync {
        /// Whatever `-haSync` says.
        force: bool,
        /// The secondary saves what it has taken over.
        save: bool,
    },
    /// `sync HA files`.
    SyncFiles,
    /// `save ns config`.
    SaveConfig,
    /// `clear lb persistentSessions`: [`Command::session_scope`] says which.
    ClearSessions,
    /// `flush ns surgeQ`: [`Command::flushed`] says whose.
    FlushSurgeQueue,
    /// `quit`, `exit`.
    Quit,
}

/// A command, checked for its form: words, types, ranges. Names are not looked up.
#[derive(Clone, Debug)]
pub struct Command {
    pub(crate) row: &'static Row,
    /// One entry per argument of the row.
    pub(crate) args: Vec<Option<Value>>,
    /// Given options in the order of the row.
    pub(crate) opts: Vec<(&'static Opt, Value)>,
}

impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        let names = |c: &Command| c.opts.iter().map(|(o, v)| (o.name, v.clone())).collect::<Vec<_>>();
        core::ptr::eq(self.row, other.row) && self.args == other.args && names(self) == names(other)
    }
}

impl Eq for Command {}

impl Command {
    /// What to do about it.
    pub fn kind(&self) -> Kind {
        match self.row.effect {
            Effect::Shared(_) => Kind::Change { node_local: false },
            Effect::Local(_) => Kind::Change { node_local: true },
            Effect::Show(_) => Kind::Show,
            Effect::Act(Action::ForceFailover { .. }) => {
                Kind::Action(Action::ForceFailover { force: self.flag("force") })
            }
            Effect::Act(Action::ForceSync { .. }) => Kind::Action(Action::ForceSync {
                force: self.flag("force"),
                save: self.option("save").and_then(Value::as_word) == Some("YES"),
            }),
            Effect::Act(
                action @ (Action::SyncFiles
                | Action::SaveConfig
                | Action::ClearSessions
                | Action::FlushSurgeQueue
                | Action::Quit),
            ) => Kind::Action(action),
        }
    }

    /// The command in full words with its values, in the order of the table.
    ///
    /// Passwords are written in clear: this is for the journal and the file, not for logs
    /// (see [`Command::redacted`]). Reading it back gives an equal command.
    pub fn canonical(&self) -> String {
        self.written(false)
    }

    /// As [`Command::canonical`], with passwords replaced; for logs.
    pub fn redacted(&self) -> String {
        self.written(true)
    }

    /// The same with a monitor's password in clear, if `open` knows what it was closed as.
    pub fn with_open_password(&self, open: impl FnOnce(&str) -> Option<String>) -> Command {
        let mut command = self.clone();
        let of_monitor = [Effect::Shared(Change::AddMonitor), Effect::Shared(Change::SetMonitor)];
        if of_monitor.contains(&self.row.effect)
            && self.flag("encrypted")
            && let Some(clear) = self.option("password").and_then(Value::as_text).and_then(open)
        {
            command.opts.retain(|(opt, _)| !opt.name.starts_with("encrypt"));
            let password = command.opts.iter_mut().find(|(opt, _)| opt.name == "password");
            password.into_iter().for_each(|(_, value)| *value = Value::Text(clear.clone()));
        }
        command
    }

    /// `rm HA node`.
    pub fn ends_pair(&self) -> bool {
        self.row.effect == Effect::Local(Change::RmHaNode)
    }

    /// `show ns connectiontable`: the rows come from the node in slices, so the node must know.
    pub fn is_connection_table(&self) -> bool {
        self.row.effect == Effect::Show(crate::table::View::ConnectionTable)
    }

    /// The filter and options of `show ns connectiontable`, as typed.
    pub fn connection_filter(&self) -> Option<&str> {
        if self.is_connection_table() { self.text(0) } else { None }
    }

    /// `-name` of `flush ns surgeQ`.
    pub fn flushed(&self) -> Option<&str> {
        self.option("name").and_then(Value::as_text)
    }

    /// `-ntimes` of a `stat` command: how often a console shows it, every seven seconds; 0: without end.
    pub fn times(&self) -> u64 {
        self.option("ntimes").and_then(Value::as_number).unwrap_or(1)
    }

    /// `-clearstats` of a `stat` command: once shown, the counters begin anew.
    pub fn clears_counters(&self) -> bool {
        self.flag("clearstats")
    }

    fn written(&self, redact: bool) -> String {
        let mut line = self.row.title();
        for (arg, value) in self.row.args.iter().zip(&self.args) {
            let Some(value) = value else { continue };
            line.push(' ');
            let raw = value.as_text().filter(|_| matches!(arg.kind, Type::Rest));
            line.push_str(&raw.map_or_else(|| value.text(), str::to_owned));
        }
        for (opt, value) in &self.opts {
            line.push_str(" -");
            line.push_str(opt.name);
            if self.row.clears || *value == Value::Flag {
                continue;
            }
            line.push(' ');
            line.push_str(&value.shown(&opt.kind, redact));
        }
        line
    }

    /// The argument at a position, as text.
    pub(crate) fn text(&self, at: usize) -> Option<&str> {
        let value = self.arg(at)?;
        value.as_text().or(value.as_word())
    }

    /// The name at a position that the table requires.
    pub(crate) fn name(&self, at: usize) -> &str {
        self.text(at).unwrap_or_default()
    }

    /// The argument at a position.
    pub(crate) fn arg(&self, at: usize) -> Option<&Value> {
        self.args.get(at)?.as_ref()
    }

    /// The address at a position, with its prefix length if it has one.
    pub(crate) fn network(&self, at: usize) -> Option<(IpAddr, Option<u8>)> {
        self.arg(at)?.as_network()
    }

    /// The value of an option.
    pub(crate) fn option(&self, name: &str) -> Option<&Value> {
        self.opts.iter().find(|(o, _)| o.name == name).map(|(_, v)| v)
    }

    /// Whether an option without value was given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.option(name).is_some()
    }
}
