//! Rules that the explorer enforces: broken by a site, or by an engine that does not tell the truth.

use crossmod::engine::SteppingEngine;
use crossmod::explore::engine::{Engine, Executed};
use crossmod::explore::error::EngineError;
use crossmod::explore::{Limits, Memo, Model, Reduction, SearchOptions, explore};
use crossmod::image::Image;
use crossmod::layout::Shared;
use crossmod::machine::Machine;
use crossmod::plan::Plan;
use crossmod::step::Stimulus;
use crossmod::x86::cpu::{Cpu, reg};
use crossmod_abi::va;

use super::{SITE, assert_works, plan};
use crate::kvm;

/// What a lying engine does to the result of a step, given how many it has executed.
type Lie = fn(u64, &mut Result<Executed, EngineError>);

struct Liar<'a> {
    oracle: SteppingEngine<'a>,
    steps: u64,
    lie: Lie,
}

impl Engine for Liar<'_> {
    fn execute(
        &mut self,
        slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
        data: Option<&[u8]>,
    ) -> Result<Executed, EngineError> {
        let mut result = self.oracle.execute(slot, cpu, stimulus, text, shared, data);
        self.steps += 1;
        (self.lie)(self.steps, &mut result);
        result
    }

    fn execute_aside(
        &mut self,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
    ) -> Result<Executed, EngineError> {
        self.oracle.execute_aside(cpu, stimulus, text, shared)
    }

    fn stored(&mut self, data: &[u8]) -> Result<(), EngineError> {
        self.oracle.stored(data)
    }

    fn data(&self, bytes: &mut [u8]) -> Result<(), EngineError> {
        self.oracle.data(bytes)
    }

    fn word_stored(&mut self, slot: usize, word: u8, value: u32) -> Result<(), EngineError> {
        self.oracle.word_stored(slot, word, value)
    }

    fn shared_stored(&mut self, shared: &Shared) -> Result<(), EngineError> {
        self.oracle.shared_stored(shared)
    }

    fn ack_cleared(&mut self, slot: usize) -> Result<(), EngineError> {
        self.oracle.ack_cleared(slot)
    }

    fn image(&self) -> &Image {
        self.oracle.image()
    }
}

fn search(machine: &mut Machine, plan: &Plan, memo: Memo, lie: Lie) -> Result<usize, EngineError> {
    let mut engine = Liar { oracle: SteppingEngine::new(machine, plan)?, steps: 0, lie };
    let mut model = Model::new(plan, &mut engine, memo)?;
    let options = SearchOptions { reduction: Reduction::None, ..SearchOptions::default() };
    explore(&mut model, Limits::default(), options, |_| {}).map(|search| search.states)
}

fn honest(_: u64, _: &mut Result<Executed, EngineError>) {}

#[test]
fn steps_that_end_elsewhere_or_write_what_they_do_not_write_are_told() {
    kvm::required();
    let mut machine = Machine::oracle().unwrap();
    let plan = plan(&[0x0f, 0x1f, 0x44, 0, 0], &[0x0f, 0x1f, 0x44, 0, 0]);
    let states = search(&mut machine, &plan, Memo::new(0, 1), honest).unwrap();
    assert!(states > 10, "{states}");
    let lie = |machine: &mut Machine, memo, lie| search(machine, &plan, memo, lie).unwrap_err();

    let error = lie(&mut machine, Memo::new(0, 1), |step, result| {
        if let (3, Ok(executed)) = (step, result) {
            executed.cpu.regs.rip += 1;
        }
    });
    let EngineError::Misstep { from, rip, .. } = error else { panic!("{error}") };
    assert_ne!(from, rip);

    let error = lie(&mut machine, Memo::new(0, 1), |step, result| {
        if let (3, Ok(executed)) = (step, result) {
            executed.shared[0x30] ^= 1;
        }
    });
    assert!(error.to_string().contains("changed shared bytes that it does not write"), "{error}");

    // A result that is not a function of the state is found when a remembered step is executed again.
    let error = lie(&mut machine, Memo::new(1, 1), |step, result| {
        if let Ok(executed) = result {
            executed.cpu.regs.gpr[reg::RAX + 3] = step;
        }
    });
    assert!(error.to_string().contains("a remembered transition differs"), "{error}");

    let error = lie(&mut machine, Memo::disabled(), |step, result| {
        if step == 5 {
            *result = Err(EngineError::Failed("endless".into()));
        }
    });
    assert!(matches!(error, EngineError::Failed(_)), "{error}");
    assert_works(&mut machine);
}

/// A request to stop ends the search in the same way inside KVM_RUN and outside it.
#[test]
fn an_interrupted_step_ends_the_search_with_what_is_known() {
    kvm::required();
    let mut machine = Machine::oracle().unwrap();
    let plan = plan(&[0x0f, 0x1f, 0x44, 0, 0], &[0x0f, 0x1f, 0x44, 0, 0]);
    let whole = search(&mut machine, &plan, Memo::disabled(), honest).unwrap();
    let part = search(&mut machine, &plan, Memo::disabled(), |step, result| {
        if step == 20 {
            *result = Err(EngineError::Interrupted);
        }
    })
    .unwrap();
    assert!(0 < part && part < whole, "{part} of {whole} states");
    assert_works(&mut machine);
}

#[test]
fn sites_that_use_text_or_foreign_memory_as_data_break_the_contract() {
    kvm::required();
    let mut machine = Machine::oracle().unwrap();
    // mov [address], eax; mov eax, [address], with an address relative to RIP.
    for (opcode, address, message) in [
        (0x89, SITE, "accesses patchable addresses as data"),
        (0x8b, SITE, "accesses patchable addresses as data"),
        (0x89, va::SITE + 0x1ffe, "accesses patchable addresses as data"),
        (0x89, SITE - 0x7000_0000, "which belongs to no state"),
    ] {
        let displacement = (address.wrapping_sub(SITE + 6) as u32).to_le_bytes();
        let code = [&[opcode, 0x05], &displacement[..]].concat();
        let plan = plan(&code, &[0x66, 0x0f, 0x1f, 0x44, 0, 0]);
        let error = search(&mut machine, &plan, Memo::new(0, 1), honest).unwrap_err();
        let EngineError::Contract { rip, what } = &error else { panic!("{error}") };
        assert_eq!(*rip, SITE);
        assert!(what.contains(message), "{what}");
    }
    assert_works(&mut machine);
}
