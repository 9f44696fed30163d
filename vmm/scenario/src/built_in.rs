//! The names that are built into the language, with their meaning in the reference, and the bounds of its numbers.

use crossmod_abi::PAGE;
use crossmod_model::plan::{Function, Role, Word};

/// Maximum number of executors, and of the passes of one.
pub(crate) const MOST_EXECUTORS: i64 = 8;
/// Default number of executors.
pub(crate) const EXECUTORS: i64 = 2;
/// Default number of passes.
pub(crate) const PASSES: i64 = 2;
/// Maximum number of events of one kind.
pub(crate) const MOST_EVENTS: i64 = 8;
/// Maximum page offset.
pub(crate) const LAST_OFFSET: i64 = PAGE as i64 - 1;
/// Maximum delay in transitions.
pub(crate) const LONGEST_DELAY: i64 = 64;
/// Maximum size of the pieces of a store, in bytes.
pub(crate) const LARGEST_PIECE: i64 = 32;

/// The site: what a grace period waits for, and what a handler runs.
pub(crate) const SITE: &str = "site";
/// The code at targets, for grace periods.
pub(crate) const TARGETS: &str = "targets";
/// What a handler runs if it returns at once.
pub(crate) const NOTHING: &str = "nothing";

/// The roles of executors besides programs.
pub(crate) const ROLES: [(&str, Role, &str); 3] = [
    ("loop", Role::Loop, "Passes through the site in a loop."),
    ("lock", Role::Lock, "Holds the shared word `lock` during each pass."),
    ("lock-irqs-off", Role::LockIrqOff, "The same, with interrupts off from before it waits for the lock."),
];

/// What handlers of events run besides programs.
pub(crate) const RUNS: [(&str, &str); 2] =
    [(SITE, "The handler runs the site once."), (NOTHING, "The handler returns at once.")];

/// What a grace period waits for besides a word.
pub(crate) const GRACE: [(&str, &str); 2] = [
    (SITE, "No instruction pointer, saved ones included, is inside the site."),
    (TARGETS, "Nor in the code at a target."),
];

/// The words that exist without a declaration.
pub(crate) const WORDS: [(&str, Word, &str); 6] = [
    ("arrived", Word::Arrived, "Counts the executors that arrived in a `hold`, `stop` or `early`."),
    ("release", Word::Release, "Lets the executors continue that wait in a `hold` or `stop`, once it is 1."),
    ("flag", Word::Flag, "Free for the steps of the patcher."),
    ("lock", Word::Lock, "The lock of the roles `lock` and `lock-irqs-off`."),
    ("armed", Word::Armed, "Whether the #BP handler may claim traps: 1 after `arm`, 0 after `disarm`."),
    ("hits", Word::Hits, "Written by the #BP handler of the variant `counting`."),
];

/// The functions of broadcasts besides programs: what a receiver does.
pub(crate) const FUNCTIONS: [(Function, &str); 7] = [
    (Function::Sync, "Serialises, acknowledges."),
    (Function::AckFirst, "Acknowledges, serialises."),
    (Function::AckOnly, "Acknowledges."),
    (Function::Hold, "Serialises, arrives, waits for the word `release` with interrupts off, acknowledges."),
    (Function::Stop, "Arrives, waits for the word `release` with interrupts off, serialises, acknowledges."),
    (Function::Early, "Serialises, arrives, acknowledges."),
    (Function::Nmi, "The message is an NMI; the receiver runs the NMI handler, which may `acknowledge`."),
];

/// The built-in function with a name.
pub(crate) fn function(name: &str) -> Option<Function> {
    FUNCTIONS.map(|(function, _)| function).into_iter().find(|function| function.name() == name)
}
