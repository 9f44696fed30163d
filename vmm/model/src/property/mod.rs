//! What a protocol must not do. How each property is checked is in [`checks`](crate::checks).

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use strum::{Display, EnumCount, EnumMessage, EnumProperty, IntoStaticStr, VariantArray};

/// What can be violated. Names are stable: they appear in scenario files, reports and traces.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Display,
    EnumCount,
    EnumMessage,
    EnumProperty,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Property {
    /// An instruction was fetched at the site that is neither old, nor new, nor a declared intermediate.
    #[strum(
        message = "a fetch at the site decodes to neither old nor new nor a declared intermediate at a declared boundary"
    )]
    Torn,
    /// One executor saw the new outcome and in a later pass the old one.
    #[strum(
        message = "a pass has the outcome of new and a later one that of old; or a pass runs new code, then leftover old code"
    )]
    Order,
    /// A pass that began after completion ran old bytes or the protocol's trap.
    #[strum(message = "a pass that began after completion runs old bytes or the protocol's trap")]
    Stale,
    /// A #BP of the protocol was not claimed.
    #[strum(message = "a #BP at the site is not claimed by the handler", props(short = "trap"))]
    UnclaimedTrap,
    /// A #BP that is not the protocol's was claimed.
    #[strum(
        message = "the handler claims a #BP that does not belong to the site, so that its owner does not get it",
        props(short = "foreign")
    )]
    ForeignTrap,
    /// A pass has neither the outcome of old nor that of new.
    #[strum(
        message = "the architectural outcome of a pass is neither that of old nor that of new",
        props(short = "resume")
    )]
    WrongResume,
    /// RIP or a saved RIP is inside an instruction of the installed code.
    #[strum(message = "RIP or a saved RIP is inside an instruction of the code now installed")]
    Interior,
    /// A handler used something withdrawn.
    #[strum(message = "a withdrawn descriptor is read, or withdrawn code is fetched")]
    Lifetime,
    /// A live NMI frame was overwritten.
    #[strum(
        message = "an NMI is delivered over the frame of one that has not returned",
        props(short = "frame")
    )]
    NmiFrame,
    /// The trap handler trapped on the site.
    #[strum(message = "the #BP handler traps on the site")]
    Recursion,
    /// Code was executed that was stored to since this vCPU last serialised.
    #[strum(
        message = "a fetch overlaps a store made since this vCPU last serialised, whichever version it reads",
        props(short = "race")
    )]
    Unserialised,
    /// A combination of the parts' versions that is forbidden was shown by a pass.
    #[strum(
        message = "a pass shows a combination of the sites' versions that the scenario forbids",
        props(short = "sites")
    )]
    MultiSite,
    /// Data was used with text of another version.
    #[strum(
        message = "data is used with a version of the text that it does not belong to, as a check of the scenario says",
        props(short = "data")
    )]
    TextData,
    /// No schedule completes, and memory no longer changes.
    #[strum(
        message = "from a reachable state no schedule completes, and nobody writes memory that others read"
    )]
    Deadlock,
    /// No schedule completes, though memory keeps changing.
    #[strum(message = "from a reachable state no schedule completes, though memory keeps being written")]
    Livelock,
}

impl Property {
    /// All of them, in the order of the reports.
    pub const ALL: [Property; Property::COUNT] =
        *Property::VARIANTS.first_chunk().expect("as many as there are");

    /// The stable name.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// When it is violated.
    pub fn describe(self) -> &'static str {
        self.get_message().unwrap_or_default()
    }

    /// One short word, for tables.
    pub fn short(self) -> &'static str {
        self.get_str("short").unwrap_or(self.name())
    }
}

/// Properties that are expected to be violated, or `safe`, as files and reports say it.
pub fn expectation(expect: &[Property]) -> String {
    let names: Vec<&str> = expect.iter().map(|property| property.name()).collect();
    if names.is_empty() { "safe".to_owned() } else { names.join(", ") }
}

impl FromStr for Property {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Property::ALL.into_iter().find(|property| property.name() == text).ok_or_else(|| {
            let names = Property::ALL.map(Property::name).join(", ");
            format!("unknown property `{text}`: properties are {names}")
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
