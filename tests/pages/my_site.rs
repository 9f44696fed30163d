use crossmod::machine::MachineError;
use crossmod::{CheckError, CheckOptions, Scenario, report};

#[test]
fn my_site() {
    let scenario = Scenario {
        name: "my-site".into(),
        text: include_str!("my-site.toml").into(),
        path: "my-site.toml".into(),
    };
    match crossmod::check(&scenario, &CheckOptions::default()) {
        Ok(report) => assert!(report.holds(), "{}", report::detail(&report)),
        Err(CheckError::Machine(error @ MachineError::NoKvm { .. })) => eprintln!("SKIPPED: {error}"),
        Err(error) => panic!("{error}"),
    }
}
