//! Executors that run until they are stopped, each on a thread of its own, while the host's patcher sends them messages.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossmod_abi::PAGE;
use crossmod_model::layout::{FILLER, MAX_CPUS};
use crossmod_model::x86::cpu::Regs;
use kvm_ioctls::VmFd;

use super::guest_words::GuestWords;
use super::message::{Injector, Ledger, send};
use super::run_time::Threads;
use super::{APIC, APIC_VA, vm_with_one_text};
use crate::layout::{self, CpuPages};
use crate::memory::Memory;
use crate::vcpu::Vcpu;
use crate::vm::{Controller, Vm};
use crate::{Result, pin, tables};

/// Offsets in the shared page, behind the explorer's state; one cache line each.
pub(super) mod common {
    pub const TARGET: u64 = 0x480;
    pub const RELEASE: u64 = 0x4c0;
}

/// Offsets in a vCPU's private page, behind the stacks that the image uses.
pub(super) mod own {
    pub const ACK: u64 = 0xa00;
    pub const ARRIVED: u64 = 0xa08;
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    /// The condition came true.
    Done,
    /// It did not within some seconds, though all executors have run meanwhile.
    Stuck,
    /// It did not for long, and some executor has hardly run: the host is too busy.
    NotRun,
    /// A signal asked to stop, or an executor failed.
    Interrupted,
}

/// For how long each executor must have run before a condition counts as one that does not come true.
const RUN: Duration = Duration::from_secs(1);
/// After how much time without that the host counts as too busy.
const BUSY: Duration = Duration::from_secs(30);

/// The virtual machine. It runs once.
pub(super) struct Executors {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    pub vcpus: Vec<Vcpu>,
    vm: VmFd,
    pub memory: Memory,
    ledgers: Vec<Ledger>,
    threads: Threads,
    stop: AtomicBool,
}

/// One of them, on its thread.
pub(super) struct Executor<'a> {
    pub vcpu: &'a mut Vcpu,
    pub memory: &'a Memory,
    pub words: GuestWords,
    pub index: usize,
    pub ledger: &'a Ledger,
    pub stop: &'a AtomicBool,
}

impl Executors {
    /// Makes a machine with `code`, whose site pages hold `text` from an offset on, behind filler. Executors start from
    /// `regs`.
    ///
    /// # Errors
    ///
    /// [`NotHere`](crate::MachineError::NotHere) if KVM lacks an interrupt controller in the kernel, and those of KVM.
    pub fn new(count: usize, code: &[u8], (at, text): (usize, &[u8]), regs: &Regs) -> Result<Executors> {
        assert!((1..=MAX_CPUS).contains(&count), "1 to {MAX_CPUS} executors");
        let Vm { fd: vm, memory, cpuid, .. } = vm_with_one_text(count, Controller::InKernel, code)?;
        let mut pages = vec![FILLER; 2 * PAGE as usize];
        pages[at..at + text.len()].copy_from_slice(text);
        memory.write(layout::MASTER, &pages)?;
        let mut vcpus = Vec::new();
        for index in 0..count {
            tables::map(&memory, CpuPages::of(index), APIC_VA, APIC)?;
            let mut vcpu = Vcpu::new(&vm, index, &cpuid, None)?;
            vcpu.accept_messages()?;
            vcpu.restore(CpuPages::of(index).pml4, regs, None)?;
            vcpus.push(vcpu);
        }
        let ledgers = (0..count).map(|_| Ledger::default()).collect();
        Ok(Executors {
            vcpus,
            vm,
            memory,
            ledgers,
            threads: Threads::new(count),
            stop: AtomicBool::new(false),
        })
    }

    /// Runs executor *i* on the *i*th of `cpus` (starting over if there are fewer), each with its observer, and `patch` on
    /// the calling thread. That gets the patcher's signals, which stop the executors when they are dropped, also by a
    /// panic; and an injector, whose messages handlers count at the offsets `counts` of a vCPU's private page.
    pub fn run<'a, O: Send, T>(
        &'a mut self,
        cpus: &[usize],
        counts: [u64; 2],
        observers: Vec<O>,
        execute: impl Fn(Executor<'a>, O) -> Result<O> + Sync,
        patch: impl FnOnce(Signals<'a>, Injector<'a>) -> Result<T>,
    ) -> Result<(T, Vec<O>)> {
        let Executors { vcpus, vm, memory, ledgers, threads, stop } = self;
        let (vm, memory, ledgers, threads, stop) = (&*vm, &*memory, &ledgers[..], &*threads, &*stop);
        let words = GuestWords { base: memory.host_address()? };
        let executors = vcpus.len();
        let execute = &execute;
        std::thread::scope(|scope| {
            let signals = Signals { words, vm, executors, holds: 0, threads, stop };
            let mut joined = Vec::new();
            let each = vcpus.iter_mut().zip(observers).zip(cpus.iter().cycle());
            for (index, ((vcpu, observer), &cpu)) in each.enumerate() {
                joined.push(scope.spawn(move || {
                    pin(cpu);
                    threads.enter(index);
                    let ledger = &ledgers[index];
                    let result = execute(Executor { vcpu, memory, words, index, ledger, stop }, observer);
                    // The patcher must not wait for an executor that failed.
                    stop.store(true, Ordering::Relaxed);
                    result
                }));
            }
            let result = patch(signals, Injector { words, vm, ledgers, counts });
            let mut observers = Vec::new();
            for thread in joined {
                observers.push(thread.join().expect("an executor has nothing that can panic")?);
            }
            Ok((result?, observers))
        })
    }
}

/// Messages to all executors, and words of their memory. Dropping it releases held executors, and stops all of them.
pub(super) struct Signals<'a> {
    pub words: GuestWords,
    vm: &'a VmFd,
    pub executors: usize,
    /// Messages so far whose handlers wait for a release.
    pub holds: u64,
    threads: &'a Threads,
    pub stop: &'a AtomicBool,
}

impl Signals<'_> {
    /// Sends a message to one executor.
    pub fn send(&self, executor: usize, data: u32) -> Result<()> {
        send(self.vm, executor, data)
    }

    /// Lets the handlers of the next messages wait for a release.
    pub fn hold(&mut self) {
        self.holds += 1;
        self.words.set_shared(common::TARGET, self.holds);
    }

    /// Releases held executors.
    pub fn release(&self) {
        self.words.set_shared(common::RELEASE, self.holds);
    }

    /// Spins until a condition is true, and yields now and then: executors that share a CPU must make progress. `patience`
    /// is how long it may take at least.
    pub fn wait(&self, patience: Duration, stopped: impl Fn() -> bool, done: impl Fn() -> bool) -> Waited {
        let mut spins = 0u32;
        let mut begun = None;
        while !done() {
            spins += 1;
            std::hint::spin_loop();
            if !spins.is_multiple_of(1 << 12) {
                continue;
            }
            std::thread::yield_now();
            if stopped() {
                return Waited::Interrupted;
            }
            let (began, before) = begun.get_or_insert_with(|| (Instant::now(), self.threads.run_times()));
            if began.elapsed() > patience {
                let now = self.threads.run_times();
                if now.iter().zip(before).all(|(now, before)| now.saturating_sub(*before) >= RUN) {
                    return Waited::Stuck;
                }
                if began.elapsed() > BUSY {
                    return Waited::NotRun;
                }
            }
        }
        Waited::Done
    }

    /// A word of each executor's private page.
    pub fn each(&self, offset: u64) -> impl Iterator<Item = u64> {
        (0..self.executors).map(move |executor| self.words.own(executor, offset))
    }
}

impl Drop for Signals<'_> {
    fn drop(&mut self) {
        self.release();
        self.stop.store(true, Ordering::Relaxed);
    }
}
