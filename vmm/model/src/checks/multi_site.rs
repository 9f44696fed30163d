//! `multi-site`: no pass shows a combination of the parts' versions that the scenario forbids.

use crate::plan::{Part, Site};
use crate::property::{Property, Violation};

/// At the end of a pass whose outcome only forbidden combinations have; this is one of them, bit *i* = part *i* is new.
pub fn at_pass_end(site: &Site, versions: u8) -> Violation {
    let shown = |(number, part): (usize, &Part)| {
        format!("`{}` {}", part.name, if versions >> number & 1 == 1 { "new" } else { "old" })
    };
    let parts: Vec<String> = site.parts.iter().enumerate().map(shown).collect();
    Violation::new(Property::MultiSite, format!("a pass runs {}, which is forbidden", parts.join(" with ")))
}
