//! What all actors share: the shared page, the text with its history, and what has been withdrawn.

use crossmod_abi::{action, shared};

use super::reach::Reached;
use crate::layout::{SHARED_LEN, Shared, word_offset};
use crate::plan::{Action, OpKind, Plan, Word};
use crate::x86::VendorRule;
use crate::x86::decode::{self, INT3};

/// A piece of a patch store: what is committed in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index of the store in the plan's program.
    pub op: usize,
    /// Offset from the site's first byte.
    pub offset: usize,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// All pieces of a plan's stores, in program order, each store cut at multiples of the fetch model's atom.
pub fn pieces(plan: &Plan) -> Vec<Piece> {
    let atom = u64::from(plan.fetch.atom);
    let mut pieces = Vec::new();
    let own = plan.programs.stores.iter().map(|(_, op)| op);
    for (op, step) in plan.program.iter().chain(own).enumerate() {
        let OpKind::Store { offset, bytes } = &step.kind else { continue };
        let mut start = 0;
        for index in 1..=bytes.len() {
            let cut = (plan.site.address + (offset + index) as u64).is_multiple_of(atom);
            if cut || index == bytes.len() {
                pieces.push(Piece { op, offset: offset + start, bytes: bytes[start..index].to_vec() });
                start = index;
            }
        }
    }
    pieces
}

/// Shared memory, text and withdrawals at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SharedState {
    /// The shared page's state.
    pub shared: Shared,
    /// Indices into the plan's pieces, in commit order.
    pub commits: Vec<u8>,
    /// The descriptor has been withdrawn.
    pub descriptor_freed: bool,
    /// Bit *i*: pad *i*'s code has been withdrawn.
    pub pads_freed: u32,
    /// Bit *i*: the modification of part *i* has been declared complete.
    pub done: u8,
    /// Broadcasts that programs have sent and that are not yet delivered, see [`SharedState::sent_bit`].
    pub sent: u128,
}

impl SharedState {
    /// Before the patcher's first step.
    pub fn initial(plan: &Plan) -> SharedState {
        let mut initial = SharedState {
            shared: [0; SHARED_LEN],
            commits: Vec::new(),
            descriptor_freed: false,
            pads_freed: 0,
            done: 0,
            sent: 0,
        };
        if plan.handler.described_at_start {
            initial.describe(plan, 0);
        }
        if plan.handler.armed_at_start {
            initial.set(shared::ARMED, 1);
        }
        for (number, word) in (0..).zip(&plan.words) {
            initial.set(word_offset(Word::Named(number)), word.value);
        }
        initial
    }

    /// A `u32` of the shared page.
    pub fn get(&self, offset: u64) -> u32 {
        let at = offset as usize;
        let mut word = [0; 4];
        word.copy_from_slice(&self.shared[at..at + 4]);
        u32::from_le_bytes(word)
    }

    /// Stores a `u32` of the shared page.
    pub fn set(&mut self, offset: u64, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    fn put(&mut self, offset: u64, bytes: &[u8]) {
        self.shared[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    /// The bit of [`SharedState::sent`] for a function's number and a slot.
    pub fn sent_bit(slot: usize, function: usize) -> u128 {
        1 << (slot * 16 + function)
    }

    /// Fills the handler's descriptor for a part, armed flag aside.
    pub fn describe(&mut self, plan: &Plan, part: u8) {
        let part = usize::from(part);
        let site = plan.site.address + plan.site.parts.get(part).map_or(0, |part| part.offset) as u64;
        let action = plan.handler.actions.get(part).copied().unwrap_or(Action::Resume(site));
        let (kind, resume, back) = match action {
            Action::Resume(at) => (action::RESUME, at, 0),
            Action::Call { target, return_to } => (action::CALL, target, return_to),
        };
        self.set(shared::ACTION, kind);
        self.put(shared::SITE, &site.to_le_bytes());
        self.put(shared::RESUME, &resume.to_le_bytes());
        self.put(shared::RETURN, &back.to_le_bytes());
    }

    /// Overwrites the descriptor, as freed memory would be.
    pub fn free_descriptor(&mut self) {
        let body = shared::ACTION as usize..shared::DESCRIPTOR_END as usize;
        self.shared[body].fill(0xdd);
        self.descriptor_freed = true;
    }
}

/// The site's bytes through the commits of one [`SharedState`], derived from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SiteHistory {
    /// `images[n]` is the site after the first *n* commits.
    pub images: Vec<Vec<u8>>,
    /// Each commit.
    pub commits: Vec<Commit>,
    /// Offset and length of each commit.
    pub spans: Vec<(usize, usize)>,
    /// The site as a data reader finds it: a store inside an aligned quadword is there at once, however the fetch
    /// model cuts it (SDM vol. 3, 9.1.1; APM vol. 2, 7.3.2).
    pub data: Vec<u8>,
    /// Some of a store's pieces are committed, and some are not.
    pub halfway: bool,
}

/// One commit of a [`SiteHistory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Offset in the site.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
    /// Whether it may be fetched across without serialising.
    pub exempt: Exempt,
    /// Index of the store in the plan's program.
    pub op: usize,
}

impl SiteHistory {
    /// The history of the site after the commits of `shared_state`.
    pub fn of(plan: &Plan, pieces: &[Piece], shared_state: &SharedState) -> SiteHistory {
        let mut images = vec![plan.site.old.bytes.clone()];
        let mut commits = Vec::new();
        let mut reached = (plan.rule == VendorRule::Amd).then(|| Reached::new(plan));
        for &index in &shared_state.commits {
            let piece = &pieces[usize::from(index)];
            let mut image = images[images.len() - 1].clone();
            let exempt = exempt(plan, piece, &image, reached.as_ref());
            image[piece.offset..piece.offset + piece.bytes.len()].copy_from_slice(&piece.bytes);
            if let Some(reached) = &mut reached {
                reached.in_version(&image);
            }
            commits.push(Commit { offset: piece.offset, len: piece.bytes.len(), exempt, op: piece.op });
            images.push(image);
        }
        let spans = commits.iter().map(|commit: &Commit| (commit.offset, commit.len)).collect();
        let mut data = images[images.len() - 1].clone();
        let quadword = |piece: &Piece| (plan.site.address + piece.offset as u64) / 8;
        let committed =
            |index: usize| shared_state.commits.iter().any(|&commit| usize::from(commit) == index);
        let mut halfway = false;
        for (index, piece) in pieces.iter().enumerate() {
            // A program's store is committed by one instruction.
            if piece.op >= plan.program.len() || committed(index) {
                continue;
            }
            let same = pieces.iter().enumerate().filter(|(_, other)| other.op == piece.op);
            for (_, begun) in same.filter(|&(other, _)| committed(other)) {
                halfway = true;
                if quadword(begun) == quadword(piece) {
                    data[piece.offset..piece.offset + piece.bytes.len()].copy_from_slice(&piece.bytes);
                }
            }
        }
        SiteHistory { images, commits, spans, data, halfway }
    }

    /// The site as it is in memory now.
    pub fn current(&self) -> &[u8] {
        &self.images[self.images.len() - 1]
    }

    /// Length in bytes of the instruction at `offset` in a version of the site; to the site's end if the
    /// bytes there are not an instruction, or one that goes beyond it.
    pub fn extent(&self, version: usize, offset: usize, site: u64) -> usize {
        let rest = &self.images[version][offset..];
        decode::decode(rest, site + offset as u64).map_or(rest.len(), |instruction| instruction.len())
    }
}

/// Whether a CPU that has not serialised since may fetch across a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exempt {
    /// It may not.
    No,
    /// It may, under every rule.
    Always,
    /// It may under the AMD rule (APM vol. 2, 7.6.1), as long as the fetch meets no such store in another quadword: the
    /// promise is that one store is seen whole or not at all, not that two are seen in their order.
    Quadword(u64),
}

/// Exempt under every rule: a one-byte store that puts INT3 on a first opcode byte or takes it away; and a store of the
/// bytes that are there already, since a fetch finds the same with and without it. Under the AMD rule (the same section)
/// also any store to bytes that nobody can have reached: who comes there has seen the later store that leads there, and
/// with it all before.
fn exempt(plan: &Plan, piece: &Piece, before: &[u8], reached: Option<&Reached>) -> Exempt {
    let OpKind::Store { offset, bytes } = &plan.op(piece.op).kind else { return Exempt::No };
    let first_byte = plan.site.old.boundaries.contains(offset) || plan.site.new.boundaries.contains(offset);
    let int3 = bytes.len() == 1 && first_byte && (bytes[0] == INT3 || before[*offset] == INT3);
    let start = plan.site.address + *offset as u64;
    let (first, last) = (start / 8, (start + bytes.len() as u64 - 1) / 8);
    let same = before[piece.offset..piece.offset + piece.bytes.len()] == piece.bytes;
    match plan.rule {
        _ if int3 || same => Exempt::Always,
        _ if reached.is_some_and(|it| it.nobody(piece.offset, piece.bytes.len())) => Exempt::Always,
        VendorRule::Amd if first == last => Exempt::Quadword(first),
        _ => Exempt::No,
    }
}
