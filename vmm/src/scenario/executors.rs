//! What runs through the site.

use toml::Spanned;

use super::error::{ErrorKind, ScenarioError, Source};
use super::site::Resolved;
use super::syntax::{self, File};
use super::{Options, value};
use crate::plan::{Executor, Ring, Role, Start};

/// Most executors, and most passes of one.
const MOST: i64 = 8;

/// The settings of one executor, as written.
struct Written<'a> {
    passes: &'a Option<syntax::Int>,
    ring: &'a Option<syntax::Int>,
    role: &'a Option<Spanned<syntax::Role>>,
    start: &'a Option<Spanned<syntax::Start>>,
}

/// Resolves `[executors]` or the list of `[[executor]]`.
pub(super) fn resolve(
    source: &Source,
    file: &File,
    site: &Resolved,
    options: &Options,
) -> Result<Vec<Executor>, ScenarioError> {
    if let (Some(list), Some(table)) = (&file.executor, &file.executors) {
        let span = list.first().map_or(table.span(), Spanned::span);
        return Err(source.at(span).error(
            "executors are described twice",
            "besides [executors]",
            "keep either the table [executors] or the list [[executor]]",
        ));
    }
    if let Some(list) = &file.executor {
        if list.is_empty() || list.len() as i64 > MOST {
            let span = list.last().map_or(0..1, Spanned::span);
            return Err(source.at(span).error(
                format!("{} executors", list.len()),
                "too few or too many",
                format!("describe 1 to {MOST} of them"),
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
                };
                executor(source, &written, site, options)
            })
            .collect();
    }
    let (count, written) = match &file.executors {
        Some(table) => {
            let table = table.get_ref();
            let count = match &table.count {
                Some(count) => value::ranged(source, count, "the number of executors", 1, MOST)?,
                None => 2,
            };
            let written =
                Written { passes: &table.passes, ring: &table.ring, role: &table.role, start: &table.start };
            (count, written)
        }
        None => (2, Written { passes: &None, ring: &None, role: &None, start: &None }),
    };
    let one = executor(source, &written, site, options)?;
    Ok(vec![one; count as usize])
}

fn executor(
    source: &Source,
    written: &Written<'_>,
    site: &Resolved,
    options: &Options,
) -> Result<Executor, ScenarioError> {
    let passes = match written.passes {
        Some(passes) => value::ranged(source, passes, "the number of passes", 1, MOST)? as u8,
        None => 2,
    };
    let asked = match written.ring {
        None => Ring::Kernel,
        Some(ring) => match ring.get_ref() {
            0 => Ring::Kernel,
            3 => Ring::User,
            other => {
                return Err(source.at(ring.span()).error(
                    format!("there is no ring {other} to run in"),
                    "not a ring",
                    "choose 0 (kernel) or 3 (user)",
                ));
            }
        },
    };
    let ring = options.ring.unwrap_or(asked);
    let role = match written.role.as_ref().map(|role| *role.get_ref()) {
        None | Some(syntax::Role::Loop) => Role::Loop,
        Some(syntax::Role::Lock) => Role::Lock,
        Some(syntax::Role::LockIrqsOff) => Role::LockIrqOff,
    };
    if let (Some(place), Role::LockIrqOff, Ring::User) = (written.role, role, ring) {
        let error = source.at(place.span()).error(
            "an executor at ring 3 cannot switch interrupts off",
            "needs ring 0",
            "remove `ring = 3`, or choose the role \"lock\"",
        );
        return Err(if asked == Ring::User { error } else { error.of_kind(ErrorKind::Unsupported) });
    }
    Ok(Executor { passes, ring, role, start: start(source, written, role, site)? })
}

fn start(
    source: &Source,
    written: &Written<'_>,
    role: Role,
    site: &Resolved,
) -> Result<Start, ScenarioError> {
    let Some(start) = written.start else {
        return Ok(Start::Outside);
    };
    let syntax::Start::Interior(offset) = *start.get_ref() else {
        return Ok(Start::Outside);
    };
    let place = source.at(start.span());
    if role != Role::Loop {
        return Err(place.error(
            "an executor that takes the lock begins before it has it",
            "not with this role",
            "use the role \"loop\", or start \"outside\"",
        ));
    }
    let interior = &site.old.code.boundaries[1..];
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
