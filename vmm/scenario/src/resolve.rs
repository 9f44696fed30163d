//! From the tables of a scenario to a plan.

use std::path::Path;

use crossmod_model::fetch::FetchModel;
use crossmod_model::plan::{
    Action, Declared, Events, Executor, Finals, Handler, HandlerVariant, Op, OpKind, Plan, Programs, Role,
    Start,
};
use crossmod_model::x86::VendorRule;

use super::built_in::{MOST_EVENTS, NOTHING, RUNS, SITE};
use super::context::Context;
use super::error::{Place, ScenarioError, Source, suggest};
use super::executors::Listed;
use super::guest_code;
use super::library::{Body, Library, Use};
use super::read::read;
use super::site::{self, Resolved, Version};
use super::spanned::Spanned;
use super::steps::Item;
use super::symbols::{Home, Names};
use super::syntax::{self, Combination, File, Nest, Patcher, Protocol, Resume, Side, Switch, Text, Variant};
use super::{Options, executors, models, patcher, protocols, steps, tags, value};

/// Resolves a scenario.
pub(super) fn plan(name: &str, mut file: File, options: &Options) -> Result<Plan, ScenarioError> {
    let title = title(&file)?;
    tags::resolve(&file.tags)?;
    let asked = models::asked(file.fetch.as_ref())?;
    let fetch = options.fetch.or(asked.first().copied()).unwrap_or(FetchModel::COHERENT);
    let mut protocol = match &file.protocol {
        Some(name) => read(&protocol(name)?)?,
        None => Protocol::default(),
    };
    let items = steps::collect(&mut file, &mut protocol)?;
    // Words and programs of the scenario, then those of its protocol that it does not have itself.
    let (mut names, mut library) = (Names::default(), Library::default());
    names.add(&file.words, &file.each)?;
    library.add(std::mem::take(&mut file.program), true)?;
    names.add(&protocol.words, &protocol.each)?;
    library.add(std::mem::take(&mut protocol.program), false)?;
    let int3 = items.iter().any(Item::plants_int3) || library.plants_int3();
    let site = site::resolve(&file.site, int3)?;
    let tables: Vec<_> = [&file.handler, &protocol.handler].into_iter().flatten().collect();
    let handler = handler(&tables, &site, &library)?;
    let handled = handler.as_ref();
    let context =
        Context { site: &site, names: &names, library: &library, handler: handled, fetch, executors: 0 };
    let mut executors = executors::resolve(&context, &mut file, options.ring)?;
    let count = executors.len();
    let context = Context { executors: count, ..context };
    let vcpu = file.patcher.as_ref().filter(|patcher| patcher.value == Patcher::Vcpu);
    let mut program = patcher::lower(&context, &items, vcpu.is_some())?;
    let stores = items.iter().chain(library.items()).filter(|item| item.step.store.is_some());
    let unnamed = stores.filter(|item| site.site.parts.len() > 1 && item.step.site.is_none());
    let unnamed_stores = unnamed.map(|item| item.label.clone()).collect();
    let abandoned = items.iter().any(|item| item.step.abandon.is_some());
    let events = events(&file.events, &protocol.events, &library)?;
    if let Some(Spanned { place, .. }) = vcpu {
        let split = patcher::vcpu::split(&context, items, &program, events.nmi > 0)?;
        let host = split.install(place, &mut names, &mut library, &mut executors)?;
        let context = Context {
            site: &site,
            names: &names,
            library: &library,
            handler: handled,
            fetch,
            executors: count,
        };
        program = patcher::lower_asked(&context, &host)?;
    }
    let context =
        Context { site: &site, names: &names, library: &library, handler: handled, fetch, executors: count };
    let (programs, entries) = guest_code::compile(&library, &context)?;
    let executors = entered(executors, &library, &programs, &entries);
    somebody_patches(&file.title.place, &executors, &program)?;
    somebody_completes(&file.title.place, abandoned, &program, &programs)?;
    Ok(Plan {
        name: name.to_owned(),
        title,
        handler: described(handler, &program, &library, &site),
        forbidden: forbidden(file.forbid.as_deref().unwrap_or_default(), &site)?,
        expect: models::expectation(&file.expect, fetch, &asked, options.fetch.is_some())?,
        site: site.site,
        pads: site.pads,
        executors,
        events,
        program,
        memory: options.memory.or(file.memory).unwrap_or_default(),
        rule: file.rule.or(fetch.rule()).unwrap_or(VendorRule::Intel),
        fetch,
        programs,
        finals: file.r#final.as_ref().map(|table| finals(table, &names)).transpose()?,
        unnamed_stores,
        words: names.words,
        each: names.each,
    })
}

fn title(file: &File) -> Result<String, ScenarioError> {
    let title = file.title.trim();
    if title.is_empty() || title.chars().any(char::is_control) {
        return Err(file.title.place.error(
            "a title is one line of text",
            "not one line",
            "summarise the scenario in one line; longer text belongs in a comment",
        ));
    }
    Ok(title.to_owned())
}

/// Turns the numbers of uses into addresses, once the programs are compiled.
fn entered(listed: Vec<Listed>, library: &Library, programs: &Programs, entries: &[u64]) -> Vec<Executor> {
    let entered = listed.into_iter().map(|Listed { mut executor, step }| {
        if let Role::Program(number) = executor.role {
            let at = step.and_then(|label| library.step_address(programs, number as usize, &label));
            executor.start = at.map_or(executor.start, Start::At);
            executor.role = Role::Program(entries[number as usize]);
        }
        executor
    });
    entered.collect()
}

/// The handler of the plan. A program can arm the handler, but does not describe what it does.
fn described(handler: Option<Handler>, program: &[Op], library: &Library, site: &Resolved) -> Handler {
    let Some(mut handler) = handler else {
        return Handler {
            variant: HandlerVariant::Plain,
            actions: vec![Action::Resume(next(site))],
            described_at_start: false,
            armed_at_start: false,
            interrupts: false,
        };
    };
    let describes = program.iter().any(|op| matches!(op.kind, OpKind::Describe(_)));
    handler.described_at_start |= !describes && library.any();
    handler
}

fn somebody_patches(title: &Place, executors: &[Executor], program: &[Op]) -> Result<(), ScenarioError> {
    let programs = executors.iter().any(|executor| matches!(executor.role, Role::Program(_)));
    if programs || !program.is_empty() {
        return Ok(());
    }
    Err(title.top().error(
        "there are no steps, and no executor runs a program: nothing patches the site",
        "nothing to do",
        "add a [[step]], name a `protocol`, or give executors a program as `role`",
    ))
}

fn somebody_completes(
    place: &Place,
    abandoned: bool,
    program: &[Op],
    programs: &Programs,
) -> Result<(), ScenarioError> {
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
    list: &[Spanned<Combination>],
    site: &Resolved,
) -> Result<Vec<Vec<Option<Declared>>>, ScenarioError> {
    let mut out = Vec::new();
    for one in list {
        let mut combination = vec![None; site.site.parts.len()];
        if one.is_empty() {
            return Err(one.place.error(
                "a combination without a version",
                "empty",
                "name versions of sites",
            ));
        }
        for (name, side) in &one.value {
            combination[site.part(name, &name.place)?] = Some(match side.value {
                Side::Old => Declared::Old,
                Side::New => Declared::New,
            });
        }
        out.push(combination);
    }
    Ok(out)
}

/// The combinations of values that words may hold at the end.
fn finals(table: &syntax::Final, names: &Names) -> Result<Finals, ScenarioError> {
    let word = |name: &Text| match names.word(name, &name.place)? {
        Home::Shared(word) => Ok(word),
        Home::Each(_) => Err(name.place.error(
            format!("every executor has a word `{}` of its own", name.value),
            "which one?",
            "name shared words",
        )),
    };
    let words = table.words.iter().map(word).collect::<Result<Vec<_>, _>>()?;
    let mut exactly = Vec::new();
    for combination in &table.exactly {
        if combination.len() != words.len() {
            return Err(combination.place.error(
                format!("{} values for {} words", combination.len(), words.len()),
                "one value for each word",
                "give the values in the order of `words`",
            ));
        }
        let value = |number| value::ranged(number, "a word", 0, u32::MAX.into()).map(|value| value as u32);
        exactly.push(combination.iter().map(value).collect::<Result<Vec<_>, _>>()?);
    }
    exactly.sort_unstable();
    exactly.dedup();
    Ok(Finals { words, exactly })
}

/// The protocol that a scenario names: a shipped one, or a file relative to the directory of the scenario.
pub(super) fn protocol(name: &Text) -> Result<Source, ScenarioError> {
    if Path::new(&name.value).extension().is_some_and(|extension| extension == "toml") {
        let from = Path::new(&*name.place.source.name);
        let path = from.parent().unwrap_or(Path::new("")).join(&name.value);
        let shown = path.display().to_string();
        return match super::load(&path) {
            Ok(protocol) => Ok(Source::new(&shown, &protocol.text)),
            Err(error) => Err(name.place.error(
                format!("the protocol's file {shown} cannot be read: {error}"),
                "from here",
                "the path is relative to the directory of the scenario",
            )),
        };
    }
    let shipped = protocols();
    if let Some((known, text)) = shipped.iter().find(|(known, _)| *known == name.value) {
        return Ok(Source::new(&format!("protocols/{known}.toml"), text));
    }
    let names: Vec<_> = shipped.iter().map(|(name, _)| name.as_str()).collect();
    let otherwise =
        format!("the protocols are {}; or name a file, or write the [[step]]s here", names.join(", "));
    let help = suggest(name, &names, &otherwise);
    Err(name.place.error(format!("there is no protocol `{}`", name.value), "unknown protocol", help))
}

fn next(site: &Resolved) -> u64 {
    site.site.address + site.site.len() as u64
}

/// The handler: the scenario's own settings, then those of the protocol, then defaults.
fn handler(
    tables: &[&Spanned<syntax::Handler>],
    site: &Resolved,
    library: &Library,
) -> Result<Option<Handler>, ScenarioError> {
    let Some(first) = tables.first() else { return Ok(None) };
    let variant = tables.iter().find_map(|table| table.variant.as_ref());
    let run = tables.iter().find_map(|table| table.run.as_ref());
    let armed_at_start = tables.iter().find_map(|table| table.armed).unwrap_or(false);
    let mut handler = Handler {
        variant: match variant.map(|variant| variant.value) {
            None | Some(Variant::Plain) => HandlerVariant::Plain,
            Some(Variant::Counting) => HandlerVariant::Counting,
            Some(Variant::Traced) => HandlerVariant::Traced,
        },
        actions: Vec::new(),
        described_at_start: armed_at_start,
        armed_at_start,
        interrupts: tables.iter().find_map(|table| table.interrupts) == Some(Switch::On),
    };
    if let Some(run) = run {
        if let Some(variant) = variant {
            return Err(variant.place.error(
                "a handler that is a program cannot have a variant",
                "besides `run`",
                "keep one of them",
            ));
        }
        library.use_as(Use::Trap, Body::Program(library.find(run, &[])?));
        handler.variant = HandlerVariant::Program;
        return Ok(Some(handler));
    }
    let resume = tables.iter().find_map(|table| table.resume.as_ref());
    let (resume, place) = resume.map_or((Resume::New, &first.place), |resume| (resume.value, &resume.place));
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
        handler.actions.push(action(resume, place, site, part)?);
    }
    Ok(Some(handler))
}

fn action(resume: Resume, place: &Place, site: &Resolved, part: usize) -> Result<Action, ScenarioError> {
    let (base, next) = (site.begin(part), site.end(part));
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
    own: &syntax::Events,
    borrowed: &syntax::Events,
    library: &Library,
) -> Result<Events, ScenarioError> {
    let budget = |number: &Option<syntax::Int>| match number {
        Some(number) => value::ranged(number, "an event budget", 0, MOST_EVENTS).map(|number| number as u8),
        None => Ok(0),
    };
    let theirs = [&borrowed.nmi, &borrowed.irq, &borrowed.smi, &borrowed.mce];
    if let Some(number) = theirs.into_iter().flatten().next() {
        return Err(number.place.error(
            "a protocol cannot have event budgets",
            "not here",
            "give the budgets in the scenario",
        ));
    }
    let body = |name: Option<&Text>| -> Result<Body, ScenarioError> {
        Ok(match name.map(|name| (name, name.as_str())) {
            None | Some((_, SITE)) => Body::Site,
            Some((_, NOTHING)) => Body::Nothing,
            Some((name, _)) => Body::Program(library.find(name, &RUNS.map(|(name, _)| name))?),
        })
    };
    let nest = own.nmi_nest.or(borrowed.nmi_nest).unwrap_or_default();
    let nmi = body(own.nmi_runs.as_ref().or(borrowed.nmi_runs.as_ref()))?;
    if nest != Nest::Fixed || matches!(nmi, Body::Program(_)) {
        library.use_as(Use::Nmi(nest), nmi);
    }
    let irq = body(own.irq_runs.as_ref().or(borrowed.irq_runs.as_ref()))?;
    if matches!(irq, Body::Program(_)) {
        library.use_as(Use::Irq, irq);
    }
    let mce_runs = own.mce_runs.as_ref().or(borrowed.mce_runs.as_ref());
    let mce = body(mce_runs)?;
    if let (Body::Program(_), Some(name)) = (mce, mce_runs) {
        return Err(name.place.error(
            "the machine-check handler cannot run a program",
            "not possible",
            "use \"site\" or \"nothing\"",
        ));
    }
    Ok(Events {
        nmi: budget(&own.nmi)?,
        nmi_runs_site: nmi == Body::Site,
        irq: budget(&own.irq)?,
        irq_runs_site: irq == Body::Site,
        smi: budget(&own.smi)?,
        mce: budget(&own.mce)?,
        mce_runs_site: mce == Body::Site,
    })
}
