//! What a protocol must not do. How each property is checked is in [`checks`](crate::checks).
#![doc = ""]
#![doc = include_str!("table.md")]

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

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Property::Torn => "torn",
            Property::Order => "order",
            Property::Stale => "stale",
            Property::UnclaimedTrap => "unclaimed-trap",
            Property::ForeignTrap => "foreign-trap",
            Property::WrongResume => "wrong-resume",
            Property::Interior => "interior",
            Property::Lifetime => "lifetime",
            Property::NmiFrame => "nmi-frame",
            Property::Recursion => "recursion",
            Property::Unserialised => "unserialised",
            Property::MultiSite => "multi-site",
            Property::TextData => "text-data",
            Property::Deadlock => "deadlock",
            Property::Livelock => "livelock",
        }
    }

    /// When it is violated, in the words of the table above.
    pub fn describe(self) -> &'static str {
        crate::docs::cell(include_str!("table.md"), self.name(), 1)
    }

    /// One short word, for tables.
    pub fn short(self) -> &'static str {
        match self {
            Property::Torn => "torn",
            Property::Order => "order",
            Property::Stale => "stale",
            Property::UnclaimedTrap => "trap",
            Property::ForeignTrap => "foreign",
            Property::WrongResume => "resume",
            Property::Interior => "interior",
            Property::Lifetime => "lifetime",
            Property::NmiFrame => "frame",
            Property::Recursion => "recursion",
            Property::Unserialised => "race",
            Property::MultiSite => "sites",
            Property::TextData => "data",
            Property::Deadlock => "deadlock",
            Property::Livelock => "livelock",
        }
    }
}

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
