//! The thread that watches the host: interfaces, addresses and the guard.
//!
//! Opening and closing packet sockets, `nft` and the like take milliseconds;
//! here they keep nobody waiting.

use crate::dataplane::Plane;
use crate::log::Log;
use crate::queue::{InboxSender, Input, Opened};
use holdfast_engine::{Port, PortId};
use holdfast_netio::{
    ExtraMac, Guard, GuardError, GuardPlan, HostAddress, Link, LinkEvents, PortSockets, host_addresses, link,
};
use holdfast_node::PortState;
use holdfast_wire::MacAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

/// How often interfaces and addresses are looked at, whatever the kernel tells.
const POLL: Duration = Duration::from_millis(500);

/// How often open interfaces are asked for their carrier: the kernel may take a second to tell that it is lost.
const CARRIER_POLL: Duration = Duration::from_millis(50);

/// An interface that cannot be opened is tried again after 0.5, 1, 2, 4, 8, 8 … seconds.
const MAX_BACK_OFF: Duration = Duration::from_secs(8);

/// The host's addresses, for probes.
pub type SharedAddresses = Arc<RwLock<Vec<HostAddress>>>;

/// Work for this thread.
#[derive(Debug)]
pub enum LinkJob {
    /// The wanted data ports: (id, device).
    Wanted(Vec<(String, String)>),
    /// Ethernet addresses that devices let in beside their own: (device, address).
    FloatingMacs(Vec<(String, MacAddr)>),
    /// What the host's stack must not see.
    Guard {
        /// The node's own addresses.
        floating: Vec<IpAddr>,
        /// All transit too.
        transit: bool,
    },
    /// Close it here.
    Close(PortSockets),
    /// Look at the interfaces at once.
    Check,
    /// Take the guard away and end.
    Stop,
}

/// An open interface.
struct Open {
    index: u32,
    device: String,
    /// The TAP that stands for it, by name and number.
    tap: Option<(String, u32)>,
}

impl Open {
    /// Whether its TAP, if it has one, is there and up: without it what comes in goes nowhere.
    fn has_tap(&self) -> bool {
        let Some((name, index)) = &self.tap else { return true };
        link(name).is_ok_and(|tap| tap.is_some_and(|tap| tap.index == *index && tap.up))
    }
}

/// An interface that could not be opened.
struct Trouble {
    text: String,
    pause: Duration,
    again_at: Instant,
}

/// Starts a thread that has interfaces looked at as soon as the kernel tells of a
/// change: a carrier that is lost must not wait for the next look. Without it
/// they are still looked at now and then.
pub fn watch_events(jobs: SyncSender<LinkJob>, log: &Log) -> std::io::Result<()> {
    let events = match LinkEvents::open() {
        Ok(events) => events,
        Err(error) => {
            log.warn(&format!("the kernel does not tell of changes of interfaces: {error}"));
            return Ok(());
        }
    };
    let watch = move || {
        while events.wait().is_ok() {
            // A full queue looks at interfaces soon enough.
            if let Err(TrySendError::Disconnected(_)) = jobs.try_send(LinkJob::Check) {
                return;
            }
        }
    };
    std::thread::Builder::new().name("link-events".to_owned()).spawn(watch).map(drop)
}

/// All that this thread knows.
pub struct Links {
    inbox: InboxSender,
    log: Arc<Log>,
    shared: SharedAddresses,
    plane: Plane,
    wanted: Vec<(String, String)>,
    ids: BTreeMap<String, PortId>,
    /// What is open at each port.
    open: BTreeMap<PortId, Open>,
    trouble: BTreeMap<PortId, Trouble>,
    told: Vec<PortState>,
    addresses: Option<Vec<HostAddress>>,
    floating_macs: Vec<(String, MacAddr)>,
    /// By device number and address.
    let_in: BTreeMap<(u32, MacAddr), ExtraMac>,
    guard: Guard,
    guard_works: bool,
    floating: BTreeSet<IpAddr>,
    transit: bool,
}

impl Links {
    /// Nothing known yet.
    pub fn new(inbox: InboxSender, log: Arc<Log>, shared: SharedAddresses, plane: Plane) -> Links {
        Links {
            inbox,
            log,
            shared,
            plane,
            wanted: Vec::new(),
            ids: BTreeMap::new(),
            open: BTreeMap::new(),
            trouble: BTreeMap::new(),
            told: Vec::new(),
            addresses: None,
            floating_macs: Vec::new(),
            let_in: BTreeMap::new(),
            guard: Guard::new(std::process::id()),
            guard_works: true,
            floating: BTreeSet::new(),
            transit: false,
        }
    }

    /// Works until `LinkJob::Stop`, or until nobody can send one.
    pub fn run(mut self, jobs: &Receiver<LinkJob>) {
        let removed = self.guard.remove_stale(is_our_daemon);
        self.report_guard(removed);
        let mut next_poll = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_poll || self.carriers_changed() {
                self.look();
                next_poll = Instant::now() + POLL;
            }
            match jobs.recv_timeout(next_poll.saturating_duration_since(now).min(CARRIER_POLL)) {
                Ok(LinkJob::Wanted(wanted)) => {
                    self.wanted = wanted;
                    next_poll = Instant::now();
                }
                Ok(LinkJob::FloatingMacs(list)) => {
                    self.floating_macs = list;
                    next_poll = Instant::now();
                }
                Ok(LinkJob::Guard { floating, transit }) => {
                    self.floating = floating.into_iter().collect();
                    self.transit = transit;
                    self.renew_guard();
                }
                Ok(LinkJob::Close(socket)) => drop(socket),
                Ok(LinkJob::Check) => next_poll = Instant::now(),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(LinkJob::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let removed = self.guard.remove();
        self.report_guard(removed);
    }

    /// Whether an open interface has lost or found its carrier since the last look.
    fn carriers_changed(&self) -> bool {
        let open = self.told.iter().filter(|state| state.port.is_some());
        let moved =
            |state: &PortState| link(&state.device).is_ok_and(|now| now.is_some_and(|link| link.up) != state.up);
        open.into_iter().any(moved) || !self.open.values().all(Open::has_tap)
    }

    /// Compares the host with what the data thread was told.
    fn look(&mut self) {
        match host_addresses() {
            Ok(addresses) => self.take_addresses(addresses),
            Err(error) => self.log.warn(&format!("cannot list the host's addresses: {error}")),
        }
        self.let_in();
        let mut closed = self.forget_unwanted();
        let mut opened = Vec::new();
        let mut states = Vec::new();
        for (id, device) in self.wanted.clone() {
            let Some(port) = self.port_number(&id) else { continue };
            let found = link(&device).unwrap_or_else(|error| {
                self.log.warn(&format!("interface {device}: cannot ask for its state: {error}"));
                None
            });
            let usable = found.and_then(|link| self.keep_open(port, &device, link, &mut opened));
            if usable.is_none() && self.leave(port) {
                closed.push(port);
            }
            states.push(state_of(port, id, device, usable));
        }
        let changed = !opened.is_empty() || !closed.is_empty();
        if changed || states != self.told {
            self.told.clone_from(&states);
            self.inbox.send(Input::Ports { states, opened, closed });
        }
        if changed {
            // A chain goes with its device.
            self.guard.invalidate();
        }
        self.renew_guard();
    }

    /// Lets devices receive what is sent to floating Ethernet addresses.
    fn let_in(&mut self) {
        let number = |device: &String| link(device).ok().flatten().map(|link| link.index);
        let wanted: BTreeSet<(u32, MacAddr)> =
            self.floating_macs.iter().filter_map(|(device, mac)| Some((number(device)?, *mac))).collect();
        self.let_in.retain(|key, _| wanted.contains(key));
        for key in wanted {
            if self.let_in.contains_key(&key) {
                continue;
            }
            match ExtraMac::open(key.0, key.1) {
                Ok(extra) => drop(self.let_in.insert(key, extra)),
                Err(error) => self.log.warn(&format!("interface {} does not let {:?} in: {error}", key.0, key.1)),
            }
        }
    }

    fn take_addresses(&mut self, addresses: Vec<HostAddress>) {
        if self.addresses.as_ref() == Some(&addresses) {
            return;
        }
        if let Ok(mut shared) = self.shared.write() {
            shared.clone_from(&addresses);
        }
        self.addresses = Some(addresses.clone());
        self.inbox.send(Input::HostAddresses(addresses));
    }

    fn forget_unwanted(&mut self) -> Vec<PortId> {
        let wanted = |id: &String| self.wanted.iter().any(|(wanted, _)| wanted == id);
        let gone: Vec<(String, PortId)> =
            self.ids.iter().filter(|(id, _)| !wanted(id)).map(|(id, port)| (id.clone(), *port)).collect();
        let mut closed = Vec::new();
        for (id, port) in gone {
            self.ids.remove(&id);
            self.trouble.remove(&port);
            if self.leave(port) {
                closed.push(port);
            }
        }
        closed
    }

    /// Takes the fast path off a port that is closed; whether it was open.
    fn leave(&mut self, port: PortId) -> bool {
        let Some(open) = self.open.remove(&port) else { return false };
        if let Err(error) = self.plane.close(&open.device) {
            self.log.warn(&error.to_string());
        }
        true
    }

    /// The lowest number that is free, and the same one for as long as the port is wanted.
    fn port_number(&mut self, id: &str) -> Option<PortId> {
        if let Some(port) = self.ids.get(id) {
            return Some(*port);
        }
        let free = (0..=u8::MAX).map(PortId).find(|port| self.ids.values().all(|used| used != port));
        match free {
            Some(port) => drop(self.ids.insert(id.to_owned(), port)),
            None => self.log.error(&format!("interface {id}: more than 256 data ports")),
        }
        free
    }

    /// Sees to it that the very interface `link` is open.
    fn keep_open(&mut self, port: PortId, device: &str, link: Link, opened: &mut Vec<Opened>) -> Option<Link> {
        if let Some(open) = self.open.get(&port).filter(|open| open.index == link.index) {
            if open.has_tap() {
                return Some(link);
            }
            self.log.warn(&format!("interface {device}: its TAP is gone or down; it is opened again"));
        }
        if self.trouble.get(&port).is_some_and(|trouble| Instant::now() < trouble.again_at) {
            return None;
        }
        match self.plane.open(device, link.index) {
            Ok((sockets, how)) => {
                let tap = sockets.tap().map(|tap| (tap.name().to_owned(), tap.index()));
                self.open.insert(port, Open { index: link.index, device: device.to_owned(), tap });
                self.trouble.remove(&port);
                opened.push(Opened { port, sockets, how });
                Some(link)
            }
            Err(error) => {
                self.back_off(port, error.to_string());
                None
            }
        }
    }

    fn back_off(&mut self, port: PortId, text: String) {
        let before = self.trouble.get(&port);
        let pause = before.map_or(POLL, |trouble| (trouble.pause * 2).min(MAX_BACK_OFF));
        if before.is_none_or(|trouble| trouble.text != text) {
            self.log.warn(&text);
        }
        self.trouble.insert(port, Trouble { text, pause, again_at: Instant::now() + pause });
    }

    fn renew_guard(&mut self) {
        if !self.guard_works {
            return;
        }
        let present = self.told.iter().filter(|state| state.port.is_some());
        let host = || self.addresses.iter().flatten().map(|own| own.addr).collect();
        let plan = GuardPlan {
            devices: present.map(|state| state.device.clone()).collect(),
            floating: self.floating.clone(),
            transit: self.transit.then(host),
        };
        let applied = self.guard.apply(&plan).map(drop);
        self.report_guard(applied);
    }

    fn report_guard(&mut self, result: Result<(), GuardError>) {
        match result {
            Ok(()) => {}
            Err(error @ GuardError::Missing) => {
                if std::mem::replace(&mut self.guard_works, false) {
                    self.log.warn(&error.to_string());
                }
            }
            // Such as a device that went away meanwhile: the next look tries again.
            Err(error) => self.log.warn(&error.to_string()),
        }
    }
}

fn state_of(port: PortId, id: String, device: String, link: Option<Link>) -> PortState {
    let number = |link: Link| Port { id: port, mac: link.mac, mtu: link.mtu.min(u32::from(u16::MAX)) as u16 };
    PortState { port: link.map(number), id, device, up: link.is_some_and(|link| link.up) }
}

/// Whether `pid` is a running daemon of ours: its guard is not ours to remove. One that was killed and that nobody has waited for yet
/// does not run.
fn is_our_daemon(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.split_once(" (holdfastd) ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
