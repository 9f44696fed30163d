//! The table: what each form of instruction does, in terms of [`World`].

use crossmod::x86::cpu::{IF, reg};
use crossmod_abi::{msr, selector, vector};
use iced_x86::{Code, Instruction};

use super::places::Form;
use super::world::{
    AF, ARITHMETIC, CF, DF, KERNEL_TOP, NMI_TOP, OF, SF, TASK_TOP, World, ZF, mask, sign, when,
};

/// What instructions may need to know besides the state.
pub struct Place {
    /// Where to go when anywhere with code behind it will do.
    pub elsewhere: u64,
    /// Entry of the #BP handler.
    pub bp_entry: u64,
    /// Its gate leaves interrupts as they are.
    pub bp_interrupts: bool,
    /// The instruction is executed for an executor at ring 3, or for a handler that interrupted one.
    pub user: bool,
}

type Prepare = fn(&Instruction, &Place, &mut fastrand::Rng, &mut World);
type Effect = fn(&Instruction, &Place, &mut World);

/// One row.
pub struct Row {
    pub form: Form,
    /// Makes a random state one from which the instruction can run.
    pub prepare: Prepare,
    /// What it does to everything but RIP, which is at the next instruction unless the row moves it.
    pub effect: Effect,
}

impl Row {
    /// It leaves a handler: it always runs at ring 0, whatever ring it returns to.
    pub fn returns(&self) -> bool {
        self.form.code == Code::Iretq
    }
}

fn row(code: Code, memory: bool, prepare: Prepare, effect: Effect) -> Row {
    Row { form: Form { code, memory }, prepare, effect }
}

fn anything(_: &Instruction, _: &Place, _: &mut fastrand::Rng, _: &mut World) {}

fn nothing(_: &Instruction, _: &Place, _: &mut World) {}

/// A register that addresses memory points into the live part of the task stack.
fn pointer(instruction: &Instruction, _: &Place, random: &mut fastrand::Rng, world: &mut World) {
    let base = instruction.memory_base();
    if base.is_gpr64() && base.number() != reg::RSP {
        let target = TASK_TOP - 8 * random.u64(1..8);
        world.cpu.regs.gpr[base.number()] = target.wrapping_sub(instruction.memory_displacement64());
    }
}

fn call_target(instruction: &Instruction, place: &Place, _: &mut fastrand::Rng, world: &mut World) {
    world.cpu.regs.gpr[instruction.op0_register().number()] = place.elsewhere;
}

fn return_address(_: &Instruction, place: &Place, _: &mut fastrand::Rng, world: &mut World) {
    world.store(world.rsp(), 8, place.elsewhere);
}

fn saved_flags(_: &Instruction, _: &Place, random: &mut fastrand::Rng, world: &mut World) {
    let flags = 2 | (random.u64(..) & (ARITHMETIC | DF | IF));
    world.store(world.rsp(), 8, flags);
}

/// A handler about to return: which stack its frame is on depends on what it interrupted.
fn frame(_: &Instruction, place: &Place, random: &mut fastrand::Rng, world: &mut World) {
    let task = world.rsp();
    if place.user {
        world.cpu.regs.nmi_masked |= random.bool();
        let at = if world.cpu.regs.nmi_masked { NMI_TOP } else { KERNEL_TOP } - 40;
        world.cpu.regs.ss = 0;
        world.plant_frame(at, place.elsewhere, true, task, selector::USER_DATA);
        return;
    }
    match random.u8(0..3) {
        // An NMI handler, the interrupted code on the task stack.
        0 => {
            world.cpu.regs.nmi_masked = true;
            world.plant_frame(NMI_TOP - 40, place.elsewhere, false, task, selector::KERNEL_STACK);
        }
        // An NMI handler that interrupted one on the kernel stack, whose SS is null.
        1 => {
            world.plant_frame(KERNEL_TOP - 40, place.elsewhere, true, task, selector::USER_DATA);
            world.cpu.regs.nmi_masked = true;
            world.cpu.regs.ss = 0;
            world.plant_frame(NMI_TOP - 40, place.elsewhere, false, KERNEL_TOP - 40, 0);
        }
        // A handler on the interrupted stack itself; the CPU may have aligned the frame.
        _ => {
            let at = task & !15;
            let hole = 8 * random.u64(0..2);
            world.plant_frame(at, place.elsewhere, false, at + 40 + hole, selector::KERNEL_STACK);
            if hole > 0 {
                world.store(at + 40, 8, 0);
            }
        }
    }
}

fn logic(instruction: &Instruction, world: &mut World, result: u64) {
    let size = World::size(instruction);
    world.set_flags(ARITHMETIC, World::result_flags(result, size));
    world.undefined |= AF;
}

fn xor(instruction: &Instruction, _: &Place, world: &mut World) {
    let result = world.get(instruction, 0) ^ world.get(instruction, 1);
    world.set(instruction, 0, result);
    logic(instruction, world, result);
}

fn test(instruction: &Instruction, _: &Place, world: &mut World) {
    logic(instruction, world, world.get(instruction, 0) & world.get(instruction, 1));
}

fn cmp(instruction: &Instruction, _: &Place, world: &mut World) {
    let size = World::size(instruction);
    let (_, flags) = World::subtract(world.get(instruction, 0), world.get(instruction, 1), size);
    world.set_flags(ARITHMETIC, flags);
}

fn add(instruction: &Instruction, _: &Place, world: &mut World) {
    let size = World::size(instruction);
    let (left, right) = (world.get(instruction, 0), world.get(instruction, 1) & mask(size));
    let result = left.wrapping_add(right) & mask(size);
    world.set(instruction, 0, result);
    let flags = World::result_flags(result, size)
        | when(CF, result < left)
        | when(AF, (left ^ right ^ result) & 16 != 0)
        | when(OF, !(left ^ right) & (left ^ result) & sign(size) != 0);
    world.set_flags(ARITHMETIC, flags);
}

fn dec(instruction: &Instruction, _: &Place, world: &mut World) {
    let (result, flags) = World::subtract(world.get(instruction, 0), 1, World::size(instruction));
    world.set(instruction, 0, result);
    world.set_flags(ARITHMETIC & !CF, flags);
}

fn inc(instruction: &Instruction, _: &Place, world: &mut World) {
    let size = World::size(instruction);
    let before = world.get(instruction, 0);
    let result = before.wrapping_add(1);
    world.set(instruction, 0, result);
    let flags =
        World::result_flags(result, size) | when(AF, before & 15 == 15) | when(OF, result == sign(size));
    world.set_flags(ARITHMETIC & !CF, flags);
}

fn mov(instruction: &Instruction, _: &Place, world: &mut World) {
    let value = world.get(instruction, 1);
    world.set(instruction, 0, value);
}

fn xchg(instruction: &Instruction, _: &Place, world: &mut World) {
    let (left, right) = (world.get(instruction, 0), world.get(instruction, 1));
    world.set(instruction, 1, left);
    world.set(instruction, 0, right);
}

fn lea(instruction: &Instruction, _: &Place, world: &mut World) {
    let address = world.address(instruction);
    world.set(instruction, 0, address);
}

fn push(instruction: &Instruction, _: &Place, world: &mut World) {
    let value = world.get(instruction, 0);
    world.push(value);
}

fn push_immediate(instruction: &Instruction, _: &Place, world: &mut World) {
    world.push(instruction.immediate32to64() as u64);
}

fn pop(instruction: &Instruction, _: &Place, world: &mut World) {
    let value = world.pop();
    world.set(instruction, 0, value);
}

fn popf(_: &Instruction, _: &Place, world: &mut World) {
    world.cpu.regs.rflags = world.pop();
}

fn cli(_: &Instruction, _: &Place, world: &mut World) {
    world.set_flags(IF, 0);
}

fn jump(instruction: &Instruction, _: &Place, world: &mut World) {
    world.cpu.regs.rip = instruction.near_branch_target();
}

fn jump_if_zero(instruction: &Instruction, place: &Place, world: &mut World) {
    if world.flag(ZF) {
        jump(instruction, place, world);
    }
}

fn jump_if_not_zero(instruction: &Instruction, place: &Place, world: &mut World) {
    if !world.flag(ZF) {
        jump(instruction, place, world);
    }
}

fn jump_if_not_greater(instruction: &Instruction, place: &Place, world: &mut World) {
    if world.flag(ZF) || world.flag(SF) != world.flag(OF) {
        jump(instruction, place, world);
    }
}

fn call(instruction: &Instruction, place: &Place, world: &mut World) {
    world.push(instruction.next_ip());
    jump(instruction, place, world);
}

fn call_register(instruction: &Instruction, _: &Place, world: &mut World) {
    let target = world.get(instruction, 0);
    world.push(instruction.next_ip());
    world.cpu.regs.rip = target;
}

fn ret(_: &Instruction, _: &Place, world: &mut World) {
    world.cpu.regs.rip = world.pop();
}

fn iret(_: &Instruction, _: &Place, world: &mut World) {
    world.iret();
}

fn mov_to_cr2(instruction: &Instruction, _: &Place, world: &mut World) {
    world.cpu.regs.cr2 = world.cpu.regs.gpr[instruction.op1_register().number()];
}

/// IA32_MCG_STATUS, with anything but the bit by which the next machine check would shut the CPU down.
fn machine_check_status(_: &Instruction, _: &Place, random: &mut fastrand::Rng, world: &mut World) {
    world.cpu.regs.gpr[1] = msr::MCG_STATUS.into();
    world.cpu.regs.gpr[reg::RAX] = random.u64(0..4);
    world.cpu.regs.gpr[2] = 0;
}

fn int3(instruction: &Instruction, place: &Place, world: &mut World) {
    let flags = world.cpu.regs.rflags;
    world.deliver(vector::BP, place.bp_entry, instruction.next_ip());
    world.cpu.regs.rflags |= if place.bp_interrupts { flags & IF } else { 0 };
}

/// All rows.
pub fn table() -> Vec<Row> {
    const REGISTER: bool = false;
    const MEMORY: bool = true;
    vec![
        row(Code::Xor_rm32_r32, REGISTER, anything, xor),
        row(Code::Xor_rm32_imm8, MEMORY, pointer, xor),
        row(Code::Test_rm32_r32, REGISTER, anything, test),
        row(Code::Test_EAX_imm32, REGISTER, anything, test),
        row(Code::Add_rm32_imm8, REGISTER, anything, add),
        row(Code::Add_rm64_imm8, REGISTER, anything, add),
        row(Code::Cmp_r64_rm64, MEMORY, pointer, cmp),
        row(Code::Cmp_rm32_imm8, MEMORY, pointer, cmp),
        row(Code::Dec_rm16, REGISTER, anything, dec),
        row(Code::Dec_rm64, REGISTER, anything, dec),
        row(Code::Inc_rm32, MEMORY, pointer, inc),
        row(Code::Mov_r32_imm32, REGISTER, anything, mov),
        row(Code::Mov_r32_rm32, REGISTER, anything, mov),
        row(Code::Mov_r64_imm64, REGISTER, anything, mov),
        row(Code::Mov_rm64_r64, REGISTER, anything, mov),
        row(Code::Mov_rm64_r64, MEMORY, pointer, mov),
        row(Code::Mov_r64_rm64, MEMORY, pointer, mov),
        row(Code::Mov_rm32_imm32, MEMORY, pointer, mov),
        row(Code::Mov_cr_r64, REGISTER, anything, mov_to_cr2),
        row(Code::Wrmsr, REGISTER, machine_check_status, nothing),
        row(Code::Xchg_rm32_r32, MEMORY, pointer, xchg),
        row(Code::Lea_r32_m, MEMORY, anything, lea),
        row(Code::Lea_r64_m, MEMORY, anything, lea),
        row(Code::Push_r64, REGISTER, anything, push),
        row(Code::Push_rm64, MEMORY, pointer, push),
        row(Code::Pushq_imm32, REGISTER, anything, push_immediate),
        row(Code::Pop_r64, REGISTER, anything, pop),
        row(Code::Popfq, REGISTER, saved_flags, popf),
        row(Code::Cli, REGISTER, anything, cli),
        row(Code::Jmp_rel8_64, REGISTER, anything, jump),
        row(Code::Jmp_rel32_64, REGISTER, anything, jump),
        row(Code::Je_rel8_64, REGISTER, anything, jump_if_zero),
        row(Code::Je_rel32_64, REGISTER, anything, jump_if_zero),
        row(Code::Jne_rel8_64, REGISTER, anything, jump_if_not_zero),
        row(Code::Jne_rel32_64, REGISTER, anything, jump_if_not_zero),
        row(Code::Jle_rel32_64, REGISTER, anything, jump_if_not_greater),
        row(Code::Call_rel32_64, REGISTER, anything, call),
        row(Code::Call_rm64, REGISTER, call_target, call_register),
        row(Code::Retnq, REGISTER, return_address, ret),
        row(Code::Iretq, REGISTER, frame, iret),
        row(Code::Int3, REGISTER, anything, int3),
        row(Code::Nopd, REGISTER, anything, nothing),
        row(Code::Nopw, REGISTER, anything, nothing),
        row(Code::Nop_rm16, MEMORY, anything, nothing),
        row(Code::Nop_rm32, MEMORY, anything, nothing),
        row(Code::Endbr64, REGISTER, anything, nothing),
        row(Code::Lfence, REGISTER, anything, nothing),
        row(Code::Mfence, REGISTER, anything, nothing),
    ]
}
