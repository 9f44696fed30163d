//! From the tables of a scenario to a plan.

use std::path::Path;

use crossmod_model::fetch::FetchModel;
use crossmod_model::plan::{
    Action, Declared, Events, Executor, Handler, HandlerVariant, Op, OpKind, Plan, Programs, Role, Start,
};
use crossmod_model::x86::VendorRule;

use super::built_in::{MOST_EVENTS, NOTHING, RUNS, SITE};
use super::error::{Place, ScenarioError, Source, suggest};
use super::executors::Listed;
use super::guest_code::{self, Body, Library, Use};
use super::patcher::{self, Context};
use super::read::read;
use super::site::{self, Resolved, Version};
use super::spanned::Spanned;
use super::steps::Item;
use super::symbols::Names;
use super::syntax::{self, Combination, File, Nest, Protocol, Resume, Rule, Side, Variant};
use super::{Options, executors, models, protocols, steps, tags, value};

/// Resolves a scenario that was read from `source`.
pub(super) fn plan(
    name: &str,
    source: &Source,
    mut file: File,
    options: &Options,
) -> Result<Plan, ScenarioError> {
    let title = title(source, &file)?;
    tags::resolve(source, &file.tags)?;
    let asked = models::asked(source, file.fetch.as_ref())?;
    let fetch = options.fetch.or(asked.first().copied()).unwrap_or(FetchModel::COHERENT);
    let mut protocol = match &file.protocol {
        Some(name) => Some(protocol(name.get_ref(), &source.at(name.span()), source.name())?),
        None => None,
    };
    let items =
        steps::collect(source, &mut file, protocol.as_mut().map(|(source, table)| (&*source, table)))?;
    let (names, library) = vocabulary(source, &mut file, protocol.as_mut())?;
    let int3 = items.iter().any(steps::Item::plants_int3) || library.plants_int3();
    let site = site::resolve(source, &file.site, int3)?;
    let borrowed = protocol.as_ref().map(|(source, table)| (source, table));
    let handler = handler(&handlers(source, &file, borrowed), &site, &library)?;
    let against =
        executors::Against { source, site: &site, library: &library, handled: handler.is_some(), options };
    let Listed { mut executors, starts } = executors::resolve(&against, &file)?;
    let context = Context {
        site: &site,
        descriptor: handler.as_ref().is_some_and(|handler| handler.variant != HandlerVariant::Program),
        executors: executors.len(),
        has_handler: handler.is_some(),
        names: &names,
        programs: &library,
    };
    let program = patcher::lower(&context, &items)?;
    let events =
        events(source, &file.events, borrowed.map(|(source, table)| (source, &table.events)), &library)?;
    let target = guest_code::Target {
        site: &site,
        names: &names,
        fetch,
        executors: executors.len(),
        park: guest_code::park(),
    };
    let (programs, entries) = library.compile(&target)?;
    enter_programs(&mut executors, &starts, &library, &programs, &entries);
    somebody_patches(source, &executors, &program)?;
    somebody_completes(&source.at(file.title.span()), &items, &program, &programs)?;
    Ok(Plan {
        name: name.to_owned(),
        title,
        handler: described(handler, &program, &library, &site),
        forbidden: forbidden(source, file.forbid.as_deref().unwrap_or_default(), &site)?,
        expect: models::expectation(source, &file.expect, fetch, &asked, options.fetch.is_some())?,
        site: site.site,
        pads: site.pads,
        executors,
        events,
        program,
        rule: file.rule.map(Rule::vendor).or(fetch.rule()).unwrap_or(VendorRule::Intel),
        fetch,
        programs,
        words: names.words,
        each: names.each,
    })
}

fn title(source: &Source, file: &File) -> Result<String, ScenarioError> {
    let title = file.title.get_ref().trim();
    if title.is_empty() || title.chars().any(char::is_control) {
        return Err(source.at(file.title.span()).error(
            "a title is one line of text",
            "not one line",
            "summarise the scenario in one line; longer text belongs in a comment",
        ));
    }
    Ok(title.to_owned())
}

/// The words and programs of the scenario, then those of its protocol that it does not have itself.
fn vocabulary(
    source: &Source,
    file: &mut File,
    protocol: Option<&mut (Source, Protocol)>,
) -> Result<(Names, Library), ScenarioError> {
    let (mut names, mut library) = (Names::default(), Library::default());
    names.add(source, &file.words, &file.each)?;
    library.add(source, std::mem::take(&mut file.program), true)?;
    if let Some((source, table)) = protocol {
        names.add(source, &table.words, &table.each)?;
        library.add(source, std::mem::take(&mut table.program), false)?;
    }
    Ok((names, library))
}

/// The tables `[handler]` that count: the scenario's own first, then that of its protocol.
fn handlers<'a>(
    source: &'a Source,
    file: &'a File,
    borrowed: Option<(&'a Source, &'a Protocol)>,
) -> Vec<(&'a Source, &'a Spanned<syntax::Handler>)> {
    let own = file.handler.as_ref().map(|table| (source, table));
    let borrowed = borrowed.and_then(|(source, table)| table.handler.as_ref().map(|table| (source, table)));
    [own, borrowed].into_iter().flatten().collect()
}

/// Turns the numbers of uses into addresses, once the programs are compiled.
fn enter_programs(
    executors: &mut [Executor],
    starts: &[(usize, String)],
    library: &Library,
    programs: &Programs,
    entries: &[u64],
) {
    for (slot, label) in starts {
        if let Role::Program(number) = executors[*slot].role {
            let at = library.step_address(programs, number as usize, label);
            executors[*slot].start = at.map_or(Start::Outside, Start::At);
        }
    }
    for executor in executors {
        if let Role::Program(number) = executor.role {
            executor.role = Role::Program(entries[number as usize]);
        }
    }
}

/// The handler of the plan. A program can arm the handler, but does not describe what it does.
fn described(handler: Option<Handler>, program: &[Op], library: &Library, site: &Resolved) -> Handler {
    let Some(mut handler) = handler else {
        return Handler {
            variant: HandlerVariant::Plain,
            actions: vec![Action::Resume(next(site))],
            described_at_start: false,
            armed_at_start: false,
        };
    };
    let describes = program.iter().any(|op| matches!(op.kind, OpKind::Describe(_)));
    handler.described_at_start |= !describes && library.any();
    handler
}

fn somebody_patches(source: &Source, executors: &[Executor], program: &[Op]) -> Result<(), ScenarioError> {
    let programs = executors.iter().any(|executor| matches!(executor.role, Role::Program(_)));
    if programs || !program.is_empty() {
        return Ok(());
    }
    Err(source.at(0..1).error(
        "there are no steps, and no executor runs a program: nothing patches the site",
        "nothing to do",
        "add a [[step]], name a `protocol`, or give executors a program as `role`",
    ))
}

fn somebody_completes(
    place: &Place,
    items: &[Item],
    program: &[Op],
    programs: &Programs,
) -> Result<(), ScenarioError> {
    let abandoned = items.iter().any(|item| item.step.abandon.is_some());
    let completes = programs.completes || program.iter().any(|op| matches!(op.kind, OpKind::Done(_)));
    if programs.stores.is_empty() || completes || abandoned {
        return Ok(());
    }
    Err(place.error(
        "programs patch the site, but no step declares completion, so nothing could be `stale`",
        "in this scenario",
        "add `{ done = {} }` to the program that finishes, or `[[step]] abandon = {}` if either version may stay",
    ))
}

/// Combinations of versions that no pass may show.
fn forbidden(
    source: &Source,
    list: &[Spanned<Combination>],
    site: &Resolved,
) -> Result<Vec<Vec<Option<Declared>>>, ScenarioError> {
    let mut out = Vec::new();
    for one in list {
        let mut combination = vec![None; site.site.parts.len()];
        if one.get_ref().is_empty() {
            return Err(source.at(one.span()).error(
                "a combination without a version",
                "empty",
                "name versions of sites",
            ));
        }
        for (name, side) in one.get_ref() {
            let part = site.part(name.get_ref(), &source.at(name.span()))?;
            combination[part] = Some(match side.get_ref() {
                Side::Old => Declared::Old,
                Side::New => Declared::New,
            });
        }
        out.push(combination);
    }
    Ok(out)
}

/// The protocol that a scenario names: a shipped one, or a file relative to the directory of the scenario.
pub(super) fn protocol(name: &str, place: &Place, from: &str) -> Result<(Source, Protocol), ScenarioError> {
    let (path, text) = protocol_text(name, place, from)?;
    let source = Source::new(&path, &text);
    let table = read(&source, &text)?;
    Ok((source, table))
}

/// Path and text of a protocol.
pub(super) fn protocol_text(
    name: &str,
    place: &Place,
    from: &str,
) -> Result<(String, String), ScenarioError> {
    if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
        let path = Path::new(from).parent().unwrap_or(Path::new("")).join(name);
        let shown = path.display().to_string();
        let unread = |reason: &str| {
            place.error(
                format!("the protocol's file {shown} cannot be read: {reason}"),
                "from here",
                "the path is relative to the directory of the scenario",
            )
        };
        return match super::load(&path) {
            Ok(protocol) => Ok((shown, protocol.text)),
            Err(error) => Err(unread(&error.to_string())),
        };
    }
    let shipped = protocols();
    let Some((_, text)) = shipped.iter().find(|(known, _)| known == name) else {
        let names: Vec<_> = shipped.iter().map(|(name, _)| name.as_str()).collect();
        let help = suggest(
            name,
            names.iter().copied(),
            format!("the protocols are {}; or name a file, or write the [[step]]s here", names.join(", ")),
        );
        return Err(place.error(format!("there is no protocol `{name}`"), "unknown protocol", help));
    };
    Ok((format!("protocols/{name}.toml"), (*text).to_owned()))
}

fn next(site: &Resolved) -> u64 {
    site.site.address + site.site.len() as u64
}

/// The handler: the scenario's own settings, then those of the protocol, then defaults.
fn handler(
    tables: &[(&Source, &Spanned<syntax::Handler>)],
    site: &Resolved,
    library: &Library,
) -> Result<Option<Handler>, ScenarioError> {
    let Some((first, table)) = tables.first() else { return Ok(None) };
    let resume = tables
        .iter()
        .find_map(|(source, table)| {
            table.get_ref().resume.as_ref().map(|resume| (*resume.get_ref(), source.at(resume.span())))
        })
        .unwrap_or_else(|| (Resume::New, first.at(table.span())));
    let variant = tables
        .iter()
        .find_map(|(source, table)| table.get_ref().variant.as_ref().map(|found| (found, *source)));
    let run =
        tables.iter().find_map(|(source, table)| table.get_ref().run.as_ref().map(|run| (run, *source)));
    let armed_at_start = tables.iter().find_map(|(_, table)| table.get_ref().armed).unwrap_or(false);
    let mut handler = Handler {
        variant: match variant.map(|(variant, _)| *variant.get_ref()) {
            None | Some(Variant::Plain) => HandlerVariant::Plain,
            Some(Variant::Counting) => HandlerVariant::Counting,
            Some(Variant::Traced) => HandlerVariant::Traced,
        },
        actions: Vec::new(),
        described_at_start: armed_at_start,
        armed_at_start,
    };
    if let Some((run, source)) = run {
        if let Some((variant, source)) = variant {
            return Err(source.at(variant.span()).error(
                "a handler that is a program cannot have a variant",
                "besides `run`",
                "keep one of them",
            ));
        }
        library.use_as(Use::Trap, Body::Program(library.find(run, source, &[])?));
        handler.variant = HandlerVariant::Program;
        return Ok(Some(handler));
    }
    let (resume, place) = resume;
    let emulated = |new: bool| {
        let version = site.version(0, new);
        site::emulate(version, next(site)).is_none() && guest_code::can_emulate(version)
    };
    let new = match resume {
        Resume::New => Some(true),
        Resume::Old => Some(false),
        _ => None,
    };
    if let Some(new) = new.filter(|&new| emulated(new) && site.site.parts.len() == 1)
        && handler.variant == HandlerVariant::Plain
    {
        // Beyond what the descriptor can say: a conditional jump, a return.
        library.use_as(Use::Trap, Body::Emulate(new));
        handler.variant = HandlerVariant::Program;
        handler.actions = vec![Action::Resume(next(site))];
        return Ok(Some(handler));
    }
    for part in 0..site.site.parts.len() {
        handler.actions.push(action(resume, &place, site, part)?);
    }
    Ok(Some(handler))
}

fn action(resume: Resume, place: &Place, site: &Resolved, part: usize) -> Result<Action, ScenarioError> {
    let base = site.site.address + site.site.parts[part].offset as u64;
    let next = base + site.site.parts[part].len as u64;
    let emulate = |version: &Version, name: &str| {
        site::emulate(version, next).ok_or_else(|| {
            place.error(
                format!("`{name}` is neither a NOP nor one jump, call or return, and cannot be emulated"),
                "not possible",
                "resume at \"next\", \"retry\" or { at = ... }, or simplify that version",
            )
        })
    };
    match resume {
        Resume::New => emulate(site.version(part, true), "new"),
        Resume::Old => emulate(site.version(part, false), "old"),
        Resume::Next => Ok(Action::Resume(next)),
        Resume::Retry => Ok(Action::Resume(base)),
        Resume::At(offset) => {
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
                format!("there is no code {offset} bytes from the site"),
                "leads nowhere",
                format!("choose an offset inside the site, or one of {}", pads.join(", ")),
            ))
        }
    }
}

/// Budgets are the scenario's own; what the handlers run may come from the protocol.
fn events(
    source: &Source,
    table: &syntax::Events,
    borrowed: Option<(&Source, &syntax::Events)>,
    library: &Library,
) -> Result<Events, ScenarioError> {
    let budget = |number: &Option<syntax::Int>| match number {
        Some(number) => {
            value::ranged(source, number, "an event budget", 0, MOST_EVENTS).map(|number| number as u8)
        }
        None => Ok(0),
    };
    if let Some((source, table)) = borrowed
        && let Some(number) = [&table.nmi, &table.irq, &table.smi, &table.mce].into_iter().flatten().next()
    {
        return Err(source.at(number.span()).error(
            "a protocol cannot have event budgets",
            "not here",
            "give the budgets in the scenario",
        ));
    }
    let runs = |pick: fn(&syntax::Events) -> &Option<syntax::Text>| {
        let theirs = borrowed.and_then(|(source, table)| pick(table).as_ref().map(|name| (source, name)));
        let (source, name) = pick(table).as_ref().map(|name| (source, name)).or(theirs)?;
        Some((source, name))
    };
    let body = |given: Option<(&Source, &syntax::Text)>| {
        Ok(match given {
            None => Body::Site,
            Some((source, name)) => match name.get_ref().as_str() {
                SITE => Body::Site,
                NOTHING => Body::Nothing,
                _ => Body::Program(library.find(name, source, &RUNS.map(|(name, _)| name))?),
            },
        })
    };
    let nest = table.nmi_nest.or_else(|| borrowed.and_then(|(_, table)| table.nmi_nest)).unwrap_or_default();
    let nmi = body(runs(|events| &events.nmi_runs))?;
    if nest != Nest::Fixed || matches!(nmi, Body::Program(_)) {
        library.use_as(Use::Nmi(nest), nmi);
    }
    let irq = body(runs(|events| &events.irq_runs))?;
    if matches!(irq, Body::Program(_)) {
        library.use_as(Use::Irq, irq);
    }
    let mce = body(runs(|events| &events.mce_runs))?;
    if let (Body::Program(_), Some((source, name))) = (mce, runs(|events| &events.mce_runs)) {
        return Err(source.at(name.span()).error(
            "the machine-check handler cannot run a program",
            "not possible",
            "use \"site\" or \"nothing\"",
        ));
    }
    Ok(Events {
        nmi: budget(&table.nmi)?,
        nmi_runs_site: nmi == Body::Site,
        irq: budget(&table.irq)?,
        irq_runs_site: irq == Body::Site,
        smi: budget(&table.smi)?,
        mce: budget(&table.mce)?,
        mce_runs_site: mce == Body::Site,
    })
}
