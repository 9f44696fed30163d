//! Store buffers: what a program stores is on its way to memory for a while. Others find it once it is there.
//!
//! Three kinds of stores go through the buffer: to the shared page, to the site, and to those words of the executor's own
//! page that the patcher uses. What nobody else reads or writes needs no buffer: that it is late cannot be observed. A word
//! that another one only writes is no such word: which of the two stores is the last one depends on when they reach memory.
//! Nor do the stores of the guest image need one. Each is an acknowledgement, the release of a lock or the count of a trap. From
//! there to the next instruction that empties the buffer the image loads nothing that is compared with them, and so a
//! late store is one whose instruction is late.
//!
//! What empties the buffer waits until it is empty, and so do interrupts of every kind. That allows the same executions
//! as emptying it in one go, because a store can always be committed.
//!
//! A message is sent when its instruction executes. By default the instruction waits for the buffer. The statement that
//! a modification is complete takes effect where the program makes it, whether or not its stores are in memory: one that
//! comes too early must not be hidden.

use crossmod_abi::{private, shared, va};
use crossmod_model::layout::{self, Shared, word_offset};
use crossmod_model::memory::MemoryModel;
use crossmod_model::plan::{OpKind, Plan, Quiet};
use crossmod_model::state::Id;
use crossmod_model::state::ghost::Executor;
use crossmod_model::state::shared_state::SharedState;
use crossmod_model::state::store_buffer::{Pending, StoreBuffer};
use crossmod_model::x86::VendorRule;
use crossmod_model::x86::decode::{self, Access};
use iced_x86::Instruction;

use super::Model;
use super::future_effects::{words, written};
use super::interned::own_word;
use super::memo::Outcome;
use super::step::Request;
use crate::error::{EngineError, Result};

/// Most stores in one buffer: a program that stores in a loop without ever waiting has no finite state space.
const MOST_PENDING: usize = 16;

/// What others read or write of what an executor stores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    /// Words of the shared page, one bit for each `u32`.
    shared: u32,
    /// Words at the beginning of an executor's own page, in the same way.
    own: u32,
    /// The site.
    text: bool,
}

impl Observed {
    pub(super) fn of(plan: &Plan) -> Observed {
        let alone = plan.executors.len() == 1;
        let mut observed = Observed { shared: if alone { 0 } else { !0 }, own: 0, text: !alone };
        let own = |offset: u64| words(offset, offset + 4);
        for op in &plan.program {
            observed.shared |= written(&op.kind);
            match op.kind {
                OpKind::WaitWord { word, .. } => {
                    observed.shared |= words(word_offset(word), word_offset(word) + 4);
                }
                OpKind::WaitAcks { .. } | OpKind::Broadcast { .. } => observed.own |= own(private::ACK),
                OpKind::WaitEach { word, .. }
                | OpKind::SetEach { word, .. }
                | OpKind::Quiesce(Quiet::Each(word)) => observed.own |= own(own_word(word)),
                OpKind::Store { .. } => observed.text = true,
                _ => {}
            }
        }
        observed
    }
}

impl Model<'_> {
    /// True if what an instruction stores goes through the buffer.
    fn buffers(&self, instruction: &Instruction) -> bool {
        self.plan.memory == MemoryModel::Tso
            && !(va::IMAGE..va::PROGRAM).contains(&instruction.ip())
            && !decode::drains(instruction, self.plan.rule)
    }

    /// True if an executor that sees `site` as the site cannot execute the instruction at its RIP before its oldest
    /// store is in memory.
    pub(super) fn waits_at(&self, executor: Id<Executor>, site: &[u8]) -> bool {
        let Executor { cpu, buffer, .. } = &self.interned.executors[executor];
        if buffer.is_empty() {
            return false;
        }
        let rip = self.interned.cpus[*cpu].regs.rip;
        if self.fetch_waits(buffer, rip) {
            return true;
        }
        let decoded = self.window(rip, site).and_then(|window| decode::decode(window.bytes(), rip));
        decoded.is_some_and(|instruction| self.waits(executor, &instruction))
    }

    /// The same for a decoded instruction.
    pub(super) fn waits(&self, executor: Id<Executor>, instruction: &Instruction) -> bool {
        let Executor { cpu, buffer, .. } = &self.interned.executors[executor];
        if buffer.is_empty() {
            return false;
        }
        let regs = &self.interned.cpus[*cpu].regs;
        self.fetch_waits(buffer, instruction.ip())
            || decode::drains(instruction, self.plan.rule)
            || decode::accesses(instruction, regs)
                .iter()
                .any(|access| self.access_waits(buffer, instruction, access))
    }

    /// True if a fetch waits for a store of its own vCPU to the site. Memory as fetches find it does not have this store
    /// yet. Where a CPU promises that it finds its own stores, it does not run on to the code before they are there.
    fn fetch_waits(&self, buffer: &StoreBuffer, rip: u64) -> bool {
        let promised = self.plan.rule == VendorRule::Amd || !self.plan.fetch.stale;
        promised && self.plan.site.contains(rip) && buffer.texts().next().is_some()
    }

    fn access_waits(&self, buffer: &StoreBuffer, instruction: &Instruction, access: &Access) -> bool {
        let (start, end) = (access.address, access.address + access.size as u64);
        let within = |base: u64, len: u64| start >= base && end <= base + len;
        if within(va::SHARED, shared::STATE_END) {
            let offset = start - va::SHARED;
            let late = access.reads && !buffer.satisfies(offset, end - va::SHARED);
            let first = access.writes && self.takes_effect_at_once(instruction, offset);
            return late || first;
        }
        let master = layout::master(self.plan.site.address);
        if access.reads && within(master, self.plan.site.len() as u64) {
            let (from, to) = ((start - master) as usize, (end - master) as usize);
            let newest = buffer
                .texts()
                .rev()
                .map(|store| self.text_store(store))
                .find(|&(offset, bytes)| offset < to && from < offset + bytes.len());
            return newest.is_some_and(|(offset, bytes)| from < offset || to > offset + bytes.len());
        }
        false
    }

    /// True for stores to the shared page that take effect at once, behind all older ones.
    fn takes_effect_at_once(&self, instruction: &Instruction, offset: u64) -> bool {
        match offset {
            shared::SEND => {
                let number = (instruction.immediate32() as usize).wrapping_sub(1);
                !self.plan.programs.sends.get(number).is_some_and(|send| send.overtakes)
            }
            shared::DONE => false,
            _ => !self.buffers(instruction),
        }
    }

    /// Offset and bytes of a store of a program to the site.
    fn text_store(&self, store: usize) -> (usize, &[u8]) {
        match &self.plan.programs.stores[store].1.kind {
            OpKind::Store { offset, bytes } => (*offset, bytes),
            _ => (0, &[]),
        }
    }

    /// The shared page as an executor itself finds it.
    pub(super) fn own_page(&self, executor: Id<Executor>, shared_state: Id<SharedState>) -> Shared {
        self.interned.executors[executor].buffer.over(&self.interned.shared_states[shared_state].shared)
    }

    /// The site as an executor itself finds it when it reads it as data.
    pub(super) fn own_text(&self, executor: Id<Executor>, shared_state: Id<SharedState>) -> Vec<u8> {
        let mut data = self.interned.history(shared_state).data.clone();
        for store in self.interned.executors[executor].buffer.texts() {
            let (offset, bytes) = self.text_store(store);
            data[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        data
    }

    /// Puts a store to the shared page into the buffer; false if it takes effect at once.
    pub(super) fn buffer_shared(
        &self,
        after: &mut Executor,
        instruction: &Instruction,
        store: (u8, u8, u64),
    ) -> Result<bool> {
        let (offset, len, value) = store;
        let at = u64::from(offset);
        let device = matches!(at, shared::SEND | shared::DONE);
        let observed = words(at, at + u64::from(len)) & self.observed.shared != 0;
        let late = self.buffers(instruction) && observed && !device;
        self.push_if(late, after, instruction, Pending::Shared { offset, len, value })
    }

    /// The same for the store to the site with this number.
    pub(super) fn buffer_text(
        &self,
        after: &mut Executor,
        instruction: &Instruction,
        store: usize,
    ) -> Result<bool> {
        let late = self.buffers(instruction) && self.observed.text;
        self.push_if(late, after, instruction, Pending::Text { store: store as u8 })
    }

    /// The same for a store to the executor's own page; `executor` is the one before the instruction.
    pub(super) fn buffer_own(
        &self,
        after: &mut Executor,
        executor: Id<Executor>,
        instruction: &Instruction,
        access: Access,
    ) -> Result<bool> {
        let offset = access.address - va::PRIVATE;
        let late = self.buffers(instruction) && words(offset, offset + 4) & self.observed.own != 0;
        if late && (access.size != 4 || !offset.is_multiple_of(4)) {
            let what = "it stores a part of a word that the patcher reads".into();
            return Err(EngineError::Contract { rip: instruction.ip(), what });
        }
        let cpu = &self.interned.cpus[self.interned.executors[executor].cpu];
        let before = cpu.read(access.address, 4).unwrap_or_default() as u32;
        self.push_if(late, after, instruction, Pending::Own { offset: offset as u8, before })
    }

    fn push_if(
        &self,
        late: bool,
        after: &mut Executor,
        instruction: &Instruction,
        pending: Pending,
    ) -> Result<bool> {
        if late {
            after.buffer.0.push(pending);
            if after.buffer.0.len() > MOST_PENDING {
                let what = format!("more than {MOST_PENDING} stores are in the store buffer: add a `fence`");
                return Err(EngineError::Contract { rip: instruction.ip(), what });
            }
        }
        Ok(late)
    }

    /// The oldest store of an executor reaches memory.
    pub(super) fn reach_memory(&mut self, request: &Request, mut executor: Executor) -> Result<Outcome> {
        let Request { mut shared_state, .. } = *request;
        let oldest = executor.buffer.0.remove(0);
        match oldest {
            Pending::Shared { .. } => {
                let mut changed = self.interned.shared_states[shared_state].clone();
                oldest.store(&mut changed.shared);
                shared_state = self.interned.add_shared_state(changed);
            }
            Pending::Text { store } => {
                shared_state = self.store_to_site(shared_state, usize::from(store), &mut executor)?;
            }
            Pending::Own { .. } => {}
        }
        if request.live {
            self.settle(shared_state)?;
        }
        let writes = !matches!(oldest, Pending::Own { .. });
        Ok(Outcome { writes, ..Outcome::quiet((shared_state, self.interned.add_executor(executor))) })
    }

    /// Puts memory as all find it where an executor's own stores have been.
    pub(super) fn settle(&mut self, shared_state: Id<SharedState>) -> Result<()> {
        self.engine.shared_stored(&self.interned.shared_states[shared_state].shared)?;
        self.engine.stored(&self.interned.history(shared_state).data)
    }
}
