//! The targets themselves, on inputs that are known.

#[test]
fn shipped_scenarios_pass() {
    for one in crossmod::scenario::library().iter().step_by(16) {
        super::scenario(one.text.as_bytes());
    }
}
