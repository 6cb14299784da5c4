//! What must survive the process: the term, and the saved configuration.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Length of a line of the file of the term.
const TERM_LINE: usize = 47;

/// The files of a node.
#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
    config: PathBuf,
}

impl Store {
    /// Files under the directory `state`, made if it is missing, and the
    /// configuration at `config`.
    pub fn open(state: &Path, config: &Path) -> Result<Store> {
        DirBuilder::new().recursive(true).mode(0o700).create(state).with_context(|| {
            format!("cannot create the state directory {} (choose one with --state)", state.display())
        })?;
        Ok(Store { state: state.to_owned(), config: config.to_owned() })
    }

    fn term_file(&self) -> PathBuf {
        self.state.join("term")
    }

    /// The highest term that was made durable; 0 on a node's first start. A
    /// file that makes no sense is an error: to start with a lower term than
    /// this node once had would let two nodes believe they are primary.
    pub fn load_term(&self) -> Result<u64> {
        let path = self.term_file();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error).with_context(|| format!("cannot read the term from {}", path.display())),
        };
        match terms(&text).into_iter().flatten().max() {
            Some(term) => Ok(term),
            None => bail!(
                "{} does not hold a term: write `term N` into it, with N above the term that `show ha node` tells on the peer",
                path.display()
            ),
        }
    }

    /// Makes `term` durable: over the older of two lines, so that the newer one is whole whatever happens, and a disk that
    /// is full has the room already.
    pub fn save_term(&self, term: u64) -> Result<()> {
        let path = self.term_file();
        self.overwrite_term(term)
            .or_else(|_| replace(&path, &(term_line(term) + &term_line(term))))
            .with_context(|| format!("cannot store the term in {}", path.display()))
    }

    fn overwrite_term(&self, term: u64) -> Result<()> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(self.term_file())?;
        let mut text = [0; 2 * TERM_LINE + 1];
        let len = file.read_at(&mut text, 0)?;
        let lines = text[..len].as_chunks::<TERM_LINE>();
        let ([first, second], []) = lines else { bail!("it has another form") };
        let older = if terms(first) <= terms(second) { 0 } else { TERM_LINE };
        file.write_all_at(term_line(term).as_bytes(), older as u64)?;
        Ok(file.sync_data()?)
    }

    /// The key that closes passwords in the configuration: made once, of `random`.
    pub fn load_password_key(&self, random: [u8; 32]) -> Result<[u8; 32]> {
        let path = self.state.join("password.key");
        match fs::read_to_string(&path) {
            Ok(text) => parse_key(text.trim_end()).with_context(|| {
                format!("{} does not hold a key: remove it, and set the rpcNode passwords again", path.display())
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
                replace(&path, &format!("{text}\n"))
                    .with_context(|| format!("cannot store the key of passwords in {}", path.display()))?;
                Ok(random)
            }
            Err(error) => {
                Err(error).with_context(|| format!("cannot read the key of passwords from {}", path.display()))
            }
        }
    }

    /// Writes the configuration. Readable by its owner only: it holds passwords.
    pub fn save_config(&self, text: &str) -> Result<()> {
        let path = &self.config;
        replace(path, text).with_context(|| format!("cannot save the configuration in {}", path.display()))
    }
}

/// One of the two lines of the file of the term. What is written only in part has not the same number twice.
fn term_line(term: u64) -> String {
    format!("term {term:020} {term:020}\n")
}

/// The terms of the lines of a file; `None` for one that makes no sense. An operator may write `term N`.
fn terms(text: &[u8]) -> Vec<Option<u64>> {
    let term = |line: &[u8]| {
        let mut words = std::str::from_utf8(line).ok()?.strip_prefix("term ")?.split(' ');
        let term: u64 = words.next()?.trim_end().parse().ok()?;
        let again = words.next().map_or(Ok(term), |word| word.parse());
        (again == Ok(term) && words.next().is_none()).then_some(term)
    };
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(term).collect()
}

fn parse_key(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|_| rest.is_empty())
}

/// The old file or the new one, never a mixture, also after a power cut. A process that is killed in between
/// leaves the text beside it under a name that the next attempt uses again.
pub fn replace(path: &Path, text: &str) -> Result<()> {
    // Through a symbolic link: the file it points at is the one to replace.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name() else { bail!("it is no file") };
    let mut fresh = OsString::from(".");
    fresh.push(name);
    fresh.push(".new");
    let fresh = folder.join(fresh);
    let written = write_durably(&fresh, text).and_then(|()| fs::rename(&fresh, &path));
    if written.is_err() {
        // A disk that is full should have its room back.
        let _ = fs::remove_file(&fresh);
    }
    written?;
    File::open(folder)?.sync_all()?;
    Ok(())
}

/// Writes a file that its owner alone can read, and waits for the disk.
fn write_durably(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
