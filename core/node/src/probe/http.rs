//! A request, and the head and body of its answer (RFC 9112).

use core::net::IpAddr;
use core::ops::RangeInclusive;

use super::search::Search;
use super::{FOUND, Finding, is_among};

/// What must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// One of these status codes.
    Codes(Vec<RangeInclusive<u16>>),
    /// These bytes in the body; empty: any answer will do.
    Body(Vec<u8>),
}

/// Longest status line that is read, bytes.
const MAX_STATUS_LINE: usize = 1024;

/// The request as it is sent. `line` with a line end in it is a whole request; else version, `Host` and `Connection`
/// are added where they are missing.
pub(super) fn request(line: &[u8], headers: &[u8], addr: IpAddr, port: u16) -> Vec<u8> {
    if line.contains(&b'\n') {
        return line.to_vec();
    }
    let line = if line.is_empty() { b"GET /" } else { line };
    let mut text = line.to_vec();
    if !line.split(|byte| *byte == b' ').next_back().is_some_and(|word| word.starts_with(b"HTTP/")) {
        text.extend_from_slice(b" HTTP/1.1");
    }
    text.extend_from_slice(b"\r\n");
    let headers = headers.trim_ascii_end();
    if !headers.is_empty() {
        text.extend_from_slice(headers);
        text.extend_from_slice(b"\r\n");
    }
    if value_of(headers, "host").is_none() {
        let host = if addr.is_ipv6() { format!("[{addr}]") } else { addr.to_string() };
        text.extend_from_slice(format!("Host: {host}:{port}\r\n").as_bytes());
    }
    if value_of(headers, "connection").is_none() {
        text.extend_from_slice(b"Connection: close\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// The value of a field of a head, without blanks around it.
fn value_of<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (field, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        field.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// Reads an answer as far as the expectation needs it.
#[derive(Debug)]
pub(super) struct Reader {
    expect: Expectation,
    part: Part,
}

#[derive(Debug)]
enum Part {
    /// What has come of the head.
    Head(Vec<u8>),
    Body(Search, Chunks),
}

impl Reader {
    pub(super) fn new(expect: Expectation) -> Reader {
        Reader { expect, part: Part::Head(Vec::new()) }
    }

    /// The head is complete.
    pub(super) fn is_in_body(&self) -> bool {
        matches!(self.part, Part::Body(..))
    }

    pub(super) fn hear(&mut self, bytes: &[u8]) -> Option<Finding> {
        match &mut self.part {
            Part::Head(head) => {
                // A line end may lie on the border of two reads.
                let from = head.len().saturating_sub(3);
                head.extend_from_slice(bytes);
                let head = core::mem::take(head);
                self.read_head(head, from)
            }
            Part::Body(search, chunks) => chunks.push(bytes, search).then(|| Finding::good(FOUND)),
        }
    }

    /// `from`: before it no head ends.
    fn read_head(&mut self, head: Vec<u8>, from: usize) -> Option<Finding> {
        let code = match status(&head) {
            Line::Partial => None,
            Line::Code(code) => Some(code),
            Line::Nonsense => return Some(Finding::bad("The response is not HTTP")),
        };
        let told = |code: u16, good: bool| {
            let how = format!("HTTP response code {code} received.");
            if good { Finding::good(how) } else { Finding::bad(how) }
        };
        match (&self.expect, code) {
            (Expectation::Codes(codes), Some(code)) => return Some(told(code, is_among(code, codes))),
            (Expectation::Body(pattern), Some(code)) if pattern.is_empty() => return Some(told(code, true)),
            (Expectation::Body(pattern), Some(_)) => {
                if let Some(end) = head_end(&head, from) {
                    let (head, body) = head.split_at(end);
                    let chunked = value_of(head, "transfer-encoding")
                        .is_some_and(|value| value.to_ascii_lowercase().ends_with(b"chunked"));
                    self.part = Part::Body(Search::new(pattern.clone()), Chunks::new(chunked));
                    return self.hear(body);
                }
            }
            (Expectation::Codes(_) | Expectation::Body(_), None) => {}
        }
        self.part = Part::Head(head);
        None
    }
}

/// What the status line says.
enum Line {
    /// It is not complete.
    Partial,
    /// `HTTP/1.1 200 …`.
    Code(u16),
    /// It is none.
    Nonsense,
}

fn status(head: &[u8]) -> Line {
    let begun = head.get(..5).unwrap_or(head);
    let start = head.get(..MAX_STATUS_LINE).unwrap_or(head);
    match start.iter().position(|byte| *byte == b'\n') {
        _ if !b"HTTP/".starts_with(begun) => Line::Nonsense,
        None if head.len() < MAX_STATUS_LINE => Line::Partial,
        None => Line::Nonsense,
        Some(end) => code(&start[..end]).map_or(Line::Nonsense, Line::Code),
    }
}

fn code(line: &[u8]) -> Option<u16> {
    let code = line.split(|byte| *byte == b' ').nth(1)?.trim_ascii_end();
    let digits = code.len() == 3 && code.iter().all(u8::is_ascii_digit);
    digits.then(|| code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')))
}

/// Where the body begins: behind an empty line.
fn head_end(head: &[u8], from: usize) -> Option<usize> {
    let of = |end: &[u8]| {
        let found = head.get(from..)?.windows(end.len()).position(|window| window == end);
        found.map(|at| from + at + end.len())
    };
    [of(b"\r\n\r\n"), of(b"\n\n")].into_iter().flatten().min()
}

/// Takes the framing out of a body that comes in chunks (RFC 9112, 7.1), so that a pattern is found across their borders.
#[derive(Debug)]
enum Chunks {
    /// Not in chunks.
    Plain,
    /// In a size line, with the size so far; behind its digits nothing counts.
    Size(usize, bool),
    /// In a chunk, with the bytes that are left.
    Data(usize),
    /// In the line end behind a chunk.
    Between,
    /// Behind the last chunk.
    End,
}

impl Chunks {
    fn new(chunked: bool) -> Chunks {
        if chunked { Chunks::Size(0, true) } else { Chunks::Plain }
    }

    /// Whether the pattern is in what has come of the body.
    fn push(&mut self, mut bytes: &[u8], search: &mut Search) -> bool {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = match self {
                Chunks::Plain => return search.push(bytes),
                Chunks::End => return false,
                Chunks::Data(left) => {
                    let (now, later) = bytes.split_at((*left).min(bytes.len()));
                    *left -= now.len();
                    if *left == 0 {
                        *self = Chunks::Between;
                    }
                    if search.push(now) {
                        return true;
                    }
                    later
                }
                Chunks::Between => {
                    if byte == b'\n' {
                        *self = Chunks::Size(0, true);
                    }
                    rest
                }
                Chunks::Size(size, counts) => {
                    let digit = char::from(byte).to_digit(16).filter(|_| *counts);
                    match (byte, digit) {
                        (b'\n', _) => *self = if *size == 0 { Chunks::End } else { Chunks::Data(*size) },
                        // No chunk that is larger than what is looked at needs its exact size.
                        (_, Some(digit)) => *size = size.saturating_mul(16).saturating_add(digit as usize),
                        (_, None) => *counts = false,
                    }
                    rest
                }
            };
        }
        false
    }
}
