//! Finding the word that was meant: prefixes, ambiguity, near misses.

/// What a typed word can mean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Exactly one word.
    One(&'static str),
    /// Several, all of them given.
    Many(Vec<&'static str>),
    /// None.
    None,
}

/// Whether `typed` begins `word`, letter case aside.
pub(crate) fn begins(word: &str, typed: &str) -> bool {
    !typed.is_empty()
        && word.len() >= typed.len()
        && word.is_char_boundary(typed.len())
        && word[..typed.len()].eq_ignore_ascii_case(typed)
}

/// The word among `words` that `typed` abbreviates; an exact word wins over longer ones.
pub(crate) fn by_prefix(words: impl Iterator<Item = &'static str>, typed: &str) -> Found {
    let mut found: Vec<&'static str> = Vec::new();
    for word in words {
        if word.eq_ignore_ascii_case(typed) {
            return Found::One(word);
        }
        if begins(word, typed) && !found.contains(&word) {
            found.push(word);
        }
    }
    match found.as_slice() {
        [] => Found::None,
        [one] => Found::One(one),
        _ => Found::Many(found),
    }
}

/// The word nearest to a mistyped one, if it is near enough to be a slip.
pub(crate) fn nearest(words: impl Iterator<Item = &'static str>, typed: &str) -> Option<&'static str> {
    if typed.len() < 3 || typed.len() > 64 {
        return None;
    }
    let limit = 1 + typed.len() / 4;
    let typed = typed.to_ascii_lowercase();
    let scored = words.map(|w| (distance(&w.to_ascii_lowercase(), &typed), w));
    scored.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, w)| w)
}

/// Insertions, deletions and substitutions between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
