//! The code about the code: walls, budgets and words, checked over the files.
//!
//! Every finding is `file:line: what is wrong`; the list must be empty.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::{ebpf, matrix};

/// Longest function, in lines.
const MAX_FUNCTION_LINES: usize = 70;
/// Longest file without its inline tests, in lines.
const MAX_FILE_LINES: usize = 800;
/// Files and functions that were over budget when the ratchet was set; it may only shrink.
const RATCHET: &str = "xtask/tidy-ratchet.txt";
/// Where the crates live.
const ROOMS: &[&str] = &["core", "edge", "proof", "xtask"];
/// What may be depended on from outside by crates in `core/`.
const CORE_ALLOWED: &[&str] =
    &["blake3", "chacha20poly1305", "curve25519-dalek", "hashbrown", "proptest", "sha2", "siphasher", "zeroize"];
/// What nobody in `core/` may call: clocks, threads, files, environment, network, the system's randomness.
const CORE_FORBIDDEN: &[&str] = &[
    "SystemTime",
    "std::time::Instant",
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "TcpStream",
    "UdpSocket",
    "getrandom",
    "RandomState",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "println!",
    "eprintln!",
];
/// What no source file may contain, and why.
const FORBIDDEN_EVERYWHERE: &[(&str, &str)] = &[
    ("unbounded_channel", "a queue without a limit"),
    ("mpsc::channel()", "a queue without a limit"),
    ("killall", "a kill by name"),
    ("pkill", "a kill by name"),
];
/// The words that mark unfinished work.
const UNOWNED: &[&str] = &["TODO", "FIXME", "XXX"];

/// One thing that is wrong.
struct Finding {
    file: PathBuf,
    line: usize,
    what: String,
}

/// Runs every check on the checkout at `root`; an error lists all findings.
pub fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    let sources = sources(root)?;
    for (path, text) in &sources {
        check_words(path, text, &mut findings);
        check_unsafe(path, text, &mut findings);
        check_purity(path, text, &mut findings);
        check_sleep(path, text, &mut findings);
    }
    check_sizes(root, &sources, &mut findings)?;
    check_forbid_unsafe(&sources, &mut findings);
    check_edges(root, &mut findings)?;
    check_drop_reasons(&sources, &mut findings)?;
    if let Err(stale) = ebpf::ensure_fresh(root) {
        findings.push(Finding { file: "xtask/src/ebpf.rs".into(), line: 1, what: format!("{stale:#}") });
    }
    let exists = |name: &str| sources.iter().any(|(_, text)| text.contains(&format!("fn {name}(")));
    for what in matrix::complaints(root, exists)? {
        findings.push(Finding { file: matrix::ROWS.into(), line: 1, what });
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to report", sources.len());
        return Ok(());
    }
    let mut report = String::new();
    for finding in &findings {
        writeln!(report, "{}:{}: {}", finding.file.display(), finding.line, finding.what)?;
    }
    bail!("tidy: {} findings\n{report}", findings.len())
}

/// Every Rust source file, its path relative to the root, in order.
fn sources(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ROOMS.iter().map(|room| root.join(room)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                found.push((path.strip_prefix(root)?.to_owned(), text));
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_test(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// The lines before an inline `#[cfg(test)] mod`, numbered from 1.
fn product_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line)).take_while({
        let mut previous = "";
        move |&(_, line)| {
            let in_tests =
                previous.trim() == "#[cfg(test)]" && line.trim_start().starts_with("mod ") && line.ends_with('{');
            previous = line;
            !in_tests
        }
    })
}

fn check_words(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    // This file has to spell the words it looks for.
    if path.ends_with("xtask/src/tidy.rs") {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN_EVERYWHERE {
            if line.contains(word) {
                findings.push(Finding { file: path.into(), line: index + 1, what: format!("`{word}`: {why}") });
            }
        }
        for word in UNOWNED {
            if line.split(|c: char| !c.is_alphanumeric()).any(|part| part == *word) {
                findings.push(Finding {
                    file: path.into(),
                    line: index + 1,
                    what: format!("`{word}` without an owner"),
                });
            }
        }
    }
}

fn check_unsafe(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    if path.ends_with("xtask/src/tidy.rs") {
        return;
    }
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let opens = code.contains("unsafe {") || code.contains("unsafe impl");
        let explained = lines[index.saturating_sub(6)..=index].iter().any(|near| near.contains("SAFETY:"));
        if opens && !explained {
            findings.push(Finding {
                file: path.into(),
                line: index + 1,
                what: "unsafe without a SAFETY comment".into(),
            });
        }
    }
}

fn check_purity(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    if !path.starts_with("core") || is_test(path) {
        return;
    }
    for (number, line) in product_lines(text) {
        let code = line.split("//").next().unwrap_or_default();
        for word in CORE_FORBIDDEN {
            if code.contains(word) {
                findings.push(Finding { file: path.into(), line: number, what: format!("`{word}` in core/") });
            }
        }
    }
}

/// Compares every file and function with the budgets and the ratchet.
fn check_sizes(root: &Path, sources: &[(PathBuf, String)], findings: &mut Vec<Finding>) -> Result<()> {
    let allowed = ratchet(root)?;
    for (path, text) in sources.iter().filter(|(path, _)| !is_test(path)) {
        let mut check = |name: String, line: usize, size: usize, budget: usize| {
            let limit = allowed.get(&name).copied().unwrap_or(budget);
            if size > limit {
                findings.push(Finding {
                    file: path.clone(),
                    line,
                    what: format!("{name}: {size} lines, budget {limit}"),
                });
            }
        };
        check(path.display().to_string(), 1, product_lines(text).count(), MAX_FILE_LINES);
        for (name, line, size) in functions(text) {
            check(format!("{}::{name}", path.display()), line, size, MAX_FUNCTION_LINES);
        }
    }
    Ok(())
}

fn ratchet(root: &Path) -> Result<BTreeMap<String, usize>> {
    let text = fs::read_to_string(root.join(RATCHET)).unwrap_or_default();
    let mut allowed = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (name, size) = line.rsplit_once(' ').with_context(|| format!("{RATCHET}: `{line}` has no number"))?;
        allowed.insert(name.trim().to_owned(), size.parse().with_context(|| format!("{RATCHET}: `{line}`"))?);
    }
    Ok(allowed)
}

/// Name, first line and length of each function. Relies on rustfmt: a function
/// ends at the first `}` that is indented like its `fn`.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(at) = code.find("fn ") else { continue };
        if !code[..at].split_whitespace().all(is_head) || line.trim_end().ends_with(';') {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let end = format!("{indent}}}");
        let Some(length) = lines[index..].iter().position(|later| later.trim_end() == end) else { continue };
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        found.push((name, index + 1, length + 1));
    }
    found
}

/// Whether a word can stand between the margin and `fn`.
fn is_head(word: &str) -> bool {
    matches!(word, "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"") || word.starts_with("pub(")
}

/// Tests wait for conditions with deadlines, never for time to pass.
fn check_sleep(path: &Path, text: &str, findings: &mut Vec<Finding>) {
    if !is_test(path) {
        return;
    }
    for (index, line) in text.lines().enumerate() {
        if line.split("//").next().is_some_and(|code| code.contains("sleep(")) {
            findings.push(Finding { file: path.into(), line: index + 1, what: "a test sleeps".into() });
        }
    }
}

fn check_forbid_unsafe(sources: &[(PathBuf, String)], findings: &mut Vec<Finding>) {
    for (path, text) in sources {
        if path.starts_with("core") && path.ends_with("src/lib.rs") && !text.contains("#![forbid(unsafe_code)]") {
            findings.push(Finding { file: path.clone(), line: 1, what: "core/ crates forbid unsafe code".into() });
        }
    }
}

/// The dependency edges between rooms must equal the list in ARCHITECTURE.md
/// (a fenced block that starts with ```` ```edges ````), and `core/` may lean on
/// few crates from outside.
fn check_edges(root: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    let architecture = root.join("ARCHITECTURE.md");
    let text = fs::read_to_string(&architecture).context("reading ARCHITECTURE.md")?;
    let block = text.split("```edges\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    let declared: BTreeMap<&str, Vec<&str>> = block
        .lines()
        .filter_map(|line| line.split_once("->"))
        .map(|(from, to)| (from.trim(), to.split_whitespace().collect()))
        .collect();
    for manifest in manifests(root)? {
        let text = fs::read_to_string(&manifest)?;
        let relative = manifest.strip_prefix(root)?.to_owned();
        let room = relative.parent().map(|parent| parent.display().to_string()).unwrap_or_default();
        let (ours, foreign) = dependencies(&text);
        let mut expected = declared.get(room.as_str()).cloned().unwrap_or_default();
        let mut actual: Vec<&str> = ours.iter().map(String::as_str).collect();
        expected.sort_unstable();
        actual.sort_unstable();
        if expected != actual {
            let what = format!("depends on {actual:?}, ARCHITECTURE.md says {expected:?}");
            findings.push(Finding { file: relative.clone(), line: 1, what });
        }
        for name in foreign.iter().filter(|name| room.starts_with("core/") && !CORE_ALLOWED.contains(&name.as_str())) {
            findings.push(Finding { file: relative.clone(), line: 1, what: format!("core/ may not lean on `{name}`") });
        }
    }
    Ok(())
}

fn manifests(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![root.join("xtask/Cargo.toml")];
    for room in ["core", "edge", "proof"] {
        for entry in fs::read_dir(root.join(room))? {
            let folder = entry?.path();
            // Beside a crate's sources there may be crates that belong to it: a program for the kernel, what both sides share.
            if folder.is_dir() {
                for part in fs::read_dir(&folder)? {
                    found.push(part?.path().join("Cargo.toml"));
                }
            }
            found.push(folder.join("Cargo.toml"));
        }
    }
    found.retain(|path| path.exists());
    found.sort();
    Ok(found)
}

/// Names of `[dependencies]` and `[dev-dependencies]`: our own without prefix, and foreign ones.
fn dependencies(manifest: &str) -> (Vec<String>, Vec<String>) {
    let (mut ours, mut foreign) = (Vec::new(), Vec::new());
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.trim();
            continue;
        }
        if !matches!(section, "[dependencies]" | "[dev-dependencies]") {
            continue;
        }
        let name: String = line.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        match name.strip_prefix("holdfast-") {
            Some(own) if section == "[dependencies]" => ours.push(own.to_owned()),
            Some(_) => {}
            None if name.is_empty() => {}
            None => foreign.push(name),
        }
    }
    (ours, foreign)
}

/// Every drop reason is named by a test somewhere.
fn check_drop_reasons(sources: &[(PathBuf, String)], findings: &mut Vec<Finding>) -> Result<()> {
    let home = Path::new("core/engine/src/verdict.rs");
    let (_, verdicts) =
        sources.iter().find(|(path, _)| path == home).context("core/engine/src/verdict.rs is missing")?;
    for (index, line) in verdicts.lines().enumerate() {
        let Some((name, _)) = line.trim().split_once(" = \"") else { continue };
        let wanted = format!("Drop::{name}");
        let named =
            sources.iter().any(|(path, text)| (is_test(path) || path.starts_with("proof")) && text.contains(&wanted));
        if !named {
            findings.push(Finding { file: home.into(), line: index + 1, what: format!("no test names {wanted}") });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text = "fn a() {\n    x();\n}\n\nimpl B {\n    pub fn c(&self) -> u8 {\n        1\n    }\n}\n";
        assert_eq!(functions(text), vec![("a".into(), 1, 3), ("c".into(), 6, 3)]);
    }

    #[test]
    fn inline_tests_do_not_count() {
        assert_eq!(product_lines("a\n#[cfg(test)]\nmod tests {\nb\n}\n").count(), 2);
    }
}
