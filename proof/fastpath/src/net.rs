//! Two hosts and a node between them, as network namespaces, and TCP
//! connections that begin established.

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{HOSTS, OWN, host};

/// Namespaces of the client, the node and the server; devices of the node.
const NAMES: [&str; 3] = ["client", "node", "server"];
pub const DEVICES: [&str; 2] = ["to-clients", "to-servers"];
/// How long a transfer may stand still, on a machine with other things to do.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// `ETHTOOL_STXCSUM`, from `linux/ethtool.h`.
const SET_TX_CHECKSUM: u32 = 0x17;
/// `TCP_RECV_QUEUE` and `TCP_SEND_QUEUE`, from `linux/tcp.h`.
const RECEIVE_QUEUE: u32 = 1;
const SEND_QUEUE: u32 = 2;
/// Options of TCP (RFC 9293 section 3.1, RFC 7323), and what both ends have said.
const MAX_SEGMENT: u32 = 2;
const WINDOW_SCALE: u32 = 3;
const SEGMENT: u32 = 1440;
const SCALE: u32 = 7;
const WINDOW: u32 = 65_535;

/// The three namespaces; they go with this value. The calling thread is in the node's.
pub struct Net {
    prefix: String,
}

impl Net {
    /// Lays the cables. Hosts find the node's floating addresses by static
    /// neighbours: nobody answers for those here.
    pub fn new() -> Result<Net> {
        let net = Net { prefix: format!("hf-fastpath-{}", std::process::id()) };
        for name in NAMES {
            ip(&format!("netns add {}", net.name(name)))?;
        }
        let node = net.name("node");
        for (side, far) in ["client", "server"].into_iter().enumerate() {
            let (device, far) = (DEVICES[side], net.name(far));
            let (near_mac, far_mac) = (OWN[side], HOSTS[side]);
            ip(&format!(
                "-n {node} link add {device} address {near_mac} type veth peer name eth0 address {far_mac} netns {far}"
            ))?;
            for v6 in [false, true] {
                let (addr, bits) = (IpAddr::from(host(v6, side as u8 + 1, HOST[side])), if v6 { 64 } else { 24 });
                let dad = if v6 { "nodad" } else { "" };
                ip(&format!("-n {far} addr add {addr}/{bits} dev eth0 {dad}"))?;
            }
            ip(&format!("-n {node} link set {device} up"))?;
            ip(&format!("-n {far} link set eth0 up"))?;
            for v6 in [false, true] {
                let ours = IpAddr::from(host(v6, side as u8 + 1, [100, 5][side]));
                ip(&format!("-n {far} neigh replace {ours} lladdr {near_mac} dev eth0 nud permanent"))?;
            }
        }
        enter(&node)?;
        Ok(net)
    }

    fn name(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }

    /// Both ends of a connection that nobody has opened: the client's between
    /// `client.0` and `client.1`, and so the server's.
    pub fn connection(
        &self,
        client: (SocketAddr, SocketAddr),
        server: (SocketAddr, SocketAddr),
    ) -> Result<(Socket, Socket)> {
        let near = self.inside("client", move || established(client, (1001, 5001)))?;
        let far = self.inside("server", move || established(server, (5001, 1001)))?;
        Ok((near, far))
    }

    fn inside<T: Send + 'static>(&self, role: &str, make: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let name = self.name(role);
        let thread = thread::spawn(move || {
            enter(&name)?;
            make()
        });
        match thread.join() {
            Ok(made) => made,
            Err(_) => bail!("the thread in {role} panicked"),
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in NAMES {
            // What was never made cannot be removed.
            let _ = ip(&format!("netns del {}", self.name(name)));
        }
    }
}

/// Last byte of the client's and of the server's address.
const HOST: [u8; 2] = [9, 21];

/// Whether the device of the node in this namespace computes checksums for what leaves by it.
pub fn set_tx_checksum(device: &str, on: bool) -> Result<()> {
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let mut value = Value { command: SET_TX_CHECKSUM, data: u32::from(on) };
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(device.as_bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: the request names a value of the command's form, which lives through the call.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    ensure!(rc == 0, "tx checksum of {device}: {}", io::Error::last_os_error());
    Ok(())
}

/// Number of an interface in this namespace.
pub fn index(device: &str) -> Result<u32> {
    let name = std::ffi::CString::new(device)?;
    // SAFETY: a string that ends with zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "no interface {device}");
    Ok(index)
}

/// A socket that believes in a connection whose next numbers are these (`TCP_REPAIR`).
fn established((local, remote): (SocketAddr, SocketAddr), (sends, receives): (u32, u32)) -> Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
    set(&socket, libc::TCP_REPAIR, 1u32)?;
    socket.bind(&local.into()).with_context(|| format!("bind to {local}"))?;
    for (queue, number) in [(SEND_QUEUE, sends), (RECEIVE_QUEUE, receives)] {
        set(&socket, libc::TCP_REPAIR_QUEUE, queue)?;
        set(&socket, libc::TCP_QUEUE_SEQ, number)?;
    }
    socket.connect(&remote.into()).with_context(|| format!("connect to {remote}"))?;
    // What the handshake would have said: segment size, window scale both ways, windows.
    for (option, value) in [(MAX_SEGMENT, SEGMENT), (WINDOW_SCALE, SCALE << 16 | SCALE)] {
        set(&socket, libc::TCP_REPAIR_OPTIONS, [option, value])?;
    }
    set(&socket, libc::TCP_REPAIR_WINDOW, [receives, WINDOW, WINDOW, WINDOW, receives])?;
    set(&socket, libc::TCP_REPAIR, 0u32)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sets an option of TCP whose value is plain numbers.
fn set<T: Copy>(socket: &Socket, option: i32, value: T) -> Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is as long as is said, and lives through the call.
    let rc = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), len) };
    ensure!(rc == 0, "TCP option {option}: {}", io::Error::last_os_error());
    Ok(())
}

/// Puts the calling thread into a namespace.
fn enter(name: &str) -> Result<()> {
    let file = File::open(format!("/run/netns/{name}")).with_context(|| format!("namespace {name}"))?;
    // SAFETY: a descriptor of a network namespace.
    let rc = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    ensure!(rc == 0, "entering {name}: {}", io::Error::last_os_error());
    Ok(())
}

fn ip(words: &str) -> Result<()> {
    run("ip", words).map(drop)
}

/// Runs a program and answers what it printed.
pub fn run(program: &str, words: &str) -> Result<String> {
    let output = Command::new(program).args(words.split_whitespace()).output();
    let output = output.with_context(|| format!("running {program} (install iproute2)"))?;
    ensure!(output.status.success(), "{program} {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
