//! Real kernels: TCP between two namespaces through a forwarder on packet
//! sockets. Needs root; without it each test says so and fails.

use holdfast_engine::PortId;
use holdfast_netio::{Guard, GuardPlan, PacketPorts, PortSockets, Ports, TURN_FRAMES, link};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const BYTES: usize = 64 << 20;

/// Three namespaces in a row: left, middle, right; deleted on drop.
struct Row {
    name: String,
}

impl Row {
    fn new(test: &str) -> Row {
        // SAFETY: no preconditions.
        let user = unsafe { libc::geteuid() };
        assert_eq!(user, 0, "network namespaces need root: run the tests with sudo");
        let row = Row { name: format!("hfedge-{test}-{}", std::process::id()) };
        for space in ["l", "m", "r"] {
            run(&format!("ip netns add {}-{space}", row.name));
        }
        row.cable("l", "hfl");
        row.cable("r", "hfr");
        row.ip("m", "link set lo up");
        row
    }

    /// A veth pair: `eth0` in the outer namespace, `inner` in the middle one.
    fn cable(&self, outer: &str, inner: &str) {
        let name = &self.name;
        self.ip("m", &format!("link add {inner} type veth peer name eth0 netns {name}-{outer}"));
        self.ip("m", &format!("link set {inner} up"));
        self.ip(outer, "link set eth0 up");
        self.ip(outer, "link set lo up");
    }

    fn ip(&self, space: &str, words: &str) {
        run(&format!("ip -n {}-{space} {words}", self.name));
    }

    /// Runs `body` on a thread inside a namespace.
    fn within<T: Send + 'static>(
        &self,
        space: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let file = std::fs::File::open(format!("/run/netns/{}-{space}", self.name)).expect("namespace file");
        thread::spawn(move || {
            // SAFETY: moves this thread only.
            let rc = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(rc, 0, "setns: {}", std::io::Error::last_os_error());
            body()
        })
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        for space in ["l", "m", "r"] {
            run(&format!("ip netns del {}-{space}", self.name));
        }
    }
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().expect("a program")).args(words).status().expect("run it");
    assert!(status.success(), "{line}: {status}");
}

fn open(device: &str) -> PortSockets {
    PortSockets::open(device, link(device).unwrap().expect("interface").index).unwrap()
}

#[derive(Default)]
struct Seen {
    gso: AtomicU64,
    partial: AtomicU64,
    ready: AtomicBool,
    stop: AtomicBool,
}

/// A cable made of two packet sockets: what comes in on one leaves by the other.
fn forward(seen: &Seen) {
    let mut ports = PacketPorts::new();
    for (at, device) in ["hfl", "hfr"].into_iter().enumerate() {
        assert!(ports.insert(PortId(at as u8), open(device)).is_none());
    }
    seen.ready.store(true, Ordering::Release);
    while !seen.stop.load(Ordering::Acquire) {
        let mut poll =
            [0u8, 1].map(|id| libc::pollfd { fd: ports.raw_fd(PortId(id)).unwrap(), events: libc::POLLIN, revents: 0 });
        // SAFETY: `poll` holds two entries.
        unsafe { libc::poll(poll.as_mut_ptr(), 2, 50) };
        for id in [0u8, 1] {
            ports.receive(PortId(id), TURN_FRAMES / 2, &mut |frame, _| {
                seen.gso.fetch_add(u64::from(frame.offload.is_gso()), Ordering::Relaxed);
                seen.partial.fetch_add(u64::from(frame.offload.is_partial()), Ordering::Relaxed);
                Some(PortId(1 - frame.port.0))
            });
        }
        ports.flush(&mut || true, &mut drop);
    }
    ports.collect_drops();
    for id in [0u8, 1] {
        let counters = ports.counters(PortId(id));
        assert_eq!((counters.rx_truncated, counters.tx_errors), (0, 0), "{counters:?}");
    }
}

fn pattern(at: usize) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 16) as u8
}

fn tcp_through_the_forwarder(test: &str, server: &'static str, addresses: [&str; 2]) {
    let row = Row::new(test);
    for (space, address) in ["l", "r"].into_iter().zip(addresses) {
        let instantly = if address.contains(':') { "nodad" } else { "" };
        row.ip(space, &format!("address add {address} dev eth0 {instantly}"));
    }
    let seen = Arc::new(Seen::default());
    let forwarder = row.within("m", {
        let seen = Arc::clone(&seen);
        move || forward(&seen)
    });
    while !seen.ready.load(Ordering::Acquire) {
        thread::yield_now();
    }
    let listener = row.within("r", move || TcpListener::bind((server, 7)).expect("bind")).join().unwrap();
    let sender = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let block: Vec<u8> = (0..BYTES).map(pattern).collect();
        stream.write_all(&block).expect("send");
        stream.shutdown(Shutdown::Write).expect("shutdown");
    });
    let started = Instant::now();
    let mut stream = row.within("l", move || TcpStream::connect((server, 7)).expect("connect")).join().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).expect("receive");
    let megabits = received.len() as f64 * 8e-6 / started.elapsed().as_secs_f64();
    sender.join().unwrap();
    seen.stop.store(true, Ordering::Release);
    forwarder.join().unwrap();
    assert_eq!(received.len(), BYTES);
    assert!(received.iter().enumerate().all(|(at, &byte)| byte == pattern(at)), "bytes changed on the way");
    let (gso, partial) = (seen.gso.load(Ordering::Relaxed), seen.partial.load(Ordering::Relaxed));
    assert!(gso > 100 && partial > 100, "super-packets {gso}, partial checksums {partial}");
    eprintln!("{server}: {megabits:.0} Mbit/s, {gso} super-packets, {partial} partial checksums");
}

#[test]
fn ipv4_super_packets_pass_whole() {
    tcp_through_the_forwarder("t4", "10.77.0.2", ["10.77.0.1/24", "10.77.0.2/24"]);
}

#[test]
fn ipv6_super_packets_pass_whole() {
    tcp_through_the_forwarder("t6", "fd77::2", ["fd77::1/64", "fd77::2/64"]);
}

/// The length of the next datagram, or `None` when the socket's time is over. The kernel does not restart a receive
/// with a time limit when the process was stopped meanwhile (signal(7)): that is neither.
fn hear(socket: &UdpSocket) -> Option<usize> {
    let mut buffer = [0; 16];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) => return Some(len),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("receive: {error}"),
        }
    }
}

#[test]
fn the_guard_hides_floating_and_transit_packets_from_the_host_only() {
    let row = Row::new("guard");
    row.ip("l", "address add 10.77.0.1/24 dev eth0");
    row.ip("m", "link set hfl address 02:00:00:00:00:09");
    // The guard also keeps the host from answering ARP for floating addresses.
    row.ip("l", "neighbour add 10.77.0.10 lladdr 02:00:00:00:00:09 dev eth0");
    row.ip("m", "address add 10.77.0.9/24 dev hfl");
    row.ip("m", "address add 10.77.0.10/32 dev hfl");
    let client = row.within("l", || UdpSocket::bind("10.77.0.1:0").unwrap()).join().unwrap();
    client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let body = move || {
        let own = UdpSocket::bind("10.77.0.9:9").unwrap();
        let floating = UdpSocket::bind("10.77.0.10:9").unwrap();
        let mut ports = PacketPorts::new();
        ports.insert(PortId(0), open("hfl"));
        let mut guard = Guard::new(std::process::id());
        let plan = GuardPlan {
            devices: ["hfl".to_owned()].into(),
            floating: ["10.77.0.10".parse().unwrap()].into(),
            transit: Some(["10.77.0.9".parse().unwrap()].into()),
        };
        assert!(guard.apply(&plan).unwrap());
        assert!(!guard.apply(&plan).unwrap(), "the same plan twice is no work");
        for target in ["10.77.0.10:9", "10.77.0.9:9"] {
            client.send_to(b"hello", target).unwrap();
        }
        for socket in [&own, &floating] {
            socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        }
        assert_eq!(hear(&own), Some(5), "the host's own address stays reachable");
        assert_eq!(hear(&floating), None, "the host saw a floating address's packet");
        let mut tapped = 0;
        ports.receive(PortId(0), 64, &mut |frame, _| {
            tapped += u32::from(frame.bytes.ends_with(b"hello"));
            None
        });
        assert_eq!(tapped, 2, "the packet socket sees both");
        guard.remove().unwrap();
        client.send_to(b"again", "10.77.0.10:9").unwrap();
        assert_eq!(hear(&floating), Some(5), "the rules are gone");
        guard.apply(&plan).unwrap();
        Guard::new(0).remove_stale(|_| false).unwrap();
        client.send_to(b"again", "10.77.0.10:9").unwrap();
        assert_eq!(hear(&floating), Some(5), "the stale table is gone");
    };
    row.within("m", body).join().unwrap();
}
