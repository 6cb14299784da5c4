use super::*;
use LifeEnd::{Crashed as C, Orderly as O, Vanished as V};

const NOW: u64 = 1_700_000_000_000;

/// Seconds before now at which a life began, its quarantine in seconds or 0, how it ended.
type Lived = (u64, u64, LifeEnd);

fn judge(lives: &[Lived]) -> u64 {
    let life = |&(ago, quarantine, end): &Lived| Life {
        started_ms: NOW - ago * 1000,
        quarantine: (quarantine > 0).then(|| Duration::from_secs(quarantine)),
        end,
    };
    let lives: Vec<Life> = lives.iter().map(life).collect();
    quarantine_at_start(&lives, NOW).map_or(0, |length| length.as_secs())
}

#[test]
fn which_lives_end_in_which_quarantine() {
    let table: &[(&str, &[Lived], u64)] = &[
        ("the first start", &[], 0),
        ("one crash", &[(9000, 0, C)], 0),
        ("two restarts", &[(9000, 0, C), (2, 0, C)], 0),
        ("three restarts within a minute", &[(9000, 0, C), (4, 0, C), (2, 0, C)], 60),
        ("three, the first exactly a minute ago", &[(9000, 0, C), (60, 0, C), (2, 0, C)], 60),
        ("three, the first longer ago", &[(9000, 0, C), (61, 0, C), (2, 0, C)], 0),
        ("kills by others are no crashes", &[(9000, 0, V), (4, 0, V), (2, 0, V)], 0),
        ("a kill among crashes neither counts nor excuses", &[(9000, 0, C), (6, 0, C), (4, 0, V), (2, 0, C)], 60),
        ("an orderly end forgets", &[(9000, 0, C), (4, 0, C), (2, 0, C), (1, 0, O)], 0),
        ("and what comes after it counts anew", &[(9, 0, C), (8, 0, C), (7, 0, O), (6, 0, C), (2, 0, C)], 0),
        ("a crash in quarantine", &[(30, 60, C)], 120),
        ("a crash soon after it", &[(359, 60, C)], 120),
        ("a crash long after it", &[(360, 60, C)], 0),
        ("doubled again", &[(500, 120, C), (200, 240, C)], 480),
        ("bounded", &[(100, 3000, C)], 3600),
        ("killed in quarantine: the same again", &[(30, 60, V)], 60),
        ("killed after it", &[(61, 60, V)], 0),
        ("an orderly end in quarantine ends it", &[(30, 60, O)], 0),
        ("it was served, and then three more", &[(5000, 60, C), (4, 0, C), (2, 0, C)], 60),
    ];
    for (what, lives, wanted) in table {
        assert_eq!(judge(lives), *wanted, "{what}");
    }
}

#[test]
fn a_clock_that_was_set_back_does_not_hide_crashes() {
    let life = |started_ms| Life { started_ms, quarantine: None, end: C };
    let lives = [life(NOW - 10), life(NOW + 3_600_000), life(NOW + 3_601_000)];
    assert_eq!(quarantine_at_start(&lives, NOW), Some(FIRST));
}

#[test]
fn every_hello_of_the_peer_in_every_state_of_its_intake() {
    const BOOT: u64 = 5;
    let now = Instant::from_nanos(1);
    let second = Duration::from_secs(1);
    let open = Quarantine::default();
    let closed = Quarantine { peer: Some((BOOT, now)), ..open };
    // (before, the hello's boot and milliseconds, a session with it runs, what it means, closed afterwards)
    let table = [
        (open, BOOT, 0, false, Intake::Same, None),
        (open, BOOT, 0, true, Intake::Same, None),
        (open, BOOT, 1000, false, Intake::Closed(second), Some((BOOT, now + second))),
        // A late letter: the session would not run if it were true.
        (open, BOOT, 1000, true, Intake::Same, None),
        (closed, BOOT, 0, false, Intake::Opened, None),
        (closed, BOOT, 0, true, Intake::Opened, None),
        (closed, BOOT, 1000, false, Intake::Same, Some((BOOT, now + second))),
        (closed, BOOT, 1000, true, Intake::Same, Some((BOOT, now))),
        // Another life of the peer: proven or not, it says nothing about this one.
        (closed, 6, 0, false, Intake::Same, Some((BOOT, now))),
        (closed, 6, 1000, false, Intake::Closed(second), Some((6, now + second))),
        // Nobody is believed for longer than the longest quarantine.
        (open, BOOT, u64::MAX, false, Intake::Closed(LONGEST), Some((BOOT, now + LONGEST))),
    ];
    for (index, (mut state, boot, millis, in_session, wanted, after)) in table.into_iter().enumerate() {
        assert_eq!(state.hear(now, boot, millis, in_session), wanted, "row {index}");
        assert_eq!(state.peer, after, "row {index}");
    }
}

#[test]
fn a_quarantine_refuses_and_counts_until_it_ends() {
    let now = Instant::from_nanos(1);
    let mut state = Quarantine::default();
    assert!(!state.refuses() && !state.expire(now) && state.left_ms(now) == 0);
    state.begin(now, Duration::from_secs(60));
    assert!(state.refuses() && !state.expire(now + Duration::from_secs(59)));
    assert_eq!(state.left_ms(now + Duration::from_secs(59)), 1000);
    // A hello of the last moment still says that it is not over.
    assert_eq!(state.left_ms(now + Duration::from_secs(60)), 1);
    assert!(state.expire(now + Duration::from_secs(60)) && !state.refuses());
    assert_eq!((state.begun(), state.refused()), (1, 1));
}
