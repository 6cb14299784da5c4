//! Broken on purpose: each variant must be caught by the checkers, and the
//! same runs must pass when nothing is broken.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_node::Node;
use holdfast_sim::check::Checker;
use holdfast_sim::link::Manners;
use holdfast_sim::machine::Sabotage;
use holdfast_sim::scenario::{DISABLED, DISABLED_USIP, Fault, Opening, SNAT, STICKY, UDP, USIP};
use holdfast_sim::steps::{Failure, SetUp, during_set_up, set_ups};
use holdfast_sim::{Report, Scenario, Story, run};

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

/// Connections and exchanges in a pair that nothing befalls, with further lines of configuration.
fn quiet_traffic(seed: u64, sabotage: Sabotage, extra: &str) -> Scenario {
    Scenario { faults: Vec::new(), ..kill_amid_transfers(seed, &[SNAT, UDP, STICKY], sabotage, extra) }
}

#[test]
fn an_acknowledged_record_that_is_dropped_is_noticed() {
    assert_eq!(findings(|seed| quiet_traffic(seed, Sabotage::None, "")), Vec::<String>::new());
    let found = findings(|seed| quiet_traffic(seed, Sabotage::DropRecords, ""));
    let noticed = |what: &String| what.contains("counts as protected and is not on the secondary");
    assert!(found.iter().any(noticed), "not caught: {found:?}");
}

#[test]
fn a_flow_that_is_kept_for_too_long_is_noticed() {
    let longer = |family| {
        let services = (0..3).map(|n| format!("set service udp-{family}-{n} -svrTimeout 9000\n")).collect::<String>();
        format!("{services}set lb vserver udp-{family} -cltTimeout 9000\n")
    };
    let extra = longer("v4") + &longer("v6");
    let found = findings(|seed| quiet_traffic(seed, Sabotage::None, &extra));
    assert!(found.iter().any(|what| what.contains("after all traffic has ended")), "not caught: {found:?}");
}

#[test]
fn a_hold_that_ends_too_early_is_noticed() {
    let slow = Manners { delay: Duration::from_millis(60), ..Manners::CALM };
    let scenario = |seed, limit| {
        let extra = format!("set HA node -holdLimit {limit}\n");
        Scenario { peer_manners: slow, ..quiet_traffic(seed, Sabotage::None, &extra) }
    };
    assert_eq!(findings(|seed| scenario(seed, 1000)), Vec::<String>::new());
    let found = findings(|seed| scenario(seed, 20));
    assert!(found.iter().any(|what| what.contains("released a hold although")), "not caught: {found:?}");
}

/// A pair with flows that last, quiet, and a checker that has seen nothing yet.
fn pair_with_flows(extra: &str) -> Story {
    let extra_config = [extra.to_string(), extra.to_string()];
    let mut story = Story::whole(Scenario { extra_config, ..Scenario::quiet(1) });
    // What passes is not what is judged here.
    story.world.reference.strict = false;
    for number in 0..4 {
        story.connect_for_long([SNAT, USIP][number % 2], number == 3);
    }
    story.run_ms(2000);
    story
}

/// What a checker of the pair's tables finds now; the primary comes first.
fn judge(story: &mut Story, judge: impl FnOnce(&mut Checker, &Scenario, &Node, &Node)) -> Vec<String> {
    let mut checker = core::mem::take(&mut story.world.checker);
    let primary = story.primary();
    judge(&mut checker, &story.world.scenario, story.node(primary), story.node(1 - primary));
    checker.violations
}

/// What is done to a pair.
type Harm = fn(&mut Story);

#[test]
fn a_flow_that_is_missing_or_wrong_or_too_many_in_a_copy_is_noticed() {
    let harms: [(&str, Harm); 4] = [
        ("", |_| {}),
        ("None on the secondary", |story| harm(story, 1, Node::lose_a_flow)),
        ("on the secondary", |story| harm(story, 1, Node::bend_a_flow)),
        // As if its close had been ignored.
        ("on the secondary and not on the primary", |story| harm(story, 0, Node::lose_a_flow)),
    ];
    for (complaint, do_harm) in harms {
        let mut story = pair_with_flows("");
        do_harm(&mut story);
        let now = story.world.now;
        let found = judge(&mut story, |checker, _, a, b| checker.judge_tables(now, a, b));
        assert_eq!(found.is_empty(), complaint.is_empty(), "{found:?}");
        assert!(complaint.is_empty() || found.iter().any(|what| what.contains(complaint)), "not caught: {found:?}");
        let digests = found.iter().any(|what| what.contains("digests differ"));
        assert_eq!(digests, !complaint.is_empty(), "not caught: {found:?}");
    }
}

/// Harms the primary's flows (0) or the secondary's (1).
fn harm(story: &mut Story, of: usize, how: fn(&mut Node, Instant) -> bool) {
    let machine = if of == 0 { story.primary() } else { 1 - story.primary() };
    let now = story.world.now;
    let node = story.world.machines[machine].node.as_mut().expect("it runs");
    assert!(how(node, now), "there was a flow to harm");
}

#[test]
fn a_flow_that_is_not_mirrored_in_a_whole_pair_is_noticed() {
    for (extra, noticed) in [("", false), ("set lb vserver usip-v4 -connFailover DISABLED\n", true)] {
        let mut story = pair_with_flows(extra);
        let now = story.world.now;
        let found = judge(&mut story, |checker, scenario, a, b| checker.judge_protection(now, scenario, a, b));
        let complaint = |what: &String| what.contains("is established and not protected");
        assert_eq!(found.iter().any(complaint), noticed, "{found:?}");
    }
}

#[test]
fn a_journal_line_that_a_node_ignored_is_noticed() {
    let (mut told, mut deaf) = (pair_with_flows(""), pair_with_flows(""));
    let primary = told.primary();
    for line in ["add server box-1 10.0.2.99", "set lb vserver snat-v4 -comment changed"] {
        told.command(primary, line);
        told.run_ms(100);
        let found = judge(&mut told, |checker, _, a, b| checker.judge_config(a, b));
        assert!(found.is_empty(), "{found:?}");
        let secondary = 1 - deaf.primary();
        let found = judge(&mut told, |checker, _, a, _| checker.judge_config(a, deaf.node(secondary)));
        assert!(found.iter().any(|what| what.contains("different configurations")), "not caught: {line}");
        deaf.command(1 - secondary, line);
        deaf.run_ms(100);
    }
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
    for source in
        [include_str!("../src/reference.rs"), include_str!("../src/statement.rs"), include_str!("../src/sight.rs")]
    {
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
