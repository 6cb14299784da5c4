//! Before whom the data thread goes.
//!
//! Heartbeats leave from it, and a lease ends while it waits for a core. So it is scheduled in real time, where that is
//! allowed (CAP_SYS_NICE), *as long as it leaves others most of its core*: a real-time thread that does not is stopped by the
//! kernel for some 50 ms in every second, which is longer than a dead interval may be, and starves the kernel's own threads that
//! feed it. A thread that works more than that takes its turn like all, at a high priority.

use holdfast_base::Instant;
use std::time::Duration;

/// Work and rest are weighed over so long, at least.
const WINDOW: Duration = Duration::from_millis(10);
/// More work than this, and than half of the window if it is longer, ends real time at once.
const SHARE: Duration = Duration::from_millis(5);
/// The lowest real-time priority: it is before everything that is not real-time, and behind all others that are.
const PRIORITY: i32 = 1;
/// Niceness while it is not scheduled in real time.
const NICE: i32 = -15;

/// How the calling thread is scheduled.
#[derive(Debug)]
pub struct Precedence {
    /// Whether the system lets this thread be scheduled in real time.
    allowed: bool,
    real_time: bool,
    /// When the window began, and the thread's CPU time then.
    window: Instant,
    used: Duration,
    /// Time between rests since then: what others took of it while the thread waited for a core included.
    worked: Duration,
    yields: u64,
}

impl Precedence {
    /// Takes what the system allows for the calling thread. Children and further threads do not inherit it.
    pub fn claim(now: Instant) -> Precedence {
        // SAFETY: no preconditions; 0 is the calling thread. Without the right to it, it takes its turn like all.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        let allowed = schedule(true);
        let used = cpu_time();
        Precedence { allowed, real_time: allowed, window: now, used, worked: Duration::ZERO, yields: 0 }
    }

    /// The thread has worked for `worked`; `now` it is about to rest.
    pub fn note_work(&mut self, now: Instant, worked: Duration) {
        match self.weigh(now, worked, cpu_time) {
            Some(real_time) if schedule(real_time) => self.real_time = real_time,
            // What was allowed once may be forbidden later (a container's limits): it stays as it is.
            Some(_) => self.allowed = false,
            None => {}
        }
    }

    /// How the thread is to be scheduled from here on (in real time or not), if that changes.
    fn weigh(&mut self, now: Instant, worked: Duration, cpu_time: impl Fn() -> Duration) -> Option<bool> {
        self.worked += worked;
        let span = now.since(self.window);
        let ended = span >= WINDOW;
        if self.worked <= SHARE && !ended {
            return None;
        }
        let used_by_now = cpu_time();
        self.worked = used_by_now.saturating_sub(self.used);
        let hogs = self.worked > SHARE.max(span / 2);
        if ended {
            (self.window, self.used, self.worked) = (now, used_by_now, Duration::ZERO);
        }
        match (self.real_time, hogs) {
            (true, true) => {
                self.yields += 1;
                Some(false)
            }
            (false, false) if ended && self.allowed => Some(true),
            (true | false, _) => None,
        }
    }

    /// For the log: how it is scheduled, and how often it gave real time up because it worked too much.
    pub fn text(&self) -> String {
        let how = match (self.allowed, self.real_time) {
            (_, true) => "real time",
            (true, false) => "shared, it works too much for real time",
            (false, false) => "shared, real time is not allowed",
        };
        format!("scheduling {how}, real time given up {}", self.yields)
    }
}

/// Time for which the calling thread has had a core.
fn cpu_time() -> Duration {
    let mut used = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `used` is a writable timespec. The clock exists since Linux 2.6.12; without it nothing was used.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut used) };
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// Schedules the calling thread in real time, or as all others; whether that was allowed.
fn schedule(real_time: bool) -> bool {
    let (policy, priority) = if real_time { (libc::SCHED_RR, PRIORITY) } else { (libc::SCHED_OTHER, 0) };
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: `parameter` outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy | libc::SCHED_RESET_ON_FORK, &raw const parameter) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A thread whose every turn lasts a millisecond.
    struct Thread {
        subject: Precedence,
        now: Instant,
        used: Cell<Duration>,
    }

    impl Thread {
        fn new(allowed: bool) -> Thread {
            let (window, none) = (Instant::ZERO, Duration::ZERO);
            let subject = Precedence { allowed, real_time: allowed, window, used: none, worked: none, yields: 0 };
            Thread { subject, now: Instant::ZERO, used: Cell::new(none) }
        }

        /// Turns of which `work` passes before the rest, and `used` of it on a core. Returns whether it is in real time then.
        fn live(&mut self, turns: u32, work: Duration, used: Duration) -> bool {
            for _ in 0..turns {
                self.now = self.now + Duration::from_millis(1);
                self.used.set(self.used.get() + used);
                if let Some(real_time) = self.subject.weigh(self.now, work, || self.used.get()) {
                    self.subject.real_time = real_time;
                }
            }
            self.subject.real_time
        }
    }

    const LITTLE: Duration = Duration::from_micros(450);
    const MUCH: Duration = Duration::from_micros(900);

    #[test]
    fn who_leaves_others_most_of_the_core_keeps_real_time() {
        let mut thread = Thread::new(true);
        assert!(thread.live(100, LITTLE, LITTLE));
        assert_eq!(thread.subject.yields, 0);
    }

    #[test]
    fn who_works_too_much_gives_it_up_within_the_window_and_has_it_back_after_a_calmer_one() {
        let mut thread = Thread::new(true);
        assert!(thread.live(5, MUCH, MUCH));
        assert!(!thread.live(1, MUCH, MUCH), "5.4 ms of 6");
        assert!(!thread.live(30, MUCH, MUCH));
        assert_eq!(thread.subject.yields, 1);
        assert!(thread.live(20, LITTLE, LITTLE));
    }

    #[test]
    fn what_others_took_of_its_turns_is_no_work_of_its_own() {
        let mut thread = Thread::new(true);
        assert!(thread.live(100, MUCH, LITTLE));
    }

    #[test]
    fn work_before_a_long_rest_is_weighed_against_the_rest() {
        let mut thread = Thread::new(true);
        assert!(thread.live(5, MUCH, MUCH));
        thread.now = thread.now + Duration::from_millis(100);
        assert!(thread.live(1, MUCH, MUCH));
    }

    #[test]
    fn who_may_not_is_never_asked_to_change() {
        let mut thread = Thread::new(false);
        assert!(!thread.live(40, MUCH, MUCH));
        assert!(!thread.live(40, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn the_system_is_asked_and_the_thread_goes_on_whatever_it_says() {
        let subject = Precedence::claim(Instant::ZERO);
        // SAFETY: no preconditions; 0 is the calling thread.
        let policy = unsafe { libc::sched_getscheduler(0) };
        let real_time = policy == libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
        assert_eq!((subject.real_time, subject.allowed), (real_time, real_time), "{}", subject.text());
        assert!(schedule(false));
    }
}
