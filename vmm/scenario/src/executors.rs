//! What runs through the site.

use crossmod_model::plan::{Executor, Ring, Role, Start};

use super::built_in::{EXECUTORS, MOST_EXECUTORS, PASSES, ROLES};
use super::context::Context;
use super::error::{ErrorKind, ScenarioError};
use super::guest_code::on_again;
use super::library::{Body, Use};
use super::spanned::Spanned;
use super::syntax::{self, Executors, File, Switch};
use super::value;

/// An executor whose program is not compiled yet: its role holds the number of its use instead of an address.
#[derive(Clone)]
pub(super) struct Listed {
    pub executor: Executor,
    /// The label of the step of the program at which it begins.
    pub step: Option<String>,
}

/// Resolves `[executors]` or the list of `[[executor]]`.
pub(super) fn resolve(
    context: &Context<'_>,
    file: &mut File,
    ring: Option<Ring>,
) -> Result<Vec<Listed>, ScenarioError> {
    if let (Some(list), Some(table)) = (&file.executor, &file.executors) {
        let place = list.first().map_or(&table.place, |one| &one.place);
        return Err(place.error(
            "executors are described twice",
            "besides [executors]",
            "keep either the table [executors] or the list [[executor]]",
        ));
    }
    if let Some(list) = &file.executor {
        if list.is_empty() || list.len() as i64 > MOST_EXECUTORS {
            let place = list.last().map_or(file.title.place.top(), |one| one.place.clone());
            return Err(place.error(
                format!("{} executors", list.len()),
                "too few or too many",
                format!("describe 1 to {MOST_EXECUTORS} of them"),
            ));
        }
        return list.iter().map(|one| executor(context, one, ring)).collect();
    }
    let Executors { count, passes, ring: level, role, start, interrupts } =
        file.executors.take().map(|table| table.value).unwrap_or_default();
    let count = match &count {
        Some(count) => value::ranged(count, "the number of executors", 1, MOST_EXECUTORS)?,
        None => EXECUTORS,
    };
    let alike = syntax::Executor { passes, ring: level, role, start, interrupts };
    Ok(vec![executor(context, &alike, ring)?; count as usize])
}

fn executor(
    context: &Context<'_>,
    written: &syntax::Executor,
    ring: Option<Ring>,
) -> Result<Listed, ScenarioError> {
    let library = context.library;
    let passes = match &written.passes {
        Some(passes) => value::ranged(passes, "the number of passes", 1, MOST_EXECUTORS)? as u8,
        None => PASSES as u8,
    };
    let asked = match written.ring.as_ref().map(|ring| (ring.value, &ring.place)) {
        None | Some((0, _)) => Ring::Kernel,
        Some((3, _)) => Ring::User,
        Some((other, place)) => {
            return Err(place.error(
                format!("there is no ring {other}"),
                "not a ring",
                "choose 0 (kernel) or 3 (user)",
            ));
        }
    };
    let ring = ring.unwrap_or(asked);
    let (role, program) = match &written.role {
        None => (Role::Loop, None),
        Some(name) => match ROLES.iter().find(|(known, ..)| *known == name.value) {
            Some((_, role, _)) => (*role, None),
            None => {
                let program = library.find(name, &ROLES.map(|(name, ..)| name))?;
                let number = library.use_as(Use::Role(ring), Body::Program(program));
                (Role::Program(number as u64), Some(program))
            }
        },
    };
    let off = written.interrupts.as_ref().filter(|switch| switch.value == Switch::Off);
    let needs_kernel = match (&written.role, role) {
        (Some(name), Role::LockIrqOff) => Some(&name.place),
        _ => off.map(|switch| &switch.place),
    };
    if let (Some(place), Ring::User) = (needs_kernel, ring) {
        let error = place.error(
            "an executor at ring 3 cannot switch interrupts off",
            "needs ring 0",
            "remove `ring = 3`, or choose the role \"lock\"",
        );
        return Err(if asked == Ring::User { error } else { error.of_kind(ErrorKind::Unsupported) });
    }
    if let (Some(_), Some(program)) = (off, program)
        && let Some(place) = library.switches_on(program)
    {
        return Err(on_again(place));
    }
    let (start, step) = match &written.start {
        Some(start) => begins(context, start, role, program)?,
        None => (Start::Outside, None),
    };
    Ok(Listed { executor: Executor { passes, ring, role, start, interrupts_off: off.is_some() }, step })
}

/// Where an executor begins, and the label of the step if that is one.
fn begins(
    context: &Context<'_>,
    start: &Spanned<syntax::Start>,
    role: Role,
    program: Option<usize>,
) -> Result<(Start, Option<String>), ScenarioError> {
    let place = &start.place;
    match (&start.value, program) {
        (syntax::Start::Outside, _) => Ok((Start::Outside, None)),
        (syntax::Start::Step(label), Some(program)) => {
            Ok((Start::Outside, Some(context.library.step_label(program, label, place)?)))
        }
        (_, Some(_)) => Err(place.error(
            "an executor with a program of its own begins at one of its steps",
            "not with this role",
            "start at { step = \"LABEL\" }, or use the role \"loop\"",
        )),
        (syntax::Start::Handler, None) if context.handler.is_none() => Err(place.error(
            "an executor begins in the #BP handler, and there is none",
            "no handler",
            "add a table [handler], or name a protocol that has one",
        )),
        (syntax::Start::Step(_), None) => Err(place.error(
            "only an executor with a program of its own begins at a step",
            "no program",
            "give it the name of a program as `role`",
        )),
        (_, None) if role != Role::Loop => Err(place.error(
            "an executor that takes the lock begins before it has it",
            "not with this role",
            "use the role \"loop\", or start \"outside\"",
        )),
        (syntax::Start::Handler, None) => Ok((Start::Handler, None)),
        (syntax::Start::Interior(offset), None) => {
            let interior = &context.site.version(0, false).code.boundaries[1..];
            match usize::try_from(*offset).ok().filter(|offset| interior.contains(offset)) {
                Some(offset) => Ok((Start::Interior(offset), None)),
                None => Err(place.error(
                    format!("no instruction of `old` begins at byte {offset}, after the first"),
                    "not an interior boundary",
                    if interior.is_empty() {
                        "`old` is one instruction: nobody can stand inside it; start \"outside\"".to_owned()
                    } else {
                        format!("choose one of {interior:?}")
                    },
                )),
            }
        }
    }
}
