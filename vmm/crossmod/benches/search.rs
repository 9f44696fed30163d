//! What a search costs, in transitions a second on one core. `cargo bench --bench search`; `scripts/spin --versus` and
//! `scripts/scaling` compare it with SPIN and with itself.
//!
//! Each iteration is a whole check: parse, fill the tables on KVM, search, decide progress. The small searches are
//! therefore dominated by what is executed, the large ones by memory.

#![allow(missing_docs, reason = "a benchmark")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossmod::explore::Stalls;
use crossmod::{CheckOptions, Checker, Scenario};

fn scenario(executors: u8, passes: u8, nmis: u8, fetch: &str) -> Scenario {
    let name = format!("{executors} executors, {passes} passes, {nmis} NMIs, {fetch}");
    let text = format!(
        "title = \"{name}\"\nprotocol = \"text_poke_fixup\"\nexpect = \"safe\"\nfetch = \"{fetch}\"\n\
         site = {{ old = \"nop5\", new = \"jmp32\", offset = 0x106 }}\n\
         executors = {{ count = {executors}, passes = {passes} }}\nevents = {{ nmi = {nmis} }}\n"
    );
    Scenario { path: format!("{name}.toml"), name, text }
}

fn search(criterion: &mut Criterion) {
    let mut checker = Checker::new().expect("KVM");
    let mut group = criterion.benchmark_group("search");
    group.sample_size(10);
    for (executors, passes, nmis, fetch) in
        [(2, 2, 0, "coherent"), (2, 2, 0, "intel"), (2, 2, 1, "amd"), (3, 1, 1, "amd"), (3, 3, 1, "amd")]
    {
        let scenario = scenario(executors, passes, nmis, fetch);
        for (stalls, how) in [(Stalls::Keep, "with stalls"), (Stalls::No, "without")] {
            let options = CheckOptions { workers: 1, recheck: 0, stalls, ..CheckOptions::default() };
            let mut check = || checker.check(&scenario, &options, |_| {}).expect("a report");
            let report = check();
            if stalls == Stalls::Keep && report.stalls.is_empty() {
                continue; // Too large for that.
            }
            group.throughput(Throughput::Elements(report.counts.transitions));
            group.bench_function(format!("{}, {how}", scenario.name), |bencher| bencher.iter(&mut check));
        }
    }
    group.finish();
}

criterion_group!(benches, search);
criterion_main!(benches);
