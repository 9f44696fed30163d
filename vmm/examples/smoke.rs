#![allow(missing_docs, clippy::all, clippy::unwrap_used, clippy::print_stdout)]
use crossmod::{cpu::*, decode, machine::*, plan::*};
fn main() {
    let site = crossmod_abi::va::SITE + 0x3e;
    let mk = |b: &[u8]| Code { bytes: b.to_vec(), boundaries: vec![0] };
    let plan = Plan {
        name: "x".into(), title: "".into(),
        site: Site { address: site, old: mk(&[0xf,0x1f,0x44,0,0]), new: mk(&[0xe9,0xfb,0xf,0,0]), intermediates: vec![] },
        pads: vec![Pad{address: site+5, mark:1, name:"next".into()}, Pad{address: site+5+0xffb, mark:4, name:"t".into()}],
        executors: vec![], handler: Handler{variant: HandlerVariant::Plain, action: Action::Resume(site+5), armed_at_start:false},
        events: Events{nmi:1,nmi_runs_site:true,irq:0,irq_runs_site:true}, program: vec![], rule: VendorRule::Intel, expect: vec![],
    };
    let t = std::time::Instant::now();
    let mut m = Machine::oracle().unwrap();
    println!("create {:?}", t.elapsed());
    m.reset(&plan).unwrap();
    for user in [false, true] {
        for int3 in [false, true] {
            println!("== user {user} int3 {int3}");
            let mut shared = [0u8; SHARED_LEN];
            shared[0] = 1; shared[8..16].copy_from_slice(&site.to_le_bytes()); shared[16..24].copy_from_slice(&(site+5).to_le_bytes());
            m.write_shared(&shared).unwrap();
            m.write_view(0, site, if int3 {&[0xcc]} else {&[0x0f]}).unwrap();
            let mut cpu = Cpu::at(m.image().label("exec_loop").unwrap(), site, 1, user);
            let park = m.image().label("exec_park").unwrap();
            let mut n = 0;
            let mut nmi = false;
            while cpu.regs.rip != park && n < 60 {
                n += 1;
                let rip = cpu.regs.rip;
                let mut buf = [0u8; 15];
                let bytes: &[u8] = if m.image().contains(rip) { let c = m.image().code(rip); buf[..c.len()].copy_from_slice(c); &buf[..c.len()] } else { let text = initial_text(&plan); let o=(rip - crossmod_abi::va::SITE) as usize; buf.copy_from_slice(&text[o..o+15]); if int3 && rip==site {buf[0]=0xcc} &buf };
                let i = decode::decode(bytes, rip).unwrap();
                let succ = decode::successors(&i, &cpu, |_| None);
                let stim = if rip == site && !nmi { nmi = true; Stimulus::Nmi } else if decode::is_int3(&i) { Stimulus::Breakpoint } else if decode::needs_planted_stop(&i) { Stimulus::InstructionTo(succ[0]) } else { Stimulus::Instruction };
                let (c, l) = match m.step(0, &cpu, stim) { Ok(x) => x, Err(e) => { println!("ERR {e} {:?}", cpu.regs); return } };
                println!("{:?} {:x} {:30} {:x?} -> {:x} {:?} rsp {:x} eax {:x} fl {:x} cs {:x} ss {:x} m {}", stim, rip, decode::format(&i), succ, c.regs.rip, l, c.regs.gpr[4], c.regs.gpr[0], c.regs.rflags, c.regs.cs, c.regs.ss, c.regs.nmi_masked);
                cpu = c;
            }
        }
    }
    println!("{:?}", m.assists());
    for user in [false, true] {
    let cpu = Cpu::at(m.image().label("exec_loop").unwrap(), site, 1, user);
    let t = std::time::Instant::now();
    for _ in 0..10000 { m.step(0, &cpu, Stimulus::Instruction).unwrap(); }
    println!("user {user} step {:?}", t.elapsed()/10000);
    }
}
