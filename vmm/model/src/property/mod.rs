//! What a protocol must not do. How each property is checked is in [`checks`](crate::checks).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What can be violated. Names are stable: they appear in scenario files, reports and traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// An instruction was fetched at the site that is neither old, nor new, nor a declared intermediate.
    Torn,
    /// One executor saw the new outcome and in a later pass the old one.
    Order,
    /// A pass that began after completion ran old bytes or the protocol's trap.
    Stale,
    /// A #BP of the protocol was not claimed.
    UnclaimedTrap,
    /// A #BP that is not the protocol's was claimed.
    ForeignTrap,
    /// A pass has neither the outcome of old nor that of new.
    WrongResume,
    /// RIP or a saved RIP is inside an instruction of the installed code.
    Interior,
    /// A handler used something withdrawn.
    Lifetime,
    /// A live NMI frame was overwritten.
    NmiFrame,
    /// The trap handler trapped on the site.
    Recursion,
    /// Code was executed that was stored to since this vCPU last serialised.
    Unserialised,
    /// A combination of the parts' versions that is forbidden was shown by a pass.
    MultiSite,
    /// Data was used with text of another version.
    TextData,
    /// No schedule completes, and memory no longer changes.
    Deadlock,
    /// No schedule completes, though memory keeps changing.
    Livelock,
}

impl Property {
    /// All of them, in the order of the reports.
    pub const ALL: [Property; 15] = [
        Property::Torn,
        Property::Order,
        Property::Stale,
        Property::UnclaimedTrap,
        Property::ForeignTrap,
        Property::WrongResume,
        Property::Interior,
        Property::Lifetime,
        Property::NmiFrame,
        Property::Recursion,
        Property::Unserialised,
        Property::MultiSite,
        Property::TextData,
        Property::Deadlock,
        Property::Livelock,
    ];

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The stable name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// When it is violated.
    pub fn describe(self) -> &'static str {
        self.row().violated_when
    }

    /// One short word, for tables.
    pub fn short(self) -> &'static str {
        self.row().short
    }
}

/// What is said of a property.
struct Row {
    name: &'static str,
    short: &'static str,
    violated_when: &'static str,
}

const fn row(name: &'static str, short: &'static str, violated_when: &'static str) -> Row {
    Row { name, short, violated_when }
}

/// The properties, in the order of the enum.
static TABLE: [Row; Property::ALL.len()] = [
    row(
        "torn",
        "torn",
        "a fetch at the site decodes to neither old nor new nor a declared intermediate at a declared boundary",
    ),
    row(
        "order",
        "order",
        "a pass has the outcome of new and a later one that of old; or a pass runs new code, then leftover old code",
    ),
    row("stale", "stale", "a pass that began after completion runs old bytes or the protocol's trap"),
    row("unclaimed-trap", "trap", "a #BP at the site is not claimed by the handler"),
    row(
        "foreign-trap",
        "foreign",
        "the handler claims a #BP that does not belong to the site, so that its owner does not get it",
    ),
    row(
        "wrong-resume",
        "resume",
        "the architectural outcome of a pass is neither that of old nor that of new",
    ),
    row("interior", "interior", "RIP or a saved RIP is inside an instruction of the code now installed"),
    row("lifetime", "lifetime", "a withdrawn descriptor is read, or withdrawn code is fetched"),
    row("nmi-frame", "frame", "an NMI is delivered over the frame of one that has not returned"),
    row("recursion", "recursion", "the #BP handler traps on the site"),
    row(
        "unserialised",
        "race",
        "a fetch overlaps a store made since this vCPU last serialised, whichever version it reads",
    ),
    row("multi-site", "sites", "a pass shows a combination of the sites' versions that the scenario forbids"),
    row(
        "text-data",
        "data",
        "data is used with a version of the text that it does not belong to, as a check of the scenario says",
    ),
    row(
        "deadlock",
        "deadlock",
        "from a reachable state no schedule completes, and nobody writes memory that others read",
    ),
    row(
        "livelock",
        "livelock",
        "from a reachable state no schedule completes, though memory keeps being written",
    ),
];

/// Properties that are expected to be violated, or `safe`, as files and reports say it.
pub fn expectation(expect: &[Property]) -> String {
    let names: Vec<&str> = expect.iter().map(|property| property.name()).collect();
    if names.is_empty() { "safe".to_owned() } else { names.join(", ") }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Property {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Property::ALL.into_iter().find(|property| property.name() == text).ok_or_else(|| {
            format!(
                "unknown property `{text}`: properties are {}",
                Property::ALL.map(Property::name).join(", ")
            )
        })
    }
}

/// A property that was violated, with what happened in one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// What happened.
    pub detail: String,
}

impl Violation {
    /// A violation with its explanation.
    pub fn new(property: Property, detail: impl Into<String>) -> Violation {
        Violation { property, detail: detail.into() }
    }

    /// A check of a program that failed.
    pub fn of_check(property: Property, text: &str) -> Violation {
        Violation::new(property, format!("a check of the scenario fails: {text}"))
    }

    /// True if the execution cannot go on: what runs is garbage, or the trap is not handled.
    pub fn ends(&self) -> bool {
        matches!(
            self.property,
            Property::Torn
                | Property::UnclaimedTrap
                | Property::ForeignTrap
                | Property::WrongResume
                | Property::Lifetime
                | Property::NmiFrame
                | Property::Recursion
        )
    }
}
