//! What the explorer remembers about an executor that the vCPU itself does not hold: pending events, what
//! it was serialised for, the passes and handlers it is in.

use crossmod_abi::vector;

use crate::plan::{Function, Site};
use crate::x86::cpu::Cpu;

/// Everything about one executor: its vCPU (by number, see the interner) and the bookkeeping.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Executor {
    /// Interned vCPU state.
    pub cpu: u32,
    /// Bookkeeping.
    pub ghost: GhostState,
}

/// Bookkeeping of one executor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct GhostState {
    /// Which class of interchangeable executors it belongs to (see `classes`).
    pub class: u8,
    /// Commits this vCPU has been serialised for: a prefix of the commit order.
    pub serialised: u8,
    /// Its fetch clocks: none, one, or one for each block of the site, as the fetch model has it.
    pub clocks: Vec<u8>,
    /// The patcher's quiescence has seen it outside the site.
    pub observed: bool,
    /// Broadcasts sent and not yet delivered, one bit a [`Function`].
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
    /// A trap that is none of the site's: not yet handed on to its owner.
    pub foreign: bool,
}

impl GhostState {
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
    pub fn saved_rips<'a>(&'a self, cpu: &'a Cpu, site: &'a Site) -> impl Iterator<Item = u64> + 'a {
        self.contexts.iter().filter_map(move |context| {
            let rip = cpu.frame(context.frame)?.rip;
            let trapped = || site.entry(rip.wrapping_sub(site.address + 1) as usize).is_some();
            (context.vector != vector::BP || !trapped()).then_some(rip)
        })
    }
}

/// All functions of broadcasts, in the order of their bits.
pub const FUNCTIONS: [Function; 10] = [
    Function::Sync,
    Function::AckFirst,
    Function::AckOnly,
    Function::Hold,
    Function::Stop,
    Function::Early,
    Function::Call(0),
    Function::Call(1),
    Function::Call(2),
    Function::Call(3),
];

/// Number of a function; an NMI's is the one behind the others.
pub fn function_number(function: Function) -> usize {
    FUNCTIONS.iter().position(|&f| f == function).unwrap_or(FUNCTIONS.len())
}

/// Bit of a function in [`GhostState::pending`].
pub fn function_bit(function: Function) -> u16 {
    1 << function_number(function)
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
        Function::Call(number) => vector::IPI_CALL + number,
        Function::Nmi => vector::NMI,
    }
}
