//! From the tables of a scenario to a plan.

use toml::Spanned;

use super::error::{ErrorKind, Place, ScenarioError, Source, nearest};
use super::program::{self, Context};
use super::site::{self, Resolved, Version};
use super::syntax::{self, File, OneOrMore, Protocol, Resume, Runs, Variant};
use super::{Options, protocols, steps, value};
use crate::plan::{Action, Events, Executor, Handler, HandlerVariant, Plan, Ring, Role, Start, VendorRule};
use crate::property::Property;

/// Most executors, and most passes of one.
const MOST: i64 = 8;

/// Resolves a scenario that was read from `source`.
pub(super) fn plan(
    name: &str,
    source: &Source,
    mut file: File,
    options: &Options,
) -> Result<Plan, ScenarioError> {
    let title = file.title.get_ref().trim().to_owned();
    if title.is_empty() || title.chars().any(char::is_control) {
        return Err(source.at(file.title.span()).error(
            "a title is one line of text",
            "not one line",
            "say in one line what is being asked; longer text belongs into a comment",
        ));
    }
    let mut protocol = match &file.protocol {
        Some(name) => Some(protocol(name.get_ref(), &source.at(name.span()))?),
        None => None,
    };
    let items =
        steps::collect(source, &mut file, protocol.as_mut().map(|(source, table)| (&*source, table)))?;
    let int3 = items.iter().any(steps::Item::plants_int3);
    let site = site::resolve(source, file.site.get_ref(), int3)?;
    let executors = executors(source, &file, &site, options)?;
    let own = file.handler.as_ref().map(|table| (source, table));
    let borrowed =
        protocol.as_ref().and_then(|(source, table)| table.handler.as_ref().map(|table| (source, table)));
    let handler = handler(own, borrowed, &site)?;
    let context = Context { site: &site, executors: executors.len(), has_handler: handler.is_some() };
    let program = program::lower(&context, &items)?;
    let next = next(&site);
    Ok(Plan {
        name: name.to_owned(),
        title,
        handler: handler.unwrap_or(Handler {
            variant: HandlerVariant::Plain,
            action: Action::Resume(next),
            armed_at_start: false,
        }),
        site: site.site,
        pads: site.pads,
        executors,
        events: events(source, &file.events)?,
        program,
        rule: match file.rule {
            syntax::Rule::Intel => VendorRule::Intel,
            syntax::Rule::Amd => VendorRule::Amd,
        },
        expect: expectation(source, &file.expect)?,
    })
}

fn protocol(name: &str, place: &Place) -> Result<(Source, Protocol), ScenarioError> {
    let shipped = protocols();
    let Some((_, text)) = shipped.iter().find(|(known, _)| known == name) else {
        let names: Vec<_> = shipped.iter().map(|(name, _)| name.as_str()).collect();
        let help = match nearest(name, names.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("the protocols are {}; or write the [[step]]s here", names.join(", ")),
        };
        return Err(place.error(format!("there is no protocol `{name}`"), "unknown protocol", help));
    };
    let source = Source::new(&format!("protocols/{name}.toml"), text);
    let table = super::read(&source, text)?;
    Ok((source, table))
}

fn next(site: &Resolved) -> u64 {
    site.site.address + site.site.len() as u64
}

/// The settings of one executor, as written.
struct Written<'a> {
    passes: &'a Option<syntax::Int>,
    ring: &'a Option<syntax::Int>,
    role: &'a Option<Spanned<syntax::Role>>,
    start: &'a Option<Spanned<syntax::Start>>,
}

fn executors(
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

type Given<'a> = Option<(&'a Source, &'a Spanned<syntax::Handler>)>;

/// The handler: the scenario's own settings, then those of the protocol, then defaults.
fn handler(own: Given<'_>, borrowed: Given<'_>, site: &Resolved) -> Result<Option<Handler>, ScenarioError> {
    if own.is_none() && borrowed.is_none() {
        return Ok(None);
    }
    let tables = || [own, borrowed].into_iter().flatten();
    let resume = tables()
        .find_map(|(source, table)| {
            table.get_ref().resume.as_ref().map(|resume| (*resume.get_ref(), source.at(resume.span())))
        })
        .or_else(|| tables().next().map(|(source, table)| (Resume::New, source.at(table.span()))));
    let variant = tables().find_map(|(_, table)| table.get_ref().variant).unwrap_or(Variant::Plain);
    let armed_at_start = tables().find_map(|(_, table)| table.get_ref().armed).unwrap_or(false);
    let Some((resume, place)) = resume else {
        return Ok(None);
    };
    Ok(Some(Handler {
        variant: match variant {
            Variant::Plain => HandlerVariant::Plain,
            Variant::Counting => HandlerVariant::Counting,
            Variant::Traced => HandlerVariant::Traced,
        },
        action: action(resume, &place, site)?,
        armed_at_start,
    }))
}

fn action(resume: Resume, place: &Place, site: &Resolved) -> Result<Action, ScenarioError> {
    let emulate = |version: &Version, name: &str| {
        site::emulate(version, next(site)).ok_or_else(|| {
            place.error(
                format!("`{name}` is neither a NOP nor one jump or call, and cannot be emulated"),
                "not possible",
                "resume at \"next\", \"retry\" or { at = ... }, or simplify that version",
            )
        })
    };
    match resume {
        Resume::New => emulate(&site.new, "new"),
        Resume::Old => emulate(&site.old, "old"),
        Resume::Next => Ok(Action::Resume(next(site))),
        Resume::Retry => Ok(Action::Resume(site.site.address)),
        Resume::At(offset) => {
            let base = site.site.address;
            let address = base.wrapping_add_signed(offset);
            if site.site.contains(address) || site.pads.iter().any(|pad| pad.address == address) {
                return Ok(Action::Resume(address));
            }
            let pads: Vec<_> = site
                .pads
                .iter()
                .map(|pad| format!("{} ({})", pad.address as i128 - base as i128, pad.name))
                .collect();
            Err(place.error(
                format!("there is nothing to execute {offset} bytes from the site"),
                "leads nowhere",
                format!("choose an offset inside the site, or one of {}", pads.join(", ")),
            ))
        }
    }
}

fn events(source: &Source, table: &syntax::Events) -> Result<Events, ScenarioError> {
    let budget = |number: &Option<syntax::Int>| match number {
        Some(number) => value::ranged(source, number, "an event budget", 0, MOST).map(|number| number as u8),
        None => Ok(0),
    };
    let site = |runs: Option<Runs>| runs.unwrap_or(Runs::Site) == Runs::Site;
    Ok(Events {
        nmi: budget(&table.nmi)?,
        nmi_runs_site: site(table.nmi_runs),
        irq: budget(&table.irq)?,
        irq_runs_site: site(table.irq_runs),
    })
}

fn expectation(source: &Source, given: &Spanned<OneOrMore>) -> Result<Vec<Property>, ScenarioError> {
    let whole = source.at(given.span());
    let names: Vec<(&str, Place)> = match given.get_ref() {
        OneOrMore::One(name) if name == "safe" => return Ok(Vec::new()),
        OneOrMore::One(name) => vec![(name, whole.clone())],
        OneOrMore::More(list) => {
            list.iter().map(|name| (name.get_ref().as_str(), source.at(name.span()))).collect()
        }
    };
    if names.is_empty() {
        return Err(whole.error(
            "an expectation without a property",
            "empty",
            "write \"safe\" if nothing is to be violated",
        ));
    }
    let mut expect = Vec::new();
    for (name, place) in names {
        let property: Property = name.parse().map_err(|message: String| {
            let known = Property::ALL.iter().map(|property| property.name());
            let help = match nearest(name, known.chain(["safe"])) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "list the properties that are violated, or write \"safe\" alone".to_owned(),
            };
            place.error(message, "unknown property", help)
        })?;
        if expect.contains(&property) {
            return Err(place.error(format!("`{property}` is expected twice"), "again", "name it once"));
        }
        expect.push(property);
    }
    expect.sort_unstable();
    Ok(expect)
}
