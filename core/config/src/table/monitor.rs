//! Rows about monitors.

use super::ha::{ENCRYPT_METHOD, ENCRYPTED};
use super::lb::{NO_ONLY, STATE, YES_NO};
use super::net::ON_OFF;
use super::{Arg, Change, Effect, Opt, Row, View};
use crate::monitor::{MAX_DNS_NAME, MAX_PATTERN, MAX_REQUEST};
use crate::value::{Choice, Type, no, yes};

const TYPES: &[Choice] = &[
    yes("TCP"),
    yes("PING"),
    yes("HTTP"),
    yes("TCP-ECV"),
    yes("HTTP-ECV"),
    yes("UDP-ECV"),
    yes("DNS"),
    yes("FTP"),
    no("LDNS-PING"),
    no("LDNS-TCP"),
    no("LDNS-DNS"),
    no("RADIUS"),
    no("USER"),
    no("HTTP-INLINE"),
    no("SIP-UDP"),
    no("SIP-TCP"),
    no("LOAD"),
    no("FTP-EXTENDED"),
    no("SMTP"),
    no("SNMP"),
    no("NNTP"),
    no("MYSQL"),
    no("MYSQL-ECV"),
    no("MSSQL-ECV"),
    no("ORACLE-ECV"),
    no("LDAP"),
    no("POP3"),
    yes("DNS-TCP"),
    no("RTSP"),
    no("ARP"),
    no("ND6"),
    no("DIAMETER"),
    no("SMPP"),
];

const QUERY_TYPES: &[Choice] = &[yes("Address"), yes("AAAA"), yes("Zone")];

const MONITOR: Arg = Arg::required("monitorName", Type::Name, "monitorname", "Name of the monitor.");
const TYPE: Arg = Arg::required("type", Type::Choice(TYPES), "type", "What it probes with.");
const TYPE_HINT: Arg = Arg::optional("type", Type::Choice(TYPES), "type", "Its type; not needed.");

const OPTS: &[Opt] = &[
    Opt::new("interval", Type::Span(20, 20_940_000), "interval", "Time between probes.").default("5"),
    Opt::new("resptimeout", Type::Span(10, 20_939_000), "resptimeout", "How long an answer may take.").default("2"),
    Opt::new("retries", Type::Number(1, 127), "retries", "Failed probes in a row that make a service DOWN.")
        .default("3"),
    Opt::new(
        "failureRetries",
        Type::Number(0, 32),
        "failureretries",
        "Failed ones among the latest `-retries` probes that make it DOWN; 0: all.",
    )
    .default("0"),
    Opt::new("successRetries", Type::Number(1, 32), "successretries", "Good probes in a row that make a service UP.")
        .default("1"),
    Opt::new("downTime", Type::Span(10, 20_939_000), "downtime", "Pause before a DOWN service is probed again.")
        .default("30"),
    Opt::new("destIP", Type::Address, "destip", "Probe this address instead of the server's."),
    Opt::new("destPort", Type::Port, "destport", "Probe this port instead of the service's."),
    Opt::new(
        "reverse",
        Type::Choice(YES_NO),
        "reverse",
        "A good answer counts as a failure, the lack of one as success.",
    )
    .default("NO"),
    Opt::new("secure", Type::Choice(YES_NO), "secure", "Over TLS; certificates are not verified. Types that use TCP.")
        .default("NO"),
    Opt::new(
        "send",
        Type::Text(MAX_PATTERN),
        "send",
        "What is sent, with `\\r`, `\\n`, `\\t`, `\\\\` and `\\x41`. TCP-ECV, UDP-ECV; HTTP-ECV: method and path.",
    ),
    Opt::new(
        "recv",
        Type::Text(MAX_PATTERN),
        "recv",
        "What the answer must contain within 24 KB; HTTP-ECV: its body. Without it any answer will do.",
    ),
    Opt::new(
        "httpRequest",
        Type::Text(MAX_REQUEST),
        "httprequest",
        "HTTP: method and path; the version is added if there is none.",
    )
    .default("HEAD /"),
    Opt::new("respCode", Type::Ranges(100, 599), "respcode", "HTTP: status codes that are good.").default("200"),
    Opt::new(
        "customHeaders",
        Type::Text(MAX_PATTERN),
        "customheaders",
        "HTTP, HTTP-ECV: lines of the request's head, `Host: a\\r\\n`; Host and Connection are added if there are none.",
    ),
    Opt::new("userName", Type::Text(127), "username", "FTP: who logs in; without it the greeting is enough."),
    Opt::new("password", Type::Secret, "password", "FTP: the user's password. Never shown."),
    ENCRYPTED,
    ENCRYPT_METHOD,
    Opt::new("query", Type::Text(MAX_DNS_NAME + 1), "query", "DNS, DNS-TCP: the name that is asked for."),
    Opt::new("queryType", Type::Choice(QUERY_TYPES), "querytype", "DNS, DNS-TCP: records A, AAAA or SOA.")
        .default("Address"),
    Opt::new(
        "IPAddress",
        Type::Addresses,
        "ipaddress",
        "DNS, DNS-TCP: one of them must be among the answers; without it any record of the type will do.",
    ),
    STATE,
    LRTM,
    Opt::neutral("transparent", Type::Choice(NO_ONLY)),
    Opt::neutral("alertRetries", Type::Number(0, 0)),
    Opt::neutral("deviation", Type::Number(0, 0)),
    Opt::neutral("resptimeoutThresh", Type::Number(0, 0)),
];
const LRTM: Opt = Opt {
    doc: "Accepted and not kept: the response times of all monitors count.",
    ..Opt::neutral("LRTM", Type::Choice(ON_OFF))
};

pub(super) const ROWS: &[Row] = &[
    Row::new("add", &["lb", "monitor"], Effect::Shared(Change::AddMonitor), "Adds a monitor.")
        .args(&[MONITOR, TYPE])
        .opts(OPTS)
        .nitro("lbmonitor"),
    Row::new("set", &["lb", "monitor"], Effect::Shared(Change::SetMonitor), "Changes a monitor.")
        .args(&[MONITOR, TYPE_HINT])
        .sets(OPTS)
        .nitro("lbmonitor"),
    Row::new("unset", &["lb", "monitor"], Effect::Shared(Change::UnsetMonitor), "Puts settings of a monitor back.")
        .args(&[MONITOR, TYPE_HINT])
        .clears(OPTS)
        .nitro("lbmonitor"),
    Row::new("rm", &["lb", "monitor"], Effect::Shared(Change::RmMonitor), "Removes a monitor that no service uses.")
        .args(&[MONITOR, TYPE_HINT])
        .nitro("lbmonitor"),
    Row::new("enable", &["lb", "monitor"], Effect::Shared(Change::EnableMonitor), "Enables a monitor.")
        .args(&[MONITOR])
        .nitro("lbmonitor"),
    Row::new(
        "disable",
        &["lb", "monitor"],
        Effect::Shared(Change::DisableMonitor),
        "Disables a monitor; it then says UP.",
    )
    .args(&[MONITOR])
    .nitro("lbmonitor"),
    Row::new("show", &["lb", "monitor"], Effect::Show(View::Monitor), "Shows monitors.")
        .args(&[Arg::optional("monitorName", Type::Name, "monitorname", "Only this one."), TYPE_HINT])
        .nitro("lbmonitor"),
];
