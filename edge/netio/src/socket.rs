//! Opening a packet socket the right way round.

use holdfast_fastpath::layout::TAKEN;
use holdfast_wire::MacAddr;
use std::ffi::c_int;
use std::fmt;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Receive buffer: bursts while the data thread is in a turn. 64 MiB hold
/// about a thousand super-packets.
const RECEIVE_BUFFER: c_int = 64 << 20;

/// Send buffer: frames on their way through the device's queue. The default of
/// about 200 KiB would hold three super-packets.
const SEND_BUFFER: c_int = 32 << 20;

/// Auxiliary data of classic BPF, from `linux/filter.h`: -0x1000 is the base,
/// 48 asks whether a VLAN tag was taken off the frame.
const VLAN_TAG_PRESENT: u32 = 0xffff_f000 + 48;
/// 20 asks for the mark.
const MARK: u32 = 0xffff_f000 + 20;

/// An interface that could not be opened.
#[derive(Debug)]
pub struct OpenError {
    /// The interface.
    pub device: String,
    /// What was attempted.
    pub attempt: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {}: cannot {}: {}", self.device, self.attempt, self.source)?;
        match self.source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                f.write_str(" (needs CAP_NET_RAW and CAP_NET_ADMIN: run as root, or grant them in the unit file)")
            }
            Some(libc::ENODEV | libc::ENXIO) => f.write_str(" (the interface went away; it is opened when it returns)"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for OpenError {}

/// An AF_PACKET socket bound to one interface: raw frames, each behind a
/// virtio-net header.
///
/// Opening and dropping one can wait for kernel locks for milliseconds, so
/// both belong on a thread that is not the data thread.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    index: u32,
}

/// Lets a device receive frames to an Ethernet address beside its own, while it lives.
#[derive(Debug)]
pub struct ExtraMac {
    _fd: OwnedFd,
}

impl ExtraMac {
    /// Lets the device of this number receive what is sent to `mac`. It stays so
    /// until this value, or the device, is gone.
    pub fn open(index: u32, mac: MacAddr) -> io::Result<ExtraMac> {
        // Protocol 0: this socket itself receives nothing.
        // SAFETY: plain system call; the result is checked before it is owned.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
        // SAFETY: `fd` is a descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut request = libc::packet_mreq {
            mr_ifindex: index as c_int,
            mr_type: libc::PACKET_MR_UNICAST as libc::c_ushort,
            mr_alen: 6,
            mr_address: [0; 8],
        };
        request.mr_address[..6].copy_from_slice(&mac.0);
        let len = size_of::<libc::packet_mreq>() as libc::socklen_t;
        let value: *const libc::packet_mreq = &raw const request;
        // SAFETY: `value` points at `len` readable bytes for the whole call.
        check(unsafe {
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, value.cast(), len)
        })?;
        Ok(ExtraMac { _fd: fd })
    }
}

/// What a packet socket is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Both,
    Send,
    Tap,
}

impl PacketSocket {
    /// Receives what comes in at the interface `device` with this number, never what the host itself sends there, and sends.
    pub fn open(device: &str, index: u32) -> Result<PacketSocket, OpenError> {
        PacketSocket::open_as(device, index, Use::Both)
    }

    /// Only sends: the fast path sees what comes in, and a socket would see all of that too.
    pub fn open_sender(device: &str, index: u32) -> Result<PacketSocket, OpenError> {
        PacketSocket::open_as(device, index, Use::Send)
    }

    /// Receives what is sent to the TAP `device` with this number.
    pub fn open_on_tap(device: &str, index: u32) -> Result<PacketSocket, OpenError> {
        PacketSocket::open_as(device, index, Use::Tap)
    }

    fn open_as(device: &str, index: u32, used: Use) -> Result<PacketSocket, OpenError> {
        let fail = |attempt| move |source| OpenError { device: device.to_owned(), attempt, source };
        // Protocol 0: nothing arrives before bind(), so nothing arrives from other interfaces.
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: plain system call; the result is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        let fd = check(fd).map_err(fail("open a packet socket"))?;
        // SAFETY: `fd` is a descriptor that nobody else owns.
        let socket = PacketSocket { fd: unsafe { OwnedFd::from_raw_fd(fd) }, index };
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1).map_err(fail("set PACKET_VNET_HDR"))?;
        let ignores = c_int::from(used == Use::Both);
        socket
            .set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &ignores)
            .map_err(fail("set PACKET_IGNORE_OUTGOING"))?;
        socket.refuse_others(used).map_err(fail("attach the filter"))?;
        socket.set_buffers().map_err(fail("size the socket buffers"))?;
        if used != Use::Tap {
            socket.join_all_multicast().map_err(fail("receive all multicast frames"))?;
        }
        let protocol = if used == Use::Send { 0 } else { libc::ETH_P_ALL };
        socket.bind(protocol).map_err(fail("bind the packet socket"))?;
        Ok(socket)
    }

    /// The interface index it is bound to.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Frames thrown away by the kernel for want of buffer space since the
    /// last call (`PACKET_STATISTICS` starts again at 0 with each reading).
    pub fn take_dropped(&self) -> u64 {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: `stats` and `len` outlive the call and describe each other.
        let rc = unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &raw mut len,
            )
        };
        if rc == 0 { u64::from(stats.tp_drops) } else { 0 }
    }

    fn set<T>(&self, level: c_int, name: c_int, value: &T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        let value: *const T = value;
        // SAFETY: `value` points at `len` readable bytes for the whole call.
        check(unsafe { libc::setsockopt(self.as_raw_fd(), level, name, value.cast(), len) }).map(drop)
    }

    /// The kernel takes VLAN tags off before a packet socket sees the frame; a
    /// frame of another VLAN would look untagged. The filter drops such frames, and, on a TAP,
    /// what the host itself sends: it would look as if it had come in at the port.
    fn refuse_others(&self, used: Use) -> io::Result<()> {
        let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
        let is = |wanted, otherwise| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, otherwise, wanted);
        let mark = if used == Use::Tap { TAKEN } else { 0 };
        let mut program = [
            step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, VLAN_TAG_PRESENT),
            is(0, 3),
            step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, MARK),
            is(mark, u8::from(used == Use::Tap)),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
    }

    /// With CAP_NET_ADMIN beyond the system's limits, without it up to them.
    fn set_buffers(&self) -> io::Result<()> {
        for (force, plain, size) in [
            (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, RECEIVE_BUFFER),
            (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, SEND_BUFFER),
        ] {
            self.set(libc::SOL_SOCKET, force, &size).or_else(|_| self.set(libc::SOL_SOCKET, plain, &size))?;
        }
        Ok(())
    }

    /// Neighbour solicitations come to groups that the host itself has not joined.
    fn join_all_multicast(&self) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: self.index as c_int,
            mr_type: libc::PACKET_MR_ALLMULTI as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Protocol 0 receives nothing.
    fn bind(&self, protocol: c_int) -> io::Result<()> {
        // SAFETY: all-zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (protocol as u16).to_be();
        address.sll_ifindex = self.index as c_int;
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let address: *const libc::sockaddr_ll = &raw const address;
        // SAFETY: `address` points at `len` readable bytes for the whole call.
        check(unsafe { libc::bind(self.as_raw_fd(), address.cast(), len) }).map(drop)
    }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// -1 becomes the error that `errno` tells.
pub(crate) fn check(rc: c_int) -> io::Result<c_int> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}
