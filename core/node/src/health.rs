//! Service health: which probes are due, and what their outcomes mean.
//!
//! The primary probes; a secondary only keeps what the primary mirrored, so
//! that after a promotion selection goes on from the same picture while the
//! first own probes are still under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use core::net::IpAddr;
use core::time::Duration;
use holdfast_base::Instant;

use crate::effect::{ProbeKind, ProbeOutcome, ProbeRequest};
use crate::probe::{Carrier, Inquiry, Script};

/// Extra time granted to the prober beyond the probe's own time-out.
const PROBER_GRACE: Duration = Duration::from_secs(1);
/// First probes of many services are spread by this much each, up to one interval.
const FIRST_PROBE_SPREAD: Duration = Duration::from_millis(2);

/// What one monitor of one service asks, and how it judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorSpec {
    /// Name in the configuration.
    pub name: String,
    /// How to ask.
    pub kind: ProbeKind,
    /// A good answer counts as a failure, and the lack of one as a success.
    pub reverse: bool,
    /// Its share when the service has a threshold.
    pub weight: u32,
    /// Ask this address instead of the server's.
    pub addr: Option<IpAddr>,
    /// Ask this TCP port instead of the service's.
    pub port: Option<u16>,
    /// Time between probes.
    pub interval: Duration,
    /// Time for an answer.
    pub timeout: Duration,
    /// Latest probes that count for its end, at most 127.
    pub retries: u32,
    /// How many of them must have failed to make it DOWN; 0: all.
    pub failure_retries: u32,
    /// Consecutive successes that make it UP again.
    pub success_retries: u32,
    /// Time to the next probe after it went DOWN.
    pub down_time: Duration,
}

/// A service to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its number in the configuration.
    pub id: u32,
    /// Whom to ask.
    pub addr: IpAddr,
    /// TCP or UDP port.
    pub port: u16,
    /// Sum of the weights of UP monitors that makes it UP; 0 asks for all of them.
    pub threshold: u32,
    /// None: always UP.
    pub monitors: Vec<MonitorSpec>,
}

/// A monitor's state, for `show service`.
#[derive(Clone, Debug)]
pub struct MonitorState {
    /// What it asks.
    pub spec: MonitorSpec,
    /// Its verdict; `None` before the first.
    pub up: Option<bool>,
    /// Probes answered or timed out.
    pub probes: u64,
    /// Failures since the start.
    pub failed: u64,
    /// Failures in a row.
    pub failed_in_row: u32,
    /// The last outcome's text.
    pub last_response: String,
    /// The last outcome's duration.
    pub took: Duration,
    /// How long good answers take, a new one counting a quarter.
    smoothed: Option<Duration>,
    succeeded_in_row: u32,
    /// The latest probes, the last one in the lowest bit; set where they failed.
    failures: u128,
    next: Instant,
    outstanding: Option<u64>,
}

/// A service's state, for `show service` and selection.
#[derive(Clone, Debug)]
pub struct ServiceState {
    /// Usable by selection.
    pub up: bool,
    /// When `up` last changed.
    pub since: Instant,
    /// Its monitors.
    pub monitors: Vec<MonitorState>,
    addr: IpAddr,
    port: u16,
    threshold: u32,
}

/// All services of the node.
#[derive(Debug, Default)]
pub struct Health {
    services: BTreeMap<u32, ServiceState>,
    due: BTreeSet<(Instant, u32, usize)>,
    outstanding: BTreeMap<u64, (u32, usize)>,
    last_probe: u64,
    active: bool,
    probes: VecDeque<ProbeRequest>,
    changes: VecDeque<(u32, bool)>,
    /// Services whose response time is another one.
    timed: BTreeSet<u32>,
}

impl Health {
    /// The configuration's services; complete list. What did not change keeps its state.
    pub fn set_services(&mut self, now: Instant, specs: Vec<ServiceSpec>) {
        let mut old = core::mem::take(&mut self.services);
        for (order, spec) in specs.into_iter().enumerate() {
            let id = spec.id;
            let state = match old.remove(&id) {
                Some(state) if state.matches(&spec) => ServiceState { threshold: spec.threshold, ..state },
                Some(state) => ServiceState::new(spec, state.up, state.since, now),
                None => ServiceState::new(spec, false, now, now + FIRST_PROBE_SPREAD * (order as u32).min(1000)),
            };
            self.services.insert(id, state);
            self.judge(now, id);
        }
        self.reschedule();
    }

    /// Probe (primary, standalone) or only listen (secondary).
    pub fn set_active(&mut self, now: Instant, active: bool) {
        if self.active == active {
            return;
        }
        self.active = active;
        self.outstanding.clear();
        for (order, state) in (0u32..).zip(self.services.values_mut()) {
            for monitor in &mut state.monitors {
                monitor.outstanding = None;
                monitor.next = now + FIRST_PROBE_SPREAD * order.min(1000);
                // The mirrored verdict stands until this node's own first one.
                monitor.failed_in_row = 0;
                monitor.failures = 0;
                monitor.up = active.then_some(state.up);
            }
        }
        self.reschedule();
    }

    /// The primary says that service `id` is up or down.
    pub fn set_mirrored(&mut self, now: Instant, id: u32, up: bool) {
        let Some(state) = self.services.get_mut(&id) else { return };
        if !self.active && state.up != up {
            state.up = up;
            state.since = now;
            self.changes.push_back((id, up));
        }
    }

    /// What a probe found. An id nobody waits for is ignored.
    pub fn handle_outcome(&mut self, now: Instant, probe: u64, outcome: &ProbeOutcome) {
        let Some((id, index)) = self.outstanding.remove(&probe) else { return };
        let Some(monitor) = self.services.get_mut(&id).and_then(|state| state.monitors.get_mut(index)) else { return };
        self.due.remove(&(monitor.next, id, index));
        monitor.outstanding = None;
        monitor.note(now, outcome);
        self.due.insert((monitor.next, id, index));
        if outcome.ok {
            self.timed.insert(id);
        }
        self.judge(now, id);
    }

    /// Starts the probes that are due and gives up on answers that are overdue.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.active {
            let Some(&(at, id, index)) = self.due.first() else { break };
            if at > now {
                break;
            }
            self.due.pop_first();
            self.start_probe(now, id, index);
        }
    }

    /// When to call [`Health::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.active { self.due.first().map(|&(at, _, _)| at) } else { None }
    }

    /// The next probe to make.
    pub fn poll_probe(&mut self) -> Option<ProbeRequest> {
        self.probes.pop_front()
    }

    /// The next service whose usability changed.
    pub fn poll_change(&mut self) -> Option<(u32, bool)> {
        self.changes.pop_front()
    }

    /// The next service whose response time is another one: the mean over its monitors, each smoothed over its
    /// latest answers.
    pub fn poll_response_time(&mut self) -> Option<(u32, Duration)> {
        while let Some(id) = self.timed.pop_first() {
            let Some(state) = self.services.get(&id) else { continue };
            let times: Vec<Duration> = state.monitors.iter().filter_map(|monitor| monitor.smoothed).collect();
            if let Some(count) = u32::try_from(times.len()).ok().filter(|count| *count > 0) {
                return Some((id, times.iter().sum::<Duration>() / count));
            }
        }
        None
    }

    /// A service's state.
    pub fn service(&self, id: u32) -> Option<&ServiceState> {
        self.services.get(&id)
    }

    fn start_probe(&mut self, now: Instant, id: u32, index: usize) {
        let Some(state) = self.services.get_mut(&id) else { return };
        let (addr, port) = (state.addr, state.port);
        let Some(monitor) = state.monitors.get_mut(index) else { return };
        if let Some(overdue) = monitor.outstanding.take() {
            self.outstanding.remove(&overdue);
            let outcome = ProbeOutcome {
                ok: false,
                text: "Failure - Probe was not carried out in time.".into(),
                took: monitor.spec.timeout,
            };
            monitor.note(now, &outcome);
            self.due.insert((monitor.next, id, index));
            self.judge(now, id);
            return;
        }
        self.last_probe += 1;
        let probe = self.last_probe;
        monitor.outstanding = Some(probe);
        let timeout = monitor.spec.timeout;
        monitor.next = now + timeout + PROBER_GRACE;
        self.outstanding.insert(probe, (id, index));
        self.due.insert((monitor.next, id, index));
        self.probes.push_back(ProbeRequest {
            id: probe,
            kind: monitor.spec.kind.clone(),
            reverse: monitor.spec.reverse,
            addr: monitor.spec.addr.unwrap_or(addr),
            port: monitor.spec.port.unwrap_or(port),
            timeout,
        });
    }

    /// Recomputes a service's usability from its monitors.
    fn judge(&mut self, now: Instant, id: u32) {
        let Some(state) = self.services.get_mut(&id) else { return };
        if !self.active && !state.monitors.is_empty() {
            return;
        }
        let up = state.is_up();
        if up != state.up {
            state.up = up;
            state.since = now;
            self.changes.push_back((id, up));
        }
    }

    fn reschedule(&mut self) {
        self.due.clear();
        self.outstanding.clear();
        for (&id, state) in &self.services {
            for (index, monitor) in state.monitors.iter().enumerate() {
                self.due.insert((monitor.next, id, index));
                if let Some(probe) = monitor.outstanding {
                    self.outstanding.insert(probe, (id, index));
                }
            }
        }
    }
}

impl ServiceState {
    fn new(spec: ServiceSpec, up: bool, since: Instant, first_probe: Instant) -> ServiceState {
        let monitors = spec.monitors.into_iter().map(|monitor| MonitorState::new(monitor, first_probe)).collect();
        ServiceState { up, since, monitors, addr: spec.addr, port: spec.port, threshold: spec.threshold }
    }

    /// What its monitors say together.
    fn is_up(&self) -> bool {
        let up = |monitor: &&MonitorState| monitor.up == Some(true);
        match self.threshold {
            0 => self.monitors.iter().all(|monitor| up(&monitor)),
            threshold => {
                let weight: u32 = self.monitors.iter().filter(up).map(|monitor| monitor.spec.weight).sum();
                self.monitors.is_empty() || weight >= threshold
            }
        }
    }

    fn matches(&self, spec: &ServiceSpec) -> bool {
        self.addr == spec.addr
            && self.port == spec.port
            && self.monitors.iter().map(|state| &state.spec).eq(spec.monitors.iter())
    }
}

impl MonitorState {
    fn new(spec: MonitorSpec, next: Instant) -> MonitorState {
        MonitorState {
            spec,
            up: None,
            probes: 0,
            failed: 0,
            failed_in_row: 0,
            last_response: "Probe not yet sent.".into(),
            took: Duration::ZERO,
            smoothed: None,
            succeeded_in_row: 0,
            failures: 0,
            next,
            outstanding: None,
        }
    }

    /// Books one outcome and decides when to ask again.
    fn note(&mut self, now: Instant, outcome: &ProbeOutcome) {
        self.probes += 1;
        self.last_response.clone_from(&outcome.text);
        self.took = outcome.took;
        self.next = now + self.spec.interval;
        self.failures = self.failures << 1 | u128::from(!outcome.ok);
        if outcome.ok {
            if self.spec.tells_time() {
                self.smoothed = Some(self.smoothed.map_or(outcome.took, |before| (before * 3 + outcome.took) / 4));
            }
            self.failed_in_row = 0;
            self.succeeded_in_row += 1;
            if self.succeeded_in_row >= self.spec.success_retries && self.up != Some(true) {
                self.up = Some(true);
                // What made it DOWN has been answered for.
                self.failures = 0;
            }
            return;
        }
        self.failed += 1;
        self.succeeded_in_row = 0;
        self.failed_in_row = self.failed_in_row.saturating_add(1);
        if self.has_failed() {
            if self.up == Some(true) {
                self.next = now + self.spec.down_time;
            }
            self.up = Some(false);
        }
    }

    /// Enough of the latest probes have failed. Those before the first one count as good.
    fn has_failed(&self) -> bool {
        let latest = self.failures & !(u128::MAX << self.spec.retries.min(127));
        let enough = if self.spec.failure_retries == 0 { self.spec.retries } else { self.spec.failure_retries };
        latest.count_ones() >= enough
    }
}

impl MonitorSpec {
    /// Its good outcomes come as soon as the server answers: not if it is reversed, or listens for nothing but an error.
    fn tells_time(&self) -> bool {
        let listens = match &self.kind {
            ProbeKind::Ask(Inquiry { carrier: Carrier::Udp, script: Script::Pattern { receive, .. } }) => {
                !receive.is_empty()
            }
            ProbeKind::Ask(_) | ProbeKind::Ping => true,
        };
        listens && !self.reverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: u32) -> ServiceSpec {
        let monitor = MonitorSpec {
            name: "tcp-default".into(),
            kind: ProbeKind::TCP,
            reverse: false,
            weight: 1,
            addr: None,
            port: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            retries: 3,
            failure_retries: 0,
            success_retries: 1,
            down_time: Duration::from_secs(30),
        };
        ServiceSpec { id, addr: "198.51.100.21".parse().unwrap(), port: 80, threshold: 0, monitors: vec![monitor] }
    }

    fn outcome(ok: bool) -> ProbeOutcome {
        ProbeOutcome { ok, text: "x".into(), took: Duration::from_millis(1) }
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn probe(health: &mut Health, now: Instant, ok: bool) {
        health.handle_timeout(now);
        let request = health.poll_probe().expect("a probe is due");
        health.handle_outcome(now, request.id, &outcome(ok));
    }

    #[test]
    fn one_success_brings_a_service_up_and_three_failures_take_it_down() {
        let mut health = Health::default();
        health.set_services(at(0), vec![spec(1)]);
        assert_eq!(health.poll_timeout(), None, "a secondary does not probe");
        health.set_active(at(0), true);
        probe(&mut health, at(0), true);
        assert_eq!(health.poll_change(), Some((1, true)));
        probe(&mut health, at(5), false);
        probe(&mut health, at(10), false);
        assert_eq!(health.poll_change(), None);
        probe(&mut health, at(15), false);
        assert_eq!(health.poll_change(), Some((1, false)));
        assert_eq!(health.poll_timeout(), Some(at(45)), "down time");
    }

    #[test]
    fn a_promoted_secondary_keeps_the_mirrored_verdict_until_its_own() {
        let mut health = Health::default();
        health.set_services(at(0), vec![spec(1)]);
        health.set_mirrored(at(1), 1, true);
        assert_eq!(health.poll_change(), Some((1, true)));
        health.set_active(at(2), true);
        assert_eq!(health.poll_change(), None);
        probe(&mut health, at(2), false);
        assert!(health.service(1).unwrap().up, "one failed probe is not three");
    }

    #[test]
    fn an_answer_that_never_comes_counts_as_a_failure() {
        let mut health = Health::default();
        health.set_services(at(0), vec![spec(1)]);
        health.set_active(at(0), true);
        health.handle_timeout(at(0));
        assert!(health.poll_probe().is_some());
        health.handle_timeout(at(3));
        assert_eq!(health.service(1).unwrap().monitors[0].failed, 1);
    }

    #[test]
    fn the_response_time_is_smoothed_over_good_answers() {
        let mut health = Health::default();
        health.set_services(at(0), vec![spec(1)]);
        health.set_active(at(0), true);
        let mut answer = |seconds, ok, millis| {
            health.handle_timeout(at(seconds));
            let request = health.poll_probe().expect("a probe is due");
            let outcome = ProbeOutcome { ok, text: "x".into(), took: Duration::from_millis(millis) };
            health.handle_outcome(at(seconds), request.id, &outcome);
            health.poll_response_time()
        };
        assert_eq!(answer(0, true, 8), Some((1, Duration::from_millis(8))));
        assert_eq!(answer(5, true, 4), Some((1, Duration::from_millis(7))));
        assert_eq!(answer(10, false, 2000), None, "no answer says nothing of how long one takes");
        assert_eq!(answer(15, true, 7), Some((1, Duration::from_millis(7))));
    }

    #[test]
    fn a_service_with_a_threshold_is_up_while_enough_weight_is() {
        let mut health = Health::default();
        let one = |name: &str, weight| MonitorSpec { name: name.into(), weight, ..spec(1).monitors[0].clone() };
        let both = ServiceSpec { threshold: 5, monitors: vec![one("light", 2), one("heavy", 5)], ..spec(1) };
        health.set_services(at(0), vec![both.clone()]);
        health.set_active(at(0), true);
        let round = |health: &mut Health, seconds, light, heavy| {
            health.handle_timeout(at(seconds));
            for ok in [light, heavy] {
                let request = health.poll_probe().expect("two probes are due");
                health.handle_outcome(at(seconds), request.id, &outcome(ok));
            }
        };
        round(&mut health, 0, true, false);
        assert!(!health.service(1).unwrap().up, "2 of 5");
        round(&mut health, 5, false, true);
        assert!(health.service(1).unwrap().up, "2 and 5, as the first failure of the light one does not count yet");
        round(&mut health, 10, false, true);
        round(&mut health, 15, false, true);
        assert!(health.service(1).unwrap().up, "5 of 5 without the light one");
        let probes = health.service(1).unwrap().monitors[0].probes;
        health.set_services(at(15), vec![ServiceSpec { threshold: 0, ..both.clone() }]);
        assert!(!health.service(1).unwrap().up, "all of them are asked for");
        assert_eq!(health.service(1).unwrap().monitors[0].probes, probes, "another threshold begins nothing anew");
        health.set_services(at(15), vec![ServiceSpec { threshold: 8, ..both }]);
        assert!(!health.service(1).unwrap().up, "more than there is");
    }

    #[test]
    fn two_failures_among_three_probes_are_enough_if_they_are_told_to_be() {
        let mut health = Health::default();
        let monitor = MonitorSpec { failure_retries: 2, ..spec(1).monitors[0].clone() };
        health.set_services(at(0), vec![ServiceSpec { monitors: vec![monitor], ..spec(1) }]);
        health.set_active(at(0), true);
        for (seconds, ok, up) in [
            (0, true, true),
            (5, false, true),
            (10, true, true),
            (15, true, true),
            (20, false, true),
            (25, true, true),
            (30, false, false),
        ] {
            probe(&mut health, at(seconds), ok);
            assert_eq!(health.service(1).unwrap().up, up, "after {seconds} s");
        }
        probe(&mut health, at(60), true);
        probe(&mut health, at(65), false);
        assert!(health.service(1).unwrap().up, "former failures are forgotten once it is UP again");
    }

    #[test]
    fn what_waits_for_nothing_says_nothing_of_how_long_an_answer_takes() {
        let silent = |receive: &[u8]| {
            let script = Script::Pattern { send: b"x".to_vec(), receive: receive.to_vec() };
            ProbeKind::Ask(Inquiry { carrier: Carrier::Udp, script })
        };
        let base = spec(1).monitors[0].clone();
        assert!(base.tells_time());
        assert!(!MonitorSpec { reverse: true, ..base.clone() }.tells_time());
        assert!(!MonitorSpec { kind: silent(b""), ..base.clone() }.tells_time());
        assert!(MonitorSpec { kind: silent(b"y"), ..base }.tells_time());
    }

    #[test]
    fn without_monitors_a_service_is_up() {
        let mut health = Health::default();
        health.set_services(at(0), vec![ServiceSpec { monitors: Vec::new(), ..spec(1) }]);
        assert_eq!(health.poll_change(), Some((1, true)));
    }
}
