//! A machine for stress: executors that pass through a site again and again at ring 3 and log what each pass shows,
//! the broadcasts of the scenario language, device interrupts and NMIs by message, and traps that the host handles.
//!
//! A trap, a fault, and an interrupt handler that runs the site each ring a doorbell first. The host acts for the
//! handler with maskable interrupts off, as a gate would have them. A pass on behalf of a handler runs at ring 3, the
//! only ring that is native everywhere; an NMI's runs while NMIs are blocked.

use std::sync::atomic::Ordering;

use crossmod_abi::{PAGE, port, private, va, vector};
use crossmod_model::layout::MAX_CPUS;
use crossmod_model::x86::cpu::Cpu;
use kvm_ioctls::VmFd;

use super::hands::Hands;
use super::lane::Lane;
use super::message::{Injector, Ledger};
use super::window::Window;
use super::{APIC, APIC_VA, CODE, EOI, LOG, Pass, free};
use crate::layout::{self, CpuPages};
use crate::memory::Memory;
use crate::vcpu::{Inject, Vcpu};
use crate::vm::{Controller, Vm};
use crate::{FILLER, MachineError, pin, tables};

/// Passes between two looks at the log.
pub(super) const BATCH: usize = 4096;
/// Bytes of the log of one vCPU.
pub(super) const LOG_LEN: u64 = (BATCH * size_of::<Pass>()) as u64;
const _: () = assert!(LOG + MAX_CPUS as u64 * LOG_LEN <= layout::IMAGE);

/// Offsets in the shared page, one cache line each.
pub(super) mod common {
    pub const BEGUN: u64 = 0x400;
    pub const DONE: u64 = 0x440;
    pub const TARGET: u64 = 0x480;
    pub const RELEASE: u64 = 0x4c0;
}

/// Offsets in a vCPU's private page, behind the stacks of the image.
pub(super) mod own {
    pub const ACK: u64 = 0xa00;
    pub const ARRIVED: u64 = 0xa08;
    pub const NMIS: u64 = 0xa10;
    pub const IRQS: u64 = 0xa18;
    pub const LOG: u64 = 0xa80;
    pub const LEFT: u64 = 0xa88;
    pub const TOP: u64 = 0xa90;
    pub const SITE: u64 = 0xa98;
    pub const IRQ_STACK_TOP: u64 = 0xb80;
    pub const NMI_STACK_TOP: u64 = 0xc00;
    pub const TRAP_STACK_TOP: u64 = 0xd00;
}
const _: () = assert!(own::ACK >= private::DB_STACK_TOP && own::TRAP_STACK_TOP <= PAGE);

core::arch::global_asm!(
    include_str!("course.s"),
    begun = const va::SHARED + common::BEGUN,
    done = const va::SHARED + common::DONE,
    target = const va::SHARED + common::TARGET,
    release = const va::SHARED + common::RELEASE,
    ack = const va::PRIVATE + own::ACK,
    arrived = const va::PRIVATE + own::ARRIVED,
    nmis = const va::PRIVATE + own::NMIS,
    irqs = const va::PRIVATE + own::IRQS,
    log = const va::PRIVATE + own::LOG,
    left = const va::PRIVATE + own::LEFT,
    top = const va::PRIVATE + own::TOP,
    site = const va::PRIVATE + own::SITE,
    eoi = const APIC_VA + EOI,
    stop = const port::STOP,
    nmi = const vector::NMI,
    irq = const vector::IRQ,
);

macro_rules! labels {
    ($($name:ident)*) => { unsafe extern "C" { $(static $name: u8;)* } };
}
labels!(crossmod_course_start crossmod_course_end crossmod_course_execute crossmod_course_once
    crossmod_course_nmi_plain crossmod_course_nmi_site crossmod_course_nmi_back
    crossmod_course_irq_plain crossmod_course_irq_site crossmod_course_irq_back
    crossmod_course_sync crossmod_course_ack_first crossmod_course_ack_only
    crossmod_course_hold crossmod_course_stop crossmod_course_early);

/// Addresses of the code in the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entries {
    pub execute: u64,
    pub once: u64,
    pub nmi_back: u64,
    pub irq_back: u64,
    /// One past the code.
    pub end: u64,
}

fn at(label: *const u8) -> u64 {
    CODE + (label as u64 - &raw const crossmod_course_start as u64)
}

fn code() -> &'static [u8] {
    let start = &raw const crossmod_course_start;
    // SAFETY: both labels stand in one section of this program's text, which is readable and never changes.
    unsafe { std::slice::from_raw_parts(start, (&raw const crossmod_course_end) as usize - start as usize) }
}

/// What stands in the machine.
#[derive(Debug, Clone)]
pub struct Ground {
    /// vCPUs.
    pub executors: usize,
    /// Address of the site.
    pub site: u64,
    /// The two site pages.
    pub text: Vec<u8>,
    /// The page behind every other address that the site can branch to.
    pub landing: Vec<u8>,
    /// The handler of an NMI runs the site.
    pub nmi_runs_site: bool,
    /// The handler of a device interrupt runs the site.
    pub irq_runs_site: bool,
}

/// What becomes of a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// Go on here.
    Resume(u64),
    /// Push a return address, and go on at the target.
    Call {
        /// Where to go on.
        target: u64,
        /// What is pushed.
        return_to: u64,
    },
    /// The pass ends here.
    Abandon,
}

/// Watches one executor, on its thread.
pub trait Watch: Send {
    /// The passes of a batch, in order.
    fn passes(&mut self, passes: &[Pass]);
    /// A #BP: the INT3 stands at this address.
    fn trap(&mut self, at: u64) -> Trap;
    /// A fault of the site, an exit, or code that does not come to an end; the pass is given up.
    fn fault(&mut self, what: &str, rip: u64);
    /// A handler is about to run the site.
    fn handler_begins(&mut self);
    /// A pass on behalf of an NMI (or else a device interrupt): what it left in RAX, unless it was given up.
    fn handler_ends(&mut self, nmi: bool, value: Option<u64>);
}

/// The machine.
pub struct Course {
    // Field order is drop order: vCPUs, then the VM, then its memory.
    vcpus: Vec<Vcpu>,
    vm: VmFd,
    memory: Memory,
    ground: Ground,
    entries: Entries,
}

impl Course {
    /// A machine.
    pub fn new(ground: Ground) -> Result<Course, MachineError> {
        let executors = ground.executors;
        assert!((1..=MAX_CPUS).contains(&executors), "1 to {MAX_CPUS} executors");
        let Vm { fd: vm, memory, cpuid, .. } = free(executors, Controller::InKernel, code())?;
        let image = crate::Image::embedded()?;
        tables::trap_stack(&memory, own::TRAP_STACK_TOP)?;
        // A stack of their own: the frame of a held executor, on whose behalf an NMI runs the site, must stay.
        for (vector, name) in [
            (vector::DE, "de_stub"),
            (vector::UD, "ud_stub"),
            (vector::GP, "gp_stub"),
            (vector::PF, "pf_stub"),
            (vector::BP, "bp_plain"),
        ] {
            tables::gate_on_trap_stack(&memory, vector, image.label(name)?)?;
        }
        let pick = |site, with: *const u8, without: *const u8| at(if site { with } else { without });
        let (nmi, irq) = (
            pick(
                ground.nmi_runs_site,
                &raw const crossmod_course_nmi_site,
                &raw const crossmod_course_nmi_plain,
            ),
            pick(
                ground.irq_runs_site,
                &raw const crossmod_course_irq_site,
                &raw const crossmod_course_irq_plain,
            ),
        );
        for (vector, handler) in [
            (vector::NMI, nmi),
            (vector::IRQ, irq),
            (vector::IPI_SYNC, at(&raw const crossmod_course_sync)),
            (vector::IPI_ACK_FIRST, at(&raw const crossmod_course_ack_first)),
            (vector::IPI_ACK_ONLY, at(&raw const crossmod_course_ack_only)),
            (vector::IPI_HOLD, at(&raw const crossmod_course_hold)),
            (vector::IPI_STOP, at(&raw const crossmod_course_stop)),
            (vector::IPI_EARLY, at(&raw const crossmod_course_early)),
        ] {
            tables::gate(&memory, vector, handler)?;
        }
        let mut text = vec![FILLER; 2 * PAGE as usize];
        text[..ground.text.len()].copy_from_slice(&ground.text);
        memory.write(layout::MASTER, &text)?;
        memory.write(layout::LANDING, &ground.landing)?;
        let entries = Entries {
            execute: at(&raw const crossmod_course_execute),
            once: at(&raw const crossmod_course_once),
            nmi_back: at(&raw const crossmod_course_nmi_back),
            irq_back: at(&raw const crossmod_course_irq_back),
            end: at(&raw const crossmod_course_end),
        };
        let mut vcpus = Vec::new();
        for index in 0..executors {
            tables::map(&memory, CpuPages::of(index), APIC_VA, APIC)?;
            let mut vcpu = Vcpu::new(&vm, index, &cpuid, None)?;
            vcpu.accept_messages()?;
            let regs = Cpu::at(entries.execute, va::SITE, 0, true).regs;
            vcpu.restore(CpuPages::of(index).pml4(), &regs, false, Inject::Nothing)?;
            vcpus.push(vcpu);
        }
        Ok(Course { vcpus, vm, memory, ground, entries })
    }

    /// Runs executor *i* on the *i*th of `cpus` (again from the first if there are fewer), each with its watch, and
    /// `patch` on the calling thread. When that returns, the executors are stopped, and the watches come back.
    pub fn run<W: Watch, T>(
        mut self,
        cpus: &[usize],
        watches: Vec<W>,
        patch: impl FnOnce(&mut Hands<'_>, Injector<'_>) -> Result<T, MachineError>,
    ) -> Result<(T, Vec<W>), MachineError> {
        let window = Window::new(self.memory.host_address()?);
        let (memory, entries, site) = (&self.memory, self.entries, self.ground.site);
        let executors = self.vcpus.len();
        let vcpus = &mut self.vcpus;
        let vm = &self.vm;
        let ledgers: Vec<Ledger> = (0..executors).map(|_| Ledger::default()).collect();
        let ledgers = &ledgers[..];
        let injector = Injector::new(window, vm, ledgers, [own::NMIS, own::IRQS]);
        std::thread::scope(|scope| {
            // Stops the executors when it goes, also if `patch` panics.
            let mut hands = Hands::new(window, vm, executors);
            let stop = hands.stop_flag();
            let mut threads = Vec::new();
            for (index, ((vcpu, watch), &cpu)) in
                vcpus.iter_mut().zip(watches).zip(cpus.iter().cycle()).enumerate()
            {
                let stop = stop.clone();
                threads.push(scope.spawn(move || {
                    pin(cpu);
                    let ledger = &ledgers[index];
                    let mut lane = Lane { vcpu, memory, window, index, entries, site, ledger, watch };
                    let result = lane.run(&stop);
                    // Nobody waits for an executor that failed.
                    stop.store(true, Ordering::Relaxed);
                    result.map(|()| lane.watch)
                }));
            }
            let result = patch(&mut hands, injector);
            drop(hands);
            let mut watches = Vec::new();
            for thread in threads {
                watches.push(thread.join().expect("an executor has nothing that can panic")?);
            }
            Ok((result?, watches))
        })
    }
}
