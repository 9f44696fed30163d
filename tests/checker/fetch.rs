//! What a fetch may see.

use std::collections::BTreeSet;
use std::ops::Range;

use smallvec::SmallVec;

use super::case::{self, Case, INT3, Instruction};

/// In which order an executor may come to see commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One clock.
    Program,
    /// A clock for each aligned block.
    Block,
    /// Any of the commits, at each fetch anew.
    Any,
}

/// A fetch model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Model {
    pub name: &'static str,
    pub atom: usize,
    pub stale: bool,
    pub order: Order,
    /// AMD's rule comes with it.
    pub amd: bool,
}

const fn preset(name: &'static str, atom: usize, stale: bool, order: Order) -> Model {
    Model { name, atom, stale, order, amd: false }
}

pub const COHERENT: Model = preset("coherent", 64, false, Order::Program);
pub const AMD: Model = Model { amd: true, ..preset("amd", 8, true, Order::Program) };
pub const AMD_BLOCK: Model = Model { amd: true, ..preset("amd-block", 8, true, Order::Block) };
pub const HALF_LINE: Model = preset("half-line", 32, true, Order::Program);
pub const HALF_LINE_BLOCK: Model = preset("half-line-block", 32, true, Order::Block);
pub const LINE: Model = preset("line", 64, true, Order::Program);
pub const LINE_BLOCK: Model = preset("line-block", 64, true, Order::Block);
pub const INTEL: Model = preset("intel", 1, true, Order::Any);
pub const PRESETS: [Model; 8] =
    [COHERENT, AMD, AMD_BLOCK, HALF_LINE, HALF_LINE_BLOCK, LINE, LINE_BLOCK, INTEL];

/// A piece of a store: the step that stores it, its first byte in the site, its bytes. Small, as every state has a list
/// of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Commit {
    step: u8,
    at: u8,
    len: u8,
    /// No site is longer.
    bytes: [u8; 5],
}

impl Commit {
    fn new(step: usize, at: usize, piece: &[u8]) -> Commit {
        let mut bytes = [0; 5];
        bytes[..piece.len()].copy_from_slice(piece);
        Commit { step: step as u8, at: at as u8, len: piece.len() as u8, bytes }
    }

    pub fn step(&self) -> usize {
        self.step.into()
    }

    /// The same, as a piece of another step.
    pub fn renumbered(self, step: usize) -> Commit {
        Commit { step: step as u8, ..self }
    }

    /// The bytes of the site that it is stored to.
    pub fn place(&self) -> Range<usize> {
        let at = usize::from(self.at);
        at..at + usize::from(self.len)
    }

    fn store(&self, text: &mut [u8]) {
        text[self.place()].copy_from_slice(&self.bytes[..self.len.into()]);
    }
}

/// What a fetch turns out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Int3,
    Old(Instruction),
    New(Instruction),
    Torn,
}

/// What an executor knows of the commits: how many it has serialised for, and its clocks: none, one, or one
/// for each block of the site.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct View {
    pub base: usize,
    pub clocks: SmallVec<[usize; 2]>,
}

impl Model {
    /// Cuts a store.
    pub fn pieces(&self, case: &Case, step: usize, at: usize, bytes: &[u8]) -> Vec<Commit> {
        let mut pieces = Vec::new();
        let mut begin = 0;
        for end in 1..=bytes.len() {
            if end == bytes.len() || (case.offset + at + end).is_multiple_of(self.atom) {
                pieces.push(Commit::new(step, at + begin, &bytes[begin..end]));
                begin = end;
            }
        }
        pieces
    }

    fn blocks(&self, case: &Case) -> usize {
        (case.offset + case.len() - 1) / self.atom - case.offset / self.atom + 1
    }

    /// The view of an executor that has serialised for this many commits.
    pub fn serialised(&self, case: &Case, commits: usize) -> View {
        let clocks = match (self.stale, self.order) {
            (false, _) | (_, Order::Any) => 0,
            (_, Order::Program) => 1,
            (_, Order::Block) => self.blocks(case),
        };
        View { base: commits, clocks: SmallVec::from_elem(commits, clocks) }
    }

    /// Every way in which a fetch at a byte may turn out, and what the executor knows afterwards.
    pub fn fetches(&self, case: &Case, commits: &[Commit], view: &View, byte: usize) -> Vec<(Seen, View)> {
        self.fetches_seeing(case, commits, &vec![false; commits.len()], view, byte)
    }

    /// The same for an executor that cannot miss some of the commits. A clock implies that already.
    pub fn fetches_seeing(
        &self,
        case: &Case,
        commits: &[Commit],
        sees: &[bool],
        view: &View,
        byte: usize,
    ) -> Vec<(Seen, View)> {
        let mut ways = Vec::new();
        if !self.stale {
            let text = content(case, commits);
            ways.push((decode(case, byte, &text[byte..]).unwrap_or(Seen::Torn), view.clone()));
        } else if self.order == Order::Any {
            let texts: BTreeSet<Vec<u8>> = subsets(case, commits, sees, view.base);
            for text in texts {
                let seen = decode(case, byte, &text[byte..]).unwrap_or(Seen::Torn);
                if ways.iter().all(|(known, _)| *known != seen) {
                    ways.push((seen, view.clone()));
                }
            }
        } else {
            self.read(case, commits, byte, &[], view, &mut ways);
        }
        ways
    }

    /// Reads one block, after others that gave `read` so far.
    fn read(
        &self,
        case: &Case,
        commits: &[Commit],
        byte: usize,
        read: &[u8],
        view: &View,
        ways: &mut Vec<(Seen, View)>,
    ) {
        let from = byte + read.len();
        if from == case.len() {
            ways.push((Seen::Torn, view.clone()));
            return;
        }
        let block = (case.offset + from) / self.atom;
        let end = ((block + 1) * self.atom - case.offset).min(case.len());
        let clock = if self.order == Order::Block { block - case.offset / self.atom } else { 0 };
        for seen in view.clocks[clock]..=commits.len() {
            let mut next = view.clone();
            next.clocks[clock] = seen;
            let text = content(case, &commits[..seen]);
            let read = [read, &text[from..end]].concat();
            match decode(case, byte, &read) {
                Some(seen) => ways.push((seen, next)),
                None => self.read(case, commits, byte, &read, &next, ways),
            }
        }
    }
}

/// The site after some commits.
pub fn content(case: &Case, commits: &[Commit]) -> Vec<u8> {
    let mut text = case::bytes(&case.old);
    for commit in commits {
        commit.store(&mut text);
    }
    text
}

/// The site after the first commits, those of the others that are seen, and any of the rest.
fn subsets(case: &Case, commits: &[Commit], sees: &[bool], base: usize) -> BTreeSet<Vec<u8>> {
    let mut texts = BTreeSet::from([content(case, &commits[..base])]);
    for (commit, seen) in commits.iter().zip(sees).skip(base) {
        let without = if *seen { std::mem::take(&mut texts) } else { texts.clone() };
        for mut text in without {
            commit.store(&mut text);
            texts.insert(text);
        }
    }
    texts
}

/// Whether a fetch may meet a commit that its CPU has not serialised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exempt {
    /// It may not.
    No,
    /// It may.
    Always,
    /// It may, as AMD has it for an aligned quadword with this number, as long as it meets no such commit in another one.
    Quadword(usize),
}

impl Exempt {
    /// A store of these bytes to a site at `offset` from a page, over a byte.
    pub fn of(case: &Case, amd: bool, at: usize, bytes: &[u8], before: u8) -> Exempt {
        let [first, last] = [at, at + bytes.len() - 1].map(|byte| (case.offset + byte) / 8);
        let breakpoint = bytes.len() == 1 && (bytes[0] == INT3 || before == INT3);
        match amd && first == last {
            _ if breakpoint && case.boundary(at) => Exempt::Always,
            true => Exempt::Quadword(first),
            false => Exempt::No,
        }
    }
}

/// Some version of the site that a fetch could still meet overlaps bytes that were stored since its executor serialised
/// for the first commits, by a commit that is not exempt, or by two that are exempt in two quadwords. A commit that leaves
/// the bytes that it has found does not count.
pub fn overlaps_recent(
    case: &Case,
    commits: &[Commit],
    base: usize,
    exempt: &dyn Fn(&Commit) -> Exempt,
    byte: usize,
) -> bool {
    let changes = |number: usize| content(case, &commits[..number]) != content(case, &commits[..=number]);
    let recent: Vec<&Commit> =
        (base..commits.len()).filter(|&number| changes(number)).map(|number| &commits[number]).collect();
    (base..=commits.len()).any(|seen| {
        let text = content(case, &commits[..seen]);
        let len = match decode(case, byte, &text[byte..]) {
            Some(Seen::Int3) => 1,
            Some(Seen::Old(one) | Seen::New(one)) => one.bytes.len(),
            Some(Seen::Torn) | None => text.len() - byte,
        };
        let met = recent.iter().filter(|commit| {
            let place = commit.place();
            place.start < byte + len && byte < place.end
        });
        let mut kinds: Vec<Exempt> = met.map(|commit| exempt(commit)).collect();
        kinds.retain(|kind| *kind != Exempt::Always);
        kinds.dedup();
        kinds.contains(&Exempt::No) || kinds.len() > 1
    })
}

/// What begins with these bytes at a byte of the site; none if more bytes are needed to tell.
pub fn decode(case: &Case, byte: usize, read: &[u8]) -> Option<Seen> {
    if read[0] == INT3 && byte == 0 {
        return Some(Seen::Int3);
    }
    let candidates = [
        case::at(&case.old, byte).map(|one| (one, Seen::Old(one))),
        case::at(&case.new, byte).map(|one| (one, Seen::New(one))),
    ];
    let mut open = false;
    for (instruction, seen) in candidates.into_iter().flatten() {
        if read.starts_with(instruction.bytes) {
            return Some(seen);
        }
        open |= instruction.bytes.starts_with(read);
    }
    if open { None } else { Some(Seen::Torn) }
}
