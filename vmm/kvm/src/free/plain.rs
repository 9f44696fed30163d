//! The same experiment on two threads of this process, without KVM: what the virtual machine is compared with.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossmod_abi::PAGE;

use super::code::{BEGUN, COUNTERS, DONE, Loop};
use super::{BATCH, FAR, Job, Pass, Place, Slice, WRITES, await_turn, text};
use crate::{MachineError, pin, stop_requested};

/// Two pages of text, a page of counters, and what is far behind a site.
const LEN: usize = FAR.end;

/// Two pages of text, a page of counters, and what pads stand in.
#[derive(Debug)]
pub struct Plain(*mut u8);

impl Plain {
    /// Maps the pages.
    pub fn new() -> Result<Plain, MachineError> {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), LEN, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            let error = std::io::Error::last_os_error();
            return Err(MachineError::Memory(format!("a writable and executable mapping: {error}")));
        }
        Ok(Plain(start.cast()))
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= LEN, "outside of the mapping");
        // SAFETY: the mapping is ours, long enough, and no other thread runs in it while it is borrowed mutably.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.add(at), bytes.len()) };
    }

    /// Runs an executor on the calling thread against a writer on another one.
    pub fn slice(
        &mut self,
        job: &Job,
        place: Place,
        mut sink: impl FnMut(&[Pass]),
    ) -> Result<Slice, MachineError> {
        let (start, counters) = (self.0 as u64, self.0 as u64 + 2 * PAGE);
        self.put(0, &text(job));
        self.put(2 * PAGE as usize, &job.counters());
        for (offset, pad) in job.alternating.iter().flat_map(|alternating| alternating.pads(true)) {
            assert!(FAR.contains(&offset), "a pad among the counters");
            self.put(offset, pad);
        }
        // Self-modifying code: this thread serialises before it executes what it wrote (SDM vol. 3, 9.1.3).
        core::arch::x86_64::__cpuid(0);
        let mut log = vec![Pass::default(); BATCH];
        let (stop, stores) = (AtomicBool::new(false), AtomicU64::new(0));
        let turn = AtomicBool::new(false);
        let (mut passes, mut seconds) = (0, 0.0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin(place.writer);
                turn.store(true, Ordering::Relaxed);
                stores.store(write(job, start + job.store as u64, counters, &stop), Ordering::Relaxed);
            });
            let began = await_turn(&turn);
            while began.elapsed() < job.duration && !stop_requested() {
                let log_address = log.as_mut_ptr() as u64;
                let arguments = [start + job.entry() as u64, counters, BATCH as u64, log_address, 0, 0];
                // SAFETY: the site returns whatever mix of its versions is fetched; the log has BATCH entries.
                unsafe { Loop::Execute(job.shape).call(arguments) };
                passes += BATCH as u64;
                sink(&log);
            }
            stop.store(true, Ordering::Relaxed);
            seconds = began.elapsed().as_secs_f64();
        });
        let stores = stores.load(Ordering::Relaxed);
        Ok(Slice { passes, stores, seconds, exceptions: Vec::new() })
    }
}

impl Plain {
    /// How long so many batches of [`BATCH`] passes take with nobody storing.
    pub fn undisturbed(&mut self, job: &Job, batches: u64) -> Duration {
        let (start, counters) = (self.0 as u64, self.0 as u64 + 2 * PAGE);
        self.put(0, &text(job));
        // Self-modifying code, as in `slice`.
        core::arch::x86_64::__cpuid(0);
        let mut log = vec![Pass::default(); BATCH];
        let site = start + job.entry() as u64;
        let arguments = [site, counters, BATCH as u64, log.as_mut_ptr() as u64, batches, 0];
        let began = Instant::now();
        // SAFETY: the site returns; the log has BATCH entries, and each batch begins anew.
        unsafe { Loop::Repeat.call(arguments) };
        began.elapsed()
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing runs in it any more.
        unsafe { libc::munmap(self.0.cast(), LEN) };
    }
}

/// The host's writer: stores until it is told to stop. Returns how many stores it made.
pub(super) fn write(job: &Job, target: u64, counters: u64, stop: &AtomicBool) -> u64 {
    let (mut generation, mut random) = (0, job.seed);
    while !stop.load(Ordering::Relaxed) {
        let arguments = [target, counters, WRITES, generation, random, job.spacing];
        // SAFETY: the callers pass addresses inside a mapping that outlives this thread.
        random = unsafe { job.writer().call(arguments) };
        generation += WRITES;
    }
    generation
}

const _: () = assert!(BEGUN < DONE && DONE < COUNTERS);
