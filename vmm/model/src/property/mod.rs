//! What a protocol must not do. One property a file; each is a pure function over a plan, an executor and
//! the shared environment, so each is tested without KVM.
#![doc = ""]
#![doc = include_str!("table.md")]
//!
//! `stall` is measured, not judged: see [`stall`].

mod fetch;
mod foreign_trap;
mod interior;
mod lifetime;
mod multi_site;
mod nmi_frame;
mod order;
mod progress;
mod recursion;
mod stale;
pub mod stall;
mod torn;
mod unclaimed_trap;
mod unserialised;
mod wrong_resume;

pub use fetch::{Fetch, Version, version_at};
pub use progress::decide as decide_progress;

/// Checks of the executor's fetch, before the instruction runs.
pub fn at_fetch(fetch: &Fetch<'_>) -> Vec<Violation> {
    [
        torn::at_fetch,
        stale::at_fetch,
        order::at_fetch,
        unserialised::at_fetch,
        lifetime::at_fetch,
        recursion::at_fetch,
    ]
    .iter()
    .filter_map(|check| check(fetch))
    .collect()
}

pub use foreign_trap::at_return as foreign_trap_at_return;
pub use interior::at_commit as interior_at_commit;
pub use interior::at_step as interior_at_step;
pub use lifetime::at_access as lifetime_at_access;
pub use multi_site::at_pass_end as multi_site_at_pass_end;
pub use nmi_frame::{at_copy as nmi_frame_at_copy, at_delivery as nmi_frame_at_delivery};
pub use order::at_pass_end as order_at_pass_end;
pub use unclaimed_trap::found as unclaimed_trap;
pub use wrong_resume::{
    at_fault as wrong_resume_at_fault, at_pass_end as wrong_resume_at_pass_end,
    at_stack as wrong_resume_at_stack, same as wrong_resume_same,
};

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
    /// A #BP that belongs to somebody else was claimed.
    ForeignTrap,
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
    /// A combination of the parts' versions that is forbidden was shown by a pass.
    MultiSite,
    /// Data was used with text of another version.
    TextData,
    /// No schedule completes, and nobody writes.
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
}

impl Property {
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
                "there is no property `{text}`; there are {}",
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

    /// True if the execution cannot sensibly go on: what runs is garbage, or nobody handles the trap.
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
