//! The conversation of one probe, apart from any socket.
//!
//! Who drives it connects, moves bytes and watches the clock; what is sent, when an answer is complete and what it is
//! worth is decided here. [`Conversation::handle`] takes what happened, [`Conversation::poll_send`] gives what to send,
//! and [`Conversation::verdict`] ends it. Bytes of a server are never trusted: whatever comes, there is a verdict.

mod dns;
mod ftp;
mod http;
mod search;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use core::ops::RangeInclusive;

pub use dns::{Question, Records};
pub use ftp::Login;
pub use http::Expectation;

use search::Search;

/// Bytes of an answer that are looked at; what is not found in them is not there.
pub const MAX_HEARD: usize = 24 * 1024;

/// What carries a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A TCP connection.
    Tcp,
    /// TLS on a TCP connection; nobody looks at the certificate.
    Tls,
    /// One datagram, and those that answer it.
    Udp,
}

/// What is said to a server, and what it must answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Script {
    /// Nothing: being let in is enough. Not over UDP.
    Handshake,
    /// Some bytes, and some that must come. Empty: nothing is sent, any answer will do.
    Pattern {
        /// Sent at the beginning.
        send: Vec<u8>,
        /// Looked for in the answer.
        receive: Vec<u8>,
    },
    /// A request. Not over UDP.
    Http {
        /// Method and path, or a whole request if it has a line end.
        request: Vec<u8>,
        /// Lines of its head.
        headers: Vec<u8>,
        /// What must come back.
        expect: Expectation,
    },
    /// The greeting of a server, or a login. Not over UDP.
    Ftp(Option<Login>),
    /// A question.
    Dns(Question),
}

/// A conversation to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inquiry {
    /// By what.
    pub carrier: Carrier,
    /// About what.
    pub script: Script,
}

/// Something that happened to a conversation.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The carrier is there: TCP's handshake is done, or the datagram's socket is open.
    Connected,
    /// TLS's handshake is done, too.
    Secured,
    /// The next bytes of the connection, or one datagram.
    Bytes(&'a [u8]),
    /// The server has ended the connection.
    End,
    /// The server's host says that nobody is there: a reset instead of a SYN-ACK, or ICMP port unreachable.
    Refused,
    /// The carrier is lost, and why.
    Failed(&'a str),
    /// Time is up.
    TimedOut,
}

/// What a probe has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// It speaks for the service.
    pub ok: bool,
    /// In the model's words, `Success - …` or `Failure - …`.
    pub text: String,
}

impl Verdict {
    /// The verdict on a good answer, or on the lack of one; a reversed monitor turns it around.
    pub fn new(reverse: bool, good: bool, how: &str) -> Verdict {
        let ok = good != reverse;
        Verdict { ok, text: format!("{} - {how}", if ok { "Success" } else { "Failure" }) }
    }
}

/// How an answer was, before a monitor is reversed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    good: bool,
    how: String,
}

impl Finding {
    fn good(how: impl Into<String>) -> Finding {
        Finding { good: true, how: how.into() }
    }

    fn bad(how: impl Into<String>) -> Finding {
        Finding { good: false, how: how.into() }
    }
}

const TOO_LATE: &str = "TCP connection successful, but application timed out";
const CUT_SHORT: &str = "TCP connection successful, but the server closed it before it answered";
const NOT_FOUND: &str = "Pattern not found in response.";
const FOUND: &str = "Pattern found in response.";

/// How far a conversation has come.
#[derive(Debug)]
enum Stage {
    Connecting,
    Securing,
    Talking,
    Over(Verdict),
}

/// What reads the answer.
#[derive(Debug)]
enum Reader {
    Handshake,
    Pattern(Search),
    Http(http::Reader),
    Ftp(ftp::Session),
    Dns(dns::Reader),
}

/// One probe under way.
#[derive(Debug)]
pub struct Conversation {
    carrier: Carrier,
    reverse: bool,
    stage: Stage,
    reader: Reader,
    /// To be sent, in this order, once the carrier is there.
    outgoing: Option<Vec<u8>>,
    /// Bytes that came; an empty datagram counts as one.
    heard: usize,
}

impl Conversation {
    /// A conversation with the server at `addr` and `port`. `seed` is random, and what nobody else can know is drawn
    /// from it: answers to questions of others are not taken for ours.
    pub fn new(inquiry: &Inquiry, reverse: bool, (addr, port): (IpAddr, u16), seed: u64) -> Conversation {
        let carrier = inquiry.carrier;
        let (reader, outgoing) = match &inquiry.script {
            Script::Handshake => (Reader::Handshake, None),
            Script::Pattern { send, receive } => {
                let first = (!send.is_empty() || carrier == Carrier::Udp).then(|| send.clone());
                (Reader::Pattern(Search::new(receive.clone())), first)
            }
            Script::Http { request, headers, expect } => {
                let text = http::request(request, headers, addr, port);
                (Reader::Http(http::Reader::new(expect.clone())), Some(text))
            }
            Script::Ftp(login) => (Reader::Ftp(ftp::Session::new(login.clone())), None),
            Script::Dns(question) => {
                let (reader, query) = dns::Reader::new(question.clone(), seed as u16, carrier != Carrier::Udp);
                (Reader::Dns(reader), Some(query))
            }
        };
        Conversation { carrier, reverse, stage: Stage::Connecting, reader, outgoing, heard: 0 }
    }

    /// Takes what happened. Once there is a verdict nothing changes it.
    pub fn handle(&mut self, event: Event<'_>) {
        let finding = match (&self.stage, event) {
            (Stage::Over(_), _) => None,
            (_, Event::Refused) => Some(Finding::bad(self.refused())),
            (Stage::Connecting, Event::Connected) if self.carrier == Carrier::Tls => {
                self.stage = Stage::Securing;
                None
            }
            (Stage::Connecting, Event::Connected) | (Stage::Securing, Event::Secured) => self.begin(),
            (Stage::Connecting, Event::Failed(why)) => Some(Finding::bad(format!("{}: {why}", self.carrier.unmade()))),
            (Stage::Connecting, Event::End | Event::TimedOut) => {
                Some(Finding::bad("Time out during TCP connection establishment stage"))
            }
            (Stage::Securing, Event::Failed(why)) => Some(Finding::bad(format!("SSL handshake failed: {why}"))),
            (Stage::Securing, Event::End) => Some(Finding::bad("SSL handshake failed: closed by the server")),
            (Stage::Securing, Event::TimedOut) => Some(Finding::bad("Time out during SSL handshake stage")),
            (Stage::Talking, Event::Bytes(bytes)) => self.hear(bytes),
            (Stage::Talking, Event::End) => Some(self.at_end(CUT_SHORT)),
            (Stage::Talking, Event::Failed(why)) => Some(self.at_end(&format!("{}: {why}", self.carrier.lost()))),
            (Stage::Talking, Event::TimedOut) => Some(self.timed_out()),
            // A driver that is ahead of the carrier says nothing that counts.
            (Stage::Connecting, Event::Secured | Event::Bytes(_))
            | (Stage::Securing, Event::Connected | Event::Bytes(_))
            | (Stage::Talking, Event::Connected | Event::Secured) => None,
        };
        if let Some(Finding { good, how }) = finding {
            self.stage = Stage::Over(Verdict::new(self.reverse, good, &how));
        }
    }

    /// What to send next. Also behind the verdict: a server that was greeted is told good-bye.
    pub fn poll_send(&mut self) -> Option<Vec<u8>> {
        match self.stage {
            Stage::Connecting | Stage::Securing => None,
            Stage::Talking | Stage::Over(_) => self.outgoing.take(),
        }
    }

    /// The verdict, once there is one.
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.stage {
            Stage::Over(verdict) => Some(verdict),
            Stage::Connecting | Stage::Securing | Stage::Talking => None,
        }
    }

    fn begin(&mut self) -> Option<Finding> {
        self.stage = Stage::Talking;
        match (&self.reader, self.carrier) {
            (Reader::Handshake, Carrier::Tcp | Carrier::Udp) => Some(Finding::good("TCP syn+ack received.")),
            (Reader::Handshake, Carrier::Tls) => Some(Finding::good("SSL handshake completed.")),
            (Reader::Pattern(_) | Reader::Http(_) | Reader::Ftp(_) | Reader::Dns(_), _) => None,
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Option<Finding> {
        let room = MAX_HEARD - self.heard;
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.heard += if self.carrier == Carrier::Udp { bytes.len().max(1) } else { bytes.len() };
        let finding = match &mut self.reader {
            Reader::Handshake => None,
            Reader::Pattern(search) => self.carrier.look_for(search, bytes),
            Reader::Http(reader) => reader.hear(bytes),
            Reader::Ftp(session) => session.hear(bytes, &mut self.outgoing),
            Reader::Dns(reader) => reader.hear(bytes),
        };
        match finding {
            None if self.heard >= MAX_HEARD => Some(self.at_end("The answer is too long")),
            finding => finding,
        }
    }

    fn refused(&self) -> &'static str {
        match (self.carrier, &self.stage) {
            (Carrier::Udp, _) => "ICMP port unreachable received.",
            (Carrier::Tcp | Carrier::Tls, Stage::Connecting) => "TCP connection refused",
            (Carrier::Tcp | Carrier::Tls, Stage::Securing | Stage::Talking | Stage::Over(_)) => CUT_SHORT,
        }
    }

    /// Nothing more will come, and what came was not enough. `cause` counts where nothing of use came at all.
    fn at_end(&self, cause: &str) -> Finding {
        let lacks_pattern = match &self.reader {
            Reader::Pattern(_) => self.heard > 0,
            Reader::Http(reader) => reader.is_in_body(),
            Reader::Handshake | Reader::Ftp(_) | Reader::Dns(_) => false,
        };
        Finding::bad(if lacks_pattern { NOT_FOUND } else { cause })
    }

    fn timed_out(&self) -> Finding {
        match (self.carrier, &self.reader) {
            (Carrier::Udp, Reader::Pattern(search)) if search.takes_anything() => {
                Finding::good("No ICMP port unreachable received.")
            }
            (Carrier::Udp, _) => self.at_end("Probe timed out."),
            (Carrier::Tcp | Carrier::Tls, _) => self.at_end(TOO_LATE),
        }
    }
}

impl Carrier {
    fn unmade(self) -> &'static str {
        match self {
            Carrier::Tcp | Carrier::Tls => "TCP connection could not be made",
            Carrier::Udp => "UDP datagram could not be sent",
        }
    }

    fn lost(self) -> &'static str {
        match self {
            Carrier::Tcp | Carrier::Tls => "TCP connection successful, but it was lost",
            Carrier::Udp => "UDP datagram sent, but no response",
        }
    }

    /// A pattern may come in pieces over a connection; a datagram has it, or has it not.
    fn look_for(self, search: &mut Search, bytes: &[u8]) -> Option<Finding> {
        let takes_anything = search.takes_anything();
        match (search.push(bytes), self) {
            (true, _) if takes_anything => Some(Finding::good("Response received.")),
            (true, _) => Some(Finding::good(FOUND)),
            (false, Carrier::Udp) if takes_anything => Some(Finding::good("Response received.")),
            (false, Carrier::Udp) => Some(Finding::bad(NOT_FOUND)),
            (false, Carrier::Tcp | Carrier::Tls) => None,
        }
    }
}

/// `200` within one of the ranges.
fn is_among(code: u16, codes: &[RangeInclusive<u16>]) -> bool {
    codes.iter().any(|range| range.contains(&code))
}
