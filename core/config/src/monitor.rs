//! Monitors: what is asked of a service, how often, and what a good answer is.

use core::net::IpAddr;
use core::ops::RangeInclusive;

use crate::MAX_LINE;
use crate::error::{CommandError, messages};

/// Codes in a list of them at most.
pub(crate) const MAX_CODES: usize = 32;
/// Addresses in a list of expected ones at most.
pub(crate) const MAX_ADDRESSES: usize = 8;
/// Longest text to be sent or to be looked for, as typed, bytes.
pub(crate) const MAX_PATTERN: usize = 512;
/// Longest request line, bytes.
pub(crate) const MAX_REQUEST: usize = 255;
/// Longest name that is asked of a DNS server, bytes (RFC 1035, 2.3.4), without its last dot.
pub(crate) const MAX_DNS_NAME: usize = 253;
/// Longest password, bytes.
const MAX_PASSWORD: usize = 127;
/// Longest part of such a name, bytes.
const MAX_DNS_LABEL: usize = 63;

const HTTP_REQUEST: &str = "HEAD /";
const HTTP_OK: RangeInclusive<u16> = 200..=200;

/// A monitor (`add lb monitor`), or one of the two built-in ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Its name.
    pub name: String,
    /// The probe, and what it looks for.
    pub kind: MonitorKind,
    /// Time between probes, in milliseconds.
    pub interval_ms: u32,
    /// How long an answer may take, in milliseconds; below `interval_ms`.
    pub resp_timeout_ms: u32,
    /// Latest probes that count for a service's end.
    pub retries: u8,
    /// How many of them must have failed to make a service DOWN; 0: all.
    pub failure_retries: u8,
    /// Successful probes in a row that make a service UP.
    pub success_retries: u8,
    /// Pause after a service went DOWN before it is probed again, in milliseconds.
    pub down_time_ms: u32,
    /// Probe this address instead of the server's.
    pub dest_ip: Option<IpAddr>,
    /// Probe this port instead of the service's.
    pub dest_port: Option<u16>,
    /// A good answer counts as a failure, and the lack of one as a success.
    pub reverse: bool,
    /// The conversation is inside of TLS; only types that use TCP.
    pub secure: bool,
    /// Not disabled by the operator.
    pub enabled: bool,
}

/// What a monitor does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MonitorKind {
    /// A TCP handshake.
    Tcp,
    /// An echo request.
    Ping,
    /// A text over TCP.
    TcpEcv(Pattern),
    /// A text in a datagram.
    UdpEcv(Pattern),
    /// A request whose answer's status code counts.
    Http(HttpStatus),
    /// A request whose answer's body counts.
    HttpEcv(HttpBody),
    /// The greeting of an FTP server, or a login.
    Ftp(Login),
    /// A question to a DNS server in a datagram.
    Dns(DnsQuestion),
    /// The same over TCP.
    DnsTcp(DnsQuestion),
}

/// What is sent, and what the answer must contain; both as typed (see [`unescape`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// Empty: nothing is sent.
    pub send: String,
    /// Empty: any answer will do.
    pub recv: String,
}

/// A request, and the status codes that are good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpStatus {
    /// Method and path, `HEAD /`.
    pub request: String,
    /// Lines of the request's head as typed (see [`unescape`]).
    pub headers: String,
    /// Not empty.
    pub codes: Vec<RangeInclusive<u16>>,
}

/// A request, and what the answer's body must contain; as typed (see [`unescape`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpBody {
    /// Method and path, or a whole request if it has a line end. Empty: `GET /`.
    pub send: String,
    /// Empty: any answer will do.
    pub recv: String,
    /// Lines of the request's head.
    pub headers: String,
}

/// Who logs in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Empty: nobody does, the greeting is enough.
    pub user: String,
    /// In clear, or as it is written to `ns.conf`. Never shown.
    pub password: String,
    /// The password is closed under a key of a node (`-encrypted`).
    pub encrypted: bool,
}

/// A question, and the answers that are expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsQuestion {
    /// A name of the DNS.
    pub name: String,
    /// The records that are asked for.
    pub records: DnsRecords,
    /// One of them must be among the answers; empty: any record of that kind will do.
    pub addresses: Vec<IpAddr>,
}

/// Records that a DNS monitor asks for (`-queryType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsRecords {
    /// A: IPv4 addresses.
    #[default]
    Address,
    /// AAAA: IPv6 addresses.
    Aaaa,
    /// SOA: the start of a zone.
    Zone,
}

/// Options that not every type has a use for, and the types that have.
const OF_TYPES: &[(&[&str], &[&str])] = &[
    (&["send", "recv"], &["TCP-ECV", "UDP-ECV", "HTTP-ECV"]),
    (&["httpRequest", "respCode"], &["HTTP"]),
    (&["customHeaders"], &["HTTP", "HTTP-ECV"]),
    (&["userName", "password", "encrypted", "encryptmethod"], &["FTP"]),
    (&["query", "queryType", "IPAddress"], &["DNS", "DNS-TCP"]),
    (&["secure"], &["TCP", "TCP-ECV", "HTTP", "HTTP-ECV", "FTP", "DNS-TCP"]),
];

impl Monitor {
    /// A monitor with the market's defaults: 5 s, 2 s, 3 retries, 1 success, 30 s down time.
    pub fn new(name: &str, kind: MonitorKind) -> Self {
        Monitor {
            name: name.to_owned(),
            kind,
            interval_ms: 5_000,
            resp_timeout_ms: 2_000,
            retries: 3,
            failure_retries: 0,
            success_retries: 1,
            down_time_ms: 30_000,
            dest_ip: None,
            dest_port: None,
            reverse: false,
            secure: false,
            enabled: true,
        }
    }

    /// The two monitors that always exist and cannot be changed.
    pub fn built_in() -> [Monitor; 2] {
        [Monitor::new("tcp-default", MonitorKind::Tcp), Monitor::new("ping-default", MonitorKind::Ping)]
    }

    /// The rules about one monitor.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        if self.interval_ms <= self.resp_timeout_ms {
            return Err(CommandError::with(messages::INTERVAL_TOO_SHORT, self.name.clone()));
        }
        if self.failure_retries > self.retries {
            let (failures, probes) = (self.failure_retries, self.retries);
            let word = format!("failureRetries, {failures}, retries, {probes}");
            return Err(CommandError::with(messages::ABOVE_MAXIMUM, word));
        }
        self.kind.check()
    }
}

impl MonitorKind {
    /// What a type of the market begins with; `None` for one that is not offered.
    pub(crate) fn of_word(word: &str) -> Option<MonitorKind> {
        let status = HttpStatus { request: HTTP_REQUEST.to_owned(), headers: String::new(), codes: vec![HTTP_OK] };
        let all = [
            MonitorKind::Tcp,
            MonitorKind::Ping,
            MonitorKind::TcpEcv(Pattern::default()),
            MonitorKind::UdpEcv(Pattern::default()),
            MonitorKind::Http(status),
            MonitorKind::HttpEcv(HttpBody::default()),
            MonitorKind::Ftp(Login::default()),
            MonitorKind::Dns(DnsQuestion::default()),
            MonitorKind::DnsTcp(DnsQuestion::default()),
        ];
        all.into_iter().find(|kind| kind.word() == word)
    }

    /// The market's word.
    pub fn word(&self) -> &'static str {
        match self {
            MonitorKind::Tcp => "TCP",
            MonitorKind::Ping => "PING",
            MonitorKind::TcpEcv(_) => "TCP-ECV",
            MonitorKind::UdpEcv(_) => "UDP-ECV",
            MonitorKind::Http(_) => "HTTP",
            MonitorKind::HttpEcv(_) => "HTTP-ECV",
            MonitorKind::Ftp(_) => "FTP",
            MonitorKind::Dns(_) => "DNS",
            MonitorKind::DnsTcp(_) => "DNS-TCP",
        }
    }

    /// The types that have a use for an option, if this one is not among them.
    pub(crate) fn only_for(&self, option: &str) -> Option<&'static [&'static str]> {
        let (_, types) = OF_TYPES.iter().find(|(options, _)| options.contains(&option))?;
        (!types.contains(&self.word())).then_some(*types)
    }

    /// Refuses an option that the type has no use for.
    pub(crate) fn check_option(&self, option: &str) -> Result<(), CommandError> {
        match self.only_for(option) {
            Some(types) => {
                let error = CommandError::about(messages::PREREQUISITE_MISSING, option, self.word());
                Err(error.allowing(types.to_vec()))
            }
            None => Ok(()),
        }
    }

    /// The text that an option holds.
    pub(crate) fn text(&self, option: &str) -> Option<&String> {
        match (self, option) {
            (MonitorKind::TcpEcv(of) | MonitorKind::UdpEcv(of), "send") => Some(&of.send),
            (MonitorKind::TcpEcv(of) | MonitorKind::UdpEcv(of), "recv") => Some(&of.recv),
            (MonitorKind::HttpEcv(of), "send") => Some(&of.send),
            (MonitorKind::HttpEcv(of), "recv") => Some(&of.recv),
            (MonitorKind::HttpEcv(of), "customHeaders") => Some(&of.headers),
            (MonitorKind::Http(of), "customHeaders") => Some(&of.headers),
            (MonitorKind::Http(of), "httpRequest") => Some(&of.request),
            (MonitorKind::Ftp(of), "userName") => Some(&of.user),
            (MonitorKind::Ftp(of), "password") => Some(&of.password),
            (MonitorKind::Dns(of) | MonitorKind::DnsTcp(of), "query") => Some(&of.name),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub(crate) fn text_mut(&mut self, option: &str) -> Option<&mut String> {
        match (self, option) {
            (MonitorKind::TcpEcv(of) | MonitorKind::UdpEcv(of), "send") => Some(&mut of.send),
            (MonitorKind::TcpEcv(of) | MonitorKind::UdpEcv(of), "recv") => Some(&mut of.recv),
            (MonitorKind::HttpEcv(of), "send") => Some(&mut of.send),
            (MonitorKind::HttpEcv(of), "recv") => Some(&mut of.recv),
            (MonitorKind::HttpEcv(of), "customHeaders") => Some(&mut of.headers),
            (MonitorKind::Http(of), "customHeaders") => Some(&mut of.headers),
            (MonitorKind::Http(of), "httpRequest") => Some(&mut of.request),
            (MonitorKind::Ftp(of), "userName") => Some(&mut of.user),
            (MonitorKind::Ftp(of), "password") => Some(&mut of.password),
            (MonitorKind::Dns(of) | MonitorKind::DnsTcp(of), "query") => Some(&mut of.name),
            _ => None,
        }
    }

    /// The question of a DNS monitor.
    pub(crate) fn question(&self) -> Option<&DnsQuestion> {
        if let MonitorKind::Dns(of) | MonitorKind::DnsTcp(of) = self { Some(of) } else { None }
    }

    /// The same, to be changed.
    pub(crate) fn question_mut(&mut self) -> Option<&mut DnsQuestion> {
        if let MonitorKind::Dns(of) | MonitorKind::DnsTcp(of) = self { Some(of) } else { None }
    }

    /// Who logs in to an FTP server.
    pub(crate) fn login(&self) -> Option<&Login> {
        if let MonitorKind::Ftp(of) = self { Some(of) } else { None }
    }

    /// The same, to be changed.
    pub(crate) fn login_mut(&mut self) -> Option<&mut Login> {
        if let MonitorKind::Ftp(of) = self { Some(of) } else { None }
    }

    /// The status codes of an HTTP monitor.
    pub(crate) fn codes(&self) -> Option<&[RangeInclusive<u16>]> {
        if let MonitorKind::Http(of) = self { Some(&of.codes) } else { None }
    }

    /// Takes status codes; none means 200.
    pub(crate) fn set_codes(&mut self, codes: Vec<RangeInclusive<u16>>) {
        if let MonitorKind::Http(of) = self {
            of.codes = if codes.is_empty() { vec![HTTP_OK] } else { codes };
        }
    }

    fn check(&self) -> Result<(), CommandError> {
        for option in ["send", "recv", "customHeaders"] {
            if let Some(text) = self.text(option).filter(|text| try_unescape(text).is_none()) {
                return Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, option, text));
            }
        }
        match self {
            MonitorKind::Tcp
            | MonitorKind::Ping
            | MonitorKind::TcpEcv(_)
            | MonitorKind::UdpEcv(_)
            | MonitorKind::HttpEcv(_) => Ok(()),
            MonitorKind::Http(of) => of.check(),
            MonitorKind::Ftp(of) => of.check(),
            MonitorKind::Dns(of) | MonitorKind::DnsTcp(of) => of.check(),
        }
    }
}

impl HttpStatus {
    fn check(&self) -> Result<(), CommandError> {
        if self.codes.len() > MAX_CODES {
            return Err(CommandError::about(messages::STRING_TOO_LONG, "respCode", &format!("at most {MAX_CODES}")));
        }
        let mut words = self.request.split(' ');
        let method = words.next().is_some_and(|word| word.chars().all(|c| c.is_ascii_uppercase()) && !word.is_empty());
        match method && words.next().is_some_and(|path| !path.is_empty()) {
            true => Ok(()),
            false => Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "httpRequest", &self.request)),
        }
    }
}

impl Login {
    fn check(&self) -> Result<(), CommandError> {
        let is_hex = self.password.len().is_multiple_of(2) && self.password.bytes().all(|b| b.is_ascii_hexdigit());
        match (self.user.is_empty(), self.encrypted) {
            (_, true) if self.password.is_empty() => Err(CommandError::with(messages::ARGUMENT_MISSING, "password")),
            (true, _) if !self.password.is_empty() => {
                Err(CommandError::with(messages::PREREQUISITE_MISSING, "password, userName"))
            }
            (_, true) if !is_hex => Err(CommandError::with(messages::INVALID_ARGUMENT_VALUE, "password")),
            (_, false) if self.password.len() > MAX_PASSWORD => {
                Err(CommandError::with(messages::STRING_TOO_LONG, "password"))
            }
            (true | false, true | false) => Ok(()),
        }
    }
}

impl DnsQuestion {
    fn check(&self) -> Result<(), CommandError> {
        if self.name.is_empty() {
            return Err(CommandError::with(messages::ARGUMENT_MISSING, "query"));
        }
        if !is_dns_name(&self.name) {
            return Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, "query", &self.name));
        }
        if self.addresses.len() > MAX_ADDRESSES {
            let most = format!("at most {MAX_ADDRESSES}");
            return Err(CommandError::about(messages::STRING_TOO_LONG, "IPAddress", &most));
        }
        let fits = |addr: &&IpAddr| match self.records {
            DnsRecords::Address => addr.is_ipv4(),
            DnsRecords::Aaaa => addr.is_ipv6(),
            DnsRecords::Zone => false,
        };
        match self.addresses.iter().find(|addr| !fits(addr)) {
            Some(addr) => {
                let word = format!("IPAddress, {addr}, queryType, {}", self.records.word());
                Err(CommandError::with(messages::INVALID_IP, word))
            }
            None => Ok(()),
        }
    }
}

impl DnsRecords {
    /// Every kind.
    pub(crate) const ALL: [DnsRecords; 3] = [DnsRecords::Address, DnsRecords::Aaaa, DnsRecords::Zone];

    /// The market's word.
    pub fn word(self) -> &'static str {
        match self {
            DnsRecords::Address => "Address",
            DnsRecords::Aaaa => "AAAA",
            DnsRecords::Zone => "Zone",
        }
    }
}

/// A name that fits a DNS message: labels of letters, digits, `-` and `_`; `.` is the root.
fn is_dns_name(name: &str) -> bool {
    let stem = name.strip_suffix('.').unwrap_or(name);
    let fits = |label: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=MAX_DNS_LABEL).contains(&label.len()) && label.bytes().all(known)
    };
    name == "." || stem.len() <= MAX_DNS_NAME && stem.split('.').all(fits)
}

/// `200` or `200-210`, as commands write it.
pub(crate) fn codes_text(codes: &RangeInclusive<u16>) -> String {
    match codes.start() == codes.end() {
        true => codes.start().to_string(),
        false => format!("{}-{}", codes.start(), codes.end()),
    }
}

/// Codes that were read before, as values of the table.
pub(crate) fn codes_of(words: &[String]) -> Vec<RangeInclusive<u16>> {
    let one = |word: &String| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    words.iter().filter_map(one).collect()
}

/// The bytes that a monitor's text stands for: `\r`, `\n`, `\t`, `\\`, `\"`, `\'` and `\x41` are one byte each.
///
/// A text of a configuration has no other escapes; in one from elsewhere they stand for themselves.
pub fn unescape(text: &str) -> Vec<u8> {
    try_unescape(text).unwrap_or_else(|| text.as_bytes().to_vec())
}

/// `None`: a backslash with something else behind it, or nothing.
fn try_unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let mut digit = || char::from(rest.next()?).to_digit(16);
                    let (high, low) = (digit()?, digit()?);
                    (high << 4 | low) as u8
                }
                same @ (b'\\' | b'"' | b'\'') => same,
                _ => return None,
            },
            other => other,
        });
    }
    Some(bytes)
}

/// Refuses what would not fit a line of the file or of the journal.
pub(crate) fn check_line(line: &str, name: &str) -> Result<(), CommandError> {
    match line.len() <= MAX_LINE {
        true => Ok(()),
        false => Err(CommandError::about(messages::STRING_TOO_LONG, "monitorName", name)),
    }
}
