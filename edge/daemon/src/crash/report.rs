//! The report of a crash, written by the dying process itself: no allocation, no
//! lock, only `write`.

use super::trail::{ENDPOINT, Entry, Kind, Phase, Trail};
use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;
use std::sync::atomic::Ordering::Relaxed;

/// The longest report: room for it is reserved while the process is well. All rings full come to
/// less, see the tests.
pub const LONGEST_REPORT: u64 = 192 * 1024;

/// Why the process dies.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// The signal.
    pub signal: i32,
    /// Who sent it, if somebody did.
    pub sender: Option<i32>,
    /// The address that was touched, if it was that.
    pub address: Option<usize>,
}

/// Bytes on their way to a descriptor.
pub struct Page<'a> {
    write: &'a mut dyn FnMut(&[u8]),
    buffer: [u8; 512],
    len: usize,
}

impl<'a> Page<'a> {
    /// An empty page; `write` gets it when it is full.
    pub fn new(write: &'a mut dyn FnMut(&[u8])) -> Page<'a> {
        Page { write, buffer: [0; 512], len: 0 }
    }

    /// Writes what is left.
    pub fn finish(&mut self) {
        self.flush();
    }

    fn flush(&mut self) {
        (self.write)(&self.buffer[..self.len]);
        self.len = 0;
    }
}

impl fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.len == self.buffer.len() {
                self.flush();
            }
            self.buffer[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

/// Writes everything. `unix_nanos` is the time, `origin` what the entries' times are counted from.
pub fn write(trail: &Trail, cause: Cause, unix_nanos: u64, origin: u64, pid: i32, page: &mut Page<'_>) {
    // A page takes whatever comes.
    let _ = write_all(trail, cause, unix_nanos, origin, pid, page);
    page.finish();
}

fn write_all(trail: &Trail, cause: Cause, unix: u64, origin: u64, pid: i32, page: &mut Page<'_>) -> fmt::Result {
    writeln!(page, "holdfastd {} crash report", env!("CARGO_PKG_VERSION"))?;
    write!(page, "pid {pid}, unix time ")?;
    seconds(page, unix)?;
    write!(page, "\ncause: signal {} ({})", cause.signal, signal_name(cause.signal))?;
    if let Some(sender) = cause.sender {
        write!(page, ", sent by process {sender}")?;
    }
    if let Some(address) = cause.address {
        write!(page, ", address {address:#x}")?;
    }
    page.write_char('\n')?;
    for entry in trail.last_words.entries() {
        page.write_str("panic: ")?;
        text(page, &entry)?;
        page.write_char('\n')?;
    }
    writeln!(page, "the data thread was {}", Phase::word(trail.phase.load(Relaxed)))?;
    page.write_str("times are seconds since the start, at unix time ")?;
    seconds(page, origin)?;
    page.write_str("\n\nLog lines, oldest first\n")?;
    trail.lines.entries().try_for_each(|entry| line(page, &entry))?;
    page.write_str("\nRecords of the peer, oldest first\n")?;
    trail.records.entries().try_for_each(|entry| line(page, &entry))?;
    page.write_str("\nPeer datagrams, oldest first: length, headers\n")?;
    trail.datagrams.entries().try_for_each(|entry| line(page, &entry))?;
    page.write_str("\nFrames, oldest first: port, length, headers\n")?;
    trail.frames.entries().try_for_each(|entry| line(page, &entry))?;
    page.write_str("\nEnd of the report\n")
}

fn line(page: &mut Page<'_>, entry: &Entry) -> fmt::Result {
    write!(page, "#{} ", entry.number)?;
    seconds(page, entry.at)?;
    page.write_char(' ')?;
    match entry.kind {
        None => page.write_str("torn")?,
        Some(Kind::Log) => {
            let level = ["INFO", "WARN", "ERROR"].get(entry.detail as usize).copied().unwrap_or("?");
            write!(page, "{level} ")?;
            text(page, entry)?;
        }
        Some(Kind::Panic) => text(page, entry)?,
        Some(Kind::Journal) => {
            page.write_str("journal ")?;
            text(page, entry)?;
        }
        Some(Kind::Frame) => {
            write!(page, "port {} len {} ", entry.detail, entry.whole)?;
            hex(page, entry.bytes())?;
        }
        Some(Kind::Datagram) => {
            write!(page, "len {} ", entry.whole)?;
            hex(page, entry.bytes())?;
        }
        Some(Kind::Flow) => ends(page, "flow", entry, &["client", "vip", "server", "source"])?,
        Some(Kind::Close) => ends(page, "close", entry, &["client", "vip"])?,
        Some(Kind::CloseNumber) => {
            page.write_str("close of number ")?;
            hex(page, entry.bytes())?;
        }
        Some(Kind::Persistence) => ends(page, "persistence", entry, &["client", "vip"])?,
        Some(Kind::Health) => ends(page, "health", entry, &["server"])?,
        Some(Kind::Digest) => write!(page, "digest of {} flows", entry.detail)?,
        Some(Kind::Kept) => write!(page, "kept buckets of part {}", entry.detail)?,
    }
    page.write_char('\n')
}

/// What is text, with everything else as dots.
fn text(page: &mut Page<'_>, entry: &Entry) -> fmt::Result {
    for &byte in entry.bytes() {
        page.write_char(if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '.' })?;
    }
    if entry.whole > entry.bytes().len() { page.write_str(" …") } else { Ok(()) }
}

fn hex(page: &mut Page<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(page, "{byte:02x}"))
}

fn ends(page: &mut Page<'_>, what: &str, entry: &Entry, names: &[&str]) -> fmt::Result {
    write!(page, "{what} {}", entry.detail)?;
    for (name, end) in names.iter().zip(entry.bytes().as_chunks::<ENDPOINT>().0) {
        let mut addr = [0; 16];
        addr.copy_from_slice(&end[..16]);
        write!(page, " {name} {} {}", Ipv6Addr::from(addr).to_canonical(), u16::from_be_bytes([end[16], end[17]]))?;
    }
    Ok(())
}

fn seconds(page: &mut Page<'_>, nanos: u64) -> fmt::Result {
    write!(page, "{}.{:06}", nanos / 1_000_000_000, nanos / 1000 % 1_000_000)
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGABRT => "SIGABRT",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        _ => "?",
    }
}
