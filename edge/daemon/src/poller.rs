//! epoll with microseconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Descriptors reported at once; more are reported by the next wait.
const EVENTS: usize = 64;

/// Waits for descriptors, level-triggered.
pub struct Poller {
    epoll: OwnedFd,
    /// `epoll_pwait2` needs Linux 5.11; before it, milliseconds must do.
    fine: bool,
    events: Vec<libc::epoll_event>,
}

impl Poller {
    /// Waits for nothing yet.
    pub fn new() -> io::Result<Poller> {
        // SAFETY: plain system call; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        // SAFETY: `fd` is a descriptor that nobody else owns.
        Ok(Poller { epoll: unsafe { OwnedFd::from_raw_fd(fd) }, fine: true, events })
    }

    /// Reports `token` while `fd` is readable (or, with `write`, writable).
    /// Closing the descriptor ends it.
    pub fn add(&self, fd: RawFd, token: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, write)
    }

    /// Changes what is waited for.
    pub fn change(&self, fd: RawFd, token: u64, write: bool) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, write)
    }

    /// Waits no longer for `fd`, which is still open.
    pub fn remove(&self, fd: RawFd) {
        // A descriptor that was not waited for is as good as removed.
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, 0, false);
    }

    fn control(&self, what: i32, fd: RawFd, token: u64, write: bool) -> io::Result<()> {
        let interest = if write { libc::EPOLLOUT } else { libc::EPOLLIN | libc::EPOLLRDHUP };
        let mut event = libc::epoll_event { events: interest as u32, u64: token };
        // SAFETY: `event` outlives the call.
        let rc = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), what, fd, &raw mut event) };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits up to `timeout` and appends the tokens that are ready to `ready`.
    pub fn wait(&mut self, timeout: Duration, ready: &mut Vec<u64>) {
        let mut count = -1;
        if self.fine {
            count = self.wait_fine(timeout);
            self.fine = count >= 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS);
        }
        if !self.fine {
            let millis = timeout.as_nanos().div_ceil(1_000_000).min(60_000) as i32;
            // SAFETY: `events` holds EVENTS entries.
            count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), EVENTS as i32, millis) }
                as i64;
        }
        // A signal or an error is an early wake-up: the next turn finds out.
        let count = usize::try_from(count).unwrap_or(0);
        ready.extend(self.events[..count].iter().map(|event| event.u64));
    }

    fn wait_fine(&mut self, timeout: Duration) -> i64 {
        let limit = libc::timespec { tv_sec: timeout.as_secs() as libc::time_t, tv_nsec: timeout.subsec_nanos() as _ };
        let no_signals: *const libc::sigset_t = std::ptr::null();
        // SAFETY: `events` holds EVENTS entries and `limit` outlives the call; without a signal
        // set its size is not looked at.
        unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                EVENTS as i32,
                &raw const limit,
                no_signals,
                size_of::<libc::c_ulong>(),
            )
        }
    }
}
