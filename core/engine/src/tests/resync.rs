//! Sessions that follow others: only what differs is written.

use proptest::prelude::*;
use std::collections::BTreeSet;

use super::*;
use crate::{BUCKETS_PER_PART, BulkStep, FlowRecord, FlowRef, PARTS};

/// A primary with its flows and the secondary that follows it.
struct Pair {
    primary: Lab,
    secondary: Lab,
    session: u32,
    next_client: u16,
    /// Flow records that crossed since the session began.
    written: usize,
}

impl Pair {
    fn new() -> Pair {
        let net = v4();
        let primary = Lab::new(net, plan(&net));
        let secondary = primary.standby(plan(&net));
        Pair { primary, secondary, session: 0, next_client: 1000, written: 0 }
    }

    fn open(&mut self, flows: u16) {
        for _ in 0..flows {
            self.primary.net.client.port = self.next_client;
            self.next_client += 1;
            self.primary.establish();
        }
    }

    fn slots(&self) -> Vec<u32> {
        let flows = &self.primary.engine.flows;
        (0..flows.slots()).filter(|&slot| flows.live_at(slot).is_some()).collect()
    }

    /// Lets the `n`-th of the primary's flows change, or go.
    fn touch(&mut self, n: usize, close: bool) {
        let slots = self.slots();
        if let Some(&slot) = slots.get(n % slots.len().max(1)) {
            if close { self.primary.engine.close(slot) } else { self.primary.engine.mark(slot) }
        }
        self.primary.settle();
    }

    fn lose_peer(&mut self) {
        self.primary.engine.set_mirroring(self.primary.now, Mirroring::Off);
        self.primary.marks.clear();
    }

    fn begin(&mut self) {
        self.session += 1;
        self.written = 0;
        self.primary.marks.clear();
        self.primary.mirror(self.session, false);
        self.secondary.engine.begin_session(self.session);
    }

    /// Brings a record to the secondary, and its acknowledgement back.
    fn write(&mut self, flow: FlowRef) {
        let Some(record) = self.primary.engine.record(flow) else { return };
        self.secondary.engine.apply_record(self.secondary.now, &record, self.session);
        self.primary.engine.handle_ack(self.primary.now, flow, record.stamp);
        self.written += 1;
    }

    /// Marks cross in their order.
    fn deltas(&mut self) {
        self.primary.settle();
        for mark in std::mem::take(&mut self.primary.marks) {
            match mark {
                Mark::Flow(flow) => self.write(flow),
                Mark::Closed(_, close) => {
                    self.secondary.engine.apply_close(self.secondary.now, &close, self.session);
                }
                Mark::Persistence(_) => {}
            }
        }
    }

    fn compare(&mut self, parts: impl IntoIterator<Item = usize>) {
        for part in parts {
            let theirs: Vec<u64> = self.secondary.engine.summary(part).collect();
            let theirs: &[u64; BUCKETS_PER_PART] = theirs[..].try_into().expect("a part's buckets");
            let kept = self.primary.engine.compare_summary(part, theirs);
            // What waits was told after the decision: it crosses behind it.
            assert!(self.secondary.engine.keep_buckets(part, kept));
        }
    }

    fn bulk(&mut self) {
        let mut cursor = 0;
        loop {
            match self.primary.engine.next_for_bulk(&mut cursor, 5) {
                BulkStep::Flow(flow) => self.write(flow),
                BulkStep::Kept | BulkStep::Scanned => {}
                BulkStep::Done => return,
            }
        }
    }

    /// The whole of a session's beginning, and what it must lead to.
    fn synchronise(&mut self) {
        self.begin();
        self.compare(0..PARTS);
        self.bulk();
        self.deltas();
        self.converged();
    }

    fn converged(&mut self) {
        assert_eq!(self.primary.engine.digest(), self.secondary.engine.digest(), "the digests differ");
        let (ours, theirs) = (self.primary.engine.counts(), self.secondary.engine.counts());
        assert_eq!(ours.in_session, theirs.in_session);
        while !self.secondary.engine.sweep_stale(7) {}
        assert_eq!(table(&self.primary), table(&self.secondary));
        let (ours, theirs) = (self.primary.engine.counts(), self.secondary.engine.counts());
        assert_eq!((ours.in_session, ours.protected, ours.unprotected), (ours.flows, ours.flows, 0));
        assert_eq!((theirs.in_session, theirs.stale), (ours.flows, 0));
        assert_eq!(self.primary.engine.digest(), self.secondary.engine.digest(), "sweeping touches nothing");
    }
}

/// The flows of a node, as a successor sees them.
fn table(lab: &Lab) -> BTreeSet<(FlowKeyAndServer, u64)> {
    let flows = &lab.engine.flows;
    (0..flows.slots())
        .filter_map(|slot| flows.live_at(slot))
        .map(|flow| {
            let FlowRecord { stamp, server, .. } = flow.record();
            ((flow.client_key(), server), stamp)
        })
        .collect()
}

type FlowKeyAndServer = (crate::FlowKey, Endpoint);

#[test]
fn after_an_outage_only_what_differs_is_written() {
    let mut pair = Pair::new();
    pair.open(300);
    pair.synchronise();
    assert_eq!(pair.written, 300);
    pair.synchronise();
    assert_eq!(pair.written, 0, "nothing has changed");

    pair.lose_peer();
    pair.open(3);
    pair.touch(0, true);
    pair.touch(1, true);
    pair.touch(100, false);
    pair.synchronise();
    // The closed ones spoil a bucket each, with what else is in it.
    assert!((4..12).contains(&pair.written), "{} of 301 flows were written", pair.written);
}

#[test]
fn a_session_that_was_cut_short_is_resumed() {
    let mut pair = Pair::new();
    pair.open(200);
    pair.begin();
    pair.compare(0..PARTS);
    let mut cursor = 0;
    for _ in 0..120 {
        let BulkStep::Flow(flow) = pair.primary.engine.next_for_bulk(&mut cursor, 1) else { panic!("flows are left") };
        pair.write(flow);
    }
    pair.lose_peer();
    pair.synchronise();
    assert_eq!(pair.written, 80, "the first 120 are there");
}

#[test]
fn a_secondary_that_has_nothing_is_told_everything() {
    let mut pair = Pair::new();
    pair.open(50);
    pair.synchronise();
    pair.secondary.engine.clear(pair.secondary.now);
    pair.synchronise();
    assert_eq!(pair.written, 50);
    assert!(pair.primary.engine.has_summary());
}

#[test]
fn a_flow_that_goes_before_its_bucket_is_compared_is_not_left_behind() {
    let mut pair = Pair::new();
    pair.open(20);
    pair.synchronise();
    pair.begin();
    pair.touch(7, true);
    assert!(pair.primary.marks.is_empty(), "the peer does not count it as told in this session");
    pair.compare(0..PARTS);
    pair.bulk();
    pair.deltas();
    pair.converged();
    assert_eq!(pair.secondary.engine.counts().flows, 19);
}

#[test]
fn a_lost_flow_costs_its_bucket_only() {
    let mut pair = Pair::new();
    pair.open(100);
    pair.synchronise();
    pair.secondary.engine.close(3);
    assert_ne!(pair.primary.engine.digest(), pair.secondary.engine.digest(), "noticed");
    pair.synchronise();
    assert!((1..5).contains(&pair.written), "{} written", pair.written);
}

#[test]
fn flows_of_a_vserver_that_is_not_stateful_any_more_leave_both_nodes() {
    let mut pair = Pair::new();
    pair.open(10);
    pair.synchronise();
    let mut plan = pair.primary.plan();
    plan.vservers[0].failover = ConnFailover::Disabled;
    pair.primary.set_plan(plan);
    pair.lose_peer();
    pair.begin();
    pair.compare(0..PARTS);
    pair.bulk();
    pair.deltas();
    assert_eq!(pair.primary.engine.digest(), pair.secondary.engine.digest());
    while !pair.secondary.engine.sweep_stale(7) {}
    let counts = pair.primary.engine.counts();
    assert_eq!((counts.in_session, counts.protected, counts.unprotected), (0, 0, 0));
    assert_eq!(pair.secondary.engine.counts().flows, 0);
}

#[derive(Clone, Debug)]
enum Step {
    Open(u16),
    Touch(usize, bool),
    /// Marks cross.
    Deltas,
    /// The peer is gone for a while; what waits is lost.
    Outage,
    /// A session that goes no further than this many parts and slots.
    Attempt(usize, u32),
    /// The secondary loses a flow by itself.
    Lose(u32),
    /// The secondary begins with nothing.
    Restart,
    Synchronise,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u16..6).prop_map(Step::Open),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(n, close)| Step::Touch(n, close)),
        3 => Just(Step::Deltas),
        1 => Just(Step::Outage),
        1 => (0..=PARTS, 0u32..40).prop_map(|(parts, slots)| Step::Attempt(parts, slots)),
        1 => (0u32..40).prop_map(Step::Lose),
        1 => Just(Step::Restart),
        2 => Just(Step::Synchronise),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened between and during sessions, a session that is carried
    /// through leaves both nodes with the same flows, all of them protected.
    #[test]
    fn every_session_converges(steps in prop::collection::vec(step(), 1..40)) {
        let mut pair = Pair::new();
        pair.synchronise();
        for step in steps {
            match step {
                Step::Open(flows) => pair.open(flows),
                Step::Touch(n, close) => pair.touch(n, close),
                Step::Deltas => pair.deltas(),
                Step::Outage => pair.lose_peer(),
                Step::Attempt(parts, slots) => {
                    pair.begin();
                    pair.compare(0..parts);
                    let mut cursor = 0;
                    if let BulkStep::Flow(flow) = pair.primary.engine.next_for_bulk(&mut cursor, slots) {
                        pair.write(flow);
                    }
                    pair.compare(0..parts);
                }
                Step::Lose(slot) => {
                    if pair.secondary.engine.flows.live_at(slot).is_some() {
                        pair.secondary.engine.close(slot);
                    }
                }
                Step::Restart => pair.secondary.engine.clear(pair.secondary.now),
                Step::Synchronise => pair.synchronise(),
            }
        }
        pair.synchronise();
    }

    /// As above, with flows that change while the buckets are being compared and walked.
    #[test]
    fn changes_during_a_session_are_not_lost(
        before in prop::collection::vec((any::<usize>(), any::<bool>()), 0..12),
        during in prop::collection::vec((0..PARTS, any::<usize>(), any::<bool>(), any::<bool>()), 0..12),
    ) {
        let mut pair = Pair::new();
        pair.open(30);
        pair.synchronise();
        pair.lose_peer();
        before.into_iter().for_each(|(n, close)| pair.touch(n, close));
        pair.begin();
        let mut done = 0;
        for (part, n, close, deltas) in during {
            pair.compare(done..part.max(done));
            done = part.max(done);
            pair.touch(n, close);
            if deltas {
                pair.deltas();
            }
            let mut cursor = (n % 30) as u32;
            if let BulkStep::Flow(flow) = pair.primary.engine.next_for_bulk(&mut cursor, 3) {
                pair.write(flow);
            }
        }
        pair.deltas();
        pair.compare(done..PARTS);
        pair.bulk();
        pair.deltas();
        pair.converged();
    }
}

#[test]
fn fields_of_another_version_stay_with_their_flow_and_are_passed_on() {
    let net = v4();
    let mut primary = Lab::new(net, plan(&net));
    primary.establish();
    primary.net.client.port += 1;
    primary.establish();
    primary.mirror(1, false);
    let records = primary.records();
    let limits = Limits { max_tails: 1, ..Limits::default() };
    let mut other = Lab::with_limits(net, plan(&net), limits);
    other.engine.set_gate(other.now, Gate::Closed);
    let tail = [1, 3, 7, 8, 9];
    let kept = records.iter().map(|record| {
        other.engine.apply_record(other.now, record, 1);
        other.engine.set_tail(&record.client_key(), &tail)
    });
    assert_eq!(kept.collect::<Vec<_>>(), [true, false]);
    assert_eq!(other.engine.counters().tails_lost, 1, "there is room for one");

    other.engine.set_gate(other.now, Gate::Open);
    other.engine.promote(other.now);
    other.mirror(2, false);
    let mut cursor = 0;
    let BulkStep::Flow(first) = other.engine.next_for_bulk(&mut cursor, 9) else { panic!("two flows") };
    let BulkStep::Flow(second) = other.engine.next_for_bulk(&mut cursor, 9) else { panic!("two flows") };
    assert_eq!((other.engine.tail(first), other.engine.tail(second)), (&tail[..], &[][..]));

    other.engine.close(first.slot);
    assert_eq!(other.engine.tail(first), [], "it goes with its flow");
    other.engine.set_tail(&records[1].client_key(), &tail);
    assert_eq!(other.engine.tail(second), tail, "and leaves its place to others");
    other.engine.set_tail(&records[1].client_key(), &[]);
    assert_eq!(other.engine.tail(second), [], "a later record without any clears them");
}

/// The table is full, and what makes room for a new flow is counted on by the primary.
#[test]
fn a_flow_that_made_room_is_not_taken_for_kept() {
    let net = v4();
    let mut pair = Pair::new();
    let mut secondary = Lab::with_limits(net, plan(&net), Limits { max_flows: 20, ..Limits::default() });
    secondary.engine.set_gate(secondary.now, Gate::Closed);
    pair.secondary = secondary;
    pair.open(20);
    pair.synchronise();
    pair.begin();
    pair.open(1);
    pair.deltas();
    assert_eq!(pair.secondary.engine.counters().stale_evicted, 1);
    let mut complete = true;
    for part in 0..PARTS {
        let theirs: Vec<u64> = pair.secondary.engine.summary(part).collect();
        let kept = pair.primary.engine.compare_summary(part, theirs[..].try_into().expect("a part's buckets"));
        complete &= pair.secondary.engine.keep_buckets(part, kept);
    }
    assert!(!complete);
}

#[test]
fn what_no_peer_was_told_of_does_not_wait_for_the_summary() {
    let mut pair = Pair::new();
    pair.open(10);
    pair.synchronise();
    pair.lose_peer();
    pair.open(3);
    pair.begin();
    let mut cursor = 0;
    let mut found = 0;
    loop {
        match pair.primary.engine.next_untold(&mut cursor, 4) {
            BulkStep::Flow(flow) => {
                pair.write(flow);
                found += 1;
            }
            BulkStep::Kept | BulkStep::Scanned => {}
            BulkStep::Done => break,
        }
    }
    assert_eq!((found, pair.secondary.engine.counts().flows), (3, 13));
    pair.compare(0..PARTS);
    pair.bulk();
    pair.deltas();
    pair.converged();
    assert_eq!(pair.written, 3);
}

/// The vserver stops being STATEFUL while something of it is on its way to the peer.
fn disable(lab: &mut Lab) {
    let mut plan = lab.plan();
    plan.vservers[0].failover = ConnFailover::Disabled;
    lab.set_plan(plan);
    let mut cursor = 0;
    while lab.engine.next_for_bulk(&mut cursor, 64) != BulkStep::Done {}
}

fn mirrored(lab: &Lab) -> (u32, u32, u32) {
    let counts = lab.engine.counts();
    (counts.in_session, counts.protected, counts.unprotected)
}

#[test]
fn a_flow_on_hold_when_its_vserver_stops_being_stateful_leaves_with_its_hold() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, true);
    lab.client(SYN, 100, 0, b"");
    let syn = lab.next().packet();
    lab.server(syn.destination(), syn.source(), (SYN_ACK, 500, 101), b"");
    let [Mark::Flow(flow)] = lab.marks[..] else { panic!("{:?}", lab.marks) };
    let record = lab.engine.record(flow).expect("alive");
    disable(&mut lab);
    assert_eq!(lab.next().tcp().flags, SYN_ACK);
    assert_eq!((lab.engine.counts().held, lab.engine.counters().hold_released_unprotected), (0, 0));
    lab.engine.handle_ack(lab.now, flow, record.stamp);
    lab.settle();
    assert_eq!(mirrored(&lab), (0, 0, 0));
    assert!(matches!(lab.marks[..], [Mark::Flow(_), Mark::Closed(..)]), "and the peer forgets it: {:?}", lab.marks);
}

#[test]
fn a_mark_that_waits_when_its_vserver_stops_being_stateful_writes_nothing() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, false);
    lab.establish();
    let [Mark::Flow(flow)] = lab.marks[..] else { panic!("{:?}", lab.marks) };
    disable(&mut lab);
    assert_eq!(lab.engine.record(flow), None);
    assert_eq!(mirrored(&lab), (0, 0, 0));
}

#[test]
fn a_walk_goes_no_further_than_it_is_told() {
    let mut pair = Pair::new();
    pair.open(200);
    pair.synchronise();
    pair.lose_peer();
    pair.open(1);
    pair.begin();
    let mut cursor = 0;
    for end in [64, 128, 192] {
        assert_eq!(pair.primary.engine.next_untold(&mut cursor, 64), BulkStep::Scanned);
        assert_eq!(cursor, end);
    }
    assert!(matches!(pair.primary.engine.next_untold(&mut cursor, 64), BulkStep::Flow(_)));
}

#[test]
fn a_hold_that_ends_behind_a_closed_gate_lets_nothing_go() {
    let mut lab = Lab::new(v4(), plan(&v4()));
    lab.mirror(1, true);
    lab.until_held();
    lab.engine.set_gate(lab.now, Gate::Closed);
    lab.pass(Duration::from_millis(1001));
    lab.nothing();
    assert_eq!((lab.engine.counts().held, lab.engine.counters().hold_released_unprotected), (0, 0));
}
