//! The handler of deadly signals. It writes the report, then lets the signal have its way.

use super::TRAIL;
use super::report::{self, Cause, Page};
use super::trail::Kind;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::os::fd::IntoRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// Signals that a process dies of by a bug of its own. SIGABRT ends a panic, and is what systemd's
/// watchdog sends.
const DEADLY: [i32; 5] = [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// Stack of the handler on the data thread: its own may be what has overflowed.
const STACK: usize = 64 * 1024;

/// Where the report goes; -1: nowhere.
static REPORT: AtomicI32 = AtomicI32::new(-1);

/// Unix time of the origin that entries count from.
static ORIGIN: AtomicU64 = AtomicU64::new(0);

/// The thread that writes the report; 0: none yet.
static WRITER: AtomicI32 = AtomicI32::new(0);

/// What was done about each signal before.
static FORMER: OnceLock<[libc::sigaction; DEADLY.len()]> = OnceLock::new();

/// From here on a crash writes its report into `file`.
pub fn install(file: Option<File>, unix_nanos_at_origin: u64) -> io::Result<()> {
    // The descriptor stays open until the process ends.
    REPORT.store(file.map_or(-1, IntoRawFd::into_raw_fd), Ordering::SeqCst);
    ORIGIN.store(unix_nanos_at_origin, Ordering::SeqCst);
    // SAFETY: all-zero bytes are a valid sigaction.
    let mut former: [libc::sigaction; DEADLY.len()] = unsafe { std::mem::zeroed() };
    for (signal, former) in DEADLY.into_iter().zip(&mut former) {
        // SAFETY: a null action only asks for the present one.
        if unsafe { libc::sigaction(signal, std::ptr::null(), former) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    FORMER.get_or_init(|| former);
    for signal in DEADLY {
        // SAFETY: all-zero bytes are a valid sigaction with an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = handle as extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: the handler calls only what may be called in one.
        if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives the calling thread, which must never end, a roomy stack for the handler.
pub fn prepare_this_thread() {
    let stack: &'static mut [u8] = Box::leak(vec![0; STACK].into_boxed_slice());
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK };
    // SAFETY: the memory is leaked, so it outlives the thread. Without it the standard library's stack serves.
    unsafe { libc::sigaltstack(&stack, std::ptr::null_mut()) };
}

/// Keeps a panic's message for the report.
pub fn note_panic(info: &std::panic::PanicHookInfo<'_>) {
    let mut text = [0; super::trail::LONGEST];
    let mut len = 0;
    let mut keep = |bytes: &[u8]| {
        let room = bytes.len().min(text.len() - len);
        text[len..len + room].copy_from_slice(&bytes[..room]);
        len += room;
    };
    let mut page = Page::new(&mut keep);
    let _ = write!(page, "thread {:?}: {info}", std::thread::current().name().unwrap_or("?"));
    page.finish();
    TRAIL.last_words.put(0, Kind::Panic, 0, len, &text[..len]);
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: no preconditions.
    let own = unsafe { libc::gettid() };
    match WRITER.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => write_report(signal, info),
        // The report itself has crashed, or the process dies of a second signal.
        Err(writer) if writer == own => {}
        // Another thread is at it; the process ends when it is done.
        Err(_) => loop {
            // SAFETY: no preconditions.
            unsafe { libc::pause() };
        },
    }
    let former = FORMER.get().and_then(|all| DEADLY.iter().zip(all).find(|(other, _)| **other == signal));
    // SAFETY: all-zero bytes are the default action.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is what the kernel gave the handler.
    let by_kernel = unsafe { (*info).si_code > 0 };
    // What the processor objected to comes again when this returns, and the standard library knows a
    // stack that has overflowed. What somebody sent does not come again, and it would let that pass.
    let action = former.filter(|_| by_kernel).map_or(&default, |(_, action)| action);
    // SAFETY: `action` is a valid action; what is raised here arrives when this returns.
    unsafe {
        libc::sigaction(signal, action, std::ptr::null_mut());
        if !by_kernel {
            libc::raise(signal);
        }
    }
}

fn write_report(signal: i32, info: *const libc::siginfo_t) {
    let report = REPORT.load(Ordering::SeqCst);
    if report < 0 {
        return;
    }
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable; `info` is what the kernel gave the handler, and each field is read
    // only where its signal has it.
    let (own, code, sender, address) = unsafe {
        libc::clock_gettime(libc::CLOCK_REALTIME, &mut now);
        (libc::getpid(), (*info).si_code, (*info).si_pid(), (*info).si_addr() as usize)
    };
    let sent = code <= 0;
    let touched = !sent && (signal == libc::SIGSEGV || signal == libc::SIGBUS);
    let cause =
        Cause { signal, sender: (sent && sender != own).then_some(sender), address: touched.then_some(address) };
    let mut left = report::LONGEST_REPORT as usize;
    let mut write = |bytes: &[u8]| {
        let bytes = &bytes[..bytes.len().min(left)];
        left -= bytes.len();
        // SAFETY: `bytes` is readable. There is nobody to tell that it did not work.
        unsafe { libc::write(report, bytes.as_ptr().cast(), bytes.len()) };
    };
    let unix = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
    report::write(&TRAIL, cause, unix, ORIGIN.load(Ordering::SeqCst), own, &mut Page::new(&mut write));
}
