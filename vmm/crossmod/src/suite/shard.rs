//! Distribution of cases over shards, without communication between the machines that run them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::Case;
use crate::results::Shard;

impl Shard {
    /// The cases of this shard, in their order. The distribution depends on names and costs, not on the order of
    /// `cases`: it takes the costliest case first and gives each to the shard with the least load so far.
    pub fn of(self, cases: Vec<Case>) -> Vec<Case> {
        let costs: Vec<(&str, u64)> = cases.iter().map(|case| (case.name.as_str(), cost(case))).collect();
        let of = deal(&costs, self.count);
        cases.into_iter().zip(of).filter(|(_, shard)| *shard == self.index).map(|(case, _)| case).collect()
    }
}

/// Transitions of the shipped cases, as counted once.
static RECORDED: LazyLock<BTreeMap<&str, u64>> = LazyLock::new(|| {
    let lines = include_str!("costs.txt").lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    pairs.filter_map(|(name, n)| Some((name, n.parse().ok()?))).collect()
});

/// Overhead of each case, in transitions.
const FIXED: u64 = 500;

/// Estimated transitions of a case. A case that is not recorded is extrapolated from the shipped set: each executor
/// multiplies the cost by 12, each NMI or interrupt by 6, each machine check by 4. No verdict depends on it.
pub fn cost(case: &Case) -> u64 {
    let recorded = RECORDED.get(case.name.as_str()).copied();
    recorded.unwrap_or_else(|| {
        let events = &case.plan.events;
        let passes = case.plan.executors.iter().map(|executor| u64::from(executor.passes)).max().unwrap_or(1);
        let grow = |base: u64, times: u8| base.saturating_pow(u32::from(times));
        let executors = u8::try_from(case.plan.executors.len()).unwrap_or(u8::MAX);
        (8 * passes)
            .saturating_mul(grow(12, executors))
            .saturating_mul(grow(6, events.nmi.saturating_add(events.irq)))
            .saturating_mul(grow(4, events.mce))
    })
}

/// The shard of each case; shards count from 1.
fn deal(costs: &[(&str, u64)], count: u32) -> Vec<u32> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&index| (Reverse(costs[index].1), costs[index].0));
    let mut loads = vec![0; count as usize];
    let mut of = vec![1; costs.len()];
    for index in order {
        let Some((shard, load)) = (1..).zip(&mut loads).min_by_key(|(_, load)| **load) else { break };
        of[index] = shard;
        *load += u128::from(costs[index].1) + u128::from(FIXED);
    }
    of
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{scenario, suite};

    proptest! {
        #[test]
        fn shards_are_disjoint_complete_balanced_and_blind_to_order(
            costs in prop::collection::btree_map("[a-z]{1,6}", 0..1_000_000u64, 0..60),
            count in 1..20u32,
            rotate in 0..60usize,
        ) {
            let costs: Vec<(&str, u64)> = costs.iter().map(|(name, cost)| (name.as_str(), *cost)).collect();
            let of = deal(&costs, count);
            prop_assert!(of.iter().all(|shard| (1..=count).contains(shard)));
            let mut turned = costs.clone();
            turned.rotate_left(rotate % costs.len().max(1));
            turned.reverse();
            let again: BTreeMap<&str, u32> =
                turned.iter().map(|(name, _)| *name).zip(deal(&turned, count)).collect();
            for ((name, _), shard) in costs.iter().zip(&of) {
                prop_assert_eq!(again[name], *shard);
            }
            // Greedy: without its last case, the fullest shard is no fuller than the mean.
            let load = |wanted: u32| -> u64 {
                costs.iter().zip(&of).filter(|(_, shard)| **shard == wanted).map(|((_, cost), _)| cost + FIXED).sum()
            };
            let most = (1..=count).map(load).max().unwrap_or_default();
            let sum: u64 = (1..=count).map(load).sum();
            let largest = costs.iter().map(|(_, cost)| cost + FIXED).max().unwrap_or_default();
            prop_assert!(most <= sum / u64::from(count) + largest);
        }
    }

    #[test]
    fn shards_of_the_shipped_set_are_the_whole_and_even_by_what_was_recorded() {
        let cases = suite::cases(&scenario::library(), &[]).unwrap();
        let recorded = cases.iter().filter(|case| RECORDED.contains_key(case.name.as_str())).count();
        assert!(recorded * 10 >= cases.len() * 9, "{recorded} of {}: run scripts/shard-weights", cases.len());
        let total: u64 = cases.iter().map(cost).sum();
        let largest = cases.iter().map(cost).max().unwrap();
        for count in [1, 2, 3, 4, 8] {
            let mut names = Vec::new();
            for index in 1..=count {
                let part = Shard { index, count }.of(cases.clone());
                let load: u64 = part.iter().map(cost).sum();
                let ideal = largest.max(total / u64::from(count));
                assert!(load * 100 <= ideal * 110, "{index}/{count}: {load}, {ideal} would do");
                names.extend(part.into_iter().map(|case| case.name));
            }
            names.sort();
            let mut all: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
            all.sort();
            assert_eq!(names, all);
        }
    }
}
