//! The one table of commands.
//!
//! A row is data: words, arguments, options with types, ranges and defaults. Parsing,
//! completion, help, defaults, canonical printing, REST names and the reference are all
//! read from it; nothing else in the crate knows how a command is spelled.

mod group;
mod ha;
mod lb;
mod monitor;
mod net;
mod ports;

use crate::command::Action;
use crate::value::Type;

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Changes the configuration that both nodes share.
    Shared(Change),
    /// Changes what belongs to this node alone.
    Local(Change),
    /// Prints something.
    Show(View),
    /// Asks the node to act.
    Act(Action),
}

/// Every change of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    AddIp,
    SetIp,
    UnsetIp,
    RmIp,
    EnableIp,
    DisableIp,
    AddRoute,
    SetRoute,
    RmRoute,
    AddServer,
    SetServer,
    UnsetServer,
    RmServer,
    RenameServer,
    EnableServer,
    DisableServer,
    AddService,
    SetService,
    UnsetService,
    RmService,
    RenameService,
    EnableService,
    DisableService,
    BindService,
    UnbindService,
    AddVserver,
    SetVserver,
    UnsetVserver,
    RmVserver,
    RenameVserver,
    EnableVserver,
    DisableVserver,
    BindVserver,
    UnbindVserver,
    AddMonitor,
    SetMonitor,
    UnsetMonitor,
    RmMonitor,
    EnableMonitor,
    DisableMonitor,
    EnableMode,
    DisableMode,
    EnableFeature,
    DisableFeature,
    SetSurge,
    UnsetSurge,
    AddHaNode,
    SetHaNode,
    UnsetHaNode,
    RmHaNode,
    BindHaNode,
    UnbindHaNode,
    AddHook,
    RmHook,
    SetRpcNode,
    UnsetRpcNode,
    SetNsConfig,
    Ports(PortChange),
    Group(GroupChange),
}

/// Every change of service groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupChange {
    Add,
    Set,
    Unset,
    Rm,
    Rename,
    Enable,
    Disable,
    Bind,
    Unbind,
}

/// Every change of data ports and of what belongs to several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortChange {
    AddInterface,
    SetInterface,
    UnsetInterface,
    RmInterface,
    EnableInterface,
    DisableInterface,
    AddFis,
    RmFis,
    BindFis,
    UnbindFis,
    AddVrid,
    RmVrid,
    BindVrid,
    UnbindVrid,
}

/// What a change is about, as far as it matters whether it travels to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A floating address that is being added.
    NewIp,
    /// A floating address.
    Ip,
    /// A route.
    Route,
    /// Anything else.
    Other,
}

impl Change {
    /// What it is about.
    pub(crate) fn subject(self) -> Subject {
        let ip = [Change::SetIp, Change::UnsetIp, Change::RmIp, Change::EnableIp, Change::DisableIp];
        let route = [Change::AddRoute, Change::SetRoute, Change::RmRoute];
        if self == Change::AddIp {
            Subject::NewIp
        } else if ip.contains(&self) {
            Subject::Ip
        } else if route.contains(&self) {
            Subject::Route
        } else {
            Subject::Other
        }
    }
}

/// Everything that can be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Ip,
    Route,
    Server,
    Service,
    Group,
    Vserver,
    Monitor,
    Mode,
    Feature,
    Surge,
    HaNode,
    RpcNode,
    NsConfig,
    Interface,
    Fis,
    Vrid,
    Hook,
    RunningConfig,
    ConnectionTable,
    PersistentSessions,
    DataPlane,
    Version,
    StatVserver,
    StatService,
    StatGroup,
    StatHaNode,
    Rehearse,
}

/// A positional argument.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arg {
    /// Its name, in errors and help.
    pub name: &'static str,
    /// What it may be.
    pub kind: Type,
    /// It cannot be left out.
    pub required: bool,
    /// Falls away, with this value, behind this option.
    pub unless: Option<(&'static str, &'static str)>,
    /// One line about it.
    pub doc: &'static str,
    /// Its REST name.
    pub json: &'static str,
}

/// An option, `-name value`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// Its name without the dash.
    pub name: &'static str,
    /// What it may be.
    pub kind: Type,
    /// Its value if it is not given, as typed.
    pub default: Option<&'static str>,
    /// It cannot be left out.
    pub required: bool,
    /// Accepted so that the market's files load; only the neutral value is, and it is not kept.
    pub neutral: bool,
    /// Written back even if it has its default, because the default depends on something.
    pub always: bool,
    /// One line about it.
    pub doc: &'static str,
    /// Its REST name.
    pub json: &'static str,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Row {
    /// `add`, `set`, …
    pub verb: &'static str,
    /// Words after the verb; the first of two may be left out.
    pub object: &'static [&'static str],
    /// What it does.
    pub effect: Effect,
    /// Positional arguments.
    pub args: &'static [Arg],
    /// Options.
    pub opts: &'static [Opt],
    /// Options name what is put back to its default, and take no value.
    pub clears: bool,
    /// At least one option must be given.
    pub needs_option: bool,
    /// One line about it.
    pub doc: &'static str,
    /// REST resource.
    pub nitro: &'static str,
    /// Not in the market's language.
    pub extension: bool,
}

impl Row {
    const fn new(verb: &'static str, object: &'static [&'static str], effect: Effect, doc: &'static str) -> Self {
        Row {
            verb,
            object,
            effect,
            args: &[],
            opts: &[],
            clears: false,
            needs_option: false,
            doc,
            nitro: "",
            extension: false,
        }
    }

    const fn args(self, args: &'static [Arg]) -> Self {
        Row { args, ..self }
    }

    const fn opts(self, opts: &'static [Opt]) -> Self {
        Row { opts, ..self }
    }

    /// The options of a `set` command: at least one.
    const fn sets(self, opts: &'static [Opt]) -> Self {
        Row { opts, needs_option: true, ..self }
    }

    /// The options of an `unset` command: names only, at least one.
    const fn clears(self, opts: &'static [Opt]) -> Self {
        Row { opts, clears: true, needs_option: true, ..self }
    }

    const fn nitro(self, nitro: &'static str) -> Self {
        Row { nitro, ..self }
    }

    const fn extension(self) -> Self {
        Row { extension: true, ..self }
    }

    /// The words of the command.
    pub(crate) fn title(&self) -> String {
        let mut title = self.verb.to_owned();
        for word in self.object {
            title.push(' ');
            title.push_str(word);
        }
        title
    }
}

impl Arg {
    const fn required(name: &'static str, kind: Type, json: &'static str, doc: &'static str) -> Self {
        Arg { name, kind, required: true, unless: None, doc, json }
    }

    const fn optional(name: &'static str, kind: Type, json: &'static str, doc: &'static str) -> Self {
        Arg { name, kind, required: false, unless: None, doc, json }
    }

    const fn unless(self, option: &'static str, value: &'static str) -> Self {
        Arg { unless: Some((option, value)), ..self }
    }
}

impl Opt {
    const fn new(name: &'static str, kind: Type, json: &'static str, doc: &'static str) -> Self {
        Opt { name, kind, default: None, required: false, neutral: false, always: false, doc, json }
    }

    const fn default(self, default: &'static str) -> Self {
        Opt { default: Some(default), ..self }
    }

    const fn required(self) -> Self {
        Opt { required: true, ..self }
    }

    const fn always(self) -> Self {
        Opt { always: true, ..self }
    }

    /// An option of the market of which only the neutral value is accepted.
    const fn neutral(name: &'static str, kind: Type) -> Self {
        Opt { neutral: true, ..Opt::new(name, kind, "", "Accepted with its neutral value only.") }
    }

    /// The default as a value; `None` if there is none.
    pub(crate) fn default_value(&self) -> Option<crate::value::Value> {
        let text = self.default?;
        let value = self.kind.read(self.name, text, None);
        assert!(value.is_ok(), "the default of -{} must be one of its values", self.name);
        value.ok()
    }
}

/// All rows, in the order of the reference.
pub(crate) fn rows() -> impl Iterator<Item = &'static Row> + Clone {
    let lb = lb::ROWS.iter().chain(group::ROWS).chain(monitor::ROWS);
    net::ROWS.iter().chain(ports::ROWS).chain(lb).chain(ha::ROWS)
}

/// The options of the command that makes an object, by its change.
pub(crate) fn options_of(change: Change) -> &'static [Opt] {
    let makes = |row: &&Row| matches!(row.effect, Effect::Shared(c) | Effect::Local(c) if c == change);
    rows().find(makes).map_or(&[], |row| row.opts)
}
