//! What reading a kernel's patch sites costs. `CROSSMOD_IMAGE=/boot/vmlinuz cargo bench --bench sites`; without an
//! image, a made-up kernel with 40,000 sites.

#![allow(missing_docs, reason = "a benchmark")]

#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../../tests/linux/synth.rs"]
mod synth;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use crossmod::linux::{self, Filter, Image};
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

fn sites(criterion: &mut Criterion) {
    let bytes = match std::env::var_os("CROSSMOD_IMAGE") {
        Some(path) => std::fs::read(path).expect("CROSSMOD_IMAGE can be read"),
        None => made_up(),
    };
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

criterion_group!(benches, sites);
criterion_main!(benches);
