//! The machine at full speed: pinned threads, vCPUs at ring 3, nothing stepped, nothing replayable.
//!
//! Both vCPUs see *one* copy of the site pages, unlike those of [`Machine`](super::Machine). The executor records
//! each pass, and the host looks at the records when a batch is complete: the loop between two exits is
//! a dozen instructions, the same that [`Plain`] runs without KVM.

mod code;
mod course;
mod hands;
mod lane;
mod length;
mod message;
mod patcher;
mod plain;
mod rig;
mod window;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossmod_abi::{PAGE, port, va, vector};
use kvm_ioctls::VmFd;

pub use course::{Course, Ground, Trap, Watch};
pub use hands::{Hands, Waited};
pub use length::Length;
pub use message::{Injector, Message};
pub use patcher::{Counted, Patcher, Signal};
pub use plain::Plain;
pub use rig::{Rig, ticks};

use crossmod_model::plan::Ring;
use crossmod_model::x86::cpu::{Cpu, Regs, reg};

use super::kick::Guard;
use super::layout::{self, CpuPages};
use super::memory::Memory;
use super::vcpu::{Exit, Inject, Vcpu};
use super::vm::{Controller, Vm};
use super::{FILLER, HANDLERS, Image, MachineError, pin, stop_requested, tables};
use crate::host::Host;
use code::{COUNTERS, Loop, SCRATCH};

/// Passes between two looks at the log.
pub const BATCH: usize = 8192;
/// Stores between two looks at the flag that ends the writer.
const WRITES: u64 = 1024;

/// Where the loops stand in the identity-mapped low 2 MiB, behind the guest image.
const CODE: u64 = 0x18_0000;
/// The instruction that a loop returns to.
const FINISH: u64 = CODE - 16;
/// The log, below the image and above what an SMI would use.
const LOG: u64 = 0x4_0000;
/// The handler of #BP: what the INT3 stands for has five bytes.
const TRAPPED: u64 = FINISH - 16;
/// `mov eax, 0x3cc; add qword ptr [rsp], 4; iretq`.
const TRAP: [u8; 12] = [0xb8, 0xcc, 0x03, 0, 0, 0x48, 0x83, 0x04, 0x24, 4, 0x48, 0xcf];
/// Passes of [`FreeMachine::alone`].
const FEW: usize = 16;
/// Offset of the counters in the shared page; what is before them belongs to the explorer.
const COUNTERS_AT: u64 = 0x400;

/// Where the local APIC's page stands (SDM vol. 3, 11.4.1), and its EOI register (11.8.5).
const APIC: u64 = 0xfee0_0000;
const APIC_VA: u64 = va::IDT + PAGE;
const EOI: u64 = 0xb0;

const _: () = assert!(LOG + (BATCH * size_of::<Pass>()) as u64 <= layout::IMAGE);
const _: () = assert!(COUNTERS_AT + COUNTERS <= PAGE);

/// One pass of an executor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pass {
    /// The last generation that was stored when the pass began.
    pub done: u64,
    /// What the site left in RAX.
    pub value: u64,
    /// The last generation whose store had begun when the pass was over.
    pub begun: u64,
}

impl Pass {
    /// Those in a log.
    fn read(log: &[u8]) -> Vec<Pass> {
        let (passes, _) = log.as_chunks::<{ size_of::<Pass>() }>();
        let of = |pass: &[u8; size_of::<Pass>()]| {
            let (words, _) = pass.as_chunks::<8>();
            let [done, value, begun] = [0, 1, 2].map(|word| u64::from_le_bytes(words[word]));
            Pass { done, value, begun }
        };
        passes.iter().map(of).collect()
    }
}

/// How an executor passes through a site, between looking at the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Calls it.
    Tight,
    /// Comes from the instructions before it.
    Neighbours,
    /// Serialises, then calls it.
    Serialised,
    /// Throws its lines out of every cache (CLFLUSH), then calls it.
    Cold,
}

/// Instructions before a site with neighbours: three NOPs of four bytes.
const BEFORE: [u8; 12] = [0x0f, 0x1f, 0x40, 0, 0x0f, 0x1f, 0x40, 0, 0x0f, 0x1f, 0x40, 0];

impl Job {
    /// Offset of what the executor calls.
    fn entry(&self) -> usize {
        if self.shape == Shape::Neighbours { self.site - BEFORE.len() } else { self.site }
    }

    fn writer(&self) -> Loop {
        match self.alternating {
            None => Loop::Write(self.length),
            Some(_) => Loop::Alternate { byte: self.length == Length::One },
        }
    }

    /// The counters before the first store.
    fn counters(&self) -> [u8; COUNTERS as usize] {
        let mut bytes = [0; COUNTERS as usize];
        if let Some(Alternating { versions, .. }) = &self.alternating {
            bytes[SCRATCH as usize..][..16].copy_from_slice(versions.as_flattened());
        }
        bytes
    }
}

/// Two versions that are stored in turn, instead of an immediate with the generation in each byte. The site has the
/// first one before the first store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alternating {
    /// What is stored: the first byte of each, or all eight.
    pub versions: [[u8; 8]; 2],
    /// What stands at offsets from the first site page: in one of the two, or behind them and the next one, up to
    /// sixteen pages from there.
    pub pads: Vec<(usize, Vec<u8>)>,
}

/// Offsets that a pad outside of the site pages may have: the counters of [`Plain`] stand between.
const FAR: std::ops::Range<usize> = 3 * PAGE as usize..16 * PAGE as usize;

impl Alternating {
    /// Pads in the site pages, or those behind.
    fn pads(&self, far: bool) -> impl Iterator<Item = (usize, &[u8])> {
        let all = self.pads.iter().map(|(offset, pad)| (*offset, &pad[..]));
        all.filter(move |&(offset, _)| (offset >= 2 * PAGE as usize) == far)
    }
}

/// `mov eax, value; ret`.
pub fn pad(value: u32) -> Vec<u8> {
    let [a, b, c, d] = value.to_le_bytes();
    vec![0xb8, a, b, c, d, 0xc3]
}

/// What to run.
#[derive(Debug, Clone)]
pub struct Job {
    /// Offset of the executed instruction in the two site pages.
    pub site: usize,
    /// The site before the first store, and what returns from it.
    pub code: Vec<u8>,
    /// Offset of the first byte stored to.
    pub store: usize,
    /// How it is stored.
    pub length: Length,
    /// Two versions, 1 or 8 bytes each, in turn.
    pub alternating: Option<Alternating>,
    /// How the executor passes through the site.
    pub shape: Shape,
    /// Mask of the number of loop rounds between two stores.
    pub spacing: u64,
    /// Seed of the spacing.
    pub seed: u64,
    /// How long to run.
    pub duration: Duration,
}

/// Where threads run.
#[derive(Debug, Clone, Copy)]
pub struct Place {
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

/// What a slice came to, beside the passes.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// Complete passes.
    pub passes: u64,
    /// Stores made.
    pub stores: u64,
    /// How long it took.
    pub seconds: f64,
    /// Vectors of exceptions that the executor met.
    pub exceptions: Vec<u8>,
}

/// A virtual machine with an executor and a writer.
pub struct FreeMachine {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    executor: Vcpu,
    writer: Vcpu,
    _vm: VmFd,
    memory: Memory,
    guard: Guard,
    ring: Ring,
}

impl FreeMachine {
    /// Address of the first site page.
    pub const TEXT: u64 = va::SITE;

    /// A machine whose executor runs on the calling thread, its code at a ring. A writer is at ring 3.
    ///
    /// # Errors
    ///
    /// [`MachineError::NotHere`] for ring 0 where it is emulated.
    pub fn new(ring: Ring) -> Result<FreeMachine, MachineError> {
        if ring == Ring::Kernel && Host::read().emulates_ring_0() {
            let why = "kvm_pvm emulates ring 0 instruction by instruction: what was counted there would be its emulator's";
            return Err(MachineError::NotHere(format!("{why}, not this CPU's; use --ring 3")));
        }
        let Vm { fd: vm, memory, cpuid, .. } = free(2, Controller::None, code::bytes())?;
        memory.write(TRAPPED, &TRAP)?;
        tables::gate(&memory, vector::BP, TRAPPED)?;
        let executor = Vcpu::new(&vm, 0, &cpuid, None)?;
        let writer = Vcpu::new(&vm, 1, &cpuid, None)?;
        Ok(FreeMachine { executor, writer, _vm: vm, memory, guard: Guard::new()?, ring })
    }

    /// Runs the executor on the calling thread against a writer on another one. `sink` gets each batch of passes.
    /// An exception that the executor meets is counted, and the executor goes on with the next batch.
    pub fn slice(
        &mut self,
        job: &Job,
        writer: Writer,
        place: Place,
        mut sink: impl FnMut(&[Pass]),
    ) -> Result<Slice, MachineError> {
        self.put(job)?;
        let host = self.memory.host_address()?;
        let (stop, stores) = (AtomicBool::new(false), AtomicU64::new(0));
        let mut slice = Slice::default();
        let turn = AtomicBool::new(false);
        let FreeMachine { executor, writer: second, memory, guard, ring, .. } = self;
        let (memory, ring) = (&*memory, *ring);
        std::thread::scope(|scope| {
            let (stop, stores, turn) = (&stop, &stores, &turn);
            let thread = scope.spawn(move || {
                pin(place.writer);
                turn.store(true, Ordering::Relaxed);
                let count = match writer {
                    Writer::Host => {
                        let counters = host + layout::SHARED + COUNTERS_AT;
                        Ok(plain::write(job, host + layout::MASTER + job.store as u64, counters, stop))
                    }
                    Writer::Vcpu => write(second, memory, job, stop),
                };
                count.map(|count| stores.store(count, Ordering::Relaxed))
            });
            let began = await_turn(turn);
            let result = execute(executor, memory, guard, (job, ring), began, &mut slice, &mut sink);
            slice.seconds = began.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            let written = thread.join().expect("the writer has nothing that can panic");
            match result.and(written) {
                Err(MachineError::Interrupted) => Ok(()),
                result => result,
            }
        })?;
        slice.stores = stores.load(Ordering::Relaxed);
        Ok(slice)
    }
}

/// Waits until the writer's thread has had its first turn: passes before that would all show the first version.
fn await_turn(turn: &AtomicBool) -> Instant {
    while !turn.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
    Instant::now()
}

impl FreeMachine {
    /// What a job needs in memory.
    fn put(&self, job: &Job) -> Result<(), MachineError> {
        self.memory.write(layout::MASTER, &text(job))?;
        self.memory.write(layout::SHARED + COUNTERS_AT, &job.counters())?;
        if let Some(alternating) = &job.alternating {
            // One page stands behind all that is not a site page: what differs only in the page is one pad there.
            self.memory.write(layout::LANDING, &[FILLER; PAGE as usize])?;
            for (offset, pad) in alternating.pads(true) {
                self.memory.write(layout::LANDING + offset as u64 % PAGE, pad)?;
            }
        }
        Ok(())
    }

    /// What a few passes leave in RAX with nobody storing; none if they do not all leave the same, or raise an
    /// exception.
    ///
    /// # Errors
    ///
    /// Of the machine.
    pub fn alone(&mut self, job: &Job) -> Result<Option<u64>, MachineError> {
        self.put(job)?;
        let mut bytes = [0; FEW * size_of::<Pass>()];
        let site = va::SITE + job.entry() as u64;
        let arguments = [site, va::SHARED + COUNTERS_AT, FEW as u64, LOG, 0, 0];
        let regs = enter(Loop::Execute(job.shape), arguments, self.ring);
        self.memory.write_u64(return_slot(0, &regs), FINISH)?;
        self.executor.restore(CpuPages::of(0).pml4(), &regs, false, Inject::Nothing)?;
        match self.executor.run(&self.guard, regs.rip)? {
            Exit::Doorbell(port::STOP) => {}
            Exit::Doorbell(_) => return Ok(None),
            exit => return Err(unexpected(&exit, self.executor.rip(), regs.rip)),
        }
        self.memory.read(LOG, &mut bytes)?;
        let passes = Pass::read(&bytes);
        Ok(passes.iter().all(|pass| pass.value == passes[0].value).then_some(passes[0].value))
    }

    /// How long so many batches of [`BATCH`] passes take with nobody storing and no exit between them. The executor
    /// runs on the calling thread.
    pub fn undisturbed(&mut self, job: &Job, batches: u64) -> Result<Duration, MachineError> {
        self.memory.write(layout::MASTER, &text(job))?;
        let site = va::SITE + job.entry() as u64;
        let regs =
            enter(Loop::Repeat, [site, va::SHARED + COUNTERS_AT, BATCH as u64, LOG, batches, 0], self.ring);
        self.memory.write_u64(return_slot(0, &regs), FINISH)?;
        self.executor.restore(CpuPages::of(0).pml4(), &regs, false, Inject::Nothing)?;
        let began = Instant::now();
        match self.executor.run(&self.guard, regs.rip)? {
            Exit::Doorbell(port::STOP) => Ok(began.elapsed()),
            exit => Err(unexpected(&exit, self.executor.rip(), regs.rip)),
        }
    }
}

/// A VM whose vCPUs fetch from one copy of the site pages, with code at [`CODE`] and plain handlers for everything.
fn free(cpus: usize, controller: Controller, code: &[u8]) -> Result<Vm, MachineError> {
    let vm = Vm::new(cpus, controller)?;
    vm.memory.write(CODE, code)?;
    vm.memory.write(FINISH, &[0xe6, port::STOP, 0xf4])?; // out STOP, al; hlt
    for index in 0..cpus {
        tables::one_text(&vm.memory, CpuPages::of(index))?;
    }
    let image = Image::embedded()?;
    for (vector, name) in HANDLERS {
        tables::gate(&vm.memory, vector, image.label(name)?)?;
    }
    Ok(vm)
}

/// The two site pages before the first store.
fn text(job: &Job) -> Vec<u8> {
    let mut text = vec![FILLER; 2 * PAGE as usize];
    text[job.site - BEFORE.len()..job.site].copy_from_slice(&BEFORE);
    text[job.site..job.site + job.code.len()].copy_from_slice(&job.code);
    for (offset, pad) in job.alternating.iter().flat_map(|alternating| alternating.pads(false)) {
        text[offset..offset + pad.len()].copy_from_slice(pad);
    }
    text
}

/// The registers that begin a loop: arguments in the order of the System V convention.
fn enter(which: Loop, arguments: [u64; 6], ring: Ring) -> Regs {
    const ORDER: [usize; 6] = [7, 6, 2, 1, 8, 9];
    let mut regs = Cpu::at(CODE + which.offset(), va::SITE, 0, ring == Ring::User).regs;
    for (register, value) in ORDER.into_iter().zip(arguments) {
        regs.gpr[register] = value;
    }
    regs.gpr[reg::RSP] -= 8;
    regs
}

/// Where the return address of a loop stands, in guest-physical memory.
fn return_slot(cpu: usize, regs: &Regs) -> u64 {
    CpuPages::of(cpu).private() + (regs.gpr[reg::RSP] - va::PRIVATE)
}

fn execute(
    vcpu: &mut Vcpu,
    memory: &Memory,
    guard: &Guard,
    (job, ring): (&Job, Ring),
    began: Instant,
    slice: &mut Slice,
    sink: &mut impl FnMut(&[Pass]),
) -> Result<(), MachineError> {
    let site = va::SITE + job.entry() as u64;
    let arguments = [site, va::SHARED + COUNTERS_AT, BATCH as u64, LOG, 0, 0];
    let regs = enter(Loop::Execute(job.shape), arguments, ring);
    let mut bytes = vec![0; BATCH * size_of::<Pass>()];
    while began.elapsed() < job.duration && !stop_requested() {
        memory.write_u64(return_slot(0, &regs), FINISH)?;
        vcpu.restore(CpuPages::of(0).pml4(), &regs, false, Inject::Nothing)?;
        match vcpu.run(guard, regs.rip)? {
            Exit::Doorbell(port::STOP) => {}
            Exit::Doorbell(vector) => {
                slice.exceptions.push(vector);
                continue;
            }
            exit => return Err(unexpected(&exit, vcpu.rip(), regs.rip)),
        }
        memory.read(LOG, &mut bytes)?;
        let passes = Pass::read(&bytes);
        slice.passes += passes.len() as u64;
        sink(&passes);
    }
    Ok(())
}

/// The second vCPU as writer.
fn write(vcpu: &mut Vcpu, memory: &Memory, job: &Job, stop: &AtomicBool) -> Result<u64, MachineError> {
    let guard = Guard::new()?;
    let (mut generation, mut random) = (0, job.seed);
    while !stop.load(Ordering::Relaxed) {
        let target = va::MASTER + job.store as u64;
        let arguments = [target, va::SHARED + COUNTERS_AT, WRITES, generation, random, job.spacing];
        let regs = enter(job.writer(), arguments, Ring::User);
        memory.write_u64(return_slot(1, &regs), FINISH)?;
        vcpu.restore(CpuPages::of(1).pml4(), &regs, false, Inject::Nothing)?;
        match vcpu.run(&guard, regs.rip)? {
            Exit::Doorbell(port::STOP) => {}
            exit => return Err(unexpected(&exit, vcpu.rip(), regs.rip)),
        }
        random = vcpu.gpr(reg::RAX);
        generation += WRITES;
    }
    Ok(generation)
}

/// Keeps this CPU busy for a time: sleeping takes longer than what is waited for at full speed.
pub fn spin(time: Duration) {
    let from = Instant::now();
    while from.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn unexpected(exit: &Exit, rip: u64, from: u64) -> MachineError {
    MachineError::UnexpectedExit { exit: format!("{exit:?}"), rip, from }
}
