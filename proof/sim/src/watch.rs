//! What must hold of the frames on the wire, whatever the nodes say of
//! themselves.

use std::collections::{BTreeMap, BTreeSet};

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_ha::Role;
use holdfast_wire::{Addr, Endpoint};

use crate::apps::{Client, Connection, Outcome};
use crate::check::Checker;
use crate::machine::{Machine, mac};
use crate::world::SERVER_SIDE;
use crate::{sums, trace};

/// A SYN waits no longer for a neighbour.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// A switchover, and the time in which frames are passed on after it.
const PASSING_ON: Duration = Duration::from_millis(1300);

/// A client's connection: the client and its port.
type Caller = (usize, u16);

/// Memory of the wire.
#[derive(Default)]
pub struct Watch {
    /// Which client's connection began with a sequence number (and IP version), and when.
    /// The nodes never change it, so it names the connection on both sides.
    callers: BTreeMap<(u32, bool), (Caller, Instant)>,
    /// SYNs that were sent to servers before: their flows are known ones.
    opened: BTreeSet<(Endpoint, Endpoint, u32)>,
    /// Whose connection uses a source towards a server.
    owners: BTreeMap<(Endpoint, Endpoint), Caller>,
    /// Source and server of a connection, as of its last SYN: one that was
    /// half-open when a node died is opened afresh by the other.
    ends: BTreeMap<(Caller, bool), (Endpoint, Endpoint)>,
    /// When each machine first claimed an address.
    claimed: [Option<Instant>; 2],
}

impl Watch {
    /// A frame leaves a client.
    pub fn frame_of_client(&mut self, now: Instant, client: usize, frame: &[u8]) {
        if let Some((from, _, seq)) = trace::opening(frame) {
            self.callers.entry((seq, from.addr.is_v4())).or_insert(((client, from.port), now));
        }
    }

    /// Whether a frame only goes on to the other machine: from one that has handed over a
    /// moment ago, on the network by which it came.
    pub fn is_passed_on(now: Instant, checker: &Checker, machine: usize, network: usize, frame: &[u8]) -> bool {
        let other = frame.get(..6) == Some(&mac(1 - machine, network).0);
        let recently = checker.draining_since[machine].is_some_and(|since| now.since(since) < PASSING_ON);
        other && recently && !trace::claims(frame)
    }

    /// A frame leaves a machine in the turn that has just ended.
    #[allow(clippy::too_many_arguments)]
    pub fn frame_of_machine(
        &mut self,
        now: Instant,
        checker: &mut Checker,
        machines: &[Machine; 2],
        may_be_lost: impl Fn(usize, &Connection) -> bool,
        clients: &[Client],
        machine: usize,
        network: usize,
        frame: &[u8],
    ) {
        if trace::is_peer(frame) {
            return;
        }
        if let Some(wrong) = sums::wrong(frame) {
            checker.violate(now, format!("machine {machine} sent a wrong {wrong}"));
        }
        // Who monitors routes asks for next hops, in whatever role, and says nothing of itself.
        if trace::anonymous_question(frame).is_some() {
            return;
        }
        let sender = &machines[machine];
        let serving = sender.node.as_ref().is_some_and(|node| matches!(node.role(), Role::Primary | Role::Draining));
        if !serving && !sender.before.serving {
            checker.violate(now, format!("machine {machine} sent a frame without being primary"));
        }
        if sender.before.lapsed && sender.before.serving {
            checker.violate(now, format!("machine {machine} sent a frame in a turn that began after its lease"));
        }
        let claims = trace::claims(frame);
        if claims {
            self.claimed[machine].get_or_insert(now);
        }
        let opening = trace::opening(frame).filter(|_| network == SERVER_SIDE);
        let first =
            opening.is_some_and(|syn| !self.is_of_known_flow(now, syn, checker, machine) && self.opened.insert(syn));
        if (first || claims) && checker.rules_instead(now, machines, machine) {
            let what = if first { "opened a connection to a server" } else { "claimed an address" };
            checker.violate(now, format!("machine {machine} {what} while the other is the rightful primary"));
        }
        if let Some((source, server, seq)) = opening {
            self.note_owner(now, checker, may_be_lost, clients, (source, server), (seq, source.addr.is_v4()));
        }
    }

    /// Whether a machine that hands over may send this SYN: the client's came
    /// before and waited for the server's Ethernet address, or it uses a
    /// connection's addresses again.
    fn is_of_known_flow(
        &self,
        now: Instant,
        syn: (Endpoint, Endpoint, u32),
        checker: &Checker,
        machine: usize,
    ) -> bool {
        let Some(since) = checker.draining_since[machine].filter(|&since| now.since(since) < UNDER_WAY) else {
            return false;
        };
        let (source, server, seq) = syn;
        let begun = self.callers.get(&(seq, source.addr.is_v4())).map(|(_, at)| *at);
        let used = self.opened.range((source, server, 0)..=(source, server, u32::MAX)).next().is_some();
        used || begun.is_some_and(|begun| begun < since)
    }

    /// Two live connections of clients never share a source towards a server.
    fn note_owner(
        &mut self,
        now: Instant,
        checker: &mut Checker,
        may_be_lost: impl Fn(usize, &Connection) -> bool,
        clients: &[Client],
        ends: (Endpoint, Endpoint),
        name: (u32, bool),
    ) {
        let Some(&(caller, _)) = self.callers.get(&name) else { return };
        if let Some(old) = self.ends.insert((caller, name.1), ends)
            && self.owners.get(&old) == Some(&caller)
        {
            self.owners.remove(&old);
        }
        let before = self.owners.insert(ends, caller);
        let live = |&(client, port): &Caller| {
            let mut connections = clients[client].connections.iter();
            connections
                .any(|c| c.port == port && c.v6 != name.1 && c.outcome == Outcome::Open && !may_be_lost(client, c))
        };
        if let Some(other) = before.filter(|other| *other != caller && live(other)) {
            checker.violate(now, format!("{} to {} belongs to {caller:?} and to {other:?}", ends.0, ends.1));
        }
    }

    /// When a machine first claimed an address.
    pub fn claims_by(&self, machine: usize) -> Option<Instant> {
        self.claimed[machine]
    }

    /// The server to which a client's connection went.
    pub fn server_of(&self, client: usize, port: u16, v6: bool) -> Option<Addr> {
        self.ends.get(&((client, port), !v6)).map(|(_, server)| server.addr)
    }
}
