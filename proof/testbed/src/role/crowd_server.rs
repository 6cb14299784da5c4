//! The campaign's server: plays what each client's header asks for, and checks every byte by itself.
//!
//! A connection whose header arrived must end with all its bytes: a reset, an early end or a wrong byte is told as
//! `{"event":"loss"}`. Listeners behind `--mute-syn` and `--mute-ack` ignore, now and then, all segments or all but SYN,
//! so that connections stay half open for a while. UDP answers carry our name and the sender's address, so that a client
//! notices if either changes. Commands: `status`, `hurry` (send the rest without pauses, mute nothing).

use super::poller::{Event, Poller, STDIN};
use super::script::{self, GREETING, HEADER, Header, Incoming, Outgoing, Script};
use super::{clock, say};
use crate::dice::Dice;
use crate::sys;
use anyhow::Result;
use serde_json::json;
use socket2::Socket;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// Losses told one by one.
const LOSSES_TOLD: u64 = 50;

/// Arguments.
#[derive(clap::Args)]
pub struct Options {
    /// Number that greetings and UDP answers carry.
    #[arg(long)]
    number: u32,
    /// Where to serve TCP and UDP.
    #[arg(long)]
    listen: Vec<SocketAddr>,
    /// TCP listeners that at times ignore everything that knocks.
    #[arg(long)]
    mute_syn: Vec<SocketAddr>,
    /// TCP listeners that at times hear a SYN, answer it, and ignore what follows.
    #[arg(long)]
    mute_ack: Vec<SocketAddr>,
    /// Decides when listeners are mute.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How a listener is mute, when it is.
#[derive(Clone, Copy, PartialEq)]
enum Mute {
    Never,
    Syn,
    Ack,
}

enum Entry {
    Listener { socket: Socket, mute: Mute },
    Datagrams(UdpSocket),
    Stream(Stream),
}

struct Stream {
    socket: TcpStream,
    peer: Option<SocketAddr>,
    up: Incoming,
    /// There once the header is.
    talk: Option<(Header, Outgoing)>,
    ended: bool,
    closed: bool,
}

#[derive(Default)]
struct Totals {
    accepted: u64,
    done: u64,
    lost: u64,
    wrong_bytes: u64,
}

struct Server {
    number: u32,
    poller: Poller,
    entries: BTreeMap<u64, Entry>,
    /// When a source sends its next chunk.
    due: BTreeSet<(Instant, u64)>,
    next: u64,
    totals: Totals,
    hurry: bool,
    dice: Dice,
    mute_now: bool,
    mute_change: Instant,
}

/// Serves until the standard input ends.
pub fn run(options: &Options) -> Result<()> {
    let mut server = Server {
        number: options.number,
        poller: Poller::new()?,
        entries: BTreeMap::new(),
        due: BTreeSet::new(),
        next: 0,
        totals: Totals::default(),
        hurry: false,
        dice: Dice::new(options.seed, u64::from(options.number)),
        mute_now: false,
        mute_change: Instant::now(),
    };
    for address in &options.listen {
        server.listen(*address, Mute::Never)?;
        let socket = sys::datagrams(*address)?;
        server.add(Entry::Datagrams(socket))?;
    }
    for (addresses, mute) in [(&options.mute_syn, Mute::Syn), (&options.mute_ack, Mute::Ack)] {
        for address in addresses {
            server.listen(*address, mute)?;
        }
    }
    say(&json!({ "event": "ready" }))?;
    loop {
        for event in server.poller.wait(Duration::from_millis(2))? {
            if event.token == STDIN {
                match server.poller.commands()? {
                    None => return Ok(()),
                    Some(lines) => lines.iter().try_for_each(|line| server.command(line))?,
                }
            } else {
                server.react(event)?;
            }
        }
        let now = Instant::now();
        server.send_due(now)?;
        server.change_mute(now)?;
    }
}

impl Server {
    fn listen(&mut self, address: SocketAddr, mute: Mute) -> Result<()> {
        let socket = sys::listener(address)?;
        self.add(Entry::Listener { socket, mute })
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        let token = self.next;
        self.next += 1;
        match &entry {
            Entry::Listener { socket, .. } => self.poller.watch(socket, token, false)?,
            Entry::Datagrams(socket) => self.poller.watch(socket, token, false)?,
            Entry::Stream(stream) => self.poller.watch_edges(&stream.socket, token)?,
        }
        self.entries.insert(token, entry);
        Ok(())
    }

    fn react(&mut self, event: Event) -> Result<()> {
        match self.entries.get_mut(&event.token) {
            None => Ok(()),
            Some(Entry::Listener { .. }) => self.accept(event.token),
            Some(Entry::Datagrams(socket)) => {
                answer_datagrams(socket, self.number);
                Ok(())
            }
            Some(Entry::Stream(_)) if event.readable => self.receive(event.token),
            Some(Entry::Stream(_)) => self.send(event.token),
        }
    }

    fn accept(&mut self, token: u64) -> Result<()> {
        loop {
            let Some(Entry::Listener { socket, .. }) = self.entries.get(&token) else { return Ok(()) };
            let Ok((accepted, peer)) = socket.accept() else { return Ok(()) };
            accepted.set_nonblocking(true)?;
            accepted.set_tcp_nodelay(true)?;
            // It may have inherited the listener's deafness.
            sys::hear(&accepted)?;
            self.totals.accepted += 1;
            self.add(Entry::Stream(Stream {
                socket: accepted.into(),
                peer: peer.as_socket(),
                up: Incoming::new(0, HEADER),
                talk: None,
                ended: false,
                closed: false,
            }))?;
        }
    }

    fn receive(&mut self, token: u64) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let Some(Entry::Stream(stream)) = self.entries.get_mut(&token) else { return Ok(()) };
            match stream.socket.read(&mut buffer) {
                Ok(0) => {
                    let expected = stream.talk.as_ref().map(|(header, _)| header.up());
                    if expected.is_some_and(|expected| stream.up.checked() != expected) {
                        return self.lose(token, "ended", "end of stream");
                    }
                    if expected.is_none() {
                        self.entries.remove(&token); // a monitor
                        return Ok(());
                    }
                    stream.ended = true;
                    return self.send(token);
                }
                Ok(count) => {
                    let wrong = stream.take_in(&buffer[..count], self.number);
                    if let Some((header, _)) = &stream.talk
                        && header.script == Script::Source
                    {
                        self.due.insert((Instant::now(), token));
                    }
                    if wrong > 0 {
                        self.totals.wrong_bytes += wrong;
                        return self.lose(token, "corrupt", &format!("{wrong} wrong bytes"));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.send(token),
                Err(error) => return self.lose(token, "reset", &error.to_string()),
            }
        }
    }

    /// Sends what may be sent, closes what is complete, forgets what has ended.
    fn send(&mut self, token: u64) -> Result<()> {
        let Some(Entry::Stream(stream)) = self.entries.get_mut(&token) else { return Ok(()) };
        let Some((header, out)) = stream.talk.as_mut() else { return Ok(()) };
        if let Err(error) = out.flush(&mut stream.socket) {
            return self.lose(token, "reset", &error.to_string());
        }
        let complete = out.allowed() == header.down() && (header.script != Script::Exchange || stream.ended);
        if complete && out.is_flushed() && !stream.closed {
            stream.closed = true;
            if let Err(error) = stream.socket.shutdown(Shutdown::Write) {
                return self.lose(token, "reset", &error.to_string());
            }
        }
        if stream.ended && stream.closed {
            self.entries.remove(&token);
            self.totals.done += 1;
        }
        Ok(())
    }

    fn send_due(&mut self, now: Instant) -> Result<()> {
        while let Some((at, token)) = self.due.first().copied() {
            if at > now {
                return Ok(());
            }
            self.due.pop_first();
            let Some(Entry::Stream(stream)) = self.entries.get_mut(&token) else { continue };
            let Some((header, out)) = stream.talk.as_mut() else { continue };
            let before = out.allowed();
            if before == header.down() {
                continue;
            }
            let step = if self.hurry { header.down() } else { header.pace.chunk };
            out.allow((before + step).min(header.down()));
            self.due.insert((at + header.pace.interval, token));
            self.send(token)?;
        }
        Ok(())
    }

    fn lose(&mut self, token: u64, what: &str, detail: &str) -> Result<()> {
        let Some(Entry::Stream(stream)) = self.entries.remove(&token) else { return Ok(()) };
        if stream.talk.is_none() && what != "corrupt" {
            return Ok(()); // a monitor
        }
        let header = stream.talk.as_ref().map(|(header, _)| header);
        self.totals.lost += 1;
        if self.totals.lost > LOSSES_TOLD {
            return Ok(());
        }
        say(&json!({
            "event": "loss", "server": self.number, "what": what, "detail": detail, "id": header.map(|header| header.id),
            "script": header.map(|header| format!("{:?}", header.script)), "at_ms": clock::monotonic_ms(),
            "local": stream.socket.local_addr().ok().map(|a| a.to_string()),
            "peer": stream.peer.map(|a| a.to_string()),
            "received": stream.up.received(), "expected": header.map(|header| HEADER as u64 + header.up()),
            "sent": stream.talk.as_ref().map(|(_, out)| out.sent()),
            "to_send": header.map(|header| GREETING as u64 + header.down()), "client_closed": stream.ended,
        }))
    }

    fn change_mute(&mut self, now: Instant) -> Result<()> {
        if now < self.mute_change && !(self.hurry && self.mute_now) {
            return Ok(());
        }
        self.mute_now = !self.mute_now && !self.hurry;
        // A SYN is repeated every second: whoever knocks is heard before long, however the dice fall.
        self.mute_change = now + if self.mute_now { self.dice.ms(300, 2500) } else { self.dice.ms(2000, 6000) };
        for entry in self.entries.values() {
            match entry {
                Entry::Listener { mute: Mute::Never, .. } | Entry::Datagrams(_) | Entry::Stream(_) => {}
                Entry::Listener { socket, .. } if !self.mute_now => sys::hear(socket)?,
                Entry::Listener { socket, mute: Mute::Syn } => sys::hear_nothing(socket)?,
                Entry::Listener { socket, mute: Mute::Ack } => sys::hear_only_syn(socket)?,
            }
        }
        Ok(())
    }

    fn command(&mut self, line: &str) -> Result<()> {
        self.hurry |= line == "hurry";
        let open: Vec<u64> = self
            .entries
            .values()
            .filter_map(|entry| match entry {
                Entry::Stream(stream) => stream.talk.as_ref().map(|(header, _)| header.id),
                Entry::Listener { .. } | Entry::Datagrams(_) => None,
            })
            .collect();
        let totals = &self.totals;
        say(&json!({
            "event": line, "open": open, "accepted": totals.accepted, "done": totals.done, "lost": totals.lost,
            "wrong_bytes": totals.wrong_bytes,
        }))
    }
}

impl Stream {
    /// Takes bytes in; returns how many are wrong.
    fn take_in(&mut self, bytes: &[u8], number: u32) -> u64 {
        let rest = self.up.take_lead(bytes);
        if self.talk.is_none()
            && let Some(lead) = self.up.lead()
        {
            let Some(header) = Header::decode(lead) else { return lead.len() as u64 };
            self.up.set_stream(2 * header.id);
            self.talk = Some((header, Outgoing::new(2 * header.id + 1, script::greeting(number))));
        }
        let wrong = self.up.take_pattern(rest);
        let Some((header, out)) = self.talk.as_mut() else { return wrong };
        if header.script == Script::Exchange {
            out.allow(self.up.checked().min(header.down()));
        }
        wrong + self.up.checked().saturating_sub(header.up())
    }
}

/// Answers each datagram with itself, followed by our number and whom we think we answer.
fn answer_datagrams(socket: &UdpSocket, number: u32) {
    let mut buffer = [0; 2048];
    while let Ok((count, from)) = socket.recv_from(&mut buffer[..1400]) {
        let mut answer = buffer[..count].to_vec();
        answer.extend(format!("srv{number} to {from}").bytes());
        let _ = socket.send_to(&answer, from); // datagrams may be lost
    }
}
