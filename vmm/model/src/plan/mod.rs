//! The plan: a scenario with nothing left to decide. It has no defaults, names or references to files, only
//! addresses, bytes and atomic operations. Everything behind the scenario parser works on it.

mod programs;
mod site;
mod word;

use crossmod_abi::vector;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use programs::{Check, Programs, Send};
pub use site::{Code, Declared, Part, Site};
pub use word::{Datum, Finals, Word};

use crate::fetch::FetchModel;
use crate::hex;
use crate::memory::MemoryModel;
use crate::property::Property;
use crate::x86::VendorRule;

/// A fully resolved scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// `group/name`, as `crossmod list` shows it.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// The patch site in its two versions.
    pub site: Site,
    /// Landing pads: where control may arrive after the site. Each is a `lea eax, [rax + mark]; ret`.
    pub pads: Vec<Pad>,
    /// What runs through the site. Index = executor number = KVM vCPU number.
    pub executors: Vec<Executor>,
    /// The #BP handler.
    pub handler: Handler,
    /// What interrupts do, and how often they may come.
    pub events: Events,
    /// The patcher's program, one operation after the other.
    pub program: Vec<Op>,
    /// Which rule decides what serialises and which stores are exempt.
    pub rule: VendorRule,
    /// Which bytes a fetch may see.
    pub fetch: FetchModel,
    /// When others see what programs store.
    #[serde(skip_serializing_if = "MemoryModel::is_sc")]
    pub memory: MemoryModel,
    /// What its own programs compile to: executors, functions of broadcasts, handlers.
    pub programs: Programs,
    /// Combinations of the parts' versions that no pass may show.
    pub forbidden: Vec<Vec<Option<Declared>>>,
    /// Shared words that the scenario names, and what they hold at the start.
    pub words: Vec<Datum>,
    /// Words that every executor has in its own memory.
    pub each: Vec<Datum>,
    /// What words must hold at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finals: Option<Finals>,
    /// Labels of stores that do not say which of several sites they change.
    #[serde(skip)]
    pub unnamed_stores: Vec<String>,
    /// Properties that must be violated, each at least once; empty means *safe*. All others must hold.
    pub expect: Vec<Property>,
}

/// A landing pad.
#[derive(Debug, Clone, Serialize)]
pub struct Pad {
    /// Guest-virtual address; inside the site pages, or anywhere in the landing window.
    pub address: u64,
    /// Added to EAX by a pass that goes through here.
    pub mark: u8,
    /// For people: `next`, `old target`, `new target`.
    pub name: String,
}

/// One executor.
#[derive(Debug, Clone, Serialize)]
pub struct Executor {
    /// Passes through the site, at least 1.
    pub passes: u8,
    /// Privilege level of the executor's own code.
    pub ring: Ring,
    /// What it does around its passes.
    pub role: Role,
    /// Where it is when the patcher begins.
    pub start: Start,
    /// Interrupts are off at the start.
    pub interrupts_off: bool,
}

/// Privilege level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ring {
    /// CPL 0.
    Kernel,
    /// CPL 3.
    User,
}

/// What an executor does around its passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Passes through the site in a loop.
    Loop,
    /// Holds the shared lock during each pass, interrupts on.
    Lock,
    /// Holds the shared lock during each pass, interrupts off from before it waits for it.
    LockIrqOff,
    /// Runs the program that begins at this address, as many times as it has passes.
    Program(u64),
}

/// Where an executor is at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Before its loop.
    Outside,
    /// Inside the site, having executed the old instructions before this boundary (offset in bytes).
    Interior(usize),
    /// At the first instruction of the #BP handler: an INT3 of an earlier modification has trapped.
    Handler,
    /// At this address of its program.
    At(u64),
}

/// The #BP handler.
#[derive(Debug, Clone, Serialize)]
pub struct Handler {
    /// Which of the guest's handlers the gate points to.
    pub variant: HandlerVariant,
    /// What a claimed trap does, for each part; stored into the descriptor by [`OpKind::Describe`].
    pub actions: Vec<Action>,
    /// The descriptor is filled before the patcher begins.
    pub described_at_start: bool,
    /// And armed.
    pub armed_at_start: bool,
    /// Its gate leaves interrupts as they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub interrupts: bool,
}

/// The guest's #BP handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandlerVariant {
    /// Claims, acts.
    Plain,
    /// Also toggles a shared statistics word.
    Counting,
    /// Runs the site itself before it acts.
    Traced,
    /// The scenario's own program.
    Program,
}

/// What a claimed trap does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Continue at this address.
    Resume(u64),
    /// Push `return_to`, continue at `target`.
    Call {
        /// Where the emulated call goes.
        target: u64,
        /// What it pushes.
        return_to: u64,
    },
}

/// Asynchronous events.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Events {
    /// How many NMIs may be raised in one execution, over all executors.
    pub nmi: u8,
    /// The NMI handler runs the site.
    pub nmi_runs_site: bool,
    /// How many device interrupts may come in one execution, over all executors.
    pub irq: u8,
    /// The interrupt handler runs the site.
    pub irq_runs_site: bool,
    /// How many SMIs may come in one execution, over all executors.
    pub smi: u8,
    /// How many machine checks may come in one execution, over all executors.
    pub mce: u8,
    /// The machine-check handler runs the site.
    pub mce_runs_site: bool,
}

/// A patcher operation with the label of the step it came from.
#[derive(Debug, Clone, Serialize)]
pub struct Op {
    /// Label of the scenario's step (given or made up, unique), for reports.
    pub step: String,
    /// What it does.
    pub kind: OpKind,
}

/// What the patcher does in one operation: one transition, unless the operation says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpKind {
    /// A plain store of `bytes` to `site + offset`: one transition for each atom of the fetch model that it meets.
    Store {
        /// Offset from the site's first byte.
        offset: usize,
        /// What is stored.
        bytes: Vec<u8>,
    },
    /// Fill the handler's descriptor (everything but the armed flag) for a part.
    Describe(u8),
    /// Set the armed flag to this value.
    Armed(bool),
    /// Send a broadcast to the executors in the mask (bit *i* = executor *i*), clearing their
    /// acknowledgements. Does not wait.
    Broadcast {
        /// What the receivers run.
        function: Function,
        /// Bit *i* = executor *i*.
        mask: u32,
    },
    /// Wait until every executor in the mask has acknowledged.
    WaitAcks {
        /// Bit *i* = executor *i*.
        mask: u32,
    },
    /// Wait until a shared word has this value.
    WaitWord {
        /// Which.
        word: Word,
        /// The value waited for.
        value: u32,
    },
    /// Store a shared word.
    SetWord {
        /// Which.
        word: Word,
        /// The value stored.
        value: u32,
    },
    /// Add to a shared word.
    AddWord {
        /// Which.
        word: Word,
        /// How much; wraps.
        number: i32,
    },
    /// Wait until a shared word is 0, and set it to 1 in the same transition.
    Take(Word),
    /// Store a word that every executor has one of, in all of them.
    SetEach {
        /// Index into the plan's list.
        word: u8,
        /// The value stored.
        value: u32,
    },
    /// Wait until such a word is 0 in every executor of the mask.
    WaitEach {
        /// Index into the plan's list.
        word: u8,
        /// Bit *i* = executor *i*.
        mask: u32,
    },
    /// Assume that the hardware makes everything stored so far visible to every fetch (the 2009 mail's
    /// "one-byte modifying is always synchronized"); nothing is sent.
    AssumeSynchronised,
    /// Wait until each executor has, at some time since this operation began, been quiet. One transition for
    /// each executor, and one to go on.
    Quiesce(Quiet),
    /// The patcher does something else for one transition (it was interrupted).
    Delay,
    /// Withdraw the handler's descriptor: its memory is overwritten, using it is an error.
    FreeDescriptor,
    /// Withdraw the code at an old or new target: fetching there is an error.
    FreeTarget(u64),
    /// The patcher declares the modification of these parts complete (bit *i* = part *i*).
    Done(u8),
}

/// What a grace period waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quiet {
    /// Neither RIP nor a saved RIP inside the site.
    Site,
    /// Nor anywhere in the code at a target.
    Targets,
    /// A word of the executor's own is 0.
    Each(u8),
}

/// What the receivers of a broadcast run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// Serialise, then acknowledge.
    Sync,
    /// Acknowledge, then serialise.
    AckFirst,
    /// Acknowledge and return.
    AckOnly,
    /// Serialise, count the arrival, wait for `release` interrupts-off, acknowledge.
    Hold,
    /// Count the arrival, wait for `release` interrupts-off, serialise, acknowledge.
    Stop,
    /// Serialise, count the arrival, acknowledge, return.
    Early,
    /// A function that the scenario writes, by number.
    Call(u8),
    /// Whatever the NMI handler does: the message is an NMI.
    Nmi,
}

/// The functions in the order of their numbers, each with its name in scenarios and traces, and the vector that it is
/// sent as.
static FUNCTIONS: [(Function, &str, u8); 11] = [
    (Function::Sync, "sync", vector::IPI_SYNC),
    (Function::AckFirst, "ack-first", vector::IPI_ACK_FIRST),
    (Function::AckOnly, "ack-only", vector::IPI_ACK_ONLY),
    (Function::Hold, "hold", vector::IPI_HOLD),
    (Function::Stop, "stop", vector::IPI_STOP),
    (Function::Early, "early", vector::IPI_EARLY),
    (Function::Call(0), "call-0", vector::IPI_CALL),
    (Function::Call(1), "call-1", vector::IPI_CALL + 1),
    (Function::Call(2), "call-2", vector::IPI_CALL + 2),
    (Function::Call(3), "call-3", vector::IPI_CALL + 3),
    (Function::Nmi, "nmi", vector::NMI),
];

impl Function {
    /// The functions that a maskable interrupt starts, in the order of their numbers.
    pub fn maskable() -> impl Iterator<Item = Function> {
        FUNCTIONS[..FUNCTIONS.len() - 1].iter().map(|&(function, ..)| function)
    }

    /// Its name in scenarios and traces.
    pub fn name(self) -> &'static str {
        FUNCTIONS[self.number()].1
    }

    /// Its number; the NMI's is the last.
    pub fn number(self) -> usize {
        FUNCTIONS.iter().position(|&(function, ..)| function == self).unwrap_or(FUNCTIONS.len() - 1)
    }

    /// Its bit in a set of pending broadcasts.
    pub fn bit(self) -> u16 {
        1 << self.number()
    }

    /// The vector that it is sent as.
    pub fn vector(self) -> u8 {
        FUNCTIONS[self.number()].2
    }
}

impl Ring {
    /// The privilege level as a number.
    pub fn number(self) -> u8 {
        match self {
            Ring::Kernel => 0,
            Ring::User => 3,
        }
    }
}

impl Plan {
    /// SHA-256 of the resolved plan, in hex. Name, title and expectation do not enter: they change no run.
    pub fn digest(&self) -> String {
        let mut plan = self.clone();
        plan.name.clear();
        plan.title.clear();
        plan.expect.clear();
        let text = serde_json::to_vec(&plan).unwrap_or_default();
        hex::packed(&Sha256::digest(&text))
    }

    /// An operation by number: those of the host's program, then the stores of the plan's own programs.
    pub fn op(&self, number: usize) -> &Op {
        let own = |number: usize| &self.programs.stores[number].1;
        self.program.get(number).unwrap_or_else(|| own(number - self.program.len()))
    }

    /// Bit mask of all executors.
    pub fn everyone(&self) -> u32 {
        (1u32 << self.executors.len()) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart_at_their_boundaries_only() {
        let code =
            |bytes: &[u8], boundaries: &[usize]| Code { bytes: bytes.into(), boundaries: boundaries.into() };
        let site = Site {
            address: 0,
            old: code(&[0x31, 0xc9, 0x0f, 0x1f, 0x00], &[0, 2]),
            new: code(&[0xe9, 1, 2, 3, 4], &[0]),
            intermediates: vec![vec![0xcc], vec![0xeb, 0xfe]],
            parts: vec![Part::whole(5)],
        };
        assert_eq!(site.version_at(0, &[0x31, 0xc9, 0xff]), Some(Declared::Old));
        assert_eq!(site.version_at(2, &[0x0f, 0x1f, 0x00]), Some(Declared::Old));
        assert_eq!(site.version_at(0, &[0xe9, 1, 2, 3, 4]), Some(Declared::New));
        assert_eq!(site.version_at(0, &[0xcc, 1]), Some(Declared::Trap));
        assert_eq!(site.version_at(0, &[0xeb, 0xfe, 9]), Some(Declared::Intermediate));
        assert_eq!(site.version_at(2, &[0xcc]), None, "undeclared boundary");
        assert_eq!(site.version_at(0, &[0xe9, 1, 2, 3, 5]), None);
        assert_eq!(site.version_at(1, &[0xc9]), None);
    }
}
