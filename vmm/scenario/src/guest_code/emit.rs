//! Instructions for the steps of programs. Where something happens that the explorer has to know of, the place is
//! marked; addresses are known once everything is assembled.

use crossmod_abi::{private, selector, shared, va};
use crossmod_model::plan::{Op, Ring, Word};
use crossmod_model::property::Property;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::library::Use;

pub(super) type Coded = Result<(), IcedError>;

/// What is at a place.
#[derive(Debug, Clone)]
pub(super) enum Mark {
    /// A name, for reports and for the explorer.
    Label(String),
    /// A store to the site.
    Store(Op),
    /// The end of a check that failed.
    Check(Property, Option<String>, String),
    /// The last instruction of a handler that copies its frame: then that is where RSP points.
    Moved,
    /// An IRET that ends no handler.
    OwnIret,
    /// A handler does not claim its trap.
    Refusal,
}

/// Bytes that a handler pushes over its frame.
const SAVED: i32 = 4 * 8;
/// RIP, RFLAGS and RSP of the interrupted context, from the handler's RSP.
pub(super) const FRAME_RIP: i32 = SAVED;
pub(super) const FRAME_FLAGS: i32 = SAVED + 16;
pub(super) const FRAME_RSP: i32 = SAVED + 24;

/// Address of a shared word.
pub(super) fn shared_word(word: Word) -> u64 {
    va::SHARED + crossmod_model::layout::word_offset(word)
}

/// Address of a word of the executor's own.
pub(super) fn own_word(number: u8) -> u64 {
    va::PRIVATE + private::WORD + 4 * u64::from(number)
}

/// Code with marks.
pub(super) struct Emitter {
    pub a: CodeAssembler,
    pub marks: Vec<(CodeLabel, Mark)>,
}

impl Emitter {
    pub fn new() -> Result<Emitter, IcedError> {
        Ok(Emitter { a: CodeAssembler::new(64)?, marks: Vec::new() })
    }

    /// Puts a label here; another one may stand at the same place.
    pub fn here(&mut self, label: &mut CodeLabel) -> Coded {
        self.a.set_label(label)?;
        self.a.zero_bytes()
    }

    /// Marks this place.
    pub fn mark(&mut self, mark: Mark) -> Coded {
        let mut label = self.a.create_label();
        self.here(&mut label)?;
        self.marks.push((label, mark));
        Ok(())
    }

    /// The register behind a name that a step uses.
    pub fn register(what: Use, name: &str) -> Option<AsmRegister32> {
        Some(match (name, matches!(what, Use::Role(_))) {
            ("a", true) => ebx,
            ("b", true) => ebp,
            ("c", true) => esi,
            ("a", false) => ecx,
            ("b", false) => edx,
            ("c", false) => edi,
            _ => return None,
        })
    }

    /// The beginning of a handler: its doorbell, then the registers that programs use.
    pub fn enter(&mut self, vector: u8) -> Coded {
        self.a.out(u32::from(vector), al)?;
        self.save()
    }

    pub fn save(&mut self) -> Coded {
        self.a.push(rax)?;
        self.a.push(rcx)?;
        self.a.push(rdx)?;
        self.a.push(rdi)
    }

    pub fn restore(&mut self) -> Coded {
        self.a.pop(rdi)?;
        self.a.pop(rdx)?;
        self.a.pop(rcx)?;
        self.a.pop(rax)
    }

    pub fn leave(&mut self) -> Coded {
        self.restore()?;
        self.a.iretq()
    }

    /// A pass through the part whose address is in this register. Flags stay as they are until the site.
    pub fn pass(&mut self, name: &str, site: AsmRegister64) -> Coded {
        self.a.mov(eax, 0)?;
        self.mark(Mark::Label(format!("pass_call_{name}")))?;
        self.a.call(site)?;
        self.mark(Mark::Label(format!("pass_done_{name}")))
    }

    /// MOV to CR2 serialises, needs one register, and leaves the machine as it was: CR2 is always 0. At ring 3, or if
    /// asked for, it is an IRET to the next instruction.
    pub fn serialise(&mut self, what: Use, by_iret: bool) -> Coded {
        let user = what == Use::Role(Ring::User);
        if !by_iret && !user {
            self.a.xor(eax, eax)?;
            return self.a.mov(cr2, rax);
        }
        let (code, stack) = if user {
            (selector::USER_CODE, selector::USER_DATA)
        } else {
            (selector::KERNEL_CODE, selector::KERNEL_STACK)
        };
        let mut next = self.a.create_label();
        self.a.mov(rax, rsp)?;
        self.a.push(i32::from(stack))?;
        self.a.push(rax)?;
        self.a.push(if matches!(what, Use::Role(_)) { 0x202 } else { 2 })?;
        self.a.push(i32::from(code))?;
        self.a.lea(rax, qword_ptr(next))?;
        self.a.push(rax)?;
        self.mark(Mark::OwnIret)?;
        self.a.iretq()?;
        self.here(&mut next)
    }

    /// Takes a lock that is 0 while free.
    pub fn take(&mut self, word: u64) -> Coded {
        let mut again = self.a.create_label();
        self.here(&mut again)?;
        self.a.cmp(dword_ptr(word), 0)?;
        self.a.jne(again)?;
        self.a.mov(eax, 1)?;
        self.a.xchg(dword_ptr(word), eax)?;
        self.a.test(eax, eax)?;
        self.a.jne(again)
    }

    /// Takes a lock to which others add: a failed exchange would overwrite what they did. R8 is left as it was.
    pub fn take_counted(&mut self, word: u64) -> Coded {
        let mut again = self.a.create_label();
        self.a.push(r8)?;
        self.a.mov(r8d, 1)?;
        self.here(&mut again)?;
        self.a.mov(eax, dword_ptr(word))?;
        self.a.test(eax, eax)?;
        self.a.jne(again)?;
        self.a.lock().cmpxchg(dword_ptr(word), r8d)?;
        self.a.jne(again)?;
        self.a.pop(r8)
    }

    /// Adds to a word unless it holds a value: then it goes elsewhere. R8 is left as it was.
    pub fn add_unless(&mut self, word: u64, number: i32, unless: i32, to: CodeLabel) -> Coded {
        let (mut again, mut done, mut refused) =
            (self.a.create_label(), self.a.create_label(), self.a.create_label());
        self.a.push(r8)?;
        self.here(&mut again)?;
        self.a.mov(eax, dword_ptr(word))?;
        self.a.cmp(eax, unless)?;
        self.a.je(refused)?;
        self.a.lea(r8d, dword_ptr(rax + number))?;
        self.a.lock().cmpxchg(dword_ptr(word), r8d)?;
        self.a.jne(again)?;
        self.a.pop(r8)?;
        self.a.jmp(done)?;
        self.here(&mut refused)?;
        self.a.pop(r8)?;
        self.a.jmp(to)?;
        self.here(&mut done)
    }

    /// One store to the site, as one instruction: 1, 2, 4 or 8 bytes at a data address.
    pub fn store(&mut self, address: u64, bytes: &[u8], op: Op) -> Coded {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let value = u64::from_le_bytes(word);
        if bytes.len() == 8 {
            self.a.mov(rax, value)?;
        }
        self.mark(Mark::Store(op))?;
        match bytes.len() {
            1 => self.a.mov(byte_ptr(address), value as u32),
            2 => self.a.mov(word_ptr(address), value as u32),
            4 => self.a.mov(dword_ptr(address), value as u32),
            _ => self.a.mov(qword_ptr(address), rax),
        }
    }

    /// Makes the interrupted context go on elsewhere.
    pub fn resume_at(&mut self, address: u64) -> Coded {
        self.a.mov(rax, address)?;
        self.a.mov(qword_ptr(rsp + FRAME_RIP), rax)
    }

    /// Makes it return to its caller, as RET would.
    pub fn resume_by_return(&mut self) -> Coded {
        self.a.mov(rax, qword_ptr(rsp + FRAME_RSP))?;
        self.a.mov(rcx, qword_ptr(rax))?;
        self.a.mov(qword_ptr(rsp + FRAME_RIP), rcx)?;
        self.a.lea(rax, qword_ptr(rax + 8))?;
        self.a.mov(qword_ptr(rsp + FRAME_RSP), rax)
    }

    /// Makes it call, and ends the handler. At ring 0 the return address goes where the frame stands, which is first
    /// copied out of the way; its RSP is lowered before that, so that at every moment the frame at the top of a stack
    /// tells what is in use below it.
    pub fn resume_by_call(&mut self, target: u64, return_to: u64) -> Coded {
        self.a.mov(rax, qword_ptr(rsp + FRAME_RSP))?;
        self.a.lea(rax, qword_ptr(rax - 8))?;
        self.a.mov(qword_ptr(rsp + FRAME_RSP), rax)?;
        self.restore()?;
        for _ in 0..5 {
            self.a.push(qword_ptr(rsp + 32))?;
        }
        self.save()?;
        self.a.mov(rax, qword_ptr(rsp + FRAME_RSP))?;
        self.a.mov(rcx, return_to)?;
        self.a.mov(qword_ptr(rax), rcx)?;
        self.resume_at(target)?;
        self.leave()
    }

    /// The status flags of the interrupted context.
    pub fn interrupted_flags(&mut self) -> Coded {
        const STATUS: i32 = 0x8d5;
        self.a.mov(eax, dword_ptr(rsp + FRAME_FLAGS))?;
        self.a.and(eax, STATUS)?;
        self.a.push(rax)?;
        self.a.popfq()
    }

    /// The beginning of an NMI handler that another NMI may interrupt, once a trap's IRET has opened NMIs.
    ///
    /// The CPU puts every NMI's frame at the same place. The first therefore copies its own away, below two words that
    /// a nested one may use, and says that it is there. A nested one leaves a request and goes back; if it comes after
    /// the first has looked for requests for the last time, it makes the first begin again. `window` is whether it
    /// asks for that: without, what comes in those few instructions is lost, or takes itself for the first.
    pub fn enter_nested(&mut self, vector: u8, window: bool) -> Result<Nested, IcedError> {
        let busy = va::PRIVATE + private::NMI_BUSY;
        let again_word = va::PRIVATE + private::NMI_AGAIN;
        let top = va::PRIVATE + private::NMI_STACK + private::STACK;
        let (mut first, mut late) = (self.a.create_label(), self.a.create_label());
        let mut nested = Nested {
            again: self.a.create_label(),
            window: self.a.create_label(),
            end: self.a.create_label(),
        };
        let mut request = self.a.create_label();
        self.a.out(u32::from(vector), al)?;
        self.a.push(rax)?;
        if window {
            self.a.push(rcx)?;
            let mut outside = self.a.create_label();
            self.a.mov(rax, qword_ptr(top - 40))?;
            self.a.lea(rcx, qword_ptr(nested.window))?;
            self.a.cmp(rax, rcx)?;
            self.a.jb(outside)?;
            self.a.lea(rcx, qword_ptr(nested.end))?;
            self.a.cmp(rax, rcx)?;
            self.a.jbe(late)?;
            self.here(&mut outside)?;
            self.a.pop(rcx)?;
        }
        self.a.cmp(dword_ptr(busy), 0)?;
        self.a.je(first)?;
        self.here(&mut request)?;
        self.a.mov(dword_ptr(again_word), 1)?;
        self.a.pop(rax)?;
        self.a.iretq()?;
        self.here(&mut late)?;
        self.a.lea(rax, qword_ptr(nested.again))?;
        self.a.mov(qword_ptr(top - 40), rax)?;
        self.a.mov(dword_ptr(busy), 1)?;
        self.a.pop(rcx)?;
        self.a.pop(rax)?;
        self.a.iretq()?;
        self.here(&mut first)?;
        self.a.mov(dword_ptr(busy), 1)?;
        self.a.pop(rax)?;
        self.a.lea(rsp, qword_ptr(rsp - 16))?;
        for word in 1..=5u64 {
            if word == 5 {
                self.mark(Mark::Moved)?;
            }
            self.a.push(qword_ptr(top - 8 * word))?;
        }
        self.here(&mut nested.again)?;
        self.a.mov(dword_ptr(again_word), 0)?;
        self.save()?;
        Ok(nested)
    }

    /// The end of such a handler.
    pub fn leave_nested(&mut self, mut nested: Nested) -> Coded {
        self.restore()?;
        self.a.cmp(dword_ptr(va::PRIVATE + private::NMI_AGAIN), 0)?;
        self.here(&mut nested.window)?;
        self.a.jne(nested.again)?;
        self.a.mov(dword_ptr(va::PRIVATE + private::NMI_BUSY), 0)?;
        self.here(&mut nested.end)?;
        self.a.iretq()
    }

    /// A store that does something: sends a broadcast, declares completion.
    pub fn device(&mut self, offset: u64, value: u32) -> Coded {
        debug_assert!(offset == shared::SEND || offset == shared::DONE);
        self.a.mov(dword_ptr(va::SHARED + offset), value)
    }
}

/// Places of an NMI handler that may be nested.
pub(super) struct Nested {
    again: CodeLabel,
    window: CodeLabel,
    end: CodeLabel,
}
