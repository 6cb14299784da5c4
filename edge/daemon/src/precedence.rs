//! Before whom the data thread goes.
//!
//! Heartbeats leave from it, and a lease ends while it waits for a core. So it is scheduled in real time, where that is
//! allowed (CAP_SYS_NICE), *as long as it leaves others most of its core*: a real-time thread that does not is stopped by the
//! kernel for some 50 ms in every second, which is longer than a dead interval may be, and starves the kernel's own threads that
//! feed it. A thread that works more than that takes its turn like all, at a high priority.

use holdfast_base::Instant;
use std::time::Duration;

/// Work and rest are weighed over so long.
const WINDOW: Duration = Duration::from_millis(10);
/// More work than this in a window ends real time, at once.
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
    window: Instant,
    worked: Duration,
    yields: u64,
}

impl Precedence {
    /// Takes what the system allows for the calling thread. Children and further threads do not inherit it.
    pub fn claim(now: Instant) -> Precedence {
        // SAFETY: no preconditions; 0 is the calling thread. Without the right to it, it takes its turn like all.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        let allowed = schedule(true);
        Precedence { allowed, real_time: allowed, window: now, worked: Duration::ZERO, yields: 0 }
    }

    /// The thread has worked for `worked`; `now` it is about to rest.
    pub fn note_work(&mut self, now: Instant, worked: Duration) {
        match self.weigh(now, worked) {
            Some(real_time) if schedule(real_time) => self.real_time = real_time,
            // What was allowed once may be forbidden later (a container's limits): it stays as it is.
            Some(_) => self.allowed = false,
            None => {}
        }
    }

    /// How the thread is to be scheduled from here on (in real time or not), if that changes.
    fn weigh(&mut self, now: Instant, worked: Duration) -> Option<bool> {
        self.worked += worked;
        let (hogs, ended) = (self.worked > SHARE, now.since(self.window) >= WINDOW);
        if ended {
            (self.window, self.worked) = (now, Duration::ZERO);
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

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1000)
    }

    fn precedence(allowed: bool) -> Precedence {
        Precedence { allowed, real_time: allowed, window: Instant::ZERO, worked: Duration::ZERO, yields: 0 }
    }

    /// Feeds windows of ten turns, each a millisecond long, of which `work` is work. Returns what it is at the end of each.
    fn live(subject: &mut Precedence, from: u64, windows: u64, work: Duration) -> Vec<bool> {
        let mut told = Vec::new();
        for window in 0..windows {
            for turn in 0..10 {
                let now = at(from + window * 10_000 + (turn + 1) * 1_000);
                if let Some(real_time) = subject.weigh(now, work) {
                    subject.real_time = real_time;
                }
            }
            told.push(subject.real_time);
        }
        told
    }

    #[test]
    fn who_leaves_others_most_of_the_core_keeps_real_time() {
        let mut subject = precedence(true);
        assert_eq!(live(&mut subject, 0, 3, Duration::from_micros(450)), [true, true, true]);
        assert_eq!(subject.yields, 0);
    }

    #[test]
    fn who_works_too_much_gives_it_up_within_the_window_and_has_it_back_after_a_calmer_one() {
        let mut subject = precedence(true);
        assert_eq!(subject.weigh(at(6_000), Duration::from_micros(5_001)), Some(false));
        subject.real_time = false;
        assert_eq!(live(&mut subject, 6_000, 2, Duration::from_micros(900)), [false, false]);
        assert_eq!(subject.yields, 1);
        assert_eq!(live(&mut subject, 26_000, 3, Duration::from_micros(100)).last(), Some(&true));
    }

    #[test]
    fn who_may_not_is_never_asked_to_change() {
        let mut subject = precedence(false);
        assert_eq!(live(&mut subject, 0, 2, Duration::from_micros(900)), [false, false]);
        assert_eq!(live(&mut subject, 20_000, 2, Duration::ZERO), [false, false]);
    }

    #[test]
    fn the_system_is_asked_and_the_thread_goes_on_whatever_it_says() {
        let mut subject = Precedence::claim(Instant::ZERO);
        assert_eq!(subject.real_time, subject.allowed);
        subject.note_work(at(10), Duration::from_millis(6));
        assert!(!subject.real_time, "{}", subject.text());
    }
}
