//! Completion, help and the reference, all read from the table.

use core::fmt::Write as _;

use crate::lexer::{Token, tokens};
use crate::matching::begins;
use crate::parse::{find_option, find_row, find_verb};
use crate::table::{Arg, Opt, Row, rows};
use crate::value::Type;

/// A word that could come next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The word; `<name>` in angle brackets stands for a value of the operator's.
    pub word: String,
    /// One line about it.
    pub doc: String,
}

fn completion(word: impl Into<String>, doc: impl Into<String>) -> Completion {
    Completion { word: word.into(), doc: doc.into() }
}

/// The words that could stand where `line` ends, in the order of the table.
///
/// A blank at the end asks for the next word; otherwise the last word is completed. Lines that
/// cannot be a command give nothing.
pub fn complete(line: &str) -> Vec<Completion> {
    let Ok(mut words) = tokens(line) else { return Vec::new() };
    let partial = match line.ends_with(char::is_whitespace) || line.is_empty() {
        true => String::new(),
        false => words.pop().map(|t| t.text).unwrap_or_default(),
    };
    let mut found = match words.first() {
        None => verbs(),
        Some(_) => match find_row(&words) {
            Ok((row, used)) => values(row, &words[used..], &partial),
            Err(_) => objects(&words),
        },
    };
    found.retain(|c| partial.is_empty() || c.word.starts_with('<') || begins(&c.word, &partial));
    found
}

fn verbs() -> Vec<Completion> {
    let mut found: Vec<Completion> = Vec::new();
    for row in rows() {
        if !found.iter().any(|c| c.word == row.verb) {
            found.push(completion(row.verb, ""));
        }
    }
    found
}

/// Words of objects behind a verb, and perhaps a group word.
fn objects(words: &[Token]) -> Vec<Completion> {
    let Ok(verb) = find_verb(&words[0].text) else { return Vec::new() };
    let mut found: Vec<Completion> = Vec::new();
    for row in rows().filter(|r| r.verb == verb) {
        let next = match (words.len(), row.object) {
            (1, [group, _]) => Some((*group, "")),
            (1, [object]) => Some((*object, row.doc)),
            (2, [group, object]) if begins(group, &words[1].text) => Some((*object, row.doc)),
            _ => None,
        };
        match next {
            Some((word, doc)) if !found.iter().any(|c| c.word == word) => found.push(completion(word, doc)),
            Some(_) | None => {}
        }
    }
    found
}

/// Values and options behind the words of a command.
fn values(row: &'static Row, words: &[Token], partial: &str) -> Vec<Completion> {
    if let Some(opt) = open_option(row, words) {
        return of_type(opt.name, &opt.kind, opt.doc);
    }
    let mut found = Vec::new();
    if !partial.starts_with('-') {
        let next = next_argument(row, words);
        found.extend(next.map(|arg| of_type(arg.name, &arg.kind, arg.doc)).unwrap_or_default());
    }
    let given = |opt: &&Opt| words.iter().any(|w| w.option().is_some_and(|n| opt.name.eq_ignore_ascii_case(n)));
    let listed = row.opts.iter().filter(|o| !o.neutral && !given(o));
    found.extend(listed.map(|o| completion(format!("-{}", o.name), o.doc)));
    found
}

/// The option whose value is to come, if the last word is one.
fn open_option(row: &'static Row, words: &[Token]) -> Option<&'static Opt> {
    let opt = find_option(row, words.last()?.option()?).ok()?;
    (!row.clears && !matches!(opt.kind, Type::Flag)).then_some(opt)
}

fn next_argument(row: &'static Row, words: &[Token]) -> Option<&'static Arg> {
    let mut used = 0;
    let mut skip = false;
    for word in words {
        match word.option() {
            Some(name) => skip = find_option(row, name).is_ok_and(|o| !row.clears && !matches!(o.kind, Type::Flag)),
            None if skip => skip = false,
            None => used += 1,
        }
    }
    let last = row.args.last().filter(|a| a.kind.takes_more());
    row.args.get(used).or(last)
}

fn of_type(name: &str, kind: &Type, doc: &str) -> Vec<Completion> {
    let words = kind.words();
    if words.is_empty() {
        return vec![completion(format!("<{name}>"), format!("{doc} ({})", kind.describe()))];
    }
    words.into_iter().map(|w| completion(w, "")).collect()
}

/// Help about the commands that begin with `words`: a list, or everything about the only one.
pub fn help(words: &str) -> String {
    let Ok(typed) = tokens(words) else { return String::new() };
    if let Ok((row, _)) = find_row(&typed) {
        return about(row);
    }
    let fits = |row: &&Row| {
        let title: Vec<&str> = core::iter::once(row.verb).chain(row.object.iter().copied()).collect();
        let mut typed = typed.iter().map(|t| t.text.as_str());
        typed.all(|word| title.iter().any(|t| begins(t, word)))
    };
    let mut text = String::new();
    let found: Vec<&'static Row> = rows().filter(fits).collect();
    if let [only] = found.as_slice() {
        return about(only);
    }
    for row in found {
        let _ = writeln!(text, "{:<28} {}", row.title(), row.doc);
    }
    text
}

fn about(row: &'static Row) -> String {
    let mut text = format!("{}\n\n    {}\n", row.doc, syntax(row));
    let mut line = |name: String, kind: &Type, default: Option<&str>, doc: &str| {
        let default = default.filter(|d| !d.is_empty()).map(|d| format!(" Default: {d}.")).unwrap_or_default();
        let _ = write!(text, "\n    {name}\n        {doc} ({}){default}\n", kind.describe());
    };
    for arg in row.args {
        line(arg.name.to_owned(), &arg.kind, None, arg.doc);
    }
    for opt in row.opts.iter().filter(|o| !o.neutral) {
        line(format!("-{}", opt.name), &opt.kind, opt.default, opt.doc);
    }
    text
}

/// The form of a command on one line.
fn syntax(row: &Row) -> String {
    let mut text = row.title();
    for arg in row.args {
        let dots = if arg.kind.takes_more() { " ..." } else { "" };
        let form = format!("<{}>{dots}", arg.name);
        let _ = write!(text, " {}", if arg.required { form } else { format!("[{form}]") });
    }
    for opt in row.opts.iter().filter(|o| !o.neutral) {
        let form = match (row.clears, &opt.kind) {
            (true, _) | (false, Type::Flag) => format!("-{}", opt.name),
            (false, Type::Choice(_)) => format!("-{} ( {} )", opt.name, opt.kind.words().join(" | ")),
            (false, kind) => format!("-{} <{}>{}", opt.name, opt.name, if kind.takes_more() { " ..." } else { "" }),
        };
        let _ = write!(text, " {}", if opt.required && !row.clears { form } else { format!("[{form}]") });
    }
    text
}

/// The reference of the command language as Markdown: `docs/cli.md`.
pub fn reference_markdown() -> String {
    let mut text = String::from(
        "# Commands\n\n<!-- Written by holdfast_config::reference_markdown(); a test compares. \
         Regenerate: HOLDFAST_REGENERATE=1 cargo test -p holdfast-config -->\n\n\
         Words are case-insensitive and may be shortened while they stay unambiguous; the group words `lb`, `ns` and\n\
         `HA` may be left out. `name[1-3]` stands for three commands. Success prints ` Done`, failure\n\
         `ERROR: <text> [<word>]`.\n",
    );
    let mut objects: Vec<String> = Vec::new();
    for row in rows() {
        let object = row.object.join(" ");
        if !objects.contains(&object) {
            objects.push(object);
        }
    }
    for object in &objects {
        let title = if object.is_empty() { "session" } else { object };
        let _ = write!(text, "\n## {title}\n");
        let of_object = || rows().filter(|r| r.object.join(" ") == *object);
        of_object().for_each(|row| reference_of(row, &mut text));
        let all = of_object().flat_map(|r| r.opts.iter());
        options_table(all, &mut text);
    }
    text + &crate::rules::markdown()
}

fn reference_of(row: &'static Row, text: &mut String) {
    let extension = if row.extension { " (Extension.)" } else { "" };
    let _ = write!(text, "\n```\n{}\n```\n\n{}{extension}\n", syntax(row), row.doc);
    if !row.args.is_empty() {
        text.push('\n');
    }
    for arg in row.args {
        let _ = writeln!(text, "- `{}`: {} ({}; REST `{}`)", arg.name, arg.doc, arg.kind.describe(), arg.json);
    }
}

fn options_table(options: impl Iterator<Item = &'static Opt>, text: &mut String) {
    let mut seen: Vec<&str> = Vec::new();
    for opt in options {
        if seen.contains(&opt.name) {
            continue;
        }
        if seen.is_empty() {
            text.push_str("\n| Option | Values | Default | Meaning | REST |\n|---|---|---|---|---|\n");
        }
        seen.push(opt.name);
        let values = opt.kind.describe().replace('|', "\\|");
        let (default, json) = (opt.default.unwrap_or("").trim(), opt.json);
        let _ = writeln!(text, "| `-{}` | {values} | {default} | {} | {json} |", opt.name, opt.doc);
    }
}
