//! A line cut into words: blanks, quotes, escapes, comments.

use crate::error::{CommandError, messages};

/// A word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// Its text, without quotes and escapes.
    pub text: String,
    /// It was quoted, at least in part: never an option, never a range.
    pub quoted: bool,
    /// Where it begins in the line, in bytes.
    pub start: usize,
}

impl Token {
    /// The word names an option: `-x…`, unquoted.
    pub(crate) fn option(&self) -> Option<&str> {
        let name = self.text.strip_prefix('-').filter(|_| !self.quoted)?;
        name.starts_with(|c: char| c.is_ascii_alphabetic()).then_some(name)
    }
}

/// Cuts `line`. A word that begins with `#` starts a comment.
///
/// Quotes are `"…"` and `'…'` (inside, a backslash protects the next character, and stays as it is in front of a letter
/// or a digit: texts of monitors have `\r`, `\n` and `\x41`) and `q/…/` (everything up to the same delimiter, raw).
pub(crate) fn tokens(line: &str) -> Result<Vec<Token>, CommandError> {
    let mut found = Vec::new();
    let mut chars = line.char_indices().peekable();
    while let Some(&(start, c)) = chars.peek() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        if c == '#' {
            break;
        }
        found.push(token(&mut chars, start)?);
    }
    Ok(found)
}

type Chars<'a> = core::iter::Peekable<core::str::CharIndices<'a>>;

fn token(chars: &mut Chars<'_>, start: usize) -> Result<Token, CommandError> {
    let mut token = Token { text: String::new(), quoted: false, start };
    while let Some((at, c)) = chars.next_if(|(_, c)| !c.is_whitespace()) {
        match c {
            '"' | '\'' => {
                token.quoted = true;
                quoted(chars, c, true, &mut token.text)?;
            }
            'q' if at == start && chars.peek().is_some_and(|(_, d)| "/|~^{".contains(*d)) => {
                token.quoted = true;
                let (_, open) = chars.next().unwrap_or((at, '/'));
                quoted(chars, if open == '{' { '}' } else { open }, false, &mut token.text)?;
            }
            _ => token.text.push(c),
        }
    }
    Ok(token)
}

fn quoted(chars: &mut Chars<'_>, end: char, escapes: bool, into: &mut String) -> Result<(), CommandError> {
    while let Some((_, c)) = chars.next() {
        if c == end {
            return Ok(());
        }
        if c == '\\' && escapes {
            match chars.next() {
                Some((_, next)) => {
                    if next.is_ascii_alphanumeric() {
                        into.push(c);
                    }
                    into.push(next);
                }
                None => break,
            }
        } else {
            into.push(c);
        }
    }
    Err(CommandError::with(messages::UNMATCHED_QUOTE, end))
}
