//! What reaches what.

use core::time::Duration;

use holdfast_node::{ProbeOutcome, ProbeRequest};
use holdfast_wire::MacAddr;

use crate::machine::{Input, mac};
use crate::world::{SERVER_SIDE, Station, World};

/// The machine at whose side a host is when the network is divided, by the host's number.
pub fn side_of(host: usize) -> usize {
    host % 2
}

impl World {
    /// Whether anything gets from one machine to the other.
    pub(crate) fn has_path(&self) -> bool {
        let data = (0..2).any(|network| self.plugged[0][network] && self.plugged[1][network]);
        (self.peer_link || data) && !self.split
    }

    /// Whether nothing gets from one station to another, as the network is cut.
    pub(crate) fn is_apart(&self, one: Station, other: Station) -> bool {
        if let (Station::Machine(_), Station::Machine(hearer)) = (one, other)
            && self.unheard[hearer]
        {
            return true;
        }
        let side = |station| match station {
            Station::Machine(machine) => Some(machine),
            Station::Client(host) | Station::Server(host) => self.divided.then(|| side_of(host)),
        };
        self.split && side(one).zip(side(other)).is_some_and(|(one, other)| one != other)
    }

    pub(crate) fn probe(&mut self, machine: usize, request: &ProbeRequest) {
        let ok = self.plugged[machine][SERVER_SIDE];
        let took = if ok { Duration::from_millis(1) } else { request.timeout };
        let outcome = ProbeOutcome { ok, text: "simulated".into(), took };
        let input = Input::Probe(request.id, outcome);
        self.plan_input(self.now + took, machine, input);
    }

    pub(crate) fn takes(&self, station: Station, network: usize, mac: MacAddr) -> bool {
        let floats = match station {
            Station::Machine(machine) => self.machines[machine].floating_macs.contains(&mac),
            Station::Client(_) | Station::Server(_) => false,
        };
        floats || mac == self.station_mac(station, network)
    }

    fn station_mac(&self, station: Station, network: usize) -> MacAddr {
        match station {
            Station::Machine(machine) => mac(machine, network),
            Station::Client(client) => self.clients[client].host.mac,
            Station::Server(server) => self.servers[server].host.mac,
        }
    }
}
