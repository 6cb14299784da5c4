//! Questions to the host: its interfaces and the addresses its kernel owns.

use crate::socket::check;
use holdfast_wire::MacAddr;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Asks a driver, from `linux/sockios.h`.
const SIOCETHTOOL: u32 = 0x8946;
/// … whether there is a link, from `linux/ethtool.h`.
const ETHTOOL_GLINK: u32 = 0x0a;

/// An address that the host's kernel owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostAddress {
    /// The interface it is on.
    pub device: String,
    /// The address.
    pub addr: IpAddr,
    /// Bits of its subnet.
    pub prefix: u8,
}

impl HostAddress {
    /// Whether `other` is in this address's subnet.
    pub fn reaches(&self, other: IpAddr) -> bool {
        holdfast_wire::Addr::from(self.addr).matches_prefix(other.into(), self.prefix)
    }
}

/// What an interface is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number; another one means another interface of the same name.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The largest IP packet it carries, in bytes.
    pub mtu: u32,
    /// Administratively up, with a carrier.
    pub up: bool,
}

/// All IPv4 and IPv6 addresses of the host, sorted.
pub fn host_addresses() -> io::Result<Vec<HostAddress>> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs stores a list that we free below, after the last use.
    check(unsafe { libc::getifaddrs(&raw mut list) })?;
    let mut found = Vec::new();
    let mut next = list;
    // SAFETY: getifaddrs makes a linked list that ends with a null pointer.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        // SAFETY: the sockaddrs of an entry are null or point at an address of their family.
        let (addr, mask) = unsafe { (sockaddr_ip(entry.ifa_addr), sockaddr_ip(entry.ifa_netmask)) };
        if let Some(addr) = addr {
            // SAFETY: the name of an entry is a C string.
            let device = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
            found.push(HostAddress { device, addr, prefix: mask.map_or(0, prefix_len) });
        }
    }
    // SAFETY: `list` came from getifaddrs and nothing borrowed from it is left.
    unsafe { libc::freeifaddrs(list) };
    found.sort();
    Ok(found)
}

/// # Safety
/// `address` is null or points at a socket address of the family it names.
unsafe fn sockaddr_ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: the caller's promise; the family is at the start of every socket address.
    let family = i32::from(unsafe { address.as_ref() }?.sa_family);
    match family {
        libc::AF_INET => {
            // SAFETY: the family says so; read as unaligned bytes.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(IpAddr::V4(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says so; read as unaligned bytes.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(IpAddr::V6(Ipv6Addr::from(v6.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

fn prefix_len(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(v4) => v4.to_bits().leading_ones(),
        IpAddr::V6(v6) => v6.to_bits().leading_ones(),
    };
    ones as u8
}

/// The interface `device`, or `None` if there is no Ethernet interface of that
/// name. (By ioctl: /sys may belong to another network namespace.)
pub fn link(device: &str) -> io::Result<Option<Link>> {
    // SAFETY: plain system call; the result is checked before it is owned.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: `fd` is a descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    match ask(&fd, device) {
        Ok(link) => Ok(link),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells that interfaces or addresses of the host have changed: links up and
/// down, carriers, addresses. Of this process's network namespace.
#[derive(Debug)]
pub struct LinkEvents(OwnedFd);

impl LinkEvents {
    /// Listens from here on.
    pub fn open() -> io::Result<LinkEvents> {
        // SAFETY: plain system call; the result is checked before it is owned.
        let fd =
            check(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) })?;
        // SAFETY: `fd` is a descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: all-zero is a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;
        let size = std::mem::size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: `address` is a socket address of the size that is given.
        check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size) })?;
        Ok(LinkEvents(fd))
    }

    /// Waits until something has changed; what has changed meanwhile is told once.
    pub fn wait(&self) -> io::Result<()> {
        self.receive(0)?;
        while self.receive(libc::MSG_DONTWAIT)? {}
        Ok(())
    }

    /// Takes one message; its content does not matter. Whether there was one.
    fn receive(&self, flags: libc::c_int) -> io::Result<bool> {
        let mut buffer = [0u8; 8192];
        // SAFETY: `buffer` is writable for the length that is given.
        let got = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
        if got >= 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            // There was more than the socket could keep: something has changed.
            Some(libc::ENOBUFS) => Ok(true),
            Some(libc::EAGAIN) => Ok(false),
            Some(libc::EINTR) => Ok(true),
            _ => Err(error),
        }
    }
}

fn ask(fd: &OwnedFd, device: &str) -> io::Result<Option<Link>> {
    let mut request = named_request(device)?;
    let mut call = |what: libc::Ioctl| -> io::Result<libc::ifreq> {
        // SAFETY: each of these requests reads the name and writes the union of one ifreq.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), what, &raw mut request) })?;
        Ok(request)
    };
    // SAFETY: each read takes the member of the union that the request before it has written.
    unsafe {
        let index = call(libc::SIOCGIFINDEX as _)?.ifr_ifru.ifru_ifindex as u32;
        let hardware = call(libc::SIOCGIFHWADDR as _)?.ifr_ifru.ifru_hwaddr;
        let mtu = call(libc::SIOCGIFMTU as _)?.ifr_ifru.ifru_mtu;
        let flags = i32::from(call(libc::SIOCGIFFLAGS as _)?.ifr_ifru.ifru_flags);
        if hardware.sa_family != libc::ARPHRD_ETHER {
            return Ok(None);
        }
        let mac = MacAddr(std::array::from_fn(|at| hardware.sa_data[at] as u8));
        let carrier = carrier(fd, device).unwrap_or(flags & libc::IFF_RUNNING != 0);
        Ok(Some(Link { index, mac, mtu: mtu.max(0) as u32, up: flags & libc::IFF_UP != 0 && carrier }))
    }
}

/// Whether a device has a carrier at this moment. The flags tell of its loss only
/// when the kernel gets round to it, up to a second later.
fn carrier(fd: &OwnedFd, device: &str) -> io::Result<bool> {
    /// `struct ethtool_value` of `linux/ethtool.h`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command: ETHTOOL_GLINK, data: 0 };
    let mut request = named_request(device)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request reads the name and a pointer to an `ethtool_value`, which it writes; both outlive it.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) })?;
    Ok(value.data != 0)
}

fn named_request(device: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if device.len() >= request.ifr_name.len() || device.bytes().any(|byte| byte == 0) {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}
