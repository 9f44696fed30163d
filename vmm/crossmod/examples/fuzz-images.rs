//! Damages synthetic kernels and modules in many ways and reads them, for a number of seconds.
//!
//! Run it with `scripts/fuzz-images SECONDS [SEED]`. A failing input is written to a file.

#![allow(clippy::print_stdout, reason = "its output is its report")]

#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../../../tests/linux/synth.rs"]
mod synth;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossmod::linux::{self, Filter};
use crossmod::sites::{export, judge, tables};

use synth::{Kernel, Packing};

/// Maximum time for one input. Real kernels are a thousand times as large and take a fifth of a second.
const SLOW: Duration = Duration::from_secs(5);
/// Words that often make arithmetic overflow.
const WILD: [u64; 8] =
    [0, 1, 0x7f, 0xffff_ffff, u64::MAX, u64::MAX >> 1, 0xffff_ffff_ffff_f000, 0xffff_ffff_8100_0000];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let seconds: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10);
    let seed: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut random = fastrand::Rng::with_seed(seed);
    let seeds = seeds();
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut inputs, mut read, mut slowest) = (0u64, 0u64, Duration::ZERO);
    while Instant::now() < end {
        let bytes = input(&seeds, &mut random);
        inputs += 1;
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| look(bytes.clone())));
        let took = begun.elapsed();
        slowest = slowest.max(took);
        if result.is_err() || took > SLOW {
            let path = Path::new("target").join(format!("fuzz-images-{seed}-{inputs}.bin"));
            let saved = std::fs::write(&path, &bytes);
            println!(
                "input {inputs} of seed {seed}: {} ({took:?}); {} {saved:?}",
                what(&result),
                path.display()
            );
            return ExitCode::FAILURE;
        }
        read += u64::from(result.is_ok_and(|read| read));
    }
    println!(
        "{inputs} inputs in {seconds} s, {read} of them read as images; the slowest took {slowest:?}; seed {seed}"
    );
    ExitCode::SUCCESS
}

fn what(result: &std::thread::Result<bool>) -> &'static str {
    if result.is_err() { "panic" } else { "too slow" }
}

fn kernels() -> Vec<Kernel> {
    let mut unstripped = synth::sample(true);
    unstripped.unstripped = true;
    vec![synth::sample(false), synth::sample(true), unstripped]
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = kernels().iter().map(Kernel::elf).collect();
    seeds.push(synth::module());
    seeds
}

/// True if the image can be read.
fn look(bytes: Vec<u8>) -> bool {
    let Ok(image) = linux::exercise(bytes) else { return false };
    let images = [image];
    let all = Filter::default();
    let _ = tables::text(&tables::inventory(&linux::inventory(&images)));
    let _ = tables::html(&tables::list(None, linux::rows(&images, &all), false));
    let setup = export::PatchSetup::new("text_poke_fixup");
    for class in linux::classes(&images, &all) {
        let _ = judge::scenarios(&images, &class, &setup);
    }
    true
}

/// A seed, damaged before or after it is packed, or both.
fn input(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seeds[random.usize(..seeds.len())].clone();
    if random.u8(..4) > 0 {
        damage(&mut bytes, seeds, random);
    }
    let packing = Packing::ALL[random.usize(..Packing::ALL.len())];
    let mut bytes = match random.u8(..8) {
        0 => synth::bzimage(&bytes, packing),
        1 => [Packing::Xz, Packing::Zstd, Packing::Gzip][random.usize(..3)].pack(&bytes),
        _ => return bytes,
    };
    if random.bool() {
        damage(&mut bytes, seeds, random);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut fastrand::Rng) {
    for _ in 0..random.u8(1..6) {
        if bytes.len() < 16 {
            return;
        }
        let at = random.usize(..bytes.len() - 8);
        let length = random.usize(1..64).min(bytes.len() - at);
        match random.u8(..8) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at..at + 8].copy_from_slice(&WILD[random.usize(..WILD.len())].to_le_bytes()),
            2 => bytes[at..at + 4].copy_from_slice(&(random.i32(-512..512)).to_le_bytes()),
            3 => bytes[at..at + length].fill(random.u8(..)),
            4 => bytes.truncate(at),
            5 => {
                let from = random.usize(..bytes.len() - length + 1);
                bytes.copy_within(from..from + length, at);
            }
            6 => {
                let other = &seeds[random.usize(..seeds.len())];
                let from = random.usize(..other.len());
                let length = length.min(other.len() - from);
                bytes[at..at + length].copy_from_slice(&other[from..from + length]);
            }
            // An ELF header's and section header's fields are near both ends.
            _ => {
                let near = random.usize(..0x400.min(bytes.len()));
                let at = if random.bool() { near } else { bytes.len() - 1 - near };
                bytes[at] = random.u8(..);
            }
        }
    }
}
