//! What runs through the site.

use crossmod_model::plan::{Executor, Ring, Role, Start};

use super::built_in::{EXECUTORS, MOST_EXECUTORS, PASSES, ROLES};
use super::error::{ErrorKind, ScenarioError, Source};
use super::guest_code::{Body, Library, Use, on_again};
use super::site::Resolved;
use super::spanned::Spanned;
use super::syntax::{self, File, Switch, Text};
use super::{Options, value};

/// The settings of one executor, as written.
struct Written<'a> {
    passes: &'a Option<syntax::Int>,
    ring: &'a Option<syntax::Int>,
    role: &'a Option<Text>,
    start: &'a Option<Spanned<syntax::Start>>,
    interrupts: &'a Option<Spanned<Switch>>,
}

/// What executors are resolved against.
pub(super) struct Against<'a> {
    pub source: &'a Source,
    pub site: &'a Resolved,
    pub library: &'a Library,
    /// There is a #BP handler.
    pub handled: bool,
    pub options: &'a Options,
}

/// Executors whose programs are not compiled yet: a role that is a program holds the number of its use instead of an
/// address, and a start at a step its label.
pub(super) struct Listed {
    pub executors: Vec<Executor>,
    pub starts: Vec<(usize, String)>,
}

/// Resolves `[executors]` or the list of `[[executor]]`.
pub(super) fn resolve(against: &Against<'_>, file: &File) -> Result<Listed, ScenarioError> {
    let mut listed = Listed { executors: Vec::new(), starts: Vec::new() };
    for (slot, (executor, start)) in list(against, file)?.into_iter().enumerate() {
        listed.executors.push(executor);
        listed.starts.extend(start.map(|start| (slot, start)));
    }
    Ok(listed)
}

type One = (Executor, Option<String>);

fn list(against: &Against<'_>, file: &File) -> Result<Vec<One>, ScenarioError> {
    let source = against.source;
    if let (Some(list), Some(table)) = (&file.executor, &file.executors) {
        let span = list.first().map_or(table.span(), Spanned::span);
        return Err(source.at(span).error(
            "executors are described twice",
            "besides [executors]",
            "keep either the table [executors] or the list [[executor]]",
        ));
    }
    if let Some(list) = &file.executor {
        if list.is_empty() || list.len() as i64 > MOST_EXECUTORS {
            let span = list.last().map_or(0..1, Spanned::span);
            return Err(source.at(span).error(
                format!("{} executors", list.len()),
                "too few or too many",
                format!("describe 1 to {MOST_EXECUTORS} of them"),
            ));
        }
        return list
            .iter()
            .map(|one| {
                let table = one.get_ref();
                let written = Written {
                    passes: &table.passes,
                    ring: &table.ring,
                    role: &table.role,
                    start: &table.start,
                    interrupts: &table.interrupts,
                };
                executor(against, &written)
            })
            .collect();
    }
    let (count, written) = match &file.executors {
        Some(table) => {
            let table = table.get_ref();
            let count = match &table.count {
                Some(count) => value::ranged(source, count, "the number of executors", 1, MOST_EXECUTORS)?,
                None => EXECUTORS,
            };
            let written = Written {
                passes: &table.passes,
                ring: &table.ring,
                role: &table.role,
                start: &table.start,
                interrupts: &table.interrupts,
            };
            (count, written)
        }
        None => {
            (EXECUTORS, Written { passes: &None, ring: &None, role: &None, start: &None, interrupts: &None })
        }
    };
    let one = executor(against, &written)?;
    Ok(vec![one; count as usize])
}

fn executor(against: &Against<'_>, written: &Written<'_>) -> Result<One, ScenarioError> {
    let Against { source, library, options, .. } = *against;
    let passes = match written.passes {
        Some(passes) => value::ranged(source, passes, "the number of passes", 1, MOST_EXECUTORS)? as u8,
        None => PASSES as u8,
    };
    let asked = match written.ring {
        None => Ring::Kernel,
        Some(ring) => match ring.get_ref() {
            0 => Ring::Kernel,
            3 => Ring::User,
            other => {
                return Err(source.at(ring.span()).error(
                    format!("there is no ring {other}"),
                    "not a ring",
                    "choose 0 (kernel) or 3 (user)",
                ));
            }
        },
    };
    let ring = options.ring.unwrap_or(asked);
    let program = |name: &Text| library.find(name, source, &ROLES.map(|(name, ..)| name));
    let role = match written.role {
        None => Role::Loop,
        Some(name) => match ROLES.iter().find(|(known, ..)| known == name.get_ref()) {
            Some((_, role, _)) => *role,
            None => Role::Program(library.use_as(Use::Role(ring), Body::Program(program(name)?)) as u64),
        },
    };
    let off = written.interrupts.as_ref().filter(|switch| *switch.get_ref() == Switch::Off);
    let needs_kernel = match (written.role, role) {
        (Some(name), Role::LockIrqOff) => Some(name.span()),
        _ => off.map(Spanned::span),
    };
    if let (Some(span), Ring::User) = (needs_kernel, ring) {
        let error = source.at(span).error(
            "an executor at ring 3 cannot switch interrupts off",
            "needs ring 0",
            "remove `ring = 3`, or choose the role \"lock\"",
        );
        return Err(if asked == Ring::User { error } else { error.of_kind(ErrorKind::Unsupported) });
    }
    let interrupts_off = off.is_some();
    if let (true, Some(name), Role::Program(_)) = (interrupts_off, written.role, role)
        && let Some(place) = library.switches_on(program(name)?)
    {
        return Err(on_again(place));
    }
    let mut at = None;
    let start = match (written.start, written.role) {
        (Some(start), Some(name)) if matches!(role, Role::Program(_)) => match start.get_ref() {
            syntax::Start::Outside => Start::Outside,
            syntax::Start::Step(label) => {
                let label = library.step_label(program(name)?, label, &source.at(start.span()))?;
                at = Some(label);
                Start::Outside
            }
            syntax::Start::Interior(_) | syntax::Start::Handler => {
                return Err(source.at(start.span()).error(
                    "an executor with a program of its own begins at one of its steps",
                    "not with this role",
                    "start at { step = \"LABEL\" }, or use the role \"loop\"",
                ));
            }
        },
        _ => start(against, written, role)?,
    };
    Ok((Executor { passes, ring, role, start, interrupts_off }, at))
}

fn start(against: &Against<'_>, written: &Written<'_>, role: Role) -> Result<Start, ScenarioError> {
    let Against { source, site, handled, .. } = *against;
    let Some(start) = written.start else {
        return Ok(Start::Outside);
    };
    let place = source.at(start.span());
    let offset = match start.get_ref() {
        syntax::Start::Outside => return Ok(Start::Outside),
        syntax::Start::Handler if !handled => {
            return Err(place.error(
                "an executor begins in the #BP handler, and there is none",
                "no handler",
                "add a table [handler], or name a protocol that has one",
            ));
        }
        syntax::Start::Handler => None,
        syntax::Start::Interior(offset) => Some(*offset),
        syntax::Start::Step(_) => {
            return Err(place.error(
                "only an executor with a program of its own begins at a step",
                "no program",
                "give it the name of a program as `role`",
            ));
        }
    };
    if role != Role::Loop {
        return Err(place.error(
            "an executor that takes the lock begins before it has it",
            "not with this role",
            "use the role \"loop\", or start \"outside\"",
        ));
    }
    let Some(offset) = offset else { return Ok(Start::Handler) };
    let interior = &site.version(0, false).code.boundaries[1..];
    match usize::try_from(offset).ok().filter(|offset| interior.contains(offset)) {
        Some(offset) => Ok(Start::Interior(offset)),
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
