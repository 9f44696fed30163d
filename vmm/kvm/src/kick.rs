//! Stops a vCPU in guest code that never exits, and turns SIGINT and SIGTERM into an orderly end.
//!
//! A guard thread watches a counter that the vCPU thread increments before and after each KVM_RUN. If the counter
//! is odd and has not changed for the time limit, the guard signals the vCPU thread until it changes; the signal
//! makes KVM_RUN return. The fast path arms and disarms nothing.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use super::error::{MachineError, Result};

/// Longest duration of one KVM_RUN. A guest that exceeds it is in an endless loop.
pub const RUN_LIMIT: Duration = Duration::from_millis(1000);
const TICK: Duration = Duration::from_millis(50);

static STOP: AtomicBool = AtomicBool::new(false);

/// True once SIGINT or SIGTERM has arrived (after [`catch_signals`]).
pub fn stop_requested() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Asks all runs to end in order, as a signal does.
pub fn request_stop() {
    STOP.store(true, Ordering::Relaxed);
}

extern "C" fn on_stop(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // The user insists: the default action would have ended the process at the first signal.
    if STOP.swap(true, Ordering::Relaxed) {
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(130) };
    }
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Lets SIGINT and SIGTERM set a flag that searches and KVM_RUN obey. A second signal exits at once.
pub fn catch_signals() -> Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        register_signal_handler(signal, on_stop).map_err(|error| MachineError::Memory(error.to_string()))?;
    }
    Ok(())
}

/// State shared by the vCPU thread and its guard.
#[derive(Debug, Default)]
struct Shared {
    /// Odd during KVM_RUN.
    runs: AtomicU64,
    /// The run that exceeded the limit, so that a late signal does not end another one.
    expired: AtomicU64,
    quit: AtomicBool,
}

/// The guard of one vCPU thread.
#[derive(Debug)]
pub(super) struct Guard {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Not `Send`: signals go to the thread that made the guard, which must be the one that runs vCPUs.
    _here: PhantomData<*const ()>,
}

impl Guard {
    /// Guards the calling thread.
    pub(super) fn new() -> Result<Guard> {
        register_signal_handler(SIGRTMIN(), on_kick)
            .map_err(|error| MachineError::Memory(format!("signal handler: {error}")))?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        // SAFETY: pthread_self has no preconditions.
        let target = unsafe { libc::pthread_self() };
        let thread = std::thread::Builder::new()
            .name("crossmod-guard".into())
            .spawn(move || watch(&theirs, target))
            .map_err(|error| MachineError::Memory(format!("guard thread: {error}")))?;
        Ok(Guard { shared, thread: Some(thread), _here: PhantomData })
    }

    /// Call directly before KVM_RUN. Returns the number of the run.
    pub(super) fn enter(&self) -> u64 {
        self.shared.runs.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Call directly after KVM_RUN.
    pub(super) fn leave(&self) {
        self.shared.runs.fetch_add(1, Ordering::Relaxed);
    }

    /// True if the guard ended this run.
    pub(super) fn expired(&self, run: u64) -> bool {
        self.shared.expired.load(Ordering::Relaxed) == run
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The loop of the guard does not panic; a failed join would mean that it has ended.
            let _ = thread.join();
        }
    }
}

fn watch(shared: &Shared, target: libc::pthread_t) {
    let limit = (RUN_LIMIT.as_millis() / TICK.as_millis()) as u32;
    let (mut seen, mut ticks) = (0, 0);
    while !shared.quit.load(Ordering::Relaxed) {
        std::thread::park_timeout(TICK);
        let runs = shared.runs.load(Ordering::Relaxed);
        if runs.is_multiple_of(2) || runs != seen {
            (seen, ticks) = (runs, 0);
            continue;
        }
        ticks += 1;
        if ticks >= limit || stop_requested() {
            // Again at every tick: a signal that lands just before KVM_RUN is lost.
            shared.expired.store(runs, Ordering::Relaxed);
            // SAFETY: the target thread owns the Guard, which is not Send, and joins this thread before it ends.
            unsafe { libc::pthread_kill(target, SIGRTMIN()) };
        }
    }
}
