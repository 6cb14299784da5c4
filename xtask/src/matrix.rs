//! `cargo xtask matrix`: runs the test behind each row of the feature matrix and writes what came of it.

use crate::{build_testbed, cargo, coverage, program};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The rows.
pub const ROWS: &str = "xtask/feature-matrix.txt";
/// The page.
const PAGE: &str = "docs/feature-matrix.md";

/// A heading, or a row with its tests.
enum Line<'a> {
    Heading(&'a str),
    Row { name: &'a str, what: &'a str, tests: Vec<Test<'a>> },
}

/// A test that proves a row.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Test<'a> {
    /// Of a package and target, by its path in there.
    Cargo(&'a str, &'a str, &'a str),
    /// Of the namespaces.
    Story(&'a str),
}

impl<'a> Test<'a> {
    fn read(word: &'a str) -> Result<Test<'a>> {
        if let Some(name) = word.strip_prefix("story:") {
            return Ok(Test::Story(name));
        }
        let mut parts = word.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(package), Some(target), Some(name)) => Ok(Test::Cargo(package, target, name)),
            _ => bail!("{ROWS}: {word} is neither story:name nor package:target:name"),
        }
    }

    fn shown(self) -> String {
        match self {
            Test::Story(name) => format!("`{name}` (namespaces)"),
            Test::Cargo(package, target, name) => {
                let name = name.rsplit("::").next().unwrap_or(name);
                format!("`{name}` ({}{})", package.trim_start_matches("holdfast-"), in_target(target))
            }
        }
    }
}

fn in_target(target: &str) -> String {
    if target == "lib" { String::new() } else { format!(", {target}") }
}

fn read_line(line: &str) -> Result<Line<'_>> {
    if let Some(heading) = line.strip_prefix("= ") {
        return Ok(Line::Heading(heading));
    }
    let cells: Vec<&str> = line.split(" | ").collect();
    let [name, what, tests] = cells[..] else { bail!("{ROWS}: {line} is no row") };
    let tests = tests.split_whitespace().map(Test::read).collect::<Result<Vec<_>>>()?;
    ensure!(!tests.is_empty(), "{ROWS}: {name} has no test");
    Ok(Line::Row { name, what, tests })
}

fn read(text: &str) -> Result<Vec<Line<'_>>> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(read_line).collect()
}

/// Runs everything and writes the page; fails if a test does.
pub fn run(root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(ROWS)).with_context(|| format!("read {ROWS}"))?;
    let lines = read(&text)?;
    let tests: BTreeSet<Test<'_>> = lines.iter().flat_map(|line| tests_of(line)).copied().collect();
    let mut passed = passed_in_cargo(&tests)?;
    build_testbed()?;
    for story in &tests {
        if let Test::Story(name) = story
            && story_passes(name)?
        {
            passed.insert(*story);
        }
    }
    fs::write(root.join(PAGE), page(&lines, &passed)?).with_context(|| format!("write {PAGE}"))?;
    let failed: Vec<String> = tests.difference(&passed).map(|test| test.shown()).collect();
    ensure!(failed.is_empty(), "not passed: {}", failed.join(", "));
    println!("{} tests passed; written: {PAGE}", tests.len());
    Ok(())
}

fn tests_of<'a, 'b>(line: &'b Line<'a>) -> &'b [Test<'a>] {
    match line {
        Line::Heading(_) => &[],
        Line::Row { tests, .. } => tests,
    }
}

/// Those that pass, each target's in one run.
fn passed_in_cargo<'a>(tests: &BTreeSet<Test<'a>>) -> Result<BTreeSet<Test<'a>>> {
    let mut targets: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for test in tests {
        if let Test::Cargo(package, target, name) = test {
            targets.entry((package, target)).or_default().push(name);
        }
    }
    let mut passed = BTreeSet::new();
    for ((package, target), names) in targets {
        let mut command = cargo(&["test", "-p", package]);
        match target {
            "lib" => command.arg("--lib"),
            target => command.args(["--test", target]),
        };
        command.args(["--", "--exact"]).args(&names);
        println!("== {package} {target}: {} tests", names.len());
        let output = command.output().context("start cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let ok = |name: &&&str| text.lines().any(|line| line == format!("test {name} ... ok"));
        passed.extend(names.iter().filter(ok).map(|name| Test::Cargo(package, target, name)));
    }
    Ok(passed)
}

fn story_passes(name: &str) -> Result<bool> {
    println!("== namespaces: {name}");
    let output = program("holdfast-testbed", &["test".into(), name.into()])?.output().context("start the lab")?;
    // A filter that finds nothing must not count.
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(output.status.success() && text.contains(name))
}

fn page(lines: &[Line<'_>], passed: &BTreeSet<Test<'_>>) -> Result<String> {
    let mut page = format!(
        "# Feature matrix\n\nEach row of the market's tables about connection failover, what Holdfast does there, and the tests that prove it. \
         Written by `cargo xtask matrix` from `{ROWS}`, which runs them all.\n\nMachine: {}\n",
        coverage::machine()?
    );
    for line in lines {
        match line {
            Line::Heading(heading) => {
                page += &format!("\n## {heading}\n\n| Row | Holdfast | Tests | Result |\n|---|---|---|---|\n");
            }
            Line::Row { name, what, tests } => {
                let failed: Vec<String> =
                    tests.iter().filter(|test| !passed.contains(test)).map(|t| t.shown()).collect();
                let result = if failed.is_empty() { "passed".into() } else { format!("FAILED: {}", failed.join(", ")) };
                let tests: Vec<String> = tests.iter().map(|test| test.shown()).collect();
                page += &format!("| {name} | {what} | {} | {result} |\n", tests.join("<br>"));
            }
        }
    }
    Ok(page)
}

/// For tidy: each row's tests exist, and the page has each row. Says what is wrong.
pub fn complaints(root: &Path, exists: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join(ROWS)).with_context(|| format!("read {ROWS}"))?;
    let page = fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let mut wrong = Vec::new();
    for line in read(&text)? {
        let Line::Row { name, what, tests } = line else { continue };
        for test in &tests {
            // Names of stories are made of parts.
            if let Test::Cargo(_, _, path) = test
                && !exists(path.rsplit("::").next().unwrap_or(path))
            {
                wrong.push(format!("{name}: there is no test {path}"));
            }
        }
        let cells: Vec<String> = tests.iter().map(|test| test.shown()).collect();
        if !page.contains(&format!("| {name} | {what} | {} | passed |", cells.join("<br>"))) {
            wrong.push(format!("{PAGE} has no such row, or it has not passed: {name}; run cargo xtask matrix"));
        }
    }
    Ok(wrong)
}
