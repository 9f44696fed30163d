//! The words that reports use.

use crate::scenario::{Entry, Section};

/// A word, what it means in one line, and more.
type Word = (&'static str, &'static str, &'static str);

/// The words, in the order in which a reader of a report meets them.
const WORDS: [Word; 30] = [
    (
        "safe",
        "No property is violated in any interleaving within the bounds.",
        "All schedules of the executors, passes and events that the bounds name were searched under the fetch model and the \
         rule that the report names. Nothing is claimed beyond them. A scenario that ends with `abandon` claims nothing about \
         completion.",
    ),
    (
        "hazard",
        "At least one property is violated, and the report shows a schedule for each.",
        "Each schedule was executed twice more before it was reported: without remembered transitions, and live with one \
         KVM vCPU for each executor. All states agreed.",
    ),
    (
        "not decided",
        "No violation was found, but not everything was searched.",
        "The search reached a limit of states, memory or time, was interrupted, or took samples.",
    ),
    (
        "skipped",
        "The scenario was not run.",
        "The host has no usable KVM or lacks a capability, or an option makes the scenario impossible, such as a role that \
         needs ring 0 under `--ring 3`. The report gives the reason.",
    ),
    (
        "harness error",
        "The host or Crossmod failed: there is no verdict.",
        "The exit status is 70. A replay whose states differ from those of the search is such a failure, too.",
    ),
    (
        "ok",
        "The verdict is what the scenario expects.",
        "A hazard that the scenario expects is `ok`; so is *safe*, if nothing is expected.",
    ),
    (
        "expected",
        "Whether the scenario names a violated property in `expect`.",
        "A finding that it does not name is marked `NOT EXPECTED`, and the exit status is 1.",
    ),
    (
        "race",
        "The short word for `unserialised` in a matrix.",
        "A vCPU fetched bytes that were stored since it last serialised. Whether it saw the old or the new bytes does not \
         matter: the vendor's rule promises nothing.",
    ),
    (
        "rule",
        "The vendor whose promises about modified code hold.",
        "The key `rule` sets it. Under AMD's rule MFENCE serialises, and one store inside an aligned quadword needs no \
         handshake. Under Intel's rule both are hazards.",
    ),
    (
        "fetch model",
        "Which bytes a fetch may see.",
        "See [Fetch models](#fetch-models). In tables it is the column `fetch`.",
    ),
    (
        "bounds",
        "What was searched: executors, passes of each, ring, and how many events may arrive.",
        "In tables `2x1+1n` is two executors with one pass each and one NMI; `1,2` are the passes of executors that differ. \
         The letters are n for NMIs, i for device interrupts, s for SMIs and m for machine checks.",
    ),
    (
        "tier",
        "How the result was obtained.",
        "`explore` means that every instruction was single-stepped on KVM. Time is not observed, and fetches see what the \
         fetch model lets them see.",
    ),
    (
        "explored",
        "How large the search was: states, transitions between them, and its depth.",
        "The depth is the length of the longest of the shortest schedules to a state.",
    ),
    (
        "covered",
        "What a search that was cut short has still decided.",
        "All schedules up to a length were searched, however many longer ones are left.",
    ),
    (
        "sampled",
        "The runs were chosen at random, not exhaustively.",
        "The report gives the probability with which a run finds a violation of the chosen depth, if there is one.",
    ),
    (
        "executed",
        "How many instructions KVM executed, and how many of them were remembered.",
        "The search executes each instruction once in each context and remembers its effect. A part of the remembered \
         effects is executed again and compared.",
    ),
    ("memory", "The most memory that the search used.", "Also given for each state."),
    (
        "modelled",
        "Events that KVM on this host cannot raise, and that were modelled.",
        "These are SMIs where KVM has no SMM: of an SMI, only that its RSM serialises is taken into account.",
    ),
    (
        "outcomes",
        "How the passes of all schedules ended.",
        "An outcome is the version of the site that the pass looked like.",
    ),
    (
        "unreached",
        "Steps of programs that no schedule reached.",
        "The verdict says nothing about them. A `check` that no schedule reached has checked nothing.",
    ),
    (
        "stall",
        "The longest stretch in which an executor has interrupts off, in transitions of the patcher.",
        "It is a figure, not a property: how long the protocol keeps an executor from its work. Transitions of all other \
         actors are given beside it.",
    ),
    (
        "hash",
        "The digest of all states, the same on every host.",
        "Two runs with the same hash saw the same states. `(twice)` means that the search was repeated and compared.",
    ),
    (
        "site",
        "The bytes that are patched, from the old to the new version.",
        "Several sites within 32 bytes may be patched in one scenario.",
    ),
    (
        "patcher",
        "Who modifies the site: the host, by a list of steps, or a vCPU, by a program.",
        "Each step of the host is atomic.",
    ),
    ("executor", "A vCPU that runs through the site while it is patched.", "Executors are numbered from 0."),
    (
        "pass",
        "One run of an executor through the site.",
        "The property `stale` is about passes that begin after completion.",
    ),
    (
        "move",
        "One atomic transition of one actor.",
        "A piece of a store, one instruction, or the delivery of an interrupt. A schedule is a list of them.",
    ),
    (
        "round",
        "A broadcast that makes every executor serialise, and the wait for all of them.",
        "The step `sync` is one round.",
    ),
    (
        "landing pad",
        "Four bytes where a pass arrives after the site.",
        "Each pad adds a mark of its own to EAX and returns; the sum says which way the pass went.",
    ),
    (
        "completion",
        "The moment from which the old version must not run any more.",
        "The step `done` declares it, or the last step of the host.",
    ),
];

pub(super) fn words() -> Section {
    let entries = WORDS.map(|(word, summary, text)| Entry {
        kind: "a word of reports",
        name: word.into(),
        path: format!("report.{}", word.replace(' ', "-")),
        summary: summary.into(),
        facts: Vec::new(),
        values: Vec::new(),
        text: text.into(),
        example: String::new(),
    });
    Section {
        title: "Words of reports".into(),
        text: "What reports, tables and schedules mean by a word.".into(),
        entries: entries.into(),
    }
}
