//! The healing of a split: what the loser offers, and what the winner takes.

use super::*;
use crate::{BulkStep, FlowRecord, Half, Offered};

/// A client that only one side knows.
const APART: u16 = 5000;

/// Two nodes that lead, each with flows of its own halves of the ports.
struct Split {
    winner: Lab,
    loser: Lab,
}

impl Split {
    fn new(plan: Plan) -> Split {
        let net = v4();
        let (mut winner, mut loser) = (Lab::new(net, plan.clone()), Lab::new(net, plan));
        winner.engine.set_half(Half::Lower);
        loser.engine.set_half(Half::Upper);
        Split { winner, loser }
    }

    /// The loser is told that it has lost.
    fn heal(&mut self) {
        self.loser.engine.set_gate(self.loser.now, Gate::Closed);
        self.loser.engine.set_mirroring(self.loser.now, Mirroring::Off);
        self.loser.engine.set_aside();
        self.loser.engine.begin_session(1);
        self.winner.mirror(1, false);
    }

    /// What the winner has crosses.
    fn tell(&mut self) {
        self.winner.settle();
        let mut told: Vec<crate::FlowRef> = Vec::new();
        let mut cursor = 0;
        loop {
            match self.winner.engine.next_for_bulk(&mut cursor, 7) {
                BulkStep::Flow(flow) => told.push(flow),
                BulkStep::Kept | BulkStep::Scanned => {}
                BulkStep::Done => break,
            }
        }
        self.winner.settle();
        for mark in std::mem::take(&mut self.winner.marks) {
            match mark {
                Mark::Flow(flow) => told.push(flow),
                Mark::Closed(_, close) => self.loser.engine.apply_close(self.loser.now, &close, 1),
                Mark::Persistence(_) => {}
            }
        }
        for flow in told {
            let Some(record) = self.winner.engine.record(flow) else { continue };
            self.loser.engine.apply_record(self.loser.now, &record, 1);
            self.winner.engine.handle_ack(self.winner.now, flow, record.stamp);
        }
        assert_eq!(self.winner.engine.digest(), self.loser.engine.digest());
        assert_eq!(self.winner.engine.counts().in_session, self.loser.engine.counts().in_session);
    }

    /// What the loser finds to offer.
    fn offers(&mut self, mut step: impl FnMut(&mut Engine, &mut u32) -> BulkStep) -> Vec<FlowRecord> {
        let (mut offers, mut cursor) = (Vec::new(), 0);
        loop {
            match step(&mut self.loser.engine, &mut cursor) {
                BulkStep::Flow(flow) => offers.extend(self.loser.engine.offered_record(flow)),
                BulkStep::Kept | BulkStep::Scanned => {}
                BulkStep::Done => return offers,
            }
        }
    }

    fn untold(&mut self) -> Vec<FlowRecord> {
        self.offers(|engine, cursor| engine.next_untold_aside(cursor, 3))
    }

    fn lacking(&mut self, used_since: Option<Instant>) -> Vec<FlowRecord> {
        self.offers(|engine, cursor| engine.next_aside(cursor, 3, used_since))
    }

    fn adopt(&mut self, record: &FlowRecord) -> Offered {
        self.winner.engine.adopt_offered(self.winner.now, record, &[])
    }
}

/// A client establishes a connection; its record's addresses.
fn connect(lab: &mut Lab, port: u16) -> (Endpoint, Endpoint) {
    lab.net.client.port = port;
    lab.establish()
}

#[test]
fn a_connection_of_the_loser_goes_on_at_the_winner_and_comes_back_to_the_loser() {
    let mut split = Split::new(plan(&v4()));
    connect(&mut split.winner, 1000);
    let (server, source) = connect(&mut split.loser, APART);
    split.heal();
    let offers = split.untold();
    assert_eq!(offers.iter().map(|record| (record.server, record.source)).collect::<Vec<_>>(), [(server, source)]);
    split.tell();
    assert_eq!(split.adopt(&offers[0]), Offered::Adopted);
    assert_eq!(split.winner.engine.vserver_counters(VSERVER).flows, 2);
    split.tell();
    while !split.loser.engine.sweep_stale(3) {}
    assert_eq!((split.loser.engine.counts().flows, split.loser.engine.counts().stale), (2, 0));
    assert_eq!((split.winner.engine.counts().protected, split.winner.engine.counts().unprotected), (2, 0));
    split.winner.net.client.port = APART;
    split.winner.client(ACK, 101, 501, b"x");
    let packet = split.winner.next().packet();
    assert_eq!((packet.source(), packet.destination()), (source, server), "with its server and its port");
}

#[test]
fn what_the_winner_has_takes_the_place_of_what_the_loser_had() {
    let mut split = Split::new(plan(&v4()));
    let (server, source) = connect(&mut split.winner, 1000);
    // The same client, at both.
    connect(&mut split.loser, 1000);
    connect(&mut split.loser, APART);
    split.heal();
    let offers = split.untold();
    assert_eq!(offers.len(), 2, "it does not know yet");
    split.tell();
    let kept = split.loser.engine.flows.live_at(split.loser.engine.flows.find(&offers[0].client_key()).unwrap().0);
    let kept = kept.expect("it is there").record();
    assert_eq!((kept.server, kept.source), (server, source));
    assert_eq!(split.loser.engine.offered_record(split.loser.engine.flows.reference(0)), None, "not offered any more");
    let before = split.winner.engine.counts();
    assert_eq!(split.adopt(&offers[0]), Offered::Conflicting);
    assert_eq!(split.winner.engine.counts(), before, "nothing of the winner's was touched");
}

#[test]
fn a_stamp_wins_nothing_for_an_offer() {
    let mut split = Split::new(plan(&v4()));
    let (server, source) = connect(&mut split.winner, 1000);
    connect(&mut split.loser, 1000);
    split.heal();
    let offer = FlowRecord { stamp: 1 << 40, ..split.untold()[0] };
    assert_eq!(split.adopt(&offer), Offered::Conflicting);
    // The same flow of another age is the same flow.
    let known = FlowRecord { server, source, ..offer };
    assert_eq!(split.adopt(&known), Offered::Known);
    let counters = split.winner.engine.counters();
    assert_eq!((counters.offers_conflicting, counters.offers_known, counters.offers_refused()), (1, 1, 1));
    assert_eq!(split.winner.engine.flows.at(0).stamp, split.winner.engine.last_stamp);
}

#[test]
fn a_port_that_the_winner_has_leased_is_not_taken_from_it() {
    let mut split = Split::new(plan(&v4()));
    let (server, source) = connect(&mut split.winner, 1000);
    connect(&mut split.loser, APART);
    split.heal();
    let offer = FlowRecord { server, source, ..split.untold()[0] };
    assert_eq!(split.adopt(&offer), Offered::Conflicting);
    assert_eq!(split.winner.engine.counts().leases, 1);
}

#[test]
fn a_full_winner_gives_nothing_up() {
    let mut split = Split::new(plan(&v4()));
    split.winner = Lab::with_limits(v4(), plan(&v4()), Limits { max_flows: 2, ..Limits::default() });
    connect(&mut split.winner, 1000);
    for port in [APART, APART + 1] {
        connect(&mut split.loser, port);
    }
    split.heal();
    let offers = split.untold();
    assert_eq!([split.adopt(&offers[0]), split.adopt(&offers[1])], [Offered::Adopted, Offered::NoRoom]);
    let counts = split.winner.engine.counts();
    assert_eq!((counts.flows, counts.leases, split.winner.engine.counters().offers_without_room), (2, 2, 1));
}

#[test]
fn who_promises_nothing_takes_nothing() {
    for failover in [ConnFailover::Disabled, ConnFailover::Stateless] {
        let mut split = Split::new(plan(&v4()));
        connect(&mut split.loser, APART);
        split.heal();
        let offers = split.untold();
        split.winner.set_plan(with_failover(plan(&v4()), failover));
        assert_eq!(split.adopt(&offers[0]), Offered::Unserved);
        split.winner.set_plan(Plan { vservers: Vec::new(), ..plan(&v4()) });
        assert_eq!(split.adopt(&offers[0]), Offered::Unserved);
        assert_eq!(split.winner.engine.counters().offers_unserved, 2);
    }
    let mut split = Split::new(with_failover(plan(&v4()), ConnFailover::Disabled));
    connect(&mut split.loser, APART);
    split.heal();
    assert!(split.untold().is_empty() && split.lacking(None).is_empty());
}

#[test]
fn what_was_told_before_the_split_is_offered_if_it_was_used_and_is_lacking() {
    let mut split = Split::new(plan(&v4()));
    for port in [1000, 1001, 1002] {
        connect(&mut split.loser, port);
    }
    split.loser.mirror(7, false);
    split.loser.marks.extend([0, 1, 2].map(|slot| Mark::Flow(split.loser.engine.flows.reference(slot))));
    split.loser.acknowledge();
    split.loser.pass(Duration::from_secs(3));
    let parted = split.loser.now;
    split.loser.net.client.port = 1001;
    split.loser.client(ACK, 101, 501, b"x");
    split.heal();
    assert!(split.untold().is_empty());
    let lacking = split.lacking(Some(parted));
    assert_eq!(lacking.iter().map(|record| record.client.port).collect::<Vec<_>>(), [1001]);
    assert!(split.lacking(Some(parted)).is_empty(), "once is enough");
    assert_eq!(split.lacking(None).len(), 2, "another life of the winner never had the others");
}

#[test]
fn who_dies_before_it_has_told_what_it_adopted_leaves_the_loser_with_all_that_it_had() {
    let mut split = Split::new(plan(&v4()));
    connect(&mut split.winner, 1000);
    let (server, source) = connect(&mut split.loser, APART);
    split.heal();
    split.tell();
    let offers = split.lacking(None);
    split.adopt(&offers[0]);
    let loser = &mut split.loser;
    loser.engine.set_gate(loser.now, Gate::Open);
    loser.engine.promote(loser.now);
    loser.client(ACK, 101, 501, b"x");
    let packet = loser.next().packet();
    assert_eq!((packet.source(), packet.destination()), (source, server));
    // And tells all of it to whoever comes.
    loser.mirror(9, false);
    let mut cursor = 0;
    assert!(matches!(loser.engine.next_untold(&mut cursor, 100), BulkStep::Flow(_)));
    assert_eq!(loser.engine.counts().unprotected, 2);
}

#[test]
fn strays_wait_for_the_offer_and_no_longer() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.engine.keep_silent(lab.now + Duration::from_secs(5));
    assert_eq!(lab.client(ACK, 101, 7777, b""), Verdict::Drop(Drop::StraySilent));
    lab.engine.end_silence();
    assert_eq!(lab.client(ACK, 101, 7777, b""), Verdict::Drop(Drop::StrayReset));
    lab.engine.promote(lab.now);
    lab.engine.end_silence();
    assert_eq!(lab.client(ACK, 101, 7777, b""), Verdict::Drop(Drop::StraySilent), "the grace of a promotion stands");
}

/// A server of a USIP vserver that is STATEFUL and of another one that is not.
#[test]
fn a_servers_stray_is_nobody_elses_while_an_offer_is_awaited() {
    for other in [ConnFailover::Stateless, ConnFailover::Disabled] {
        let net = v4();
        let mut both = with_failover(usip_plan(&net), other);
        let stateful =
            Vserver { id: VserverId(9), port: 81, failover: ConnFailover::Stateful, ..both.vservers[0].clone() };
        both.vservers.push(stateful);
        let mut lab = Lab::new(net, both);
        lab.engine.keep_silent(lab.now + Duration::from_secs(5));
        let verdict = lab.server(net.servers[0], net.client, (ACK, 501, 101), b"x");
        assert_eq!((verdict, lab.engine.counts().flows), (Verdict::Drop(Drop::StraySilent), 0));
        lab.engine.end_silence();
        assert_ne!(lab.server(net.servers[0], net.client, (ACK, 501, 101), b"x"), Verdict::Drop(Drop::StraySilent));
    }
}

#[test]
fn where_the_loser_sent_a_client_stands_until_the_winner_says_otherwise() {
    let mut sticky = plan(&v4());
    sticky.vservers[0].persistence = by_source(60);
    let mut split = Split::new(sticky);
    for _ in 0..3 {
        // Its stamps are beyond the winner's: between two that counted apart they say nothing.
        split.loser.net.client.port += 1;
        split.loser.establish();
    }
    let (server, _) = connect(&mut split.loser, APART);
    split.heal();
    assert_eq!(split.loser.engine.counts().persistence, 1, "should it lead again, it goes on as before");
    let net = split.loser.net;
    let elsewhere = *net.servers.iter().find(|other| **other != server).expect("there are two");
    let (vip, client) = (net.vip, net.client.addr);
    let record = crate::PersistenceRecord {
        stamp: 1,
        vip,
        proto: 0,
        of: crate::SessionOf::Source(client),
        server: Some(elsewhere),
    };
    split.loser.engine.apply_persistence(split.loser.now, &record, 1);
    split.loser.engine.set_gate(split.loser.now, Gate::Open);
    split.loser.engine.promote(split.loser.now);
    assert_eq!(connect(&mut split.loser, 1).0, elsewhere);
}

#[test]
fn what_was_written_and_never_acknowledged_counts_as_untold() {
    let mut split = Split::new(plan(&v4()));
    split.loser.mirror(7, false);
    for port in [1000, 1001] {
        connect(&mut split.loser, port);
    }
    split.loser.settle();
    let told = |lab: &mut Lab, port: u16| {
        let slot = lab.engine.flows.find(&lab.engine.flows.live_at(u32::from(port - 1000)).unwrap().client_key());
        let flow = lab.engine.flows.reference(slot.unwrap().0);
        (flow, lab.engine.record(flow).expect("it is there"))
    };
    let (flow, record) = told(&mut split.loser, 1000);
    split.loser.engine.handle_ack(split.loser.now, flow, record.stamp);
    let (_, unheard) = told(&mut split.loser, 1001);
    split.heal();
    assert_eq!(split.untold().iter().map(FlowRecord::client_key).collect::<Vec<_>>(), [unheard.client_key()]);
    // What a peer told this node that peer knows.
    let mut split = Split::new(plan(&v4()));
    split.loser.engine.apply_record(split.loser.now, &record, 3);
    split.heal();
    assert!(split.untold().is_empty());
    assert_eq!(split.lacking(None).len(), 1);
}

/// The same addresses as those of a connection of the winner that is over, which lingers.
#[test]
fn a_connection_that_lives_takes_the_place_of_one_that_is_over() {
    let mut split = Split::new(plan(&v4()));
    let (_, source) = connect(&mut split.winner, APART);
    let net = split.winner.net;
    split.winner.client(FIN_ACK, 101, 501, b"");
    split.winner.server(net.servers[0], source, (FIN_ACK, 501, 102), b"");
    split.winner.client(ACK, 102, 502, b"");
    let over = *split.winner.engine.flows.at(0);
    assert_eq!(over.state, crate::flow::FlowState::Tcp(crate::flow::tcp::TcpState::Closed));
    connect(&mut split.loser, APART);
    split.heal();
    let offer = split.untold()[0];
    assert_eq!(split.adopt(&offer), Offered::Adopted);
    let flow = split.winner.engine.flows.find(&offer.client_key()).map(|(slot, _)| *split.winner.engine.flows.at(slot));
    assert_eq!((split.winner.engine.counts().flows, flow.unwrap().source), (1, offer.source));
    assert_eq!(split.adopt(&offer), Offered::Known, "and that one lives");
}

#[test]
fn silence_ends_with_its_time() {
    let net = v4();
    let mut lab = Lab::new(net, plan(&net));
    lab.engine.keep_silent(lab.now + Duration::from_secs(1));
    assert_eq!(lab.client(ACK, 101, 7777, b""), Verdict::Drop(Drop::StraySilent));
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.client(ACK, 101, 7777, b""), Verdict::Drop(Drop::StrayReset));
}

#[test]
fn what_makes_room_before_it_was_adopted_is_counted() {
    let mut split = Split::new(plan(&v4()));
    split.loser = Lab::with_limits(v4(), plan(&v4()), Limits { max_flows: 2, ..Limits::default() });
    split.loser.engine.set_half(Half::Upper);
    connect(&mut split.winner, 1000);
    for port in [APART, APART + 1] {
        connect(&mut split.loser, port);
    }
    split.heal();
    split.tell();
    let counters = split.loser.engine.counters();
    assert_eq!((counters.stale_evicted, counters.aside_evicted, split.untold().len()), (1, 1, 1));
}
