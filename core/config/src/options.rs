//! Options of the table as fields of the objects: one getter and one setter per object.
//!
//! The setters check nothing: the parser checked the form, and `check` sees the finished object.

use core::net::{IpAddr, SocketAddr};

use crate::command::Command;
use crate::model::{
    ConnFailover, HaSettings, HaStatus, Hook, Interface, IpKind, LbVserver, Method, MirrorMode, NsIp, Persistence,
    Redirection, RpcNode, Server, Service,
};
use crate::monitor::{DnsRecords, Monitor, codes_of, codes_text};
use crate::value::Value;

/// How closed passwords are closed.
const ENCRYPT_METHOD_WORD: &str = "ENCMTHD_3";

/// An object whose settings are options of the table.
pub(crate) trait Options {
    /// The value of an option; `None` if it has none or is unknown to the object.
    fn get(&self, option: &str) -> Option<Value>;
    /// Takes a value; `None` puts a setting without a default of its own back to nothing.
    fn put(&mut self, option: &str, value: Option<&Value>);

    /// Takes over every option of a command: values, or for `unset` the defaults.
    fn put_all(&mut self, command: &Command) {
        for (opt, value) in &command.opts {
            match command.row.clears {
                true => self.put(opt.name, opt.default_value().as_ref()),
                false => self.put(opt.name, Some(value)),
            }
        }
    }
}

fn word(value: Option<&Value>) -> &'static str {
    value.and_then(Value::as_word).unwrap_or_default()
}

fn is_on(value: Option<&Value>) -> bool {
    matches!(word(value), "ENABLED" | "YES" | "ON")
}

fn num(value: Option<&Value>) -> Option<u64> {
    value.and_then(Value::as_number)
}

/// Seconds, milliseconds and counts: the table keeps every range within 32 bits.
fn num32(value: Option<&Value>) -> Option<u32> {
    num(value).map(|n| u32::try_from(n).unwrap_or(u32::MAX))
}

fn num8(value: Option<&Value>, otherwise: u8) -> u8 {
    num(value).and_then(|n| u8::try_from(n).ok()).unwrap_or(otherwise)
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_text).unwrap_or_default().to_owned()
}

fn addr(value: Option<&Value>) -> Option<IpAddr> {
    value.and_then(Value::as_network).map(|(addr, _)| addr)
}

fn enabled(on: bool) -> Option<Value> {
    Some(Value::Word(if on { "ENABLED" } else { "DISABLED" }))
}

fn on_off(on: bool) -> Option<Value> {
    Some(Value::Word(if on { "ON" } else { "OFF" }))
}

fn yes_no(on: bool) -> Option<Value> {
    Some(Value::Word(if on { "YES" } else { "NO" }))
}

fn number(n: impl Into<u64>) -> Option<Value> {
    Some(Value::Number(n.into()))
}

impl Options for NsIp {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "type" => Some(Value::Word(self.kind.word())),
            "arp" if self.addr.is_ipv4() => enabled(self.arp),
            "nd" if self.addr.is_ipv6() => enabled(self.arp),
            "icmp" => enabled(self.icmp),
            "state" => enabled(self.enabled),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "type" => self.kind = if word(value) == "VIP" { IpKind::Vip } else { IpKind::Snip },
            "arp" | "nd" => self.arp = is_on(value),
            "icmp" => self.icmp = is_on(value),
            "state" => self.enabled = is_on(value),
            _ => {}
        }
    }
}

impl Options for Server {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "state" => enabled(self.enabled),
            "comment" => Some(Value::Text(self.comment.clone())),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "state" => self.enabled = is_on(value),
            "comment" => self.comment = text(value),
            "IPAddress" => self.addr = addr(value).unwrap_or(self.addr),
            _ => {}
        }
    }
}

impl Options for Service {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "usip" => yes_no(self.usip),
            "useproxyport" => yes_no(self.use_proxy_port),
            "maxClient" => number(self.max_clients),
            "sp" => on_off(self.surge_protection),
            "TCPB" => yes_no(self.tcp_buffering),
            "cltTimeout" => self.client_timeout.and_then(number),
            "svrTimeout" => self.server_timeout.and_then(number),
            "healthMonitor" => yes_no(self.health_monitor),
            "monThreshold" => number(self.monitor_threshold),
            "hashId" => self.hash_id.and_then(number),
            "state" => enabled(self.enabled),
            "comment" => Some(Value::Text(self.comment.clone())),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "usip" => self.usip = is_on(value),
            "useproxyport" => self.use_proxy_port = is_on(value),
            "maxClient" => self.max_clients = num32(value).unwrap_or(0),
            "sp" => self.surge_protection = is_on(value),
            "TCPB" => self.tcp_buffering = is_on(value),
            "cltTimeout" => self.client_timeout = num32(value),
            "svrTimeout" => self.server_timeout = num32(value),
            "healthMonitor" => self.health_monitor = is_on(value),
            "monThreshold" => self.monitor_threshold = num32(value).unwrap_or(0),
            "hashId" => self.hash_id = num32(value),
            "state" => self.enabled = is_on(value),
            "comment" => self.comment = text(value),
            _ => {}
        }
    }
}

impl Options for LbVserver {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "IPPattern" => self.pattern.map(|p| Value::Address(Some(p.pattern.into()))),
            "IPMask" => self.pattern.map(|p| Value::Address(Some(p.mask.into()))),
            "persistenceType" => Some(Value::Word(self.persistence.word())),
            "timeout" => number(self.persistence_timeout),
            "persistMask" => Some(Value::Mask(self.persist_mask)),
            "v6persistmasklen" => number(self.v6_persist_mask_len),
            "lbMethod" => Some(Value::Word(self.method.word())),
            "m" => Some(Value::Word(self.redirection.word())),
            "sessionless" => enabled(self.sessionless),
            "netmask" => Some(Value::Mask(self.hash_mask)),
            "v6netmasklen" => number(self.v6_hash_mask_len),
            "backupLBMethod" => Some(Value::Word(self.backup.word())),
            "connFailover" => Some(Value::Word(self.failover.word())),
            "closeOnResponse" => enabled(self.close_on_response),
            "backupVServer" | "healthThreshold" | "soMethod" | "soThreshold" | "soBackupAction" => {
                self.spill.get(option)
            }
            "cltTimeout" => self.client_timeout.and_then(number),
            "state" => enabled(self.enabled),
            "comment" => Some(Value::Text(self.comment.clone())),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "IPAddress" => self.addr = addr(value),
            "persistenceType" => self.persistence = persistence(word(value)),
            "timeout" => self.persistence_timeout = num(value).and_then(|n| u16::try_from(n).ok()).unwrap_or(2),
            "persistMask" => self.persist_mask = num8(value, 32),
            "v6persistmasklen" => self.v6_persist_mask_len = num8(value, 128),
            "lbMethod" => self.method = method(word(value)),
            "m" => self.redirection = redirection(word(value)),
            "sessionless" => self.sessionless = is_on(value),
            "netmask" => self.hash_mask = num8(value, 32),
            "v6netmasklen" => self.v6_hash_mask_len = num8(value, 128),
            "backupLBMethod" => self.backup = method(word(value)),
            "connFailover" => self.failover = failover(word(value)),
            "closeOnResponse" => self.close_on_response = is_on(value),
            "backupVServer" | "healthThreshold" | "soMethod" | "soThreshold" | "soBackupAction" => {
                self.spill.put(option, value);
            }
            "cltTimeout" => self.client_timeout = num32(value),
            "state" => self.enabled = is_on(value),
            "comment" => self.comment = text(value),
            _ => {}
        }
    }
}

impl Options for Monitor {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "interval" => Some(Value::Millis(self.interval_ms.into())),
            "resptimeout" => Some(Value::Millis(self.resp_timeout_ms.into())),
            "retries" => number(self.retries),
            "failureRetries" => number(self.failure_retries),
            "successRetries" => number(self.success_retries),
            "downTime" => Some(Value::Millis(self.down_time_ms.into())),
            "destIP" => self.dest_ip.map(|a| Value::Address(Some(a))),
            "destPort" => self.dest_port.map(|p| Value::Port(Some(p))),
            "reverse" => yes_no(self.reverse),
            "secure" if self.kind.only_for("secure").is_some() => None,
            "secure" => yes_no(self.secure),
            "state" => enabled(self.enabled),
            "respCode" => self.kind.codes().map(|codes| Value::List(codes.iter().map(codes_text).collect())),
            "queryType" => self.kind.question().map(|question| Value::Word(question.records.word())),
            "IPAddress" => {
                let addresses = self.kind.question().map(|question| &question.addresses).filter(|all| !all.is_empty());
                addresses.map(|all| Value::List(all.iter().map(IpAddr::to_string).collect()))
            }
            "encrypted" => self.kind.login().filter(|login| login.encrypted).map(|_| Value::Flag),
            "encryptmethod" => {
                self.kind.login().filter(|login| login.encrypted).map(|_| Value::Word(ENCRYPT_METHOD_WORD))
            }
            text => self.kind.text(text).filter(|text| !text.is_empty()).map(|text| Value::Text(text.clone())),
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "interval" => self.interval_ms = num32(value).unwrap_or(self.interval_ms),
            "resptimeout" => self.resp_timeout_ms = num32(value).unwrap_or(self.resp_timeout_ms),
            "retries" => self.retries = num8(value, 3),
            "failureRetries" => self.failure_retries = num8(value, 0),
            "successRetries" => self.success_retries = num8(value, 1),
            "downTime" => self.down_time_ms = num32(value).unwrap_or(self.down_time_ms),
            "destIP" => self.dest_ip = addr(value),
            "destPort" => self.dest_port = value.and_then(Value::as_port),
            "reverse" => self.reverse = is_on(value),
            "secure" => self.secure = is_on(value),
            "state" => self.enabled = is_on(value),
            "respCode" => self.kind.set_codes(codes_of(list(value))),
            "queryType" | "IPAddress" => put_question(self, option, value),
            "password" | "encrypted" => put_password(self, option, value),
            "encryptmethod" => {}
            option => {
                if let Some(place) = self.kind.text_mut(option) {
                    *place = text(value);
                }
            }
        }
    }
}

/// A password is in clear, unless the word behind it says that it is not.
fn put_password(monitor: &mut Monitor, option: &str, value: Option<&Value>) {
    let Some(login) = monitor.kind.login_mut() else { return };
    match option {
        "password" => (login.password, login.encrypted) = (text(value), false),
        _ => login.encrypted |= value.is_some(),
    }
}

fn put_question(monitor: &mut Monitor, option: &str, value: Option<&Value>) {
    let Some(question) = monitor.kind.question_mut() else { return };
    match option {
        "queryType" => {
            let records = DnsRecords::ALL.into_iter().find(|records| records.word() == word(value));
            question.records = records.unwrap_or_default();
        }
        // What is no address was refused before.
        _ => question.addresses = list(value).iter().filter_map(|addr| addr.parse().ok()).collect(),
    }
}

fn list(value: Option<&Value>) -> &[String] {
    value.map(Value::as_list).unwrap_or_default()
}

/// Members of a witness at most.
const MAX_WITNESS_MEMBERS: usize = 8;

/// The members of a witness, as `set HA node -witness` names them.
pub(crate) fn witness_list(text: &str) -> Option<Vec<SocketAddr>> {
    let one = |url: &str| {
        let place = url.strip_prefix("http://")?;
        let member: SocketAddr = place.strip_suffix('/').unwrap_or(place).parse().ok()?;
        let names_a_host = member.port() != 0 && !member.ip().is_unspecified() && !member.ip().is_multicast();
        names_a_host.then_some(member)
    };
    let list: Option<Vec<SocketAddr>> = text.split(',').map(one).collect();
    list.filter(|list| list.len() <= MAX_WITNESS_MEMBERS)
}

/// The same in words.
pub(crate) fn witness_text(list: &[SocketAddr]) -> String {
    list.iter().map(|member| format!("http://{member}")).collect::<Vec<_>>().join(",")
}

impl Options for HaSettings {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "haStatus" => Some(Value::Word(self.status.word())),
            "helloInterval" => number(self.hello_ms),
            "deadInterval" => Some(Value::Millis(self.dead_ms.into())),
            "mirrorMode" => Some(Value::Word(self.mirror_mode.word())),
            "holdLimit" => number(self.hold_limit_ms),
            "haSync" => enabled(self.sync),
            "haProp" => enabled(self.propagation),
            "inc" => enabled(self.inc),
            "failSafe" => on_off(self.fail_safe),
            "maxFlips" => number(self.max_flips),
            "maxFlipTime" => number(self.max_flip_time_s),
            "syncvlan" => self.sync_vlan.and_then(number),
            "witness" => {
                Some(&self.witness).filter(|list| !list.is_empty()).map(|list| Value::Text(witness_text(list)))
            }
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "haStatus" => self.status = status(word(value)),
            "haSync" => self.sync = is_on(value),
            "haProp" => self.propagation = is_on(value),
            "inc" => self.inc = is_on(value),
            "helloInterval" => self.hello_ms = num32(value).unwrap_or(self.hello_ms),
            "deadInterval" => self.dead_ms = num32(value).unwrap_or(self.dead_ms),
            "holdLimit" => self.hold_limit_ms = num32(value).unwrap_or(self.hold_limit_ms),
            "failSafe" => self.fail_safe = is_on(value),
            "maxFlips" => self.max_flips = num32(value).unwrap_or(0),
            "maxFlipTime" => self.max_flip_time_s = num32(value).unwrap_or(0),
            // What is not understood was refused before.
            "witness" => self.witness = value.and_then(Value::as_text).and_then(witness_list).unwrap_or_default(),
            "syncvlan" => self.sync_vlan = num(value).and_then(|n| u16::try_from(n).ok()),
            "mirrorMode" => {
                self.mirror_mode = if word(value) == "ASYNC" { MirrorMode::Async } else { MirrorMode::Strict };
            }
            _ => {}
        }
    }
}

impl Options for Interface {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "device" => Some(Value::Text(self.device.clone())),
            "haMonitor" => on_off(self.ha_monitor),
            "haHeartbeat" => on_off(self.ha_heartbeat),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "device" => self.device = text(value),
            "haMonitor" => self.ha_monitor = is_on(value),
            "haHeartbeat" => self.ha_heartbeat = is_on(value),
            _ => {}
        }
    }
}

impl Options for Hook {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "command" => Some(Value::Text(self.command.clone())),
            "timeout" => Some(Value::Millis(self.timeout_ms.into())),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "command" => self.command = text(value),
            "timeout" => self.timeout_ms = num32(value).unwrap_or(self.timeout_ms),
            _ => {}
        }
    }
}

impl Options for RpcNode {
    fn get(&self, option: &str) -> Option<Value> {
        match option {
            "password" if self.password.is_empty() => None,
            "password" => Some(Value::Text(self.password.clone())),
            "encrypted" => self.encrypted.then_some(Value::Flag),
            "encryptmethod" => self.encrypted.then_some(Value::Word(ENCRYPT_METHOD_WORD)),
            "srcIP" => Some(Value::Address(self.src_ip)),
            "secure" => Some(Value::Word(if self.secure { "ON" } else { "OFF" })),
            _ => None,
        }
    }

    fn put(&mut self, option: &str, value: Option<&Value>) {
        match option {
            "password" => self.password = text(value),
            "srcIP" => self.src_ip = addr(value),
            "secure" => self.secure = is_on(value),
            _ => {}
        }
    }
}

fn method(word: &str) -> Method {
    Method::ALL.into_iter().find(|m| m.word() == word).unwrap_or_default()
}

fn persistence(word: &str) -> Persistence {
    let all = [Persistence::SourceIp, Persistence::DestIp, Persistence::SrcIpDestIp];
    all.into_iter().find(|p| p.word() == word).unwrap_or_default()
}

fn redirection(word: &str) -> Redirection {
    Redirection::ALL.into_iter().find(|m| m.word() == word).unwrap_or_default()
}

fn failover(word: &str) -> ConnFailover {
    ConnFailover::ALL.into_iter().find(|f| f.word() == word).unwrap_or_default()
}

fn status(word: &str) -> HaStatus {
    let all = [HaStatus::Enabled, HaStatus::StaySecondary, HaStatus::StayPrimary, HaStatus::Disabled];
    all.into_iter().find(|s| s.word() == word).unwrap_or_default()
}
