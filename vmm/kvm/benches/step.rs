//! What one uncached transition costs, against the bare minimum. `cargo bench --bench step`.
//!
//! The machines that this runs on drift. The ratio is therefore taken in pairs of short batches, one of
//! each, and its median over the pairs is what counts; criterion's own figures give the absolute times.

#![allow(missing_docs, clippy::print_stdout, reason = "a benchmark prints its figures")]

mod bare;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use crossmod::engine::SteppingEngine;
use crossmod::explore::engine::Engine;
use crossmod::layout::SHARED_LEN;
use crossmod::machine::Machine;
use crossmod::plan::Plan;
use crossmod::step::Stimulus;
use crossmod::x86::cpu::Cpu;
use crossmod::{Scenario, scenario};

use bare::Bare;

fn shipped(name: &str) -> Scenario {
    scenario::library().into_iter().find(|scenario| scenario.name == name).expect("shipped")
}

fn plan() -> Plan {
    shipped("seed/fixup").plan(&scenario::Options::default()).expect("plan")
}

/// An oracle about to execute the loop's first instruction, `xor eax, eax`, as the explorer has it done.
fn uncached<'a>(machine: &'a mut Machine, plan: &'a Plan, user: bool) -> impl FnMut() -> u64 + 'a {
    let entry = machine.image().label("exec_loop").expect("label");
    let cpu = Cpu::at(entry, plan.site.address, 2, user);
    let shared = [0; SHARED_LEN];
    let mut oracle = SteppingEngine::new(machine, plan).expect("oracle");
    move || {
        let executed = oracle
            .execute(0, &cpu, Stimulus::Instruction, &plan.site.old.bytes, &shared, None)
            .expect("step");
        assert_eq!(executed.cpu.regs.rip, entry + 2);
        executed.cpu.regs.gpr[0]
    }
}

fn step(criterion: &mut Criterion) {
    let plan = plan();
    for (user, ring) in [(false, "ring 0"), (true, "ring 3")] {
        let mut group = criterion.benchmark_group(format!("step, {ring}"));
        group.measurement_time(Duration::from_secs(4));
        let mut bare = Bare::new(user);
        group.bench_function("bare KVM_RUN", |bencher| {
            bencher.iter(|| {
                let (rip, rax) = bare.step();
                assert_eq!(rip, Bare::NEXT);
                black_box(rax)
            });
        });
        let mut machine = Machine::oracle().expect("machine");
        let mut uncached = uncached(&mut machine, &plan, user);
        group.bench_function("uncached transition", |bencher| bencher.iter(|| black_box(uncached())));
        group.finish();
        println!("{ring}: uncached / bare = {:.3} (median of pairs)\n", ratio(&mut bare, &mut uncached));
    }
}

fn ratio(bare: &mut Bare, uncached: &mut impl FnMut() -> u64) -> f64 {
    const PAIRS: usize = 201;
    const BATCH: usize = 100;
    let mut ratios: Vec<f64> = (0..PAIRS)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..BATCH {
                black_box(bare.step());
            }
            let plain = begun.elapsed();
            let begun = Instant::now();
            for _ in 0..BATCH {
                black_box(uncached());
            }
            begun.elapsed().as_secs_f64() / plain.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios[PAIRS / 2]
}

criterion_group!(benches, step);
criterion_main!(benches);
