//! Views of monitors.

use super::lb::{enabled, yes_no};
use super::{Scene, chosen, numbered};
use crate::error::CommandError;
use crate::json::Json;
use crate::monitor::{DnsQuestion, Monitor, MonitorKind, codes_text};
use crate::value::MASK;

/// Added and built-in monitors that are asked for.
fn chosen_monitors(s: &Scene<'_>) -> Result<Vec<Monitor>, CommandError> {
    let built_in = Monitor::built_in();
    let all: Vec<Monitor> = built_in.iter().chain(s.config.monitors.iter()).cloned().collect();
    Ok(chosen(s, "monitorName", all.iter(), |m| &m.name)?.into_iter().cloned().collect())
}

/// `5 sec`, or `500 msec` if it is not whole seconds.
fn span(ms: u32) -> String {
    if ms.is_multiple_of(1000) { format!("{} sec", ms / 1000) } else { format!("{ms} msec") }
}

pub(super) fn list(s: &Scene<'_>) -> Result<String, CommandError> {
    let mut text = String::new();
    for (i, m) in chosen_monitors(s)?.iter().enumerate() {
        let (head, kind, state) = (numbered(s, i), m.kind.word(), enabled(m.enabled));
        text += &format!("{head}Name.......:{:>14}  Type......:{kind:>10}  State....:{state:>9}\n", m.name);
        let of =
            s.config.services.iter().filter(|x| s.config.effective_monitors(x).iter().any(|(e, _)| e.name == m.name));
        if s.command.text(0).is_none() {
            continue;
        }
        text += &standard_lines(m);
        text += &special_lines(&m.kind);
        for (n, service) in of.enumerate() {
            text += &format!("{})\tService Name: {}\n", n + 1, service.name);
        }
    }
    Ok(text)
}

fn standard_lines(m: &Monitor) -> String {
    let mut text = "Standard parameters:\n".to_owned();
    let interval = span(m.interval_ms);
    text += &format!("  Interval.........:{interval:>15}\tRetries...........:{:>15}\n", m.retries);
    let (timeout, down) = (span(m.resp_timeout_ms), span(m.down_time_ms));
    text += &format!("  Response timeout.:{timeout:>15}\tDown time.........:{down:>15}\n");
    let (reverse, secure) = (yes_no(m.reverse), yes_no(m.secure));
    text += &format!("  Reverse..........:{reverse:>15}\tSecure............:{secure:>15}\n");
    let destination = m.dest_ip.map_or("Bound service".to_owned(), |a| a.to_string());
    let dest_port = m.dest_port.map_or("Bound service".to_owned(), |p| p.to_string());
    text += &format!("  Destination IP...:{destination:>15}\tDestination port..:{dest_port:>15}\n");
    let (success, failure) = (m.success_retries, m.failure_retries);
    text + &format!("  Success retries..:{success:>15}\tFailure retries...:{failure:>15}\n")
}

/// What only some types have; texts as they were typed.
fn special_lines(kind: &MonitorKind) -> String {
    let quoted = |title: &str, text: &str| format!("  {title:.<17}:\"{text}\"\n");
    let lines = match kind {
        MonitorKind::Tcp | MonitorKind::Ping => return String::new(),
        MonitorKind::TcpEcv(of) | MonitorKind::UdpEcv(of) => {
            quoted("Send string", &of.send) + &quoted("Receive string", &of.recv)
        }
        MonitorKind::Http(of) => {
            let codes: Vec<String> = of.codes.iter().map(codes_text).collect();
            let texts = quoted("HTTP request", &of.request) + &quoted("Custom headers", &of.headers);
            texts + &format!("  {:.<17}:{}\n", "Response codes", codes.join(" "))
        }
        MonitorKind::HttpEcv(of) => {
            let texts = quoted("Send string", &of.send) + &quoted("Receive string", &of.recv);
            texts + &quoted("Custom headers", &of.headers)
        }
        MonitorKind::Ftp(of) => {
            let password = if of.password.is_empty() { "" } else { MASK };
            quoted("User name", &of.user) + &quoted("Password", password)
        }
        MonitorKind::Dns(of) | MonitorKind::DnsTcp(of) => {
            let query = quoted("Query string", &of.name);
            query + &format!("  {:.<17}:{}\n", "Query type", of.records.word()) + &expected_line(of)
        }
    };
    format!("Special parameters:\n{lines}")
}

fn expected_line(question: &DnsQuestion) -> String {
    let addresses: Vec<String> = question.addresses.iter().map(|addr| addr.to_string()).collect();
    match addresses.is_empty() {
        true => String::new(),
        false => format!("  {:.<17}:{}\n", "IP addresses", addresses.join(" ")),
    }
}

/// A time and its unit as two keys: whole seconds, else milliseconds.
fn in_units(ms: u32) -> (Json, Json) {
    match ms.is_multiple_of(1000) {
        true => (u64::from(ms / 1000).into(), "SEC".into()),
        false => (u64::from(ms).into(), "MSEC".into()),
    }
}

pub(super) fn list_json(s: &Scene<'_>) -> Result<Json, CommandError> {
    let one = |m: &Monitor| {
        let ((interval, units3), (timeout, units4)) = (in_units(m.interval_ms), in_units(m.resp_timeout_ms));
        let (down, units2) = in_units(m.down_time_ms);
        let mut fields = vec![
            ("monitorname", m.name.clone().into()),
            ("type", m.kind.word().into()),
            ("interval", interval),
            ("units3", units3),
            ("resptimeout", timeout),
            ("units4", units4),
            ("retries", u64::from(m.retries).into()),
            ("failureretries", u64::from(m.failure_retries).into()),
            ("successretries", u64::from(m.success_retries).into()),
            ("downtime", down),
            ("units2", units2),
            ("destip", m.dest_ip.map_or("0.0.0.0".to_owned(), |a| a.to_string()).into()),
            ("destport", u64::from(m.dest_port.unwrap_or(0)).into()),
            ("reverse", yes_no(m.reverse).into()),
            ("secure", yes_no(m.secure).into()),
            ("state", enabled(m.enabled).into()),
        ];
        fields.extend(special_fields(&m.kind));
        Json::Object(fields)
    };
    Ok(Json::List(chosen_monitors(s)?.iter().map(one).collect()))
}

/// What only some types have, without passwords.
fn special_fields(kind: &MonitorKind) -> Vec<(&'static str, Json)> {
    let texts = |all: Vec<String>| Json::List(all.into_iter().map(Json::from).collect());
    match kind {
        MonitorKind::Tcp | MonitorKind::Ping => Vec::new(),
        MonitorKind::TcpEcv(of) | MonitorKind::UdpEcv(of) => {
            vec![("send", of.send.clone().into()), ("recv", of.recv.clone().into())]
        }
        MonitorKind::Http(of) => vec![
            ("httprequest", of.request.clone().into()),
            ("respcode", texts(of.codes.iter().map(codes_text).collect())),
            ("customheaders", of.headers.clone().into()),
        ],
        MonitorKind::HttpEcv(of) => vec![
            ("send", of.send.clone().into()),
            ("recv", of.recv.clone().into()),
            ("customheaders", of.headers.clone().into()),
        ],
        MonitorKind::Ftp(of) => vec![("username", of.user.clone().into())],
        MonitorKind::Dns(of) | MonitorKind::DnsTcp(of) => vec![
            ("query", of.name.clone().into()),
            ("querytype", of.records.word().into()),
            ("ipaddress", texts(of.addresses.iter().map(|addr| addr.to_string()).collect())),
        ],
    }
}
