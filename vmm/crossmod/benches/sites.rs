//! What reading a kernel's patch sites costs, and judging them. `CROSSMOD_IMAGE=/boot/vmlinuz cargo bench --bench sites`;
//! without an image, a made-up kernel with 40,000 sites.
//!
//! Judged are all jump labels and static calls, by text_poke_fixup under three fetch models, each time by a checker that
//! remembers nothing: a quarter of the classes, half of them, and all, so that it shows whether time is linear in them.
//! Needs /dev/kvm, and is left out without. `-- judge` does only this.

#![allow(missing_docs, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "it tells how it went")]

#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../../../tests/linux/synth.rs"]
mod synth;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion};
use crossmod::fetch::FetchModel;
use crossmod::linux::{self, Class, Filter, Image, Kind};
use crossmod::sites::export::PatchSetup;
use crossmod::sites::judge::{self, Verdict};
use crossmod::{CheckOptions, Checker};

use synth::{Kernel, Packing, TEXT};

/// A function of 64 bytes for each two sites: a call of ftrace, and a jump label that crosses now a quadword, now not.
fn made_up() -> Vec<u8> {
    let mut kernel = Kernel { newer: true, ..Kernel::default() };
    let key = kernel.key("key", 0);
    for index in 0..20_000u64 {
        let at = TEXT + 64 * index;
        kernel.symbol(at, 'T', &format!("function_{index}"));
        kernel.code(at, &synth::branch(0xe8, at, TEXT));
        kernel.mcount.push(at);
        let label = at + 16 + index % 32;
        kernel.code(label, &[0x0f, 0x1f, 0x44, 0x00, 0x00]);
        kernel.labels.push((label, at + 56, key));
    }
    synth::bzimage(&kernel.elf(), Packing::Lz4)
}

fn bytes() -> Vec<u8> {
    match std::env::var_os("CROSSMOD_IMAGE") {
        Some(path) => std::fs::read(path).expect("CROSSMOD_IMAGE can be read"),
        None => made_up(),
    }
}

fn sites(criterion: &mut Criterion) {
    let bytes = bytes();
    let image = Image::parse("image", bytes.clone()).expect("an image");
    let images = [image];
    let mut group = criterion.benchmark_group("sites");
    group.sample_size(10);
    group.bench_function("unpack and read", |bencher| {
        bencher.iter_batched(|| bytes.clone(), |bytes| Image::parse("image", bytes), BatchSize::LargeInput);
    });
    group.bench_function("inventory", |bencher| bencher.iter(|| linux::inventory(black_box(&images))));
    let all = Filter::default();
    group.bench_function("list", |bencher| bencher.iter(|| linux::rows(black_box(&images), &all).count()));
    group
        .bench_function("classes", |bencher| bencher.iter(|| linux::classes(black_box(&images), &all).len()));
    group.finish();
}

/// Times that each part is judged; the median is told.
const RUNS: usize = 3;

fn judged(images: &[Image], classes: &[Class], models: &[FetchModel]) -> Option<Duration> {
    let mut checker = Checker::new().ok()?;
    let begun = Instant::now();
    for model in models {
        let options = CheckOptions { fetch: Some(*model), ..CheckOptions::default() };
        let check = |scenario: &crossmod::Scenario| {
            checker.check(scenario, &options, |_| {}).map(|report| Verdict::of(&report))
        };
        let setup = PatchSetup::new("text_poke_fixup");
        let (judged, error) = judge::judge(images, classes.to_vec(), &setup, check, |_, _| {});
        assert!(error.is_none() && judged.len() == classes.len(), "{error:?}");
    }
    Some(begun.elapsed())
}

fn judging() {
    let images = [Image::parse("image", bytes()).expect("an image")];
    let filter = Filter { kinds: vec![Kind::JumpLabel, Kind::StaticCall], ..Filter::default() };
    let all = linux::classes(&images, &filter);
    let models: Vec<FetchModel> =
        ["coherent", "amd", "intel"].iter().map(|name| name.parse().expect("a preset")).collect();
    println!("judge: text_poke_fixup under coherent, amd and intel; medians of {RUNS} runs");
    println!("{:>8} {:>8} {:>9} {:>9}", "classes", "sites", "seconds", "ms/class");
    for every in [4, 2, 1] {
        // Every fourth, not the first quarter: neighbours resemble one another.
        let some: Vec<Class> = all.iter().step_by(every).cloned().collect();
        let sites: usize = some.iter().map(|class| class.members.len()).sum();
        let runs: Option<Vec<Duration>> = (0..RUNS).map(|_| judged(&images, &some, &models)).collect();
        let Some(mut runs) = runs else {
            println!("left out: no usable /dev/kvm");
            return;
        };
        runs.sort_unstable();
        let seconds = runs[RUNS / 2].as_secs_f64();
        let each = seconds * 1000.0 / some.len().max(1) as f64;
        println!("{:>8} {sites:>8} {seconds:>9.2} {each:>9.1}", some.len());
    }
}

fn main() {
    let only_judging = std::env::args().any(|argument| argument == "judge");
    if !only_judging {
        let mut criterion = Criterion::default().configure_from_args();
        sites(&mut criterion);
        criterion.final_summary();
    }
    judging();
}
