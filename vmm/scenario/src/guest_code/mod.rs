//! Programs of a scenario: lists of steps that vCPUs run, compiled to guest code. Executors run them in a loop; the
//! functions of broadcasts and the handlers of traps and interrupts may be programs, too.

mod code;
mod condition;
mod emit;
mod resume;
mod step;

use std::sync::OnceLock;

use crossmod_abi::{va, vector};
use crossmod_model::image::Image;
use crossmod_model::plan;
use iced_x86::BlockEncoderOptions;
use iced_x86::code_asm::{CodeLabel, r15};

use self::code::Code;
use self::emit::Mark;
use super::context::Context;
use super::error::ScenarioError;
use super::library::{Body, Library, Use};
use super::syntax::Nest;

/// Longest that the programs of a scenario may become.
const LONGEST: usize = 0x4000;

/// Compiles everything that is used. Gives the entry of each use, by its number.
pub(super) fn compile(
    library: &Library,
    context: &Context<'_>,
) -> Result<(plan::Programs, Vec<u64>), ScenarioError> {
    let first = library.programs.first();
    compiled(library, context).map_err(|error| match first {
        Some(program) => error.or_at(&program.place),
        None => error,
    })
}

fn compiled(library: &Library, context: &Context<'_>) -> Result<(plan::Programs, Vec<u64>), ScenarioError> {
    let mut code = Code::new(context)?;
    let mut entries: Vec<CodeLabel> = Vec::new();
    // A program may broadcast a function that nobody else uses: the list grows meanwhile.
    let mut next = 0;
    loop {
        let Some(&(what, body)) = library.uses.borrow().get(next) else { break };
        code.name = library.unit_name(what, body);
        code.what = what;
        let mut entry = code.emitter.a.create_label();
        code.emitter.here(&mut entry)?;
        entries.push(entry);
        code.emitter.mark(Mark::Label(code.name.clone()))?;
        unit(library, &mut code, body)?;
        if let Some(vector) = gate(what) {
            code.out.gates.push((vector, code.name.clone()));
        }
        next += 1;
    }
    for (number, program) in library.programs.iter().enumerate() {
        // A protocol's programs are there for scenarios to choose from.
        let used = library.uses.borrow().iter().any(|(_, body)| *body == Body::Program(number));
        if !used && program.own {
            return Err(program.place.error(
                format!("nothing runs the program `{}`", program.name),
                "not used",
                "name it as the `role` of an executor, in [handler] `run`, [events] `nmi-runs` or `irq-runs`, or in a \
                 `broadcast`; or remove it",
            ));
        }
    }
    let Code { mut emitter, mut out, .. } = code;
    if next == 0 {
        return Ok((out, Vec::new()));
    }
    let options = BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let assembled = emitter.a.assemble_options(va::PROGRAM, options)?;
    out.code.clone_from(&assembled.inner.code_buffer);
    if out.code.len() > LONGEST {
        return Err(ScenarioError::of_assembler("they are longer than 16 KiB"));
    }
    for (label, mark) in emitter.marks {
        let at = assembled.label_ip(&label)?;
        match mark {
            Mark::Label(name) => out.labels.push((name, at)),
            Mark::Store(op) => out.stores.push((at, op)),
            Mark::Check(property, step, text) => out.checks.push(plan::Check { at, step, property, text }),
            Mark::Moved => out.moved.push(at),
            Mark::OwnIret => out.own_irets.push(at),
            Mark::Refusal => out.refusals.push(at),
        }
    }
    let entries = entries.iter().map(|label| assembled.label_ip(label)).collect::<Result<_, _>>();
    Ok((out, entries?))
}

fn unit(library: &Library, code: &mut Code<'_>, body: Body) -> Result<(), ScenarioError> {
    let what = code.what;
    let mut nested = None;
    let mut begin = code.emitter.a.create_label();
    match what {
        Use::Role(_) => code.emitter.here(&mut begin)?,
        Use::Nmi(nest) if nest != Nest::Fixed => {
            let window = nest == Nest::Safe;
            nested = Some(code.emitter.enter_nested(vector::NMI, window)?);
        }
        _ => code.emitter.enter(gate(what).unwrap_or_default())?,
    }
    match body {
        Body::Program(number) => code.program(&library.programs[number].items)?,
        Body::Site => code.pass_site(0, "pass")?,
        Body::Nothing => {}
        Body::Emulate(new) => code.emulate_claimed(new)?,
    }
    let emitter = &mut code.emitter;
    if what == Use::Trap {
        // A program that comes to its end has claimed nothing.
        emitter.mark(Mark::Refusal)?;
    }
    match (what, nested) {
        (Use::Role(_), _) => {
            emitter.a.dec(r15)?;
            emitter.a.jne(begin)?;
            emitter.a.jmp(park())?;
        }
        (_, Some(nested)) => emitter.leave_nested(nested)?,
        (_, None) => emitter.leave()?,
    }
    Ok(())
}

pub(super) use resume::can_emulate;
pub(super) use step::on_again;

/// Where an executor goes that has finished. The embedded image has the place, or nothing works at all.
fn park() -> u64 {
    static PARK: OnceLock<u64> = OnceLock::new();
    *PARK.get_or_init(|| Image::embedded().and_then(|image| image.label("exec_park")).unwrap_or(va::IMAGE))
}

/// The vector of a handler.
fn gate(what: Use) -> Option<u8> {
    match what {
        Use::Role(_) => None,
        Use::Call(number) => Some(vector::IPI_CALL + number),
        Use::Nmi(_) => Some(vector::NMI),
        Use::Irq => Some(vector::IRQ),
        Use::Trap => Some(vector::BP),
    }
}
