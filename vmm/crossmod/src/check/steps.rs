//! Steps that outlive a search: a scenario is mostly checked under several fetch models, and a mutant after another, and
//! their searches execute the same instructions.

use crossmod_explore::Steps;
use crossmod_model::fetch::FetchModel;
use crossmod_model::memory::MemoryModel;
use crossmod_model::plan::Plan;
use crossmod_model::x86::VendorRule;

/// The steps of the guest that was searched last.
#[derive(Debug, Default)]
pub(super) struct KnownSteps {
    guest: String,
    steps: Steps,
}

impl KnownSteps {
    /// The steps of this plan's guest, none if another one was searched last.
    pub(super) fn take(&mut self, plan: &Plan) -> Steps {
        let steps = std::mem::take(&mut self.steps);
        let guest = guest(plan);
        if std::mem::replace(&mut self.guest, guest.clone()) == guest { steps } else { Steps::default() }
    }

    /// Keeps the steps after the search that took them.
    pub(super) fn put(&mut self, steps: Steps) {
        self.steps = steps;
    }
}

/// What identifies a guest: all of a plan but the host's steps, and the models that decide what a fetch sees, when others
/// see a store, and what serialises. An instruction depends on them only through the bytes that it consists of and reads.
fn guest(plan: &Plan) -> String {
    let (fetch, memory, rule) = (FetchModel::COHERENT, MemoryModel::Sc, VendorRule::Intel);
    Plan { fetch, memory, rule, program: Vec::new(), ..plan.clone() }.digest()
}
