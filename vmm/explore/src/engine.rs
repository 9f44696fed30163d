//! What executes a step. The semantics do not depend on how: one vCPU may execute the steps of all executors, each from
//! a complete state, or one vCPU for each executor may go on from where its last step ended.

use crossmod_model::image::Image;
use crossmod_model::layout::Shared;
use crossmod_model::step::{Landing, Stimulus};
use crossmod_model::x86::cpu::Cpu;

use crate::error::Result;

/// The result of one executed step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The vCPU afterwards.
    pub cpu: Cpu,
    /// Where it landed.
    pub landing: Landing,
    /// The shared page afterwards.
    pub shared: Shared,
}

/// Executes steps.
pub trait Engine {
    /// Steps executor `slot` from `cpu`, which sees `text` as the bytes of the site and `shared` as the
    /// shared page. `data` is the site as data, if the step reads or writes it.
    fn execute(
        &mut self,
        slot: usize,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
        data: Option<&[u8]>,
    ) -> Result<Executed>;

    /// The same for runs of old or new alone, which are not part of the execution.
    fn execute_aside(
        &mut self,
        cpu: &Cpu,
        stimulus: Stimulus,
        text: &[u8],
        shared: &Shared,
    ) -> Result<Executed> {
        self.execute(0, cpu, stimulus, text, shared, None)
    }

    /// The host's patcher stored to the site: data readers now find `data` there. An engine that gets a complete state
    /// with every step need not know this, nor of the following stores.
    fn stored(&mut self, _data: &[u8]) -> Result<()> {
        Ok(())
    }

    /// Reads what data readers find in the site after the step that was just executed with `data`.
    fn data(&self, bytes: &mut [u8]) -> Result<()>;

    /// The patcher stored a word of which every executor has its own.
    fn word_stored(&mut self, _slot: usize, _word: u8, _value: u32) -> Result<()> {
        Ok(())
    }

    /// The patcher stored to the shared page.
    fn shared_stored(&mut self, _shared: &Shared) -> Result<()> {
        Ok(())
    }

    /// A broadcast cleared this executor's acknowledgement.
    fn ack_cleared(&mut self, _slot: usize) -> Result<()> {
        Ok(())
    }

    /// The guest image.
    fn image(&self) -> &Image;
}
