//! What travels on the networks: from machine to station and from host to machine.

use core::time::Duration;

use holdfast_engine::{Gate, PortId};
use holdfast_wire::MacAddr;

use super::{CLIENT_SIDE, Event, PROGRAM_TICK, SERVER_SIDE, Station, World, server_addresses};
use crate::kernel::Fate;
use crate::machine::Input;
use crate::trace;
use crate::watch::Watch;

impl World {
    /// A frame comes in at a machine: its kernel may forward it, or keep it, without the process.
    fn enter_machine(&mut self, machine: usize, network: usize, bytes: Vec<u8>) {
        match self.machines[machine].kernel_takes(self.now, &bytes) {
            Fate::Up => self.give(machine, Input::Frame(PortId(network as u8), bytes)),
            Fate::Forward(port, rewritten) => {
                self.watch_frozen(machine);
                if self.machines[machine].frozen_until.is_some() {
                    // Whom it has failed it does not serve again by what its kernel still forwards.
                    self.send_from_machine(machine, port, rewritten);
                    return;
                }
                self.reference.turn_begins(self.now);
                self.reference.machine_takes(machine, network, &bytes);
                self.watched_send(machine, port, rewritten);
            }
            Fate::Drop => {}
        }
    }

    /// The kernel of a frozen process may forward until its lease is over, and not once the other one has taken over.
    fn watch_frozen(&mut self, machine: usize) {
        let other = &self.machines[1 - machine];
        let other = other.is_awake() && other.node.as_ref().is_some_and(|node| node.gate() == Gate::Open);
        let frozen = self.machines[machine].frozen_until.is_some();
        // Both may have led before: nodes that were apart.
        let since = self.checker.promoted_at >= self.machines[machine].frozen_at;
        if frozen && since && other {
            let what = format!(
                "the kernel of machine {machine}, which is frozen, forwarded a packet while the other one leads"
            );
            self.checker.violate(self.now, what);
        }
    }

    /// A machine sends a frame, before the eyes of whoever checks it.
    pub(super) fn watched_send(&mut self, machine: usize, port: PortId, bytes: Vec<u8>) {
        let network = usize::from(port.0);
        if !Watch::is_passed_on(self.now, &self.checker, machine, network, &bytes) {
            let link_bad = self.now < self.checker.link_bad_until;
            self.reference.machine_sends(self.now, machine, network, &bytes, link_bad);
            self.watch.frame_of_machine(
                self.now,
                &mut self.checker,
                &self.machines,
                |client, connection| self.reference.excuses(client, connection),
                &self.clients,
                machine,
                network,
                &bytes,
            );
        }
        self.send_from_machine(machine, port, bytes);
    }

    fn send_from_machine(&mut self, machine: usize, port: PortId, bytes: Vec<u8>) {
        let network = usize::from(port.0);
        if self.plugged[machine][network] {
            self.broadcast(network, Station::Machine(machine), &bytes);
            self.answer_anonymously(machine, network, &bytes);
        }
    }

    /// The hosts' TCP answers no question that has no sender; their kernels would.
    fn answer_anonymously(&mut self, machine: usize, network: usize, bytes: &[u8]) {
        let Some(target) = trace::anonymous_question(bytes).filter(|_| network == SERVER_SIDE) else { return };
        let asked = (0..self.servers.len()).find(|n| server_addresses(*n).map(Into::into).contains(&target));
        let Some(mac) = asked.map(|n| self.servers[n].host.mac) else { return };
        let station = self.networks[network].iter().position(|station| *station == Station::Machine(machine));
        let Some(station) = station else { return };
        for at in self.scenario.data_manners.arrivals(self.now, &mut self.rng) {
            self.agenda.plan(at, Event::Frame { network, station, bytes: trace::answer(target, mac) });
        }
    }

    /// The switch floods; each station keeps what is meant for it.
    fn broadcast(&mut self, network: usize, from: Station, bytes: &[u8]) {
        if self.traced
            && let Some(line) = trace::describe(bytes)
        {
            self.checker.story.push((self.now, format!("{from:?}: {line}")));
        }
        let Some(Ok(to)) = bytes.get(..6).map(<[u8; 6]>::try_from) else { return };
        for station in 0..self.networks[network].len() {
            let target = self.networks[network][station];
            let wanted = MacAddr(to).is_group() || self.takes(target, network, MacAddr(to));
            if target == from || !wanted || self.is_apart(from, target) || self.rng.chance(self.extra_loss, 1000) {
                continue;
            }
            let arrivals = self.scenario.data_manners.arrivals(self.now, &mut self.rng);
            if self.traced && arrivals.is_empty() {
                self.checker.story.push((self.now, format!("  lost on its way to {target:?}")));
            }
            for at in arrivals {
                self.agenda.plan(at, Event::Frame { network, station, bytes: bytes.to_vec() });
            }
        }
    }

    pub(super) fn deliver(&mut self, network: usize, station: usize, bytes: Vec<u8>) {
        match self.networks[network][station] {
            Station::Machine(machine) => {
                if self.plugged[machine][network] && !self.deaf[machine] {
                    self.enter_machine(machine, network, bytes);
                }
            }
            Station::Client(client) => {
                self.reference.client_takes(self.now, client, &bytes);
                self.clients[client].host.receive(bytes);
                self.run_host(client);
            }
            Station::Server(server) => {
                self.reference.server_takes(self.now, &bytes);
                self.servers[server].receive(bytes);
                self.run_host(self.clients.len() + server);
            }
        }
    }

    /// Lets a host's stack and programs run, and sends what they send.
    pub(super) fn run_host(&mut self, host: usize) {
        let (network, station, frames, next) = if host < self.clients.len() {
            let client = &mut self.clients[host];
            let mut frames = client.host.poll(self.now);
            client.run(self.now, &mut self.rng);
            frames.extend(client.host.poll(self.now));
            let next = [client.host.poll_at(self.now), client.next_run()].into_iter().flatten().min();
            (CLIENT_SIDE, Station::Client(host), frames, next)
        } else {
            let server = &mut self.servers[host - self.clients.len()];
            let mut frames = server.host.poll(self.now);
            server.run(self.now);
            frames.extend(server.host.poll(self.now));
            let unmuted = Some(server.muted_until).filter(|&at| at > self.now);
            let next = [server.host.poll_at(self.now), unmuted].into_iter().flatten().min();
            (SERVER_SIDE, Station::Server(host - self.clients.len()), frames, next)
        };
        for frame in frames {
            if network == CLIENT_SIDE {
                self.watch.frame_of_client(self.now, host, &frame);
                self.reference.client_sends(self.now, host, &frame);
            }
            self.broadcast(network, station, &frame);
        }
        self.host_timers[host] =
            next.map(|at| at.max(self.now + Duration::from_micros(100)).min(self.now + PROGRAM_TICK * 100));
        if let Some(at) = self.host_timers[host] {
            self.agenda.plan(at, Event::Host { host, at });
        }
    }
}
