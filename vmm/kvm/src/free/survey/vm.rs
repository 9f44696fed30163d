//! The virtual machine of a survey.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossmod_abi::{PAGE, port, va, vector};
use crossmod_model::layout::FILLER;
use crossmod_model::plan::Ring;
use crossmod_model::x86::cpu::{Cpu, reg};
use kvm_ioctls::VmFd;

use super::job::{WRITES, against};
use super::loops::{self, COUNTERS, Loop};
use super::{BATCH, Job, Pinning, Slice, Writer};
use crate::free::{CODE, FINISH, LOG, Pass, return_slot, unexpected, vm_with_one_text};
use crate::host::Host;
use crate::kick::Guard;
use crate::layout::{self, CpuPages};
use crate::memory::Memory;
use crate::vcpu::{Exit, Vcpu};
use crate::vm::{Controller, Vm};
use crate::{MachineError, Result, stop_requested, tables};

/// The handler of #BP: an INT3 replaces an instruction of five bytes.
const TRAPPED: u64 = FINISH - 16;
/// `mov eax, 0x3cc; add qword ptr [rsp], 4; iretq`.
const TRAP: [u8; 12] = [0xb8, 0xcc, 0x03, 0, 0, 0x48, 0x83, 0x04, 0x24, 4, 0x48, 0xcf];
/// Passes of [`SurveyVm::alone`].
const FEW: usize = 16;
/// Offset of the counters in the shared page, behind the explorer's state.
const COUNTERS_AT: u64 = 0x400;
const _: () = assert!(COUNTERS_AT + COUNTERS <= PAGE);

/// A virtual machine with an executor and a writer.
pub struct SurveyVm {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    executor: Vcpu,
    writer: Vcpu,
    _vm: VmFd,
    memory: Memory,
    guard: Guard,
    ring: Ring,
}

impl SurveyVm {
    /// Address of the first site page.
    pub const TEXT: u64 = va::SITE;

    /// Makes a machine whose executor runs at `ring`, driven by the calling thread. A writer runs at ring 3.
    ///
    /// # Errors
    ///
    /// [`MachineError::NotHere`] for ring 0 where it is emulated.
    pub fn new(ring: Ring) -> Result<SurveyVm> {
        if ring == Ring::Kernel && Host::read().emulates_ring_0() {
            let why = "kvm_pvm emulates ring 0, so that a survey there would count what its emulator does; use --ring 3";
            return Err(MachineError::NotHere(why.into()));
        }
        let Vm { fd: vm, memory, cpuid, .. } = vm_with_one_text(2, Controller::None, loops::bytes())?;
        memory.write(TRAPPED, &TRAP)?;
        tables::gate(&memory, vector::BP, TRAPPED)?;
        let executor = Vcpu::new(&vm, 0, &cpuid, None)?;
        let writer = Vcpu::new(&vm, 1, &cpuid, None)?;
        Ok(SurveyVm { executor, writer, _vm: vm, memory, guard: Guard::new()?, ring })
    }

    /// Runs the executor on the calling thread against a writer on another one. `sink` gets each batch of passes.
    /// After an exception, which is counted, the executor continues with the next batch.
    pub fn slice(
        &mut self,
        job: &Job,
        writer: Writer,
        place: Pinning,
        mut sink: impl FnMut(&[Pass]),
    ) -> Result<Slice> {
        self.put(job)?;
        let host = self.memory.host_address()?;
        let SurveyVm { executor, writer: second, memory, guard, ring, .. } = self;
        let memory = &*memory;
        let mut executor = Caller { vcpu: executor, cpu: 0, memory, guard };
        let write = |stop: &AtomicBool| match writer {
            Writer::Host => {
                let counters = host + layout::SHARED + COUNTERS_AT;
                // SAFETY: both are in the guest memory, which outlives the writer; there are no references to it.
                Ok(unsafe { job.write(host + layout::MASTER + job.store as u64, counters, stop) })
            }
            Writer::Vcpu => {
                let guard = Guard::new()?;
                Caller { vcpu: second, cpu: 1, memory, guard: &guard }.write(job, stop)
            }
        };
        let mut bytes = vec![0; BATCH * size_of::<Pass>()];
        against(place.writer, write, |began, slice| {
            let arguments = executing(job, BATCH, 0);
            while began.elapsed() < job.duration && !stop_requested() {
                if let Some(vector) = executor.call(Loop::Execute(job.shape), *ring, arguments)? {
                    slice.exceptions.push(vector);
                    continue;
                }
                memory.read(LOG, &mut bytes)?;
                let passes = Pass::read(&bytes);
                slice.passes += passes.len() as u64;
                sink(&passes);
            }
            Ok(())
        })
    }

    /// Writes site, counters and pads of a job.
    fn put(&self, job: &Job) -> Result<()> {
        self.memory.write(layout::MASTER, &job.text())?;
        self.memory.write(layout::SHARED + COUNTERS_AT, &job.counters())?;
        if let Some(alternating) = &job.alternating {
            // One page is mapped at every address outside of the site pages, so that only the page offset matters.
            self.memory.write(layout::LANDING, &[FILLER; PAGE as usize])?;
            for (offset, pad) in alternating.pads(true) {
                self.memory.write(layout::LANDING + offset as u64 % PAGE, pad)?;
            }
        }
        Ok(())
    }

    /// The value that a few passes leave in RAX while nothing stores; none if the values differ, or a pass raises an
    /// exception.
    ///
    /// # Errors
    ///
    /// Those of the machine.
    pub fn alone(&mut self, job: &Job) -> Result<Option<u64>> {
        self.put(job)?;
        let mut bytes = [0; FEW * size_of::<Pass>()];
        let ring = self.ring;
        if self.executor().call(Loop::Execute(job.shape), ring, executing(job, FEW, 0))?.is_some() {
            return Ok(None);
        }
        self.memory.read(LOG, &mut bytes)?;
        let passes = Pass::read(&bytes);
        Ok(passes.iter().all(|pass| pass.value == passes[0].value).then_some(passes[0].value))
    }

    /// The time that `batches` batches of [`BATCH`] passes take while nothing stores, without an exit between them.
    ///
    /// # Errors
    ///
    /// Those of the machine.
    pub fn undisturbed(&mut self, job: &Job, batches: u64) -> Result<Duration> {
        self.memory.write(layout::MASTER, &job.text())?;
        let (ring, began) = (self.ring, Instant::now());
        self.executor().call_through(Loop::Repeat, ring, executing(job, BATCH, batches))?;
        Ok(began.elapsed())
    }

    fn executor(&mut self) -> Caller<'_> {
        Caller { vcpu: &mut self.executor, cpu: 0, memory: &self.memory, guard: &self.guard }
    }
}

/// The arguments of the executor's loops.
fn executing(job: &Job, passes: usize, batches: u64) -> [u64; 6] {
    [va::SITE + job.entry() as u64, va::SHARED + COUNTERS_AT, passes as u64, LOG, batches, 0]
}

/// A vCPU that runs loops.
struct Caller<'a> {
    vcpu: &'a mut Vcpu,
    cpu: usize,
    memory: &'a Memory,
    guard: &'a Guard,
}

impl Caller<'_> {
    /// Runs a loop to its end, with its arguments as the System V convention passes them. Returns the vector of an
    /// exception that ends it before.
    fn call(&mut self, which: Loop, ring: Ring, arguments: [u64; 6]) -> Result<Option<u8>> {
        const ORDER: [usize; 6] = [7, 6, 2, 1, 8, 9];
        let mut regs = Cpu::at(CODE + which.offset(), va::SITE, 0, ring == Ring::User).regs;
        for (register, value) in ORDER.into_iter().zip(arguments) {
            regs.gpr[register] = value;
        }
        regs.gpr[reg::RSP] -= 8;
        self.memory.write_u64(return_slot(self.cpu, &regs), FINISH)?;
        self.vcpu.restore(CpuPages::of(self.cpu).pml4, &regs, None)?;
        match self.vcpu.run(self.guard, regs.rip)? {
            Exit::Doorbell(port::STOP) => Ok(None),
            Exit::Doorbell(vector) => Ok(Some(vector)),
            exit => Err(unexpected(&exit, self.vcpu.rip(), regs.rip)),
        }
    }

    /// The same for a loop that raises no exception.
    fn call_through(&mut self, which: Loop, ring: Ring, arguments: [u64; 6]) -> Result<()> {
        match self.call(which, ring, arguments)?.map(Exit::Doorbell) {
            None => Ok(()),
            Some(exit) => Err(unexpected(&exit, self.vcpu.rip(), CODE + which.offset())),
        }
    }

    /// The writer's loops, until `stop` is set. Returns the number of stores.
    fn write(&mut self, job: &Job, stop: &AtomicBool) -> Result<u64> {
        let (mut generation, mut random) = (0, job.seed);
        while !stop.load(Ordering::Relaxed) {
            let target = va::MASTER + job.store as u64;
            let arguments = [target, va::SHARED + COUNTERS_AT, WRITES, generation, random, job.spacing];
            self.call_through(job.writer(), Ring::User, arguments)?;
            random = self.vcpu.gpr(reg::RAX);
            generation += WRITES;
        }
        Ok(generation)
    }
}
