//! The interactive shell.

use crate::client::{Client, Outcome};
use crate::print::{print_text, run_and_confirm};
use crate::words::has_secret;
use anyhow::{Context, Result};
use holdfast_config::{Action, Kind, Warning, complete, help, messages, parse};
use reedline::{
    ColumnarMenu, Completer, CompletionResult, CursorConfig, DefaultHinter, Emacs, FileBackedHistory, History,
    HistoryItem, HistoryItemId, HistorySessionId, KeyCode, KeyModifiers, MenuBuilder, Prompt, PromptEditMode,
    PromptHistorySearch, Reedline, ReedlineEvent, ReedlineMenu, SearchQuery, Signal, Span, Suggestion,
    default_emacs_keybindings,
};
use serde_json::Value;
use std::borrow::Cow;
use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Lines kept in `~/.holdfast_history`.
const HISTORY_LINES: usize = 1000;

const MENU: &str = "completions";

/// `> `, in every mode.
struct Arrow;

impl Prompt for Arrow {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        "> ".into()
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        "".into()
    }
    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        "".into()
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        "".into()
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        format!("(search: {}) ", search.term).into()
    }
}

/// Completion by the command table.
struct TableCompleter;

impl Completer for TableCompleter {
    fn complete(&mut self, line: &str, position: usize) -> CompletionResult {
        CompletionResult::fresh(suggestions(line.get(..position).unwrap_or(line)))
    }
}

/// What could stand at the end of `line`. `<values>` of the operator's own are
/// shown and never inserted.
pub(crate) fn suggestions(line: &str) -> Vec<Suggestion> {
    let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let suggest = |found: holdfast_config::Completion| {
        let own_value = found.word.starts_with('<');
        Suggestion {
            value: if own_value { line[start..].to_owned() } else { found.word.clone() },
            display_override: own_value.then_some(found.word),
            description: Some(found.doc).filter(|doc| !doc.is_empty()),
            span: Span::new(start, line.len()),
            append_whitespace: !own_value,
            ..Suggestion::default()
        }
    };
    complete(line).into_iter().map(suggest).collect()
}

/// Help about what is typed so far; the last word may be half of one.
fn help_about(line: &str) -> String {
    let text = help(line.trim_end_matches('?').trim());
    if !text.is_empty() {
        return text;
    }
    let words = complete(line).into_iter().map(|found| format!("  {:<28} {}\n", found.word, found.doc));
    words.collect()
}

/// Reads, runs, prints, until `exit` or Ctrl-D. Returns how the last command ended.
pub fn run(client: &mut Client, socket: &Path, json: bool) -> Result<Outcome> {
    let mut editor = editor();
    let mut outcome = Outcome::Done;
    if is_secondary(client) {
        print_text(&Warning::new(messages::CONNECTED_TO_SECONDARY).to_string());
    }
    loop {
        match editor.read_line(&Arrow).context("cannot read from the terminal")? {
            Signal::Success(line) => match line.trim() {
                "" => {}
                "exit" | "quit" => return Ok(outcome),
                line if line.ends_with('?') => print_text(&help_about(line)),
                line => match line.split_once(char::is_whitespace).unwrap_or((line, "")) {
                    ("help", words) => print_text(&help_about(words)),
                    _ => outcome = run_line(client, socket, &with_answers(line)?, json)?,
                },
            },
            Signal::HostCommand(_) => {
                let line = editor.current_buffer_contents().to_owned();
                print_text(&format!("?\n{}", help_about(&line)));
            }
            Signal::CtrlC => {}
            Signal::CtrlD | Signal::ExternalBreak(_) => return Ok(outcome),
            _ => {}
        }
    }
}

/// A command that leaves a question open, with the operator's answer to it.
fn with_answers(line: &str) -> Result<String> {
    let says = line.split_whitespace().any(|word| word.to_ascii_lowercase().starts_with("-s"));
    let kind = parse(line).ok().map(|command| command.kind());
    if says || !matches!(kind, Some(Kind::Action(Action::ForceSync { .. }))) {
        return Ok(line.to_owned());
    }
    print!("{} ", messages::SAVE_AFTER_SYNC.text);
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read from the terminal")?;
    Ok(format!("{line} -save {}", save_answer(&answer)))
}

/// What an answer to 1149 means; none means yes.
pub(crate) fn save_answer(answer: &str) -> &'static str {
    if answer.trim().to_ascii_lowercase().starts_with('n') { "NO" } else { "YES" }
}

/// Whether the node follows another one. What cannot be found out is no reason to greet anybody.
fn is_secondary(client: &mut Client) -> bool {
    let Ok((Outcome::Done, answer)) = client.ask("show ha node 0", true) else { return false };
    let role = |answer: Value| answer["hanode"][0]["state"].as_str().map(str::to_owned);
    serde_json::from_str(&answer).ok().and_then(role).is_some_and(|role| role == "Secondary")
}

/// The node may have been restarted since the last command: connect once more.
fn run_line(client: &mut Client, socket: &Path, line: &str, json: bool) -> Result<Outcome> {
    match run_and_confirm(client, line, json) {
        Ok(outcome) => Ok(outcome),
        Err(lost) => {
            eprintln!("{lost:#}");
            match Client::connect(socket) {
                Ok(fresh) => {
                    *client = fresh;
                    eprintln!("connected again; the command was not repeated");
                }
                Err(error) => eprintln!("{error:#}"),
            }
            Ok(Outcome::Failed)
        }
    }
}

fn editor() -> Reedline {
    let mut keys = default_emacs_keybindings();
    let menu = || ReedlineEvent::Menu(MENU.to_owned());
    let next = ReedlineEvent::UntilFound(vec![menu(), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, next);
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    for modifier in [KeyModifiers::NONE, KeyModifiers::SHIFT] {
        keys.add_binding(modifier, KeyCode::Char('?'), ReedlineEvent::ExecuteHostCommand("help".to_owned()));
    }
    let menu = ColumnarMenu::default().with_name(MENU).with_columns(4);
    let editor = Reedline::create()
        .with_completer(Box::new(TableCompleter))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_hinter(Box::new(DefaultHinter::default()))
        .with_cursor_config(CursorConfig::default())
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_edit_mode(Box::new(Emacs::new(keys)));
    match history_file().and_then(|path| FileBackedHistory::with_file(HISTORY_LINES, path).ok()) {
        Some(history) => editor.with_history(Box::new(Discreet(history))),
        None => editor,
    }
}

/// The history's file, readable by its owner only.
fn history_file() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("HOME")?).join(".holdfast_history");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).ok()?;
    file.set_permissions(Permissions::from_mode(0o600)).ok()?;
    Some(path)
}

/// A history that never learns a password.
struct Discreet(FileBackedHistory);

impl History for Discreet {
    fn save(&mut self, entry: HistoryItem) -> reedline::Result<HistoryItem> {
        if has_secret(&entry.command_line) { Ok(entry) } else { self.0.save(entry) }
    }
    fn load(&self, id: HistoryItemId) -> reedline::Result<HistoryItem> {
        self.0.load(id)
    }
    fn count(&self, query: SearchQuery) -> reedline::Result<i64> {
        self.0.count(query)
    }
    fn search(&self, query: SearchQuery) -> reedline::Result<Vec<HistoryItem>> {
        self.0.search(query)
    }
    fn update(&mut self, id: HistoryItemId, updater: &dyn Fn(HistoryItem) -> HistoryItem) -> reedline::Result<()> {
        self.0.update(id, updater)
    }
    fn clear(&mut self) -> reedline::Result<()> {
        self.0.clear()
    }
    fn delete(&mut self, id: HistoryItemId) -> reedline::Result<()> {
        self.0.delete(id)
    }
    fn sync(&mut self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn session(&self) -> Option<HistorySessionId> {
        self.0.session()
    }
}
