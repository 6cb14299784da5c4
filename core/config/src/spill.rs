//! Spill-over: when another vserver serves in place of one.

use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::model::{ConnFailover, LbVserver};
use crate::options::Options;
use crate::value::Value;

/// Vservers that may stand behind each other.
const MAX_CHAIN: usize = 8;

/// What a vserver has enough of (`-soMethod`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpillMethod {
    /// Nothing.
    #[default]
    None,
    /// Established connections.
    Connection,
    /// The same; its services' `-maxClient` together are the threshold.
    DynamicConnection,
    /// Kilobits a second.
    Bandwidth,
    /// Percent of services that are UP; fewer are too few.
    Health,
}

impl SpillMethod {
    const ALL: [SpillMethod; 5] = [
        SpillMethod::None,
        SpillMethod::Connection,
        SpillMethod::DynamicConnection,
        SpillMethod::Bandwidth,
        SpillMethod::Health,
    ];

    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            SpillMethod::None => "NONE",
            SpillMethod::Connection => "CONNECTION",
            SpillMethod::DynamicConnection => "DYNAMICCONNECTION",
            SpillMethod::Bandwidth => "BANDWIDTH",
            SpillMethod::Health => "HEALTH",
        }
    }
}

/// Who serves in place of a vserver, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spillover {
    /// Name of the vserver that does.
    pub backup: Option<String>,
    /// Percent of services that must be UP, or the vserver is DOWN; 0: one of them.
    pub health_threshold: u8,
    /// What it has enough of.
    pub method: SpillMethod,
    /// How much is enough.
    pub threshold: Option<u32>,
    /// With no backup that can serve it goes on (`-soBackupAction ACCEPT`).
    pub accepts: bool,
}

impl Spillover {
    /// What a vserver without any such setting has.
    pub fn is_none(&self) -> bool {
        *self == Spillover::default()
    }
}

impl Options for Spillover {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "backupVServer" => self.backup.clone().map(Value::Text),
            "healthThreshold" => Some(Value::Number(self.health_threshold.into())),
            "soMethod" => Some(Value::Word(self.method.word())),
            "soThreshold" => self.threshold.map(|n| Value::Number(n.into())),
            "soBackupAction" => Some(Value::Word(if self.accepts { "ACCEPT" } else { "DROP" })),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        let number = value.and_then(Value::as_number).and_then(|n| u32::try_from(n).ok());
        let word = value.and_then(Value::as_word).unwrap_or_default();
        match option {
            "backupVServer" => self.backup = value.and_then(Value::as_text).map(str::to_owned),
            "healthThreshold" => self.health_threshold = number.and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
            "soMethod" => self.method = SpillMethod::ALL.into_iter().find(|m| m.word() == word).unwrap_or_default(),
            "soThreshold" => self.threshold = number,
            "soBackupAction" => self.accepts = word == "ACCEPT",
            _ => {}
        }
    }
}

impl Config {
    /// A vserver and those that serve in its place, in their order.
    pub fn chain<'a>(&'a self, vserver: &'a LbVserver) -> impl Iterator<Item = &'a LbVserver> + 'a {
        let behind = |vserver: &&'a LbVserver| self.vserver(vserver.spill.backup.as_deref()?);
        core::iter::successors(Some(vserver), behind).take(MAX_CHAIN)
    }

    /// Whether a vserver serves in place of another one that is addressed.
    pub fn is_backup(&self, vserver: &LbVserver) -> bool {
        self.vservers().any(|other| other.spill.backup.as_ref() == Some(&vserver.name))
    }

    /// How many of its services are what `up` says is UP makes it UP: as many as its health threshold asks for, at least one.
    pub fn is_up(&self, vserver: &LbVserver, up: impl Fn(&crate::model::Service) -> bool) -> bool {
        let (mut all, mut good) = (0, 0);
        for (service, _) in self.bound_services(vserver) {
            all += 1;
            good += usize::from(up(service));
        }
        good > 0 && good * 100 >= usize::from(vserver.spill.health_threshold) * all
    }
}

/// All rules about a vserver's spill-over, as it would be.
pub(crate) fn possible(config: &Config, vserver: &LbVserver) -> Result<(), CommandError> {
    let spill = &vserver.spill;
    let refuse = |message, what: &str| Err(CommandError::with(message, format!("{what}, {}", vserver.name)));
    let has_part = !spill.is_none() || config.is_backup(vserver);
    if vserver.failover == ConnFailover::Stateless && has_part {
        return refuse(messages::STATELESS_SPILLS, "connFailover");
    }
    match (spill.method, spill.threshold) {
        (SpillMethod::Connection | SpillMethod::Bandwidth | SpillMethod::Health, None | Some(0)) => {
            return refuse(messages::SPILL_THRESHOLD, "soThreshold");
        }
        (SpillMethod::Health, Some(percent)) if percent > 100 => return refuse(messages::ABOVE_MAXIMUM, "soThreshold"),
        (SpillMethod::DynamicConnection, Some(_)) => return refuse(messages::SPILL_NO_THRESHOLD, "soThreshold"),
        _ => {}
    }
    let Some(name) = &spill.backup else { return Ok(()) };
    let Some(backup) = config.vserver(name).filter(|_| *name != vserver.name) else {
        return Err(CommandError::with(messages::NO_SUCH_BACKUP, name.clone()));
    };
    if backup.failover == ConnFailover::Stateless {
        return refuse(messages::STATELESS_SPILLS, "backupVServer");
    }
    if backup.kind != vserver.kind {
        return Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "backupVServer", name));
    }
    // Whoever stands behind the backup must not be this one again.
    match config.chain(backup).any(|other| other.spill.backup.as_ref() == Some(&vserver.name)) {
        true => Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "backupVServer", name)),
        false => Ok(()),
    }
}

/// The rules about one binding: who spills by its services' limits needs them, and a successor that must find the server from
/// the packet alone knows of none.
pub(crate) fn bound(vserver: &LbVserver, service: &crate::model::Service) -> Result<(), CommandError> {
    let dynamic = vserver.spill.method == SpillMethod::DynamicConnection;
    match (dynamic, vserver.failover == ConnFailover::Stateless, service.max_clients) {
        (true, _, 0) => Err(CommandError::with(messages::SPILL_MAX_CLIENT, service.name.clone())),
        (_, true, 1..) => Err(CommandError::with(messages::STATELESS_SPILLS, service.name.clone())),
        _ => Ok(()),
    }
}
