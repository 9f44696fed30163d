//! What the explorer remembers about an executor that the vCPU itself does not hold: pending events, what
//! it was serialised for, the passes and handlers it is in.

use crossmod_abi::vector;

use crate::cpu::Cpu;
use crate::plan::Function;

/// Everything about one executor: its vCPU (by number, see the interner) and the bookkeeping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Executor {
    /// Interned vCPU state.
    pub cpu: u32,
    /// Bookkeeping.
    pub monitor: Monitor,
}

/// Bookkeeping of one executor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Monitor {
    /// Which class of interchangeable executors it belongs to (see `classes`).
    pub class: u8,
    /// Commits this vCPU has been serialised for: a prefix of the commit order.
    pub serialised: u8,
    /// Its fetch clocks: none, one, or one for each block of the site, as the fetch model has it.
    pub clocks: Vec<u8>,
    /// The patcher's quiescence has seen it outside the site.
    pub observed: bool,
    /// Broadcasts sent and not yet delivered, one bit a [`Function`].
    pub pending: u8,
    /// An NMI was raised and not yet delivered.
    pub nmi_latched: bool,
    /// A pass has ended with the outcome of the new version.
    pub seen_new: bool,
    /// Passes under way, outermost first.
    pub passes: Vec<Pass>,
    /// Handlers under way, outermost first.
    pub contexts: Vec<Context>,
}

/// A pass through the site, from its CALL. It *begins* with its first fetch of the site: what it then finds
/// settled (a pass with the new outcome has ended, the patcher has completed) is what it is judged by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pass {
    /// Which code runs it: index into the image's pass labels.
    pub label: u8,
    /// Interned vCPU at the CALL, acknowledgement cleared: the outcomes of old and new follow from it.
    pub entry: u32,
    /// The site was fetched.
    pub begun: bool,
    /// A pass with the new outcome had ended before this one began.
    pub new_before: bool,
    /// The patcher had completed before this pass began.
    pub after_done: bool,
    /// A new instruction of a several-instruction site was executed in this pass.
    pub ran_new: bool,
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
}

impl Monitor {
    /// Serialised for the first `commits` commits: their bytes are visible for ever.
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
    pub fn saved_rips<'a>(&'a self, cpu: &'a Cpu, site: u64) -> impl Iterator<Item = u64> + 'a {
        self.contexts.iter().filter_map(move |context| {
            let rip = cpu.frame(context.frame)?.rip;
            (context.vector != vector::BP || rip != site + 1).then_some(rip)
        })
    }
}

/// All functions of broadcasts, in the order of their bits.
pub const FUNCTIONS: [Function; 6] =
    [Function::Sync, Function::AckFirst, Function::AckOnly, Function::Hold, Function::Stop, Function::Early];

/// Bit of a function in [`Monitor::pending`].
pub fn function_bit(function: Function) -> u8 {
    1 << FUNCTIONS.iter().position(|&f| f == function).unwrap_or_default()
}

/// The vector a function is sent as.
pub fn function_vector(function: Function) -> u8 {
    match function {
        Function::Sync => vector::IPI_SYNC,
        Function::AckFirst => vector::IPI_ACK_FIRST,
        Function::AckOnly => vector::IPI_ACK_ONLY,
        Function::Hold => vector::IPI_HOLD,
        Function::Stop => vector::IPI_STOP,
        Function::Early => vector::IPI_EARLY,
    }
}
