//! Tests of the ground floor.

use crate::{BoundedQueue, Duration, Instant, Rng, StableHasher, TimerWheel};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::hash::Hasher;

const TICK: u64 = 1 << 20;

// --- time ---------------------------------------------------------------

#[test]
fn instants_saturate_at_both_ends() {
    let second = Duration::from_secs(1);
    assert_eq!(Instant::ZERO - second, Instant::ZERO);
    assert_eq!(Instant::FAR + second, Instant::FAR);
    assert_eq!(Instant::ZERO + Duration::MAX, Instant::FAR);
    assert_eq!(Instant::ZERO.since(Instant::FAR), Duration::ZERO);
    assert_eq!((Instant::ZERO + second).since(Instant::ZERO), second);
}

// --- hash ---------------------------------------------------------------

#[test]
fn stable_hasher_gives_the_published_siphash_1_3_answers() {
    // Key bytes 00..0f and the empty message, first of the reference vectors.
    let hash = |message: &[u8]| StableHasher::new(0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908).write(message).finish();
    assert_eq!(hash(&[]), 0xabac_0158_050f_c4dc);
    assert_ne!(hash(&[0]), hash(&[]));
}

#[test]
fn stable_hasher_agrees_with_the_standard_library_under_the_zero_key() {
    // `DefaultHasher::new` is an independent SipHash-1-3 with a key of zeros.
    for length in 0..64u8 {
        let message: Vec<u8> = (0..length).collect();
        let mut theirs = std::hash::DefaultHasher::new();
        theirs.write(&message);
        assert_eq!(StableHasher::new(0, 0).write(&message).finish(), theirs.finish(), "length {length}");
    }
}

#[test]
fn stable_hasher_sees_bytes_not_the_calls_they_came_in() {
    let whole = StableHasher::new(1, 2).write(b"holdfast").finish();
    let pieces = StableHasher::new(1, 2).write(b"hold").write(b"").write(b"fast").finish();
    assert_eq!(whole, pieces);
    assert_ne!(whole, StableHasher::new(2, 1).write(b"holdfast").finish());
}

// --- random numbers -----------------------------------------------------

#[test]
fn rng_gives_the_published_xoshiro256plusplus_answer() {
    // State from SplitMix64(0), as the algorithm's authors recommend.
    assert_eq!(Rng::from_seed(0).next_u64(), 5_987_356_902_031_041_503);
}

#[test]
fn rng_is_decided_by_its_seed() {
    let run = |seed| {
        let mut rng = Rng::from_seed(seed);
        [0; 8].map(|_: u64| rng.next_u64())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn rng_below_stays_below_and_reaches_every_number() {
    let mut rng = Rng::from_seed(1);
    let mut seen = [0u32; 10];
    for _ in 0..10_000 {
        seen[rng.below(10) as usize] += 1;
    }
    assert!(seen.iter().all(|&count| (800..1200).contains(&count)), "{seen:?}");
    assert_eq!(rng.below(0), 0);
    assert_eq!(rng.below(1), 0);
}

#[test]
fn rng_chance_is_about_right_and_exact_at_the_ends() {
    let mut rng = Rng::from_seed(2);
    let hits = (0..10_000).filter(|_| rng.chance(1, 4)).count();
    assert!((2_300..2_700).contains(&hits), "{hits}");
    assert!((0..100).all(|_| rng.chance(1, 1)));
    assert!(!(0..100).any(|_| rng.chance(0, 5)));
}

// --- queue --------------------------------------------------------------

#[test]
fn queue_keeps_order_and_counts_refusals() {
    let mut queue = BoundedQueue::new(2);
    assert!(queue.is_empty());
    assert_eq!(queue.push('a'), Ok(()));
    assert_eq!(queue.push('b'), Ok(()));
    assert_eq!(queue.push('c'), Err('c'));
    assert_eq!((queue.len(), queue.refused(), queue.front()), (2, 1, Some(&'a')));
    assert_eq!(queue.pop(), Some('a'));
    assert_eq!(queue.push('d'), Ok(()));
    assert_eq!([queue.pop(), queue.pop(), queue.pop()], [Some('b'), Some('d'), None]);
    assert_eq!(queue.refused(), 1);
}

#[test]
fn queue_without_room_refuses_everything() {
    let mut queue = BoundedQueue::new(0);
    assert_eq!(queue.push(1), Err(1));
    assert_eq!((queue.pop(), queue.refused()), (None, 1));
}

// --- wheel --------------------------------------------------------------

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn ticks(count: u64) -> Instant {
    at(count * TICK)
}

fn seconds(count: u64) -> Instant {
    at(count * 1_000_000_000)
}

#[test]
fn timer_fires_once_at_its_deadline_not_before() {
    let mut wheel = TimerWheel::new(Instant::ZERO, 4);
    wheel.set(2, ticks(5));
    assert_eq!(wheel.deadline(2), Some(ticks(5)));
    assert_eq!(wheel.poll(at(5 * TICK - 1)), None);
    assert_eq!(wheel.poll(ticks(5)), Some(2));
    assert_eq!(wheel.poll(ticks(5)), None);
    assert_eq!((wheel.deadline(2), wheel.next_deadline()), (None, None));
}

#[test]
fn deadline_inside_a_tick_waits_for_its_end() {
    let mut wheel = TimerWheel::new(Instant::ZERO, 1);
    wheel.set(0, at(TICK + 1));
    assert_eq!(wheel.poll(at(TICK + 1)), None, "never before, up to a tick later");
    assert_eq!(wheel.next_deadline(), Some(ticks(2)));
    assert_eq!(wheel.poll(ticks(2)), Some(0));
}

#[test]
fn timer_of_the_past_fires_at_the_next_poll() {
    let mut wheel = TimerWheel::new(seconds(10), 1);
    wheel.set(0, seconds(1));
    assert!(wheel.next_deadline().is_some_and(|at| at <= seconds(10)));
    assert_eq!(wheel.poll(seconds(10)), Some(0));
}

#[test]
fn setting_again_moves_and_cancelling_forgets() {
    let mut wheel = TimerWheel::new(Instant::ZERO, 3);
    wheel.set(0, seconds(1));
    wheel.set(0, seconds(3));
    wheel.set(1, seconds(2));
    wheel.cancel(1);
    wheel.cancel(1);
    wheel.cancel(2);
    assert_eq!(wheel.poll(seconds(2)), None);
    assert_eq!(wheel.deadline(1), None);
    assert_eq!(wheel.poll(seconds(4)), Some(0));
    assert_eq!(wheel.poll(seconds(40)), None);
}

#[test]
fn timers_of_one_tick_fire_in_the_order_of_arming() {
    let mut wheel = TimerWheel::new(Instant::ZERO, 8);
    for slot in [3, 1, 7, 5] {
        wheel.set(slot, ticks(9));
    }
    wheel.cancel(7);
    let fired: Vec<u32> = std::iter::from_fn(|| wheel.poll(ticks(9))).collect();
    assert_eq!(fired, [3, 1, 5]);
}

#[test]
fn far_deadlines_beyond_the_range_still_fire_on_time() {
    const YEAR: u64 = 365 * 24 * 3600;
    let mut wheel = TimerWheel::new(seconds(100), 3);
    wheel.set(0, seconds(YEAR));
    wheel.set(1, Instant::FAR);
    wheel.set(2, seconds(YEAR) + Duration::from_secs(3600));
    assert_eq!(wheel.poll(seconds(YEAR - 1)), None);
    assert_eq!(wheel.poll(seconds(YEAR) + Duration::from_millis(2)), Some(0));
    assert_eq!(wheel.poll(seconds(YEAR + 3599)), None);
    assert_eq!(wheel.poll(seconds(YEAR + 3601)), Some(2));
    assert_eq!(wheel.deadline(1), Some(Instant::FAR));
    assert!(wheel.next_deadline().is_some());
}

#[test]
fn one_poll_after_a_long_pause_finds_everything_that_is_due() {
    let mut wheel = TimerWheel::new(Instant::ZERO, 1000);
    for slot in 0..1000 {
        wheel.set(slot, seconds(u64::from(slot) * 37));
    }
    let now = seconds(500 * 37) + Duration::from_millis(2);
    let fired: Vec<u32> = std::iter::from_fn(|| wheel.poll(now)).collect();
    assert_eq!(fired, (0..=500).collect::<Vec<u32>>());
}

#[test]
fn driver_that_sleeps_until_next_deadline_fires_on_time_with_few_wake_ups() {
    let mut wheel = TimerWheel::new(Instant::ZERO, 2);
    wheel.set(0, seconds(180));
    wheel.set(1, seconds(9000));
    let mut wakes = 0;
    let mut fired = Vec::new();
    while let Some(now) = wheel.next_deadline() {
        wakes += 1;
        while let Some(slot) = wheel.poll(now) {
            fired.push((slot, now.since(seconds(0)).as_secs()));
        }
    }
    assert_eq!(fired, [(0, 180), (1, 9000)]);
    assert!(wakes <= 6, "{wakes} wake-ups for two timers");
}

#[test]
fn crowded_second_is_sorted_ahead_of_time() {
    // 5000 timers within one stretch: a driver that turns every tick must meet
    // them already sorted, not all in one call when the stretch begins.
    let mut wheel = TimerWheel::new(Instant::ZERO, 5000);
    for slot in 0..5000 {
        wheel.set(slot, ticks(10 * 1024 + u64::from(slot) % 1024));
    }
    assert_eq!(wheel.next_deadline(), Some(ticks(9 * 1024)), "a stretch ahead");
    let mut turns = 0;
    while let Some(now) = wheel.next_deadline().filter(|&next| next < ticks(10 * 1024)) {
        assert_eq!((now, wheel.poll(now)), (ticks(9 * 1024 + turns), None));
        turns += 1;
    }
    assert_eq!(turns, 10, "512 timers in each of ten ticks");
    assert_eq!(wheel.next_deadline(), Some(ticks(10 * 1024)), "nothing is left to sort");
}

#[derive(Clone, Debug)]
enum Step {
    Set(u32, u64),
    Cancel(u32),
    Advance(u64),
    Sleep,
}

/// Nanoseconds of every magnitude that the wheel treats differently.
fn nanos() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..4 * TICK,
        4 => 0..2048 * TICK,
        2 => (0u64..20).prop_map(|stretch| stretch * 1024 * TICK),
        2 => 0..400_000_000_000u64,
        1 => 0..100_000_000_000_000u64,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..64u32, nanos()).prop_map(|(slot, after)| Step::Set(slot, after)),
        1 => (0..64u32).prop_map(Step::Cancel),
        2 => nanos().prop_map(Step::Advance),
        2 => Just(Step::Sleep),
    ]
}

/// The obvious wheel: deadlines in a map, fired when their tick has ended.
#[derive(Default)]
struct Model(BTreeMap<u32, u64>);

impl Model {
    fn take_due(&mut self, now: u64) -> Vec<u32> {
        let due: Vec<u32> =
            self.0.iter().filter(|&(_, &at)| at.div_ceil(TICK) <= now / TICK).map(|(&slot, _)| slot).collect();
        self.0.retain(|slot, _| !due.contains(slot));
        due
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn wheel_does_what_a_sorted_map_does(start in nanos(), steps in prop::collection::vec(step(), 1..80)) {
        let mut now = start;
        let mut wheel = TimerWheel::new(at(now), 64);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Set(slot, after) => {
                    wheel.set(slot, at(now + after));
                    model.0.insert(slot, now + after);
                }
                Step::Cancel(slot) => {
                    wheel.cancel(slot);
                    model.0.remove(&slot);
                }
                Step::Advance(by) => now += by,
                Step::Sleep => now = wheel.next_deadline().map_or(now, |next| now.max(next.as_nanos())),
            }
            for slot in 0..64 {
                prop_assert_eq!(wheel.deadline(slot), model.0.get(&slot).map(|&nanos| at(nanos)));
            }
            let mut fired: Vec<u32> = std::iter::from_fn(|| wheel.poll(at(now))).collect();
            fired.sort_unstable();
            prop_assert_eq!(fired, model.take_due(now));
            let earliest = model.0.values().min().map(|&nanos| nanos.div_ceil(TICK) * TICK);
            let next = wheel.next_deadline().map(Instant::as_nanos);
            prop_assert_eq!(next.is_some(), earliest.is_some());
            if let (Some(next), Some(earliest)) = (next, earliest) {
                prop_assert!(next <= earliest, "wakes at {} for {}", next, earliest);
                prop_assert!(next > now, "a drained wheel does not ask to be polled at once");
            }
        }
    }
}
