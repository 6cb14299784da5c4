//! What must survive the process: the term, and the saved configuration.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error).with_context(|| format!("cannot read the term from {}", path.display())),
        };
        match text.strip_prefix("term ").and_then(|rest| rest.trim_end().parse().ok()) {
            Some(term) => Ok(term),
            None => bail!(
                "{} does not hold a term: write `term N` into it, with N above the term that `show ha node` tells on the peer",
                path.display()
            ),
        }
    }

    /// Makes `term` durable.
    pub fn save_term(&self, term: u64) -> Result<()> {
        let path = self.term_file();
        replace(&path, &format!("term {term}\n"))
            .with_context(|| format!("cannot store the term in {}", path.display()))
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
