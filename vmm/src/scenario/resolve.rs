//! From the tables of a scenario to a plan.

use toml::Spanned;

use super::error::{Place, ScenarioError, Source, nearest};
use super::program::{self, Context};
use super::site::{self, Resolved, Version};
use super::syntax::{self, File, Protocol, Resume, Runs, Variant};
use super::{Options, executors, models, protocols, steps, value};
use crate::fetch::FetchModel;
use crate::plan::{Action, Events, Handler, HandlerVariant, Plan, VendorRule};

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
    let asked = models::asked(source, file.fetch.as_ref())?;
    let fetch = options.fetch.or(asked.first().copied()).unwrap_or(FetchModel::COHERENT);
    let mut protocol = match &file.protocol {
        Some(name) => Some(protocol(name.get_ref(), &source.at(name.span()))?),
        None => None,
    };
    let items =
        steps::collect(source, &mut file, protocol.as_mut().map(|(source, table)| (&*source, table)))?;
    let int3 = items.iter().any(steps::Item::plants_int3);
    let site = site::resolve(source, file.site.get_ref(), int3)?;
    let executors = executors::resolve(source, &file, &site, options)?;
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
            Some(syntax::Rule::Intel) => VendorRule::Intel,
            Some(syntax::Rule::Amd) => VendorRule::Amd,
            None => fetch.rule().unwrap_or(VendorRule::Intel),
        },
        fetch,
        expect: models::expectation(source, &file.expect, fetch)?,
    })
}

pub(super) fn protocol(name: &str, place: &Place) -> Result<(Source, Protocol), ScenarioError> {
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
                format!("`{name}` is neither a NOP nor one jump, call or return, and cannot be emulated"),
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
        Some(number) => value::ranged(source, number, "an event budget", 0, 8).map(|number| number as u8),
        None => Ok(0),
    };
    let site = |runs: Option<Runs>| runs.unwrap_or(Runs::Site) == Runs::Site;
    Ok(Events {
        nmi: budget(&table.nmi)?,
        nmi_runs_site: site(table.nmi_runs),
        irq: budget(&table.irq)?,
        irq_runs_site: site(table.irq_runs),
        smi: budget(&table.smi)?,
        mce: budget(&table.mce)?,
        mce_runs_site: site(table.mce_runs),
    })
}
