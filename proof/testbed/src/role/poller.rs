//! Waiting for many sockets, and for commands on the standard input, with one epoll.

use anyhow::{Context, Result};
use std::io::Read as _;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// The token of the standard input.
pub const STDIN: u64 = u64::MAX;

/// What happened to one socket.
#[derive(Clone, Copy)]
pub struct Event {
    /// The number given at registration.
    pub token: u64,
    /// A connect has ended or there is room to write.
    pub writable: bool,
    /// There is something to read, or an end or an error to be read.
    pub readable: bool,
}

/// An epoll instance and the lines that arrive on the standard input.
pub struct Poller {
    epoll: OwnedFd,
    pending: Vec<u8>,
    ended: bool,
}

impl Poller {
    /// Watches the standard input from the start.
    pub fn new() -> Result<Poller> {
        // SAFETY: epoll_create1(2) takes no pointers; the descriptor is owned at once.
        let epoll = unsafe {
            let raw = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if raw < 0 {
                return Err(std::io::Error::last_os_error()).context("epoll");
            }
            OwnedFd::from_raw_fd(raw)
        };
        let poller = Poller { epoll, pending: Vec::new(), ended: false };
        poller.watch(&std::io::stdin(), STDIN, false)?;
        Ok(poller)
    }

    /// Reports `fd` under `token` whenever it is readable, and while `writable` also when it can be written.
    pub fn watch(&self, fd: &impl AsRawFd, token: u64, writable: bool) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, writable)
    }

    /// Reports `fd` under `token` once for each change: whoever is told must read and write until nothing is left.
    pub fn watch_edges(&self, fd: &impl AsRawFd, token: u64) -> Result<()> {
        self.set(libc::EPOLL_CTL_ADD, fd, token, libc::EPOLLOUT | libc::EPOLLET)
    }

    /// Changes whether room to write is reported.
    pub fn change(&self, fd: &impl AsRawFd, token: u64, writable: bool) -> Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, writable)
    }

    fn control(&self, operation: i32, fd: &impl AsRawFd, token: u64, writable: bool) -> Result<()> {
        self.set(operation, fd, token, if writable { libc::EPOLLOUT } else { 0 })
    }

    fn set(&self, operation: i32, fd: &impl AsRawFd, token: u64, more: i32) -> Result<()> {
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLRDHUP | more) as u32, u64: token };
        // SAFETY: a valid event; both descriptors are open.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()).context("epoll_ctl"),
        }
    }

    /// Waits for at most `limit` (whole milliseconds) and returns what happened.
    pub fn wait(&mut self, limit: Duration) -> Result<Vec<Event>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 256];
        let ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the buffer has room for the number of events given.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), 256, ms) };
        let count = usize::try_from(count).unwrap_or(0); // EINTR: nothing happened
        Ok(events[..count]
            .iter()
            .map(|event| {
                let flags = event.events as i32;
                Event {
                    token: event.u64,
                    writable: flags & (libc::EPOLLOUT | libc::EPOLLERR | libc::EPOLLHUP) != 0,
                    readable: flags & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLERR | libc::EPOLLHUP) != 0,
                }
            })
            .collect())
    }

    /// The whole lines that have arrived on the standard input; `None` once it has ended.
    pub fn commands(&mut self) -> Result<Option<Vec<String>>> {
        let mut buffer = [0; 4096];
        let count = std::io::stdin().read(&mut buffer)?;
        self.ended |= count == 0;
        self.pending.extend_from_slice(&buffer[..count]);
        let mut lines = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            lines.push(String::from_utf8_lossy(&line).trim().to_string());
        }
        Ok((!self.ended || !lines.is_empty()).then_some(lines))
    }
}
