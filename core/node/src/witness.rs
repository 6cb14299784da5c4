//! The witness: what the election asks it, as text.

use core::net::IpAddr;

use holdfast_base::Instant;
use holdfast_config::WitnessFacts;
use holdfast_ha::{Claim, NodeId, WitnessAnswer, WitnessRequest, WitnessView};
use holdfast_wire::Addr;

use crate::effect::{Effect, Level, WitnessCall};
use crate::node::Node;

impl Node {
    /// Answer to `Effect::Witness`.
    pub fn handle_witness(&mut self, now: Instant, number: u32, answer: WitnessAnswer) {
        self.begin(now);
        if self.listening {
            self.ha.handle_witness(now, number, answer);
            self.drain_ha(now);
            self.update_gate(now);
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
        }
    }
}

fn address(node: NodeId) -> IpAddr {
    IpAddr::from(Addr(node.0.to_be_bytes()))
}

/// A claim as the witness keeps it: the owner's NSIP and its term.
pub fn claim_text(claim: Claim) -> String {
    format!("{} {}", address(claim.owner), claim.term)
}

/// Reads what [`claim_text`] wrote; `None` for anything else.
pub fn parse_claim(text: &str) -> Option<Claim> {
    let (owner, term) = text.split_once(' ')?;
    let owner: IpAddr = owner.parse().ok()?;
    let claim = Claim { owner: NodeId(u128::from_be_bytes(Addr::from(owner).0)), term: term.parse().ok()? };
    // Only what is written so is ours.
    (claim_text(claim) == text).then_some(claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written_and_nothing_else_is() {
        for text in ["10.0.0.1 7", "2001:db8::1 18446744073709551615", "10.0.0.1 0"] {
            assert_eq!(parse_claim(text).map(claim_text).as_deref(), Some(text));
        }
        for text in ["", "10.0.0.1", "10.0.0.1 07", "10.0.0.1 -1", "10.0.0.1  7", "x 7", "10.0.0.1 7 ", "10.0.0.1 7\n"]
        {
            assert_eq!(parse_claim(text), None, "{text:?}");
        }
    }
}
