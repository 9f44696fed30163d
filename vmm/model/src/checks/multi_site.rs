//! `multi-site`: no pass shows a combination of the parts' versions that the scenario forbids.

use crate::plan::{Part, Site};
use crate::property::{Property, Violation};

/// At the end of a pass whose outcome only forbidden combinations have: these, bit *i* = part *i* is new. A part that is
/// old in some of them and new in others makes no difference to the pass: it has not run it.
pub fn at_pass_end(site: &Site, combinations: &[u8]) -> Violation {
    let shown = |(number, part): (usize, &Part)| {
        let new = combinations.iter().filter(|&&versions| versions >> number & 1 == 1).count();
        match new {
            0 => Some(format!("`{}` old", part.name)),
            all if all == combinations.len() => Some(format!("`{}` new", part.name)),
            _ => None,
        }
    };
    let parts: Vec<String> = site.parts.iter().enumerate().filter_map(shown).collect();
    Violation::new(Property::MultiSite, format!("a pass runs {}, which is forbidden", parts.join(" with ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Code;

    #[test]
    fn a_part_that_the_pass_has_not_run_is_not_told() {
        let part = |name: &str, offset| Part { name: name.into(), offset, len: 1 };
        let code = Code { bytes: vec![0x90; 3], boundaries: vec![0, 1, 2] };
        let parts = vec![part("a", 0), part("b", 1), part("c", 2)];
        let site = Site { address: 0, old: code.clone(), new: code, intermediates: Vec::new(), parts };
        let told = |combinations: &[u8]| at_pass_end(&site, combinations).detail;
        assert_eq!(told(&[0b001]), "a pass runs `a` new with `b` old with `c` old, which is forbidden");
        assert_eq!(told(&[0b001, 0b101]), "a pass runs `a` new with `b` old, which is forbidden");
    }
}
