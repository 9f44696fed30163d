//! What the explorer remembers about an executor that the vCPU itself does not hold: pending events, what
//! it was serialised for, the passes and handlers it is in.

use crossmod_abi::vector;

use super::Id;
use super::store_buffer::StoreBuffer;
use crate::plan::Site;
use crate::x86::cpu::Cpu;

/// Everything about one executor: its vCPU and the bookkeeping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Executor {
    /// Its vCPU, interned.
    pub cpu: Id<Cpu>,
    /// What it has stored and others do not find yet.
    pub buffer: StoreBuffer,
    /// Bookkeeping.
    pub ghost: GhostState,
}

/// Bookkeeping of one executor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GhostState {
    /// Number of its orbit: executors of one orbit are interchangeable.
    pub orbit: u8,
    /// Commits this vCPU has been serialised for: a prefix of the commit order.
    pub serialised: u8,
    /// Its fetch clocks: none, one, or one for each block of the site, as the fetch model has it.
    pub clocks: Vec<u8>,
    /// The patcher's quiescence has seen it outside the site.
    pub observed: bool,
    /// Broadcasts sent and not yet delivered, one bit for each [`Function`](crate::plan::Function).
    pub pending: u16,
    /// An NMI was raised and not yet delivered.
    pub nmi_latched: bool,
    /// Bit *i*: a pass has ended with the outcome of the new version of part *i*.
    pub seen_new: u8,
    /// Passes under way, outermost first.
    pub passes: Vec<Pass>,
    /// Handlers under way, outermost first.
    pub contexts: Vec<Context>,
}

/// A pass through the site, from its CALL. It *begins* with its first fetch of the site: it is judged by
/// what is settled then (a pass with the new outcome has ended, the patcher has completed).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pass {
    /// Which code runs it: index into the image's pass labels.
    pub label: u8,
    /// The vCPU at the CALL, interned, with an empty mailbox. The outcomes of old and new follow from it.
    pub entry: Id<Cpu>,
    /// The site was fetched.
    pub begun: bool,
    /// Bit *i*: a pass with the new outcome of part *i* had ended before this one began.
    pub new_before: u8,
    /// Bit *i*: the patcher had completed part *i* before this pass began.
    pub after_done: u8,
    /// Bit *i*: a new instruction of part *i*, which has several, was executed in this pass.
    pub ran_new: u8,
    /// This pass went through the site's INT3.
    pub trapped: bool,
    /// Handlers that were under way when it began.
    pub depth: u8,
}

/// A handler under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    /// Its vector.
    pub vector: u8,
    /// Virtual address of its frame.
    pub frame: u64,
    /// The trap is not the site's, and has not yet been handed on to its owner.
    pub foreign: bool,
}

impl GhostState {
    /// Serialised for the first `commits` commits: it sees their bytes from now on.
    pub fn serialise(&mut self, commits: u8) {
        self.serialised = commits;
        self.clocks.fill(commits);
    }

    /// A handler of this vector is under way.
    pub fn inside(&self, vector: u8) -> bool {
        self.contexts.iter().any(|context| context.vector == vector)
    }

    /// RIPs saved in the frames of the handlers under way. An INT3's own frame points behind the trap, into
    /// the instruction it replaced, until the handler has moved it; that one is left out.
    pub fn saved_rips<'a>(&'a self, cpu: &'a Cpu, site: &'a Site) -> impl Iterator<Item = u64> + 'a {
        self.contexts.iter().filter_map(move |context| {
            let rip = cpu.frame(context.frame)?.rip;
            let trapped = || site.entry(rip.wrapping_sub(site.address + 1) as usize).is_some();
            (context.vector != vector::BP || !trapped()).then_some(rip)
        })
    }
}
