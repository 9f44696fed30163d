//! The same experiment on two threads of this process, without KVM: the reference for the virtual machine.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use crossmod_abi::PAGE;
use vm_memory::mmap::MmapRegion;

use super::job::{FAR, against};
use super::loops::{BEGUN, COUNTERS, DONE, Loop};
use super::{BATCH, Job, Pinning, Slice};
use crate::free::Pass;
use crate::{MachineError, Result, stop_requested};

/// Two pages of text, a page of counters, and the pages of far pads.
const LEN: usize = FAR.end;

/// A writable and executable mapping of those pages.
#[derive(Debug)]
pub struct PlainThreads(MmapRegion<()>);

impl PlainThreads {
    /// Maps the pages.
    pub fn new() -> Result<PlainThreads> {
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        MmapRegion::build(None, LEN, protection, flags).map(PlainThreads).map_err(|error| {
            MachineError::Memory(format!("cannot map a writable and executable page: {error}"))
        })
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= LEN, "outside the mapping");
        // SAFETY: the mapping is owned and long enough, and no other thread runs in it while it is borrowed mutably.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(at), bytes.len()) };
    }

    /// Runs an executor on the calling thread against a writer on another one.
    pub fn slice(&mut self, job: &Job, place: Pinning, mut sink: impl FnMut(&[Pass])) -> Result<Slice> {
        let (start, counters) = self.put_job(job);
        let mut log = vec![Pass::default(); BATCH];
        // SAFETY: both addresses are in the mapping, which outlives the writer; there are no references to it.
        let write = |stop: &AtomicBool| Ok(unsafe { job.write(start + job.store as u64, counters, stop) });
        against(place.writer, write, |began, slice| {
            while began.elapsed() < job.duration && !stop_requested() {
                let log_address = log.as_mut_ptr() as u64;
                let arguments = [start + job.entry() as u64, counters, BATCH as u64, log_address, 0, 0];
                // SAFETY: the site returns whatever mix of its versions is fetched; the log has BATCH entries.
                unsafe { Loop::Execute(job.shape).call(arguments) };
                slice.passes += BATCH as u64;
                sink(&log);
            }
            Ok(())
        })
    }

    /// Writes the site pages, the counters, and pads. Returns the addresses of the first two.
    fn put_job(&mut self, job: &Job) -> (u64, u64) {
        self.put(0, &job.text());
        self.put(2 * PAGE as usize, &job.counters());
        for (offset, pad) in job.alternating.iter().flat_map(|alternating| alternating.pads(true)) {
            assert!(FAR.contains(&offset), "a pad among the counters");
            self.put(offset, pad);
        }
        // Self-modifying code: this thread serialises before it executes what it wrote (SDM vol. 3, 9.1.3).
        core::arch::x86_64::__cpuid(0);
        (self.0.as_ptr() as u64, self.0.as_ptr() as u64 + 2 * PAGE)
    }

    /// The time that `batches` batches of [`BATCH`] passes take while nothing stores.
    pub fn undisturbed(&mut self, job: &Job, batches: u64) -> Duration {
        let (start, counters) = self.put_job(job);
        let mut log = vec![Pass::default(); BATCH];
        let site = start + job.entry() as u64;
        let arguments = [site, counters, BATCH as u64, log.as_mut_ptr() as u64, batches, 0];
        let began = Instant::now();
        // SAFETY: the site returns; the log has BATCH entries, and each batch begins anew.
        unsafe { Loop::Repeat.call(arguments) };
        began.elapsed()
    }
}

const _: () = assert!(BEGUN < DONE && DONE < COUNTERS);
