//! How long a cold start takes to its first verdict. `cargo bench --bench cold-start`.

#![allow(missing_docs, reason = "a benchmark")]

use std::process::Command;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

/// A process from nothing to its exit: open KVM, make the machine, parse, explore, replay the findings live,
/// print.
fn cold_start(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cold start to the first verdict");
    group.sample_size(30).measurement_time(Duration::from_secs(6));
    for name in ["seed/naive-store-crossing-line", "seed/fixup"] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let output = Command::new(env!("CARGO_BIN_EXE_crossmod"))
                    .args(["check", name])
                    .output()
                    .expect("crossmod runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, cold_start);
criterion_main!(benches);
