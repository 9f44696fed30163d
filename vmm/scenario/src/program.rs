//! From steps to the patcher's atomic operations, and the checks that need the program as a whole.

use crossmod_model::plan::{Function, Op, OpKind, Quiet};

use super::error::{Place, ScenarioError};
use super::forms::Mask;
use super::names::{Home, Names};
use super::programs::Library;
use super::site::{Resolved, hex};
use super::steps::{Item, Kind};
use super::syntax::{self, Ack, What, Withdrawn};
use super::value;
use super::words::{Progress, adds, lock, sets, waits};

/// Everything the steps are checked against.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub site: &'a Resolved,
    /// How many executors there are.
    pub executors: usize,
    /// Whether the scenario says what a claimed trap does.
    pub has_handler: bool,
    /// Whether the handler acts by a descriptor.
    pub descriptor: bool,
    /// Its words.
    pub names: &'a Names,
    /// What its vCPUs run.
    pub programs: &'a Library,
}

/// Lowers the steps. Completion is declared at the end unless a step says otherwise.
pub(super) fn lower(context: &Context<'_>, items: &[Item]) -> Result<Vec<Op>, ScenarioError> {
    let mut program = Vec::new();
    let mut progress = Progress::default();
    for item in items {
        if progress.abandoned {
            return Err(item.place.error(
                "a step after `abandon`",
                "never performed",
                "make `abandon` the last step",
            ));
        }
        let kinds = lower_one(context, &mut progress, item)?;
        program.extend(kinds.into_iter().map(|kind| Op { step: item.label.clone(), kind }));
    }
    // Where a program patches, it says itself when that is complete.
    if !progress.done && !progress.abandoned && !items.is_empty() {
        let step = if items.iter().any(|item| item.label == "done") { "done-at-end" } else { "done" };
        program.push(Op { step: step.into(), kind: OpKind::Done(everything(context)) });
    }
    Ok(program)
}

/// All parts of the site, one bit each.
fn everything(context: &Context<'_>) -> u8 {
    (1 << context.site.site.parts.len()) - 1
}

fn lower_one(
    context: &Context<'_>,
    progress: &mut Progress,
    item: &Item,
) -> Result<Vec<OpKind>, ScenarioError> {
    let step = &item.step;
    let place = |span| item.source.at(span);
    let everyone = Mask::All;
    let part = match &step.site {
        Some(name) => context.site.part(name.get_ref(), &place(name.span()))?,
        None => 0,
    };
    Ok(match item.kind()? {
        Kind::Store => match &step.store {
            Some(store) => stored_bytes(context.site, part, item, store.get_ref(), &place(store.span()))?
                .into_iter()
                .map(|(offset, bytes)| OpKind::Store { offset, bytes })
                .collect(),
            None => Vec::new(),
        },
        Kind::Arm => {
            if !context.has_handler {
                return Err(item.place.error(
                    "a handler is armed, but the scenario does not say what it does",
                    "no handler",
                    "add a [handler] table, for example with `resume = \"new\"`, or drop this step",
                ));
            }
            vec![OpKind::Describe(part as u8), OpKind::Armed(true)]
        }
        Kind::Disarm => vec![OpKind::Armed(false)],
        Kind::Sync => {
            let (ack, to, place) = match &step.sync {
                Some(sync) => (sync.get_ref().ack, sync.get_ref().to.as_ref(), place(sync.span())),
                None => (Ack::After, None, item.place.clone()),
            };
            let function = match ack {
                Ack::After => Function::Sync,
                Ack::Before => Function::AckFirst,
                Ack::Only => Function::AckOnly,
            };
            let to = to.map_or(&everyone, |to| to.get_ref());
            let mask = value::mask(&item.source, &place, to, context.executors)?;
            progress.reached |= mask;
            vec![OpKind::Broadcast { function, mask }, OpKind::WaitAcks { mask }]
        }
        Kind::Broadcast => match &step.broadcast {
            Some(broadcast) => {
                let table = broadcast.get_ref();
                let to = table.to.as_ref().map_or(&everyone, |to| to.get_ref());
                let mask = value::mask(&item.source, &place(broadcast.span()), to, context.executors)?;
                let function = context.programs.function(&table.run, &item.source)?;
                progress.reached |= mask;
                if matches!(function, Function::Hold | Function::Stop | Function::Early) {
                    progress.counted = i64::from(mask.count_ones());
                    progress.arrivals += progress.counted;
                }
                vec![OpKind::Broadcast { function, mask }]
            }
            None => Vec::new(),
        },
        Kind::Wait => match &step.wait {
            Some(wait) => {
                vec![waits(context, progress, item, wait.get_ref(), &place(wait.span()))?]
            }
            None => Vec::new(),
        },
        Kind::Set => match &step.set {
            Some(set) => vec![sets(context, progress, item, set.get_ref(), &place(set.span()))?],
            None => Vec::new(),
        },
        Kind::Take => match &step.take {
            Some(name) => vec![OpKind::Take(lock(context, item, name)?)],
            None => Vec::new(),
        },
        Kind::Drop => match &step.drop {
            Some(name) => vec![OpKind::SetWord { word: lock(context, item, name)?, value: 0 }],
            None => Vec::new(),
        },
        Kind::Add => match &step.add {
            Some(add) => vec![adds(context, item, add.get_ref(), &place(add.span()))?],
            None => Vec::new(),
        },
        Kind::AssumeSynchronised => vec![OpKind::AssumeSynchronised],
        Kind::Quiesce => {
            let of = step.quiesce.as_ref().and_then(|quiesce| quiesce.get_ref().of.as_ref());
            vec![OpKind::Quiesce(quiet(context, item, of)?)]
        }
        Kind::Delay => match &step.delay {
            Some(delay) => {
                let moves = value::ranged(&item.source, &delay.get_ref().moves, "a delay in moves", 0, 64)?;
                (0..moves).map(|_| OpKind::Delay).collect()
            }
            None => Vec::new(),
        },
        Kind::Free => match &step.free {
            Some(free) => vec![frees(context, free.get_ref().what, &place(free.span()))?],
            None => Vec::new(),
        },
        Kind::Done => {
            let parts = if step.site.is_some() { 1 << part } else { everything(context) };
            if progress.completed & parts != 0 {
                return Err(item.place.error(
                    "completion is declared twice",
                    "again",
                    "keep one `done`; without any it stands at the end",
                ));
            }
            progress.completed |= parts;
            progress.done = progress.completed == everything(context);
            vec![OpKind::Done(parts)]
        }
        Kind::Abandon => {
            if progress.done {
                return Err(item.place.error(
                    "a modification that was declared complete is abandoned",
                    "too late",
                    "keep either `done` or `abandon`",
                ));
            }
            progress.abandoned = true;
            Vec::new()
        }
        other => {
            return Err(item.place.error(
                format!("`{}` is a step of programs, and the patcher here is the host", other.name()),
                "not a patcher's",
                "put it into a program under [program], which an executor runs by `role`",
            ));
        }
    })
}

/// What a grace period waits for.
fn quiet(context: &Context<'_>, item: &Item, of: Option<&syntax::Text>) -> Result<Quiet, ScenarioError> {
    let Some(of) = of else { return Ok(Quiet::Site) };
    let place = item.source.at(of.span());
    match of.get_ref().as_str() {
        "site" => Ok(Quiet::Site),
        "targets" => Ok(Quiet::Targets),
        name => match context.names.word(name, &place)? {
            Home::Each(word) => Ok(Quiet::Each(word)),
            Home::Shared(_) => Err(place.error(
                format!("`{name}` is one word for all executors"),
                "not each one's own",
                "use \"site\", \"targets\", or a word under [each]",
            )),
        },
    }
}

/// What a `store` stores to a part: offsets in the whole site, and bytes.
pub(super) fn stored_bytes(
    site: &Resolved,
    part: usize,
    item: &Item,
    store: &syntax::Store,
    place: &Place,
) -> Result<Vec<(usize, Vec<u8>)>, ScenarioError> {
    let [old, new] = [false, true].map(|version| &site.version(part, version).code.bytes);
    let (base, len) = (site.site.parts[part].offset, site.site.parts[part].len);
    let (offset, bytes, place) = match (&store.what, &store.at, &store.bytes) {
        (Some(what), None, None) => {
            let (offset, bytes) = match what.get_ref() {
                What::Int3 => (0, vec![0xcc]),
                What::New => (0, new.clone()),
                What::Old => (0, old.clone()),
                What::NewFirst => (0, new[..1].to_vec()),
                What::OldFirst => (0, old[..1].to_vec()),
                What::NewTail => (1, new[1..].to_vec()),
                What::OldTail => (1, old[1..].to_vec()),
            };
            (offset, bytes, item.source.at(what.span()))
        }
        (None, Some(at), Some(text)) => {
            let Some(bytes) = hex(text.get_ref()) else {
                return Err(item.source.at(text.span()).error(
                    format!("`{}` is no list of bytes", text.get_ref().chars().take(40).collect::<String>()),
                    "not hex",
                    "give bytes in hex, as in \"0f 1f 44 00 00\"",
                ));
            };
            let offset = *at.get_ref();
            let end = offset.saturating_add(bytes.len() as i64);
            if offset < 0 || end > len as i64 {
                return Err(item.source.at(at.span()).error(
                    format!(
                        "a store of {} bytes at {offset} is outside of the site, which has {len} bytes",
                        bytes.len()
                    ),
                    "outside",
                    format!("store within 0..{len}, or make the site longer"),
                ));
            }
            (offset as usize, bytes, item.source.at(text.span()))
        }
        _ => {
            return Err(place.error(
                "what is stored, and where?",
                "incomplete or contradictory",
                "give either `what = \"new-tail\"` (or int3, new, old, new-first, old-first, old-tail), or \
                 both `at` and `bytes`",
            ));
        }
    };
    if bytes.is_empty() {
        return Err(place.error(
            "the site has one byte and no tail",
            "nothing to store",
            format!("drop this step: `without = [\"{}\"]`", item.label),
        ));
    }
    let each = match &store.each {
        Some(each) => value::ranged(&item.source, each, "the size of a store in bytes", 1, 32)? as usize,
        None => bytes.len(),
    };
    let pieces = bytes.chunks(each).enumerate();
    Ok(pieces.map(|(index, piece)| (base + offset + index * each, piece.to_vec())).collect())
}

fn frees(context: &Context<'_>, what: Withdrawn, place: &Place) -> Result<OpKind, ScenarioError> {
    let (index, key) = match what {
        Withdrawn::Descriptor if context.has_handler && !context.descriptor => {
            return Err(place.error(
                "the handler is a program, which reads no descriptor",
                "nothing there",
                "let a word stand for what is freed, and `check` it where it is used: `check = { live = 1, else = \"lifetime\" }`",
            ));
        }
        Withdrawn::Descriptor => return Ok(OpKind::FreeDescriptor),
        Withdrawn::OldTarget => (0, "old"),
        Withdrawn::NewTarget => (1, "new"),
    };
    context.site.targets[index].map(OpKind::FreeTarget).ok_or_else(|| {
        place.error(
            format!("`{key}` has no branch to a target of its own that could be freed"),
            "no such target",
            format!("use a jump or a call as `{key}`, or free something else"),
        )
    })
}
