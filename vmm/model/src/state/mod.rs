//! The parts of a state that the vCPUs do not hold, and the graph that states form.

mod actor;
pub mod ghost;
pub mod graph;
mod id;
mod reach;
pub mod shared_state;
pub mod store_buffer;

pub use actor::Actor;
pub use id::Id;
