#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::print_stdout)]
use crossmod::{explore::{*, engine::*}, machine::*, plan::*};
fn main() {
    let site = crossmod_abi::va::SITE + 0x3e;
    let mk = |b: &[u8]| Code { bytes: b.to_vec(), boundaries: vec![0] };
    let op = |s: &str, kind| Op { step: s.into(), kind };
    let st = |o, b: &[u8]| OpKind::Store { offset: o, bytes: b.to_vec() };
    let n: usize = std::env::args().nth(1).map_or(2, |x| x.parse().unwrap());
    let ring = if std::env::args().nth(2).is_some() { Ring::User } else { Ring::Kernel };
    let m = (1u32 << n) - 1;
    let bc = || OpKind::Broadcast { function: Function::Sync, mask: m };
    let wa = || OpKind::WaitAcks { mask: m };
    let plan = Plan {
        name: "x".into(), title: "".into(),
        site: Site { address: site, old: mk(&[0xf,0x1f,0x44,0,0]), new: mk(&[0xe9,0xfb,0xf,0,0]), intermediates: vec![vec![0xcc]] },
        pads: vec![Pad{address: site+5, mark:1, name:"next".into()}, Pad{address: site+5+0xffb, mark:4, name:"t".into()}],
        executors: vec![Executor{passes:2, ring, role: Role::Loop, start: Start::Outside}; n], handler: Handler{variant: HandlerVariant::Plain, action: Action::Resume(site+5+0xffb), armed_at_start:false},
        events: Events{nmi:1,nmi_runs_site:true,irq:0,irq_runs_site:true},
        program: vec![op("d",OpKind::Describe),op("arm",OpKind::Armed(true)),op("int3",st(0,&[0xcc])),op("s1",bc()),op("s1w",wa()),op("tail",st(1,&[0xfb,0xf,0,0])),op("s2",bc()),op("s2w",wa()),op("first",st(0,&[0xe9])),op("s3",bc()),op("s3w",wa()),op("disarm",OpKind::Armed(false)),op("done",OpKind::Done)],
        rule: VendorRule::Intel, expect: vec![],
    };
    for skip in ["", "s1", "s2", "s3"] {
    let mut plan = plan.clone();
    plan.program.retain(|o| skip.is_empty() || !o.step.starts_with(skip));
    let mut machine = Machine::oracle().unwrap();
    let oracle = Oracle::new(&mut machine, &plan).unwrap();
    let mut model = Model::new(&plan, oracle, Memo::new(1024, 1), std::env::args().nth(3).is_none()).unwrap();
    let s = explore(&mut model, Limits::default(), |_| {}).unwrap();
    println!("without {skip:?}: {:?} states {} trans {} depth {} {:?} {:.0} trans/s stalls {:?} digest {:x}", s.ended, s.states, s.transitions, s.depth, s.elapsed, s.transitions as f64/s.elapsed.as_secs_f64(), s.stalls, s.states_digest);
    for (p,f) in &s.found { println!("   {p} {} ({} moves)", f.violation.detail, f.schedule.len()); }
    println!("   {:?} {:?} {:?}", s.outcomes.len(), model.memo_stats(), model.interned());
    }
}
