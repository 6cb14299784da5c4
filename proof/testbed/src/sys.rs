//! The few kernel calls that the standard library does not offer, and the one way to wait.
//!
//! Everything that waits goes through [`wait_until`]: it has a deadline, it says what it waited for, and it ends at once
//! when the user interrupts, so that the lab's destructors run.

use anyhow::{Context, Result, bail};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of the packet read last, from `asm-generic/sockios.h`.
const SIOCGSTAMPNS: libc::c_ulong = 0x8907;
/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static WAKE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::SeqCst);
    let one = 1u64.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe; the descriptor is an eventfd that lives as long as the process.
    unsafe { libc::write(WAKE.load(Ordering::SeqCst), one.as_ptr().cast(), one.len()) };
}

/// Turns SIGINT, SIGTERM and SIGHUP into the error that [`check_interrupt`] returns.
pub fn catch_signals() -> Result<()> {
    // SAFETY: eventfd(2) takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error()).context("eventfd");
    }
    WAKE.store(fd, Ordering::SeqCst);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only touches atomics and calls write(2).
        unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
    }
    Ok(())
}

/// An error once the user has asked us to stop.
pub fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// Lets `time` pass, or less when a signal arrives.
pub fn pause(time: Duration) {
    let mut wake = libc::pollfd { fd: WAKE.load(Ordering::SeqCst), events: libc::POLLIN, revents: 0 };
    let ms = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one valid pollfd; a negative descriptor is ignored by poll(2).
    unsafe { libc::poll(&raw mut wake, 1, ms) };
}

/// Asks `condition` again and again until it yields a value. The error after `limit` names `what` was awaited.
pub fn wait_until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        check_interrupt()?;
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("gave up after {:.1} s waiting until {what}", limit.as_secs_f64());
        }
        pause(POLL_INTERVAL);
    }
}

/// Moves the calling thread into the network namespace behind `fd`.
pub fn enter_netns(fd: &impl AsRawFd) -> std::io::Result<()> {
    // SAFETY: setns(2) on a descriptor that the caller keeps open.
    match unsafe { libc::setns(fd.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Sends `signal` to one process of ours.
pub fn signal(pid: u32, signal: libc::c_int) -> Result<()> {
    let pid = i32::try_from(pid).context("a pid fits 31 bits")?;
    // SAFETY: kill(2) takes no pointers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()).with_context(|| format!("signal {signal} to pid {pid}")),
    }
}

/// The letter of /proc/PID/stat: R, S, D, T (stopped), Z (dead), or nothing when the process is gone.
pub fn process_state(pid: u32) -> Option<char> {
    state_in(format!("/proc/{pid}/stat").as_ref())
}

fn state_in(stat: &Path) -> Option<char> {
    std::fs::read_to_string(stat).ok()?.rsplit_once(") ")?.1.chars().next()
}

/// Whether every thread of a process is stopped: one may still be inside a system call that sends.
pub fn is_stopped(pid: u32) -> bool {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| state_in(&task.path().join("stat")) == Some('T'))
}

/// Are we root? Namespaces need it.
pub fn is_root() -> bool {
    // SAFETY: geteuid(2) cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sockets that one role may have open: more than any load holds.
const OPEN_FILES: libc::rlim_t = 200_000;

/// Raises the limit of open files, whatever the shell set: root may, unless its container forbids it.
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: OPEN_FILES, rlim_max: OPEN_FILES };
    // SAFETY: a valid pointer to a local; failing leaves the old limits, and opening sockets then says so.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    // SAFETY: as above. Up to the hard limit anybody may go.
    if !raised && unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0 {
        limit.rlim_cur = limit.rlim_max;
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Files that this process may have open.
pub fn file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a valid pointer to a local; failing leaves 0, and then nothing is opened.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur
}

/// Asks the kernel to kill the calling (freshly forked) process when its parent dies.
pub fn die_with_parent() -> std::io::Result<()> {
    // SAFETY: prctl(PR_SET_PDEATHSIG) takes a plain number.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The interface's index in the calling thread's namespace.
pub fn interface_index(name: &str) -> Result<i32> {
    let name_c = std::ffi::CString::new(name)?;
    // SAFETY: a valid C string.
    match unsafe { libc::if_nametoindex(name_c.as_ptr()) } {
        0 => Err(std::io::Error::last_os_error()).with_context(|| format!("interface {name}")),
        index => Ok(i32::try_from(index)?),
    }
}

/// When the kernel had the packet that was read last from `socket`; now, when it did not keep that: it does from the first call on.
pub fn received_at(socket: &OwnedFd) -> Instant {
    // SAFETY: timespec is plain data; all zeroes is a valid value.
    let mut stamp: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes one timespec.
    let known = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, &raw mut stamp) } == 0;
    let at = UNIX_EPOCH + Duration::new(stamp.tv_sec as u64, stamp.tv_nsec as u32);
    let ago = SystemTime::now().duration_since(at).unwrap_or_default();
    let now = Instant::now();
    if known { now.checked_sub(ago).unwrap_or(now) } else { now }
}

/// A raw packet socket on one interface of the calling thread's namespace; receives only what arrives there.
pub fn packet_socket(interface: &str) -> Result<OwnedFd> {
    let index = interface_index(interface)?;
    let protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
    // Protocol 0 receives nothing yet: with a protocol, frames of every interface would be queued until the bind.
    // SAFETY: socket(2) with constants; the descriptor is owned at once.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(std::io::Error::last_os_error()).context("packet socket");
    }
    // SAFETY: `raw` is a fresh descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: sockaddr_ll is plain data; all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol;
    address.sll_ifindex = index;
    let on: libc::c_int = 1;
    // SAFETY: a valid pointer to an int of the size given.
    let quiet =
        unsafe { libc::setsockopt(raw, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, (&raw const on).cast(), 4) };
    // SAFETY: the address is a valid sockaddr_ll of the size given.
    let bound =
        unsafe { libc::bind(raw, (&raw const address).cast(), std::mem::size_of::<libc::sockaddr_ll>() as u32) };
    if bound != 0 || quiet != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("packet socket on {interface}"));
    }
    Ok(fd)
}

/// Retransmissions of a TCP socket over its whole life (`tcpi_total_retrans`).
pub fn tcp_retransmits(socket: &impl AsRawFd) -> Option<u32> {
    tcp_info(socket).map(|info| info.tcpi_total_retrans)
}

/// Smoothed round trip of a TCP socket in microseconds; right after `connect` it is that of the handshake.
pub fn tcp_round_trip_us(socket: &impl AsRawFd) -> Option<u32> {
    tcp_info(socket).map(|info| info.tcpi_rtt)
}

fn tcp_info(socket: &impl AsRawFd) -> Option<libc::tcp_info> {
    // SAFETY: tcp_info is plain data; all zeroes is a valid value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = std::mem::size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the buffer and its length belong together.
    let done = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len)
    };
    (done == 0).then_some(info)
}

/// Lets a socket bound to an address choose its port only when it connects, so that one port serves many destinations.
pub fn bind_address_no_port(socket: &impl AsRawFd) -> std::io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: a valid pointer to an int of the size given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            std::mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// A large receive buffer, beyond the system's limit if we may.
pub fn force_receive_buffer(socket: &impl AsRawFd, bytes: usize) -> Result<()> {
    let size = libc::c_int::try_from(bytes)?;
    let len = std::mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: a valid pointer to an int of the size given.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const size).cast(), len)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context("SO_RCVBUFFORCE") }
}

/// Lets a socket hear everything again, after [`hear_nothing`] or [`hear_only_syn`].
pub fn hear(socket: &impl AsRawFd) -> std::io::Result<()> {
    let unused: libc::c_int = 0;
    // SAFETY: a valid pointer to an int of the size given.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_DETACH_FILTER, (&raw const unused).cast(), 4)
    };
    let error = std::io::Error::last_os_error();
    // ENOENT: it heard everything.
    if done == 0 || error.raw_os_error() == Some(libc::ENOENT) { Ok(()) } else { Err(error) }
}

/// From now on the socket's kernel ignores each segment for it, as if it had been lost on the way.
pub fn hear_nothing(socket: &impl AsRawFd) -> std::io::Result<()> {
    filter(socket, &[instruction(libc::BPF_RET, 0, 0, 0)])
}

/// From now on a listener's kernel ignores each segment without SYN: it answers connects that are then never completed.
pub fn hear_only_syn(socket: &impl AsRawFd) -> std::io::Result<()> {
    // The filter of a TCP socket sees the segment from its TCP header on; the flags are byte 13, SYN is 2.
    filter(
        socket,
        &[
            instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 13),
            instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, 2),
            instruction(libc::BPF_RET, 0, 0, u32::MAX),
            instruction(libc::BPF_RET, 0, 0, 0),
        ],
    )
}

/// Whether a program is there: system programs live in sbin, which a user's PATH may lack.
pub fn is_installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/usr/local/bin"]
        .iter()
        .any(|folder| std::path::Path::new(folder).join(program).is_file())
}

/// From now on a packet socket receives only frames of this Ethernet type.
pub fn hear_only_ethernet_type(socket: &impl AsRawFd, kind: u16) -> std::io::Result<()> {
    filter(
        socket,
        &[
            instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 12),
            instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::from(kind)),
            instruction(libc::BPF_RET, 0, 0, u32::MAX),
            instruction(libc::BPF_RET, 0, 0, 0),
        ],
    )
}

/// Puts the kernel's offload header (10 bytes) before each frame of a packet socket, in both directions.
pub fn with_offload_header(socket: &impl AsRawFd) -> std::io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: a valid pointer to an int of the size given.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_VNET_HDR, (&raw const on).cast(), 4)
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// One frame or datagram, if one has arrived; a longer one is cut.
pub fn receive_now(socket: &impl AsRawFd, buffer: &mut [u8]) -> Option<usize> {
    // SAFETY: the buffer and its length belong together.
    let count = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
    usize::try_from(count).ok()
}

/// Sends one frame on the interface to which a packet socket is bound; whether the kernel took it.
pub fn send_now(socket: &impl AsRawFd, frame: &[u8]) -> bool {
    // SAFETY: the buffer and its length belong together.
    let count = unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
    usize::try_from(count) == Ok(frame.len())
}

/// Asks for real-time scheduling of the calling thread, or else for the highest ordinary priority; whether it is real-time.
pub fn ask_for_real_time() -> bool {
    let wish = libc::sched_param { sched_priority: 1 };
    // SAFETY: a valid pointer to a local; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const wish) } == 0 {
        return true;
    }
    // SAFETY: setpriority(2) takes no pointers; failing leaves the priority as it is.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
    false
}

/// Binds the calling thread to a processor, before everybody else there; whether that was allowed.
pub fn pin_first_of_all(processor: usize) -> bool {
    let wish = libc::sched_param { sched_priority: 99 };
    // SAFETY: a set of zeros is a valid empty one, and both calls read locals through valid pointers; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set) == 0
            && libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const wish) == 0
    }
}

/// Cuts what a packet socket receives to so many bytes.
pub fn truncate_received(socket: &impl AsRawFd, length: u32) -> std::io::Result<()> {
    filter(socket, &[instruction(libc::BPF_RET, 0, 0, length)])
}

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn filter(socket: &impl AsRawFd, program: &[libc::sock_filter]) -> std::io::Result<()> {
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program lives during the call, and the kernel only reads it.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            std::mem::size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Bytes (and the end) handed to a TCP socket that the other end has not acknowledged.
pub fn unacknowledged(socket: &impl AsRawFd) -> std::io::Result<u64> {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) } {
        0 => Ok(count.max(0) as u64),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A TCP socket that listens there, non-blocking.
pub fn listener(address: SocketAddr) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into()).with_context(|| format!("TCP {address}"))?;
    socket.listen(4096)?;
    Ok(socket)
}

/// A UDP socket there, non-blocking.
pub fn datagrams(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind(address).with_context(|| format!("UDP {address}"))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
