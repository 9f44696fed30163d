//! The functions that are marked `#[test]`: each adds itself, wherever it is.

use libtest_mimic::Trial;

use crate::harness;

/// A function that is marked `#[test]`.
pub struct Test {
    pub path: &'static str,
    /// It begins before the short ones, so that no CPU is left waiting for it at the end.
    pub long: bool,
    pub run: fn(),
}

inventory::collect!(Test);

/// What `#[test]` adds to a function.
macro_rules! register {
    ($name:ident) => {
        crate::registry::register!(@ $name, false);
    };
    ($name:ident long) => {
        crate::registry::register!(@ $name, true);
    };
    (@ $name:ident, $long:literal) => {
        inventory::submit! {
            crate::registry::Test {
                path: concat!(module_path!(), "::", stringify!($name)),
                long: $long,
                run: $name,
            }
        }
    };
}
pub(crate) use register;

/// The tests, long ones first, in the order of their names, which are paths without the crate.
pub fn tests() -> Vec<Trial> {
    let mut tests: Vec<&Test> = inventory::iter::<Test>.into_iter().collect();
    tests.sort_unstable_by_key(|test| (!test.long, test.path));
    let name = |test: &Test| test.path.split_once("::").map_or(test.path, |(_, name)| name);
    let trial = |test: &'static Test| {
        harness::trial(name(test), || {
            (test.run)();
            Ok(())
        })
    };
    tests.into_iter().map(trial).collect()
}
