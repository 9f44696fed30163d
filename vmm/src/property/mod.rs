//! Properties.

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
    /// The architectural outcome of a pass is neither that of old nor that of new.
    WrongResume,
    /// RIP or a saved RIP stands inside an instruction of the installed code.
    Interior,
    /// A handler used something withdrawn.
    Lifetime,
    /// A live NMI frame was overwritten.
    NmiFrame,
    /// The trap handler trapped on the site.
    Recursion,
    /// Code was executed that was stored to since this vCPU last serialised.
    Unserialised,
    /// No schedule completes, and nobody writes.
    Deadlock,
    /// No schedule completes, though memory keeps changing.
    Livelock,
}

impl Property {
    /// All of them, in the order of the reports.
    pub const ALL: [Property; 12] = [
        Property::Torn,
        Property::Order,
        Property::Stale,
        Property::UnclaimedTrap,
        Property::WrongResume,
        Property::Interior,
        Property::Lifetime,
        Property::NmiFrame,
        Property::Recursion,
        Property::Unserialised,
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
            Property::WrongResume => "wrong-resume",
            Property::Interior => "interior",
            Property::Lifetime => "lifetime",
            Property::NmiFrame => "nmi-frame",
            Property::Recursion => "recursion",
            Property::Unserialised => "unserialised",
            Property::Deadlock => "deadlock",
            Property::Livelock => "livelock",
        }
    }
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
                "there is no property `{text}`; there are {}",
                Property::ALL.map(Property::name).join(", ")
            )
        })
    }
}
