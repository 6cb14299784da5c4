//! The witness: what the election asks it, as text.

use core::net::IpAddr;

use holdfast_base::Instant;
use holdfast_config::WitnessFacts;
use holdfast_ha::{Claim, NodeId, Role, WitnessAnswer, WitnessRequest, WitnessView};
use holdfast_wire::Addr;

use crate::effect::{Effect, Level, WitnessCall};
use crate::node::Node;

/// Looks in a row, seconds apart, after which a witness that does not name the primary is not the primary's:
/// one that could not be asked meanwhile is told of a new term within one of them.
const DOUBTED_AFTER: u32 = 3;

/// Whether both nodes ask the same witness: two that ask different ones may both lead when they cannot hear each other.
#[derive(Debug, Default)]
pub(crate) struct WitnessDoubt {
    /// Looks in a row at which this node's witness did not name the primary that it hears.
    looks: u32,
}

impl WitnessDoubt {
    /// Notes a look; whether it is the one after which the witness is doubted.
    fn note(&mut self, differs: bool) -> bool {
        self.looks = if differs { self.looks.saturating_add(1) } else { 0 };
        self.looks == DOUBTED_AFTER
    }

    fn is_grave(&self) -> bool {
        self.looks >= DOUBTED_AFTER
    }
}

impl Node {
    /// Answer to `Effect::Witness`.
    pub fn handle_witness(&mut self, now: Instant, number: u32, answer: WitnessAnswer) {
        self.begin(now);
        if self.listening {
            self.ha.handle_witness(now, number, answer);
            self.drain_ha(now);
            self.update_gate(now);
            self.compare_witness(answer);
        }
    }

    /// As secondary: the witness that answered must name the primary that is heard, and its term.
    fn compare_witness(&mut self, answer: WitnessAnswer) {
        let held = match answer {
            WitnessAnswer::Holds(held) => held,
            // It names this node, as that one asked.
            WitnessAnswer::Granted => return self.witness_doubt = WitnessDoubt::default(),
            WitnessAnswer::Unreachable => return,
        };
        let status = self.ha.status();
        let leader = status.peer.filter(|peer| status.role == Role::Secondary && peer.role == Role::Primary);
        let in_force = status.witness.is_some_and(|view| view.in_force);
        let (Some(leader), Some(addr), true) = (leader, self.config.ha().peer.map(|peer| peer.addr), in_force) else {
            self.witness_doubt = WitnessDoubt::default();
            return;
        };
        let expected = Claim { owner: node_id(addr), term: leader.term };
        let named = held.map(|held| held.claim);
        if self.witness_doubt.note(named != Some(expected)) {
            let named =
                named.map_or("nobody".to_owned(), |claim| format!("{} in term {}", address(claim.owner), claim.term));
            let text = format!(
                "the witness names {named}, but {addr} leads in term {}: the nodes seem to ask different witnesses, and may both lead \
                 when they do not hear each other; compare -witness of `show HA node` on both",
                leader.term
            );
            self.event(Level::Warn, text);
        }
    }

    pub(crate) fn call_witness(&mut self, request: WitnessRequest) {
        let WitnessRequest { number, ask, patience } = request;
        let members = self.config.ha().witness.clone();
        self.effects.push_back(Effect::Witness(WitnessCall {
            number,
            members,
            key: self.witness_key(),
            ask,
            patience,
        }));
    }

    pub(crate) fn witness_lost(&mut self) {
        let text =
            "the witness does not answer: a node that loses its peer meanwhile closes its gate, or does not open it";
        self.event(Level::Warn, text.into());
    }

    /// One cell for each pair: both NSIPs, the smaller first.
    fn witness_key(&self) -> String {
        let mut names = [self.config.ns_config().addr, self.config.ha().peer.map(|peer| peer.addr)];
        names.sort_unstable();
        let [a, b] = names.map(|addr| addr.map_or(String::new(), |addr| addr.to_string()));
        format!("/holdfast/{a},{b}/primary")
    }

    pub(crate) fn witness_facts(&self, view: WitnessView, unix_millis: impl Fn(Instant) -> u64) -> WitnessFacts {
        let WitnessView { in_force, reachable, cell, sole } = view;
        WitnessFacts {
            in_force,
            reachable: reachable.map(|(answers, since)| (answers, unix_millis(since))),
            owner: cell.map(|claim| address(claim.owner)),
            term: cell.map_or(0, |claim| claim.term),
            sole,
            doubted: self.witness_doubt.is_grave(),
        }
    }
}

/// A node's number in the election: its NSIP.
pub(crate) fn node_id(addr: IpAddr) -> NodeId {
    NodeId(u128::from_be_bytes(Addr::from(addr).0))
}

fn address(node: NodeId) -> IpAddr {
    IpAddr::from(Addr(node.0.to_be_bytes()))
}

/// A claim as the witness keeps it: the owner's NSIP and its term.
pub fn claim_text(claim: Claim) -> String {
    format!("{} {}", address(claim.owner), claim.term)
}

/// Reads what [`claim_text`] wrote; `None` for anything else, and for a term that no pair reaches.
pub fn parse_claim(text: &str) -> Option<Claim> {
    let (owner, term) = text.split_once(' ')?;
    let owner: IpAddr = owner.parse().ok()?;
    let claim = Claim { owner: node_id(owner), term: term.parse().ok().filter(|term| *term <= Claim::MAX_TERM)? };
    // Only what is written so is ours.
    (claim_text(claim) == text).then_some(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_doubted_once_after_some_looks_in_a_row() {
        let mut doubt = WitnessDoubt::default();
        let mut note = |differs: &[bool]| differs.iter().map(|differs| doubt.note(*differs)).collect::<Vec<_>>();
        assert_eq!(note(&[true, true, false, true, true]), [false; 5]);
        assert_eq!(note(&[true, true, true]), [true, false, false]);
        assert_eq!(note(&[false, true, true, true]), [false, false, false, true]);
        assert!(doubt.is_grave());
    }

    #[test]
    fn a_claim_is_read_as_it_was_written_and_nothing_else_is() {
        for text in ["10.0.0.1 7", "2001:db8::1 281474976710655", "10.0.0.1 0"] {
            assert_eq!(parse_claim(text).map(claim_text).as_deref(), Some(text));
        }
        for text in [
            "",
            "10.0.0.1",
            "10.0.0.1 07",
            "10.0.0.1 -1",
            "10.0.0.1  7",
            "x 7",
            "10.0.0.1 7 ",
            "10.0.0.1 7\n",
            "10.0.0.1 18446744073709551615",
        ] {
            assert_eq!(parse_claim(text), None, "{text:?}");
        }
    }
}
