//! The explorer against a second opinion: a model checker that was written from the semantics alone and shares
//! nothing with it. Its executors are abstract ([`world`]), its fetch models ([`fetch`]) and scenarios
//! ([`case`]) are its own; a scenario is handed to the explorer as text, and both must find the same
//! properties violated and the same outcomes of passes. [`counts`] checks the checker itself, by hand. Programs, and the
//! store buffers of the vCPUs that run them, have a model of their own: [`buffers`].
//!
//! `scripts/differential` compares more of them than a test run does.

mod buffers;
mod case;
mod counts;
mod fetch;
mod generate;
mod read;
mod search;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crossmod::explore::Stalls;
use crossmod::results::Status;
use crossmod::{CheckError, CheckOptions, Checker, Report};

use crate::bench::{inline, options, violated};
use crate::{harness, kvm};
use case::{Case, Executor, INT3, JMP32, NOP5, Resume, Run, Step};
use fetch::{AMD, AMD_BLOCK, COHERENT, HALF_LINE, HALF_LINE_BLOCK, INTEL, LINE, LINE_BLOCK, Model};
use search::{Verdict, search};
use world::{MIXTURE, Outcome};

type Names = BTreeSet<&'static str>;

/// What a search comes to: the properties that are violated, and how passes end.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    violated: Names,
    outcomes: BTreeSet<String>,
}

/// The properties that both judge.
const PROPERTIES: [&str; 11] = [
    "torn",
    "order",
    "stale",
    "unclaimed-trap",
    "wrong-resume",
    "interior",
    "lifetime",
    "unserialised",
    "deadlock",
    "livelock",
    "nmi-frame",
];
/// Random cases with more states than this are skipped.
const MOST: usize = 150_000;

/// What the explorer says about a case under each of these models; none if the scenario is refused.
/// The only place that knows how a scenario names its fetch model.
fn explored(checker: &mut Checker, name: &str, case: &Case, models: &[Model]) -> Option<Vec<(Model, Found)>> {
    let mut verdicts = Vec::new();
    for &model in models {
        let scenario = inline(name, &case.text());
        // Search one model with stalls and the others without, so that both ways are compared.
        let stalls = if model == COHERENT { Stalls::Keep } else { Stalls::No };
        let options = CheckOptions { fetch: Some(model.name.parse().unwrap()), stalls, ..options() };
        let report = match checker.check(&scenario, &options, |_| {}) {
            Ok(report) => report,
            Err(CheckError::Scenario(_)) => return None,
            Err(error) => panic!("{name}: {error}\n{}", scenario.text),
        };
        verdicts.push((model, found(&report)));
    }
    Some(verdicts)
}

fn found(report: &Report) -> Found {
    assert!(
        matches!(report.status, Status::Safe | Status::Vacuous | Status::Hazard),
        "{}: {:?}",
        report.name,
        report.ended
    );
    Found {
        violated: violated(report).into_iter().map(|property| property.name()).collect(),
        outcomes: report.outcomes.iter().map(ToString::to_string).collect(),
    }
}

/// The checker's verdict, in the explorer's words.
fn predicted(verdict: &Verdict) -> Found {
    let outcome = |outcome: &Outcome| {
        let context = if outcome.nmi { "nmi" } else { "loop" };
        let version = outcome.new.map_or("neither", |new| if new { "new" } else { "old" });
        format!("{context}: {version}{}", if outcome.trapped { " through the trap" } else { "" })
    };
    Found { violated: verdict.violated.clone(), outcomes: verdict.outcomes.iter().map(outcome).collect() }
}

/// The int3 protocol; a round may be left out after each store.
fn fixup(rounds: [bool; 3], offset: usize) -> Case {
    let store = |at, bytes: &[u8]| Step::Store { at, bytes: bytes.to_vec() };
    let mut steps = vec![Step::Arm];
    for (one, round) in
        [store(0, &[INT3]), store(1, &JMP32.bytes[1..]), store(0, &JMP32.bytes[..1])].into_iter().zip(rounds)
    {
        steps.push(one);
        steps.extend(round.then_some(Step::Round(Run::Sync)));
    }
    steps.push(Step::Disarm);
    Case {
        old: vec![NOP5],
        new: vec![JMP32],
        offset,
        executors: vec![Executor { passes: 2, interior: None }],
        resume: Some(Resume::New),
        armed: false,
        counting: false,
        nmis: 0,
        amd: false,
        steps,
    }
}

fn naive(offset: usize) -> Case {
    let steps = vec![Step::Store { at: 0, bytes: JMP32.bytes.to_vec() }];
    Case { steps, resume: None, ..fixup([true; 3], offset) }
}

/// The verdicts of the int3 protocol, whole and without some of its rounds, under each fetch model.
#[test]
fn verdicts_of_the_int3_protocol_by_fetch_model() {
    // Inside a quadword, across two quadwords, across two lines.
    const PLACES: [usize; 3] = [0x100, 0x106, 0x13e];
    let verdict = |case: &Case, model| -> String {
        let found = search(case, model, MOST).unwrap();
        let found: Vec<&str> =
            found.violated.into_iter().filter(|property| *property != "unserialised").collect();
        if found.is_empty() { "safe".into() } else { found.join(", ") }
    };
    let row = |case: &dyn Fn(usize) -> Case| -> Vec<String> {
        let [quadword, quadwords, lines] = PLACES.map(case);
        vec![
            verdict(&quadword, COHERENT),
            verdict(&lines, COHERENT),
            verdict(&quadword, AMD),
            verdict(&quadwords, LINE),
            verdict(&quadwords, AMD),
            verdict(&lines, LINE),
            verdict(&quadwords, AMD_BLOCK),
            verdict(&lines, LINE_BLOCK),
            verdict(&quadword, INTEL),
        ]
    };
    let (safe, torn) = ("safe", "torn");
    assert_eq!(row(&|at| fixup([true; 3], at)), [safe; 9]);
    assert_eq!(
        row(&|at| fixup([false, true, true], at)),
        [safe, safe, safe, safe, torn, torn, torn, torn, torn]
    );
    assert_eq!(
        row(&|at| fixup([true, false, true], at)),
        [safe, safe, safe, safe, safe, safe, torn, torn, torn]
    );
    let (unclaimed, both) = ("unclaimed-trap", "stale, unclaimed-trap");
    assert_eq!(
        row(&|at| fixup([true, true, false], at)),
        [unclaimed, unclaimed, both, both, both, both, both, both, both]
    );
    let (stale, stale_torn) = ("stale", "stale, torn");
    assert_eq!(
        row(&naive),
        [safe, torn, stale, stale, stale_torn, stale_torn, stale_torn, stale_torn, "order, stale, torn"]
    );
}

/// The scenarios whose verdicts were derived by hand.
fn derived() -> Vec<(String, toml::Table)> {
    let library = crossmod::scenario::library();
    let derived = library.into_iter().filter_map(|scenario| {
        let name = scenario.name.strip_prefix("derived/")?.to_owned();
        Some((name, scenario.text.parse().unwrap()))
    });
    derived.collect()
}

/// Asserts what a derived scenario expects under a fetch model.
fn assert_derived(name: &str, file: &toml::Table, model: Model, found: &Names) {
    let expected = read::expected(file, model.name);
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    assert_eq!(*found, expected, "found (left) and derived: {name}, {}", model.name);
}

#[test]
fn the_checker_comes_to_the_verdicts_that_were_derived_by_hand() {
    for (name, file) in derived() {
        let case = read::case(&file);
        for model in fetch::PRESETS {
            let mut found = search(&case, model, MOST).unwrap().violated;
            found.remove(MIXTURE);
            assert_derived(&name, &file, model, &found);
        }
    }
}

/// Also under the fetch models that a file does not ask for.
#[test]
fn the_explorer_comes_to_the_verdicts_that_were_derived_by_hand() {
    kvm::required();
    let mut checker = harness::checker();
    for (name, file) in derived() {
        let case = read::case(&file);
        for (model, found) in explored(&mut checker, &name, &case, &fetch::PRESETS).unwrap() {
            assert_derived(&name, &file, model, &found.violated);
        }
    }
}

/// What a fetch may see under a model, it may also see under the next one: there is at least as much to find.
/// Not so for `unserialised`, which depends on the vendor's rule instead.
#[test(long)]
fn each_fetch_model_allows_what_a_stronger_one_does() {
    const CHAINS: [&[Model]; 3] = [
        &[COHERENT, LINE, HALF_LINE, AMD, AMD_BLOCK, INTEL],
        &[LINE, LINE_BLOCK, HALF_LINE_BLOCK, AMD_BLOCK],
        &[HALF_LINE, HALF_LINE_BLOCK],
    ];
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    let mut grows = 0;
    for seed in 0..200 {
        let case = generate::case(seed);
        let verdict = |&model: &Model| -> Option<Names> {
            let mut verdict = search(&case, model, 10_000)?.violated;
            for property in ["unserialised", MIXTURE] {
                if verdict.remove(property) {
                    *tally.entry(property).or_default() += 1;
                }
            }
            Some(verdict)
        };
        let verdicts: Option<Vec<Names>> = fetch::PRESETS.iter().map(verdict).collect();
        let Some(verdicts) = verdicts else { continue };
        for pair in CHAINS.iter().flat_map(|chain| chain.windows(2)) {
            let of = |model: Model| {
                fetch::PRESETS.iter().position(|known| *known == model).map(|at| &verdicts[at]).unwrap()
            };
            let (strong, weak) = (of(pair[0]), of(pair[1]));
            assert!(
                strong.is_subset(weak),
                "seed {seed}: {strong:?} under {}, {weak:?} under {}\n{}",
                pair[0].name,
                pair[1].name,
                case.text()
            );
            grows += u32::from(strong != weak);
        }
        verdicts.iter().flatten().for_each(|property| *tally.entry(property).or_default() += 1);
    }
    assert!(grows > 50, "{grows}");
    for property in PROPERTIES {
        assert!(tally.contains_key(property), "{property}: {tally:?}");
    }
}

/// Compares one case; returns what is violated. `Ok(None)` if either side skips it.
fn compare(
    checker: &mut Checker,
    name: &str,
    case: &Case,
    models: &[Model],
    most: usize,
) -> Result<Option<Names>, String> {
    let mut verdicts = Vec::new();
    for &model in models {
        match search(case, model, most) {
            Some(verdict) => verdicts.push(verdict),
            None => return Ok(None),
        }
    }
    let Some(explored) = explored(checker, name, case, models) else { return Ok(None) };
    let mut all = Names::new();
    for ((model, mut found), mut verdict) in explored.into_iter().zip(verdicts) {
        if verdict.violated.remove(MIXTURE) && !verdict.violated.contains("interior") {
            found.violated.remove("interior");
        }
        let predicted = predicted(&verdict);
        if found != predicted {
            let mut text = format!(
                "{name}, fetch model {}\n\n{}\nexplorer: {found:?}\nchecker:  {predicted:?}\n",
                model.name,
                case.text(),
            );
            for (property, schedule) in &verdict.schedules {
                if !found.violated.contains(property) {
                    text += &format!("\n{property}, as the checker sees it:\n");
                    schedule.iter().for_each(|label| text += &format!("  {label:?}\n"));
                }
            }
            return Err(text);
        }
        all.extend(found.violated);
    }
    Ok(Some(all))
}

/// Compares a case that neither side may skip.
fn agree(checker: &mut Checker, name: &str, case: &Case, models: &[Model]) -> Names {
    match compare(checker, name, case, models, usize::MAX) {
        Ok(Some(violated)) => violated,
        Ok(None) => panic!("{name} was not compared:\n{}", case.text()),
        Err(difference) => panic!("the explorer and the checker disagree\n{difference}"),
    }
}

/// Every way to leave rounds out of the int3 protocol, to arm and to disarm its handler.
#[test]
fn the_explorer_and_the_checker_agree_on_all_variants_of_the_int3_protocol() {
    kvm::required();
    let mut checker = harness::checker();
    let mut seen = BTreeSet::new();
    for choice in 0..1 << 7 {
        let with = |bit: usize| choice & 1 << bit != 0;
        let mut case = fixup([with(1), with(2), with(3)], if with(5) { 0x13e } else { 0x100 });
        case.armed = with(6);
        let arm = case.steps.remove(0);
        if with(0) {
            // Late: behind the INT3.
            case.steps.insert(1, arm);
        }
        if !with(4) {
            assert_eq!(case.steps.pop(), Some(Step::Disarm));
        }
        let mut violated = agree(&mut checker, &format!("variant-{choice:07b}"), &case, &[COHERENT]);
        violated.remove("unserialised");
        seen.insert(violated);
    }
    // Coherent fetches never tear what an INT3 guards, and never show an older version after a newer one.
    assert_eq!(seen, BTreeSet::from([Names::new(), Names::from(["unclaimed-trap"])]));
}

/// Two executors with two passes each are among them.
#[test(long)]
fn the_explorer_and_the_checker_agree_on_random_step_lists() {
    kvm::required();
    let mut checker = harness::checker();
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..400 {
        let case = generate::step_list(seed);
        for property in agree(&mut checker, &format!("list-{seed}"), &case, &[COHERENT]) {
            *tally.entry(property).or_default() += 1;
        }
    }
    // The cases are of all kinds.
    for property in ["torn", "order", "stale", "unclaimed-trap"] {
        let count = tally.get(property).copied().unwrap_or(0);
        assert!((5..395).contains(&count), "{property} in {count} of 400");
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// `CROSSMOD_DIFFERENTIAL_CASES`, `_SEED` and `_SECONDS` say how many cases, from which seed, for how long.
#[test(long)]
fn the_explorer_and_the_checker_agree_on_random_scenarios() {
    kvm::required();
    let cases = setting("CROSSMOD_DIFFERENTIAL_CASES", 1000);
    let first = setting("CROSSMOD_DIFFERENTIAL_SEED", 0);
    let seconds = Duration::from_secs(setting("CROSSMOD_DIFFERENTIAL_SECONDS", u64::MAX));
    let begin = Instant::now();
    let mut checker = harness::checker();
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut compared, mut hazardous, mut asked) = (0, 0, 0);
    for seed in first..first.saturating_add(cases) {
        if begin.elapsed() > seconds {
            break;
        }
        asked += 1;
        let models = [COHERENT, fetch::PRESETS[1 + seed as usize % (fetch::PRESETS.len() - 1)]];
        match compare(&mut checker, &format!("seed-{seed}"), &generate::case(seed), &models, MOST) {
            Ok(Some(found)) => {
                compared += 1;
                hazardous += u64::from(!found.is_empty());
                for property in found {
                    *tally.entry(property).or_default() += 1;
                }
            }
            Ok(None) => {}
            Err(difference) => panic!("the explorer and the checker disagree\n{difference}"),
        }
    }
    eprintln!("{compared} of {asked} cases compared, {hazardous} hazardous: {tally:?}");
    if asked >= 1000 {
        assert!(compared * 10 > asked * 8, "{compared} of {asked} compared");
        assert!(hazardous * 10 > compared * 3, "{hazardous} of {compared} hazardous");
        for property in PROPERTIES {
            assert!(tally.contains_key(property), "{property}: {tally:?}");
        }
    }
}
