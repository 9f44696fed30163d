//! A case: a site, its executors and the patcher's steps; and the same case as TOML.

use std::fmt::Write;

/// Where an instruction leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// To the next one.
    Through,
    /// Out of the site, for good.
    Jump,
    /// Out of the site and back behind it.
    Call,
}

/// An instruction is its bytes and where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub bytes: &'static [u8],
    pub flow: Flow,
}

/// Old or new.
pub type Version = Vec<Instruction>;

/// Where the trap handler continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    New,
    Old,
    Next,
    Retry,
    At(usize),
}

/// What the receiver of an IPI does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Run {
    Sync,
    AckFirst,
    AckOnly,
    Hold,
    Stop,
    Early,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Store {
        at: usize,
        bytes: Vec<u8>,
    },
    Arm,
    Disarm,
    /// A broadcast of one of the first three functions, and the wait for its acknowledgements.
    Round(Run),
    Broadcast(Run),
    AwaitArrivals,
    AwaitAcks,
    Release,
    Assume,
    Quiesce,
    FreeDescriptor,
    FreeOld,
    FreeNew,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executor {
    pub passes: u8,
    /// Begins before the old instruction at this byte.
    pub interior: Option<usize>,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub old: Version,
    pub new: Version,
    /// Offset of the site's first byte in its page.
    pub offset: usize,
    pub executors: Vec<Executor>,
    pub resume: Option<Resume>,
    /// The handler is armed before the first step.
    pub armed: bool,
    /// The handler also writes a shared word.
    pub counting: bool,
    pub nmis: u8,
    /// AMD's rule is in force, whatever the fetch model.
    pub amd: bool,
    pub steps: Vec<Step>,
}

pub const NOP5: Instruction = Instruction { bytes: &[0x0f, 0x1f, 0x44, 0x00, 0x00], flow: Flow::Through };
pub const JMP32: Instruction = Instruction { bytes: &[0xe9, 0x7b, 0x45, 0x23, 0x01], flow: Flow::Jump };
pub const CALL: Instruction = Instruction { bytes: &[0xe8, 0x7b, 0x45, 0x23, 0x01], flow: Flow::Call };
pub const OTHER_CALL: Instruction = Instruction { bytes: &[0xe8, 0xc3, 0x66, 0x34, 0x02], flow: Flow::Call };
pub const NOP2: Instruction = Instruction { bytes: &[0x66, 0x90], flow: Flow::Through };
pub const JMP8: Instruction = Instruction { bytes: &[0xeb, 0x20], flow: Flow::Jump };
pub const XOR: Instruction = Instruction { bytes: &[0x31, 0xc9], flow: Flow::Through };
pub const NOP3: Instruction = Instruction { bytes: &[0x0f, 0x1f, 0x00], flow: Flow::Through };

pub const INT3: u8 = 0xcc;

pub fn bytes(version: &Version) -> Vec<u8> {
    version.iter().flat_map(|instruction| instruction.bytes).copied().collect()
}

/// The instruction that begins at a byte of a version, if one does.
pub fn at(version: &Version, byte: usize) -> Option<Instruction> {
    let mut begin = 0;
    version.iter().copied().find(|instruction| {
        let here = begin;
        begin += instruction.bytes.len();
        here == byte
    })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

impl Run {
    fn text(self) -> &'static str {
        match self {
            Run::Sync => "sync",
            Run::AckFirst => "ack-first",
            Run::AckOnly => "ack-only",
            Run::Hold => "hold",
            Run::Stop => "stop",
            Run::Early => "early",
        }
    }
}

impl Step {
    fn text(&self) -> String {
        match self {
            Step::Store { at, bytes } => format!("store = {{ at = {at}, bytes = \"{}\" }}", hex(bytes)),
            Step::Arm => "arm = {}".into(),
            Step::Disarm => "disarm = {}".into(),
            Step::Round(run) => {
                let ack = match run {
                    Run::AckFirst => "before",
                    Run::AckOnly => "only",
                    _ => "after",
                };
                format!("sync = {{ ack = \"{ack}\" }}")
            }
            Step::Broadcast(run) => format!("broadcast = {{ run = \"{}\" }}", run.text()),
            Step::AwaitArrivals => "wait = { arrived = \"all\" }".into(),
            Step::AwaitAcks => "wait = { acks = \"all\" }".into(),
            Step::Release => "set = { release = 1 }".into(),
            Step::Assume => "assume-synchronised = {}".into(),
            Step::Quiesce => "quiesce = {}".into(),
            Step::FreeDescriptor => "free = { what = \"descriptor\" }".into(),
            Step::FreeOld => "free = { what = \"old-target\" }".into(),
            Step::FreeNew => "free = { what = \"new-target\" }".into(),
            Step::Done => "done = {}".into(),
        }
    }
}

impl Case {
    /// Bytes of the site.
    pub fn len(&self) -> usize {
        bytes(&self.old).len()
    }

    /// True where an instruction of either version begins.
    pub fn boundary(&self, byte: usize) -> bool {
        at(&self.old, byte).is_some() || at(&self.new, byte).is_some()
    }

    /// The body of a scenario: all but title, expectation and fetch models.
    pub fn text(&self) -> String {
        let version = |version: &Version| {
            version.iter().map(|one| format!("\"{}\"", hex(one.bytes))).collect::<Vec<_>>().join(", ")
        };
        let mut text = String::new();
        if self.amd {
            text.push_str("rule = \"amd\"\n");
        }
        let _ = write!(
            text,
            "[site]\nold = [{}]\nnew = [{}]\noffset = {:#x}\n",
            version(&self.old),
            version(&self.new),
            self.offset
        );
        for executor in &self.executors {
            let _ = write!(text, "\n[[executor]]\npasses = {}\n", executor.passes);
            if let Some(byte) = executor.interior {
                let _ = writeln!(text, "start = {{ interior = {byte} }}");
            }
        }
        if let Some(resume) = self.resume {
            let resume = match resume {
                Resume::New => "\"new\"".into(),
                Resume::Old => "\"old\"".into(),
                Resume::Next => "\"next\"".into(),
                Resume::Retry => "\"retry\"".into(),
                Resume::At(byte) => format!("{{ at = {byte} }}"),
            };
            let variant = if self.counting { "counting" } else { "plain" };
            let _ = write!(
                text,
                "\n[handler]\nresume = {resume}\nvariant = \"{variant}\"\narmed = {}\n",
                self.armed
            );
        }
        let _ = write!(text, "\n[events]\nnmi = {}\n", self.nmis);
        for step in &self.steps {
            let _ = write!(text, "\n[[step]]\n{}\n", step.text());
        }
        text
    }
}
