//! What the fuzz targets do with an input. They look for panics, arithmetic that overflows, inputs that take seconds,
//! inputs that take gigabytes, and broken promises of the readers.

use crossmod::linux::{self, Filter};
use crossmod::sites::{export, judge, tables};
use crossmod::trace::TraceError;
use crossmod::{Scenario, Trace, scenario};

/// A scenario file: everything that is done with one before KVM is needed.
///
/// # Panics
///
/// If an error has no advice, or if a scenario that can be used changes when it is written in one piece.
pub fn scenario(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let scenario = Scenario { name: "fuzz/input".into(), text: text.into(), path: "input.toml".into() };
    let _ = scenario.comment();
    let _ = scenario.tags();
    let options = scenario::Options::default();
    let plan = match scenario.plan(&options) {
        Ok(plan) => plan,
        Err(error) => {
            assert!(!error.advice().is_empty(), "an error without advice: {error:?}");
            let _ = error.position();
            return;
        }
    };
    assert!(scenario.models().is_ok_and(|models| !models.is_empty()), "a plan without a fetch model");
    if let Ok(one) = scenario.in_one_piece() {
        let again = one.plan(&options).expect("a scenario in one piece is one");
        assert_eq!(plan.digest(), again.digest(), "a scenario in one piece is the same scenario");
    }
    for mutant in scenario.mutants().into_iter().flatten().take(8) {
        let _ = mutant.scenario.plan(&options);
    }
}

/// A trace file: everything that is done with one before KVM is needed.
///
/// # Panics
///
/// If a trace changes when it is written and read again.
pub fn trace(bytes: &[u8]) {
    let Ok(mut trace) = serde_json::from_slice::<Trace>(bytes) else { return };
    let written = serde_json::to_vec(&trace).expect("a trace is JSON");
    assert_eq!(serde_json::from_slice::<Trace>(&written).ok().as_ref(), Some(&trace));
    // A fuzzer does not guess digests: what the trace should say is filled in, for the image and for the plan.
    for _ in 0..2 {
        match trace.plan() {
            Err(TraceError::Other { what: "guest image", ours, .. }) => trace.image = ours,
            Err(TraceError::Other { what: "plan", ours, .. }) => trace.plan = ours,
            _ => break,
        }
    }
    let _ = trace.plan();
    for (step, text) in trace.schedule().unwrap_or_default().iter().zip(&trace.moves) {
        assert_eq!(step.to_string().parse(), Ok(*step), "{}", text.step);
    }
}

/// A kernel or a module: everything that `crossmod sites` does with one before KVM is needed.
///
/// # Panics
///
/// If an error lacks a part, or if the tables contradict themselves.
pub fn image(bytes: &[u8]) {
    let image = match linux::exercise(bytes.to_vec()) {
        Ok(image) => image,
        Err(error) => {
            for part in [&error.place, &error.reason, &error.remedy] {
                assert!(!part.is_empty() && part.len() < 400, "{error:?}");
            }
            return;
        }
    };
    let images = [image];
    let all = Filter::default();
    let inventory = linux::inventory(&images);
    assert!(inventory.kinds.iter().all(|kind| kind.places <= kind.sites));
    let _ = tables::text(&tables::inventory(&inventory));
    let _ = tables::html(&tables::list(None, linux::rows(&images, &all), false));
    let setup = export::PatchSetup::new("text_poke_fixup");
    for class in linux::classes(&images, &all).iter().take(2) {
        let _ = judge::scenarios(&images, class, &setup);
    }
}

#[cfg(test)]
mod tests;
