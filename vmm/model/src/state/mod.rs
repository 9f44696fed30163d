//! The parts of a state that the vCPUs do not hold, and the graph that states form.

pub mod ghost;
pub mod graph;
pub mod shared_state;
