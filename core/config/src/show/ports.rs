//! Views of data ports and of what belongs to several of them, and of hooks.

use super::Scene;
use crate::error::{CommandError, messages};
use crate::json::Json;
use crate::model::{FailoverSet, Hook, Interface, VirtualRouter};
use crate::value::{Value, seconds_text};

fn on_off(on: bool) -> &'static str {
    if on { "ON" } else { "OFF" }
}

/// Words behind each other, or `None`.
pub(super) fn list(words: &[String]) -> String {
    if words.is_empty() { "None".to_owned() } else { words.join(" ") }
}

fn chosen_interfaces<'a>(s: &Scene<'a>) -> Result<Vec<&'a Interface>, CommandError> {
    super::chosen(s, "id", s.config.interfaces.iter(), |i| &i.id)
}

fn port_state(s: &Scene<'_>, port: &Interface) -> &'static str {
    let node = s.facts.node();
    match (port.enabled, node.ports_up.contains(&port.id), node.ports_down.contains(&port.id)) {
        (false, _, _) => "DISABLED",
        (true, true, _) => "UP",
        (true, false, true) => "DOWN",
        (true, false, false) => "UNKNOWN",
    }
}

pub(super) fn interfaces(s: &Scene<'_>) -> Result<String, CommandError> {
    let mut text = String::new();
    for (i, port) in chosen_interfaces(s)?.into_iter().enumerate() {
        text += &format!("{})\tInterface {} (Device: {})\n", i + 1, port.id, port.device);
        let (monitor, heartbeat) = (on_off(port.ha_monitor), on_off(port.ha_heartbeat));
        text += &format!("\tState: {}  HAMON: {monitor}  HAHEARTBEAT: {heartbeat}\n", port_state(s, port));
        if let Some(router) = s.config.virtual_routers.iter().find(|router| router.interfaces.contains(&port.id)) {
            text += &format!("\tVirtual MAC: {} (vrID {})\n", virtual_mac(router.id), router.id);
        }
    }
    Ok(text)
}

pub(super) fn interfaces_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |port: &Interface| {
        Json::Object(vec![
            ("id", port.id.clone().into()),
            ("devicename", port.device.clone().into()),
            ("state", port_state(s, port).into()),
            ("hamonitor", on_off(port.ha_monitor).into()),
            ("haheartbeat", on_off(port.ha_heartbeat).into()),
        ])
    };
    Ok(Json::List(chosen_interfaces(s)?.into_iter().map(one).collect()))
}

fn chosen_sets<'a>(s: &Scene<'a>) -> Result<Vec<&'a FailoverSet>, CommandError> {
    super::chosen(s, "name", s.config.failover_sets.iter(), |set| &set.name)
}

pub(super) fn failover_sets(s: &Scene<'_>) -> Result<String, CommandError> {
    let mut text = String::new();
    for (i, set) in chosen_sets(s)?.into_iter().enumerate() {
        text += &format!("{})\tFIS: {}\n\tMember Interfaces : {}\n", i + 1, set.name, list(&set.members));
    }
    Ok(text)
}

pub(super) fn failover_sets_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |set: &FailoverSet| {
        Json::Object(vec![("name", set.name.clone().into()), ("ifaces", set.members.join(" ").into())])
    };
    Ok(Json::List(chosen_sets(s)?.into_iter().map(one).collect()))
}

/// 00:00:5e:00:01:id.
fn virtual_mac(id: u8) -> String {
    format!("00:00:5e:00:01:{id:02x}")
}

fn chosen_routers<'a>(s: &Scene<'a>) -> Result<Vec<&'a VirtualRouter>, CommandError> {
    let all = s.config.virtual_routers.iter();
    let Some(id) = s.command.arg(0).and_then(Value::as_number) else { return Ok(all.collect()) };
    let found: Vec<_> = all.filter(|router| u64::from(router.id) == id).collect();
    match found.is_empty() {
        true => Err(CommandError::about(messages::NO_SUCH_RESOURCE, "id", &id.to_string())),
        false => Ok(found),
    }
}

pub(super) fn virtual_routers(s: &Scene<'_>) -> Result<String, CommandError> {
    let mut text = String::new();
    for (i, router) in chosen_routers(s)?.into_iter().enumerate() {
        let (id, mac, interfaces) = (router.id, virtual_mac(router.id), list(&router.interfaces));
        text += &format!("{})\tVRID: {id}\tVMAC: {mac}\tType: STATIC\n\tInterfaces : {interfaces}\n", i + 1);
    }
    Ok(text)
}

pub(super) fn virtual_routers_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |router: &VirtualRouter| {
        Json::Object(vec![
            ("id", u64::from(router.id).into()),
            ("vmac", virtual_mac(router.id).into()),
            ("type", "STATIC".into()),
            ("ifaces", router.interfaces.join(" ").into()),
        ])
    };
    Ok(Json::List(chosen_routers(s)?.into_iter().map(one).collect()))
}

fn chosen_hooks<'a>(s: &Scene<'a>) -> Result<Vec<&'a Hook>, CommandError> {
    super::chosen(s, "name", s.config.hooks.iter(), |hook| &hook.name)
}

pub(super) fn hooks(s: &Scene<'_>) -> Result<String, CommandError> {
    let mut text = String::new();
    for (i, hook) in chosen_hooks(s)?.into_iter().enumerate() {
        let timeout = seconds_text(hook.timeout_ms.into());
        text += &format!("{})\tHook: {}\n\tCommand: {}\n\tTimeout: {timeout} secs\n", i + 1, hook.name, hook.command);
    }
    Ok(text)
}

pub(super) fn hooks_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |hook: &Hook| {
        Json::Object(vec![
            ("name", hook.name.clone().into()),
            ("command", hook.command.clone().into()),
            ("timeout", Json::Millis(hook.timeout_ms.into())),
        ])
    };
    Ok(Json::List(chosen_hooks(s)?.into_iter().map(one).collect()))
}
