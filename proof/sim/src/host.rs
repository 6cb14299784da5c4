//! Simulated clients and servers: smoltcp is their TCP, an independent one.

use std::collections::VecDeque;

use core::net::{Ipv4Addr, Ipv6Addr};
use holdfast_base::Instant;
use holdfast_wire::MacAddr;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpListenEndpoint};

const ETHERNET_MTU: usize = 1514;
/// More than any connection sends in all: smoltcp forgets to retransmit what was
/// in flight when a window had closed and opens again (seed 134 with 4 KiB).
const TCP_BUFFER: usize = 64 * 1024;
/// A TCP end gives up after this long without an answer.
/// The pauses between retransmissions grow to tens of seconds while a fault lasts.
const TCP_PATIENCE_MS: u64 = 150_000;

/// The host's cable: frames in, frames out.
#[derive(Default)]
pub struct Cable {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

/// A host: its interface, its sockets, its cable.
pub struct Host {
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    interface: Interface,
    cable: Cable,
    /// All its sockets.
    pub sockets: SocketSet<'static>,
}

impl Host {
    /// A host with both addresses (/24 and /64) and, if it is a server, a way out.
    pub fn new(
        now: Instant,
        mac: MacAddr,
        v4: Ipv4Addr,
        v6: Ipv6Addr,
        gateway: Option<(Ipv4Addr, Ipv6Addr)>,
        seed: u64,
    ) -> Host {
        let mut cable = Cable::default();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut cable, stamp(now));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(v4), 24)).expect("room for an address");
            addresses.push(IpCidr::new(IpAddress::Ipv6(v6), 64)).expect("room for an address");
        });
        if let Some((v4, v6)) = gateway {
            interface.routes_mut().add_default_ipv4_route(v4).expect("room for a route");
            interface.routes_mut().add_default_ipv6_route(v6).expect("room for a route");
        }
        Host { mac, v4, v6, interface, cable, sockets: SocketSet::new(Vec::new()) }
    }

    /// A frame arrives.
    pub fn receive(&mut self, mut frame: Vec<u8>) {
        self.direct_announcement(&mut frame);
        self.cable.received.push_back(frame);
    }

    /// Lets the stack run; returns the frames it sends.
    pub fn poll(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.interface.poll(stamp(now), &mut self.cable, &mut self.sockets);
        core::mem::take(&mut self.cable.sent)
    }

    /// When the stack wants to run next.
    pub fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(stamp(now), &self.sockets)?;
        Some(Instant::from_nanos(at.total_micros().max(0) as u64 * 1000))
    }

    /// Opens a TCP connection.
    pub fn connect(&mut self, to: (IpAddress, u16), from_port: u16) -> SocketHandle {
        let mut socket = tcp_socket();
        socket.connect(self.interface.context(), to, from_port).expect("a fresh socket connects");
        self.sockets.add(socket)
    }

    /// A socket that does nothing.
    pub fn idle_socket(&mut self) -> SocketHandle {
        self.sockets.add(tcp_socket())
    }

    /// Waits for one TCP connection on a port.
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = tcp_socket();
        socket.listen(port).expect("a fresh socket listens");
        self.sockets.add(socket)
    }

    /// A UDP socket on a port.
    pub fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 16 * 1024]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(IpListenEndpoint::from(port)).expect("a fresh socket binds");
        self.sockets.add(socket)
    }

    /// Linux learns from gratuitous ARP; smoltcp only from ARP aimed at it. So
    /// an announcement is turned into a reply aimed at this host.
    fn direct_announcement(&self, frame: &mut [u8]) {
        const ARP: [u8; 2] = [0x08, 0x06];
        if frame.len() >= 42 && frame[12..14] == ARP && frame[28..32] == frame[38..42] {
            frame[21] = 2;
            frame[38..42].copy_from_slice(&self.v4.octets());
        }
    }
}

fn tcp_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; TCP_BUFFER]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_timeout(Some(smoltcp::time::Duration::from_millis(TCP_PATIENCE_MS)));
    socket
}

fn stamp(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1000) as i64)
}

impl Device for Cable {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET_MTU;
        capabilities
    }
}

/// A frame on its way into the stack.
pub struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// A frame on its way out of the stack.
pub struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}
