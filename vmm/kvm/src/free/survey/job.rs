//! What a survey's loops run: site, stores, and threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossmod_abi::PAGE;
use crossmod_model::layout::FILLER;

use super::Length;
use super::loops::{COUNTERS, Loop, SCRATCH, Shape};
use crate::{MachineError, Result, pin};

/// Stores between two looks at the flag that ends the writer.
pub(super) const WRITES: u64 = 1024;
/// Offsets that a pad outside of the site pages may have. The counters of [`PlainThreads`](super::PlainThreads) lie
/// between them and the site pages.
pub(super) const FAR: std::ops::Range<usize> = 3 * PAGE as usize..16 * PAGE as usize;

/// Instructions before a site with neighbours: three NOPs of four bytes.
const BEFORE: [u8; 12] = [0x0f, 0x1f, 0x40, 0, 0x0f, 0x1f, 0x40, 0, 0x0f, 0x1f, 0x40, 0];

/// A site, and how to execute it and store to it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Offset of the executed instruction in the two site pages.
    pub site: usize,
    /// The site before the first store, and what returns from it.
    pub code: Vec<u8>,
    /// Offset of the first byte stored to.
    pub store: usize,
    /// Bytes of one store.
    pub length: Length,
    /// Two versions to store in turn, 1 or 8 bytes each.
    pub alternating: Option<Alternating>,
    /// How the executor passes through the site.
    pub shape: Shape,
    /// Mask of the random number of idle loop rounds between two stores.
    pub spacing: u64,
    /// Seed of the spacing.
    pub seed: u64,
    /// How long to run.
    pub duration: Duration,
}

impl Job {
    /// Offset of what the executor calls.
    pub(super) fn entry(&self) -> usize {
        if self.shape == Shape::Neighbours { self.site - BEFORE.len() } else { self.site }
    }

    pub(super) fn writer(&self) -> Loop {
        match self.alternating {
            None => Loop::Write(self.length),
            Some(_) => Loop::Alternate { byte: self.length == Length::One },
        }
    }

    /// The counters before the first store.
    pub(super) fn counters(&self) -> [u8; COUNTERS as usize] {
        let mut bytes = [0; COUNTERS as usize];
        if let Some(Alternating { versions, .. }) = &self.alternating {
            bytes[SCRATCH as usize..][..16].copy_from_slice(versions.as_flattened());
        }
        bytes
    }

    /// The two site pages before the first store.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = vec![FILLER; 2 * PAGE as usize];
        text[self.site - BEFORE.len()..self.site].copy_from_slice(&BEFORE);
        text[self.site..self.site + self.code.len()].copy_from_slice(&self.code);
        for (offset, pad) in self.alternating.iter().flat_map(|alternating| alternating.pads(false)) {
            text[offset..offset + pad.len()].copy_from_slice(pad);
        }
        text
    }

    /// The host's writer: stores to `target` until `stop` is set. Returns the number of stores.
    ///
    /// # Safety
    ///
    /// The job's stores to `target`, and [`COUNTERS`] bytes from `counters`, are inside a mapping that outlives the
    /// call, and nobody holds references into either.
    pub(super) unsafe fn write(&self, target: u64, counters: u64, stop: &AtomicBool) -> u64 {
        let (mut generation, mut random) = (0, self.seed);
        while !stop.load(Ordering::Relaxed) {
            let arguments = [target, counters, WRITES, generation, random, self.spacing];
            // SAFETY: the caller's promise.
            random = unsafe { self.writer().call(arguments) };
            generation += WRITES;
        }
        generation
    }
}

/// Two versions that are stored in turn, instead of an immediate with the generation in each byte. The site holds the
/// first one at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternating {
    /// What is stored: the first byte of each, or all eight.
    pub versions: [[u8; 8]; 2],
    /// Code at offsets from the first site page: in the two site pages, or from the fourth page to the sixteenth.
    pub pads: Vec<(usize, Vec<u8>)>,
}

impl Alternating {
    /// Pads in the site pages, or those behind.
    pub(super) fn pads(&self, far: bool) -> impl Iterator<Item = (usize, &[u8])> {
        let all = self.pads.iter().map(|(offset, pad)| (*offset, &pad[..]));
        all.filter(move |&(offset, _)| (offset >= 2 * PAGE as usize) == far)
    }
}

/// `mov eax, value; ret`.
pub fn pad(value: u32) -> Vec<u8> {
    let [a, b, c, d] = value.to_le_bytes();
    vec![0xb8, a, b, c, d, 0xc3]
}

/// The CPUs that the threads are pinned to.
#[derive(Debug, Clone, Copy)]
pub struct Pinning {
    /// CPU of the executor's thread.
    pub executor: usize,
    /// CPU of the writer's thread.
    pub writer: usize,
}

/// Who stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// A host thread, into guest memory.
    Host,
    /// The second vCPU, through its alias of the site pages.
    Vcpu,
}

/// Counts of one slice, besides its passes.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// Complete passes.
    pub passes: u64,
    /// Stores.
    pub stores: u64,
    /// Duration in seconds.
    pub seconds: f64,
    /// Vectors of the exceptions that the executor raised.
    pub exceptions: Vec<u8>,
}

/// Runs `write` on a thread of its own, until the flag is set, and `execute` on this one. Passes before the first turn of
/// the other would all show the first version, so that `execute` begins after that. A signal ends both without an error.
pub(super) fn against(
    cpu: usize,
    write: impl FnOnce(&AtomicBool) -> Result<u64> + Send,
    execute: impl FnOnce(Instant, &mut Slice) -> Result<()>,
) -> Result<Slice> {
    let (stop, turn) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut slice = Slice::default();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            pin(cpu);
            turn.store(true, Ordering::Relaxed);
            write(&stop)
        });
        while !turn.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let began = Instant::now();
        let result = execute(began, &mut slice);
        slice.seconds = began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().expect("the writer has nothing that can panic");
        slice.stores = *written.as_ref().unwrap_or(&0);
        match result.and(written) {
            Ok(_) | Err(MachineError::Interrupted) => Ok(slice),
            Err(error) => Err(error),
        }
    })
}
