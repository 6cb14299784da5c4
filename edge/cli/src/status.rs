//! `holdfast status`: one screen, and an exit status for scripts.

use crate::client::{Client, Outcome};
use crate::print::{print_error, print_text};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How well things are. The number is the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// All as configured.
    Good = 0,
    /// It serves, but something that is configured is missing.
    Degraded = 1,
    /// It does not serve.
    Bad = 2,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Degraded => "degraded",
            Verdict::Bad => "bad",
        }
    }
}

/// The verdict, and a sentence for each thing that spoils it.
pub struct Summary {
    /// The worst finding.
    pub verdict: Verdict,
    /// Why.
    pub reasons: Vec<String>,
}

/// Asks the node and prints the screen; returns the exit status.
pub fn run(client: &mut Client, json: bool) -> Result<u8> {
    let mut answers = [Value::Null, Value::Null];
    for (answer, line) in answers.iter_mut().zip(["show ha node", "show lb vserver"]) {
        let (outcome, text) = client.ask(line, true)?;
        if outcome == Outcome::Failed {
            print_error(&text);
            return Ok(Verdict::Bad as u8);
        }
        *answer = serde_json::from_str(&text).with_context(|| format!("`{line}` did not answer in JSON"))?;
    }
    let [nodes, vservers] = [list(&answers[0], "hanode"), list(&answers[1], "lbvserver")];
    let summary = judge(nodes, vservers);
    if json {
        let text = json!({
            "verdict": summary.verdict.word(), "reasons": summary.reasons, "hanode": nodes, "lbvserver": vservers,
        });
        print_text(&text.to_string());
    } else {
        print_text(&screen(nodes, vservers, &summary));
    }
    Ok(summary.verdict as u8)
}

fn list<'a>(answer: &'a Value, key: &str) -> &'a [Value] {
    answer.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A field as text, whatever its type; empty if it is missing.
fn text(object: &Value, key: &str) -> String {
    match object.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

fn number(object: &Value, key: &str) -> u64 {
    text(object, key).parse().unwrap_or(0)
}

/// What is wrong, and how badly.
pub fn judge(nodes: &[Value], vservers: &[Value]) -> Summary {
    let mut summary = Summary { verdict: Verdict::Good, reasons: Vec::new() };
    let mut find = |verdict, reason: String| {
        summary.verdict = summary.verdict.max(verdict);
        summary.reasons.push(reason);
    };
    if let Some(own) = nodes.first() {
        let (role, state) = (text(own, "state"), text(own, "hastatus"));
        if !matches!(role.as_str(), "Primary" | "Secondary") {
            find(Verdict::Bad, format!("this node is neither primary nor secondary: {role}"));
        }
        if state != "UP" {
            find(Verdict::Degraded, format!("this node is {state}"));
        }
        if role == "Secondary" && text(own, "caughtup") != "true" {
            find(Verdict::Degraded, "this node has not caught up with its peer".to_owned());
        }
        if !text(own, "downifaces").is_empty() {
            find(Verdict::Degraded, format!("data ports down: {}", text(own, "downifaces")));
        }
        if text(own, "routemonitorstate").contains("DOWN") {
            find(Verdict::Degraded, "a monitored route does not work; see show HA node".to_owned());
        }
        let (flows, room) = (number(own, "flows"), number(own, "maxflows"));
        if room > 0 && flows >= room - room / 10 {
            find(Verdict::Degraded, format!("the flow table is almost full: {flows} of {room} flows (--max-flows)"));
        }
        if nodes.len() > 1 && number(own, "unprotectedflows") > 0 {
            find(Verdict::Degraded, format!("{} flows are unprotected", text(own, "unprotectedflows")));
        }
    } else {
        find(Verdict::Bad, "the node tells nothing about itself".to_owned());
    }
    for node in nodes.iter().filter(|node| text(node, "hasync") == "FAILED") {
        let (who, why) = (text(node, "ipaddress"), text(node, "hasyncfailurereason"));
        find(Verdict::Degraded, format!("the configuration of {who} is not the primary's: {why}"));
    }
    for peer in nodes.iter().skip(1) {
        let (state, channel) = (text(peer, "hastatus"), text(peer, "peerchannel"));
        if text(peer, "ready") == "false" {
            let why = "it stays secondary, is not healthy, is ending, or its disk does not answer";
            find(Verdict::Degraded, format!("peer {} cannot lead: {why}", text(peer, "ipaddress")));
        }
        if state != "UP" || channel != "UP" {
            find(Verdict::Degraded, format!("peer {} is {state}, channel {channel}", text(peer, "ipaddress")));
        }
    }
    for vserver in vservers.iter().filter(|vserver| text(vserver, "state") != "DISABLED") {
        let (up, all) = (number(vserver, "activeservices"), number(vserver, "totalservices"));
        let name = text(vserver, "name");
        if text(vserver, "curstate") != "UP" {
            find(Verdict::Bad, format!("vserver {name} is {}", text(vserver, "curstate")));
        } else if up < all {
            find(Verdict::Degraded, format!("vserver {name}: {} of {all} services are down", all - up));
        }
    }
    summary
}

fn screen(nodes: &[Value], vservers: &[Value], summary: &Summary) -> String {
    let mut out = format!("Holdfast is {}.\n", summary.verdict.word());
    for reason in &summary.reasons {
        let _ = writeln!(out, "  - {reason}");
    }
    for (at, node) in nodes.iter().enumerate() {
        let who = if at == 0 { "This node" } else { "Peer" };
        let facts = ["ipaddress", "name", "hastatus", "state"].map(|key| text(node, key));
        let caught_up = if text(node, "caughtup") == "true" { ", caught up" } else { "" };
        let _ = writeln!(out, "\n{who}: {}, term {}{caught_up}", facts.join(" "), text(node, "term"));
        if at == 0 {
            let _ = writeln!(
                out,
                "  flows {}: protected {}, unprotected {}; held packets {}, unacknowledged records {}, mirror lag {} us",
                text(node, "flows"),
                text(node, "protectedflows"),
                text(node, "unprotectedflows"),
                text(node, "heldpackets"),
                text(node, "unackedrecords"),
                text(node, "mirrorlagus"),
            );
        }
    }
    if !vservers.is_empty() {
        out.push_str("\nVserver                          State    Services  Failover   Flows     Unprotected\n");
    }
    for vserver in vservers {
        let services = format!("{}/{}", text(vserver, "activeservices"), text(vserver, "totalservices"));
        let _ = writeln!(
            out,
            "{:<32} {:<8} {services:<9} {:<10} {:<9} {}",
            text(vserver, "name"),
            text(vserver, "curstate"),
            text(vserver, "connfailover"),
            text(vserver, "flows"),
            text(vserver, "unprotectedflows"),
        );
    }
    out
}
