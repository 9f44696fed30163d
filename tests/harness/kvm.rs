//! What tests do where there is no KVM.

use std::sync::LazyLock;

use crossmod::machine::{Feature, capabilities, probe};

static MISSING: LazyLock<Option<String>> = LazyLock::new(|| probe().err().map(|error| error.to_string()));

/// Why KVM cannot be used here, if it cannot.
pub fn missing() -> Option<&'static str> {
    MISSING.as_deref()
}

/// Ignores the test that calls it if KVM cannot be used; fails it where `CROSSMOD_REQUIRE_KVM=1` is set.
pub fn required() {
    if let Some(reason) = missing() {
        assert!(!super::everything_required(), "CROSSMOD_REQUIRE_KVM=1, but {reason}");
        super::ignore(reason);
    }
}

/// Ignores the test that calls it if KVM on this host lacks a feature.
pub fn feature_required(feature: Feature) {
    if !capabilities().unwrap().has(feature) {
        super::ignore(format!("KVM on this host lacks {feature}"));
    }
}
