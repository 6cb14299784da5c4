//! Before whom the data thread goes.
//!
//! Heartbeats leave from it, and a lease ends while it waits for a core. Where others keep it waiting it is scheduled in real
//! time, if that is allowed (CAP_SYS_NICE). Not otherwise: the kernel moves a real-time thread to another core rather than
//! let it follow whoever woke it, and where cores sleep (a virtual machine) each of its wakes then costs some 100 us more.
//! The kernel tells how long the thread has waited for a core. A timer alone does not: a virtual machine that its host
//! lets wait is late too, and real time inside does not help it.
//!
//! It must leave others most of its core as well: a real-time thread that does not is stopped by the kernel for some
//! 50 ms in every second, which is longer than a dead interval may be, and starves the kernel's own threads that feed it.
//! A thread that works more than that takes its turn like all, at a high priority.

use holdfast_base::Instant;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// A timer that is noticed so late, by a thread that waited for a core so long, means that others keep it waiting.
const LATE: Duration = Duration::from_millis(1);
/// Real time lasts so long after that; whether it is still needed shows only without it.
const NEEDED_FOR: Duration = Duration::from_secs(10);
/// Who has worked too much for real time goes without it for so long.
const REST: Duration = Duration::from_secs(1);
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
    queue: RunQueue,
    /// It is, until then.
    real_time: Option<Instant>,
    /// It is not before then: it worked too much.
    resting: Instant,
    /// When the window began, and the thread's CPU time then.
    window: Instant,
    used: Duration,
    /// Time between rests since then: what others took of it while the thread waited for a core included.
    worked: Duration,
    taken: u64,
    yields: u64,
}

impl Precedence {
    /// Takes what the system allows for the calling thread. Children and further threads do not inherit it.
    pub fn claim(now: Instant) -> Precedence {
        // SAFETY: no preconditions; 0 is the calling thread. Without the right to it, it takes its turn like all.
        unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        Precedence::new(now, schedule(true) && schedule(false), RunQueue::of_this_thread())
    }

    fn new(now: Instant, allowed: bool, queue: RunQueue) -> Precedence {
        let (used, worked) = (Duration::ZERO, Duration::ZERO);
        Precedence { allowed, queue, real_time: None, resting: now, window: now, used, worked, taken: 0, yields: 0 }
    }

    /// The thread has slept until a timer that was due at `due`, or something came before; it runs again `now`.
    pub fn note_wake(&mut self, now: Instant, due: Instant) {
        if self.is_late(now, due) && self.queue.waited() > LATE && schedule(true) {
            self.begin(now, cpu_time());
        }
    }

    fn is_late(&self, now: Instant, due: Instant) -> bool {
        self.allowed && self.real_time.is_none() && now >= self.resting && now.since(due) > LATE
    }

    /// Call it a few times a second: waiting counts from here.
    pub fn note_tick(&mut self) {
        self.queue.waited();
    }

    fn begin(&mut self, now: Instant, used: Duration) {
        self.real_time = Some(now + NEEDED_FOR);
        (self.window, self.used, self.worked) = (now, used, Duration::ZERO);
        self.taken += 1;
    }

    /// The thread has worked for `worked`; `now` it is about to rest.
    pub fn note_work(&mut self, now: Instant, worked: Duration) {
        if self.is_over(now, worked, cpu_time) {
            self.real_time = None;
            schedule(false);
        }
    }

    /// Whether real time ends.
    fn is_over(&mut self, now: Instant, worked: Duration, cpu_time: impl Fn() -> Duration) -> bool {
        let Some(until) = self.real_time else { return false };
        self.worked += worked;
        let span = now.since(self.window);
        let ended = span >= WINDOW;
        if self.worked > SHARE || ended {
            let used_by_now = cpu_time();
            self.worked = used_by_now.saturating_sub(self.used);
            if self.worked > SHARE.max(span / 2) {
                self.yields += 1;
                self.resting = now + REST;
                return true;
            }
            if ended {
                (self.window, self.used, self.worked) = (now, used_by_now, Duration::ZERO);
            }
        }
        now >= until
    }

    /// For the log: how it is scheduled, how often that was in real time, and how often it worked too much for it.
    pub fn text(&self) -> String {
        let how = match (self.allowed, self.real_time) {
            (_, Some(_)) => "in real time",
            (true, None) => "as others are",
            (false, None) => "as others are, real time is not allowed",
        };
        format!("scheduled {how}; real time taken {}, given up {}", self.taken, self.yields)
    }
}

/// How long a thread has waited for a core while it could have run.
#[derive(Debug)]
struct RunQueue {
    /// `schedstat` of the thread (Linux, Documentation/scheduler/sched-stats): time on a core, time waiting for one
    /// (nanoseconds), turns. None if the kernel does not tell.
    told: Option<File>,
    /// As of the latest look.
    before: Duration,
}

impl RunQueue {
    fn of_this_thread() -> RunQueue {
        let mut queue = RunQueue { told: File::open("/proc/thread-self/schedstat").ok(), before: Duration::ZERO };
        if queue.read().is_none() {
            queue.told = None;
        }
        queue.waited();
        queue
    }

    /// Time spent waiting since the latest look. Where the kernel does not tell it counts as long: then lateness decides.
    fn waited(&mut self) -> Duration {
        let Some(all) = self.read() else { return Duration::MAX };
        let waited = all.saturating_sub(self.before);
        self.before = all;
        waited
    }

    fn read(&self) -> Option<Duration> {
        let mut text = [0; 64];
        let length = self.told.as_ref()?.read_at(&mut text, 0).ok()?;
        let text = std::str::from_utf8(text.get(..length)?).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
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
            let subject = Precedence::new(Instant::ZERO, allowed, RunQueue { told: None, before: Duration::ZERO });
            Thread { subject, now: Instant::ZERO, used: Cell::new(Duration::ZERO) }
        }

        /// One that was kept waiting.
        fn kept_waiting() -> Thread {
            let mut thread = Thread::new(true);
            thread.wake(LATE * 2);
            assert!(thread.subject.real_time.is_some());
            thread
        }

        fn wake(&mut self, late: Duration) {
            let due = self.now;
            self.now = self.now + late;
            if self.subject.is_late(self.now, due) && self.subject.queue.waited() > LATE {
                self.subject.begin(self.now, self.used.get());
            }
        }

        /// Turns of which `work` passes before the rest, and `used` of it on a core. Returns whether it is in real time then.
        fn live(&mut self, turns: u32, work: Duration, used: Duration) -> bool {
            for _ in 0..turns {
                self.now = self.now + Duration::from_millis(1);
                self.used.set(self.used.get() + used);
                if self.subject.is_over(self.now, work, || self.used.get()) {
                    self.subject.real_time = None;
                }
            }
            self.subject.real_time.is_some()
        }
    }

    const LITTLE: Duration = Duration::from_micros(450);
    const MUCH: Duration = Duration::from_micros(900);

    #[test]
    fn who_is_not_kept_waiting_needs_no_real_time() {
        let mut thread = Thread::new(true);
        thread.wake(LATE);
        assert!(!thread.live(100, LITTLE, LITTLE));
        assert_eq!(thread.subject.taken, 0);
    }

    #[test]
    fn real_time_lasts_and_is_tried_without_after_a_while() {
        let mut thread = Thread::kept_waiting();
        assert!(thread.live(9_999, LITTLE, LITTLE));
        assert!(!thread.live(2, LITTLE, LITTLE));
        thread.wake(LATE * 2);
        assert!(thread.live(100, LITTLE, LITTLE));
    }

    #[test]
    fn who_works_too_much_gives_it_up_within_the_window_and_may_have_it_again_later() {
        let mut thread = Thread::kept_waiting();
        assert!(thread.live(5, MUCH, MUCH));
        assert!(!thread.live(1, MUCH, MUCH), "5.4 ms of 6");
        assert_eq!(thread.subject.yields, 1);
        thread.wake(LATE * 2);
        assert!(!thread.live(1, LITTLE, LITTLE));
        thread.now = thread.now + REST;
        thread.wake(LATE * 2);
        assert!(thread.live(1, LITTLE, LITTLE));
    }

    #[test]
    fn what_others_took_of_its_turns_is_no_work_of_its_own() {
        let mut thread = Thread::kept_waiting();
        assert!(thread.live(100, MUCH, LITTLE));
    }

    #[test]
    fn work_before_a_long_rest_is_weighed_against_the_rest() {
        let mut thread = Thread::kept_waiting();
        assert!(thread.live(5, MUCH, MUCH));
        thread.now = thread.now + Duration::from_millis(100);
        assert!(thread.live(1, MUCH, MUCH));
    }

    #[test]
    fn who_may_not_never_takes_it() {
        let mut thread = Thread::new(false);
        thread.wake(LATE * 2);
        assert!(!thread.live(40, MUCH, MUCH));
    }

    #[test]
    fn a_thread_that_shares_a_core_is_told_how_long_it_waited_and_one_that_slept_is_not() {
        let mut queue = RunQueue::of_this_thread();
        assert!(queue.told.is_some(), "this kernel does not tell: it is built without CONFIG_SCHED_INFO");
        let (begun, slept) = (std::time::Instant::now(), Duration::from_millis(30));
        queue.waited();
        std::thread::sleep(slept);
        assert!(queue.waited() <= begun.elapsed() - slept, "sleep is no waiting");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let is_over = || stop.load(std::sync::atomic::Ordering::Relaxed);
        std::thread::scope(|scope| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            for _ in 0..2 * cores {
                scope.spawn(|| while !is_over() {});
            }
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            let mut waited = Duration::ZERO;
            while waited <= LATE && std::time::Instant::now() < deadline {
                waited += queue.waited();
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(waited > LATE, "{waited:?}");
        });
    }

    #[test]
    fn the_system_is_asked_and_the_thread_goes_on_whatever_it_says() {
        let policy = || {
            // SAFETY: no preconditions; 0 is the calling thread.
            unsafe { libc::sched_getscheduler(0) }
        };
        let mut subject = Precedence::claim(Instant::ZERO);
        assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_OTHER);
        subject.queue.told = None;
        subject.note_wake(Instant::ZERO + LATE * 2, Instant::ZERO);
        let real_time = policy() == libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
        assert_eq!((subject.real_time.is_some(), subject.allowed), (real_time, real_time), "{}", subject.text());
        subject.note_work(Instant::ZERO + NEEDED_FOR * 2, Duration::ZERO);
        assert_eq!(policy() & !libc::SCHED_RESET_ON_FORK, libc::SCHED_OTHER);
    }
}
