use proptest::prelude::*;

use super::handshake::HALF_OPEN_PER_PATH;
use super::step::StepKind;
use super::*;

const LOW: u128 = 1;
const HIGH: u128 = 2;
const LINK: PathId = PathId(0);
const PORT: PathId = PathId(1);
const HELLO: Duration = Duration::from_millis(20);
/// Letters are numbered from here on in each life: no two lives say the same.
const LIFE: u64 = 1_000_000_000;
const WORD: [u8; 32] = [7; 32];
const OTHER: [u8; 32] = [8; 32];

/// A node's side of the channel: what `Channel` does around the machine.
struct Side {
    secure: Secure,
    sequence: u64,
    next_hello: Instant,
    /// Letters that were taken, by what they said.
    heard: Vec<u64>,
    said: u64,
    refused: Vec<Refused>,
    told: Vec<Told>,
}

type Datagram = (usize, PathId, Vec<u8>);

impl Side {
    fn new(node: u128, boot: u64, password: [u8; 32]) -> Side {
        let mut secure = Secure::new(node, LOW + HIGH - node, boot, [boot as u8; 32]);
        secure.set_password(Instant::ZERO, password);
        Side {
            secure,
            sequence: 0,
            next_hello: Instant::ZERO,
            heard: Vec::new(),
            said: boot * LIFE,
            refused: Vec::new(),
            told: Vec::new(),
        }
    }

    fn close(&mut self, kind: MessageKind, payload: &[u8], confirm: bool) -> Option<Vec<u8>> {
        self.sequence += 1;
        let header =
            Header { kind, session: 0, boot: 0, echo: 0, term: 5, sequence: self.sequence, node: 0, fingerprint: 6 };
        let mut datagram = Vec::new();
        self.secure.close(header, payload, confirm, &mut datagram).then_some(datagram)
    }

    fn say(&mut self) -> Option<Vec<u8>> {
        let payload = (self.said + 1).to_be_bytes();
        let datagram = self.close(MessageKind::Hello, &payload, false)?;
        self.said += 1;
        Some(datagram)
    }

    fn drain(&mut self, to: usize, wire: &mut Vec<Datagram>) {
        self.told.extend(core::iter::from_fn(|| self.secure.poll_told()));
        while let Some(out) = self.secure.poll_out() {
            let paths = |path: Option<PathId>| path.map_or(vec![LINK, PORT], |path| vec![path]);
            match out {
                Outgoing::Clear { path, echo, payload } => {
                    for path in paths(path) {
                        let mut datagram = Vec::new();
                        self.secure.clear_datagram(path, echo, &payload, &mut datagram);
                        wire.push((to, path, datagram));
                    }
                }
                Outgoing::Closed { path, kind, payload } => {
                    for path in paths(path) {
                        wire.extend(self.close(kind, &payload, false).map(|datagram| (to, path, datagram)));
                    }
                }
                Outgoing::Confirm => {
                    for path in paths(None) {
                        let closed = self.close(MessageKind::Confirmation, &[], true);
                        wire.extend(closed.map(|datagram| (to, path, datagram)));
                    }
                }
            }
        }
    }

    fn receive(&mut self, now: Instant, path: PathId, datagram: &[u8]) {
        match self.secure.receive(now, path, datagram) {
            Ok(Opened::Letter(header, payload)) if header.kind == MessageKind::Hello => {
                let said = u64::from_be_bytes(payload.try_into().unwrap());
                assert!(!self.heard.contains(&said), "{said} was taken twice");
                self.heard.push(said);
            }
            Ok(_) => {}
            Err(refused) => self.refused.push(refused),
        }
    }

    fn works(&self, now: Instant) -> bool {
        self.secure.works(now) && self.secure.current.as_ref().is_some_and(|session| session.heard.is_some())
    }
}

struct Pair {
    sides: [Side; 2],
    now: Instant,
    wire: Vec<Datagram>,
}

impl Pair {
    fn new(passwords: [[u8; 32]; 2]) -> Pair {
        let sides = [Side::new(LOW, 11, passwords[0]), Side::new(HIGH, 22, passwords[1])];
        Pair { sides, now: Instant::from_nanos(1_000_000_000), wire: Vec::new() }
    }

    /// Time passes for both; what they send is on the wire.
    fn tick(&mut self, step: Duration) {
        self.now = self.now + step;
        self.turn(0);
        self.turn(1);
    }

    /// What is due on one side.
    fn turn(&mut self, index: usize) {
        let side = &mut self.sides[index];
        side.secure.handle_timeout(self.now);
        if self.now >= side.next_hello {
            side.next_hello = self.now + HELLO;
            for path in [LINK, PORT] {
                let datagram = side.say();
                self.wire.extend(datagram.map(|datagram| (1 - index, path, datagram)));
            }
        }
        side.drain(1 - index, &mut self.wire);
        if let Some(due) = side.secure.poll_timeout(self.now) {
            assert!(due > self.now, "side {index} would spin");
        }
    }

    /// The side that is `frozen` stands still, and what is sent to it waits. Of the rest, one half arrives in each
    /// millisecond, in any order.
    fn run_badly(&mut self, frozen: Option<usize>, millis: u64, chance: &mut Entropy) {
        for _ in 0..millis {
            self.now = self.now + Duration::from_millis(1);
            for datagram in core::mem::take(&mut self.wire) {
                let [chance] = chance.draw();
                match chance {
                    _ if frozen == Some(datagram.0) || chance & 1 == 0 => self.wire.push(datagram),
                    _ => self.deliver_one(datagram),
                }
            }
            for index in (0..2).filter(|index| Some(*index) != frozen) {
                self.turn(index);
            }
        }
    }

    fn deliver_one(&mut self, (to, path, datagram): Datagram) {
        self.sides[to].receive(self.now, path, &datagram);
        self.sides[to].drain(1 - to, &mut self.wire);
    }

    fn deliver(&mut self) {
        while !self.wire.is_empty() {
            let datagram = self.wire.remove(0);
            self.deliver_one(datagram);
        }
    }

    fn run(&mut self, millis: u64) {
        for _ in 0..millis / 10 {
            self.tick(Duration::from_millis(10));
            self.deliver();
        }
    }

    fn works(&self) -> bool {
        self.sides.iter().all(|side| side.works(self.now))
    }

    fn told(&self, index: usize) -> &[Told] {
        &self.sides[index].told
    }
}

#[test]
fn two_that_begin_at_once_have_one_session_after_four_messages() {
    let mut pair = Pair::new([WORD; 2]);
    pair.tick(Duration::from_millis(1));
    pair.deliver();
    assert!(pair.sides.iter().all(|side| side.secure.session() == Some((true, pair.now))));
    assert_eq!((pair.told(0), pair.told(1)), (&[Told::Established { encrypted: true }][..], pair.told(0)));
    let id = |index: usize| pair.sides[index].secure.current.as_ref().unwrap().id;
    assert_eq!(id(0), id(1));
    pair.run(1000);
    assert!(pair.works());
    assert!(pair.sides.iter().all(|side| side.secure.counters().rekeyed == 0), "one session is enough");
}

#[test]
fn a_wrong_password_never_gets_a_session_and_is_told_on_both_nodes_once() {
    let mut pair = Pair::new([WORD, OTHER]);
    pair.run(20_000);
    for index in 0..2 {
        let secure = &pair.sides[index].secure;
        assert_eq!(secure.session(), None);
        assert_eq!(pair.told(index), [Told::Failed(Failure::Password)]);
        assert!(secure.counters().wrong_password > 5, "{:?}", secure.counters());
        assert_eq!(secure.last_failure().map(|(_, failure)| failure), Some(Failure::Password));
    }
    assert!(pair.sides[1].secure.counters().offers < 150, "guesses are rare: {:?}", pair.sides[1].secure.counters());
    pair.sides[1].secure.set_password(pair.now, WORD);
    pair.run(100);
    assert!(pair.works(), "the right one is taken at once");
}

#[test]
fn without_a_password_there_is_no_session_with_anybody() {
    for lacking in [&[0][..], &[1], &[0, 1]] {
        let mut pair = Pair::new([WORD; 2]);
        for &index in lacking {
            pair.sides[index].secure.lack_password(Instant::ZERO);
        }
        pair.run(20_000);
        for index in 0..2 {
            let secure = &pair.sides[index].secure;
            assert_eq!(secure.session(), None, "{lacking:?}");
            let told = if lacking.contains(&index) { Failure::Unset } else { Failure::Password };
            assert_eq!(pair.told(index), [Told::Failed(told)], "{lacking:?}");
            assert!(secure.is_failing());
        }
        for &index in lacking {
            pair.sides[index].secure.set_password(pair.now, WORD);
        }
        pair.run(1500);
        assert!(pair.works(), "{lacking:?}");
    }
}

#[test]
fn a_password_that_is_cleared_is_kept_as_the_former_one_and_an_empty_one_never() {
    let mut pair = Pair::new([WORD; 2]);
    pair.run(500);
    pair.sides[0].secure.lack_password(pair.now);
    pair.run(5000);
    assert!(pair.works() && pair.sides[0].secure.uses_former_password());
    // A restart of the other node finds the word that it had.
    pair.sides[1] = Side::new(HIGH, 33, WORD);
    pair.run(1000);
    assert!(pair.works());
    // Whoever lacks one, too, has nothing in common with this node.
    pair.sides[1] = Side::new(HIGH, 34, WORD);
    pair.sides[1].secure.lack_password(pair.now);
    pair.run(5000);
    assert!(!pair.works());
    pair.sides[0].secure.set_password(pair.now, OTHER);
    let former = pair.sides[0].secure.former_password.as_ref().map(|former| **former);
    assert_eq!(former, Some(WORD));
}

#[test]
fn what_is_closed_opens_once_and_nothing_else_opens() {
    for encrypt in [true, false] {
        let mut pair = Pair::new([WORD; 2]);
        pair.sides.iter_mut().for_each(|side| side.secure.set_encrypt(Instant::ZERO, encrypt));
        pair.run(500);
        assert!(pair.works());
        let now = pair.now;
        let side = &mut pair.sides[0];
        let secret = b"nobody reads this";
        let datagram = side.close(MessageKind::MirrorData, secret, false).unwrap();
        assert_eq!(datagram.windows(secret.len()).any(|part| part == secret), !encrypt);
        let secure = &mut pair.sides[1].secure;
        for at in 0..datagram.len() {
            let mut bent = datagram.clone();
            bent[at] ^= 1;
            assert!(secure.receive(now, LINK, &bent).is_err(), "byte {at}");
            assert!(secure.receive(now, LINK, &datagram[..at]).is_err(), "cut at {at}");
        }
        let opened = secure.receive(now, LINK, &datagram);
        assert!(matches!(opened, Ok(Opened::Letter(_, payload)) if payload == secret));
        assert_eq!(secure.receive(now, PORT, &datagram), Err(Refused::Replayed));
    }
}

#[test]
fn who_wants_secrecy_and_who_does_not_have_no_session() {
    let mut pair = Pair::new([WORD; 2]);
    pair.sides[0].secure.set_encrypt(Instant::ZERO, false);
    pair.run(3000);
    for index in 0..2 {
        assert_eq!(pair.sides[index].secure.session(), None);
        assert_eq!(pair.told(index), [Told::Failed(Failure::Secure)]);
    }
    pair.sides[1].secure.set_encrypt(pair.now, false);
    pair.run(500);
    assert!(pair.works());
    assert_eq!(pair.sides[1].secure.session().map(|(encrypted, _)| encrypted), Some(false));
    // Back again, on one node after the other, without a gap.
    for index in [1, 0] {
        pair.sides[index].secure.set_encrypt(pair.now, true);
        pair.run(1500);
        assert!(pair.works());
    }
    assert_eq!(pair.sides[0].secure.session().map(|(encrypted, _)| encrypted), Some(true));
}

#[test]
fn keys_are_replaced_without_losing_a_letter() {
    let mut pair = Pair::new([WORD; 2]);
    pair.run(500);
    let (before, heard) = (pair.sides[0].secure.current.as_ref().unwrap().id, pair.sides[0].heard.len());
    pair.run(REKEY_AFTER.as_millis() as u64 + 2000);
    let after = pair.sides.iter().map(|side| side.secure.current.as_ref().unwrap().id).collect::<Vec<_>>();
    assert!(after[0] != before && after[0] == after[1], "{before} {after:?}");
    for index in 0..2 {
        let counters = pair.sides[index].secure.counters();
        assert_eq!((counters.rekeyed, counters.established), (1, 1), "{counters:?}");
        assert!(
            pair.sides[index].refused.iter().all(|refused| *refused == Refused::Stale),
            "{:?}",
            pair.sides[index].refused
        );
    }
    assert!(heard > 0);
    assert_eq!(pair.sides[0].heard.len() as u64, pair.sides[1].said % LIFE, "every letter was taken");
    assert_eq!(pair.sides[1].heard.len() as u64, pair.sides[0].said % LIFE, "every letter was taken");
}

#[test]
fn the_password_is_changed_on_one_node_after_the_other() {
    for first in 0..2 {
        let mut pair = Pair::new([WORD; 2]);
        pair.run(500);
        pair.sides[first].secure.set_password(pair.now, OTHER);
        pair.run(5000);
        assert!(pair.works() && pair.sides[first].secure.uses_former_password());
        // Even a restart meanwhile finds a password that both have.
        let boot = 30 + first as u64;
        pair.sides[1 - first] = Side::new([LOW, HIGH][1 - first], boot, WORD);
        pair.run(1000);
        assert!(pair.works(), "first {first}");
        pair.sides[1 - first].secure.set_password(pair.now, OTHER);
        pair.run(1500);
        assert!(pair.works());
        for side in &pair.sides {
            assert!(!side.secure.uses_former_password() && side.secure.former_password.is_none());
        }
    }
}

#[test]
fn a_life_that_has_ended_never_comes_back() {
    let mut pair = Pair::new([WORD; 2]);
    pair.run(500);
    let late = pair.sides[1].say().unwrap();
    pair.sides[1] = Side::new(HIGH, 33, WORD);
    pair.run(300);
    assert!(pair.works());
    let now = pair.now;
    assert_eq!(pair.sides[0].secure.receive(now, LINK, &late), Err(Refused::Replayed));
    assert_eq!(pair.sides[0].secure.peer.boot(), 33);
}

#[test]
fn a_captured_handshake_is_worth_nothing() {
    let mut pair = Pair::new([WORD; 2]);
    let mut captured = Vec::new();
    for _ in 0..10 {
        pair.tick(Duration::from_millis(10));
        while !pair.wire.is_empty() {
            captured.push(pair.wire[0].clone());
            let datagram = pair.wire.remove(0);
            pair.deliver_one(datagram);
        }
    }
    let ids = pair.sides.iter().map(|side| side.secure.current.as_ref().unwrap().id).collect::<Vec<_>>();
    for side in &mut pair.sides {
        side.heard.clear();
    }
    for again in &captured {
        pair.deliver_one(again.clone());
        pair.wire.clear();
    }
    assert!(pair.sides.iter().all(|side| side.heard.is_empty()), "nothing is taken twice");
    let after = pair.sides.iter().map(|side| side.secure.current.as_ref().unwrap().id).collect::<Vec<_>>();
    assert_eq!(ids, after);
    // To other lives it says nothing at all.
    let mut pair = Pair::new([WORD; 2]);
    pair.sides = [Side::new(LOW, 44, WORD), Side::new(HIGH, 55, WORD)];
    for again in &captured {
        pair.deliver_one(again.clone());
        pair.wire.clear();
    }
    assert!(pair.sides.iter().all(|side| side.secure.session().is_none() && side.heard.is_empty()));
}

/// A step of a stranger who has seen what goes over `path`, in the name of `node`.
fn forged(pair: &Pair, to: usize, kind: StepKind, boot: u64, number: u64) -> Vec<u8> {
    let victim = &pair.sides[to].secure;
    let step = Step {
        encrypt: true,
        echo: victim.cookie(PORT),
        attempt: number,
        point: pake::Part::begin(
            &pake::Terms { password: b"guess", channel: b"c", run: &number.to_be_bytes() },
            [3; 64],
        )
        .point(),
        ..Step::new(kind)
    };
    let header = Header {
        kind: MessageKind::Handshake,
        session: 0,
        boot,
        echo: victim.peer.own_boot(),
        term: 0,
        sequence: 0,
        node: [HIGH, LOW][to],
        fingerprint: 0,
    };
    let mut datagram = Vec::new();
    envelope::write_header(&header, &mut datagram);
    step.encode(&mut datagram);
    datagram
}

#[test]
fn ten_thousand_half_open_handshakes_cost_little_and_change_nothing() {
    let mut pair = Pair::new([WORD; 2]);
    pair.run(500);
    let id = pair.sides[0].secure.current.as_ref().unwrap().id;
    for number in 0..10_000 {
        let offer = forged(&pair, 0, StepKind::Offer, 1000 + number, number);
        pair.deliver_one((0, PORT, offer));
        pair.wire.clear();
    }
    let secure = &pair.sides[0].secure;
    assert!(secure.half_open() <= HALF_OPEN_PER_PATH * 2, "{}", secure.half_open());
    assert!(secure.counters().answers < 40, "{:?}", secure.counters());
    let busy = pair.sides[0].refused.iter().filter(|refused| **refused == Refused::Busy).count();
    assert!(busy > 9_900, "{busy}");
    assert_eq!(secure.current.as_ref().map(|session| session.id), Some(id));
    // The same flood while the genuine peer comes back: the link is a path of its own.
    pair.sides[1] = Side::new(HIGH, 99, WORD);
    for number in 0..20 {
        for offer in 0..500 {
            let offer = forged(&pair, 0, StepKind::Offer, 50_000 + offer, 20_000 + 500 * number + offer);
            pair.deliver_one((0, PORT, offer));
            pair.wire.clear();
        }
        pair.tick(Duration::from_millis(10));
        pair.deliver();
    }
    assert!(pair.works());
    assert_eq!(pair.sides[0].secure.peer.boot(), 99);
}

/// Whoever floods a node with hails cannot keep the peer's word from it that it leads.
#[test]
fn a_flood_of_hails_hides_no_claim() {
    let mut pair = Pair::new([WORD, [9; 32]]);
    pair.run(100);
    let now = pair.now;
    let flood: Vec<_> = (0..500).map(|boot| forged(&pair, 0, StepKind::Hail, 1000 + boot, boot)).collect();
    let secure = &mut pair.sides[0].secure;
    for hail in flood {
        let opened = secure.receive(now, PORT, &hail);
        assert!(matches!(opened, Ok(Opened::Claim(_)) | Err(_)), "a stranger's");
    }
    pair.sides[1].secure.set_role(2);
    pair.sides[1].secure.hail(Some(PORT), 11, 0);
    pair.sides[1].drain(0, &mut pair.wire);
    let (_, path, genuine) = pair.wire.pop().expect("a hail");
    let opened = pair.sides[0].secure.receive(now, path, &genuine);
    assert!(matches!(opened, Ok(Opened::Claim(2))), "{opened:?}");
}

#[test]
fn forged_steps_do_not_stop_a_genuine_handshake() {
    let mut pair = Pair::new([WORD; 2]);
    pair.tick(Duration::from_millis(10));
    // An answer overtakes the genuine one: its proof is wrong, and the genuine one still counts.
    while let Some(datagram) = (!pair.wire.is_empty()).then(|| pair.wire.remove(0)) {
        let number = pair.sides[1].secure.attempts.first().map(|attempt| attempt.number);
        if let Some(number) = number.filter(|_| pair.sides[1].secure.session().is_none()) {
            let answer = forged(&pair, 1, StepKind::Answer, 11, number);
            let mut out = core::mem::take(&mut pair.wire);
            pair.sides[1].receive(pair.now, PORT, &answer);
            out.append(&mut pair.wire);
            pair.wire = out;
            pair.sides[1].drain(0, &mut pair.wire);
        }
        pair.deliver_one(datagram);
    }
    pair.run(200);
    assert!(pair.works());
    assert!(pair.sides[1].refused.contains(&Refused::Authentication));
}

#[test]
fn without_the_cookie_nothing_is_computed() {
    let mut pair = Pair::new([WORD; 2]);
    for number in 0..1000 {
        let mut offer = forged(&pair, 0, StepKind::Offer, 1000, number);
        offer[envelope::HEADER_LEN + 16] ^= 1;
        pair.deliver_one((0, PORT, offer));
        let right_on_another_path = forged(&pair, 0, StepKind::Offer, 1000, number);
        pair.deliver_one((0, LINK, right_on_another_path));
    }
    assert_eq!((pair.sides[0].secure.counters().answers, pair.wire.len()), (0, 0));
    assert!(pair.sides[0].refused.iter().all(|refused| *refused == Refused::Cookie));
}

#[test]
fn a_hail_is_answered_with_no_more_bytes_and_within_limits() {
    let mut pair = Pair::new([WORD; 2]);
    let len = envelope::HEADER_LEN + step::STEP_LEN;
    for number in 0..1000 {
        let mut hail = forged(&pair, 0, StepKind::Hail, 1000, number);
        hail[envelope::HEADER_LEN + 16] ^= 1;
        pair.deliver_one((0, PORT, hail));
    }
    assert!(pair.wire.len() < 40, "{}", pair.wire.len());
    assert!(pair.wire.iter().all(|(_, _, datagram)| datagram.len() == len));
}

#[derive(Clone, Debug)]
enum Event {
    Tick(u8),
    Deliver(u8),
    Lose(u8),
    Copy(u8),
    Restart(bool),
    Password(bool, bool),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1..60u8).prop_map(Event::Tick),
        12 => any::<u8>().prop_map(Event::Deliver),
        2 => any::<u8>().prop_map(Event::Lose),
        2 => any::<u8>().prop_map(Event::Copy),
        1 => any::<bool>().prop_map(Event::Restart),
        1 => any::<(bool, bool)>().prop_map(|(side, word)| Event::Password(side, word)),
    ];
    proptest::collection::vec(event, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Loss, copies, any order, restarts and changes of the password at any
    /// point: nothing is taken twice (`Side::receive` looks), and when it is
    /// over and the passwords are the same, there is a session within a second or two.
    #[test]
    fn it_converges_whatever_happened(events in events()) {
        let mut pair = Pair::new([WORD; 2]);
        let mut boot = 100;
        for event in events {
            let pick = |wire: &Vec<Datagram>, at: u8| (!wire.is_empty()).then(|| usize::from(at) % wire.len());
            match event {
                Event::Tick(millis) => pair.tick(Duration::from_millis(millis.into())),
                Event::Deliver(at) => {
                    if let Some(at) = pick(&pair.wire, at) {
                        let datagram = pair.wire.remove(at);
                        pair.deliver_one(datagram);
                    }
                }
                Event::Lose(at) => {
                    if let Some(at) = pick(&pair.wire, at) {
                        pair.wire.remove(at);
                    }
                }
                Event::Copy(at) => {
                    if let Some(at) = pick(&pair.wire, at) {
                        let copy = pair.wire[at].clone();
                        pair.wire.push(copy);
                    }
                }
                Event::Restart(high) => {
                    boot += 1;
                    let index = usize::from(high);
                    pair.sides[index] = Side::new([LOW, HIGH][index], boot, WORD);
                }
                Event::Password(high, other) => {
                    let word = if other { OTHER } else { WORD };
                    let now = pair.now;
                    pair.sides[usize::from(high)].secure.set_password(now, word);
                }
            }
        }
        let now = pair.now;
        pair.sides.iter_mut().for_each(|side| side.secure.set_password(now, WORD));
        pair.run(3000);
        prop_assert!(pair.works());
        for side in &pair.sides {
            prop_assert!(!side.secure.uses_former_password());
        }
    }

    /// A side that stood still finds hails of seconds, each of which asks for a session. However often that happens to
    /// either: nobody is deaf to the other afterwards.
    #[test]
    fn nobody_is_deaf_whoever_was_frozen(
        freezes in proptest::collection::vec((any::<bool>(), 0..3000u64, 50..1500u64), 1..4),
        seed: [u8; 32],
    ) {
        let mut pair = Pair::new([WORD; 2]);
        pair.run(500);
        prop_assert!(pair.works());
        let mut chance = Entropy::new(seed);
        for (high, still, awake) in freezes {
            pair.run_badly(Some(usize::from(high)), still, &mut chance);
            for millisecond in 0..awake {
                pair.run_badly(None, 1, &mut chance);
                let now = pair.now;
                let silent = pair.sides.each_ref().map(|side| now.since(side.secure.current.as_ref().unwrap().last()));
                let heard = silent.iter().all(|silent| *silent < LEAST_PATIENCE);
                prop_assert!(heard || millisecond < 200, "{millisecond} ms later silent for {silent:?}");
            }
        }
    }

    /// With different passwords there is never a session, in whatever order things arrive.
    #[test]
    fn different_passwords_never_make_a_session(picks in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut pair = Pair::new([WORD, OTHER]);
        for pick in picks {
            pair.tick(Duration::from_millis(7));
            if !pair.wire.is_empty() {
                let datagram = pair.wire.remove(usize::from(pick) % pair.wire.len());
                pair.deliver_one(datagram.clone());
                pair.deliver_one(datagram);
            }
        }
        prop_assert!(pair.sides.iter().all(|side| side.secure.session().is_none() && side.heard.is_empty()));
    }

    #[test]
    fn any_bytes_are_refused_or_say_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut pair = Pair::new([WORD; 2]);
        let _ = Step::decode(&bytes);
        let mut framed = b"HF\x02\x06\0\0\0\0".to_vec();
        framed.extend(&bytes);
        for datagram in [bytes, framed] {
            pair.deliver_one((0, LINK, datagram.clone()));
            pair.deliver_one((1, PORT, datagram));
        }
        prop_assert!(pair.sides.iter().all(|side| side.secure.session().is_none()));
    }
}

#[test]
fn a_step_has_these_bytes() {
    let step = Step {
        kind: StepKind::Answer,
        encrypt: true,
        role: 2,
        detail: 1,
        cookie: 0x1112_1314_1516_1718,
        echo: 0x2122_2324_2526_2728,
        attempt: 0x3132_3334_3536_3738,
        point: [0x44; 32],
        proof: [0x55; 16],
    };
    let mut bytes = Vec::new();
    step.encode(&mut bytes);
    let mut golden = vec![3, 1, 2, 1, 0, 0, 0, 0];
    golden.extend(0x11..=0x18);
    golden.extend(0x21..=0x28);
    golden.extend(0x31..=0x38);
    golden.extend([0x44; 32]);
    golden.extend([0x55; 16]);
    assert_eq!(bytes, golden);
    assert_eq!(Step::decode(&bytes), Ok(step));
}

/// Golden bytes: another build must open what this one closes.
#[test]
fn a_closed_datagram_has_these_bytes() {
    let mut pair = Pair::new([WORD; 2]);
    pair.run(200);
    let material = session::Material::of([9; 64]);
    let mut session = Session::new(Instant::ZERO, &material, session::End::Offering, 2, true, Password::new(WORD));
    let header = Header {
        kind: MessageKind::Hello,
        session: session.id,
        boot: 1,
        echo: 2,
        term: 3,
        sequence: 4,
        node: 5,
        fingerprint: 6,
    };
    let mut datagram = Vec::new();
    envelope::write_header(&header, &mut datagram);
    datagram.extend_from_slice(b"hello");
    session.close(4, &mut datagram);
    let hex: String = datagram.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, include_str!("golden.hex").trim_end());
    assert_eq!(datagram.len(), envelope::HEADER_LEN + 5 + envelope::TAG_LEN);
    let other = Session::new(Instant::ZERO, &material, session::End::Answering, 1, true, Password::new(WORD));
    assert_eq!(other.open(4, &datagram).as_deref(), Some(&b"hello"[..]));
}

/// `cargo test --release -p holdfast-node -- --ignored --nocapture`: what a turn pays for each.
#[test]
#[ignore = "measures"]
fn how_long_everything_takes() {
    let time = |what: &str, count: u32, work: &mut dyn FnMut()| {
        let begin = std::time::Instant::now();
        (0..count).for_each(|_| work());
        println!("{what}: {} ns", begin.elapsed().as_nanos() / u128::from(count));
    };
    let terms = pake::Terms { password: &WORD, channel: b"c", run: b"r" };
    let (a, b) = (pake::Part::begin(&terms, [1; 64]), pake::Part::begin(&terms, [2; 64]));
    let (a_point, b_point) = (a.point(), b.point());
    time("offer", 1000, &mut || drop(pake::Part::begin(&terms, [1; 64])));
    let said = || [pake::Said { point: &a_point, bound: b"" }, pake::Said { point: &b_point, bound: b"" }];
    time("conclusion", 1000, &mut || assert!(pake::secret(&a, &b_point, b"r", said()).is_some()));
    let material = session::Material::of([9; 64]);
    let mut closing = Session::new(Instant::ZERO, &material, session::End::Offering, 2, true, Password::new(WORD));
    let opening = Session::new(Instant::ZERO, &material, session::End::Answering, 1, true, Password::new(WORD));
    for payload in [48, 1320] {
        let plain = vec![7; envelope::HEADER_LEN + payload];
        let mut datagram = Vec::with_capacity(1400);
        time(&format!("close {payload} bytes"), 100_000, &mut || {
            datagram.clear();
            datagram.extend_from_slice(&plain);
            closing.close(1, &mut datagram);
        });
        time(&format!("open {payload} bytes"), 100_000, &mut || assert!(opening.open(1, &datagram).is_some()));
    }
}
