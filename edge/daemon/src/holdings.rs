//! What the process takes hold of before its first thread, so that no thread waits for it later.
//!
//! A data thread that stands still for a dead interval has lost its role. Two things let it: the table of descriptors, whose growth waits for
//! a grace period of RCU once there are several threads (seconds, on a busy machine), and memory that the kernel has taken away, such as
//! pages of the program that were not used for a while.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Descriptors of the process: the operator's connections are the most of them.
const MAX_DESCRIPTORS: libc::rlim_t = 4096;

/// Makes the table of descriptors as large as it will ever be.
pub fn make_room_for_descriptors() -> Result<()> {
    let mut limit = limit_of(libc::RLIMIT_NOFILE)?;
    // Whoever is allowed more than so many does not use them.
    limit.rlim_cur = limit.rlim_cur.min(MAX_DESCRIPTORS);
    // SAFETY: `limit` is a readable rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error()).context("setrlimit");
    }
    let any = File::open("/dev/null")?;
    let last = libc::c_int::try_from(limit.rlim_cur.saturating_sub(1)).unwrap_or(0);
    // SAFETY: duplicates a descriptor that is open.
    let copy = unsafe { libc::fcntl(any.as_raw_fd(), libc::F_DUPFD_CLOEXEC, last) };
    if copy < 0 {
        return Err(io::Error::last_os_error()).context("fcntl");
    }
    // SAFETY: `copy` is a descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(copy) });
    Ok(())
}

/// Keeps the program, and all memory once it was used, where it is.
pub fn keep_memory() -> Result<()> {
    let endless = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // With a limit a later allocation would fail.
    // SAFETY: `endless` is a readable rlimit.
    if limit_of(libc::RLIMIT_MEMLOCK)?.rlim_cur != libc::RLIM_INFINITY
        && unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const endless) } != 0
    {
        bail!("RLIMIT_MEMLOCK is not endless (LimitMEMLOCK=infinity), and nobody here may change that");
    }
    // What is there is read in; what comes later only as it is used: the tables are large.
    for flags in [libc::MCL_CURRENT, libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT] {
        // SAFETY: no preconditions.
        if unsafe { libc::mlockall(flags) } != 0 {
            return Err(io::Error::last_os_error()).context("mlockall");
        }
    }
    Ok(())
}

fn limit_of(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit.
    match unsafe { libc::getrlimit(resource, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}
