//! Broken on purpose: each variant must be caught by the checkers, and the
//! same runs must pass when nothing is broken.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_sim::link::Manners;
use holdfast_sim::machine::Sabotage;
use holdfast_sim::scenario::{DISABLED, DISABLED_USIP, Fault, Opening, SNAT, STICKY, UDP, USIP};
use holdfast_sim::steps::{Failure, SetUp, during_set_up, set_ups};
use holdfast_sim::{Report, Scenario, run};

/// Seeds among which a broken variant must be caught.
const SEEDS: u64 = 10;

fn at_ms(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

/// The findings of all seeds.
fn findings(scenario: impl Fn(u64) -> Scenario) -> Vec<String> {
    (1..=SEEDS).flat_map(|seed| run(scenario(seed)).violations).collect()
}

/// Connections are opened one after the other and the primary dies in between,
/// while the peer link is slow.
fn kill_among_openings(seed: u64, mirror_mode: &'static str) -> Scenario {
    let peer_manners = Manners { delay: Duration::from_millis(15), ..Manners::CALM };
    let opening = |n: u64| Opening {
        bytes: 500,
        ..Opening::plain(
            at_ms(2000) + Duration::from_millis(n * 4),
            [SNAT, USIP][(n % 2) as usize],
            n.is_multiple_of(3),
        )
    };
    // Without a preference the first machine, having the lower address, leads.
    let faults = vec![(at_ms(2100 + seed), Fault::Kill(0)), (at_ms(4000), Fault::Start(0))];
    Scenario { peer_manners, mirror_mode, opens: (0..50).map(opening).collect(), faults, ..Scenario::quiet(seed) }
}

#[test]
fn without_the_hold_connections_are_lost() {
    assert_eq!(findings(|seed| kill_among_openings(seed, "STRICT")), Vec::<String>::new());
    let found = findings(|seed| kill_among_openings(seed, "ASYNC"));
    assert!(found.iter().any(|what| what.contains("let through")), "not caught: {found:?}");
}

/// Long connections and exchanges, and then the primary dies.
fn kill_amid_transfers(seed: u64, kinds: &[usize], sabotage: Sabotage, extra: &str) -> Scenario {
    let opening = |n: u64| {
        let kind = kinds[n as usize % kinds.len()];
        Opening::plain(at_ms(2000) + Duration::from_millis(n * 20), kind, n.is_multiple_of(3))
    };
    let faults = vec![(at_ms(2600 + seed), Fault::Kill(0)), (at_ms(5000), Fault::Start(0))];
    let extra_config = [extra.to_string(), extra.to_string()];
    Scenario {
        servers: 3,
        opens: (0..20).map(opening).collect(),
        faults,
        sabotage,
        extra_config,
        ..Scenario::quiet(seed)
    }
}

#[test]
fn a_successor_that_knows_nothing_loses_connections() {
    let kinds = [SNAT, USIP, STICKY];
    assert_eq!(findings(|seed| kill_amid_transfers(seed, &kinds, Sabotage::None, "")), Vec::<String>::new());
    let found = findings(|seed| kill_amid_transfers(seed, &kinds, Sabotage::ForgetFlows, ""));
    assert!(found.iter().any(|what| what.contains("must survive") && what.contains("Lost")), "not caught: {found:?}");
}

#[test]
fn a_successor_that_knows_nothing_moves_exchanges() {
    assert_eq!(findings(|seed| kill_amid_transfers(seed, &[UDP], Sabotage::None, "")), Vec::<String>::new());
    let found = findings(|seed| kill_amid_transfers(seed, &[UDP], Sabotage::ForgetFlows, ""));
    assert!(found.iter().any(|what| what.contains("moved from")), "not caught: {found:?}");
}

#[test]
fn a_vserver_that_does_less_than_promised_is_noticed() {
    let extra = "set lb vserver usip-v4 -connFailover DISABLED\nset lb vserver usip-v6 -connFailover DISABLED\n";
    let found = findings(|seed| kill_amid_transfers(seed, &[USIP], Sabotage::None, extra));
    assert!(found.iter().any(|what| what.contains("let through")), "not caught: {found:?}");
}

#[test]
fn a_vserver_that_does_more_than_promised_is_noticed() {
    let kinds = [DISABLED, DISABLED_USIP];
    assert_eq!(findings(|seed| kill_amid_transfers(seed, &kinds, Sabotage::None, "")), Vec::<String>::new());
    let on = |name: &str| format!("set lb vserver {name} -connFailover STATEFUL\n");
    let extra = ["disabled-v4", "disabled-v6", "disabled-usip-v4", "disabled-usip-v6"].map(on).concat();
    let found = findings(|seed| kill_amid_transfers(seed, &kinds, Sabotage::None, &extra));
    assert!(found.iter().any(|what| what.contains("cannot know it")), "not caught: {found:?}");
}

/// A primary dies, and what it stored is all it remembers.
fn both_die(seed: u64, sabotage: Sabotage) -> Scenario {
    let faults = vec![
        (at_ms(2000), Fault::Kill(1)),
        (at_ms(2500), Fault::Kill(0)),
        (at_ms(3000), Fault::Start(0)),
        (at_ms(5000), Fault::Start(1)),
    ];
    Scenario { faults, sabotage, ..Scenario::quiet(seed) }
}

#[test]
fn a_term_that_was_not_stored_is_given_twice() {
    assert_eq!(findings(|seed| both_die(seed, Sabotage::None)), Vec::<String>::new());
    let found = findings(|seed| both_die(seed, Sabotage::ForgetTerm));
    assert!(found.iter().any(|what| what.contains("lead in term")), "not caught: {found:?}");
}

/// The primary stands still amid traffic and on waking up has lost what the
/// peer sent meanwhile.
fn frozen_primary(seed: u64, sabotage: Sabotage) -> Scenario {
    let opening = |n: u64| {
        Opening::plain(at_ms(2000) + Duration::from_millis(n * 20), [SNAT, USIP][(n % 2) as usize], n.is_multiple_of(3))
    };
    let faults = vec![(at_ms(2200 + seed), Fault::Freeze(0, Duration::from_millis(900)))];
    Scenario { opens: (0..40).map(opening).collect(), faults, deaf_thaw: true, sabotage, ..Scenario::quiet(seed) }
}

#[test]
fn a_lease_that_does_not_end_lets_a_frozen_primary_forward() {
    assert_eq!(findings(|seed| frozen_primary(seed, Sabotage::None)), Vec::<String>::new());
    let found = findings(|seed| frozen_primary(seed, Sabotage::ForgetLease));
    assert!(
        found.iter().any(|what| what.contains("after its lease") || what.contains("both nodes")),
        "not caught: {found:?}"
    );
}

#[test]
fn a_run_is_decided_by_its_seed() {
    for seed in [1, 17, 4242] {
        let [a, b]: [Report; 2] = [seed, seed].map(holdfast_sim::run_traced);
        assert_eq!(a, b);
    }
}

/// What judges the product takes nothing of it but the type of a point in time.
#[test]
fn the_model_shares_no_code_with_the_product() {
    for source in [include_str!("../src/reference.rs"), include_str!("../src/sight.rs")] {
        let of_the_product = source.replace("use holdfast_base::Instant;", "");
        assert!(!of_the_product.contains("holdfast_"), "the model leans on the product");
    }
}

#[test]
fn a_failure_at_every_step_finds_a_successor_that_knows_nothing() {
    for set_up in set_ups().into_iter().filter(|set_up| set_up.vserver == SNAT && !set_up.v6) {
        let broken = SetUp { sabotage: Sabotage::ForgetFlows, ..set_up };
        let found = during_set_up(broken, Failure::KillPrimary).violations;
        assert!(found.iter().any(|what| what.contains("must survive")), "not caught: {found:?}");
    }
}
