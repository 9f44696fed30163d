//! The explorer against a second opinion: a model checker that was written from the semantics alone and shares
//! nothing with it. Its executors are abstract ([`world`]), its fetch models ([`fetch`]) and scenarios
//! ([`case`]) are its own; a scenario is handed to the explorer as text, and both must find the same
//! properties violated.
//!
//! `scripts/differential` compares more of them than a test run does.

mod case;
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
use crate::kvm;
use case::{Case, Executor, INT3, JMP32, NOP5, Resume, Run, Step};
use fetch::{AMD, AMD_BLOCK, COHERENT, HALF_LINE, HALF_LINE_BLOCK, INTEL, LINE, LINE_BLOCK, Model};
use search::search;
use world::MIXTURE;

type Names = BTreeSet<&'static str>;

/// What both have an opinion on.
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
/// More states than this are left to others.
const MOST: usize = 150_000;

/// What the explorer says about a case under each of these models; none if the scenario is refused.
/// The only place that knows how a scenario names its fetch model.
fn explored(checker: &mut Checker, name: &str, case: &Case, models: &[Model]) -> Option<Vec<(Model, Names)>> {
    let mut verdicts = Vec::new();
    for &model in models {
        let scenario = inline(name, &case.text());
        // One way to search for one model, the other for the next.
        let stalls = if model == COHERENT { Stalls::Keep } else { Stalls::No };
        let options = CheckOptions { fetch: Some(model.name.parse().unwrap()), stalls, ..options() };
        let report = match checker.check(&scenario, &options, |_| {}) {
            Ok(report) => report,
            Err(CheckError::Scenario(_)) => return None,
            Err(error) => panic!("{name}: {error}\n{}", scenario.text),
        };
        verdicts.push((model, names(&report)));
    }
    Some(verdicts)
}

fn names(report: &Report) -> Names {
    assert!(matches!(report.status, Status::Safe | Status::Hazard), "{}: {:?}", report.name, report.ended);
    violated(report).into_iter().map(|property| property.name()).collect()
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

/// What the int3 protocol and what is left of it come to under each fetch model.
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

/// The scenarios whose verdicts were derived by hand: the checker comes to the same, and so does the explorer.
#[test]
fn verdicts_derived_by_hand_hold() {
    let mut checker = kvm::required().then(|| Checker::new().unwrap());
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../scenarios/derived");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20);
    let mut wrong = String::new();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let table: toml::Table = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        let case = read::case(&table);
        let mut check = |model: Model, who: &str, found: &Names| {
            let expected = read::expected(&table, model.name);
            let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
            if *found != expected {
                wrong += &format!("{name}, {}: derived {expected:?}, the {who} says {found:?}\n", model.name);
            }
        };
        for model in fetch::PRESETS {
            let mut found = search(&case, model, MOST).unwrap().violated;
            found.remove(MIXTURE);
            check(model, "checker", &found);
        }
        if let Some(checker) = &mut checker {
            for (model, found) in explored(checker, name, &case, &fetch::PRESETS).unwrap() {
                check(model, "explorer", &found);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// What a fetch may see under a model, it may also see under the next one: there is at least as much to find.
/// Not so for `unserialised`, which depends on the vendor's rule instead.
#[test]
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

/// One comparison. `Ok(None)` if either side leaves it to others.
fn compare(checker: &mut Checker, seed: u64, models: &[Model]) -> Result<Option<Names>, String> {
    let case = generate::case(seed);
    let mut predicted = Vec::new();
    for &model in models {
        match search(&case, model, MOST) {
            Some(verdict) => predicted.push((model, verdict)),
            None => return Ok(None),
        }
    }
    let Some(explored) = explored(checker, &format!("seed-{seed}"), &case, models) else { return Ok(None) };
    let mut all = Names::new();
    for (model, mut found) in explored {
        let Some((_, verdict)) = predicted.iter_mut().find(|(known, _)| *known == model) else { continue };
        if verdict.violated.remove(MIXTURE) && !verdict.violated.contains("interior") {
            found.remove("interior");
        }
        if found != verdict.violated {
            let mut text = format!(
                "seed {seed}, fetch model {}\n\n{}\nexplorer: {found:?}\nchecker:  {:?}\n",
                model.name,
                case.text(),
                verdict.violated
            );
            for (property, schedule) in &verdict.schedules {
                if !found.contains(property) {
                    text += &format!("\n{property}, as the checker sees it:\n");
                    schedule.iter().for_each(|label| text += &format!("  {label:?}\n"));
                }
            }
            return Err(text);
        }
        all.extend(found);
    }
    Ok(Some(all))
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// `CROSSMOD_DIFFERENTIAL_CASES`, `_SEED` and `_SECONDS` say how many cases, from which seed, for how long.
#[test]
fn the_explorer_and_the_checker_agree_on_random_scenarios() {
    if !kvm::required() {
        return;
    }
    let cases = setting("CROSSMOD_DIFFERENTIAL_CASES", 1000);
    let first = setting("CROSSMOD_DIFFERENTIAL_SEED", 0);
    let seconds = Duration::from_secs(setting("CROSSMOD_DIFFERENTIAL_SECONDS", u64::MAX));
    let begin = Instant::now();
    let mut checker = Checker::new().unwrap();
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut compared, mut hazardous, mut asked) = (0, 0, 0);
    for seed in first..first.saturating_add(cases) {
        if begin.elapsed() > seconds {
            break;
        }
        asked += 1;
        let models = [COHERENT, fetch::PRESETS[1 + seed as usize % (fetch::PRESETS.len() - 1)]];
        match compare(&mut checker, seed, &models) {
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
