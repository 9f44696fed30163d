//! What tests do where there is no KVM.

/// True if KVM can be used. If not: says so loudly, or fails where `CROSSMOD_REQUIRE_KVM=1` is set.
pub fn required() -> bool {
    match crossmod::machine::probe() {
        Ok(_) => true,
        Err(error) if std::env::var("CROSSMOD_REQUIRE_KVM").is_ok_and(|value| value == "1") => {
            panic!("CROSSMOD_REQUIRE_KVM=1, but {error}")
        }
        Err(error) => {
            eprintln!("\n*** SKIPPED, NOTHING WAS EXECUTED: {error} ***\n");
            false
        }
    }
}
