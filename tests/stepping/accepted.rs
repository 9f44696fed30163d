//! The language accepts more instructions than any shipped site has. At both rings each is either stepped singly or
//! refused by the host. None runs on without being noticed.

use std::collections::BTreeMap;

use crossmod::machine::{Machine, MachineError};
use crossmod::plan::Plan;
use crossmod::scenario::{self, Options};
use crossmod::step::Landing;
use crossmod::x86::decode;
use crossmod_abi::{va, vector};
use iced_x86::{Code, FlowControl, Instruction, OpKind};

use super::world::World;
use crate::kvm;

const SITE: u64 = va::SITE + 0x100;

/// One instruction of each form that prefix, opcode and ModRM bytes can make, as far as scenarios accept it.
fn accepted() -> BTreeMap<Code, (Plan, Instruction)> {
    let mut tried = BTreeMap::new();
    let prefixes: [&[u8]; 7] = [&[], &[0x66], &[0xf3], &[0xf2], &[0x48], &[0xf0], &[0xf3, 0x48]];
    let maps: [&[u8]; 4] = [&[], &[0x0f], &[0x0f, 0x38], &[0x0f, 0x3a]];
    for (prefix, map) in prefixes.iter().flat_map(|prefix| maps.iter().map(move |map| (prefix, map))) {
        for (opcode, modrm) in (0..=255u8).flat_map(|opcode| (0..=255u8).step_by(8).map(move |m| (opcode, m)))
        {
            // Register operands, then [rsp], then what follows as displacement and immediate.
            for modrm in [0xc1 | (modrm & 0x38), 0x04 | (modrm & 0x38)] {
                let sib = if modrm < 0xc0 { &[0x24][..] } else { &[] };
                let bytes = [prefix, *map, &[opcode, modrm], sib, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
                if let Some(instruction) = decode::decode(&bytes, SITE) {
                    tried.entry(instruction.code()).or_insert((bytes, instruction));
                }
            }
        }
    }
    let plan = |bytes: &[u8], instruction: &Instruction| {
        let old: Vec<String> = bytes[..instruction.len()].iter().map(|byte| format!("{byte:02x}")).collect();
        let new = if instruction.len() <= 9 { format!("\"nop{}\"", instruction.len()) } else { return None };
        let text = format!(
            "title = \"x\"\nprotocol = \"plain_store\"\nexpect = \"safe\"\n\
             [site]\nold = \"{}\"\nnew = {new}\noffset = 0x100\n",
            old.join(" ")
        );
        scenario::parse("table/accepted", &text, &Options::default()).ok()
    };
    tried
        .into_iter()
        .filter_map(|(code, (bytes, instruction))| Some((code, (plan(&bytes, &instruction)?, instruction))))
        .collect()
}

#[test]
fn whatever_a_scenario_may_put_at_a_site_is_stepped_singly_or_refused_by_the_host() {
    kvm::required();
    let forms = accepted();
    assert!(forms.len() > 200, "only {} forms", forms.len());
    let mut machine = Machine::oracle().unwrap();
    let mut random = fastrand::Rng::with_seed(14);
    let (mut single, mut refused) = (0, Vec::new());
    for (code, (plan, instruction)) in &forms {
        machine.reset(plan).unwrap();
        for user in [false, true] {
            let mut before = World::random(&mut random, SITE, user);
            if instruction.flow_control() == FlowControl::Return {
                before.store(before.rsp(), 8, SITE);
            }
            let to = decode::successors(instruction, &before.cpu, |address| before.cpu.read(address, 8));
            machine.write_shared(&before.shared).unwrap();
            match machine.step(0, &before.cpu, super::stimulus(instruction, to.first().copied().unwrap_or(0)))
            {
                Ok((after, Landing::Boundary)) if to.contains(&after.regs.rip) => single += 1,
                Ok((_, Landing::Handler(vector::BP))) if decode::is_int3(instruction) => single += 1,
                // The CPU, or KVM's emulator, does not know it: a verdict about the site, not a run-on.
                Ok((_, Landing::Handler(vector::UD))) => refused.push(*code),
                Err(MachineError::UnexpectedExit { exit, .. }) if exit.contains("INTERNAL_ERROR") => {
                    refused.push(*code);
                }
                Ok((_, Landing::Handler(vector::DE))) => {
                    let divides = format!("{code:?}").to_lowercase().contains("div_");
                    assert!(divides, "{code:?}, user {user}");
                }
                other => panic!(
                    "{code:?} `{}`, user {user}: {other:x?}, expected {to:x?}",
                    decode::format(instruction)
                ),
            }
            assert_eq!(machine.read_shared().unwrap(), before.shared, "{code:?}");
        }
    }
    let memory = forms.values().filter(|(_, it)| it.op_kinds().any(|kind| kind == OpKind::Memory)).count();
    assert!(memory > 0, "forms with memory operands are among them");
    eprintln!("{single} steps of {} forms; this host does not execute {refused:?}", forms.len());
    assert!(refused.len() * 10 < forms.len(), "too many: {refused:?}");
}
