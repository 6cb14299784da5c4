//! Strangers at the peer link and on the data networks: they have heard everything, and change nothing.

use holdfast_engine::PortId;
use holdfast_sim::apps::Outcome;
use holdfast_sim::machine::Input;
use holdfast_sim::scenario::{Fault, SNAT, USIP};
use holdfast_sim::world::World;
use holdfast_sim::{Scenario, Story};

/// Where the header has the sender's number.
const NODE_AT: usize = 40;
/// Bytes of the header; see `docs/ha.md`.
const HEADER: usize = 64;

/// A pair with traffic, and every datagram that both machines hear on the link from its start on, hands shaken included.
fn overheard() -> (Story, [Vec<Vec<u8>>; 2]) {
    let mut story = Story::begin(Scenario::quiet(1));
    story.world.machines.iter_mut().for_each(|machine| machine.overheard = Some(Vec::new()));
    story.until("the pair is whole", World::is_whole);
    story.run_ms(1000);
    let heard = [0, 1].map(|machine| story.world.machines[machine].overheard.take().unwrap_or_default());
    assert!(heard.iter().all(|heard| heard.len() > 20), "the attackers have something in their hands");
    (story, heard)
}

/// What the pair is: roles, terms, sessions. No attack may change it.
fn standing(story: &Story) -> Vec<(holdfast_ha::Role, u64, bool)> {
    (0..2).map(|machine| story.node(machine)).map(|node| (node.role(), node.term(), node.caught_up())).collect()
}

/// How many of the peer's messages a machine has refused for this reason.
fn refused(story: &Story, machine: usize, reason: &str) -> usize {
    let lines = story.node(machine).counter_lines();
    let line = lines.into_iter().find(|line| line.starts_with("peer channel refused: ")).unwrap_or_default();
    let mut counts = line.trim_start_matches("peer channel refused: ").split(", ");
    let count = counts.find_map(|count| count.strip_prefix(reason)?.trim().parse().ok());
    count.unwrap_or(0)
}

/// The same datagram on the link, and as a frame of the heartbeats' type on a data port.
fn strike(story: &mut Story, machine: usize, datagram: &[u8]) {
    story.world.give(machine, Input::Peer(datagram.to_vec()));
    let mut frame = vec![0x03, b'H', b'F', 0, 0, 1, 2, 0, 0, 0, 0, 0x67, 0x88, 0xb5];
    frame.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
    frame.extend_from_slice(datagram);
    story.world.give(machine, Input::Frame(PortId(0), frame));
}

/// Does something to both machines with all that was overheard; roles, terms and traffic stay as they were, and it is
/// counted under this name. The share of what was counted so, in percent.
fn changes_nothing(reason: &str, bend: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> usize {
    let (mut story, heard) = overheard();
    let open = [story.connect(SNAT, false), story.connect(USIP, true)];
    let (before, counted) = (standing(&story), [0, 1].map(|machine| refused(&story, machine, reason)));
    let mut strikes = 0;
    for machine in 0..2 {
        // What the other one was told, too: said back to him who said it.
        for datagram in heard.iter().flatten() {
            for bent in bend(datagram) {
                strike(&mut story, machine, &bent);
                strikes += 2;
            }
        }
        story.run_ms(10);
    }
    story.run_ms(1000);
    assert_eq!(standing(&story), before);
    let counted = [0, 1].map(|machine| refused(&story, machine, reason) - counted[machine]);
    assert!(counted.iter().all(|count| *count > 0), "{reason}: {counted:?} of {strikes}");
    for number in open {
        assert_eq!(story.end_of(number), Outcome::Finished);
    }
    story.end();
    counted.iter().sum::<usize>() * 100 / strikes
}

#[test]
fn what_was_captured_says_nothing_a_second_time() {
    let share = changes_nothing("replayed", |datagram| vec![datagram.to_vec(), datagram.to_vec()]);
    assert!(share > 40, "but for what a machine has said itself, and the steps of the handshake: {share} %");
}

#[test]
fn what_is_cut_short_says_nothing() {
    let share = changes_nothing("malformed", |datagram| {
        [0, 1, 3, 8, 63, HEADER, HEADER + 1, datagram.len() / 2, datagram.len() - 1]
            .into_iter()
            .filter(|len| *len < datagram.len())
            .map(|len| datagram[..len].to_vec())
            .collect()
    });
    assert!(share > 50, "shorter than a header: {share} %");
}

#[test]
fn a_forged_byte_spoils_all() {
    let share = changes_nothing("authentication", |datagram| {
        // Each part of the header, and the message.
        [4, 8, 16, 24, 32, NODE_AT + 15, 56, HEADER, datagram.len() - 1]
            .into_iter()
            .filter(|at| *at < datagram.len())
            .map(|at| {
                let mut bent = datagram.to_vec();
                bent[at] ^= 0x10;
                bent
            })
            .collect()
    });
    assert!(share > 10, "but for what is refused for its labels: {share} %");
}

#[test]
fn another_pair_on_the_same_network_is_not_heard() {
    let share = changes_nothing("stranger", |datagram| {
        let mut other = datagram.to_vec();
        other[NODE_AT..HEADER - 8].copy_from_slice(&core::net::Ipv4Addr::new(10, 0, 9, 9).to_ipv6_mapped().octets());
        vec![other]
    });
    assert_eq!(share, 100);
}

#[test]
fn another_version_is_not_heard() {
    let share = changes_nothing("version", |datagram| {
        let with = |version| {
            let mut other = datagram.to_vec();
            other[2] = version;
            other
        };
        [0, 1, 3, 255].map(with).to_vec()
    });
    assert_eq!(share, 100);
}

#[test]
fn garbage_is_counted() {
    let share = changes_nothing("malformed", |datagram| {
        let seed = datagram.iter().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        let mut rng = holdfast_base::Rng::from_seed(seed);
        let len = rng.below(1400) as usize;
        vec![(0..len).map(|_| rng.below(256) as u8).collect()]
    });
    assert_eq!(share, 100);
}

/// The dead primary's last words, again and again: neither does it seem to live, nor does its return fail.
#[test]
fn captured_hellos_do_not_keep_a_dead_primary_alive() {
    let (mut story, heard) = overheard();
    let (primary, secondary) = (story.primary(), 1 - story.primary());
    story.fault(Fault::PowerOff(primary));
    let died = story.world.now;
    while story.world.primary() != Some(secondary) {
        assert!(story.world.now.since(died).as_millis() < 600, "the dead one seems to live");
        for datagram in &heard[secondary] {
            strike(&mut story, secondary, datagram);
        }
        story.run_ms(20);
    }
    story.fault(Fault::Start(primary));
    for _ in 0..50 {
        for machine in 0..2 {
            for datagram in heard.iter().flatten() {
                strike(&mut story, machine, datagram);
            }
        }
        story.run_ms(20);
    }
    story.until("whole", World::is_whole);
    assert_eq!(story.primary(), secondary);
    story.end();
}

/// Not a stranger: a peer whose program has gone wrong.
#[test]
fn nonsense_of_the_peer_itself_is_refused_and_counted_as_what_it_is() {
    const MIRROR_DATA: u8 = 2;
    const MIRROR_ACK: u8 = 3;
    let mut story = Story::whole(Scenario::quiet(1));
    let number = story.connect(SNAT, false);
    let before = standing(&story);
    let primary = story.primary();
    let term = story.node(primary).term();
    for (from, kind) in [(primary, MIRROR_DATA), (1 - primary, MIRROR_DATA), (1 - primary, MIRROR_ACK)] {
        let node = story.world.machines[from].node.as_mut().expect("it runs");
        let nonsense = node.close_for_peer(kind, term, b"nonsense").expect("there is a session");
        story.world.give(1 - from, Input::Peer(nonsense));
    }
    story.run_ms(1000);
    assert_eq!(standing(&story), before);
    for (machine, refused) in [(primary, 2), (1 - primary, 1)] {
        let lines = story.node(machine).counter_lines().join("\n");
        assert!(lines.contains(&format!("payloads_refused {refused}")) && !lines.contains("hellos_refused"), "{lines}");
        let shown = story.command(machine, "stat ha node");
        assert!(shown.contains("malformed mirror payload"), "{shown}");
    }
    assert_eq!(story.end_of(number), Outcome::Finished);
    story.end();
}
