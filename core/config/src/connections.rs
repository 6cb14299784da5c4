//! Rows and filter of `show ns connectiontable`; the node walks its table and asks per row.

use core::net::IpAddr;
use core::time::Duration;
use std::borrow::Cow;

use crate::error::{CommandError, messages};
use crate::json::Json;
use crate::lexer::tokens;
use crate::matching::{begins, nearest};
use crate::model::{ConnFailover, ServiceType};

/// Every word of [`ConnectionRow::state`].
pub const CONNECTION_STATES: [&str; 8] =
    ["SYN_SENT", "SYN_RCVD", "ESTABLISHED", "CLOSE_WAIT", "FIN_WAIT_1", "CLOSING", "TIME_WAIT", "CLOSED"];

/// Longest filter, as in the market's language.
const MAX_FILTER: usize = 255;

/// What the pair knows about a flow (an extension of the market's columns).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowRole {
    /// Ours, of a vserver that is not STATEFUL.
    Local,
    /// Ours, and the peer has acknowledged it.
    Protected,
    /// Ours, and the peer has not acknowledged it.
    Unprotected,
    /// Ours, and a packet of it waits for the peer's acknowledgement.
    Held,
    /// The primary's; we store it.
    Mirrored,
    /// Ours, of a STATEFUL vserver, and of no use to a successor: over, or not yet answered by its server.
    Uncounted,
}

impl FlowRole {
    /// Every role.
    const ALL: [FlowRole; 6] = [
        FlowRole::Local,
        FlowRole::Protected,
        FlowRole::Unprotected,
        FlowRole::Held,
        FlowRole::Mirrored,
        FlowRole::Uncounted,
    ];

    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            FlowRole::Local => "LOCAL",
            FlowRole::Protected => "PROTECTED",
            FlowRole::Unprotected => "UNPROTECTED",
            FlowRole::Held => "HELD",
            FlowRole::Mirrored => "MIRRORED",
            FlowRole::Uncounted => "-",
        }
    }
}

/// One flow: its client side, and its server side as the link.
#[derive(Clone, Debug)]
pub struct ConnectionRow {
    /// The client.
    pub source: IpAddr,
    /// Its port.
    pub source_port: u16,
    /// The vserver's address as the client sees it.
    pub destination: IpAddr,
    /// And port.
    pub destination_port: u16,
    /// Address and port that the server sees.
    pub link_source: (IpAddr, u16),
    /// Address and port of the server.
    pub link_destination: (IpAddr, u16),
    /// What the vserver carries.
    pub kind: ServiceType,
    /// Time since the last packet.
    pub idle: Duration,
    /// The market's state word, one of [`CONNECTION_STATES`].
    pub state: &'static str,
    /// Name of the vserver; empty if unknown.
    pub vserver: String,
    /// Name of the service; empty if unknown.
    pub service: String,
    /// Failover mode of the vserver.
    pub failover: ConnFailover,
    /// What the pair knows about it.
    pub role: FlowRole,
}

/// Which rows, and which columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionFilter {
    /// Any of these, each of which is a list of terms that must all hold. Empty is everything.
    any: Vec<Vec<Term>>,
    /// `-detail LINK`: with the server side.
    pub link: bool,
    /// `-detail NAME`: with the names of vserver and service.
    pub name: bool,
    /// `-detail CONNFAILOVER`: only flows of vservers with connection failover.
    pub connfailover: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: Field,
    op: Op,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    SourceIp,
    DestIp,
    Ip,
    SourcePort,
    DestPort,
    Port,
    IdleTime,
    State,
    ServiceType,
    Service,
    Vserver,
    Role,
    Failover,
}

const FIELDS: &[(&str, Field)] = &[
    ("SOURCEIP", Field::SourceIp),
    ("SRCIP", Field::SourceIp),
    ("SRCIPv6", Field::SourceIp),
    ("DESTIP", Field::DestIp),
    ("DSTIP", Field::DestIp),
    ("DSTIPv6", Field::DestIp),
    ("IP", Field::Ip),
    ("IPv6", Field::Ip),
    ("SOURCEPORT", Field::SourcePort),
    ("SRCPORT", Field::SourcePort),
    ("DESTPORT", Field::DestPort),
    ("DSTPORT", Field::DestPort),
    ("PORT", Field::Port),
    ("IDLETIME", Field::IdleTime),
    ("STATE", Field::State),
    ("TCPSTATE", Field::State),
    ("SVCTYPE", Field::ServiceType),
    ("SERVICE_TYPE", Field::ServiceType),
    ("SVCNAME", Field::Service),
    ("VSVRNAME", Field::Vserver),
    ("LB_VSERVER.NAME", Field::Vserver),
    ("ROLE", Field::Role),
    ("CONNFAILOVER", Field::Failover),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    Between,
    Contains,
    StartsWith,
    EndsWith,
}

const OPS: &[(&str, Op)] = &[
    ("==", Op::Eq),
    ("!=", Op::Ne),
    (">=", Op::Ge),
    ("<=", Op::Le),
    (">", Op::Gt),
    ("<", Op::Lt),
    ("EQ", Op::Eq),
    ("NEQ", Op::Ne),
    ("NE", Op::Ne),
    ("GT", Op::Gt),
    ("LT", Op::Lt),
    ("GE", Op::Ge),
    ("LE", Op::Le),
    ("BETWEEN", Op::Between),
    ("CONTAINS", Op::Contains),
    ("STARTSWITH", Op::StartsWith),
    ("ENDSWITH", Op::EndsWith),
];

impl ConnectionFilter {
    /// Reads what follows `show ns connectiontable`: terms joined by `&&` (binds tighter) and
    /// `||`, in the classic form (`SOURCEIP == 192.0.2.1`) or as expressions
    /// (`CONNECTION.SRCIP.EQ(192.0.2.1)`), then `-detail` with LINK, NAME, CONNFAILOVER, FULL.
    pub fn parse(text: &str) -> Result<Self, CommandError> {
        if text.len() > MAX_FILTER {
            return Err(CommandError::with(messages::STRING_TOO_LONG, "filterexpression"));
        }
        let whole = without_quotes(text)?;
        let (terms, details) = split_details(&whole);
        let terms = without_quotes(terms)?;
        let mut filter = ConnectionFilter::default();
        for word in details.split_whitespace() {
            filter.detail(word)?;
        }
        if !terms.is_empty() {
            let all = |part: &str| part.split("&&").map(term).collect::<Result<Vec<_>, _>>();
            filter.any = terms.split("||").map(all).collect::<Result<_, _>>()?;
        }
        Ok(filter)
    }

    fn detail(&mut self, word: &str) -> Result<(), CommandError> {
        let words = ["LINK", "NAME", "CONNFAILOVER", "FULL"];
        let meant: Vec<&str> = words.into_iter().filter(|w| begins(w, word)).collect();
        match meant.as_slice() {
            ["LINK"] => self.link = true,
            ["NAME"] => self.name = true,
            ["CONNFAILOVER"] => self.connfailover = true,
            ["FULL"] => (self.link, self.name) = (true, true),
            _ => {
                let error = CommandError::about(messages::INVALID_ARGUMENT_VALUE, "detail", word);
                return Err(error.allowing(words.to_vec()));
            }
        }
        Ok(())
    }

    /// Whether a row is asked for.
    pub fn matches(&self, row: &ConnectionRow) -> bool {
        let marked = !self.connfailover || row.failover != ConnFailover::Disabled;
        marked && (self.any.is_empty() || self.any.iter().any(|all| all.iter().all(|t| t.holds(row))))
    }
}

/// The terms, and the words behind `-detail`.
fn split_details(text: &str) -> (&str, &str) {
    let lower = text.to_ascii_lowercase();
    let at = lower.match_indices("-d").map(|(at, _)| at).find(|at| {
        let before = text[..*at].chars().next_back().is_none_or(char::is_whitespace);
        let word = text[*at + 1..].split_whitespace().next().unwrap_or_default();
        before && begins("detail", word)
    });
    match at {
        Some(at) => {
            let (_, words) = text[at..].split_once(char::is_whitespace).unwrap_or((&text[at..], ""));
            (&text[..at], words)
        }
        None => (text, ""),
    }
}

/// What a piece of a filter says without the quotes around all of it: what one word of the operator's shell held
/// comes quoted, with its own quotes escaped. Inner quotes stay.
fn without_quotes(text: &str) -> Result<Cow<'_, str>, CommandError> {
    let text = text.trim();
    if !text.starts_with(['"', '\'']) {
        return Ok(Cow::Borrowed(text));
    }
    match tokens(text)?.as_mut_slice() {
        [word] => Ok(Cow::Owned(core::mem::take(&mut word.text))),
        // Several words: each is a term, or what stands between them.
        _ => Ok(Cow::Borrowed(text)),
    }
}

fn term(text: &str) -> Result<Term, CommandError> {
    let text = &*without_quotes(text)?;
    let bad = || CommandError::about(messages::INVALID_ARGUMENT_VALUE, "filterexpression", text);
    let upper = text.to_ascii_uppercase();
    let parsed = match upper.strip_prefix("CONNECTION.") {
        Some(_) => expression(&text["CONNECTION.".len()..]),
        None => classic(text),
    };
    let term = parsed.ok_or_else(bad)?;
    let wanted = if term.op == Op::Between { 2 } else { 1 };
    let count = term.values.len() == wanted && term.values.iter().all(|v| !v.is_empty());
    if !count || !term.field.takes(term.op, &term.values) {
        return Err(bad());
    }
    let words = term.field.words();
    let value = term.values[0].as_str();
    if words.is_empty() || words.iter().any(|word| word.eq_ignore_ascii_case(value)) {
        return Ok(term);
    }
    let meant = nearest(words.iter().copied(), value);
    let error = CommandError::about(messages::INVALID_ARGUMENT_VALUE, "filterexpression", value);
    Err(error.allowing(words).meaning(meant))
}

/// `SRCIP.EQ(192.0.2.1)`.
fn expression(text: &str) -> Option<Term> {
    let (path, values) = text.strip_suffix(')')?.split_once('(')?;
    let (field, op) = path.rsplit_once('.')?;
    let values = values.split(',').map(unquoted).collect();
    Some(Term { field: find(FIELDS, field)?, op: find(OPS, op)?, values })
}

/// `SOURCEIP == 192.0.2.1`, blanks optional around signs.
fn classic(text: &str) -> Option<Term> {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_.".contains(c)))?;
    let field = find(FIELDS, &text[..end])?;
    let rest = text[end..].trim_start();
    let signs = rest.find(|c: char| !"=!<>".contains(c)).unwrap_or(rest.len());
    let (op, values) = if signs > 0 { rest.split_at(signs) } else { rest.split_once(char::is_whitespace)? };
    let op = find(OPS, op)?;
    let values = match op {
        Op::Between => values.split_whitespace().map(unquoted).collect(),
        Op::Eq | Op::Ne | Op::Gt | Op::Lt | Op::Ge | Op::Le | Op::Contains | Op::StartsWith | Op::EndsWith => {
            vec![unquoted(values)]
        }
    };
    Some(Term { field, op, values })
}

fn unquoted(text: &str) -> String {
    text.trim().trim_matches(|c| c == '"' || c == '\'').to_owned()
}

fn find<T: Copy>(list: &[(&str, T)], word: &str) -> Option<T> {
    list.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, value)| *value)
}

impl Field {
    /// Whether the operator makes sense and the values can be read.
    fn takes(self, op: Op, values: &[String]) -> bool {
        let equality = matches!(op, Op::Eq | Op::Ne);
        let order = equality || matches!(op, Op::Gt | Op::Lt | Op::Ge | Op::Le | Op::Between);
        let text = equality || matches!(op, Op::Contains | Op::StartsWith | Op::EndsWith);
        match self {
            Field::SourceIp | Field::DestIp | Field::Ip => equality && values[0].parse::<IpAddr>().is_ok(),
            Field::SourcePort | Field::DestPort | Field::Port | Field::IdleTime => {
                order && values.iter().all(|v| v.parse::<u64>().is_ok())
            }
            Field::State | Field::ServiceType | Field::Role | Field::Failover => equality,
            Field::Service | Field::Vserver => text,
        }
    }

    /// The only values there are; empty if there are others.
    fn words(self) -> Vec<&'static str> {
        match self {
            Field::State => CONNECTION_STATES.to_vec(),
            Field::ServiceType => ServiceType::SERVED.map(ServiceType::word).to_vec(),
            Field::Role => FlowRole::ALL.map(FlowRole::word).to_vec(),
            Field::Failover => ConnFailover::ALL.map(ConnFailover::word).to_vec(),
            Field::SourceIp
            | Field::DestIp
            | Field::Ip
            | Field::SourcePort
            | Field::DestPort
            | Field::Port
            | Field::IdleTime
            | Field::Service
            | Field::Vserver => Vec::new(),
        }
    }
}

impl Term {
    fn holds(&self, row: &ConnectionRow) -> bool {
        match self.field {
            Field::SourceIp => self.address(&[row.source, row.link_source.0]),
            Field::DestIp => self.address(&[row.destination, row.link_destination.0]),
            Field::Ip => self.address(&[row.source, row.destination, row.link_source.0, row.link_destination.0]),
            Field::SourcePort => self.number(&[row.source_port.into()]),
            Field::DestPort => self.number(&[row.destination_port.into()]),
            Field::Port => self.number(&[row.source_port.into(), row.destination_port.into()]),
            Field::IdleTime => self.number(&[row.idle.as_secs()]),
            Field::State => self.text(row.state),
            Field::ServiceType => self.text(row.kind.word()),
            Field::Service => self.text(&row.service),
            Field::Vserver => self.text(&row.vserver),
            Field::Role => self.text(row.role.word()),
            Field::Failover => self.text(row.failover.word()),
        }
    }

    fn address(&self, addresses: &[IpAddr]) -> bool {
        let wanted = self.values[0].parse::<IpAddr>().ok();
        let hit = addresses.iter().any(|a| Some(*a) == wanted);
        if self.op == Op::Ne { !hit } else { hit }
    }

    fn number(&self, numbers: &[u64]) -> bool {
        let value = |i: usize| self.values.get(i).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        let test = |n: u64| match self.op {
            Op::Eq | Op::Ne => n == value(0),
            Op::Gt => n > value(0),
            Op::Lt => n < value(0),
            Op::Ge => n >= value(0),
            Op::Le => n <= value(0),
            Op::Between => (value(0)..=value(1)).contains(&n),
            Op::Contains | Op::StartsWith | Op::EndsWith => false,
        };
        let hit = numbers.iter().any(|n| test(*n));
        if self.op == Op::Ne { !hit } else { hit }
    }

    fn text(&self, text: &str) -> bool {
        let value = self.values[0].as_str();
        match self.op {
            Op::Eq => text.eq_ignore_ascii_case(value),
            Op::Ne => !text.eq_ignore_ascii_case(value),
            Op::Contains => text.contains(value),
            Op::StartsWith => text.starts_with(value),
            Op::EndsWith => text.ends_with(value),
            Op::Gt | Op::Lt | Op::Ge | Op::Le | Op::Between => false,
        }
    }
}

/// The heading of the table.
pub fn connection_header(filter: &ConnectionFilter) -> String {
    let ends = |prefix: &str| {
        [format!("{prefix}SRCIP"), format!("{prefix}SRCPORT"), format!("{prefix}DSTIP"), format!("{prefix}DSTPORT")]
    };
    let [a, b, c, d] = ends("");
    let mut line = columns(&a, &b, &c, &d) + "  SVCTYPE  IDLTIME  STATE         MIRROR     ";
    if filter.link {
        let [a, b, c, d] = ends("L-");
        line = line + "  " + &columns(&a, &b, &c, &d);
    }
    if filter.name {
        line += "  VSERVER  SERVICE";
    }
    line.trim_end().to_owned()
}

/// A row of the table.
pub fn connection_line(filter: &ConnectionFilter, row: &ConnectionRow) -> String {
    let ends = |source: IpAddr, sport: u16, destination: IpAddr, dport: u16| {
        columns(&source.to_string(), &sport.to_string(), &destination.to_string(), &dport.to_string())
    };
    let mut line = ends(row.source, row.source_port, row.destination, row.destination_port);
    let (kind, idle, role) = (row.kind.word(), row.idle.as_secs(), row.role.word());
    line += &format!("  {kind:<7}  {idle:<7}  {:<12}  {role:<11}", row.state);
    if filter.link {
        let ((s, sp), (d, dp)) = (row.link_source, row.link_destination);
        line = line + "  " + &ends(s, sp, d, dp);
    }
    if filter.name {
        line += &format!("  {}  {}", row.vserver, row.service);
    }
    line.trim_end().to_owned()
}

fn columns(source: &str, sport: &str, destination: &str, dport: &str) -> String {
    format!("{source:<15}  {sport:<9}  {destination:<15}  {dport:<9}")
}

/// A row with the keys of the REST interface; `mirror` is an extension.
pub fn connection_json(row: &ConnectionRow) -> String {
    Json::Object(vec![
        ("sourceip", row.source.to_string().into()),
        ("sourceport", u64::from(row.source_port).into()),
        ("destip", row.destination.to_string().into()),
        ("destport", u64::from(row.destination_port).into()),
        ("svctype", row.kind.word().into()),
        ("idletime", row.idle.as_secs().into()),
        ("state", row.state.into()),
        ("linksourceip", row.link_source.0.to_string().into()),
        ("linksourceport", u64::from(row.link_source.1).into()),
        ("linkdestip", row.link_destination.0.to_string().into()),
        ("linkdestport", u64::from(row.link_destination.1).into()),
        ("vservername", row.vserver.clone().into()),
        ("entityname", row.service.clone().into()),
        ("connfailover", row.failover.word().into()),
        ("mirror", row.role.word().into()),
    ])
    .write()
}
