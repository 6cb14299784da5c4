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
/// Bit of `CAP_IPC_LOCK` (`linux/capability.h`).
const IPC_LOCK: u32 = 14;

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
    let endless = limit_of(libc::RLIMIT_MEMLOCK)?.rlim_cur == libc::RLIM_INFINITY;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}"));
    if !endless && !may_lock(&read("status")?, &read("uid_map")?) {
        // With a limit a later allocation would fail.
        bail!("RLIMIT_MEMLOCK is not endless (LimitMEMLOCK=infinity), and there is no CAP_IPC_LOCK");
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

/// Whether a `/proc/PID/status` tells of `CAP_IPC_LOCK` in force. It counts in the first user namespace only, which maps all numbers.
fn may_lock(status: &str, uid_map: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let has = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).is_some_and(|all| all >> IPC_LOCK & 1 == 1);
    has && uid_map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

fn limit_of(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a writable rlimit.
    match unsafe { libc::getrlimit(resource, &raw mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::may_lock;

    const FIRST: &str = "         0          0 4294967295\n";

    #[test]
    fn the_capability_is_found_among_others() {
        assert!(may_lock("Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t0\n", FIRST));
        assert!(may_lock("CapEff:\t0000000000004000\n", FIRST));
        assert!(!may_lock("CapEff:\t0000000000003000\n", FIRST));
        assert!(!may_lock("CapBnd:\t000001ffffffffff\n", FIRST) && !may_lock("CapEff:\tnone\n", FIRST));
    }

    #[test]
    fn it_does_not_count_in_a_user_namespace() {
        assert!(!may_lock("CapEff:\t000001ffffffffff\n", "         0     100000      65536\n"));
    }
}
