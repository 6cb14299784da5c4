//! FTP between simulated hosts: a client that fetches a few files in every way there is, and its server.
//!
//! The server says its own address and the client its own, as real ones do; whoever hears of a data connection believes what it
//! hears. Every byte of a file is checked.

use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;
use smoltcp::wire::IpAddress;

use crate::host::Host;

/// The ports at which every server takes control connections: a server endpoint belongs to one service.
pub const CONTROL: [u16; 2] = [21, 2121];
/// The port from which a server opens data connections.
const DATA: u16 = 20;
/// The first port at which servers, and clients, wait for data connections.
const FIRST_PASSIVE: u16 = 30_000;
const FIRST_ACTIVE: u16 = 45_000;

/// How a data connection is agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// PASV.
    Passive,
    /// EPSV.
    ExtendedPassive,
    /// PORT.
    Active,
    /// EPRT.
    ExtendedActive,
}

impl Way {
    /// Those of an IP version.
    pub fn all(v6: bool) -> &'static [Way] {
        let all = &[Way::ExtendedPassive, Way::ExtendedActive, Way::Passive, Way::Active];
        if v6 { &all[..2] } else { all }
    }

    fn is_active(self) -> bool {
        matches!(self, Way::Active | Way::ExtendedActive)
    }
}

/// Where a client's session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Waits for the greeting.
    Begun,
    /// Has said how the data connection is to be made.
    Asked,
    /// Waits for the file.
    Fetches,
    /// Has said QUIT.
    Leaves,
    /// Everything was fetched, and it was closed in order.
    Finished,
    /// What went wrong.
    Failed(String),
}

/// A client's session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Where it stands.
    pub stand: Stand,
    server: IpAddress,
    ways: Vec<Way>,
    bytes: u64,
    fetched: usize,
    control: SocketHandle,
    heard: Vec<u8>,
    data: Option<SocketHandle>,
    got: u64,
    /// The end of the data, and what the server says about it.
    ended: (bool, bool),
    port: u16,
}

/// A byte of every file.
fn byte(at: u64) -> u8 {
    (at.wrapping_mul(131) >> 3) as u8
}

/// `a,b,c,d,high,low`.
fn numbers(at: SocketAddr) -> String {
    let IpAddr::V4(v4) = at.ip() else { return String::new() };
    let [a, b, c, d] = v4.octets();
    format!("{a},{b},{c},{d},{},{}", at.port() >> 8, at.port() & 0xff)
}

fn of_numbers(text: &str) -> Option<SocketAddr> {
    let digits = text.find(|c: char| c.is_ascii_digit())?;
    let values: Vec<u8> = text[digits..].split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok()).collect();
    let &[a, b, c, d, high, low] = values.as_slice() else { return None };
    Some(SocketAddr::new([a, b, c, d].into(), u16::from_be_bytes([high, low])))
}

fn of_fields(text: &str) -> Option<SocketAddr> {
    let mut fields = text.split('|').skip(2);
    Some(SocketAddr::new(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn own_address(host: &Host, v6: bool) -> IpAddr {
    if v6 { host.v6.into() } else { host.v4.into() }
}

/// The next line that was heard, without its end.
fn line(heard: &mut Vec<u8>) -> Option<String> {
    let end = heard.iter().position(|&byte| byte == b'\n')?;
    let line: Vec<u8> = heard.drain(..=end).collect();
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn hear(socket: &mut tcp::Socket<'_>, heard: &mut Vec<u8>) {
    let mut buffer = [0; 512];
    while socket.can_recv() {
        let Ok(len) = socket.recv_slice(&mut buffer) else { return };
        heard.extend_from_slice(&buffer[..len]);
    }
}

fn say(socket: &mut tcp::Socket<'_>, text: &str) {
    let _ = socket.send_slice(text.as_bytes());
}

impl Session {
    /// Connects from `port`; `bytes` are fetched in each of `ways`.
    pub fn begin(host: &mut Host, to: (IpAddress, u16), port: u16, ways: &[Way], bytes: u64) -> Session {
        Session {
            stand: Stand::Begun,
            server: to.0,
            ways: ways.to_vec(),
            bytes,
            fetched: 0,
            control: host.connect(to, port),
            heard: Vec::new(),
            data: None,
            got: 0,
            ended: (false, false),
            port,
        }
    }

    /// Whether it is over, well or not.
    pub fn is_over(&self) -> bool {
        matches!(self.stand, Stand::Finished | Stand::Failed(_))
    }

    fn fail(&mut self, why: &str) {
        let (heard, way) = (String::from_utf8_lossy(&self.heard).into_owned(), self.ways.get(self.fetched));
        self.stand = Stand::Failed(format!("{why} at {:?}, {way:?}, {} bytes, heard {heard:?}", self.stand, self.got));
    }

    /// Lets the client run once.
    pub fn run(&mut self, host: &mut Host) {
        if self.is_over() {
            return;
        }
        let socket = host.sockets.get_mut::<tcp::Socket<'_>>(self.control);
        hear(socket, &mut self.heard);
        let (closed, left) = (socket.state() == tcp::State::Closed, !socket.may_recv());
        self.take_data(host);
        while let Some(line) = line(&mut self.heard) {
            self.listen_to(host, &line);
            if self.is_over() {
                return;
            }
        }
        let opening = matches!(host.sockets.get_mut::<tcp::Socket<'_>>(self.control).state(), tcp::State::SynSent);
        if self.stand == Stand::Leaves && left {
            host.sockets.get_mut::<tcp::Socket<'_>>(self.control).close();
            self.stand = Stand::Finished;
        } else if closed || left && !opening {
            self.fail("the control connection ended");
        }
    }

    fn listen_to(&mut self, host: &mut Host, line: &str) {
        match (&self.stand, line.get(..3)) {
            (Stand::Begun, Some("220")) => self.go_on(host),
            (Stand::Asked, Some("227")) => match of_numbers(&line[4..]) {
                Some(at) => self.fetch(host, Some((at.ip().into(), at.port()))),
                None => self.fail(line),
            },
            (Stand::Asked, Some("229")) => match line.split('|').nth(3).and_then(|port| port.parse().ok()) {
                Some(port) => self.fetch(host, Some((self.server, port))),
                None => self.fail(line),
            },
            (Stand::Asked, Some("200")) => self.fetch(host, None),
            (Stand::Fetches, Some("150")) => {}
            (Stand::Fetches, Some("226")) => {
                self.ended.1 = true;
                self.end_file(host);
            }
            (Stand::Leaves, Some("221")) => {}
            _ => self.fail(line),
        }
    }

    /// Asks for the next data connection, or leaves.
    fn go_on(&mut self, host: &mut Host) {
        let Some(&way) = self.ways.get(self.fetched) else {
            say(host.sockets.get_mut::<tcp::Socket<'_>>(self.control), "QUIT\r\n");
            self.stand = Stand::Leaves;
            return;
        };
        (self.got, self.ended) = (0, (false, false));
        let v6 = matches!(self.server, IpAddress::Ipv6(_));
        let at = SocketAddr::new(own_address(host, v6), FIRST_ACTIVE + self.port % 1000 * 8 + self.fetched as u16);
        let text = match way {
            Way::Passive => "PASV\r\n".to_owned(),
            Way::ExtendedPassive => "EPSV\r\n".to_owned(),
            Way::Active => format!("PORT {}\r\n", numbers(at)),
            Way::ExtendedActive => format!("EPRT |{}|{}|{}|\r\n", if v6 { 2 } else { 1 }, at.ip(), at.port()),
        };
        self.data = way.is_active().then(|| host.listen(at.port()));
        say(host.sockets.get_mut::<tcp::Socket<'_>>(self.control), &text);
        self.stand = Stand::Asked;
    }

    fn fetch(&mut self, host: &mut Host, passive: Option<(IpAddress, u16)>) {
        if let Some(to) = passive {
            self.data = Some(host.connect(to, self.port + 10_000 + self.fetched as u16));
        }
        let command = format!("RETR {}\r\n", self.bytes);
        say(host.sockets.get_mut::<tcp::Socket<'_>>(self.control), &command);
        self.stand = Stand::Fetches;
    }

    fn take_data(&mut self, host: &mut Host) {
        let Some(handle) = self.data else { return };
        let socket = host.sockets.get_mut::<tcp::Socket<'_>>(handle);
        let mut text = Vec::new();
        hear(socket, &mut text);
        let (state, done) = (socket.state(), !socket.may_recv());
        let right = (self.got..).zip(&text).all(|(at, &got)| byte(at) == got);
        self.got += text.len() as u64;
        if !right || self.got > self.bytes {
            return self.fail("a wrong byte");
        }
        let waits = matches!(state, tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived);
        if waits || !done {
            return;
        }
        if self.got < self.bytes {
            return self.fail("the data connection ended");
        }
        host.sockets.get_mut::<tcp::Socket<'_>>(handle).close();
        self.ended.0 = true;
        self.end_file(host);
    }

    fn end_file(&mut self, host: &mut Host) {
        if self.ended == (true, true) {
            self.data = None;
            self.fetched += 1;
            self.go_on(host);
        }
    }
}

/// A server's side of one session.
struct Hosted {
    control: SocketHandle,
    heard: Vec<u8>,
    greeted: bool,
    /// Where the data connection is, or goes. Two wait for it: the first SYN may come from a node that dies, and its port with it.
    passive: Option<[SocketHandle; 2]>,
    active: Option<SocketAddr>,
    /// A file under way: what may become its connection, its length, how far it has come.
    file: Option<(Vec<SocketHandle>, u64, u64)>,
}

/// A server's programs for FTP.
pub struct FtpServer {
    listening: Vec<(u16, SocketHandle)>,
    sessions: Vec<Hosted>,
    next_port: u16,
}

impl FtpServer {
    /// One that listens.
    pub fn new(host: &mut Host) -> FtpServer {
        let listening = CONTROL.map(|port| (port, host.listen(port))).to_vec();
        FtpServer { listening, sessions: Vec::new(), next_port: FIRST_PASSIVE }
    }

    /// Sockets that may be answering a SYN.
    pub fn answering(&self) -> impl Iterator<Item = SocketHandle> {
        let data = |session: &'_ Hosted| session.file.iter().flat_map(|file| file.0.clone()).collect::<Vec<_>>();
        let own = self.sessions.iter().flat_map(move |session| {
            let waiting = session.passive.into_iter().flatten();
            waiting.chain([session.control]).chain(data(session)).collect::<Vec<_>>()
        });
        own.chain(self.listening.iter().map(|&(_, handle)| handle))
    }

    /// Lets it run once.
    pub fn run(&mut self, host: &mut Host) {
        for (port, handle) in &mut self.listening {
            if host.sockets.get::<tcp::Socket<'_>>(*handle).state() != tcp::State::Listen {
                let control = core::mem::replace(handle, host.listen(*port));
                let heard = Vec::new();
                self.sessions.push(Hosted { control, heard, greeted: false, passive: None, active: None, file: None });
            }
        }
        for session in &mut self.sessions {
            session.run(host, &mut self.next_port);
        }
    }
}

impl Hosted {
    fn run(&mut self, host: &mut Host, next_port: &mut u16) {
        let socket = host.sockets.get_mut::<tcp::Socket<'_>>(self.control);
        if !self.greeted && socket.state() == tcp::State::Established {
            say(socket, "220 hello\r\n");
            self.greeted = true;
        }
        hear(socket, &mut self.heard);
        if self.greeted && !socket.may_recv() {
            socket.close();
        }
        if self.file.is_some() {
            return self.send_file(host);
        }
        while let Some(line) = line(&mut self.heard) {
            self.obey(host, &line, next_port);
        }
    }

    fn obey(&mut self, host: &mut Host, line: &str, next_port: &mut u16) {
        let v6 = line.starts_with("EPSV")
            && matches!(
                host.sockets.get::<tcp::Socket<'_>>(self.control).remote_endpoint().map(|end| end.addr),
                Some(IpAddress::Ipv6(_))
            );
        let mut answer = String::new();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("PASV" | "EPSV", _) => {
                *next_port += 1;
                let at = SocketAddr::new(own_address(host, v6), *next_port);
                self.passive = Some([(); 2].map(|()| host.listen(at.port())));
                let _ = match line {
                    "PASV" => write!(answer, "227 Entering Passive Mode ({}).", numbers(at)),
                    _ => write!(answer, "229 Entering Extended Passive Mode (|||{}|)", at.port()),
                };
            }
            ("PORT", argument) => (self.active, answer) = (of_numbers(argument), "200 ok".into()),
            ("EPRT", argument) => (self.active, answer) = (of_fields(argument), "200 ok".into()),
            ("RETR", argument) => {
                let active = self.active.take().map(|at| host.connect((at.ip().into(), at.port()), DATA));
                let data: Vec<_> = active.into_iter().chain(self.passive.take().into_iter().flatten()).collect();
                self.file = Some((data, argument.parse().unwrap_or(0), 0));
                answer = "150 here it comes".into();
            }
            ("QUIT", _) => answer = "221 bye".into(),
            (_, _) => answer = "500 what".into(),
        }
        let socket = host.sockets.get_mut::<tcp::Socket<'_>>(self.control);
        say(socket, &(answer + "\r\n"));
        if line == "QUIT" {
            socket.close();
        }
    }

    fn send_file(&mut self, host: &mut Host) {
        let Some((data, len, sent)) = &mut self.file else { return };
        let is_made = |handle: &&SocketHandle| host.sockets.get::<tcp::Socket<'_>>(**handle).may_send();
        if let [_, _] = data.as_slice()
            && let Some(&made) = data.iter().find(is_made)
        {
            data.retain(|&handle| handle == made);
        }
        let &mut [data] = data.as_mut_slice() else { return };
        let socket = host.sockets.get_mut::<tcp::Socket<'_>>(data);
        if *sent < *len && socket.can_send() {
            let end = (*sent + 900).min(*len);
            let chunk: Vec<u8> = (*sent..end).map(byte).collect();
            *sent += socket.send_slice(&chunk).unwrap_or(0) as u64;
        } else if *sent == *len && socket.may_send() && socket.send_queue() == 0 {
            socket.close();
        }
        let over = matches!(socket.state(), tcp::State::FinWait2 | tcp::State::TimeWait | tcp::State::Closed);
        if over && *sent == *len {
            self.file = None;
            say(host.sockets.get_mut::<tcp::Socket<'_>>(self.control), "226 done\r\n");
        }
    }
}
