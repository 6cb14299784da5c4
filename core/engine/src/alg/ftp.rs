//! What lines of an FTP control connection say of data connections (RFC 959 sections 4.1.2 and 4.2, RFC 2428), and how the
//! same is said with another address and port.

use core::net::IpAddr;
use std::io::Write as _;

use holdfast_wire::{Addr, Endpoint};

use crate::flow::Side;

/// Longest line that is read; a longer one passes as it is.
pub(crate) const MAX_LINE: usize = 512;

/// How an address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `192,0,2,1,4,1`: PORT, and the answer 227 to PASV.
    Numbers,
    /// `|2|2001:db8::1|1025|` with any delimiter: EPRT.
    Delimited(u8),
    /// `1025`, the port alone: the answer 229 to EPSV.
    Port,
}

/// A data connection of which a line speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    /// Where who says it listens. Of [`Style::Port`] the address is unspecified: it is that of who says it.
    pub(crate) listens: Endpoint,
    /// How it is written.
    pub(crate) style: Style,
    /// Offset of the text in the line.
    pub(crate) at: usize,
    /// Length of the text.
    pub(crate) len: usize,
}

/// What a line, or its beginning, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing of the kind, so far.
    Nothing,
    /// Its end is missing; what speaks of a data connection begins at this offset.
    Begun(usize),
    /// A data connection.
    Whole(Mention),
}

/// Reads the line, or the beginning of one, that `side` says.
pub(crate) fn read(side: Side, line: &[u8]) -> Found {
    let complete = line.ends_with(b"\n");
    let text = line.trim_ascii_end();
    match side {
        Side::Client => match command(text) {
            Some((b"PORT", at)) => whole_or_begun(complete, text, at, numbers(text, at)),
            Some((b"EPRT", at)) => whole_or_begun(complete, text, at, delimited(text, at)),
            Some(_) | None => Found::Nothing,
        },
        Side::Server if text.starts_with(b"227 ") => match position(text, 4, |byte| byte.is_ascii_digit()) {
            Some(at) => whole_or_begun(complete, text, at, numbers(text, at)),
            None => Found::Nothing,
        },
        Side::Server if text.starts_with(b"229 ") => match position(text, 4, |byte| byte == b'(') {
            Some(at) => whole_or_begun(complete, text, at, extended(text, at)),
            None => Found::Nothing,
        },
        Side::Server => Found::Nothing,
    }
}

/// The text that speaks of `listens` in this style.
pub(crate) fn write(style: Style, listens: Endpoint) -> Vec<u8> {
    let (port, mut text) = (listens.port, Vec::new());
    let written = match style {
        Style::Numbers => {
            let [a, b, c, d] = listens.addr.v4_bytes();
            write!(text, "{a},{b},{c},{d},{},{}", port >> 8, port & 0xff)
        }
        Style::Delimited(mark) => {
            let (mark, family) = (char::from(mark), if listens.addr.is_v4() { 1 } else { 2 });
            write!(text, "{mark}{family}{mark}{}{mark}{port}{mark}", listens.addr)
        }
        Style::Port => write!(text, "{port}"),
    };
    written.expect("a vector has room");
    text
}

fn whole_or_begun(complete: bool, text: &[u8], at: usize, mention: Option<Mention>) -> Found {
    match mention {
        Some(mention) if complete => Found::Whole(mention),
        Some(_) | None if !complete && at < text.len() => Found::Begun(at),
        Some(_) | None => Found::Nothing,
    }
}

/// The command's word, which is written in any case, and where its argument begins.
fn command(text: &[u8]) -> Option<(&'static [u8], usize)> {
    let words: [&[u8]; 2] = [b"PORT", b"EPRT"];
    let word = words.into_iter().find(|word| text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(word)))?;
    if text.get(4) != Some(&b' ') {
        return None;
    }
    Some((word, position(text, 4, |byte| byte != b' ')?))
}

fn position(text: &[u8], from: usize, is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    text[from..].iter().position(|&byte| is_wanted(byte)).map(|found| from + found)
}

/// Six numbers with commas.
fn numbers(text: &[u8], at: usize) -> Option<Mention> {
    let (mut values, mut here) = ([0; 6], at);
    for (index, value) in values.iter_mut().enumerate() {
        if index > 0 {
            here += usize::from(*text.get(here)? == b',');
        }
        let end = position(text, here, |byte| !byte.is_ascii_digit()).unwrap_or(text.len());
        *value = number::<u8>(text.get(here..end)?)?;
        here = end;
    }
    let [a, b, c, d, high, low] = values;
    let listens = Endpoint { addr: Addr::v4([a, b, c, d]), port: u16::from_be_bytes([high, low]) };
    Some(Mention { listens, style: Style::Numbers, at, len: here - at }).filter(|mention| mention.listens.port != 0)
}

/// `|family|address|port|`.
fn delimited(text: &[u8], at: usize) -> Option<Mention> {
    let argument = text.get(at..)?;
    let (&mark, rest) = argument.split_first()?;
    if !(33..=126).contains(&mark) || mark.is_ascii_digit() {
        return None;
    }
    let mut fields = rest.split(|&byte| byte == mark);
    let family = fields.next()?;
    let addr: IpAddr = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let port = number::<u16>(fields.next()?).filter(|&port| port != 0)?;
    let is_last = fields.next().is_some_and(<[u8]>::is_empty) && fields.next().is_none();
    let expected: &[u8] = if addr.is_ipv4() { b"1" } else { b"2" };
    let listens = Endpoint { addr: addr.into(), port };
    (is_last && family == expected).then_some(Mention {
        listens,
        style: Style::Delimited(mark),
        at,
        len: argument.len(),
    })
}

/// `(|||port|)`; the mention is the port alone.
fn extended(text: &[u8], open: usize) -> Option<Mention> {
    let &[mark, second, third] = text.get(open + 1..open + 4)? else { return None };
    let at = open + 4;
    let end = position(text, at, |byte| !byte.is_ascii_digit())?;
    if mark.is_ascii_digit() || [second, third] != [mark; 2] || text.get(end..end + 2)? != [mark, b')'] {
        return None;
    }
    let port = number::<u16>(&text[at..end]).filter(|&port| port != 0)?;
    let listens = Endpoint { addr: Addr::UNSPECIFIED, port };
    Some(Mention { listens, style: Style::Port, at, len: end - at })
}

/// A decimal number that is only digits.
fn number<N: core::str::FromStr>(digits: &[u8]) -> Option<N> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if all_digits { str::from_utf8(digits).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> Endpoint {
        let end: core::net::SocketAddr = text.parse().expect("an address and a port");
        Endpoint { addr: end.ip().into(), port: end.port() }
    }

    fn whole(side: Side, line: &str) -> (Endpoint, Style, String) {
        match read(side, line.as_bytes()) {
            Found::Whole(Mention { listens, style, at, len }) => (listens, style, line[at..at + len].to_owned()),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn every_way_to_speak_of_a_data_connection_is_read() {
        let passive = "227 Entering Passive Mode (192,0,2,7,19,137).\r\n";
        assert_eq!(whole(Side::Server, passive), (end("192.0.2.7:5001"), Style::Numbers, "192,0,2,7,19,137".into()));
        let bare = "227 =10,0,0,1,0,21\r\n";
        assert_eq!(whole(Side::Server, bare), (end("10.0.0.1:21"), Style::Numbers, "10,0,0,1,0,21".into()));
        let extended = "229 Entering Extended Passive Mode (|||6446|)\r\n";
        let nobody = Endpoint { addr: Addr::UNSPECIFIED, port: 6446 };
        assert_eq!(whole(Side::Server, extended), (nobody, Style::Port, "6446".into()));
        let port = "port 192,0,2,9,4,1\r\n";
        assert_eq!(whole(Side::Client, port), (end("192.0.2.9:1025"), Style::Numbers, "192,0,2,9,4,1".into()));
        let v4 = "EPRT |1|132.235.1.2|6275|\r\n";
        let mark = Style::Delimited(b'|');
        assert_eq!(whole(Side::Client, v4), (end("132.235.1.2:6275"), mark, "|1|132.235.1.2|6275|".into()));
        let v6 = "EPRT !2!1080::8:800:200c:417a!5282!\r\n";
        let mark = Style::Delimited(b'!');
        assert_eq!(whole(Side::Client, v6).0, end("[1080::8:800:200c:417a]:5282"));
        assert_eq!(whole(Side::Client, v6).1, mark);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (side, style, head, tail, listens) in [
            (Side::Server, Style::Numbers, "227 Entering (", ")\r\n", "255.255.255.254:65535"),
            (Side::Client, Style::Numbers, "PORT ", "\r\n", "1.2.3.4:1"),
            (Side::Client, Style::Delimited(b'|'), "EPRT ", "\r\n", "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        ] {
            let text = String::from_utf8(write(style, end(listens))).expect("ASCII");
            assert!(text.len() <= crate::alg::shift::MAX_TEXT, "{text}");
            let found = whole(side, &format!("{head}{text}{tail}"));
            assert_eq!(found, (end(listens), style, text));
        }
    }

    #[test]
    fn what_says_something_else_is_left_alone() {
        for line in [
            "227 Entering Passive Mode (192,0,2,7,19).\r\n",
            "227 Entering Passive Mode (192,0,2,7,19,256).\r\n",
            "227 Entering Passive Mode (192,0,2,7,0,0).\r\n",
            "227-Entering Passive Mode (192,0,2,7,19,137)\r\n",
            "227 none\r\n",
            "229 Entering Extended Passive Mode (|||66446|)\r\n",
            "229 Entering Extended Passive Mode (|2||6446|)\r\n",
            "229 Entering Extended Passive Mode (|||6446)\r\n",
            "150 (|||6446|)\r\n",
            "\r\n",
            "",
        ] {
            assert_eq!(read(Side::Server, line.as_bytes()), Found::Nothing, "{line:?}");
        }
        for line in [
            "PORT 192,0,2,9,4\r\n",
            "PORTS 192,0,2,9,4,1\r\n",
            "EPRT |2|192.0.2.9|1025|\r\n",
            "EPRT |1|192.0.2.9|1025\r\n",
            "EPRT |1|192.0.2.9|1025|x\r\n",
            "EPRT\r\n",
            "227 (192,0,2,7,19,137)\r\n",
            "PASV\r\n",
        ] {
            assert_eq!(read(Side::Client, line.as_bytes()), Found::Nothing, "{line:?}");
        }
    }

    #[test]
    fn a_beginning_tells_from_where_on_it_must_wait() {
        let line = "227 Entering Passive Mode (192,0,2,7,19,137).\r\n";
        let at = line.find("192").expect("the address");
        for cut in 0..line.len() {
            let expected = if cut > at { Found::Begun(at) } else { Found::Nothing };
            assert_eq!(read(Side::Server, &line.as_bytes()[..cut]), expected, "{cut}");
        }
        assert_eq!(read(Side::Client, b"PORT 192,0,2,9,4,1"), Found::Begun(5));
        assert_eq!(read(Side::Client, b"EPRT |"), Found::Begun(5));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut rng = holdfast_base::Rng::from_seed(7);
        let alphabet = b"227 9(|,)\r\nPORTEPRT|1|2|:.\xff";
        for _ in 0..20_000 {
            let len = rng.next_u64() as usize % 24;
            let mut line: Vec<u8> = (0..len).map(|_| alphabet[rng.next_u64() as usize % alphabet.len()]).collect();
            let head: &[u8] = [&b"227 "[..], b"229 ", b"PORT ", b"EPRT ", b""][rng.next_u64() as usize % 5];
            line.splice(0..0, head.iter().copied());
            read(Side::Server, &line);
            read(Side::Client, &line);
        }
    }
}
