//! What the steps of a scenario are checked and compiled against.

use crossmod_model::fetch::FetchModel;
use crossmod_model::plan::{Function, Handler};

use super::error::ScenarioError;
use super::library::Library;
use super::site::Resolved;
use super::spanned::Spanned;
use super::symbols::Names;
use super::syntax::Broadcast;
use super::value;

/// Everything that steps are checked and compiled against.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub site: &'a Resolved,
    pub names: &'a Names,
    /// What its vCPUs run.
    pub library: &'a Library,
    /// What a claimed trap does, if the scenario says so.
    pub handler: Option<&'a Handler>,
    pub fetch: FetchModel,
    /// How many executors there are.
    pub executors: usize,
}

impl Context<'_> {
    /// What a broadcast runs, and at which executors.
    pub fn broadcast(&self, broadcast: &Spanned<Broadcast>) -> Result<(Function, u32), ScenarioError> {
        let mask = value::mask(broadcast.to.as_ref(), &broadcast.place, self.executors)?;
        Ok((self.library.function(&broadcast.run)?, mask))
    }
}
