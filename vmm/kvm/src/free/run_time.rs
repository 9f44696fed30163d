//! How long the threads of executors have run on a CPU. One that the host does not run cannot answer, and that says
//! nothing about what it executes.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The threads of the executors, by number.
#[derive(Debug)]
pub(super) struct Threads(Vec<AtomicI32>);

impl Threads {
    pub fn new(executors: usize) -> Threads {
        Threads((0..executors).map(|_| AtomicI32::new(0)).collect())
    }

    /// Says that the calling thread is that of an executor.
    pub fn enter(&self, executor: usize) {
        // SAFETY: gettid has no preconditions.
        self.0[executor].store(unsafe { libc::gettid() }, Ordering::Relaxed);
    }

    /// The time for which each has run; nothing for one that has not begun, or has ended.
    pub fn run_times(&self) -> Vec<Duration> {
        self.0.iter().map(|thread| run_time(thread.load(Ordering::Relaxed))).collect()
    }
}

fn run_time(thread: i32) -> Duration {
    // What pthread_getcpuclockid() makes of a thread: CPUCLOCK_SCHED of one thread (include/linux/posix-timers.h).
    let clock = (!thread << 3) | 6;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, which writes nothing else.
    let known = thread != 0 && unsafe { libc::clock_gettime(clock, &mut time) } == 0;
    if known { Duration::new(time.tv_sec as u64, time.tv_nsec as u32) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_thread_that_runs_has_run() {
        let threads = Threads::new(3);
        threads.enter(0);
        let asleep = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                threads.enter(1);
                asleep.wait();
                asleep.wait();
            });
            asleep.wait();
            let before = threads.run_times();
            let ran = |thread: usize| threads.run_times()[thread] - before[thread];
            while ran(0) < Duration::from_millis(50) {}
            // Asleep since the first barrier, but for the way out of it and into the second.
            assert!(ran(1) < ran(0));
            assert_eq!(threads.run_times()[2], Duration::ZERO);
            asleep.wait();
        });
    }
}
