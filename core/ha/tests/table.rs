//! Every event in every role: what the role is right after it.

use Role::{Draining as D, Init as I, Primary as P, Secondary as S};
use holdfast_base::{Duration, Instant};
use holdfast_ha::{Effect, HaStatus, Hello, HelloKind, Machine, NodeHealth, NodeId, PathId, Role, Settings};

const US: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);

#[derive(Clone, Copy, Debug)]
enum Input {
    HearInit,
    HearSecondary,
    HearPrimaryOfLowerTerm,
    HearPrimaryOfHigherTerm,
    HearDrainingOfLowerTerm,
    HearDrainingOfHigherTerm,
    HearGoodbye,
    HearReleaseByPrimary,
    HearReleaseBySecondary,
    HearsNobody,
    HearsNobodyForDeadInterval,
    HearsNobodyAndThenSomebody,
    HearsNobodyAndPeerRemoved,
    HearsNobodyDisabled,
    HearOtherBoot,
    HearStranger,
    HearPromise,
    HearProbe,
    HearUnheardPeer,
    PeerClosed,
    PeerClosedAndProbesUnanswered,
    PeerCut,
    PeerCutAndProbesUnanswered,
    PeerOpen,
    CaughtUp,
    NotCaughtUp,
    TermStored,
    ForceFailover,
    Stop,
    ClientPacket,
    Turn,
    TurnAfterFreeze,
    Timeout,
    DeadInterval,
    TwoSeconds,
    HearHealthierSecondary,
    RouteMonitorFails,
    InterfaceFails,
    AllInterfacesFail,
    PeerRemoved,
    StaySecondary,
    StayPrimary,
    Disabled,
}

/// The role afterwards, for a node that was [Init, Secondary, Primary,
/// Draining], the last three with a living, caught-up peer.
const TABLE: &[(Input, [Role; 4])] = &[
    (Input::HearInit, [I, S, P, P]),
    (Input::HearSecondary, [I, S, P, D]),
    (Input::HearPrimaryOfLowerTerm, [S, S, P, P]),
    (Input::HearPrimaryOfHigherTerm, [S, S, S, S]),
    (Input::HearDrainingOfLowerTerm, [S, S, P, D]),
    (Input::HearDrainingOfHigherTerm, [S, S, S, S]),
    (Input::HearGoodbye, [I, P, P, P]),
    (Input::HearReleaseByPrimary, [I, S, P, P]),
    (Input::HearReleaseBySecondary, [I, P, P, P]),
    (Input::HearsNobody, [I, S, P, D]),
    (Input::HearsNobodyForDeadInterval, [I, S, S, S]),
    (Input::HearsNobodyAndThenSomebody, [I, S, S, S]),
    (Input::HearsNobodyAndPeerRemoved, [P, P, P, P]),
    (Input::HearsNobodyDisabled, [I, S, P, P]),
    (Input::HearOtherBoot, [I, S, P, D]),
    (Input::HearStranger, [I, S, P, D]),
    (Input::HearPromise, [P, P, P, P]),
    (Input::HearProbe, [I, S, P, D]),
    (Input::HearUnheardPeer, [I, S, S, S]),
    (Input::PeerClosed, [I, S, P, D]),
    (Input::PeerClosedAndProbesUnanswered, [I, P, P, P]),
    (Input::PeerCut, [I, S, P, D]),
    (Input::PeerCutAndProbesUnanswered, [I, S, P, D]),
    (Input::PeerOpen, [I, S, P, D]),
    (Input::CaughtUp, [I, S, P, D]),
    (Input::NotCaughtUp, [I, S, P, D]),
    (Input::TermStored, [I, S, P, D]),
    (Input::ForceFailover, [I, S, D, D]),
    (Input::Stop, [I, S, D, D]),
    (Input::ClientPacket, [I, S, P, D]),
    (Input::Turn, [I, S, P, D]),
    (Input::TurnAfterFreeze, [I, S, S, S]),
    (Input::Timeout, [I, S, P, D]),
    (Input::DeadInterval, [I, P, P, P]),
    (Input::TwoSeconds, [P, P, P, P]),
    (Input::HearHealthierSecondary, [I, S, D, D]),
    (Input::RouteMonitorFails, [I, S, D, D]),
    (Input::InterfaceFails, [I, S, D, D]),
    (Input::AllInterfacesFail, [I, S, D, D]),
    (Input::PeerRemoved, [P, P, P, P]),
    (Input::StaySecondary, [I, S, D, D]),
    (Input::StayPrimary, [I, S, P, D]),
    (Input::Disabled, [I, S, P, D]),
];

#[test]
fn every_event_in_every_role() {
    for &(input, after) in TABLE {
        for (role, wanted) in [I, S, P, D].into_iter().zip(after) {
            let mut node = Fixture::in_role(role);
            node.feed(input);
            assert_eq!(node.machine.role(), wanted, "{input:?} in role {role:?}");
            let gate_closed = node.machine.handle_turn(node.now);
            assert_eq!(gate_closed, wanted == I || wanted == S, "{input:?} in role {role:?}");
            assert_eq!(node.machine.lease_expiry().is_some(), !gate_closed && node.has_peer);
        }
    }
}

struct Fixture {
    machine: Machine,
    now: Instant,
    seq: u64,
    nonce: Option<u32>,
    has_peer: bool,
}

impl Fixture {
    fn in_role(role: Role) -> Fixture {
        let now = Instant::from_nanos(1_000_000_000);
        let machine = Machine::new(now, Settings::new(US, Some(PEER)), 1, 0);
        let mut node = Fixture { machine, now, seq: 0, nonce: None, has_peer: true };
        node.drain();
        match role {
            Role::Init => {}
            Role::Secondary => {
                node.hear(5, P, |_| ());
                node.machine.handle_caught_up(node.now, true);
            }
            Role::Primary | Role::Draining => {
                node.pass(Duration::from_millis(1001));
                node.hear(0, S, |hello| hello.caught_up = true);
            }
        }
        if role == Role::Draining {
            node.machine.handle_force_failover(node.now).expect("the peer has caught up");
        }
        node.drain();
        assert_eq!(node.machine.role(), role);
        node
    }

    /// Carries out what the machine asks for, with a perfect disk.
    fn drain(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::StoreTerm(term) => self.machine.handle_term_stored(self.now, term),
                Effect::Send { hello, .. } => {
                    if let HelloKind::Probe { nonce } = hello.kind {
                        self.nonce = Some(nonce);
                    }
                }
                Effect::AskWitness(_)
                | Effect::Role { .. }
                | Effect::Follow { .. }
                | Effect::PeerJoined { .. }
                | Effect::PeerLost { .. }
                | Effect::Event(_) => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let next = self.machine.poll_timeout().unwrap_or(end);
            self.now = next.max(self.now).min(end);
            self.machine.handle_timeout(self.now);
            self.drain();
        }
    }

    fn hear(&mut self, term: u64, role: Role, change: impl FnOnce(&mut Hello)) {
        self.seq += 1;
        let mut hello = Hello { seq: self.seq, role, ..plain_hello() };
        change(&mut hello);
        self.machine.handle_hello(self.now, PathId(1), term, PEER, &hello);
        self.drain();
    }

    fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = Settings::new(US, Some(PEER));
        change(&mut settings);
        self.has_peer = settings.peer.is_some();
        self.machine.set_settings(self.now, settings);
    }

    /// The peer stands back for us.
    fn hear_promise(&mut self) {
        self.hear(0, I, |hello| hello.ready = false);
        self.hear(6, D, |hello| hello.ready = false);
        self.hear(6, I, |hello| hello.ready = false);
        let nonce = self.nonce.unwrap_or(0);
        self.hear(6, I, |hello| {
            hello.ready = false;
            hello.promise_ms = 400;
            hello.kind = HelloKind::ProbeReply { nonce };
        });
    }

    fn feed(&mut self, input: Input) {
        let hello = Settings::HELLO;
        match input {
            Input::HearInit => self.hear(0, I, |_| ()),
            Input::HearSecondary => self.hear(0, S, |hello| hello.caught_up = true),
            Input::HearPrimaryOfLowerTerm => self.hear(0, P, |_| ()),
            Input::HearPrimaryOfHigherTerm => self.hear(50, P, |_| ()),
            Input::HearDrainingOfLowerTerm => self.hear(0, D, |hello| hello.caught_up = true),
            Input::HearDrainingOfHigherTerm => self.hear(50, D, |_| ()),
            Input::HearGoodbye => self.hear(0, S, |hello| hello.kind = HelloKind::Goodbye),
            Input::HearReleaseByPrimary => self.hear(50, P, |hello| hello.kind = HelloKind::Release),
            Input::HearReleaseBySecondary => self.hear(0, S, |hello| hello.kind = HelloKind::Release),
            Input::HearsNobody => self.machine.handle_hearing(self.now, false),
            Input::HearsNobodyForDeadInterval => {
                self.machine.handle_hearing(self.now, false);
                self.pass(Settings::DEAD + Duration::from_millis(1));
            }
            Input::HearsNobodyAndThenSomebody => {
                self.feed(Input::HearsNobodyForDeadInterval);
                self.machine.handle_hearing(self.now, true);
                self.pass(Settings::DEAD / 2);
            }
            Input::HearsNobodyAndPeerRemoved => {
                self.feed(Input::HearsNobodyForDeadInterval);
                self.feed(Input::PeerRemoved);
                self.pass(Settings::DEAD * 2);
            }
            Input::HearsNobodyDisabled => {
                self.set(|settings| settings.status = HaStatus::Disabled);
                self.feed(Input::HearsNobodyForDeadInterval);
            }
            Input::HearOtherBoot => {
                // The first boot that an Init node hears needs no proof.
                self.hear(0, S, |hello| (hello.boot, hello.caught_up) = (10, true));
            }
            Input::HearStranger => {
                self.machine.handle_hello(self.now, PathId(0), 99, NodeId(3), &plain_hello());
            }
            Input::HearPromise => self.hear_promise(),
            Input::HearProbe => self.hear(0, S, |hello| {
                hello.caught_up = true;
                hello.kind = HelloKind::Probe { nonce: 4 };
            }),
            Input::HearUnheardPeer => self.hear(0, S, |hello| {
                hello.caught_up = true;
                hello.silence_ms = 390;
            }),
            Input::PeerClosed => self.machine.handle_peer_closed(self.now),
            Input::PeerClosedAndProbesUnanswered => {
                self.machine.handle_peer_closed(self.now);
                self.pass(Duration::from_millis(4));
            }
            Input::PeerCut => self.machine.handle_peer_cut(self.now),
            Input::PeerCutAndProbesUnanswered => {
                self.machine.handle_peer_cut(self.now);
                self.pass(Duration::from_millis(4));
            }
            Input::PeerOpen => self.machine.handle_peer_open(self.now, Duration::ZERO),
            Input::CaughtUp => self.machine.handle_caught_up(self.now, true),
            Input::NotCaughtUp => self.machine.handle_caught_up(self.now, false),
            Input::TermStored => self.machine.handle_term_stored(self.now, 60),
            Input::ForceFailover => {
                let _ = self.machine.handle_force_failover(self.now);
            }
            Input::Stop => self.machine.handle_stop(self.now),
            Input::ClientPacket => self.machine.handle_client_packet_seen(self.now),
            Input::Turn => {
                self.machine.handle_turn(self.now + hello / 2);
            }
            Input::TurnAfterFreeze => {
                self.now = self.now + Duration::from_secs(2);
                let closed = self.machine.handle_turn(self.now);
                assert!(closed, "a frozen node's gate closes first of all");
            }
            Input::Timeout => self.machine.handle_timeout(self.now + hello),
            Input::DeadInterval => self.pass(Settings::DEAD + Duration::from_millis(1)),
            Input::TwoSeconds => self.pass(Duration::from_secs(2)),
            Input::HearHealthierSecondary => {
                self.hear(0, S, |hello| (hello.health, hello.ready) = (NodeHealth::RouteMonitorFail, false));
                self.machine.handle_health(self.now, NodeHealth::PartialFail);
                self.hear(0, S, |hello| (hello.health, hello.caught_up) = (NodeHealth::RouteMonitorFail, true));
            }
            Input::RouteMonitorFails => self.machine.handle_health(self.now, NodeHealth::RouteMonitorFail),
            Input::InterfaceFails => self.machine.handle_health(self.now, NodeHealth::PartialFail),
            Input::AllInterfacesFail => self.machine.handle_health(self.now, NodeHealth::CompleteFail),
            Input::PeerRemoved => self.set(|settings| settings.peer = None),
            Input::StaySecondary => self.set(|settings| settings.status = HaStatus::StaySecondary),
            Input::StayPrimary => self.set(|settings| settings.status = HaStatus::StayPrimary),
            Input::Disabled => self.set(|settings| settings.status = HaStatus::Disabled),
        }
    }
}

fn plain_hello() -> Hello {
    Hello {
        kind: HelloKind::Hello,
        boot: 9,
        seq: 1,
        role: P,
        status: HaStatus::Enabled,
        caught_up: false,
        ready: true,
        listening: false,
        synced_session: 0,
        promise_ms: 0,
        dead_ms: 400,
        silence_ms: 0,
        last_client_packet_ago: u64::MAX,
        decided_over: 0,
        health: NodeHealth::Up,
        witness: None,
        quarantine_ms: 0,
        full_session: 0,
        aside: 0,
    }
}
