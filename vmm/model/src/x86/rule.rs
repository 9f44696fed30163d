//! Whose promises about code that changes under a CPU are in force.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, IntoStaticStr};

/// A vendor's rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Display, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "Rule")]
#[strum(serialize_all = "kebab-case")]
pub enum VendorRule {
    /// Intel SDM: nothing is assumed that only AMD promises.
    Intel,
    /// AMD APM: MFENCE serialises, and no handshake is needed for one store inside an aligned quadword, nor for stores to
    /// bytes that nobody reaches before.
    Amd,
}

impl VendorRule {
    /// Both.
    pub const ALL: [VendorRule; 2] = [VendorRule::Intel, VendorRule::Amd];

    /// The vendor, in prose.
    pub fn vendor(self) -> &'static str {
        match self {
            VendorRule::Intel => "Intel",
            VendorRule::Amd => "AMD",
        }
    }

    /// Its name in scenarios, options and reports.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

impl FromStr for VendorRule {
    type Err = String;

    fn from_str(text: &str) -> Result<VendorRule, String> {
        let rule = VendorRule::ALL.into_iter().find(|rule| rule.name() == text);
        rule.ok_or_else(|| format!("rules are {}", VendorRule::ALL.map(VendorRule::name).join(" and ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_has_one_name_everywhere() {
        for rule in VendorRule::ALL {
            assert_eq!(rule.name().parse(), Ok(rule));
            assert_eq!(serde_json::to_value(rule).ok(), Some(rule.name().into()));
            assert_eq!(format!("{rule:<6}|"), format!("{:<6}|", rule.name()));
        }
        assert_eq!("via".parse::<VendorRule>(), Err("rules are intel and amd".into()));
    }
}
