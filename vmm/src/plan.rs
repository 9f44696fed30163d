//! The plan: a scenario with nothing left to decide. No defaults, no names, no references to files; only
//! addresses, bytes and atomic operations. Everything behind the scenario parser works on this.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fetch::FetchModel;
use crate::property::Property;

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
    /// The patcher's program, one element a move (a store may be several).
    pub program: Vec<Op>,
    /// Which rule decides what serialises and which stores are exempt.
    pub rule: VendorRule,
    /// Which bytes a fetch may see.
    pub fetch: FetchModel,
    /// Properties that must be violated, each at least once; empty means *safe*. All others must hold.
    pub expect: Vec<Property>,
}

/// The patch site.
#[derive(Debug, Clone, Serialize)]
pub struct Site {
    /// Guest-virtual address of its first byte, inside the two pages at `crossmod_abi::va::SITE`.
    pub address: u64,
    /// What stands there at the start.
    pub old: Code,
    /// What the patcher installs. As long as `old`.
    pub new: Code,
    /// One-instruction intermediate forms that may stand at the first byte besides old and new, as the
    /// bytes of that instruction (for example `cc`).
    pub intermediates: Vec<Vec<u8>>,
}

impl Site {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.old.bytes.len()
    }

    /// Never true for a plan that was built from a scenario.
    pub fn is_empty(&self) -> bool {
        self.old.bytes.is_empty()
    }

    /// The instructions that are declared at an offset: old's and new's where they have a boundary there (one
    /// entry if both have the same), and the intermediate forms at the first byte.
    pub fn declared(&self, offset: usize) -> impl Iterator<Item = (Declared, &[u8])> {
        let of = |code: &'_ Code| -> Option<std::ops::Range<usize>> {
            let index = code.boundaries.iter().position(|&boundary| boundary == offset)?;
            Some(offset..code.boundaries.get(index + 1).copied().unwrap_or(code.bytes.len()))
        };
        let old = of(&self.old).map(|range| &self.old.bytes[range]);
        let new = of(&self.new).map(|range| &self.new.bytes[range]);
        let both = old.is_some() && old == new;
        let intermediates = self.intermediates.iter().filter(move |_| offset == 0);
        old.map(|bytes| (if both { Declared::Both } else { Declared::Old }, bytes))
            .into_iter()
            .chain(new.filter(|_| !both).map(|bytes| (Declared::New, bytes)))
            .chain(intermediates.map(|form| (Declared::Intermediate, &form[..])))
    }

    /// True for addresses of the site's bytes.
    pub fn contains(&self, address: u64) -> bool {
        (self.address..self.address + self.len() as u64).contains(&address)
    }
}

/// Whose instruction a declared one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// Old's.
    Old,
    /// New's.
    New,
    /// The same in both.
    Both,
    /// An intermediate form.
    Intermediate,
}

/// One version of the site.
#[derive(Debug, Clone, Serialize)]
pub struct Code {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Offsets at which its instructions begin, ascending, the first is 0.
    pub boundaries: Vec<usize>,
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
    /// Where it stands when the patcher begins.
    pub start: Start,
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
}

/// Where an executor stands at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Before its loop.
    Outside,
    /// Inside the site, having executed the old instructions before this boundary (offset in bytes).
    Interior(usize),
}

/// The #BP handler.
#[derive(Debug, Clone, Serialize)]
pub struct Handler {
    /// Which of the guest's handlers the gate points to.
    pub variant: HandlerVariant,
    /// What a claimed trap does; stored into the descriptor by [`OpKind::Describe`].
    pub action: Action,
    /// The descriptor is filled and armed before the patcher begins.
    pub armed_at_start: bool,
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

/// Which vendor's promises are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VendorRule {
    /// Intel SDM: what only AMD promises is not assumed.
    Intel,
    /// AMD APM: MFENCE serialises, one store inside an aligned quadword is safe.
    Amd,
}

/// A patcher operation with the label of the step it came from.
#[derive(Debug, Clone, Serialize)]
pub struct Op {
    /// Label of the scenario's step (given or made up, unique), for reports.
    pub step: String,
    /// What it does.
    pub kind: OpKind,
}

/// What the patcher does in one operation. Each is one move unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpKind {
    /// A plain store of `bytes` to `site + offset`; as many moves as the fetch model's atoms it meets.
    Store {
        /// Offset from the site's first byte.
        offset: usize,
        /// What is stored.
        bytes: Vec<u8>,
    },
    /// Fill the handler's descriptor (everything but the armed flag).
    Describe,
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
    /// Assume that the hardware makes everything stored so far visible to every fetch (the 2009 mail's
    /// "one-byte modifying is always synchronized"); nothing is sent.
    AssumeSynchronised,
    /// Wait until each executor has, at some time since this operation began, had neither its RIP nor a
    /// saved RIP inside the site. One move an executor and one to go on.
    Quiesce,
    /// The patcher does something else for one move (it was interrupted).
    Delay,
    /// Withdraw the handler's descriptor: its memory is overwritten, using it is an error.
    FreeDescriptor,
    /// Withdraw the code at an old or new target: fetching there is an error.
    FreeTarget(u64),
    /// The patcher declares the modification complete.
    Done,
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
}

impl Function {
    /// Its name in scenarios and traces.
    pub fn name(self) -> &'static str {
        match self {
            Function::Sync => "sync",
            Function::AckFirst => "ack-first",
            Function::AckOnly => "ack-only",
            Function::Hold => "hold",
            Function::Stop => "stop",
            Function::Early => "early",
        }
    }
}

/// Shared words that a patcher may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Counts arrivals of held executors.
    Arrived,
    /// Lets held executors go.
    Release,
    /// Free for the scenario.
    Flag,
    /// The lock of lock-taking executors.
    Lock,
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
        Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Bit mask of all executors.
    pub fn everyone(&self) -> u32 {
        (1u32 << self.executors.len()) - 1
    }
}
