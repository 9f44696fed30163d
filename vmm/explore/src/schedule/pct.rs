//! Probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi, Nagarakatte, ASPLOS 2010): actors have
//! random priorities, the highest one moves, and at `depth - 1` random moments the running one drops below
//! all others. A run of k transitions over n actors shows a violation that needs `depth` ordering constraints with
//! a chance of at least 1 / (n k^(depth-1)).
//!
//! Actors here are the patcher, each executor, and for each executor the events delivered to it. An actor
//! that spins would keep all others from moving: it is set back, and the bound does not cover that run.

use super::{Bound, Strategy};
use crate::state::Transition;

/// The strategy.
#[derive(Debug)]
pub struct Pct {
    random: fastrand::Rng,
    depth: usize,
    /// Change points are drawn from this many transitions. Fixed, because otherwise the promise would not hold for early runs.
    length: usize,
    /// Priorities by actor; higher moves first.
    priorities: Vec<i64>,
    changes: Vec<usize>,
    steps: usize,
    lowest: i64,
}

impl Pct {
    /// For `executors` executors, violations of `depth` ordering constraints (at least 1), and runs of up to
    /// `length` transitions.
    pub fn new(executors: usize, depth: usize, length: usize, seed: u64) -> Pct {
        Pct {
            random: fastrand::Rng::with_seed(seed),
            depth: depth.max(1),
            length: length.max(1),
            priorities: vec![0; 1 + 2 * executors],
            changes: Vec::new(),
            steps: 0,
            lowest: 0,
        }
    }

    fn actor(step: Transition) -> usize {
        match step {
            Transition::Execute(i, _) => 1 + 2 * usize::from(i),
            Transition::Ipi(i, _)
            | Transition::Nmi(i)
            | Transition::Irq(i)
            | Transition::RaiseNmi(i)
            | Transition::Smi(i)
            | Transition::MachineCheck(i)
            | Transition::Commit(i) => 2 + 2 * usize::from(i),
            Transition::Patcher | Transition::Piece(_) | Transition::Observe(_) => 0,
        }
    }

    fn demote(&mut self, actor: usize) {
        self.lowest -= 1;
        self.priorities[actor] = self.lowest;
    }
}

impl Strategy for Pct {
    fn begin(&mut self) {
        let mut order: Vec<i64> = (1..=self.priorities.len() as i64).collect();
        self.random.shuffle(&mut order);
        self.priorities = order;
        (self.steps, self.lowest) = (0, 0);
        self.changes = (1..self.depth).map(|_| self.random.usize(..self.length)).collect();
    }

    fn choose(&mut self, transitions: &[Transition]) -> usize {
        let highest = |priorities: &[i64]| transitions.iter().map(|&step| priorities[Pct::actor(step)]).max();
        if self.changes.contains(&self.steps)
            && let Some(top) = highest(&self.priorities)
            && let Some(actor) = self.priorities.iter().position(|&priority| priority == top)
        {
            self.demote(actor);
        }
        self.steps += 1;
        let top = highest(&self.priorities);
        let best: Vec<usize> = (0..transitions.len())
            .filter(|&index| Some(self.priorities[Pct::actor(transitions[index])]) == top)
            .collect();
        best[self.random.usize(..best.len())]
    }

    fn spins(&mut self, step: Transition) {
        self.demote(Pct::actor(step));
    }

    fn bound(&self) -> Option<Bound> {
        let actors = self.priorities.len() as f64;
        let chance = 1.0 / (actors * (self.length as f64).powi(self.depth as i32 - 1));
        Some(Bound { chance, length: self.length })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_change_points_one_actor_runs_until_it_spins() {
        let mut pct = Pct::new(2, 1, 64, 7);
        pct.begin();
        let transitions = [Transition::Patcher, Transition::Execute(0, 0), Transition::Execute(1, 0)];
        let first = pct.choose(&transitions);
        for _ in 0..20 {
            assert_eq!(pct.choose(&transitions), first);
        }
        pct.spins(transitions[first]);
        assert_ne!(pct.choose(&transitions), first);
    }

    #[test]
    fn the_bound_is_that_of_the_paper() {
        let chance = |pct: Pct| pct.bound().unwrap().chance;
        assert!((chance(Pct::new(2, 3, 10, 1)) - 1.0 / 500.0).abs() < 1e-12);
        assert!((chance(Pct::new(1, 1, 99, 1)) - 1.0 / 3.0).abs() < 1e-12);
    }
}
