//! Writes the inputs that the fuzzer begins with: `seeds scenario|trace|image DIRECTORY`.

#[allow(dead_code, reason = "the tests of the readers use all of it")]
#[path = "../../../linux/synth.rs"]
mod synth;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crossmod::Scenario;
use serde_json::json;

use synth::{Kernel, Packing};

/// Every scenario would be ten times as many, and they say the same things.
const FIRST_OF_EACH: usize = 3;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [target, directory] = &arguments[..] else {
        eprintln!("usage: seeds scenario|trace|image DIRECTORY");
        return ExitCode::from(2);
    };
    let seeds = match target.to_str() {
        Some("scenario") => scenarios().into_iter().map(|one| one.text.into_bytes()).collect(),
        Some("trace") => scenarios().iter().step_by(FIRST_OF_EACH).map(trace).collect(),
        Some("image") => images(),
        _ => {
            eprintln!("seeds: {} is not a target", target.display());
            return ExitCode::from(2);
        }
    };
    match write(directory, &seeds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seeds: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path, seeds: &[Vec<u8>]) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (index, bytes) in seeds.iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{index:03}")), bytes)?;
    }
    Ok(())
}

fn scenarios() -> Vec<Scenario> {
    crossmod::scenario::library()
}

/// A trace with one step of each kind. Its digests do not matter: the target fills them in.
fn trace(scenario: &Scenario) -> Vec<u8> {
    let steps = [
        "patcher",
        "store 1",
        "observe 0",
        "execute 0",
        "execute 1 view 2",
        "nmi 0",
        "irq 0",
        "raise-nmi 1",
        "smi 0",
        "machine-check 0",
        "sync 1",
    ];
    let moves: Vec<_> = steps.iter().map(|step| json!({ "move": step, "state": "00" })).collect();
    json!({
        "format": 2, "crossmod": "0", "scenario": scenario.name, "text": scenario.text, "ring": 3, "fetch": "coherent",
        "plan": "", "image": "", "host": "", "initial": "00", "moves": moves,
        "violation": { "property": "torn", "detail": "" },
    })
    .to_string()
    .into_bytes()
}

fn images() -> Vec<Vec<u8>> {
    let mut unstripped = synth::sample(true);
    unstripped.unstripped = true;
    let kernels = [synth::sample(false), synth::sample(true), unstripped, Kernel::long()];
    let mut seeds: Vec<Vec<u8>> = kernels.iter().map(Kernel::elf).collect();
    seeds.push(synth::module());
    let kernel = synth::sample(false).elf();
    seeds.extend(Packing::ALL.map(|packing| synth::bzimage(&kernel, packing)));
    seeds.extend([Packing::Gzip, Packing::Xz, Packing::Zstd].map(|packing| packing.pack(&synth::module())));
    seeds
}
