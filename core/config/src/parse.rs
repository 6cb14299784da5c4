//! From a line to a command: words, abbreviations, values.

use crate::MAX_LINE;
use crate::command::Command;
use crate::error::{CommandError, messages};
use crate::lexer::{Token, tokens};
use crate::matching::{Found, begins, by_prefix, nearest};
use crate::table::{Opt, Row, rows};
use crate::value::{Type, Value};

/// Most commands that one line with bracket ranges may stand for.
const MAX_RANGE: u32 = 254;

/// Reads one command.
///
/// Words are case-insensitive and may be shortened while they stay unambiguous; the group word
/// (`lb`, `ns`, `HA`) may be left out. An empty line or a comment is `No such command`: callers
/// skip those.
pub fn parse(line: &str) -> Result<Command, CommandError> {
    parse_tokens(&checked_tokens(line)?, line)
}

/// Reads a line that may contain bracket ranges (`vs[1-3]`): one command per step of the range.
///
/// All ranges of a line have the same size and advance together.
pub fn parse_all(line: &str) -> Result<Vec<Command>, CommandError> {
    let tokens = checked_tokens(line)?;
    let ranges = tokens.iter().map(range).collect::<Result<Vec<_>, _>>()?;
    let mut sizes = ranges.iter().flatten().map(|r| r.last - r.first);
    let Some(size) = sizes.next() else {
        return Ok(vec![parse_tokens(&tokens, line)?]);
    };
    if sizes.any(|other| other != size) {
        return Err(CommandError::new(messages::MISMATCHED_RANGES));
    }
    let step = |n: u32| {
        let pairs = tokens.iter().zip(&ranges);
        let words: Vec<Token> = pairs.map(|(t, r)| r.as_ref().map_or(t.clone(), |r| r.at(t, n))).collect();
        parse_tokens(&words, line)
    };
    (0..=size).map(step).collect()
}

fn checked_tokens(line: &str) -> Result<Vec<Token>, CommandError> {
    if line.len() > MAX_LINE {
        return Err(CommandError::new(messages::STRING_TOO_LONG));
    }
    if line.trim_end().chars().any(|c| c.is_control() && c != '\t') {
        return Err(CommandError::new(messages::INVALID_ARGUMENT));
    }
    tokens(line)
}

fn parse_tokens(tokens: &[Token], line: &str) -> Result<Command, CommandError> {
    let (row, used) = find_row(tokens)?;
    read_values(row, &tokens[used..], line)
}

/// A bracket range in a word.
struct Range {
    head: usize,
    tail: usize,
    first: u32,
    last: u32,
}

impl Range {
    fn at(&self, token: &Token, n: u32) -> Token {
        let text = format!("{}{}{}", &token.text[..self.head], self.first + n, &token.text[self.tail..]);
        Token { text, ..token.clone() }
    }
}

fn range(token: &Token) -> Result<Option<Range>, CommandError> {
    let Some(open) = token.text.find('[').filter(|_| !token.quoted) else { return Ok(None) };
    let bad = |message| CommandError::with(message, token.text.clone());
    let rest = &token.text[open + 1..];
    let (inside, after) = rest.split_once(']').ok_or_else(|| bad(messages::INVALID_RANGE))?;
    if after.contains('[') {
        return Err(bad(messages::MULTIPLE_RANGES));
    }
    let ends = inside.split_once('-').map(|(a, b)| (a.parse::<u32>(), b.parse::<u32>()));
    let Some((Ok(first), Ok(last))) = ends else { return Err(bad(messages::INVALID_RANGE)) };
    if first > last {
        return Err(bad(messages::BAD_RANGE));
    }
    if last - first >= MAX_RANGE {
        return Err(bad(messages::ABOVE_MAXIMUM));
    }
    Ok(Some(Range { head: open, tail: token.text.len() - after.len(), first, last }))
}

/// The verb that a word means.
pub(crate) fn find_verb(word: &str) -> Result<&'static str, CommandError> {
    match by_prefix(rows().map(|r| r.verb), word) {
        Found::One(verb) => Ok(verb),
        Found::Many(verbs) => Err(CommandError::with(messages::AMBIGUOUS_COMMAND, word).allowing(verbs)),
        Found::None => {
            let meant = nearest(rows().map(|r| r.verb), word);
            Err(CommandError::with(messages::NO_SUCH_COMMAND, word).meaning(meant))
        }
    }
}

/// The row that the first words mean, and how many words that took.
pub(crate) fn find_row(tokens: &[Token]) -> Result<(&'static Row, usize), CommandError> {
    let Some(first) = tokens.first() else { return Err(CommandError::new(messages::NO_SUCH_COMMAND)) };
    let verb = find_verb(&first.text)?;
    let words = &tokens[1..];
    let matched = rows().filter(|r| r.verb == verb).filter_map(|row| Some((object_rank(row, words)?, row)));
    let matched: Vec<((usize, usize), &'static Row)> = matched.collect();
    let Some(best) = matched.iter().map(|(rank, _)| *rank).max() else {
        return Err(no_such_object(verb, words));
    };
    let mut rows = matched.iter().filter(|(rank, _)| *rank == best).map(|(_, row)| *row);
    let row = rows.next().unwrap_or(matched[0].1);
    let others: Vec<&'static str> = rows.map(object_name).collect();
    if others.is_empty() {
        return Ok((row, 1 + best.0));
    }
    let typed: Vec<&str> = tokens[..1 + best.0].iter().map(|t| t.text.as_str()).collect();
    let mut allowed = vec![object_name(row)];
    allowed.extend(others);
    Err(CommandError::with(messages::AMBIGUOUS_COMMAND, typed.join(" ")).allowing(allowed))
}

fn object_name(row: &'static Row) -> &'static str {
    row.object.last().copied().unwrap_or(row.verb)
}

/// How well the words fit the row's object: (words used, words exact), or not at all.
fn object_rank(row: &Row, words: &[Token]) -> Option<(usize, usize)> {
    let short = if row.object.len() > 1 { &row.object[1..] } else { row.object };
    [row.object, short].iter().filter_map(|form| form_rank(form, words)).max()
}

fn form_rank(form: &[&'static str], words: &[Token]) -> Option<(usize, usize)> {
    let words = words.get(..form.len())?;
    let pairs = || form.iter().zip(words);
    let fits = pairs().all(|(word, typed)| !typed.quoted && begins(word, &typed.text));
    let exact = pairs().filter(|(word, typed)| word.eq_ignore_ascii_case(&typed.text)).count();
    fits.then_some((form.len(), exact))
}

fn no_such_object(verb: &'static str, words: &[Token]) -> CommandError {
    let typed: Vec<&str> = words.iter().take(2).map(|t| t.text.as_str()).collect();
    let of_verb = || rows().filter(|r| r.verb == verb);
    let word = format!("{verb} {}", typed.join(" "));
    let error = CommandError::with(messages::NO_SUCH_COMMAND, word.trim_end());
    let in_group = |typed: &str| {
        let fits = |row: &&Row| row.object.len() == 2 && begins(row.object[0], typed);
        of_verb().filter(fits).map(object_name).collect::<Vec<_>>()
    };
    match typed.as_slice() {
        [] => error.allowing(distinct(of_verb().map(object_name))),
        [group] => error.allowing(in_group(group)).meaning(nearest(of_verb().map(object_name), group)),
        [group, object, ..] => {
            let siblings = in_group(group);
            let meant = nearest(siblings.iter().copied(), object);
            error.allowing(siblings).meaning(meant)
        }
    }
}

fn distinct(words: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for word in words {
        if !found.contains(&word) {
            found.push(word);
        }
    }
    found
}

/// Finds the option that `name` abbreviates.
pub(crate) fn find_option(row: &'static Row, name: &str) -> Result<&'static Opt, CommandError> {
    match by_prefix(row.opts.iter().map(|o| o.name), name) {
        Found::One(found) => {
            let opt = row.opts.iter().find(|o| o.name == found);
            opt.ok_or_else(|| CommandError::with(messages::NO_SUCH_ARGUMENT, name))
        }
        Found::Many(names) => Err(CommandError::with(messages::AMBIGUOUS_ARGUMENT, name).allowing(names)),
        Found::None => {
            let meant = nearest(row.opts.iter().map(|o| o.name), name);
            Err(CommandError::with(messages::NO_SUCH_ARGUMENT, format!("-{name}")).meaning(meant))
        }
    }
}

fn read_values(row: &'static Row, words: &[Token], line: &str) -> Result<Command, CommandError> {
    let mut command = Command { row, args: vec![None; row.args.len()], opts: Vec::new() };
    if let (Some(Type::Rest), Some(first)) = (row.args.first().map(|a| a.kind), words.first()) {
        command.args[0] = Some(Value::Text(line[first.start..].trim_end().to_owned()));
        return Ok(command);
    }
    let mut words = words.iter().peekable();
    let mut next_arg = 0;
    while let Some(word) = words.next() {
        match word.option() {
            Some(name) => read_option(&mut command, name, &mut words)?,
            None => read_argument(&mut command, &mut next_arg, word)?,
        }
    }
    command.opts.sort_by_key(|(opt, _)| row.opts.iter().position(|o| o.name == opt.name));
    check_complete(command)
}

type Words<'a> = core::iter::Peekable<core::slice::Iter<'a, Token>>;

fn read_option(command: &mut Command, name: &str, words: &mut Words<'_>) -> Result<(), CommandError> {
    let opt = find_option(command.row, name)?;
    if command.option(opt.name).is_some() {
        return Err(CommandError::with(messages::MUTUALLY_EXCLUSIVE, opt.name));
    }
    let value = if command.row.clears || matches!(opt.kind, Type::Flag) {
        Value::Flag
    } else {
        let Some(word) = words.next_if(|w| w.option().is_none()) else {
            return Err(CommandError::with(messages::VALUE_MISSING, opt.name));
        };
        let unit = words.next_if(|w| w.option().is_none() && opt.kind.takes_unit(&w.text));
        let mut value = opt.kind.read(opt.name, &word.text, unit.map(|u| u.text.as_str()))?;
        while let Some(word) = words.next_if(|w| w.option().is_none() && opt.kind.takes_more()) {
            value.join(opt.kind.read(opt.name, &word.text, None)?);
        }
        value
    };
    command.opts.push((opt, value));
    Ok(())
}

fn read_argument(command: &mut Command, next: &mut usize, word: &Token) -> Result<(), CommandError> {
    let Some(arg) = command.row.args.get(*next) else {
        return Err(CommandError::with(messages::NO_SUCH_ARGUMENT, word.text.clone()));
    };
    if let Some((_, value)) = arg.unless.filter(|(option, _)| command.flag(option)) {
        command.args[*next] = Some(arg.kind.read(arg.name, value, None)?);
        *next += 1;
        return read_argument(command, next, word);
    }
    let value = arg.kind.read(arg.name, &word.text, None)?;
    match &mut command.args[*next] {
        Some(have) => have.join(value),
        slot => *slot = Some(value),
    }
    if !arg.kind.takes_more() {
        *next += 1;
    }
    Ok(())
}

fn check_complete(command: Command) -> Result<Command, CommandError> {
    let row = command.row;
    let missing_arg = row.args.iter().zip(&command.args).find(|(arg, value)| arg.required && value.is_none());
    if let Some((arg, _)) = missing_arg {
        return Err(CommandError::with(messages::ARGUMENT_MISSING, arg.name));
    }
    if row.needs_option && command.opts.is_empty() {
        return Err(CommandError::new(messages::NOTHING_TO_SET));
    }
    let missing = |opt: &&Opt| opt.required && command.option(opt.name).is_none();
    match row.opts.iter().find(missing) {
        Some(opt) if !row.clears => Err(CommandError::with(messages::ARGUMENT_MISSING, opt.name)),
        Some(_) | None => Ok(command),
    }
}
