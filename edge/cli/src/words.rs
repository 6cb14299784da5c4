//! Words of the shell back into one command line.

/// Joins arguments so that the command's own lexer sees the same words.
pub fn join(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

fn quote(word: &str) -> String {
    let plain = |character: char| !character.is_whitespace() && !matches!(character, '"' | '\'' | '\\' | '#');
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    // One argument that holds a whole command: `holdfast "show lb vserver"`.
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The command line of `holdfast WORDS…`. A single argument is a whole line.
pub fn command_line(words: &[String]) -> String {
    match words {
        [line] => line.clone(),
        words => join(words),
    }
}

/// Whether a command line carries a password.
pub fn has_secret(line: &str) -> bool {
    line.split_whitespace().any(|word| word.len() > 1 && word.starts_with('-') && begins_password(&word[1..]))
}

/// Options that carry a password.
const SECRETS: [&str; 2] = ["password", "rpcNodePassword"];

/// Whether an option's name may be short for one of them.
fn begins_password(name: &str) -> bool {
    let begins = |secret: &str| secret.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    SECRETS.into_iter().any(begins)
}
