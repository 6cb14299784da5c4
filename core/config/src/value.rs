//! Values of arguments: their types, how they are read, how they are written.

use core::fmt::Write as _;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::{CommandError, messages};
use crate::matching::{Found, by_prefix, nearest};

/// What is shown instead of a password.
pub(crate) const MASK: &str = "********";

/// One word of an enumeration.
#[derive(Debug)]
pub(crate) struct Choice {
    /// As it is written back.
    pub word: &'static str,
    /// Another spelling that is accepted.
    pub alias: Option<&'static str>,
    /// Offered by this program; else the word is known and refused.
    pub offered: bool,
}

/// An offered word.
pub(crate) const fn yes(word: &'static str) -> Choice {
    Choice { word, alias: None, offered: true }
}

/// An offered word with another spelling.
pub(crate) const fn also(word: &'static str, alias: &'static str) -> Choice {
    Choice { word, alias: Some(alias), offered: true }
}

/// A word of the market that is refused with a text that says so.
pub(crate) const fn no(word: &'static str) -> Choice {
    Choice { word, alias: None, offered: false }
}

/// Longest list of words that an error tells; more would hide what is wrong.
const MAX_ALLOWED: usize = 16;

/// Longest text of a password, bytes; one that is closed under a node's key is longer than in clear.
const MAX_SECRET: usize = 512;

/// What an argument may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Type {
    /// Name of an object.
    Name,
    /// Free text up to a number of bytes.
    Text(usize),
    /// One word up to a number of bytes: an interface's id or device.
    Token(usize),
    /// One or more words up to a number of bytes each; takes all that follow.
    Tokens(usize),
    /// One or more addresses; takes all that follow.
    Addresses,
    /// One or more numbers, or ranges of them (`200-210`), in a range; takes all that follow.
    Ranges(u64, u64),
    /// A password: free text that is never shown.
    Secret,
    /// A whole number in a range.
    Number(u64, u64),
    /// Seconds with up to three decimals, in a range of milliseconds.
    Seconds(u64, u64),
    /// Seconds by default, or with a unit word (MSEC, SEC, MIN); range in milliseconds.
    Span(u64, u64),
    /// A port 1..=65535 or `*`.
    Port,
    /// A port 0..=65535 or `*`.
    PortOrZero,
    /// An address of either family.
    Address,
    /// An address or `*`.
    AddressOrStar,
    /// An address with an optional `/length`.
    Network,
    /// A route: an address and perhaps its mask behind it or behind a slash, or `*`.
    Monitored,
    /// An IPv4 netmask, or a prefix length.
    Mask,
    /// One word of a list.
    Choice(&'static [Choice]),
    /// One or more words of a list; takes all remaining positions.
    Choices(&'static [Choice]),
    /// Nothing: the option itself is the value.
    Flag,
    /// The rest of the line, as typed.
    Rest,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Name, free text, password, rest of the line.
    Text(String),
    /// A whole number.
    Number(u64),
    /// Milliseconds.
    Millis(u64),
    /// A port; `None` is `*`.
    Port(Option<u16>),
    /// An address; `None` is `*`.
    Address(Option<IpAddr>),
    /// An address and perhaps a prefix length.
    Network(IpAddr, Option<u8>),
    /// A prefix length given as a mask.
    Mask(u8),
    /// A word of a list.
    Word(&'static str),
    /// Words of a list.
    Words(Vec<&'static str>),
    /// Words of the operator's own, sorted.
    List(Vec<String>),
    /// An option without a value, and each option of an `unset` command.
    Flag,
}

const UNITS: &[Choice] = &[yes("MSEC"), yes("SEC"), yes("MIN")];

impl Type {
    /// Reads `text` as a value of this type; `unit` is the unit word that followed, if any.
    pub(crate) fn read(&self, argument: &str, text: &str, unit: Option<&str>) -> Result<Value, CommandError> {
        let bad = |message| CommandError::about(message, argument, text);
        match *self {
            Type::Name => name(text).map_err(bad),
            Type::Text(max) if text.len() > max => Err(bad(messages::STRING_TOO_LONG)),
            Type::Secret if text.len() > MAX_SECRET => Err(CommandError::with(messages::STRING_TOO_LONG, argument)),
            Type::Secret if text.is_empty() => Err(CommandError::with(messages::VALUE_MISSING, argument)),
            Type::Token(max) => token(text, max).map_err(bad),
            Type::Tokens(max) => token(text, max).map(|v| v.into_list()).map_err(bad),
            Type::Addresses => {
                address(text).map(|a| Value::List(vec![a.to_string()])).ok_or_else(|| bad(messages::INVALID_IP))
            }
            Type::Ranges(min, max) => range(text, min, max).map(|range| Value::List(vec![range])).map_err(bad),
            Type::Text(_) | Type::Secret | Type::Rest => Ok(Value::Text(text.to_owned())),
            Type::Number(min, max) => number(text, min, max).map(Value::Number).map_err(bad),
            Type::Seconds(min, max) => {
                decimal_millis(text).and_then(|ms| in_range(ms, min, max)).map(Value::Millis).map_err(bad)
            }
            Type::Span(min, max) => span(argument, text, unit, min, max),
            Type::Port => port(text, 1).map(Value::Port).map_err(bad),
            Type::PortOrZero => port(text, 0).map(Value::Port).map_err(bad),
            Type::AddressOrStar if text == "*" => Ok(Value::Address(None)),
            Type::Address | Type::AddressOrStar => {
                address(text).map(|a| Value::Address(Some(a))).ok_or_else(|| bad(messages::INVALID_IP))
            }
            Type::Network => network(text).map_err(bad),
            Type::Monitored if text == "*" && unit.is_none() => Ok(Value::Address(None)),
            Type::Monitored => monitored(text, unit).map_err(bad),
            Type::Mask => mask(text).map(Value::Mask).ok_or_else(|| bad(messages::INVALID_NETMASK)),
            Type::Choice(choices) => choice(argument, text, choices).map(Value::Word),
            Type::Choices(choices) => choice(argument, text, choices).map(|w| Value::Words(vec![w])),
            Type::Flag => Ok(Value::Flag),
        }
    }

    /// Whether `word` can be the unit of a value of this type.
    pub(crate) fn takes_unit(&self, word: &str) -> bool {
        match self {
            Type::Span(..) => matches!(by_prefix(UNITS.iter().map(|u| u.word), word), Found::One(_)),
            Type::Monitored => mask(word).is_some(),
            Type::Name
            | Type::Text(_)
            | Type::Token(_)
            | Type::Tokens(_)
            | Type::Addresses
            | Type::Ranges(..)
            | Type::Secret
            | Type::Number(..)
            | Type::Seconds(..)
            | Type::Port
            | Type::PortOrZero
            | Type::Address
            | Type::AddressOrStar
            | Type::Network
            | Type::Mask
            | Type::Choice(_)
            | Type::Choices(_)
            | Type::Flag
            | Type::Rest => false,
        }
    }

    /// Whether a value of this type takes all the words that follow.
    pub(crate) fn takes_more(&self) -> bool {
        matches!(self, Type::Choices(_) | Type::Tokens(_) | Type::Addresses | Type::Ranges(..))
    }

    /// The words to offer when completing a value.
    pub(crate) fn words(&self) -> Vec<&'static str> {
        match self {
            Type::Choice(choices) | Type::Choices(choices) => offered(choices),
            Type::Name
            | Type::Text(_)
            | Type::Token(_)
            | Type::Tokens(_)
            | Type::Addresses
            | Type::Ranges(..)
            | Type::Secret
            | Type::Number(..)
            | Type::Seconds(..)
            | Type::Span(..)
            | Type::Port
            | Type::PortOrZero
            | Type::Address
            | Type::AddressOrStar
            | Type::Network
            | Type::Monitored
            | Type::Mask
            | Type::Flag
            | Type::Rest => Vec::new(),
        }
    }

    /// How the type is named in help and in the reference, ranges included.
    pub(crate) fn describe(&self) -> String {
        match self {
            Type::Name => "name".to_owned(),
            Type::Text(max) => format!("text, at most {max} bytes"),
            Type::Token(max) => format!("word, at most {max} bytes"),
            Type::Tokens(max) => format!("one or more words, at most {max} bytes each"),
            Type::Addresses => "one or more addresses".to_owned(),
            Type::Ranges(min, max) => format!("one or more of {min}-{max}, or ranges of them"),
            Type::Secret => "password".to_owned(),
            Type::Number(min, max) if min == max => min.to_string(),
            Type::Number(min, max) => format!("{min}-{max}"),
            Type::Seconds(min, max) => format!("seconds, {}-{}", seconds_text(*min), seconds_text(*max)),
            Type::Span(min, max) => {
                format!("seconds, or with MSEC, SEC or MIN; {}-{} s", seconds_text(*min), seconds_text(*max))
            }
            Type::Port => "port 1-65535 or *".to_owned(),
            Type::PortOrZero => "port 0-65535 or *".to_owned(),
            Type::Address => "IPv4 or IPv6 address".to_owned(),
            Type::AddressOrStar => "IPv4 or IPv6 address, or *".to_owned(),
            Type::Network => "address, or address/length".to_owned(),
            Type::Monitored => "address with its netmask or prefix length behind it, or *".to_owned(),
            Type::Mask => "netmask or prefix length".to_owned(),
            Type::Choice(choices) => offered(choices).join(" | "),
            Type::Choices(choices) => format!("one or more of {}", offered(choices).join(" | ")),
            Type::Flag => "no value".to_owned(),
            Type::Rest => "text to the end of the line".to_owned(),
        }
    }
}

impl Value {
    /// The text of a name, comment or password.
    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Value::Text(text) = self { Some(text) } else { None }
    }

    /// The word of an enumeration.
    pub(crate) fn as_word(&self) -> Option<&'static str> {
        if let Value::Word(word) = self { Some(word) } else { None }
    }

    /// A count, a time in milliseconds, or a prefix length.
    pub(crate) fn as_number(&self) -> Option<u64> {
        match self {
            Value::Number(n) | Value::Millis(n) => Some(*n),
            Value::Mask(len) => Some(u64::from(*len)),
            Value::Text(_)
            | Value::Port(_)
            | Value::Address(_)
            | Value::Network(..)
            | Value::Word(_)
            | Value::Words(_)
            | Value::List(_)
            | Value::Flag => None,
        }
    }

    /// A port that is not `*`.
    pub(crate) fn as_port(&self) -> Option<u16> {
        if let Value::Port(port) = self { *port } else { None }
    }

    /// An address that is not `*`, with its prefix length if it has one.
    pub(crate) fn as_network(&self) -> Option<(IpAddr, Option<u8>)> {
        match self {
            Value::Network(addr, len) => Some((*addr, *len)),
            Value::Address(addr) => addr.map(|a| (a, None)),
            Value::Text(_)
            | Value::Number(_)
            | Value::Millis(_)
            | Value::Port(_)
            | Value::Mask(_)
            | Value::Word(_)
            | Value::Words(_)
            | Value::List(_)
            | Value::Flag => None,
        }
    }

    /// The words of the operator's own.
    pub(crate) fn as_list(&self) -> &[String] {
        if let Value::List(words) = self { words } else { &[] }
    }

    /// The same word as a list of one.
    fn into_list(self) -> Value {
        if let Value::Text(text) = self { Value::List(vec![text]) } else { self }
    }

    /// Adds the words of another value, if both are lists; else takes it over.
    pub(crate) fn join(&mut self, more: Value) {
        match (&mut *self, more) {
            (Value::Words(have), Value::Words(more)) => {
                have.extend(more);
                have.sort_unstable();
                have.dedup();
            }
            (Value::List(have), Value::List(more)) => {
                have.extend(more);
                have.sort_unstable();
                have.dedup();
            }
            (_, more) => *self = more,
        }
    }

    /// As [`Value::text`], a password replaced by a mask if `redact`.
    pub(crate) fn shown(&self, kind: &Type, redact: bool) -> String {
        if redact && matches!(kind, Type::Secret) { format!("\"{MASK}\"") } else { self.text() }
    }

    /// The value as a command would have it, quoted where needed.
    pub(crate) fn text(&self) -> String {
        match self {
            Value::Text(text) => quote(text),
            Value::Number(n) => n.to_string(),
            Value::Millis(ms) => seconds_text(*ms),
            Value::Port(None) | Value::Address(None) => "*".to_owned(),
            Value::Port(Some(port)) => port.to_string(),
            Value::Address(Some(addr)) | Value::Network(addr, None) => addr.to_string(),
            Value::Network(addr, Some(len)) => format!("{addr}/{len}"),
            Value::Mask(len) => mask_text(*len),
            Value::Word(word) => (*word).to_owned(),
            Value::Words(words) => words.join(" "),
            Value::List(words) => words.iter().map(|w| quote(w)).collect::<Vec<_>>().join(" "),
            Value::Flag => String::new(),
        }
    }
}

fn offered(choices: &'static [Choice]) -> Vec<&'static str> {
    choices.iter().filter(|c| c.offered).map(|c| c.word).collect()
}

/// Finds the word of `choices` that `text` means.
fn choice(argument: &str, text: &str, choices: &'static [Choice]) -> Result<&'static str, CommandError> {
    let all = || choices.iter().flat_map(|c| [Some(c.word), c.alias].into_iter().flatten());
    let owner = |word: &str| choices.iter().find(|c| c.word == word || c.alias == Some(word));
    // A prefix that only one offered word has means that word, whatever else the market knows.
    let of_offered = || all().filter(|w| owner(w).is_some_and(|c| c.offered));
    let found = match by_prefix(all(), text) {
        Found::Many(_) => by_prefix(of_offered(), text),
        found @ (Found::One(_) | Found::None) => found,
    };
    let allowed = Some(offered(choices)).filter(|words| words.len() <= MAX_ALLOWED).unwrap_or_default();
    match found {
        Found::One(word) => match owner(word) {
            Some(c) if c.offered => Ok(c.word),
            Some(_) | None => Err(CommandError::about(messages::INVALID_VALUE, argument, word).allowing(allowed)),
        },
        Found::Many(words) => Err(CommandError::about(messages::AMBIGUOUS_VALUE, argument, text).allowing(words)),
        Found::None => {
            let meant = nearest(of_offered(), text);
            Err(CommandError::about(messages::INVALID_ARGUMENT_VALUE, argument, text).allowing(allowed).meaning(meant))
        }
    }
}

type Refused = crate::error::Message;

/// The market's rule for names of objects.
fn name(text: &str) -> Result<Value, Refused> {
    let mut chars = text.chars();
    let first_ok = chars.next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    let rest_ok = chars.all(|c| c.is_ascii_alphanumeric() || "_#. :@=-".contains(c));
    match (text.len() <= 127, first_ok && rest_ok && !text.ends_with(' ')) {
        (false, _) => Err(messages::STRING_TOO_LONG),
        (true, false) if address(text).is_none() => Err(messages::INVALID_NAME),
        (true, true | false) => Ok(Value::Text(text.to_owned())),
    }
}

fn token(text: &str, max: usize) -> Result<Value, Refused> {
    let ok = |c: char| c.is_ascii_alphanumeric() || "_./:@-".contains(c);
    match (text.len() <= max, text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(ok)) {
        (false, _) => Err(messages::STRING_TOO_LONG),
        (true, false) => Err(messages::INVALID_ARGUMENT_VALUE),
        (true, true) => Ok(Value::Text(text.to_owned())),
    }
}

fn number(text: &str, min: u64, max: u64) -> Result<u64, Refused> {
    match text.parse::<u64>() {
        Ok(n) => in_range(n, min, max),
        Err(_) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => Err(messages::ABOVE_MAXIMUM),
        Err(_) if text.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())) => {
            Err(messages::BELOW_MINIMUM)
        }
        Err(_) => Err(messages::INVALID_ARGUMENT_VALUE),
    }
}

/// `200`, or `200-210`.
fn range(text: &str, min: u64, max: u64) -> Result<String, Refused> {
    let Some((first, last)) = text.split_once('-').filter(|(first, _)| !first.is_empty()) else {
        return number(text, min, max).map(|n| n.to_string());
    };
    match (number(first, min, max)?, number(last, min, max)?) {
        (first, last) if first > last => Err(messages::BAD_RANGE),
        (first, last) if first == last => Ok(first.to_string()),
        (first, last) => Ok(format!("{first}-{last}")),
    }
}

fn in_range(n: u64, min: u64, max: u64) -> Result<u64, Refused> {
    if n > max {
        Err(messages::ABOVE_MAXIMUM)
    } else if n < min {
        Err(messages::BELOW_MINIMUM)
    } else {
        Ok(n)
    }
}

/// `0.4` is 400.
fn decimal_millis(text: &str) -> Result<u64, Refused> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3
        || !decimals.bytes().all(|b| b.is_ascii_digit())
        || (text.contains('.') && decimals.is_empty())
    {
        return Err(messages::INVALID_ARGUMENT_VALUE);
    }
    let whole = number(whole, 0, 1_000_000_000)?;
    let thousandths = decimals.bytes().chain(*b"000").take(3).fold(0, |sum, b| sum * 10 + u64::from(b - b'0'));
    Ok(whole * 1000 + thousandths)
}

fn span(argument: &str, text: &str, unit: Option<&str>, min: u64, max: u64) -> Result<Value, CommandError> {
    let unit = unit.map_or(Ok("SEC"), |u| choice(argument, u, UNITS))?;
    let millis = match unit {
        "MSEC" => number(text, 0, 1_000_000_000),
        "MIN" => number(text, 0, 1_000_000).map(|m| m * 60_000),
        _ => decimal_millis(text),
    };
    let checked = millis.and_then(|ms| in_range(ms, min, max));
    checked.map(Value::Millis).map_err(|message| CommandError::about(message, argument, text))
}

/// Port numbers; `*` is `None`, and so is the REST spelling 65535.
fn port(text: &str, min: u64) -> Result<Option<u16>, Refused> {
    if text == "*" {
        return Ok(None);
    }
    let port = number(text, min, 65535)?;
    Ok(u16::try_from(port).ok().filter(|p| *p != u16::MAX))
}

fn address(text: &str) -> Option<IpAddr> {
    let addr: IpAddr = text.parse().ok()?;
    // A mapped address would be two spellings of one thing.
    match addr {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        IpAddr::V4(_) | IpAddr::V6(_) => Some(addr),
    }
}

/// An address, and its mask in the same word or in the next.
fn monitored(text: &str, mask_word: Option<&str>) -> Result<Value, Refused> {
    let (Value::Network(addr, len), Some(word)) = (network(text)?, mask_word) else { return network(text) };
    let given = mask(word).filter(|given| len.is_none() && *given <= address_bits(addr));
    given.map(|given| Value::Network(addr, Some(given))).ok_or(messages::INVALID_NETMASK)
}

fn network(text: &str) -> Result<Value, Refused> {
    let (addr, len) = match text.split_once('/') {
        Some((addr, len)) => (addr, Some(len)),
        None => (text, None),
    };
    let addr = address(addr).ok_or(messages::INVALID_IP)?;
    let bits = address_bits(addr);
    match len.map(|l| l.parse::<u8>()) {
        None => Ok(Value::Network(addr, None)),
        Some(Ok(len)) if len <= bits => Ok(Value::Network(addr, Some(len))),
        Some(Ok(_) | Err(_)) => Err(messages::INVALID_NETMASK),
    }
}

/// A contiguous IPv4 netmask or a prefix length up to 128, as a length.
fn mask(text: &str) -> Option<u8> {
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = u32::from(mask);
        let len = bits.leading_ones();
        return (bits.count_ones() == len).then_some(len as u8);
    }
    text.parse::<u8>().ok().filter(|len| *len <= 128 && !text.starts_with('+'))
}

/// Bits of an address of this family.
pub(crate) fn address_bits(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// The address with everything behind the prefix cleared.
pub(crate) fn masked(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(len.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & keep))
        }
        IpAddr::V6(v6) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(len.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & keep))
        }
    }
}

/// A prefix length as the market writes it: dotted up to 32, a number above.
pub(crate) fn mask_text(len: u8) -> String {
    if len > 32 {
        return len.to_string();
    }
    Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)).to_string()
}

/// Milliseconds as seconds with the decimals that are needed.
pub(crate) fn seconds_text(ms: u64) -> String {
    let mut text = (ms / 1000).to_string();
    if !ms.is_multiple_of(1000) {
        let _ = write!(text, ".{:03}", ms % 1000);
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

/// Quotes a text if the lexer would not give it back as one unquoted word.
pub(crate) fn quote(text: &str) -> String {
    let first = |c: char| c.is_alphanumeric() || "_*:./".contains(c);
    let later = |c: char| first(c) || "#@=,+%&-".contains(c);
    let raw = text.starts_with("q/");
    let simple = !raw && text.starts_with(first) && text.chars().all(later);
    if simple {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        // In front of a letter or a digit the lexer leaves a backslash as it is.
        let stays = c == '\\' && chars.peek().is_some_and(char::is_ascii_alphanumeric);
        if (c == '"' || c == '\\') && !stays {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}
