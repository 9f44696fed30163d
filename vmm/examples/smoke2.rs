#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::print_stdout)]
use crossmod::{explore::{*, engine::*}, machine::*, plan::*, scenario};
fn main() {
    let ring = if std::env::args().nth(1).as_deref() == Some("3") { Ring::User } else { Ring::Kernel };
    let reduce = std::env::args().nth(2).as_deref() != Some("full");
    let filter = std::env::args().nth(3).unwrap_or_default();
    let mut machine = Machine::oracle().unwrap();
    let t = std::time::Instant::now();
    for s in scenario::library() {
        if !s.name.contains(&filter) { continue }
        let plan = match s.plan(&scenario::Options { ring: Some(ring) }) { Ok(p) => p, Err(e) => { println!("{} {e}", s.name); continue } };
        let oracle = Oracle::new(&mut machine, &plan).unwrap();
        let mut model = Model::new(&plan, oracle, Memo::new(1024, 1), reduce).unwrap();
        let r = match explore(&mut model, Limits{max_states: 3_000_000, timeout: None}, |_| {}) { Ok(r) => r, Err(e) => { println!("{:40} ERROR {e}", plan.name); continue } };
        let found: Vec<_> = r.found.keys().copied().collect();
        let mut want = plan.expect.clone(); want.sort();
        println!("{:45} {} {:?} states {} trans {} {:?} stall {:?}", plan.name, if found == want {"ok  "} else {"DIFF"}, r.ended, r.states, r.transitions, r.elapsed, r.stalls.iter().map(|s| (s.others, s.patcher)).collect::<Vec<_>>());
        if found != want { println!("     want {want:?} found"); for (p, f) in &r.found { println!("        {p}: {} ({})", f.violation.detail, f.schedule.len()); } }
    }
    println!("{:?}", t.elapsed());
}
