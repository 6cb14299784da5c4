//! A question to a DNS server, and whether its answer is good (RFC 1035, 4).

use core::net::IpAddr;

use super::Finding;

/// Bytes of a message's header.
const HEADER: usize = 12;
/// The Internet.
const CLASS_IN: u16 = 1;
/// Ask on our behalf (RD).
const RECURSION_DESIRED: u16 = 0x0100;
/// This is a response (QR).
const RESPONSE: u16 = 0x8000;
/// Kind of question (opcode): 0 is an ordinary one.
const KIND: u16 = 0x7800;
/// How it went (RCODE).
const OUTCOME: u16 = 0x000f;

/// Records to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// The start of a zone.
    Soa,
}

impl Records {
    fn number(self) -> u16 {
        match self {
            Records::A => 1,
            Records::Aaaa => 28,
            Records::Soa => 6,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Records::A => "A",
            Records::Aaaa => "AAAA",
            Records::Soa => "SOA",
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Labels with dots between them. Longer ones than a message can carry are cut.
    pub name: String,
    /// Of which kind.
    pub records: Records,
    /// One of them must be among the answers; empty: any record of the kind will do.
    pub addresses: Vec<IpAddr>,
}

/// Reads the answer to one query.
#[derive(Debug)]
pub(super) struct Reader {
    question: Question,
    query: Vec<u8>,
    /// Over a connection, messages have their length in front.
    framed: bool,
    /// Of a connection: what has come.
    heard: Vec<u8>,
}

impl Reader {
    /// A reader, and the query that it is about, as it is sent.
    pub(super) fn new(question: Question, id: u16, framed: bool) -> (Reader, Vec<u8>) {
        let query = query(&question, id);
        let mut sent = query.clone();
        if framed {
            // A query has at most 12 + 255 + 4 bytes.
            sent.splice(..0, (query.len() as u16).to_be_bytes());
        }
        (Reader { question, query, framed, heard: Vec::new() }, sent)
    }

    /// Takes a datagram, or the next bytes of a connection. `None`: the answer is still to come.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Option<Finding> {
        if !self.framed {
            return judge(bytes, &self.query, &self.question);
        }
        self.heard.extend_from_slice(bytes);
        let (length, rest) = self.heard.split_first_chunk::<2>()?;
        let message = rest.get(..usize::from(u16::from_be_bytes(*length)))?;
        Some(judge(message, &self.query, &self.question).unwrap_or_else(malformed))
    }
}

fn malformed() -> Finding {
    Finding::bad("The DNS response is malformed")
}

/// Header and question.
fn query(question: &Question, id: u16) -> Vec<u8> {
    let mut message = Vec::with_capacity(64);
    for field in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    let name = question.name.get(..question.name.len().min(253)).unwrap_or_default();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        message.push(label.len() as u8);
        message.extend(label);
    }
    message.push(0);
    message.extend(question.records.number().to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

/// `None`: not the answer to this query.
fn judge(message: &[u8], query: &[u8], question: &Question) -> Option<Finding> {
    let (id, flags) = (u16_at(message, 0)?, u16_at(message, 2)?);
    if Some(id) != u16_at(query, 0) || flags & RESPONSE == 0 || flags & KIND != 0 {
        return None;
    }
    let echoed = message.get(HEADER..query.len()).is_some_and(|own| own.eq_ignore_ascii_case(&query[HEADER..]));
    let outcome = flags & OUTCOME;
    // A server that understands nothing need not repeat the question.
    if outcome != 0 && (echoed || u16_at(message, 4)? == 0) {
        let words = ["", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
        let word = words.get(usize::from(outcome)).map(|word| format!(" ({word})")).unwrap_or_default();
        return Some(Finding::bad(format!("DNS response code {outcome}{word} received.")));
    }
    if !echoed || u16_at(message, 4)? != 1 {
        return None;
    }
    Some(judge_answers(message, query.len(), question).unwrap_or_else(malformed))
}

/// Looks through the answers, which begin at `at`. `None`: they are not as they should be.
fn judge_answers(message: &[u8], mut at: usize, question: &Question) -> Option<Finding> {
    let mut of_kind = false;
    for _ in 0..u16_at(message, 6)? {
        at = skip_name(message, at)?;
        let (kind, class, length) = (u16_at(message, at)?, u16_at(message, at + 2)?, u16_at(message, at + 8)?);
        let data = message.get(at + 10..)?.get(..usize::from(length))?;
        at += 10 + data.len();
        if kind != question.records.number() || class != CLASS_IN {
            continue;
        }
        of_kind = true;
        let expected = question.addresses.is_empty() || address(data).is_some_and(|a| question.addresses.contains(&a));
        if expected {
            return Some(Finding::good("DNS response received."));
        }
    }
    Some(match of_kind {
        true => Finding::bad("None of the expected addresses is in the DNS response"),
        false => Finding::bad(format!("The DNS response has no {} record", question.records.word())),
    })
}

/// Behind a name, which ends with the root or with a pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            64..=191 => return None,
            192..=255 => return Some(at + 2),
        }
    }
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(data).ok()?));
    let v6 = || Some(IpAddr::from(<[u8; 16]>::try_from(data).ok()?));
    v4().or_else(v6)
}
