//! Changes of monitors.

use super::{Applied, exists, missing};
use crate::command::Command;
use crate::config::Config;
use crate::error::{CommandError, messages};
use crate::lines::{self, Style};
use crate::monitor::{Monitor, MonitorKind, check_line};
use crate::options::Options as _;

pub(super) fn add(config: &mut Config, c: &Command) -> Applied {
    let name = c.name(0);
    if config.monitor(name).is_some() {
        return Err(exists("monitorName", name));
    }
    let word = c.name(1);
    let kind = MonitorKind::of_word(word);
    let kind = kind.ok_or_else(|| CommandError::about(messages::INVALID_VALUE, "type", word))?;
    let monitor = changed(Monitor::new(name, kind), c)?;
    config.monitors.insert(name, monitor);
    Ok(())
}

fn find<'a>(config: &'a mut Config, c: &Command) -> Result<&'a mut Monitor, CommandError> {
    let name = c.name(0);
    if Monitor::built_in().iter().any(|m| m.name == name) {
        return Err(CommandError::with(messages::NAME_RESERVED, name));
    }
    let monitor = config.monitors.get_mut(name).ok_or_else(|| missing("monitorName", name))?;
    match c.text(1) {
        Some(kind) if kind != monitor.kind.word() => Err(CommandError::about(messages::INVALID_ARGUMENT, "type", kind)),
        Some(_) | None => Ok(monitor),
    }
}

/// The monitor with the settings of a command, if that is one that can be.
fn changed(mut monitor: Monitor, c: &Command) -> Result<Monitor, CommandError> {
    for (opt, _) in &c.opts {
        monitor.kind.check_option(opt.name)?;
    }
    if !c.row.clears && c.flag("encrypted") && !c.flag("password") {
        return Err(CommandError::with(messages::ARGUMENT_MISSING, "password"));
    }
    monitor.put_all(c);
    monitor.check()?;
    // Quotes and backslashes take more room when they are written than when they were typed.
    check_line(&c.canonical(), &monitor.name)?;
    check_line(&lines::monitor(&monitor, Style::File), &monitor.name)?;
    Ok(monitor)
}

pub(super) fn set(config: &mut Config, c: &Command) -> Applied {
    let place = find(config, c)?;
    *place = changed(place.clone(), c)?;
    Ok(())
}

pub(super) fn rm(config: &mut Config, c: &Command) -> Applied {
    let name = find(config, c)?.name.clone();
    let services = config.services.iter().filter(|service| service.group.is_none());
    let mut users = services.chain(config.groups.iter().map(|group| &group.pattern));
    if let Some(user) = users.find(|s| s.monitors.iter().any(|b| b.monitor == name)) {
        return Err(CommandError::about(messages::IN_USE, "monitorName", &format!("{name}, {}", user.name)));
    }
    config.monitors.remove(&name);
    Ok(())
}

pub(super) fn enable(config: &mut Config, c: &Command, on: bool) -> Applied {
    find(config, c)?.enabled = on;
    Ok(())
}
