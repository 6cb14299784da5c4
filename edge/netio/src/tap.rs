//! A TAP that stands for a data interface: what the fast path sorts out for the engine is sent to it.
//!
//! Nobody reads the TAP's own queue, which would cost a system call for each frame. A packet socket *on* the TAP sees
//! what is sent to it, in batches and with the same header as on an interface; the TAP then throws its frames away. It is a
//! TAP, and not some other device, because it is gone with the process, and what is sent to a number that is gone is lost.

use crate::socket::{OpenError, check};
use std::ffi::{CStr, c_int, c_short, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

/// The kernel puts a number for `%d`.
const NAME: &[u8] = b"hftap%d";
/// The longest packet that Ethernet devices of the kernel take: a super-packet is not looked at.
const MTU: c_int = 65_521;

/// `TUN_F_CSUM`, `TUN_F_TSO4`, `TUN_F_TSO6` and `TUN_F_TSO_ECN` of `linux/if_tun.h`.
const OFFLOADS: c_ulong = 0x01 | 0x02 | 0x04 | 0x08;
/// `TUN_F_USO4` and `TUN_F_USO6` (Linux 6.2).
const UDP_OFFLOADS: c_ulong = 0x20 | 0x40;
/// `TUNSETIFF`, `TUNSETOFFLOAD` and `TUNSETTXFILTER`.
const SET_INTERFACE: c_ulong = 0x4004_54ca;
const SET_OFFLOADS: c_ulong = 0x4004_54d0;
const SET_FILTER: c_ulong = 0x4004_54d1;

/// `struct tun_filter` with one address.
#[repr(C)]
struct Filter {
    flags: u16,
    count: u16,
    address: [u8; 6],
}

/// A TAP; it lives as long as this value, or the process. Making and dropping one waits for locks of the kernel: not for
/// the data thread.
#[derive(Debug)]
pub struct Tap {
    _file: File,
    name: String,
    index: u32,
}

impl Tap {
    /// Why no TAP can be made on this host, if that is so.
    pub fn missing() -> Option<String> {
        let opened = OpenOptions::new().read(true).write(true).open("/dev/net/tun");
        opened.err().map(|error| format!("/dev/net/tun: {error}"))
    }

    /// A TAP for `device`, up, with nobody to read it.
    pub fn open(device: &str) -> Result<Tap, OpenError> {
        let fail = |attempt| move |source| OpenError { device: device.to_owned(), attempt, source };
        let options =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK).clone();
        let file = options.open("/dev/net/tun").map_err(fail("open /dev/net/tun"))?;
        let name = name_of(&file).map_err(fail("make a TAP for it"))?;
        let tap = Tap { index: index_of(&name).map_err(fail("find its TAP"))?, _file: file, name };
        tap.take_super_packets().map_err(fail("let its TAP have super-packets"))?;
        tap.keep_nothing().map_err(fail("have its TAP keep nothing"))?;
        tap.keep_host_silent();
        tap.bring_up().map_err(fail("bring its TAP up"))?;
        Ok(tap)
    }

    /// How the host calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// As they came, with partial checksums; without, the kernel would cut and complete them first.
    fn take_super_packets(&self) -> io::Result<()> {
        let fd = self._file.as_raw_fd();
        let set = |bits: c_ulong| {
            // SAFETY: the argument is a number.
            check(unsafe { libc::ioctl(fd, SET_OFFLOADS, bits) }).map(drop)
        };
        set(OFFLOADS | UDP_OFFLOADS).or_else(|_| set(OFFLOADS))
    }

    /// Only frames to the address of zeros go into the queue: none.
    fn keep_nothing(&self) -> io::Result<()> {
        let filter = Filter { flags: 0, count: 1, address: [0; 6] };
        // SAFETY: the kernel reads the head and as many addresses as it counts.
        check(unsafe { libc::ioctl(self._file.as_raw_fd(), SET_FILTER, &raw const filter) }).map(drop)
    }

    /// What the host says on its own on an interface that is up is refused by the socket's filter; it need not be said at all.
    /// Where that may not be switched off, or there is no IPv6, it is no harm.
    fn keep_host_silent(&self) {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.name), "1");
    }

    fn bring_up(&self) -> io::Result<()> {
        let socket = control_socket()?;
        let mut request = request_for(self.name.as_bytes());
        request.ifr_ifru.ifru_mtu = MTU;
        ask(&socket, libc::SIOCSIFMTU, &mut request)?;
        ask(&socket, libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: the kernel has filled in the flags.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        request.ifr_ifru.ifru_flags =
            (flags | (libc::IFF_UP | libc::IFF_NOARP) as c_short) & !(libc::IFF_MULTICAST as c_short);
        ask(&socket, libc::SIOCSIFFLAGS, &mut request)
    }
}

/// Makes the TAP of an open `/dev/net/tun`; answers the name that the kernel has found for it.
fn name_of(file: &File) -> io::Result<String> {
    let mut request = request_for(NAME);
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as c_short;
    ask(file, SET_INTERFACE, &mut request)?;
    // SAFETY: the kernel ends the name with a zero, inside the array.
    let name = unsafe { CStr::from_ptr(request.ifr_name.as_ptr()) };
    Ok(name.to_string_lossy().into_owned())
}

fn index_of(name: &str) -> io::Result<u32> {
    let mut request = request_for(name.as_bytes());
    ask(&control_socket()?, libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: the kernel has filled in the number.
    let index = unsafe { request.ifr_ifru.ifru_ifindex };
    u32::try_from(index).map_err(io::Error::other)
}

fn request_for(name: &[u8]) -> libc::ifreq {
    // SAFETY: all-zero is a valid ifreq, and its name ends with a zero: ours are shorter.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(name.iter().take(libc::IFNAMSIZ - 1)) {
        *to = from as libc::c_char;
    }
    request
}

/// A socket to ask about interfaces.
fn control_socket() -> io::Result<OwnedFd> {
    // SAFETY: plain system call; the result is checked before it is owned.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: `fd` is a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn ask(fd: &impl AsRawFd, request: c_ulong, argument: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: each of these requests reads and writes an ifreq.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw mut *argument) }).map(drop)
}
